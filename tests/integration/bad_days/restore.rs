//! Backups and restores on bad days: what is restored is private, whole or refused; a backup is complete or absent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{SETTINGS, Stopped};
use crate::support::TestServer;
use crate::support::acknowledged::{Acknowledged, Verdict};
use crate::support::folder::{self, Bit};
use crate::support::program::{Ended, Program, command};
use crate::support::random::{Random, seed};
use crate::support::server::ADMIN;
use crate::support::small_disk::SmallDisk;

fn random() -> Random {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    Random(seed)
}

fn backup(server: &TestServer, file: &Path) -> Ended {
    let url = format!("http://{}", server.addr());
    let mut asked = command(&["backup", "--server", &url, "--output"]);
    asked.arg(file).env("STENTOR_TOKEN", ADMIN);
    Program::start(asked).wait()
}

fn restore_command(file: &Path, data: &Path) -> Command {
    let mut asked = command(&["restore"]);
    asked.arg(file).arg("--data").arg(data);
    asked
}

fn restore(file: &Path, data: &Path) -> Ended {
    Program::start(restore_command(file, data)).wait()
}

/// How many entries a folder has; none when it is not there.
fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// A backup of a server with something of everything, and what is in it.
fn taken(folder: &Path, events: usize, random: &mut Random) -> (PathBuf, Acknowledged) {
    let mut server = TestServer::at(&folder.join("origin"), &SETTINGS);
    server.launch();
    let acknowledged = Acknowledged::make(&server, events, super::EVENT_BYTES, random);
    let file = folder.join("backup.tar");
    backup(&server, &file).expect(0);
    server.stop();
    (file, acknowledged)
}

#[test]
fn what_is_restored_is_whole_and_private_whatever_the_mask_for_new_files_is() {
    let at = tempfile::tempdir().expect("a folder can be made");
    let (file, acknowledged) = taken(at.path(), super::EVENTS, &mut random());
    for (name, exists) in [("new", false), ("there", true)] {
        let data = at.path().join(name);
        if exists {
            fs::create_dir(&data).expect("it can be made");
        }
        let mut asked = restore_command(&file, &data);
        // SAFETY: only a system call is made between fork and exec
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut asked, || {
                libc::umask(0o022);
                Ok(())
            });
        }
        Program::start(asked).wait().expect(0);
        assert_eq!(folder::open_to_others(&data), Vec::<String>::new());
        super::expect_whole_after_start(&data, &acknowledged);
        assert_eq!(folder::open_to_others(&data), Vec::<String>::new());
    }
}

#[test]
fn a_backup_with_a_flipped_bit_is_refused_or_restored_whole() {
    const PLACES: usize = 40;
    let mut random = random();
    let at = tempfile::tempdir().expect("a folder can be made");
    let (file, acknowledged) = taken(at.path(), 60, &mut random);
    let bytes = fs::metadata(&file).expect("the file").len();
    let (mut refused, mut failures) = (0, Vec::new());
    for n in 0..PLACES as u64 {
        // half of them near the ends, where names, sizes and sums are
        let byte = match n % 4 {
            0 => random.below(4_096.min(bytes)),
            1 => bytes - 1 - random.below(8_192.min(bytes)),
            _ => random.below(bytes),
        };
        let bit = Bit { file: "backup.tar".into(), byte, bit: random.below(8) as u8 };
        bit.flip(at.path());
        let data = at.path().join(format!("data-{n}"));
        let ended = restore(&file, &data);
        match ended.code {
            Some(1) => {
                refused += 1;
                if entries(&data) != 0 || ended.err.trim().is_empty() {
                    failures.push(format!("{bit:?}: {} entries are left, and it says {}", entries(&data), ended.err));
                }
            }
            Some(0) => {
                let mut server = TestServer::at(&data, &SETTINGS);
                match server.try_launch().map(|()| acknowledged.judge(&server)) {
                    Ok(Ok(Verdict::Whole)) => {}
                    other => failures.push(format!("{bit:?}: it was restored, and {other:?}")),
                }
            }
            _ => failures.push(format!("{bit:?}: {ended:?}")),
        }
        bit.flip(at.path());
    }
    println!("{refused} of {PLACES} refused, the rest whole");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The damage is in the origin. What was lost there is lost in the copy and announced there, too, or there is no copy.
#[test]
fn a_backup_of_a_damaged_server_is_complete_with_its_losses_announced_or_absent() {
    let mut random = random();
    let stopped = Stopped::new(&mut random);
    let places = folder::places(&stopped.data, "log", 12, &mut random);
    for (n, place) in places.into_iter().enumerate() {
        let data = stopped.copy();
        place.flip(&data);
        let mut server = TestServer::at(&data, &SETTINGS);
        if server.try_launch().is_err() {
            continue;
        }
        let file = stopped.folder.path().join(format!("backup-{n}.tar"));
        let ended = backup(&server, &file);
        // read after the backup was taken, because reading is what notices some of the damage
        let here = stopped.acknowledged.judge(&server).expect("never silent");
        if ended.code != Some(0) {
            assert!(ended.code == Some(1) && !file.exists(), "{place:?}: {ended:?}");
            continue;
        }
        let copy = stopped.folder.path().join(format!("restored-{n}"));
        restore(&file, &copy).expect(0);
        let mut second = TestServer::at(&copy, &SETTINGS);
        second.launch();
        let there = stopped.acknowledged.judge(&second);
        assert_eq!(there, Ok(here), "{place:?}");
        drop((server, second));
        folder::remove(&data);
        folder::remove(&copy);
    }
}

#[test]
fn without_room_there_is_no_backup_and_nothing_is_restored() {
    let at = tempfile::tempdir().expect("a folder can be made");
    let mut random = random();
    let (file, acknowledged) = taken(at.path(), super::EVENTS, &mut random);
    let Some(disk) = SmallDisk::new(256 << 20) else { return };
    let data = disk.data();
    for leave_bytes in [0, 100 << 10, 1 << 20, 3 << 20] {
        disk.fill(leave_bytes);
        let ended = restore(&file, &data);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("No space left") || ended.err.contains("bytes are free"), "{ended:?}");
        assert!(ended.err.contains("make room"), "it says what to do: {ended:?}");
        assert_eq!(entries(&data), 0, "nothing is left");
        disk.empty();
    }
    restore(&file, &data).expect(0);
    let mut server = TestServer::at(&data, &[&SETTINGS[..], &[("storage.min_free_bytes", "0")]].concat());
    server.launch();
    let out = disk.path().join("backup.tar");
    for leave_bytes in [0, 1 << 20] {
        disk.fill(leave_bytes);
        let ended = backup(&server, &out);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let left: Vec<_> =
            folder::files(disk.path()).into_iter().filter(|path| path.to_string_lossy().contains("backup")).collect();
        assert!(left.is_empty(), "{left:?}");
        disk.empty();
    }
    acknowledged.expect_whole(&server);
}

#[test]
fn a_restore_that_was_killed_is_taken_for_no_data_folder() {
    const KILLS: u64 = 12;
    let mut random = random();
    let at = tempfile::tempdir().expect("a folder can be made");
    let (file, acknowledged) = taken(at.path(), super::EVENTS, &mut random);
    let started = Instant::now();
    restore(&file, &at.path().join("whole")).expect(0);
    let most_us = started.elapsed().as_micros() as u64;
    for n in 0..KILLS {
        let data = at.path().join(format!("data-{n}"));
        let mut asked = restore_command(&file, &data);
        let mut child =
            asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let death = Instant::now() + Duration::from_micros(random.below(most_us));
        while let Some(left) = death.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        // before the mark there is nothing of the backup yet
        let is_begun = |entry: fs::DirEntry| !["lock", "restoring.new"].iter().any(|name| entry.file_name() == *name);
        if !fs::read_dir(&data).is_ok_and(|left| left.flatten().any(is_begun)) {
            continue;
        }
        let mut server = TestServer::at(&data, &SETTINGS);
        match server.try_launch() {
            Ok(()) => acknowledged.expect_whole(&server),
            Err(ended) => {
                assert!(ended.code == Some(1) && ended.err.contains("backup"), "{ended:?}");
                folder::remove(&data);
                restore(&file, &data).expect(0);
                super::expect_whole_after_start(&data, &acknowledged);
            }
        }
    }
}
