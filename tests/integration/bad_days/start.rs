//! Starts that cannot succeed: a lock that somebody holds, files that may not be read, no more open files, no room. The server ends
//! with 1 and one line that names the file, the reason and the cure, and the next start under good conditions finds everything.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{
    SETTINGS, Stopped, as_it_is, expect_refusal, expect_untouched, expect_whole_after_start, judge_refusal, quiet,
};
use crate::support::random::{Random, seed};
use crate::support::small_disk::SmallDisk;
use crate::support::{TestServer, eventually, folder, within};

/// By when a server works again that has room again.
const RECOVERY: Duration = Duration::from_secs(5);

fn stopped() -> Stopped {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    Stopped::new(&mut Random(seed))
}

/// A name as it stands in a message.
fn name(path: &Path) -> String {
    path.display().to_string()
}

/// The command without the right of root to read and write what it may not.
fn without_override(mut command: Command) -> Command {
    // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_CHOWN of linux/capability.h
    const OVERRIDES: [libc::c_ulong; 4] = [1, 2, 3, 0];
    // SAFETY: only system calls are made between fork and exec
    unsafe {
        command.pre_exec(|| {
            for capability in OVERRIDES {
                let dropped = libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0;
                // who is not root has none of them
                if !dropped && libc::geteuid() == 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command
}

/// The command with a limit on open files that it cannot raise.
fn with_open_files(limit: u64) -> impl Fn(Command) -> Command + Send + Sync + 'static {
    move |mut command| {
        // SAFETY: only a system call is made between fork and exec
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        command
    }
}

#[test]
fn a_lock_on_a_segment_ends_the_start_and_costs_nothing() {
    let stopped = stopped();
    for segment in folder::numbered(&stopped.data.join("log")) {
        let data = stopped.copy();
        let segment = data.join(segment.strip_prefix(&stopped.data).expect("it is below"));
        let held = folder::hold_lock(&segment.join("db"));
        expect_refusal(&data, as_it_is, &[&[&name(&segment)], &["lock", "in use", "held"], &["stop"]]);
        drop(held);
        expect_whole_after_start(&data, &stopped.acknowledged);
        folder::remove(&data);
    }
}

#[test]
fn a_lock_on_what_is_configured_ends_the_start_and_costs_nothing() {
    let stopped = stopped();
    let generation = folder::newest(&stopped.data.join("state"));
    let held = folder::hold_lock(&generation.join("db"));
    expect_refusal(&stopped.data, as_it_is, &[&[&name(&generation)], &["lock", "in use", "held"], &["stop"]]);
    drop(held);
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}

/// What a start has to read or write: files of each kind, then the folders that hold them.
fn needed(data: &Path) -> Vec<PathBuf> {
    let segments = folder::numbered(&data.join("log"));
    let (first, last) = (&segments[0], &segments[segments.len() - 1]);
    let (piece, generation) = (folder::newest(&data.join("wal")), folder::newest(&data.join("state")));
    let mut needed: Vec<_> =
        ["format", "secret-key", "wal/manifest", "wal", "log", "state"].map(|name| data.join(name)).into();
    needed.extend([first.join("db"), first.join("manifest"), last.join("db"), last.join("manifest"), first.clone()]);
    // beside its database, where it is read only when somebody asks for an event
    let is_snapshot =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.display().to_string().starts_with("snap."));
    let beside = folder::files(first).into_iter().find(is_snapshot);
    needed.extend([first.join("conf"), first.join("blobs"), beside.expect("sled has made a snapshot")]);
    needed.extend([piece, generation.join("db"), generation.join("manifest"), generation]);
    needed
}

#[test]
fn a_file_or_folder_that_may_not_be_read_ends_the_start_and_costs_nothing() {
    let stopped = stopped();
    for path in needed(&stopped.data) {
        let before = folder::listing(&stopped.data);
        let permissions = fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions();
        fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("it is ours");
        let ended = quiet(&stopped.data, without_override).try_launch().expect_err("it must not start");
        fs::set_permissions(&path, permissions).expect("it is ours");
        let words: [&[&str]; 3] =
            [&[&name(&path)], &["permission denied"], &["chown", "chmod", "owner", "belong", "user"]];
        judge_refusal(&stopped.data, &before, &ended, &words);
    }
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}

/// Else it would begin to fail when the first segment is sealed.
#[test]
fn a_folder_that_may_not_be_written_ends_the_start_and_costs_nothing() {
    let stopped = stopped();
    for path in ["wal", "log", "state", "notes"].map(|name| stopped.data.join(name)) {
        let before = folder::listing(&stopped.data);
        fs::set_permissions(&path, Permissions::from_mode(0o500)).expect("it is ours");
        let ended = quiet(&stopped.data, without_override).try_launch().expect_err("it must not start");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("it is ours");
        let words: [&[&str]; 3] = [&[&name(&path)], &["permission denied"], &["chown"]];
        judge_refusal(&stopped.data, &before, &ended, &words);
    }
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}

#[test]
fn a_file_of_another_owner_ends_the_start_and_costs_nothing() {
    // SAFETY: it only asks
    if unsafe { libc::geteuid() } != 0 {
        assert!(std::env::var("CI").is_err(), "CI runs this as root");
        eprintln!("NOT CHECKED: only root can give a file away");
        return;
    }
    const NOBODY: u32 = 65_534;
    let stopped = stopped();
    let is_file = |path: &PathBuf| path.is_file();
    for path in needed(&stopped.data).into_iter().filter(is_file) {
        let before = folder::listing(&stopped.data);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
        let ended = quiet(&stopped.data, without_override).try_launch().expect_err("it must not start");
        std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("root may");
        let words: [&[&str]; 3] = [&[&name(&path)], &["permission denied"], &["chown", "owner", "belong", "user"]];
        judge_refusal(&stopped.data, &before, &ended, &words);
    }
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}

#[test]
fn too_few_open_files_end_the_start_whichever_is_the_first_too_many() {
    let stopped = stopped();
    let mut refusals = 0;
    // from what the program needs before its first line runs to more than a server of a few events needs
    for limit in (10..160).step_by(2) {
        let before = folder::listing(&stopped.data);
        let mut server = quiet(&stopped.data, with_open_files(limit));
        match server.try_launch() {
            Ok(()) => {
                let answer = server.request("GET", "/health/live").try_send();
                assert!(
                    answer.is_ok_and(|answer| answer.status == 200),
                    "with {limit} open files it starts and must serve"
                );
                server.kill();
            }
            Err(ended) => {
                judge_refusal(&stopped.data, &before, &ended, &[&["files"], &["ulimit", "LimitNOFILE"]]);
                refusals += 1;
            }
        }
    }
    assert!(refusals > 0, "some of the limits are too low for any server");
    expect_whole_after_start(&stopped.data, &stopped.acknowledged);
}

/// A server that starts on a full disk serves all that it has and refuses to write. One that needs room to start ends with 1.
#[test]
fn a_start_on_a_full_disk_serves_or_ends_and_moves_nothing_however_often_it_is_tried() {
    const DISK_BYTES: u64 = 384 << 20;
    let Some(disk) = SmallDisk::new(DISK_BYTES) else { return };
    let stopped = stopped();
    for leave_bytes in [0, 64 << 10, 5 << 20, 5 << 20, 5 << 20, 5 << 20, 13 << 20] {
        let data = disk.data();
        if !data.exists() {
            fs::create_dir(&data).expect("there is room");
            folder::copy_into(&stopped.data, &data);
        }
        disk.fill(leave_bytes);
        let before = folder::listing(&data);
        let mut server = quiet(&data, as_it_is);
        match server.try_launch() {
            Err(ended) => {
                let words: [&[&str]; 3] = [&[&name(&data)], &["no space left"], &["free", "make room", "larger"]];
                judge_refusal(&data, &before, &ended, &words);
                disk.empty();
            }
            Ok(()) => {
                let (channel, token) = stopped.acknowledged.channels()[0].clone();
                let id = channel.trim_start_matches("map:");
                let refused = server.request("POST", &format!("/api/maps/{id}/events")).bearer(&token);
                let refused = refused.json(&json!({"type": "add_system", "payload": {}})).send();
                assert_eq!(
                    (refused.status, &refused.json()["code"]),
                    (503, &json!("STORAGE_FULL")),
                    "{}",
                    refused.text()
                );
                let history = server.admin("GET", &format!("/api/maps/{id}/events?limit=1000")).send().expect(200);
                let rows = stopped.acknowledged.events[&channel].len();
                assert_eq!(history["data"].as_array().map(Vec::len), Some(rows));
                server.stop();
                expect_untouched_but_generations(&data, &before);
                disk.empty();
            }
        }
    }
    let data = disk.data();
    let mut server = TestServer::at(&data, &[&SETTINGS[..], &[("storage.min_free_bytes", "0")]].concat());
    server.launch();
    stopped.acknowledged.expect_whole(&server);
}

#[test]
fn a_source_on_a_full_disk_does_not_keep_the_server_from_starting_and_counts_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new(256 << 20) else { return };
    let mut server = TestServer::at(&disk.data(), &SETTINGS);
    server.set(&[("storage.min_free_bytes", "8388608")]);
    server.launch();
    let map = server.new_map("full");
    let made = server
        .request("POST", "/api/webhooks")
        .bearer(&map.token)
        .json(&json!({"authentication": "none"}))
        .send()
        .expect(201);
    let source = made["endpoint"]["id"].as_str().expect("an id").to_owned();
    let send = |server: &TestServer| {
        let request = server.request("POST", &format!("/webhooks/{source}"));
        request.json(&json!({"event_type": "a"})).send()
    };
    let received = |server: &TestServer| {
        let status = server.admin("GET", &format!("/api/webhooks/{source}")).send().expect(200);
        status["endpoint"]["eventsReceived"].clone()
    };
    for _ in 0..3 {
        send(&server).expect(200);
    }
    server.stop();
    disk.fill(0);
    server.launch();
    assert_eq!(send(&server).status, 503);
    let history = server.admin("GET", &format!("/api/maps/{}/events", map.id)).send().expect(200);
    assert_eq!(history["data"].as_array().map(Vec::len), Some(3));
    disk.empty();
    within(RECOVERY, "the source takes events", || send(&server).status == 200);
    eventually("it has counted on", || received(&server) == 4);
    server.stop();
    server.launch();
    assert_eq!(received(&server), 4);
}

/// A server that was up and stopped may have written what is configured anew; nothing else.
#[track_caller]
fn expect_untouched_but_generations(data: &Path, before: &std::collections::BTreeMap<String, Option<u64>>) {
    let mut before = before.clone();
    let after = folder::listing(data);
    let own = |path: &str| path.starts_with("state") || path.starts_with("wal") || path.starts_with("notes");
    before.retain(|path, _| !own(path));
    before.extend(after.into_iter().filter(|(path, _)| own(path)));
    expect_untouched(data, &before);
}
