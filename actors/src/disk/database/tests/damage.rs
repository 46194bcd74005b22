//! Damaged databases: what is told of them, and what salvage still finds in their raw files.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn a_file_of_another_length_is_damage_and_nothing_is_touched() {
    for place in places() {
        let written = place.write(entries(3, 100));
        let file = place.disk.open(Point::DatabaseOpen, &place.dir.join("db"), Open::ReadWrite).expect("opened");
        for bytes in [written.bytes - 1, 0, 100, written.bytes + 1] {
            file.set_len(Point::DatabaseOpen, bytes).expect("cut");
            assert!(place.fails_untouched(Some(written.bytes)).is_damage());
        }
    }
}

#[test]
fn a_missing_file_is_no_damage_and_is_not_made() {
    for name in ["db", "conf"] {
        let place = sled_place();
        let written = place.write(entries(3, 100));
        fs::remove_file(place.dir.join(name)).expect("removed");
        let e = place.fails_untouched(Some(written.bytes));
        assert!(matches!(&e, DatabaseError::Disk(e) if e.is_missing()), "{e}");
        assert!(e.to_string().contains(&place.dir.join(name).display().to_string()), "{e}");
    }
    let place = sled_place();
    assert!(matches!(place.fails_untouched(None), DatabaseError::Disk(_)));
    assert!(!place.dir.exists());
}

#[test]
fn a_database_that_cannot_be_read_is_not_taken_for_damaged() {
    let place = sled_place();
    let written = place.write(entries(30, 1000));
    let file = File::options().write(true).open(place.dir.join("db")).expect("opened");
    file.write_all_at(&[0x5a; 30_000], 0).expect("written");
    place.disk.faults().fail(Point::DatabaseRead, libc::EIO);
    let outcome = place.open(written).map(|db| db.get(&key(1)).expect_err("it cannot be read"));
    let e = outcome.unwrap_or_else(|e| e);
    assert!(!e.is_damage(), "{e}");
    place.disk.faults().clear_all();
    match place.open(written) {
        Ok(db) => assert_ne!(db.range::<Vec<u8>>(..).filter(Result::is_ok).count(), 30),
        Err(e) => assert!(e.is_damage(), "{e}"),
    }
}

#[test]
fn flipped_bits_are_errors_or_missing_values_and_never_a_panic_or_a_wrong_value_that_passes_its_check() {
    let place = sled_place();
    let written = place.write(entries(40, 2000));
    let whole = fs::read(place.dir.join("db")).expect("read");
    // what was written lies at the beginning
    let used = 40 * 2200;
    for seed in 0..25 {
        let mut bytes = whole.clone();
        bytes[noise(seed)() as usize % used] ^= 1 << (seed % 8);
        fs::write(place.dir.join("db"), &bytes).expect("written");
        let db = match place.open(written) {
            Ok(db) => db,
            Err(e) => {
                assert!(e.is_damage(), "{e}");
                continue;
            }
        };
        for entry in db.range::<Vec<u8>>(..) {
            match entry {
                Ok((key, found)) if whole_value(&found) == Some(found.len()) => {
                    let no = u64::from_be_bytes(key[1..9].try_into().expect("8 bytes"));
                    assert_eq!(found, value(no, 2000));
                }
                Ok(_) => {}
                Err(e) => assert!(e.is_damage(), "{e}"),
            }
        }
    }
}

fn salvaged(place: &Place) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    salvage(&place.disk, &place.dir, MAGIC, |bytes| {
        let len = whole_value(bytes)?;
        found.insert(bytes[..len].to_vec());
        Some(len)
    })
    .expect("read");
    found
}

#[test]
fn salvage_finds_every_value_in_the_raw_file() {
    for place in places() {
        // more than one step of the search, with values that lie across its ends
        let len = |no: u64| [VALUE_BYTES, 100, 20_000, VALUE_BYTES - 7][no as usize % 4];
        place.write((0..150).map(|no| (key(no), value(no, len(no)))));
        let found = salvaged(&place);
        assert!(found == (0..150).map(|no| value(no, len(no))).collect());
    }
}

#[test]
fn salvage_loses_only_the_value_that_is_damaged() {
    for place in places() {
        place.write(entries(60, VALUE_BYTES));
        let path = place.dir.join("db");
        let mut bytes = place.disk.read(Point::SalvageRead, &path).expect("read");
        // a value stands in the file as often as sled has written it
        for (no, at) in [(17, 30_000), (44, 9)] {
            let part = &value(no, VALUE_BYTES)[16..64];
            let places: Vec<_> = (0..bytes.len() - 48).filter(|i| &bytes[*i..i + 48] == part).collect();
            for place in places {
                bytes[place - 16 + at] ^= 4;
            }
        }
        let file = place.disk.open(Point::SalvageRead, &path, Open::ReadWrite).expect("opened");
        file.write_at(Point::DatabaseWrite, &bytes, 0).expect("written");
        let expected = (0..60).filter(|no| ![17, 44].contains(no)).map(|no| value(no, VALUE_BYTES));
        assert!(salvaged(&place) == expected.collect());
    }
}

#[test]
fn salvage_tells_when_the_file_cannot_be_read() {
    for place in places() {
        place.write(entries(3, 100));
        place.disk.faults().fail(Point::SalvageRead, libc::EIO);
        let e = salvage(&place.disk, &place.dir, MAGIC, |_| None).expect_err("it cannot be read");
        assert!(!e.is_damage(), "{e}");
    }
}
