//! Flipped bits, and files that are missing, cut short, mixed up or blank.

use rstest::rstest;

use super::super::header::{HEADER_AREA_BYTES, HEADER_BYTES, SECOND_COPY};
use super::super::{PIECE_MIN_BYTES, record};
use super::*;
use crate::disk::{Open, Point};

/// Bytes of each payload: not a multiple of 8, so that there is padding.
const BYTES: usize = 2_300;
const COMMITS: u64 = 7;

/// A log of three pieces with three records each, but one in the last.
fn log(clean: bool) -> Disk {
    let disk = disk(1);
    let mut wal = create(&disk);
    for _ in 0..COMMITS {
        commit(&mut wal, BYTES);
    }
    assert_eq!(wal.counts().begun, 3);
    if clean {
        wal.close().unwrap()
    } else {
        drop(wal)
    }
    disk
}

/// The disk with one bit flipped.
fn flipped(disk: &Disk, path: &Path, bit: u64) -> Disk {
    let disk = disk.after_crash(1).unwrap();
    disk.simulation().unwrap().damage(path, bit / 8, 1 << (bit % 8)).unwrap();
    disk
}

fn header_bits() -> impl Iterator<Item = u64> {
    [0, SECOND_COPY].into_iter().flat_map(|at| at as u64 * 8..(at + HEADER_BYTES) as u64 * 8)
}

/// The bits of a record by its place in the piece, but of its payload only each 97th.
fn record_bits(index: u64) -> impl Iterator<Item = u64> {
    let at = (HEADER_AREA_BYTES as u64 + index * record::size(BYTES) as u64) * 8;
    let (payload, padding) = (at + 24 * 8, at + (24 + BYTES as u64) * 8);
    (at..payload).chain((payload..padding).step_by(97)).chain(padding..at + record::size(BYTES) as u64 * 8)
}

/// Checks what a flipped bit did: nothing is silently wrong, and no more than `record` is lost.
fn check(disk: &Disk, record: Option<u64>, place: &str) {
    let seen = look(disk).unwrap();
    let (wal, recovered) = recover(disk);
    assert_eq!(seen, recovered, "{place}");
    assert_eq!(wal.last_sequence(), COMMITS, "{place}");
    let all = expected(1..=COMMITS, BYTES);
    if seen.records == all {
        assert_eq!(seen.damaged, [], "{place}");
        assert_eq!(seen.healed.len(), 1, "{place}");
    } else {
        let lost = record.expect(place);
        let rest: Vec<_> = all.into_iter().filter(|(sequence, _)| *sequence != lost).collect();
        assert_eq!(seen.records, rest, "{place}");
        assert_eq!(seen.damaged, vec![lost..=lost], "{place}");
    }
}

#[test]
fn a_flipped_bit_in_a_header_costs_nothing_is_told_and_mended() {
    let disk = log(true);
    for piece in 1..=3 {
        for bit in header_bits() {
            let disk = flipped(&disk, &file(piece), bit);
            check(&disk, None, &format!("piece {piece}, bit {bit}"));
            assert_eq!(recover(&disk).1.healed, Vec::<String>::new(), "mended by the first start");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_record_costs_no_more_than_it_and_is_told() {
    let disk = log(true);
    for sequence in 1..=COMMITS {
        for bit in record_bits((sequence - 1) % 3) {
            let disk = flipped(&disk, &file((sequence as usize - 1) / 3 + 1), bit);
            check(&disk, Some(sequence), &format!("record {sequence}, bit {bit}"));
        }
    }
}

#[test]
fn a_flipped_bit_in_the_manifest_costs_nothing_and_is_told() {
    let disk = log(true);
    let manifest = dir().join("manifest");
    for bit in 0..disk.len(&manifest).unwrap().unwrap() * 8 {
        check(&flipped(&disk, &manifest, bit), None, &format!("bit {bit}"));
    }
}

#[test]
fn a_flipped_bit_where_nothing_is_written_changes_nothing() {
    let disk = log(true);
    let unused = HEADER_AREA_BYTES + record::size(BYTES);
    for at in [100, 600, SECOND_COPY + HEADER_BYTES, unused, unused + 24, PIECE_BYTES as usize - 1] {
        let seen = look(&flipped(&disk, &file(3), at as u64 * 8)).unwrap();
        assert_eq!(seen, Seen { records: expected(1..=COMMITS, BYTES), ..Seen::default() }, "byte {at}");
    }
}

#[test]
fn after_a_kill_a_flipped_bit_in_the_last_record_may_be_taken_for_the_end_and_in_any_other_is_told() {
    let disk = log(false);
    for sequence in 1..=COMMITS {
        for bit in record_bits((sequence - 1) % 3).step_by(7) {
            let disk = flipped(&disk, &file((sequence as usize - 1) / 3 + 1), bit);
            if sequence < COMMITS {
                check(&disk, Some(sequence), &format!("record {sequence}, bit {bit}"));
            } else {
                assert_eq!(look(&disk).unwrap().records[..6], expected(1..=6, BYTES));
            }
        }
    }
}

#[test]
fn a_damaged_record_is_told_at_every_start_and_never_comes_back_as_another_one() {
    let disk = log(true);
    // the last one, so that its sequence could be given out again
    let disk = flipped(&disk, &file(3), (HEADER_AREA_BYTES as u64 + 100) * 8);
    let mut last = COMMITS;
    for round in 0..5 {
        let (mut wal, seen) = recover_with(&disk, Options { salt_seed: 50 + round, ..options() }, 1).unwrap();
        assert_eq!(seen.damaged, vec![7..=7]);
        assert_eq!(seen.sequences(), (1..7).chain(8..=last).collect::<Vec<_>>());
        last = commit(&mut wal, 50).sequence;
    }
}

#[test]
fn a_piece_with_two_damaged_headers_is_told_or_stops_the_start() {
    let damaged = |piece: usize| {
        let disk = flipped(&log(true), &file(piece), 77);
        flipped(&disk, &file(piece), SECOND_COPY as u64 * 8 + 99)
    };
    let seen = look(&damaged(2)).unwrap();
    assert_eq!((seen.sequences(), seen.damaged), (vec![1, 2, 3, 7], vec![4..=6]));
    assert!(matches!(look(&damaged(1)), Err(WalError::Gap { needed: 1, found: 4, .. })));
    assert!(matches!(look(&damaged(3)), Err(WalError::Unreadable { .. })));
}

fn refusal(disk: &Disk) -> WalError {
    let used = disk.simulation().unwrap().used_bytes();
    let refusal = recover_with(disk, options(), 1).map(|(_, seen)| seen).expect_err("a start");
    assert_eq!(format!("{refusal}"), format!("{}", look(disk).unwrap_err()));
    assert_eq!(disk.simulation().unwrap().used_bytes(), used, "a start that fails leaves everything as it is");
    refusal
}

#[rstest]
#[case(1)]
#[case(2)]
#[case(3)]
fn a_missing_file_stops_the_start(#[case] piece: usize) {
    let disk = log(true);
    disk.rename(&file(piece), Path::new("/data/aside")).unwrap();
    let refused = refusal(&disk);
    assert!(matches!(&refused, WalError::Missing { path } if *path == file(piece)), "{refused}");
    assert_eq!(refused.to_string(), format!("/data/wal/0000000{piece} is missing"));

    // and the next one under good conditions finds everything
    disk.rename(Path::new("/data/aside"), &file(piece)).unwrap();
    assert_eq!(recover(&disk).1.records, expected(1..=COMMITS, BYTES));
}

#[test]
fn a_missing_manifest_stops_the_start() {
    let disk = log(true);
    disk.remove_file(&dir().join("manifest")).unwrap();
    assert!(matches!(refusal(&disk), WalError::Missing { .. }));
}

#[test]
fn a_damaged_manifest_stops_the_start() {
    let disk = log(true);
    let manifest = dir().join("manifest");
    let half = disk.len(&manifest).unwrap().unwrap() / 2;
    let disk = flipped(&flipped(&disk, &manifest, 9), &manifest, (half + 9) * 8);
    assert!(matches!(refusal(&disk), WalError::Manifest { .. }));
}

#[test]
fn a_file_that_was_cut_short_stops_the_start() {
    for piece in 1..=3 {
        for len in [0, 100, 8_192, 10_000, u64::from(PIECE_BYTES) - 1] {
            let disk = log(true);
            disk.open(Point::WalOpen, &file(piece), Open::ReadWrite).unwrap().set_len(Point::WalWrite, len).unwrap();
            let refused = refusal(&disk);
            assert!(matches!(refused, WalError::Truncated { found_bytes, .. } if found_bytes == len), "{refused}");
        }
    }
}

#[test]
fn a_file_that_was_blanked_after_a_clean_stop_is_told() {
    for (piece, lost) in [(2, 4..=6), (3, 7..=7)] {
        let disk = log(true);
        let zeros = vec![0; PIECE_BYTES as usize];
        disk.open(Point::WalOpen, &file(piece), Open::ReadWrite).unwrap().write_at(Point::WalWrite, &zeros, 0).unwrap();
        let (wal, seen) = recover(&disk);
        assert_eq!(seen.damaged, vec![lost]);
        assert_eq!(wal.last_sequence(), COMMITS);
    }
}

fn copy(from: &Disk, to: &Disk, source: &Path, target: &Path) {
    let bytes = from.read(Point::WalRead, source).unwrap();
    to.open(Point::WalOpen, target, Open::CreateOrOpen).unwrap().write_at(Point::WalWrite, &bytes, 0).unwrap();
}

#[test]
fn a_piece_of_another_log_stops_the_start() {
    let (one, other) = (log(true), disk(2));
    let mut wal = Wal::create(&other, dir(), LogId([8; 16]), 1, options()).unwrap();
    commit(&mut wal, BYTES);
    copy(&other, &one, &file(1), &file(2));
    let refused = refusal(&one);
    assert!(matches!(&refused, WalError::Foreign { path, .. } if *path == file(2)), "{refused}");
}

#[test]
fn a_copy_of_another_piece_stops_the_start() {
    let disk = log(true);
    copy(&disk, &disk, &file(3), &file(2));
    assert!(matches!(refusal(&disk), WalError::Foreign { .. }));
}

#[test]
fn a_piece_of_another_history_of_the_same_log_stops_the_start() {
    let (one, other) = (log(true), disk(2));
    let mut wal = create(&other);
    for sequence in 1..=COMMITS {
        wal.commit(&[&payload(sequence + 100, BYTES)], Urgency::Normal).unwrap();
    }
    copy(&other, &one, &file(2), &file(2));
    let refused = refusal(&one);
    assert!(matches!(&refused, WalError::Foreign { path, .. } if *path == file(2)), "{refused}");
}

#[test]
fn an_older_manifest_is_told_and_every_piece_is_found() {
    let disk = disk(1);
    let mut wal = create(&disk);
    commit(&mut wal, BYTES);
    let older = disk.read(Point::ManifestRead, &dir().join("manifest")).unwrap();
    for _ in 1..COMMITS {
        commit(&mut wal, BYTES);
    }
    drop(wal);
    disk.replace(Point::ManifestWrite, &dir().join("manifest"), &older).unwrap();
    let (mut wal, seen) = recover(&disk);
    assert_eq!((seen.records, seen.healed.len()), (expected(1..=COMMITS, BYTES), 1));
    // the pieces are not taken for new ones
    for _ in 0..10 {
        commit(&mut wal, BYTES);
    }
    drop(wal);
    assert_eq!(recover(&disk).1.records, expected(1..=COMMITS + 10, BYTES));
}

#[test]
fn bytes_that_look_like_a_record_in_a_payload_are_not_taken_for_one() {
    let disk = disk(1);
    let mut wal = create(&disk);
    // a copy of the log's own bytes as the payload of a torn last record
    commit(&mut wal, 300);
    commit(&mut wal, 300);
    let bytes = disk.read(Point::WalRead, &file(1)).unwrap();
    wal.commit(&[&bytes[HEADER_AREA_BYTES..][..2_000]], Urgency::Normal).unwrap();
    drop(wal);
    let at = HEADER_AREA_BYTES + 2 * record::size(300);
    let disk = flipped(&disk, &file(1), (at as u64 + 4) * 8);
    assert_eq!(look(&disk).unwrap(), Seen { records: expected(1..=2, 300), ..Seen::default() });
}

#[test]
fn a_failing_read_stops_the_start_and_the_next_one_finds_everything() {
    let disk = log(true);
    // three headers and the first piece
    for nth in 0..4 {
        disk.faults().set(Point::WalRead, crate::disk::failure::Fault::errno(libc::EIO).after(nth).times(1));
        let refused = recover_with(&disk, options(), 1).map(|(_, seen)| seen).unwrap_err();
        assert!(matches!(refused, WalError::Disk(_)), "{refused}");
    }
    for (point, errno) in
        [(Point::WalOpen, libc::EACCES), (Point::WalOpen, libc::EMFILE), (Point::ManifestRead, libc::EIO)]
    {
        disk.faults().fail(point, errno);
        assert!(matches!(refusal(&disk), WalError::Disk(_)));
        disk.faults().clear(point);
    }
    assert_eq!(recover(&disk).1.records, expected(1..=COMMITS, BYTES));
}

#[rstest]
#[case::of_a_header(0..3, &[])]
#[case::of_the_first_piece(3..4, &[1])]
#[case::of_the_second_piece(4..5, &[4])]
#[case::of_the_newest_piece(5..6, &[7])]
fn a_bad_read_does_not_become_damage_on_the_disk(#[case] reads: std::ops::Range<u64>, #[case] lost: &[u64]) {
    for nth in reads {
        let disk = log(true);
        disk.faults().set(Point::WalRead, crate::disk::failure::Fault::damage().after(nth).times(1));
        let mut seen = Seen::default();
        let told = |told: Recovered<'_>| match told {
            Recovered::Record { sequence, payload, .. } => seen.records.push((sequence, payload.to_vec())),
            Recovered::Damaged { from, through, .. } => seen.damaged.push(from..=through),
            Recovered::Healed { at } => seen.healed.push(at),
        };
        drop(Wal::recover(&disk, dir(), options(), 1, told).unwrap());
        assert_eq!(seen.damaged, lost.iter().map(|&sequence| sequence..=sequence).collect::<Vec<_>>());
        assert_eq!(seen.sequences(), (1..=COMMITS).filter(|sequence| !lost.contains(sequence)).collect::<Vec<_>>());
        assert_eq!(recover(&disk).1, Seen { records: expected(1..=COMMITS, BYTES), ..Seen::default() });
    }
}

#[test]
fn the_smallest_piece_suffices() {
    let disk = disk(1);
    let mut wal =
        Wal::create(&disk, dir(), LOG_ID, 1, Options { piece_bytes: 1, reserve_pieces: 0, ..options() }).unwrap();
    commit(&mut wal, 10);
    assert_eq!(disk.len(&file(1)).unwrap(), Some(u64::from(PIECE_MIN_BYTES)));
}
