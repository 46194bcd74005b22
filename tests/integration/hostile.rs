//! What no proper client sends. Each time: a 4xx that says what is wrong in the API's own shape, nothing stored, and no
//! error of ours in the log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Map, TestServer};

/// The answer is a refusal in the shape of the API that was called.
#[track_caller]
fn refusal(answer: &Answer, what: &str) -> (u16, Value) {
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    (answer.status, answer.json())
}

#[track_caller]
fn body_a(answer: &Answer, status: u16, what: &str) -> Value {
    let (was, body) = refusal(answer, what);
    assert_eq!((was, &body["status"]), (status, &status.into()), "{what}: {body}");
    assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()) && body["code"].is_string(), "{what}: {body}");
    body
}

#[track_caller]
fn nothing_came_of_it(server: &mut TestServer, map: &Map) {
    assert_eq!(map.with_token(crate::support::server::ADMIN).export(), Vec::<String>::new(), "nothing is stored");
    server.stop();
    let errors = |line: &String| line.contains(" ERROR ") || line.contains("panicked");
    assert_eq!(server.log_lines().into_iter().find(errors), None, "nothing is an error of ours");
}

#[test]
fn bodies_that_are_no_events_are_refused_and_leave_nothing() {
    let mut server = TestServer::start(&[("limits.event_bytes", "1000"), ("limits.batch_events", "10")]);
    let map = server.new_map("bodies");
    let deep = format!("{{\"type\":\"a\",\"payload\":{}{}}}", "[".repeat(400), "]".repeat(400));
    let long = format!("{{\"type\":\"a\",\"payload\":\"{}\"}}", "x".repeat(2000));
    let many = format!("[{}]", ["{\"type\":\"a\"}"; 11].join(","));
    let wide = format!("{{\"type\":\"{}\"}}", "a".repeat(65));
    let cases: Vec<(&[u8], u16)> = vec![
        (b"", 400),
        (b" ", 400),
        (b"{", 400),
        (b"{}", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"1", 400),
        (b"\"text\"", 400),
        (b"{\"type\":\"a\"}}", 400),
        (b"{\"type\":\"a\"} {\"type\":\"a\"}", 400),
        (b"{\"type\":\"a\",}", 400),
        (b"{'type':'a'}", 400),
        (b"{\"events\":[]}", 400),
        (b"{\"events\":{}}", 400),
        (b"{\"events\":null}", 400),
        (b"[{\"type\":\"a\"},null]", 400),
        (b"[[{\"type\":\"a\"}]]", 400),
        (b"{\"type\":null}", 400),
        (b"{\"type\":1}", 400),
        (b"{\"type\":\"\"}", 400),
        (b"{\"type\":\"a b\"}", 400),
        (b"{\"type\":\"a\\u0000\"}", 400),
        (b"{\"type\":\"a\\nb\"}", 400),
        (b"{\"type\":\"a\nb\"}", 400),
        (b"{\"type\":\"\xc3\xa4\"}", 400),
        (b"{\"type\":\"a\",\"payload\":\"\xff\xfe\"}", 400),
        (b"\xef\xbb\xbf{\"type\":1}", 400),
        (b"\xff", 400),
        (b"{\"type\":\"a\",\"payload\":\"\\ud800\"}", 400),
        (b"{\"type\":\"a\",\"payload\":NaN}", 400),
        (b"{\"type\":\"a\",\"payload\":1e999}", 400),
        (b"{\"type\":\"a\",\"ts\":\"yesterday\"}", 400),
        (b"{\"type\":\"a\",\"ts\":{}}", 400),
        (b"{\"type\":\"a\",\"dedupe_id\":7}", 400),
        (b"{\"type\":\"a\",\"dedupe_id\":\"\"}", 400),
        (b"{\"type\":\"a\",\"type\":\"b\"}", 400),
        (b"{\"type\":\"a\",\"event\":\"b\"}", 400),
        (b"{\"type\":\"a\",\"paylaod\":{}}", 400),
        (wide.as_bytes(), 400),
        (deep.as_bytes(), 400),
        (long.as_bytes(), 413),
        (many.as_bytes(), 413),
    ];
    for (body, status) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = map.request("POST", "/events").header("Content-Type", "application/json").body(body).send();
        body_a(&answer, status, &shown);
    }
    for lines in ["{\"type\":\"a\"}\n{", "{\"type\":\"a\"}\nnull", "\n\n", "[{\"type\":\"a\"}]"] {
        let answer = map.request("POST", "/events").header("Content-Type", "application/x-ndjson").body(lines).send();
        body_a(&answer, 400, lines);
    }
    nothing_came_of_it(&mut server, &map);
}

#[test]
fn bodies_of_the_wrong_size_or_kind_are_refused_and_leave_nothing() {
    let mut server = TestServer::start(&[("limits.batch_bytes", "100000"), ("limits.event_bytes", "100000")]);
    let map = server.new_map("kinds");
    let huge = format!("{{\"type\":\"a\",\"payload\":\"{}\"}}", "x".repeat(200_000));
    let answer = map.request("POST", "/events").header("Content-Type", "application/json").body(huge.clone()).send();
    body_a(&answer, 413, "a huge body");
    let answer = server.admin("POST", "/api/maps").header("Content-Type", "application/json").body(huge).send();
    body_a(&answer, 413, "a huge map");
    let event = json!({"type": "a"}).to_string();
    for kind in
        ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "x"]
    {
        let answer = map.request("POST", "/events").header("Content-Type", kind).body(event.clone()).send();
        body_a(&answer, 415, kind);
        let answer = server.admin("POST", "/api/maps").header("Content-Type", kind).body("{\"name\":\"a\"}").send();
        body_a(&answer, 415, kind);
    }
    // these bytes are not packed, whatever the header says
    for (coding, status) in [("gzip", 400), ("deflate", 400), ("identity, gzip", 400), ("br", 415), ("compress", 415)] {
        let request = map.request("POST", "/events").header("Content-Type", "application/json");
        body_a(&request.header("Content-Encoding", coding).body(event.clone()).send(), status, coding);
    }
    let long = "k".repeat(300);
    for key in ["", "\u{e4}", &long] {
        let answer = map.request("POST", "/events").header("Idempotency-Key", key).json(&json!({"type": "a"})).send();
        body_a(&answer, 400, &format!("the key {key:?}"));
    }
    nothing_came_of_it(&mut server, &map);
}

#[test]
fn names_of_maps_that_are_paths_or_nonsense_are_refused() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("names");
    let long = "a".repeat(5000);
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": 1}),
        json!({"name": null}),
        json!({"name": long}),
        json!({"name": "a\u{0}b"}),
        json!({"name": "a\nb"}),
        json!({"name": "a", "slug": ".."}),
        json!({"name": "a", "slug": "a/b"}),
        json!({"name": "a", "slug": "a%2fb"}),
        json!({"name": "a", "slug": ""}),
        json!({"name": "a", "slug": "\u{e4}"}),
        json!({"name": "a", "slug": "550e8400-e29b-41d4-a716-446655440000"}),
        json!({"name": "a", "id": "not-a-uuid"}),
        json!({"name": "a", "id": ".."}),
        json!({"name": "a", "unknown": true}),
        json!([]),
        json!("a"),
    ] {
        body_a(&server.admin("POST", "/api/maps").json(&body).send(), 400, &body.to_string());
    }
    let maps = server.admin("GET", "/api/maps").send().expect(200);
    assert_eq!(maps["data"].as_array().map(Vec::len), Some(1), "no map was made");
    nothing_came_of_it(&mut server, &map);
}

#[test]
fn addresses_and_methods_that_are_not_there_are_refused_in_the_shape_of_their_api() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("paths");
    for target in [
        "/api/maps/../events",
        "/api/maps/%2e%2e/events/stream",
        "/api/maps/a%2fb/events",
        "/api/maps/a%00b/events",
        "/api/maps/%ff%fe/events",
        "/api/maps/%zz/events",
        "/api/maps//events",
        "/api/nothing",
        "/nothing",
        "/../../etc/passwd",
        "/%2e%2e%2fCargo.toml",
        "/index.html/..",
        "/api/maps/x/y/z",
    ] {
        let answer = server.admin("GET", target).send();
        let (status, body) = refusal(&answer, target);
        assert!(matches!(status, 400 | 404), "{target}: {status}");
        assert_eq!(body["status"], status, "{target}");
    }
    for target in ["/api/v1/nothing", "/api/v1/tokens/x/y"] {
        let (status, body) = refusal(&server.admin("GET", target).send(), target);
        assert_eq!((status, &body["error"]["code"]), (404, &"not_found".into()), "{target}");
        assert!(body["error"]["message"].is_string());
    }
    for (method, target) in
        [("PUT", "/api/maps"), ("POST", "/health/live"), ("DELETE", "/api/event-types"), ("TRACE", "/api/maps")]
    {
        body_a(&server.admin(method, target).send(), 405, target);
    }
    for rest in ["/events", "/events/stream", "/events/ticket", "/stats"] {
        let answer = map.request("PUT", rest).send();
        body_a(&answer, 405, rest);
        assert!(answer.header("allow").is_some(), "{rest} says what is allowed");
    }
    let (_, body) = refusal(&server.admin("PUT", "/api/v1/tokens").send(), "PUT tokens");
    assert_eq!(body["error"]["code"], "method_not_allowed");
    nothing_came_of_it(&mut server, &map);
}

#[test]
fn queries_that_mean_nothing_are_refused() {
    let mut server = TestServer::start(&[("limits.api_requests_per_minute", "0")]);
    let map = server.new_map("queries");
    let long = format!("filter={}", "%28".repeat(3000));
    let expensive = format!("filter={}true", "true%20%26%26%20".repeat(3000));
    for query in [
        "since=x",
        "filter=%28",
        "filter=1",
        "filter=event.type%20%2B%201",
        "filter=%ff",
        "filter=event.type.matches%28%22%28%22%29",
        "events=a%20b",
        "events=%00",
        "event_names=perhaps",
        &long,
        &expensive,
    ] {
        let answer = map.request("GET", &format!("/events/stream?{query}")).send();
        body_a(&answer, 400, &query[..query.len().min(60)]);
    }
    for query in
        ["limit=x", "limit=1e3", "limit=99999999999999999999", "order=up", "after=x", "since=1", "until=", "since=%ff"]
    {
        body_a(&map.request("GET", &format!("/events?{query}")).send(), 400, query);
    }
    for query in ["limit=1&limit=2", "since=7ZZZZZZZZZZZZZZZZZZZZZZZZZ&since=x"] {
        let answer = map.request("GET", &format!("/events?{query}")).send();
        body_a(&answer, 400, &format!("a name that stands twice: {query}"));
    }
    nothing_came_of_it(&mut server, &map);
}

#[test]
fn requests_for_tokens_that_make_no_sense_are_refused_in_body_b() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("tokens");
    let channel = format!("map:{}", map.id);
    let count = || server.admin("GET", "/api/v1/tokens").send().expect(200)["data"].as_array().map(Vec::len);
    let before = count();
    for body in [
        json!({}),
        json!({"channel": channel}),
        json!({"channel": channel, "scopes": []}),
        json!({"channel": channel, "scopes": "subscribe"}),
        json!({"channel": channel, "scopes": ["everything"]}),
        json!({"channel": "map", "scopes": ["subscribe"]}),
        json!({"channel": "map:nowhere", "scopes": ["subscribe"]}),
        json!({"channel": "sphere:1", "scopes": ["subscribe"]}),
        json!({"channel": 1, "scopes": ["subscribe"]}),
        json!({"channel": channel, "scopes": ["subscribe"], "expires_at": "soon"}),
        json!({"channel": channel, "scopes": ["subscribe"], "expires_at": 1}),
        json!({"channel": channel, "scopes": ["subscribe"], "name": "a\nb"}),
        json!({"channel": channel, "scopes": ["subscribe"], "admin": true}),
    ] {
        let (_, answer) = refusal(&server.admin("POST", "/api/v1/tokens").json(&body).send(), &body.to_string());
        assert!(answer["error"]["code"].is_string() && answer["error"]["message"].is_string(), "{body}: {answer}");
    }
    assert_eq!(count(), before);
    nothing_came_of_it(&mut server, &map);
}

#[test]
fn bytes_that_are_no_http_do_not_disturb_the_others() {
    let mut server = TestServer::start(&[("server.request_timeout_s", "1")]);
    let map = server.new_map("bytes");
    let head =
        format!("POST /api/maps/{}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", map.id, map.token);
    for (bytes, answered) in [
        ("\0\0\0\0\r\n\r\n".to_string(), "HTTP/1.1 400 "),
        ("GET / HTTP/9.9\r\n\r\n".into(), "HTTP/1.1 400 "),
        ("GET /\r\n\r\n".into(), "HTTP/1.1 400 "),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".into(), "HTTP/1.1 400 "),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(300_000)), "HTTP/1.1 431 "),
        (format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), "HTTP/1.1 400 "),
        (format!("{head}Content-Length: -1\r\n\r\n"), "HTTP/1.1 400 "),
        (format!("{head}Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "HTTP/1.1 400 "),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "HTTP/1.1 400 "),
        (format!("{head}Content-Length: 100\r\n\r\n{{\"type\":"), "HTTP/1.1 400 "),
        // whoever goes in the middle of a head has asked nothing
        ("GET / HTTP/1.1\r\nHost:".into(), ""),
    ] {
        let mut stream = TcpStream::connect(server.addr()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout can be set");
        // it may be refused before all of it was sent
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let is_as_said = if answered.is_empty() { answer.is_empty() } else { answer.starts_with(answered) };
        assert!(is_as_said, "{bytes:.80?}: {answer:.200} {end:?}");
        assert_eq!(server.request("GET", "/health/live").send().status, 200);
    }
    nothing_came_of_it(&mut server, &map);
}
