//! SSE: headers, frames, resuming, gaps, filters, keepalive, the end.

use std::time::Duration;

use serde_json::json;

use crate::support::{Sse, TestServer};

const BEGINNING: &str = "00000000000000000000000000";

#[test]
fn a_stream_has_the_headers_and_the_opening_frame_that_are_promised() {
    let server = TestServer::start(&[]);
    let made = server.admin("POST", "/api/maps").json(&json!({"name": "s", "slug": "the-slug"})).send().expect(201);
    let (id, token) = (made["data"]["id"].as_str().expect("id"), made["data"]["token"].as_str().expect("token"));
    let stream = Sse::open(server.request("GET", "/api/maps/the-slug/events/stream").bearer(token));
    let header = |name: &str| stream.answer.header(name);
    assert_eq!(header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(header("x-accel-buffering"), Some("no"));
    let connected = stream.connected.json();
    assert_eq!((&connected["map_id"], &connected["resumed"]), (&id.into(), &false.into()), "the UUID, not the slug");
    assert_eq!(connected["unknown_events"], json!([]));
    assert!(connected["server_time"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(stream.connected.retry.as_deref(), Some("3000"));
    assert_eq!(stream.connected.id.as_ref().map(String::len), Some(26), "where the stream starts from");
}

#[test]
fn an_event_is_an_id_line_and_a_data_line_and_nothing_else() {
    let server = TestServer::start(&[]);
    let map = server.new_map("frame");
    let mut stream = map.stream("");
    let event = json!({"type": "map_kill", "ts": "2025-06-21T12:34:56.789Z", "payload": {"n": 1}});
    let id = map.publish(&event).remove(0);
    let time = "2025-06-21T12:34:56.789Z";
    let data = format!(
        "{{\"id\":\"{id}\",\"type\":\"map_kill\",\"map_id\":\"{}\",\"ts\":\"{time}\",\"timestamp\":\"{time}\",\
         \"payload\":{{\"n\":1}}}}",
        map.id
    );
    assert_eq!(stream.next().raw, format!("id: {id}\ndata: {data}\n\n"));
}

#[test]
fn events_are_named_by_query_over_map_over_setting() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("names");
    map.publish(&json!({"type": "map_kill"}));
    let name = |map: &crate::support::Map, query: &str| map.stream(&format!("since={BEGINNING}{query}")).next().event;
    let named = Some("map_kill".to_string());
    assert_eq!(name(&map, ""), None);
    assert_eq!(name(&map, "&event_names=true"), named);
    map.request("PATCH", "").json(&json!({"event_names": true})).send().expect(200);
    assert_eq!(name(&map, ""), named);
    assert_eq!(name(&map, "&event_names=false"), None);
    map.request("PATCH", "").json(&json!({"event_names": null})).send().expect(200);
    assert_eq!(name(&map, ""), None);
    server.restart_with(&[("sse.event_names", "true")]);
    let map = map.at(&server);
    assert_eq!(name(&map, ""), named);
    map.request("PATCH", "").json(&json!({"event_names": false})).send().expect(200);
    assert_eq!(name(&map, ""), None);
    assert_eq!(map.request("GET", "/events/stream?event_names=maybe").send().status, 400);
}

#[test]
fn every_name_and_form_of_a_cursor_resumes_and_the_header_wins() {
    let server = TestServer::start(&[]);
    let map = server.new_map("resume");
    let ids = map.publish_many(10);
    for form in [ids[3].clone(), format!("evt_{}", ids[3])] {
        for name in ["last_event_id", "lastEventId", "since"] {
            let mut stream = map.stream(&format!("{name}={form}"));
            assert_eq!(stream.connected.json()["resumed"], true);
            assert_eq!(stream.connected.id.as_ref(), Some(&ids[3]), "{name}={form}");
            let seen: Vec<_> = stream.take(6).into_iter().filter_map(|frame| frame.id).collect();
            assert_eq!(seen, ids[4..], "{name}={form}");
        }
        let query = format!("/events/stream?last_event_id={}", ids[8]);
        let mut stream = Sse::open(map.request("GET", &query).header("Last-Event-ID", &form));
        assert_eq!(stream.next().id.as_ref(), Some(&ids[4]), "the header wins over the query");
    }
}

#[test]
fn a_reader_that_resumed_goes_on_live_without_hole_or_repetition() {
    let server = TestServer::start(&[]);
    let map = server.new_map("live");
    let ids = map.publish_many(2500);
    let mut stream = map.stream(&format!("since={}", ids[0]));
    let later = map.publish_many(100);
    let seen: Vec<_> = stream.take(2599).into_iter().filter_map(|frame| frame.id).collect();
    assert_eq!(seen, [&ids[1..], &later[..]].concat());
}

#[test]
fn a_cursor_that_is_ahead_of_the_log_is_told_so_before_the_first_event() {
    let server = TestServer::start(&[]);
    let map = server.new_map("ahead");
    let ids = map.publish_many(1);
    let ahead = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    let mut stream = map.stream(&format!("since={ahead}"));
    let gap = stream.next();
    assert_eq!((gap.event.as_deref(), &gap.id), (Some("gap"), &None));
    assert_eq!(gap.json(), json!({"requested": ahead, "oldest": ids[0], "reason": "ahead"}));
    let next = map.publish_many(1);
    assert_eq!(stream.next().id, Some(next[0].clone()));
}

#[test]
fn a_cursor_whose_successors_were_dropped_is_told_so_before_the_first_event() {
    let server = TestServer::start(&[
        ("storage.segment_max_bytes", "1048576"),
        ("retention.max_events", "1000"),
        ("streams.ring_events", "16"),
    ]);
    let map = server.new_map("expired");
    let ids = map.publish_many(1);
    let filler = "x".repeat(2000);
    for _ in 0..6 {
        let batch: Vec<_> = (0..500).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
        map.publish(&json!(batch));
    }
    crate::support::eventually("retention has dropped all that is too much", || {
        let kept = server.admin("GET", &format!("/api/maps/{}/events?limit=1000", map.id)).send().expect(200);
        kept["next"].is_null() && kept["data"][0]["id"] != ids[0].as_str()
    });
    let first = map.history("limit=1").remove(0);
    let mut stream = map.stream(&format!("since={}", ids[0]));
    let gap = stream.next();
    assert_eq!((gap.event.as_deref(), &gap.id), (Some("gap"), &None), "{}", gap.raw);
    assert_eq!(gap.json(), json!({"requested": ids[0], "oldest": first["id"], "reason": "expired"}));
    assert_eq!(stream.next().id.as_deref(), first["id"].as_str());
}

#[test]
fn a_malformed_cursor_is_refused_wherever_it_stands() {
    let server = TestServer::start(&[]);
    let map = server.new_map("cursor");
    for bad in ["x", "evt_", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0000000000000000000000000", "0000000000000000000000000!"] {
        for name in ["last_event_id", "lastEventId", "since"] {
            let refused = map.request("GET", &format!("/events/stream?{name}={bad}")).send().expect(400);
            assert_eq!(refused["code"], "INVALID_CURSOR", "{name}={bad}");
        }
        let refused = map.request("GET", "/events/stream").header("Last-Event-ID", bad).send();
        assert_eq!(refused.expect(400)["code"], "INVALID_CURSOR", "{bad}");
    }
}

#[test]
fn a_stream_shows_only_what_passes_its_filter() {
    let server = TestServer::start(&[]);
    let map = server.new_map("filter");
    let events = json!([
        {"type": "map_kill", "payload": {"value": 10, "path": "/a"}},
        {"type": "map_kill", "payload": {"value": 2_000_000_000}},
        {"type": "add_system", "payload": {"path": "/b"}},
        {"type": "rally_point_added"},
    ]);
    let cases: [(&str, &[usize]); 7] = [
        ("events=map_kill,rally_point_added", &[0, 1, 3]),
        ("events=*", &[0, 1, 2, 3]),
        ("path_prefix=/b", &[2]),
        ("path_prefix=/a&path_prefix=/b", &[0, 2]),
        ("filter=event.payload.value%20%3E%201000000000.0", &[1]),
        ("events=map_kill&path_prefix=/a", &[0]),
        ("events=my_own_type,rally_point_added", &[3]),
    ];
    let mut streams: Vec<_> = cases.iter().map(|(query, _)| map.stream(query)).collect();
    let mut nothing = map.stream("events=");
    assert_eq!(streams[6].connected.json()["unknown_events"], json!(["my_own_type"]));
    let ids = map.publish(&events);
    for ((query, expected), live) in cases.iter().zip(&mut streams) {
        let expected: Vec<_> = expected.iter().map(|n| ids[*n].clone()).collect();
        let mut replay = map.with_token(crate::support::server::ADMIN).stream(&format!("since={BEGINNING}&{query}"));
        for stream in [live, &mut replay] {
            let seen: Vec<_> = stream.take(expected.len()).into_iter().filter_map(|frame| frame.id).collect();
            assert_eq!(seen, expected, "{query}");
        }
    }
    map.request("DELETE", "").send();
    assert_eq!(nothing.next_or_end(), None, "an empty list given explicitly lets nothing pass");
}

#[test]
fn a_bad_filter_is_refused_with_the_place_of_the_mistake() {
    let server = TestServer::start(&[]);
    let map = server.new_map("filter");
    for bad in ["filter=event.type%20%3D%3D%20%3D", "filter=1%20%2B", "events=no%20spaces", "filter=nothing.known"] {
        let refused = map.request("GET", &format!("/events/stream?{bad}")).send().expect(400);
        assert_eq!(refused["code"], "INVALID_FILTER", "{bad}: {refused}");
    }
    let refused = map.request("GET", "/events/stream?filter=event.type%20%3D%3D%20%3D").send().expect(400);
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("column")), "{refused}");
}

#[test]
fn a_comment_keeps_a_silent_stream_open() {
    let server = TestServer::start(&[("sse.keepalive_s", "1")]);
    let map = server.new_map("silent");
    let mut stream = map.stream("");
    stream.patience(Duration::from_secs(4));
    for _ in 0..2 {
        let frame = stream.frame().expect("in time").expect("the stream goes on");
        assert_eq!(frame.raw, ": keepalive\n\n");
    }
}

#[test]
fn streams_end_cleanly_when_the_server_stops_and_resume_at_the_next() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("stop");
    let mut stream = map.stream("");
    let first = map.publish_many(1);
    assert_eq!(stream.next().id, Some(first[0].clone()));
    server.ask_to_stop();
    stream.ends_within(Duration::from_secs(5));
    assert!(server.wait().success());
    server.restart();
    let map = map.at(&server);
    let missed = map.publish_many(3);
    let mut stream = map.stream(&format!("last_event_id={}", first[0]));
    let seen: Vec<_> = stream.take(3).into_iter().filter_map(|frame| frame.id).collect();
    assert_eq!(seen, missed);
}
