//! The database of a simulated disk: what it loses in a crash and how it fails, as sled does on a real one.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_database_in_memory_survives_a_crash_with_all_its_names() {
    let [_, place] = places();
    let written = place.write(entries(20, 3000));
    for seed in 0..50 {
        let disk = place.disk.after_crash(seed).expect("a simulated disk");
        let db = Database::open(&disk, &place.dir, Some(written.bytes)).expect("opened");
        assert_eq!(entry_count(&db), 20);
    }
}

#[test]
fn a_database_in_memory_that_is_written_in_place_loses_at_most_what_was_not_synced() {
    let [_, place] = places();
    let db = Database::open_in_place(&place.disk, &place.dir).expect("opened");
    let put = |no| {
        let mut batch = Batch::default();
        batch.put(key(no), value(no, 700));
        db.apply(batch).expect("applied");
    };
    (0..10).for_each(put);
    db.sync().expect("synced");
    (10..20).for_each(put);
    let mut counts = BTreeSet::new();
    for seed in 0..100 {
        let disk = place.disk.after_crash(seed).expect("a simulated disk");
        let db = Database::open_in_place(&disk, &place.dir).expect("opened");
        counts.insert(entry_count(&db));
    }
    assert!(counts.first() == Some(&10) && counts.last() == Some(&20) && counts.len() > 3, "{counts:?}");
}

#[test]
fn a_database_in_memory_fails_for_good_after_one_failed_write_until_it_is_opened_again() {
    let [_, place] = places();
    let open = || Database::open_in_place(&place.disk, &place.dir).expect("opened");
    let put = |db: &Database| {
        let mut batch = Batch::default();
        batch.put(key(1), value(1, 100));
        db.apply(batch).and_then(|()| db.sync())
    };
    let db = open();
    place.disk.faults().set(Point::DatabaseWrite, Fault::errno(libc::ENOSPC).times(1));
    assert!(put(&db).expect_err("no room").is_full());
    put(&db).expect_err("it has failed once");
    drop(db);
    let db = open();
    assert_eq!(entry_count(&db), 0);
    put(&db).expect("there is room");
}

#[test]
fn a_flipped_bit_in_a_database_in_memory_is_damage() {
    let [_, place] = places();
    let written = place.write(entries(20, 300));
    let disk = place.disk.simulation().expect("a simulated disk");
    for offset in [0, 1, 200, written.bytes - 1] {
        disk.damage(&place.dir.join("db"), offset, 1).expect("flipped");
        assert!(place.open(written).expect_err("damaged").is_damage());
        disk.damage(&place.dir.join("db"), offset, 1).expect("flipped back");
    }
    place.open(written).expect("opened");
}
