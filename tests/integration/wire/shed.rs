//! What is refused before there is an answer of the API, or without one, is counted all the same.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::secure::{Http2, connect, run};
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

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn a_connection_of_http2_that_takes_its_requests_back_all_at_once_is_ended_and_counted() {
    let (server, pair) = TestServer::secure(&[]);
    run(async {
        let mut tls = connect(server.secure_addr(), pair.client(&["h2"], None)).await.expect("it speaks TLS");
        // GET https://a/ by the static table, with the ends of headers and stream; and its reset with CANCEL
        let get = [0x82, 0x87, 0x84, 0x41, 0x01, b'a'];
        let taken_back =
            |n: u32| [frame(1, 0x5, 2 * n + 1, &get), frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat();
        let flood = (0..400).flat_map(taken_back);
        let bytes: Vec<u8> =
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied().chain(frame(4, 0, 0, &[])).chain(flood).collect();
        tls.write_all(&bytes).await.expect("it is sent");
        let mut answer = Vec::new();
        // whether TLS ends in its own way does not matter
        let _ = tokio::time::timeout(SOON, tls.read_to_end(&mut answer)).await.expect("the connection ends");
        // GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.8 and 7)
        let calm = 11_u32.to_be_bytes();
        assert!(answer.windows(21).any(|part| part[3] == 7 && part[13..17] == calm), "{answer:?}");
    });
    eventually("it is counted", || shed(&server, "h2_connection") == 1);
}

#[test]
fn rings_that_are_given_up_for_want_of_memory_are_counted_and_cost_their_readers_nothing() {
    let server = TestServer::plain(&[
        ("limits.memory_bytes", "33554432"),
        ("limits.batch_bytes", "8388608"),
        ("sources.bodies_bytes", "8388608"),
    ]);
    let map = server.new_map("rings");
    let mut stream = map.stream("");
    let text = "x".repeat(100_000);
    let events: Vec<_> = (0..20).map(|n| json!({"type": "add_system", "payload": {"n": n, "text": text}})).collect();
    map.publish(&json!(events));
    let read: Vec<_> = (0..20).map(|_| stream.next().id).collect();
    assert!(server.memory("frames") > 1_000_000, "the ring holds what was read");
    assert_eq!(shed(&server, "rings"), 0);
    // with the frames of the ring they are beyond seven eighths of the memory, and not beyond all of it
    let unfinished = |bytes| map.request("POST", "/events").unfinished(8_388_608, &vec![b' '; bytes]);
    let bodies = [8_300_000, 8_300_000, 8_300_000, 2_000_000].map(unfinished);
    eventually("the rings give way", || server.memory("frames") < 500_000);
    assert!(shed(&server, "rings") >= 1);
    // whoever stands where the ring no longer reaches reads the log
    let mut late = map.stream(&format!("since={}", read[0].as_deref().expect("an id")));
    assert_eq!((1..20).map(|_| late.next().id).collect::<Vec<_>>(), read[1..]);
    drop(bodies);
    map.publish(&json!({"type": "add_system"}));
    assert!(stream.next().id > read[19]);
}
