//! A database for a simulated disk: all entries in memory, and in one file.
//!
//! The file `db` is a header byte and then changes: checksum u32, length of the key u32, length of the value u32 (all bits
//! set: the key is deleted), key, value. A database that was written once must be whole; one that is written in place ends
//! at the first change that fails its check, which a crash may have torn.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, DatabaseError, Entries, VALUE_BYTES, Written};
use crate::disk::{Disk, DiskFile, Open, Point};

/// First byte of a database that was written once.
const ONCE: u8 = 1;
/// First byte of one that is written in place.
const IN_PLACE: u8 = 2;
const HEADER_BYTES: usize = 12;
const DELETED: u32 = u32::MAX;

fn damaged(dir: &Path, why: &str) -> DatabaseError {
    DatabaseError::Damaged { path: dir.join("db"), why: why.into() }
}

fn encode(key: &[u8], value: Option<&[u8]>, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&(key.len() as u32).to_le_bytes());
    to.extend_from_slice(&value.map_or(DELETED, |value| value.len() as u32).to_le_bytes());
    to.extend_from_slice(key);
    to.extend_from_slice(value.unwrap_or_default());
    let crc = crc32c::crc32c(&to[start + 4..]);
    to[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

struct Change<'a> {
    key: &'a [u8],
    /// None: it is deleted.
    value: Option<&'a [u8]>,
    /// Of the change as it stands in the file.
    len: usize,
}

/// The change at the beginning of these bytes; none when it is not whole.
fn decode(bytes: &[u8]) -> Option<Change<'_>> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (crc, key_len, value_len) = (number(0)?, number(4)? as usize, number(8)?);
    let key = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(key_len)?)?;
    let value_start = HEADER_BYTES + key_len;
    let value_end = value_start.checked_add(if value_len == DELETED { 0 } else { value_len as usize })?;
    let value = bytes.get(value_start..value_end)?;
    let value = (value_len != DELETED).then_some(value);
    (crc32c::crc32c(&bytes[4..value_end]) == crc).then_some(Change { key, value, len: value_end })
}

/// See [`Database::write`](super::Database::write). Blocks.
///
/// # Errors
/// As [`Database::write`](super::Database::write).
pub fn write(
    disk: &Disk,
    dir: &Path,
    entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
) -> Result<Written, DatabaseError> {
    disk.create_dir_all(dir)?;
    let file = disk.open(Point::DatabaseWrite, &dir.join("db"), Open::CreateNew)?;
    let (mut bytes, mut last) = (vec![ONCE], Vec::new());
    for (key, value) in entries {
        assert!(key > last, "the keys of a database ascend");
        assert!(value.len() <= VALUE_BYTES, "a value is too long for a database");
        encode(&key, Some(&value), &mut bytes);
        last = key;
    }
    file.write_at(Point::DatabaseWrite, &bytes, 0)?;
    file.sync_data(Point::DatabaseSync)?;
    super::sync_folders(disk, dir)?;
    Ok(Written { bytes: bytes.len() as u64 })
}

#[derive(Debug)]
pub struct MemoryDatabase {
    file: DiskFile,
    dir: PathBuf,
    disk: Disk,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<Bytes, Bytes>,
    /// Where the next change is written.
    end: u64,
    /// A write or sync has failed: as with sled, nothing is written any more until it is opened again.
    is_failed: bool,
}

impl MemoryDatabase {
    /// See [`Database::open`](super::Database::open). Blocks.
    ///
    /// # Errors
    /// As [`Database::open`](super::Database::open).
    pub fn open(disk: &Disk, dir: &Path, expected_bytes: Option<u64>) -> Result<MemoryDatabase, DatabaseError> {
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
        if !file.try_lock()? {
            return Err(DatabaseError::Locked { path: dir.join("db") });
        }
        super::check_length(dir, file.len()?, expected_bytes)?;
        let bytes = disk.read(Point::DatabaseOpen, &dir.join("db"))?;
        let kind = bytes.first().copied();
        let (mut entries, mut end) = (BTreeMap::new(), 1);
        while let Some(Change { key, value, len }) = bytes.get(end..).and_then(decode) {
            match value {
                Some(value) => entries.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
                None => entries.remove(key),
            };
            end += len;
        }
        match kind {
            Some(ONCE) if end == bytes.len() => {}
            Some(IN_PLACE) => {}
            Some(ONCE) => return Err(damaged(dir, "an entry fails its check")),
            _ => return Err(damaged(dir, "it is no database")),
        }
        let state = RwLock::new(State { entries, end: end as u64, is_failed: false });
        Ok(MemoryDatabase { file, dir: dir.to_path_buf(), disk: disk.clone(), state })
    }

    /// See [`Database::open_in_place`](super::Database::open_in_place). Blocks.
    ///
    /// # Errors
    /// As [`Database::open_in_place`](super::Database::open_in_place).
    pub fn open_in_place(disk: &Disk, dir: &Path) -> Result<MemoryDatabase, DatabaseError> {
        let path = dir.join("db");
        if disk.len(&path)?.is_none() {
            disk.create_dir_all(dir)?;
            disk.replace(Point::DatabaseOpen, &path, &[IN_PLACE])?;
            super::sync_folders(disk, dir)?;
        }
        MemoryDatabase::open(disk, dir, None)
    }

    fn check(&self, point: Point) -> Result<(), DatabaseError> {
        let failed = |source| DatabaseError::Failed { path: self.dir.join("db"), source };
        self.disk.faults().check(point).map_err(failed)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A failure point for reads is set.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        self.check(Point::DatabaseRead)?;
        Ok(self.state.read().entries.get(key).cloned())
    }

    /// See [`Database::fetch`](super::Database::fetch).
    ///
    /// # Errors
    /// A failure point for reads is set.
    pub fn fetch(
        &self,
        low: &Bound<Bytes>,
        high: &Bound<Bytes>,
        is_back: bool,
        limit: usize,
    ) -> Result<Entries, DatabaseError> {
        self.check(Point::DatabaseRead)?;
        let state = self.state.read();
        let entries = state.entries.range((low.clone(), high.clone()));
        let owned = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        Ok(if is_back {
            entries.rev().take(limit).map(owned).collect()
        } else {
            entries.take(limit).map(owned).collect()
        })
    }

    /// See [`Database::apply`](super::Database::apply). Blocks.
    ///
    /// # Errors
    /// The file cannot be written; then every later call fails too, as sled's does.
    pub fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        let mut bytes = Vec::new();
        for (key, value) in &batch.changes {
            encode(key, value.as_deref(), &mut bytes);
        }
        let mut state = self.state.write();
        self.unless_failed(&mut state, |state| {
            self.file.write_at(Point::DatabaseWrite, &bytes, state.end)?;
            state.end += bytes.len() as u64;
            Ok(())
        })?;
        for (key, value) in batch.changes {
            match value {
                Some(value) => state.entries.insert(key.into(), value.into()),
                None => state.entries.remove(&key[..]),
            };
        }
        Ok(())
    }

    /// See [`Database::sync`](super::Database::sync). Blocks.
    ///
    /// # Errors
    /// The file cannot be synced; then every later call fails too, as sled's does.
    pub fn sync(&self) -> Result<(), DatabaseError> {
        let mut state = self.state.write();
        self.unless_failed(&mut state, |_| Ok(self.file.sync_data(Point::DatabaseSync)?))
    }

    fn unless_failed(
        &self,
        state: &mut State,
        step: impl FnOnce(&mut State) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        if state.is_failed {
            let source = std::io::Error::other("an earlier write or sync has failed");
            return Err(DatabaseError::Failed { path: self.dir.join("db"), source });
        }
        step(state).inspect_err(|_| state.is_failed = true)
    }

    /// The length of the file. Blocks.
    ///
    /// # Errors
    /// The length of the file cannot be told.
    pub fn bytes(&self) -> Result<u64, DatabaseError> {
        Ok(self.file.len()?)
    }
}
