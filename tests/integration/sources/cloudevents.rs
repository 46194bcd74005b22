//! CloudEvents in each mode, in at sources and publish addresses and out by webhooks, and the trace that goes along.

use serde_json::{Value, json};

use super::{Source, ids};
use crate::support::{Map, Receiver, Request, TestServer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "type": "com.example.created", "source": "/shop", "id": id, "time": "2024-01-15T10:30:00Z",
        "subject": "order-1", "data": {"n": 1}})
}

fn publish(map: &Map, kind: &str, body: &Value) -> Request {
    map.request("POST", "/events").header("Content-Type", kind).body(body.to_string())
}

#[test]
fn cloud_events_are_published_in_each_mode_and_known_again() {
    let server = TestServer::start(&[]);
    let map = server.new_map("in");
    let first = publish(&map, "application/cloudevents+json", &event("1")).send().expect(201);
    let binary = |id: &str| {
        let request =
            map.request("POST", "/events").header("Content-Type", "application/json").header("ce-specversion", "1.0");
        let request = request.header("ce-type", "com.example.created").header("ce-source", "/shop").header("ce-id", id);
        // the data alone is the body
        request.body(r#"{"n":1}"#).undescribed()
    };
    assert_eq!(binary("1").send().expect(201), first, "the same source and id");
    let batch = json!([event("2"), event("1"), event("3")]);
    let ids = publish(&map, "application/cloudevents-batch+json; charset=utf-8", &batch).send().expect(201);
    assert_eq!(ids["data"]["ids"][1], first["data"]["ids"][0]);
    // the key of the publisher wins over what names the event
    let keyed = binary("1").header("Idempotency-Key", "k").send().expect(201);
    assert_ne!(keyed, first);
    assert_eq!(binary("4").header("Idempotency-Key", "k").send().expect(201), keyed);
    let history = map.history("");
    assert_eq!(history.len(), 4);
    assert_eq!(
        (&history[0]["type"], &history[0]["ts"]),
        (&json!("com.example.created"), &json!("2024-01-15T10:30:00.000Z"))
    );
    let attributes = json!({"specversion": "1.0", "source": "/shop", "id": "1", "subject": "order-1"});
    assert_eq!(history[0]["payload"], json!({"n": 1, "cloudevent": attributes}));
    let mut bad = event("5");
    bad["type"] = "com/example".into();
    assert_eq!(publish(&map, "application/cloudevents+json", &bad).send().expect(400)["details"][0]["field"], "type");
    publish(&map, "application/cloudevents-batch+json", &json!([])).send().expect(400);
}

#[test]
fn a_source_takes_cloud_events_with_the_data_as_properties() {
    let server = TestServer::start(&[]);
    let map = server.new_map("source");
    let send = |source: &Source, event: &Value| {
        let request = Request::new(source.addr, "POST", &format!("/webhooks/{}", source.id));
        request.header("Content-Type", "application/cloudevents+json").body(event.to_string()).send()
    };
    let source = Source::open(&map);
    let first = ids(&send(&source, &event("1")).expect(200));
    assert_eq!(ids(&send(&source, &event("1")).expect(200)), first);
    let payload = map.history("")[0]["payload"].clone();
    assert_eq!((&payload["properties"], &payload["cloudevent"]["id"]), (&json!({"n": 1}), &json!("1")));
    let mut other = event("2");
    other["type"] = "com/example".into();
    send(&source, &other).expect(400);
    let letters = source.manage(&map.token, "GET", "/dead-letters").send().expect(200);
    assert_eq!(letters["data"].as_array().map(Vec::len), Some(1));
    // its own rule maps what is no type of ours
    let (mapping, _) = Source::new(&map, json!({"authentication": "none", "eventType": {"pointer": "/type"}}));
    ids(&send(&mapping, &other).expect(200));
    assert_eq!(map.history("")[1]["type"], "com_example");
}

#[test]
fn a_sender_of_cloud_events_may_ask_whether_it_is_welcome() {
    let server = TestServer::start(&[]);
    let map = server.new_map("welcome");
    let source = Source::open(&map);
    let ask = |source: &Source| Request::new(source.addr, "OPTIONS", &format!("/webhooks/{}", source.id));
    let answer = ask(&source)
        .header("WebHook-Request-Origin", "eventemitter.example.com")
        .header("WebHook-Request-Rate", "120")
        .send();
    assert_eq!((answer.status, answer.header("webhook-allowed-origin")), (200, Some("eventemitter.example.com")));
    assert_eq!(answer.header("webhook-allowed-rate"), Some("*"));
    assert!(answer.header("allow").is_some_and(|methods| methods.contains("POST")));
    let plain = ask(&source).header("WebHook-Request-Origin", "a.example").send();
    assert_eq!((plain.status, plain.header("webhook-allowed-rate")), (200, None));
    ask(&source).send().expect(405);
    let (limited, _) =
        Source::new(&map, json!({"authentication": "none", "rateLimit": {"requests": 2, "perSeconds": 60}}));
    let rated =
        || ask(&limited).header("WebHook-Request-Origin", "a.example").header("WebHook-Request-Rate", "9").send();
    assert_eq!(rated().header("webhook-allowed-rate"), Some("2"));
    assert_eq!((rated().status, rated().status), (200, 429));
}

#[test]
fn webhooks_send_cloud_events_in_binary_mode_and_go_on_with_the_trace() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("out");
    let receiver = Receiver::start(&[500]);
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let webhook = json!({"url": receiver.url(), "format": "cloudevents_binary", "retry_policy": {"policy": "constant", "delay_seconds": 1, "attempts": 3}});
    map.request("POST", "/webhooks").json(&webhook).send().expect(201);
    let request = map.request("POST", "/events").header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let request = request.header("tracestate", "vendor=1");
    request.json(&json!({"type": "map_kill", "ts": "2024-01-15T10:30:00Z", "payload": {"n": 1}})).send().expect(201);
    let got = receiver.expect(2);
    assert_eq!(
        (got[0].json(), got[0].header("ce-type"), got[0].header("ce-specversion")),
        (json!({"n": 1}), "map_kill", "1.0")
    );
    assert_eq!(
        (got[0].header("ce-time"), got[0].header("ce-source")),
        ("2024-01-15T10:30:00.000Z", format!("/maps/{}", map.id).as_str())
    );
    assert_eq!(got[0].header("content-type"), "application/json");
    assert_eq!(got[0].header("ce-id"), map.history("")[0]["id"]);
    let spans: Vec<&str> = got.iter().map(|post| post.header("traceparent")).collect();
    for span in &spans {
        assert!(span.starts_with(&format!("00-{TRACE}-")) && span.ends_with("-01"), "{span}");
    }
    assert_ne!(spans[0], spans[1], "each attempt is a span of its own");
    assert!(!spans.iter().any(|span| span.contains("00f067aa0ba902b7")));
    assert_eq!(got[1].header("tracestate"), "vendor=1");
    assert!(!map.request("GET", "/events").send().text().contains(TRACE), "envelopes do not show it");
}

#[test]
fn the_trace_of_a_request_at_a_source_outlives_a_restart() {
    let mut server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("kept");
    let source = Source::open(&map);
    let request = source.request("").header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-00"));
    request.body(r#"{"event_type":"a"}"#).send().expect(200);
    source.request("").header("traceparent", "none").body(r#"{"event_type":"b"}"#).send().expect(200);
    server.stop();
    server.restart();
    let map = map.at(&server);
    let receiver = Receiver::start(&[]);
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let made = map.request("POST", "/webhooks").json(&json!({"url": receiver.url()})).send().expect(201);
    let replay = format!("/webhooks/{}/replay", made["data"]["id"].as_str().expect("an id"));
    map.request("POST", &replay).json(&json!({"after": "00000000000000000000000000"})).send().expect(202);
    let got = receiver.expect(2);
    let of = |kind: &str| got.iter().find(|post| post.header("x-wanderer-event") == kind).expect("a post");
    assert!(of("a").header("traceparent").starts_with(&format!("00-{TRACE}-")));
    assert!(!of("b").has("traceparent"));
}
