//! One change of a document, and the changes of a commit as bytes.
//!
//! ```text
//! section: count u32, then per change: key length u16, value length u32 (all ones: a deletion), key, value
//! ```
//!
//! Numbers are big-endian. The section stands in a record of the write-ahead log, which has a checksum.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DocumentError;
use super::table::{ShownKey, Table, full_key};

/// Longest key, with the letter of its table.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest JSON text of one document.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes before each entry's key.
pub(super) const ENTRY_HEADER_BYTES: usize = 6;
/// Stands for the length of a value where the document is deleted.
const DELETED: u32 = u32::MAX;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(DOCUMENT_BYTES_MAX < DELETED as usize);

/// One change of a document: its new JSON text, or its deletion.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    pub(super) key: Arc<[u8]>,
    pub(super) value: Option<Arc<[u8]>>,
}

/// Bytes that are no section of changes, or one that a newer version wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the changes of a commit cannot be read at byte {at}: {why}")]
pub struct DecodeError {
    pub at: usize,
    pub why: &'static str,
}

impl Change {
    /// A document that is made or replaced.
    ///
    /// # Errors
    /// The value has no JSON text, or key or text are too long.
    pub fn put(table: Table, own: impl AsRef<[u8]>, value: &impl Serialize) -> Result<Change, DocumentError> {
        let own = own.as_ref();
        let shown = || ShownKey(own).to_string();
        let text = serde_json::to_vec(value).map_err(|source| DocumentError::Unwritable {
            table: table.name(),
            key: shown(),
            source,
        })?;
        if own.len() >= KEY_BYTES_MAX || text.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLarge { table: table.name(), key: shown(), bytes: text.len() });
        }
        Ok(Change { key: full_key(table, own), value: Some(text.into()) })
    }

    pub fn delete(table: Table, own: impl AsRef<[u8]>) -> Change {
        Change { key: full_key(table, own.as_ref()), value: None }
    }

    /// A document as [`Frozen::entries`](super::Frozen::entries) gave it, from a backup.
    ///
    /// # Errors
    /// The key has no table of this version, or key or text are too long.
    pub fn stored(key: &[u8], text: &[u8]) -> Result<Change, DecodeError> {
        check(key, text.len()).map_err(|why| DecodeError { at: 0, why })?;
        Ok(Change { key: key.into(), value: Some(text.into()) })
    }

    pub fn table(&self) -> Table {
        // no change is made with another letter
        Table::of_letter(self.key[0]).expect("a change has a table")
    }

    /// The document's key within its table.
    pub fn own_key(&self) -> &[u8] {
        &self.key[1..]
    }

    pub fn is_deletion(&self) -> bool {
        self.value.is_none()
    }

    /// The new document; none when it is deleted.
    ///
    /// # Errors
    /// The text is not of this type.
    pub fn document<T: DeserializeOwned>(&self) -> Result<Option<T>, DocumentError> {
        self.value.as_ref().map(|text| super::parse(&self.key, text)).transpose()
    }

    /// The new JSON text; none when the document is deleted.
    pub fn text(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Bytes of it in a section.
    pub fn encoded_bytes(&self) -> usize {
        ENTRY_HEADER_BYTES + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// Shows which document changes and never what is in it.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.is_deletion() { "delete" } else { "put" };
        write!(f, "{verb} {} {}", self.table().name(), ShownKey(self.own_key()))
    }
}

fn check(key: &[u8], text_bytes: usize) -> Result<(), &'static str> {
    match key.first().copied().map(Table::of_letter) {
        None => Err("a key is empty"),
        Some(None) => Err("it is of a table that this version does not know"),
        Some(Some(_)) if key.len() > KEY_BYTES_MAX => Err("a key is too long"),
        Some(Some(_)) if text_bytes > DOCUMENT_BYTES_MAX => Err("a document is too long"),
        Some(Some(_)) => Ok(()),
    }
}

/// Appends one entry as it stands in sections and in generations.
pub(super) fn write_entry(key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    // both fit: `Change` holds no longer ones
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(&value.map_or(DELETED, |value| value.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value.unwrap_or_default());
}

/// The first entry of `bytes` and how many bytes it takes; none when it goes on behind their end.
pub(super) fn read_entry(bytes: &[u8]) -> Result<Option<(Change, usize)>, &'static str> {
    let Some((header, rest)) = bytes.split_at_checked(ENTRY_HEADER_BYTES) else { return Ok(None) };
    let key_bytes = usize::from(u16::from_be_bytes([header[0], header[1]]));
    let value_bytes = match u32::from_be_bytes([header[2], header[3], header[4], header[5]]) {
        DELETED => None,
        bytes => Some(bytes as usize),
    };
    if key_bytes == 0 || key_bytes > KEY_BYTES_MAX || value_bytes.is_some_and(|bytes| bytes > DOCUMENT_BYTES_MAX) {
        return Err("a length is out of bounds");
    }
    let Some((key, rest)) = rest.split_at_checked(key_bytes) else { return Ok(None) };
    check(key, value_bytes.unwrap_or(0))?;
    let value = match value_bytes {
        None => None,
        Some(bytes) if bytes > rest.len() => return Ok(None),
        Some(bytes) => Some(rest[..bytes].into()),
    };
    let change = Change { key: key.into(), value };
    let taken = change.encoded_bytes();
    Ok(Some((change, taken)))
}

/// The changes of one commit as bytes for its record.
pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let bytes = 4 + changes.iter().map(Change::encoded_bytes).sum::<usize>();
    let mut out = Vec::with_capacity(bytes);
    // a commit holds at most as many changes as its queue
    out.extend_from_slice(&(changes.len() as u32).to_be_bytes());
    for change in changes {
        write_entry(&change.key, change.value.as_deref(), &mut out);
    }
    out
}

/// The changes of a section, in the order in which they were written.
///
/// # Errors
/// The bytes are not what [`encode_changes`] makes, or hold a table that this version does not know.
pub fn decode_changes(section: &[u8]) -> Result<Vec<Change>, DecodeError> {
    let cut_off = |at| DecodeError { at, why: "it is cut off" };
    let (count, _) = section.split_at_checked(4).ok_or(cut_off(0))?;
    let count = u32::from_be_bytes([count[0], count[1], count[2], count[3]]) as usize;
    let mut changes = Vec::with_capacity(count.min(section.len() / ENTRY_HEADER_BYTES));
    let mut at = 4;
    for _ in 0..count {
        let entry = read_entry(&section[at..]).map_err(|why| DecodeError { at, why })?;
        let (change, taken) = entry.ok_or(cut_off(at))?;
        changes.push(change);
        at += taken;
    }
    if at < section.len() {
        return Err(DecodeError { at, why: "there is something behind the last change" });
    }
    Ok(changes)
}
