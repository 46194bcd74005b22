//! What the folder `log` holds, for people: from manifests and lengths of files, and from every byte where that is asked for. No
//! database is opened, because opening one writes.

use std::path::Path;

use bytes::Bytes;

use super::block::{self, Kind, MAGIC, Part};
use super::file_check::{self, Healed};
use super::losses::DamagedRange;
use super::manifest::{BadManifest, Manifest};
use super::segment_writer::{KEYS_FILE, MANIFEST_FILE};
use super::state::folder;
use super::{LogError, newest, repair};
use crate::disk::database::salvage;
use crate::disk::{Disk, Point};
use crate::model::id::EventId;
use crate::wal::LogId;

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
    /// The file `conf`, which lies beside the database, is missing.
    NoConf,
    WrongLength {
        bytes: u64,
        expected_bytes: u64,
    },
    /// It is that of another place, or of another data folder.
    Stranger {
        why: String,
    },
    /// So many bits of its database are flipped, and can be put right.
    Flipped {
        bits: usize,
    },
    /// Its database is not what was written. `missing`: how many events of each channel cannot be found any more, if that is known.
    Damaged {
        missing: Option<Vec<(u32, u64)>>,
    },
    /// Its dedupe keys are, which its database has as well.
    BadKeys,
}

/// How a log is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLook {
    /// Which log it has to be; none when that is not known.
    pub id: Option<LogId>,
    /// Every byte of the segments is read.
    pub is_deep: bool,
}

impl LogSurvey {
    /// Looks at the log of a data folder. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn of(disk: &Disk, data_dir: &Path, look: LogLook) -> Result<LogSurvey, LogError> {
        let dir = data_dir.join("log");
        let mut survey = LogSurvey::default();
        let entries = match disk.list(&dir) {
            Err(e) if e.is_missing() => return Ok(survey),
            entries => entries?,
        };
        let newest = newest::read(disk, &dir)?;
        survey.newest = newest.map(|newest| newest.segment);
        survey.sealed_through = newest.map_or(0, |newest| newest.through);
        let names: Vec<&str> = entries.iter().filter(|entry| entry.is_dir).map(|entry| &*entry.name).collect();
        for name in &names {
            let (number, is_fresh) = match name.strip_suffix(".new") {
                Some(number) => (number, true),
                None => (*name, false),
            };
            let Ok(number) = number.parse() else { continue };
            let path = dir.join(name);
            let (manifest, mut state) = manifest(disk, &path, number, look.id)?;
            // a rebuilt one takes its place with the next start, if it is whole and nothing else is there
            if is_fresh && (manifest.is_none() || names.contains(&&*folder(number))) {
                continue;
            }
            if look.is_deep
                && let (SegmentState::Whole, Some(manifest)) = (&state, &manifest)
            {
                state = read_through(disk, &path, manifest)?;
            }
            let manifest = manifest.unwrap_or_default();
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

/// Compares all that a segment holds with its manifest.
fn read_through(disk: &Disk, dir: &Path, manifest: &Manifest) -> Result<SegmentState, LogError> {
    if manifest.db_bytes > 0 {
        match file_check::look(disk, dir, &manifest.file())? {
            Healed::Intact => {}
            Healed::Bits(bits) => return Ok(SegmentState::Flipped { bits }),
            Healed::No => {
                return Ok(SegmentState::Damaged { missing: repair::count_missing(disk, dir, manifest)? });
            }
        }
    }
    if let Some(crc) = manifest.keys_crc {
        let keys = match disk.read(Point::CopyRead, &dir.join(KEYS_FILE)) {
            Err(e) if e.is_missing() => Vec::new(),
            keys => keys?,
        };
        if crc32c::crc32c(&keys) != crc {
            return Ok(SegmentState::BadKeys);
        }
    }
    Ok(SegmentState::Whole)
}

fn manifest(
    disk: &Disk,
    dir: &Path,
    segment: u64,
    log: Option<LogId>,
) -> Result<(Option<Manifest>, SegmentState), LogError> {
    let path = dir.join(MANIFEST_FILE);
    let stranger = |manifest: &Manifest| manifest.stranger(&log.or(manifest.log).unwrap_or(LogId([0; 16])), segment);
    let text = match disk.read(Point::ManifestRead, &path) {
        Err(e) if e.is_missing() => return Ok((None, SegmentState::Unfinished)),
        text => text?,
    };
    let bad = |why: String, is_stranger: bool| -> Result<(Option<Manifest>, SegmentState), LogError> {
        let found = manifest_in_database(disk, dir)?;
        if let Some(why) = found.as_ref().and_then(stranger) {
            return Ok((None, SegmentState::Stranger { why }));
        }
        if is_stranger && found.is_none() {
            return Ok((None, SegmentState::Stranger { why }));
        }
        let is_in_database = found.is_some();
        Ok((found, SegmentState::BadManifest { why, is_in_database }))
    };
    let manifest = match Manifest::decode(&text) {
        Ok(manifest) => manifest,
        Err(BadManifest::Newer(format)) => return Ok((None, SegmentState::Newer(format))),
        Err(BadManifest::Damaged(why)) => return bad(why, false),
    };
    if let Some(why) = stranger(&manifest) {
        return bad(why, true);
    }
    let state = match disk.len(&dir.join("db"))? {
        _ if manifest.db_bytes == 0 => SegmentState::Whole,
        None => SegmentState::NoDatabase,
        Some(bytes) if bytes != manifest.db_bytes => {
            SegmentState::WrongLength { bytes, expected_bytes: manifest.db_bytes }
        }
        // a simulated disk has no databases of sled
        Some(_) if disk.simulation().is_none() && !disk.exists(&dir.join("conf"))? => SegmentState::NoConf,
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
