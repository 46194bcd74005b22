//! Opening the log: the same after a crash and after a clean stop.
//!
//! # What is found
//! The pieces are put in the order of their numbers. Each holds the records after its header's `after`, up to the
//! smallest `after` of the later pieces; what it holds beyond is void. A record that is not valid, with a valid one behind
//! it, is damage: it is reported and skipped. So is one that a later header or the manifest says was there. Without
//! either it is the end: a commit that was never acknowledged.
//!
//! # What is made sure before anyone sees it
//! The last record may have been read from memory and not be on the disk yet: the process may have been killed between
//! its write and its sync, or after a sync that failed. So it is written again, with its header, and synced.
//!
//! # Where the log goes on
//! In a new piece, so that what a torn record left behind can never become valid. The records of the newest pieces are
//! copied into it when they fill less than half of it; then the old ones are free, and a server that crashes over and over
//! does not use up its pieces. When there is no room for a new piece, the log opens all the same, and the first commit
//! begins it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{self, HEADER_AREA_BYTES, HeaderState, PieceHeader, VERSION};
use super::manifest::Manifest;
use super::piece::{Piece, Slot};
use super::pool::{Pieces, Sorted, file_name};
use super::record::{self, RECORD_HEADER_BYTES, Record};
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

/// All files of the log, and which of them belong together.
struct Survey {
    dir: PathBuf,
    manifest: Manifest,
    /// Pieces with a header, by number.
    pieces: Vec<Surveyed>,
    spare: VecDeque<Slot>,
    /// Files whose headers are both damaged.
    unreadable: Vec<PathBuf>,
    healed: Vec<String>,
}

struct Surveyed {
    slot: Slot,
    header: PieceHeader,
    /// One of the copies of the header is damaged.
    damaged: bool,
    /// They differ.
    differs: bool,
}

/// A piece whose records were read.
struct Scanned {
    piece: Arc<Piece>,
    /// CRC of the record before its first one; 0 = unknown.
    before: u32,
    /// The piece up to the end of its last valid record.
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// Sequences that are missing, and where.
    damaged: Vec<(RangeInclusive<u64>, usize)>,
    /// The last sequence that it has or should have.
    last: u64,
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
    /// The last record of the newest piece: where it begins, and its bytes.
    newest: Option<(usize, Vec<u8>)>,
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
}

/// Looks where a log begins, from the headers of its pieces. Writes nothing. Blocks.
///
/// # Errors
/// As [`Wal::recover`].
pub fn begin(disk: &Disk, dir: &Path) -> Result<Begin, WalError> {
    let survey = Survey::read(disk, dir, Open::Read)?;
    Ok(Begin { log_id: survey.manifest.log_id, sequence: survey.first_sequence() })
}

impl Survey {
    /// The first commit that was not given up when the newest headers were written. Every file is used again only with a new
    /// header, so all later commits are here.
    fn first_sequence(&self) -> u64 {
        self.manifest.first_sequence.max(self.freed() + 1)
    }

    /// Reads the manifest and all headers.
    fn read(disk: &Disk, dir: &Path, how: Open) -> Result<Survey, WalError> {
        let (mut manifest, manifest_is_damaged) = Manifest::read(disk, dir)?;
        // the newest name of the manifest may not be durable yet
        if how != Open::Read {
            disk.sync_dir(dir)?;
        }
        let mut healed = Vec::new();
        if manifest_is_damaged {
            healed.push(format!("one of the two lines of {}", Manifest::path(dir).display()));
        }
        let mut survey = Survey {
            dir: dir.into(),
            pieces: Vec::new(),
            spare: VecDeque::new(),
            unreadable: Vec::new(),
            healed,
            manifest: manifest.clone(),
        };
        for (number, &bytes) in (1..).zip(&manifest.pieces) {
            survey.add(disk, dir.join(file_name(number)), how, bytes)?;
        }
        // files are used only after the manifest names them, so one in use that it does not name shows an older manifest
        let mut beyond = Vec::new();
        for entry in disk.list(dir)? {
            let number = entry.name.parse().ok().filter(|&number| file_name(number) == entry.name && !entry.is_dir);
            if let Some(number) = number.filter(|&number| number > manifest.pieces.len())
                && is_in_use(disk, &dir.join(&entry.name), manifest.log_id)?
            {
                beyond.push(number);
            }
        }
        if let Some(&newest) = beyond.iter().max() {
            survey.healed.push(format!("{} (it is older than the pieces)", Manifest::path(dir).display()));
            for number in manifest.pieces.len() + 1..=newest {
                let path = dir.join(file_name(number));
                let len = disk.len(&path)?.ok_or_else(|| WalError::Missing { path: path.clone() })?;
                let bytes = u32::try_from(len).unwrap_or(u32::MAX);
                manifest.pieces.push(bytes);
                survey.add(disk, path, how, bytes)?;
            }
            survey.manifest = manifest;
        }
        survey.sort()?;
        Ok(survey)
    }

    fn add(&mut self, disk: &Disk, path: PathBuf, how: Open, bytes: u32) -> Result<(), WalError> {
        let file = match disk.open(Point::WalOpen, &path, how) {
            Err(e) if e.is_missing() => return Err(WalError::Missing { path }),
            opened => opened?,
        };
        let found_bytes = file.len()?;
        if found_bytes < u64::from(bytes) {
            return Err(WalError::Truncated { path, expected_bytes: bytes.into(), found_bytes });
        }
        let mut area = Box::new([0; HEADER_AREA_BYTES]);
        file.read_at(Point::WalRead, &mut area[..], 0)?;
        let slot = Slot { file: Arc::new(file), bytes };
        match header::decode(&area) {
            HeaderState::Unused => self.spare.push_back(slot),
            HeaderState::Damaged => self.unreadable.push(path),
            HeaderState::Valid { header, damaged, differs } => {
                if header.log_id != self.manifest.log_id {
                    let why = format!("it is of the log {}, not of {}", header.log_id, self.manifest.log_id);
                    return Err(WalError::Foreign { path, why });
                }
                if header.version != VERSION {
                    let why = format!("it has version {}, and this program knows version {VERSION}", header.version);
                    return Err(WalError::Foreign { path, why });
                }
                self.pieces.push(Surveyed { slot, header, damaged, differs });
            }
        }
        Ok(())
    }

    fn sort(&mut self) -> Result<(), WalError> {
        self.pieces.sort_by_key(|piece| piece.header.number);
        let twice = self.pieces.windows(2).find(|pair| pair[0].header.number == pair[1].header.number);
        match twice {
            None => Ok(()),
            Some(pair) => Err(WalError::Foreign {
                path: pair[1].slot.file.path().into(),
                why: format!("it is a copy of {}", pair[0].slot.file.path().display()),
            }),
        }
    }

    /// Up to which sequence each piece's records count.
    fn limits(&self) -> Vec<u64> {
        let mut smallest = u64::MAX;
        let mut limits = vec![0; self.pieces.len()];
        for (piece, limit) in self.pieces.iter().zip(&mut limits).rev() {
            *limit = smallest;
            smallest = smallest.min(piece.header.after);
        }
        limits
    }

    /// The sequence through which records were given up when the newest headers were written.
    fn freed(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.header.freed).max().unwrap_or(0)
    }

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
            newest: None,
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
            let scanned = surveyed.scan(limit)?;
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
        let mut spare = self.spare;
        for (surveyed, limit) in self.pieces.into_iter().zip(limits) {
            if !surveyed.is_needed(limit, needed_from) {
                spare.push_back(surveyed.slot);
                continue;
            }
            let is_newest = surveyed.header.number == newest;
            if is_newest && let Some((at, record)) = &chain.newest {
                surveyed.slot.file.write_at(Point::WalWrite, record, *at as u64)?;
            }
            if is_newest || surveyed.differs {
                let mut area = vec![0; HEADER_AREA_BYTES];
                surveyed.header.write_to(&mut area);
                surveyed.slot.file.write_at(Point::WalWrite, &area, 0)?;
            }
            // also what was written with a durability that does not sync; costs nothing where all was synced
            surveyed.slot.file.sync_data(Point::WalSync)?;
        }
        let sorted = Sorted { spare, used: std::mem::take(&mut chain.told) };
        let pieces = Pieces::new(disk, self.dir, &options, self.manifest, sorted, freed_through);
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

impl Surveyed {
    /// Whether it holds records at or after a sequence that are not void, or is where the log ends.
    fn is_needed(&self, limit: u64, needed_from: u64) -> bool {
        limit > self.header.after && limit >= needed_from
    }

    fn foreign(&self, why: String) -> WalError {
        WalError::Foreign { path: self.slot.file.path().into(), why }
    }

    /// Reads its records up to a sequence.
    fn scan(&self, limit: u64) -> Result<Scanned, WalError> {
        let mut bytes = vec![0; self.slot.bytes as usize];
        self.slot.file.read_exact_at(Point::WalRead, &mut bytes, 0)?;
        let piece = Arc::new(Piece::new(self.slot.clone(), self.header.number, self.header.salt));
        let seal = piece.seal();
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        let (mut at, mut expected, mut before) = (HEADER_AREA_BYTES, self.header.after + 1, self.header.before);
        while expected <= limit {
            let record = match record::parse(&bytes, at, seal).filter(|record| record.sequence == expected) {
                Some(record) => record,
                None => {
                    // no more records than fit
                    let most = limit.min(expected.saturating_add((bytes.len() / RECORD_HEADER_BYTES) as u64));
                    let Some(record) = record::find(&bytes, at, seal, expected + 1..=most) else { break };
                    damaged.push((expected..=record.sequence - 1, at));
                    before = 0;
                    record
                }
            };
            if are_different(record.before, before) {
                return Err(self.foreign(format!("record {} does not follow the one before", record.sequence)));
            }
            (at, expected, before) = (record.end(), record.sequence + 1, record.crc);
            records.push(record);
        }
        let is_last = limit == u64::MAX;
        if !is_last && expected <= limit {
            damaged.push((expected..=limit, at));
        }
        bytes.truncate(at);
        let last = if is_last { expected - 1 } else { limit };
        Ok(Scanned { piece, before: self.header.before, bytes, records, damaged, last })
    }
}

impl Scanned {
    /// CRC of the record with the last sequence; 0 = unknown.
    fn last_crc(&self) -> u32 {
        match self.records.last() {
            _ if self.is_cut_short() => 0,
            Some(record) => record.crc,
            None => self.before,
        }
    }

    /// Whether its last records are missing.
    fn is_cut_short(&self) -> bool {
        self.damaged.last().is_some_and(|(range, _)| *range.end() == self.last)
    }

    fn place(&self, at: usize) -> String {
        format!("{} at byte {at}", self.piece.path().display())
    }

    fn record_bytes(&self) -> usize {
        self.bytes.len() - HEADER_AREA_BYTES
    }

    /// Its records from a sequence on.
    fn needed(&self, needed_from: u64) -> impl Iterator<Item = Record> {
        self.records.iter().copied().filter(move |record| record.sequence >= needed_from)
    }

    fn payload(&self, record: Record) -> &[u8] {
        &self.bytes[record.payload()]
    }

    /// Tells damage and records, each where it belongs.
    fn tell(&self, needed_from: u64, tell: &mut impl FnMut(Recovered<'_>)) {
        let mut damaged = self.damaged.iter().peekable();
        let mut tell_damage = |before: u64, tell: &mut dyn FnMut(Recovered<'_>)| {
            while let Some((range, at)) = damaged.next_if(|(range, _)| *range.start() < before) {
                if let Some(range) = needed_part(range, needed_from) {
                    tell(Recovered::Damaged { from: *range.start(), through: *range.end(), at: self.place(*at) });
                }
            }
        };
        for record in self.needed(needed_from) {
            tell_damage(record.sequence, tell);
            self.tell_padding(record, tell);
            let (payload, offset) = (self.payload(record), record.payload().start as u32);
            tell(Recovered::Record { sequence: record.sequence, payload, piece: &self.piece, offset });
        }
        tell_damage(u64::MAX, tell);
    }

    fn tell_padding(&self, record: Record, tell: &mut dyn FnMut(Recovered<'_>)) {
        if !record::padding_is_intact(&self.bytes, record) {
            tell(Recovered::Healed { at: self.place(record.payload().end) });
        }
    }
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
        self.newest = scanned.records.last().map(|record| (record.at, scanned.bytes[record.at..record.end()].to_vec()));
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

/// Whether a file that the manifest does not name was written as a piece of this log.
fn is_in_use(disk: &Disk, path: &Path, log_id: LogId) -> Result<bool, DiskError> {
    let mut area = Box::new([0; HEADER_AREA_BYTES]);
    disk.open(Point::WalOpen, path, Open::Read)?.read_at(Point::WalRead, &mut area[..], 0)?;
    Ok(matches!(header::decode(&area), HeaderState::Valid { header, .. } if header.log_id == log_id))
}

/// Whether two CRCs of the same record are known and differ.
fn are_different(a: u32, b: u32) -> bool {
    a != 0 && b != 0 && a != b
}

/// The part of a range that is needed.
fn needed_part(range: &RangeInclusive<u64>, needed_from: u64) -> Option<RangeInclusive<u64>> {
    let part = *range.start().max(&needed_from)..=*range.end();
    (!part.is_empty()).then_some(part)
}
