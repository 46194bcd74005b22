//! `stentor export` and `stentor import`.

use serde_json::{Value, json};

use super::{run, run_with_input, start};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Map, TestServer, eventually};

fn parsed(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What an event is beside its id and its channel.
fn substance(event: &Value) -> [Value; 3] {
    ["type", "ts", "payload"].map(|name| event[name].clone())
}

fn publish_varied(map: &Map) {
    map.publish(&json!([
        {"type": "map_kill", "ts": "2025-06-21T12:34:56.789Z", "payload": {"value": 1.5, "text": "ä\u{2028}🚀\u{7f}"}},
        {"type": "add_system", "ts": "2001-01-01T00:00:00.000Z", "session": "s1", "payload": {"2": 1, "1": 2}},
        {"type": "poll.vote", "payload": {"deep": {"list": [1, [2, {"n": null}]]}}},
        {"type": "map_kill", "ts": "2999-01-01T00:00:00.001Z", "payload": {}},
    ]));
}

#[test]
fn what_is_exported_and_imported_again_is_the_same_and_only_once() {
    let server = TestServer::start(&[]);
    let (from, to) = (server.new_map("from"), server.new_map("to"));
    publish_varied(&from);
    from.publish_many(1700);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.ndjson");
    let file = file.to_str().expect("UTF-8");
    let exported = run(&from, &["export", &format!("map:{}", from.id), "--output", file]);
    assert_eq!(exported.expect(0), "");
    assert_eq!(exported.err, format!("stentor: exported 1704 events from map:{} to {file}\n", from.id));
    assert_eq!(std::fs::read_to_string(file).expect("the file").lines().collect::<Vec<_>>(), from.export());
    let import = ["import", &format!("map:{}", to.id), file];
    let imported = run(&to, &import);
    assert_eq!(imported.expect(0), "");
    assert_eq!(imported.err, format!("stentor: imported 1704 events into map:{}\n", to.id));
    let again = run(&to, &import);
    again.expect(0);
    assert_eq!(again.err, format!("stentor: imported 0 events into map:{}, 1704 were there already\n", to.id));
    let both = [&from, &to].map(|map| map.export().join("\n"));
    let [sent, arrived] = both.map(|lines| parsed(&lines));
    assert_eq!(sent.iter().map(substance).collect::<Vec<_>>(), arrived.iter().map(substance).collect::<Vec<_>>());
    let piped = run(&to, &["export", &format!("map:{}", to.id)]);
    assert_eq!(piped.expect(0).lines().collect::<Vec<_>>(), to.export());
    assert_eq!(piped.err, "");
}

#[test]
fn an_import_that_was_killed_can_be_repeated() {
    let server = TestServer::start(&[]);
    let map = server.new_map("killed");
    let event = |n: usize| format!("{{\"id\":\"there-{n}\",\"type\":\"a\",\"payload\":{{\"n\":{n}}}}}\n");
    let text: String = (0..5000).map(event).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &text).expect("written");
    let import = ["import", &format!("map:{}", map.id), file.path().to_str().expect("UTF-8")];
    let program = start(&map, &import);
    eventually("it has begun", || !map.history("limit=1").is_empty());
    program.kill();
    run(&map, &import).expect(0);
    let numbers: Vec<_> = parsed(&map.export().join("\n")).iter().map(|e| e["payload"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..5000).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_bad_line_stops_an_import_at_its_number_unless_it_may_be_passed_over() {
    let server = TestServer::start(&[]);
    let map = server.new_map("bad");
    let channel = format!("map:{}", map.id);
    let text = "{\"type\":\"a\"}\n\n{\"type\":\"b c\"}\n{\"type\":\"a\"}\nnot JSON\n{\"type\":\"a\",\"payload\":7}\n";
    let stopped = run_with_input(&map, &["import", &channel, "-"], text);
    assert_eq!(stopped.code, Some(1));
    assert!(stopped.err.contains("line 3 is no event: type is not well-formed"), "{}", stopped.err);
    assert!(stopped.err.contains("or add --skip-invalid"), "{}", stopped.err);
    assert_eq!(map.history("").len(), 1);
    let passed = run_with_input(&map, &["import", &channel, "-", "--skip-invalid"], text);
    passed.expect(0);
    for number in [3, 5, 6] {
        assert!(passed.err.contains(&format!("line {number} is no event: ")), "{}", passed.err);
    }
    assert!(
        passed.err.ends_with(&format!("imported 1 event into {channel}, 1 was there already, passed over 3 lines\n")),
        "{}",
        passed.err
    );
    assert_eq!(map.history("").len(), 2);
    let missing = run(&map, &["import", &channel, "/nowhere.ndjson"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("cannot read /nowhere.ndjson"), "{}", missing.err);
}

#[test]
fn an_export_is_resumed_behind_its_last_whole_line_and_overwrites_nothing() {
    let server = TestServer::start(&[]);
    let map = server.new_map("resume");
    let channel = format!("map:{}", map.id);
    map.publish_many(100);
    let all: String = map.export().iter().map(|line| format!("{line}\n")).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.ndjson");
    let file = path.to_str().expect("UTF-8");
    let third = all.match_indices('\n').nth(2).expect("three lines").0;
    std::fs::write(&path, &all[..third + 20]).expect("written");
    let refused = run(&map, &["export", &channel, "--output", file]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("add --resume"), "{}", refused.err);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), all[..third + 20]);
    let resumed = run(&map, &["export", &channel, "--output", file, "--resume"]);
    resumed.expect(0);
    assert!(resumed.err.contains("exported 97 events"), "{}", resumed.err);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), all);
    let later = map.publish_many(1);
    run(&map, &["export", &channel, "--output", file, "--resume"]).expect(0);
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(text.starts_with(&all) && text.lines().count() == 101 && text.contains(&later[0]));
    std::fs::write(&path, "something else\n").expect("written");
    let foreign = run(&map, &["export", &channel, "--output", file, "--resume"]);
    assert_eq!(foreign.code, Some(1));
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "something else\n");
}

#[test]
fn an_export_that_breaks_off_goes_on_where_it_was() {
    let server = TestServer::start(&[]);
    let map = server.new_map("cut");
    map.publish_many(5000);
    let proxy = Proxy::start(server.addr(), &[Fault::AnswerCut(100_000), Fault::AnswerLost, Fault::AnswerCut(300_001)]);
    let away = Map { addr: proxy.addr, ..map.clone() };
    let exported = run(&away, &["export", &format!("map:{}", map.id)]);
    assert_eq!(exported.expect(0).lines().collect::<Vec<_>>(), map.export());
    assert_eq!((proxy.left(), exported.err.matches("; going on in").count()), (0, 3), "{}", exported.err);
}

#[test]
fn an_export_has_what_was_asked_for() {
    let server = TestServer::start(&[]);
    let map = server.new_map("range");
    let channel = format!("map:{}", map.id);
    publish_varied(&map);
    let ids: Vec<_> = map.history("").iter().map(|event| event["id"].as_str().expect("id").to_owned()).collect();
    let places = |flags: &[&str]| -> Vec<usize> {
        let ended = run(&map, &[&["export", &channel], flags].concat());
        let place = |event: &Value| ids.iter().position(|id| event["id"] == id.as_str()).expect("one of them");
        parsed(ended.expect(0)).iter().map(place).collect()
    };
    assert_eq!(places(&["--events", "map_kill"]), [0, 3]);
    assert_eq!(places(&["--since", &ids[0], "--until", &ids[2]]), [1, 2]);
    assert_eq!(places(&["--filter", "event.payload.value > 1"]), [0]);
    assert_eq!(places(&["--session", "s1"]), [1]);
    assert_eq!(places(&["--since", "1h", "--until", "0s"]), [2]);
    assert_eq!(places(&["--since", "2025-01-01T00:00:00Z", "--until", "2025-12-31T00:00:00Z"]), [0]);
    let wrong = run(&map, &["export", &channel, "--resume"]);
    assert_eq!(wrong.code, Some(2), "--resume needs --output");
}
