//! A log behind a write-ahead log, as the journal drives them.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::log::{
    Admission, CommitPart, Dedupe, DedupeKey, Direction, Log, LogError, LogOptions, LossChange, LossDocument, Moment,
    PageLimit, Retention, SealStep, encode_events, encode_keys,
};
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::id::EventId;
use crate::model::json::Canonical;
use crate::wal::{self, LogId, Recovered, Urgency, Wal};

pub const START_MS: u64 = 1_750_000_000_000;
pub const ALL: PageLimit = PageLimit { events: usize::MAX, bytes: usize::MAX };

pub fn id(n: u32) -> EventId {
    EventId::at_time(START_MS).plus(n)
}

pub fn event(id: EventId, no: u32, bytes: usize) -> Event {
    let payload = format!("{{\"id\":\"{id}\",\"x\":\"{}\"}}", "x".repeat(bytes));
    Event {
        id,
        channel: ChannelNo(no),
        kind: EventType::new("test").unwrap(),
        ts_ms: START_MS as i64,
        session: no.is_multiple_of(2).then(|| "s".into()),
        origin: Default::default(),
        payload: Canonical::parse(&payload).unwrap(),
    }
}

pub fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

pub fn key(name: &str) -> DedupeKey {
    DedupeKey::of_request(name)
}

pub fn options() -> LogOptions {
    LogOptions {
        segment_max_bytes: 1024 * 1024,
        segment_max_age_ms: 60_000,
        open_segments: 2,
        retention: Retention::default(),
        dedupe_window_ms: 60_000,
        dedupe_keys: 1000,
    }
}

/// The clocks so long after the start.
pub fn after(ms: u64) -> Moment {
    Moment { wall_ms: START_MS + ms, boot: 1, elapsed_ms: 1_000_000 + ms }
}

/// What the journal keeps of losses.
pub type Stored = std::collections::BTreeMap<Vec<u8>, LossDocument>;

pub fn store(stored: &mut Stored, changes: &[LossChange]) {
    for LossChange { key, document } in changes {
        match document {
            Some(document) => stored.insert(key.clone(), document.clone()),
            None => stored.remove(key),
        };
    }
}

/// Which log it is.
pub const LOG: LogId = LogId([7; 16]);

pub struct Rig {
    pub disk: Disk,
    pub data_dir: PathBuf,
    pub options: LogOptions,
    pub wal: Wal,
    pub log: Log,
    pub now: Moment,
    pub stored: Stored,
}

fn wal_options() -> wal::Options {
    wal::Options { piece_bytes: 256 << 10, ..wal::Options::new(7) }
}

impl Rig {
    pub fn new(disk: &Disk, data_dir: &Path, options: LogOptions) -> Rig {
        Rig::start(disk, data_dir, options, after(0), Stored::new()).unwrap()
    }

    /// As the journal starts: the sealed part, the write-ahead log from there on, the end of the recovery.
    pub fn start(
        disk: &Disk,
        data_dir: &Path,
        options: LogOptions,
        now: Moment,
        stored: Stored,
    ) -> Result<Rig, LogError> {
        Rig::start_as(LOG, disk, data_dir, options, now, stored)
    }

    pub fn start_as(
        id: LogId,
        disk: &Disk,
        data_dir: &Path,
        options: LogOptions,
        now: Moment,
        stored: Stored,
    ) -> Result<Rig, LogError> {
        if !disk.exists(data_dir)? {
            disk.create_dir_all(data_dir)?;
            disk.sync_dir(data_dir.parent().unwrap())?;
        }
        let log = Log::open(disk, data_dir, id, options.clone(), now)?;
        let dir = data_dir.join("wal");
        let wal = if disk.exists(&dir.join("manifest"))? {
            let tell = |recovered: Recovered<'_>| match recovered {
                Recovered::Record { sequence, payload, piece, offset } => {
                    admit(&log, sequence, piece, offset, payload);
                }
                Recovered::Damaged { .. } => log.admit_damage(),
                Recovered::Healed { .. } => {}
            };
            match Wal::recover(disk, &dir, wal_options(), log.sealed_through() + 1, tell) {
                Err(wal::WalError::Disk(e)) => return Err(e.into()),
                recovered => recovered.unwrap(),
            }
        } else {
            Wal::create(disk, &dir, id, log.sealed_through() + 1, wal_options()).unwrap()
        };
        log.recovered(stored.values().cloned(), now)?;
        Ok(Rig { disk: disk.clone(), data_dir: data_dir.to_path_buf(), options, wal, log, now, stored })
    }

    pub fn restart(self) -> Rig {
        self.try_restart().unwrap()
    }

    pub fn try_restart(self) -> Result<Rig, LogError> {
        let Rig { disk, data_dir, options, wal, log, now, stored } = self;
        wal.close().unwrap();
        drop(log);
        Rig::start(&disk, &data_dir, options, now, stored)
    }

    /// What a start finds on the disk as a power cut leaves it now; this one goes on.
    pub fn after_crash(&self, seed: u64) -> Result<Rig, LogError> {
        let disk = self.disk.after_crash(seed).expect("a simulated disk");
        Rig::start(&disk, &self.data_dir, self.options.clone(), self.now, self.stored.clone())
    }

    pub fn append(&mut self, events: &[Event]) {
        self.append_with(events, &[]);
    }

    pub fn append_with(&mut self, events: &[Event], keys: &[Dedupe]) {
        commit(&self.log, &mut self.wal, self.now.wall_ms, events, keys);
    }

    /// Lets time pass, as the janitor and the sealing thread see it.
    pub fn tick(&mut self, ms: u64) {
        let Moment { wall_ms, boot, elapsed_ms } = self.now;
        self.now = Moment { wall_ms: wall_ms + ms, boot, elapsed_ms: elapsed_ms + ms };
        self.log.roll_if_due(self.now);
    }

    pub fn seal_step(&mut self) -> Result<SealStep, LogError> {
        let step = self.log.seal_step()?;
        self.wal.free_through(self.log.needed_from().unwrap_or(self.wal.last_sequence() + 1) - 1);
        Ok(step)
    }

    /// Seals all there is.
    pub fn seal(&mut self) {
        while self.log.roll() {
            self.seal_step().unwrap();
        }
    }

    pub fn retain(&mut self) -> u64 {
        self.log.roll_if_due(self.now);
        self.seal_step().unwrap();
        let mut events = 0;
        while let Some(expiry) = self.log.retention_step(self.now) {
            store(&mut self.stored, &expiry.changes);
            self.log.drop_segments(&expiry).unwrap();
            events += expiry.events;
        }
        events
    }

    pub fn save_losses(&mut self) {
        let unsaved = self.log.take_unsaved();
        store(&mut self.stored, &unsaved);
    }

    pub fn read(&self, no: u32) -> Vec<EventId> {
        ids(&self.log.read(ChannelNo(no), EventId::ZERO, ALL, Direction::Forward).unwrap().events)
    }

    pub fn read_back(&self, no: u32) -> Vec<EventId> {
        let mut ids = ids(&self.log.read(ChannelNo(no), EventId::MAX, ALL, Direction::Backward).unwrap().events);
        ids.reverse();
        ids
    }

    pub fn segment(&self, segment: u64) -> PathBuf {
        self.data_dir.join("log").join(format!("{segment:010}"))
    }
}

pub fn commit(log: &Log, wal: &mut Wal, time_ms: u64, events: &[Event], keys: &[Dedupe]) {
    let payload = payload(time_ms, events, keys);
    let committed = wal.commit(&[&payload], Urgency::Normal).unwrap();
    admit(log, committed.sequence, &committed.piece, committed.offset, &payload);
}

fn payload(time_ms: u64, events: &[Event], keys: &[Dedupe]) -> Vec<u8> {
    let events = encode_events(events);
    [&time_ms.to_be_bytes()[..], &(events.len() as u32).to_be_bytes(), &events, &encode_keys(keys)].concat()
}

fn admit(log: &Log, sequence: u64, piece: &std::sync::Arc<wal::Piece>, offset: u32, payload: &[u8]) {
    let time_ms = u64::from_be_bytes(payload[..8].try_into().unwrap());
    let len = u32::from_be_bytes(payload[8..12].try_into().unwrap());
    let (events, keys) = payload[12..].split_at(len as usize);
    log.admit(&Admission {
        sequence,
        time_ms,
        piece,
        events: Some(CommitPart { offset: offset + 12, bytes: events }),
        keys: Some(CommitPart { offset: offset + 12 + len, bytes: keys }),
    })
    .unwrap();
}
