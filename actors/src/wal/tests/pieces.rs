//! How files are made, used again and kept back.

use super::*;
use crate::disk::Point;

/// Makes all spare pieces.
fn prepare(wal: &Wal) {
    while wal.prepare().unwrap() {}
}

#[test]
fn files_are_used_again_when_their_records_are_given_up() {
    let disk = disk(1);
    let mut wal = create(&disk);
    prepare(&wal);
    for _ in 0..1_000 {
        let last = commit(&mut wal, 500).sequence;
        wal.free_through(last.saturating_sub(20));
        prepare(&wal);
    }
    let counts = wal.pieces().counts();
    assert!(counts.files <= 7, "{counts:?}");
    drop(wal);
    assert_eq!(recover_with(&disk, options(), 981).unwrap().1.records, expected(981..=1_000, 500));
}

/// A burst of commits, of which all but the last few are given up: the last sequence, and how many files it took.
fn burst(wal: &mut Wal) -> (u64, usize) {
    let last = (0..400).map(|_| commit(wal, 500).sequence).last().unwrap();
    let files = wal.pieces().counts().files;
    wal.free_through(last - 20);
    (last, files)
}

#[test]
fn files_of_a_burst_are_removed_after_it_and_their_numbers_are_used_again() {
    let disk = disk(1);
    let mut wal = create(&disk);
    let (mut last, files) = burst(&mut wal);
    let used = disk.simulation().unwrap().used_bytes();
    prepare(&wal);
    let counts = wal.pieces().counts();
    assert!(files > 20 && counts.spare == 8 && counts.files < 15, "{files} files, {counts:?}");
    assert!(disk.simulation().unwrap().used_bytes() < used / 2);
    for round in 0..3 {
        drop(wal);
        let (again, seen) = recover_with(&disk, options(), last - 19).unwrap();
        assert_eq!(seen.records, expected(last - 19..=last, 500), "round {round}");
        wal = again;
        let most;
        (last, most) = burst(&mut wal);
        assert!(most <= files + 4, "{most} and not {files} files");
        prepare(&wal);
    }
}

#[test]
fn nothing_is_lost_when_the_removal_of_a_file_fails_and_the_power_too() {
    for (point, skip, seed) in [Point::ManifestWrite, Point::WalFill, Point::Rename, Point::SyncFolder]
        .into_iter()
        .flat_map(|point| (0..4).flat_map(move |skip| (0..4).map(move |seed| (point, skip, seed))))
    {
        let disk = disk(seed);
        let mut wal = create(&disk);
        let (last, _) = burst(&mut wal);
        disk.faults().set(point, crate::disk::failure::Fault::errno(5).after(skip).times(1));
        while !matches!(wal.prepare(), Ok(false)) {}
        disk.faults().clear_all();
        // it goes on, with the files that are left
        let last = (0..40).map(|_| commit(&mut wal, 500).sequence).last().unwrap().max(last);
        drop(wal);
        disk.simulation().unwrap().crash();
        let (mut wal, seen) = recover_with(&disk, options(), last - 19).unwrap();
        assert_eq!(seen.records, expected(last - 19..=last, 500), "{point:?} after {skip}, seed {seed}");
        commit(&mut wal, 500);
    }
}

#[test]
fn a_file_is_not_used_again_while_someone_reads_it() {
    let disk = disk(1);
    let mut wal = create(&disk);
    let read = commit(&mut wal, 500);
    for _ in 0..200 {
        let last = commit(&mut wal, 500).sequence;
        wal.free_through(last);
    }
    assert_eq!(read.piece.read(read.offset, 500).unwrap(), payload(1, 500));
    assert_eq!(wal.pieces().counts().freed, 1);
    drop(read);
    assert_eq!(wal.pieces().counts().freed, 0);
}

#[test]
fn the_reserve_is_kept_for_what_must_go_on() {
    let disk = disk(1);
    let mut wal = create(&disk);
    prepare(&wal);
    commit(&mut wal, 10);
    let simulation = disk.simulation().unwrap();
    simulation.set_capacity(Some(simulation.used_bytes()));
    let mut taken = 1;
    let refused = loop {
        match wal.commit(&[&payload(taken + 1, 500)], Urgency::Normal) {
            Ok(committed) => taken = committed.sequence,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, CommitError::Full { .. }) && refused.is_full() && refused.is_certain(), "{refused}");
    assert_eq!(wal.pieces().counts().spare, 2);
    // a normal commit that fits into the current piece goes on
    assert_eq!(wal.commit(&[b"small"], Urgency::Normal).unwrap().sequence, taken + 1);

    let mut urgent = 0;
    while let Ok(committed) = wal.commit(&[&[7; 500]], Urgency::Reserve) {
        urgent += 1;
        assert_eq!(committed.sequence, taken + 1 + urgent);
    }
    assert!(urgent > 20, "{urgent}");
    assert!(matches!(wal.commit(&[&[7; 500]], Urgency::Reserve), Err(CommitError::Full { .. })));

    // room again, and all goes on without a restart
    simulation.set_capacity(None);
    prepare(&wal);
    let last = wal.commit(&[&[7; 500]], Urgency::Normal).unwrap().sequence;
    drop(wal);
    assert_eq!(recover(&disk).1.sequences(), (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_start_on_a_full_disk_works_and_writes_when_there_is_room() {
    let disk = disk(1);
    let mut wal = create(&disk);
    prepare(&wal);
    let simulation = disk.simulation().unwrap();
    simulation.set_capacity(Some(simulation.used_bytes()));
    while wal.commit(&[&payload(wal.last_sequence() + 1, 500)], Urgency::Reserve).is_ok() {}
    let last = wal.last_sequence();
    drop(wal);
    // it goes on in another piece each time, so this shows that it does without
    for _ in 0..5 {
        let (mut wal, seen) = recover(&disk);
        assert_eq!(seen.records, expected(1..=last, 500));
        assert!(matches!(wal.commit(&[&[1; 7_000]], Urgency::Reserve), Err(CommitError::Full { .. })));
    }
    simulation.set_capacity(None);
    let (mut wal, _) = recover(&disk);
    commit(&mut wal, 500);
    drop(wal);
    assert_eq!(recover(&disk).1.records, expected(1..=last + 1, 500));
}

#[test]
fn a_file_that_cannot_be_filled_gives_its_room_back() {
    let disk = disk(1);
    let mut wal = create(&disk);
    commit(&mut wal, 10);
    let simulation = disk.simulation().unwrap();
    let used = simulation.used_bytes();
    simulation.set_capacity(Some(used + u64::from(PIECE_BYTES) / 2));
    assert!(wal.prepare().unwrap_err().is_full());
    assert_eq!(simulation.used_bytes(), used);
}

#[test]
fn the_number_of_files_is_bounded() {
    let disk = disk(1);
    let mut wal = Wal::create(&disk, dir(), LOG_ID, 1, Options { max_pieces: 3, ..options() }).unwrap();
    let refused = loop {
        if let Err(e) = wal.commit(&[&payload(1, 500)], Urgency::Normal) {
            break e;
        }
    };
    assert!(matches!(refused, CommitError::Full { .. }), "{refused}");
    assert_eq!(wal.pieces().counts().files, 3);
}

#[test]
fn crashes_over_and_over_do_not_use_up_files() {
    let disk = disk(1);
    drop(create(&disk));
    let mut last = 0;
    for round in 0..100 {
        let (mut wal, seen) = recover_with(&disk, Options { salt_seed: round, ..options() }, 1).unwrap();
        assert_eq!(seen.records, expected(1..=last, 100));
        last = commit(&mut wal, 100).sequence;
        prepare(&wal);
        drop(wal);
        if round % 3 == 0 {
            disk.simulation().unwrap().crash();
        }
    }
    // 100 records of 128 bytes fill two pieces
    let (wal, _) = recover(&disk);
    let counts = wal.pieces().counts();
    assert!(counts.files <= 9, "{counts:?}");
}

#[test]
fn starts_without_commits_do_not_use_up_files() {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..13 {
        commit(&mut wal, 500);
    }
    prepare(&wal);
    drop(wal);
    let files = recover(&disk).0.pieces().counts().files;
    for round in 0..20 {
        let (wal, seen) = recover(&disk);
        assert_eq!(seen.records, expected(1..=13, 500));
        if round % 2 == 0 {
            wal.close().unwrap();
        }
    }
    assert_eq!(recover(&disk).0.pieces().counts().files, files);
}

#[test]
fn a_file_made_for_a_large_commit_is_used_again() {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..10 {
        let last = commit(&mut wal, 100 << 10).sequence;
        commit(&mut wal, 10);
        wal.free_through(last - 1);
    }
    let counts = wal.pieces().counts();
    assert!(counts.files <= 4, "{counts:?}");
}

#[test]
fn a_commit_waits_for_the_piece_that_another_thread_makes() {
    let disk = disk(1);
    let mut wal = create(&disk);
    let pieces = wal.pieces().clone();
    let blocked = disk.faults().block(Point::WalFill);
    std::thread::scope(|scope| {
        let filler = scope.spawn(move || pieces.prepare());
        assert!(blocked.wait_until_reached(std::time::Duration::from_secs(10)));
        let committer = scope.spawn(move || commit(&mut wal, 10).sequence);
        blocked.release();
        assert!(filler.join().unwrap().unwrap());
        assert_eq!(committer.join().unwrap(), 1);
    });
}

#[test]
fn a_filler_that_panics_leaves_the_rest_working() {
    let disk = disk(1);
    let mut wal = create(&disk);
    let pieces = wal.pieces().clone();
    disk.faults().set(Point::WalFill, crate::disk::failure::Fault::panic().times(1));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pieces.prepare()));
    assert!(panicked.is_err());
    assert_eq!(commit(&mut wal, 10).sequence, 1);
    prepare(&wal);
    assert_eq!(wal.pieces().counts().spare, 4);
}

#[test]
fn a_file_is_used_only_once_it_is_in_the_manifest() {
    // a crash at any moment of making files: the next start finds a log that it can use
    for seed in 0..200 {
        let disk = disk(seed);
        let mut wal = create(&disk);
        commit(&mut wal, 500);
        let fault = crate::disk::failure::Fault::panic().times(1);
        let points = [Point::WalFill, Point::ManifestWrite, Point::Rename, Point::SyncFolder];
        disk.faults().set(points[seed as usize % 4], fault.after(seed / 4 % 4));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(&wal)));
        assert!(panicked.is_err());
        disk.faults().clear_all();
        drop(wal);
        disk.simulation().unwrap().crash();
        let (mut wal, seen) = recover(&disk);
        assert_eq!(seen.records, expected(1..=1, 500));
        prepare(&wal);
        for _ in 0..60 {
            commit(&mut wal, 500);
        }
        drop(wal);
        assert_eq!(recover(&disk).1.records, expected(1..=61, 500));
    }
}
