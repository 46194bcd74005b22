//! The write-ahead log: every change of the data folder is a commit in it before anything else knows of it.
//!
//! # Files
//! `wal/00000001` and so on are the pieces, 8 MiB each, written full of zeros before their first use and used again and
//! again; `wal/manifest` says how many there are. A piece is a header and records; a record is one commit. See
//! [`record`] and [`header`] for their bytes.
//!
//! # How a commit becomes durable
//! One `pwrite` into the current piece and one `fdatasync`. A commit that does not fit begins the next piece: its header
//! goes into the same `pwrite`.
//!
//! # When a write or a sync fails
//! Nobody knows which of the written bytes will be on the disk after a crash, and a later sync that succeeds says nothing
//! about them. So the piece is never written or synced again. The next piece begins with a header that says after which
//! sequence it goes on; what older pieces hold beyond it is void. Once this header is durable the failed commit can never
//! appear ([`CommitError::Void`]). Until then it may ([`CommitError::Unknown`], [`Wal::settle`]).
//!
//! # After a crash
//! See [`recovery`].
//!
//! # Layout
//! - [`Wal`]: commits, failures, the clean stop
//! - [`Pieces`]: the files, for the thread that fills new ones and for whoever frees them
//! - [`Piece`]: reading what was committed
//! - [`recovery`]: opening, and looking without writing
//! - [`writing`]: which bytes go to disk in which order

mod error;
pub mod header;
mod manifest;
mod options;
mod piece;
mod pool;
pub mod record;
pub mod recovery;
mod survey;
#[cfg(test)]
mod tests;
mod writing;

use std::path::Path;
use std::sync::{Arc, Weak};

use bytes::Bytes;

pub use error::{CommitError, WalError};
pub use options::{
    COMMIT_MAX_BYTES, Durability, LogId, Options, PIECE_MAX_BYTES, PIECE_MIN_BYTES, UNSYNCED_MAX_BYTES, Urgency,
};
pub use piece::Piece;
pub use pool::{PieceCounts, Pieces};
pub use recovery::{Begin, Found, Recovered, begin, inspect};

use crate::disk::{Disk, DiskError, Point};
use header::HEADER_AREA_BYTES;
use manifest::Manifest;
use pool::{Freed, Sorted};

/// Where a commit is.
#[derive(Clone, Debug)]
pub struct Committed {
    pub sequence: u64,
    pub piece: Arc<Piece>,
    /// Where its payload begins in the piece.
    pub offset: u32,
}

/// What was done since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalCounts {
    pub commits: u64,
    /// Bytes of their records.
    pub bytes: u64,
    pub syncs: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    /// Pieces that were begun.
    pub begun: u64,
}

/// The piece that takes commits.
#[derive(Debug)]
struct Current {
    piece: Arc<Piece>,
    /// Where the next record goes.
    end: usize,
    /// The newest acknowledged sequence of which it may have the only copy, 0 = none.
    last: u64,
    /// Its header is durable, so that what it voids may have been answered.
    is_durable: bool,
}

/// A commit that was answered before its sync.
#[derive(Debug)]
struct Unsynced {
    sequence: u64,
    /// CRC of the record before.
    before: u32,
    piece: Arc<Piece>,
    offset: u32,
    payload: Bytes,
}

/// The write-ahead log, for the one thread that commits.
#[derive(Debug)]
pub struct Wal {
    options: Options,
    log_id: LogId,
    pieces: Pieces,
    current: Option<Current>,
    /// Pieces that take no more commits, with the last sequence for which each is needed. They stay as they are until the
    /// header of the piece after them is durable, because it repeats what their own header voids.
    retiring: Vec<(Arc<Piece>, u64)>,
    /// The newest commit that was acknowledged.
    last: u64,
    /// Its CRC; 0 = unknown.
    last_crc: u32,
    next_number: u64,
    /// No write is under way or has failed since the newest header.
    settled: bool,
    /// [`Durability::Interval`]: what waits for its sync.
    unsynced: Vec<Unsynced>,
    unsynced_bytes: usize,
    /// The time at which the oldest of them was seen first.
    unsynced_since_ms: Option<u64>,
    /// [`Durability::Flush`]: pieces with writes that were not synced.
    unsynced_pieces: Vec<Weak<Piece>>,
    /// The area of a header, and behind it the record.
    buffer: Vec<u8>,
    counts: WalCounts,
}

impl Wal {
    /// Begins a new log in a folder, which is made if needed. Its first commit has `first_sequence`, at least 1. Blocks.
    ///
    /// # Errors
    /// When there is a log, or with what the file system says.
    pub fn create(
        disk: &Disk,
        dir: &Path,
        log_id: LogId,
        first_sequence: u64,
        options: Options,
    ) -> Result<Wal, WalError> {
        let options = options.within_bounds();
        if disk.exists(&Manifest::path(dir))? {
            return Err(WalError::Exists { path: dir.into() });
        }
        disk.create_dir_all(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent)?;
        }
        let manifest = Manifest::new(log_id, first_sequence.max(1));
        manifest.write(disk, dir)?;
        let last = manifest.through;
        let freed = Freed { through: last, noted_through: last };
        let pieces = Pieces::new(disk, dir.into(), &options, manifest, Sorted::default(), freed);
        Ok(Wal::new(options, log_id, pieces, last, 0, 1))
    }

    fn new(options: Options, log_id: LogId, pieces: Pieces, last: u64, last_crc: u32, next_number: u64) -> Wal {
        Wal {
            options,
            log_id,
            pieces,
            current: None,
            retiring: Vec::new(),
            last,
            last_crc,
            next_number,
            settled: true,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            unsynced_since_ms: None,
            unsynced_pieces: Vec::new(),
            buffer: vec![0; HEADER_AREA_BYTES],
            counts: WalCounts::default(),
        }
    }

    /// Appends a commit with the next sequence. Its payload are the parts one after another. Blocks.
    ///
    /// # Errors
    /// [`CommitError`] says whether the commit may still appear. All but [`CommitError::Unknown`] are certain.
    pub fn commit(&mut self, parts: &[&[u8]], urgency: Urgency) -> Result<Committed, CommitError> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if bytes > COMMIT_MAX_BYTES {
            return Err(CommitError::TooLarge { bytes, limit: COMMIT_MAX_BYTES });
        }
        self.settle().map_err(|source| CommitError::Refused { source })?;
        if !self.unsynced.is_empty()
            && (self.unsynced_bytes + bytes > self.options.unsynced_max_bytes || !self.has_room(record::size(bytes)))
        {
            // so that all that waits for a sync is in one piece, and bounded
            self.sync().map_err(|source| CommitError::Refused { source })?;
        }
        let begins = !self.has_room(record::size(bytes));
        if begins {
            let begun = self.begin_piece(record::size(bytes), urgency, self.last, self.last_crc);
            begun.map_err(|source| match source.is_full() {
                true => CommitError::Full { source },
                false => CommitError::Refused { source },
            })?;
        }
        match self.write(parts, bytes, begins) {
            Ok(committed) => Ok(committed),
            Err(source) => {
                self.counts.failures += 1;
                log::error!("a commit failed, so its piece of the write-ahead log is not used any more: {source}");
                match self.settle() {
                    Ok(()) => Err(CommitError::Void { source }),
                    Err(e) => {
                        log::error!("whether the commit is stored is not settled yet: {e}");
                        Err(CommitError::Unknown { source })
                    }
                }
            }
        }
    }

    /// Makes durable that the commits which failed are void. Succeeds at once when nothing has failed. Blocks.
    ///
    /// # Errors
    /// What the file system says: it is still unknown whether they may appear. Call it again later.
    pub fn settle(&mut self) -> Result<(), DiskError> {
        if self.settled {
            return Ok(());
        }
        if let Some(current) = self.current.take() {
            current.piece.fail();
            self.retiring.push((current.piece, current.last));
            if !current.is_durable && current.last == 0 {
                // nothing rests on it: it may be used again, so that a disk which fails for long uses up no pieces
                self.pieces.retire(self.retiring.pop().into_iter());
            }
        }
        for commit in &self.unsynced {
            commit.piece.keep_unsynced(commit.offset, commit.payload.clone());
        }
        let settled = self.begin_after_failure();
        if settled.is_err() {
            self.counts.failures += 1;
        }
        settled
    }

    /// Syncs what was answered before its sync, in every durability. What is stored elsewhere on the strength of the log,
    /// such as a sealed segment, needs this before. Blocks.
    ///
    /// # Errors
    /// What the file system says. With [`Durability::Interval`] nothing is lost by it: all that was not synced is in
    /// memory and is written anew by the next call.
    pub fn sync(&mut self) -> Result<(), DiskError> {
        self.settle()?;
        if let Some(current) = self.current.as_ref().filter(|_| !self.unsynced.is_empty()) {
            self.settled = false;
            let synced = current.piece.file().sync_data(Point::WalSync);
            self.counts.syncs += 1;
            if let Err(e) = synced {
                self.counts.failures += 1;
                log::error!("a sync failed, so what it should have made durable is written anew: {e}");
                return self.settle();
            }
            self.settled = true;
            self.all_is_synced();
        }
        self.sync_pieces()
    }

    /// [`Durability::Interval`]: syncs when what was answered has waited long enough. The time may begin anywhere, but
    /// must not go back. Blocks.
    ///
    /// # Errors
    /// As [`Wal::sync`].
    pub fn sync_if_due(&mut self, now_ms: u64) -> Result<(), DiskError> {
        let Durability::Interval { every_ms } = self.options.durability else { return Ok(()) };
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let since_ms = *self.unsynced_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < every_ms {
            return Ok(());
        }
        self.sync()
    }

    /// Gives up the records through a sequence. See [`Pieces::free_through`].
    pub fn free_through(&self, sequence: u64) {
        self.pieces.free_through(sequence, 0);
    }

    /// See [`Pieces::prepare`]. Blocks.
    ///
    /// # Errors
    /// As there.
    pub fn prepare(&self) -> Result<bool, DiskError> {
        self.pieces.prepare()
    }

    /// Ends the log cleanly: syncs, and notes the last commit, so that the next start knows it should be there. Blocks.
    ///
    /// # Errors
    /// What the file system says. The next start is then one after a crash.
    pub fn close(mut self) -> Result<(), DiskError> {
        self.sync()?;
        self.pieces.write_manifest()
    }

    /// The files, for other threads.
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The newest commit.
    pub fn last_sequence(&self) -> u64 {
        self.last
    }

    /// Whether it is certain which commits can appear after a crash.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    pub fn counts(&self) -> WalCounts {
        self.counts
    }
}
