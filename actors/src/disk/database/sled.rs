//! A database of sled.
//!
//! What its source and traces of its calls show, and what is made of it here:
//!
//! - A leaf is split when it holds more than 16 entries, and its two halves are then written whole. A database that is
//!   filled in ascending order is written three times over by that, and its file is twice as long as its values. So each
//!   key is put first with an empty value, and gets its own once its leaf can no longer be split: the file is then as long
//!   as the values, and sled never reuses a place in it while it is filled.
//! - The first opening after the fill pads the file to whole segments and writes a snapshot. Every later one writes the
//!   same bytes to the same unused places, as long as nothing is put; its length stays.
//! - Its cache keeps one page for each of 256 shards however small its capacity is, and with values of 48 KiB that is all
//!   that was read or written. Only a close frees it, so a large database is closed and opened again on the way.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockUpgradableReadGuard};

use super::{Batch, DatabaseError, Entries, VALUE_BYTES, Written, check_length, sync_folders};
use crate::disk::{Disk, DiskError, DiskFile, Open, Point};

/// sled's unit of allocation. A quarter of it is the size from which sled makes a page a file of its own, which it never
/// syncs; a page holds up to [`PAGE_VALUES`] values.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
const PAGE_VALUES: usize = 17;
const _: () = assert!(PAGE_VALUES * (VALUE_BYTES + 1024) < SEGMENT_BYTES / 4);
/// What is flushed at once while a database is filled.
const FLUSH_BYTES: usize = 3 * 1024 * 1024;
/// What sled may keep of a database in memory, about, before it is closed and opened again.
const LOADED_BYTES: usize = 16 * 1024 * 1024;
/// Values in a leaf that was split. To read one of them sled loads the leaf.
const LEAF_VALUES: usize = 9;
/// sled's page cache of one database, as far as sled keeps to it.
const CACHE_BYTES: u64 = 1024 * 1024;

/// How long a lock that this process held may still be held after the close.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_micros(200);

/// When this process closed a database whose lock sled may still hold.
static CLOSED: LazyLock<Mutex<HashMap<PathBuf, Instant>>> = LazyLock::new(Mutex::default);

/// Runs a step of sled, which panics on some damage.
fn guarded<T>(dir: &Path, step: impl FnOnce() -> sled::Result<T>) -> Result<T, DatabaseError> {
    let panic = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(done) => return done.map_err(|e| failure(dir, e)),
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Err(damaged(dir, format!("sled gave up on it: {}", text.unwrap_or("it gave no reason"))))
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
    // takes the name, and fails when there is one already
    drop(disk.open(Point::DatabaseWrite, &dir.join("db"), Open::CreateNew)?);
    let mut filling = Filling { db: SledDatabase::open_any(disk, dir, Kind::InPlace)?, unflushed: 0, loaded: 0 };
    let mut last = Vec::new();
    let mut waiting: VecDeque<(Vec<u8>, Vec<u8>)> = VecDeque::with_capacity(PAGE_VALUES + 1);
    for (key, value) in entries {
        assert!(key > last, "the keys of a database ascend");
        assert!(value.len() <= VALUE_BYTES, "a value is too long for sled");
        filling.put(&key, &[])?;
        last.clone_from(&key);
        waiting.push_back((key, value));
        // the leaf of a key that so many others follow is split already
        if waiting.len() > PAGE_VALUES
            && let Some((key, value)) = waiting.pop_front()
        {
            filling.put(&key, &value)?;
        }
    }
    for (key, value) in waiting {
        filling.put(&key, &value)?;
    }
    filling.flush()?;
    // the first opening after the fill gives the file the length that it keeps
    filling.db.reopen()?;
    let Filling { db, .. } = filling;
    let file = db.close();
    wait_for_lock(&file, dir)?;
    sync_files(disk, dir)?;
    sync_folders(disk, dir)?;
    Ok(Written { bytes: file.len()? })
}

/// A database that is filled.
struct Filling {
    db: SledDatabase,
    unflushed: usize,
    /// What sled may keep in memory.
    loaded: usize,
}

impl Filling {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), DatabaseError> {
        self.db.step(Point::DatabaseWrite, 0, |db| db.insert(key, value).map(drop))?;
        self.unflushed += key.len() + value.len();
        if self.unflushed >= FLUSH_BYTES {
            self.flush()?;
        }
        if self.loaded >= LOADED_BYTES {
            self.db.reopen()?;
            self.loaded = 0;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DatabaseError> {
        self.db.step(Point::DatabaseWrite, 0, |db| db.flush().map(drop))?;
        self.loaded += self.unflushed;
        self.unflushed = 0;
        Ok(())
    }
}

/// Waits until a file that this process had locked is free. Does not wait for other processes. Blocks.
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

/// Syncs every file below a folder, and lets only the owner read them: sled makes them readable for all.
fn sync_files(disk: &Disk, dir: &Path) -> Result<(), DiskError> {
    for entry in disk.list(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            sync_files(disk, &path)?;
            disk.sync_dir(&path)?;
            continue;
        }
        disk.restrict(&path)?;
        disk.open(Point::DatabaseSync, &path, Open::ReadWrite)?.sync_data(Point::DatabaseSync)?;
    }
    Ok(())
}

/// Opens the files of a database that is said to be damaged once more and reads them: when that fails, the disk is what
/// fails, and the bytes may be right.
fn blame(disk: &Disk, dir: &Path, e: DatabaseError) -> DatabaseError {
    let read_all = || {
        for entry in disk.list(dir)?.iter().filter(|entry| !entry.is_dir) {
            let file = disk.open(Point::DatabaseOpen, &dir.join(&entry.name), Open::Read)?;
            let (mut buffer, mut offset) = (vec![0; 1024 * 1024], 0);
            loop {
                match file.read_at(Point::DatabaseRead, &mut buffer, offset)? {
                    0 => break,
                    read => offset += read as u64,
                }
            }
        }
        Ok::<(), DiskError>(())
    };
    match read_all() {
        Err(unreadable) if e.is_damage() => DatabaseError::Disk(unreadable),
        _ => e,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Written once; nothing is lost when it is closed and opened again.
    Once,
    /// It is being written.
    InPlace,
}

#[derive(Debug)]
pub struct SledDatabase {
    opened: RwLock<Opened>,
    kind: Kind,
    disk: Disk,
    dir: PathBuf,
    /// Our own descriptor of sled's file: sled's flush is no fsync. None only while it is dropped.
    file: Option<DiskFile>,
}

#[derive(Debug)]
struct Opened {
    /// None after it could not be opened again; the next step tries it once more.
    db: Option<sled::Db>,
    /// What sled may keep in memory.
    loaded: AtomicUsize,
}

/// Removes what a kill has left of a snapshot that sled was writing. sled takes it for the newest one, and the database for
/// damaged. Snapshots hold nothing that is not in the database.
fn remove_unfinished_snapshots(disk: &Disk, dir: &Path) -> Result<(), DatabaseError> {
    for entry in disk.list(dir)? {
        if entry.name.starts_with("snap.") && entry.name.ends_with(".generating") {
            disk.remove_file(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}

impl SledDatabase {
    /// See [`Database::open`](super::Database::open). Blocks.
    ///
    /// # Errors
    /// As [`Database::open`](super::Database::open).
    pub fn open(disk: &Disk, dir: &Path, expected_bytes: Option<u64>) -> Result<SledDatabase, DatabaseError> {
        SledDatabase::open_existing(disk, dir, expected_bytes, Kind::Once)
    }

    fn open_existing(
        disk: &Disk,
        dir: &Path,
        expected_bytes: Option<u64>,
        kind: Kind,
    ) -> Result<SledDatabase, DatabaseError> {
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
        wait_for_lock(&file, dir)?;
        check_length(dir, file.len()?, expected_bytes)?;
        // sled would make it, with the parameters of today
        disk.open(Point::DatabaseOpen, &dir.join("conf"), Open::Read)?;
        remove_unfinished_snapshots(disk, dir)?;
        SledDatabase::open_any(disk, dir, kind)
    }

    /// See [`Database::open_in_place`](super::Database::open_in_place). Blocks.
    ///
    /// # Errors
    /// As [`Database::open_in_place`](super::Database::open_in_place).
    pub fn open_in_place(disk: &Disk, dir: &Path) -> Result<SledDatabase, DatabaseError> {
        let conf = dir.join("conf");
        // both are durable before anything else is
        if disk.exists(&conf)? && disk.len(&dir.join("db"))?.is_some_and(|bytes| bytes > 0) {
            return SledDatabase::open_existing(disk, dir, None, Kind::InPlace);
        }
        disk.create_dir_all(dir)?;
        drop(disk.open(Point::DatabaseOpen, &dir.join("db"), Open::CreateOrOpen)?);
        let db = SledDatabase::open_any(disk, dir, Kind::InPlace)?;
        db.sync()?;
        sync_files(disk, dir)?;
        sync_folders(disk, dir)?;
        Ok(db)
    }

    fn open_any(disk: &Disk, dir: &Path, kind: Kind) -> Result<SledDatabase, DatabaseError> {
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
        let db = guarded(dir, || config(dir).open()).map_err(|e| blame(disk, dir, e))?;
        let blobs = dir.join("blobs");
        if disk.exists(&blobs)? {
            // sled makes it for everybody
            disk.restrict_folder(&blobs)?;
        }
        let opened = RwLock::new(Opened { db: Some(db), loaded: AtomicUsize::new(0) });
        Ok(SledDatabase { opened, kind, disk: disk.clone(), dir: dir.to_path_buf(), file: Some(file) })
    }

    fn file(&self) -> &DiskFile {
        self.file.as_ref().expect("it is there until the database is dropped")
    }

    /// Closes it and opens it again, which frees what sled keeps in memory. Blocks.
    ///
    /// # Errors
    /// It cannot be opened again; the next call on it tries once more.
    pub fn reopen(&self) -> Result<(), DatabaseError> {
        self.reopen_behind(&mut self.opened.write())
    }

    fn reopen_behind(&self, opened: &mut Opened) -> Result<(), DatabaseError> {
        let failed = |source| DatabaseError::Failed { path: self.dir.join("db"), source };
        self.close_behind(opened);
        self.disk.faults().check(Point::DatabaseOpen).map_err(failed)?;
        wait_for_lock(self.file(), &self.dir)?;
        let db = guarded(&self.dir, || config(&self.dir).open()).map_err(|e| blame(&self.disk, &self.dir, e))?;
        *opened = Opened { db: Some(db), loaded: AtomicUsize::new(0) };
        Ok(())
    }

    fn close_behind(&self, opened: &mut Opened) {
        let Some(db) = opened.db.take() else { return };
        let mut closed = CLOSED.lock();
        closed.retain(|_, at| at.elapsed() < LOCK_WAIT);
        closed.insert(self.dir.clone(), Instant::now());
        drop(closed);
        // it syncs, and panics when that fails; nobody relies on that sync
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            log::error!(database:display = self.dir.display(); "the database did not close as it should");
        }
    }

    fn close(mut self) -> DiskFile {
        self.file.take().expect("it is there until the database is dropped")
    }

    /// Runs a step of sled that makes it keep about so many bytes more in memory.
    fn step<T>(
        &self,
        point: Point,
        loads_bytes: usize,
        step: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, DatabaseError> {
        let failed = |source| DatabaseError::Failed { path: self.dir.join("db"), source };
        self.disk.faults().check(point).map_err(failed)?;
        let mut opened = self.opened.upgradable_read();
        if opened.db.is_none() || self.is_large(&opened) {
            let mut write = RwLockUpgradableReadGuard::upgrade(opened);
            self.reopen_behind(&mut write)?;
            opened = parking_lot::RwLockWriteGuard::downgrade_to_upgradable(write);
        }
        let opened = RwLockUpgradableReadGuard::downgrade(opened);
        let db = opened.db.as_ref().expect("it was opened just now");
        opened.loaded.fetch_add(loads_bytes, Ordering::Relaxed);
        guarded(&self.dir, || step(db)).map_err(|e| blame(&self.disk, &self.dir, e))
    }

    /// Whether sled keeps more in memory than it should. A database that is written is only closed by who writes it: the
    /// close tells of no error of what was not flushed.
    fn is_large(&self, opened: &Opened) -> bool {
        self.kind == Kind::Once
            && opened.loaded.load(Ordering::Relaxed) >= LOADED_BYTES
            // it keeps no more than there is
            && self.file().len().is_ok_and(|bytes| bytes > LOADED_BYTES as u64)
    }

    /// See [`Database::get`](super::Database::get). Blocks.
    ///
    /// # Errors
    /// As [`Database::get`](super::Database::get).
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DatabaseError> {
        let value = self.step(Point::DatabaseRead, 0, |db| db.get(key))?.map(Bytes::from_owner);
        self.count_loaded(value.iter().map(Bytes::len));
        Ok(value)
    }

    /// Counts what sled loaded for values of these lengths: the leaves that they are in.
    fn count_loaded(&self, values: impl Iterator<Item = usize>) {
        let (count, longest) = values.fold((0, 0), |(count, longest), len| (count + 1, len.max(longest)));
        let leaves = count / LEAF_VALUES + 1;
        self.opened.read().loaded.fetch_add(leaves * LEAF_VALUES * longest, Ordering::Relaxed);
    }

    /// See [`Database::fetch`](super::Database::fetch). Blocks.
    ///
    /// # Errors
    /// The disk fails or sled finds damage.
    pub fn fetch(
        &self,
        low: &Bound<Bytes>,
        high: &Bound<Bytes>,
        is_back: bool,
        limit: usize,
    ) -> Result<Entries, DatabaseError> {
        let fetched = self.step(Point::DatabaseRead, 0, |db| {
            let mut entries = db.range::<Bytes, _>((low.clone(), high.clone()));
            let mut fetched = Entries::with_capacity(limit);
            while fetched.len() < limit {
                let entry = if is_back { entries.next_back() } else { entries.next() };
                let Some((key, value)) = entry.transpose()? else { break };
                fetched.push_back((Bytes::from_owner(key), Bytes::from_owner(value)));
            }
            Ok(fetched)
        })?;
        self.count_loaded(fetched.iter().map(|(_, value)| value.len()));
        Ok(fetched)
    }

    /// See [`Database::apply`](super::Database::apply). Blocks.
    ///
    /// # Errors
    /// As [`Database::apply`](super::Database::apply).
    pub fn apply(&self, batch: Batch) -> Result<(), DatabaseError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        self.step(Point::DatabaseWrite, 0, |db| db.apply_batch(changes))
    }

    /// See [`Database::sync`](super::Database::sync). Blocks.
    ///
    /// # Errors
    /// As [`Database::sync`](super::Database::sync).
    pub fn sync(&self) -> Result<(), DatabaseError> {
        self.step(Point::DatabaseWrite, 0, |db| db.flush())?;
        Ok(self.file().sync_data(Point::DatabaseSync)?)
    }

    /// The length of the file `db`. Blocks.
    ///
    /// # Errors
    /// The length of the file cannot be told.
    pub fn bytes(&self) -> Result<u64, DatabaseError> {
        Ok(self.file().len()?)
    }

    /// About what sled keeps in memory: what was read, and no more than there is.
    pub fn loaded_bytes(&self) -> usize {
        let loaded = self.opened.read().loaded.load(Ordering::Relaxed);
        self.file().len().map_or(loaded, |bytes| loaded.min(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }
}

impl Drop for SledDatabase {
    fn drop(&mut self) {
        let mut opened = std::mem::replace(self.opened.get_mut(), Opened { db: None, loaded: AtomicUsize::new(0) });
        self.close_behind(&mut opened);
    }
}
