//! Writes and syncs that fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rstest::rstest;

use super::*;
use crate::disk::Point;
use crate::disk::failure::Fault;
use crate::wal::begin;

/// A log with `commits` commits.
fn log(disk: &Disk, durability: Durability, commits: u64) -> Wal {
    let mut wal = Wal::create(disk, dir(), LOG_ID, 1, Options { durability, ..options() }).unwrap();
    while wal.prepare().unwrap() {}
    for _ in 0..commits {
        commit(&mut wal, 500);
    }
    wal
}

fn fails(times: u64) -> Fault {
    Fault::errno(libc::EIO).times(times)
}

/// All logs that a power cut now may leave.
fn after_crashes(disk: &Disk) -> impl Iterator<Item = Seen> {
    (0..60).map(|seed| {
        let disk = disk.after_crash(seed).unwrap();
        let (wal, seen) = recover(&disk);
        drop(wal);
        // what a start has shown stays
        assert_eq!(recover(&disk.after_crash(seed).unwrap()).1, seen);
        seen
    })
}

#[rstest]
#[case::a_write_in_a_piece(Point::WalWrite, 3)]
#[case::a_sync_in_a_piece(Point::WalSync, 3)]
#[case::a_write_that_begins_a_piece(Point::WalWrite, 15)]
#[case::a_sync_that_begins_a_piece(Point::WalSync, 15)]
#[case::the_first_write(Point::WalWrite, 0)]
#[case::the_first_sync(Point::WalSync, 0)]
fn a_commit_that_failed_is_void_for_good(#[case] point: Point, #[case] commits: u64) {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, commits);
    disk.faults().set(point, fails(1));
    let failed = wal.commit(&[&[9; 500]], Urgency::Normal).unwrap_err();
    assert!(matches!(failed, CommitError::Void { .. }), "{failed}");
    for seen in after_crashes(&disk) {
        assert_eq!(seen, Seen { records: expected(1..=commits, 500), ..Seen::default() });
    }
    // its sequence is given to the next one
    assert_eq!(commit(&mut wal, 500).sequence, commits + 1);
    for seen in after_crashes(&disk) {
        assert_eq!(seen, Seen { records: expected(1..=commits + 1, 500), ..Seen::default() });
    }
    drop(wal);
    assert_eq!(recover(&disk).1.records, expected(1..=commits + 1, 500));
}

#[test]
fn a_piece_is_never_synced_again_after_a_failure() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 3);
    let before = wal.current.as_ref().unwrap().piece.clone();
    disk.faults().set(Point::WalSync, fails(1));
    wal.commit(&[b"failed"], Urgency::Normal).unwrap_err();
    for _ in 0..20 {
        assert_ne!(commit(&mut wal, 500).piece.path(), before.path());
    }
    // when its records are given up it is filled anew before it is used
    let path = before.path().to_path_buf();
    drop(before);
    wal.free_through(23);
    assert_eq!(wal.pieces().counts().broken, 1);
    while wal.prepare().unwrap() {}
    assert_eq!(wal.pieces().counts().broken, 0);
    assert!(disk.read(Point::WalRead, &path).unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn until_it_is_settled_a_failed_commit_may_appear_and_then_it_cannot() {
    let mut appeared = 0;
    for seed in 0..40 {
        let disk = disk(seed);
        let mut wal = log(&disk, Durability::Fsync, 3);
        // the sync of the commit, and that of the header that would void it
        disk.faults().set(Point::WalSync, fails(2));
        let failed = wal.commit(&[&payload(4, 500)], Urgency::Normal).unwrap_err();
        assert!(matches!(failed, CommitError::Unknown { .. }) && !failed.is_certain(), "{failed}");
        assert!(!wal.is_settled());
        for seen in after_crashes(&disk) {
            appeared += u32::from(seen.records == expected(1..=4, 500));
            assert!(seen.records == expected(1..=3, 500) || seen.records == expected(1..=4, 500), "{seen:?}");
            assert_eq!(seen.damaged, []);
        }

        disk.faults().set(Point::WalWrite, fails(1));
        wal.settle().unwrap_err();
        disk.faults().clear_all();
        wal.settle().unwrap();
        assert!(wal.is_settled());
        for seen in after_crashes(&disk) {
            assert_eq!(seen.records, expected(1..=3, 500));
        }
    }
    assert!(appeared > 0, "a power cut may keep what was written before a sync that failed");
}

#[test]
fn a_commit_while_a_failure_is_not_settled_is_refused_with_nothing_written() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 3);
    disk.faults().fail(Point::WalSync, libc::EIO);
    wal.commit(&[b"failed"], Urgency::Normal).unwrap_err();
    let refused = wal.commit(&[b"refused"], Urgency::Normal).unwrap_err();
    assert!(matches!(refused, CommitError::Refused { .. }) && refused.is_certain(), "{refused}");
    disk.faults().clear_all();
    // the next one settles what failed by itself
    assert_eq!(commit(&mut wal, 500).sequence, 4);
    for seen in after_crashes(&disk) {
        assert_eq!(seen.records, expected(1..=4, 500));
    }
}

#[test]
fn a_disk_that_fails_for_long_uses_up_pieces_but_comes_back() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 3);
    for point in [Point::WalWrite, Point::WalSync, Point::WalFill, Point::ManifestWrite] {
        disk.faults().fail(point, libc::EIO);
    }
    wal.commit(&[b"failed"], Urgency::Normal).unwrap_err();
    for _ in 0..50 {
        wal.settle().unwrap_err();
    }
    let files = wal.pieces().counts().files;
    assert!(files <= 5, "{files}");
    disk.faults().clear_all();
    wal.settle().unwrap();
    assert_eq!(commit(&mut wal, 500).sequence, 4);
    while wal.prepare().unwrap() {}
    assert_eq!(wal.pieces().counts().broken, 0);
    drop(wal);
    assert_eq!(recover(&disk).1.records, expected(1..=4, 500));
}

#[rstest]
#[case::with_fsync(Durability::Fsync)]
#[case::with_an_interval(Durability::Interval { every_ms: 100 })]
fn a_disk_that_syncs_no_commit_for_long_uses_up_no_files(#[case] durability: Durability) {
    let disk = disk(1);
    let mut wal = log(&disk, durability, 3);
    let files = wal.pieces().counts().files;
    disk.faults().fail(Point::WalSync, libc::EIO);
    for _ in 0..50 {
        let _ = wal.commit(&[&[9; 500]], Urgency::Normal);
        wal.sync().unwrap_err();
        let _ = wal.prepare();
    }
    assert!(wal.pieces().counts().files <= files + 2, "{:?}", wal.pieces().counts());
    disk.faults().clear_all();
    wal.settle().unwrap();
    let last = commit(&mut wal, 500).sequence;
    wal.sync().unwrap();
    for seen in after_crashes(&disk) {
        assert_eq!(seen.sequences(), (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_full_copy_on_write_disk_is_like_any_other_failure() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 3);
    disk.faults().fail(Point::WalWrite, libc::ENOSPC);
    let failed = wal.commit(&[b"failed"], Urgency::Normal).unwrap_err();
    assert!(matches!(failed, CommitError::Unknown { .. }) && failed.is_full(), "{failed}");
    disk.faults().clear_all();
    wal.settle().unwrap();
    assert_eq!(commit(&mut wal, 500).sequence, 4);
}

#[test]
fn a_commit_that_needs_a_piece_and_gets_none_for_another_reason_is_refused() {
    let disk = disk(1);
    let mut wal = create(&disk);
    disk.faults().fail(Point::WalOpen, libc::EMFILE);
    let refused = wal.commit(&[b"refused"], Urgency::Normal).unwrap_err();
    assert!(matches!(refused, CommitError::Refused { .. }) && !refused.is_full(), "{refused}");
    disk.faults().clear_all();
    assert_eq!(commit(&mut wal, 10).sequence, 1);
}

#[test]
fn what_was_committed_before_a_failure_in_the_same_piece_stays_until_it_is_given_up() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 0);
    let kept = commit(&mut wal, 500);
    disk.faults().set(Point::WalSync, fails(1));
    wal.commit(&[b"failed"], Urgency::Normal).unwrap_err();
    while wal.prepare().unwrap() {}
    for _ in 0..100 {
        commit(&mut wal, 500);
    }
    assert_eq!(kept.piece.read(kept.offset, 500).unwrap(), payload(1, 500));
    drop((kept, wal));
    assert_eq!(recover(&disk).1.records, expected(1..=101, 500));
}

/// Found by the simulation of the journal: the piece with the copies that a start had made was filled with zeros, an older
/// one with the originals was still there, and the next start refused records that did not follow each other.
#[test]
fn a_failed_piece_is_filled_anew_only_when_the_disk_says_that_its_records_were_given_up() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 3);
    drop(wal);
    wal = recover(&disk).0;
    disk.faults().set(Point::WalWrite, fails(1));
    wal.commit(&[b"failed"], Urgency::Normal).unwrap_err();
    commit(&mut wal, 500);
    wal.free_through(3);
    while wal.prepare().unwrap() {}
    assert_eq!(wal.pieces().counts().broken, 0);
    drop(wal);
    let sequence = begin(&disk, dir()).unwrap().sequence;
    assert_eq!(sequence, 4);
    assert_eq!(recover_with(&disk, options(), sequence).unwrap().1.records, expected(4..=4, 500));
}

/// A commit is void because a later header says so. That header must stay until another one says it too, also when its
/// own piece fails and is filled with zeros.
#[test]
fn a_void_commit_stays_void_when_the_piece_that_voids_it_fails_as_well() {
    for seed in 0..40 {
        let disk = disk(seed);
        let mut wal = log(&disk, Durability::Fsync, 3);
        disk.faults().set(Point::WalSync, fails(1));
        assert!(matches!(wal.commit(&[&[9; 500]], Urgency::Normal), Err(CommitError::Void { .. })));
        // the next one fails too, and is not settled
        disk.faults().set(Point::WalSync, fails(2));
        assert!(matches!(wal.commit(&[&[8; 500]], Urgency::Normal), Err(CommitError::Unknown { .. })));
        while wal.prepare().unwrap() {}
        for seen in after_crashes(&disk) {
            let mut records = seen.records;
            records.retain(|(_, payload)| payload[0] != 8);
            assert_eq!(records, expected(1..=3, 500));
        }
    }
}

#[rstest]
#[case::the_write(Point::WalWrite)]
#[case::the_sync(Point::WalSync)]
fn a_panic_in_a_commit_leaves_the_log_usable(#[case] point: Point) {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Fsync, 3);
    disk.faults().set(point, Fault::panic().times(1));
    let panicked = catch_unwind(AssertUnwindSafe(|| wal.commit(&[&[9; 500]], Urgency::Normal)));
    assert!(panicked.is_err() && !wal.is_settled());
    wal.settle().unwrap();
    assert_eq!(commit(&mut wal, 500).sequence, 4);
    for seen in after_crashes(&disk) {
        assert_eq!(seen.records, expected(1..=4, 500));
    }
}

#[test]
fn a_start_over_a_failing_sync_is_refused_and_the_next_one_finds_everything() {
    for nth in 0..4 {
        let disk = disk(1);
        drop(log(&disk, Durability::Fsync, 20));
        disk.faults().set(Point::WalSync, fails(1).after(nth));
        let refused = recover_with(&disk, options(), 1).map(|(_, seen)| seen).unwrap_err();
        assert!(matches!(refused, WalError::Disk(_)), "{refused}");
        assert_eq!(
            refused.cure().as_str(),
            "the device reports an error: look into the system log (dmesg) and replace the disk"
        );
        for seen in after_crashes(&disk) {
            assert_eq!(seen.records, expected(1..=20, 500));
        }
        assert_eq!(recover(&disk).1.records, expected(1..=20, 500));
    }
}

/// The process is killed between the write and the sync of a commit. What the next start shows of it must survive a
/// power cut, although nobody but that start can sync it.
#[test]
fn what_a_start_has_shown_survives_a_power_cut() {
    for seed in 0..40 {
        let disk = disk(seed);
        let mut wal = log(&disk, Durability::Fsync, 20);
        // the kernel has tried and failed to write it
        disk.faults().set(Point::WalSync, fails(1 + seed % 3));
        wal.commit(&[&payload(21, 500)], Urgency::Normal).unwrap_err();
        drop(wal);
        disk.faults().clear_all();
        let (_, shown) = recover(&disk);
        for seen in after_crashes(&disk) {
            assert_eq!(seen.records, shown.records, "seed {seed}");
        }
    }
}

const INTERVAL: Durability = Durability::Interval { every_ms: 100 };

#[test]
fn with_an_interval_a_failed_sync_loses_nothing() {
    let disk = disk(1);
    let mut wal = log(&disk, INTERVAL, 0);
    let committed: Vec<Committed> = (0..5).map(|_| commit(&mut wal, 500)).collect();
    disk.faults().set(Point::WalSync, fails(1));
    wal.sync().unwrap();
    for seen in after_crashes(&disk) {
        assert_eq!(seen.records, expected(1..=5, 500));
    }
    // readers find them where they were told, from memory
    disk.faults().fail(Point::WalRead, libc::EIO);
    for committed in committed {
        let read = committed.piece.read(committed.offset + 100, 400).unwrap();
        assert_eq!(read, payload(committed.sequence, 500)[100..]);
    }
}

#[test]
fn with_an_interval_a_sync_that_fails_over_and_over_is_made_up_for_later() {
    let disk = disk(1);
    let mut wal = log(&disk, INTERVAL, 5);
    disk.faults().fail(Point::WalSync, libc::EIO);
    for _ in 0..10 {
        wal.sync().unwrap_err();
    }
    assert!(matches!(wal.commit(&[b"refused"], Urgency::Normal), Err(CommitError::Refused { .. })));
    disk.faults().clear_all();
    wal.sync().unwrap();
    commit(&mut wal, 500);
    wal.sync().unwrap();
    for seen in after_crashes(&disk) {
        assert_eq!(seen.records, expected(1..=6, 500));
    }
    drop(wal);
    assert_eq!(recover(&disk).1.records, expected(1..=6, 500));
}

#[test]
fn with_an_interval_a_failed_write_is_void_and_what_was_answered_before_stays() {
    let disk = disk(1);
    let mut wal = log(&disk, INTERVAL, 5);
    disk.faults().set(Point::WalWrite, fails(1));
    let failed = wal.commit(&[&[9; 500]], Urgency::Normal).unwrap_err();
    assert!(matches!(failed, CommitError::Void { .. }), "{failed}");
    for seen in after_crashes(&disk) {
        assert_eq!(seen.records, expected(1..=5, 500));
    }
}

#[test]
fn with_flush_a_failed_write_is_void() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Flush, 5);
    disk.faults().set(Point::WalWrite, fails(1));
    let failed = wal.commit(&[&[9; 500]], Urgency::Normal).unwrap_err();
    assert!(matches!(failed, CommitError::Void { .. }), "{failed}");
    commit(&mut wal, 500);
    drop(wal);
    assert_eq!(recover(&disk).1.records, expected(1..=6, 500));
}

#[test]
fn with_flush_a_sync_makes_durable_what_was_written() {
    let disk = disk(1);
    let mut wal = log(&disk, Durability::Flush, 40);
    wal.sync().unwrap();
    for seen in after_crashes(&disk) {
        assert_eq!(seen.records, expected(1..=40, 500));
    }
}

#[test]
fn a_log_that_syncs_nothing_loses_commits_in_a_power_cut() {
    // so the tests above would notice a sync that is left out
    let disk = disk(1);
    let _wal = log(&disk, Durability::Flush, 20);
    let lost = (0..60).filter(|&seed| {
        let disk = disk.after_crash(seed).unwrap();
        !recover_with(&disk, options(), 1).is_ok_and(|(_, seen)| seen.records == expected(1..=20, 500))
    });
    assert!(lost.count() > 10);
}
