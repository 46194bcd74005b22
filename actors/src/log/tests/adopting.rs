//! Segments of a server that had no write-ahead log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::disk::database::{Batch, Database};
use crate::disk::failure::Fault;
use crate::disk::{Disk, Open, Point};
use crate::log::{Dedupe, Direction, LossDocument, PageLimit, adopt_format_1, record};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

/// Values of the older server stayed below this.
const VALUE_BYTES: usize = 48 * 1024;

/// Writes a segment as the older server did: a commit at a time.
fn write_old(disk: &Disk, dir: &Path, commits: &[Vec<Event>], keys: &[Dedupe], is_sealed: bool) {
    let database = Database::open_in_place(disk, dir).unwrap();
    let mut begun = Batch::default();
    begun.put(*b"b", *b"");
    database.apply(begun).unwrap();
    drop(disk.open(Point::FormatWrite, &dir.join("begun"), Open::CreateNew).unwrap());
    disk.sync_dir(dir).unwrap();
    for commit in commits {
        let mut batch = Batch::default();
        let mut blocks: BTreeMap<u32, (EventId, Vec<u8>)> = BTreeMap::new();
        for event in commit {
            let block = blocks.entry(event.channel.0).or_insert_with(|| (event.id, Vec::new()));
            record::write(event, &mut block.1);
        }
        let mut index = Vec::new();
        for (no, (first, bytes)) in blocks {
            index.extend([&no.to_be_bytes()[..], &first.to_bytes()].concat());
            for (part, bytes) in bytes.chunks(VALUE_BYTES).enumerate() {
                let part = (part as u16).to_be_bytes();
                batch.put([b"c", &no.to_be_bytes()[..], &first.to_bytes(), &part].concat(), bytes);
            }
        }
        batch.put([b"i", &commit[0].id.to_bytes()[..]].concat(), index);
        database.apply(batch).unwrap();
    }
    let mut batch = Batch::default();
    for dedupe in keys {
        let time_ms = START_MS.to_be_bytes();
        batch.put(
            [b"d", &dedupe.channel.0.to_be_bytes()[..], &dedupe.key.to_bytes()].concat(),
            [&dedupe.first.to_bytes()[..], &dedupe.count.to_be_bytes(), &time_ms].concat(),
        );
    }
    if is_sealed {
        batch.put(*b"m", *b"{}");
    }
    database.apply(batch).unwrap();
    database.sync().unwrap();
}

/// Segments 3 to 5 of an older server, of which the last is not sealed: 60 events each, some of them large.
struct Old {
    disk: Disk,
    path: PathBuf,
    events: Vec<Event>,
}

impl Old {
    fn new(disk: Disk, path: &Path) -> Old {
        disk.create_dir_all(path).unwrap();
        disk.sync_dir(path.parent().unwrap()).unwrap();
        let events: Vec<Event> =
            (0..180).map(|n| event(id(n), 1 + n % 3, if n % 50 == 7 { 120_000 } else { 300 })).collect();
        for (n, segment) in events.chunks(60).enumerate() {
            let commits: Vec<Vec<Event>> = segment.chunks(20).map(<[Event]>::to_vec).collect();
            let dedupe = Dedupe { channel: ChannelNo(1), key: key(&n.to_string()), first: segment[0].id, count: 2 };
            write_old(&disk, &path.join(format!("log/{:010}", n + 3)), &commits, &[dedupe], n < 2);
        }
        let lost = format!(r#"{{"expired":{{"9":"{}"}},"expired_all":"{0}","damaged":[],"head":"{0}"}}"#, early());
        disk.replace(Point::FormatWrite, &path.join("log/lost.json"), lost.as_bytes()).unwrap();
        disk.sync_dir(&path.join("log")).unwrap();
        disk.sync_dir(path).unwrap();
        Old { disk, path: path.to_path_buf(), events }
    }

    fn adopt(&self) -> Stored {
        let losses = adopt_format_1(&self.disk, &self.path, LOG, START_MS).unwrap();
        losses.into_iter().enumerate().map(|(n, document)| (n.to_string().into_bytes(), document)).collect()
    }

    fn start(&self) -> Rig {
        Rig::start(&self.disk, &self.path, options(), after(0), self.adopt()).unwrap()
    }

    fn segment(&self, segment: u64) -> PathBuf {
        self.path.join(format!("log/{segment:010}"))
    }

    /// Everything that is not known to be damaged is there, in all ways of reading.
    fn check(&self, rig: &Rig) -> usize {
        let mut missing = 0;
        for no in 0..=3 {
            let expected = || self.events.iter().filter(move |event| no == 0 || event.channel.0 == no);
            for direction in [Direction::Forward, Direction::Backward] {
                let mut at = if direction == Direction::Forward { EventId::ZERO } else { EventId::MAX };
                let mut found = Vec::new();
                loop {
                    let limit = PageLimit { events: 17, bytes: 200_000 };
                    let page = rig.log.read(ChannelNo(no), at, limit, direction).unwrap();
                    found.extend(page.events);
                    at = page.last;
                    if !page.more {
                        break;
                    }
                }
                assert!(found.iter().all(|found| self.events.contains(found)));
                for event in expected().filter(|event| !found.contains(event)) {
                    missing += 1;
                    assert!(rig.log.damaged_between(ChannelNo(no), event.id.before(), event.id).is_some());
                }
            }
        }
        missing
    }
}

/// An event that retention had taken.
fn early() -> EventId {
    EventId::at_time(START_MS - 1000)
}

fn both() -> Vec<(Old, Option<tempfile::TempDir>)> {
    let dir = tempfile::TempDir::new().unwrap();
    vec![
        (Old::new(Disk::simulated(5), Path::new("/data")), None),
        (Old::new(Disk::real(), &dir.path().join("data")), Some(dir)),
    ]
}

#[test]
fn segments_of_an_older_server_are_read_as_they_are() {
    for (mut old, _dir) in both() {
        let mut rig = old.start();
        assert_eq!(old.check(&rig), 0);
        assert_eq!(rig.log.expired(ChannelNo(9)), early());
        assert_eq!((rig.log.head(), rig.log.highest_channel(), rig.log.sealed_through()), (id(179), 9, 0));
        assert_eq!(rig.log.damaged_between(ChannelNo::ALL, EventId::ZERO, EventId::MAX), None);
        for n in 0..3 {
            assert_eq!(rig.log.known(ChannelNo(1), key(&n.to_string()), START_MS), Some((id(60 * n), 2)));
        }
        // the log goes on behind them
        old.events.push(event(id(200), 1, 10));
        rig.append(&old.events[180..]);
        rig.seal();
        assert_eq!(rig.log.stats().segments, 5);
        let rig = rig.restart();
        assert_eq!((old.check(&rig), rig.read(1).last().copied()), (0, Some(id(200))));
    }
}

#[test]
fn adopting_can_be_repeated_after_a_crash_at_any_step() {
    for step in 0..10 {
        let old = Old::new(Disk::simulated(step), Path::new("/data"));
        old.disk.faults().set(Point::ManifestWrite, Fault::errno(libc::EIO).after(step));
        let _ = adopt_format_1(&old.disk, &old.path, LOG, START_MS);
        old.disk.faults().clear_all();
        let disk = old.disk.after_crash(step).unwrap();
        let old = Old { disk, ..old };
        let rig = old.start();
        assert_eq!(old.check(&rig), 0);
        assert_eq!(old.adopt().len(), 2, "also when it was complete");
    }
}

#[test]
fn retention_takes_them_like_others() {
    let old = Old::new(Disk::simulated(5), Path::new("/data"));
    let mut rig = old.start();
    rig.options.retention.max_events = 100;
    let mut rig = rig.restart();
    assert_eq!(rig.retain(), 120);
    assert_eq!(rig.read(1).first(), Some(&id(120)));
    assert!(rig.log.lost_between(ChannelNo(1), id(0), EventId::MAX));
}

#[test]
fn a_damaged_record_of_them_is_announced_alone() {
    // of the first record of channel 2: its length, its checksum, its body
    for at in [3, 5, 40] {
        let old = Old::new(Disk::simulated(5), Path::new("/data"));
        let database = Database::open_in_place(&old.disk, &old.segment(4)).unwrap();
        let (key, value) = database.range([b'c', 0, 0, 0, 2].to_vec()..).next().unwrap().unwrap();
        let mut value = value.to_vec();
        value[at] ^= 1;
        let mut batch = Batch::default();
        batch.put(key.to_vec(), value);
        database.apply(batch).unwrap();
        database.sync().unwrap();
        drop(database);
        let rig = old.start();
        assert!(old.check(&rig) > 0);
        for no in [1, 3] {
            assert_eq!(rig.log.damaged_between(ChannelNo(no), EventId::ZERO, EventId::MAX), None, "{at}");
        }
        let (after, through) = rig.log.damaged_between(ChannelNo(2), EventId::ZERO, EventId::MAX).unwrap();
        assert!(after >= id(60) && through < id(80), "{after} {through}");
    }
}

#[test]
fn one_that_does_not_open_goes_into_quarantine_and_is_announced() {
    for (old, _dir) in both() {
        let file = old.disk.open(Point::DatabaseOpen, &old.segment(4).join("db"), Open::ReadWrite).unwrap();
        file.write_at(Point::DatabaseWrite, &vec![0x5a; file.len().unwrap() as usize], 0).unwrap();
        drop(file);
        let rig = old.start();
        assert!(old.check(&rig) > 0);
        assert_eq!(rig.log.damaged_between(ChannelNo(1), EventId::ZERO, EventId::MAX), Some((id(59), id(119))));
        let aside = old.disk.list(&old.path.join("quarantine")).unwrap();
        assert_eq!(aside.len(), 1);
        assert!(old.disk.exists(&old.path.join("quarantine").join(&aside[0].name).join("reason")).unwrap());
        let rig = rig.restart();
        assert!(old.check(&rig) > 0);
        drop(rig);
        assert!(old.adopt().values().any(|document| matches!(document, LossDocument::Damaged(_))));
    }
}

#[test]
fn one_that_the_older_server_had_put_aside_stays_announced() {
    let old = Old::new(Disk::simulated(5), Path::new("/data"));
    old.disk.rename(&old.segment(4), Path::new("/data/aside")).unwrap();
    let rig = old.start();
    assert_eq!(rig.log.damaged_between(ChannelNo(2), EventId::ZERO, EventId::MAX), Some((id(59), id(119))));
    assert!(old.check(&rig.restart()) > 0);
}

#[test]
fn one_that_is_damaged_later_gives_what_can_be_read_of_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("data");
    let old = Old::new(Disk::real(), &path);
    let rig = old.start();
    assert_eq!(old.check(&rig), 0);
    drop(rig);
    // one bit is put right; many are not
    for bytes in [1, 3000] {
        let file = old.disk.open(Point::DatabaseOpen, &old.segment(4).join("db"), Open::ReadWrite).unwrap();
        let offset = file.len().unwrap() / 40;
        let mut raw = vec![0; bytes];
        file.read_exact_at(Point::DatabaseRead, &mut raw, offset).unwrap();
        raw.iter_mut().for_each(|byte| *byte ^= 4);
        file.write_at(Point::DatabaseWrite, &raw, offset).unwrap();
        drop(file);
        let rig = old.start();
        let missing = old.check(&rig);
        assert_eq!(missing == 0, bytes == 1, "{missing}");
        assert_eq!(rig.log.stats().quarantined.len(), usize::from(bytes > 1));
        let stored = rig.stored.clone();
        drop(rig);
        let again = Rig::start(&old.disk, &path, options(), after(0), stored).unwrap();
        assert_eq!(old.check(&again), missing);
    }
}

#[test]
fn a_ledger_that_cannot_be_read_announces_a_gap_before_the_oldest_event() {
    let old = Old::new(Disk::simulated(5), Path::new("/data"));
    old.disk.replace(Point::FormatWrite, &old.path.join("log/lost.json"), b"{").unwrap();
    let rig = old.start();
    assert_eq!(old.check(&rig), 0);
    assert!(rig.log.lost_between(ChannelNo(1), EventId::ZERO, EventId::MAX));
    assert!(!rig.log.lost_between(ChannelNo(1), id(0).before(), EventId::MAX));
}

#[test]
fn an_error_that_is_no_damage_ends_it_and_moves_nothing() {
    for point in [Point::DatabaseOpen, Point::DatabaseRead, Point::List, Point::ManifestRead, Point::Look] {
        let old = Old::new(Disk::simulated(5), Path::new("/data"));
        old.disk.faults().fail(point, libc::EMFILE);
        assert!(adopt_format_1(&old.disk, &old.path, LOG, START_MS).is_err(), "{point:?}");
        old.disk.faults().clear_all();
        assert!(!old.disk.exists(&old.path.join("quarantine")).unwrap());
        assert_eq!(old.check(&old.start()), 0);
    }
}
