//! Backups: one tar archive (POSIX ustar) with all that the data folder has to keep, taken while the server runs.
//!
//! ```text
//! backup.json              which format this is, who made it, when, and the newest event in it
//! admin-token, secret-key  as in the data folder, if they are there
//! state                    every document, as entries
//! log/<seq>/<part>         what a segment holds, as entries, in parts of about a MiB
//! lost.json                what retention or quarantine took
//! complete.json            how many files came before, and the SHA-256 over them; an archive without it was cut off
//! ```
//!
//! An entry is `key_len:u32 value_len:u32 key value`, as the databases have it: a backup does not depend on sled's files.
//!
//! Documents and the log's head are taken at one moment, in which documents cannot be written. So the log has everything
//! that a cursor points at, no event belongs to a channel that the documents do not know, and everything that was acknowledged before
//! is there. Publishing goes on meanwhile: events behind that head are left out. Segments that retention drops while they wait to
//! be copied are noted in `lost.json`, which is taken last.
//!
//! A folder that is being restored has a file `restoring` until everything is durable. No server starts on it before.

mod archive;
mod restore;
mod take;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::restore::{check, refuse_half, restore};
pub use self::take::take;
use super::StoreError;
use crate::model::id::EventId;

/// The version of the format. A reader refuses those that it does not know.
const FORMAT: u32 = 1;
const ABOUT: &str = "backup.json";
const STATE: &str = "state";
const LOST: &str = "lost.json";
const COMPLETE: &str = "complete.json";
/// Files of the data folder that are copied as they are.
const FILES: [&str; 2] = ["admin-token", "secret-key"];

/// What an archive says of itself at its beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    /// The version of the server that made it.
    pub version: String,
    pub taken_at_ms: i64,
    /// The newest event in it.
    pub head: EventId,
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
    pub documents: u64,
    pub segments: u64,
    /// Of contents, before tar.
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the backup cannot be written: {0}")]
    Write(#[source] std::io::Error),
    #[error("the backup cannot be read: {0}")]
    Read(#[source] std::io::Error),
    #[error("this is no backup of Stentor, or it is damaged: {0}")]
    Damaged(String),
    #[error("the backup is not whole: it was cut off")]
    CutOff,
    #[error("the backup has format {0}, and this version reads only format {FORMAT}; restore it with a newer version")]
    Format(u32),
    #[error("the folder {0} is not empty; restore into a new one")]
    NotEmpty(PathBuf),
}
