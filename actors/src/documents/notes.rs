//! Notes: what is only for people. The delivery log, what sources have counted, and dead letters.
//!
//! They are in a sled database of their own that is written in place. No promise of the server rests on them: damage costs
//! what it hits, or all of them, and is announced ([`Notes::was_lost`]). Whatever else keeps the database from being opened
//! ends the start, as with every file.
//!
//! sled keeps the first error of the disk for good. So a database that has failed is closed; [`Notes::step`] opens it again
//! when there is room. Until then reads and writes answer [`NotesError::Closed`]. A write is refused before sled sees it
//! while the disk is nearly full, so that reading goes on.
//!
//! sled may also lose entries in silence. So the number and a sum of all entries are kept with each write, every entry has
//! a checksum, and after a start [`Notes::step`] walks through all of them once and compares.

mod copying;
mod entry;
mod integrity;
mod lifecycle;
#[cfg(test)]
mod tests;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::copying::NotesPage;
pub use self::entry::{NOTE_BYTES_MAX, NoteChange, NoteTable};
use self::integrity::Integrity;
use crate::disk::database::Batch;
use crate::disk::{Cure, Database, DatabaseError, Disk, DiskError};

const NOTES: &str = "notes";
/// Notes that are being begun, beside the others until they are complete.
const FRESH: &str = "notes.new";
/// Within the folder: what the notes were when they were closed in order; gone while they are open.
const CLOSED: &str = "closed";
/// Beside the folder: how often the notes were opened, so that an older copy in their place is noticed.
const OPENED: &str = "notes-opened";
/// Room that has to be free before a database is opened again: opening one writes up to 20 MB.
const ROOM_BYTES: u64 = 32 * 1024 * 1024;
/// What follows in a key after the id of whom the note belongs to, at most.
const KEY_REST_BYTES_MAX: usize = 16;
/// Between two attempts to open the database again.
const RETRY_MS: u64 = 2_000;

#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Opened again by [`Notes::step`].
    #[error("the notes are closed since their database has failed: {why}")]
    Closed { why: String },
    #[error("the notes are not written while the disk is nearly full: {free_bytes} bytes are free")]
    Full { free_bytes: u64 },
    #[error("a note cannot be written: {table} {key}: {source}")]
    Unwritable { table: &'static str, key: String, source: serde_json::Error },
    #[error("a note is too large: {table} {key} takes {bytes} bytes")]
    TooLarge { table: &'static str, key: String, bytes: usize },
}

impl NotesError {
    /// Whether there is no room, so that they are written later.
    pub fn is_full(&self) -> bool {
        match self {
            NotesError::Disk(e) => e.is_full(),
            NotesError::Database(e) => e.is_full(),
            NotesError::Full { .. } | NotesError::Closed { .. } => true,
            NotesError::Unwritable { .. } | NotesError::TooLarge { .. } => false,
        }
    }

    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            NotesError::Disk(e) => e.cure(),
            NotesError::Database(e) => e.cure(),
            NotesError::Closed { .. } | NotesError::Full { .. } => Cure::adjust("make room on the file system"),
            NotesError::Unwritable { .. } | NotesError::TooLarge { .. } => {
                Cure::adjust("report this as a fault of the server")
            }
        }
    }
}

/// In which order a range is read, and from where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageFrom<'a> {
    Start,
    /// Ascending, strictly after this own key.
    After(&'a [u8]),
    End,
    /// Descending, strictly before this own key.
    Before(&'a [u8]),
}

/// How the notes of a data folder are opened.
#[derive(Clone, Copy, Debug)]
pub struct NotesOptions {
    /// Nothing was ever in the data folder, so notes that are missing were not lost.
    pub is_new_folder: bool,
    /// Unix milliseconds; from there on dead letters are numbered when the notes were lost.
    pub now_ms: u64,
    /// Below this nothing is written.
    pub min_free_bytes: u64,
}

/// What the notes say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct About {
    begun_ms: u64,
    /// Dead letters have higher numbers than this.
    numbered_from: u64,
    /// A loss that nobody was told of.
    is_loss_unannounced: bool,
    /// Which log they stand beside, in hexadecimal; none where an earlier version wrote it.
    #[serde(default)]
    log: Option<String>,
    /// How often they were opened.
    #[serde(default)]
    opened: u64,
}

pub struct Notes {
    disk: Disk,
    data_dir: PathBuf,
    min_free_bytes: u64,
    database: RwLock<DatabaseState>,
    /// Held over each write, which updates it.
    integrity: Mutex<Integrity>,
    synced: Mutex<Synced>,
    was_lost: AtomicBool,
    /// The log that they stand beside, once that is known.
    own: OnceLock<String>,
}

/// The database, or why it is closed.
enum DatabaseState {
    Open(Arc<Database>),
    Closed { why: String, is_damaged: bool, not_before_ms: u64 },
}

/// Which writes are durable: those up to `durable` of `applied`.
#[derive(Default)]
struct Synced {
    applied: u64,
    durable: u64,
}

impl Notes {
    /// Whether notes were lost and that was not announced yet.
    pub fn was_lost(&self) -> bool {
        self.was_lost.load(Ordering::Relaxed)
    }

    /// Notes that a loss was announced. Blocks.
    ///
    /// # Errors
    /// It may be announced once more after a restart.
    pub fn announced(&self) -> Result<(), NotesError> {
        self.was_lost.store(false, Ordering::Relaxed);
        let mut integrity = self.integrity.lock();
        integrity.about.is_loss_unannounced = false;
        let mut batch = Batch::default();
        integrity.write_into(&mut batch);
        self.with(|db| db.apply(batch))
    }

    /// What the notes take on disk. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn disk_bytes(&self) -> Result<u64, NotesError> {
        fn of(disk: &Disk, dir: &Path) -> Result<u64, DiskError> {
            let mut bytes = 0;
            for entry in disk.list(dir)? {
                let path = dir.join(&entry.name);
                // a file may go while the others are counted
                bytes += if entry.is_dir { of(disk, &path)? } else { disk.len(&path)?.unwrap_or(0) };
            }
            Ok(bytes)
        }
        Ok(of(&self.disk, &self.dir())?)
    }

    /// How many notes there are, and the bytes of their keys and texts.
    pub fn volume(&self) -> (u64, u64) {
        let integrity = self.integrity.lock();
        (integrity.totals.entries, integrity.totals.bytes)
    }

    /// Runs a step on the database, which is closed when it fails.
    fn with<T>(&self, step: impl FnOnce(&Database) -> Result<T, DatabaseError>) -> Result<T, NotesError> {
        let db = match &*self.database.read() {
            DatabaseState::Open(db) => db.clone(),
            DatabaseState::Closed { why, .. } => return Err(NotesError::Closed { why: why.clone() }),
        };
        step(&db).map_err(|e| {
            let mut database = self.database.write();
            if matches!(&*database, DatabaseState::Open(open) if Arc::ptr_eq(open, &db)) {
                log::error!("the notes (delivery log, counters, dead letters) are closed for now: {e}; {}", e.cure());
                *database = DatabaseState::Closed { why: e.to_string(), is_damaged: e.is_damage(), not_before_ms: 0 };
            }
            e.into()
        })
    }

    /// A note; none also when it is damaged, which is said in the log. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn get<T: DeserializeOwned>(&self, table: NoteTable, own: impl AsRef<[u8]>) -> Result<Option<T>, NotesError> {
        let key = entry::full_key(table, own.as_ref());
        let text = self.with(|db| match db.get(&key)? {
            Some(value) => entry::whole(db, &key, &value).map(Some),
            None => Ok(None),
        })?;
        Ok(text.and_then(|text| self.parsed(&key, text)))
    }

    fn parsed<T: DeserializeOwned>(&self, key: &[u8], text: Option<Vec<u8>>) -> Option<T> {
        let parsed = text.and_then(|text| serde_json::from_slice(&text).ok());
        if parsed.is_none() {
            log::error!(note:display = entry::shown(key); "a note is damaged and is left out");
            self.was_lost.store(true, Ordering::Relaxed);
        }
        parsed
    }

    /// All notes of a table whose own key begins with `prefix`, in the order of keys: (own key, note). Damaged ones are left
    /// out, which is said in the log. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn scan<T: DeserializeOwned>(&self, table: NoteTable, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, NotesError> {
        self.page(table, prefix, PageFrom::Start, usize::MAX)
    }

    /// A page of [`Notes::scan`], of at most `limit` notes from a key on, in either order. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn page<T: DeserializeOwned>(
        &self,
        table: NoteTable,
        prefix: &[u8],
        from: PageFrom<'_>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, NotesError> {
        let texts =
            self.read(table, prefix, from, limit, |db, key, value| Ok((key.to_vec(), entry::whole(db, key, value)?)))?;
        let parsed = texts.into_iter().filter_map(|(key, text)| Some((key[1..].to_vec(), self.parsed(&key, text)?)));
        Ok(parsed.collect())
    }

    /// The own keys of a page of [`Notes::scan`]. No note is parsed. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn keys(
        &self,
        table: NoteTable,
        prefix: &[u8],
        from: PageFrom<'_>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, NotesError> {
        self.read(table, prefix, from, limit, |_, key, _| Ok(key[1..].to_vec()))
    }

    fn read<T>(
        &self,
        table: NoteTable,
        prefix: &[u8],
        from: PageFrom<'_>,
        limit: usize,
        mut take: impl FnMut(&Database, &[u8], &[u8]) -> Result<T, DatabaseError>,
    ) -> Result<Vec<T>, NotesError> {
        let prefix = entry::full_key(table, prefix);
        let end = entry::after_prefix(&prefix);
        let (low, high, is_forward) = match from {
            PageFrom::Start => (Bound::Included(prefix), Bound::Excluded(end), true),
            PageFrom::After(own) => {
                (Bound::Excluded(entry::full_key(table, own).max(prefix)), Bound::Excluded(end), true)
            }
            PageFrom::End => (Bound::Included(prefix), Bound::Excluded(end), false),
            PageFrom::Before(own) => {
                (Bound::Included(prefix), Bound::Excluded(entry::full_key(table, own).min(end)), false)
            }
        };
        if integrity::is_empty_range(&low, &high) {
            return Ok(Vec::new());
        }
        self.with(|db| {
            let mut entries = db.range((low.clone(), high.clone()));
            let mut found = Vec::new();
            while found.len() < limit {
                let entry = if is_forward { entries.next() } else { entries.next_back() };
                let Some(entry) = entry else { break };
                let (key, value) = entry?;
                found.push(take(db, &key, &value)?);
            }
            Ok(found)
        })
    }

    /// Whose notes there are in a table: the ids, of `id_bytes` bytes, with which the own keys begin, each once. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn owners(&self, table: NoteTable, id_bytes: usize) -> Result<Vec<String>, NotesError> {
        let (mut owners, mut from) = (Vec::new(), Vec::new());
        loop {
            let from_where = if from.is_empty() { PageFrom::Start } else { PageFrom::After(&from) };
            let Some(key) = self.keys(table, b"", from_where, 1)?.pop() else { return Ok(owners) };
            // what is stored under another kind of key belongs to nobody
            match key.get(..id_bytes).and_then(|id| std::str::from_utf8(id).ok()) {
                Some(id) => {
                    owners.push(id.to_owned());
                    // no text has this byte, so every key of the same owner is before it
                    from = [id.as_bytes(), &[u8::MAX; KEY_REST_BYTES_MAX]].concat();
                }
                None => from = key,
            }
        }
    }

    /// The deletion of all notes of a table whose own key begins with `prefix`. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn clear(&self, table: NoteTable, prefix: &[u8]) -> Result<Vec<NoteChange>, NotesError> {
        let keys = self.keys(table, prefix, PageFrom::Start, usize::MAX)?;
        Ok(keys.into_iter().map(|own| NoteChange::delete(table, own)).collect())
    }

    /// The highest number that a dead letter of a source ever had. Deleting letters does not lower it, nor does the loss of
    /// all notes: then the numbers go on from the time of the loss in Unix milliseconds. Blocks.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn last_number(&self, source: &str) -> Result<u64, NotesError> {
        let counted = self.get::<u64>(NoteTable::Numbers, source)?.unwrap_or(0);
        Ok(counted.max(self.integrity.lock().about.numbered_from))
    }

    /// Writes all changes or none; durable when it returns. Writers that come while another one syncs share the next
    /// sync. Deletions alone are also written below the floor. Blocks.
    ///
    /// # Errors
    /// The disk is nearly full, or the database does not answer.
    pub fn write(&self, changes: &[NoteChange]) -> Result<(), NotesError> {
        if changes.is_empty() {
            return Ok(());
        }
        let free_bytes = self.disk.free_bytes(&self.data_dir).unwrap_or(u64::MAX);
        // what somebody deletes goes as long as there is room for that at all
        let is_deletion = changes.iter().all(|change| change.text.is_none());
        let floor_bytes = if is_deletion { self.min_free_bytes.min(ROOM_BYTES) } else { self.min_free_bytes };
        if free_bytes < floor_bytes {
            return Err(NotesError::Full { free_bytes });
        }
        {
            let mut integrity = self.integrity.lock();
            let planned = self.with(|db| {
                let planned = integrity.plan(db, changes)?;
                db.apply(planned.batch.clone())?;
                Ok(planned)
            })?;
            integrity.applied(planned);
        }
        let mine = {
            let mut synced = self.synced.lock();
            synced.applied += 1;
            synced.applied
        };
        self.sync(mine)
    }

    /// Returns when write number `mine` is durable, by its own sync or by that of another writer.
    fn sync(&self, mine: u64) -> Result<(), NotesError> {
        let mut synced = self.synced.lock();
        if synced.durable >= mine {
            return Ok(());
        }
        let covered = synced.applied;
        self.with(Database::sync)?;
        synced.durable = covered;
        Ok(())
    }

    /// Whether everything that was there at the start was checked.
    pub fn is_checked(&self) -> bool {
        self.integrity.lock().walk.is_none()
    }
}
