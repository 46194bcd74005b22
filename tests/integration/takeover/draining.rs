//! Exports and backups that are under way when another process takes over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::Speaker;
use crate::support::server::ADMIN;
use crate::support::{Map, SOON, TestServer, throughout};

/// Together more than what connections hold on their way.
const EVENTS: usize = 300;
const EVENT_BYTES: usize = 100_000;

/// Events whose text cannot be packed.
fn published(map: &Map) {
    let mut random = 1_u64;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"0123456789abcdefghijklmnopqrstuv"[(random >> 59) as usize])
    };
    for _ in 0..EVENTS / 30 {
        let mut event = || {
            let text: String = (0..EVENT_BYTES).map(|_| letter()).collect();
            json!({"type": "add_system", "payload": {"text": text}})
        };
        let events: Vec<_> = (0..30).map(|_| event()).collect();
        map.publish(&json!({ "events": events }));
    }
}

/// An answer whose beginning was read, and nothing more.
struct Begun(TcpStream);

impl Begun {
    fn of(server: &TestServer, request: &str) -> Begun {
        let mut stream = TcpStream::connect(server.addr()).expect("a server");
        stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        // of HTTP/1.0, so that the end of the connection ends the body
        let head = format!(
            "{request} HTTP/1.0\r\nAuthorization: Bearer {ADMIN}\r\nAccept: application/x-ndjson\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the server reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert!(status.ends_with(b"200"), "{}", String::from_utf8_lossy(&status));
        Begun(stream)
    }

    /// Everything up to the end of the connection.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // a cut may come as a reset
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

fn lines(body: &[u8]) -> usize {
    body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{") && line.ends_with(b"}")).count()
}

#[test]
fn exports_and_backups_under_way_are_served_to_their_end_and_everything_else_goes_on_meanwhile() {
    let mut server = TestServer::plain(&[]);
    let map = server.new_map("m");
    published(&map);
    let export = Begun::of(&server, &format!("GET /api/maps/{}/events", map.id));
    let backup = Begun::of(&server, "POST /api/v1/backup");
    let mut new = Speaker::at(server.folder());
    new.ask(server.folder());
    new.say(&json!({"ask": "go"}));
    server.expect_log("another process takes over");
    throughout(Duration::from_secs(1), "new connections are answered", || {
        server.request("GET", "/health/live").send().status == 200
    });
    assert_eq!(lines(&export.rest()), EVENTS);
    // a tar archive ends with two blocks of zeros
    assert!(backup.rest().ends_with(&[0; 1024]), "the backup is whole");
    assert_eq!(new.hear().expect("an answer")["answer"], "released");
    new.say(&json!({"ask": "ready"}));
    assert!(server.wait().success());
}

#[test]
fn an_export_that_takes_longer_than_it_may_is_cut_and_the_log_says_so() {
    let mut server = TestServer::plain(&[("server.takeover_drain_s", "0"), ("server.shutdown_timeout_s", "1")]);
    let map = server.new_map("m");
    published(&map);
    let export = Begun::of(&server, &format!("GET /api/maps/{}/events", map.id));
    let mut new = Speaker::at(server.folder());
    new.ask(server.folder());
    new.say(&json!({"ask": "go"}));
    assert_eq!(new.hear().expect("an answer")["answer"], "released");
    server.expect_log("server.takeover_drain_s will be cut");
    assert!(lines(&export.rest()) < EVENTS);
    new.say(&json!({"ask": "ready"}));
    assert!(server.wait().success());
}
