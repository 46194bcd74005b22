//! How commits get into pieces: which bytes are written and synced in which order, in the good case and after a failure.
//!
//! [`Wal`] decides what is to be done and what an error means for the commit; here it is done.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::header::{HEADER_AREA_BYTES, PieceHeader, VERSION};
use super::options::{Durability, LARGE_PIECE_STEP_BYTES, Urgency};
use super::piece::{Piece, Slot};
use super::record::{self, RECORD_HEADER_BYTES};
use super::{Committed, Current, Unsynced, Wal};
use crate::disk::{DiskError, Point};
use crate::model::splitmix;

/// What the buffer for commits keeps between them.
const BUFFER_KEPT_BYTES: usize = 2 << 20;

impl Wal {
    pub(super) fn has_room(&self, record_bytes: usize) -> bool {
        self.current.as_ref().is_some_and(|current| current.end + record_bytes <= current.piece.slot().bytes as usize)
    }

    /// Takes a file for the next piece and puts its header into the buffer, behind which records may be appended. Writes
    /// nothing.
    pub(super) fn begin_piece(
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
            salt: splitmix::nth(self.options.salt_seed, number),
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
    pub(super) fn write(&mut self, parts: &[&[u8]], bytes: usize, begins: bool) -> Result<Committed, DiskError> {
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
    pub(super) fn begin_after_failure(&mut self) -> Result<(), DiskError> {
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
    pub(super) fn write_copies(&mut self, last_crc: u32) -> Result<(), DiskError> {
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

    pub(super) fn all_is_synced(&mut self) {
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        self.unsynced_since_ms = None;
        if self.options.durability != Durability::Flush {
            self.pieces.set_durable(self.last);
        }
    }

    /// [`Durability::Flush`]: syncs the pieces that were written.
    pub(super) fn sync_pieces(&mut self) -> Result<(), DiskError> {
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

fn no_piece() -> DiskError {
    DiskError::new("write", Path::new("wal"), std::io::ErrorKind::NotFound.into())
}
