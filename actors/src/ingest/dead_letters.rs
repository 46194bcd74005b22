//! Dead letters: what a verified sender sent and was refused for its content, with the reason, until its owner sends it
//! again or throws it away. Bounded by count and by bytes, the oldest go first.
//!
//! They are notes and may be lost. A letter is a head in one table and its body in parts in another. A part is base64 within
//! its note, which makes 44 KiB of 32. A number is never given out again, also when its letter or all notes are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use crate::documents::notes::{NoteChange, NoteTable, Notes, NotesError, PageFrom};
use crate::model::source::Content;

/// The length of a source's id, with which all keys begin: `wh_` and a ULID.
const SOURCE_ID_BYTES: usize = 29;
/// The tables of what the notes have of a source.
const OF_SOURCES: [NoteTable; 4] =
    [NoteTable::SourceCounts, NoteTable::DeadLetters, NoteTable::DeadLetterParts, NoteTable::Numbers];
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
    /// The headers as they came, without those that hold a credential; bounded, see [`HEADERS_BYTES_MAX`].
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Where it was sent, and how, at a source that keeps requests as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<RequestLine>,
    /// Under which key the request would have been known again.
    pub key: Option<String>,
    /// Bytes of the body as it was sent, and as it is kept.
    pub bytes: usize,
    pub kept_bytes: usize,
    /// How often it was sent again in vain.
    #[serde(default)]
    pub retries: u32,
}

/// Bytes of the headers of one letter that are kept; what comes after them is left out.
pub const HEADERS_BYTES_MAX: usize = 8 * 1024;

/// What a request says before its headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestLine {
    pub method: String,
    /// What follows the address of the source.
    pub path: String,
    pub query: String,
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

/// The bounds of the letters of one source.
#[derive(Clone, Copy, Debug)]
pub struct LetterLimits {
    pub letters: usize,
    /// Of their bodies.
    pub bytes: usize,
}

/// Which letters of a source there are. Read from the notes when that is first asked, and again after a write that failed.
#[derive(Debug, Default)]
pub struct DeadLetters {
    index: Option<Index>,
    /// The source was deleted: nothing is written any more.
    is_over: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Index {
    /// By number: the kept bytes, and the key of the request.
    kept: BTreeMap<u64, (usize, Option<String>)>,
    bytes: usize,
    /// The highest number that was ever given out.
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

fn deletion(source: &str, n: u64, bytes: usize) -> impl Iterator<Item = NoteChange> {
    let head = NoteChange::delete(NoteTable::DeadLetters, key(source, n));
    let body =
        (0..parts(bytes)).map(move |part| NoteChange::delete(NoteTable::DeadLetterParts, part_key(source, n, part)));
    std::iter::once(head).chain(body)
}

impl Index {
    fn read(notes: &Notes, source: &str) -> Result<Index, NotesError> {
        let mut index = Index { last: notes.last_number(source)?, ..Index::default() };
        heads(notes, source)?.into_iter().for_each(|letter| index.insert(&letter));
        Ok(index)
    }

    fn insert(&mut self, letter: &Letter) {
        self.kept.insert(letter.n, (letter.kept_bytes, letter.key.clone()));
        self.bytes += letter.kept_bytes;
        self.last = self.last.max(letter.n);
    }

    fn remove(&mut self, source: &str, n: u64) -> Option<impl Iterator<Item = NoteChange>> {
        let (bytes, _) = self.kept.remove(&n)?;
        self.bytes -= bytes;
        Some(deletion(source, n, bytes))
    }
}

impl DeadLetters {
    fn index(&mut self, notes: &Notes, source: &str) -> Result<&mut Index, NotesError> {
        match &mut self.index {
            Some(index) => Ok(index),
            none => Ok(none.insert(Index::read(notes, source)?)),
        }
    }

    /// What is in the notes may be something else by now: it is read again.
    pub fn forget(&mut self) {
        self.index = None;
    }

    /// After a write that failed nobody knows what is there.
    fn write(&mut self, notes: &Notes, changes: &[NoteChange]) -> Result<(), NotesError> {
        notes.write(changes).inspect_err(|_| self.forget())
    }

    /// How many there are. Blocks.
    ///
    /// # Errors
    /// The notes cannot be read.
    pub fn count(&mut self, notes: &Notes, source: &str) -> Result<usize, NotesError> {
        Ok(self.index(notes, source)?.kept.len())
    }

    /// Keeps a letter, unless there is one of the same request; answers whether it did. The letter's number and how much of
    /// its body is kept are set. Older ones make room for it. Blocks.
    ///
    /// # Errors
    /// The notes cannot be read or written.
    pub fn keep(
        &mut self,
        notes: &Notes,
        source: &str,
        mut letter: Letter,
        body: &[u8],
        limits: LetterLimits,
    ) -> Result<bool, NotesError> {
        if self.is_over {
            return Ok(false);
        }
        let index = self.index(notes, source)?;
        let is_known = |key: &str| index.kept.values().any(|(_, other)| other.as_deref() == Some(key));
        if letter.key.as_deref().is_some_and(is_known) {
            return Ok(false);
        }
        let body = &body[..body.len().min(limits.bytes)];
        letter.n = index.last + 1;
        letter.kept_bytes = body.len();
        let mut changes = vec![
            NoteChange::last_number(source, letter.n)?,
            NoteChange::put(NoteTable::DeadLetters, key(source, letter.n), &letter)?,
        ];
        for (part, bytes) in body.chunks(PART_BYTES).enumerate() {
            let at = part_key(source, letter.n, part);
            changes.push(NoteChange::put(NoteTable::DeadLetterParts, at, &STANDARD.encode(bytes))?);
        }
        index.insert(&letter);
        while index.kept.len() > limits.letters || index.bytes > limits.bytes {
            let Some(oldest) = index.kept.keys().next().copied() else { break };
            changes.extend(index.remove(source, oldest).into_iter().flatten());
        }
        self.write(notes, &changes)?;
        Ok(true)
    }

    /// Notes that a letter was sent again in vain. Blocks.
    ///
    /// # Errors
    /// The notes cannot be written.
    pub fn change(&mut self, notes: &Notes, source: &str, letter: &Letter) -> Result<(), NotesError> {
        if self.is_over {
            return Ok(());
        }
        let change = NoteChange::put(NoteTable::DeadLetters, key(source, letter.n), letter)?;
        self.write(notes, &[change])
    }

    /// Forgets a letter. False: there is no such letter. Blocks.
    ///
    /// # Errors
    /// The notes cannot be read or written.
    pub fn remove(&mut self, notes: &Notes, source: &str, n: u64) -> Result<bool, NotesError> {
        let removed = self.index(notes, source)?.remove(source, n);
        let Some(changes) = removed.map(Iterator::collect::<Vec<_>>) else { return Ok(false) };
        self.write(notes, &changes)?;
        Ok(true)
    }

    /// Forgets all letters. Blocks.
    ///
    /// # Errors
    /// The notes cannot be read or written.
    pub fn clear(&mut self, notes: &Notes, source: &str) -> Result<(), NotesError> {
        let index = self.index(notes, source)?;
        index.bytes = 0;
        let all = std::mem::take(&mut index.kept);
        let changes: Vec<_> = all.into_iter().flat_map(|(n, (bytes, _))| deletion(source, n, bytes)).collect();
        self.write(notes, &changes)
    }

    /// The source is deleted: forgets everything that the notes have of it, and nothing is written any more. Blocks.
    ///
    /// # Errors
    /// The notes cannot be read or written.
    pub fn end(&mut self, notes: &Notes, source: &str) -> Result<(), NotesError> {
        self.is_over = true;
        self.index = Some(Index::default());
        forget_source(notes, source)
    }
}

/// Deletes what the notes have of a source.
fn forget_source(notes: &Notes, source: &str) -> Result<(), NotesError> {
    let mut changes = Vec::new();
    for table in OF_SOURCES {
        changes.extend(notes.clear(table, source.as_bytes())?);
    }
    notes.write(&changes)
}

/// Deletes what the notes have of sources that do not exist: of those that were deleted while nothing could be written, or
/// shortly before a crash. Blocks.
///
/// # Errors
/// The notes cannot be read or written.
pub fn sweep(notes: &Notes, exists: impl Fn(&str) -> bool) -> Result<(), NotesError> {
    for table in OF_SOURCES {
        for source in notes.owners(table, SOURCE_ID_BYTES)?.iter().filter(|source| !exists(source)) {
            forget_source(notes, source)?;
        }
    }
    Ok(())
}

/// Why nothing could be done with dead letters.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    #[error(transparent)]
    Notes(#[from] NotesError),
    #[error("the work on dead letters panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The dead letters of a source, held by one at a time.
pub struct LockedLetters {
    pub(super) letters: OwnedMutexGuard<DeadLetters>,
    pub(super) source: Arc<str>,
    pub(super) notes: Arc<Notes>,
}

impl LockedLetters {
    /// Does work that blocks on a thread made for it.
    ///
    /// # Errors
    /// Those of the work, or it panicked.
    pub async fn run<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut DeadLetters, &Notes, &str) -> Result<T, NotesError> + Send + 'static,
    ) -> Result<(LockedLetters, T), LetterError> {
        let done = actix_rt::task::spawn_blocking(move || {
            let done = work(&mut self.letters, &self.notes, &self.source)?;
            Ok::<_, NotesError>((self, done))
        });
        Ok(done.await??)
    }
}

/// The heads of all letters of a source, the oldest first. Blocks.
///
/// # Errors
/// The notes cannot be read.
pub fn heads(notes: &Notes, source: &str) -> Result<Vec<Letter>, NotesError> {
    let all = notes.scan::<Letter>(NoteTable::DeadLetters, source.as_bytes())?;
    Ok(all.into_iter().map(|(_, letter)| letter).collect())
}

/// Up to `limit` heads with a higher number than `after`, the oldest first. Blocks.
///
/// # Errors
/// The notes cannot be read.
pub fn page(notes: &Notes, source: &str, after: u64, limit: usize) -> Result<Vec<Letter>, NotesError> {
    let from = key(source, after);
    let page = notes.page::<Letter>(NoteTable::DeadLetters, source.as_bytes(), PageFrom::After(&from), limit)?;
    Ok(page.into_iter().map(|(_, letter)| letter).collect())
}

/// A letter and as much of its body as is kept; none also when a part of it is lost. Blocks.
///
/// # Errors
/// The notes cannot be read.
pub fn find(notes: &Notes, source: &str, n: u64) -> Result<Option<(Letter, Vec<u8>)>, NotesError> {
    let Some(letter) = notes.get::<Letter>(NoteTable::DeadLetters, key(source, n))? else { return Ok(None) };
    let mut body = Vec::with_capacity(letter.kept_bytes);
    for part in 0..parts(letter.kept_bytes) {
        let text: Option<String> = notes.get(NoteTable::DeadLetterParts, part_key(source, n, part))?;
        let Some(bytes) = text.and_then(|text| STANDARD.decode(text).ok()) else {
            log::error!(source, letter = n; "a part of the body of a dead letter is lost, and the letter is not shown");
            return Ok(None);
        };
        body.extend_from_slice(&bytes);
    }
    Ok(Some((letter, body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::documents::notes::NotesOptions;
    use proptest::prelude::*;
    use tempfile::TempDir;

    const PLENTY: LetterLimits = LetterLimits { letters: 100, bytes: 1 << 20 };

    fn letter(bytes: usize, key: Option<&str>) -> Letter {
        Letter {
            n: 0,
            received_ms: 1,
            reason: "no JSON".into(),
            details: Vec::new(),
            content: Content::Json,
            headers: Vec::new(),
            line: None,
            key: key.map(Into::into),
            bytes,
            kept_bytes: 0,
            retries: 0,
        }
    }

    fn open(folder: &TempDir, is_new_folder: bool) -> Notes {
        let options = NotesOptions { is_new_folder, now_ms: 1_000_000, min_free_bytes: 0 };
        Notes::open(&Disk::real(), folder.path(), options).expect("notes")
    }

    fn notes() -> (TempDir, Notes) {
        let folder = TempDir::new().expect("a folder");
        let notes = open(&folder, true);
        (folder, notes)
    }

    fn numbers(notes: &Notes, source: &str) -> Vec<u64> {
        heads(notes, source).expect("heads").iter().map(|letter| letter.n).collect()
    }

    fn is_empty(notes: &Notes, table: NoteTable) -> bool {
        notes.clear(table, b"").expect("keys").is_empty()
    }

    #[test]
    fn a_body_of_any_bytes_and_size_comes_back_as_it_was() {
        let (_folder, notes) = notes();
        let mut letters = DeadLetters::default();
        for (n, size) in (1..).zip([0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 200_000]) {
            let sent: Vec<u8> = (0..size).map(|n| (n * 7 % 256) as u8).collect();
            assert!(letters.keep(&notes, "wh_1", letter(size, None), &sent, PLENTY).expect("it is kept"));
            let (found, body) = find(&notes, "wh_1", n).expect("a read").expect("the letter");
            assert!(found.is_whole() && found.n == n && body == sent);
        }
        assert_eq!(letters.count(&notes, "wh_1").expect("a count"), 6);
        let after: Vec<_> = page(&notes, "wh_1", 2, 3).expect("a page").iter().map(|letter| letter.n).collect();
        assert_eq!(after, [3, 4, 5]);
        letters.clear(&notes, "wh_1").expect("a write");
        assert!(is_empty(&notes, NoteTable::DeadLetters) && is_empty(&notes, NoteTable::DeadLetterParts));
    }

    #[test]
    fn a_request_that_was_refused_before_makes_no_second_letter() {
        let (_folder, notes) = notes();
        let keep = |key| {
            // as after a restart
            let mut letters = DeadLetters::default();
            letters.keep(&notes, "wh_1", letter(1, key), b"x", PLENTY).expect("a write")
        };
        assert!(keep(Some("a")) && !keep(Some("a")) && keep(Some("b")) && keep(None) && keep(None));
    }

    #[test]
    fn numbers_never_restart_whether_letters_are_removed_or_the_server_starts_again_or_all_notes_are_lost() {
        let (folder, notes) = notes();
        let keep = |notes: &Notes, letters: &mut DeadLetters| {
            letters.keep(notes, "wh_1", letter(1, None), b"x", PLENTY).expect("a write");
            *numbers(notes, "wh_1").last().expect("the letter")
        };
        let mut letters = DeadLetters::default();
        assert_eq!([keep(&notes, &mut letters), keep(&notes, &mut letters)], [1, 2]);
        assert!(letters.remove(&notes, "wh_1", 2).expect("a write"));
        assert!(!letters.remove(&notes, "wh_1", 2).expect("a write"));
        letters.clear(&notes, "wh_1").expect("a write");
        drop(notes);
        let notes = open(&folder, false);
        assert_eq!(keep(&notes, &mut DeadLetters::default()), 3);
        drop(notes);
        std::fs::remove_dir_all(folder.path().join("notes")).expect("it is removed");
        let notes = open(&folder, false);
        assert!(notes.was_lost());
        assert!(keep(&notes, &mut DeadLetters::default()) > 1_000_000);
        // nor do those of whoever knew the letters that are lost
        letters.forget();
        assert!(keep(&notes, &mut letters) > 1_000_001);
    }

    #[test]
    fn a_source_that_is_deleted_leaves_nothing_behind() {
        let (_folder, notes) = notes();
        let mut letters = DeadLetters::default();
        let mut others = DeadLetters::default();
        letters.keep(&notes, "wh_1", letter(70_000, None), &[b'x'; 70_000], PLENTY).expect("a write");
        others.keep(&notes, "wh_2", letter(1, None), b"x", PLENTY).expect("a write");
        letters.end(&notes, "wh_1").expect("a write");
        assert!(!letters.keep(&notes, "wh_1", letter(1, None), b"x", PLENTY).expect("nothing is written"));
        assert_eq!((numbers(&notes, "wh_1"), numbers(&notes, "wh_2")), (vec![], vec![1]));
        others.end(&notes, "wh_2").expect("a write");
        assert_eq!(notes.volume().0, 0);
    }

    #[test]
    fn what_is_left_of_sources_that_were_deleted_while_nothing_could_be_written_goes_at_the_next_start() {
        let (_folder, notes) = notes();
        let sources: Vec<String> = (1..=3).map(|n| format!("wh_01J0000000000000000000000{n}")).collect();
        for source in &sources {
            let mut letters = DeadLetters::default();
            letters.keep(&notes, source, letter(70_000, None), &[b'x'; 70_000], PLENTY).expect("a write");
            notes.write(&[NoteChange::put(NoteTable::SourceCounts, source, &7).expect("a note")]).expect("a write");
        }
        sweep(&notes, |source| source == sources[1]).expect("a write");
        assert_eq!(sources.iter().map(|source| numbers(&notes, source).len()).collect::<Vec<_>>(), [0, 1, 0]);
        sweep(&notes, |_| false).expect("a write");
        assert_eq!(notes.volume().0, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_bounds_hold_and_the_newest_stay(
            sizes in proptest::collection::vec(0usize..90_000, 1..20), most in 1usize..6, most_bytes in 1usize..150_000,
        ) {
            let (_folder, notes) = notes();
            let mut letters = DeadLetters::default();
            let limits = LetterLimits { letters: most, bytes: most_bytes };
            for size in &sizes {
                letters.keep(&notes, "wh_1", letter(*size, None), &vec![b'x'; *size], limits).expect("a write");
            }
            let kept = heads(&notes, "wh_1").expect("heads");
            prop_assert!(!kept.is_empty() && kept.len() <= most);
            prop_assert!(kept.iter().map(|letter| letter.kept_bytes).sum::<usize>() <= most_bytes);
            // a run that ends with the newest
            let last = sizes.len() as u64;
            prop_assert_eq!(numbers(&notes, "wh_1"), (last + 1 - kept.len() as u64..=last).collect::<Vec<_>>());
            for letter in &kept {
                prop_assert_eq!(letter.kept_bytes, sizes[letter.n as usize - 1].min(most_bytes));
                let (_, body) = find(&notes, "wh_1", letter.n).expect("a read").expect("the letter");
                prop_assert_eq!(body.len(), letter.kept_bytes);
            }
            // nothing is left of those that went, and a restart knows the same
            let stored = notes.clear(NoteTable::DeadLetterParts, b"").expect("keys").len();
            prop_assert_eq!(stored, kept.iter().map(|letter| parts(letter.kept_bytes)).sum::<usize>());
            prop_assert_eq!(&letters.index, &Some(Index::read(&notes, "wh_1").expect("an index")));
        }
    }
}
