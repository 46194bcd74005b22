//! Bodies of JSON as writers of all kinds send them (RFC 8259; RFC 9110, 8.4), and the numbers in them.

use serde_json::{Value, json};

use crate::support::packed::{deflate, gzip};
use crate::support::{Map, Request, TestServer};

fn post(map: &Map) -> Request {
    map.request("POST", "/events").header("Content-Type", "application/json")
}

/// The payload of the newest event as it was written.
fn newest(map: &Map) -> String {
    let text = map.request("GET", "/events?order=desc&limit=1").send().text().to_owned();
    let payload = text.split_once("\"payload\":").expect("a payload").1;
    payload.split_once("}],\"next\"").expect("one event").0.to_owned()
}

#[test]
fn one_byte_order_mark_before_json_is_passed_over() {
    let server = TestServer::start(&[]);
    let map = server.new_map("mark");
    post(&map).body(b"\xef\xbb\xbf{\"type\":\"a\"}".to_vec()).send().expect(201);
    let lines = b"\xef\xbb\xbf{\"type\":\"a\"}\n{\"type\":\"b\"}\n".to_vec();
    map.request("POST", "/events").header("Content-Type", "application/x-ndjson").body(lines).send().expect(201);
    assert_eq!(map.history("").len(), 3);
    let twice = post(&map).body(b"\xef\xbb\xbf\xef\xbb\xbf{\"type\":\"a\"}".to_vec()).send();
    assert_eq!(twice.expect(400)["code"], "INVALID_JSON");
    // of any request, not only of events
    let named = server.request("PATCH", &format!("/api/maps/{}", map.id)).bearer(&map.token);
    let named = named.header("Content-Type", "application/json").body(b"\xef\xbb\xbf{\"name\":\"Marked\"}".to_vec());
    assert_eq!(named.send().expect(200)["data"]["name"], "Marked");
}

#[test]
fn a_text_that_was_cut_inside_an_emoji_is_taken_with_the_replacement_character() {
    let server = TestServer::start(&[]);
    let map = server.new_map("cut");
    post(&map)
        .body(r#"{"type":"a","payload":{"cut \ud83d":"\udE00 late","whole":"\ud83d\ude00","\\ud83d":1}}"#)
        .send()
        .expect(201);
    assert_eq!(newest(&map), "{\"cut \u{fffd}\":\"\u{fffd} late\",\"whole\":\"😀\",\"\\\\ud83d\":1}");
    post(&map).body(r#"{"type":"a","session":"s\ud83d","dedupe_id":"d\ud83d","user_id":"u\ud83d"}"#).send().expect(201);
    assert_eq!(newest(&map), "{\"user_id\":\"u\u{fffd}\"}");
    // raw halves are no UTF-8 and stay an error
    let raw = [&b"{\"type\":\"a\",\"payload\":{\"x\":\"\xed\xa0\xbd"[..], b"\"}}"].concat();
    assert_eq!(post(&map).body(raw).send().expect(400)["code"], "INVALID_JSON");
}

#[test]
fn integers_beyond_64_bits_leave_with_the_digits_they_came_with() {
    let server = TestServer::start(&[]);
    let map = server.new_map("digits");
    let payload = r#"{"eth":115792089237316195423570985008687907853269984665640564039457584007913129639935,"neg":-18446744073709551616,"list":[1.5,36893488147419103232,1e+22],"text":"36893488147419103232"}"#;
    post(&map).body(format!("{{\"type\":\"a\",\"payload\":{payload}}}")).send().expect(201);
    assert_eq!(newest(&map), payload);
    let mut stream = map.stream(&format!("last_event_id={}", "0".repeat(26)));
    assert!(stream.next().data.ends_with(&format!("\"payload\":{payload}}}")));
}

#[test]
fn a_number_that_would_be_1970_as_milliseconds_is_refused_and_the_cure_is_named() {
    let server = TestServer::start(&[]);
    let map = server.new_map("seconds");
    for (field, value) in [("ts", json!(1_750_509_296)), ("timestamp", json!(99_999_999_999i64)), ("ts", json!(0))] {
        let refused = map.request("POST", "/events").json(&json!({"type": "a", field: value})).send().expect(400);
        let text = refused.to_string();
        assert!(text.contains("milliseconds") && text.contains("ISO-8601"), "{text}");
        assert_eq!(refused["details"][0]["field"], field);
    }
    map.publish(&json!({"type": "a", "ts": 100_000_000_000i64}));
    map.publish(&json!({"type": "a", "ts": "1969-07-20T20:17:40Z"}));
    let times: Vec<Value> = map.history("").iter().map(|event| event["ts"].clone()).collect();
    assert_eq!(times, [json!("1973-03-03T09:46:40.000Z"), json!("1969-07-20T20:17:40.000Z")]);
}

#[test]
fn packed_bodies_are_unpacked_up_to_the_limit_of_the_address() {
    let server = TestServer::start(&[("limits.batch_bytes", "10000"), ("limits.event_bytes", "9000")]);
    let map = server.new_map("packed");
    let event = br#"{"type":"a","payload":{"n":1}}"#;
    for (coding, body) in [
        ("gzip", gzip(event)),
        ("x-gzip", gzip(event)),
        ("Deflate", deflate(event)),
        ("deflate, gzip", gzip(&deflate(event))),
    ] {
        post(&map).header("Content-Encoding", coding).body(body).send().expect(201);
    }
    assert_eq!(map.history("").len(), 4);
    let large = json!({"type": "a", "payload": {"text": "x".repeat(20_000)}}).to_string();
    let packed = gzip(large.as_bytes());
    assert!(packed.len() < 1_000);
    let refused = post(&map).header("Content-Encoding", "gzip").body(packed).send();
    assert_eq!(refused.expect(413)["code"], "PAYLOAD_TOO_LARGE");
    for broken in [event.to_vec(), gzip(event)[..20].to_vec()] {
        assert_eq!(
            post(&map).header("Content-Encoding", "gzip").body(broken).send().expect(400)["code"],
            "BAD_REQUEST"
        );
    }
    let unknown = post(&map).header("Content-Encoding", "br").body(event.to_vec()).send();
    assert_eq!(unknown.expect(415)["code"], "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(unknown.header("accept-encoding"), Some("gzip, deflate"));
    let settings = gzip(br#"{"enabled":true}"#);
    let toggle = map.request("PUT", "/webhooks/toggle").header("Content-Type", "application/json");
    let toggled = toggle.header("Content-Encoding", "gzip").body(settings).send();
    assert_eq!(toggled.expect(200)["webhooks_enabled"], true);
}

#[test]
fn a_body_that_does_not_fit_is_answered_with_the_name_of_the_field() {
    let server = TestServer::start(&[]);
    let map = server.new_map("fields");
    let at_map = format!("/api/maps/{}", map.id);
    for (method, path, body, field) in [
        ("POST", "/api/maps", json!({}), "name"),
        ("POST", "/api/maps", json!({"name": "x", "slug": 5}), "slug"),
        ("POST", "/api/maps", json!({"name": "x", "sulg": "x"}), "sulg"),
        ("PATCH", at_map.as_str(), json!({"event_names": "yes"}), "event_names"),
        ("POST", "/api/v1/organizations", json!({"name": null}), "name"),
        ("POST", "/api/v1/tokens", json!({"channel": format!("map:{}", map.id)}), "scopes"),
        ("POST", "/api/v1/tokens", json!({"scopes": ["subscribe", "rule"]}), "scopes"),
        ("POST", "/events/ticket", json!({"events": [5]}), "events"),
        ("POST", "/api/v1/realtime/ticket", json!({"scope": "firehose", "since": 5}), "since"),
        ("PUT", &format!("/engine/.config/webhooks.json?channel=map:{}", map.id), json!({"webhook": []}), "webhook"),
        ("POST", "/api/maps", json!("text"), "body"),
        ("POST", "/api/v1/organizations", json!([1]), "body"),
    ] {
        let answer = server.admin(method, path).json(&body).send();
        let answer = answer.expect(400);
        let details = answer["details"].as_array().or(answer["error"]["details"]["errors"].as_array());
        assert_eq!(details.expect("details")[0]["field"], field, "{method} {path} {body}: {answer}");
        assert!(!answer.to_string().contains("struct "), "{answer}");
    }
}
