//! The store against a plain model, and what each kind of damage does to it.

mod backup;
mod damage;
mod model;
mod parts;
mod state;

use std::path::Path;

use tempfile::TempDir;

use super::{Commit, Direction, Durability, Log, Options, PageLimit, Retention};
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::id::EventId;
use crate::model::json::Canonical;

const START_MS: i64 = 1_750_000_000_000;
const ALL: PageLimit = PageLimit { events: usize::MAX, bytes: usize::MAX };

fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_path_buf(),
        durability: Durability::Flush,
        segment_max_bytes: 2 * 1024 * 1024,
        segment_max_age_ms: 60_000,
        cache_bytes: 4 * 1024 * 1024,
        open_segments: 1,
        retention: Retention::default(),
        dedupe_window_ms: 60_000,
        dedupe_keys: 1000,
    }
}

fn open(options: &Options, now_ms: i64) -> Log {
    let (log, report) = Log::open(options.clone(), now_ms).unwrap();
    assert_eq!(report.quarantined, Vec::<String>::new());
    log
}

fn id(n: u32) -> EventId {
    EventId::at_time(START_MS as u64).plus(n)
}

fn event(id: EventId, no: u32, bytes: usize) -> Event {
    let payload = format!("{{\"id\":\"{id}\",\"x\":\"{}\"}}", "x".repeat(bytes));
    Event {
        id,
        channel: ChannelNo(no),
        kind: EventType::new("test").unwrap(),
        ts_ms: START_MS,
        session: no.is_multiple_of(2).then(|| "s".into()),
        origin: Default::default(),
        payload: Canonical::parse(&payload).unwrap(),
    }
}

fn commit(events: Vec<Event>) -> Commit {
    Commit { events, dedupe: Vec::new() }
}

fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

fn of_channel(log: &Log, no: u32) -> Vec<EventId> {
    ids(&log.read(ChannelNo(no), EventId::ZERO, ALL, Direction::Forward).unwrap().events)
}

/// A log of `segments` sealed segments and an active one, each with 10 events of channel 1: ids 10n .. 10n + 9.
fn segmented(dir: &TempDir, segments: u32) -> Log {
    let log = open(&options(dir.path()), START_MS);
    for n in 0..=segments {
        let events = (0..10).map(|k| event(id(10 * n + k), 1, 200)).collect();
        log.append(&commit(events), START_MS + 60_000 * i64::from(n)).unwrap();
    }
    assert_eq!(log.stats().segments as u32, segments + 1);
    log
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// A database as sled sees it, to damage it.
fn raw_database(path: &Path) -> sled::Db {
    let config = sled::Config::new().path(path).segment_size(super::segment::SLED_SEGMENT_BYTES);
    super::segment::open_database(&config, path).unwrap()
}
