//! `stentor doctor`.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{run, with_token};
use crate::support::program::{Ended, Program, command};
use crate::support::proxy::{Fault, Proxy};
use crate::support::server::ADMIN;
use crate::support::{Map, TestServer, eventually};

/// The verdict on a subject, and what is said of it.
#[track_caller]
fn finding<'a>(ended: &'a Ended, subject: &str) -> (&'a str, &'a str) {
    let mut lines =
        ended.out.lines().map(|line| (line.get(..4).unwrap_or_default().trim(), line.get(6..).unwrap_or_default()));
    let found = lines.find_map(|(verdict, rest)| Some((verdict, rest.strip_prefix(subject)?.trim_start())));
    found.unwrap_or_else(|| panic!("nothing about {subject} in {ended:?}"))
}

fn doctor(map: &Map, token: &str) -> Ended {
    Program::start(with_token(map, token, &["doctor"])).wait()
}

#[test]
fn a_healthy_server_passes_every_check_by_any_token_that_may_read() {
    let server = TestServer::start(&[]);
    let map = server.new_map("healthy");
    for (token, said) in [(ADMIN, "the admin token"), (&map.token, "subscribe, publish, manage on map:")] {
        let ended = doctor(&map, token);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.lines().all(|line| line.starts_with("ok ")), "{ended:?}");
        assert_eq!(ended.err, "");
        assert!(finding(&ended, "token").1.contains(said), "{ended:?}");
        for subject in ["reachable", "transport", "version", "ready", "disk", "clock", "address", "stream", "websocket"]
        {
            finding(&ended, subject);
        }
        assert_eq!(finding(&ended, "version").1, env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(server.metric("stentor_streams"), 0, "it leaves nothing open");
}

#[test]
fn what_is_wrong_with_a_token_or_a_server_is_told() {
    let server = TestServer::start(&[]);
    let map = server.new_map("wrong");
    let ended = doctor(&map, "st_wrong");
    assert_eq!((ended.code, finding(&ended, "token").0), (Some(1), "fail"), "{ended:?}");
    assert!(ended.err.contains("1 check failed"), "{}", ended.err);
    let ended = doctor(&map, "");
    assert_eq!((ended.code, finding(&ended, "token").0), (Some(0), "warn"), "no token is no failure: {ended:?}");
    let (_, publisher) = map.new_token(json!({"scopes": ["publish"]}));
    let ended = doctor(&map, &publisher);
    assert_eq!((ended.code, finding(&ended, "streams").0), (Some(0), "warn"), "{ended:?}");
    let expires_at = "9999-12-31T00:00:00Z";
    let (_, late) = map.new_token(json!({"scopes": ["subscribe"], "expires_at": expires_at}));
    assert!(finding(&doctor(&map, &late), "token").1.contains("until 9999-12-31"));
    let proxy = Proxy::start(server.addr(), &[Fault::Answered("HTTP/1.1 200 OK", "<html>hello</html>")]);
    let other = run(&Map { addr: proxy.addr, ..map.clone() }, &["doctor"]);
    assert!(other.code == Some(1) && finding(&other, "reachable").1.contains("not as Stentor does"), "{other:?}");
    drop(server);
    let gone = doctor(&map, ADMIN);
    assert_eq!((gone.code, finding(&gone, "reachable").0), (Some(1), "fail"), "{gone:?}");
}

#[test]
fn an_address_that_leads_nowhere_and_a_disk_below_its_floor_are_failures() {
    let mut server = TestServer::start(&[("server.public_url", "http://127.0.0.1:9")]);
    let map = server.new_map("address");
    let ended = doctor(&map, ADMIN);
    let (verdict, said) = finding(&ended, "address");
    assert!(ended.code == Some(1) && verdict == "fail" && said.contains("set server.public_url"), "{ended:?}");
    server.restart_with(&[("server.public_url", ""), ("storage.min_free_bytes", "1099511627776")]);
    let ended = doctor(&map.at(&server), ADMIN);
    let (verdict, said) = finding(&ended, "ready");
    assert!(ended.code == Some(1) && verdict == "fail" && said.contains("bytes of disk are free"), "{ended:?}");
}

#[test]
fn a_proxy_that_holds_the_stream_back_or_cuts_it_is_recognised() {
    let server = TestServer::start(&[("sse.keepalive_s", "1")]);
    let map = server.new_map("proxy");
    let alive = run(&map, &["doctor", "--keepalive"]);
    assert!(alive.code == Some(0) && finding(&alive, "keepalive").0 == "ok", "{alive:?}");
    // one connection for what is asked and answered, the next for the stream
    let cut = Proxy::start(server.addr(), &[Fault::None, Fault::AnswerCut(80)]);
    let ended = run(&Map { addr: cut.addr, ..map.clone() }, &["doctor"]);
    let (verdict, said) = finding(&ended, "stream");
    assert!(verdict == "fail" && said.contains("broke off"), "{ended:?}");
    let held = Proxy::start(server.addr(), &[Fault::None, Fault::AnswerHeld]);
    let ended = run(&Map { addr: held.addr, ..map.clone() }, &["doctor"]);
    let (verdict, said) = finding(&ended, "stream");
    assert!(verdict == "fail" && said.contains("proxy_buffering off"), "{ended:?}");
}

#[test]
fn a_data_folder_is_looked_at_while_its_server_runs_and_after_it() {
    let mut server = TestServer::start(&[("storage.segment_max_bytes", "1048576")]);
    server.new_map("small").publish_many(7);
    let map = server.new_map("data");
    let event = json!({"type": "map_kill", "payload": {"filler": "x".repeat(6_000)}});
    for _ in 0..4 {
        map.publish(&json!(vec![event.clone(); 100]));
    }
    let folder = server.folder().to_owned();
    let data = folder.to_str().expect("UTF-8").to_owned();
    let doctor = |more: &[&str]| Program::start(command(&[&["doctor", "--data", &data], more].concat())).wait();
    eventually("each segment is shown with its size", || doctor(&[]).out.contains("0000000001  "));
    let running = doctor(&[]);
    assert_eq!(running.code, Some(0), "{running:?}");
    assert_eq!(finding(&running, "lock"), ("ok", "a running server holds the folder"));
    for subject in ["folder", "secrets", "format", "log", "losses", "notes", "quarantine"] {
        assert_eq!(finding(&running, subject).0, "ok", "{subject}: {running:?}");
    }
    let log = finding(&running, "log").1;
    assert!(log.contains(" segment") && log.contains(" events, "), "{running:?}");
    server.stop();
    let stopped = doctor(&[]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(finding(&stopped, "lock"), ("ok", "no server is running on the folder"));
    // of a folder that nobody holds it reads the documents, too
    for subject in ["folder", "secrets", "format", "documents", "wal", "log", "losses", "notes", "quarantine"] {
        assert_eq!(finding(&stopped, subject).0, "ok", "{subject}: {stopped:?}");
    }
    assert!(finding(&stopped, "wal").1.contains("in no segment yet"), "{stopped:?}");
    let key = folder.join("secret-key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("it can be changed");
    let aside = folder.join("quarantine/0000000007-1");
    std::fs::create_dir_all(&aside).expect("it can be made");
    std::fs::write(aside.join("reason"), "it is damaged").expect("written");
    let ended = doctor(&[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("fail  secrets") && ended.out.contains("chmod 600"), "{ended:?}");
    assert_eq!(finding(&ended, "quarantine").0, "warn");
    assert!(ended.out.contains("0000000007-1  it is damaged"), "{ended:?}");
    std::fs::remove_file(&key).expect("it can be removed");
    assert!(doctor(&[]).out.contains("secret-key is missing"));
    let config = folder.join("stentor.toml");
    std::fs::write(&config, "[server]\nlisten = 7\n[limits]\nevent_byte = 1\n").expect("written");
    let ended = doctor(&["--config", config.to_str().expect("UTF-8")]);
    assert_eq!((ended.code, finding(&ended, "settings").0), (Some(1), "fail"), "{ended:?}");
    let nowhere = Program::start(command(&["doctor", "--data", "/nowhere/at/all"])).wait();
    assert_eq!((nowhere.code, finding(&nowhere, "folder").0), (Some(1), "fail"), "{nowhere:?}");
    let usage = Program::start(command(&["doctor", "--config", "x.toml"])).wait();
    assert_eq!(usage.code, Some(2), "--config goes with --data");
}
