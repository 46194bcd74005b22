//! Archives that are no backup, folders that are not empty, and disks that fail.

use std::path::Path;

use rstest::rstest;

use super::rig::*;
use crate::backup::{BackupError, MARK, check, refuse_half_restored};
use crate::disk::failure::Fault;
use crate::disk::{Disk, Point};

const ORIGIN: &str = "/origin";
const COPY: &str = "/copy";

fn small(disk: &Disk) -> Server {
    let mut server = Server::new(disk, Path::new(ORIGIN));
    server.publish(1, 300, 20);
    server.publish(2, 300, 20);
    server.seal();
    server.publish(1, 300, 3);
    server.write_note("a", "note");
    server
}

/// What is in a folder; nothing when it is missing.
fn names(disk: &Disk, dir: &str) -> Vec<String> {
    disk.list(Path::new(dir)).map_or(Vec::new(), |entries| entries.into_iter().map(|entry| entry.name).collect())
}

/// Where an archive ends too early, in parts of its length, and that nothing is left of it.
#[rstest]
fn an_archive_that_was_cut_off_leaves_nothing(#[values(0, 1, 10, 25, 50, 75, 90, 99)] percent: usize) {
    let disk = Disk::simulated(1);
    let archive = small(&disk).back_up();
    // tar ends in two blocks of nothing
    let cut = &archive[..(archive.len() - 1024 - 512) * percent / 100];
    let refused = restore_to(&disk, cut, Path::new(COPY)).expect_err("it is cut");
    assert!(matches!(refused, BackupError::CutOff | BackupError::Damaged(_)), "{refused}");
    assert!(check(cut).is_err());
    assert_eq!(names(&disk, COPY), Vec::<String>::new());
}

#[test]
fn a_single_wrong_bit_in_any_file_is_found() {
    let disk = Disk::simulated(1);
    let archive = small(&disk).back_up();
    let find = |text: &[u8]| archive.windows(text.len()).position(|bytes| bytes == text).expect("it is there");
    let places: [&[u8]; 7] =
        [b"1.2.3", b"slug-1", b"note", b"\"x\":\"", b"notes_lost", b"documents/000000", b"log/0000000001/000000"];
    for at in places.map(find).into_iter().chain([find(b"sha256") + 12]) {
        let mut damaged = archive.clone();
        damaged[at] ^= 1;
        let refused = check(damaged.as_slice()).expect_err("it is damaged");
        assert!(matches!(refused, BackupError::Damaged(_)), "{refused}");
        assert!(restore_to(&disk, &damaged, Path::new(COPY)).is_err());
        assert_eq!(names(&disk, COPY), Vec::<String>::new());
    }
}

/// An archive with these files, whose digest is right.
pub fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut tar = tar::Builder::new(Vec::new());
    let mut digest = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        // past the checks of the library that writes
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).expect("a file");
    };
    for (name, content) in files {
        for part in
            [&(name.len() as u64).to_be_bytes(), name.as_bytes(), &(content.len() as u64).to_be_bytes(), content]
        {
            digest.update(part);
        }
        add(name, content);
    }
    let sha256: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    add("complete.json", format!("{{\"files\":{},\"sha256\":\"{sha256}\"}}", files.len()).as_bytes());
    tar.into_inner().expect("an archive")
}

pub fn about(format: u32) -> Vec<u8> {
    format!(r#"{{"format":{format},"version":"1","taken_at_ms":0,"head":"00000000000000000000000000","sequence":3}}"#)
        .into()
}

const NO_LOSSES: (&str, &[u8]) = ("losses.json", br#"{"log":[],"notes_numbered_from":0,"notes_lost":false}"#);

#[rstest]
fn a_name_in_an_archive_never_leads_out_of_the_folder(#[values(1, 2)] format: u32) {
    for name in
        ["../evil", "/tmp/evil", "log/../../evil", "log/1/../2", "log/1", "log//1", "evil", "log/x/1", "documents/../x"]
    {
        let archive = archive_of(&[("backup.json", &about(format)), (name, b""), NO_LOSSES]);
        let disk = Disk::simulated(1);
        let refused = restore_to(&disk, &archive, Path::new("/in/here")).expect_err("it is refused");
        assert!(matches!(&refused, BackupError::Damaged(reason) if reason.contains("it holds")), "{name}: {refused}");
        assert_eq!(
            (names(&disk, "/"), names(&disk, "/in"), names(&disk, "/in/here")),
            (vec!["in".into()], vec!["here".into()], vec![])
        );
    }
}

#[test]
fn contents_that_no_server_has_written_are_refused_although_the_digest_is_right() {
    let entry = |key: &[u8], value: &[u8]| {
        [&(key.len() as u32).to_be_bytes(), &(value.len() as u32).to_be_bytes(), key, value].concat()
    };
    let event = |n: u64| {
        let event = small(&Disk::simulated(n)).events().remove(0);
        crate::log::encode_events(&[event])
    };
    let part = event(1);
    let mut spoilt = part.clone();
    let last = spoilt.len() - 1;
    spoilt[last] ^= 1;
    let (table, letter) = (entry(b"?x", b"1"), entry(b"c", b"1"));
    let too_long = [&7u32.to_be_bytes()[..], &[0; 8]].concat();
    let cases: [(&str, &[u8]); 9] = [
        ("documents/000000", &table),
        ("documents/000000", &too_long),
        ("documents/000000", &letter[..letter.len() - 1]),
        ("notes/000000", &letter),
        ("keys/000000", b"cut"),
        ("log/0000000001/000000", &part[..part.len() - 1]),
        ("log/0000000001/000000", &spoilt),
        // of a channel that no document counts, and behind the head
        ("log/0000000001/000000", &part),
        ("losses.json", b"{}"),
    ];
    for (name, content) in cases {
        let disk = Disk::simulated(1);
        let archive = archive_of(&[("backup.json", &about(2)), (name, content), NO_LOSSES]);
        let refused = restore_to(&disk, &archive, Path::new(COPY)).expect_err(name);
        assert!(matches!(refused, BackupError::Damaged(_)), "{name}: {refused}");
        assert_eq!(names(&disk, COPY), Vec::<String>::new());
    }
    let disk = Disk::simulated(1);
    let without = archive_of(&[("backup.json", &about(2))]);
    assert!(matches!(restore_to(&disk, &without, Path::new(COPY)), Err(BackupError::Damaged(_))));
}

#[test]
fn a_folder_with_anything_in_it_is_not_restored_into() {
    let disk = Disk::simulated(1);
    let server = small(&disk);
    let archive = server.back_up();
    let before = names(&disk, ORIGIN);
    let refused = restore_to(&disk, &archive, Path::new(ORIGIN)).expect_err("it is not empty");
    assert!(matches!(refused, BackupError::NotEmpty(_)), "{refused}");
    assert_eq!((names(&disk, ORIGIN), server.restart().events().len()), (before, 43), "what is there stays");
    // half of a backup names the way out
    disk.create_dir_all(Path::new(COPY)).expect("a folder");
    disk.replace(Point::BackupWrite, &Path::new(COPY).join(MARK), b"").expect("a mark");
    let refused = restore_to(&disk, &archive, Path::new(COPY)).expect_err("it is half");
    assert!(matches!(refused, BackupError::HalfRestored(_)) && refused.to_string().contains("empty it"), "{refused}");
    assert!(matches!(refuse_half_restored(&disk, Path::new(COPY)), Err(BackupError::HalfRestored(_))));
    assert!(refuse_half_restored(&disk, Path::new(ORIGIN)).is_ok());
}

#[test]
fn a_format_of_the_future_is_refused_by_its_number() {
    let archive = archive_of(&[("backup.json", &about(7)), ("something/new", b"")]);
    let refused = check(archive.as_slice()).expect_err("it is newer");
    assert!(matches!(refused, BackupError::Format(7)) && refused.to_string().contains("format 7"), "{refused}");
}

/// The folder is empty after a failure, or no server starts on it, or it is complete and only the last sync failed.
#[test]
fn a_disk_that_fails_at_any_step_leaves_nothing_that_a_server_starts_on() {
    let archive = small(&Disk::simulated(1)).back_up();
    let mut failures = 0;
    for (n, point) in Point::ALL.iter().enumerate() {
        for after in 0.. {
            let disk = Disk::simulated(n as u64);
            let errno = if n % 2 == 0 { libc::ENOSPC } else { libc::EIO };
            disk.faults().set(*point, Fault::errno(errno).after(after).times(1));
            let restored = restore_to(&disk, &archive, Path::new(COPY));
            disk.faults().clear_all();
            let at = format!("{point:?}, pass {after}");
            let Err(e) = restored else {
                assert_eq!(start_on(&disk, Path::new(COPY)).events().len(), 43, "{at}");
                break;
            };
            failures += 1;
            assert!(errno != libc::ENOSPC || e.to_string().contains("No space left"), "{at}: {e}");
            let left = names(&disk, COPY);
            if !left.is_empty() && !left.contains(&MARK.to_owned()) {
                assert_eq!(start_on(&disk, Path::new(COPY)).events().len(), 43, "{at}: {left:?}");
            }
        }
    }
    assert!(failures > 50, "{failures}");
}

#[test]
fn a_full_disk_leaves_an_empty_folder_and_says_what_to_do() {
    let archive = small(&Disk::simulated(1)).back_up();
    let disk = Disk::simulated(1);
    let simulation = disk.simulation().expect("it is simulated");
    let mut capacity = 0;
    loop {
        simulation.set_capacity(Some(capacity));
        match restore_to(&disk, &archive, Path::new(COPY)) {
            Ok(_) => break,
            Err(e) => {
                assert!(e.to_string().contains("No space left") || e.to_string().contains("room"), "{e}");
                assert_eq!(names(&disk, COPY), Vec::<String>::new());
            }
        }
        capacity += 8 << 10;
    }
    simulation.set_capacity(None);
    assert_eq!(start_on(&disk, Path::new(COPY)).events().len(), 43);
}
