//! The commands that manage what a server has, as people type them.

use serde_json::{Value, json};

use super::{run, with_token};
use crate::support::program::{Ended, Program, command};
use crate::support::server::ADMIN;
use crate::support::{Map, Receiver, TestServer, eventually};

fn admin(map: &Map, words: &[&str]) -> Ended {
    Program::start(with_token(map, ADMIN, words)).wait()
}

#[track_caller]
fn json_of(ended: &Ended) -> Value {
    serde_json::from_str(ended.expect(0)).expect("JSON")
}

#[test]
fn tables_are_for_people_and_json_is_the_servers_answer() {
    let server = TestServer::start(&[]);
    let map = server.new_map("Our home");
    let table = admin(&map, &["map", "list"]);
    let mut lines = table.expect(0).lines();
    assert_eq!(lines.next().expect("a heading").split_whitespace().next(), Some("SLUG"));
    assert!(lines.next().expect("a row").starts_with("our-home  Our home"), "{}", table.out);
    for words in [
        &["map", "list", "--output", "json"][..],
        &["--server", &format!("http://{}", map.addr), "map", "--json", "list"],
    ] {
        let answer = json_of(&admin(&map, words));
        assert_eq!(answer["data"][0]["id"], map.id.as_str());
    }
    let one = run(&map, &["map", "show", "our-home"]);
    assert!(one.expect(0).lines().any(|line| line.split_whitespace().eq(["slug", "our-home"])), "{}", one.out);
    let tokens = run(&map, &["token", "list"]);
    assert!(tokens.expect(0).contains("map:our-home") && !tokens.out.contains(&map.id), "{}", tokens.out);
    let own = json_of(&run(&map, &["token", "list", "--output", "json"]));
    assert_eq!(own["data"][0]["channel"], format!("map:{}", map.id));
    assert_eq!(run(&map, &["source", "list"]).expect(0), "none\n");
}

#[test]
fn every_validation_error_is_told_and_a_name_that_is_nearly_right_is_proposed() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    let wrong = ["webhook", "create", "map:home", "--format", "fax", "--body", "{\"ordered\":\"x\",\"resume\":7}"];
    let refused = run(&map, &wrong);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for field in ["  ordered ", "  resume ", "  format "] {
        assert!(refused.err.contains(&format!("\n{field}")), "{field}: {}", refused.err);
    }
    let expired = run(&map, &["token", "create", "map:home", "--scope", "subscribe", "--expires-at", "tomorrow"]);
    assert!(expired.code == Some(1) && expired.err.contains("\n  expires_at "), "{expired:?}");
    let unknown = run(&map, &["webhook", "list", "map:hone"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("did you mean home?"), "{unknown:?}");
    let missing = run(&map, &["webhook", "show", "map:home", "nope"]);
    assert!(missing.code == Some(1) && missing.err.contains("Webhook not found"), "{missing:?}");
    assert!(!missing.err.contains("did you mean"), "the map is the right one: {missing:?}");
    let nothing = run(&map, &["map", "update", "home"]);
    assert!(nothing.code == Some(2) && nothing.err.contains("--slug"), "{nothing:?}");
    let plain =
        Program::start(command(&["map", "list", "--token", "x", "--server", &format!("https://{}", map.addr)])).wait();
    assert!(plain.code == Some(1) && plain.err.contains("it does not speak TLS there; use http://"), "{plain:?}");
}

#[test]
fn a_webhook_is_made_tested_and_sent_to_again_without_curl() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("home");
    let receiver = Receiver::start(&[]);
    let url = receiver.url();
    let made = json_of(&run(&map, &["webhook", "create", "map:home", "--url", &url, "--events", "map_kill", "--json"]));
    let id = made["data"]["id"].as_str().expect("an id");
    assert_eq!(run(&map, &["webhook", "toggle", "map:home", "on"]).expect(0), "webhooks of map:home are on\n");
    let test = run(&map, &["webhook", "test", "map:home", id]);
    assert!(test.expect(0).lines().any(|line| line.split_whitespace().eq(["delivered", "true"])), "{}", test.out);
    run(&map, &["trigger", "map:home", "map_kill"]).expect(0);
    let rows = |status: &str| {
        let answer = json_of(&run(&map, &["webhook", "deliveries", "map:home", id, "--status", status, "--json"]));
        answer["data"].as_array().expect("a list").clone()
    };
    eventually("the event is delivered", || {
        rows("delivered").iter().any(|row| row["event_types"] == json!(["map_kill"]))
    });
    let narrowed = |words: &[&str]| {
        let fixed = ["webhook", "deliveries", "map:home", id, "--json"];
        json_of(&run(&map, &[&fixed[..], words].concat()))["data"].as_array().expect("a list").len()
    };
    assert_eq!(
        narrowed(&[
            "--type",
            "map_kill,add_system",
            "--code",
            "2xx",
            "--since",
            "1h",
            "--until",
            "2999-01-01T00:00:00Z"
        ]),
        2,
        "the test and the event"
    );
    assert_eq!(
        narrowed(&["--type", "add_system"]) + narrowed(&["--until", "1h"]) + narrowed(&["--text", "nothing"]),
        0
    );
    let wrong = run(&map, &["webhook", "deliveries", "map:home", id, "--code", "time_out"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("5xx"), "{wrong:?}");
    run(&map, &["webhook", "update", "map:home", id, "--name", "The wall"]).expect(0);
    assert!(run(&map, &["webhook", "list", "map:home"]).expect(0).contains("The wall"));
    run(&map, &["webhook", "test", "map:home", id, "--type", "rally_point_added"]).expect(0);
    assert!(receiver.received().iter().any(|request| request.json()["type"] == "rally_point_added"));
    let counted = run(&map, &["webhook", "replay", "map:home", id, "--since", "2020-01-01T00:00:00Z", "--dry-run"]);
    assert!(counted.expect(0).lines().any(|line| line.split_whitespace().eq(["count", "1"])), "{}", counted.out);
    let before = receiver.received().len();
    let done = run(&map, &["webhook", "replay", "map:home", id, "--since", "2020-01-01T00:00:00Z", "--wait"]);
    assert!(done.expect(0).lines().any(|line| line.split_whitespace().eq(["state", "done"])), "{}", done.out);
    assert!(receiver.received().len() > before);
    let nobody = ["webhook", "create", "map:home", "--url", "http://127.0.0.1:1/", "--json"];
    let made = json_of(&run(&map, &nobody));
    let failed = run(&map, &["webhook", "test", "map:home", made["data"]["id"].as_str().expect("an id")]);
    assert_eq!(failed.code, Some(1), "a sample that does not arrive ends with 1: {failed:?}");
}

#[test]
fn a_token_is_given_another_name_and_another_end() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    let (id, _) = map.new_token(json!({"scopes": ["subscribe"], "name": "bot"}));
    let update = |words: &[&str]| run(&map, &[&["token", "update", &id, "--json"][..], words].concat());
    let ended = json_of(&update(&["--expires-at", "2999-01-01T00:00:00Z"]));
    assert_eq!(
        (&ended["data"]["name"], &ended["data"]["expires_at"]),
        (&json!("bot"), &json!("2999-01-01T00:00:00.000Z"))
    );
    let endless = json_of(&update(&["--expires-at", "", "--name", ""]));
    assert_eq!((&endless["data"]["name"], &endless["data"]["expires_at"]), (&Value::Null, &Value::Null));
    assert_eq!(update(&[]).code, Some(2), "nothing is to be changed");
}

#[test]
fn a_sample_is_published_with_its_own_payload_or_the_one_that_is_given() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    run(&map, &["trigger", "map:home", "map_kill"]).expect(0);
    run(&map, &["trigger", "map:home", "my.type", "--payload", "{\"n\":12}"]).expect(0);
    let lines = map.export();
    assert!(lines[0].contains("\"map_kill\"") && lines[0].contains("killmail_id"), "{lines:?}");
    assert!(lines[1].contains("\"my.type\"") && lines[1].contains("{\"n\":12}"), "{lines:?}");
    let unknown = run(&map, &["trigger", "map:home", "map_kil"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("did you mean map_kill?"), "{unknown:?}");
}

#[test]
fn pretty_shows_payloads_over_several_lines() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    map.publish(&json!({"type": "a", "payload": {"n": 1, "inner": {"b": [true]}}}));
    let shown = run(&map, &["tail", "map:home", "--since", "1h", "--limit", "1", "--pretty"]);
    let lines: Vec<_> = shown.expect(0).lines().skip(1).collect();
    assert_eq!(
        lines,
        ["  {", "    \"n\": 1,", "    \"inner\": {", "      \"b\": [", "        true", "      ]", "    }", "  }"]
    );
}

#[test]
fn listening_under_a_name_catches_up_on_what_came_while_nobody_listened() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    let receiver = Receiver::start(&[]);
    let state = tempfile::tempdir().expect("a folder");
    // a port with a path, as people type it
    let port = receiver.url().rsplit(':').next().expect("a port").to_owned();
    map.publish(&json!({"type": "before", "payload": {}}));
    let listen = |more: &[&str]| {
        let words: Vec<&str> = ["listen", "map:home", "--forward-to", &port, "--resume", "laptop"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let mut command = with_token(&map, &map.token, &words);
        command.env("XDG_STATE_HOME", state.path());
        Program::start(command)
    };
    let bookmark = state.path().join("stentor/bookmarks/laptop.toml");
    let first = listen(&[]);
    eventually("the place is remembered", || bookmark.exists());
    first.interrupt();
    first.wait().expect(0);
    // nothing was posted yet, and still nothing of what comes now is missed
    for kind in ["one", "two"] {
        map.publish(&json!({"type": kind, "payload": {}}));
    }
    listen(&["--limit", "2"]).wait().expect(0);
    map.publish(&json!({"type": "three", "payload": {}}));
    listen(&["--limit", "1"]).wait().expect(0);
    let posted: Vec<String> = receiver.received().iter().map(|one| one.header("X-Wanderer-Event").to_owned()).collect();
    assert_eq!(posted, ["one", "two", "three"]);
    let mut elsewhere = with_token(&map, ADMIN, &["listen", "feed", "--forward-to", &port, "--resume", "laptop"]);
    elsewhere.env("XDG_STATE_HOME", state.path());
    let refused = Program::start(elsewhere).wait();
    assert!(refused.code == Some(2) && refused.err.contains("belongs to map:home"), "{refused:?}");
}

#[test]
fn a_file_can_be_corrected_and_imported_again() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.ndjson");
    let path = file.to_str().expect("UTF-8");
    let event = "{\"type\":\"a\",\"payload\":{}}\n";
    std::fs::write(&file, format!("{event}{event}{{\"typ\":\"b\"}}\n{event}")).expect("written");
    let stopped = run(&map, &["import", "map:home", path]);
    assert!(stopped.code == Some(1) && stopped.err.contains("line 3"), "{stopped:?}");
    std::fs::write(&file, format!("{{\"type\":\"new\"}}\n{event}{event}{{\"type\":\"b\"}}\n{event}")).expect("written");
    let whole = run(&map, &["import", "map:home", path]);
    whole.expect(0);
    assert!(whole.err.contains("imported 3 events into map:home, 2 were there already"), "{whole:?}");
    let again = run(&map, &["import", "map:home", path]);
    assert!(again.err.contains("imported 0 events into map:home, 5 were there already"), "{again:?}");
    assert_eq!(map.export().len(), 5);
}

#[test]
fn shells_complete_the_names_of_channels() {
    let server = TestServer::start(&[]);
    let map = server.new_map("home");
    server.new_map("hideout");
    server.new_map("jita");
    let complete = |words: &[&str], index: &str| {
        let mut command = with_token(&map, ADMIN, &[]);
        command.args(["--", "stentor"]).args(words).env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index);
        command.env("_CLAP_IFS", "\n");
        Program::start(command).wait().expect(0).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["tail", "map:h"], "2"), ["map:home", "map:hideout"]);
    assert_eq!(complete(&["webhook", "list", "organization:de"], "3"), ["organization:default"]);
    assert_eq!(complete(&["map", "show", "j"], "3"), ["jita"]);
    assert_eq!(complete(&["trigger", "map:home", "map_"], "3"), ["map_kill"]);
}
