//! Rolling the active part, and sealing what was rolled.

use std::path::Path;
use std::sync::Arc;

use super::active::{Active, KeysPlace};
use super::manifest::{FORMAT, Manifest};
use super::newest::{self, Newest};
use super::sealed::Sealed;
use super::segment_writer::{self, Content, MANIFEST_FILE, Run, STRIPE_BYTES};
use super::state::Log;
use super::{Dedupe, LogError, LogOptions, Moment, Retention, section};
use crate::disk::DiskError;
use crate::model::event::ChannelNo;

/// A segment is not sealed before its records have this size, however small retention is.
const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Nor before it holds this many events, nor before it is this old.
const SEGMENT_EVENTS_MIN: u64 = 64;
const SEGMENT_AGE_MS_MIN: u64 = 1000;
/// Retention works in whole segments; a segment is at most this part of what is kept.
const RETENTION_PARTS: u64 = 4;
/// Blocks of one unsealed part, whose index entries take 48 bytes each.
const BLOCKS_MAX: usize = 512 * 1024;
/// So many times its size the active part may have while the one before it is not sealed.
const OVERSIZE: u64 = 2;

/// What one step of sealing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealStep {
    /// Nothing waits to be sealed.
    Idle,
    Sealed {
        segment: u64,
        events: u64,
        record_bytes: u64,
        disk_bytes: u64,
    },
}

impl LogOptions {
    /// Bytes of records at which a segment is full.
    pub(super) fn segment_bytes(&self) -> u64 {
        let part = part(self.retention.max_bytes, SEGMENT_BYTES_MIN);
        self.segment_max_bytes.max(SEGMENT_BYTES_MIN).min(part)
    }
}

fn part(limit: u64, least: u64) -> u64 {
    if limit == 0 { u64::MAX } else { (limit / RETENTION_PARTS).max(least) }
}

impl Log {
    /// Whether the active part is large or old enough to be sealed. It holds something.
    fn is_full(&self, active: &Active, now_ms: u64) -> bool {
        let sums = active.sums();
        if sums.sequences.is_none() {
            return false;
        }
        let Retention { max_age_ms, max_events, .. } = self.options.retention;
        let age = self.options.segment_max_age_ms.max(SEGMENT_AGE_MS_MIN).min(part(max_age_ms, SEGMENT_AGE_MS_MIN));
        let began_ms = sums.first.map_or(sums.keys_ms, |first| first.time_ms());
        sums.bytes >= self.options.segment_bytes()
            || sums.blocks >= BLOCKS_MAX
            || sums.events >= part(max_events, SEGMENT_EVENTS_MIN)
            || now_ms.saturating_sub(began_ms) >= age
    }

    /// Begins a new active part when the one there is full or old and the one before it is sealed. True when it did: then
    /// [`Log::seal_step`] has something to do.
    pub fn roll_if_due(&self, now: Moment) -> bool {
        let mut state = self.state.write();
        state.clock = now;
        let is_due = state.rolled.is_none() && self.is_full(&state.active, now.wall_ms);
        if is_due {
            state.roll();
        }
        is_due
    }

    /// Begins a new active part when there is anything in the one there and the one before it is sealed, so that all of it
    /// can be sealed. True when something waits to be sealed.
    pub fn roll(&self) -> bool {
        let mut state = self.state.write();
        if state.rolled.is_none() && state.active.sums().sequences.is_some() {
            state.roll();
        }
        state.rolled.is_some()
    }

    /// Whether there is room for a commit of so many bytes. False while sealing is too slow, or fails.
    pub fn may_admit(&self, bytes: u64) -> bool {
        let state = self.state.read();
        state.rolled.is_none() || state.active.sums().bytes + bytes <= OVERSIZE * self.options.segment_bytes()
    }

    /// Seals what was rolled: writes it, opens it again, checks it, and puts it in the place of its index. Then the
    /// pieces that held it are free. One thread at a time calls this. Blocks.
    ///
    /// # Errors
    /// What the disk says. The next step tries it again.
    pub fn seal_step(&self) -> Result<SealStep, LogError> {
        let (rolled, segment) = {
            let state = self.state.read();
            let Some(rolled) = state.rolled.clone() else { return Ok(SealStep::Idle) };
            (rolled, state.next_segment)
        };
        let dir = self.dir_of(segment);
        let whole = self.state.write().unnoted.take();
        let manifest = match whole {
            Some(manifest) => manifest,
            None => self.write(&dir, segment, &rolled)?,
        };
        let newest = Newest { segment, through: manifest.through };
        let noted = || -> Result<u64, DiskError> {
            newest::write(&self.disk, &self.dir, newest)?;
            self.disk_bytes(&dir)
        };
        let disk_bytes = match noted() {
            Ok(disk_bytes) => disk_bytes,
            Err(e) => {
                self.state.write().unnoted = Some(manifest);
                return Err(e.into());
            }
        };
        let step = SealStep::Sealed { segment, events: manifest.events, record_bytes: manifest.bytes, disk_bytes };
        let mut state = self.state.write();
        state.rolled = None;
        state.next_segment = segment + 1;
        state.newest = Some(newest);
        state.add(Arc::new(Sealed::new(dir, manifest, disk_bytes)));
        Ok(step)
    }

    /// Removes what an attempt to write a segment has left, which may be all of one whose name could not be made durable. The
    /// manifest goes first and durably: a power cut that left it without its database would make the folder a segment that
    /// misses a file.
    pub(super) fn remove_unsealed(&self, dir: &Path) -> Result<(), LogError> {
        if self.disk.exists(dir)? {
            let manifest = dir.join(MANIFEST_FILE);
            if self.disk.exists(&manifest)? {
                self.disk.remove_file(&manifest)?;
            }
            self.disk.sync_dir(dir)?;
        }
        Ok(self.disk.remove_dir_all(dir)?)
    }

    /// Writes the segment, in place of what an attempt before has left.
    fn write(&self, dir: &Path, segment: u64, rolled: &Active) -> Result<Manifest, LogError> {
        self.remove_unsealed(dir)?;
        match self.write_files(dir, segment, rolled) {
            Ok(manifest) => {
                self.note_damage(&manifest.damaged);
                Ok(manifest)
            }
            Err(e) => {
                // room for the next attempt, which says so when this fails as well
                let _ = self.remove_unsealed(dir);
                Err(e)
            }
        }
    }

    fn write_files(&self, dir: &Path, segment: u64, rolled: &Active) -> Result<Manifest, LogError> {
        let sums = rolled.sums();
        let (from, through) = sums.sequences.unwrap_or_default();
        let manifest = Manifest {
            format: FORMAT,
            segment,
            log: Some(self.id),
            from,
            through,
            newest_at: Some(sums.newest_at),
            damaged: rolled.damaged(),
            ..Manifest::default()
        };
        let content = Content {
            runs: rolled.channels().into_iter().flat_map(|no| Runs::new(rolled, ChannelNo(no))),
            stripes: rolled.stripes(STRIPE_BYTES),
            keys: rolled.keys().into_iter().flat_map(keys),
            manifest,
        };
        segment_writer::write(&self.disk, dir, content)
    }
}

/// The blocks of one channel.
struct Runs<'a> {
    active: &'a Active,
    no: ChannelNo,
    next: usize,
    loaded: std::vec::IntoIter<(super::page::Source, bytes::Bytes)>,
}

impl<'a> Runs<'a> {
    fn new(active: &'a Active, no: ChannelNo) -> Runs<'a> {
        Runs { active, no, next: 0, loaded: Vec::new().into_iter() }
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.loaded.len() == 0 {
            match self.active.blocks(self.no, self.next) {
                Ok(loaded) => self.loaded = loaded.into_iter(),
                Err(e) => return Some(Err(e)),
            }
            self.next += self.loaded.len();
        }
        let (source, records) = self.loaded.next()?;
        Some(Ok(Run { source, records, is_checked: false }))
    }
}

/// The dedupe keys of a commit with their time.
fn keys(place: KeysPlace) -> Vec<Result<(Dedupe, u64), LogError>> {
    let KeysPlace { piece, offset, len, time_ms } = place;
    let read = || -> Result<Vec<_>, LogError> {
        let section = piece.read(offset, len)?;
        Ok(section::keys(&section)?.map(|dedupe| Ok((dedupe, time_ms))).collect())
    };
    read().unwrap_or_else(|e| vec![Err(e)])
}
