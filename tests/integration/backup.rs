//! Backups of a running server, and servers on what was restored from them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::map::ids;
use crate::support::program::{Ended, Program, command};
use crate::support::server::ADMIN;
use crate::support::{Map, Receiver, TestServer, eventually};

const PUBLISHERS: usize = 3;
/// Each publisher ends after this many, whatever becomes of the test.
const PUBLISHES_MAX: usize = 20_000;

fn settings() -> [(&'static str, &'static str); 3] {
    // small segments, so that a backup has several, of which the last one is being written
    [
        ("storage.segment_max_bytes", "1048576"),
        ("webhooks.allow_http", "true"),
        ("webhooks.allow_networks", "127.0.0.1"),
    ]
}

fn backup(server: &TestServer, token: &str, file: &Path) -> Ended {
    let url = format!("http://{}", server.addr());
    let mut asked = command(&["backup", "--server", &url, "--output"]);
    asked.arg(file).env("STENTOR_TOKEN", token);
    Program::start(asked).wait()
}

fn restore(file: &Path, data: &Path) -> Ended {
    let mut asked = command(&["restore"]);
    asked.arg(file).arg("--data").arg(data);
    Program::start(asked).wait()
}

/// Publishes until it is told to stop; what was acknowledged goes into `acknowledged` as it comes.
fn publish(map: &Map, name: usize, going: &AtomicBool, acknowledged: &Mutex<Vec<String>>) {
    for n in 0..PUBLISHES_MAX {
        if !going.load(Ordering::Relaxed) {
            return;
        }
        let filler = "x".repeat(2000);
        let event = json!({"type": "map_kill", "payload": {"publisher": name, "n": n, "filler": filler}});
        let answer = map.post(&event);
        assert_eq!(answer.status, 201, "{}", answer.text());
        acknowledged.lock().expect("the ids").extend(ids(&answer.json()));
    }
}

#[test]
fn a_backup_under_load_restores_to_a_server_that_goes_on_as_the_first_one_would_have() {
    let receiver = Receiver::start(&[]);
    let server = TestServer::start(&settings());
    let map = server.new_map("busy");
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let webhook = map.request("POST", "/webhooks").json(&json!({"url": receiver.url(), "events": ["add_system"]}));
    let webhook = webhook.send().expect(201)["data"].clone();
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"], "name": "reader"}));
    map.publish(&json!({"type": "add_system", "payload": {"before": true}}));
    receiver.expect(1);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("backup.tar");
    let (going, acknowledged) = (AtomicBool::new(true), Mutex::new(Vec::new()));
    let before = std::thread::scope(|scope| {
        let (going, acknowledged, map) = (&going, &acknowledged, &map);
        for name in 0..PUBLISHERS {
            scope.spawn(move || publish(map, name, going, acknowledged));
        }
        eventually("there is something to back up", || server.metric("stentor_log_segments") >= 3);
        let before = acknowledged.lock().expect("the ids").clone();
        backup(&server, ADMIN, &file).expect(0);
        going.store(false, Ordering::Relaxed);
        before
    });
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds keys");

    let data = tempfile::tempdir().expect("a folder");
    restore(&file, data.path()).expect(0);
    let second = TestServer::start_on(data, &settings());
    let (log, at) = (map.export(), map.at(&second));
    let restored = at.export();
    assert!(restored.len() < log.len(), "events came while the backup was taken");
    assert_eq!(restored, log[..restored.len()], "it is the log up to one moment");
    let id_of =
        |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned();
    let there: Vec<String> = restored.iter().map(|line| id_of(line)).collect();
    let missing: Vec<_> = before.iter().filter(|id| !there.contains(id)).collect();
    assert!(missing.is_empty() && before.len() > 100, "{} of {} are missing", missing.len(), before.len());

    // cursors hold: of an event that is there, and of one that came too late for the backup
    let mut stream = at.with_token(&reader).stream(&format!("last_event_id={}", there[there.len() - 3]));
    assert_eq!(stream.take(2).into_iter().filter_map(|frame| frame.id).collect::<Vec<_>>(), there[there.len() - 2..]);
    let late = id_of(log.last().expect("an event"));
    let mut stream = at.stream(&format!("last_event_id={late}"));
    let gap = stream.next();
    assert!(gap.is("gap") && gap.json()["reason"] == "ahead", "{}", gap.raw);

    // the webhook goes on, signed with the secret of before
    let known = receiver.received().len();
    let [id] = &at.publish(&json!({"type": "add_system", "payload": {"after": true}}))[..] else { panic!("one id") };
    assert!(*id > there[there.len() - 1]);
    let has_come = || receiver.received().iter().skip(known).any(|got| got.json()["id"] == **id);
    eventually("the webhook of the second server delivers", has_come);
    let got = receiver.received().into_iter().rfind(|got| got.json()["id"] == **id).expect("it has come");
    assert_eq!(got.header("x-wanderer-signature"), signature(&webhook, got.header("x-wanderer-timestamp"), &got.body));
}

/// What the map's document says the signature is.
fn signature(webhook: &Value, timestamp: &str, body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let secret = webhook["secret"].as_str().expect("a secret");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digest}")
}

#[test]
fn only_the_admin_takes_backups_one_at_a_time_and_a_failure_leaves_no_file() {
    let mut server = TestServer::start(&settings());
    let map = server.new_map("m");
    let filler = "x".repeat(60_000);
    let batch: Vec<_> = (0..60).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
    for _ in 0..10 {
        map.publish(&json!(batch));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("backup.tar");

    let refused = backup(&server, &map.token, &file);
    assert!(refused.code == Some(1) && refused.err.contains("use the admin token"), "{refused:?}");
    assert_eq!(server.request("POST", "/api/v1/backup").send().status, 401);

    // somebody who takes the first bytes and no more
    let (answer, slow) = server.admin("POST", "/api/v1/backup").open().expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(server.admin("POST", "/api/v1/backup").send().status, 409);
    let refused = backup(&server, ADMIN, &file);
    assert!(refused.code == Some(1) && refused.err.contains("under way"), "{refused:?}");
    server.stop();
    drop(slow);
    server.restart();

    // the server dies as soon as the program has begun
    let mut asked =
        command(&["backup", "--server", &format!("http://{}", server.addr()), "--token", ADMIN, "--output"]);
    asked.arg(&file);
    let program = Program::start(asked);
    eventually("it has begun", || folder.path().join("backup.tar.partial").exists());
    server.kill();
    assert_eq!(program.wait().code, Some(1));
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "no file was left");
    server.restart();

    let url = format!("http://{}", server.addr());
    let gone = tempfile::tempdir().expect("a folder").path().join("not/there.tar");
    let mut asked = command(&["backup", "--server", &url, "--token", ADMIN, "--output"]);
    asked.arg(&gone);
    assert_eq!(Program::start(asked).wait().code, Some(1));
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "no file was left");
    backup(&server, ADMIN, &file).expect(0);
}

#[test]
fn no_damaged_backup_and_no_folder_with_something_in_it_becomes_a_server() {
    let server = TestServer::start(&settings());
    server.new_map("m").publish_many(10);
    let folder = tempfile::tempdir().expect("a folder");
    let (file, cut, data) =
        (folder.path().join("backup.tar"), folder.path().join("cut.tar"), folder.path().join("data"));
    backup(&server, ADMIN, &file).expect(0);

    let whole = fs::read(&file).expect("the file");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("a file");
    let refused = restore(&cut, &data);
    assert!(refused.code == Some(1) && refused.err.contains("cut off"), "{refused:?}");
    assert_eq!(fs::read_dir(&data).expect("the folder").count(), 0, "nothing is left of it");
    let mut asked = command(&["restore", "--check"]);
    asked.arg(&cut);
    assert_eq!(Program::start(asked).wait().code, Some(1));

    let refused = restore(&file, server.folder());
    assert!(refused.code == Some(1) && refused.err.contains("not empty"), "{refused:?}");

    // as a crash in the middle of a restore leaves it
    restore(&file, &data).expect(0);
    fs::write(data.join("restoring"), "").expect("a file");
    let mut second = command(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    second.arg(&data);
    let refused = Program::start(second).wait();
    assert!(refused.code == Some(1) && refused.err.contains("half of a backup"), "{refused:?}");
}

#[test]
fn a_backup_replaces_a_file_and_nothing_else_and_leaves_a_link_a_link() {
    let server = TestServer::start(&settings());
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    // what would stand for a device, which a backup that is wrong must not cost
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    for (output, what) in [(at("pipe"), "no file that could be replaced"), (folder.path().into(), "a folder")] {
        let refused = backup(&server, ADMIN, &output);
        refused.expect(2);
        assert!(refused.err.contains(what), "{}", refused.err);
    }
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(at("pipe")).expect("it is there").file_type()));
    // a link to a file that is there, and to one that is not yet
    fs::create_dir(at("below")).expect("a folder");
    fs::write(at("below/old.tar"), "old").expect("a file");
    for name in ["old.tar", "new.tar"] {
        std::os::unix::fs::symlink(format!("below/{name}"), at(name)).expect("a link");
        backup(&server, ADMIN, &at(name)).expect(0);
        assert!(fs::symlink_metadata(at(name)).expect("it is there").is_symlink());
        restore(&at(name), &at(&format!("data-{name}"))).expect(0);
    }
    assert_eq!(fs::read_dir(at("below")).expect("a folder").count(), 2, "nothing else is left");
}
