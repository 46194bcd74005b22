//! Writing a sealed segment: from runs of records, channel by channel, to a database that was opened again and checked.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;

use super::block::{self, Head, Kind, PART_BYTES};
use super::manifest::{ChannelSpan, FORMAT, Manifest};
use super::page::{self, Source};
use super::sealed::STRIPE_ENTRY_BYTES;
use super::{Dedupe, LogError, file_check, section};
use crate::disk::database::{Database, DatabaseError};
use crate::disk::{Disk, DiskError, Point};
use crate::model::id::EventId;

pub const MANIFEST_FILE: &str = "manifest";
pub const KEYS_FILE: &str = "keys";
/// What is read of all channels at once.
pub const STRIPE_BYTES: u64 = 1024 * 1024;
/// A dedupe key with its time.
pub const KEY_BYTES: usize = 48;

/// Records of one channel.
pub struct Run {
    pub source: Source,
    pub records: Bytes,
    /// A checksum over all of them was right.
    pub is_checked: bool,
}

/// What goes into a segment.
pub struct Content<R, K> {
    /// In the order of their channels, then of their ids.
    pub runs: R,
    /// The first ids of the stripes, ascending. No run of commits reaches over one.
    pub stripes: Vec<EventId>,
    /// In the order of their times.
    pub keys: K,
    /// Number, commits and known damage of the segment.
    pub manifest: Manifest,
}

/// Writes a segment into a folder that does not exist, opens it again, checks it, and writes its manifest. On return it is
/// durable. Blocks.
///
/// # Errors
/// What the disk says, and [`LogError::Unverified`]. What is in the folder then counts for nothing.
pub fn write(
    disk: &Disk,
    dir: &Path,
    content: Content<
        impl Iterator<Item = Result<Run, LogError>>,
        impl Iterator<Item = Result<(Dedupe, u64), LogError>>,
    >,
) -> Result<Manifest, LogError> {
    let mut entries = Entries::new(content);
    let written = Database::write(disk, dir, entries.by_ref());
    if let Some(e) = entries.failed {
        return Err(e);
    }
    written?;
    let mut manifest = entries.manifest;
    verify(disk, dir, &manifest)?;
    manifest.set_file(file_check::sum(disk, dir)?);
    if !entries.key_values.is_empty() {
        disk.replace(Point::CopyWrite, &dir.join(KEYS_FILE), &entries.key_values)?;
    }
    write_manifest(disk, dir, &manifest)?;
    Ok(manifest)
}

/// Writes the manifest of a segment of which nothing is left. Blocks.
///
/// # Errors
/// What the disk says.
pub fn write_empty(disk: &Disk, dir: &Path, mut manifest: Manifest) -> Result<Manifest, LogError> {
    manifest = Manifest {
        format: FORMAT,
        db_bytes: 0,
        db_crcs: Vec::new(),
        db_second_crcs: Vec::new(),
        entries: 0,
        checksum: 0,
        keys: 0,
        keys_ms: 0,
        keys_crc: None,
        ..manifest
    };
    manifest.bytes = 0;
    manifest.channels.clear();
    manifest.sum_up();
    disk.create_dir_all(dir)?;
    write_manifest(disk, dir, &manifest)?;
    if let Some(above) = dir.parent() {
        disk.sync_dir(above)?;
    }
    Ok(manifest)
}

/// Blocks.
///
/// # Errors
/// What the disk says.
pub fn write_manifest(disk: &Disk, dir: &Path, manifest: &Manifest) -> Result<(), DiskError> {
    disk.replace(Point::ManifestWrite, &dir.join(MANIFEST_FILE), &manifest.encode())
}

/// Opens a database that was written and compares all of it with its manifest. Blocks.
fn verify(disk: &Disk, dir: &Path, manifest: &Manifest) -> Result<(), LogError> {
    let unverified = |why: String| LogError::Unverified { path: dir.to_path_buf(), why };
    let database = match Database::open(disk, dir, None) {
        Err(e @ DatabaseError::Damaged { .. }) => return Err(unverified(e.to_string())),
        opened => opened?,
    };
    let mut sum = Checksum::default();
    for entry in database.range::<Vec<u8>>(..) {
        let (key, value) = match entry {
            Err(e @ DatabaseError::Damaged { .. }) => return Err(unverified(e.to_string())),
            entry => entry?,
        };
        if key.first() != Some(&(Kind::Manifest as u8)) {
            sum.add(&key, &value);
        }
    }
    if (sum.entries, sum.crc) != (manifest.entries, manifest.checksum) {
        return Err(unverified(format!("{} of {} entries are right", sum.entries, manifest.entries)));
    }
    Ok(())
}

/// The checksum over entries in their order.
#[derive(Debug, Default)]
pub struct Checksum {
    pub entries: u64,
    pub crc: u32,
}

impl Checksum {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, key), value);
    }
}

/// The keys of one value, as they were written.
pub fn decode_keys(content: &[u8]) -> Option<Vec<(Dedupe, u64)>> {
    let (keys, []) = content.as_chunks::<KEY_BYTES>() else { return None };
    Some(keys.iter().map(|key| (section::key_at(key), section::u64_at(key, KEY_BYTES - 8))).collect())
}

/// A block that was written, for the index of its stripe.
struct Written {
    stripe: usize,
    first: EventId,
    last: EventId,
    channel: u32,
}

/// The block that is being filled.
#[derive(Default)]
struct Filling {
    records: Vec<u8>,
    first: EventId,
    last: EventId,
    stripe: usize,
    events: u64,
}

enum Phase {
    Runs,
    Keys,
    Stripes(usize),
    Manifest,
    Done,
}

/// Makes the entries of a segment in the order of their keys.
struct Entries<R, K> {
    runs: R,
    keys: K,
    stripes: Vec<EventId>,
    manifest: Manifest,
    phase: Phase,
    queue: VecDeque<(Vec<u8>, Vec<u8>)>,
    sum: Checksum,
    filling: Filling,
    /// First id of the block before, or of the stripe before.
    before: EventId,
    blocks: Vec<Written>,
    key_number: u32,
    /// The values with keys one behind the other, for the file beside the database.
    key_values: Vec<u8>,
    failed: Option<LogError>,
}

impl<R, K> Entries<R, K>
where
    R: Iterator<Item = Result<Run, LogError>>,
    K: Iterator<Item = Result<(Dedupe, u64), LogError>>,
{
    fn new(content: Content<R, K>) -> Entries<R, K> {
        let Content { runs, stripes, keys, manifest } = content;
        let manifest = Manifest {
            format: FORMAT,
            channels: Vec::new(),
            bytes: 0,
            keys: 0,
            keys_ms: 0,
            keys_crc: None,
            entries: 0,
            checksum: 0,
            db_bytes: 0,
            db_crcs: Vec::new(),
            db_second_crcs: Vec::new(),
            ..manifest
        };
        Entries {
            runs,
            keys,
            stripes,
            manifest,
            phase: Phase::Runs,
            queue: VecDeque::new(),
            sum: Checksum::default(),
            filling: Filling::default(),
            before: EventId::ZERO,
            blocks: Vec::new(),
            key_number: 0,
            key_values: Vec::new(),
            failed: None,
        }
    }

    /// Makes the next entries, or goes on to the next phase.
    fn advance(&mut self) -> Result<(), LogError> {
        match self.phase {
            Phase::Runs => match self.runs.next() {
                Some(run) => self.take(run?),
                None => {
                    self.end_block();
                    self.blocks.sort_unstable_by_key(|block| (block.stripe, block.first));
                    self.before = EventId::ZERO;
                    self.phase = Phase::Keys;
                }
            },
            Phase::Keys => self.take_keys()?,
            Phase::Stripes(at) if at == self.blocks.len() => self.phase = Phase::Manifest,
            Phase::Stripes(at) => self.end_stripe(at),
            Phase::Manifest => {
                self.manifest.sum_up();
                self.manifest.keys_crc = (self.manifest.keys > 0).then(|| crc32c::crc32c(&self.key_values));
                (self.manifest.entries, self.manifest.checksum) = (self.sum.entries, self.sum.crc);
                let head = Head { kind: Kind::Manifest, number: 0, first: EventId::ZERO, before: EventId::ZERO };
                self.queue.extend(block::entries(head, &self.manifest.encode()));
                self.phase = Phase::Done;
            }
            Phase::Done => {}
        }
        Ok(())
    }

    fn put(&mut self, head: Head, content: &[u8]) {
        for (key, value) in block::entries(head, content) {
            self.sum.add(&key, &value);
            self.queue.push_back((key, value));
        }
    }

    fn take(&mut self, run: Run) {
        let Run { source, records, is_checked } = run;
        if self.manifest.channels.last().is_none_or(|span| span.channel != source.channel.0) {
            self.end_block();
            self.before = EventId::ZERO;
            let (first, last) = (source.first, EventId::ZERO);
            self.manifest.channels.push(ChannelSpan { channel: source.channel.0, first, last, events: 0 });
        }
        let mut whole = Vec::new();
        page::check(&source, &records, is_checked, |record| whole.push(record), &mut self.manifest.damaged);
        for record in whole {
            let before = self.manifest.channels.last().map_or(EventId::ZERO, |span| span.last);
            if record.id <= before.max(self.filling.last) {
                continue;
            }
            let stripe = self.stripes.partition_point(|first| *first <= record.id);
            let bytes = &records[record.start..record.end];
            let is_full = self.filling.records.len() + bytes.len() > PART_BYTES || self.filling.stripe != stripe;
            if self.filling.events > 0 && is_full {
                self.end_block();
            }
            if self.filling.events == 0 {
                (self.filling.first, self.filling.stripe) = (record.id, stripe);
            }
            self.filling.last = record.id;
            self.filling.events += 1;
            self.filling.records.extend_from_slice(bytes);
        }
    }

    fn end_block(&mut self) {
        let Filling { records, first, last, stripe, events } = std::mem::take(&mut self.filling);
        let Some(span) = self.manifest.channels.last_mut() else { return };
        if events == 0 {
            // nothing of the channel could be read
            if span.events == 0 {
                self.manifest.channels.pop();
            }
            return;
        }
        if span.events == 0 {
            span.first = first;
        }
        span.last = last;
        span.events += events;
        let channel = span.channel;
        self.manifest.bytes += records.len() as u64;
        self.put(Head { kind: Kind::Block, number: channel, first, before: self.before }, &records);
        self.before = first;
        self.blocks.push(Written { stripe, first, last, channel });
        self.filling.records = records;
        self.filling.records.clear();
    }

    fn take_keys(&mut self) -> Result<(), LogError> {
        let mut content = Vec::with_capacity(PART_BYTES);
        while content.len() + KEY_BYTES <= PART_BYTES {
            let Some(key) = self.keys.next() else { break };
            let (dedupe, time_ms) = key?;
            section::put_key(&mut content, &dedupe);
            content.extend_from_slice(&time_ms.to_be_bytes());
            self.manifest.keys += 1;
            self.manifest.keys_ms = self.manifest.keys_ms.max(time_ms);
        }
        if content.is_empty() {
            self.phase = Phase::Stripes(0);
            return Ok(());
        }
        let head = Head { kind: Kind::Keys, number: self.key_number, first: EventId::ZERO, before: EventId::ZERO };
        self.key_number += 1;
        self.put(head, &content);
        for (_, value) in &self.queue {
            self.key_values.extend_from_slice(value);
        }
        Ok(())
    }

    fn end_stripe(&mut self, at: usize) {
        let stripe = self.blocks[at].stripe;
        let blocks = self.blocks[at..].iter().take_while(|block| block.stripe == stripe);
        let mut content = Vec::new();
        for block in blocks {
            content.extend_from_slice(&block.channel.to_be_bytes());
            content.extend_from_slice(&block.first.to_bytes());
            content.extend_from_slice(&block.last.to_bytes());
        }
        let first = self.blocks[at].first;
        self.phase = Phase::Stripes(at + content.len() / STRIPE_ENTRY_BYTES);
        self.put(Head { kind: Kind::Stripe, number: 0, first, before: self.before }, &content);
        self.before = first;
    }
}

impl<R, K> Iterator for Entries<R, K>
where
    R: Iterator<Item = Result<Run, LogError>>,
    K: Iterator<Item = Result<(Dedupe, u64), LogError>>,
{
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.queue.is_empty() && !matches!(self.phase, Phase::Done) {
            if let Err(e) = self.advance() {
                self.failed = Some(e);
                return None;
            }
        }
        self.queue.pop_front()
    }
}
