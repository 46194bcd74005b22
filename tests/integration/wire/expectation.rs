//! `Expect: 100-continue` (RFC 9110, 10.1.1): a client that waits is told to go on when its headers were judged, and not before.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::support::{Map, SOON, TestServer};

/// A request whose client waits with its body.
struct Waiting(TcpStream);

impl Waiting {
    fn new(server: &TestServer, path: &str, headers: &str, version: &str) -> Waiting {
        let mut stream = TcpStream::connect(server.addr()).expect("the server listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let head =
            format!("POST {path} HTTP/{version}\r\nHost: a\r\n{headers}Expect: 100-continue\r\nConnection: close\r\n");
        stream.write_all(head.as_bytes()).expect("the server takes it");
        Waiting(stream)
    }

    fn length(mut self, length: usize) -> Waiting {
        self.0.write_all(format!("Content-Length: {length}\r\n\r\n").as_bytes()).expect("the server takes it");
        self
    }

    fn told_to_go_on(&mut self) {
        let mut interim = [0; 25];
        self.0.read_exact(&mut interim).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// What comes until the connection ends.
    fn answer(mut self) -> String {
        let mut answer = Vec::new();
        let read = self.0.read_to_end(&mut answer);
        // a connection whose body nobody wanted may be reset when it is closed
        assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn bearer(map: &Map) -> String {
    format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", map.token)
}

#[test]
fn a_client_that_waits_is_refused_by_its_headers_without_being_told_to_go_on() {
    let server = TestServer::plain(&[]);
    let map = server.new_map("waits");
    let events = format!("/api/maps/{}/events", map.id);
    let (_, reads) = map.new_token(json!({"scopes": ["subscribe"]}));
    let other = server.new_map("other");
    for (headers, status) in [
        (String::new(), 401),
        ("Authorization: Bearer st_wrong\r\n".to_owned(), 401),
        (bearer(&map.with_token(&reads)), 403),
        (bearer(&other), 404),
    ] {
        let answer = Waiting::new(&server, &events, &headers, "1.1").length(1_000_000).answer();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
    let answer = Waiting::new(&server, "/webhooks/wh_00000000000000000000000000", "", "1.1").length(9).answer();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(map.history("").is_empty());
}

#[test]
fn a_client_that_may_is_told_to_go_on_and_its_body_counts_whole() {
    let server = TestServer::plain(&[]);
    let map = server.new_map("may");
    let events = format!("/api/maps/{}/events", map.id);
    let body = json!({"type": "add_system", "payload": {"text": "x".repeat(100_000)}}).to_string();
    let mut waiting = Waiting::new(&server, &events, &bearer(&map), "1.1").length(body.len());
    waiting.told_to_go_on();
    for part in body.as_bytes().chunks(30_000) {
        waiting.0.write_all(part).expect("the server takes it");
    }
    let answer = waiting.answer();
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    // in chunks, and without waiting
    let headers = bearer(&map) + "Transfer-Encoding: chunked\r\n";
    let mut waiting = Waiting::new(&server, &events, &headers, "1.1");
    waiting
        .0
        .write_all(format!("\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes())
        .expect("the server takes it");
    let answer = waiting.answer();
    assert!(answer.contains("HTTP/1.1 2"), "{answer}");
    assert_eq!(map.history("").len(), 2);
}

#[test]
fn a_client_of_http10_is_not_told_to_go_on() {
    let server = TestServer::plain(&[]);
    let map = server.new_map("old");
    let body = json!({"type": "add_system"}).to_string();
    let mut waiting =
        Waiting::new(&server, &format!("/api/maps/{}/events", map.id), &bearer(&map), "1.0").length(body.len());
    waiting.0.write_all(body.as_bytes()).expect("the server takes it");
    let answer = waiting.answer();
    assert!(answer.starts_with("HTTP/1.0 2"), "{answer}");
}
