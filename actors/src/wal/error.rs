//! Why the log does not open, and why a commit is not stored.

use std::path::PathBuf;

use crate::disk::{Cure, DiskError};

/// Why the log does not open. The start ends with it; nothing was moved, renamed or removed.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("there is a write-ahead log in {path} already", path = .path.display())]
    Exists { path: PathBuf },
    #[error("{path} is missing", path = .path.display())]
    Missing { path: PathBuf },
    #[error("{path} is cut short: it has {found_bytes} of {expected_bytes} bytes", path = .path.display())]
    Truncated { path: PathBuf, expected_bytes: u64, found_bytes: u64 },
    #[error("{path} cannot be used: {why}", path = .path.display())]
    Manifest { path: PathBuf, why: String },
    #[error("{path} does not belong here: {why}", path = .path.display())]
    Foreign { path: PathBuf, why: String },
    /// It may be the newest piece, and then acknowledged commits are in it.
    #[error("both copies of the header of {path} are damaged", path = .path.display())]
    Unreadable { path: PathBuf },
    #[error("the write-ahead log in {path} holds commits from {found} on, but those from {needed} on are needed", path = .path.display())]
    Gap { path: PathBuf, needed: u64, found: u64 },
    #[error("the write-ahead log in {path} ends at commit {last}, but the rest of the data folder is newer, up to commit {known}", path = .path.display())]
    Behind { path: PathBuf, last: u64, known: u64 },
}

impl WalError {
    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            WalError::Disk(e) => e.cure(),
            WalError::Exists { .. } => Cure::adjust("choose an empty folder"),
            WalError::Missing { .. } | WalError::Gap { .. } | WalError::Behind { .. } => Cure::restore(
                "put all files of the data folder back as they were, together, or restore a backup (stentor restore)",
            ),
            WalError::Truncated { .. } | WalError::Manifest { .. } | WalError::Unreadable { .. } => {
                Cure::restore("see what it costs (stentor doctor --data DIR) and restore a backup (stentor restore)")
            }
            WalError::Foreign { .. } => Cure::adjust(
                "put the files of this data folder back, and do not mix those of different servers or times",
            ),
        }
    }
}

/// Why a commit is not stored, or may not be.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing was written: no piece is left for this urgency, and none can be made.
    #[error("no room for another piece of the write-ahead log: {source}")]
    Full { source: DiskError },
    /// Nothing was written: a piece cannot be made, or an earlier failure cannot be settled yet.
    #[error("the write-ahead log takes no commit: {source}")]
    Refused { source: DiskError },
    /// Nothing was written: the payload is too large for any piece.
    #[error("a commit of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// It failed and can never appear: that is durable.
    #[error("the commit failed: {source}")]
    Void { source: DiskError },
    /// It failed, and may appear after a restart until [`Wal::settle`](super::Wal::settle) has succeeded.
    #[error("the commit failed, and may still appear: {source}")]
    Unknown { source: DiskError },
}

impl CommitError {
    /// Whether it is certain that the commit never appears.
    pub fn is_certain(&self) -> bool {
        !matches!(self, CommitError::Unknown { .. })
    }

    /// Whether the reason is that there is no room.
    pub fn is_full(&self) -> bool {
        match self {
            CommitError::TooLarge { .. } => false,
            CommitError::Full { source }
            | CommitError::Refused { source }
            | CommitError::Void { source }
            | CommitError::Unknown { source } => source.is_full(),
        }
    }
}
