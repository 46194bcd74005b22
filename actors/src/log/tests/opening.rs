//! What keeps the log from opening, and that nothing is changed then.

use std::path::{Path, PathBuf};

use super::*;
use crate::disk::{Disk, Open, Point};
use crate::log::{Dedupe, Direction, LogError};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::wal::LogId;

/// A log with three sealed segments of 20 events each, and 5 that are not sealed.
fn scene(disk: &Disk, path: &Path) -> Rig {
    let mut rig = Rig::new(disk, path, options());
    for n in 0..3 {
        let events: Vec<_> = (0..20).map(|k| event(id(20 * n + k), 1 + k % 2, 300)).collect();
        rig.append_with(&events, &[Dedupe { channel: ChannelNo(1), key: key(&n.to_string()), first: id(n), count: 1 }]);
        rig.seal();
    }
    rig.append(&(60..65).map(|n| event(id(n), 1, 10)).collect::<Vec<_>>());
    rig
}

fn all() -> Vec<EventId> {
    (0..65).map(id).collect()
}

/// All names and contents below a folder.
fn contents(disk: &Disk, folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in disk.list(folder).unwrap() {
        let path = folder.join(&entry.name);
        match entry.is_dir {
            true => {
                found.push((path.clone(), None));
                found.extend(contents(disk, &path));
            }
            false => found.push((path.clone(), Some(disk.read(Point::CopyRead, &path).unwrap()))),
        }
    }
    found
}

/// Starts on a scene that `hinder` was applied to: it fails, nothing is changed, and when that is over everything is there.
fn refuses(hinder: impl Fn(&Disk) -> Box<dyn std::any::Any>, release: impl Fn(&Disk), text: &str) {
    let disk = Disk::simulated(3);
    let path = Path::new("/data");
    let rig = scene(&disk, path);
    let stored = rig.stored.clone();
    rig.wal.close().unwrap();
    drop(rig.log);
    let hindrance = hinder(&disk);
    let before = contents(&disk, &path.join("log"));
    for _ in 0..3 {
        let failed = Rig::start(&disk, path, options(), after(0), stored.clone()).err().expect("it is hindered");
        assert!(failed.to_string().contains(text), "{failed}");
        assert!(!failed.cure().as_str().is_empty());
        assert!(contents(&disk, &path.join("log")) == before, "{text}");
        assert!(!disk.exists(&path.join("quarantine")).unwrap());
    }
    release(&disk);
    drop(hindrance);
    let rig = Rig::start(&disk, path, options(), after(0), stored).unwrap();
    assert_eq!((rig.read(0), rig.read_back(0)), (all(), all()));
    assert_eq!(rig.log.damaged_between(ChannelNo::ALL, EventId::ZERO, EventId::MAX), None);
}

#[test]
fn errors_that_are_no_damage_end_the_start_and_change_nothing() {
    for point in [Point::List, Point::Look, Point::ManifestRead, Point::DatabaseOpen, Point::CopyRead] {
        for errno in [libc::EACCES, libc::EMFILE, libc::ENFILE, libc::EIO, libc::ENOMEM, libc::ENOSPC] {
            let hinder = |disk: &Disk| -> Box<dyn std::any::Any> {
                // the listing of the scene itself passes some of them
                disk.faults().set(point, crate::disk::failure::Fault::errno(errno).times(0));
                Box::new(())
            };
            let disk = Disk::simulated(3);
            let path = Path::new("/data");
            let rig = scene(&disk, path);
            rig.wal.close().unwrap();
            drop(rig.log);
            drop(hinder(&disk));
            let before = contents(&disk, &path.join("log"));
            disk.faults().fail(point, errno);
            let failed =
                crate::log::Log::open(&disk, path, LOG, options(), after(0)).map(drop).expect_err("it is hindered");
            let reason = std::io::Error::from_raw_os_error(errno).to_string();
            assert!(failed.to_string().contains(&reason) && failed.to_string().contains("/data/log"), "{failed}");
            disk.faults().clear_all();
            assert!(contents(&disk, &path.join("log")) == before, "{point:?} {errno}");
            let rig = Rig::start(&disk, path, options(), after(0), Stored::new()).unwrap();
            assert_eq!(rig.read(0), all());
        }
    }
}

#[test]
fn a_lock_of_another_process_on_a_database_ends_the_start() {
    let hold = |disk: &Disk| -> Box<dyn std::any::Any> {
        let path = Path::new("/data/log/0000000002/db");
        let file = disk.open(Point::DatabaseOpen, path, Open::ReadWrite).unwrap();
        assert!(file.try_lock().unwrap());
        Box::new(file)
    };
    refuses(hold, |_| {}, "0000000002/db is held by another process");
}

#[test]
fn a_segment_that_was_taken_away_ends_the_start() {
    for segment in [1, 2] {
        let name = format!("{segment:010}");
        let from = Path::new("/data/log").join(&name);
        let aside = Path::new("/aside");
        let take = |disk: &Disk| -> Box<dyn std::any::Any> {
            disk.rename(&from, aside).unwrap();
            Box::new(())
        };
        refuses(
            take,
            |disk| disk.rename(aside, &from).unwrap(),
            &format!("the segment /data/log/{name} of the log is missing"),
        );
    }
}

#[test]
fn a_manifest_or_database_that_was_taken_away_ends_the_start() {
    for (file, text) in
        [("0000000002/manifest", "is missing"), ("0000000002/db", "No such file"), ("0000000003/db", "No such file")]
    {
        let from = Path::new("/data/log").join(file);
        let aside = Path::new("/aside");
        let take = |disk: &Disk| -> Box<dyn std::any::Any> {
            disk.rename(&from, aside).unwrap();
            Box::new(())
        };
        refuses(take, |disk| disk.rename(aside, &from).unwrap(), text);
    }
}

#[test]
fn a_manifest_of_a_newer_version_ends_the_start() {
    let path = Path::new("/data/log/0000000002/manifest");
    let json = br#"{"format":3}"#;
    let text = [format!("{:08x} ", crc32c::crc32c(json)).as_bytes(), json].concat();
    let kept = std::cell::RefCell::new(Vec::new());
    let hinder = |disk: &Disk| -> Box<dyn std::any::Any> {
        kept.replace(disk.read(Point::ManifestRead, path).unwrap());
        disk.replace(Point::ManifestWrite, path, &text).unwrap();
        Box::new(())
    };
    let release = |disk: &Disk| disk.replace(Point::ManifestWrite, path, &kept.borrow()).unwrap();
    refuses(hinder, release, "has format 3, which this version does not know");
}

#[test]
fn the_newest_segment_that_was_taken_away_is_missed() {
    let disk = Disk::simulated(3);
    let path = Path::new("/data");
    let rig = scene(&disk, path);
    let (sealed, needed) = (rig.log.sealed_through(), rig.log.needed_from());
    assert_eq!((sealed, needed), (3, Some(4)));
    rig.wal.close().unwrap();
    drop(rig.log);
    disk.remove_dir_all(&path.join("log/0000000003")).unwrap();
    let log = crate::log::Log::open(&disk, path, LOG, options(), after(0)).unwrap();
    assert_eq!(log.sealed_through(), 3, "what was sealed is not taken from the write-ahead log again");
    let missing = log.recovered(std::iter::empty(), after(0)).unwrap_err();
    assert!(matches!(&missing, LogError::MissingSegment { path } if path.ends_with("log/0000000003")), "{missing}");
}

#[test]
fn a_segment_that_was_being_sealed_is_sealed_anew() {
    let disk = Disk::simulated(3);
    let path = Path::new("/data");
    let mut rig = scene(&disk, path);
    rig.log.roll();
    rig.disk.faults().fail(Point::ManifestWrite, libc::EIO);
    // what the step would clean up stays, as after a kill
    rig.disk.faults().set(Point::Remove, crate::disk::failure::Fault::errno(libc::EIO).after(1));
    rig.seal_step().unwrap_err();
    disk.faults().clear_all();
    assert!(disk.exists(&rig.segment(4)).unwrap());
    let mut rig = rig.restart();
    assert_eq!((rig.read(0), rig.log.sealed_through()), (all(), 3));
    rig.seal();
    assert_eq!((rig.restart().read(0)), all());
}

#[test]
fn a_damaged_manifest_is_made_again() {
    for bit in [3, 100, 900] {
        let disk = Disk::simulated(3);
        let path = Path::new("/data");
        let rig = scene(&disk, path);
        let manifest = rig.segment(2).join("manifest");
        let before = disk.read(Point::ManifestRead, &manifest).unwrap();
        rig.wal.close().unwrap();
        drop(rig.log);
        disk.simulation().unwrap().damage(&manifest, bit / 8, 1 << (bit % 8)).unwrap();
        let rig = Rig::start(&disk, path, options(), after(0), Stored::new()).unwrap();
        assert_eq!((rig.read(0), rig.read_back(2).len()), (all(), 30));
        assert!(disk.read(Point::ManifestRead, &manifest).unwrap() == before);
        assert_eq!(rig.log.known(ChannelNo(1), key("1"), START_MS), Some((id(1), 1)));
    }
}

#[test]
fn damaged_dedupe_keys_are_read_from_the_database() {
    let disk = Disk::simulated(3);
    let path = Path::new("/data");
    let rig = scene(&disk, path);
    let keys = rig.segment(2).join("keys");
    let before = disk.read(Point::CopyRead, &keys).unwrap();
    rig.wal.close().unwrap();
    drop(rig.log);
    disk.simulation().unwrap().damage(&keys, 70, 1).unwrap();
    let rig = Rig::start(&disk, path, options(), after(0), Stored::new()).unwrap();
    for n in 0..3 {
        assert_eq!(rig.log.known(ChannelNo(1), key(&n.to_string()), START_MS), Some((id(n), 1)));
    }
    assert!(disk.read(Point::CopyRead, &keys).unwrap() == before);
}

#[test]
fn a_log_that_stays_damaged_is_an_error_and_no_endless_page() {
    let disk = Disk::simulated(3);
    let rig = scene(&disk, Path::new("/data"));
    disk.faults().set(Point::DatabaseRead, crate::disk::failure::Fault::damage());
    disk.faults().set(Point::SalvageRead, crate::disk::failure::Fault::damage());
    let read = rig.log.read(ChannelNo::ALL, EventId::ZERO, ALL, Direction::Forward);
    // all is rebuilt as empty, or the rebuilt one cannot be verified
    match read {
        Ok(page) => assert!(!page.more),
        Err(LogError::Beyond { .. } | LogError::Unverified { .. } | LogError::Database(_)) => {}
        Err(e) => panic!("{e}"),
    }
}

/// A stopped log like [`scene`] whose events are another tenant's.
fn strangers(disk: &Disk, path: &Path) {
    disk.create_dir_all(path).unwrap();
    let mut rig = Rig::start_as(LogId([8; 16]), disk, path, options(), after(0), Stored::new()).unwrap();
    for n in 0..3 {
        let events: Vec<_> = (0..20).map(|k| event(id(20 * n + k), 1 + k % 2, 70)).collect();
        rig.append_with(&events, &[Dedupe { channel: ChannelNo(1), key: key("other"), first: id(n), count: 1 }]);
        rig.seal();
    }
    rig.wal.close().unwrap();
}

fn copy(disk: &Disk, from: &Path, to: &Path) {
    disk.replace(Point::ManifestWrite, to, &disk.read(Point::ManifestRead, from).unwrap()).unwrap();
}

#[test]
fn a_segment_of_another_data_folder_or_another_place_ends_the_start() {
    const FILES: [&str; 3] = ["db", "manifest", "keys"];
    let own = Path::new("/data/log/0000000002");
    for from in ["/other/log/0000000002", "/data/log/0000000001"] {
        let exchange = |disk: &Disk| -> Box<dyn std::any::Any> {
            strangers(disk, Path::new("/other"));
            disk.create_dir_all(Path::new("/kept")).unwrap();
            for name in FILES {
                copy(disk, &own.join(name), &Path::new("/kept").join(name));
                copy(disk, &Path::new(from).join(name), &own.join(name));
            }
            Box::new(())
        };
        let put_back =
            |disk: &Disk| FILES.iter().for_each(|name| copy(disk, &Path::new("/kept").join(name), &own.join(name)));
        refuses(exchange, put_back, "/data/log/0000000002 is not the one that was written there");
    }
}

/// Its manifest stays, so that the exchange is met only by who reads it.
#[test]
fn of_a_database_of_another_data_folder_or_another_place_nothing_is_shown() {
    for from in ["/other/log/0000000002/db", "/data/log/0000000001/db"] {
        let disk = Disk::simulated(3);
        strangers(&disk, Path::new("/other"));
        let rig = scene(&disk, Path::new("/data"));
        rig.wal.close().unwrap();
        drop(rig.log);
        copy(&disk, Path::new(from), Path::new("/data/log/0000000002/db"));
        let rig = Rig::start(&disk, Path::new("/data"), options(), after(0), Stored::new()).unwrap();
        let left: Vec<EventId> = all().into_iter().filter(|id| !(20..40).any(|n| *id == super::id(n))).collect();
        assert_eq!((rig.read(0), rig.read_back(0)), (left.clone(), left), "{from}");
        assert!(rig.log.damaged_between(ChannelNo(1), id(20).before(), id(39)).is_some(), "{from}");
        assert_eq!(rig.log.known(ChannelNo(1), key("1"), START_MS), Some((id(1), 1)), "{from}");
    }
}

#[test]
fn dedupe_keys_of_another_place_are_read_from_the_database() {
    let disk = Disk::simulated(3);
    let rig = scene(&disk, Path::new("/data"));
    rig.wal.close().unwrap();
    drop(rig.log);
    // as many of them
    copy(&disk, &rig.data_dir.join("log/0000000001/keys"), &rig.data_dir.join("log/0000000002/keys"));
    let rig = Rig::start(&disk, &rig.data_dir, options(), after(0), Stored::new()).unwrap();
    for n in 0..3 {
        assert_eq!(rig.log.known(ChannelNo(1), key(&n.to_string()), START_MS), Some((id(n), 1)));
    }
}
