//! History and stats.

use serde_json::{Value, json};

use crate::support::TestServer;

fn id(event: &Value) -> &str {
    event["id"].as_str().expect("an id")
}

#[test]
fn pages_in_both_orders_join_without_hole_or_repetition() {
    let server = TestServer::start(&[("limits.api_requests_per_minute", "0")]);
    let map = server.new_map("pages");
    let ids = map.publish_many(23);
    for (order, expected) in [("asc", ids.clone()), ("desc", ids.iter().rev().cloned().collect())] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        for _ in 0..10 {
            let page = map.request("GET", &format!("/events?limit=5&order={order}&after={after}")).send().expect(200);
            seen.extend(page["data"].as_array().expect("a list").iter().map(|e| id(e).to_string()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("evt_{next}");
        }
        assert_eq!(seen, expected, "{order}");
    }
    let exact = map.request("GET", "/events?limit=23").send().expect(200);
    assert_eq!(exact["next"], Value::Null, "a full page that is the last says so");
}

#[test]
fn the_default_page_has_100_events_and_the_largest_1000() {
    let server = TestServer::start(&[]);
    let map = server.new_map("limits");
    map.publish_many(1001);
    assert_eq!((map.history("").len(), map.history("limit=1000").len()), (100, 1000));
    assert_eq!(map.export().len(), 1001);
    for limit in ["0", "1001", "-1", "x", ""] {
        assert_eq!(map.request("GET", &format!("/events?limit={limit}")).send().status, 400, "limit={limit}");
    }
}

#[test]
fn since_and_until_choose_by_the_events_own_time() {
    let server = TestServer::start(&[]);
    let map = server.new_map("times");
    let now = "2025-06-21T12:00:0";
    for second in 0..5 {
        map.publish(&json!({"type": "add_system", "ts": format!("{now}{second}Z"), "payload": {"n": second}}));
    }
    let numbers =
        |query: &str| map.history(query).iter().map(|e| e["payload"]["n"].as_u64().expect("n")).collect::<Vec<_>>();
    assert_eq!(numbers("since=2025-06-21T12:00:02Z"), [2, 3, 4]);
    assert_eq!(numbers("until=2025-06-21T12:00:02Z"), [0, 1, 2]);
    assert_eq!(numbers("since=2025-06-21T14:00:01%2B02:00&until=2025-06-21T12:00:03Z&order=desc"), [3, 2, 1]);
    for bad in ["2025-06-21", "2025-06-21T12:00:00", "yesterday", "1750507200"] {
        assert_eq!(map.request("GET", &format!("/events?since={bad}")).send().status, 400, "{bad}");
    }
}

#[test]
fn live_replay_history_and_export_show_the_same_bytes() {
    let server = TestServer::start(&[]);
    let map = server.new_map("bytes");
    let mut live = map.stream("");
    let mut socket = crate::support::Ws::open(&map, "");
    map.publish(&json!({"events": [
        {"type": "map_kill", "ts": "2025-06-21T12:34:56Z", "payload": {"value": 1.5e9, "ship": "Ünïcode \u{1F600}", "1": null}},
        {"type": "custom.type-1:x", "payload": {"list": [1, {"a": []}, "line\nbreak"]}},
        {"type": "add_system"},
    ]}));
    let live: Vec<String> = live.take(3).into_iter().map(|frame| frame.data).collect();
    let over_socket: Vec<String> = (0..3).map(|_| socket.text()).collect();
    let mut replay = map.stream("since=00000000000000000000000000");
    let replay: Vec<String> = replay.take(3).into_iter().map(|frame| frame.data).collect();
    let page = map.request("GET", "/events").send();
    assert_eq!(live, replay);
    assert_eq!(live, over_socket);
    assert_eq!(live, map.export());
    assert_eq!(page.text(), format!("{{\"data\":[{}],\"next\":null}}", live.join(",")));
    let envelope: Value = serde_json::from_str(&live[0]).expect("JSON");
    let keys: Vec<_> = envelope.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["id", "type", "map_id", "ts", "timestamp", "payload"]);
    assert_eq!((&envelope["map_id"], &envelope["ts"]), (&map.id.as_str().into(), &"2025-06-21T12:34:56.000Z".into()));
}

#[test]
fn history_is_filtered_like_a_stream() {
    let server = TestServer::start(&[]);
    let map = server.new_map("filter");
    map.publish(&json!([
        {"type": "map_kill", "payload": {"value": 10, "path": "/a/b"}},
        {"type": "map_kill", "payload": {"value": 20, "path": "/c"}},
        {"type": "add_system", "payload": {"entries": [{"path": "/x"}, {"path": "/a/z"}]}},
    ]));
    for (query, expected) in [
        ("events=map_kill", 2),
        ("events=map_kill,add_system", 3),
        ("events=*", 3),
        ("events=", 0),
        ("path_prefix=/a", 2),
        ("path_prefix=/a&path_prefix=/c", 3),
        ("filter=event.type%20%3D%3D%20%22map_kill%22%20%26%26%20event.payload.value%20%3E%2015", 1),
    ] {
        assert_eq!(map.history(query).len(), expected, "{query}");
    }
    let bad = map.request("GET", "/events?filter=event.type%20%3D%3D").send().expect(400);
    assert_eq!(bad["code"], "INVALID_FILTER");
}

#[test]
fn stats_count_per_type_and_bucket() {
    let server = TestServer::start(&[]);
    let map = server.new_map("stats");
    map.publish(&json!([{"type": "map_kill"}, {"type": "map_kill"}, {"type": "add_system"}]));
    let stats = map.request("GET", "/stats?window=24h&bucket=1h").send().expect(200);
    assert_eq!(stats["data"]["types"], json!({"add_system": 1, "map_kill": 2}));
    let buckets = stats["data"]["buckets"].as_array().expect("buckets");
    let total: u64 = buckets.iter().map(|bucket| bucket["total"].as_u64().expect("a number")).sum();
    assert_eq!(total, 3);
    for bad in ["window=1", "window=0h", "bucket=x", "window=9999999999999d", "window=366d&bucket=1s"] {
        assert_eq!(map.request("GET", &format!("/stats?{bad}")).send().status, 400, "{bad}");
    }
}

#[test]
fn lines_are_for_those_who_ask_for_them_in_whatever_case_and_a_page_for_those_who_would_rather_have_one() {
    let server = TestServer::start(&[]);
    let map = server.new_map("accept");
    map.publish_many(150);
    let ask = |accept: &str| map.request("GET", "/events?limit=1").header("Accept", accept).send();
    for accept in
        ["APPLICATION/X-NDJSON", "application/x-ndjson;charset=utf-8, */*;q=0.1", "text/html, Application/x-ndjson"]
    {
        let answer = ask(accept);
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"), "{accept}");
        assert_eq!(answer.text().lines().count(), 150, "{accept}");
    }
    for accept in
        ["application/json, application/x-ndjson;q=0.5", "application/x-ndjson;q=0", "*/*, application/x-ndjson;q=0.1"]
    {
        let answer = ask(accept);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{accept}");
        assert_eq!(answer.expect(200)["data"].as_array().map(Vec::len), Some(1), "{accept}");
    }
}
