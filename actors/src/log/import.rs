//! Building the segments of a log that is restored from a backup: the same form as sealing makes.
//!
//! The caller hands over the parts of the backup in their order. Those of one segment are held in memory until it is written.
//! Dedupe keys get a segment of their own behind the events, because it cannot be told to which of them they belong.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::adopting::BEGUN_FILE;
use super::manifest::{FORMAT, Manifest};
use super::newest::{self, Newest};
use super::page::Source;
use super::section::{self, MalformedSection, SectionBlock};
use super::segment_writer::{self, Content, Run};
use super::state::folder;
use super::{Dedupe, LogError, UsedKey};
use crate::disk::database::Database;
use crate::disk::{Disk, Open, Point};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::LogId;

/// Records that are held for one segment. What is larger in the backup becomes several segments.
const SEGMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a part of a backup cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{0}")]
    Malformed(&'static str),
}

impl From<MalformedSection> for ImportError {
    fn from(_: MalformedSection) -> ImportError {
        ImportError::Malformed("a part of the log cannot be read")
    }
}

/// A log that is being built.
pub struct LogImport {
    disk: Disk,
    dir: PathBuf,
    id: LogId,
    /// The last segment that was written.
    segment: u64,
    /// Parts of the segment that comes next, each of which becomes a stripe.
    parts: Vec<Bytes>,
    /// Their blocks, each with the number of its part.
    blocks: Vec<(usize, SectionBlock)>,
    bytes: usize,
    last: EventId,
    highest_channel: u32,
}

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The highest number of a channel that has events.
    pub highest_channel: u32,
    /// The newest event; zero when there is none.
    pub last: EventId,
}

impl LogImport {
    /// Begins the log of a data folder that has none, with the id of its write-ahead log. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(disk: &Disk, data_dir: &Path, id: LogId) -> Result<LogImport, LogError> {
        let dir = make_dir(disk, data_dir)?;
        Ok(LogImport {
            disk: disk.clone(),
            dir,
            id,
            segment: 0,
            parts: Vec::new(),
            blocks: Vec::new(),
            bytes: 0,
            last: EventId::ZERO,
            highest_channel: 0,
        })
    }

    /// Takes the next part: events as [`encode_events`](super::encode_events) makes them, all behind those of the part before.
    /// Blocks.
    ///
    /// # Errors
    /// It is not what was announced, or what the disk says.
    pub fn add(&mut self, part: Vec<u8>) -> Result<(), ImportError> {
        let blocks = section::blocks(&part)?;
        let Some(first) = blocks.first().map(|block| block.first) else { return Ok(()) };
        if first <= self.last {
            return Err(ImportError::Malformed("the parts of the log are not in their order"));
        }
        if self.bytes > 0 && self.bytes + part.len() > SEGMENT_BYTES_MAX {
            self.end_segment()?;
        }
        self.last = blocks.iter().map(|block| block.last).max().unwrap_or(first);
        self.highest_channel = blocks.iter().map(|block| block.channel.0).max().unwrap_or(0).max(self.highest_channel);
        self.bytes += part.len();
        let number = self.parts.len();
        self.blocks.extend(blocks.into_iter().map(|block| (number, block)));
        self.parts.push(part.into());
        Ok(())
    }

    /// Writes the parts so far as a segment. Blocks.
    ///
    /// # Errors
    /// A record fails its check, or what the disk says.
    pub fn end_segment(&mut self) -> Result<(), ImportError> {
        let (parts, mut blocks) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.blocks));
        self.bytes = 0;
        if blocks.is_empty() {
            return Ok(());
        }
        let first_of = |part: &(usize, SectionBlock)| (part.0, part.1.first);
        let mut stripes: Vec<(usize, EventId)> = blocks.iter().map(first_of).collect();
        // the first block of a part begins with its first event
        stripes.dedup_by_key(|(part, _)| *part);
        let events: u64 = blocks.iter().map(|(_, block)| u64::from(block.count)).sum();
        blocks.sort_by_key(|(_, block)| (block.channel.0, block.first));
        let runs = blocks.into_iter().map(|(part, block)| {
            let SectionBlock { channel, first, last, offset, len, .. } = block;
            let records = parts[part].slice(offset as usize..(offset + len) as usize);
            Ok(Run { source: Source { channel, first, last }, records, is_checked: false })
        });
        let stripes = stripes.into_iter().map(|(_, first)| first).collect();
        let manifest = self.write(runs, stripes, std::iter::empty())?;
        if !manifest.damaged.is_empty() || manifest.events != events {
            return Err(ImportError::Malformed("a record of the log fails its check"));
        }
        Ok(())
    }

    fn write(
        &mut self,
        runs: impl Iterator<Item = Result<Run, LogError>>,
        stripes: Vec<EventId>,
        keys: impl Iterator<Item = Result<(Dedupe, u64), LogError>>,
    ) -> Result<Manifest, LogError> {
        self.segment += 1;
        // commits 0: what is in it was never in the write-ahead log of this folder
        let manifest = Manifest { format: FORMAT, segment: self.segment, log: Some(self.id), ..Manifest::default() };
        let content = Content { runs, stripes, keys, manifest };
        segment_writer::write(&self.disk, &self.dir.join(folder(self.segment)), content)
    }

    /// Writes what is left. On return all of the log is durable. Blocks.
    ///
    /// # Errors
    /// As [`LogImport::end_segment`].
    pub fn finish(mut self, mut keys: Vec<UsedKey>) -> Result<Imported, ImportError> {
        self.end_segment()?;
        if !keys.is_empty() {
            keys.sort_by_key(|key| key.time_ms);
            let keys = keys.into_iter().map(|key| Ok((key.dedupe, key.time_ms)));
            self.write(std::iter::empty(), Vec::new(), keys)?;
        }
        newest::write(&self.disk, &self.dir, Newest { segment: self.segment, through: 0 }).map_err(LogError::from)?;
        Ok(Imported { highest_channel: self.highest_channel, last: self.last })
    }
}

/// Writes a segment as it was before the write-ahead log, for [`adopt_format_1`](super::adopt_format_1) to take over. Blocks.
///
/// # Errors
/// What the disk says.
///
/// # Panics
/// When keys do not ascend or a value is too long for the database.
pub fn import_format_1(
    disk: &Disk,
    data_dir: &Path,
    segment: u64,
    entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
) -> Result<(), LogError> {
    let dir = make_dir(disk, data_dir)?.join(folder(segment));
    Database::write(disk, &dir, entries)?;
    let begun = disk.open(Point::ManifestWrite, &dir.join(BEGUN_FILE), Open::CreateNew)?;
    begun.sync_data(Point::ManifestWrite)?;
    Ok(disk.sync_dir(&dir)?)
}

fn make_dir(disk: &Disk, data_dir: &Path) -> Result<PathBuf, LogError> {
    let dir = data_dir.join("log");
    if !disk.exists(&dir)? {
        disk.create_dir_all(&dir)?;
        disk.sync_dir(data_dir)?;
    }
    Ok(dir)
}

/// How many events a part holds of each channel, in no order.
///
/// # Errors
/// When it is not what [`encode_events`](super::encode_events) makes.
pub fn count_events(part: &[u8]) -> Result<Vec<(ChannelNo, u64)>, MalformedSection> {
    Ok(section::blocks(part)?.into_iter().map(|block| (block.channel, u64::from(block.count))).collect())
}
