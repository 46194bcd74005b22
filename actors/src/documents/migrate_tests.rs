use std::fs;

use tempfile::TempDir;

use super::*;
use crate::disk::Point;
use crate::disk::database::Batch;
use crate::disk::failure::Fault;
use crate::documents::notes::PageFrom;

const LOG: LogId = [3; 16];
const NOW_MS: u64 = 1_700_000_000_000;

struct Room {
    dir: TempDir,
    disk: Disk,
}

fn old_value(text: &str) -> Vec<u8> {
    [&crc32fast::hash(text.as_bytes()).to_be_bytes(), text.as_bytes()].concat()
}

impl Room {
    /// A folder as an older version left it.
    fn old(change: impl FnOnce(&mut Batch)) -> Room {
        let room = Room { dir: TempDir::new().expect("a folder"), disk: Disk::real() };
        let mut batch = Batch::default();
        batch.put(b"nchannels", old_value("2"));
        batch.put(b"nbegun", old_value("1"));
        batch.put(b"c\0\0\0\x01", old_value("{\"id\":\"system\"}"));
        batch.put(b"c\0\0\0\x02", old_value("{\"id\":\"default\"}"));
        batch.put(b"ttok_1", old_value("{\"hash\":\"00\"}"));
        batch.put(b"rwh_1 row", old_value("{\"state\":\"dead\"}"));
        batch.put(b"dwh_1 delivery", old_value("{\"status\":\"dead\"}"));
        batch.put(b"ksrc_1", old_value("{\"accepted\":7}"));
        for n in [3u64, 12] {
            let key = [b"src_1", &n.to_be_bytes()[..]].concat();
            batch.put([b"l", &key[..]].concat(), old_value(&format!("{{\"n\":{n}}}")));
            let part = [b"p", &key[..], &0u16.to_be_bytes()].concat();
            batch.put(part, old_value(&format!("\"{}\"", "A".repeat(43_692))));
        }
        change(&mut batch);
        room.write(batch);
        room
    }

    fn write(&self, batch: Batch) {
        let db = Database::open_in_place(&self.disk, &self.dir.path().join(STATE)).expect("a database");
        db.apply(batch).expect("a write");
        db.sync().expect("a sync");
    }

    fn migrate(&self) -> Result<Migrated, MigrateError> {
        migrate(&self.disk, self.dir.path(), &LOG, NOW_MS)
    }

    fn documents(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let begins_at = MIGRATED_SEQUENCE + 1;
        let (_, documents) = Generations::open(&self.disk, self.dir.path(), &LOG, begins_at).expect("a start");
        documents.freeze().entries().map(|(key, text)| (key.to_vec(), text.to_vec())).collect()
    }

    fn notes(&self) -> Notes {
        let options = NotesOptions { is_new_folder: false, now_ms: NOW_MS, min_free_bytes: 0 };
        Notes::open(&self.disk, self.dir.path(), options).expect("notes")
    }

    fn names(&self) -> Vec<String> {
        let entries = self.disk.list(&self.dir.path().join(STATE)).expect("a folder");
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

fn error(migrated: Result<Migrated, MigrateError>) -> MigrateError {
    migrated.expect_err("an error")
}

#[test]
fn everything_of_an_old_folder_is_there_afterwards() {
    let room = Room::old(|_| {});
    assert_eq!(room.migrate().expect("a migration"), Migrated { documents: 6, notes: 6, damaged_notes: 0 });
    remove_format_1(&room.disk, room.dir.path()).expect("a removal");
    assert_eq!(room.names(), ["0000000001", "conf"]);
    // as the older version opens it, which changes nothing that matters
    assert!(Database::open_in_place(&room.disk, &room.dir.path().join(STATE)).is_err());
    let keys: Vec<_> = room.documents().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [&b"c\0\0\0\x01"[..], b"c\0\0\0\x02", b"nbegun", b"nchannels", b"rwh_1 row", b"ttok_1"]);
    assert!(room.documents().contains(&(b"ttok_1".to_vec(), b"{\"hash\":\"00\"}".to_vec())));
    let notes = room.notes();
    let count = |table| notes.keys(table, b"", PageFrom::Start, 99).expect("keys").len();
    assert_eq!(NOTE_TABLES.map(count), [1, 1, 2, 2]);
    let part = notes.scan::<String>(NoteTable::DeadLetterParts, b"src_1").expect("notes").remove(0).1;
    assert_eq!(part.len(), 43_692);
    // numbers go on behind the highest
    assert_eq!((notes.last_number("src_1").expect("a read"), notes.was_lost()), (12, false));
    // again is harmless
    drop(notes);
    remove_format_1(&room.disk, room.dir.path()).expect("a removal");
    remove_format_1(&room.disk, room.dir.path()).expect("nothing to remove");
    assert_eq!(room.documents().len(), 6);
}

#[test]
fn a_migration_that_fails_anywhere_can_be_done_again() {
    let points = [
        Point::MakeFolder,
        Point::DatabaseOpen,
        Point::DatabaseRead,
        Point::DatabaseWrite,
        Point::DatabaseSync,
        Point::CopyWrite,
        Point::ManifestWrite,
        Point::Rename,
        Point::SyncFolder,
    ];
    for point in points {
        // until the point is no longer reached
        for after in 0.. {
            let room = Room::old(|_| {});
            let old: Vec<_> = fs::read(room.dir.path().join("state/conf")).expect("a file");
            room.disk.faults().set(point, Fault::errno(libc::ENOSPC).after(after));
            let failed = room.migrate().err();
            room.disk.faults().clear_all();
            let is_done = failed.is_none();
            assert!(failed.is_none_or(|e| !e.cure().as_str().is_empty()));
            assert_eq!(fs::read(room.dir.path().join("state/conf")).expect("a file"), old);
            // the older version runs once more
            let mut batch = Batch::default();
            batch.put(b"ttok_2", old_value("{}"));
            batch.put(b"dwh_1 later", old_value("{}"));
            room.write(batch);
            assert_eq!(room.migrate().expect("a migration").documents, 7, "{point:?}, {after}");
            assert_eq!((room.documents().len(), room.notes().volume().0), (7, 8), "{point:?}, {after}");
            if is_done {
                break;
            }
        }
    }
}

#[test]
fn the_removal_of_old_files_can_be_interrupted_anywhere() {
    for point in [Point::FormatWrite, Point::Rename, Point::SyncFolder, Point::List, Point::Remove] {
        for after in 0..3 {
            let room = Room::old(|_| {});
            room.migrate().expect("a migration");
            room.disk.faults().set(point, Fault::errno(libc::EIO).after(after));
            let _ = remove_format_1(&room.disk, room.dir.path());
            room.disk.faults().clear_all();
            assert_eq!(room.documents().len(), 6, "{point:?}, {after}");
            remove_format_1(&room.disk, room.dir.path()).expect("a removal");
            assert_eq!(room.names(), ["0000000001", "conf"]);
        }
    }
}

#[test]
fn damaged_documents_end_the_migration_and_nothing_is_changed() {
    type Damage = (fn(&mut Batch), &'static str);
    let damages: [Damage; 4] = [
        (|batch| batch.put(b"ttok_1", old_value("{}").split_at(5).0), "tokens tok_1"),
        (|batch| batch.put(b"c\0\0\0\x02", b"abc"), "channels 2"),
        (|batch| batch.put(b"nchannels", old_value("1")), "never given out"),
        (|batch| batch.put(b"?", old_value("1")), "does not know"),
    ];
    for (damage, reason) in damages {
        let room = Room::old(damage);
        let e = error(room.migrate());
        assert!(e.to_string().contains(reason) && e.cure().as_str().contains("stentor restore"), "{e}");
        // opening lets sled write a snapshot
        let names: Vec<_> = room.names().into_iter().filter(|name| !name.starts_with("snap.")).collect();
        assert_eq!(names, ["blobs", "conf", "db"]);
    }
    // a file that sled would make an empty database of
    let room = Room::old(|_| {});
    fs::write(room.dir.path().join("state/db"), b"").expect("a write");
    let e = error(room.migrate());
    assert!(e.to_string().contains("there are none"), "{e}");
    fs::remove_file(room.dir.path().join("state/db")).expect("a file");
    assert!(matches!(error(room.migrate()), MigrateError::Database(DatabaseError::Disk(e)) if e.is_missing()));
}

#[test]
fn damaged_notes_are_left_behind_and_counted() {
    let room = Room::old(|batch| {
        batch.put(b"dwh_1 delivery", b"abcdef");
        batch.put(b"ksrc_1", b"");
    });
    assert_eq!(room.migrate().expect("a migration"), Migrated { documents: 6, notes: 4, damaged_notes: 2 });
}
