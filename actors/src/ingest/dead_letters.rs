//! Dead letters: what a verified sender sent and was refused for its content, with the reason, until its owner sends it
//! again or throws it away. Bounded by count and by bytes, the oldest go first.
//!
//! A letter is a head in one table and its body in parts in another, so that no value grows into a file of its own. A part
//! is base64 within its document, which makes 44 KiB of 32.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::source::Content;
use crate::store::{Change, State, StoreError, Table};

/// Bytes of a body in one part.
const PART_BYTES: usize = 32 * 1024;

/// The head of a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Counts the letters of a source from 1.
    pub n: u64,
    pub received_ms: i64,
    /// Why it was refused, in a sentence, and which fields were wrong.
    pub reason: String,
    pub details: Vec<Detail>,
    pub content: Content,
    /// The headers that say what type the event has.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Under which key the request would have been known again.
    pub key: Option<String>,
    /// Bytes of the body as it was sent, and as it is kept.
    pub bytes: usize,
    pub kept_bytes: usize,
    /// How often it was sent again in vain.
    #[serde(default)]
    pub retries: u32,
}

/// What was wrong with one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    pub index: usize,
    pub field: String,
    pub message: String,
}

impl Letter {
    /// Whether the body is there to its end.
    pub fn is_whole(&self) -> bool {
        self.kept_bytes == self.bytes
    }
}

/// Which letters of a source there are.
#[derive(Clone, Debug, Default)]
pub struct DeadLetters {
    /// By number: the kept bytes, and the key of the request.
    kept: BTreeMap<u64, (usize, Option<String>)>,
    bytes: usize,
    last: u64,
}

fn key(source: &str, n: u64) -> Vec<u8> {
    [source.as_bytes(), &n.to_be_bytes()].concat()
}

fn part_key(source: &str, n: u64, part: usize) -> Vec<u8> {
    // a body is at most 64 MiB, which are 2,048 parts
    [source.as_bytes(), &n.to_be_bytes(), &(part as u16).to_be_bytes()].concat()
}

fn parts(bytes: usize) -> usize {
    bytes.div_ceil(PART_BYTES)
}

fn deletion(source: &str, n: u64, bytes: usize) -> impl Iterator<Item = Change> {
    let head = Change::delete(Table::DeadLetters, key(source, n));
    let body = (0..parts(bytes)).map(move |part| Change::delete(Table::DeadLetterParts, part_key(source, n, part)));
    std::iter::once(head).chain(body)
}

impl DeadLetters {
    /// The letters of a source by their heads.
    pub fn of(heads: &[Letter]) -> DeadLetters {
        let bytes = heads.iter().map(|letter| letter.kept_bytes).sum();
        let kept: BTreeMap<_, _> =
            heads.iter().map(|letter| (letter.n, (letter.kept_bytes, letter.key.clone()))).collect();
        DeadLetters { bytes, last: kept.keys().next_back().copied().unwrap_or(0), kept }
    }

    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is a letter of the request with this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.kept.values().any(|(_, other)| other.as_deref() == Some(key))
    }

    /// Notes a new letter; returns what has to be written so that it is there and the bounds hold. Its number and how much
    /// of its body is kept are set.
    pub fn add(
        &mut self,
        source: &str,
        letter: &mut Letter,
        body: &[u8],
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let body = &body[..body.len().min(most_bytes)];
        self.last += 1;
        letter.n = self.last;
        letter.kept_bytes = body.len();
        let mut changes = vec![Change::put(Table::DeadLetters, key(source, letter.n), letter)?];
        for (part, bytes) in body.chunks(PART_BYTES).enumerate() {
            let at = part_key(source, letter.n, part);
            changes.push(Change::put(Table::DeadLetterParts, at, &STANDARD.encode(bytes))?);
        }
        self.kept.insert(letter.n, (body.len(), letter.key.clone()));
        self.bytes += body.len();
        while self.kept.len() > most || self.bytes > most_bytes {
            let Some((n, (bytes, _))) = self.kept.pop_first() else { break };
            self.bytes -= bytes;
            changes.extend(deletion(source, n, bytes));
        }
        Ok(changes)
    }

    /// Forgets a letter; returns the deletion. None: there is no such letter.
    pub fn remove(&mut self, source: &str, n: u64) -> Option<Vec<Change>> {
        let (bytes, _) = self.kept.remove(&n)?;
        self.bytes -= bytes;
        Some(deletion(source, n, bytes).collect())
    }

    /// Forgets all letters; returns the deletion.
    pub fn clear(&mut self, source: &str) -> Vec<Change> {
        self.bytes = 0;
        std::mem::take(&mut self.kept).into_iter().flat_map(|(n, (bytes, _))| deletion(source, n, bytes)).collect()
    }
}

/// The head of a letter that was sent again in vain.
pub fn noted(source: &str, letter: &Letter) -> Result<Change, StoreError> {
    Change::put(Table::DeadLetters, key(source, letter.n), letter)
}

/// The heads of all letters of a source, the oldest first.
pub fn heads(state: &State, source: &str) -> Result<Vec<Letter>, StoreError> {
    let all = state.scan::<Letter>(Table::DeadLetters, source.as_bytes())?;
    Ok(all.into_iter().map(|(_, letter)| letter).collect())
}

pub fn head(state: &State, source: &str, n: u64) -> Result<Option<Letter>, StoreError> {
    state.get(Table::DeadLetters, key(source, n))
}

/// As much of the body of a letter as is kept.
pub fn body(state: &State, source: &str, letter: &Letter) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::with_capacity(letter.kept_bytes);
    for part in 0..parts(letter.kept_bytes) {
        let text: Option<String> = state.get(Table::DeadLetterParts, part_key(source, letter.n, part))?;
        let bytes = text.and_then(|text| STANDARD.decode(text).ok()).ok_or(StoreError::Damaged)?;
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;
    use proptest::prelude::*;

    fn letter(bytes: usize) -> Letter {
        Letter {
            n: 0,
            received_ms: 1,
            reason: "no JSON".into(),
            details: Vec::new(),
            content: Content::Json,
            headers: Vec::new(),
            key: None,
            bytes,
            kept_bytes: 0,
            retries: 0,
        }
    }

    fn state() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().expect("a folder");
        let state = State::open(folder.path(), Durability::Flush).expect("a database");
        (folder, state)
    }

    #[test]
    fn a_body_of_any_bytes_and_size_comes_back_as_it_was() {
        let (_folder, state) = state();
        let mut letters = DeadLetters::default();
        for size in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 200_000] {
            let body: Vec<u8> = (0..size).map(|n| (n * 7 % 256) as u8).collect();
            let mut letter = letter(size);
            state.write(&letters.add("wh_1", &mut letter, &body, 100, 1 << 20).expect("changes")).expect("a write");
            assert_eq!(head(&state, "wh_1", letter.n).expect("a read"), Some(letter.clone()));
            assert_eq!(super::body(&state, "wh_1", &letter).expect("a body"), body);
            assert!(letter.is_whole());
        }
        assert_eq!(heads(&state, "wh_1").expect("heads").len(), 6);
        state.write(&letters.clear("wh_1")).expect("a write");
        assert!(heads(&state, "wh_1").expect("heads").is_empty());
        assert!(state.clear(Table::DeadLetterParts, b"").expect("keys").is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_bounds_hold_and_the_newest_stay(
            sizes in proptest::collection::vec(0usize..90_000, 1..20), most in 1usize..6, most_bytes in 1usize..150_000,
        ) {
            let (_folder, state) = state();
            let mut letters = DeadLetters::default();
            for size in &sizes {
                let mut letter = letter(*size);
                let changes = letters.add("wh_1", &mut letter, &vec![b'x'; *size], most, most_bytes).expect("changes");
                state.write(&changes).expect("a write");
                prop_assert_eq!(letter.kept_bytes, (*size).min(most_bytes));
            }
            let kept = heads(&state, "wh_1").expect("heads");
            prop_assert!(!kept.is_empty() && kept.len() <= most);
            prop_assert!(kept.iter().map(|letter| letter.kept_bytes).sum::<usize>() <= most_bytes);
            // a run that ends with the newest
            let numbers: Vec<_> = kept.iter().map(|letter| letter.n).collect();
            let last = sizes.len() as u64;
            prop_assert_eq!(&numbers, &(last + 1 - kept.len() as u64..=last).collect::<Vec<_>>());
            for letter in &kept {
                prop_assert_eq!(body(&state, "wh_1", letter).expect("a body").len(), letter.kept_bytes);
            }
            // nothing is left of those that went, and a restart knows the same
            let stored = state.clear(Table::DeadLetterParts, b"").expect("keys").len();
            prop_assert_eq!(stored, kept.iter().map(|letter| parts(letter.kept_bytes)).sum::<usize>());
            let restored = DeadLetters::of(&kept);
            prop_assert_eq!((restored.count(), restored.bytes, restored.last), (letters.count(), letters.bytes, letters.last));
        }
    }
}
