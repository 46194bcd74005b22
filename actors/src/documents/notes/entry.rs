//! A note as the database keeps it.
//!
//! ```text
//! table letter, own key          CRC-32C u32, length of the whole text u32, the first 47 KiB of the text
//! `o`, that key, part u16        CRC-32C u32, the next 47 KiB
//! ```
//!
//! Numbers are big-endian. The checksums include the key.

use serde::Serialize;

use super::NotesError;
use crate::disk::database::VALUE_BYTES;
use crate::disk::{Database, DatabaseError};
use crate::documents::table::ShownKey;

/// Shows which note changes and never what is in it.
impl std::fmt::Debug for NoteChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.text.is_none() { "delete" } else { "put" };
        write!(f, "{verb} {}", shown(&self.key))
    }
}

/// Longest text of a note.
pub const NOTE_BYTES_MAX: usize = 1024 * 1024;
const PART_BYTES: usize = 47 * 1024;
const HEAD_BYTES: usize = 8;
const _: () = assert!(HEAD_BYTES + PART_BYTES <= VALUE_BYTES);
const _: () = assert!(NOTE_BYTES_MAX / PART_BYTES < u16::MAX as usize);
/// Letter of the parts after the first.
pub const PART_LETTER: u8 = b'o';

/// A table of notes by its letter. No table of documents has one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum NoteTable {
    /// The delivery log by webhook and delivery.
    Deliveries = b'd',
    /// What sources have counted, by source.
    SourceCounts = b'k',
    /// The heads of dead letters by source and number.
    DeadLetters = b'l',
    /// The parts of their bodies.
    DeadLetterParts = b'p',
    /// The highest number of a dead letter by source. Deleted only with the source.
    Numbers = b'q',
    /// The steps of series of figures, see [`crate::series`].
    Series = b'y',
    /// When tokens were last used, by token.
    TokenUses = b'z',
}

impl NoteTable {
    pub const ALL: [NoteTable; 7] = [
        NoteTable::Deliveries,
        NoteTable::SourceCounts,
        NoteTable::DeadLetters,
        NoteTable::DeadLetterParts,
        NoteTable::Numbers,
        NoteTable::Series,
        NoteTable::TokenUses,
    ];

    pub fn name(self) -> &'static str {
        match self {
            NoteTable::Deliveries => "deliveries",
            NoteTable::SourceCounts => "source counts",
            NoteTable::DeadLetters => "dead letters",
            NoteTable::DeadLetterParts => "dead letter parts",
            NoteTable::Numbers => "dead letter numbers",
            NoteTable::Series => "series",
            NoteTable::TokenUses => "token uses",
        }
    }
}

/// One change of a note.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteChange {
    pub(super) key: Vec<u8>,
    pub(super) text: Option<Vec<u8>>,
}

impl NoteChange {
    /// # Errors
    /// The value has no JSON text, or it is too long.
    pub fn put(table: NoteTable, own: impl AsRef<[u8]>, value: &impl Serialize) -> Result<NoteChange, NotesError> {
        let key = full_key(table, own.as_ref());
        let shown = || ShownKey(own.as_ref()).to_string();
        let text = serde_json::to_vec(value).map_err(|source| NotesError::Unwritable {
            table: table.name(),
            key: shown(),
            source,
        })?;
        NoteChange::stored(key, text).map_err(|bytes| NotesError::TooLarge { table: table.name(), key: shown(), bytes })
    }

    pub fn delete(table: NoteTable, own: impl AsRef<[u8]>) -> NoteChange {
        NoteChange { key: full_key(table, own.as_ref()), text: None }
    }

    /// The highest number of a dead letter of a source; belongs into the write of the letter.
    ///
    /// # Errors
    /// None that a number can have.
    pub fn last_number(source: &str, number: u64) -> Result<NoteChange, NotesError> {
        NoteChange::put(NoteTable::Numbers, source, &number)
    }

    /// A note by its whole key, from a folder of format 1; the error is the length of a text that is too long.
    pub(in crate::documents) fn stored(key: Vec<u8>, text: Vec<u8>) -> Result<NoteChange, usize> {
        if text.len() > NOTE_BYTES_MAX { Err(text.len()) } else { Ok(NoteChange { key, text: Some(text) }) }
    }
}

pub fn full_key(table: NoteTable, own: &[u8]) -> Vec<u8> {
    [&[table as u8], own].concat()
}

/// The first key behind all that begin with `prefix`, whose first byte is a letter.
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// A whole key for people.
pub fn shown(key: &[u8]) -> String {
    let table = NoteTable::ALL.into_iter().find(|table| Some(&(*table as u8)) == key.first());
    format!("{} {}", table.map_or("?", NoteTable::name), ShownKey(key.get(1..).unwrap_or_default()))
}

fn part_key(key: &[u8], part: usize) -> Vec<u8> {
    // NOTE_BYTES_MAX holds the number of parts down
    [&[PART_LETTER], key, &(part as u16).to_be_bytes()].concat()
}

pub fn crc(key: &[u8], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), rest)
}

/// The text's length that a value announces.
fn text_bytes(value: &[u8]) -> Option<usize> {
    let length = value.get(4..HEAD_BYTES)?;
    let bytes = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    (bytes <= NOTE_BYTES_MAX).then_some(bytes)
}

/// The keys of the parts after the first of a value that is stored.
pub fn further_parts(key: &[u8], value: &[u8]) -> Vec<Vec<u8>> {
    let parts = text_bytes(value).map_or(1, |bytes| bytes.div_ceil(PART_BYTES));
    (1..parts).map(|part| part_key(key, part)).collect()
}

/// What is stored for a text.
pub fn values(key: &[u8], text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (first, mut rest) = text.split_at(text.len().min(PART_BYTES));
    // NOTE_BYTES_MAX fits
    let head = [&(text.len() as u32).to_be_bytes(), first].concat();
    let mut values = vec![(key.to_vec(), [&crc(key, &head).to_be_bytes()[..], &head].concat())];
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.len().min(PART_BYTES));
        let key = part_key(key, values.len());
        let value = [&crc(&key, part).to_be_bytes(), part].concat();
        values.push((key, value));
        rest = more;
    }
    values
}

/// Whether a stored value, or part, is what was written under its key.
pub fn is_sound(key: &[u8], value: &[u8]) -> bool {
    value.split_at_checked(4).is_some_and(|(stored, rest)| crc(key, rest).to_be_bytes() == *stored)
}

/// The text of a stored value with its further parts; none when it is damaged. Blocks.
///
/// # Errors
/// The database cannot be read.
pub fn whole(db: &Database, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
    let (true, Some(bytes)) = (is_sound(key, value), text_bytes(value)) else { return Ok(None) };
    let mut text = value[HEAD_BYTES..].to_vec();
    for key in further_parts(key, value) {
        match db.get(&key)? {
            Some(part) if is_sound(&key, &part) => text.extend_from_slice(&part[4..]),
            _ => return Ok(None),
        }
    }
    Ok((text.len() == bytes).then_some(text))
}
