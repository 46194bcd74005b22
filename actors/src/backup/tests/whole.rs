//! What is in a backup, and what a restored folder holds.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rstest::rstest;

use super::rig::*;
use crate::backup::{BackupError, Origin, Snapshot, check, take};
use crate::disk::failure::Fault;
use crate::disk::{Disk, Point};
use crate::documents::{Change, Table};
use crate::log::{DedupeKey, LogLook, LogOptions, LogSurvey, Retention};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

const ORIGIN: &str = "/origin";
const COPY: &str = "/copy/of/it";

/// A writer that does something at its first byte, when the snapshot is taken and nothing is copied yet.
struct Meanwhile<F: FnMut()> {
    archive: Vec<u8>,
    act: Option<F>,
}

impl<F: FnMut()> Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(mut act) = self.act.take() {
            act();
        }
        self.archive.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes a backup of a snapshot that is from before `act`.
fn take_meanwhile(server: &mut Server, mut act: impl FnMut(&mut Server)) -> Vec<u8> {
    let snapshot = server.snapshot();
    let (disk, data_dir) = (server.disk.clone(), server.data_dir.clone());
    let (log, origin) = (server.log.clone(), std::cell::RefCell::new(server));
    // notes are not what is changed meanwhile
    let notes_server = busy(&Disk::simulated(5), Path::new("/other"));
    let mut out = Meanwhile { archive: Vec::new(), act: Some(|| act(&mut origin.borrow_mut())) };
    let origin = Origin { disk: &disk, data_dir: &data_dir, log: &log, notes: &notes_server.notes };
    take(&origin, &snapshot, VERSION, START_MS as i64, &mut out).expect("a backup");
    out.archive
}

enum Place {
    Real(tempfile::TempDir),
    Simulated,
}

impl Place {
    fn disk(&self) -> (Disk, PathBuf) {
        match self {
            Place::Real(dir) => (Disk::real(), dir.path().to_path_buf()),
            Place::Simulated => (Disk::simulated(3), PathBuf::from("/")),
        }
    }
}

#[rstest]
#[case::real(Place::Real(tempfile::tempdir().expect("a folder")))]
#[case::simulated(Place::Simulated)]
fn a_restored_folder_has_every_event_document_note_dedupe_key_and_file(#[case] place: Place) {
    let (disk, dir) = place.disk();
    let server = busy(&disk, &dir.join("origin"));
    let mut archive = Vec::new();
    let summary = server.back_up_into(&mut archive);
    assert_eq!(check(archive.as_slice()).expect("it is whole"), summary);
    assert_eq!((summary.documents, summary.segments), (1000 + 4 + 2, 4));
    assert_eq!((summary.about.head, summary.about.sequence), (server.log.head(), server.documents.sequence()));

    let to = dir.join("copy/of/it");
    assert_eq!(restore_to(&disk, &archive, &to).expect("it is restored"), summary);
    let mut copy = start_on(&disk, &to);
    for round in 0..3 {
        assert_eq!(copy.events(), server.events(), "round {round}");
        assert_eq!((copy.log.head(), documents(&copy)), (server.log.head(), documents(&server)));
        assert_eq!((notes(&copy), copy.notes.was_lost()), (notes(&server), false));
        let now_ms = START_MS + 4_000_000;
        for n in 0..4 {
            let (key, no) = (DedupeKey::of_request(&format!("key {n}")), if n == 3 { 3 } else { 2 });
            let known = copy.log.known(ChannelNo(no), key, now_ms);
            assert!(known.is_some() && known == server.log.known(ChannelNo(no), key, now_ms));
        }
        assert!(!copy.log.lost_between(ChannelNo::ALL, EventId::ZERO, EventId::MAX));
        copy = copy.restart();
    }
    assert_eq!(disk.read(Point::SecretKeyRead, &to.join("secret-key")).expect("a key"), b"a key");
    // and it goes on
    let ids = copy.publish(1, 10, 2);
    assert!(ids[0] > server.log.head());
    let copy = copy.restart();
    assert_eq!(super::rig::ids(&copy.events())[server.events().len()..], ids);
    // a backup of the copy has the same again
    let second = copy.back_up();
    restore_to(&disk, &second, &dir.join("second")).expect("it is restored");
    assert_eq!(start_on(&disk, &dir.join("second")).events(), copy.events());
}

#[test]
fn segments_of_the_copy_end_where_those_of_the_origin_do_so_that_retention_drops_as_much() {
    let disk = Disk::simulated(1);
    let server = busy(&disk, Path::new(ORIGIN));
    restore_to(&disk, &server.back_up(), Path::new(COPY)).expect("it is restored");
    let ends = |dir: &str| {
        let segments = LogSurvey::of(&disk, Path::new(dir), LogLook::default()).expect("a look").segments;
        segments
            .into_iter()
            .filter_map(|segment| Some((segment.first?, segment.last?, segment.channels)))
            .collect::<Vec<_>>()
    };
    let (origin, copy) = (ends(ORIGIN), ends(COPY));
    assert_eq!((origin.len(), copy.len()), (3, 4));
    assert_eq!(copy[..3], origin);
}

#[test]
fn a_server_without_events_and_one_whose_events_are_gone_are_restored_as_they_are() {
    let disk = Disk::simulated(1);
    let server = Server::new(&disk, Path::new(ORIGIN));
    restore_to(&disk, &server.back_up(), Path::new(COPY)).expect("it is restored");
    let mut copy = start_on(&disk, Path::new(COPY)).restart();
    assert_eq!((copy.events().len(), documents(&copy)), (0, documents(&server)));
    let ids = copy.publish(1, 10, 1);
    assert_eq!(super::rig::ids(&copy.restart().events()), ids);

    let retention = Retention { max_age_ms: 10_000, ..Retention::default() };
    let mut server = Server::with(&disk, Path::new("/gone"), LogOptions { retention, ..log_options() });
    let gone = server.publish(1, 100, 3);
    (0..3).for_each(|_| server.tick(20_000));
    assert_eq!(server.events().len(), 0);
    restore_to(&disk, &server.back_up(), Path::new("/gone-copy")).expect("it is restored");
    let mut copy = start_on(&disk, Path::new("/gone-copy")).restart();
    assert_eq!((copy.log.head(), copy.log.expired(ChannelNo(1))), (gone[2], gone[2]));
    assert_eq!(copy.log.expired(ChannelNo(2)), EventId::ZERO);
    assert!(copy.publish(1, 10, 1)[0] > gone[2]);
    copy.restart();
}

#[test]
fn what_comes_while_a_backup_is_taken_is_left_out() {
    let disk = Disk::simulated(1);
    let mut server = busy(&disk, Path::new(ORIGIN));
    let (before, documents_before) = (server.events(), documents(&server));
    let key = DedupeKey::of_request("later");
    let archive = take_meanwhile(&mut server, |server| {
        server.publish_with(1, 10, 3, Some(key));
        server.change(vec![Change::put(Table::Tokens, "later", &1).expect("a change")]);
        // what was active is sealed, with more in it
        server.seal();
        server.publish(2, 10, 3);
    });
    assert!(server.events().len() > before.len());
    restore_to(&disk, &archive, Path::new(COPY)).expect("it is restored");
    let copy = start_on(&disk, Path::new(COPY));
    assert_eq!((copy.events(), documents(&copy)), (before.clone(), documents_before));
    assert_eq!(copy.log.head(), before.last().expect("events").id);
    assert_eq!(copy.log.known(ChannelNo(1), key, START_MS), None);
}

#[test]
fn what_retention_takes_meanwhile_is_known_to_be_gone() {
    let disk = Disk::simulated(1);
    let server = busy(&disk, Path::new(ORIGIN));
    let all = server.events();
    server.stop();
    let clock = clock();
    clock.advance(1_000);
    let retention = Retention { max_events: 150, ..Retention::default() };
    let options = LogOptions { retention, ..log_options() };
    let mut server = Server::start(&disk, Path::new(ORIGIN), options, clock).expect("a start");
    let archive = take_meanwhile(&mut server, |server| {
        server.publish(1, 10, 3);
        server.tick(1_000);
    });
    let left = server.events().len() - 3;
    assert!(left < all.len());
    restore_to(&disk, &archive, Path::new(COPY)).expect("it is restored");
    let copy = start_on(&disk, Path::new(COPY)).restart();
    assert_eq!(copy.events(), all[all.len() - left..]);
    assert_eq!(copy.log.head(), all.last().expect("events").id, "later events are not known");
    for no in [0, 1, 2, 3].map(ChannelNo) {
        assert_eq!(copy.log.expired(no), server.log.expired(no));
        assert!(copy.log.lost_between(no, EventId::ZERO, EventId::MAX));
    }
}

#[test]
fn damage_that_is_met_while_the_log_is_copied_is_announced_in_the_copy_too() {
    let disk = Disk::simulated(1);
    let server = busy(&disk, Path::new(ORIGIN));
    let all = server.events();
    let path = Path::new(ORIGIN).join("log/0000000002/db");
    let bytes = disk.len(&path).expect("a look").expect("a database");
    let simulation = disk.simulation().expect("it is simulated");
    for at in (bytes / 3..bytes / 3 + 2_000).step_by(400) {
        simulation.damage(&path, at, 0x10).expect("a flip");
    }
    // as after a restart, so that nothing of it is in memory
    let server = server.restart();
    let archive = server.back_up();
    restore_to(&disk, &archive, Path::new(COPY)).expect("it is restored");
    let copy = start_on(&disk, Path::new(COPY)).restart();
    let events = copy.events();
    assert!(events.len() < all.len());
    assert_eq!(events, server.events());
    for event in all.iter().filter(|event| !events.contains(event)) {
        let (no, id) = (event.channel, event.id);
        assert!(copy.log.damaged_between(no, id.before(), id).is_some(), "{id} is missing in silence");
        assert_eq!(copy.log.damaged_between(no, id.before(), id), server.log.damaged_between(no, id.before(), id));
    }
}

#[test]
fn notes_that_cannot_be_read_are_missing_and_their_loss_is_announced() {
    let disk = Disk::simulated(1);
    let server = busy(&disk, Path::new(ORIGIN));
    disk.faults().set(Point::DatabaseRead, Fault::errno(libc::EIO).times(1));
    // the events of this page are all in the write-ahead log
    let server = Server { log: Server::new(&disk, Path::new("/other")).log, ..server };
    let mut archive = Vec::new();
    let snapshot = Snapshot { documents: server.documents.freeze(), log: server.log.view() };
    let origin = Origin { disk: &disk, data_dir: &server.data_dir, log: &server.log, notes: &server.notes };
    take(&origin, &snapshot, VERSION, START_MS as i64, &mut archive).expect("a backup");
    disk.faults().clear_all();
    restore_to(&disk, &archive, Path::new(COPY)).expect("it is restored");
    let copy = start_on(&disk, Path::new(COPY));
    assert_eq!((copy.notes.was_lost(), copy.notes.last_number("s").expect("a number")), (true, START_MS));
}

#[test]
fn documents_that_are_older_than_the_log_are_no_backup() {
    let disk = Disk::simulated(1);
    let mut server = busy(&disk, Path::new(ORIGIN));
    let documents = server.documents.freeze();
    server.publish(1, 10, 1);
    let snapshot = Snapshot { documents, log: server.log.view() };
    let origin = Origin { disk: &disk, data_dir: &server.data_dir, log: &server.log, notes: &server.notes };
    let refused = take(&origin, &snapshot, VERSION, START_MS as i64, io::sink());
    assert!(matches!(refused, Err(BackupError::NotOneMoment)));
}

#[test]
fn a_restored_folder_is_for_its_owner_alone_also_one_that_was_open_to_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Disk::real();
    let archive = busy(&disk, &dir.path().join("origin")).back_up();
    for (name, exists) in [("new/below", false), ("there", true)] {
        let to = dir.path().join(name);
        if exists {
            std::fs::create_dir(&to).expect("a folder");
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).expect("set");
            // as at the top of a file system
            std::fs::create_dir(to.join("lost+found")).expect("a folder");
        }
        restore_to(&disk, &archive, &to).expect("it is restored");
        let mut open = Vec::new();
        let mut folders = vec![to.clone()];
        while let Some(folder) = folders.pop() {
            let mode = |path: &Path| std::fs::metadata(path).expect("a look").permissions().mode() & 0o777;
            assert!(folder != to || mode(&folder) == 0o700);
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.ends_with("lost+found") {
                    continue;
                }
                if mode(&path) & 0o077 != 0 {
                    open.push(path.clone());
                }
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        assert_eq!(open, Vec::<PathBuf>::new());
    }
}
