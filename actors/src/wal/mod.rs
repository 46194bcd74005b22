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
use header::{HEADER_AREA_BYTES, PieceHeader, VERSION};
use manifest::Manifest;
use options::LARGE_PIECE_STEP_BYTES;
use piece::Slot;
use pool::Sorted;
use record::RECORD_HEADER_BYTES;

/// What the buffer for commits keeps between them.
const BUFFER_KEPT_BYTES: usize = 2 << 20;

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
        let pieces = Pieces::new(disk, dir.into(), &options, manifest, Sorted::default(), last);
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
        self.pieces.free_through(sequence);
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

    fn has_room(&self, record_bytes: usize) -> bool {
        self.current.as_ref().is_some_and(|current| current.end + record_bytes <= current.piece.slot().bytes as usize)
    }

    /// Takes a file for the next piece and puts its header into the buffer, behind which records may be appended. Writes
    /// nothing.
    fn begin_piece(
        &mut self,
        record_bytes: usize,
        urgency: Urgency,
        after: u64,
        before: u32,
    ) -> Result<Arc<Piece>, DiskError> {
        let slot = self.take(record_bytes, urgency)?;
        if let Some(current) = self.current.take() {
            self.retiring.push((current.piece, current.last));
        }
        let number = self.next_number;
        self.next_number += 1;
        let header = PieceHeader {
            version: VERSION,
            log_id: self.log_id,
            number,
            salt: salt(self.options.salt_seed, number),
            after,
            freed: self.pieces.freed_through(),
            before,
        };
        self.buffer.truncate(HEADER_AREA_BYTES);
        header.write_to(&mut self.buffer);
        let piece = Arc::new(Piece::new(slot, number, header.salt));
        self.current = Some(Current { piece: piece.clone(), end: HEADER_AREA_BYTES, last: 0, is_durable: false });
        self.counts.begun += 1;
        Ok(piece)
    }

    fn take(&self, record_bytes: usize, urgency: Urgency) -> Result<Slot, DiskError> {
        let mut bytes = HEADER_AREA_BYTES + record_bytes;
        if bytes > self.options.piece_bytes as usize {
            bytes = bytes.next_multiple_of(LARGE_PIECE_STEP_BYTES);
        }
        // no larger than COMMIT_MAX_BYTES and some, which fits
        self.pieces.take(u32::try_from(bytes).unwrap_or(u32::MAX), urgency)
    }

    /// Writes a record into the current piece, with the header in the buffer if the piece begins, and syncs.
    fn write(&mut self, parts: &[&[u8]], bytes: usize, begins: bool) -> Result<Committed, DiskError> {
        // stays false if this fails or panics, and the next call settles
        self.settled = false;
        let Some(current) = &mut self.current else { return Err(no_piece()) };
        let sequence = self.last + 1;
        self.buffer.truncate(HEADER_AREA_BYTES);
        let crc = record::append(&mut self.buffer, current.piece.seal(), sequence, self.last_crc, parts);
        let end = current.end + record::size(bytes);
        let (from, at) = if begins { (0, 0) } else { (HEADER_AREA_BYTES, current.end) };
        current.piece.file().write_at(Point::WalWrite, &self.buffer[from..], at as u64)?;
        // without a sync of each header a power cut could leave a later piece and not the one before
        if self.options.durability == Durability::Fsync || self.options.durability == Durability::Flush && begins {
            self.counts.syncs += 1;
            current.piece.file().sync_data(Point::WalSync)?;
        }

        let offset = (current.end + RECORD_HEADER_BYTES) as u32;
        let committed = Committed { sequence, piece: current.piece.clone(), offset };
        (current.end, current.last, current.is_durable) = (end, sequence, true);
        let before = std::mem::replace(&mut self.last_crc, crc);
        self.last = sequence;
        self.settled = true;
        self.counts.commits += 1;
        self.counts.bytes += record::size(bytes) as u64;
        self.retire();
        match self.options.durability {
            Durability::Fsync => self.pieces.set_durable(sequence),
            Durability::Flush => {
                let piece = Arc::downgrade(&committed.piece);
                if !self.unsynced_pieces.last().is_some_and(|last| last.ptr_eq(&piece)) {
                    self.unsynced_pieces.retain(|piece| piece.strong_count() > 0);
                    self.unsynced_pieces.push(piece);
                }
            }
            Durability::Interval { .. } => {
                let payload = Bytes::copy_from_slice(&self.buffer[HEADER_AREA_BYTES + RECORD_HEADER_BYTES..][..bytes]);
                let piece = committed.piece.clone();
                self.unsynced.push(Unsynced { sequence, before, piece, offset, payload });
                self.unsynced_bytes += bytes;
            }
        }
        self.shrink_buffer();
        Ok(committed)
    }

    /// Begins a piece whose header voids what failed, with the commits that wait for their sync.
    fn begin_after_failure(&mut self) -> Result<(), DiskError> {
        let record_bytes = self.unsynced.iter().map(|commit| record::size(commit.payload.len())).sum();
        let (after, mut crc) = match self.unsynced.first() {
            Some(first) => (first.sequence - 1, first.before),
            None => (self.last, self.last_crc),
        };
        let piece = self.begin_piece(record_bytes, Urgency::Reserve, after, crc)?;
        for commit in &self.unsynced {
            crc = record::append(&mut self.buffer, piece.seal(), commit.sequence, crc, &[&commit.payload]);
        }
        self.write_copies(crc)?;
        if let Some(current) = self.current.as_mut().filter(|_| !self.unsynced.is_empty()) {
            current.last = self.last;
        }
        self.all_is_synced();
        Ok(())
    }

    /// Writes the current piece, which has just begun: the header and the records in the buffer, of which the last one is
    /// the log's last and has this CRC. The records are durable before the header, because it voids the older copies.
    fn write_copies(&mut self, last_crc: u32) -> Result<(), DiskError> {
        self.settled = false;
        let Some(current) = &mut self.current else { return Err(no_piece()) };
        let (header, records) = self.buffer.split_at(HEADER_AREA_BYTES);
        let file = current.piece.file();
        if !records.is_empty() {
            self.counts.syncs += 1;
            file.write_at(Point::WalWrite, records, HEADER_AREA_BYTES as u64)?;
            file.sync_data(Point::WalSync)?;
        }
        self.counts.syncs += 1;
        file.write_at(Point::WalWrite, header, 0)?;
        file.sync_data(Point::WalSync)?;
        current.end += records.len();
        current.is_durable = true;
        self.last_crc = last_crc;
        self.settled = true;
        self.shrink_buffer();
        self.retire();
        Ok(())
    }

    fn shrink_buffer(&mut self) {
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer.truncate(HEADER_AREA_BYTES);
            self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        }
    }

    /// Hands over the pieces before the current one, whose header is written now.
    fn retire(&mut self) {
        if !self.retiring.is_empty() {
            self.pieces.retire(self.retiring.drain(..));
        }
    }

    fn all_is_synced(&mut self) {
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        self.unsynced_since_ms = None;
        if self.options.durability != Durability::Flush {
            self.pieces.set_durable(self.last);
        }
    }

    /// [`Durability::Flush`]: syncs the pieces that were written.
    fn sync_pieces(&mut self) -> Result<(), DiskError> {
        while !self.unsynced_pieces.is_empty() {
            let piece = self.unsynced_pieces.remove(0).upgrade().filter(|piece| !piece.has_failed());
            if let Some(piece) = piece {
                self.counts.syncs += 1;
                // taken away first: a piece is never synced again after a failure or a panic
                piece.file().sync_data(Point::WalSync).inspect_err(|_| self.give_up(&piece))?;
            }
            if self.unsynced_pieces.is_empty() {
                self.pieces.set_durable(self.last);
            }
        }
        Ok(())
    }

    /// Writes no more into a piece whose sync failed. What was acknowledged in it stays readable.
    fn give_up(&mut self, piece: &Arc<Piece>) {
        self.counts.failures += 1;
        piece.fail();
        if let Some(current) = self.current.take_if(|current| Arc::ptr_eq(&current.piece, piece)) {
            self.retiring.push((current.piece, current.last));
        }
    }
}

/// The salt of a piece: the output of SplitMix64.
fn salt(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn no_piece() -> DiskError {
    DiskError::new("write", Path::new("wal"), std::io::ErrorKind::NotFound.into())
}
