//! Taking over the segments of a server that had no write-ahead log: each gets a manifest and stays as it is.
//!
//! A segment that has its manifest is done, so that this can be repeated after a crash. Nothing else is changed, except that a
//! damaged segment goes into the quarantine and leaves a manifest that tells so.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::losses::{DamagedRange, LossDocument};
use super::manifest::{FORMAT_1, Manifest};
use super::newest::{self, Newest};
use super::repair::put_aside;
use super::sealed::Trouble;
use super::segment_writer::{self, MANIFEST_FILE};
use super::state::folder;
use super::{LogError, file_check, format_1};
use crate::disk::database::Database;
use crate::disk::{Disk, Point};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::LogId;

/// Present in the folder of a segment that was begun completely; before that it holds nothing.
pub(super) const BEGUN_FILE: &str = "begun";
/// What retention and damage took, as the older server kept it.
const LOST_FILE: &str = "lost.json";

#[derive(Debug, Default, Deserialize)]
struct Lost {
    expired: BTreeMap<u32, EventId>,
    damaged: Vec<(EventId, EventId)>,
    head: EventId,
}

/// Reads a segment through, closes it, and makes its manifest. Blocks.
///
/// # Errors
/// [`Trouble::Damaged`] when what it holds cannot be told, [`Trouble::Failed`] when the disk or the database fails.
pub fn survey(disk: &Disk, dir: &Path, database: Database, segment: u64) -> Result<Manifest, Trouble> {
    let mut manifest = Manifest { format: FORMAT_1, segment, ..Manifest::default() };
    format_1::survey(&database, &mut manifest)?;
    manifest.was_unsealed = !format_1::is_sealed(&database)?;
    drop(database);
    manifest.set_file(file_check::sum(disk, dir)?);
    Ok(manifest)
}

/// Writes manifests for the segments of an older server, also for the one that it was still writing, and returns what it knew
/// to be lost. The caller stores that before it marks the folder as migrated. `id` is that of the new write-ahead log. Blocks.
///
/// # Errors
/// Whatever keeps a segment from being read and is no damage. It can be called again then.
pub fn adopt_format_1(disk: &Disk, data_dir: &Path, id: LogId, now_ms: u64) -> Result<Vec<LossDocument>, LogError> {
    let dir = data_dir.join("log");
    if !disk.exists(&dir)? {
        return Ok(Vec::new());
    }
    let mut segments: Vec<u64> = disk.list(&dir)?.iter().filter_map(|entry| entry.name.parse().ok()).collect();
    segments.sort_unstable();
    let (lost, is_whole) = read_lost(disk, &dir)?;
    let mut ranges: Vec<(EventId, EventId)> = lost.damaged.clone();
    let is_known = |ranges: &[(EventId, EventId)], id: EventId| ranges.iter().any(|(from, to)| *from <= id && id < *to);
    let (mut newest, mut hole, mut oldest) = (EventId::ZERO, None, None);
    // what lies behind the newest event and before the next one
    let close = |hole: &mut Option<EventId>, next: EventId, ranges: &mut Vec<(EventId, EventId)>| {
        if let Some(after) = hole.take()
            && !is_known(ranges, after)
        {
            ranges.push((after, next.before()));
        }
    };
    let first = segments.first().copied().unwrap_or(1);
    let mut empty = Vec::new();
    for segment in first..=segments.last().copied().unwrap_or(0) {
        let path = dir.join(folder(segment));
        let is_last = segments.last() == Some(&segment);
        if !segments.contains(&segment) {
            // the older server had it in quarantine, or somebody took it away
            hole.get_or_insert(newest);
            empty.push(segment);
            continue;
        }
        if is_last && !disk.exists(&path.join(BEGUN_FILE))? && !disk.exists(&path.join(MANIFEST_FILE))? {
            // it holds nothing; the next segment takes its place
            continue;
        }
        match adopt(disk, &path, id, segment) {
            Ok(None) => {
                // damaged, noted by an attempt before this one
                hole.get_or_insert(newest);
            }
            Ok(Some(manifest)) => {
                if let Some(first) = manifest.first {
                    close(&mut hole, first, &mut ranges);
                    oldest.get_or_insert(first);
                }
                newest = newest.max(manifest.last.unwrap_or_default());
                if manifest.was_unsealed && !is_last {
                    // a segment was sealed before the next one began, so the end of this one is lost
                    hole.get_or_insert(newest);
                }
            }
            Err(Trouble::Failed(e)) => return Err(e),
            Err(Trouble::Damaged(why)) => {
                hole.get_or_insert(newest);
                empty.push(segment);
                put_aside(disk, &data_dir.join("quarantine"), &path, segment, now_ms, &why)?;
            }
        }
    }
    close(&mut hole, EventId::at_time(now_ms), &mut ranges);
    if !is_whole {
        ranges.push((EventId::ZERO, oldest.unwrap_or(EventId::at_time(now_ms)).before()));
    }
    for segment in empty {
        let manifest = Manifest { segment, log: Some(id), ..Manifest::default() };
        segment_writer::write_empty(disk, &dir.join(folder(segment)), manifest)?;
    }
    // a last one that holds nothing has no manifest
    let mut newest = first.saturating_sub(1);
    for segment in first..=segments.last().copied().unwrap_or(0) {
        if disk.exists(&dir.join(folder(segment)).join(MANIFEST_FILE))? {
            newest = segment;
        }
    }
    newest::write(disk, &dir, Newest { segment: newest, through: 0 })?;
    let expired = lost.expired.into_iter().map(|(channel, through)| LossDocument::Expired { channel, through });
    let damaged = ranges
        .into_iter()
        .map(|(after, through)| LossDocument::Damaged(DamagedRange::new(ChannelNo::ALL, after, through)));
    let dropped = LossDocument::Dropped { segment: first.saturating_sub(1), head: lost.head };
    Ok(expired.chain(damaged).chain([dropped]).collect())
}

/// Takes the manifests of a migration away that has failed: the folder is the older server's again. Blocks.
///
/// # Errors
/// What the disk says. It can be called again then.
pub fn abandon_format_1(disk: &Disk, data_dir: &Path) -> Result<(), LogError> {
    let dir = data_dir.join("log");
    if !disk.exists(&dir)? {
        return Ok(());
    }
    let segments = disk.list(&dir)?.into_iter().filter(|entry| entry.is_dir).map(|entry| dir.join(entry.name));
    let of_migration = segments.filter(|segment| disk.exists(&segment.join(BEGUN_FILE)).unwrap_or(false));
    let manifests = of_migration.map(|segment| segment.join(MANIFEST_FILE)).chain([newest::path(&dir)]);
    for path in manifests {
        if disk.exists(&path)? {
            disk.remove_file(&path)?;
        }
    }
    Ok(disk.sync_dir(&dir)?)
}

/// Writes the manifest of one segment, unless it has one. None for one that only tells that the segment was damaged.
fn adopt(disk: &Disk, dir: &Path, id: LogId, segment: u64) -> Result<Option<Manifest>, Trouble> {
    let path = dir.join(MANIFEST_FILE);
    if disk.exists(&path)? {
        let text = disk.read(Point::ManifestRead, &path)?;
        if let Ok(manifest) = Manifest::decode(&text) {
            // an attempt that was interrupted had another id
            let manifest = Manifest { log: Some(id), ..manifest };
            segment_writer::write_manifest(disk, dir, &manifest)?;
            return Ok((manifest.format == FORMAT_1).then_some(manifest));
        }
    }
    let database = Database::open(disk, dir, None)?;
    let manifest = Manifest { log: Some(id), ..survey(disk, dir, database, segment)? };
    segment_writer::write_manifest(disk, dir, &manifest)?;
    Ok(Some(manifest))
}

/// What the older server knew to be lost, and false when that cannot be read.
fn read_lost(disk: &Disk, dir: &Path) -> Result<(Lost, bool), LogError> {
    let path = dir.join(LOST_FILE);
    if !disk.exists(&path)? {
        return Ok((Lost::default(), true));
    }
    match serde_json::from_slice(&disk.read(Point::ManifestRead, &path)?) {
        Ok(lost) => Ok((lost, true)),
        Err(e) => {
            ::log::error!(file:display = path.display(); "what retention took cannot be read and is taken to be everything before the oldest event: {e}");
            Ok((Lost::default(), false))
        }
    }
}
