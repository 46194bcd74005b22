//! What the folder `log` holds, for people: from manifests and lengths of files. No database is opened, because opening one
//! writes.

use std::path::Path;

use bytes::Bytes;

use super::block::{self, Kind, MAGIC, Part};
use super::losses::DamagedRange;
use super::manifest::{BadManifest, Manifest};
use super::segment_writer::MANIFEST_FILE;
use super::state::folder;
use super::{LogError, newest};
use crate::disk::database::salvage;
use crate::disk::{Disk, Point};
use crate::model::id::EventId;

/// What was found in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSurvey {
    /// By number.
    pub segments: Vec<SegmentSurvey>,
    /// The number of the segment that was sealed last; none when that is not known.
    pub newest: Option<u64>,
    /// The newest commit of which anything was sealed.
    pub sealed_through: u64,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSurvey {
    pub number: u64,
    /// Of all its files.
    pub bytes: u64,
    pub state: SegmentState,
    // as the manifest says; nothing where there is none
    pub events: u64,
    pub first: Option<EventId>,
    pub last: Option<EventId>,
    /// Channels with their events.
    pub channels: Vec<(u32, u64)>,
    /// What is known to be damaged in it.
    pub damaged: Vec<DamagedRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentState {
    Whole,
    /// There is no manifest: the server stopped while it was written, or the manifest was taken away.
    Unfinished,
    /// The manifest is damaged. `is_in_database`: the database has another one.
    BadManifest {
        why: String,
        is_in_database: bool,
    },
    Newer(u32),
    NoDatabase,
    WrongLength {
        bytes: u64,
        expected_bytes: u64,
    },
}

impl LogSurvey {
    /// Looks at the log of a data folder. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn of(disk: &Disk, data_dir: &Path) -> Result<LogSurvey, LogError> {
        let dir = data_dir.join("log");
        let mut survey = LogSurvey::default();
        let entries = match disk.list(&dir) {
            Err(e) if e.is_missing() => return Ok(survey),
            entries => entries?,
        };
        let newest = newest::read(disk, &dir)?;
        survey.newest = newest.map(|newest| newest.segment);
        survey.sealed_through = newest.map_or(0, |newest| newest.through);
        let numbers = entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.name.parse().ok());
        for number in numbers {
            let path = dir.join(folder(number));
            let (manifest, state) = manifest(disk, &path)?;
            let manifest = manifest.filter(|manifest| manifest.segment == number).unwrap_or_default();
            survey.sealed_through = survey.sealed_through.max(manifest.through);
            survey.segments.push(SegmentSurvey {
                number,
                bytes: disk.bytes_below(&path)?,
                state,
                events: manifest.events,
                first: manifest.first,
                last: manifest.last,
                channels: manifest.channels.iter().map(|span| (span.channel, span.events)).collect(),
                damaged: manifest.damaged,
            });
        }
        survey.segments.sort_unstable_by_key(|segment| segment.number);
        Ok(survey)
    }
}

fn manifest(disk: &Disk, dir: &Path) -> Result<(Option<Manifest>, SegmentState), LogError> {
    let path = dir.join(MANIFEST_FILE);
    let text = match disk.read(Point::ManifestRead, &path) {
        Err(e) if e.is_missing() => return Ok((None, SegmentState::Unfinished)),
        text => text?,
    };
    let manifest = match Manifest::decode(&text) {
        Ok(manifest) => manifest,
        Err(BadManifest::Newer(format)) => return Ok((None, SegmentState::Newer(format))),
        Err(BadManifest::Damaged(why)) => {
            let found = manifest_in_database(disk, dir)?;
            let is_in_database = found.is_some();
            return Ok((found, SegmentState::BadManifest { why, is_in_database }));
        }
    };
    let state = match disk.len(&dir.join("db"))? {
        _ if manifest.db_bytes == 0 => SegmentState::Whole,
        None => SegmentState::NoDatabase,
        Some(bytes) if bytes != manifest.db_bytes => {
            SegmentState::WrongLength { bytes, expected_bytes: manifest.db_bytes }
        }
        Some(_) => SegmentState::Whole,
    };
    Ok((Some(manifest), state))
}

/// The manifest that stands in the raw file of the database.
fn manifest_in_database(disk: &Disk, dir: &Path) -> Result<Option<Manifest>, LogError> {
    if !disk.exists(&dir.join("db"))? {
        return Ok(None);
    }
    let mut parts: Vec<Part> = Vec::new();
    salvage(disk, dir, MAGIC, |bytes| {
        let length = block::length(bytes)?;
        let part = Part::read(Bytes::copy_from_slice(&bytes[..length]))?;
        if part.head.kind == Kind::Manifest
            && let Err(at) = parts.binary_search_by_key(&part.part, |part| part.part)
        {
            parts.insert(at, part);
        }
        Some(length)
    })?;
    Ok(block::join(&parts).and_then(|text| Manifest::decode(&text).ok()))
}
