//! Dead letters: what a verified sender sent and was refused for its content, with the reason, until its owner sends it
//! again or throws it away. Bounded by count and by bytes, the oldest go first.
//!
//! They are notes and may be lost. A letter is a head in one table and its body in parts in another. A part is base64 within
//! its note, which makes 44 KiB of 32. A number is never given out again, also when its letter or all notes are gone.

mod letter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

pub use self::letter::{Detail, HEADERS_BYTES_MAX, Letter, RequestLine};
use crate::compute;
use crate::documents::notes::{NoteChange, NoteTable, Notes, NotesError, PageFrom};

/// The length of a source's id, with which all keys begin: `wh_` and a ULID.
const SOURCE_ID_BYTES: usize = 29;
/// The tables of what the notes have of a source.
const OF_SOURCES: [NoteTable; 4] =
    [NoteTable::SourceCounts, NoteTable::DeadLetters, NoteTable::DeadLetterParts, NoteTable::Numbers];
/// Bytes of a body in one part.
const PART_BYTES: usize = 32 * 1024;

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

/// What the numbers of one node of a cluster have in common is their rest when they are divided by this.
const NODES: u64 = 4096;

/// The least number that a letter of this node may have now, so that the letters of all nodes have different numbers and are in
/// the order of their time. A number is exact as a double until 2039. Two names in some thousands have the same numbers; their
/// letters then differ unless both come in the same millisecond.
pub fn least_number(node: &str, now_ms: i64) -> u64 {
    let hash = Sha256::digest(node);
    let rest = u64::from(u16::from_be_bytes([hash[0], hash[1]])) % NODES;
    now_ms.max(1).unsigned_abs() * NODES + rest
}

/// The number behind `last`; of those that a node may give where `least` is one.
fn next_number(last: u64, least: u64) -> u64 {
    match least {
        _ if least > last => least,
        0..NODES => last + 1,
        _ => last + NODES - (last - least) % NODES,
    }
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

    /// Keeps a letter, unless there is one of the same request; answers whether it did. The letter's number, not below the one that
    /// it has, and how much of its body is kept are set. Older ones make room for it. Blocks.
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
        letter.n = next_number(index.last, letter.n);
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
        let done = compute::blocking(move || {
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
