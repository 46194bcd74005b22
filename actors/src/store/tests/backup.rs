//! Backups: what is in them, what is not, and what becomes of damaged ones.

use std::io::{self, Write};

use rstest::rstest;
use tempfile::TempDir;

use super::{ALL, START_MS, commit, event, id, ids, of_channel, open, options, segmented};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;
use crate::store::backup::{BackupError, check, refuse_half, restore, take};
use crate::store::{
    Change, Commit, Dedupe, DedupeKey, Direction, Durability, Log, Retention, State, StoreError, Table,
};

const VERSION: &str = "1.2.3";

fn state(dir: &TempDir) -> State {
    State::open(dir.path(), Durability::Flush).unwrap()
}

fn taken(log: &Log, state: &State, dir: &TempDir) -> Vec<u8> {
    let mut archive = Vec::new();
    take(log, state, dir.path(), VERSION, START_MS, &mut archive).unwrap();
    archive
}

fn everything(log: &Log) -> Vec<Event> {
    log.read(ChannelNo::ALL, EventId::ZERO, ALL, Direction::Forward).unwrap().events
}

/// A writer that does something at its first byte, when documents and head are taken and nothing is copied yet.
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

#[test]
fn a_restored_folder_has_every_event_document_dedupe_key_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = segmented(&dir, 3);
    let key = DedupeKey::of_request("once");
    let dedupe = vec![Dedupe { channel: ChannelNo(2), key, first: id(40), count: 2 }];
    // larger than a part of the archive, and than a value of the database
    let events = vec![event(id(40), 2, 1_500_000), event(id(41), 2, 10)];
    log.append(&Commit { events, dedupe }, START_MS + 180_500).unwrap();
    let state = state(&dir);
    let numbers: Vec<u32> = (0..1000).collect();
    for n in &numbers {
        state.write(&[Change::put(Table::Tokens, n.to_be_bytes(), n).unwrap()]).unwrap();
    }
    std::fs::write(dir.path().join("secret-key"), "a key").unwrap();
    let archive = taken(&log, &state, &dir);

    let to = tempfile::tempdir().unwrap();
    // as at the top of a file system
    std::fs::create_dir(to.path().join("lost+found")).unwrap();
    let summary = restore(archive.as_slice(), to.path()).unwrap();
    assert_eq!(check(archive.as_slice()).unwrap(), summary);
    assert_eq!((summary.documents, summary.segments, summary.about.head), (1000, 4, id(41)));
    assert_eq!((summary.about.version.as_str(), summary.about.taken_at_ms), (VERSION, START_MS));
    refuse_half(to.path()).unwrap();

    let again = open(&options(to.path()), START_MS + 190_000);
    assert_eq!(again.head(), id(41));
    for no in [1, 2] {
        assert_eq!(of_channel(&again, no), of_channel(&log, no));
    }
    assert_eq!(everything(&again), everything(&log));
    assert_eq!(again.known(ChannelNo(2), key, START_MS + 181_000).unwrap(), Some((id(40), 2)));
    let tokens = self::state(&to).scan::<u32>(Table::Tokens, b"").unwrap();
    assert_eq!(tokens.into_iter().map(|(_, n)| n).collect::<Vec<_>>(), numbers);
    assert_eq!(std::fs::read_to_string(to.path().join("secret-key")).unwrap(), "a key");
    // and it goes on
    again.append(&commit(vec![event(id(50), 1, 10)]), START_MS + 181_500).unwrap();
    assert_eq!(of_channel(&again, 1).last(), Some(&id(50)));
}

#[test]
fn what_is_appended_sealed_and_written_meanwhile_is_left_out_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = segmented(&dir, 1);
    let state = state(&dir);
    state.write(&[Change::put(Table::Channels, [1], &1).unwrap()]).unwrap();
    let key = DedupeKey::of_request("later");
    let dedupe = vec![Dedupe { channel: ChannelNo(1), key, first: id(20), count: 1 }];
    let act = || {
        // a channel is made and published to; then the segment that was active is sealed
        state.write(&[Change::put(Table::Channels, [2], &2).unwrap()]).unwrap();
        let events = vec![event(id(20), 1, 10), event(id(21), 2, 10)];
        log.append(&Commit { events, dedupe: dedupe.clone() }, START_MS + 61_000).unwrap();
        log.append(&commit(vec![event(id(22), 1, 10)]), START_MS + 500_000).unwrap();
    };
    let mut out = Meanwhile { archive: Vec::new(), act: Some(act) };
    take(&log, &state, dir.path(), VERSION, START_MS, &mut out).unwrap();
    assert_eq!(log.head(), id(22), "it was appended");

    let to = tempfile::tempdir().unwrap();
    restore(out.archive.as_slice(), to.path()).unwrap();
    let again = open(&options(to.path()), START_MS + 62_000);
    assert_eq!(again.head(), id(19));
    assert_eq!(of_channel(&again, 1), (0..20).map(id).collect::<Vec<_>>());
    assert_eq!(ids(&everything(&again)), (0..20).map(id).collect::<Vec<_>>());
    assert_eq!(again.known(ChannelNo(1), key, START_MS + 62_000).unwrap(), None);
    assert_eq!(self::state(&to).scan::<u32>(Table::Channels, b"").unwrap().len(), 1);
}

#[test]
fn what_retention_takes_meanwhile_is_known_to_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    drop(segmented(&dir, 3));
    let retention = Retention { max_events: 25, ..Retention::default() };
    let log = open(&crate::store::Options { retention, ..options(dir.path()) }, START_MS);
    let state = state(&dir);
    let mut out = Meanwhile { archive: Vec::new(), act: Some(|| assert!(log.retain(START_MS).unwrap().segments > 0)) };
    take(&log, &state, dir.path(), VERSION, START_MS, &mut out).unwrap();

    let to = tempfile::tempdir().unwrap();
    restore(out.archive.as_slice(), to.path()).unwrap();
    let again = open(&options(to.path()), START_MS);
    assert_eq!(of_channel(&again, 1), of_channel(&log, 1));
    assert!(again.lost_between(ChannelNo(1), EventId::ZERO, id(39)));
}

/// Where an archive ends too early, in parts of its length, and that nothing is left of it.
#[rstest]
fn an_archive_that_was_cut_off_leaves_nothing(#[values(0, 1, 10, 25, 50, 75, 90, 99)] percent: usize) {
    let dir = tempfile::tempdir().unwrap();
    let archive = taken(&segmented(&dir, 1), &state(&dir), &dir);
    // tar ends in two blocks of nothing
    let cut = &archive[..(archive.len() - 1024 - 512) * percent / 100];
    let to = tempfile::tempdir().unwrap();
    let refused = restore(cut, to.path()).unwrap_err();
    assert!(matches!(refused, BackupError::CutOff | BackupError::Damaged(_)), "{refused}");
    assert!(check(cut).is_err());
    assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn a_single_wrong_bit_in_any_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(&dir);
    state.write(&[Change::put(Table::Channels, [1], &"a document").unwrap()]).unwrap();
    let archive = taken(&segmented(&dir, 1), &state, &dir);
    let find = |text: &[u8]| archive.windows(text.len()).position(|bytes| bytes == text).unwrap();
    for at in [find(b"1.2.3"), find(b"a document"), find(b"xxxx"), find(b"expired_all"), find(b"sha256") + 12] {
        let mut damaged = archive.clone();
        damaged[at] ^= 1;
        let refused = check(damaged.as_slice()).unwrap_err();
        assert!(matches!(refused, BackupError::Damaged(_)), "{refused}");
    }
}

#[test]
fn a_name_in_an_archive_never_leads_out_of_the_folder() {
    for name in ["../evil", "/tmp/evil", "log/../../evil", "log/1/../2", "log/1", "log//1", "evil", "log/x/1"] {
        let mut tar = tar::Builder::new(Vec::new());
        let about = br#"{"format":1,"version":"1","taken_at_ms":0,"head":"00000000000000000000000000"}"#;
        for (name, content) in [("backup.json", about.as_slice()), (name, b"")] {
            let mut header = tar::Header::new_ustar();
            // past the checks of the library that writes
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        let to = tempfile::tempdir().unwrap();
        let refused = restore(tar.into_inner().unwrap().as_slice(), &to.path().join("in")).unwrap_err();
        assert!(matches!(&refused, BackupError::Damaged(reason) if reason.contains("it holds")), "{name}: {refused}");
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn a_folder_with_anything_in_it_is_not_restored_into_and_half_a_restore_is_not_started_on() {
    let dir = tempfile::tempdir().unwrap();
    let archive = taken(&segmented(&dir, 0), &state(&dir), &dir);
    let refused = restore(archive.as_slice(), dir.path()).unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty(_)), "{refused}");
    assert_eq!(of_channel(&open(&options(dir.path()), START_MS), 1).len(), 10, "what is there stays");

    let half = tempfile::tempdir().unwrap();
    std::fs::write(half.path().join("restoring"), "").unwrap();
    assert!(matches!(refuse_half(half.path()), Err(StoreError::HalfRestored(_))));
}

#[test]
fn a_format_of_the_future_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = taken(&segmented(&dir, 0), &state(&dir), &dir);
    let at = archive.windows(10).position(|bytes| bytes == b"\"format\":1").unwrap();
    archive[at + 9] = b'7';
    assert!(matches!(check(archive.as_slice()), Err(BackupError::Format(7))));
}
