//! CloudEvents in each mode, in at sources and publish addresses and out by webhooks, and the trace that goes along.

use serde_json::{Value, json};

use super::{Source, ids};
use crate::support::{Map, Receiver, Request, TestServer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// HMAC-SHA256 of `{}` with the key `k`.
const SIGNATURE: &str = "add853b103fbcc936a194f9eb15e29c4ff08af6e47d5d1bca4f20218e31e4fff";

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

#[test]
fn events_in_binary_mode_that_differ_in_their_headers_only_are_two_where_the_body_alone_is_signed() {
    let server = TestServer::start(&[]);
    let map = server.new_map("signed");
    let recipe = json!({"scheme": "hmac", "header": "X-Signature"});
    let (source, _) = Source::new(&map, json!({"authentication": recipe, "secretKey": "k"}));
    let send = |id: &str, kind: &str| {
        let request = source.request("").header("X-Signature", SIGNATURE).header("ce-specversion", "1.0");
        let request = request.header("ce-source", "/door").header("ce-id", id).header("ce-type", kind);
        ids(&request.body("{}").send().expect(200))
    };
    let (first, second) = (send("1", "opened"), send("2", "opened"));
    assert_ne!(first, second);
    assert_eq!((send("1", "opened"), send("2", "opened")), (first, second), "each is known again");
    assert_eq!(map.history("").len(), 2);
}

#[test]
fn a_type_in_a_header_tells_requests_apart_where_the_body_alone_is_signed() {
    let server = TestServer::start(&[]);
    let map = server.new_map("kinds");
    let recipe = json!({"scheme": "hmac", "header": "X-Signature"});
    let asked = json!({"authentication": recipe, "secretKey": "k", "eventType": {"header": "X-Kind"}});
    let (source, _) = Source::new(&map, asked);
    let send = |kind: &str| {
        let request = source.request("").header("X-Signature", SIGNATURE).header("X-Kind", kind);
        ids(&request.body("{}").send().expect(200))
    };
    let (opened, closed) = (send("opened"), send("closed"));
    assert_eq!((send("opened"), send("closed")), (opened, closed));
    let kinds: Vec<_> = map.history("").iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["opened", "closed"]);
}

#[test]
fn binary_data_that_is_utf_8_by_chance_is_taken_whole_at_sources_and_from_publishers() {
    let server = TestServer::start(&[]);
    let map = server.new_map("bytes");
    let source = Source::open(&map);
    let at_source = |id: &str, data: Vec<u8>| {
        let request = Request::new(source.addr, "POST", &format!("/webhooks/{}", source.id));
        let request = request.header("Content-Type", "application/octet-stream").header("ce-specversion", "1.0");
        request
            .header("ce-source", "/meter")
            .header("ce-id", id)
            .header("ce-type", "read")
            .body(data)
            .send()
            .expect(200)
    };
    for (n, (data, expected)) in [
        (vec![0, 1, 2], json!({"data_base64": "AAEC"})),
        (b"a\0b".to_vec(), json!({"data_base64": "YQBi"})),
        (vec![0xff, 0], json!({"data_base64": "/wA="})),
        (b"plain".to_vec(), json!({"data": "plain"})),
    ]
    .into_iter()
    .enumerate()
    {
        ids(&at_source(&n.to_string(), data.clone()));
        assert_eq!(map.history("order=desc")[0]["payload"]["properties"], expected, "{data:?}");
        let request = map.request("POST", "/events").header("Content-Type", "application/octet-stream");
        let request = request.header("ce-specversion", "1.0").header("ce-source", "/meter").header("ce-type", "read");
        request.header("ce-id", &n.to_string()).body(data.clone()).undescribed().send().expect(201);
        let mut payload = map.history("order=desc")[0]["payload"].clone();
        payload.as_object_mut().expect("an object").remove("cloudevent");
        assert_eq!(payload, expected, "{data:?}");
    }
}

#[test]
fn of_a_partial_batch_of_cloud_events_the_good_ones_are_taken_and_the_rest_waits_as_a_batch() {
    let server = TestServer::start(&[]);
    let map = server.new_map("partial");
    let source = Source::open(&map);
    let (mut nameless, mut untyped) = (event(""), event("2"));
    untyped["type"] = "com/example".into();
    let batch = json!([event("1"), nameless, 7, untyped, event("3")]);
    let send = |query: &str, batch: &Value| {
        let request = Request::new(source.addr, "POST", &format!("/webhooks/{}{query}", source.id));
        request
            .header("Content-Type", "application/cloudevents-batch+json")
            .body(batch.to_string())
            .undescribed()
            .send()
    };
    let wrong = |answer: &Value| {
        let details = answer["details"].as_array().expect("a list").clone();
        details.iter().map(|one| (one["index"].clone(), one["field"].clone())).collect::<Vec<_>>()
    };
    let expected = [(json!(1), json!("id")), (json!(2), json!("")), (json!(3), json!("type"))];
    // as a whole, each that is wrong is named
    assert_eq!(wrong(&send("", &batch).expect(400)), expected);
    assert_eq!(map.history("").len(), 0);
    let answer = send("?partial=true", &batch).expect(200);
    assert_eq!((ids(&answer).len(), &answer["rejected"]), (2, &json!(3)));
    assert_eq!(wrong(&answer), expected);
    let numbers: Vec<_> = map.history("").iter().map(|e| e["payload"]["cloudevent"]["id"].clone()).collect();
    assert_eq!(numbers, ["1", "3"]);
    send("?partial=true", &json!([nameless])).expect(400);
    // what was left out is sent again as what it is
    let letters = source.manage(&map.token, "GET", "/dead-letters").send().expect(200);
    let letter =
        source.manage(&map.token, "GET", &format!("/dead-letters/{}", letters["data"][1]["n"])).send().expect(200);
    let kept: Value = serde_json::from_str(letter["data"]["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!(kept, json!([nameless, 7, untyped]));
    nameless["id"] = "4".into();
    untyped["type"] = "com.example".into();
    let mended = json!({"body": json!([nameless, untyped]).to_string()});
    let retry = format!("/dead-letters/{}/retry", letters["data"][1]["n"]);
    ids(&source.manage(&map.token, "POST", &retry).json(&mended).send().expect(200));
    let last = map.history("").pop().expect("an event");
    assert_eq!((&last["type"], &last["payload"]["cloudevent"]["id"]), (&json!("com.example"), &json!("2")));
}
