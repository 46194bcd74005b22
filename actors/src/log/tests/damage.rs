//! What damage of a sealed segment costs, and that it costs no more and is never silent.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::disk::failure::Fault;
use crate::disk::{Disk, Point};
use crate::log::{Dedupe, Direction, LogError, PageLimit};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

const CHANNELS: u32 = 5;
const KEYS: u32 = 1500;

/// Text that does not compress to nothing, so that a segment has some blocks.
fn mixed(n: u32, bytes: usize) -> String {
    let mut state = u64::from(n) + 1;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 60) as u8)
    };
    (0..bytes).map(|_| step()).collect()
}

fn mixed_event(n: u32) -> Event {
    let bytes = if n.is_multiple_of(97) { 120_000 } else { 700 };
    let mut event = event(id(n), 1 + n % CHANNELS, 0);
    let payload = format!("{{\"n\":{n},\"x\":\"{}\"}}", mixed(n, bytes));
    event.payload = crate::model::json::Canonical::parse(&payload).unwrap();
    event
}

fn dedupe(n: u32) -> Dedupe {
    Dedupe { channel: ChannelNo(1), key: key(&n.to_string()), first: id(n), count: 1 }
}

/// A log with two sealed segments and an active part, and its events.
struct Scene {
    _dir: TempDir,
    path: PathBuf,
    events: Vec<Event>,
    stored: Stored,
}

impl Scene {
    fn new() -> Scene {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("data");
        let mut rig = Rig::new(&Disk::real(), &path, Scene::options());
        let events: Vec<Event> = (0..700).map(mixed_event).collect();
        let keys: Vec<Dedupe> = (0..KEYS).map(dedupe).collect();
        for (n, batch) in events[..560].chunks(20).enumerate() {
            rig.append_with(batch, if n == 0 { &keys } else { &[] });
        }
        rig.seal();
        rig.append(&events[560..650]);
        rig.seal();
        rig.append(&events[650..]);
        rig.wal.close().unwrap();
        Scene { _dir: dir, path, events, stored: rig.stored }
    }

    fn options() -> crate::log::LogOptions {
        crate::log::LogOptions { dedupe_keys: 10_000, segment_max_bytes: 8 << 20, ..options() }
    }

    fn start(&self, path: &Path) -> Result<Rig, LogError> {
        Rig::start(&Disk::real(), path, Scene::options(), after(1000), self.stored.clone())
    }

    /// A copy to be damaged, in a folder that this process has never opened.
    fn copy(&self) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("data");
        copy_folder(&self.path, &path);
        (dir, path)
    }

    /// Reads everything in all ways; whatever is missing is announced. Returns how many are missing.
    fn check(&self, rig: &Rig, what: &str) -> usize {
        let mut missing = 0;
        for no in 0..=CHANNELS {
            for direction in [Direction::Forward, Direction::Backward] {
                let mut found = pages(rig, no, direction);
                if direction == Direction::Backward {
                    found.reverse();
                }
                let mut found = found.into_iter().peekable();
                for event in self.events.iter().filter(|event| no == 0 || event.channel.0 == no) {
                    if found.next_if(|found| found.id == event.id).is_some_and(|found| found == *event) {
                        continue;
                    }
                    missing += 1;
                    let announced = rig.log.damaged_between(ChannelNo(no), event.id.before(), event.id);
                    assert!(announced.is_some(), "{what}: {} of channel {no} is missing in silence", event.id);
                }
                assert!(found.next().is_none(), "{what}: an event came from nowhere");
            }
        }
        for n in 0..KEYS {
            let known = rig.log.known(ChannelNo(1), key(&n.to_string()), rig.now.wall_ms);
            assert_eq!(known, Some((id(n), 1)), "{what}: key {n}");
        }
        missing
    }

    /// Starts on a damaged copy, checks it, and again after another start.
    fn survives(&self, path: &Path, what: &str) -> usize {
        let mut rig = self.start(path).unwrap_or_else(|e| panic!("{what}: {e}"));
        let missing = self.check(&rig, what);
        rig.save_losses();
        let again = self.check(&rig, what);
        assert!(again <= missing, "{what}");
        let stored = rig.stored.clone();
        drop(rig);
        let rig = Rig::start(&Disk::real(), path, Scene::options(), after(2000), stored).unwrap();
        assert_eq!(self.check(&rig, what), again, "{what}, after a restart");
        assert_eq!(rig.log.take_unsaved(), [], "{what}: all is known already");
        missing
    }
}

fn pages(rig: &Rig, no: u32, direction: Direction) -> Vec<Event> {
    let mut at = if direction == Direction::Forward { EventId::ZERO } else { EventId::MAX };
    let mut events = Vec::new();
    loop {
        let page = rig.log.read(ChannelNo(no), at, PageLimit { events: 170, bytes: 300_000 }, direction).unwrap();
        at = page.last;
        events.extend(page.events);
        if !page.more {
            return events;
        }
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
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

fn flip(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

/// All files below a folder with their lengths.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::metadata(&path).unwrap().len())),
        }
    }
    found.sort();
    found
}

#[test]
fn a_flipped_bit_in_a_database_costs_nothing() {
    let scene = Scene::new();
    let mut random = 0x5eed_u64;
    for _ in 0..12 {
        let (_dir, path) = scene.copy();
        let database = path.join("log/0000000001/db");
        let bits = 8 * std::fs::metadata(&database).unwrap().len();
        let bit = next(&mut random) % bits;
        flip(&database, bit);
        assert_eq!(scene.survives(&path, &format!("bit {bit} of {bits}")), 0);
        assert!(!path.join("quarantine").exists());
    }
}

#[test]
fn more_flipped_bits_cost_the_blocks_that_they_are_in() {
    let scene = Scene::new();
    let mut random = 0x5eed_u64;
    let mut harmless = 0;
    for _ in 0..12 {
        let (_dir, path) = scene.copy();
        let database = path.join("log/0000000001/db");
        let bits = 8 * std::fs::metadata(&database).unwrap().len();
        let flipped = [next(&mut random) % bits, next(&mut random) % bits];
        for bit in flipped {
            flip(&database, bit);
        }
        let missing = scene.survives(&path, &format!("bits {flipped:?} of {bits}"));
        harmless += usize::from(missing == 0);
        // two blocks of 48 KiB, read in four ways: alone and with all, forward and backward
        assert!(missing <= 2 * 4 * 70, "{missing}");
    }
    assert!(harmless > 0 && harmless < 12, "{harmless}");
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 16
}

#[test]
fn a_flipped_bit_in_what_stands_beside_a_database_costs_nothing() {
    let scene = Scene::new();
    for (file, len) in files(&scene.path.join("log/0000000001")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name == "db" {
            continue;
        }
        for bit in [0, 4 * len, 8 * len - 1].into_iter().filter(|_| len > 0) {
            let (_dir, path) = scene.copy();
            flip(&path.join("log/0000000001").join(&name), bit);
            let missing = scene.survives(&path, &format!("bit {bit} of {name}"));
            assert_eq!(missing, 0, "bit {bit} of {name}");
        }
    }
}

#[test]
fn a_database_that_was_cut_or_zeroed_costs_what_is_gone() {
    let scene = Scene::new();
    let len = std::fs::metadata(scene.path.join("log/0000000001/db")).unwrap().len();
    for (keep, expected) in [(len - 1, false), (len / 8, true), (100, true), (0, true)] {
        let (_dir, path) = scene.copy();
        let database = path.join("log/0000000001/db");
        let file = std::fs::File::options().write(true).open(&database).unwrap();
        file.set_len(keep).unwrap();
        let missing = scene.survives(&path, &format!("cut to {keep}"));
        assert_eq!(missing > 0, expected, "cut to {keep}: {missing}");
        let in_quarantine = std::fs::read_dir(path.join("quarantine")).map_or(0, |entries| entries.count());
        assert_eq!(in_quarantine > 0, expected);
        if let Ok(mut entries) = std::fs::read_dir(path.join("quarantine")) {
            assert!(entries.next().unwrap().unwrap().path().join("reason").exists());
        }
        // zeroed, with its length
        let (_dir, path) = scene.copy();
        std::fs::write(path.join("log/0000000001/db"), vec![0; len as usize]).unwrap();
        assert!(scene.survives(&path, "zeroed") > 0);
    }
}

#[test]
fn damage_concerns_only_the_channel_that_it_struck() {
    let scene = Scene::new();
    let (_dir, path) = scene.copy();
    // every second value of channel 3 goes
    let database = path.join("log/0000000001/db");
    let mut bytes = std::fs::read(&database).unwrap();
    let magic = crate::log::block::MAGIC;
    let places: Vec<usize> = (0..bytes.len() - 64).filter(|at| &bytes[*at..*at + 8] == magic).collect();
    let mut struck = 0;
    for at in places {
        if bytes[at + 16] == b'c' && bytes[at + 24..at + 28] == 3u32.to_be_bytes() {
            bytes[at + 60] ^= 1;
            struck += 1;
        }
    }
    std::fs::write(&database, bytes).unwrap();
    assert!(struck > 3);
    let rig = scene.start(&path).unwrap();
    assert!(scene.check(&rig, "channel 3") > 0);
    for no in [1, 2, 4, 5] {
        assert_eq!(rig.log.damaged_between(ChannelNo(no), EventId::ZERO, EventId::MAX), None);
        assert!(!rig.log.lost_between(ChannelNo(no), EventId::ZERO, EventId::MAX));
    }
    assert!(rig.log.lost_between(ChannelNo(3), EventId::ZERO, EventId::MAX));
    assert!(rig.log.lost_between(ChannelNo::ALL, EventId::ZERO, EventId::MAX));
}

#[test]
fn a_segment_that_was_read_wrong_once_is_left_as_it_is() {
    let scene = Scene::new();
    let (_dir, path) = scene.copy();
    let rig = scene.start(&path).unwrap();
    let faults = rig.disk.faults();
    faults.set(Point::DatabaseRead, Fault::damage().times(1));
    assert_eq!(scene.check(&rig, "a bit that was read wrong"), 0);
    assert_eq!(faults.passed(Point::SalvageRead), 0);
    assert_eq!(rig.log.stats().quarantined, Vec::<String>::new());
}

#[test]
fn an_error_that_is_no_damage_is_returned_and_changes_nothing() {
    let scene = Scene::new();
    for point in [Point::DatabaseOpen, Point::DatabaseRead] {
        for errno in [libc::EMFILE, libc::EACCES, libc::EIO, libc::ENOMEM] {
            let (_dir, path) = scene.copy();
            let rig = scene.start(&path).unwrap();
            let before = files(&path);
            rig.disk.faults().fail(point, errno);
            let failed = rig.log.read(ChannelNo::ALL, EventId::ZERO, ALL, Direction::Forward);
            assert!(failed.is_err(), "{point:?} {errno}");
            let names = |files: &[(PathBuf, u64)]| {
                files
                    .iter()
                    .map(|(path, _)| path.clone())
                    .filter(|path| !path.to_string_lossy().contains("snap."))
                    .collect::<Vec<_>>()
            };
            assert_eq!(names(&files(&path)), names(&before));
            rig.disk.faults().clear_all();
            assert_eq!(scene.check(&rig, "after the error"), 0);
        }
    }
}

#[test]
fn a_full_disk_while_a_segment_is_rebuilt_leaves_the_damaged_one_for_the_next_attempt() {
    let scene = Scene::new();
    let (_dir, path) = scene.copy();
    let database = path.join("log/0000000001/db");
    let rig = scene.start(&path).unwrap();
    let mut bytes = std::fs::read(&database).unwrap();
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(crate::log::block::MAGIC)).unwrap();
    bytes[at + 70] ^= 3;
    std::fs::write(&database, bytes).unwrap();
    rig.disk.faults().fail(Point::DatabaseWrite, libc::ENOSPC);
    let failed = rig.log.read(ChannelNo(1), EventId::ZERO, ALL, Direction::Forward).unwrap_err();
    assert!(failed.is_full(), "{failed}");
    assert!(database.exists());
    rig.disk.faults().clear_all();
    scene.check(&rig, "when there is room again");
}

#[test]
fn a_power_cut_at_any_step_of_a_rebuild_leaves_one_whole_segment() {
    for point in [Point::Rename, Point::SyncFolder, Point::ManifestWrite, Point::DatabaseSync, Point::Remove] {
        for step in 0..8 {
            let disk = Disk::simulated(step);
            let path = Path::new("/data");
            let mut rig = Rig::new(&disk, path, options());
            let events: Vec<Event> = (0..40).map(|n| event(id(n), 1 + n % 2, 300)).collect();
            rig.append(&events);
            rig.seal();
            for offset in [100, 300] {
                disk.simulation().unwrap().damage(&path.join("log/0000000001/db"), offset, 4).unwrap();
            }
            // the disk refuses everything from one step on, and then the power goes
            disk.faults().set(point, Fault::errno(libc::EIO).after(step));
            let read = rig.log.read(ChannelNo::ALL, EventId::ZERO, ALL, Direction::Forward);
            let is_done = read.is_ok();
            disk.faults().clear_all();
            let disk = disk.after_crash(7 * step).unwrap();
            let rig = Rig::start(&disk, path, options(), after(1000), Stored::new()).unwrap();
            for event in &events {
                let found = rig.read(0).contains(&event.id);
                let is_known = rig.log.damaged_between(event.channel, event.id.before(), event.id).is_some();
                assert!(found != is_known, "{point:?} {step}: {} {found} {is_done}", event.id);
            }
        }
    }
}
