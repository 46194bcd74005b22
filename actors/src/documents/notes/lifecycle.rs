//! How the notes are opened, begun, checked, opened again and closed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::integrity::{self, Integrity, Totals};
use super::{
    About, CLOSED, DatabaseState, FRESH, NOTES, Notes, NotesError, NotesOptions, OPENED, RETRY_MS, ROOM_BYTES,
};
use crate::disk::database::Batch;
use crate::disk::{Database, DatabaseError, Disk, DiskError, Point};
use crate::documents::manifest::{LogId, log_id_text};

/// Why notes that are sound are not used.
const OTHERS: &str = "they are those of another data folder";

impl Notes {
    /// Opens the notes of a data folder, or begins them. Damaged ones are removed and begun anew, and that is said in the
    /// log; where the disk has no room for that, or for opening them, they stay closed until it has. Blocks.
    ///
    /// # Errors
    /// Any other reason why they do not open. Nothing is removed then.
    pub fn open(disk: &Disk, data_dir: &Path, options: NotesOptions) -> Result<Notes, NotesError> {
        let notes = Notes {
            disk: disk.clone(),
            data_dir: data_dir.into(),
            min_free_bytes: options.min_free_bytes,
            database: RwLock::new(DatabaseState::Closed {
                why: "not open yet".into(),
                is_damaged: false,
                not_before_ms: 0,
            }),
            integrity: Mutex::default(),
            synced: Mutex::default(),
            was_lost: AtomicBool::new(false),
            own: OnceLock::new(),
        };
        match notes.open_or_begin(options.is_new_folder, options.now_ms) {
            // everything else can be read, so the start goes on
            Err(e) if e.is_full() && !options.is_new_folder => {
                log::error!("the notes (delivery log, counters, dead letters) stay closed for now: {e}; {}", e.cure());
                *notes.database.write() =
                    DatabaseState::Closed { why: e.to_string(), is_damaged: false, not_before_ms: 0 };
            }
            opened => opened?,
        }
        Ok(notes)
    }

    /// Makes sure that these are the notes that the last start has left beside this log: those of another data folder are begun
    /// anew, and an older copy has lost what was noted since. Both are announced. On a full disk it is left to the next start.
    /// To be called once after [`Notes::open`]. Blocks.
    ///
    /// # Errors
    /// What the disk or the database says.
    pub fn recognise(&self, log: &LogId, now_ms: u64) -> Result<(), NotesError> {
        match self.recognise_or_fail(log, now_ms) {
            Err(e) if e.is_full() => {
                log::warn!("whether the notes are the right ones is looked at by the next start: {e}");
                Ok(())
            }
            done => done,
        }
    }

    fn recognise_or_fail(&self, log: &LogId, now_ms: u64) -> Result<(), NotesError> {
        let own = log_id_text(log);
        let path = self.data_dir.join(OPENED);
        let counted = match self.disk.read(Point::ManifestRead, &path) {
            Ok(text) => read_count(&text),
            Err(e) if e.is_missing() => 0,
            Err(e) => return Err(e.into()),
        };
        self.own.get_or_init(|| own.clone());
        let is_other = self.integrity.lock().about.log.as_ref().is_some_and(|log| *log != own);
        if is_other {
            let why = OTHERS.into();
            *self.database.write() = DatabaseState::Closed { why, is_damaged: false, not_before_ms: 0 };
            self.integrity.lock().about = About::default();
            self.open_or_begin(false, now_ms)?;
        }
        let mut integrity = self.integrity.lock();
        // notes that were begun anew just now have said so
        if integrity.about.log.is_some() && integrity.about.opened < counted && !self.was_lost() {
            log::error!(
                "the notes (delivery log, counters, dead letters) are an older copy; what was noted since is lost"
            );
            integrity.about.numbered_from = now_ms.max(integrity.about.numbered_from);
            self.with(|db| self.note_loss(&mut integrity, db))?;
        }
        integrity.about.log = Some(own);
        integrity.about.opened = integrity.about.opened.max(counted) + 1;
        let mut batch = Batch::default();
        integrity.write_into(&mut batch);
        self.with(|db| {
            db.apply(batch)?;
            db.sync()
        })?;
        // only now, so that a crash in between is taken for nothing
        Ok(self.disk.replace(Point::ManifestWrite, &path, &count_text(integrity.about.opened))?)
    }

    /// Removes the notes of a data folder, for a migration that starts from the beginning. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub(in crate::documents) fn remove(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
        disk.remove_dir_all(&data_dir.join(NOTES))?;
        disk.sync_dir(data_dir)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.data_dir.join(NOTES)
    }

    /// Opens the database, which is closed, or begins one.
    fn open_or_begin(&self, is_new_folder: bool, now_ms: u64) -> Result<(), NotesError> {
        let mut integrity = self.integrity.lock();
        let damage = match self.open_existing() {
            Ok(Some((db, read))) => {
                let is_behind = self.is_behind(&read.totals)?;
                *integrity = read;
                self.was_lost.fetch_or(integrity.about.is_loss_unannounced, Ordering::Relaxed);
                if is_behind {
                    log::error!("some of the latest notes (delivery log, counters, dead letters) are lost");
                    self.note_loss(&mut integrity, &db)?;
                }
                *self.database.write() = DatabaseState::Open(Arc::new(db));
                return Ok(());
            }
            Ok(None) => "they are missing".into(),
            Err(DatabaseError::Damaged { why, .. }) => why,
            Err(e) => return Err(e.into()),
        };
        let free_bytes = self.disk.free_bytes(&self.data_dir).unwrap_or(u64::MAX);
        // on a full disk sled fails in ways that look like damage
        if free_bytes < ROOM_BYTES {
            return Err(NotesError::Full { free_bytes });
        }
        if !is_new_folder || self.disk.exists(&self.dir())? {
            return self.begin_again(&mut integrity, &damage, now_ms);
        }
        let about = About { begun_ms: now_ms, ..About::default() };
        let db = self.begin(&about)?;
        *integrity = Integrity { about, ..Integrity::default() };
        *self.database.write() = DatabaseState::Open(Arc::new(db));
        Ok(())
    }

    /// The database with what it says of its entries; none when there is none.
    fn open_existing(&self) -> Result<Option<(Database, Integrity)>, DatabaseError> {
        let dir = self.dir();
        let path = dir.join("db");
        if !self.disk.exists(&path)? {
            return Ok(None);
        }
        let db = Database::open_in_place(&self.disk, &dir)?;
        let no_beginning = || DatabaseError::Damaged { path, why: "it has no beginning".into() };
        let integrity = integrity::read(&db)?.ok_or_else(no_beginning)?;
        if integrity.about.log.as_ref().zip(self.own.get()).is_some_and(|(log, own)| log != own) {
            return Err(DatabaseError::Damaged { path: dir.join("db"), why: OTHERS.into() });
        }
        Ok(Some((db, integrity)))
    }

    /// Gives up what is there.
    fn begin_again(&self, integrity: &mut Integrity, why: &str, now_ms: u64) -> Result<(), NotesError> {
        log::error!(folder:display = self.dir().display(), reason = why;
            "the notes (delivery log, counters, dead letters) are lost and are begun anew");
        let numbered_from = now_ms.max(integrity.about.numbered_from);
        // what they were known by stays
        let about = About { begun_ms: now_ms, numbered_from, is_loss_unannounced: true, ..integrity.about.clone() };
        let db = self.begin(&about)?;
        self.was_lost.store(true, Ordering::Relaxed);
        *integrity = Integrity { about, ..Integrity::default() };
        *self.database.write() = DatabaseState::Open(Arc::new(db));
        Ok(())
    }

    /// Puts a database without notes in the place of what is there.
    fn begin(&self, about: &About) -> Result<Database, NotesError> {
        let (dir, fresh) = (self.dir(), self.data_dir.join(FRESH));
        self.disk.remove_dir_all(&fresh)?;
        Database::write(&self.disk, &fresh, integrity::first_entries(about).into_iter())?;
        self.disk.remove_dir_all(&dir)?;
        self.disk.rename(&fresh, &dir)?;
        self.disk.sync_dir(&self.data_dir)?;
        Ok(Database::open_in_place(&self.disk, &dir)?)
    }

    /// Whether the last close in order has left more than is there.
    fn is_behind(&self, totals: &Totals) -> Result<bool, NotesError> {
        let path = self.dir().join(CLOSED);
        if !self.disk.exists(&path)? {
            return Ok(false);
        }
        let text = self.disk.read(Point::ManifestRead, &path)?;
        let is_other = Totals::from_bytes(&text).is_none_or(|closed| closed != *totals);
        // it is wrong from the first write on
        self.disk.remove_file(&path)?;
        self.disk.sync_dir(&self.dir())?;
        Ok(is_other)
    }

    /// Remembers that something is gone until it was announced.
    pub(super) fn note_loss(&self, integrity: &mut Integrity, db: &Database) -> Result<(), DatabaseError> {
        self.was_lost.store(true, Ordering::Relaxed);
        integrity.about.is_loss_unannounced = true;
        let mut batch = Batch::default();
        integrity.write_into(&mut batch);
        db.apply(batch)
    }

    /// Opens a database that has failed again when there is room, and checks a little of the notes that were there at the
    /// start. To be called about once a second. `now_ms`: Unix milliseconds. Blocks.
    pub fn step(&self, now_ms: u64) {
        let is_closed = {
            let mut database = self.database.write();
            match &mut *database {
                DatabaseState::Open(_) => false,
                // a clock that stepped back makes it wait no longer
                DatabaseState::Closed { not_before_ms, .. }
                    if (*not_before_ms..not_before_ms.saturating_add(RETRY_MS)).contains(&now_ms) =>
                {
                    return;
                }
                DatabaseState::Closed { not_before_ms, .. } => {
                    *not_before_ms = now_ms;
                    true
                }
            }
        };
        if is_closed {
            self.open_again(now_ms);
        } else if let Err(e) = self.check_some() {
            log::debug!("the notes were not checked: {e}");
        }
    }

    fn open_again(&self, now_ms: u64) {
        if self.disk.free_bytes(&self.data_dir).is_some_and(|free| free < ROOM_BYTES.max(self.min_free_bytes)) {
            return;
        }
        let was_damaged = matches!(&*self.database.read(), DatabaseState::Closed { is_damaged: true, .. });
        match self.open_or_begin(false, now_ms) {
            Ok(()) => log::info!("the notes are open again"),
            Err(e) => {
                if let DatabaseState::Closed { why, .. } = &mut *self.database.write()
                    && *why != e.to_string()
                {
                    log::error!("the notes stay closed for now: {e}; {}", e.cure());
                    *why = e.to_string();
                }
                return;
            }
        }
        if was_damaged && let Err(e) = self.check_all(now_ms) {
            log::error!("the notes could not be checked: {e}");
        }
    }

    /// Checks notes that sled has called damaged, and begins anew when it does so again: a database may open and fail only
    /// when a certain note is read.
    fn check_all(&self, now_ms: u64) -> Result<(), NotesError> {
        while !self.is_checked() {
            match self.check_some() {
                Err(NotesError::Database(e)) if e.is_damage() => {
                    let mut integrity = self.integrity.lock();
                    return self.begin_again(&mut integrity, &e.to_string(), now_ms);
                }
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Checks the next entries of what was there at the start.
    fn check_some(&self) -> Result<(), NotesError> {
        let mut integrity = self.integrity.lock();
        let Some(loss) = self.with(|db| integrity.walk_on(db))? else { return Ok(()) };
        log::error!(reason = loss.as_str(); "some notes (delivery log, counters, dead letters) are lost");
        self.with(|db| self.note_loss(&mut integrity, db))
    }

    /// Closes the notes in order, so that the next start knows what has to be there. Blocks.
    ///
    /// # Errors
    /// What the disk or the database says. Everything that was written is durable all the same.
    pub fn close(&self) -> Result<(), NotesError> {
        let integrity = self.integrity.lock();
        self.with(Database::sync)?;
        *self.database.write() =
            DatabaseState::Closed { why: "the server stops".into(), is_damaged: false, not_before_ms: u64::MAX };
        let closed = self.dir().join(CLOSED);
        Ok(self.disk.replace(Point::ManifestWrite, &closed, &integrity.totals.to_bytes())?)
    }
}

/// A count with its CRC-32C, as a line that is always as long.
fn count_text(count: u64) -> Vec<u8> {
    let digits = format!("{count:020}");
    format!("{:08x} {digits}\n", crc32c::crc32c(digits.as_bytes())).into_bytes()
}

/// The count; 0 where the text is damaged, by which nothing is judged.
fn read_count(text: &[u8]) -> u64 {
    let count = str::from_utf8(text).ok().and_then(|text| text.trim_end().split_once(' ')?.1.parse().ok());
    count.filter(|count| text == count_text(*count)).unwrap_or(0)
}
