//! Documents: what is configured, and the small state that promises rest on. All of them are in memory.
//!
//! A document is a JSON text under a key (a table's letter and the table's own key). A change becomes durable in the
//! write-ahead log, as one section of a commit ([`encode_changes`]); then [`Documents::apply`] makes it visible. So that the
//! log need not be kept for ever, all documents are written whole from time to time, as a *generation* ([`Generations`]).
//! What is only for people (the delivery log, counters, dead letters) is in [`notes`] instead and may be lost.
//!
//! ```text
//! state/<n>/db, conf     a generation: one sled database, written once and never changed
//! state/<n>/copy         the same documents in a flat file; damage in one of the two is healed from the other
//! state/<n>/manifest     written last: which commits it covers, how much there is, checksums
//! state/conf             makes versions before data format 2 refuse the folder; nothing reads it ([`refuse_older_versions`])
//! notes/                 a sled database that is written in place ([`notes`])
//! ```
//!
//! After a crash a generation without a manifest is an unfinished write: the one before it still counts, and the log still
//! has every change since.

mod change;
mod chunks;
#[cfg(test)]
mod crash_tests;
mod generation;
mod guard;
mod manifest;
pub mod migrate;
pub mod notes;
mod secret_key;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;

pub use self::change::{Change, DOCUMENT_BYTES_MAX, DecodeError, KEY_BYTES_MAX, decode_changes, encode_changes};
pub use self::generation::{
    CHANGE_AGE_MS, GenerationError, GenerationSurvey, Generations, LOG_BYTES, LogId, LostGeneration, STATE, Step,
};
pub use self::guard::refuse_older_versions;
pub use self::secret_key::{KeyChance, OwnKeys, ProvedKey, SecretKeyError, is_right_key, secret_key};
pub use self::table::Table;
use self::table::{ShownKey, full_key};

/// A document that cannot be read or written. None of them repeats what is in it.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error(
        "a stored document is damaged, or a newer version wrote it: {table} {key}, line {line}, column {column} of its text"
    )]
    Unreadable { table: &'static str, key: String, line: usize, column: usize },
    #[error("a document cannot be written: {table} {key}: {source}")]
    Unwritable { table: &'static str, key: String, source: serde_json::Error },
    #[error("a document is too large: {table} {key} takes {bytes} bytes")]
    TooLarge { table: &'static str, key: String, bytes: usize },
    #[error("the counter {counter} has no further numbers")]
    NumbersExhausted { counter: String },
}

/// Parses a text. serde's own words may repeat a value, which may be a secret; so only the place is told.
fn parse<T: DeserializeOwned>(key: &[u8], text: &[u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(text).map_err(|e| DocumentError::Unreadable {
        table: Table::of_letter(key[0]).map_or("?", Table::name),
        key: ShownKey(&key[1..]).to_string(),
        line: e.line(),
        column: e.column(),
    })
}

type Key = Arc<[u8]>;
type Text = Arc<[u8]>;
type Entries = BTreeMap<Key, Text>;

/// All documents of one moment. It shares the texts with [`Documents`] and holds no lock.
#[derive(Clone)]
pub struct Frozen {
    sequence: u64,
    changed_at: u64,
    bytes: u64,
    entries: Vec<(Key, Text)>,
}

impl Frozen {
    /// The last commit that is in it.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Of keys and texts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys with their table's letter, and JSON texts, in the order of keys. [`Change::stored`] takes them back.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, text)| (&**key, &**text))
    }
}

/// All documents as of the last applied commit.
#[derive(Default)]
pub struct Documents {
    held: RwLock<Held>,
    /// The highest number of each counter that was given out, committed or not.
    taken: Mutex<HashMap<String, u32>>,
}

#[derive(Default)]
struct Held {
    entries: Entries,
    bytes: u64,
    sequence: u64,
    changed_at: u64,
}

impl Held {
    fn change(&mut self, change: &Change) {
        let before = match &change.value {
            Some(text) => {
                if change.key[0] == Table::Numbers.letter() && self.is_behind(&change.key, text) {
                    return;
                }
                self.bytes += (change.key.len() + text.len()) as u64;
                self.entries.insert(change.key.clone(), text.clone())
            }
            None => self.entries.remove(&change.key),
        };
        self.bytes -= before.map_or(0, |text| (change.key.len() + text.len()) as u64);
    }

    /// Whether the counter already stands at a higher number than `text`.
    fn is_behind(&self, key: &[u8], text: &[u8]) -> bool {
        let number = |text: &[u8]| serde_json::from_slice::<u64>(text).ok();
        match (self.entries.get(key).and_then(|held| number(held)), number(text)) {
            (Some(held), Some(other)) => other < held,
            _ => false,
        }
    }

    fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Key, &'a Text)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.entries.range::<[u8], _>(from).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

impl Documents {
    /// The documents of a generation or a backup, which hold every commit up to `sequence`.
    pub fn of(changes: impl IntoIterator<Item = Change>, sequence: u64) -> Documents {
        let mut held = Held { sequence, changed_at: sequence, ..Held::default() };
        changes.into_iter().for_each(|change| held.change(&change));
        Documents { held: RwLock::new(held), taken: Mutex::default() }
    }

    /// Makes the changes of commit `sequence` visible, all at once. Called in the order of commits, also for those without
    /// changes, so that [`Documents::sequence`] follows the log.
    ///
    /// A counter never goes back: of two changes that were made at once the higher number stays.
    pub fn apply(&self, changes: &[Change], sequence: u64) {
        let mut held = self.held.write();
        changes.iter().for_each(|change| held.change(change));
        held.sequence = held.sequence.max(sequence);
        if !changes.is_empty() {
            held.changed_at = held.sequence;
        }
    }

    /// The last applied commit.
    pub fn sequence(&self) -> u64 {
        self.held.read().sequence
    }

    /// The last applied commit that changed a document.
    pub fn changed_at(&self) -> u64 {
        self.held.read().changed_at
    }

    /// Of all keys and texts.
    pub fn bytes(&self) -> u64 {
        self.held.read().bytes
    }

    /// # Errors
    /// The text is not of this type.
    pub fn get<T: DeserializeOwned>(&self, table: Table, own: impl AsRef<[u8]>) -> Result<Option<T>, DocumentError> {
        let key = full_key(table, own.as_ref());
        let text = self.held.read().entries.get(&key).cloned();
        text.map(|text| parse(&key, &text)).transpose()
    }

    pub fn contains(&self, table: Table, own: impl AsRef<[u8]>) -> bool {
        self.held.read().entries.contains_key(&full_key(table, own.as_ref()))
    }

    /// All documents of a table whose own key begins with `prefix`: (own key, document), in the order of keys.
    ///
    /// # Errors
    /// The text of one is not of this type.
    pub fn scan<T: DeserializeOwned>(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, DocumentError> {
        let prefix = full_key(table, prefix);
        let found: Vec<_> =
            self.held.read().with_prefix(&prefix).map(|(key, text)| (key.clone(), text.clone())).collect();
        found.iter().map(|(key, text)| Ok((key[1..].to_vec(), parse(key, text)?))).collect()
    }

    /// The deletion of all documents of a table whose own key begins with `prefix`.
    pub fn clear(&self, table: Table, prefix: &[u8]) -> Vec<Change> {
        let prefix = full_key(table, prefix);
        let held = self.held.read();
        held.with_prefix(&prefix).map(|(key, _)| Change { key: key.clone(), value: None }).collect()
    }

    /// All documents of this moment, at the price of a pointer for each.
    pub fn freeze(&self) -> Frozen {
        let held = self.held.read();
        Frozen {
            sequence: held.sequence,
            changed_at: held.changed_at,
            bytes: held.bytes,
            entries: held.entries.iter().map(|(key, text)| (key.clone(), text.clone())).collect(),
        }
    }

    /// The next number of a counter (1, 2, 3, ...), and the change that has to be in the same commit as what it numbers.
    /// A number is not given out again when that commit fails.
    ///
    /// # Errors
    /// The stored counter is damaged, or all numbers are used up.
    pub fn take_number(&self, counter: &str) -> Result<(u32, Change), DocumentError> {
        let mut taken = self.taken.lock();
        let stored = self.get::<u32>(Table::Numbers, counter)?.unwrap_or(0);
        let last = taken.get(counter).copied().unwrap_or(0).max(stored);
        let exhausted = || DocumentError::NumbersExhausted { counter: counter.into() };
        let next = last.checked_add(1).ok_or_else(exhausted)?;
        let change = Change::put(Table::Numbers, counter, &next)?;
        taken.insert(counter.into(), next);
        Ok((next, change))
    }

    /// Keeps a counter from giving out `number` or a lower one, as when the log knows a channel of that number.
    pub fn use_up_number(&self, counter: &str, number: u32) {
        let mut taken = self.taken.lock();
        let last = taken.entry(counter.into()).or_default();
        *last = number.max(*last);
    }
}

#[cfg(test)]
mod tests;
