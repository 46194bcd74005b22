//! The data folder that a backup is restored into: from an empty folder to one that a server starts on.

use std::path::{Path, PathBuf};

use super::{BackupError, MARK};
use crate::clock::Clock;
use crate::disk::{DataFormat, DataLock, Disk, DiskError, Point};
use crate::documents::notes::{NoteChange, Notes, NotesOptions};
use crate::documents::{self, Change, Documents, Generations, Table};
use crate::journal::CHANNEL_NUMBERS;
use crate::log::LossChange;
use crate::wal::{self, LogId, Wal};

/// Notes are written in batches of about this size.
const BATCH_BYTES: usize = 1024 * 1024;
/// Names that may be in a folder all the same: the file system's own folder at its top, and a lock, which says nothing.
const IGNORED: [&str; 2] = ["lost+found", "lock"];

/// A folder that is being filled. Its mark is there until [`Folder::finish`].
pub struct Folder {
    pub disk: Disk,
    pub data_dir: PathBuf,
    pub log_id: LogId,
    wal: wal::Options,
    documents: Vec<Change>,
    notes: Notes,
    batch: Vec<NoteChange>,
    batch_bytes: usize,
}

/// What a folder has to hold before it can be filled.
///
/// # Errors
/// [`BackupError::NotEmpty`], [`BackupError::HalfRestored`], or what the disk says.
pub fn expect_empty(disk: &Disk, data_dir: &Path) -> Result<(), BackupError> {
    if !disk.exists(data_dir)? {
        return Ok(());
    }
    refuse_half_restored(disk, data_dir)?;
    match names(disk, data_dir)?.iter().any(|name| !IGNORED.contains(&name.as_str())) {
        true => Err(BackupError::NotEmpty(data_dir.into())),
        false => Ok(()),
    }
}

/// Refuses a folder in which a restore has not come to its end. Blocks.
///
/// # Errors
/// [`BackupError::HalfRestored`], or what the disk says.
pub fn refuse_half_restored(disk: &Disk, data_dir: &Path) -> Result<(), BackupError> {
    match disk.exists(&data_dir.join(MARK))? {
        true => Err(BackupError::HalfRestored(data_dir.into())),
        false => Ok(()),
    }
}

fn names(disk: &Disk, data_dir: &Path) -> Result<Vec<String>, DiskError> {
    Ok(disk.list(data_dir)?.into_iter().map(|entry| entry.name).collect())
}

/// Makes a folder and those above it that are missing, durably and for the owner alone, and takes its lock. Blocks.
///
/// # Errors
/// The folder cannot be made or synced, or another process holds its lock.
pub fn make(disk: &Disk, data_dir: &Path) -> Result<DataLock, BackupError> {
    disk.make_folder(data_dir)?;
    disk.restrict_folder(data_dir)?;
    Ok(DataLock::take(disk, data_dir)?)
}

/// Puts the mark into a folder, before anything else. Blocks.
///
/// # Errors
/// The mark cannot be written durably.
pub fn mark(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
    disk.replace(Point::BackupWrite, &data_dir.join(MARK), b"a backup is being restored into this folder\n")
}

/// Takes the mark away from a folder that is complete. Blocks.
///
/// # Errors
/// The mark cannot be removed durably; the folder still counts as half restored then.
pub fn unmark(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
    disk.remove_file(&data_dir.join(MARK))?;
    disk.sync_dir(data_dir)
}

/// Empties a folder after a failure; the mark goes last. Blocks.
///
/// # Errors
/// Something in the folder cannot be listed or removed. The mark is still there then.
pub fn clear(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
    let fresh_mark = format!("{MARK}.new");
    for entry in disk.list(data_dir)? {
        let path = data_dir.join(&entry.name);
        match entry.name.as_str() {
            MARK | "lost+found" => {}
            name if name == fresh_mark => {}
            _ if entry.is_dir => disk.remove_dir_all(&path)?,
            _ => disk.remove_file(&path)?,
        }
    }
    disk.sync_dir(data_dir)?;
    for name in [&fresh_mark, MARK] {
        let path = data_dir.join(name);
        if disk.exists(&path)? {
            disk.remove_file(&path)?;
        }
    }
    disk.sync_dir(data_dir)
}

impl Folder {
    /// Begins a data folder that has nothing in it but the lock and the mark. Blocks.
    ///
    /// # Errors
    /// The database of the notes cannot be made.
    pub fn new(disk: &Disk, data_dir: &Path, clock: &Clock) -> Result<Folder, BackupError> {
        let options = NotesOptions { is_new_folder: true, now_ms: clock.moment().wall_ms, min_free_bytes: 0 };
        Ok(Folder {
            disk: disk.clone(),
            data_dir: data_dir.into(),
            log_id: LogId(clock.random()),
            wal: wal::Options::new(u64::from_le_bytes(clock.random())),
            documents: Vec::new(),
            notes: Notes::open(disk, data_dir, options)?,
            batch: Vec::new(),
            batch_bytes: 0,
        })
    }

    /// Writes a file of the data folder as it was. Blocks.
    ///
    /// # Errors
    /// The file cannot be written durably.
    pub fn file(&self, name: &str, content: &[u8]) -> Result<(), BackupError> {
        Ok(self.disk.replace(Point::BackupWrite, &self.data_dir.join(name), content)?)
    }

    pub fn document(&mut self, change: Change) {
        // what was lost is told by `finish`, which knows all of it; of a cluster nothing is taken over
        if !matches!(change.table(), Table::Losses | Table::Slots | Table::Tickets | Table::Copy) {
            self.documents.push(change);
        }
    }

    /// Adds a note; notes are written in batches.
    /// `bytes`: about what the note takes. Blocks.
    ///
    /// # Errors
    /// The notes that have been gathered cannot be written.
    pub fn note(&mut self, note: NoteChange, bytes: usize) -> Result<(), BackupError> {
        self.batch.push(note);
        self.batch_bytes += bytes;
        if self.batch_bytes >= BATCH_BYTES {
            self.write_notes()?;
        }
        Ok(())
    }

    fn write_notes(&mut self) -> Result<(), BackupError> {
        self.notes.write(&self.batch)?;
        (self.batch, self.batch_bytes) = (Vec::new(), 0);
        Ok(())
    }

    /// Writes the notes that are left. `numbered_from`: the number from which new ones go on; `are_lost`: that the
    /// backup has not all of them. Blocks.
    ///
    /// # Errors
    /// The notes cannot be written, counted or made durable.
    pub fn end_notes(&mut self, numbered_from: u64, are_lost: bool) -> Result<(), BackupError> {
        self.write_notes()?;
        self.notes.adopt(numbered_from, are_lost)?;
        Ok(self.notes.close()?)
    }

    /// Writes the documents as they are after commit `sequence`, and begins the write-ahead log behind it. The log is complete
    /// already; `highest_channel` is the highest number of a channel in it. On return everything is durable, and only the mark
    /// is to be taken away. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when the log has events of a channel that the documents do not know; else a document is
    /// too large, or the disk fails.
    pub fn finish(mut self, losses: Vec<LossChange>, sequence: u64, highest_channel: u32) -> Result<(), BackupError> {
        let damaged = |why: String| BackupError::Damaged(why);
        for LossChange { key, document } in losses {
            if let Some(document) = document {
                self.documents.push(Change::put(Table::Losses, key, &document)?);
            }
        }
        // a generation at commit 0 would stand for a folder that was always empty
        let sequence = sequence.max(1);
        let documents = Documents::of(self.documents, sequence);
        let known = documents.get::<u32>(Table::Numbers, CHANNEL_NUMBERS).map_err(|e| damaged(e.to_string()))?;
        if highest_channel > known.unwrap_or(0) {
            return Err(damaged(format!(
                "it has events of channel number {highest_channel}, which its documents do not know"
            )));
        }
        Generations::new(&self.disk, &self.data_dir, &self.log_id.0).write_step(&documents.freeze())?;
        documents::refuse_older_versions(&self.disk, &self.data_dir)?;
        let wal = Wal::create(&self.disk, &self.data_dir.join("wal"), self.log_id, sequence + 1, self.wal)?;
        wal.close()?;
        Ok(DataFormat::write(&self.disk, &self.data_dir)?)
    }
}
