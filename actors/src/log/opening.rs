//! Opening the log: which segments there are, whether each can be used, and which dedupe keys they hold.
//!
//! 1. [`Log::open`] reads the manifests and looks at each database without opening it. Only damaged bytes are repaired; every
//!    other reason why a segment cannot be used ends the start, and nothing was changed.
//! 2. The caller recovers the write-ahead log from [`Log::recovers_from`] on and hands its commits to [`Log::admit`].
//! 3. [`Log::recovered`] is told what is known to be lost, and checks that no segment is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::active::Active;
use super::block::{self, Part};
use super::databases::{self, Databases};
use super::dedupe::DedupeTable;
use super::losses::{DamagedRange, LossDocument, LossLedger};
use super::manifest::{BadManifest, FORMAT_1, Manifest};
use super::newest;
use super::sealed::{Sealed, Trouble, Values};
use super::segment_writer::{self, Checksum, KEYS_FILE, MANIFEST_FILE, decode_keys};
use super::state::{Log, LogState, folder};
use super::{Dedupe, LogError, LogOptions, Moment, adopting, file_check, format_1};
use crate::disk::database::{Database, DatabaseError};
use crate::disk::{Disk, DiskError, Open, Point};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::LogId;

/// Prefix of the folders that retention is removing.
pub const DROPPED: &str = "dropped-";

/// Ids that commits which cannot be read may have given out behind the newest one that is known: far more events than fit into the
/// write-ahead log. Only with a clock that was set back do they follow each other so closely that this decides.
const IDS_OF_DAMAGE: u32 = u32::MAX;

impl Log {
    /// Opens the log of a data folder, as far as it is sealed. Blocks.
    ///
    /// # Errors
    /// Whatever keeps a segment from being used and is no damage: then nothing was moved, renamed or removed.
    pub fn open(disk: &Disk, data_dir: &Path, id: LogId, options: LogOptions, now: Moment) -> Result<Log, LogError> {
        let log = Log {
            disk: disk.clone(),
            dir: data_dir.join("log"),
            id,
            quarantine: data_dir.join("quarantine"),
            state: RwLock::new(LogState {
                head: EventId::ZERO,
                sequence: 0,
                sealed: Arc::default(),
                rolled: None,
                active: Arc::new(Active::default()),
                next_segment: 1,
                unnoted: None,
                newest: None,
                clock: now,
                damaged_after: None,
                leftovers: Vec::new(),
            }),
            dedupe: Mutex::new(DedupeTable::new(options.dedupe_window_ms, options.dedupe_keys)),
            losses: RwLock::new(LossLedger::default()),
            quarantined: Mutex::default(),
            databases: Databases::new(disk.clone(), options.open_segments),
            options,
        };
        let segments = log.find()?;
        log.read_manifests(&segments)?;
        log.read_newest()?;
        log.keep_unnoted()?;
        log.check_databases()?;
        log.read_keys(now.wall_ms)?;
        log.follow_clock(now);
        Ok(log)
    }

    /// The numbers of the folders that may hold a segment. A rebuilt one that had not taken its place yet takes it now.
    fn find(&self) -> Result<Vec<u64>, LogError> {
        let entries = match self.disk.list(&self.dir) {
            // of a new data folder, or else a segment is missing
            Err(e) if e.is_missing() => Vec::new(),
            entries => entries?,
        };
        let names: Vec<String> = entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect();
        let mut segments: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let mut leftovers: Vec<PathBuf> = Vec::new();
        for name in &names {
            let path = self.dir.join(name);
            let fresh = name.strip_suffix(".new").and_then(|name| name.parse::<u64>().ok());
            let is_leftover =
                fresh.is_some() || name.ends_with(".old") || name.ends_with(".copy") || name.starts_with(DROPPED);
            match fresh {
                Some(segment) if !segments.contains(&segment) => {
                    if let Some(Ok(manifest)) = self.manifest_in(&path)?
                        && manifest.stranger(&self.id, segment).is_none()
                    {
                        self.disk.rename(&path, &self.dir_of(segment))?;
                        self.disk.sync_dir(&self.dir)?;
                        segments.push(segment);
                    }
                }
                _ if is_leftover => leftovers.push(path),
                _ => {}
            }
        }
        segments.sort_unstable();
        self.state.write().leftovers = leftovers;
        Ok(segments)
    }

    /// The manifest in a folder; none when there is none.
    fn manifest_in(&self, dir: &Path) -> Result<Option<Result<Manifest, BadManifest>>, LogError> {
        let path = dir.join(MANIFEST_FILE);
        if !self.disk.exists(&path)? {
            return Ok(None);
        }
        Ok(Some(Manifest::decode(&self.disk.read(Point::ManifestRead, &path)?)))
    }

    fn read_manifests(&self, segments: &[u64]) -> Result<(), LogError> {
        let mut missing = None;
        for segment in segments {
            let dir = self.dir_of(*segment);
            let path = dir.join(MANIFEST_FILE);
            let manifest = match self.manifest_in(&dir)? {
                // what sealing had not finished; it is the last one, or something is wrong
                None => {
                    missing.get_or_insert(path);
                    continue;
                }
                Some(_) if missing.is_some() => break,
                Some(Ok(manifest)) => match manifest.stranger(&self.id, *segment) {
                    None => manifest,
                    Some(why) => self.restore_manifest(*segment, &why)?,
                },
                Some(Err(BadManifest::Newer(format))) => return Err(LogError::Newer { path, format }),
                Some(Err(BadManifest::Damaged(why))) => self.restore_manifest(*segment, &why)?,
            };
            self.note_damage(&manifest.damaged);
            let disk_bytes = self.disk_bytes(&dir)?;
            let mut state = self.state.write();
            state.head = state.head.max(manifest.last.unwrap_or_default());
            state.sequence = state.sequence.max(manifest.through);
            state.next_segment = segment + 1;
            if manifest.db_bytes == 0 && disk_bytes > 0 {
                state.leftovers.push(dir.clone());
            }
            state.add(Arc::new(Sealed::new(dir, manifest, disk_bytes)));
        }
        let newest = self.state.read().sealed.last().map_or(0, |sealed| sealed.segment());
        match missing {
            Some(path) if segments.last().is_some_and(|last| self.dir_of(*last).join(MANIFEST_FILE) != path) => {
                Err(LogError::MissingManifest { path })
            }
            _ => {
                debug_assert!(newest < self.state.read().next_segment);
                Ok(())
            }
        }
    }

    fn read_newest(&self) -> Result<(), LogError> {
        let newest = newest::read(&self.disk, &self.dir)?;
        let mut state = self.state.write();
        state.newest = newest;
        // what retention dropped must not come back from the write-ahead log
        state.sequence = state.sequence.max(newest.map_or(0, |newest| newest.through));
        Ok(())
    }

    /// Makes durable the names in segments that are not noted yet. Sealing may have failed at its last sync, and what others
    /// build upon now must not go with a power cut.
    fn keep_unnoted(&self) -> Result<(), DiskError> {
        let (sealed, newest) = {
            let state = self.state.read();
            (state.sealed.clone(), state.newest.map_or(0, |newest| newest.segment))
        };
        for sealed in sealed.iter().filter(|sealed| sealed.segment() > newest) {
            self.disk.sync_dir(&sealed.dir)?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Makes a damaged manifest again from what the database says.
    fn restore_manifest(&self, segment: u64, why: &str) -> Result<Manifest, LogError> {
        let dir = self.dir_of(segment);
        let healed = Manifest::heal(&self.disk.read(Point::ManifestRead, &dir.join(MANIFEST_FILE))?);
        let healed = healed.filter(|manifest| manifest.stranger(&self.id, segment).is_none());
        let restored = match healed.map_or_else(|| self.manifest_of_database(&dir, segment), Ok) {
            Ok(manifest) => manifest,
            Err(Trouble::Failed(e)) => return Err(e),
            Err(Trouble::Damaged(why)) => return Err(LogError::Beyond { path: dir, why }),
        };
        // the whole segment is another one
        if let Some(why) = restored.stranger(&self.id, segment) {
            return Err(LogError::Stranger { path: dir, why });
        }
        ::log::error!(segment:display = dir.display(); "the manifest of a segment is damaged and is made again: {why}");
        segment_writer::write_manifest(&self.disk, &dir, &restored)?;
        Ok(restored)
    }

    fn manifest_of_database(&self, dir: &Path, segment: u64) -> Result<Manifest, Trouble> {
        let database = Database::open(&self.disk, dir, None)?;
        if format_1::is_begun(&database)? {
            let manifest = adopting::survey(&self.disk, dir, database, segment)?;
            return Ok(Manifest { log: Some(self.id), ..manifest });
        }
        let own = block::manifest_key(0)..=block::manifest_key(u16::MAX);
        let text = match Values::new(database.range(own)).next() {
            Some(value) => value?.content()?,
            None => return Err(Trouble::Damaged("the database does not have it either".into())),
        };
        let manifest = Manifest::decode(&text).map_err(|e| Trouble::Damaged(format!("{e:?}")))?;
        let mut sum = Checksum::default();
        for entry in database.range::<Vec<u8>>(..block::manifest_key(0)) {
            let (key, value) = entry?;
            sum.add(&key, &value);
        }
        if (sum.entries, sum.crc) != (manifest.entries, manifest.checksum) {
            return Err(Trouble::Damaged("the database is damaged as well".into()));
        }
        drop(database);
        let mut manifest = manifest;
        manifest.set_file(file_check::sum(&self.disk, dir)?);
        Ok(manifest)
    }

    /// Looks whether each database can be used, and rebuilds those whose length is wrong.
    fn check_databases(&self) -> Result<(), LogError> {
        let sealed = self.state.read().sealed.clone();
        let mut damaged = Vec::new();
        for sealed in sealed.iter().filter(|sealed| sealed.manifest.db_bytes > 0) {
            match self.check_database(sealed) {
                Ok(()) => {}
                Err(e) if e.is_damage() => damaged.push((sealed, e.to_string())),
                Err(e) => return Err(e.into()),
            }
        }
        // only now, when nothing else keeps the log from opening
        damaged.into_iter().try_for_each(|(sealed, why)| self.repair(sealed, &why, 0))
    }

    fn check_database(&self, sealed: &Sealed) -> Result<(), DatabaseError> {
        let expected = sealed.manifest.db_bytes;
        let path = sealed.dir.join("db");
        let file = self.disk.open(Point::DatabaseOpen, &path, Open::ReadWrite)?;
        if !file.try_lock()? {
            drop(file);
            // this process may have closed it just now, which only the database knows
            return Database::open(&self.disk, &sealed.dir, Some(expected)).map(drop);
        }
        file.unlock()?;
        // whatever keeps one of its files from being read is better known now than when somebody asks for an event
        if self.disk.simulation().is_none() {
            self.disk.open(Point::DatabaseOpen, &sealed.dir.join("conf"), Open::Read)?;
        }
        for entry in self.disk.list(&sealed.dir)? {
            let path = sealed.dir.join(&entry.name);
            if entry.name == "blobs" {
                self.disk.list(&path)?;
            } else if !entry.is_dir || entry.name.starts_with("snap.") {
                self.disk.open(Point::DatabaseOpen, &path, Open::Read)?;
            }
        }
        let bytes = file.len()?;
        match bytes == expected {
            true => Ok(()),
            false => Err(DatabaseError::Damaged { path, why: format!("it has {bytes} bytes instead of {expected}") }),
        }
    }

    fn read_keys(&self, now_ms: u64) -> Result<(), LogError> {
        let sealed = self.state.read().sealed.clone();
        for sealed in sealed.iter() {
            let manifest = &sealed.manifest;
            if manifest.keys == 0 || !self.dedupe.lock().in_window(manifest.keys_ms, now_ms) {
                continue;
            }
            let keys = match manifest.format {
                FORMAT_1 => self.keys_of_format_1(sealed)?,
                _ => self.keys_of(sealed)?,
            };
            let mut dedupe = self.dedupe.lock();
            for (key, time_ms) in keys {
                if dedupe.in_window(time_ms, now_ms) {
                    dedupe.add(&key, time_ms);
                }
            }
        }
        Ok(())
    }

    fn keys_of_format_1(&self, sealed: &Arc<Sealed>) -> Result<Vec<(Dedupe, u64)>, LogError> {
        let database = databases::open(&self.disk, &sealed.dir, &sealed.manifest);
        let keys = database.map_err(Trouble::from).and_then(|database| format_1::keys(&database));
        let mut keys = match keys {
            Ok(keys) => keys,
            Err(Trouble::Failed(e)) => return Err(e),
            Err(Trouble::Damaged(why)) => {
                self.repair(sealed, &why, 1)?;
                let rebuilt = self.state.read().sealed.iter().find(|s| s.segment() == sealed.segment()).cloned();
                return rebuilt.filter(|s| s.manifest.keys > 0).map_or(Ok(Vec::new()), |s| self.keys_of(&s));
            }
        };
        keys.sort_by_key(|(_, time_ms)| *time_ms);
        Ok(keys)
    }

    /// The keys beside a database; those that are damaged there from the database.
    fn keys_of(&self, sealed: &Arc<Sealed>) -> Result<Vec<(Dedupe, u64)>, LogError> {
        let path = sealed.dir.join(KEYS_FILE);
        let bytes = match self.disk.exists(&path)? {
            true => self.disk.read(Point::CopyRead, &path)?,
            false => Vec::new(),
        };
        let keys = split(&bytes);
        let is_right = sealed.manifest.keys_crc.is_none_or(|crc| crc == crc32c::crc32c(&bytes));
        if is_right && keys.len() as u64 == sealed.manifest.keys {
            return Ok(keys);
        }
        ::log::error!(file:display = path.display(); "dedupe keys are damaged and are read from the database");
        let from_database = || -> Result<Vec<u8>, Trouble> {
            let database = databases::open(&self.disk, &sealed.dir, &sealed.manifest)?;
            let mut values = Vec::new();
            for entry in database.range(block::keys_key(0)..=block::keys_key(u32::MAX)) {
                values.extend_from_slice(&entry?.1);
            }
            Ok(values)
        };
        match from_database() {
            Ok(values) => {
                self.disk.replace(Point::CopyWrite, &path, &values)?;
                Ok(split(&values))
            }
            Err(Trouble::Failed(e)) => Err(e),
            Err(Trouble::Damaged(why)) => {
                // with what both of them have
                self.repair(sealed, &why, 1)?;
                Ok(split(&self.disk.read(Point::CopyRead, &path).unwrap_or(bytes)))
            }
        }
    }

    /// Ends the recovery: takes over what was stored of losses, and checks that no segment is missing.
    ///
    /// # Errors
    /// [`LogError::MissingSegment`].
    pub fn recovered(&self, losses: impl IntoIterator<Item = LossDocument>, now: Moment) -> Result<(), LogError> {
        let (dropped, lost_head) = {
            let mut ledger = self.losses.write();
            ledger.recover(losses);
            (ledger.dropped_segment(), ledger.head())
        };
        let mut state = self.state.write();
        state.clock = now;
        state.head = state.head.max(lost_head);
        if let Some(after) = state.damaged_after.take() {
            let through = EventId::at_time(now.wall_ms).max(after.plus(IDS_OF_DAMAGE));
            self.damage_unsealed(&state.active, DamagedRange::new(ChannelNo::ALL, after, through));
            state.head = state.head.max(through);
        }
        // what retention had stored as dropped when the process died
        let (gone, kept): (Vec<_>, Vec<_>) =
            state.sealed.iter().cloned().partition(|sealed| sealed.segment() <= dropped);
        state.leftovers.extend(gone.iter().map(|sealed| sealed.dir.clone()));
        state.next_segment = state.next_segment.max(dropped + 1);
        for (n, sealed) in kept.iter().enumerate() {
            let expected = dropped + 1 + n as u64;
            if sealed.segment() != expected {
                return Err(LogError::MissingSegment { path: self.dir_of(expected) });
            }
        }
        let last = kept.last().map_or(dropped, |sealed| sealed.segment());
        if state.newest.is_some_and(|newest| newest.segment > last) {
            return Err(LogError::MissingSegment { path: self.dir_of(last + 1) });
        }
        state.sealed = Arc::new(kept);
        drop(state);
        Ok(self.make_dir()?)
    }

    /// Makes the folder of the log, if it is missing.
    pub(super) fn make_dir(&self) -> Result<(), DiskError> {
        if self.disk.exists(&self.dir)? {
            return Ok(());
        }
        self.disk.create_dir_all(&self.dir)?;
        self.dir.parent().map_or(Ok(()), |data_dir| self.disk.sync_dir(data_dir))
    }
}

/// The keys of values that stand one behind the other. A damaged value is left out.
fn split(bytes: &[u8]) -> Vec<(Dedupe, u64)> {
    let (mut keys, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let Some(length) = block::length(&bytes[at..]) else {
            at += 1;
            continue;
        };
        let part = Part::read(bytes::Bytes::copy_from_slice(&bytes[at..at + length]));
        let content = part.and_then(|part| block::join(&[part]));
        keys.extend(content.and_then(|content| decode_keys(&content)).unwrap_or_default());
        at += length;
    }
    keys
}

/// The name of the folder to which retention moves a segment before it removes it.
pub fn dropped(segment: u64) -> String {
    format!("{DROPPED}{}", folder(segment))
}
