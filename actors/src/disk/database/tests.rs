//! Databases of sled, and those of a simulated disk beside them where both have to do the same.

mod damage;
mod memory;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use super::*;
use crate::disk::Faults;
use crate::disk::failure::Fault;

const MAGIC: &[u8; 8] = b"A VALUE:";

/// Numbers that look like chance and are the same each time.
fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn key(no: u64) -> Vec<u8> {
    [b"c".as_slice(), &no.to_be_bytes()].concat()
}

/// A value as the log has it: magic, length, checksum, bytes.
fn value(no: u64, len: usize) -> Vec<u8> {
    let mut noise = noise(no + 1);
    let mut value = MAGIC.to_vec();
    value.extend_from_slice(&(len as u32).to_le_bytes());
    value.extend_from_slice(&[0; 4]);
    while value.len() < len {
        value.extend_from_slice(&noise().to_le_bytes());
    }
    value.truncate(len.max(16));
    let crc = crc32c::crc32c(&value[16..]);
    value[12..16].copy_from_slice(&crc.to_le_bytes());
    value
}

/// How long the value at the beginning of these bytes is, when it is whole.
fn whole_value(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let len = number(8)? as usize;
    (crc32c::crc32c(bytes.get(16..len)?) == number(12)?).then_some(len)
}

fn entries(count: u64, len: usize) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    (0..count).map(move |no| (key(no), value(no, len)))
}

struct Place {
    disk: Disk,
    dir: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

/// A folder for a database of sled, and one for a database in memory.
fn places() -> [Place; 2] {
    let disk = Disk::simulated(1);
    disk.create_dir_all(Path::new("/data")).expect("a folder");
    disk.sync_dir(Path::new("/")).expect("synced");
    [sled_place(), Place { disk, dir: "/data/0000000001".into(), _folder: None }]
}

fn sled_place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    Place { disk: Disk::real(), dir: folder.path().join("0000000001"), _folder: Some(folder) }
}

impl Place {
    fn write(&self, entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Written {
        Database::write(&self.disk, &self.dir, entries).expect("written")
    }

    fn open(&self, expected: Written) -> Result<Database, DatabaseError> {
        Database::open(&self.disk, &self.dir, Some(expected.bytes))
    }

    /// Everything that can be seen of the folder of a database on the real disk.
    fn appearance(&self) -> BTreeMap<PathBuf, (u64, u32, SystemTime, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let metadata = fs::metadata(&path).expect("metadata");
                let bytes = if metadata.is_dir() { Vec::new() } else { fs::read(&path).expect("read") };
                let modified = metadata.modified().expect("a time");
                seen.insert(path.clone(), (metadata.len(), metadata.mode(), modified, bytes));
                if metadata.is_dir() {
                    folders.push(path);
                }
            }
        }
        seen
    }

    /// Opens the database, which must fail and leave everything as it is.
    fn fails_untouched(&self, expected_bytes: Option<u64>) -> DatabaseError {
        let before = self.appearance();
        let e = Database::open(&self.disk, &self.dir, expected_bytes).expect_err("it does not open");
        assert!(before == self.appearance(), "something was made or changed: {e}");
        e
    }
}

#[test]
fn what_was_written_is_read_by_key_and_in_order_from_both_ends() {
    for place in places() {
        let written = place.write(entries(100, 300));
        let db = place.open(written).expect("opened");
        assert_eq!(db.get(&key(42)).expect("read").as_deref(), Some(&value(42, 300)[..]));
        assert_eq!(db.get(&key(100)).expect("read"), None);
        let keys = |range: Range<'_>| range.map(|entry| entry.expect("read").0.to_vec()).collect::<Vec<_>>();
        let all: Vec<_> = (0..100).map(key).collect();
        assert_eq!(keys(db.range::<Vec<u8>>(..)), all);
        assert_eq!(keys(db.range(key(10)..key(13))), all[10..13]);
        assert_eq!(keys(db.range(key(10)..=key(13))), all[10..=13]);
        assert_eq!(keys(db.range((Bound::Excluded(key(10)), Bound::Unbounded))), all[11..]);
        assert_eq!(keys(db.range(key(10)..key(10))), [] as [Vec<u8>; 0]);
        assert_eq!(keys(db.range(key(13)..key(10))), [] as [Vec<u8>; 0]);
        let back: Vec<_> = db.range(..=key(50)).rev().map(|entry| entry.expect("read").0.to_vec()).collect();
        assert_eq!(back, all[..=50].iter().rev().cloned().collect::<Vec<_>>());
    }
}

#[test]
fn a_range_that_is_read_from_both_ends_gives_each_entry_once() {
    for place in places() {
        let db = place.open(place.write(entries(60, 100))).expect("opened");
        for seed in 0..20 {
            let mut noise = noise(seed);
            let (mut range, mut low, mut high) = (db.range::<Vec<u8>>(..), 0, 60);
            while low < high {
                if noise().is_multiple_of(3) {
                    high -= 1;
                    assert_eq!(range.next_back().expect("an entry").expect("read").0, key(high));
                } else {
                    assert_eq!(range.next().expect("an entry").expect("read").0, key(low));
                    low += 1;
                }
            }
            assert!(range.next().is_none() && range.next_back().is_none());
        }
    }
}

#[test]
fn an_empty_database_and_the_longest_value_are_kept() {
    for place in places() {
        let db = place.open(place.write(std::iter::empty())).expect("opened");
        assert!(db.range::<Vec<u8>>(..).next().is_none());
    }
    for place in places() {
        let db = place.open(place.write(entries(30, VALUE_BYTES))).expect("opened");
        for no in 0..30 {
            assert!(db.get(&key(no)).expect("read").is_some_and(|found| found == value(no, VALUE_BYTES)));
        }
    }
}

#[test]
fn a_folder_with_a_database_in_it_is_not_written_again() {
    for place in places() {
        let written = place.write(entries(3, 100));
        let e = Database::write(&place.disk, &place.dir, entries(1, 100)).expect_err("there is one");
        assert!(matches!(&e, DatabaseError::Disk(e) if e.source.kind() == io::ErrorKind::AlreadyExists), "{e}");
        assert_eq!(entry_count(&place.open(written).expect("opened")), 3);
    }
}

#[test]
fn a_database_keeps_its_length_however_often_it_is_opened_and_read() {
    // among them some that end close to the end of a sled segment
    for (count, len) in [(1, 10), (50, 1000), (82, VALUE_BYTES), (83, VALUE_BYTES), (84, VALUE_BYTES), (170, 25_000)] {
        let place = sled_place();
        let written = place.write(entries(count, len));
        let bytes = fs::read(place.dir.join("db")).expect("read");
        assert_eq!(bytes.len() as u64, written.bytes);
        for _ in 0..4 {
            let db = place.open(written).expect("opened");
            assert_eq!(entry_count(&db) as u64, count);
        }
        // the last close is over when the lock is free
        drop(place.open(written).expect("opened"));
        assert!(fs::read(place.dir.join("db")).expect("read") == bytes, "its bytes have changed");
    }
}

#[test]
fn a_database_takes_hardly_more_room_than_its_values() {
    let place = sled_place();
    let (count, len) = (250, VALUE_BYTES);
    let written = place.write(entries(count, len));
    let values = count * len as u64;
    let sled_segment = 4 * 1024 * 1024;
    assert!(written.bytes <= values * 105 / 100 + sled_segment, "{} bytes for {values}", written.bytes);
    let names: Vec<_> = place.disk.list(&place.dir.join("blobs")).expect("listed");
    assert_eq!(names, [], "no value is a file of its own");
}

#[test]
fn only_the_servers_user_may_read_the_files() {
    let place = sled_place();
    place.write(entries(3, 100));
    for (path, (_, mode, ..)) in place.appearance() {
        if path.is_file() {
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }
    assert_eq!(fs::metadata(&place.dir).expect("metadata").mode() & 0o777, 0o700);
}

#[test]
fn a_database_that_is_open_is_locked_and_opens_again_after_the_close() {
    for place in places() {
        let written = place.write(entries(3, 100));
        for _ in 0..20 {
            let db = place.open(written).expect("opened");
            let e = place.open(written).expect_err("it is open");
            assert!(matches!(e, DatabaseError::Locked { .. }), "{e}");
            drop(db);
        }
    }
}

#[test]
fn a_lock_of_another_process_is_not_waited_for_and_nothing_is_touched() {
    let place = sled_place();
    let written = place.write(entries(3, 100));
    let other = File::open(place.dir.join("db")).expect("opened");
    other.try_lock().expect("locked");
    let e = place.fails_untouched(Some(written.bytes));
    assert!(matches!(e, DatabaseError::Locked { .. }), "{e}");
    assert!(!e.is_damage());
    drop(other);
    place.open(written).expect("opened");
}

#[test]
fn an_error_of_the_system_on_opening_is_no_damage_and_touches_nothing() {
    let place = sled_place();
    let written = place.write(entries(3, 100));
    for errno in [libc::EACCES, libc::EMFILE, libc::ENFILE, libc::EIO, libc::ENOSPC, libc::ENOMEM] {
        place.disk.faults().fail(Point::DatabaseOpen, errno);
        let e = place.fails_untouched(Some(written.bytes));
        assert!(matches!(&e, DatabaseError::Disk(e) if e.source.raw_os_error() == Some(errno)), "{e}");
        assert!(e.to_string().contains(&place.dir.join("db").display().to_string()), "{e}");
    }
    place.disk.faults().clear_all();
    place.open(written).expect("opened");
}

/// How many entries there are, which must all be readable.
fn entry_count(db: &Database) -> usize {
    db.range::<Vec<u8>>(..).inspect(|entry| assert!(entry.is_ok(), "{entry:?}")).count()
}

#[test]
fn a_range_goes_on_when_the_database_was_closed_and_opened_in_between() {
    let place = sled_place();
    let db = place.open(place.write(entries(100, 1000))).expect("opened");
    let Database::Sled(sled) = &db else { panic!("it is of sled") };
    let (mut range, held) = (db.range::<Vec<u8>>(..), db.get(&key(7)).expect("read"));
    for no in 0..100 {
        if no % 10 == 0 {
            sled.reopen().expect("opened again");
        }
        assert_eq!(range.next().expect("an entry").expect("read").1, value(no, 1000));
    }
    assert_eq!(held.as_deref(), Some(&value(7, 1000)[..]));
}

#[test]
fn a_large_database_is_closed_and_opened_on_the_way_so_that_sled_keeps_little_of_it() {
    let place = sled_place();
    let openings = || place.disk.faults().passed(Point::DatabaseOpen);
    let written = place.write(entries(800, VALUE_BYTES));
    let db = place.open(written).expect("opened");
    let before = openings();
    for (no, entry) in db.range::<Vec<u8>>(..).enumerate() {
        assert!(entry.expect("read").1 == value(no as u64, VALUE_BYTES));
    }
    assert!(openings() - before >= 2, "{} openings", openings() - before);
    // an opening that fails on the way is told once, and tried again
    place.disk.faults().set(Point::DatabaseOpen, Fault::errno(libc::EMFILE).times(1));
    let outcomes: Vec<_> = (0..100).map(|no| db.get(&key(no))).collect();
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(matches!(failed[..], [DatabaseError::Failed { .. }]), "{failed:?}");
}

#[test]
fn threads_read_while_a_database_is_closed_and_opened_again() {
    let place = sled_place();
    let db = place.open(place.write(entries(50, 3000))).expect("opened");
    let Database::Sled(sled) = &db else { panic!("it is of sled") };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(entry_count(&db), 50);
                }
            });
        }
        for _ in 0..10 {
            sled.reopen().expect("opened again");
        }
    });
}

#[test]
fn a_database_that_did_not_open_again_is_tried_with_the_next_step() {
    let place = sled_place();
    let db = place.open(place.write(entries(100, 1000))).expect("opened");
    let Database::Sled(sled) = &db else { panic!("it is of sled") };
    let conf = place.dir.join("conf");
    let away = place.dir.join("away");
    fs::rename(&conf, &away).expect("renamed");
    fs::create_dir(&conf).expect("made");
    let e = sled.reopen().expect_err("its conf is no file");
    assert!(!e.is_damage(), "{e}");
    assert!(db.get(&key(1)).is_err());
    fs::remove_dir(&conf).expect("removed");
    fs::rename(&away, &conf).expect("renamed");
    assert!(db.get(&key(1)).expect("read").is_some());
}

#[test]
fn a_database_in_place_keeps_what_was_applied_and_synced() {
    for place in places() {
        let open = || Database::open_in_place(&place.disk, &place.dir).expect("opened");
        let db = open();
        for no in 0..50 {
            let mut batch = Batch::default();
            batch.put(key(no), value(no, 500));
            if no % 2 == 1 {
                batch.delete(key(no - 1));
            }
            db.apply(batch).expect("applied");
        }
        db.sync().expect("synced");
        drop(db);
        let db = open();
        let keys: Vec<_> = db.range::<Vec<u8>>(..).map(|entry| entry.expect("read").0.to_vec()).collect();
        assert_eq!(keys, (0..50).filter(|no| no % 2 == 1).map(key).collect::<Vec<_>>());
        assert!(db.bytes().expect("a length") > 0);
    }
}

#[test]
fn a_database_in_place_whose_making_was_cut_off_is_made_again() {
    let place = sled_place();
    fs::create_dir_all(&place.dir).expect("made");
    File::create(place.dir.join("db")).expect("made");
    let db = Database::open_in_place(&place.disk, &place.dir).expect("opened");
    let mut batch = Batch::default();
    batch.put(key(1), value(1, 100));
    db.apply(batch).expect("applied");
}

#[test]
fn a_write_that_fails_is_told_with_its_reason() {
    for place in places() {
        place.disk.faults().set(Point::DatabaseWrite, Fault::errno(libc::ENOSPC).after(1));
        let e = Database::write(&place.disk, &place.dir, entries(30, 1000)).expect_err("no room");
        assert!(e.is_full(), "{e}");
        place.disk.faults().clear_all();
        place.disk.remove_dir_all(&place.dir).expect("removed");
        place.disk.faults().fail(Point::DatabaseSync, libc::EIO);
        let e = Database::write(&place.disk, &place.dir, entries(30, 1000)).expect_err("no sync");
        assert!(!e.is_full() && !e.is_damage(), "{e}");
        assert!(e.cure().as_str().contains("dmesg"), "{}", e.cure());
        place.disk.faults().clear_all();
        place.disk.remove_dir_all(&place.dir).expect("removed");
        place.write(entries(30, 1000));
    }
}

#[test]
fn faults_of_one_disk_are_not_those_of_another() {
    let (one, other) = (Disk::real(), Disk::real());
    one.faults().fail(Point::DatabaseOpen, libc::EIO);
    let check = |faults: &Faults| faults.check(Point::DatabaseOpen);
    assert!(check(one.clone().faults()).is_err() && check(other.faults()).is_ok());
}
