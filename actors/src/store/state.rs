//! The state database: small documents (channels, tokens, numbers), each a JSON text with a CRC before it.
//!
//! A key is a table's letter and the table's own key. A write is one atomic batch; it returns when it is durable.
//! Writers that come while another one flushes share the next flush.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::segment::{SLED_SEGMENT_BYTES, open_database};
use super::{Durability, StoreError, io, sync_dir};

/// sled's page cache. Everything that is read often lives in memory elsewhere.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// A table by its letter. Letters are never used again for something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Channels by number.
    Channels = b'c' as isize,
    /// Tokens by id.
    Tokens = b't' as isize,
    /// Counters by name.
    Numbers = b'n' as isize,
    /// Webhooks by id.
    Webhooks = b'w' as isize,
    /// The state of a webhook's deliveries, with the cursor, by the webhook's id.
    Endpoints = b'e' as isize,
    /// Deliveries in trouble by webhook and delivery.
    Rows = b'r' as isize,
    /// Replays by webhook and number.
    Replays = b'j' as isize,
    /// What people may read of deliveries, by webhook and delivery. Nothing depends on it.
    Deliveries = b'd' as isize,
    /// Sources by id.
    Sources = b's' as isize,
    /// What sources have counted, by id. Written in batches.
    SourceCounts = b'k' as isize,
    /// The heads of dead letters by source and number, and the parts of their bodies.
    DeadLetters = b'l' as isize,
    DeadLetterParts = b'p' as isize,
}

/// One change of a write.
#[derive(Debug)]
pub struct Change {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

fn key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as isize as u8], key].concat()
}

impl Change {
    pub fn of(change: &crate::documents::Change) -> Change {
        let mut full = vec![change.table().letter()];
        full.extend_from_slice(change.own_key());
        let value = change.text().map(|text| {
            let mut framed = crc32fast::hash(text).to_be_bytes().to_vec();
            framed.extend_from_slice(text);
            framed
        });
        Change { key: full, value }
    }

    pub fn put(table: Table, of: impl AsRef<[u8]>, value: &impl Serialize) -> Result<Change, StoreError> {
        let text = serde_json::to_vec(value)?;
        let mut framed = crc32fast::hash(&text).to_be_bytes().to_vec();
        framed.extend_from_slice(&text);
        Ok(Change { key: key(table, of.as_ref()), value: Some(framed) })
    }

    pub fn delete(table: Table, of: impl AsRef<[u8]>) -> Change {
        Change { key: key(table, of.as_ref()), value: None }
    }
}

impl State {
    /// All documents, as [`crate::documents::Documents`] holds them.
    pub fn documents(&self) -> Result<crate::documents::Documents, StoreError> {
        let mut changes = Vec::new();
        for entry in self.db.iter() {
            let (key, value) = entry.map_err(|e| self.sled(e))?;
            if let Some(text) = value.get(4..)
                && let Ok(change) = crate::documents::Change::stored(&key, text)
            {
                changes.push(change);
            }
        }
        Ok(crate::documents::Documents::of(changes, 0))
    }
}

pub struct State {
    db: sled::Db,
    path: PathBuf,
    file: File,
    durability: Durability,
    numbers: Mutex<()>,
    applied: Mutex<Flushed>,
    /// Shared by writers, taken alone by who needs all documents of one moment.
    frozen: RwLock<()>,
}

/// Which writes are durable: those up to `durable` of `applied`.
#[derive(Default)]
struct Flushed {
    applied: u64,
    durable: u64,
}

impl State {
    pub fn open(data_dir: &Path, durability: Durability) -> Result<State, StoreError> {
        let path = data_dir.join("state");
        let config = sled::Config::new()
            .path(&path)
            .segment_size(SLED_SEGMENT_BYTES)
            .flush_every_ms(None)
            .cache_capacity(CACHE_BYTES);
        let db = open_database(&config, &path)?;
        let name = path.join("db");
        let file = File::open(&name).map_err(io("open", &name))?;
        sync_dir(&path)?;
        sync_dir(data_dir)?;
        Ok(State {
            db,
            path,
            file,
            durability,
            numbers: Mutex::default(),
            applied: Mutex::default(),
            frozen: RwLock::default(),
        })
    }

    fn sled(&self, source: sled::Error) -> StoreError {
        StoreError::Sled { path: self.path.clone(), source }
    }

    pub fn get<T: DeserializeOwned>(&self, table: Table, of: impl AsRef<[u8]>) -> Result<Option<T>, StoreError> {
        let value = self.db.get(key(table, of.as_ref())).map_err(|e| self.sled(e))?;
        value.map(|value| parse(&value)).transpose()
    }

    /// All documents of a table whose key begins with `prefix`: (key without the table, document), in the order of keys.
    pub fn scan<T: DeserializeOwned>(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let entries = self.db.scan_prefix(key(table, prefix));
        let document = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = entry.map_err(|e| self.sled(e))?;
            Ok((key[1..].to_vec(), parse(&value)?))
        };
        entries.map(document).collect()
    }

    /// The deletion of all documents of a table whose key begins with `prefix`.
    pub fn clear(&self, table: Table, prefix: &[u8]) -> Result<Vec<Change>, StoreError> {
        let keys = self.db.scan_prefix(key(table, prefix)).keys();
        keys.map(|key| Ok(Change { key: key.map_err(|e| self.sled(e))?.to_vec(), value: None })).collect()
    }

    /// Writes all changes or none.
    pub fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match &change.value {
                Some(value) => batch.insert(change.key.as_slice(), value.as_slice()),
                None => batch.remove(change.key.as_slice()),
            }
        }
        {
            let _not_frozen = self.frozen.read().unwrap_or_else(PoisonError::into_inner);
            self.db.apply_batch(batch).map_err(|e| self.sled(e))?;
        }
        let mine = {
            let mut flushed = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            flushed.applied += 1;
            flushed.applied
        };
        self.flush(mine)
    }

    /// The next number of a counter: 1, 2, 3, ... Durable before it is returned, so that none is given out twice.
    pub fn next_number(&self, counter: &str) -> Result<u32, StoreError> {
        let _one_at_a_time = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.get::<u32>(Table::Numbers, counter)?.unwrap_or(0) + 1;
        self.write(&[Change::put(Table::Numbers, counter, &next)?])?;
        Ok(next)
    }

    /// Hands all documents, as they are stored, to `work`, while no other is written.
    pub fn freeze<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut dyn Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _frozen = self.frozen.write().unwrap_or_else(PoisonError::into_inner);
        work(&mut self.db.iter().map(|entry| entry.map_err(|e| self.sled(e))))
    }

    /// Writes documents as another database has stored them. Durable with the next [`State::sync`].
    pub fn import(&self, documents: sled::Batch) -> Result<(), StoreError> {
        self.db.apply_batch(documents).map_err(|e| self.sled(e))
    }

    /// Makes everything durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| self.sled(e))?;
        self.file.sync_data().map_err(io("sync", &self.path))
    }

    /// Returns when write number `mine` is durable, by its own flush or by that of another writer.
    fn flush(&self, mine: u64) -> Result<(), StoreError> {
        let mut flushed = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if flushed.durable >= mine {
            return Ok(());
        }
        let covered = flushed.applied;
        self.db.flush().map_err(|e| self.sled(e))?;
        if self.durability == Durability::Fsync {
            self.file.sync_data().map_err(io("sync", &self.path))?;
        }
        flushed.durable = covered;
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    let (crc, text) = value.split_at_checked(4).ok_or(StoreError::Damaged)?;
    if crc32fast::hash(text).to_be_bytes() != crc {
        return Err(StoreError::Damaged);
    }
    Ok(serde_json::from_slice(text)?)
}
