//! Backups: one tar archive (POSIX ustar) with all that the data folder has to keep, taken while the server runs.
//!
//! ```text
//! backup.json               which format this is, who made it, when, the newest event and the newest commit in it
//! admin-token, secret-key   as in the data folder, if they are there
//! documents/<part>          every document, as entries: what is configured, webhooks' cursors and rows, counters
//! notes/<part>              what is only for people, as entries: delivery log, counters of sources, dead letters
//! log/<segment>/<part>      events in the order of the log, as blocks of one channel each
//! keys/<part>               dedupe keys with their times
//! losses.json               what retention or damage took from the log, and whether notes are missing
//! complete.json             how many files came before, and the SHA-256 over them; an archive without it was cut off
//! ```
//!
//! Parts have about a MiB. An entry is `key_len:u32 value_len:u32 key value`. Events are cut into the segments that they were in,
//! because retention drops whole segments. Nothing of it depends on the files of the data folder.
//!
//! Documents and the log's head are taken at one moment between two commits ([`Snapshot`]). So the log has everything that a
//! cursor points at, no event belongs to a channel that the documents do not know, and everything that was acknowledged
//! before is there. Publishing and changes go on meanwhile; what comes later is left out. Segments that retention drops while
//! they wait to be copied, and damage that is met while they are read, are noted in `losses.json`, which is made last.
//!
//! A folder that is being restored has a file `restoring` until everything is durable. No server starts on it before. Format 1,
//! which older versions wrote, is read as well: see [`format_1`].

mod archive;
mod folder;
mod format_1;
mod restore;
pub mod survey;
mod take;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::restore::{check, refuse_half_restored, restore};
pub use self::take::{Origin, take};
use crate::disk::{DatabaseError, DiskError, LockError};
use crate::documents::notes::NotesError;
use crate::documents::{DocumentError, GenerationError};
pub use crate::journal::Snapshot;
use crate::log::{ImportError, LogError, LossDocument};
use crate::model::id::EventId;
use crate::wal::WalError;

/// The version of the format that is written. A reader refuses those that it does not know.
pub const FORMAT: u32 = 2;
const ABOUT: &str = "backup.json";
const LOSSES: &str = "losses.json";
const COMPLETE: &str = "complete.json";
/// Files of the data folder that are copied as they are.
const FILES: [&str; 2] = ["admin-token", "secret-key"];
/// About this much is one file of the archive.
const PART_BYTES: usize = 1024 * 1024;
/// Stands in a folder until all of a backup is in it.
pub const MARK: &str = "restoring";

/// What an archive says of itself at its beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    /// The version of the server that made it.
    pub version: String,
    pub taken_at_ms: i64,
    /// The newest event in it.
    pub head: EventId,
    /// The newest commit in it; 0 in format 1, which had no commits with numbers.
    #[serde(default)]
    pub sequence: u64,
}

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Losses {
    log: Vec<LossDocument>,
    /// From where dead letters are numbered, see [`Notes::numbered_from`](crate::documents::notes::Notes::numbered_from).
    notes_numbered_from: u64,
    /// Some of the notes could not be read.
    notes_lost: bool,
}

/// The end of an archive.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Complete {
    files: u64,
    sha256: String,
}

/// What a whole archive holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub about: About,
    /// With notes.
    pub documents: u64,
    pub segments: u64,
    /// Of contents, before tar.
    pub bytes: u64,
}

/// Why a backup is not taken, or not restored. `Display` says what to do as well.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0}; {cure}", cure = .0.cure())]
    Disk(#[from] DiskError),
    #[error("{0}; {cure}", cure = .0.cure())]
    Lock(#[from] LockError),
    #[error("{0}; {cure}", cure = .0.cure())]
    Wal(#[from] WalError),
    #[error("{0}; {cure}", cure = .0.cure())]
    Log(#[from] LogError),
    #[error("{0}; {cure}", cure = .0.cure())]
    Generation(#[from] GenerationError),
    #[error("{0}; {cure}", cure = .0.cure())]
    Notes(#[from] NotesError),
    #[error("{0}; {cure}", cure = .0.cure())]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the backup cannot be written: {0}")]
    Write(#[source] std::io::Error),
    #[error("the backup cannot be read: {0}")]
    Read(#[source] std::io::Error),
    #[error("this is no backup of Stentor, or it is damaged: {0}")]
    Damaged(String),
    #[error("the backup is not whole: it was cut off")]
    CutOff,
    #[error(
        "the backup has format {0}, and this version reads formats up to {FORMAT}; restore it with the version that made \
         it, or a newer one"
    )]
    Format(u32),
    #[error("the folder {path} is not empty; restore into a new one", path = .0.display())]
    NotEmpty(PathBuf),
    #[error("the data folder {path} holds half of a backup; empty it and restore the backup again", path = .0.display())]
    HalfRestored(PathBuf),
    #[error("the documents and the log were not taken at one moment; this is a fault of the server, please report it")]
    NotOneMoment,
}

impl From<ImportError> for BackupError {
    fn from(e: ImportError) -> BackupError {
        match e {
            ImportError::Log(e) => e.into(),
            ImportError::Malformed(why) => BackupError::Damaged(why.into()),
        }
    }
}
