//! Notes: what is read back, what damage costs, and a disk that fails.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::disk::Point;
use crate::disk::failure::Fault;

const NOW_MS: u64 = 1_700_000_000_000;

struct Room {
    dir: TempDir,
    disk: Disk,
}

impl Room {
    fn new() -> Room {
        Room { dir: TempDir::new().expect("a folder"), disk: Disk::real() }
    }

    fn try_open(&self, is_new_folder: bool) -> Result<Notes, NotesError> {
        Notes::open(&self.disk, self.dir.path(), NotesOptions { is_new_folder, now_ms: NOW_MS, min_free_bytes: 0 })
    }

    fn start(&self) -> Notes {
        let is_new_folder = !self.dir.path().join(NOTES).exists();
        self.try_open(is_new_folder).expect("notes")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(NOTES).join(name)
    }
}

fn put(own: &str, text: &str) -> NoteChange {
    NoteChange::put(NoteTable::Deliveries, own, &text).expect("a note")
}

fn write_some(notes: &Notes, count: usize) {
    for batch in 0..count / 10 {
        let changes: Vec<_> = (0..10).map(|n| put(&format!("w{batch:04}{n}"), &"x".repeat(400))).collect();
        notes.write(&changes).expect("a write");
    }
}

fn own_keys(notes: &Notes, prefix: &str, from: PageFrom<'_>, limit: usize) -> Vec<String> {
    let keys = notes.keys(NoteTable::Deliveries, prefix.as_bytes(), from, limit).expect("keys");
    keys.into_iter().map(|key| String::from_utf8(key).expect("text")).collect()
}

fn check_all(notes: &Notes) {
    while !notes.is_checked() {
        notes.step(NOW_MS);
    }
}

#[test]
fn notes_come_back_in_the_order_of_their_keys_after_a_restart() {
    let room = Room::new();
    let notes = room.start();
    notes.write(&["b", "a1", "a2"].map(|own| put(own, own))).expect("a write");
    let other = NoteChange::put(NoteTable::DeadLetters, "a3", &3).expect("a note");
    notes.write(&[NoteChange::delete(NoteTable::Deliveries, "a1"), put("a0", "a0"), other]).expect("a write");
    drop(notes);
    let notes = room.start();
    let texts = |prefix: &[u8]| -> Vec<String> {
        let found = notes.scan(NoteTable::Deliveries, prefix).expect("notes");
        found.into_iter().map(|(_, text)| text).collect()
    };
    assert_eq!((texts(b""), texts(b"a")), (vec!["a0".into(), "a2".into(), "b".into()], vec!["a0".into(), "a2".into()]));
    assert_eq!(notes.get::<String>(NoteTable::Deliveries, "a1").expect("a read"), None);
    assert_eq!(notes.get::<u32>(NoteTable::DeadLetters, "a3").expect("a read"), Some(3));
    notes.write(&notes.clear(NoteTable::Deliveries, b"a").expect("keys")).expect("a write");
    assert_eq!(texts(b""), ["b"]);
    check_all(&notes);
    assert!(!notes.was_lost());
}

#[test]
fn pages_go_forward_and_backward_from_a_key() {
    let room = Room::new();
    let notes = room.start();
    notes.write(&["a", "b1", "b2", "b3", "b4", "c"].map(|own| put(own, own))).expect("a write");
    assert_eq!(own_keys(&notes, "b", PageFrom::Start, 2), ["b1", "b2"]);
    assert_eq!(own_keys(&notes, "b", PageFrom::After(b"b2"), 9), ["b3", "b4"]);
    assert_eq!(own_keys(&notes, "b", PageFrom::End, 3), ["b4", "b3", "b2"]);
    assert_eq!(own_keys(&notes, "b", PageFrom::Before(b"b2"), 9), ["b1"]);
    // from a key that is elsewhere
    assert_eq!(own_keys(&notes, "b", PageFrom::After(b"a"), 9).len(), 4);
    assert_eq!(own_keys(&notes, "b", PageFrom::Before(b"d"), 9).len(), 4);
    assert!(own_keys(&notes, "b", PageFrom::After(b"c"), 9).is_empty());
    assert!(own_keys(&notes, "b", PageFrom::Before(b"a"), 9).is_empty());
    assert!(own_keys(&notes, "b", PageFrom::After(b"b4"), 9).is_empty());
    assert!(own_keys(&notes, "b", PageFrom::Before(b"b1"), 9).is_empty());
    let page = notes.page::<String>(NoteTable::Deliveries, b"b", PageFrom::Before(b"b4"), 1).expect("a page");
    assert_eq!(page, [(b"b3".to_vec(), "b3".to_owned())]);
}

#[test]
fn a_long_note_is_kept_in_parts_and_leaves_none_behind() {
    let room = Room::new();
    let notes = room.start();
    for bytes in [0, 48_000, 48_200, 150_000, 96_000, NOTE_BYTES_MAX - 2, 10] {
        let text = "x".repeat(bytes);
        // twice in one write: the later one counts
        notes.write(&[put("a", &"y".repeat(200_000)), put("a", &text)]).expect("a write");
        assert_eq!(notes.get::<String>(NoteTable::Deliveries, "a").expect("a read").as_ref(), Some(&text));
        assert_eq!(own_keys(&notes, "", PageFrom::Start, 9), ["a"]);
    }
    notes.write(&[NoteChange::delete(NoteTable::Deliveries, "a")]).expect("a write");
    assert_eq!(notes.volume(), (0, 0));
    let long = "x".repeat(NOTE_BYTES_MAX);
    assert!(matches!(NoteChange::put(NoteTable::Deliveries, "a", &long), Err(NotesError::TooLarge { .. })));
    drop(notes);
    let notes = room.start();
    check_all(&notes);
    assert!(!notes.was_lost());
}

#[test]
fn what_many_writers_wrote_at_once_is_there_and_the_books_are_right() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 50);
    drop(notes);
    // the walk of the start goes on while they write
    let notes = room.start();
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let notes = &notes;
            scope.spawn(move || {
                for n in 0..25u8 {
                    let own = [b'a' + 8 * writer, n];
                    notes.write(&[NoteChange::put(NoteTable::Deliveries, own, &n).expect("a note")]).expect("a write");
                    notes.step(NOW_MS);
                }
            });
        }
    });
    check_all(&notes);
    drop(notes);
    let notes = room.start();
    check_all(&notes);
    assert_eq!((notes.volume().0, notes.was_lost()), (150, false));
}

#[test]
fn numbers_of_dead_letters_never_start_again() {
    let room = Room::new();
    let notes = room.start();
    assert_eq!(notes.last_number("wh_1").expect("a read"), 0);
    let letter = NoteChange::put(NoteTable::DeadLetters, "wh_1 7", &7).expect("a note");
    notes.write(&[letter, NoteChange::last_number("wh_1", 7).expect("a note")]).expect("a write");
    // deleted, and a restart
    notes.write(&notes.clear(NoteTable::DeadLetters, b"wh_1").expect("keys")).expect("a write");
    drop(notes);
    let notes = room.start();
    assert_eq!(notes.last_number("wh_1").expect("a read"), 7);
    drop(notes);
    // all notes lost
    fs::remove_file(room.path("db")).expect("a file");
    let notes = room.start();
    assert_eq!(notes.last_number("wh_1").expect("a read"), NOW_MS);
    assert_eq!(notes.last_number("wh_2").expect("a read"), NOW_MS);
}

#[test]
fn damaged_notes_are_begun_anew_and_a_loss_is_remembered_until_it_was_announced() {
    let damages: [fn(&Room); 4] = [
        |room| fs::write(room.path("db"), vec![0x55; 40_000]).expect("a write"),
        |room| fs::write(room.path("conf"), "segment_size: no").expect("a write"),
        |room| fs::write(room.path("db"), b"").expect("a write"),
        |room| fs::remove_dir_all(room.path("")).expect("a folder"),
    ];
    for (n, damage) in damages.iter().enumerate() {
        let room = Room::new();
        let notes = room.start();
        write_some(&notes, 50);
        assert!(!notes.was_lost());
        drop(notes);
        damage(&room);
        let notes = room.try_open(false).expect("new notes");
        assert_eq!((notes.was_lost(), notes.volume().0), (true, 0), "{n}");
        write_some(&notes, 10);
        drop(notes);
        let notes = room.start();
        assert_eq!((notes.was_lost(), notes.volume().0), (true, 10), "{n}");
        notes.announced().expect("a write");
        notes.close().expect("a close");
        drop(notes);
        let notes = room.start();
        check_all(&notes);
        assert!(!notes.was_lost(), "{n}");
    }
}

#[test]
fn what_is_no_damage_ends_the_start_and_nothing_is_removed() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 50);
    drop(notes);
    for point in [Point::DatabaseOpen, Point::DatabaseRead] {
        for errno in [libc::EACCES, libc::EMFILE, libc::EIO, libc::ENOMEM] {
            room.disk.faults().fail(point, errno);
            let e = room.try_open(false).err().expect("an error");
            assert!(!e.cure().as_str().is_empty() && !e.to_string().contains('\n'), "{e}");
            room.disk.faults().clear_all();
        }
    }
    let notes = room.start();
    check_all(&notes);
    assert_eq!((notes.volume().0, notes.was_lost()), (50, false));
}

/// sled writes when it opens them. A server on a full disk has to start all the same.
#[test]
fn a_start_without_room_to_open_them_goes_on_and_they_open_when_there_is_room() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 50);
    drop(notes);
    for point in [Point::DatabaseOpen, Point::DatabaseRead] {
        room.disk.faults().fail(point, libc::ENOSPC);
        let notes = room.try_open(false).expect("the start goes on");
        notes.recognise(&LOG, NOW_MS).expect("it is left to the next start");
        let read = notes.keys(NoteTable::Deliveries, b"", PageFrom::Start, 1);
        assert!(matches!(read, Err(NotesError::Closed { .. })), "{read:?}");
        room.disk.faults().clear_all();
        notes.step(NOW_MS + RETRY_MS);
        assert_eq!((own_keys(&notes, "", PageFrom::Start, 100).len(), notes.was_lost()), (50, false));
    }
}

#[test]
fn a_database_that_has_failed_is_opened_again_when_there_is_room() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 20);
    for point in [Point::DatabaseWrite, Point::DatabaseSync, Point::DatabaseRead] {
        room.disk.faults().fail(point, libc::ENOSPC);
        assert!(notes.write(&[put("full", "full")]).is_err());
        // it stays closed while it fails
        let errors = [notes.write(&[put("b", "b")]).err(), notes.scan::<String>(NoteTable::Deliveries, b"").err()];
        assert!(errors.iter().all(|e| matches!(e, Some(NotesError::Closed { .. }))), "{errors:?}");
        room.disk.faults().fail(Point::DatabaseOpen, libc::EIO);
        notes.step(NOW_MS);
        assert!(matches!(notes.write(&[put("b", "b")]), Err(NotesError::Closed { .. })));
        room.disk.faults().clear_all();
        notes.step(NOW_MS + 1);
        assert!(matches!(notes.write(&[put("b", "b")]), Err(NotesError::Closed { .. })), "too early");
        notes.step(NOW_MS + RETRY_MS);
        notes.write(&[put(point.name(), "again")]).expect("it is open again");
        check_all(&notes);
        assert!(!notes.was_lost());
        let (counted, found) = (notes.volume().0, own_keys(&notes, "", PageFrom::Start, 100).len());
        assert_eq!(counted, found as u64);
    }
}

#[test]
fn nothing_is_written_on_a_nearly_full_disk_and_reading_goes_on() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 20);
    drop(notes);
    let options = NotesOptions { is_new_folder: false, now_ms: NOW_MS, min_free_bytes: u64::MAX };
    let notes = Notes::open(&room.disk, room.dir.path(), options).expect("notes");
    assert!(matches!(notes.write(&[put("a", "a")]), Err(NotesError::Full { .. })));
    let deletion = notes.clear(NoteTable::Deliveries, b"w00000").expect("keys");
    assert!(matches!(notes.write(&[deletion.clone(), vec![put("a", "a")]].concat()), Err(NotesError::Full { .. })));
    assert_eq!(own_keys(&notes, "", PageFrom::Start, 100).len(), 20);
    // but what somebody deletes goes
    notes.write(&deletion).expect("a deletion");
    assert_eq!(own_keys(&notes, "", PageFrom::Start, 100).len(), 19);
}

#[test]
fn a_start_without_room_to_begin_them_anew_goes_on_and_they_open_when_there_is_room() {
    let (disk, data_dir) = (Disk::simulated(1), Path::new("/data"));
    disk.create_dir_all(data_dir).expect("a folder");
    let options = NotesOptions { is_new_folder: true, now_ms: NOW_MS, min_free_bytes: 0 };
    write_some(&Notes::open(&disk, data_dir, options).expect("notes"), 20);
    disk.remove_file(&data_dir.join(NOTES).join("db")).expect("it is there");
    let full = disk.simulation().expect("a simulated disk");
    full.set_capacity(Some(ROOM_BYTES / 2));

    let options = NotesOptions { is_new_folder: false, ..options };
    let notes = Notes::open(&disk, data_dir, options).expect("the start goes on");
    let read = notes.keys(NoteTable::Deliveries, b"", PageFrom::Start, 1);
    assert!(matches!(read, Err(NotesError::Closed { .. })), "{read:?}");
    notes.step(NOW_MS);
    assert!(!notes.was_lost(), "nothing was given up yet");

    full.set_capacity(None);
    notes.step(NOW_MS + 1_000 + RETRY_MS);
    assert_eq!(own_keys(&notes, "", PageFrom::Start, 100).len(), 0);
    assert!(notes.was_lost());
}

#[test]
fn a_panic_of_sled_costs_no_thread_and_notes_that_stay_damaged_are_begun_anew() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 20);
    notes.with::<()>(|_| Err(DatabaseError::Damaged { path: "db".into(), why: "a test".into() })).expect_err("damage");
    assert!(matches!(notes.volume(), (20, _)));
    // it was no damage after all
    notes.step(NOW_MS);
    assert_eq!((own_keys(&notes, "", PageFrom::Start, 100).len(), notes.was_lost()), (20, false));
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_the_rest_is_right_or_everything_is_new() {
    let mut whole = 0;
    for step in 0..60 {
        let room = Room::new();
        let notes = room.start();
        write_some(&notes, 400);
        notes.close().expect("a close");
        drop(notes);
        let name = ["db", "db", "db", "db", "conf", "closed"][step % 6];
        let mut bytes = fs::read(room.path(name)).expect("a file");
        let at = step * (bytes.len() - 1) / 59;
        bytes[at] ^= 1 << (step % 8);
        fs::write(room.path(name), bytes).expect("a write");
        let notes = room.start();
        for second in 0..100 {
            notes.step(NOW_MS + second * RETRY_MS);
        }
        assert!(notes.is_checked(), "{name}, step {step}");
        let found = notes.scan::<String>(NoteTable::Deliveries, b"").expect("notes");
        assert!(found.iter().all(|(_, text)| text.len() == 400), "{name}, step {step}");
        assert!(found.len() == 400 || notes.was_lost(), "{name}, step {step}: {} are lost in silence", found.len());
        whole += usize::from(found.len() == 400);
    }
    assert!(whole > 0);
}

#[test]
fn the_latest_notes_that_are_missing_after_a_close_in_order_are_noticed() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 20);
    notes.close().expect("a close");
    drop(notes);
    let older: Vec<_> = ["db", "conf"].map(|name| (name, fs::read(room.path(name)).expect("a file"))).into();
    let notes = room.start();
    assert!(!room.path(CLOSED).exists() && !notes.was_lost());
    write_some(&notes, 40);
    notes.close().expect("a close");
    drop(notes);
    for (name, bytes) in older {
        fs::write(room.path(name), bytes).expect("a write");
    }
    assert!(room.start().was_lost());
}

#[test]
fn notes_say_how_large_they_are() {
    let room = Room::new();
    let notes = room.start();
    write_some(&notes, 100);
    let (entries, bytes) = notes.volume();
    assert!(entries == 100 && (40_000..60_000).contains(&bytes), "{entries}, {bytes}");
    assert!(notes.disk_bytes().expect("a size") >= bytes);
}

#[test]
fn a_crash_while_notes_are_begun_leaves_old_or_new_ones() {
    let points = [Point::MakeFolder, Point::DatabaseOpen, Point::DatabaseWrite, Point::DatabaseSync, Point::Rename];
    for point in [points.as_slice(), &[Point::Remove, Point::SyncFolder, Point::List]].concat() {
        for after in 0..4 {
            for is_new_folder in [true, false] {
                let room = Room::new();
                room.disk.faults().set(point, Fault::errno(libc::EIO).after(after));
                let opened = room.try_open(is_new_folder);
                room.disk.faults().clear_all();
                let failed = opened.is_err();
                drop(opened);
                let notes = room.try_open(is_new_folder).expect("notes");
                assert!(!is_new_folder || !notes.was_lost(), "{point:?}, {after}, {failed}");
                write_some(&notes, 10);
                assert!(!room.dir.path().join(FRESH).exists());
            }
        }
    }
}

const LOG: crate::documents::LogId = [7; 16];

/// Opens notes as a start does; whether anything is said to be lost.
fn recognised(room: &Room) -> (Notes, bool) {
    let notes = room.start();
    notes.recognise(&LOG, NOW_MS).expect("they can be told apart");
    let was_lost = notes.was_lost();
    (notes, was_lost)
}

fn copy_notes(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("removed");
    }
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        if path.is_dir() {
            copy_notes(&path, &to);
        } else {
            fs::copy(&path, &to).expect("copied");
        }
    }
}

#[test]
fn notes_that_are_an_older_copy_or_another_folders_are_said_to_be_lost_once() {
    let room = Room::new();
    let older = room.dir.path().join("older");
    for n in 0..3 {
        let (notes, was_lost) = recognised(&room);
        assert!(!was_lost, "start {n}");
        notes.write(&[put(&format!("a{n}"), "x")]).expect("a write");
        notes.close().expect("closed");
        drop(notes);
        if n == 1 {
            copy_notes(&room.path(""), &older);
        }
    }
    copy_notes(&older, &room.path(""));
    let (notes, was_lost) = recognised(&room);
    assert!(was_lost);
    assert_eq!(own_keys(&notes, "", PageFrom::Start, 9), ["a0", "a1"]);
    assert_eq!(notes.last_number("a source").expect("a number"), NOW_MS, "no number is given twice");
    notes.announced().expect("announced");
    drop(notes);
    assert!(!recognised(&room).1, "it is said once");

    let other = Room::new();
    let notes = other.start();
    notes.recognise(&[8; 16], NOW_MS).expect("they are told apart");
    notes.write(&[put("stranger", "x")]).expect("a write");
    drop(notes);
    copy_notes(&other.path(""), &room.path(""));
    let (notes, was_lost) = recognised(&room);
    assert!(was_lost && own_keys(&notes, "", PageFrom::Start, 9).is_empty());
    notes.announced().expect("announced");
    drop(notes);
    assert!(!recognised(&room).1, "it is said once");
}

#[test]
fn a_damaged_count_of_openings_and_notes_of_an_earlier_version_are_no_loss() {
    let room = Room::new();
    drop(recognised(&room));
    let path = room.dir.path().join(OPENED);
    let text = fs::read(&path).expect("a file");
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flipped).expect("written");
        assert!(!recognised(&room).1, "bit {bit}");
    }
    // it does not know of the log
    let earlier = Room::new();
    drop(earlier.start());
    fs::write(earlier.dir.path().join(OPENED), text).expect("written");
    assert!(!recognised(&earlier).1);
}
