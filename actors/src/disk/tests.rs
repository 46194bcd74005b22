use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::disk::failure::Fault;

const POINT: Point = Point::WalWrite;

/// A folder on the real disk and one on a simulated one.
fn places() -> [(Disk, PathBuf, Option<tempfile::TempDir>); 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_path_buf();
    [(Disk::real(), path, Some(folder)), (Disk::simulated(1), "/".into(), None)]
}

#[test]
fn a_replaced_file_holds_the_new_bytes_and_leaves_nothing_beside_it() {
    for (disk, dir, _folder) in places() {
        let path = dir.join("manifest");
        disk.replace(POINT, &path, b"a longer text").expect("written");
        disk.replace(POINT, &path, b"short").expect("written again");
        assert_eq!(disk.read(POINT, &path).expect("read"), b"short");
        assert_eq!(disk.list(&dir).expect("listed"), [Entry { name: "manifest".into(), is_dir: false }]);
    }
}

#[test]
fn files_and_folders_are_made_listed_renamed_and_removed() {
    for (disk, dir, _folder) in places() {
        disk.create_dir_all(&dir.join("b/c")).expect("made");
        disk.open(POINT, &dir.join("a"), Open::CreateNew).expect("made");
        let entry = |name: &str, is_dir| Entry { name: name.into(), is_dir };
        assert_eq!(disk.list(&dir).expect("listed"), [entry("a", false), entry("b", true)]);
        disk.rename(&dir.join("a"), &dir.join("b/d")).expect("renamed");
        assert_eq!(disk.list(&dir.join("b")).expect("listed"), [entry("c", true), entry("d", false)]);
        assert_eq!(disk.len(&dir.join("b/d")).expect("looked"), Some(0));
        assert!(!disk.exists(&dir.join("a")).expect("looked"));
        disk.remove_file(&dir.join("b/d")).expect("removed");
        disk.remove_dir_all(&dir.join("b")).expect("removed");
        disk.remove_dir_all(&dir.join("b")).expect("there is none");
        disk.sync_dir(&dir).expect("synced");
        assert_eq!(disk.list(&dir).expect("listed"), []);
    }
}

#[test]
fn the_length_of_all_files_below_a_folder_is_their_sum() {
    for (disk, dir, _folder) in places() {
        assert_eq!(disk.bytes_below(&dir.join("missing")).expect("looked"), 0);
        disk.create_dir_all(&dir.join("log/below")).expect("made");
        for (name, bytes) in [("log/a", 3), ("log/below/b", 4), ("log/below/c", 0)] {
            disk.replace(POINT, &dir.join(name), &vec![1; bytes]).expect("written");
        }
        assert_eq!(disk.bytes_below(&dir.join("log")).expect("looked"), 7);
    }
}

#[test]
fn a_read_ends_where_the_file_ends() {
    for (disk, dir, _folder) in places() {
        let file = disk.open(POINT, &dir.join("a"), Open::CreateNew).expect("made");
        assert!(file.is_empty().expect("a length"));
        file.write_at(POINT, b"0123456789", 0).expect("written");
        let mut bytes = [0; 8];
        assert_eq!(file.read_at(POINT, &mut bytes, 4).expect("read"), 6);
        assert_eq!(&bytes[..6], b"456789");
        file.read_exact_at(POINT, &mut bytes, 2).expect("read");
        let e = file.read_exact_at(POINT, &mut bytes, 3).expect_err("the file ends before");
        assert_eq!(e.source.kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(POINT, 3).expect("cut");
        assert_eq!(disk.read(POINT, &dir.join("a")).expect("read"), b"012");
    }
}

#[test]
fn what_is_made_is_for_the_servers_user_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::real();
    let dir = folder.path().join("data");
    disk.create_dir_all(&dir.join("log")).expect("made");
    disk.replace(POINT, &dir.join("manifest"), b"text").expect("written");
    disk.open(POINT, &dir.join("piece"), Open::CreateNew).expect("made");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!([mode(&dir), mode(&dir.join("log"))], [0o700; 2]);
    assert_eq!([mode(&dir.join("manifest")), mode(&dir.join("piece"))], [0o600; 2]);
}

#[test]
fn every_operation_fails_with_the_reason_that_was_asked_for() {
    for (disk, dir, _folder) in places() {
        let path = dir.join("a");
        let file = disk.open(POINT, &path, Open::CreateNew).expect("made");
        type Operation<'a> = &'a dyn Fn() -> Result<(), DiskError>;
        let operations: [(Point, Operation<'_>); 13] = [
            (Point::MakeFolder, &|| disk.create_dir_all(&dir.join("folder"))),
            (Point::List, &|| disk.list(&dir).map(drop)),
            (Point::Look, &|| disk.len(&path).map(drop)),
            (Point::Rename, &|| disk.rename(&path, &dir.join("b"))),
            (Point::Remove, &|| disk.remove_file(&path)),
            (Point::Remove, &|| disk.remove_dir_all(&dir.join("folder"))),
            (Point::SyncFolder, &|| disk.sync_dir(&dir)),
            (Point::WalOpen, &|| disk.open(Point::WalOpen, &path, Open::Read).map(drop)),
            (Point::WalRead, &|| disk.read(Point::WalRead, &path).map(drop)),
            (Point::WalWrite, &|| file.write_at(Point::WalWrite, b"text", 0)),
            (Point::WalSync, &|| file.sync_data(Point::WalSync)),
            (Point::WalFill, &|| file.set_len(Point::WalFill, 10)),
            (Point::ManifestWrite, &|| disk.replace(Point::ManifestWrite, &path, b"text")),
        ];
        for (point, operation) in operations {
            disk.faults().fail(point, libc::ENOSPC);
            let e = operation().expect_err("it was asked to fail");
            assert!(e.is_full(), "{}: {e}", point.name());
            disk.faults().clear(point);
        }
    }
}

#[test]
fn a_damaged_read_differs_in_one_bit_and_leaves_the_file_as_it_is() {
    for (disk, dir, _folder) in places() {
        let path = dir.join("a");
        disk.replace(POINT, &path, b"text").expect("written");
        disk.faults().set(Point::WalRead, Fault::damage().times(1));
        let read = disk.read(Point::WalRead, &path).expect("read");
        let flipped: u32 = read.iter().zip(b"text").map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(flipped, 1);
        assert_eq!(disk.read(Point::WalRead, &path).expect("read"), b"text");
    }
}

#[test]
fn an_error_is_one_line_with_the_path_the_reason_and_a_cure() {
    let e = Disk::real().open(POINT, Path::new("/nowhere/db"), Open::Read).expect_err("there is none");
    assert_eq!(e.to_string(), "cannot open /nowhere/db: No such file or directory (os error 2)");
    assert!(e.is_missing() && !e.is_full());
    let error = |errno| DiskError::new("sync", Path::new("/data/db"), io::Error::from_raw_os_error(errno));
    assert!(error(libc::ENOSPC).is_full() && error(libc::EDQUOT).is_full() && !error(libc::EIO).is_full());
    for (errno, word) in [
        (libc::EACCES, "chown"),
        (libc::EPERM, "chown"),
        (libc::EMFILE, "ulimit"),
        (libc::ENFILE, "fs.file-max"),
        (libc::ENOSPC, "room"),
        (libc::EDQUOT, "quota"),
        (libc::EFBIG, "ulimit -f"),
        (libc::ELOOP, "put back"),
        (libc::ENOTDIR, "put back"),
        (libc::EISDIR, "put back"),
        (libc::EIO, "dmesg"),
        (libc::EROFS, "read-only"),
        (libc::ENOMEM, "memory"),
        (libc::EWOULDBLOCK, "stop"),
        (libc::ENOENT, "restore"),
        (libc::EINVAL, "doctor"),
    ] {
        assert!(error(errno).cure().as_str().contains(word), "{errno}: {}", error(errno).cure());
        assert!(!error(errno).to_string().contains('\n'));
    }
}

#[test]
fn a_data_folder_has_one_server_at_a_time() {
    for (disk, dir, _folder) in places() {
        let dir = dir.join("data");
        let lock = DataLock::take(&disk, &dir).expect("taken");
        let e = DataLock::take(&disk, &dir).expect_err("it is in use");
        assert!(matches!(&e, LockError::InUse(path) if *path == dir), "{e}");
        assert!(e.cure().as_str().contains("stop"), "{}", e.cure());
        drop(lock);
        DataLock::take(&disk, &dir).expect("it is free again");
    }
}

#[test]
fn a_data_folder_that_cannot_be_locked_says_why() {
    for (disk, dir, _folder) in places() {
        disk.faults().fail(Point::LockOpen, libc::EACCES);
        let e = DataLock::take(&disk, &dir.join("data")).expect_err("it cannot be opened");
        assert!(e.to_string().contains("data/lock"), "{e}");
    }
}

#[test]
fn the_free_room_of_a_folder_is_known_and_of_none_that_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::real();
    assert!(disk.free_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
    assert_eq!(disk.free_bytes(&folder.path().join("missing")), None);
}

/// A simulation of the whole engine found it: the first start did not sync what the data folder's own name is in.
#[test]
fn a_folder_that_was_made_outlives_a_power_cut_with_those_above_it() {
    for seed in 0..30 {
        let (disk, folder) = (Disk::simulated(seed), Path::new("/srv/stentor/data"));
        disk.create_dir_all(Path::new("/srv")).expect("a folder");
        disk.sync_dir(Path::new("/")).expect("a folder that is there for good");
        disk.make_folder(folder).expect("a new folder");
        let after = disk.after_crash(seed).expect("a simulated disk");
        assert!(after.exists(folder).expect("a look"), "seed {seed}");
    }
}

/// A pipe would hold up the start for good, and a device swallows what is written to it.
#[test]
fn what_is_no_regular_file_is_not_opened_and_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("db");
    let make: [(&str, &dyn Fn()); 4] = [
        ("a folder", &|| fs::create_dir(&path).expect("made")),
        ("a pipe", &|| {
            let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
            assert!(made.success());
        }),
        ("a device", &|| std::os::unix::fs::symlink("/dev/null", &path).expect("made")),
        ("a link to itself", &|| std::os::unix::fs::symlink(&path, &path).expect("made")),
    ];
    for (what, make) in make {
        make();
        for how in [Open::Read, Open::ReadWrite, Open::CreateOrOpen] {
            let e = Disk::real().open(POINT, &path, how).expect_err(what);
            assert!(e.cure().as_str().contains("put back") && !e.is_missing(), "{what}: {e}; {}", e.cure());
        }
        fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).expect("removed");
    }
    // where the operator keeps a file elsewhere
    let other = folder.path().join("other");
    fs::write(&other, "text").expect("written");
    std::os::unix::fs::symlink(&other, &path).expect("made");
    assert_eq!(Disk::real().read(POINT, &path).expect("read"), b"text");
}
