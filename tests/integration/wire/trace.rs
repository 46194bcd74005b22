//! The trace of an event: where it came from, and what became of it.

use serde_json::{Value, json};

use crate::support::{Map, Receiver, Request, Sse, TestServer, Ws, eventually};

fn asked(map: &Map, id: &str) -> Request {
    Request::new(map.addr, "GET", &format!("/api/v1/events/{id}/trace")).bearer(&map.token)
}

#[track_caller]
fn traced(map: &Map, id: &str) -> Value {
    asked(map, id).send().expect(200)["data"].clone()
}

fn read_one(streams: &mut [Sse], id: &str) {
    for stream in streams {
        assert_eq!(stream.next().id.as_deref(), Some(id));
    }
}

#[test]
fn an_event_is_traced_from_its_publisher_to_its_sessions() {
    let server = TestServer::start(&[]);
    let map = server.new_map("traced");
    let (token, text) = map.new_token(json!({"scopes": ["publish"], "name": "the game server"}));
    let mut streams: Vec<_> = (0..3).map(|_| map.stream("")).collect();
    streams.push(map.stream("event_names=true"));
    streams.push(map.stream("events=map_kill"));
    streams.push(Sse::open(server.admin("GET", "/events/stream")));
    let _other = map.stream("events=add_system");
    let mut socket = Ws::open(&map, "");
    let event = json!({"type": "map_kill", "ts": "2026-01-02T03:04:05.678Z", "session": "s1"});
    let id = map.with_token(&text).publish(&event).remove(0);
    read_one(&mut streams[..5], &id);
    assert_eq!(streams[5].next().id.as_deref(), Some(&*format!("evt_{id}")));
    assert_eq!(socket.json()["id"], id.as_str());
    let trace = traced(&map, &id);
    assert_eq!(trace, traced(&map, &format!("evt_{id}")), "an id is taken with and without its prefix");
    assert_eq!(trace["sessions"], 7, "{trace}");
    assert_eq!((&trace["id"], &trace["type"]), (&format!("evt_{id}").into(), &"map_kill".into()));
    assert_eq!((&trace["channel"], &trace["session"]), (&format!("map:{}", map.id).into(), &"s1".into()));
    assert_eq!(trace["origin"], json!({"kind": "token", "by": token, "name": "the game server"}));
    assert_eq!(trace["timestamp"], "2026-01-02T03:04:05.678Z");
    let (appended, durable) = (trace["appendedAt"].as_str(), trace["durableAt"].as_str());
    assert!(appended.is_some() && appended <= durable, "{trace}");
    assert_eq!((&trace["webhooks"], &trace["validated"]), (&json!([]), &Value::Null));
}

#[test]
fn sessions_that_are_behind_are_counted_when_they_read_the_event_from_the_log() {
    let server = TestServer::start(&[("streams.ring_events", "2")]);
    let map = server.new_map("behind");
    let ids = map.publish_many(20);
    assert_eq!(traced(&map, &ids[5])["sessions"], 0);
    let mut streams: Vec<_> = (0..2).map(|_| map.stream(&format!("since={}", ids[3]))).collect();
    for id in &ids[4..] {
        read_one(&mut streams, id);
    }
    let sessions = |n: usize| traced(&map, &ids[n])["sessions"].clone();
    assert_eq!((sessions(3), sessions(4), sessions(19)), (0.into(), 2.into(), 2.into()));
}

#[test]
fn what_only_memory_knew_is_said_to_be_unknown_after_a_restart() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("restarted");
    let id = map.publish(&json!({"type": "map_kill"})).remove(0);
    let before = traced(&map, &id);
    assert!(before["durableAt"].is_string() && before["sessions"] == 0, "{before}");
    server.restart();
    let after = traced(&map.at(&server), &id);
    assert_eq!((&after["durableAt"], &after["sessions"]), (&Value::Null, &Value::Null));
    assert_eq!((&after["appendedAt"], &after["origin"]), (&before["appendedAt"], &before["origin"]));
}

#[test]
fn only_the_newest_events_are_remembered() {
    let server = TestServer::start(&[("streams.traced_events", "3")]);
    let map = server.new_map("short");
    let ids: Vec<_> = (0..5).map(|_| map.publish(&json!({"type": "map_kill"})).remove(0)).collect();
    let sessions: Vec<_> = ids.iter().map(|id| traced(&map, id)["sessions"].clone()).collect();
    assert_eq!(sessions, [Value::Null, Value::Null, 0.into(), 0.into(), 0.into()]);
}

#[test]
fn a_trace_says_how_the_event_fared_at_each_webhook() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("m");
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let (good, bad) = (Receiver::start(&[]), Receiver::start(&[500, 503]));
    let make = |body: Value| map.request("POST", "/webhooks").json(&body).send().expect(201)["data"]["id"].clone();
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 2});
    let delivering = make(json!({"url": good.url(), "name": "The wall"}));
    make(json!({"url": bad.url(), "retry_policy": policy, "name": "Orders"}));
    make(json!({"url": format!("{}/filtered", good.url()), "events": ["add_system"]}));
    make(json!({"url": format!("{}/off", good.url()), "active": false}));
    let id = map.publish(&json!({"type": "map_kill"})).remove(0);
    bad.expect(2);
    make(json!({"url": format!("{}/later", good.url())}));
    let statuses = || -> Vec<String> {
        let trace = traced(&map, &id);
        let webhooks = trace["webhooks"].as_array().expect("a list").clone();
        webhooks.iter().map(|webhook| webhook["status"].as_str().expect("a status").to_string()).collect()
    };
    eventually("both have ended", || {
        statuses() == ["delivered", "dead", "filtered", "pending", "earlier"].map(String::from)
    });
    let trace = traced(&map, &id);
    let [first, second, _, off, _] = trace["webhooks"].as_array().expect("a list").as_slice() else {
        panic!("{trace}");
    };
    assert_eq!((&first["id"], &first["url"]), (&delivering, &good.url().into()));
    assert_eq!((&first["name"], &off["name"]), (&"The wall".into(), &Value::Null));
    assert_eq!((&first["health"], &off["health"]), (&"healthy".into(), &"paused".into()));
    let delivery = &first["deliveries"][0];
    assert_eq!((&delivery["status"], &delivery["attemptCount"]), (&"delivered".into(), &1.into()));
    let received = good.received();
    assert_eq!(delivery["id"], received[0].header("X-Wanderer-Delivery"));
    let codes: Vec<_> = second["deliveries"][0]["attempts"].as_array().expect("a list").iter().collect();
    assert_eq!((&codes[0]["statusCode"], &codes[1]["statusCode"]), (&500.into(), &503.into()));
    assert_eq!((&codes[0]["trigger"], &codes[1]["trigger"]), (&"first".into(), &"retry".into()));
    assert!(codes[0]["startedAt"].is_string() && codes[0]["durationMs"].is_u64() && codes[0]["error"].is_string());
    // where a webhook leads is for those who manage it
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"]}));
    let seen = traced(&map.with_token(&reader), &id);
    let of_second = &seen["webhooks"][1];
    assert_eq!((&of_second["url"], &of_second["status"]), (&Value::Null, &"dead".into()));
    assert_eq!(of_second["name"], Value::Null);
    assert_eq!(of_second["deliveries"][0]["attempts"][0]["error"], Value::Null);
}

#[test]
fn a_trace_is_for_those_who_may_read_or_manage_the_channel() {
    let server = TestServer::start(&[]);
    let (map, other) = (server.new_map("m"), server.new_map("other"));
    let id = map.publish(&json!({"type": "map_kill"})).remove(0);
    let (_, publisher) = map.new_token(json!({"scopes": ["publish"]}));
    let (_, manager) = map.new_token(json!({"scopes": ["manage"]}));
    let absent = json!({"error": {"code": "not_found", "message": "Event not found"}});
    for foreign in [&other, &map.with_token(&publisher)] {
        assert_eq!(asked(foreign, &id).send().expect(404), absent);
    }
    traced(&map.with_token(&manager), &id);
    server.admin("GET", &format!("/api/v1/events/{id}/trace")).send().expect(200);
    for unknown in ["7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "evt_", "x", "%00"] {
        assert_eq!(asked(&map, unknown).send().expect(404), absent, "{unknown}");
    }
    server.request("GET", &format!("/api/v1/events/{id}/trace")).send().expect(401);
    map.request("DELETE", "").send();
    let gone = server.admin("GET", &format!("/api/v1/events/{id}/trace")).send().expect(404);
    assert_eq!(gone, absent, "the events of a deleted channel are not there any more");
}

#[test]
fn events_of_organizations_are_traced_too_and_the_admin_is_named() {
    let server = TestServer::start(&[]);
    let mut stream = Sse::open(server.admin("GET", "/api/v1/organizations/default/events/stream"));
    let target = "/api/v1/organizations/default/events";
    let published = server.admin("POST", target).json(&json!({"type": "message", "session": "s"})).send().expect(201);
    let id = published["data"]["ids"][0].as_str().expect("an id").to_string();
    assert_eq!(stream.next().id.as_deref(), Some(&*id));
    let trace = server.admin("GET", &format!("/api/v1/events/{id}/trace")).send().expect(200)["data"].clone();
    assert_eq!(trace["origin"], json!({"kind": "admin", "by": "admin", "name": null}));
    assert_eq!((&trace["channel"], &trace["sessions"]), (&"organization:default".into(), &1.into()));
}
