//! Ordered keys and values in a folder: of sled, or in memory for a simulated disk. Only this room knows sled.
//!
//! sled keeps its promises for a database that is filled, flushed, closed and never written again; [`Database::write`]
//! makes such a one. What it does not keep is made up for here:
//! - its `flush` is no fsync and its file `conf` is never synced: after the close every file is synced, and the folders;
//! - its lock is let go a little after the close: who opens a database again that this process has closed waits for that;
//! - it makes what is missing and takes an empty file for an empty database: the file is opened, locked and measured here
//!   before sled sees the folder, so that a failure changes nothing;
//! - it panics on damage: panics inside of its calls are errors here.

mod memory;
mod sled;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use self::memory::MemoryDatabase;
use self::sled::SledDatabase;
use super::error::{cure, is_full};
use super::{Cure, Disk, DiskError, Open, Point};

/// Values are at most this long. sled makes a page that is too large a file of its own, which it never syncs.
pub const VALUE_BYTES: usize = 48 * 1024;

/// Why a database does not open, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the database {path} is held by another process", path = path.display())]
    Locked { path: PathBuf },
    /// Its bytes are not what was written.
    #[error("the database {path} is damaged: {why}", path = path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the database {path} fails: {source}", path = path.display())]
    Failed { path: PathBuf, source: io::Error },
}

impl DatabaseError {
    /// Whether the bytes are damaged; false for everything that may be different at the next attempt.
    pub fn is_damage(&self) -> bool {
        matches!(self, DatabaseError::Damaged { .. })
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        match self {
            DatabaseError::Disk(e) => e.is_full(),
            DatabaseError::Failed { source, .. } => is_full(source),
            DatabaseError::Locked { .. } | DatabaseError::Damaged { .. } => false,
        }
    }

    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            DatabaseError::Disk(e) => e.cure(),
            DatabaseError::Locked { .. } => Cure::adjust("another process holds it: stop that process first"),
            DatabaseError::Damaged { .. } => Cure::restore(
                "see what is concerned (stentor doctor --data DIR), or restore a backup (stentor restore)",
            ),
            DatabaseError::Failed { source, .. } => cure(source),
        }
    }
}

/// What [`Database::write`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Length of the file `db`, for [`Database::open`] to compare.
    pub bytes: u64,
}

/// Changes that are applied together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), None));
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// An open database. Threads may share it.
#[derive(Debug)]
pub enum Database {
    Sled(SledDatabase),
    /// On a simulated disk.
    Memory(MemoryDatabase),
}

/// Entries in the order in which they were asked for.
type Entries = VecDeque<(Bytes, Bytes)>;

impl Database {
    /// Fills a new database and makes it durable with all its names. Keys must ascend. On an error the folder is left as
    /// it is, for the caller to remove. Blocks.
    ///
    /// # Errors
    /// What the disk or sled says; a folder that already holds a database is an error.
    ///
    /// # Panics
    /// When keys do not ascend or a value is longer than [`VALUE_BYTES`].
    pub fn write(
        disk: &Disk,
        dir: &Path,
        entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<Written, DatabaseError> {
        if disk.simulation().is_some() { memory::write(disk, dir, entries) } else { sled::write(disk, dir, entries) }
    }

    /// Opens a database that exists. When it does not open, nothing in its folder has been made or changed, except for
    /// what sled writes into its own files once the checks before it have passed. `expected_bytes`: how long its file has
    /// to be. Waits for this process's own earlier close of it, not for other processes. Blocks.
    ///
    /// # Errors
    /// [`DatabaseError::Damaged`] only when bytes are wrong; a missing file is a [`DatabaseError::Disk`].
    pub fn open(disk: &Disk, dir: &Path, expected_bytes: Option<u64>) -> Result<Database, DatabaseError> {
        Ok(match disk.simulation() {
            None => Database::Sled(SledDatabase::open(disk, dir, expected_bytes)?),
            Some(_) => Database::Memory(MemoryDatabase::open(disk, dir, expected_bytes)?),
        })
    }

    /// Opens a database that is written in place, and makes it when there is none. Blocks.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_in_place(disk: &Disk, dir: &Path) -> Result<Database, DatabaseError> {
        Ok(match disk.simulation() {
            None => Database::Sled(SledDatabase::open_in_place(disk, dir)?),
            Some(_) => Database::Memory(MemoryDatabase::open_in_place(disk, dir)?),
        })
    }

    /// Blocks.
    ///
    /// # Errors
    /// What the disk or sled says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        match self {
            Database::Sled(db) => db.get(key),
            Database::Memory(db) => db.get(key),
        }
    }

    /// The entries in a range of keys, from either end. After an error it ends. Its steps block.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range<'_> {
        let owned = |bound: Bound<&K>| bound.map(|key| Bytes::copy_from_slice(key.as_ref()));
        let (low, high) = (owned(range.start_bound()), owned(range.end_bound()));
        let (front, back) = (Entries::new(), Entries::new());
        Range { database: self, low, high, front, back, fetch_entries: 1, is_failed: false }
    }

    /// The next entries between two bounds from one end, at most `limit`: fewer only when there are no more.
    fn fetch(
        &self,
        low: &Bound<Bytes>,
        high: &Bound<Bytes>,
        is_back: bool,
        limit: usize,
    ) -> Result<Entries, DatabaseError> {
        match self {
            Database::Sled(db) => db.fetch(low, high, is_back, limit),
            Database::Memory(db) => db.fetch(low, high, is_back, limit),
        }
    }

    /// Applies changes, all or none. Durable with the next [`Database::sync`]. For a database that was opened by
    /// [`Database::open_in_place`]. Blocks.
    ///
    /// # Errors
    /// What the disk or sled says. sled keeps its first error of the disk for good: the database has to be closed and
    /// opened again then.
    pub fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        match self {
            Database::Sled(db) => db.apply(batch),
            Database::Memory(db) => db.apply(batch),
        }
    }

    /// Makes what was applied durable. Blocks.
    ///
    /// # Errors
    /// As [`Database::apply`].
    pub fn sync(&self) -> Result<(), DatabaseError> {
        match self {
            Database::Sled(db) => db.sync(),
            Database::Memory(db) => db.sync(),
        }
    }

    /// How long the file `db` is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn bytes(&self) -> Result<u64, DatabaseError> {
        match self {
            Database::Sled(db) => db.bytes(),
            Database::Memory(db) => db.bytes(),
        }
    }

    /// About what sled keeps in memory of what was read. A database in memory counts as disk.
    pub fn loaded_bytes(&self) -> usize {
        match self {
            Database::Sled(db) => db.loaded_bytes(),
            Database::Memory(_) => 0,
        }
    }
}

fn check_length(dir: &Path, bytes: u64, expected_bytes: Option<u64>) -> Result<(), DatabaseError> {
    match expected_bytes {
        Some(expected) if expected != bytes => {
            let why = format!("it has {bytes} bytes instead of {expected}");
            Err(DatabaseError::Damaged { path: dir.join("db"), why })
        }
        _ => Ok(()),
    }
}

/// Makes the names in the folder of a database durable, and its own.
fn sync_folders(disk: &Disk, dir: &Path) -> Result<(), DiskError> {
    disk.sync_dir(dir)?;
    dir.parent().map_or(Ok(()), |above| disk.sync_dir(above))
}

/// Entries of a database in the order of their keys.
///
/// It holds nothing of the database between its steps, and fetches one entry first, then twice as many each time.
pub struct Range<'a> {
    database: &'a Database,
    /// What was not fetched yet lies between these.
    low: Bound<Bytes>,
    high: Bound<Bytes>,
    /// Fetched from the front, in ascending order.
    front: Entries,
    /// Fetched from the back, in descending order.
    back: Entries,
    fetch_entries: usize,
    is_failed: bool,
}

/// Entries that a [`Range`] fetches at once, at most.
const FETCH_ENTRIES: usize = 16;

impl Range<'_> {
    fn step(&mut self, is_back: bool) -> Option<Result<(Bytes, Bytes), DatabaseError>> {
        if self.is_failed {
            return None;
        }
        let fetched = if is_back { &mut self.back } else { &mut self.front };
        if fetched.is_empty() && !is_empty(&self.low, &self.high) {
            match self.database.fetch(&self.low, &self.high, is_back, self.fetch_entries) {
                Ok(entries) => *fetched = entries,
                Err(e) => {
                    self.is_failed = true;
                    return Some(Err(e));
                }
            }
            if let Some((key, _)) = fetched.back() {
                let bound = if is_back { &mut self.high } else { &mut self.low };
                *bound = Bound::Excluded(key.clone());
            }
            self.fetch_entries = (self.fetch_entries * 2).min(FETCH_ENTRIES);
        }
        // with nothing left in between, what is left is what the other end has fetched
        let entry = match is_back {
            true => self.back.pop_front().or_else(|| self.front.pop_back()),
            false => self.front.pop_front().or_else(|| self.back.pop_back()),
        };
        entry.map(Ok)
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Bytes, Bytes), DatabaseError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}

/// Whether no key lies between two bounds.
fn is_empty(low: &Bound<Bytes>, high: &Bound<Bytes>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

/// Looks for values in the raw file of a database that fails. `take` is handed the bytes from each place on that begins
/// with `magic`, at most [`VALUE_BYTES`] of them; it answers how many of them were a whole value, or none when they were
/// not. The same value may be found more than once, and in any order. Opens nothing but the file. Blocks.
///
/// # Errors
/// What the file system says.
pub fn salvage(
    disk: &Disk,
    dir: &Path,
    magic: &[u8],
    mut take: impl FnMut(&[u8]) -> Option<usize>,
) -> Result<(), DatabaseError> {
    /// Read at once; what one read holds beyond the last whole value is searched again with the next.
    const STEP_BYTES: usize = 1024 * 1024;
    const _: () = assert!(STEP_BYTES > VALUE_BYTES);
    let file = disk.open(Point::SalvageRead, &dir.join("db"), Open::Read)?;
    let mut window = vec![0; STEP_BYTES + VALUE_BYTES];
    let mut offset = 0u64;
    loop {
        let read = file.read_at(Point::SalvageRead, &mut window, offset)?;
        let bytes = &window[..read];
        let is_last = read < window.len();
        let end = if is_last { read } else { STEP_BYTES };
        let mut at = 0;
        while at < end {
            let Some(found) = bytes[at..].windows(magic.len()).position(|bytes| bytes == magic) else {
                at = end;
                break;
            };
            at += found;
            if at >= end {
                break;
            }
            let value = &bytes[at..bytes.len().min(at + VALUE_BYTES)];
            at += take(value).unwrap_or(1).clamp(1, value.len());
        }
        if is_last {
            return Ok(());
        }
        // a value that was taken may reach beyond the step
        offset += at as u64;
    }
}
