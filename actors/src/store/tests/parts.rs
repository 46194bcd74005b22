//! Single properties of the log and of a segment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;
use crate::store::segment::Segment;
use crate::store::{DataLock, Dedupe, DedupeKey, StoreError};

#[test]
fn a_record_that_fails_its_check_is_skipped_and_the_rest_is_read() {
    // the lengths, the check, the body and the payload of the first record
    for (at, large) in [(0, false), (1, true), (3, false), (5, false), (9, false), (100, true)] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("segment");
        let segment = Segment::begin(&path, 1 << 20).unwrap();
        let bytes = if large { 200_000 } else { 300 };
        segment.append(&commit(vec![event(id(1), 1, bytes), event(id(2), 1, 30)]), 0).unwrap();
        segment.append(&commit(vec![event(id(3), 1, 30), event(id(4), 2, 30)]), 0).unwrap();
        drop(segment);
        damage_value(&path, 1, at);
        let segment = Segment::open(&path, 1 << 20).unwrap();
        let (forward, more) = segment.read(ChannelNo(1), id(0), id(9), ALL, Direction::Forward).unwrap();
        assert!(!more && ids(&forward).ends_with(&[id(3)]) && !ids(&forward).contains(&id(1)), "{at} {forward:?}");
        let (mut backward, _) = segment.read(ChannelNo(1), id(9), id(9), ALL, Direction::Backward).unwrap();
        backward.reverse();
        assert_eq!(backward, forward);
        let (all, _) = segment.read(ChannelNo::ALL, id(0), id(9), ALL, Direction::Forward).unwrap();
        assert!(ids(&all).ends_with(&[id(3), id(4)]));
        assert!(segment.corrupt.load(Ordering::Relaxed) > 0);
    }
}

/// Flips a byte of the first block of a channel.
fn damage_value(path: &Path, channel: u8, at: usize) {
    let db = raw_database(path);
    let (key, value) = db.scan_prefix([b'c', 0, 0, 0, channel]).next().unwrap().unwrap();
    let mut value = value.to_vec();
    value[at] ^= 0xff;
    db.insert(key, value).unwrap();
    db.flush().unwrap();
}

#[test]
fn large_records_come_back_whole_between_small_ones() {
    let dir = TempDir::new().unwrap();
    let log = open(&options(dir.path()), START_MS);
    let sizes = [10, 262_144, 49_040, 49_152, 1, 1_000_000, 59_000, 59_000, 10];
    let events: Vec<Event> = sizes.iter().enumerate().map(|(n, size)| event(id(n as u32), 1, *size)).collect();
    log.append(&commit(events.clone()), START_MS).unwrap();
    drop(log);
    let log = open(&options(dir.path()), START_MS);
    assert!(log.read(ChannelNo(1), EventId::ZERO, ALL, Direction::Forward).unwrap().events == events);
    assert!(log.read(ChannelNo::ALL, EventId::ZERO, ALL, Direction::Forward).unwrap().events == events);
}

#[test]
fn a_commit_may_touch_a_thousand_channels() {
    let dir = TempDir::new().unwrap();
    let log = open(&options(dir.path()), START_MS);
    let events: Vec<Event> = (0..2000).map(|n| event(id(n), n % 1000, 20)).collect();
    log.append(&commit(events.clone()), START_MS).unwrap();
    assert_eq!(of_channel(&log, 999), [id(999), id(1999)]);
    assert!(log.read(ChannelNo::ALL, EventId::ZERO, ALL, Direction::Forward).unwrap().events == events);
}

#[test]
fn no_page_grows_into_a_file_that_is_never_synced() {
    let dir = TempDir::new().unwrap();
    let log = open(&Options { segment_max_bytes: 1 << 30, ..options(dir.path()) }, START_MS);
    for n in 0..60 {
        let events = (0..20).map(|k| event(id(20 * n + k), 1, 45_000)).collect();
        log.append(&commit(events), START_MS).unwrap();
    }
    assert_eq!(log.stats().segments, 1);
    let files = std::fs::read_dir(dir.path().join("log/0000000001/blobs")).unwrap().count();
    assert_eq!(files, 0);
}

fn keyed(n: u32, key: &str) -> Commit {
    let dedupe = Dedupe { channel: ChannelNo(1), key: DedupeKey::of_event(key), first: id(n), count: 1 };
    Commit { events: vec![event(id(n), 1, 10)], dedupe: vec![dedupe] }
}

fn known(log: &Log, key: &str, now_ms: i64) -> Option<EventId> {
    log.known(ChannelNo(1), DedupeKey::of_event(key), now_ms).unwrap().map(|(first, _)| first)
}

#[test]
fn a_dedupe_key_is_known_after_a_restart_and_forgotten_after_its_window() {
    let dir = TempDir::new().unwrap();
    let log = open(&options(dir.path()), START_MS);
    log.append(&keyed(1, "a"), START_MS).unwrap();
    for log in [log, open_again(&dir)] {
        assert_eq!(known(&log, "a", START_MS + 60_000), Some(id(1)));
        assert_eq!(known(&log, "a", START_MS + 60_001), None);
        assert_eq!(known(&log, "b", START_MS), None);
        assert_eq!(log.known(ChannelNo(2), DedupeKey::of_event("a"), START_MS).unwrap(), None);
        assert_eq!(log.known(ChannelNo(1), DedupeKey::of_request("a"), START_MS).unwrap(), None);
    }
}

fn open_again(dir: &TempDir) -> Log {
    let copy = TempDir::new().unwrap();
    copy_folder(dir.path(), copy.path());
    open(&options(&copy.keep()), START_MS)
}

#[test]
fn a_key_that_is_used_again_after_its_window_is_known_again() {
    let dir = TempDir::new().unwrap();
    let log = open(&Options { segment_max_age_ms: 1_000_000, ..options(dir.path()) }, START_MS);
    log.append(&keyed(1, "a"), START_MS).unwrap();
    log.append(&keyed(2, "a"), START_MS + 60_001).unwrap();
    assert_eq!(known(&log, "a", START_MS + 60_002), Some(id(2)));
}

#[test]
fn a_key_without_an_event_is_kept_over_a_restart() {
    let dir = TempDir::new().unwrap();
    let log = open(&options(dir.path()), START_MS);
    log.append(&Commit { events: Vec::new(), ..keyed(1, "a") }, START_MS).unwrap();
    drop(log);
    let log = open(&options(dir.path()), START_MS);
    assert_eq!(known(&log, "a", START_MS), Some(id(1)));
    assert_eq!((log.head(), log.stats().events), (EventId::ZERO, 0));
}

#[test]
fn keys_beyond_the_bound_are_forgotten_oldest_first_and_counted() {
    let dir = TempDir::new().unwrap();
    let log = open(&Options { dedupe_keys: 3, ..options(dir.path()) }, START_MS);
    for n in 0..5 {
        log.append(&keyed(n, &n.to_string()), START_MS).unwrap();
    }
    assert_eq!(log.stats().dedupe_forgotten, 2);
    assert_eq!((known(&log, "1", START_MS), known(&log, "2", START_MS)), (None, Some(id(2))));
}

#[test]
fn a_data_folder_has_one_server() {
    let dir = TempDir::new().unwrap();
    let first = DataLock::take(dir.path()).unwrap();
    assert!(matches!(DataLock::take(dir.path()), Err(StoreError::InUse(_))));
    drop(first);
    DataLock::take(dir.path()).unwrap();
}

#[test]
fn retention_by_bytes_frees_the_disk_and_keeps_the_newest() {
    let dir = TempDir::new().unwrap();
    let retention = Retention { max_bytes: 8 << 20, ..Retention::default() };
    let log = open(&Options { retention, ..options(dir.path()) }, START_MS);
    for n in 0..100 {
        log.append(&commit(vec![event(id(n), 1, 250_000)]), START_MS).unwrap();
        log.retain(START_MS).unwrap();
    }
    assert!(log.stats().bytes <= 8 << 20);
    let found = of_channel(&log, 1);
    assert!(found.len() > 3 && found.ends_with(&[id(99)]));
    assert_eq!(std::fs::read_dir(dir.path().join("log")).unwrap().count(), log.stats().segments + 1);
    assert!(
        !log.lost_between(ChannelNo::ALL, found[0].before(), EventId::MAX)
            && log.lost_between(ChannelNo::ALL, id(0), EventId::MAX)
    );
}

#[test]
fn the_head_survives_when_every_event_has_gone() {
    let dir = TempDir::new().unwrap();
    let options = Options { retention: Retention { max_age_ms: 1000, ..Retention::default() }, ..options(dir.path()) };
    let log = open(&options, START_MS);
    log.append(&commit(vec![event(id(7), 1, 10)]), START_MS).unwrap();
    assert_eq!(log.retain(START_MS + 5000).unwrap().events, 1);
    assert_eq!((log.head(), log.oldest(ChannelNo::ALL), log.stats().events), (id(7), None, 0));
    drop(log);
    let log = open(&options, START_MS + 5000);
    assert_eq!(log.head(), id(7));
}

#[test]
fn readers_meet_neither_holes_nor_errors_while_segments_close_and_go() {
    let dir = TempDir::new().unwrap();
    let retention = Retention { max_events: 400, ..Retention::default() };
    let log = Arc::new(open(&Options { retention, open_segments: 0, ..options(dir.path()) }, START_MS));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut at = EventId::ZERO;
                while !done.load(Ordering::Relaxed) || at < log.head() {
                    let limit = PageLimit { events: 30, bytes: usize::MAX };
                    let page = log.read(ChannelNo(1), at, limit, Direction::Forward).unwrap();
                    for event in page.events {
                        let lost = || log.lost_between(ChannelNo(1), at, event.id);
                        assert!(event.id == at.plus(1) || at == EventId::ZERO || lost(), "{at} {}", event.id);
                        at = event.id;
                    }
                }
            });
        }
        for n in 0..300 {
            let events = (0..10).map(|k| event(id(10 * n + k), 1, 100)).collect();
            log.append(&commit(events), START_MS).unwrap();
            log.retain(START_MS).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(log.stats().segments < 8);
}

#[test]
fn no_page_becomes_a_file_of_its_own_because_sled_never_syncs_those() {
    let dir = TempDir::new().unwrap();
    let log = open(&options(dir.path()), START_MS);
    for n in 0..60 {
        let events = (0..150).map(|k| event(id(150 * n + k), 1, 300)).collect();
        log.append(&commit(events), START_MS).unwrap();
    }
    let large = (0..20).map(|k| event(id(10_000 + k), 2, 200_000)).collect();
    log.append(&commit(large), START_MS).unwrap();
    for segment in std::fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()) {
        if segment.is_dir() {
            assert_eq!(std::fs::read_dir(segment.join("blobs")).unwrap().count(), 0);
        }
    }
}
