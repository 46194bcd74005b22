//! Reading the log: its files, their headers and the records of a piece.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{self, HEADER_AREA_BYTES, HeaderState, PieceHeader, VERSION};
use super::manifest::Manifest;
use super::piece::{Piece, Slot};
use super::pool::file_name;
use super::record::{self, RECORD_HEADER_BYTES, Record};
use super::{LogId, Recovered, WalError};
use crate::disk::{Disk, DiskError, Open, Point};

/// All files of the log, and which of them belong together.
pub(super) struct Survey {
    pub dir: PathBuf,
    pub manifest: Manifest,
    /// Pieces with a header, by number.
    pub pieces: Vec<Surveyed>,
    pub spare: VecDeque<Slot>,
    /// Files whose headers are both damaged.
    pub unreadable: Vec<PathBuf>,
    pub healed: Vec<String>,
}

pub(super) struct Surveyed {
    pub slot: Slot,
    pub header: PieceHeader,
    /// One of the copies of the header is damaged.
    pub damaged: bool,
    /// They are not the same.
    pub differs: bool,
}

/// A piece whose records were read.
pub(super) struct Scanned {
    pub piece: Arc<Piece>,
    /// CRC of the record before its first one; 0 = unknown.
    pub before: u32,
    /// The piece up to the end of its last valid record.
    pub bytes: Vec<u8>,
    pub records: Vec<Record>,
    /// Sequences that are missing, and where.
    pub damaged: Vec<(RangeInclusive<u64>, usize)>,
    /// The last sequence that it has or should have.
    pub last: u64,
}

impl Survey {
    /// Reads the manifest and all headers. Blocks.
    ///
    /// # Errors
    /// [`WalError`]: the manifest or a piece that it lists is missing, cut short, unreadable or of another log, or the
    /// disk fails.
    pub fn read(disk: &Disk, dir: &Path, how: Open) -> Result<Survey, WalError> {
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
        for (number, &bytes) in (1..).zip(&manifest.pieces).filter(|(_, bytes)| **bytes > 0) {
            survey.add(disk, dir.join(file_name(number)), how, bytes)?;
        }
        // files are used only after the manifest names them, so one in use that it does not name shows an older manifest,
        // or that its removal was not finished
        let listed = manifest.pieces.len();
        let (mut unlisted, mut beyond) = (Vec::new(), 0);
        for entry in disk.list(dir)? {
            let number = entry.name.parse().ok().filter(|&number| file_name(number) == entry.name && !entry.is_dir);
            if let Some(number) = number.filter(|&number| !manifest.lists(number))
                && is_in_use(disk, &dir.join(&entry.name), manifest.log_id)?
            {
                beyond = beyond.max(number);
                unlisted.push(number);
            }
        }
        unlisted.retain(|&number| number <= listed);
        unlisted.extend(listed + 1..=beyond);
        if !unlisted.is_empty() {
            survey.healed.push(format!("{} (it is older than the pieces)", Manifest::path(dir).display()));
            for number in unlisted {
                let path = dir.join(file_name(number));
                let len = disk.len(&path)?.ok_or_else(|| WalError::Missing { path: path.clone() })?;
                let bytes = u32::try_from(len).unwrap_or(u32::MAX);
                manifest.list(number, bytes);
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
    pub fn limits(&self) -> Vec<u64> {
        let mut smallest = u64::MAX;
        let mut limits = vec![0; self.pieces.len()];
        for (piece, limit) in self.pieces.iter().zip(&mut limits).rev() {
            *limit = smallest;
            smallest = smallest.min(piece.header.after);
        }
        limits
    }

    /// The first commit that was not given up when the newest headers and the manifest were written. No file is overwritten
    /// before one of them says that its records were given up, so all later commits are here.
    pub fn first_sequence(&self) -> u64 {
        self.manifest.first_sequence.max(self.freed() + 1)
    }

    /// The sequence through which records were given up, as the newest headers and the manifest say.
    pub fn freed(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.header.freed).max().unwrap_or(0).max(self.manifest.freed)
    }
}

impl Surveyed {
    /// Whether it holds records at or after a sequence that are not void, or is where the log ends.
    pub fn is_needed(&self, limit: u64, needed_from: u64) -> bool {
        limit > self.header.after && limit >= needed_from
    }

    pub fn foreign(&self, why: String) -> WalError {
        WalError::Foreign { path: self.slot.file.path().into(), why }
    }

    /// Reads its records up to a sequence. Blocks.
    ///
    /// # Errors
    /// [`WalError::Foreign`] when a record does not follow the one before it, [`WalError::Disk`] when the piece cannot
    /// be read.
    pub fn scan(&self, limit: u64) -> Result<Scanned, WalError> {
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
    pub fn last_crc(&self) -> u32 {
        match self.records.last() {
            _ if self.is_cut_short() => 0,
            Some(record) => record.crc,
            None => self.before,
        }
    }

    /// Whether its last records are missing.
    pub fn is_cut_short(&self) -> bool {
        self.damaged.last().is_some_and(|(range, _)| *range.end() == self.last)
    }

    pub fn place(&self, at: usize) -> String {
        format!("{} at byte {at}", self.piece.path().display())
    }

    pub fn record_bytes(&self) -> usize {
        self.bytes.len() - HEADER_AREA_BYTES
    }

    /// Its records from a sequence on.
    pub fn needed(&self, needed_from: u64) -> impl Iterator<Item = Record> {
        self.records.iter().copied().filter(move |record| record.sequence >= needed_from)
    }

    pub fn payload(&self, record: Record) -> &[u8] {
        &self.bytes[record.payload()]
    }

    /// Tells damage and records, each where it belongs.
    pub fn tell(&self, needed_from: u64, tell: &mut impl FnMut(Recovered<'_>)) {
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

    /// Puts zeros behind the last record if it was perhaps never acknowledged: its write may have ended there.
    pub fn mend_padding(&mut self, durable: u64) {
        if let Some(record) = self.records.last().filter(|record| record.sequence > durable) {
            self.bytes[record.payload().end..].fill(0);
        }
    }

    /// The records after a sequence: where each row of them begins, and its bytes. What is damaged between them may be
    /// whole on the disk and only read badly, so it is left alone.
    pub fn after(&self, sequence: u64) -> Vec<(usize, Vec<u8>)> {
        let mut rows: Vec<(usize, Vec<u8>)> = Vec::new();
        for record in self.needed(sequence + 1) {
            let bytes = &self.bytes[record.at..record.end()];
            match rows.last_mut() {
                Some((at, row)) if *at + row.len() == record.at => row.extend_from_slice(bytes),
                _ => rows.push((record.at, bytes.to_vec())),
            }
        }
        rows
    }

    pub fn tell_padding(&self, record: Record, tell: &mut dyn FnMut(Recovered<'_>)) {
        if !record::padding_is_intact(&self.bytes, record) {
            tell(Recovered::Healed { at: self.place(record.payload().end) });
        }
    }
}

/// Whether a file that the manifest does not name was written as a piece of this log.
fn is_in_use(disk: &Disk, path: &Path, log_id: LogId) -> Result<bool, DiskError> {
    let mut area = Box::new([0; HEADER_AREA_BYTES]);
    disk.open(Point::WalOpen, path, Open::Read)?.read_at(Point::WalRead, &mut area[..], 0)?;
    Ok(matches!(header::decode(&area), HeaderState::Valid { header, .. } if header.log_id == log_id))
}

/// Whether two CRCs of the same record are known and differ.
pub(super) fn are_different(a: u32, b: u32) -> bool {
    a != 0 && b != 0 && a != b
}

/// The part of a range that is needed.
pub(super) fn needed_part(range: &RangeInclusive<u64>, needed_from: u64) -> Option<RangeInclusive<u64>> {
    let part = *range.start().max(&needed_from)..=*range.end();
    (!part.is_empty()).then_some(part)
}
