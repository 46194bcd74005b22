//! Retention: whole segments go, oldest first, when there is too much or what is in them is too old.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::losses::LossChange;
use super::manifest::Manifest;
use super::opening::{DROPPED, dropped};
use super::sealed::Sealed;
use super::segment_writer::{self, MANIFEST_FILE};
use super::state::{Log, Snapshot};
use super::{LogError, Moment, Retention};
use crate::model::id::EventId;

/// Segments that retention would drop. What has to be known of that is stored before [`Log::drop_segments`].
#[derive(Debug)]
pub struct Expiry {
    /// To be stored first.
    pub changes: Vec<LossChange>,
    pub segments: Vec<u64>,
    pub events: u64,
    /// On disk.
    pub bytes: u64,
    /// The newest sealed segment is among them. Its manifest stays, without what it told of events, because it says up to
    /// where the write-ahead log is not needed.
    emptied: Option<u64>,
}

impl Log {
    /// What is too old or too much, as long as it is sealed; none when nothing is. Age counts by both clocks: as long as the
    /// machine runs, a wall clock that jumps ahead makes nothing old.
    pub fn retention_step(&self, now: Moment) -> Option<Expiry> {
        self.state.write().clock = now;
        let stats = self.stats();
        let Snapshot { sealed: sealed_all, rolled, active, .. } = self.snapshot();
        let Retention { max_age_ms, max_bytes, max_events } = self.options.retention;
        let (mut events, mut bytes) = (stats.events, stats.bytes);
        let has_newer = |n: usize| {
            sealed_all[n + 1..].iter().any(|sealed| sealed.manifest.events > 0)
                || rolled.iter().chain([&active]).any(|active| active.sums().events > 0)
        };
        let mut expiry = Expiry { changes: Vec::new(), segments: Vec::new(), events: 0, bytes: 0, emptied: None };
        let mut newest: BTreeMap<u32, EventId> = BTreeMap::new();
        for (n, sealed) in sealed_all.iter().enumerate() {
            let is_too_much = max_events > 0 && events > max_events || max_bytes > 0 && bytes > max_bytes;
            let is_last = n + 1 == sealed_all.len();
            if is_last && sealed.manifest.db_bytes == 0
                || !(is_too_old(&sealed.manifest, max_age_ms, now) || is_too_much && has_newer(n))
            {
                break;
            }
            if is_last {
                expiry.emptied = Some(sealed.segment());
            }
            (events, bytes) = (events - sealed.manifest.events, bytes - sealed.disk_bytes);
            for span in &sealed.manifest.channels {
                let last = newest.entry(span.channel).or_default();
                *last = span.last.max(*last);
            }
            expiry.segments.push(sealed.segment());
            expiry.events += sealed.manifest.events;
            expiry.bytes += sealed.disk_bytes;
        }
        let last = *expiry.segments.last()?;
        let gone = if expiry.emptied.is_some() { last - 1 } else { last };
        expiry.changes = self.losses.read().plan_expiry(gone, &newest);
        Some(expiry)
    }

    /// Drops segments, now that it is stored that they go. Blocks.
    ///
    /// # Errors
    /// What keeps a folder from being removed. Nobody sees the segments any more all the same, and
    /// [`Log::remove_leftovers`] tries it again.
    pub fn drop_segments(&self, expiry: &Expiry) -> Result<(), LogError> {
        self.losses.write().apply(&expiry.changes);
        if let Some(segment) = expiry.emptied {
            self.empty(segment)?;
        }
        {
            let mut state = self.state.write();
            let is_gone = |sealed: &Arc<Sealed>| {
                expiry.segments.contains(&sealed.segment()) && expiry.emptied != Some(sealed.segment())
            };
            let (gone, kept): (Vec<Arc<Sealed>>, Vec<_>) = state.sealed.iter().cloned().partition(is_gone);
            for sealed in gone {
                sealed.drop_it();
                state.leftovers.push(sealed.dir.clone());
            }
            state.sealed = Arc::new(kept);
        }
        self.remove_leftovers()
    }

    /// Leaves of a segment only that it was there.
    fn empty(&self, segment: u64) -> Result<(), LogError> {
        let _claim = self.databases.claim(segment);
        let sealed = self.state.read().sealed.iter().find(|sealed| sealed.segment() == segment).cloned();
        let Some(sealed) = sealed else { return Ok(()) };
        let manifest = segment_writer::write_empty(&self.disk, &sealed.dir, sealed.manifest.clone())?;
        sealed.drop_it();
        let mut state = self.state.write();
        state.add(Arc::new(Sealed::new(sealed.dir.clone(), manifest, 0)));
        state.leftovers.push(sealed.dir.clone());
        Ok(())
    }

    /// Removes folders of segments that were dropped, and what a crash left while one was rebuilt. Called once in a while, as
    /// well as after a start. Blocks.
    ///
    /// # Errors
    /// What keeps a folder from being removed.
    pub fn remove_leftovers(&self) -> Result<(), LogError> {
        loop {
            let Some(dir) = self.state.read().leftovers.first().cloned() else { return Ok(()) };
            // The rename that made it a leftover may not be durable, when a sync failed or the process died before it. Then
            // a power cut would bring the folder back under its old name, but without its files.
            self.disk.sync_dir(&self.dir)?;
            self.remove(&dir)?;
            self.state.write().leftovers.retain(|leftover| *leftover != dir);
        }
    }

    fn remove(&self, dir: &Path) -> Result<(), LogError> {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Ok(segment) = name.parse::<u64>() else {
            if let Some(segment) = name.strip_suffix(".old").and_then(|name| name.parse().ok()) {
                return self.remove_damaged(dir, segment);
            }
            debug_assert!(name.starts_with(DROPPED) || name.ends_with(".new") || name.ends_with(".copy"));
            return Ok(self.disk.remove_dir_all(dir)?);
        };
        let is_emptied = self.state.read().sealed.iter().any(|sealed| sealed.segment() == segment);
        if is_emptied {
            return self.remove_all_but_the_manifest(dir);
        }
        // closed when its readers have left it, and opened by nobody
        let _claim = self.databases.claim(segment);
        let gone = self.dir.join(dropped(segment));
        if self.disk.exists(dir)? {
            self.disk.rename(dir, &gone)?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(self.disk.remove_dir_all(&gone)?)
    }

    fn remove_all_but_the_manifest(&self, dir: &Path) -> Result<(), LogError> {
        // the manifest that says that the rest has gone may not be durable, when a sync failed or the process died before it
        self.disk.sync_dir(dir)?;
        for entry in self.disk.list(dir)?.into_iter().filter(|entry| entry.name != MANIFEST_FILE) {
            let path = dir.join(&entry.name);
            if entry.is_dir { self.disk.remove_dir_all(&path)? } else { self.disk.remove_file(&path)? }
        }
        Ok(())
    }

    /// A segment that was rebuilt when the process died: the damaged one is kept when anything is missing.
    fn remove_damaged(&self, dir: &Path, segment: u64) -> Result<(), LogError> {
        let (is_missing, now_ms) = {
            let state = self.state.read();
            let rebuilt = state.sealed.iter().find(|sealed| sealed.segment() == segment);
            (rebuilt.is_some_and(|sealed| !sealed.manifest.damaged.is_empty()), state.clock.wall_ms)
        };
        match is_missing {
            true => self.put_aside(dir, segment, now_ms, "it was damaged, and rebuilt when the server stopped"),
            false => Ok(self.disk.remove_dir_all(dir)?),
        }
    }
}

fn is_too_old(manifest: &Manifest, max_age_ms: u64, now: Moment) -> bool {
    if max_age_ms == 0 {
        return false;
    }
    // one without events has nothing to keep but dedupe keys, which are in memory
    let newest_ms = manifest.last.map_or(manifest.keys_ms, EventId::time_ms);
    let by_wall = newest_ms.saturating_add(max_age_ms) < now.wall_ms;
    match manifest.newest_at.filter(|newest| newest.boot == now.boot) {
        // an id of the future comes from a clock that was wrong then
        Some(newest) => {
            (by_wall || newest_ms > now.wall_ms) && now.elapsed_ms.saturating_sub(newest.elapsed_ms) >= max_age_ms
        }
        None => by_wall,
    }
}
