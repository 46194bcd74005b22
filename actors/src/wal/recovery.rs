//! Opening the log: the same after a crash and after a clean stop.
//!
//! # What is found
//! The pieces are put in the order of their numbers. Each holds the records after its header's `after`, up to the
//! smallest `after` of the later pieces; what it holds beyond is void. A record that is not valid, with a valid one behind
//! it, is damage: it is reported and skipped. So is one that a later header or the manifest says was there. Without
//! either it is the end: a commit that was never acknowledged.
//!
//! # What is made sure before anyone sees it
//! The newest records may have been read from memory and not be on the disk yet: the process may have been killed between
//! write and sync, or after a sync that failed. Then a sync alone would do nothing. So they are written again and synced,
//! and so are all headers of pieces that are needed, and the zeros where a header was taken away.
//!
//! # Where the log goes on
//! In a new piece, so that what a torn record left behind can never become valid. The records of the newest pieces are
//! copied into it when they fill less than half of it; then the old ones are free, and a server that crashes over and over
//! does not use up its pieces. When there is no room for a new piece, the log opens all the same, and the first commit
//! begins it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::header::{HEADER_AREA_BYTES, PieceHeader};
use super::piece::{Piece, Slot};
use super::pool::{Free, Freed, Pieces, Sorted};
use super::record::{self, RECORD_HEADER_BYTES, Record};
use super::survey::{Scanned, Survey, are_different, needed_part};
use super::{LogId, Options, Urgency, Wal, WalError};
use crate::disk::{Disk, DiskError, Open, Point};

/// What the recovery tells, in the order of the log.
#[derive(Debug)]
pub enum Recovered<'a> {
    Record {
        sequence: u64,
        payload: &'a [u8],
        piece: &'a Arc<Piece>,
        /// Where the payload begins in the piece.
        offset: u32,
    },
    /// Commits that were made durable and are lost.
    Damaged { from: u64, through: u64, at: String },
    /// Damage that costs nothing.
    Healed { at: String },
}

/// What a look at the log found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The newest commit, also when it is damaged.
    pub last: u64,
    /// Records that are needed.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Commits that are damaged.
    pub damaged: u64,
}

/// What stands in all pieces.
struct Chain {
    found: Found,
    /// CRC of the last record; 0 = unknown.
    last_crc: u32,
    /// The newest pieces, not told yet, as far as they are without damage and small.
    held: VecDeque<Scanned>,
    /// Pieces that were told, each with the last sequence for which it is needed.
    told: Vec<(Arc<Piece>, u64)>,
    /// The records of the newest piece that may not be durable: where they begin, and their bytes.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Wal {
    /// Opens a log and tells what it holds from a sequence on. Blocks.
    ///
    /// # Errors
    /// Everything but damage of single records, which is told. Nothing was removed or renamed then.
    pub fn recover(
        disk: &Disk,
        dir: &Path,
        options: Options,
        needed_from: u64,
        mut tell: impl FnMut(Recovered<'_>),
    ) -> Result<Wal, WalError> {
        let options = options.within_bounds();
        let needed_from = needed_from.max(1);
        let survey = Survey::read(disk, dir, Open::ReadWrite)?;
        let chain = survey.follow(needed_from, options.piece_bytes as usize / 2, &mut tell)?;
        survey.go_on(disk, options, needed_from, chain, &mut tell)
    }
}

/// Tells what a log holds from a sequence on, and writes nothing. Blocks.
///
/// # Errors
/// As [`Wal::recover`].
pub fn inspect(
    disk: &Disk,
    dir: &Path,
    needed_from: u64,
    mut tell: impl FnMut(Recovered<'_>),
) -> Result<Found, WalError> {
    let needed_from = needed_from.max(1);
    let chain = Survey::read(disk, dir, Open::Read)?.follow(needed_from, 0, &mut tell)?;
    for scanned in &chain.held {
        scanned.tell(needed_from, &mut tell);
    }
    Ok(chain.found)
}

/// Which log a folder holds, and the first commit that it can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    pub log_id: LogId,
    pub sequence: u64,
    /// A commit that was stored elsewhere, or an older one: who has not stored it has lost what came before `sequence`.
    pub stored: u64,
}

/// Looks where a log begins, from the headers of its pieces. Writes nothing. Blocks.
///
/// # Errors
/// As [`Wal::recover`].
pub fn begin(disk: &Disk, dir: &Path) -> Result<Begin, WalError> {
    let survey = Survey::read(disk, dir, Open::Read)?;
    Ok(Begin { log_id: survey.manifest.log_id, sequence: survey.first_sequence(), stored: survey.manifest.stored })
}

impl Survey {
    /// Reads the records of all pieces that are needed and tells them, except for those that stay held: the newest ones
    /// without damage, as long as all their records together take no more than `held_max_bytes`.
    fn follow(
        &self,
        needed_from: u64,
        held_max_bytes: usize,
        tell: &mut impl FnMut(Recovered<'_>),
    ) -> Result<Chain, WalError> {
        for place in &self.healed {
            tell(Recovered::Healed { at: place.clone() });
        }
        let mut chain = Chain {
            found: Found { last: self.manifest.first_sequence - 1, ..Found::default() },
            last_crc: 0,
            held: VecDeque::new(),
            told: Vec::new(),
            unsynced: Vec::new(),
        };
        let mut first = true;
        let mut holes = 0;
        for (surveyed, limit) in self.pieces.iter().zip(self.limits()) {
            if !surveyed.is_needed(limit, needed_from) {
                continue;
            }
            if first && surveyed.header.after >= needed_from {
                return Err(self.gap(needed_from, surveyed.header.after + 1));
            }
            first = false;
            if surveyed.damaged {
                tell(Recovered::Healed {
                    at: format!("one of the two headers of {}", surveyed.slot.file.path().display()),
                });
            }
            if are_different(surveyed.header.before, chain.last_crc) {
                return Err(surveyed.foreign("its records do not follow those of the piece before".into()));
            }
            let mut scanned = surveyed.scan(limit)?;
            if limit == u64::MAX {
                scanned.mend_padding(self.manifest.through);
                chain.unsynced = scanned.after(self.manifest.through);
            }
            holes += usize::from(scanned.is_cut_short());
            let lost = scanned.damaged.iter().filter_map(|(range, _)| needed_part(range, needed_from));
            if let Some(lost) = lost.into_iter().find(|range| *range.start() <= self.freed()) {
                return Err(self.gap(needed_from, lost.end() + 1));
            }
            chain.add(scanned, needed_from, held_max_bytes, tell);
        }
        if first && needed_from < self.manifest.first_sequence {
            return Err(self.gap(needed_from, self.manifest.first_sequence));
        }
        if let Some(path) = self.unreadable.get(holes) {
            return Err(WalError::Unreadable { path: path.clone() });
        }
        chain.lose_through(self.manifest.through, needed_from, tell);
        if chain.found.last < needed_from - 1 {
            let (path, last) = (self.dir.clone(), chain.found.last);
            return Err(WalError::Behind { path, last, known: needed_from - 1 });
        }
        Ok(chain)
    }

    fn gap(&self, needed: u64, found: u64) -> WalError {
        WalError::Gap { path: self.dir.clone(), needed, found }
    }

    /// Makes durable what was found, and goes on in a new piece.
    fn go_on(
        self,
        disk: &Disk,
        options: Options,
        needed_from: u64,
        mut chain: Chain,
        tell: &mut impl FnMut(Recovered<'_>),
    ) -> Result<Wal, WalError> {
        let newest = self.pieces.last().map_or(0, |piece| piece.header.number);
        let freed_through = self.freed().max(needed_from - 1);
        let limits = self.limits();
        let log_id = self.manifest.log_id;
        let noted_through = self.freed();
        let mut spare = VecDeque::new();
        for slot in self.spare {
            write_header(&slot, None)?;
            spare.push_back(Free { slot, through: 0 });
        }
        for (surveyed, limit) in self.pieces.into_iter().zip(limits) {
            let is_needed = surveyed.is_needed(limit, needed_from);
            if surveyed.header.number == newest {
                for (at, records) in std::mem::take(&mut chain.unsynced) {
                    surveyed.slot.file.write_at(Point::WalWrite, &records, at as u64)?;
                }
            }
            if is_needed || surveyed.differs {
                write_header(&surveyed.slot, Some(&surveyed.header))?;
            }
            if !is_needed {
                let through = if limit > surveyed.header.after { limit } else { 0 };
                spare.push_back(Free { slot: surveyed.slot, through });
            }
        }
        let sorted = Sorted { spare, used: std::mem::take(&mut chain.told) };
        let freed = Freed { through: freed_through, noted_through };
        let pieces = Pieces::new(disk, self.dir, &options, self.manifest, sorted, freed);
        pieces.set_durable(chain.found.last);
        let mut wal = Wal::new(options, log_id, pieces, chain.found.last, chain.last_crc, newest + 1);
        if newest > 0 {
            match wal.begin_with_copies(&chain.held, needed_from, tell) {
                Ok(()) => wal.pieces.retire(chain.held.into_iter().map(|scanned| (scanned.piece, 0))),
                // the first commit begins the piece
                Err(e) if e.is_full() => {
                    log::warn!("there is no room for another piece of the write-ahead log: {e}");
                    if !wal.settled {
                        // the copies may count or the originals, and their CRCs differ
                        wal.last_crc = 0;
                    }
                    for scanned in chain.held {
                        scanned.tell(needed_from, tell);
                        let last = scanned.last;
                        wal.pieces.retire(std::iter::once((scanned.piece, last)));
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(wal)
    }
}

/// Makes durable what stands in both places of a header, and all else that was written to the file. What a sync that
/// failed has left can be read, and a crash would bring back what stood there before: a header of a piece whose number is
/// given out again from now on.
fn write_header(slot: &Slot, header: Option<&PieceHeader>) -> Result<(), DiskError> {
    let mut area = vec![0; HEADER_AREA_BYTES];
    if let Some(header) = header {
        header.write_to(&mut area);
    }
    slot.file.write_at(Point::WalWrite, &area, 0)?;
    slot.file.sync_data(Point::WalSync)
}

impl Chain {
    fn add(&mut self, scanned: Scanned, needed_from: u64, held_max_bytes: usize, tell: &mut impl FnMut(Recovered<'_>)) {
        self.found.last = scanned.last;
        self.last_crc = scanned.last_crc();
        for record in scanned.needed(needed_from) {
            self.found.records += 1;
            self.found.bytes += record.len as u64;
        }
        for range in scanned.damaged.iter().filter_map(|(range, _)| needed_part(range, needed_from)) {
            self.found.damaged += range.end() - range.start() + 1;
        }
        let is_intact = scanned.damaged.is_empty();
        self.held.push_back(scanned);
        while !self.held.is_empty()
            && (!is_intact || self.held.iter().map(Scanned::record_bytes).sum::<usize>() > held_max_bytes)
        {
            self.tell_oldest(needed_from, tell);
        }
    }

    fn tell_oldest(&mut self, needed_from: u64, tell: &mut impl FnMut(Recovered<'_>)) {
        if let Some(scanned) = self.held.pop_front() {
            scanned.tell(needed_from, tell);
            let last = scanned.last;
            self.told.push((scanned.piece, last));
        }
    }

    /// Takes what is missing at the end, up to a sequence that was durable, for damaged.
    fn lose_through(&mut self, known: u64, needed_from: u64, tell: &mut impl FnMut(Recovered<'_>)) {
        if known <= self.found.last {
            return;
        }
        let at = match self.held.back() {
            Some(scanned) => scanned.place(scanned.bytes.len()),
            None => self.told.last().map_or("the pieces".into(), |(piece, _)| piece.path().display().to_string()),
        };
        while !self.held.is_empty() {
            self.tell_oldest(needed_from, tell);
        }
        if let Some(range) = needed_part(&(self.found.last + 1..=known), needed_from) {
            self.found.damaged += range.end() - range.start() + 1;
            tell(Recovered::Damaged { from: *range.start(), through: *range.end(), at });
        }
        (self.found.last, self.last_crc) = (known, 0);
    }
}

impl Wal {
    /// Begins a piece with the records of the newest pieces, and tells them.
    fn begin_with_copies(
        &mut self,
        held: &VecDeque<Scanned>,
        needed_from: u64,
        tell: &mut impl FnMut(Recovered<'_>),
    ) -> Result<(), DiskError> {
        let copies: Vec<(&Scanned, Record)> =
            held.iter().flat_map(|scanned| scanned.needed(needed_from).map(move |record| (scanned, record))).collect();
        let record_bytes = copies.iter().map(|(_, record)| record::size(record.len)).sum();
        let (after, mut crc) = match copies.first() {
            Some((_, first)) => (first.sequence - 1, first.before),
            None => (self.last, self.last_crc),
        };
        let piece = self.begin_piece(record_bytes, Urgency::Reserve, after, crc)?;
        for &(scanned, record) in &copies {
            let payload = scanned.payload(record);
            crc = record::append(&mut self.buffer, piece.seal(), record.sequence, crc, &[payload]);
        }
        if let Some(current) = self.current.as_mut().filter(|_| !copies.is_empty()) {
            // also if the write fails: once the header is on the disk, these are the copies that count
            current.last = self.last;
        }
        self.write_copies(crc)?;
        let mut at = HEADER_AREA_BYTES;
        for (scanned, record) in copies {
            scanned.tell_padding(record, tell);
            let (payload, offset) = (scanned.payload(record), (at + RECORD_HEADER_BYTES) as u32);
            tell(Recovered::Record { sequence: record.sequence, payload, piece: &piece, offset });
            at += record::size(record.len);
        }
        Ok(())
    }
}
