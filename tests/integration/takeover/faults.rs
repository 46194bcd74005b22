//! Takeovers that do not come to their end. Each has a clear outcome: the server before goes on, comes back, or the new one serves.

use std::fs;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::{Speaker, with_settings_file};
use crate::support::program::{Program, command};
use crate::support::server::{ADMIN, run, stentor};
use crate::support::{Receiver, Reply, SOON, TestServer, eventually, folder, webhooks, within};

/// The server serves, and nothing is missing.
#[track_caller]
fn expect_going_on(server: &TestServer, pid: u32, map: &crate::support::Map, events: usize) {
    assert_eq!(server.pid(), pid, "no other process");
    map.publish(&json!({"type": "add_system", "payload": {}}));
    assert_eq!(map.export().len(), events + 1);
}

#[test]
fn a_new_process_that_ends_before_it_is_prepared_changes_nothing() {
    let mut server = TestServer::start(&[]);
    let (map, pid) = (server.new_map("m"), server.pid());
    let mut stream = map.stream("");
    let mut new = Speaker::at(server.folder());
    assert_eq!(new.ask(server.folder())["answer"], "listeners");
    drop(new);
    server.expect_log("this server goes on");
    expect_going_on(&server, pid, &map, 0);
    assert!(stream.next().id.is_some(), "its streams go on");
    server.take_over();
    assert_eq!(map.export().len(), 1, "and the next one takes over");
}

#[test]
fn a_new_process_that_ends_while_deliveries_end_leaves_them_going_on() {
    // attempts end in time, and not
    for patience_s in ["10", "1"] {
        let (server, map) = webhooks::delivering(&[("server.shutdown_timeout_s", patience_s)]);
        let receiver = Receiver::deciding(|received| {
            let is_first = received.json()["payload"]["n"] == 0;
            Reply::Late(if is_first { Duration::from_secs(2) } else { Duration::ZERO }, 200)
        });
        webhooks::webhook(&map, json!({ "url": receiver.url() }));
        map.publish_many(1);
        receiver.expect(1);
        let mut new = Speaker::at(server.folder());
        new.ask(server.folder());
        new.say(&json!({"ask": "go"}));
        server.expect_log("another process takes over");
        drop(new);
        server.expect_log("this server goes on");
        map.publish(&json!({"type": "add_system", "payload": {"n": 1}}));
        receiver.expect(2);
    }
}

#[test]
fn a_new_process_that_ends_before_it_is_ready_brings_the_one_before_back() {
    let (mut server, map) = webhooks::delivering(&[]);
    let pid = server.pid();
    let receiver = Receiver::start(&[200]);
    webhooks::webhook(&map, json!({ "url": receiver.url() }));
    map.publish_many(5);
    receiver.expect(5);
    let mut new = Speaker::at(server.folder());
    new.ask(server.folder());
    new.say(&json!({"ask": "go"}));
    assert_eq!(new.hear().expect("an answer")["answer"], "released");
    // somebody who comes now waits for whoever serves next
    let waiting = map.clone();
    let waiting = std::thread::spawn(move || waiting.export().len());
    eventually("the folder is free", || {
        fs::File::open(server.folder().join("lock")).is_ok_and(|lock| {
            // SAFETY: the file is open
            unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
        })
    });
    drop(new);
    assert_eq!(waiting.join().expect("an answer"), 5);
    server.expect_log("this one starts again");
    expect_going_on(&server, pid, &map, 5);
    receiver.expect(6);
    server.take_over();
    assert_eq!(map.export().len(), 6);
}

#[test]
fn a_new_process_with_what_it_cannot_start_with_leaves_the_one_before() {
    let mut server = TestServer::start(&[]);
    let (map, pid) = (server.new_map("m"), server.pid());
    let refused = |server: &mut TestServer, code, words: &str| {
        let ended = server.try_take_over().expect_err("it cannot start");
        assert!(ended.code == Some(code) && ended.err.contains(words), "{ended:?}");
    };
    // settings, and an address that is in use
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    for (key, value, code, words) in
        [("limits.event_bytes", "many", 2, "event_bytes"), ("server.admin_listen", &*addr, 1, "server.admin_listen")]
    {
        let mut new = stentor(&[(key, value)]);
        new.args(["serve", "--takeover", "--listen", "127.0.0.1:0", "--data"]).arg(server.folder());
        new.env("STENTOR_ADMIN_TOKEN", ADMIN);
        let (ended, out, err) = run(new);
        assert!(ended == Some(code) && err.contains(words) && !out.contains("listening"), "{ended:?} {out} {err}");
        expect_going_on(&server, pid, &map, map.export().len());
    }
    // data that a newer version has written
    let file = server.folder().join("format");
    let ours = fs::read(&file).expect("the format");
    fs::write(&file, "97\n").expect("it can be written");
    refused(&mut server, 1, "format 97");
    fs::write(&file, ours).expect("it can be written");
    expect_going_on(&server, pid, &map, map.export().len());
    // a key that is not the one of the folder is found out only when that is open, so the one before comes back
    let mut new = stentor(&[]);
    new.args(["serve", "--takeover", "--listen", "127.0.0.1:0", "--data"]).arg(server.folder());
    new.env("STENTOR_ADMIN_TOKEN", ADMIN).env("STENTOR_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let (ended, _, err) = run(new);
    assert!(ended == Some(1) && err.contains("key"), "{ended:?} {err}");
    server.expect_log("this one starts again");
    expect_going_on(&server, pid, &map, map.export().len());
}

#[test]
fn a_settings_file_that_was_broken_meanwhile_does_not_matter_to_a_server_that_only_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, settings) = (folder.path().join("data"), folder.path().join("stentor.toml"));
    let mut server = with_settings_file(&data, &settings);
    let mut new = Speaker::at(&data);
    new.ask(&data);
    fs::write(&settings, "nonsense = 1").expect("it can be written");
    new.say(&json!({"ask": "go"}));
    assert_eq!(new.hear().expect("an answer")["answer"], "released");
    new.say(&json!({"ask": "ready"}));
    assert!(server.wait().success());
}

#[test]
fn a_server_that_dies_on_the_way_is_followed_by_the_new_process() {
    let (mut server, map) = webhooks::delivering(&[]);
    // its deliveries take long to end, so that there is a moment in which it can die
    let receiver = Receiver::deciding(|_| Reply::Late(SOON, 200));
    webhooks::webhook(&map, json!({ "url": receiver.url() }));
    map.publish_many(3);
    receiver.expect(1);
    let addr = server.secure_addr().to_string();
    let mut new = command(&["serve", "--takeover", "--listen", &addr, "--data"]);
    new.arg(server.folder()).env("STENTOR_ADMIN_TOKEN", ADMIN).stdout(Stdio::piped());
    let new = Program::start(new);
    server.expect_log("another process takes over");
    let waiting = TcpStream::connect(server.secure_addr()).expect("it is accepted");
    server.kill();
    new.expect_lines(1);
    assert_eq!(map.export().len(), 3, "at the same address, with everything");
    drop(waiting);
    drop(new);
}

#[test]
fn of_two_processes_that_want_to_take_over_one_is_told_to_wait() {
    let mut server = TestServer::start(&[]);
    let pid = server.pid();
    let mut first = Speaker::at(server.folder());
    assert_eq!(first.ask(server.folder())["answer"], "listeners");
    let ended = server.try_take_over().expect_err("another one is about to");
    let words = format!("the process {} is about to take over", std::process::id());
    assert!(ended.code == Some(1) && ended.err.contains(&words), "{ended:?}");
    assert_eq!(server.pid(), pid);
    drop(first);
    server.expect_log("this server goes on");
    server.take_over();
}

#[test]
fn a_folder_is_handed_over_only_to_who_means_it() {
    let server = TestServer::start(&[]);
    let other = tempfile::tempdir().expect("a folder");
    // an empty folder has no server, and the address is in use
    let serve = |data: &std::path::Path| {
        let mut new = stentor(&[]);
        new.args(["serve", "--takeover", "--listen", &server.secure_addr().to_string(), "--data"]).arg(data);
        run(new)
    };
    let (code, out, err) = serve(other.path());
    assert!(code == Some(1) && err.contains("cannot listen on") && out.is_empty(), "{code:?} {out} {err}");
    // a folder from which a socket leads elsewhere
    fs::write(other.path().join("lock"), "").expect("a file can be made");
    std::os::unix::fs::symlink(server.folder().join("takeover"), other.path().join("takeover")).expect("a link");
    let (code, _, err) = serve(other.path());
    assert!(code == Some(1) && err.contains("it serves another data folder"), "{code:?} {err}");
    // a version that speaks in another way
    let answer = Speaker::at(server.folder()).ask_with(server.folder(), 99);
    assert!(answer["reason"].as_str().is_some_and(|reason| reason.contains("version 0.0.0")), "{answer}");
    let mut nonsense = Speaker::at(server.folder());
    nonsense.say(&json!({"ask": "whatever"}));
    assert_eq!(nonsense.hear().expect("an answer")["answer"], "refused");
    assert_eq!(folder::open_to_others(server.folder()), [""; 0], "nobody else can ask");
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
}

#[test]
fn a_server_that_cannot_hand_over_is_left_alone_and_without_one_it_is_a_plain_start() {
    let mut server = TestServer::start(&[]);
    // what a version without this leaves in the folder: a lock and no socket
    fs::remove_file(server.folder().join("takeover")).expect("the socket");
    let ended = server.try_take_over().expect_err("it cannot be asked");
    assert!(ended.code == Some(1) && ended.err.contains("cannot hand it over"), "{ended:?}");
    assert_eq!(server.request("GET", "/health/live").send().status, 200);
    server.kill();
    // after a server that was killed, and on a new folder
    let fresh = tempfile::tempdir().expect("a folder");
    for data in [server.folder(), fresh.path()] {
        let mut new = command(&["serve", "--takeover", "--listen", "127.0.0.1:0", "--data"]);
        new.arg(data).env("STENTOR_ADMIN_TOKEN", ADMIN);
        let new = Program::start(new);
        let out = new.expect_lines(1);
        assert!(out[0].starts_with("listening on"), "{out:?}");
        new.expect_notice("no server runs on the data folder");
    }
}

#[test]
fn an_answer_that_is_on_its_way_is_finished_before_the_takeover() {
    let (mut server, map) = webhooks::delivering(&[]);
    let receiver = Receiver::deciding(|_| Reply::Late(Duration::from_secs(1), 200));
    let (path, _) = webhooks::webhook(&map, json!({ "url": receiver.url() }));
    // a request that takes a second: the test of a webhook answers with what the receiver said
    let asking = map.clone();
    let asking = std::thread::spawn(move || asking.request("POST", &format!("{path}/test")).json(&json!({})).send());
    receiver.expect(1);
    server.take_over();
    let answer = asking.join().expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    within(SOON, "the new one serves", || map.export().is_empty());
}
