use std::collections::BTreeSet;
use std::path::Path;

use super::super::{Disk, DiskFile, Open, Point};
use super::SECTOR_BYTES;
use crate::disk::failure::Fault;

const WRITE: Point = Point::WalWrite;
const SYNC: Point = Point::WalSync;
const SEEDS: u64 = 300;

/// A disk with the folder `/data`, whose name is durable.
fn disk() -> Disk {
    let disk = Disk::simulated(7);
    disk.create_dir_all(Path::new("/data")).expect("a folder");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk
}

/// A file whose name is durable.
fn file(disk: &Disk, path: &str) -> DiskFile {
    let file = disk.open(WRITE, Path::new(path), Open::CreateNew).expect("a file");
    disk.sync_dir(Path::new("/data")).expect("synced");
    file
}

fn text(disk: &Disk, path: &str) -> Option<String> {
    match disk.read(WRITE, Path::new(path)) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) => {
            assert!(e.is_missing(), "{e}");
            None
        }
    }
}

/// What a crash may leave.
fn outcomes<T: Ord>(disk: &Disk, of: impl Fn(&Disk) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(|seed| of(&disk.after_crash(seed).expect("a simulated disk"))).collect()
}

fn names(disk: &Disk, path: &str) -> Vec<String> {
    disk.list(Path::new(path)).expect("listed").into_iter().map(|entry| entry.name).collect()
}

/// Four sectors, each full of one letter.
fn sectors(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; SECTOR_BYTES]).collect()
}

fn letters(disk: &Disk, path: &str) -> String {
    let bytes = disk.read(WRITE, Path::new(path)).expect("read");
    let (sectors, rest) = bytes.as_chunks::<SECTOR_BYTES>();
    assert!(rest.is_empty(), "a length of {}", bytes.len());
    let whole = |sector: &[u8; SECTOR_BYTES]| sector.iter().all(|byte| *byte == sector[0]).then_some(sector[0]);
    sectors.iter().map(|sector| whole(sector).expect("a sector is written whole") as char).collect()
}

#[test]
fn what_was_written_is_read_before_and_after_the_sync() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, b"hello world", 1000).expect("written");
    for _ in 0..2 {
        let mut bytes = [1; 20];
        assert_eq!(file.read_at(WRITE, &mut bytes, 995).expect("read"), 16);
        assert_eq!(&bytes[..16], b"\0\0\0\0\0hello world");
        assert_eq!(file.read_at(WRITE, &mut bytes, 5000).expect("read"), 0);
        assert_eq!(file.len().expect("a length"), 1011);
        file.sync_data(SYNC).expect("synced");
    }
}

#[test]
fn what_was_synced_survives_every_crash() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, &sectors("abcd"), 0).expect("written");
    file.sync_data(SYNC).expect("synced");
    assert_eq!(outcomes(&disk, |disk| letters(disk, "/data/a")), BTreeSet::from(["abcd".to_owned()]));
}

#[test]
fn what_was_not_synced_is_lost_kept_or_torn_by_sectors() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, &sectors("aaa"), 0).expect("written");
    file.sync_data(SYNC).expect("synced");
    file.write_at(WRITE, &sectors("bbb"), 0).expect("written");
    let all = ["aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"].map(str::to_owned);
    assert_eq!(outcomes(&disk, |disk| letters(disk, "/data/a")), BTreeSet::from(all));
}

#[test]
fn any_of_the_contents_since_the_last_sync_may_be_what_a_crash_leaves() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    for letter in ["a", "b", "c"] {
        file.write_at(WRITE, &sectors(letter), 0).expect("written");
        if letter == "a" {
            file.sync_data(SYNC).expect("synced");
        }
    }
    assert_eq!(outcomes(&disk, |disk| letters(disk, "/data/a")), ["a", "b", "c"].map(str::to_owned).into());
}

#[test]
fn a_new_length_may_be_lost_and_what_it_uncovers_is_zeros() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, &sectors("ab"), 0).expect("written");
    let left = outcomes(&disk, |disk| letters(disk, "/data/a"));
    assert_eq!(left, ["", "\0", "a", "\0\0", "\0b", "a\0", "ab"].map(str::to_owned).into());
}

#[test]
fn a_cut_that_was_not_synced_is_done_or_not() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, &sectors("abc"), 0).expect("written");
    file.sync_data(SYNC).expect("synced");
    file.set_len(WRITE, SECTOR_BYTES as u64).expect("cut");
    assert_eq!(outcomes(&disk, |disk| letters(disk, "/data/a")), ["a", "abc"].map(str::to_owned).into());
    file.set_len(WRITE, 2 * SECTOR_BYTES as u64).expect("lengthened");
    assert_eq!(letters(&disk, "/data/a"), "a\0");
    file.sync_data(SYNC).expect("synced");
    assert_eq!(outcomes(&disk, |disk| letters(disk, "/data/a")), ["a\0"].map(str::to_owned).into());
}

#[test]
fn a_sync_after_one_that_failed_makes_only_what_is_newer_durable() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, &sectors("aaa"), 0).expect("written");
    file.sync_data(SYNC).expect("synced");
    file.write_at(WRITE, &sectors("bb"), 0).expect("written");
    disk.faults().set(SYNC, Fault::errno(libc::EIO).times(1));
    file.sync_data(SYNC).expect_err("it was asked to fail");
    file.write_at(WRITE, &sectors("cc"), SECTOR_BYTES as u64).expect("written");
    file.sync_data(SYNC).expect("synced");
    assert_eq!(letters(&disk, "/data/a"), "bcc", "readers see what was written");
    assert_eq!(outcomes(&disk, |disk| letters(disk, "/data/a")), ["acc", "bcc"].map(str::to_owned).into());
}

#[test]
fn a_write_that_fails_may_have_written_some_of_its_bytes() {
    let mut left = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = Disk::simulated(seed);
        let file = disk.open(WRITE, Path::new("/a"), Open::CreateNew).expect("a file");
        disk.faults().fail(WRITE, libc::EIO);
        let e = file.write_at(WRITE, &[b'a'; 10], 0).expect_err("it was asked to fail");
        assert_eq!(e.source.raw_os_error(), Some(libc::EIO));
        left.insert(file.len().expect("a length"));
    }
    assert_eq!(left, (0..=10).collect());
}

#[test]
fn a_new_name_is_durable_after_the_sync_of_its_folder() {
    let disk = disk();
    let file = disk.open(WRITE, Path::new("/data/a"), Open::CreateNew).expect("a file");
    file.write_at(WRITE, b"text", 0).expect("written");
    file.sync_data(SYNC).expect("synced");
    let whole = Some("text".to_owned());
    assert_eq!(outcomes(&disk, |disk| text(disk, "/data/a")), [None, whole.clone()].into());
    disk.sync_dir(Path::new("/data")).expect("synced");
    assert_eq!(outcomes(&disk, |disk| text(disk, "/data/a")), [whole].into());
}

#[test]
fn names_in_a_folder_whose_own_name_is_lost_are_lost_with_it() {
    let disk = disk();
    disk.create_dir_all(Path::new("/data/b/c")).expect("made");
    disk.sync_dir(Path::new("/data/b")).expect("synced");
    let left = outcomes(&disk, |disk| disk.exists(Path::new("/data/b/c")).expect("looked"));
    assert_eq!(left, [false, true].into());
    disk.sync_dir(Path::new("/data")).expect("synced");
    assert_eq!(outcomes(&disk, |disk| disk.exists(Path::new("/data/b/c")).expect("looked")), [true].into());
}

#[test]
fn each_of_several_new_names_may_be_lost_for_itself() {
    let disk = disk();
    for name in ["/data/a", "/data/b"] {
        disk.open(WRITE, Path::new(name), Open::CreateNew).expect("a file");
    }
    let (a, b) = ("a".to_owned(), "b".to_owned());
    let all = [vec![], vec![a.clone()], vec![b.clone()], vec![a, b]];
    assert_eq!(outcomes(&disk, |disk| names(disk, "/data")), all.into());
}

#[test]
fn a_removed_file_may_come_back_until_its_folder_is_synced() {
    let disk = disk();
    file(&disk, "/data/a");
    disk.remove_file(Path::new("/data/a")).expect("removed");
    assert_eq!(names(&disk, "/data"), [] as [&str; 0]);
    assert_eq!(outcomes(&disk, |disk| names(disk, "/data").len()), [0, 1].into());
    disk.sync_dir(Path::new("/data")).expect("synced");
    assert_eq!(outcomes(&disk, |disk| names(disk, "/data").len()), [0].into());
}

#[test]
fn a_folder_that_is_being_removed_may_be_left_with_any_of_its_files() {
    let disk = disk();
    disk.create_dir_all(Path::new("/data/seg")).expect("made");
    for name in ["/data/seg/db", "/data/seg/conf"] {
        disk.open(WRITE, Path::new(name), Open::CreateNew).expect("a file");
    }
    disk.sync_dir(Path::new("/data/seg")).expect("synced");
    disk.sync_dir(Path::new("/data")).expect("synced");
    disk.remove_dir_all(Path::new("/data/seg")).expect("removed");
    disk.remove_dir_all(Path::new("/data/seg")).expect("removed already");
    let left = outcomes(&disk, |disk| {
        let is_there = disk.exists(Path::new("/data/seg")).expect("looked");
        is_there.then(|| names(disk, "/data/seg").len())
    });
    assert_eq!(left, [None, Some(0), Some(1), Some(2)].into());
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_whenever_the_power_goes() {
    for point in [WRITE, SYNC, Point::Rename, Point::SyncFolder] {
        let disk = disk();
        let path = Path::new("/data/manifest");
        disk.replace(WRITE, path, b"old").expect("written");
        assert_eq!(outcomes(&disk, |disk| text(disk, "/data/manifest")), [Some("old".to_owned())].into());
        // each step of it fails once, and the power goes then
        for step in 0..3 {
            disk.faults().set(point, Fault::errno(libc::EIO).after(step).times(1));
            let written = disk.replace(WRITE, path, b"new");
            let left = outcomes(&disk, |disk| text(disk, "/data/manifest").expect("a manifest"));
            assert!(left.is_subset(&["old".to_owned(), "new".to_owned()].into()), "{left:?}");
            assert!(written.is_err() || left == ["new".to_owned()].into(), "{left:?}");
        }
        disk.faults().clear_all();
        disk.replace(WRITE, path, b"new").expect("written");
        assert_eq!(outcomes(&disk, |disk| text(disk, "/data/manifest")), [Some("new".to_owned())].into());
    }
}

#[test]
fn a_rename_is_done_or_not() {
    let disk = disk();
    file(&disk, "/data/a");
    disk.create_dir_all(Path::new("/data/away")).expect("made");
    disk.sync_dir(Path::new("/data")).expect("synced");
    disk.rename(Path::new("/data/a"), Path::new("/data/away/a")).expect("renamed");
    let left = outcomes(&disk, |disk| (names(disk, "/data").len(), names(disk, "/data/away").len()));
    assert_eq!(left, [(2, 0), (1, 1)].into());
}

#[test]
fn a_full_disk_takes_what_fits_and_takes_more_when_there_is_room_again() {
    let disk = disk();
    let simulation = disk.simulation().expect("a simulated disk");
    simulation.set_capacity(Some(4 * SECTOR_BYTES as u64));
    let one = file(&disk, "/data/one");
    one.write_at(WRITE, &sectors("aaa"), 0).expect("written");
    let two = file(&disk, "/data/two");
    let e = two.write_at(WRITE, &sectors("bb"), 0).expect_err("there is no room");
    assert!(e.is_full(), "{e}");
    assert_eq!(two.len().expect("a length"), SECTOR_BYTES as u64);
    assert_eq!(disk.free_bytes(Path::new("/data")), Some(0));
    one.write_at(WRITE, &sectors("ccc"), 0).expect("what is written over takes no more room");
    drop(one);
    disk.remove_file(Path::new("/data/one")).expect("removed");
    assert_eq!(disk.free_bytes(Path::new("/data")), Some(3 * SECTOR_BYTES as u64));
    two.write_at(WRITE, &sectors("bbbb"), 0).expect("there is room again");
    assert_eq!(simulation.used_bytes(), 4 * SECTOR_BYTES as u64);
    two.set_len(WRITE, 0).expect("cut");
    two.sync_data(SYNC).expect("synced");
    assert_eq!(simulation.used_bytes(), 0);
}

#[test]
fn an_open_file_is_dead_after_a_crash_and_its_lock_is_free() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    assert!(file.try_lock().expect("locked"));
    disk.simulation().expect("a simulated disk").crash();
    assert!(file.write_at(WRITE, b"late", 0).is_err());
    assert!(file.sync_data(SYNC).is_err());
    let again = disk.open(WRITE, Path::new("/data/a"), Open::ReadWrite).expect("opened");
    assert!(again.try_lock().expect("locked"));
    drop(file);
    let third = disk.open(WRITE, Path::new("/data/a"), Open::ReadWrite).expect("opened");
    assert!(!third.try_lock().expect("looked"), "the dead handle has let go of nothing");
    again.unlock().expect("unlocked");
    assert!(third.try_lock().expect("locked"));
}

#[test]
fn a_removed_file_can_still_be_read_by_who_has_it_open() {
    let disk = disk();
    let file = file(&disk, "/data/a");
    file.write_at(WRITE, b"text", 0).expect("written");
    disk.remove_file(Path::new("/data/a")).expect("removed");
    let mut bytes = [0; 4];
    file.read_exact_at(WRITE, &mut bytes, 0).expect("read");
    assert_eq!(&bytes, b"text");
}

#[test]
fn the_same_seed_gives_the_same_crashes() {
    let run = |seed| {
        let disk = Disk::simulated(seed);
        let mut left = Vec::new();
        for round in 0..20u8 {
            let path = format!("/{}", round % 3);
            let file = disk.open(WRITE, Path::new(&path), Open::CreateOrOpen).expect("a file");
            file.write_at(WRITE, &sectors("abcdef"), 512 * u64::from(round)).expect("written");
            disk.simulation().expect("a simulated disk").crash();
            for entry in disk.list(Path::new("/")).expect("listed") {
                left.push(disk.read(WRITE, &Path::new("/").join(&entry.name)).expect("read"));
            }
        }
        left
    };
    assert!(run(3) == run(3));
    assert!(run(3) != run(4));
}

#[test]
fn the_errors_are_those_of_a_real_file_system() {
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().join("data");
    let kinds = |disk: &Disk, dir: &Path| {
        disk.create_dir_all(&dir.join("folder/below")).expect("made");
        disk.create_dir_all(&dir.join("folder/below")).expect("made already");
        disk.open(WRITE, &dir.join("file"), Open::CreateNew).expect("made");
        let open = |name: &str, how| disk.open(WRITE, &dir.join(name), how).map(drop);
        let errors = [
            open("missing", Open::Read),
            open("missing", Open::ReadWrite),
            open("file", Open::CreateNew),
            open("missing/file", Open::CreateNew),
            open("file/below", Open::CreateNew),
            open("folder", Open::ReadWrite),
            disk.create_dir_all(&dir.join("file")),
            disk.list(&dir.join("missing")).map(drop),
            disk.list(&dir.join("file")).map(drop),
            disk.remove_file(&dir.join("missing")),
            disk.remove_file(&dir.join("folder")),
            disk.rename(&dir.join("missing"), &dir.join("other")),
            disk.rename(&dir.join("file"), &dir.join("folder")),
            disk.sync_dir(&dir.join("missing")),
        ];
        let read = disk.open(WRITE, &dir.join("file"), Open::Read).expect("opened");
        let errors = errors.into_iter().chain([read.write_at(WRITE, b"text", 0)]);
        errors.map(|done| done.expect_err("it fails").source.kind()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&Disk::simulated(1), Path::new("/data")), kinds(&Disk::real(), &real));
}
