//! Single properties of the log.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::disk::Disk;
use crate::disk::Point;
use crate::disk::failure::Fault;
use crate::log::{Dedupe, Direction, LogOptions, Moment, PageLimit, Retention, SealStep};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

pub fn simulated(options: LogOptions) -> Rig {
    Rig::new(&Disk::simulated(1), Path::new("/data"), options)
}

pub fn events(from: u32, count: u32, channels: u32) -> Vec<Event> {
    (from..from + count).map(|n| event(id(n), 1 + n % channels, 200)).collect()
}

#[test]
fn a_page_reaches_over_sealed_rolled_and_active_parts() {
    let mut rig = simulated(options());
    for n in 0..4 {
        rig.append(&events(100 * n, 100, 3));
        match n {
            0 | 1 => rig.seal(),
            2 => assert!(rig.log.roll()),
            _ => {}
        }
    }
    assert_eq!(rig.log.stats().segments, 4);
    let all: Vec<EventId> = (0..400).map(id).collect();
    assert_eq!((rig.read(0), rig.read_back(0)), (all.clone(), all.clone()));
    let of_2: Vec<EventId> = (0..400).filter(|n| n % 3 == 1).map(id).collect();
    assert_eq!((rig.read(2), rig.read_back(2)), (of_2.clone(), of_2));
    let page = rig
        .log
        .read(ChannelNo::ALL, id(198), PageLimit { events: 150, bytes: usize::MAX }, Direction::Forward)
        .unwrap();
    assert_eq!((page.events.len(), page.more, page.last), (150, true, id(348)));
    assert_eq!(rig.read(9), []);
}

#[test]
fn a_page_ends_at_its_bytes_and_holds_at_least_one_event() {
    let mut rig = simulated(options());
    rig.append(&(0..10).map(|n| event(id(n), 1, 10_000)).collect::<Vec<_>>());
    for _ in 0..2 {
        let read = |bytes| {
            let page = rig.log.read(ChannelNo(1), EventId::ZERO, PageLimit { events: 100, bytes }, Direction::Forward);
            let page = page.unwrap();
            (page.events.len(), page.more)
        };
        assert_eq!((read(1), read(25_000), read(1_000_000)), ((1, true), (3, true), (10, false)));
        rig.seal();
    }
}

#[test]
fn a_cursor_ahead_of_the_log_stays_where_it_is() {
    let mut rig = simulated(options());
    rig.append(&events(0, 3, 1));
    let page = rig.log.read(ChannelNo(1), id(50), ALL, Direction::Forward).unwrap();
    assert_eq!((page.events.len(), page.more, page.last), (0, false, id(50)));
    let page = rig.log.read(ChannelNo(2), id(0), ALL, Direction::Forward).unwrap();
    assert_eq!((page.events.len(), page.more, page.last), (0, false, id(2)));
}

#[test]
fn a_view_shows_what_was_there_when_it_was_taken() {
    let mut rig = simulated(options());
    let dedupe = |n: u32| Dedupe { channel: ChannelNo(1), key: key(&n.to_string()), first: id(n), count: 1 };
    rig.append_with(&events(0, 50, 2), &[dedupe(1), dedupe(2)]);
    rig.seal();
    rig.append_with(&events(50, 50, 2), &[dedupe(3)]);
    let view = rig.log.view();
    assert_eq!((view.head, view.sequence), (id(99), 2));
    rig.append_with(&events(100, 50, 2), &[dedupe(4)]);
    rig.seal();
    let (mut at, mut found) = (EventId::ZERO, Vec::new());
    loop {
        let page = rig.log.view_events(&view, at, PageLimit { events: 30, bytes: usize::MAX }).unwrap();
        found.extend(ids(&page.events));
        at = page.last;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, (0..100).map(id).collect::<Vec<_>>());
    let (first, next) = rig.log.view_keys(&view, 0, 2);
    let (second, end) = rig.log.view_keys(&view, next, 2);
    let keys: Vec<_> = first.iter().chain(&second).map(|used| (used.dedupe, used.time_ms)).collect();
    assert_eq!(keys, [1, 2, 3].map(|n| (dedupe(n), START_MS)));
    assert_eq!(rig.log.view_keys(&view, end, 2).0, []);
}

#[test]
fn sealing_frees_the_commits_that_are_sealed_and_no_others() {
    let mut rig = simulated(options());
    assert_eq!((rig.log.needed_from(), rig.log.sealed_through()), (None, 0));
    rig.append(&events(0, 10, 1));
    rig.append(&events(10, 10, 1));
    assert_eq!(rig.log.needed_from(), Some(1));
    assert!(rig.log.roll());
    rig.append(&events(20, 10, 1));
    assert_eq!(rig.log.needed_from(), Some(1));
    assert!(matches!(rig.seal_step().unwrap(), SealStep::Sealed { segment: 1, events: 20, .. }));
    assert_eq!((rig.log.needed_from(), rig.log.sealed_through()), (Some(3), 2));
    assert_eq!(rig.seal_step().unwrap(), SealStep::Idle);
    rig.seal();
    assert_eq!((rig.log.needed_from(), rig.log.sealed_through()), (None, 3));
}

#[test]
fn commits_wait_when_sealing_does_not_keep_up() {
    let mut rig = simulated(options());
    let mut n = 0;
    let mut fill = |rig: &mut Rig| {
        rig.append(&[event(id(n), 1, 500_000), event(id(n + 1), 1, 500_000), event(id(n + 2), 1, 100_000)]);
        n += 3;
    };
    fill(&mut rig);
    assert!(rig.log.roll_if_due(rig.now));
    fill(&mut rig);
    assert!(rig.log.may_admit(500_000));
    assert!(!rig.log.roll_if_due(rig.now), "one waits already");
    fill(&mut rig);
    assert!(!rig.log.may_admit(500_000));
    rig.seal_step().unwrap();
    assert!(rig.log.may_admit(500_000));
}

#[test]
fn a_segment_is_rolled_by_size_age_and_part_of_the_retention() {
    let mut rig = simulated(LogOptions { retention: Retention { max_events: 400, ..Default::default() }, ..options() });
    rig.append(&events(0, 99, 1));
    assert!(!rig.log.roll_if_due(after(59_999)));
    rig.append(&events(99, 1, 1));
    assert!(rig.log.roll_if_due(after(0)), "a quarter of what is kept");
    rig.seal();
    rig.append(&events(100, 1, 1));
    assert!(!rig.log.roll_if_due(after(59_999)));
    assert!(rig.log.roll_if_due(after(60_000)), "it is old");
    rig.seal();
    assert!(!rig.log.roll_if_due(after(600_000)), "there is nothing in it");
    rig.append(&(200..212).map(|n| event(id(n), 1, 100_000)).collect::<Vec<_>>());
    assert!(rig.log.roll_if_due(after(0)), "it is full");
}

#[test]
fn a_database_that_does_not_hold_what_was_written_is_not_trusted() {
    let mut rig = simulated(options());
    rig.append(&events(0, 50, 2));
    assert!(rig.log.roll());
    rig.disk.faults().set(Point::DatabaseOpen, Fault::damage());
    rig.disk.faults().set(Point::DatabaseRead, Fault::damage());
    if rig.seal_step().is_ok() {
        // the damage did not touch what was read back, or the checksum was taken of it
        rig.disk.faults().clear_all();
        assert_eq!(rig.read(0).len(), 50);
    }
    rig.disk.faults().clear_all();
    assert_eq!(rig.read(0).len(), 50);
}

#[test]
fn a_damaged_record_of_the_active_part_is_announced_and_the_rest_is_read() {
    let mut rig = simulated(options());
    rig.append(&events(0, 30, 2));
    rig.append(&events(30, 30, 2));
    damage_text(&rig, "00000000000000000A", 11);
    for restarted in [false, true] {
        let lost = id(10);
        for no in [0, 1] {
            assert!(!rig.read(no).contains(&lost) && !rig.read_back(no).contains(&lost));
            assert_eq!(rig.log.damaged_between(ChannelNo(no), id(0), id(50)), Some((id(8), id(11))), "{restarted}");
        }
        assert_eq!(rig.read(0).len(), 59);
        assert_eq!(rig.read(2).len(), 30);
        assert_eq!(rig.log.damaged_between(ChannelNo(2), EventId::ZERO, EventId::MAX), None);
        // sealed as it is, and known after a restart though nobody had stored it
        rig.seal();
        rig = rig.restart();
    }
    assert_eq!(rig.log.take_unsaved().len(), 1);
}

/// Flips a bit of the payload that holds a text, in whatever file of the write-ahead log it is.
fn damage_text(rig: &Rig, text: &str, expected_in: u64) {
    let dir = rig.data_dir.join("wal");
    let mut found = 0;
    for entry in rig.disk.list(&dir).unwrap() {
        let path = dir.join(&entry.name);
        let bytes = rig.disk.read(Point::WalRead, &path).unwrap();
        for at in 0..bytes.len() - text.len() {
            if bytes[at..].starts_with(text.as_bytes()) && found == 0 {
                found += 1;
                rig.disk.simulation().unwrap().damage(&path, at as u64, 1).unwrap();
            }
        }
    }
    assert_eq!(found, 1, "{expected_in}");
}

#[test]
fn commits_that_the_recovery_could_not_read_are_announced_up_to_the_next_one() {
    let mut rig = simulated(options());
    rig.append(&events(0, 10, 1));
    rig.log.admit_damage();
    rig.log.admit_damage();
    rig.append(&events(20, 10, 1));
    assert_eq!(rig.log.damaged_between(ChannelNo(7), EventId::ZERO, EventId::MAX), Some((id(9), id(19))));
    rig.log.admit_damage();
    let now = after(5000);
    rig.log.recovered([], now).unwrap();
    let end = EventId::at_time(now.wall_ms);
    assert_eq!(rig.log.damaged_between(ChannelNo(7), id(25), EventId::MAX), Some((id(29), end)));
    assert_eq!(rig.log.head(), end, "what was there may have had ids up to here");
}

/// A simulation of the whole engine found it: one id was announced, and those behind it were lost in silence and given out again.
#[test]
fn what_a_damaged_end_may_have_held_is_announced_also_when_the_clock_was_set_back() {
    let mut rig = simulated(options());
    rig.append(&events(0, 10, 1));
    rig.log.admit_damage();
    rig.log.recovered([], Moment { wall_ms: START_MS - 3_600_000, ..after(0) }).unwrap();
    let last = id(9).plus(1_000_000);
    let told = rig.log.damaged_between(ChannelNo(7), EventId::ZERO, EventId::MAX);
    assert!(told.is_some_and(|(after, through)| after == id(9) && through >= last), "{told:?}");
    assert!(rig.log.head() >= last, "no id is given out twice");
}

#[test]
fn a_dedupe_key_is_known_after_a_restart_and_forgotten_after_its_window() {
    let mut rig = simulated(options());
    let dedupe = Dedupe { channel: ChannelNo(1), key: key("a"), first: id(1), count: 3 };
    rig.append_with(&events(1, 3, 1), &[dedupe]);
    for step in 0..3 {
        let known = |no, name: &str, now_ms| rig.log.known(ChannelNo(no), key(name), now_ms);
        assert_eq!(known(1, "a", START_MS + 60_000), Some((id(1), 3)), "{step}");
        assert_eq!(known(1, "a", START_MS + 60_001), None);
        assert_eq!((known(1, "b", START_MS), known(2, "a", START_MS)), (None, None));
        if step == 1 {
            rig.seal();
        }
        rig = rig.restart();
    }
}

#[test]
fn a_commit_with_nothing_but_keys_is_kept() {
    let mut rig = simulated(options());
    rig.append_with(&[], &[Dedupe { channel: ChannelNo(1), key: key("a"), first: id(1), count: 1 }]);
    assert_eq!(rig.log.needed_from(), Some(1));
    rig.seal();
    let rig = rig.restart();
    assert_eq!(rig.log.known(ChannelNo(1), key("a"), START_MS), Some((id(1), 1)));
    assert_eq!((rig.log.head(), rig.log.stats().events), (EventId::ZERO, 0));
}

#[test]
fn the_head_and_what_is_sealed_are_known_when_every_event_has_gone() {
    let retention = Retention { max_age_ms: 1000, ..Default::default() };
    let mut rig = simulated(LogOptions { retention, ..options() });
    rig.append(&events(7, 1, 1));
    rig.tick(5000);
    assert_eq!(rig.retain(), 1);
    for _ in 0..2 {
        assert_eq!((rig.log.head(), rig.log.oldest(ChannelNo::ALL), rig.log.stats().events), (id(7), None, 0));
        assert_eq!((rig.log.sealed_through(), rig.log.highest_channel()), (1, 1));
        assert!(rig.log.lost_between(ChannelNo(1), EventId::ZERO, EventId::MAX));
        rig = rig.restart();
    }
    rig.append(&events(8, 1, 1));
    rig.seal();
    rig.tick(1);
    rig.retain();
    assert_eq!((rig.read(1), rig.log.stats().segments), (vec![id(8)], 2), "the empty one has gone");
    assert_eq!(rig.restart().read(1), [id(8)]);
}

#[test]
fn retention_by_bytes_frees_the_disk_and_keeps_the_newest() {
    let retention = Retention { max_bytes: 8 << 20, ..Default::default() };
    let mut rig = simulated(LogOptions { retention, segment_max_bytes: 64 << 20, ..options() });
    for n in 0..80 {
        let mut event = event(id(n), 1, 0);
        event.payload = random_payload(n, 250_000);
        rig.append(&[event]);
        rig.retain();
    }
    let stats = rig.log.stats();
    assert!(stats.bytes <= 11 << 20, "{stats:?}");
    let found = rig.read(1);
    assert!(found.len() > 10 && found.ends_with(&[id(79)]), "{}", found.len());
    assert!(!rig.log.lost_between(ChannelNo::ALL, found[0].before(), EventId::MAX));
    assert!(rig.log.lost_between(ChannelNo::ALL, found[0].before().before(), EventId::MAX));
    let folders = rig.disk.list(&rig.data_dir.join("log")).unwrap().iter().filter(|entry| entry.is_dir).count();
    assert_eq!(folders, stats.segments - 1);
}

pub fn random_payload(seed: u32, bytes: usize) -> crate::model::json::Canonical {
    let mut state = u64::from(seed) + 1;
    let mut text = String::with_capacity(bytes + 10);
    text.push_str("{\"x\":\"");
    for _ in 0..bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(char::from(b'0' + (state >> 58) as u8 % 75));
    }
    text.retain(|c| c != '\\');
    text.push_str("\"}");
    crate::model::json::Canonical::parse(&text).unwrap()
}

#[test]
fn a_clock_that_jumps_ahead_makes_nothing_old_until_that_time_has_passed() {
    let retention = Retention { max_age_ms: 100_000, ..Default::default() };
    let mut rig = simulated(LogOptions { retention, ..options() });
    rig.append(&events(0, 10, 1));
    rig.seal();
    let year_ms = 365 * 86_400_000;
    let jumped = |elapsed_ms: u64| Moment { wall_ms: START_MS + year_ms, elapsed_ms: 1_000_000 + elapsed_ms, boot: 1 };
    assert!(rig.log.retention_step(jumped(99_999)).is_none());
    assert!(rig.log.retention_step(jumped(100_000)).is_some());
    // after another boot only the wall clock is left
    let mut rig = rig.restart();
    let rebooted = |wall_ms| Moment { wall_ms, elapsed_ms: 5, boot: 2 };
    assert!(rig.log.retention_step(rebooted(START_MS + 100_000)).is_none());
    assert!(rig.log.retention_step(rebooted(START_MS + 100_001)).is_some());
    // ids of the future, from a clock that was wrong, go by the time that has passed
    rig.now = rebooted(START_MS + 100_001);
    let ahead = EventId::at_time(START_MS + year_ms);
    rig.append(&[event(ahead, 1, 10)]);
    rig.seal();
    rig.tick(100_001);
    let expiry = rig.log.retention_step(rig.now).unwrap();
    assert_eq!(expiry.segments, [1, 2]);
}

#[test]
fn what_retention_takes_is_still_there_until_that_is_stored() {
    let retention = Retention { max_age_ms: 1000, ..Default::default() };
    let mut rig = simulated(LogOptions { retention, ..options() });
    for n in 0..3 {
        rig.append(&events(10 * n, 10, 1));
        rig.seal();
    }
    rig.tick(3000);
    let expiry = rig.log.retention_step(rig.now).unwrap();
    assert_eq!((expiry.segments.len(), expiry.events), (3, 30));
    assert_eq!(rig.read(1).len(), 30);
    // the process dies when the changes are stored and the segments are not removed yet
    store(&mut rig.stored, &expiry.changes);
    let mut rig = rig.restart();
    assert_eq!(rig.read(1).len(), 10, "of the last one the manifest has to stay");
    assert!(rig.log.lost_between(ChannelNo(1), EventId::ZERO, EventId::MAX));
    rig.retain();
    assert_eq!((rig.read(1).len(), rig.log.head()), (0, id(29)));
    rig.log.remove_leftovers().unwrap();
    let names: Vec<_> = rig.disk.list(&rig.data_dir.join("log")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["0000000003", "newest"]);
    assert_eq!(rig.disk.list(&rig.segment(3)).unwrap().len(), 1, "only its manifest");
}

#[test]
fn a_folder_that_cannot_be_removed_is_removed_later() {
    let retention = Retention { max_age_ms: 1000, ..Default::default() };
    let mut rig = simulated(LogOptions { retention, ..options() });
    for n in 0..2 {
        rig.append(&events(10 * n, 10, 1));
        rig.seal();
    }
    rig.append(&[event(EventId::at_time(START_MS + 3000), 1, 10)]);
    rig.tick(3000);
    let expiry = rig.log.retention_step(rig.now).unwrap();
    rig.disk.faults().fail(Point::Remove, libc::EIO);
    assert!(rig.log.drop_segments(&expiry).is_err());
    assert_eq!(rig.read(1).len(), 1);
    rig.disk.faults().clear_all();
    rig.log.remove_leftovers().unwrap();
    assert!(!rig.disk.exists(&rig.segment(1)).unwrap());
}

/// Found by the simulation of the journal: a power cut undid the rename of a folder whose files were already gone, and the
/// next start missed its manifest.
#[test]
fn a_folder_is_emptied_only_once_its_new_name_is_durable() {
    let retention = Retention { max_age_ms: 1000, ..Default::default() };
    let mut failed = 0;
    for (syncs, seed) in (0..6).flat_map(|syncs| (0..15).map(move |seed| (syncs, seed))) {
        let mut rig = simulated(LogOptions { retention, ..options() });
        for n in 0..3 {
            rig.append(&events(10 * n, 10, 1));
            rig.seal();
        }
        rig.append(&[event(EventId::at_time(START_MS + 3000), 1, 10)]);
        rig.tick(3000);
        let expiry = rig.log.retention_step(rig.now).unwrap();
        store(&mut rig.stored, &expiry.changes);
        rig.disk.faults().set(Point::SyncFolder, Fault::errno(libc::EIO).after(syncs));
        failed += u32::from(rig.log.drop_segments(&expiry).is_err());
        rig.disk.faults().clear_all();
        rig.log.remove_leftovers().unwrap();
        let rig = rig.after_crash(seed).unwrap();
        assert!(!rig.read(1).is_empty(), "after {syncs} syncs, seed {seed}");
    }
    assert!(failed > 30, "{failed} syncs failed");
}

#[test]
fn no_more_databases_are_open_than_may_be() {
    let mut rig = simulated(LogOptions { open_segments: 2, ..options() });
    for n in 0..6 {
        rig.append(&events(10 * n, 10, 1));
        rig.seal();
    }
    let is_warm = |n| rig.log.is_warm(ChannelNo(1), id(n), Direction::Forward);
    assert!(!is_warm(0) && is_warm(59));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let log = &rig.log;
            scope.spawn(move || {
                for n in 0..60 {
                    let at = id((10 * thread + 7 * n) % 60);
                    let limit = PageLimit { events: 20, bytes: usize::MAX };
                    let page = log.read(ChannelNo(1), at, limit, Direction::Forward).unwrap();
                    assert!(page.events.first().is_none_or(|event| event.id == at.plus(1)));
                }
            });
        }
    });
    let open = (1..=6).filter(|segment| rig.log.databases.is_open(*segment)).count();
    assert!(open <= 2, "{open}");
}

#[test]
fn readers_meet_neither_holes_nor_errors_while_segments_are_sealed_and_dropped() {
    let retention = Retention { max_events: 400, ..Default::default() };
    let mut rig = simulated(LogOptions { retention, open_segments: 1, ..options() });
    let done = AtomicBool::new(false);
    let Rig { log, wal, stored, .. } = &mut rig;
    let log = &*log;
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let done = &done;
            scope.spawn(move || {
                let (no, step) = if reader == 0 { (ChannelNo::ALL, 1) } else { (ChannelNo(reader), 2) };
                let mut at = EventId::ZERO;
                while !done.load(Ordering::Relaxed) || log.newest(no).is_some_and(|newest| at < newest) {
                    let limit = PageLimit { events: 30, bytes: usize::MAX };
                    let page = log.read(no, at, limit, Direction::Forward).unwrap();
                    for event in page.events {
                        let is_next = event.id == at.plus(step) || at == EventId::ZERO;
                        assert!(is_next || log.lost_between(no, at, event.id), "{no:?} {at} {}", event.id);
                        at = event.id;
                    }
                    let back = log.read(no, EventId::MAX, limit, Direction::Backward).unwrap();
                    assert!(back.events.is_sorted_by(|a, b| a.id > b.id));
                }
            });
        }
        for n in 0..400 {
            let events = events(10 * n, 10, 2);
            commit(log, wal, START_MS, &events, &[]);
            log.roll_if_due(after(0));
            log.seal_step().unwrap();
            if let Some(expiry) = log.retention_step(after(0)) {
                store(stored, &expiry.changes);
                log.drop_segments(&expiry).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(log.stats().segments < 8);
}
