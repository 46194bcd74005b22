//! Opening the log: which segments there are, what they hold, and what is put aside because it does not open.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Log, OpenReport, Shelf, Volume, Writer, folder};
use crate::model::id::EventId;
use crate::store::dedupe::SeenKeys;
use crate::store::lost::Lost;
use crate::store::segment::{Meta, Segment};
use crate::store::{Options, StoreError, guarded, io, sync_dir};

impl Log {
    /// Opens the log below the data folder. A segment that does not open is put aside and reported.
    pub fn open(options: Options, now_ms: i64) -> Result<(Log, OpenReport), StoreError> {
        let now_ms = now_ms.max(0) as u64;
        let dir = options.data_dir.join("log");
        std::fs::create_dir_all(&dir).map_err(io("make", &dir))?;
        let (mut lost, lost_is_whole) = Lost::open(&dir)?;
        let mut report = OpenReport::default();
        let mut volumes: Vec<Arc<Volume>> = Vec::new();
        let mut seen = SeenKeys::new(options.dedupe_window_ms, options.dedupe_keys);
        let mut active = None;
        let mut damaged_after: Option<EventId> = None;
        let sequences = sequences(&dir)?;
        let mut expected = None;
        for seq in &sequences {
            let path = dir.join(folder(*seq));
            let is_last = sequences.last() == Some(seq);
            let newest = volumes.iter().rev().find_map(|v| v.last()).unwrap_or_default();
            if expected.replace(seq + 1).is_some_and(|expected| expected != *seq) && !lost.damaged_after(newest) {
                // somebody took a folder away
                damaged_after.get_or_insert(newest);
            }
            match load(&path, options.cache_bytes, is_last) {
                Ok((segment, meta, sealed)) => {
                    if let Some(after) = damaged_after.take() {
                        lost.damage(after, meta.first.map_or(EventId::at_time(now_ms), EventId::before))?;
                    }
                    let end = meta.last.unwrap_or(newest);
                    if !sealed && !is_last && !lost.damaged_after(end) {
                        // a segment is sealed before the next one begins, so the end of this one is lost
                        damaged_after = Some(end);
                    }
                    if seen.in_window(meta.keys_ms, now_ms) {
                        remember(&mut seen, segment.dedupe_keys()?, *seq, now_ms);
                    }
                    let segment = Arc::new(segment);
                    let open = (!sealed).then(|| segment.clone());
                    active = open.clone().map(|segment| (segment, meta.clone()));
                    volumes.push(Arc::new(Volume::new(*seq, path, meta, open)));
                }
                Err(e) => {
                    let aside = put_aside(&options.data_dir, &path, *seq, now_ms, &e)?;
                    report.quarantined.push(aside);
                    damaged_after.get_or_insert(newest);
                }
            }
        }
        if let Some(after) = damaged_after {
            lost.damage(after, EventId::at_time(now_ms))?;
        }
        if !lost_is_whole {
            let oldest = volumes.iter().find_map(|v| v.meta.read().unwrap_or_else(PoisonError::into_inner).first);
            lost.damage(EventId::ZERO, oldest.unwrap_or(EventId::at_time(now_ms)).before())?;
        }
        let newest = volumes.iter().rev().find_map(|v| v.last()).unwrap_or_default();
        let head = newest.max(lost.head());
        let (segment, meta) = match active {
            Some(active) => active,
            None => {
                let seq = sequences.last().map_or(1, |last| last + 1);
                let (volume, segment) = create(&dir, seq, options.cache_bytes)?;
                volumes.push(volume);
                (segment, Meta::default())
            }
        };
        let began_ms = meta.first.map_or(now_ms, EventId::time_ms).min(now_ms);
        let log = Log {
            dir,
            writer: Mutex::new(Writer {
                meta,
                segment,
                began_ms,
                last_sync_ms: now_ms,
                dirty: false,
                sealed: false,
                broken: false,
            }),
            shelf: RwLock::new(Shelf { head, volumes, abandoned: Vec::new() }),
            lost: RwLock::new(lost),
            seen: Mutex::new(seen),
            quarantined: Mutex::new(report.quarantined.clone()),
            reads: AtomicU64::new(0),
            options,
        };
        Ok((log, report))
    }
}

/// The segments of the folder in order. What retention was removing when the process died is removed now.
fn sequences(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io("read", dir))? {
        let entry = entry.map_err(io("read", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.parse() {
            Ok(seq) => found.push(seq),
            Err(_) if name.starts_with("dropped-") => {
                std::fs::remove_dir_all(entry.path()).map_err(io("remove", &entry.path()))?;
            }
            Err(_) => {}
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A segment, what it holds, and whether it was sealed.
fn load(path: &Path, cache_bytes: u64, is_last: bool) -> Result<(Segment, Meta, bool), StoreError> {
    let segment = match is_last && !Segment::is_begun(path) {
        true => Segment::begin(path, cache_bytes)?,
        false => Segment::open(path, cache_bytes)?,
    };
    if let Some(meta) = guarded(|| segment.sealed())? {
        return Ok((segment, meta, true));
    }
    let mut meta = guarded(|| segment.survey())?;
    meta.keys_ms = guarded(|| segment.dedupe_keys())?.into_iter().map(|(_, time_ms)| time_ms).max().unwrap_or(0);
    Ok((segment, meta, false))
}

pub(super) fn create(dir: &Path, seq: u64, cache_bytes: u64) -> Result<(Arc<Volume>, Arc<Segment>), StoreError> {
    let path = dir.join(folder(seq));
    let segment = Arc::new(Segment::begin(&path, cache_bytes)?);
    sync_dir(dir)?;
    Ok((Arc::new(Volume::new(seq, path, Meta::default(), Some(segment.clone()))), segment))
}

fn remember(seen: &mut SeenKeys, mut keys: Vec<(u64, u64)>, seq: u64, now_ms: u64) {
    keys.sort_by_key(|(_, time_ms)| *time_ms);
    for (fingerprint, time_ms) in keys {
        if seen.in_window(time_ms, now_ms) {
            seen.add(time_ms, fingerprint, seq);
        }
    }
}

/// Moves a segment that does not open to where nobody trips over it, with the reason beside it.
pub(super) fn put_aside(
    data_dir: &Path,
    path: &Path,
    seq: u64,
    now_ms: u64,
    reason: &StoreError,
) -> Result<String, StoreError> {
    let quarantine = data_dir.join("quarantine");
    let aside = quarantine.join(format!("{}-{now_ms}", folder(seq)));
    std::fs::create_dir_all(&quarantine).map_err(io("make", &quarantine))?;
    std::fs::rename(path, &aside).map_err(io("move", path))?;
    let note = aside.join("reason");
    std::fs::write(&note, format!("{reason}\n")).map_err(io("write", &note))?;
    ::log::error!(segment:display = aside.display(); "a segment does not open and is in quarantine: {reason}");
    Ok(aside.display().to_string())
}
