//! What is refused before there is an answer of the API, or without one, is counted all the same.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::secure::{Http2, run};
use crate::support::{SOON, TestServer, eventually};

fn shed(server: &TestServer, what: &str) -> i64 {
    server.metric(&format!("stentor_shed_total{{what=\"{what}\"}}"))
}

/// The answer to a head of which this is sent.
fn refused(server: &TestServer, head: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addr()).expect("the server listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    // the server may end the connection meanwhile
    let _ = stream.write_all(head);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn heads_and_bodies_that_are_refused_are_counted() {
    let server = TestServer::plain(&[
        ("server.request_timeout_s", "1"),
        ("server.body_timeout_s", "1"),
        ("server.unauthenticated_bytes", "0"),
    ]);
    assert_eq!((shed(&server, "head"), shed(&server, "body")), (0, 0));
    let slow = refused(&server, b"GET / HTTP/1.1\r\nHost: a\r\n");
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    assert_eq!(shed(&server, "head"), 1);
    // beyond what is a connection's own, and without room for more
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n", "x".repeat(20_000));
    let large = refused(&server, large.as_bytes());
    assert!(large.starts_with("HTTP/1.1 431 "), "{large}");
    assert_eq!(shed(&server, "head"), 2);
    let broken = refused(&server, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n");
    assert!(broken.starts_with("HTTP/1.1 400 "), "{broken}");
    eventually("it is counted", || shed(&server, "head") == 3);
    let map = server.new_map("bodies");
    let unfinished = map.request("POST", "/events").unfinished(100, b"{");
    unfinished.answer().expect(408);
    assert_eq!(shed(&server, "body"), 1);
}

#[test]
fn requests_of_http2_that_have_no_room_and_handshakes_that_do_not_come_are_counted() {
    let (server, pair) =
        TestServer::secure(&[("server.unauthenticated_bytes", "0"), ("server.request_timeout_s", "1")]);
    run(async {
        let mut connection = Http2::open(server.secure_addr(), &pair).await;
        let long = "x".repeat(20_000);
        connection.get("/health/live", &[("x-long", &long)]).await.expect_err("it has no room");
        let answer = connection.get("/health/live", &[]).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
    });
    assert_eq!(shed(&server, "h2_request"), 1);
    let silent = TcpStream::connect(server.secure_addr()).expect("the server listens");
    eventually("it is given up", || shed(&server, "handshake") == 1);
    drop(silent);
}
