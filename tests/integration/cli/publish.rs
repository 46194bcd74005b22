//! `stentor publish`.

use std::net::SocketAddr;

use serde_json::json;

use super::{run, run_with_input, server_that_returns, start, with};
use crate::support::program::Program;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Map, TestServer};

/// The same map, reached by way of another address.
fn by_way_of(map: &Map, addr: SocketAddr) -> Map {
    Map { addr, ..map.clone() }
}

#[test]
fn an_event_is_made_of_flags_and_its_id_is_printed_when_it_is_durable() {
    let server = TestServer::start(&[]);
    let map = server.new_map("flags");
    let channel = format!("map:{}", map.id);
    let ts = "2025-06-21T12:34:56.789Z";
    let publish = ["publish", &channel, "--type", "map_kill", "--ts", ts, "--session", "s", "--dedupe-id", "k"];
    let ended = run(&map, &[&publish[..], &["--payload", r#"{"big":12345678901234567,"n":1.50}"#]].concat());
    let id = ended.expect(0).trim_end().to_owned();
    let stored = map.history("session=s");
    assert_eq!((&stored[0]["id"], &stored[0]["ts"]), (&json!(id), &json!(ts)));
    assert!(map.export()[0].contains(r#""payload":{"big":12345678901234567,"n":1.5}"#), "{:?}", map.export());
    let again = run(&map, &publish);
    assert_eq!(again.expect(0), format!("{id}\n"), "the same dedupe id");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), r#"{"from":"file"}"#).expect("written");
    let at_file = format!("@{}", file.path().display());
    run(&map, &["publish", &channel, "--type", "a", "--payload", &at_file]).expect(0);
    run_with_input(&map, &["publish", &channel, "--type", "a", "--payload", "-"], r#"{"from":"input"}"#).expect(0);
    run(&map, &["publish", &channel, "--type", "a"]).expect(0);
    let payloads: Vec<_> = map.history("events=a").into_iter().map(|event| event["payload"].clone()).collect();
    assert_eq!(payloads, [json!({"from": "file"}), json!({"from": "input"}), json!({})]);
}

#[test]
fn flags_that_make_no_event_are_wrong_usage() {
    let server = TestServer::start(&[]);
    let map = server.new_map("usage");
    let channel = format!("map:{}", map.id);
    for (flags, said) in [
        (&["--type", "a b"][..], "type is not well-formed"),
        (&["--type", "a", "--payload", "[1]"], "payload must be a JSON object"),
        (&["--type", "a", "--payload", "system.json"], "--payload is no JSON"),
        (&["--type", "a", "--payload", "system.json"], "a file is given as @FILE"),
        (&["--type", "a", "--ts", "yesterday"], "ts must be an ISO-8601"),
        (&["--type", "a", "--ndjson", "-"], "cannot be used with"),
        (&["--payload", "{}"], "--type"),
        (&[], "--type"),
        (&["--type", "a", "--retry-for", "soon"], "30s"),
    ] {
        let ended = run(&map, &[&["publish", &channel], flags].concat());
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{flags:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{flags:?}: {}", ended.err);
    }
    let ended = run(&map, &["publish", &channel, "--type", "a", "--payload", "@/nowhere.json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert_eq!(map.history(""), [json!(null); 0]);
}

#[test]
fn lines_are_published_as_they_come_and_a_bad_one_is_named_by_its_number() {
    let server = TestServer::start(&[]);
    let map = server.new_map("lines");
    let channel = format!("map:{}", map.id);
    let mut program = start(&map, &["publish", &channel, "--ndjson"]);
    program.type_in("{\"type\":\"a\",\"payload\":{\"n\":1}}\n");
    let first = program.expect_lines(1);
    assert_eq!(map.history("")[0]["id"], first[0].as_str(), "the line did not wait for the end of the input");
    program
        .type_in("\n{\"type\":\"a\",\"payload\":{\"n\":2}}\n{\"typ\":\"a\"}\n{\"type\":\"a\",\"payload\":{\"n\":3}}\n");
    let ended = program.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("line 4 is no event: typ is no field of an event"), "{}", ended.err);
    assert_eq!(ended.out.lines().count(), 2, "all before it is published, and nothing behind it");
    assert_eq!(map.history("").len(), 2);
}

#[test]
fn a_server_with_smaller_limits_gets_smaller_requests() {
    let server = TestServer::start(&[("limits.batch_events", "7"), ("limits.event_bytes", "1000")]);
    let map = server.new_map("limits");
    let channel = format!("map:{}", map.id);
    let input: String = (0..100).map(|n| format!("{{\"type\":\"a\",\"payload\":{{\"n\":{n}}}}}\n")).collect();
    let ended = run_with_input(&map, &["publish", &channel, "--ndjson", "-"], &input);
    let ids: Vec<_> = ended.expect(0).lines().map(String::from).collect();
    let stored = map.history("limit=1000");
    assert_eq!(stored.iter().map(|event| event["id"].as_str().expect("id")).collect::<Vec<_>>(), ids);
    assert!(stored.iter().enumerate().all(|(n, event)| event["payload"]["n"] == n), "in their order");
    let large = format!(
        "{{\"type\":\"b\"}}\n{{\"type\":\"b\",\"payload\":{{\"x\":\"{}\"}}}}\n{{\"type\":\"b\"}}\n",
        "x".repeat(1000)
    );
    let ended = run_with_input(&map, &["publish", &channel, "--ndjson"], &large);
    assert_eq!((ended.code, ended.out.lines().count()), (Some(1), 1), "{ended:?}");
    assert!(ended.err.contains("line 2 is no event: event 0 has"), "{}", ended.err);
}

#[test]
fn a_lost_answer_and_a_busy_server_double_nothing() {
    let server = TestServer::start(&[]);
    let map = server.new_map("lossy");
    let channel = format!("map:{}", map.id);
    let busy = Fault::Answered(
        "HTTP/1.1 503 Busy\r\nRetry-After: 1",
        "{\"error\":\"The journal is full; try again\",\"code\":\"JOURNAL_FULL\",\"status\":503}",
    );
    let proxy = Proxy::start(server.addr(), &[Fault::AnswerLost, busy, Fault::AnswerCut(40)]);
    let away = by_way_of(&map, proxy.addr);
    let ended = run(&away, &["publish", &channel, "--type", "a"]);
    assert_eq!(ended.expect(0).lines().count(), 1, "{}", ended.err);
    assert_eq!(proxy.left(), 0, "all faults were met: {}", ended.err);
    assert_eq!(ended.err.matches("trying again in").count(), 3, "{}", ended.err);
    assert!(ended.err.contains("503: The journal is full"), "{}", ended.err);
    let stored = map.history("");
    assert_eq!((stored.len(), stored[0]["id"].as_str()), (1, Some(ended.out.trim_end())));
    let proxy = Proxy::start(server.addr(), &[Fault::AnswerLost]);
    let ended = run(&by_way_of(&map, proxy.addr), &["publish", &channel, "--type", "a", "--retry-for", "0s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn a_server_that_comes_back_gets_what_waited_for_it() {
    let mut server = server_that_returns(&[]);
    let map = server.new_map("away");
    server.kill();
    let program = Program::start(with(&map, &["publish", &format!("map:{}", map.id), "--type", "a"]));
    program.expect_notice("trying again in");
    server.restart();
    assert_eq!(program.wait().expect(0).lines().count(), 1);
    assert_eq!(map.history("").len(), 1);
}
