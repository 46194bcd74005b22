//! Rebuilding a damaged segment: what can be found of it is written into a new one, and what is missing is noted.
//!
//! The new segment is written beside the damaged one and takes its name by renaming, so that at each moment one of them is
//! complete. Its manifest tells what is missing, so that this is known again after a crash. The damaged one is kept in the
//! quarantine when anything is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{self, Head, Kind, MAGIC, Part};
use super::file_check::{self, Healed};
use super::losses::DamagedRange;
use super::manifest::{ChannelSpan, FORMAT_1, Manifest};
use super::page::Source;
use super::sealed::{Sealed, Trouble, last_id};
use super::segment_writer::{self, Content, KEYS_FILE, Run, STRIPE_BYTES, decode_keys};
use super::state::{Log, folder};
use super::{Dedupe, LogError, format_1, record};
use crate::disk::database::{Database, salvage};
use crate::disk::{Disk, DiskError, Open, Point};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

impl Log {
    /// Puts a damaged segment right: single flipped bits in its file, or else by a rebuilt one in its place. Does nothing when
    /// that has been done meanwhile, nor at the first attempt when its file turns out to be whole. Blocks.
    ///
    /// # Errors
    /// What the disk says. Then the damaged one is still there.
    pub(super) fn repair(&self, damaged: &Arc<Sealed>, why: &str, attempt: usize) -> Result<(), LogError> {
        let segment = damaged.segment();
        let claim = self.databases.claim(segment);
        let is_current = self.state.read().sealed.iter().any(|sealed| Arc::ptr_eq(sealed, damaged));
        if !is_current {
            return Ok(());
        }
        match file_check::heal(&self.disk, &damaged.dir, &damaged.manifest.file())? {
            Healed::Intact if attempt == 0 => {
                ::log::warn!(segment:display = damaged.dir.display(); "a segment of the log could not be read, though its file is whole: {why}");
                return Ok(());
            }
            Healed::Bits(bits) => {
                ::log::error!(segment:display = damaged.dir.display(), bits; "flipped bits of a segment were put right: {why}");
                return Ok(());
            }
            Healed::Intact | Healed::No => {}
        }
        ::log::error!(segment:display = damaged.dir.display(); "a segment of the log is damaged and is rebuilt: {why}");
        let fresh = self.dir.join(format!("{}.new", folder(segment)));
        self.remove_unsealed(&fresh)?;
        let manifest = match rebuild(&self.disk, &damaged.dir, &fresh, &damaged.manifest) {
            Ok(manifest) => manifest,
            Err(e) => {
                // what is left there is removed by the next attempt as well
                let _ = self.remove_unsealed(&fresh);
                return Err(e);
            }
        };
        let missing: Vec<DamagedRange> =
            manifest.damaged.iter().filter(|range| !damaged.manifest.damaged.contains(range)).copied().collect();
        // known before the damaged one goes
        self.note_damage(&missing);
        let old = self.dir.join(format!("{}.old", folder(segment)));
        self.disk.remove_dir_all(&old)?;
        self.disk.rename(&damaged.dir, &old)?;
        self.disk.sync_dir(&self.dir)?;
        self.disk.rename(&fresh, &damaged.dir)?;
        self.disk.sync_dir(&self.dir)?;
        let disk_bytes = self.disk_bytes(&damaged.dir)?;
        let now_ms = {
            let mut state = self.state.write();
            // retention may have dropped it meanwhile, and then its folder goes
            if state.sealed.iter().any(|sealed| Arc::ptr_eq(sealed, damaged)) {
                state.add(Arc::new(Sealed::new(damaged.dir.clone(), manifest, disk_bytes)));
            }
            state.clock.wall_ms
        };
        drop(claim);
        if missing.is_empty() {
            ::log::warn!(segment:display = damaged.dir.display(); "the segment is rebuilt, nothing is missing");
            return Ok(self.disk.remove_dir_all(&old)?);
        }
        self.put_aside(&old, segment, now_ms, why)
    }

    /// Keeps a damaged segment, with the reason beside it. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn put_aside(&self, dir: &Path, segment: u64, now_ms: u64, why: &str) -> Result<(), LogError> {
        let aside = put_aside(&self.disk, &self.quarantine, dir, segment, now_ms, why)?;
        self.quarantined.lock().push(aside.display().to_string());
        Ok(())
    }
}

/// Moves a damaged segment into the quarantine, with the reason beside it. Blocks.
///
/// # Errors
/// What the disk says.
pub fn put_aside(
    disk: &Disk,
    quarantine: &Path,
    dir: &Path,
    segment: u64,
    now_ms: u64,
    why: &str,
) -> Result<PathBuf, DiskError> {
    disk.create_dir_all(quarantine)?;
    let aside = quarantine.join(format!("{}-{now_ms}", folder(segment)));
    disk.rename(dir, &aside)?;
    for folder in [quarantine].into_iter().chain(quarantine.parent()).chain(dir.parent()) {
        disk.sync_dir(folder)?;
    }
    let note = disk.open(Point::ManifestWrite, &aside.join("reason"), Open::CreateOrOpen)?;
    note.write_at(Point::ManifestWrite, format!("{why}\n").as_bytes(), 0)?;
    note.sync_data(Point::ManifestWrite)?;
    ::log::error!(segment:display = aside.display(); "a damaged segment is in quarantine: {why}");
    Ok(aside)
}

/// Writes what can be found of a segment into a new folder. Blocks.
///
/// # Errors
/// What the disk says.
fn rebuild(disk: &Disk, dir: &Path, fresh: &Path, known: &Manifest) -> Result<Manifest, LogError> {
    if known.format == FORMAT_1 {
        return rescue(disk, dir, fresh, known);
    }
    let found = Found::search(disk, dir, known)?;
    let manifest = Manifest { keys: 0, ..known.clone() };
    if found.blocks.is_empty() && found.keys.is_empty() {
        let lost = known.channels.iter().map(whole);
        let damaged = known.damaged.iter().copied().chain(lost).collect();
        return segment_writer::write_empty(disk, fresh, Manifest { damaged, ..manifest });
    }
    let content = Content { runs: found.runs(&known.channels), stripes: found.stripes(), keys: found.keys(), manifest };
    segment_writer::write(disk, fresh, content)
}

/// How many events of each channel cannot be found any more in a segment; none for a segment that is older than the write-ahead log,
/// which has to be opened for that. Blocks.
///
/// # Errors
/// What the disk says.
pub fn count_missing(disk: &Disk, dir: &Path, known: &Manifest) -> Result<Option<Vec<(u32, u64)>>, LogError> {
    if known.format == FORMAT_1 {
        return Ok(None);
    }
    let found = Found::search(disk, dir, known)?;
    let missing = known.channels.iter().map(|span| (span.channel, span.events.saturating_sub(found.events(span))));
    Ok(Some(missing.filter(|(_, events)| *events > 0).collect()))
}

/// All that a segment holds of a channel, as damage.
fn whole(span: &ChannelSpan) -> DamagedRange {
    DamagedRange { after: span.first.before(), through: span.last, channel: span.channel }
}

/// A block that was found, with all its parts.
struct FoundBlock {
    head: Head,
    last: EventId,
    parts: Vec<Part>,
}

/// Parts of values that were found, those of a value together.
#[derive(Default)]
struct Parts(BTreeMap<(Kind, u32, EventId), Vec<Part>>);

impl Parts {
    /// Takes the part that begins here, and says how long it is.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let length = block::length(bytes)?;
        let part = Part::read(Bytes::copy_from_slice(&bytes[..length]))?;
        let same = self.0.entry((part.head.kind, part.head.number, part.head.first)).or_default();
        if let Err(at) = same.binary_search_by_key(&part.part, |part| part.part) {
            same.insert(at, part);
        }
        Some(length)
    }

    /// The manifest, if it can be read.
    fn manifest(&self) -> Option<Manifest> {
        let (_, parts) = self.0.iter().find(|((kind, ..), _)| *kind == Kind::Manifest)?;
        Manifest::decode(&block::join(parts)?).ok()
    }
}

/// What is left of a segment.
struct Found {
    /// In the order of channels and ids.
    blocks: Vec<FoundBlock>,
    keys: BTreeMap<u32, Bytes>,
}

impl Found {
    /// Searches the raw file of the database, and the copy of the dedupe keys. Of a database that is another segment's, or another
    /// data folder's, nothing counts. Blocks.
    fn search(disk: &Disk, dir: &Path, known: &Manifest) -> Result<Found, LogError> {
        let mut parts = Parts::default();
        salvage(disk, dir, MAGIC, |bytes| parts.take(bytes))?;
        if let Some(why) = parts.manifest().and_then(|manifest| manifest.is_not(known)) {
            ::log::error!(segment:display = dir.display(); "nothing in the database of a segment is used: {why}");
            parts = Parts::default();
        }
        let copy = dir.join(KEYS_FILE);
        if disk.exists(&copy)? {
            let bytes = disk.read(Point::CopyRead, &copy)?;
            let mut at = 0;
            while at < bytes.len() {
                at += parts.take(&bytes[at..]).unwrap_or(1);
            }
        }
        let mut found = Found { blocks: Vec::new(), keys: BTreeMap::new() };
        for ((kind, number, _), parts) in parts.0 {
            let Some(content) = block::join(&parts) else { continue };
            match kind {
                Kind::Keys => drop(found.keys.insert(number, content)),
                Kind::Block => {
                    if let Ok(last) = last_id(&content) {
                        found.blocks.push(FoundBlock { head: parts[0].head, last, parts });
                    }
                }
                Kind::Stripe | Kind::Manifest => {}
            }
        }
        Ok(found)
    }

    /// The blocks of a channel. What lies beyond what the segment held is not of it.
    fn of<'a>(&'a self, span: &'a ChannelSpan) -> impl Iterator<Item = &'a FoundBlock> {
        let from = self.blocks.partition_point(|block| block.head.number < span.channel);
        let end = self.blocks.partition_point(|block| block.head.number <= span.channel);
        self.blocks[from..end].iter().filter(|block| span.first <= block.head.first && block.last <= span.last)
    }

    /// How many events of a channel were found.
    fn events(&self, span: &ChannelSpan) -> u64 {
        let records = self.of(span).map(|block| block::join(&block.parts).unwrap_or_default());
        records.map(|records| record::scan(&records, true).count() as u64).sum()
    }

    /// The blocks, and in the place of those that are missing runs without records.
    fn runs<'a>(&'a self, spans: &'a [ChannelSpan]) -> impl Iterator<Item = Result<Run, LogError>> + 'a {
        spans.iter().flat_map(|span| {
            let channel = ChannelNo(span.channel);
            let (mut before, mut through) = (EventId::ZERO, span.first.before());
            let mut runs = Vec::new();
            for block in self.of(span) {
                if block.head.before != before {
                    runs.push(Piece::Hole(hole(channel, through, block.head.first.before())));
                }
                runs.push(Piece::Block(block));
                (before, through) = (block.head.first, block.last);
            }
            if through != span.last {
                runs.push(Piece::Hole(hole(channel, through, span.last)));
            }
            runs.into_iter().map(|piece| Ok(piece.run()))
        })
    }

    /// Where no block reaches over, about so far apart as stripes are.
    fn stripes(&self) -> Vec<EventId> {
        let mut blocks: Vec<_> = self.blocks.iter().map(|block| (block.head.first, block.last)).collect();
        blocks.sort_unstable();
        let (mut stripes, mut filled, mut reach) = (Vec::new(), u64::MAX, EventId::ZERO);
        for (first, last) in blocks {
            if filled >= STRIPE_BYTES && first > reach {
                stripes.push(first);
                filled = 0;
            }
            filled = filled.saturating_add(block::PART_BYTES as u64);
            reach = reach.max(last);
        }
        stripes
    }

    fn keys(&self) -> impl Iterator<Item = Result<(Dedupe, u64), LogError>> {
        self.keys.values().filter_map(|content| decode_keys(content)).flatten().map(Ok)
    }
}

enum Piece<'a> {
    Block(&'a FoundBlock),
    Hole(Run),
}

impl Piece<'_> {
    fn run(self) -> Run {
        match self {
            Piece::Hole(run) => run,
            Piece::Block(block) => Run {
                source: Source { channel: ChannelNo(block.head.number), first: block.head.first, last: block.last },
                // it could be put together when it was found
                records: block::join(&block.parts).unwrap_or_default(),
                is_checked: true,
            },
        }
    }
}

/// Events (after, through] of a channel, of which no record is left.
fn hole(channel: ChannelNo, after: EventId, through: EventId) -> Run {
    let source = Source { channel, first: after.plus(1), last: through };
    Run { source, records: Bytes::new(), is_checked: true }
}

/// Writes what can be read of a segment that is older than the write-ahead log. Its values cannot be found in the raw file, so
/// each channel is read from both ends up to where that fails. Blocks.
fn rescue(disk: &Disk, dir: &Path, fresh: &Path, known: &Manifest) -> Result<Manifest, LogError> {
    // sled changes what it opens, and the damaged file is kept as it is
    let copy = fresh.with_extension("copy");
    disk.remove_dir_all(&copy)?;
    copy_files(disk, dir, &copy)?;
    let rescued = match Database::open(disk, &copy, None) {
        Ok(database) => rescue_from(disk, &database, fresh, known)?,
        Err(e) if e.is_damage() => None,
        Err(e) => return Err(e.into()),
    };
    disk.remove_dir_all(&copy)?;
    if let Some(manifest) = rescued {
        return Ok(manifest);
    }
    disk.remove_dir_all(fresh)?;
    let damaged = known.damaged.iter().copied().chain(known.channels.iter().map(whole)).collect();
    segment_writer::write_empty(disk, fresh, Manifest { damaged, ..known.clone() })
}

fn copy_files(disk: &Disk, from: &Path, to: &Path) -> Result<(), DiskError> {
    disk.create_dir_all(to)?;
    for entry in disk.list(from)?.into_iter().filter(|entry| !entry.is_dir) {
        let bytes = disk.read(Point::SalvageRead, &from.join(&entry.name))?;
        let copy = disk.open(Point::DatabaseWrite, &to.join(&entry.name), Open::CreateNew)?;
        copy.write_at(Point::DatabaseWrite, &bytes, 0)?;
    }
    Ok(())
}

/// None when there is nothing left.
fn rescue_from(disk: &Disk, database: &Database, fresh: &Path, known: &Manifest) -> Result<Option<Manifest>, LogError> {
    let runs = known.channels.iter().flat_map(|span| match rescue_channel(database, span) {
        Ok(runs) => runs.into_iter().map(Ok).collect(),
        Err(e) => vec![Err(e)],
    });
    let mut keys = format_1::keys_as_far_as_possible(database)?;
    keys.sort_by_key(|(_, time_ms)| *time_ms);
    let stripes = format_1::stripes(database, known)?;
    let keys = keys.into_iter().map(Ok);
    let written = segment_writer::write(disk, fresh, Content { runs, stripes, keys, manifest: known.clone() })?;
    Ok((written.events > 0 || written.keys > 0).then_some(written))
}

fn rescue_channel(database: &Database, span: &ChannelSpan) -> Result<Vec<Run>, LogError> {
    let no = ChannelNo(span.channel);
    let failed = |trouble: Trouble| match trouble {
        Trouble::Failed(e) => e,
        // a walk ends by damage, it does not fail by it
        Trouble::Damaged(why) => LogError::Beyond { path: PathBuf::new(), why },
    };
    let run = |(source, records): (Source, Bytes)| Run { source, records, is_checked: false };
    let mut runs = Vec::new();
    let is_whole =
        format_1::walk(database, no, true, |source, records| runs.push(run((source, records)))).map_err(failed)?;
    let reached = runs.last().map_or(span.first.before(), |run| run.source.last);
    if is_whole {
        if reached != span.last {
            runs.push(hole(no, reached, span.last));
        }
        return Ok(runs);
    }
    let mut rest = Vec::new();
    format_1::walk(database, no, false, |source, records| rest.push((source, records))).map_err(failed)?;
    rest.retain(|(source, _)| source.first > reached);
    rest.reverse();
    let next = rest.first().map_or(span.last.plus(1), |(source, _)| source.first);
    runs.push(hole(no, reached, next.before()));
    runs.extend(rest.into_iter().map(run));
    Ok(runs)
}
