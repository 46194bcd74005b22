//! What a sender reads, and what its events look like in the channel.

use serde_json::{Value, json};

use super::{KEY, Source, ids, now_ms};
use crate::support::{Request, TestServer};

#[test]
fn the_examples_of_the_document_are_answered_as_it_says() {
    let server = TestServer::start(&[]);
    let map = server.new_map("document");
    let (source, made) =
        Source::new(&map, json!({"name": "Game Server Events", "authentication": "api_key", "apiKey": "your-api-key"}));
    let endpoint = &made["endpoint"];
    assert_eq!(endpoint["url"], format!("{}/webhooks/{}", server.url(), source.id));
    // the curl of its section on testing
    let body = r#"{"event_type": "test", "user_id": "test_user"}"#;
    let answer = source.request("").header("X-API-Key", "your-api-key").body(body).send();
    let first = ids(&answer.expect(200));
    assert!(first[0].starts_with("evt_") && first.len() == 1, "{first:?}");
    // its standard format, at the other address
    let body = json!({"event_type": "purchase", "timestamp": "2024-01-15T10:30:00Z", "user_id": "user_123",
        "properties": {"item_id": "sword_001", "amount": 9.99, "currency": "USD"}});
    let other =
        server.request("POST", &format!("/webhook/{}", source.id)).header("X-API-Key", "your-api-key").json(&body);
    let second = ids(&other.send().expect(200));
    let history = map.history("");
    assert_eq!(format!("evt_{}", history[1]["id"].as_str().expect("an id")), second[0]);
    let expected = json!({"id": history[1]["id"], "type": "purchase", "map_id": map.id, "ts": "2024-01-15T10:30:00.000Z",
        "timestamp": "2024-01-15T10:30:00.000Z", "payload": {"user_id": "user_123",
        "properties": {"item_id": "sword_001", "amount": 9.99, "currency": "USD"}, "source": source.id}});
    assert_eq!(history[1], expected);
    assert_eq!(history[0]["payload"], json!({"user_id": "test_user", "properties": {}, "source": source.id}));
}

#[test]
fn a_signed_batch_is_taken_as_a_whole_and_sent_again_it_is_answered_as_before() {
    let server = TestServer::start(&[]);
    let map = server.new_map("batch");
    let source = Source::hmac(&map);
    let body = json!({"events": [
        {"event_type": "level_complete", "user_id": "user_123"}, {"event_type": "level_start", "user_id": "user_123"},
    ]})
    .to_string();
    let at = now_ms();
    let first = source.signed(&body, at).send();
    assert_eq!(first.header("idempotency-replayed"), None);
    let accepted = ids(&first.expect(200));
    for _ in 0..3 {
        let again = source.signed(&body, at).header("Idempotency-Key", "another").send();
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.body, first.body);
    }
    assert_eq!(map.history("").len(), 2);
    // the same events signed anew are new ones, unless the sender says that they are not
    assert_ne!(ids(&source.signed(&body, at + 1).send().expect(200)), accepted);
    let keyed = ids(&source.signed(&body, at + 2).header("Idempotency-Key", "k").send().expect(200));
    assert_eq!(ids(&source.signed(&body, at + 3).header("Idempotency-Key", "k").send().expect(200)), keyed);
    assert_eq!(map.history("").len(), 6);
    let seen = source.manage(&map.token, "GET", "/status").send().expect(200);
    assert!(seen["eventsReceived"].as_u64() >= Some(6), "{seen}");
}

#[test]
fn a_key_of_a_request_or_an_event_counts_within_its_source_only() {
    let server = TestServer::start(&[]);
    let map = server.new_map("keys");
    let (one, other) = (Source::open(&map), Source::open(&map));
    let event = json!({"event_type": "a", "dedupe_id": "same"});
    let send = |source: &Source, key: &str| {
        let request = source.request("").header("Idempotency-Key", key).body(event.to_string());
        ids(&request.send().expect(200))
    };
    let first = send(&one, "k");
    assert_eq!(send(&one, "k"), first);
    assert_eq!(send(&one, "another"), first, "the event has a key of its own");
    assert_ne!(send(&other, "k"), first);
    map.publish(&json!({"type": "a", "dedupe_id": "same"}));
    let published = map.request("POST", "/events").header("Idempotency-Key", "k").json(&json!({"type": "b"})).send();
    published.expect(201);
    assert_eq!(map.history("").len(), 4);
}

#[test]
fn a_partial_batch_takes_the_good_events_and_says_which_were_not() {
    let server = TestServer::start(&[]);
    let map = server.new_map("partial");
    let source = Source::open(&map);
    let batch = json!({"events": [{"event_type": "a"}, {"user_id": "u"}, {"event_type": "b"}, 7]}).to_string();
    let whole = source.request("").body(batch.clone()).send().expect(400);
    assert_eq!(whole["details"][0]["index"], 1);
    assert_eq!(whole["details"][0]["field"], "event_type");
    assert!(map.history("").is_empty(), "a batch is atomic");
    let part = source.request("?partial=true").body(batch).send().expect(200);
    assert_eq!((&part["accepted"], &part["rejected"], ids(&part).len()), (&json!(2), &json!(2), 2));
    let places: Vec<_> = part["details"].as_array().expect("details").iter().map(|d| d["index"].as_u64()).collect();
    assert_eq!(places, [Some(1), Some(3)]);
    assert_eq!(map.history("").len(), 2);
    // both are kept: the refused batch, and what was left out of the other
    let letters = source.manage(&map.token, "GET", "/dead-letters").send().expect(200);
    assert_eq!(letters["data"].as_array().map(Vec::len), Some(2), "{letters}");
    let rest = source.manage(&map.token, "GET", &format!("/dead-letters/{}", letters["data"][1]["n"]));
    let rest = rest.send().expect(200);
    assert_eq!(rest["data"]["body"], r#"{"events":[{"user_id":"u"},7]}"#);
    source.request("?partial=perhaps").body("{}").send().expect(400);
}

#[test]
fn of_a_partial_batch_an_event_that_is_too_large_is_left_out_in_every_form() {
    let server = TestServer::start(&[("limits.event_bytes", "2000")]);
    let map = server.new_map("large");
    let long = "x".repeat(2000);
    let ours = Source::open(&map);
    let (theirs, _) = Source::new(&map, json!({"authentication": "none", "eventType": {"pointer": "/kind"}}));
    let cloudevent =
        |id: &str, data: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "a", "data": data});
    for (source, content_type, batch) in [
        (&ours, "application/json", json!([{"event_type": "a", "properties": {"long": long}}, {"event_type": "b"}])),
        (&ours, "application/json", json!({"events": [{"event_type": "a", "user_id": long}, {"event_type": "b"}]})),
        (&theirs, "application/json", json!([{"kind": "a", "long": long}, {"kind": "b"}])),
        (&ours, "application/cloudevents-batch+json", json!([cloudevent("1", &long), cloudevent("2", "short")])),
    ] {
        let send = |query: &str, body: &Value| {
            let request = Request::new(source.addr, "POST", &format!("/webhooks/{}{query}", source.id));
            request.header("Content-Type", content_type).body(body.to_string()).undescribed().send()
        };
        let whole = send("", &batch).expect(413);
        assert!(whole["error"].as_str().expect("a sentence").starts_with("event 0 has "), "{whole}");
        let part = send("?partial=true", &batch).expect(200);
        assert_eq!(
            (&part["accepted"], &part["rejected"], &part["details"][0]["index"]),
            (&json!(1), &json!(1), &json!(0))
        );
        let message = part["details"][0]["message"].as_str().expect("a sentence");
        assert!(message.contains("make it 2000 bytes at most"), "{message}");
    }
}

#[test]
fn a_schema_marks_events_and_those_without_one_count_as_valid() {
    let server = TestServer::start(&[]);
    let map = server.new_map("schema");
    let (source, _) = Source::new(
        &map,
        json!({"authentication": "none", "schema": {"amount": "number", "at": "date", "vip": "boolean", "note": "unknown"}}),
    );
    let good = json!({"amount": 1, "at": "2024-01-15", "vip": true});
    for properties in [good.clone(), json!({"amount": "1", "at": "2024-01-15", "vip": true}), json!({})] {
        source.post(&json!({"event_type": "purchase", "properties": properties})).expect(200);
    }
    let plain = Source::open(&map);
    plain.post(&json!({"event_type": "purchase"})).expect(200);
    let marks = |source: &Source| -> Vec<_> {
        let page = source.manage(&map.token, "GET", "/events/history").send().expect(200);
        page["data"].as_array().expect("events").iter().map(|event| event["validated"].clone()).collect()
    };
    assert_eq!(marks(&source), [true, false, true], "what is missing is not wrong");
    assert_eq!(marks(&plain), [true]);
}

#[test]
fn a_source_takes_no_more_requests_than_its_rate_and_says_when_to_come_back() {
    let server = TestServer::start(&[]);
    let map = server.new_map("rate");
    let (source, _) =
        Source::new(&map, json!({"authentication": "none", "rateLimit": {"requests": 3, "perSeconds": 60}}));
    let event = json!({"event_type": "a"});
    for _ in 0..3 {
        source.post(&event).expect(200);
    }
    let refused = source.post(&event);
    let body = refused.expect(429);
    assert_eq!(
        (&body["code"], &body["details"]),
        (&json!("RATE_LIMITED"), &json!({"setting": "rateLimit.requests", "value": 3}))
    );
    let wait: u64 = refused.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((1..=20).contains(&wait), "{wait}");
    // another source is not held back, and neither is this one when its rate is lifted
    Source::open(&map).post(&event).expect(200);
    source.manage(&map.token, "PATCH", "").json(&json!({"rateLimit": null})).send().expect(200);
    source.post(&event).expect(200);
    assert_eq!(map.history("").len(), 5);
}

#[test]
fn the_checks_come_in_their_order() {
    let server = TestServer::start(&[("limits.batch_bytes", "2000"), ("limits.event_bytes", "2000")]);
    let map = server.new_map("order");
    let (source, _) = Source::new(
        &map,
        json!({"authentication": "hmac", "secretKey": KEY, "rateLimit": {"requests": 1, "perSeconds": 86400}}),
    );
    let huge = "x".repeat(3000);
    let nobody = server.request("POST", "/webhooks/wh_00000000000000000000000000").body(huge.clone()).send();
    nobody.expect_error(404, "NOT_FOUND", "Webhook not found");
    // too large comes before the rate, which is spent by the next request
    assert_eq!(source.request("").body(huge.clone()).send().expect(413)["code"], "PAYLOAD_TOO_LARGE");
    // what the headers say of the sender comes before the body
    assert_eq!(source.request("").unfinished(1000, b"{").answer().expect(401)["code"], "UNAUTHORIZED");
    assert_eq!(source.signed("{", now_ms()).send().expect(429)["code"], "RATE_LIMITED");
    source.manage(&map.token, "PATCH", "").json(&json!({"rateLimit": null})).send().expect(200);
    let signed = |at: i64| {
        let form = format!("sha256={}", "0".repeat(64));
        source.request("").header("X-Webhook-Timestamp", &at.to_string()).header("X-Webhook-Signature", &form)
    };
    let stale = signed(now_ms() - 3_600_000).unfinished(1000, b"{").answer();
    assert!(stale.expect(401)["error"].as_str().is_some_and(|text| text.contains("time of the request")));
    // a length that was not announced is counted before the signature is judged
    assert_eq!(signed(now_ms()).chunked(huge.as_bytes()).send().expect(413)["code"], "PAYLOAD_TOO_LARGE");
    assert_eq!(signed(now_ms()).body("{").send().expect(401)["code"], "UNAUTHORIZED");
    assert_eq!(source.signed("{", now_ms()).send().expect(400)["code"], "INVALID_JSON");
    assert_eq!(source.signed("{}", now_ms()).send().expect(400)["code"], "VALIDATION_FAILED");
}

#[test]
fn counters_and_everything_else_come_back_after_a_restart() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("restart");
    let source = Source::hmac(&map);
    let (body, at) = (r#"{"event_type":"a"}"#, now_ms());
    let first = ids(&source.signed(body, at).send().expect(200));
    source.signed("{", at).send().expect(400);
    let before = source.manage(&map.token, "GET", "").send().expect(200);
    assert_eq!(before["endpoint"]["eventsReceived"], 1);
    server.stop();
    server.restart();
    let (map, source) = (map.at(&server), source.at(&server));
    let mut after = source.manage(&map.token, "GET", "").send().expect(200);
    // it is reached under another port now
    after["endpoint"]["url"] = before["endpoint"]["url"].clone();
    assert_eq!(after, before);
    assert_eq!(ids(&source.signed(body, at).send().expect(200)), first, "the same request is known over a restart");
    assert_eq!(source.manage(&map.token, "GET", "/status").send().expect(200)["deadLetters"], 1);
    let log = server.log_lines().join("\n");
    assert!(!log.contains(KEY));
}
