//! Commits, stops and starts without failures.

use rstest::rstest;

use super::*;
use crate::disk::Point;

#[test]
fn a_commit_is_read_from_its_piece() {
    let mut wal = create(&disk(1));
    let committed = wal.commit(&[b"one ", b"commit"], Urgency::Normal).unwrap();
    assert_eq!(committed.sequence, 1);
    assert_eq!(&committed.piece.read(committed.offset, 10).unwrap()[..], b"one commit");
    assert_eq!(&committed.piece.read(committed.offset + 4, 3).unwrap()[..], b"com");
    for (offset, len) in [(PIECE_BYTES - 1, 2), (0, u32::MAX), (u32::MAX, u32::MAX)] {
        let refused = committed.piece.read(offset, len).unwrap_err();
        assert_eq!(refused.source.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

#[rstest]
#[case::after_a_kill(false)]
#[case::after_a_clean_stop(true)]
fn a_start_finds_every_commit_in_order(#[case] clean: bool) {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..40 {
        commit(&mut wal, 500);
    }
    if clean {
        wal.close().unwrap()
    } else {
        drop(wal)
    }
    let (wal, seen) = recover(&disk);
    assert_eq!(seen, Seen { records: expected(1..=40, 500), ..Seen::default() });
    assert_eq!(wal.last_sequence(), 40);
}

#[test]
fn a_commit_is_one_write_and_one_sync_also_when_it_begins_a_piece() {
    let disk = disk(1);
    let mut wal = create(&disk);
    while wal.prepare().unwrap() {}
    let count = |disk: &Disk| [Point::WalWrite, Point::WalSync].map(|point| disk.faults().passed(point));
    for _ in 0..40 {
        let [writes, syncs] = count(&disk);
        commit(&mut wal, 500);
        assert_eq!(count(&disk), [writes + 1, syncs + 1]);
    }
    assert!(wal.counts().begun > 1, "{:?}", wal.counts());
}

#[test]
fn a_start_tells_only_what_is_needed() {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..40 {
        commit(&mut wal, 500);
    }
    drop(wal);
    for needed_from in [1, 2, 15, 16, 17, 30, 31, 40, 41] {
        let disk = disk.after_crash(1).unwrap();
        let (mut wal, seen) = recover_with(&disk, options(), needed_from).unwrap();
        assert_eq!(seen.records, expected(needed_from..=40, 500));
        // and the log it leaves is whole
        commit(&mut wal, 500);
        drop(wal);
        assert_eq!(recover_with(&disk, options(), needed_from).unwrap().1.records, expected(needed_from..=41, 500));
    }
}

#[test]
fn a_start_that_needs_more_than_the_log_holds_is_refused() {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..40 {
        commit(&mut wal, 500);
    }
    assert!(matches!(recover_with(&disk, options(), 43), Err(WalError::Behind { last: 40, known: 42, .. })));

    // the files of what was freed are used again
    wal.free_through(30);
    for _ in 0..30 {
        commit(&mut wal, 500);
    }
    drop(wal);
    assert_eq!(recover_with(&disk, options(), 31).unwrap().1.records, expected(31..=70, 500));
    assert!(matches!(recover_with(&disk, options(), 1), Err(WalError::Gap { needed: 1, .. })));
}

#[test]
fn a_log_can_begin_at_any_sequence() {
    let disk = disk(1);
    let wal = Wal::create(&disk, dir(), LOG_ID, 101, options()).unwrap();
    drop(wal);
    let (mut wal, seen) = recover_with(&disk, options(), 101).unwrap();
    assert_eq!(seen, Seen::default());
    assert_eq!(commit(&mut wal, 10).sequence, 101);
    drop(wal);
    assert_eq!(recover_with(&disk, options(), 101).unwrap().1.sequences(), [101]);
    assert!(matches!(recover_with(&disk, options(), 100), Err(WalError::Gap { needed: 100, found: 101, .. })));
}

#[test]
fn a_log_is_not_begun_over_another_one() {
    let disk = disk(1);
    drop(create(&disk));
    assert!(matches!(Wal::create(&disk, dir(), LOG_ID, 1, options()), Err(WalError::Exists { .. })));
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(8 << 10)]
#[case(100 << 10)]
fn a_commit_of_any_size_is_kept(#[case] bytes: usize) {
    let disk = disk(1);
    let mut wal = create(&disk);
    commit(&mut wal, 10);
    let committed = commit(&mut wal, bytes);
    assert_eq!(committed.piece.read(committed.offset, bytes as u32).unwrap(), payload(2, bytes));
    commit(&mut wal, 10);
    drop(wal);
    let records = vec![(1, payload(1, 10)), (2, payload(2, bytes)), (3, payload(3, 10))];
    assert_eq!(recover(&disk).1.records, records);
    assert_eq!(recover(&disk).1.records, records);
}

#[test]
fn a_commit_over_the_limit_is_refused() {
    let mut wal = create(&disk(1));
    let part = vec![0; super::super::COMMIT_MAX_BYTES / 8 + 1];
    let refused = wal.commit(&[&part[..]; 8], Urgency::Normal);
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })));
    assert_eq!(commit(&mut wal, 10).sequence, 1);
}

#[rstest]
#[case::flush(Durability::Flush)]
#[case::interval(Durability::Interval { every_ms: 100 })]
fn without_a_sync_for_each_commit_a_kill_loses_nothing(#[case] durability: Durability) {
    let disk = disk(1);
    let options = Options { durability, ..options() };
    let mut wal = Wal::create(&disk, dir(), LOG_ID, 1, options.clone()).unwrap();
    for _ in 0..40 {
        commit(&mut wal, 500);
    }
    drop(wal);
    assert_eq!(recover_with(&disk, options, 1).unwrap().1.records, expected(1..=40, 500));
    // what a start has shown survives a power cut
    let disk = disk.after_crash(3).unwrap();
    assert_eq!(recover(&disk).1.records, expected(1..=40, 500));
}

#[test]
fn an_interval_syncs_when_it_is_due() {
    let disk = disk(1);
    let durability = Durability::Interval { every_ms: 100 };
    let mut wal = Wal::create(&disk, dir(), LOG_ID, 1, Options { durability, ..options() }).unwrap();
    let syncs = || disk.faults().passed(Point::WalSync);
    commit(&mut wal, 10);
    for (now_ms, expected) in [(1_000, 0), (1_050, 0), (1_100, 1), (1_500, 1)] {
        wal.sync_if_due(now_ms).unwrap();
        assert_eq!(syncs(), expected, "at {now_ms}");
    }
    commit(&mut wal, 10);
    wal.sync_if_due(1_600).unwrap();
    assert_eq!(syncs(), 1, "the time counts from when the commit was seen");
    wal.sync_if_due(1_700).unwrap();
    assert_eq!(syncs(), 2);
}

#[test]
fn what_waits_for_a_sync_is_bounded() {
    let disk = disk(1);
    let durability = Durability::Interval { every_ms: 1_000_000 };
    let options = Options { durability, unsynced_max_bytes: 1_000, ..options() };
    let mut wal = Wal::create(&disk, dir(), LOG_ID, 1, options).unwrap();
    for _ in 0..10 {
        commit(&mut wal, 500);
        assert!(wal.unsynced_bytes <= 1_000);
    }
    assert_eq!(disk.faults().passed(Point::WalSync), 4);
    // one that is larger than the bound is taken, and the next one syncs it
    commit(&mut wal, 2_000);
    commit(&mut wal, 10);
    assert_eq!(wal.unsynced_bytes, 10);
}

#[test]
fn a_look_at_the_log_writes_nothing() {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..40 {
        commit(&mut wal, 500);
    }
    drop(wal);
    let writes = || [Point::WalWrite, Point::WalSync, Point::ManifestWrite].map(|point| disk.faults().passed(point));
    let before = writes();
    let mut seen = Seen::default();
    let found = inspect(&disk, dir(), 11, |recovered| seen.take(recovered)).unwrap();
    assert_eq!(seen.records, expected(11..=40, 500));
    assert_eq!((found.last, found.records, found.bytes, found.damaged), (40, 30, 15_000, 0));
    assert_eq!(writes(), before);
}

#[test]
fn the_real_file_system_keeps_a_log_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    let disk = Disk::real();
    let mut wal = Wal::create(&disk, &dir, LOG_ID, 1, options()).unwrap();
    while wal.prepare().unwrap() {}
    for _ in 0..40 {
        commit(&mut wal, 500);
    }
    wal.free_through(10);
    wal.close().unwrap();
    for round in 0..3 {
        let mut seen = Seen::default();
        let options = Options { salt_seed: round, ..options() };
        let mut wal = Wal::recover(&disk, &dir, options, 11, |recovered| seen.take(recovered)).unwrap();
        assert_eq!(seen, Seen { records: expected(11..=40 + round, 500), ..Seen::default() });
        commit(&mut wal, 500);
    }
}
