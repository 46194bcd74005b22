//! The process itself, long backlogs and slow readers.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::server::{run, stentor};
use crate::support::{Sse, TestServer, eventually};

#[test]
fn a_second_server_on_a_folder_in_use_ends_with_1_and_says_so() {
    let server = TestServer::start(&[]);
    let mut second = stentor(&[]);
    second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(server.folder());
    let (code, out, err) = run(second);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("in use") && !out.contains("listening"), "{out}{err}");
    assert_eq!(server.request("GET", "/health/live").send().status, 200, "the first goes on");
}

#[test]
fn settings_that_are_unknown_or_impossible_end_with_2_and_are_named() {
    for (key, value) in [
        ("limits.event_byte", "1"),
        ("limts.event_bytes", "1"),
        ("limits.event_bytes", "many"),
        ("storage.durability", "perhaps"),
        ("server.listen", "nowhere"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = stentor(&[(key, value)]);
        command.arg("serve").arg("--data").arg(folder.path());
        if key != "server.listen" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let (code, _, err) = run(command);
        assert_eq!(code, Some(2), "{key}={value}: {err}");
        let last = key.rsplit('.').next().expect("a name");
        assert!(err.to_ascii_lowercase().contains(last) || err.contains("limts"), "{key}={value}: {err}");
    }
}

#[test]
fn the_first_start_makes_an_admin_token_that_only_the_owner_can_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = stentor(&[]);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let out = std::io::BufReader::new(child.stdout.take().expect("ours"));
    let lines: Vec<String> = std::io::BufRead::lines(out).map_while(Result::ok).take(2).collect();
    let ended = child.kill().and_then(|()| child.wait());
    assert!(ended.is_ok());
    let file = folder.path().join("admin-token");
    let token = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    assert!(token.trim().len() > 40, "a long one");
    let path = file.to_str().expect("text");
    assert!(lines[0].ends_with(path) && lines[1].starts_with("listening on http://127.0.0.1:"), "{lines:?}");
}

#[test]
fn the_health_command_tells_by_its_exit_code_whether_the_server_is_ready() {
    let ask = |url: String| {
        let mut command = stentor(&[]);
        command.args(["health", "--server", &url]);
        run(command)
    };
    let mut server = TestServer::start(&[]);
    let url = |server: &TestServer| format!("http://{}", server.addr());
    assert_eq!(ask(url(&server)), (Some(0), "ready\n".into(), String::new()));
    server.restart_with(&[("storage.min_free_bytes", "1099511627776")]);
    let (code, _, err) = ask(url(&server));
    assert!(code == Some(1) && err.contains("503") && err.contains("1099511627776 are wanted"), "{code:?} {err}");
    let gone = url(&server);
    server.stop();
    let (code, _, err) = ask(gone);
    assert!(code == Some(1) && err.contains("cannot talk to"), "{code:?} {err}");
}

#[test]
fn a_disk_that_has_become_low_is_told_once_in_the_organization_system() {
    let server = TestServer::start(&[("storage.min_free_bytes", "1099511627776")]);
    let told = || server.admin("GET", "/api/v1/organizations/system/events").send().expect(200)["data"].clone();
    eventually("the disk is told to be low", || told().as_array().is_some_and(|events| !events.is_empty()));
    let told = told();
    assert_eq!((told[0]["event"].as_str(), told.as_array().map(Vec::len)), (Some("storage.low_disk"), Some(1)));
    assert_eq!(told[0]["payload"]["floor_bytes"], 1_099_511_627_776_u64);
}

#[test]
fn a_reader_twenty_thousand_events_behind_gets_all_in_order_and_goes_on_live() {
    let server = TestServer::start(&[]);
    let map = server.new_map("behind");
    let ids = map.publish_many(20_000);
    let mut stream = map.stream("since=00000000000000000000000000");
    let mut seen: Vec<_> = stream.take(20_000).into_iter().filter_map(|frame| frame.id).collect();
    assert!(seen == ids, "all of them, in order, once");
    let later = map.publish_many(10);
    seen = stream.take(10).into_iter().filter_map(|frame| frame.id).collect();
    assert_eq!(seen, later);
}

#[test]
fn a_reader_that_reads_nothing_while_twenty_thousand_events_come_loses_none() {
    let server = TestServer::start(&[]);
    let map = server.new_map("slow");
    let mut stream = map.stream("");
    let ids = map.publish_many(20_000);
    let seen: Vec<_> = stream.take(20_000).into_iter().filter_map(|frame| frame.id).collect();
    assert!(seen == ids, "all of them, in order, once");
}

#[test]
fn a_reader_that_takes_no_byte_is_ended_and_its_slot_is_free() {
    let server = TestServer::start(&[("streams.stall_timeout_s", "1"), ("limits.streams_per_token", "1")]);
    let map = server.new_map("stalled");
    let stalled = map.request("GET", "/events/stream").connect();
    eventually("the stream is open", || server.metric("stentor_streams") == 1);
    let filler = "x".repeat(60_000);
    let batch: Vec<_> = (0..60).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
    for _ in 0..5 {
        map.publish(&json!(batch));
    }
    eventually("its slot is free", || Sse::try_open(map.request("GET", "/events/stream")).is_ok());
    eventually("it is counted", || server.metric("stentor_readers_stalled_total") == 1);
    // the connection itself ends too, so that the client comes back by its cursor
    eventually("no stream is left", || server.metric("stentor_streams") == 0);
    drop(stalled);
}

#[test]
fn a_request_under_way_is_answered_before_the_server_stops() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("stop");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let publish = || {
            let mut ids = Vec::new();
            // ends when the server is gone, at the latest after what fits into the time it has to stop
            for _ in 0..100_000 {
                match map.request("POST", "/events").json(&json!({"type": "add_system"})).try_send() {
                    Ok(answer) if answer.status == 201 => ids.extend(crate::support::map::ids(&answer.json())),
                    Ok(answer) => assert_eq!(answer.status, 503),
                    Err(_) => break,
                }
            }
            ids
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(publish)).collect();
        eventually("events are coming", || server.metric("stentor_events_published_total") > 50);
        server.stop();
        threads.into_iter().flat_map(|thread| thread.join().expect("ids")).collect()
    });
    server.restart();
    let mut logged: Vec<_> = map.at(&server).export();
    logged.retain(|line| answers.iter().any(|id: &String| line.starts_with(&format!("{{\"id\":\"{id}\""))));
    assert_eq!(logged.len(), answers.len(), "what was acknowledged is there");
    assert_eq!(server.log_lines().iter().find(|line| line.contains(" ERROR ")), None);
}
