//! Generations on a real disk: damage, failures at every point, and what a start makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::disk::Point;
use crate::disk::failure::Fault;
use crate::documents::{Change, Table};

const LOG: LogId = [7; 16];
const OTHER_LOG: LogId = [8; 16];

struct Room {
    dir: TempDir,
    disk: Disk,
}

impl Room {
    fn new() -> Room {
        Room { dir: TempDir::new().expect("a folder"), disk: Disk::real() }
    }

    fn open(&self, log_begins_at: u64) -> Result<(Generations, Documents), GenerationError> {
        Generations::open(&self.disk, self.dir.path(), &LOG, log_begins_at)
    }

    /// With what the log would have kept.
    fn start(&self, log_begins_at: u64) -> (Generations, Documents) {
        self.open(log_begins_at).expect("a good start")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(STATE).join(name)
    }

    /// The names in the folder of generations.
    fn names(&self) -> Vec<String> {
        let entries = self.disk.list(&self.dir.path().join(STATE)).expect("a folder");
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// Writes generation 1 with some documents up to commit 10.
    fn filled() -> (Room, Generations, Documents) {
        let room = Room::new();
        let (generations, documents) = room.start(1);
        documents.apply(&some_changes("old"), 10);
        let step = generations.write_step(&documents.freeze()).expect("a write");
        assert!(matches!(step, Step::Written { number: 1, .. }));
        (room, generations, documents)
    }
}

/// 300 documents, which take a few chunks.
fn some_changes(word: &str) -> Vec<Change> {
    let text = word.repeat(200);
    (0..300u32).map(|n| Change::put(Table::Webhooks, format!("wh_{n:04}"), &(n, &text)).expect("a change")).collect()
}

fn all(documents: &Documents) -> Vec<(Vec<u8>, Vec<u8>)> {
    documents.freeze().entries().map(|(key, text)| (key.to_vec(), text.to_vec())).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("a write");
}

fn error(opened: Result<(Generations, Documents), GenerationError>) -> GenerationError {
    opened.err().expect("an error")
}

#[test]
fn documents_come_back_from_a_generation_with_its_sequence() {
    let (room, generations, documents) = Room::filled();
    assert_eq!(generations.needed_from(), 11);
    let (generations, again) = room.start(11);
    assert_eq!((all(&again), again.sequence(), generations.needed_from()), (all(&documents), 10, 11));
    assert!(!generations.is_behind(&again) && !generations.due(&again, 0, 0));
    assert_eq!(generations.write_step(&again.freeze()).expect("nothing to write"), Step::Nothing);
}

#[test]
fn the_database_may_be_opened_again_and_again() {
    let (room, ..) = Room::filled();
    for _ in 0..5 {
        let (generations, documents) = room.start(11);
        assert_eq!(documents.freeze().len(), 300);
        assert!(!generations.is_behind(&documents));
    }
}

#[test]
fn no_documents_at_all_are_a_generation_too() {
    let room = Room::new();
    let (generations, documents) = room.start(1);
    documents.apply(&[], 4);
    generations.write_step(&documents.freeze()).expect("a write");
    let (generations, documents) = room.start(5);
    assert_eq!((documents.freeze().len(), generations.needed_from()), (0, 5));
}

#[test]
fn a_newer_generation_takes_the_place_of_the_one_before() {
    let (room, generations, documents) = Room::filled();
    documents.apply(&some_changes("new")[..3], 12);
    assert!(generations.is_behind(&documents));
    let step = generations.write_step(&documents.freeze()).expect("a write");
    assert!(matches!(step, Step::Written { number: 2, bytes } if bytes > documents.bytes()));
    assert_eq!(room.names(), ["0000000002"]);
    let (_, again) = room.start(13);
    assert_eq!(all(&again), all(&documents));
}

#[test]
fn commits_without_documents_only_move_the_manifest() {
    let (room, generations, documents) = Room::filled();
    documents.apply(&[], 500);
    assert_eq!(generations.write_step(&documents.freeze()).expect("a write"), Step::Moved);
    assert_eq!((room.names(), generations.needed_from()), (vec!["0000000001".to_owned()], 501));
    let (generations, again) = room.start(501);
    assert_eq!((all(&again), again.sequence()), (all(&documents), 500));
    // the copy says so too
    flip(&room.path("0000000001/manifest"), 20);
    let (healed, again) = room.start(501);
    assert!(healed.is_behind(&again) && !generations.is_behind(&documents));
}

#[test]
fn a_generation_is_due_when_the_log_is_long_a_change_is_old_or_something_is_damaged() {
    let (_room, generations, documents) = Room::filled();
    documents.apply(&[], 11);
    assert!(!generations.due(&documents, LOG_BYTES, 0));
    assert!(generations.due(&documents, LOG_BYTES + 1, 0));
    // it failed, and is not tried again at once
    assert!(!generations.due(&documents, LOG_BYTES + 1, RETRY_MS - 1));
    assert!(generations.due(&documents, LOG_BYTES + 1, RETRY_MS));
    // only commits without documents do not grow old
    assert!(!generations.due(&documents, 0, 10 * CHANGE_AGE_MS));
    documents.apply(&some_changes("new")[..1], 12);
    let seen_ms = 20 * CHANGE_AGE_MS;
    assert!(!generations.due(&documents, 0, seen_ms));
    assert!(!generations.due(&documents, 0, seen_ms + CHANGE_AGE_MS - 1));
    assert!(generations.due(&documents, 0, seen_ms + CHANGE_AGE_MS));
    generations.write_step(&documents.freeze()).expect("a write");
    assert!(!generations.due(&documents, 0, seen_ms + CHANGE_AGE_MS));
    // large documents are written less often
    let large: Vec<_> = (0..6).map(|n| Change::put(Table::Losses, [n], &"x".repeat(4_000_000)).expect("one")).collect();
    documents.apply(&large, 13);
    assert!(!generations.due(&documents, LOG_BYTES + 1, seen_ms) && generations.due(&documents, 1 << 25, seen_ms));
}

#[test]
fn a_flipped_bit_anywhere_is_healed_and_written_anew() {
    let (room, _, documents) = Room::filled();
    let expected = all(&documents);
    for name in ["manifest", "copy", "db", "conf"] {
        let good = room.path("0000000001").join(name);
        let original = fs::read(&good).expect("a file");
        let steps = if name == "db" { 40 } else { 60 };
        for step in 0..steps {
            flip(&good, step * (original.len() - 1) / (steps - 1));
            let (generations, found) = room.start(11);
            assert_eq!(all(&found), expected, "{name}, step {step}");
            assert_eq!(found.sequence(), 10);
            if matches!(name, "manifest" | "copy") {
                assert!(generations.due(&found, 0, 0), "{name}, step {step}");
            }
            // sled writes into its own files when it opens them
            drop(generations);
            fs::write(&good, &original).expect("a write");
            restore_database(&room, &documents);
        }
    }
}

/// Brings generation 1 back to how it was written.
fn restore_database(room: &Room, documents: &Documents) {
    fs::remove_dir_all(room.path("0000000001")).expect("a folder");
    let generations = Generations::new(&room.disk, room.dir.path(), &LOG);
    generations.write_step(&documents.freeze()).expect("a write");
}

#[test]
fn a_healed_generation_is_replaced_by_a_whole_one() {
    let (room, _, documents) = Room::filled();
    fs::remove_file(room.path("0000000001/copy")).expect("a file");
    let (generations, found) = room.start(11);
    assert!(generations.due(&found, 0, 0) && generations.is_behind(&found));
    // opening has changed nothing
    assert_eq!(room.names(), ["0000000001"]);
    generations.write_step(&found.freeze()).expect("a write");
    assert_eq!(room.names(), ["0000000002"]);
    let (generations, found) = room.start(11);
    assert!(!generations.is_behind(&found));
    assert_eq!(all(&found), all(&documents));
}

#[test]
fn a_database_that_is_cut_off_zeroed_or_missing_is_healed_from_the_copy() {
    let damages: [fn(&Path); 4] = [
        |db| fs::write(db, b"").expect("a write"),
        |db| fs::write(db, &fs::read(db).expect("a file")[..100]).expect("a write"),
        |db| fs::write(db, vec![0; fs::read(db).expect("a file").len()]).expect("a write"),
        |db| fs::remove_file(db).expect("a file"),
    ];
    for damage in damages {
        let (room, _, documents) = Room::filled();
        damage(&room.path("0000000001/db"));
        let (generations, found) = room.start(11);
        assert_eq!(all(&found), all(&documents));
        assert!(generations.due(&found, 0, 0));
    }
}

/// Each of its chunks passes its own check.
#[test]
fn a_file_of_another_generation_is_not_taken_for_its_own() {
    let other = Room::new();
    let (generations, documents) = other.start(1);
    documents.apply(&some_changes("another tenant's"), 10);
    generations.write_step(&documents.freeze()).expect("a write");
    for name in ["db", "copy"] {
        let (room, _, documents) = Room::filled();
        fs::copy(other.path("0000000001").join(name), room.path("0000000001").join(name)).expect("copied");
        let (healed, again) = room.start(11);
        assert_eq!(all(&again), all(&documents), "{name}");
        assert!(healed.is_behind(&again), "{name}: it is written anew");
        let survey = Generations::survey(&room.disk, room.dir.path(), Some(&LOG), 11, true).expect("a look");
        let survey = survey.unwrap_or_else(|lost| panic!("{name}: {}", lost.why));
        assert_eq!(all(&survey.documents), all(&documents), "{name}");
        assert!(survey.damage.contains("another generation") || survey.damage.contains("bytes"), "{}", survey.damage);
    }
}

#[test]
fn damage_at_different_places_of_both_files_is_healed_too() {
    let (room, _, documents) = Room::filled();
    let chunk = 48 * 1024;
    flip(&room.path("0000000001/copy"), 4096 + 100);
    // the second chunk is found in the database by its magic
    let db = room.path("0000000001/db");
    let bytes = fs::read(&db).expect("a file");
    let second = [b"STdocs\x02\n".as_slice(), &1u32.to_be_bytes()].concat();
    let place = bytes.windows(12).position(|window| window == second).expect("chunk 1");
    flip(&db, place + chunk / 2);
    let (generations, found) = room.start(11);
    assert_eq!(all(&found), all(&documents));
    assert!(generations.due(&found, 0, 0));
}

#[test]
fn documents_that_are_damaged_beyond_healing_end_the_start_and_nothing_is_changed() {
    let (room, ..) = Room::filled();
    fs::write(room.path("0000000001/db"), b"nothing").expect("a write");
    flip(&room.path("0000000001/copy"), 60_000);
    let e = error(room.open(11));
    let text = format!("{e}; {}", e.cure());
    let folder = room.dir.path().join(STATE);
    for part in
        [folder.to_str().expect("a path"), "generation 1", "chunk 1", "stentor restore", "stentor doctor --data"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains(room.dir.path().to_str().expect("a path")) && !text.contains('\n'), "{text}");
    assert_eq!(room.names(), ["0000000001"]);
    assert_eq!(fs::read(room.path("0000000001/db")).expect("a file"), b"nothing");
}

#[test]
fn an_older_generation_counts_only_where_the_log_has_everything_after_it() {
    let (room, generations, documents) = Room::filled();
    let older = documents.freeze();
    documents.apply(&some_changes("new"), 20);
    // the older one stays, as it does when it cannot be removed
    room.disk.faults().fail(Point::Remove, libc::EIO);
    generations.write_step(&documents.freeze()).expect("a write");
    room.disk.faults().clear_all();
    assert_eq!(room.names(), ["0000000001", "0000000002"]);
    for name in ["db", "copy"] {
        fs::write(room.path("0000000002").join(name), b"nothing").expect("a write");
    }
    assert!(matches!(error(room.open(21)), GenerationError::Lost { .. }));
    assert!(matches!(error(room.open(12)), GenerationError::Lost { .. }));
    let (generations, found) = room.start(11);
    assert_eq!((all(&found).len(), found.sequence(), generations.needed_from()), (older.len(), 10, 11));
    assert!(generations.due(&found, 0, 0));
    // the log brings what is missing, and a new generation is above the damaged one
    found.apply(&some_changes("new"), 20);
    generations.write_step(&found.freeze()).expect("a write");
    assert_eq!((room.names(), all(&room.start(21).1)), (vec!["0000000003".to_owned()], all(&documents)));
}

#[test]
fn a_missing_generation_ends_the_start_unless_the_log_has_every_commit() {
    let (room, ..) = Room::filled();
    for name in ["0000000001/manifest", "0000000001", ""] {
        let path = room.path(name);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it is there");
        assert!(matches!(error(room.open(11)), GenerationError::Lost { .. }), "{name}");
        let (generations, documents) = room.start(1);
        assert_eq!((documents.freeze().len(), generations.needed_from()), (0, 1));
    }
}

#[test]
fn a_generation_of_another_folder_is_refused() {
    let (room, ..) = Room::filled();
    let e = error(Generations::open(&room.disk, room.dir.path(), &OTHER_LOG, 2));
    assert!(e.to_string().contains("another log"), "{e}");
    fs::rename(room.path("0000000001"), room.path("0000000009")).expect("a rename");
    let e = error(room.open(11));
    assert!(e.to_string().contains("that of generation 1"), "{e}");
}

#[test]
fn what_keeps_a_file_from_being_read_is_no_damage_and_ends_the_start() {
    let (room, ..) = Room::filled();
    let points = [Point::List, Point::ManifestRead, Point::DatabaseOpen, Point::DatabaseRead, Point::CopyRead];
    for point in points {
        for errno in [libc::EACCES, libc::EMFILE, libc::EIO, libc::ENOMEM, libc::ENOSPC] {
            for after in 0..3 {
                room.disk.faults().set(point, Fault::errno(errno).after(after).times(1));
                match room.open(11) {
                    Err(e) => {
                        assert!(!matches!(e, GenerationError::Lost { .. }) && !e.cure().as_str().is_empty(), "{e}")
                    }
                    // the point was passed less often
                    Ok((generations, found)) => assert!(after > 0 && !generations.is_behind(&found)),
                }
                room.disk.faults().clear_all();
            }
        }
    }
    let (generations, documents) = room.start(11);
    assert!(!generations.is_behind(&documents) && documents.freeze().len() == 300);
    // another process holds the database
    let db = room.disk.open(Point::DatabaseOpen, &room.path("0000000001/db"), crate::disk::Open::Read).expect("a file");
    assert!(db.try_lock().expect("a lock"));
    let e = error(room.open(11));
    assert!(matches!(e, GenerationError::Database(DatabaseError::Locked { .. })), "{e}");
}

#[test]
fn a_write_that_fails_anywhere_leaves_the_generation_before_and_can_be_done_again() {
    let points = [
        Point::MakeFolder,
        Point::List,
        Point::Look,
        Point::SyncFolder,
        Point::DatabaseOpen,
        Point::DatabaseWrite,
        Point::DatabaseSync,
        Point::DatabaseRead,
        Point::CopyWrite,
        Point::CopyRead,
        Point::ManifestWrite,
        Point::Rename,
    ];
    let (room, _, documents) = Room::filled();
    let old = all(&documents);
    documents.apply(&some_changes("new"), 20);
    let new = all(&documents);
    for point in points {
        // until the point is no longer reached
        for after in 0.. {
            restore_database(&room, &Documents::of(old.iter().map(stored), 10));
            let (generations, found) = room.start(11);
            found.apply(&some_changes("new"), 20);
            room.disk.faults().set(point, Fault::errno(libc::ENOSPC).after(after));
            let written = generations.write_step(&found.freeze());
            room.disk.faults().clear_all();
            // a crash now
            let (_, after_crash) = room.start(if written.is_ok() { 21 } else { 11 });
            let found_old = all(&after_crash) == old;
            assert!(found_old || all(&after_crash) == new, "{point:?}, {after}");
            assert!(written.is_err() || !found_old, "{point:?}, {after}: a success that is not there");
            let is_written = match written {
                Err(e) => {
                    assert!(e.is_full() && generations.needed_from() == 11, "{e}");
                    false
                }
                Ok(_) => {
                    assert_eq!(generations.needed_from(), 21);
                    true
                }
            };
            generations.write_step(&found.freeze()).expect("there is room again");
            assert_eq!(all(&room.start(21).1), new, "{point:?}, {after}");
            remove_all(&room);
            if is_written {
                break;
            }
        }
    }
}

fn stored((key, text): &(Vec<u8>, Vec<u8>)) -> Change {
    Change::stored(key, text).expect("a document")
}

fn remove_all(room: &Room) {
    for name in room.names() {
        fs::remove_dir_all(room.path(&name)).expect("a folder");
    }
    fs::create_dir_all(room.path("0000000001")).expect("a folder");
}

#[test]
fn what_an_unfinished_write_has_left_is_removed_by_the_next_one() {
    let (room, generations, documents) = Room::filled();
    fs::create_dir_all(room.path("0000000002/blobs")).expect("a folder");
    fs::write(room.path("0000000002/db"), b"half").expect("a write");
    // other names are not ours
    fs::write(room.path("conf"), b"words").expect("a write");
    fs::create_dir_all(room.path("blobs")).expect("a folder");
    let (_, found) = room.start(11);
    assert_eq!(all(&found), all(&documents));
    documents.apply(&some_changes("new"), 12);
    generations.write_step(&documents.freeze()).expect("a write");
    assert_eq!(room.names(), ["0000000002", "blobs", "conf"]);
}

#[test]
fn files_and_folders_are_for_the_servers_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (room, ..) = Room::filled();
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let folder = room.path("0000000001");
    assert_eq!((mode(&room.path("")), mode(&folder)), (0o700, 0o700));
    for name in ["db", "conf", "copy", "manifest"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
}
