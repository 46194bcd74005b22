//! Backups of the versions before the write-ahead log.
//!
//! `format-1.tar` was made by such a version, with segments of a second: a map with a webhook that fails and fifteen events
//! under idempotency keys, one event of 50 kB, an organization with three events from a source, and a dead letter of the source.

use std::path::Path;

use rstest::rstest;

use super::broken::{about, archive_of};
use super::rig::*;
use crate::backup::{BackupError, check};
use crate::disk::Disk;
use crate::documents::Table;
use crate::documents::notes::NoteTable;
use crate::log::{DedupeKey, Direction, PageLimit};
use crate::model::channel::Channel;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

const ARCHIVE: &[u8] = include_bytes!("format-1.tar");
const COPY: &str = "copy";

/// When the fixture was made.
fn taken_at_ms() -> u64 {
    check(ARCHIVE).expect("it is whole").about.taken_at_ms as u64
}

fn start(disk: &Disk, dir: &Path) -> Server {
    let clock = std::sync::Arc::new(crate::clock::SimulatedClock::new(1, taken_at_ms() + 1_000));
    Server::start(disk, dir, log_options(), clock).unwrap_or_else(|e| panic!("it does not start: {e}; {}", e.cure()))
}

#[rstest]
#[case::real(Disk::real())]
#[case::simulated(Disk::simulated(1))]
fn it_is_restored_with_events_documents_notes_and_dedupe_keys(#[case] disk: Disk) {
    let folder = tempfile::tempdir().expect("a folder");
    let to = if disk.simulation().is_some() { Path::new("/").join(COPY) } else { folder.path().join(COPY) };
    let summary = check(ARCHIVE).expect("it is whole");
    assert_eq!((summary.documents, summary.segments, summary.about.format), (44, 6, 1));
    assert_eq!(restore_to(&disk, ARCHIVE, &to).expect("it is restored"), summary);

    let mut server = start(&disk, &to);
    let channels = server.documents.scan::<Channel>(Table::Channels, b"").expect("channels");
    let no_of = |slug: &str| channels.iter().find(|(_, channel)| &*channel.slug == slug).expect("a channel").1.no();
    let (home, default) = (no_of("home"), no_of("default"));
    for _ in 0..2 {
        let all = server.events();
        assert_eq!((all.len(), server.log.head()), (22, summary.about.head));
        let of = |no: ChannelNo| all.iter().filter(|event| event.channel == no).count();
        assert_eq!((of(home), of(default)), (16, 3));
        let limit = PageLimit { events: usize::MAX, bytes: usize::MAX };
        let alone = server.log.read(home, EventId::ZERO, limit, Direction::Forward).expect("a page").events;
        assert!(alone.iter().eq(all.iter().filter(|event| event.channel == home)));
        assert!(all.iter().any(|event| event.payload.as_bytes().len() > 50_000));
        for (segment, n) in (1..=3).flat_map(|segment| (1..=5).map(move |n| (segment, n))) {
            let key = DedupeKey::of_request(&format!("key-{segment}-{n}"));
            let (first, count) = server.log.known(home, key, taken_at_ms()).expect("it is known");
            assert!(count == 1 && alone.iter().any(|event| event.id == first));
        }
        assert!(!server.log.lost_between(ChannelNo::ALL, EventId::ZERO, EventId::MAX));
        assert_eq!(
            server
                .notes
                .keys(NoteTable::DeadLetters, b"", crate::documents::notes::PageFrom::Start, 9)
                .expect("keys")
                .len(),
            1
        );
        let source = server.documents.scan::<serde_json::Value>(Table::Sources, b"").expect("sources").remove(0).0;
        let source = String::from_utf8(source).expect("an id");
        assert_eq!(server.notes.last_number(&source).expect("a number"), 1);
        assert!(!server.notes.was_lost());
        server = server.restart();
    }
    let ids = server.publish(home.0, 10, 1);
    assert!(ids[0] > summary.about.head);
    let server = server.restart();
    assert_eq!(server.events().len(), 23);
    // and it can be backed up in the form of today
    let archive = server.back_up();
    let again = to.with_file_name("again");
    restore_to(&disk, &archive, &again).expect("it is restored");
    assert_eq!(start(&disk, &again).events(), server.events());
}

#[test]
fn what_it_knew_to_be_lost_is_still_announced() {
    let disk = Disk::simulated(1);
    let (old, new) = (EventId::at_time(START_MS), EventId::at_time(START_MS + 10));
    let value = |text: &str| [&crc32fast::hash(text.as_bytes()).to_be_bytes(), text.as_bytes()].concat();
    let entry = |key: &[u8], value: &[u8]| {
        [&(key.len() as u32).to_be_bytes(), &(value.len() as u32).to_be_bytes(), key, value].concat()
    };
    let state = entry(b"nchannels", &value("4"));
    let about = format!(r#"{{"format":1,"version":"0.1.0","taken_at_ms":{START_MS},"head":"{new}"}}"#);
    let lost =
        format!(r#"{{"expired":{{"1":"{old}"}},"expired_all":"{old}","damaged":[["{old}","{new}"]],"head":"{new}"}}"#);
    let archive = archive_of(&[("backup.json", about.as_bytes()), ("state", &state), ("lost.json", lost.as_bytes())]);
    restore_to(&disk, &archive, Path::new("/copy")).expect("it is restored");
    let server = start_on(&disk, Path::new("/copy")).restart();
    assert_eq!((server.log.head(), server.log.expired(ChannelNo(1))), (new, old));
    assert_eq!(server.log.damaged_between(ChannelNo(3), EventId::ZERO, EventId::MAX), Some((old, new)));
}

#[test]
fn a_wrong_checksum_in_a_document_is_damage_and_in_a_note_a_loss() {
    let entry = |key: &[u8], value: &[u8]| {
        [&(key.len() as u32).to_be_bytes(), &(value.len() as u32).to_be_bytes(), key, value].concat()
    };
    let lost: (&str, &[u8]) =
        ("lost.json", br#"{"expired":{},"expired_all":"00000000000000000000000000","damaged":[],"head":"00000000000000000000000000"}"#);
    for (key, is_note) in [(b"cx", false), (b"dx", true)] {
        let state = entry(key, b"abcd{}");
        let archive = archive_of(&[("backup.json", &about(1)), ("state", &state), lost]);
        let restored = restore_to(&Disk::simulated(1), &archive, Path::new("/copy"));
        assert!(restored.is_ok() == is_note && (is_note || matches!(restored, Err(BackupError::Damaged(_)))));
    }
    // entries of a segment that are out of order
    let spoilt = [entry(b"d", b"1"), entry(b"c", b"1")].concat();
    let archive = archive_of(&[("backup.json", &about(1)), ("log/1/0", &spoilt), lost]);
    let refused = restore_to(&Disk::simulated(1), &archive, Path::new("/copy"));
    assert!(matches!(refused, Err(BackupError::Damaged(_))));
}
