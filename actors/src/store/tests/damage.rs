//! What damage on the disk takes, and that it takes no more.

use tempfile::TempDir;

use super::*;

fn segment(dir: &TempDir, seq: u32) -> std::path::PathBuf {
    dir.path().join("log").join(format!("{seq:010}"))
}

/// Damages the second of three segments, and checks that its neighbours are readable and the hole is announced.
fn only_the_second_is_lost(damage: impl Fn(&Path), in_quarantine: bool) {
    let dir = TempDir::new().unwrap();
    drop(segmented(&dir, 3));
    damage(&segment(&dir, 2));
    let now_ms = START_MS + 300_000;
    let (log, report) = Log::open(options(dir.path()), now_ms).unwrap();
    assert_eq!(report.quarantined.len(), usize::from(in_quarantine));
    assert_eq!(log.stats().quarantined, report.quarantined);
    for aside in &report.quarantined {
        assert!(Path::new(aside).join("reason").exists());
    }
    let expected: Vec<EventId> = (0..10).chain(20..40).map(id).collect();
    let found = of_channel(&log, 1);
    assert!(expected.iter().all(|id| found.contains(id)), "the other segments are readable");
    assert!(log.lost_between(ChannelNo(1), id(9), EventId::MAX), "{found:?}");
    assert!(log.lost_between(ChannelNo::ALL, id(5), id(25)));
    assert!(!log.lost_between(ChannelNo(1), id(20), EventId::MAX));
    assert!(!log.lost_between(ChannelNo(1), id(0), id(5)));
    let (after, through) = log.damaged_between(EventId::ZERO, EventId::MAX).expect("a range");
    assert!(after >= id(9) && after < id(10) && through >= id(19) && through < id(20), "{after} {through}");
    assert_eq!(log.damaged_between(id(12), id(15)), Some((id(12), id(15))));
    assert_eq!(log.damaged_between(EventId::ZERO, id(9)), None);
    assert_eq!(log.damaged_between(id(19), EventId::MAX), None);
    log.append(&commit(vec![event(EventId::at_time(now_ms as u64), 1, 10)]), now_ms).unwrap();
    drop(log);
    let log = open(&options(dir.path()), now_ms);
    assert!(log.lost_between(ChannelNo::ALL, id(5), id(25)), "it is still known after a restart");
    assert!(!log.lost_between(ChannelNo::ALL, id(20), EventId::MAX));
    assert_eq!(of_channel(&log, 1).len(), found.len() + 1);
}

#[test]
fn a_segment_that_is_overwritten_goes_into_quarantine() {
    only_the_second_is_lost(
        |path| {
            let length = std::fs::metadata(path.join("db")).unwrap().len();
            std::fs::write(path.join("db"), vec![0x5a; length as usize]).unwrap();
        },
        true,
    );
}

#[test]
fn a_segment_without_its_file_goes_into_quarantine() {
    only_the_second_is_lost(|path| std::fs::remove_file(path.join("db")).unwrap(), true);
}

#[test]
fn a_segment_whose_folder_was_taken_away_is_announced() {
    only_the_second_is_lost(|path| std::fs::remove_dir_all(path).unwrap(), false);
}

#[test]
fn a_truncated_segment_is_announced_whether_it_opens_or_not() {
    for length in [0, 100, 1500] {
        let dir = TempDir::new().unwrap();
        drop(segmented(&dir, 2));
        let file = std::fs::File::options().write(true).open(segment(&dir, 2).join("db")).unwrap();
        file.set_len(length).unwrap();
        let (log, _) = Log::open(options(dir.path()), START_MS + 300_000).unwrap();
        assert!(log.lost_between(ChannelNo(1), id(9), EventId::MAX), "cut to {length}");
        let found = of_channel(&log, 1);
        assert!((0..10).chain(20..30).all(|n| found.contains(&id(n))), "cut to {length}");
    }
}

#[test]
fn ids_do_not_go_back_when_the_newest_segment_is_lost() {
    let dir = TempDir::new().unwrap();
    let log = segmented(&dir, 1);
    let head = log.head();
    drop(log);
    std::fs::write(segment(&dir, 2).join("db"), vec![0x5a; 1 << 20]).unwrap();
    let (log, report) = Log::open(options(dir.path()), START_MS + 120_000).unwrap();
    assert_eq!(report.quarantined.len(), 1);
    assert!(log.head() >= head);
}

#[test]
fn a_segment_whose_making_was_cut_short_is_no_damage() {
    let dir = TempDir::new().unwrap();
    drop(segmented(&dir, 1));
    std::fs::remove_dir_all(segment(&dir, 2)).unwrap();
    std::fs::create_dir_all(segment(&dir, 2).join("blobs")).unwrap();
    let log = open(&options(dir.path()), START_MS + 60_000);
    assert_eq!(of_channel(&log, 1).len(), 10);
    assert!(!log.lost_between(ChannelNo::ALL, EventId::ZERO, EventId::MAX));
}

#[test]
fn a_ledger_of_losses_that_cannot_be_read_announces_a_gap_before_the_oldest_event() {
    let dir = TempDir::new().unwrap();
    drop(segmented(&dir, 1));
    std::fs::write(dir.path().join("log/lost.json"), "{").unwrap();
    let log = open(&options(dir.path()), START_MS + 60_000);
    assert!(log.lost_between(ChannelNo(1), EventId::ZERO, EventId::MAX));
    assert_eq!(of_channel(&log, 1).len(), 20);
}
