//! `stentor tail`.

use serde_json::{Value, json};

use super::{run, server_that_returns, start, with, with_token};
use crate::support::TestServer;
use crate::support::program::Program;

const BEGINNING: &str = "00000000000000000000000000";

fn ids_of(lines: &[String]) -> Vec<String> {
    let id = |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("id").to_owned();
    lines.iter().map(id).collect()
}

#[test]
fn events_come_as_lines_for_people_and_with_json_as_the_envelopes_that_history_has() {
    let server = TestServer::start(&[]);
    let map = server.new_map("lines");
    let event =
        json!({"type": "map_kill", "ts": "2025-06-21T12:34:56.789Z", "payload": {"value": 1.5, "by": "a\u{9b}b"}});
    let id = map.publish(&event).remove(0);
    let channel = format!("map:{}", map.id);
    let ended = run(&map, &["tail", &channel, "--since", BEGINNING, "--limit", "1"]);
    let line = format!("2025-06-21T12:34:56.789Z map_kill {id} {{\"value\":1.5,\"by\":\"a\\u009bb\"}}\n");
    assert_eq!(ended.expect(0), line, "no colours where no terminal is, and no control characters of others");
    assert_eq!(ended.err, "", "nobody watches");
    let ended = run(&map, &["tail", &channel, "--since", "1h", "--json", "--limit", "1"]);
    assert_eq!(ended.expect(0), format!("{}\n", map.export()[0]));
    let mut forced = with(&map, &["tail", &channel, "--since", "1h", "--limit", "1"]);
    forced.env("CLICOLOR_FORCE", "1");
    assert!(Program::start(forced).wait().expect(0).contains("\u{1b}["), "colours where they are asked for");
    let mut plain = with(&map, &["tail", &channel, "--since", "1h", "--limit", "1"]);
    plain.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    assert_eq!(Program::start(plain).wait().expect(0), line, "NO_COLOR wins");
}

#[test]
fn tail_goes_on_over_a_kill_and_a_restart_without_hole_or_repetition_and_ends_well_by_ctrl_c() {
    let mut server = server_that_returns(&[("sse.retry_ms", "100")]);
    let map = server.new_map("restart");
    let mut ids = map.publish_many(1500);
    let tail = start(&map, &["tail", &format!("map:{}", map.id), "--json", "--since", BEGINNING]);
    tail.expect_lines(1500);
    for _ in 0..2 {
        server.kill();
        tail.expect_notice("trying again in");
        server.restart();
        ids.extend(map.publish_many(700));
        tail.expect_lines(ids.len());
    }
    tail.interrupt();
    let ended = tail.wait();
    let lines: Vec<String> = ended.expect(0).lines().map(String::from).collect();
    assert_eq!(ids_of(&lines), ids);
    assert!(ended.err.contains("connected again to map:"), "{}", ended.err);
}

#[test]
fn the_filter_is_that_of_the_server_and_unknown_types_are_told() {
    let server = TestServer::start(&[]);
    let map = server.new_map("filter");
    let channel = format!("map:{}", map.id);
    map.publish(&json!([
        {"type": "map_kill", "payload": {"value": 1, "path": "/a/1"}},
        {"type": "map_kill", "payload": {"value": 5, "path": "/b/1"}},
        {"type": "add_system", "session": "s1", "payload": {"path": "/c"}},
        {"type": "map_kil", "payload": {}},
    ]));
    let count = |flags: &[&str], count: usize| {
        let limit = count.to_string();
        let arguments = [&["tail", &channel, "--since", "1h", "--json", "--limit", &limit], flags].concat();
        let ended = run(&map, &arguments);
        (ended.expect(0).lines().count(), ended.err)
    };
    assert_eq!(count(&["--events", "map_kill,add_system"], 3).0, 3);
    assert_eq!(count(&["--filter", "event.payload.value > 2"], 1).0, 1);
    assert_eq!(count(&["--path-prefix", "/a", "--path-prefix", "/c"], 2).0, 2);
    assert_eq!(count(&["--session", "s1"], 1).0, 1);
    let (_, said) = count(&["--events", "map_kil"], 1);
    assert_eq!(said, "stentor: map_kil is no type of the catalogue; did you mean map_kill?\n");
    let wrong = run(&map, &["tail", &channel, "--filter", "event.type =="]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""));
    assert!(wrong.err.contains("--filter: bad filter expression at line 1, column"), "{}", wrong.err);
}

#[test]
fn a_refusal_ends_with_1_and_says_what_to_do() {
    let server = TestServer::start(&[]);
    let made = server.admin("POST", "/api/maps").json(&json!({"name": "Home", "slug": "home"})).send().expect(201);
    let map = server.new_map("other");
    let token = made["data"]["token"].as_str().expect("a token");
    for (token, channel, said) in [
        ("wrong", "map:home", "the server answered 401: Unauthorized (invalid token for map); check the token\n"),
        (
            token,
            "map:hmoe",
            "the server answered 404: Map not found for identifier: hmoe; check the name and that the token may know of it; \
             did you mean home?\n",
        ),
    ] {
        let ended = Program::start(with_token(&map, token, &["tail", channel])).wait();
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.err, format!("stentor: {said}"));
    }
    let (_, publisher) = map.new_token(json!({"scopes": ["publish"]}));
    let ended = Program::start(with_token(&map, &publisher, &["tail", &format!("map:{}", map.id)])).wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("403") && ended.err.contains("use a token with the scope subscribe"), "{}", ended.err);
    let ended = Program::start(with_token(&map, "", &["tail", "map:home"])).wait();
    assert_eq!(ended.code, Some(2), "no token is wrong usage");
    drop(server);
    let ended = Program::start(with_token(&map, token, &["tail", "map:home"])).wait();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("cannot talk to http://127.0.0.1:") && ended.err.contains("check --server"),
        "{}",
        ended.err
    );
}

#[test]
fn a_revoked_token_ends_tail_and_events_that_are_gone_are_told() {
    let server = TestServer::start(&[
        ("storage.segment_max_bytes", "1048576"),
        ("retention.max_events", "1000"),
        ("streams.ring_events", "16"),
        ("sse.retry_ms", "100"),
    ]);
    let map = server.new_map("gone");
    let first = map.publish_many(1).remove(0);
    let filler = "x".repeat(2000);
    for _ in 0..6 {
        let batch: Vec<_> = (0..500).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
        map.publish(&json!(batch));
    }
    crate::support::eventually("retention has dropped the first event", || {
        map.history("limit=1")[0]["id"] != first.as_str()
    });
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    let tail = Program::start(with_token(&map, &token, &["tail", &format!("map:{}", map.id), "--since", &first]));
    tail.expect_notice("events are missing here; the server keeps them no longer; the oldest left is");
    tail.expect_lines(1);
    server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().expect(204);
    let ended = tail.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.ends_with("check the token\n"), "{}", ended.err);
}

#[test]
fn a_reader_that_has_seen_enough_ends_tail_well() {
    let server = TestServer::start(&[]);
    let map = server.new_map("pipe");
    map.publish_many(2000);
    let script = format!(
        "\"$0\" tail map:{} --since 1h --json | head -n 3; test \"${{PIPESTATUS[0]}}\" = 0 && echo ended well",
        map.id
    );
    let direct = with(&map, &[]);
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(script).arg(direct.get_program());
    shell.env("STENTOR_SERVER", format!("http://{}", map.addr)).env("STENTOR_TOKEN", &map.token);
    let ended = Program::start(shell).wait();
    assert_eq!(ended.out.lines().count(), 4, "{ended:?}");
    assert!(ended.out.ends_with("ended well\n"), "{ended:?}");
}
