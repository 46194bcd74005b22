//! HTTP itself: HEAD wherever GET is (RFC 9110, 9.3.2), and clients of HTTP/1.0 (RFC 9112, 6.1).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::support::document::operations;
use crate::support::secure::Over;
use crate::support::{Answer, Map, Request, SOON, Sse, TestServer, eventually};

/// What is said beside the moment at which it is said.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let passing = ["date", "ratelimit-remaining", "ratelimit-reset", "connection"];
    // HTTP/2 has none; it is of the gateway that the tests speak with
    let of_gateway = (Over::of_run() == Some(Over::Http2)).then_some("transfer-encoding");
    let mut all = answer.headers.clone();
    all.retain(|(name, _)| !passing.contains(&&**name) && of_gateway != Some(&**name));
    for (_, value) in all.iter_mut().filter(|(name, _)| name == "access-control-expose-headers") {
        // a set without an order of its own
        let mut names: Vec<_> = value.split(", ").map(str::to_owned).collect();
        names.sort();
        *value = names.join(", ");
    }
    all.sort();
    all
}

/// Writes the bytes and reads whatever comes until the server ends the connection.
fn exchange(server: &TestServer, bytes: &str) -> String {
    let mut stream = TcpStream::connect(server.addr()).expect("the server listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    stream.write_all(bytes.as_bytes()).expect("the server takes the request");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("the server ends the connection");
    String::from_utf8(text).expect("text")
}

/// Makes one of everything, so that each address has something to answer with.
fn filled(server: &TestServer) -> (Map, Vec<(&'static str, String)>) {
    let map = server.new_map("filled");
    map.publish(&json!({"type": "map_kill", "payload": {"n": 1}}));
    let webhook = map.request("POST", "/webhooks").json(&json!({"url": "https://example.com/x", "active": false}));
    let webhook = webhook.send().expect(201)["data"]["id"].as_str().expect("an id").to_string();
    let source = map.of_server("POST", "/api/webhooks").json(&json!({"authentication": "none"})).send().expect(201);
    let source = source["endpoint"]["id"].as_str().expect("an id").to_string();
    let id = map.history("")[0]["id"].as_str().expect("an id").to_string();
    let values = vec![
        ("{map}", map.id.clone()),
        ("{webhook}", webhook),
        ("{source}", source),
        ("{id}", id),
        ("{org}", "default".into()),
        ("{file}", "stentor.js".into()),
        ("{page}", "webhooks".into()),
        ("{folder}", "app".into()),
    ];
    (map, values)
}

#[test]
fn head_is_answered_like_get_without_a_body_on_every_documented_address() {
    let server = TestServer::start(&[]);
    let (map, values) = filled(&server);
    let (mut seen, mut good) = (0, 0);
    for (method, path) in operations().into_iter().filter(|(method, _)| method == "GET") {
        let path = values.iter().fold(path, |path, (name, value)| path.replace(name, value));
        let ask = |method: &str| match path.starts_with("/api/maps/") || path.starts_with("/api/webhooks/") {
            true => map.of_server(method, &path),
            false => server.admin(method, &path),
        };
        seen += 1;
        let is_socket = path.ends_with("/ws") || path == "/api/v1/realtime";
        let head = ask("HEAD").send();
        if is_socket {
            // HTTP/2 has no such header (RFC 9113, 8.2.2)
            let upgrade = (Over::of_run() != Some(Over::Http2)).then_some("websocket");
            assert_eq!((head.status, head.header("upgrade")), (426, upgrade), "{path}");
            continue;
        }
        let is_stream = path.ends_with("/stream")
            || path.ends_with("/events")
                && path != "/events"
                && !path.starts_with("/api/maps")
                && !path.starts_with("/api/v1");
        let get = match is_stream {
            true => ask(&method).open().expect("an answer").0,
            false => ask(&method).send(),
        };
        assert_eq!(head.status, get.status, "{path}");
        // what an answer says of its own moment may have changed its length
        let is_of_moment = ["/metrics", "/health/ready", "/api/v1/overview"].contains(&&*path);
        if !is_of_moment && !path.ends_with("/stats") {
            assert_eq!(headers(&head), headers(&get), "{path}");
        }
        good += usize::from(head.status == 200);
    }
    assert!(seen > 40 && good > 25, "{seen} {good}");
    eventually("no stream was left", || server.metric("stentor_streams") == 0);
}

#[test]
fn head_without_a_credential_or_at_nothing_is_answered_like_get() {
    let server = TestServer::start(&[]);
    let map = server.new_map("none");
    for target in ["/api/maps", "/nothing", "/events/stream", &format!("/api/maps/{}/events/stream", map.id)] {
        let (head, get) = (server.request("HEAD", target).send(), server.request("GET", target).send());
        assert_eq!(head.status, get.status, "{target}");
        assert_eq!(headers(&head), headers(&get), "{target}");
    }
    // other methods than HEAD are still refused, and HEAD is among those that are offered
    let refused = server.admin("PUT", "/health/live").send();
    assert_eq!(refused.status, 405);
    assert!(refused.header("allow").is_some_and(|allow| allow.contains("HEAD") && allow.contains("GET")));
    assert_eq!(server.admin("HEAD", "/api/v1/backup").send().status, 405, "where GET is not, HEAD is not");
}

#[test]
fn head_on_a_stream_takes_neither_ticket_nor_slot_and_says_whether_there_is_one() {
    let server = TestServer::start(&[("limits.streams_per_channel", "1")]);
    let map = server.new_map("head");
    let made = map.request("POST", "/events/ticket").send().expect(201);
    let ticket = made["data"]["ticket"].as_str().expect("a ticket");
    let by_ticket = |method: &str| map.anonymous(method, &format!("/events/stream?ticket={ticket}"));
    for _ in 0..3 {
        let head = by_ticket("HEAD").send();
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(by_ticket("HEAD").header("Last-Event-ID", "x").send().status, 400);
    }
    assert_eq!(map.anonymous("HEAD", &format!("/events/ws?ticket={ticket}")).send().status, 426);
    let stream = Sse::open(by_ticket("GET"));
    assert_eq!(by_ticket("HEAD").send().status, 401, "the ticket is used");
    assert_eq!(map.request("HEAD", "/events/stream").send().status, 429);
    drop(stream);
    eventually("the slot is free", || map.request("HEAD", "/events/stream").send().status == 200);
    let other = server.new_map("other");
    assert_eq!(other.request("HEAD", &format!("/events/stream?token={}", map.token)).send().status, 200);
    assert_eq!(other.anonymous("HEAD", &format!("/events/stream?token={}", map.token)).send().status, 404);
}

#[test]
fn a_connection_serves_further_requests_after_head() {
    let server = TestServer::plain(&[]);
    let map = server.new_map("kept");
    let auth = format!("Host: x\r\nAuthorization: Bearer {}\r\n", map.token);
    let stream = format!("HEAD /api/maps/{}/events/stream HTTP/1.1\r\n{auth}\r\n", map.id);
    let mut connection = TcpStream::connect(server.addr()).expect("the server listens");
    connection.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    for round in 0..3 {
        connection.write_all(stream.as_bytes()).expect("the connection is kept");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).expect("an answer");
            head.push(char::from(byte[0]));
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{round}: {head}");
    }
    connection
        .write_all(format!("GET /health/live HTTP/1.1\r\n{auth}Connection: close\r\n\r\n").as_bytes())
        .expect("it is kept");
    let mut rest = String::new();
    connection.read_to_string(&mut rest).expect("the last answer");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with('}'), "{rest}");
}

#[test]
fn http_1_0_gets_no_chunks_and_the_connection_ends_the_body() {
    let server = TestServer::start(&[]);
    let map = server.new_map("old");
    map.publish(&json!([{"type": "a"}, {"type": "b"}]));
    let auth = format!("Authorization: Bearer {}\r\n", map.token);
    let lines = exchange(
        &server,
        &format!("GET /api/maps/{}/events HTTP/1.0\r\n{auth}Accept: application/x-ndjson\r\n\r\n", map.id),
    );
    let (head, body) = lines.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.0 200 OK") && !head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    let kinds: Vec<_> = body
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["type"].clone())
        .collect();
    assert_eq!(kinds, ["a", "b"]);
    // a client that wants to keep the connection is told by its end all the same
    let kept = exchange(
        &server,
        &format!(
            "GET /api/maps/{}/events HTTP/1.0\r\n{auth}Accept: application/x-ndjson\r\nConnection: keep-alive\r\n\r\n",
            map.id
        ),
    );
    assert!(!kept.to_ascii_lowercase().contains("transfer-encoding") && kept.ends_with("}\n"), "{kept}");
    // what has a length keeps its connection if that was asked for
    let twice = "GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /health/live HTTP/1.0\r\n\r\n";
    let both = exchange(&server, twice);
    assert_eq!(both.matches("HTTP/1.0 200 OK").count(), 2, "{both}");
    assert_eq!(both.matches("content-length").count(), 2, "{both}");
    let head = exchange(&server, "HEAD /docs HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.0 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_stream_of_http_1_0_is_plain_and_open_until_it_is_ended() {
    let server = TestServer::start(&[]);
    let map = server.new_map("old");
    let mut connection = TcpStream::connect(server.addr()).expect("the server listens");
    connection.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    let request =
        format!("GET /api/maps/{}/events/stream HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", map.id, map.token);
    connection.write_all(request.as_bytes()).expect("the server takes it");
    let mut read = String::new();
    let mut read_until = |what: &str| {
        while !read.contains(what) {
            let mut bytes = [0; 4096];
            let count = connection.read(&mut bytes).expect("the stream goes on");
            assert!(count > 0, "it ended: {read}");
            read.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
        }
        read.clone()
    };
    let opened = read_until("event: connected\nid: ");
    assert!(!opened.to_ascii_lowercase().contains("transfer-encoding"), "{opened}");
    assert!(opened.split_once("\r\n\r\n").expect("a head").1.starts_with("event: connected\n"), "{opened}");
    let id = map.publish(&json!({"type": "a"})).remove(0);
    read_until(&format!("id: {id}\ndata: "));
    // no WebSocket begins in this version (RFC 6455, 4.1)
    let upgrade = format!(
        "GET /api/maps/{}/events/ws HTTP/1.0\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        map.id, map.token
    );
    assert!(exchange(&server, &upgrade).starts_with("HTTP/1.0 426 "));
}

#[test]
fn a_request_that_breaks_http_is_refused_and_its_connection_ended() {
    let server = TestServer::plain(&[]);
    let bad = [
        "GET /health/live HTTP/1.1\r\n\r\n",
        "GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "POST /events HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for request in bad {
        let answer = exchange(&server, request);
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "), "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request:?}: {answer}");
    }
    // the absolute form is understood as well (RFC 9112, 3.2.2)
    let absolute = Request::new(server.addr(), "GET", "http://events.example.org/health/live").send();
    assert_eq!(absolute.status, 200);
}
