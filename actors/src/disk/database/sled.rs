//! A database of sled.

use std::collections::HashMap;
use std::io;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use sled::IVec;

use super::{Batch, DatabaseError, VALUE_BYTES, Written};
use crate::disk::{Disk, DiskError, DiskFile, Open, Point};

/// sled's unit of allocation. A quarter of it is the size from which sled makes a page a file of its own, which it never
/// syncs; a page holds up to [`PAGE_VALUES`] values.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
const PAGE_VALUES: usize = 17;
const _: () = assert!(PAGE_VALUES * (VALUE_BYTES + 1024) < SEGMENT_BYTES / 4);
/// What is flushed at once while a database is filled; beyond it sled keeps more in memory.
const FLUSH_BYTES: usize = 3 * 1024 * 1024;
/// sled's page cache of one database.
const CACHE_BYTES: u64 = 1024 * 1024;

/// sled lets go of its file a moment after the last handle is dropped; who opens it again waits for that.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(1);

/// When this process closed a database whose lock sled may still hold.
static CLOSED: LazyLock<Mutex<HashMap<PathBuf, Instant>>> = LazyLock::new(Mutex::default);

/// Runs a step of sled, which panics on some damage.
fn guarded<T>(dir: &Path, step: impl FnOnce() -> sled::Result<T>) -> Result<T, DatabaseError> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(done) => done.map_err(|e| failure(dir, e)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(damaged(dir, format!("sled gave up on it: {text}")))
        }
    }
}

fn damaged(dir: &Path, why: impl Into<String>) -> DatabaseError {
    DatabaseError::Damaged { path: dir.join("db"), why: why.into() }
}

fn failure(dir: &Path, e: sled::Error) -> DatabaseError {
    match e {
        sled::Error::Io(e) if is_locked(&e) => DatabaseError::Locked { path: dir.join("db") },
        // a file that ends too early
        sled::Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => damaged(dir, e.to_string()),
        sled::Error::Io(source) => DatabaseError::Failed { path: dir.join("db"), source },
        e => damaged(dir, e.to_string()),
    }
}

fn is_locked(e: &io::Error) -> bool {
    e.to_string().starts_with("could not acquire lock")
}

fn config(dir: &Path) -> sled::Config {
    sled::Config::new()
        .path(dir)
        .mode(sled::Mode::HighThroughput)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .cache_capacity(CACHE_BYTES)
}

/// See [`Database::write`](super::Database::write).
pub fn write(
    disk: &Disk,
    dir: &Path,
    entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
) -> Result<Written, DatabaseError> {
    disk.create_dir_all(dir)?;
    // takes the name, and fails when there is one already
    disk.open(Point::DatabaseWrite, &dir.join("db"), Open::CreateNew)?;
    let db = SledDatabase::open_any(disk, dir)?;
    let (mut last, mut unflushed) = (Vec::new(), 0);
    for (key, value) in entries {
        assert!(key > last, "the keys of a database ascend");
        assert!(value.len() <= VALUE_BYTES, "a value is too long for sled");
        unflushed += key.len() + value.len();
        db.step(Point::DatabaseWrite, || db.db().insert(&key, value).map(drop))?;
        last = key;
        if unflushed >= FLUSH_BYTES {
            db.step(Point::DatabaseWrite, || db.db().flush().map(drop))?;
            unflushed = 0;
        }
    }
    db.step(Point::DatabaseWrite, || db.db().flush().map(drop))?;
    drop(db);
    wait_for_close(disk, dir)?;
    sync_files(disk, dir)?;
    if let Some(above) = dir.parent() {
        disk.sync_dir(above)?;
    }
    let bytes = disk.len(&dir.join("db"))?.unwrap_or(0);
    Ok(Written { bytes })
}

/// Waits until sled has let go of a database that this process has closed. Blocks.
fn wait_for_close(disk: &Disk, dir: &Path) -> Result<(), DatabaseError> {
    let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
    wait_for_lock(&file, dir)
}

fn wait_for_lock(file: &DiskFile, dir: &Path) -> Result<(), DatabaseError> {
    while !file.try_lock()? {
        let closed = CLOSED.lock().get(dir).copied();
        if closed.is_none_or(|at| at.elapsed() >= LOCK_WAIT) {
            return Err(DatabaseError::Locked { path: dir.join("db") });
        }
        std::thread::sleep(LOCK_POLL);
    }
    file.unlock()?;
    CLOSED.lock().remove(dir);
    Ok(())
}

/// Syncs every file below a folder and the folders, and takes them from the eyes of others.
fn sync_files(disk: &Disk, dir: &Path) -> Result<(), DiskError> {
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            sync_files(disk, &path)?;
            continue;
        }
        // sled makes its files for all to read
        disk.restrict(&path)?;
        disk.open(Point::DatabaseSync, &path, Open::ReadWrite)?.sync_data(Point::DatabaseSync)?;
    }
    disk.sync_dir(dir)
}

#[derive(Debug)]
pub struct SledDatabase {
    /// None only while it is dropped.
    db: Option<sled::Db>,
    disk: Disk,
    dir: PathBuf,
    /// Our own descriptor of sled's file: sled's flush is no fsync.
    file: DiskFile,
}

impl SledDatabase {
    pub fn open(disk: &Disk, dir: &Path, expected_bytes: Option<u64>) -> Result<SledDatabase, DatabaseError> {
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
        wait_for_lock(&file, dir)?;
        let bytes = file.len()?;
        if let Some(expected) = expected_bytes
            && bytes != expected
        {
            return Err(damaged(dir, format!("it has {bytes} bytes instead of {expected}")));
        }
        SledDatabase::open_any(disk, dir)
    }

    pub fn open_in_place(disk: &Disk, dir: &Path) -> Result<SledDatabase, DatabaseError> {
        if disk.exists(&dir.join("db"))? {
            return SledDatabase::open(disk, dir, None);
        }
        disk.create_dir_all(dir)?;
        disk.open(Point::DatabaseOpen, &dir.join("db"), Open::CreateNew)?;
        let db = SledDatabase::open_any(disk, dir)?;
        db.sync()?;
        sync_files(disk, dir)?;
        if let Some(above) = dir.parent() {
            disk.sync_dir(above)?;
        }
        Ok(db)
    }

    fn open_any(disk: &Disk, dir: &Path) -> Result<SledDatabase, DatabaseError> {
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
        let db = guarded(dir, || config(dir).open())?;
        Ok(SledDatabase { db: Some(db), disk: disk.clone(), dir: dir.to_path_buf(), file })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is there until it is dropped")
    }

    fn step<T>(&self, point: Point, step: impl FnOnce() -> sled::Result<T>) -> Result<T, DatabaseError> {
        let failed = |source| DatabaseError::Failed { path: self.dir.join("db"), source };
        self.disk.faults().check(point).map_err(failed)?;
        guarded(&self.dir, step)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        Ok(self.step(Point::DatabaseRead, || self.db().get(key))?.map(Bytes::from_owner))
    }

    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range<'_> {
        Range { entries: Some(self.db().range(range)), database: self }
    }

    pub fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        self.step(Point::DatabaseWrite, || self.db().apply_batch(changes))
    }

    pub fn sync(&self) -> Result<(), DatabaseError> {
        self.step(Point::DatabaseWrite, || self.db().flush())?;
        Ok(self.file.sync_data(Point::DatabaseSync)?)
    }

    pub fn bytes(&self) -> Result<u64, DatabaseError> {
        Ok(self.file.len()?)
    }
}

impl Drop for SledDatabase {
    fn drop(&mut self) {
        CLOSED.lock().insert(self.dir.clone(), Instant::now());
        let db = self.db.take();
        // it syncs, and panics when that fails; nobody waits for what it syncs
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            log::error!(database:display = self.dir.display(); "the database did not close");
        }
    }
}

pub struct Range<'a> {
    /// None after an error.
    entries: Option<sled::Iter>,
    database: &'a SledDatabase,
}

impl Range<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(IVec, IVec)>>,
    ) -> Option<Result<(Bytes, Bytes), DatabaseError>> {
        let entries = self.entries.as_mut()?;
        let entry = self.database.step(Point::DatabaseRead, || step(entries).transpose()).transpose()?;
        if entry.is_err() {
            self.entries = None;
        }
        Some(entry.map(|(key, value)| (Bytes::from_owner(key), Bytes::from_owner(value))))
    }

    pub fn next(&mut self) -> Option<Result<(Bytes, Bytes), DatabaseError>> {
        self.step(Iterator::next)
    }

    pub fn next_back(&mut self) -> Option<Result<(Bytes, Bytes), DatabaseError>> {
        self.step(DoubleEndedIterator::next_back)
    }
}
