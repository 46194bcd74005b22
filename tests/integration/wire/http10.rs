//! HTTP/1.0: whoever speaks it knows no chunks, and the connection ends the body (RFC 9112, 6.1 and 6.3).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::support::{Map, SOON, TestServer};

/// Asks for the path below the map, and reads until `last` has come.
fn ask(server: &TestServer, map: &Map, path: &str, header: &str, last: Option<&str>) -> String {
    let mut stream = TcpStream::connect(server.secure_addr()).expect("the server listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    let head =
        format!("GET /api/maps/{}{path} HTTP/1.0\r\nAuthorization: Bearer {}\r\n{header}\r\n", map.id, map.token);
    stream.write_all(head.as_bytes()).expect("the server takes it");
    let (mut answer, mut space) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if last.is_some_and(|last| text.contains(last)) {
            return text;
        }
        match stream.read(&mut space).expect("an answer") {
            0 => return text,
            read => answer.extend_from_slice(&space[..read]),
        }
    }
}

#[test]
fn streams_and_exports_come_without_chunks_and_pages_with_their_length() {
    let server = TestServer::plain(&[]);
    let map = server.new_map("old");
    map.publish(&json!({"type": "add_system", "payload": {"text": "the first"}}));
    let stream = ask(&server, &map, "/events/stream", "", Some("event: connected"));
    let lines = ask(&server, &map, "/events", "Accept: application/x-ndjson\r\n", None);
    let page = ask(&server, &map, "/events", "", None);
    for (what, text) in [("a stream", &stream), ("an export", &lines), ("a page", &page)] {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.0 200 "), "{what}: {head}");
        assert!(!head.contains("transfer-encoding"), "{what}: {head}");
        assert_eq!(head.contains("content-length"), what == "a page", "{what}: {head}");
        assert!(body.starts_with(['{', 'e']), "{what}: {body}");
    }
    assert!(lines.ends_with("}\n") && lines.contains("the first"), "{lines}");
}
