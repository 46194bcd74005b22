//! Opening the data folder: which format it has, what is migrated, and in which order its parts are read.
//!
//! `format` names the version of the layout and is written last, when a folder is made or migrated. A folder of format 1 (one sled
//! database for documents, one for each segment) is migrated: manifests for its segments, a generation of its documents, notes,
//! a write-ahead log; then `format`; then what is left of the old documents is removed. Before `format` is written
//! everything can be done again.

use std::path::Path;

use crate::backup::survey::unwritable;
use crate::backup::{self, BackupError};
use crate::clock::Clock;
use crate::disk::{Cure, DataFormat, DataLock, Disk, DiskError, FORMAT, FORMAT_FILE, LockError};
use crate::documents::migrate::{MIGRATED_SEQUENCE, MigrateError, migrate as migrate_documents, remove_format_1};
use crate::documents::notes::{Notes, NotesError, NotesOptions};
use crate::documents::{Change, DocumentError, GenerationError, SecretKeyError};
use crate::journal::{self, RecoveryError, Store};
use crate::log::{self, LogError, LogOptions};
use crate::wal::{self, CommitError, LogId, Wal, WalError};

/// Room that a migration needs beside twice its documents: pieces of the write-ahead log, and what opening databases writes.
const MIGRATION_BYTES: u64 = 64 * 1024 * 1024;

/// Why a data folder cannot be opened: what is wrong, with the file, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; {cure}")]
pub struct FolderError {
    reason: String,
    cure: Cure,
}

/// What helps a node of a cluster whose copy is damaged.
pub const COPY_CURE: &str = "stop the node, take its data folder away, and start it: the folder is a copy, which the node fills anew \
                             from NATS; only its own delivery log, dead letters and figures go with it";

#[cfg(feature = "nats")]
impl FolderError {
    /// The same of a node of a cluster: where a server alone needs a backup, NATS has it all.
    pub fn of_node(self) -> FolderError {
        match self.cure {
            Cure::Restore(_) => FolderError { cure: Cure::adjust(COPY_CURE), ..self },
            Cure::Adjust(_) => self,
        }
    }
}

macro_rules! with_cure {
    ($($error:ty),*) => {
        $(impl From<$error> for FolderError {
            fn from(e: $error) -> FolderError {
                FolderError { reason: e.to_string(), cure: e.cure() }
            }
        })*
    };
}

with_cure!(
    DiskError,
    LockError,
    WalError,
    LogError,
    GenerationError,
    NotesError,
    MigrateError,
    RecoveryError,
    SecretKeyError
);

impl From<DocumentError> for FolderError {
    fn from(e: DocumentError) -> FolderError {
        RecoveryError::from(e).into()
    }
}

impl From<CommitError> for FolderError {
    fn from(e: CommitError) -> FolderError {
        FolderError {
            reason: e.to_string(),
            cure: Cure::adjust("make room on the file system, or look into its errors (dmesg)"),
        }
    }
}

/// An open data folder.
pub struct DataFolder {
    /// No second server writes into the folder as long as this is held.
    _lock: DataLock,
    is_new: bool,
}

impl DataFolder {
    /// Opens the notes of a log. Opening them writes, so it comes last, when nothing else can end the start. Blocks.
    ///
    /// # Errors
    /// Whatever keeps them from being opened and is no damage.
    pub fn open_notes(
        &self,
        disk: &Disk,
        data_dir: &Path,
        log_id: LogId,
        min_free_bytes: u64,
        clock: &Clock,
    ) -> Result<Notes, FolderError> {
        let options = NotesOptions { is_new_folder: self.is_new, now_ms: clock.moment().wall_ms, min_free_bytes };
        let notes = Notes::open(disk, data_dir, options)?;
        notes.recognise(&log_id.0, options.now_ms)?;
        Ok(notes)
    }
}

/// How it is opened.
pub struct Options {
    pub log: LogOptions,
    pub wal: wal::Options,
}

/// Opens a data folder, or makes one. Blocks.
///
/// # Errors
/// Whatever keeps it from being read whole; then nothing was moved, renamed or removed.
pub fn open(disk: &Disk, data_dir: &Path, options: Options, clock: &Clock) -> Result<(DataFolder, Store), FolderError> {
    if !disk.exists(&data_dir.join(FORMAT_FILE))? {
        disk.make_folder(data_dir)?;
    }
    let lock = DataLock::take(disk, data_dir)?;
    backup::refuse_half_restored(disk, data_dir).map_err(|e| match e {
        BackupError::Disk(e) => FolderError::from(e),
        _ => FolderError {
            reason: format!("the data folder {} holds half of a backup", data_dir.display()),
            cure: Cure::restore("empty it and restore the backup again"),
        },
    })?;
    unwritable(disk, data_dir).map_or(Ok(()), Err)?;
    let is_new = match has_format(disk, data_dir)? {
        true => false,
        false => {
            let is_new = !is_format_1(disk, data_dir)?;
            let log_id = LogId(clock.random());
            match is_new {
                true => make(disk, data_dir, log_id, &options)?,
                false => migrate(disk, data_dir, log_id, &options, clock).inspect_err(|_| {
                    if let Err(e) = log::abandon_format_1(disk, data_dir) {
                        ::log::warn!("what the migration has written is still there, and harmless: {e}");
                    }
                })?,
            }
            DataFormat::write(disk, data_dir)?;
            is_new
        }
    };
    let store = journal::recover(disk, data_dir, options.log, options.wal, clock)?;
    // also after a crash behind the last step, which is harmless to repeat
    remove_format_1(disk, data_dir)?;
    restrict(data_dir);
    Ok((DataFolder { _lock: lock, is_new }, store))
}

/// Whether the folder says which format it has.
pub fn has_format(disk: &Disk, data_dir: &Path) -> Result<bool, FolderError> {
    match DataFormat::read(disk, data_dir)? {
        DataFormat::Missing => Ok(false),
        DataFormat::Current => Ok(true),
        DataFormat::Newer(newer) => Err(FolderError {
            reason: format!(
                "{} has format {newer}, and this version of Stentor knows format {FORMAT}",
                data_dir.display()
            ),
            cure: Cure::adjust("start the version that wrote it, or a newer one"),
        }),
        DataFormat::Damaged => Err(FolderError {
            reason: format!("{} is damaged", data_dir.join(FORMAT_FILE).display()),
            cure: Cure::adjust(format!(
                "write the line {FORMAT} into it, if this version of Stentor was the last one on the folder"
            )),
        }),
    }
}

/// Whether an older version has written the folder: its documents are a database in `state` itself.
fn is_format_1(disk: &Disk, data_dir: &Path) -> Result<bool, FolderError> {
    if disk.exists(&data_dir.join("state/db"))? {
        return Ok(true);
    }
    // without `format` and without anything of format 1 there must not be any data: what is there was not made by a start
    // that was interrupted
    for (name, inner) in [("state", "manifest"), ("log", "db"), ("log", "manifest")] {
        let dir = data_dir.join(name);
        if !disk.exists(&dir)? {
            continue;
        }
        for entry in disk.list(&dir)? {
            if entry.is_dir && disk.exists(&dir.join(&entry.name).join(inner))? {
                return Err(missing(data_dir, &dir.join(&entry.name)));
            }
        }
    }
    Ok(false)
}

fn missing(data_dir: &Path, found: &Path) -> FolderError {
    FolderError {
        reason: format!(
            "{} is missing, and so is {}, which an older version would have, but there is {}",
            data_dir.join(FORMAT_FILE).display(),
            data_dir.join("state/db").display(),
            found.display()
        ),
        cure: Cure::restore(
            "put the files of the data folder back as they were, together, or restore a backup into a new folder with stentor \
             restore",
        ),
    }
}

/// A new folder. What an interrupted start has left holds nothing.
fn make(disk: &Disk, data_dir: &Path, log_id: LogId, options: &Options) -> Result<(), FolderError> {
    let dir = data_dir.join("wal");
    let mut commits = 0;
    match wal::inspect(disk, &dir, 1, |_| commits += 1) {
        // no commit is made before `format` is written
        Ok(_) if commits > 0 => return Err(missing(data_dir, &dir)),
        Ok(_) => return Ok(()),
        Err(WalError::Missing { path }) if path == dir.join("manifest") => {}
        Err(e) => return Err(e.into()),
    }
    drop(Wal::create(disk, &dir, log_id, 1, options.wal.clone())?);
    Ok(())
}

/// Brings a folder of format 1 into this one.
fn migrate(disk: &Disk, data_dir: &Path, log_id: LogId, options: &Options, clock: &Clock) -> Result<(), FolderError> {
    ::log::info!(folder:display = data_dir.display(); "a data folder of an older version is brought into the new form");
    expect_room(disk, data_dir)?;
    let now_ms = clock.moment().wall_ms;
    // of an attempt that was interrupted; it holds nothing that the old files do not
    disk.remove_dir_all(&data_dir.join("wal"))?;
    let lost = log::adopt_format_1(disk, data_dir, log_id, now_ms)?;
    let migrated = migrate_documents(disk, data_dir, &log_id.0, now_ms)?;
    let mut wal = Wal::create(disk, &data_dir.join("wal"), log_id, MIGRATED_SEQUENCE + 1, options.wal.clone())?;
    let losses: Result<Vec<Change>, _> = lost.into_iter().map(journal::loss_of_migration).collect();
    let losses = losses?;
    if !losses.is_empty() {
        wal.commit(&[&journal::documents_payload(&losses, clock.now_ms(), MIGRATED_SEQUENCE)], wal::Urgency::Reserve)?;
    }
    wal.close()?;
    ::log::info!(documents = migrated.documents, notes = migrated.notes; "the data folder is in the new form");
    Ok(())
}

/// A migration that meets a full disk can be repeated, but nothing should be begun that is known to fail.
fn expect_room(disk: &Disk, data_dir: &Path) -> Result<(), FolderError> {
    let needed_bytes = MIGRATION_BYTES + 2 * disk.bytes_below(&data_dir.join("state"))?;
    match disk.free_bytes(data_dir) {
        Some(free_bytes) if free_bytes < needed_bytes => Err(FolderError {
            reason: format!(
                "bringing the data folder {} into the form of this version needs {needed_bytes} bytes of disk, and {free_bytes} \
                 are free",
                data_dir.display()
            ),
            cure: Cure::adjust("make room on the file system; nothing was changed"),
        }),
        _ => Ok(()),
    }
}

/// Only the server's user may look into the folder, and into what older versions left open in it.
fn restrict(data_dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let is_open = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o077 != 0;
    if !std::fs::metadata(data_dir).is_ok_and(is_open) {
        return;
    }
    match restrict_below(data_dir) {
        Ok(()) => {
            ::log::info!(folder:display = data_dir.display(); "others could look into the data folder; now only its owner can")
        }
        Err(e) => ::log::warn!(folder:display = data_dir.display(); "others can look into the data folder: {e}"),
    }
}

/// What is in a folder first: the folder is open until all of it is closed, so that an attempt that failed is made again.
fn restrict_below(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let is_dir = path.symlink_metadata()?.is_dir();
    if is_dir {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_symlink() && entry.file_name() != "lost+found" {
                restrict_below(&entry.path())?;
            }
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(if is_dir { 0o700 } else { 0o600 }))
}

#[cfg(all(test, feature = "nats"))]
mod tests {
    use std::io;

    use super::*;

    fn of_disk(errno: i32) -> FolderError {
        DiskError::new("open", Path::new("/srv/stentor/log"), io::Error::from_raw_os_error(errno)).into()
    }

    #[test]
    fn a_node_fills_its_copy_anew_only_where_what_is_stored_is_missing_or_damaged() {
        let behind = WalError::Behind { path: "/srv/stentor/wal".into(), last: 3, known: 5 };
        for damaged in [of_disk(libc::ENOENT), of_disk(libc::EISDIR), behind.into()] {
            let text = damaged.to_string();
            assert!(text.contains("backup"), "{text}");
            let of_node = damaged.of_node().to_string();
            assert!(of_node.ends_with(COPY_CURE), "{of_node}");
        }
    }

    /// A folder filled anew would be sealed with the same key.
    #[test]
    fn a_node_with_rights_room_or_a_key_to_be_put_right_keeps_its_copy() {
        let wrong_key = SecretKeyError::Wrong { whence: "STENTOR_SECRET_KEY".to_owned() };
        for whole in [of_disk(libc::EACCES), of_disk(libc::ENOSPC), of_disk(libc::EIO), wrong_key.into()] {
            let text = whole.to_string();
            assert_eq!(whole.of_node().to_string(), text);
        }
    }
}
