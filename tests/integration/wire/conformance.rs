//! What RFC 6455 demands of a server, from a client that breaks it frame by frame. tests/autobahn asks more of the same code.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::frames::{BINARY, CLOSE, FIN, PING, PONG, RawWs, TEXT, close, frame, header};
use crate::support::secure::Over;
use crate::support::{Organization, TestServer, eventually};

fn open(acme: &Organization) -> RawWs {
    let target = format!("/api/v1/realtime?ticket={}", acme.ticket(&json!({})));
    RawWs::open(acme.plain("GET", &target))
}

/// What the client sends must be answered by a close with one of these codes, and the end of the connection.
#[track_caller]
fn ends(acme: &Organization, what: &str, bytes: &[u8], code: u16) {
    let mut socket = open(acme);
    socket.send(bytes);
    let (said, reason) = socket.end();
    assert_eq!(said, Some(code), "{what}: {reason}");
    assert!(!reason.is_empty(), "{what}");
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_the_session_with_1002() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    for bits in [0x10, 0x20, 0x40] {
        ends(&acme, "reserved bits", &frame(FIN | PING | bits, b""), 1002);
    }
    for opcode in [3, 7, 11, 15] {
        ends(&acme, "an opcode of nobody", &frame(FIN | opcode, b""), 1002);
    }
    for opcode in [CLOSE, PING, PONG] {
        ends(&acme, "a control frame in fragments", &frame(opcode, b""), 1002);
        ends(&acme, "a control frame of 126 bytes", &frame(FIN | opcode, &[b'x'; 126]), 1002);
    }
    ends(&acme, "a frame without a mask", &[FIN | PING, 0x00], 1002);
    ends(&acme, "a continuation of nothing", &frame(FIN, b"x"), 1002);
    ends(&acme, "a close of one byte", &frame(FIN | CLOSE, b"x"), 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        ends(&acme, "a code that must not be sent", &close(code, b""), 1002);
    }
}

#[test]
fn text_that_is_not_utf8_ends_the_session_with_1007() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    for bad in [&b"\xce\xba\xff"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"cut \xe1\xbd"] {
        ends(&acme, "text", &frame(FIN | TEXT, bad), 1007);
        ends(&acme, "the reason of a close", &close(1000, bad), 1007);
    }
    let halves = [&header(TEXT, 4)[..], &frame(0, b"")[..0]].concat();
    ends(&acme, "text, before it has ended", &[&halves[..], &[0xff ^ 0x37]].concat(), 1007);
}

#[test]
fn data_of_any_size_ends_the_session_with_1008_and_a_large_frame_before_it_has_come() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    ends(&acme, "4 KiB and a byte", &header(FIN | TEXT, 4097), 1008);
    ends(&acme, "a gibibyte", &header(FIN | BINARY, 1 << 30), 1008);
    ends(&acme, "what no memory holds", &header(FIN | BINARY, (1 << 63) - 1), 1008);
    ends(&acme, "more than 63 bits", &header(FIN | BINARY, 1 << 63), 1002);
}

#[test]
fn data_in_any_shape_ends_the_session_with_1008() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    for (what, bytes) in [
        ("empty text", frame(FIN | TEXT, b"")),
        ("binary", frame(FIN | BINARY, &[0xff; 300])),
        ("the largest frame", frame(FIN | TEXT, &[b'x'; 4096])),
        ("the first fragment", frame(TEXT, b"x")),
    ] {
        ends(&acme, what, &bytes, 1008);
    }
}

#[test]
fn pings_are_answered_in_order_however_they_are_cut() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let mut socket = open(&acme);
    let payloads: [&[u8]; 4] = [b"", b"one", &[0xfe; 125], b"\x00\xff"];
    for payload in payloads {
        socket.send(&frame(FIN | PING, payload));
    }
    for payload in payloads {
        socket.expect(FIN | PONG, payload);
    }
    socket.send(&frame(FIN | PONG, b"nobody asked"));
    for byte in frame(FIN | PING, b"byte by byte") {
        socket.send(&[byte]);
    }
    socket.expect(FIN | PONG, b"byte by byte");
    let many: Vec<u8> = (0..200).flat_map(|n: u8| frame(FIN | PING, &[n])).collect();
    socket.send(&many);
    for n in 0..200 {
        socket.expect(FIN | PONG, &[n]);
    }
    let published = acme.publish(&json!({"event": "message"}));
    let (first, payload) = socket.frame().expect("a frame").expect("the session goes on");
    assert!(first == FIN | TEXT && String::from_utf8_lossy(&payload).contains(&published[0]));
}

#[test]
fn a_close_of_the_client_is_returned_and_nothing_follows_it() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
        let mut socket = open(&acme);
        socket.send(&[close(code, "grüße".as_bytes()), frame(FIN | PING, b"late")].concat());
        assert_eq!(socket.end().0, Some(code));
    }
    let mut socket = open(&acme);
    socket.send(&frame(FIN | CLOSE, b""));
    assert_eq!(socket.end(), (None, String::new()));
}

#[test]
fn the_connection_ends_right_behind_the_close_frame() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let mut socket = open(&acme);
            let asked = Instant::now();
            socket.send(&close(1000, b""));
            socket.end();
            asked.elapsed()
        })
        .collect();
    // the client waits for it, so a busy machine is the only excuse; by TLS the last words take their second
    let limit = Duration::from_millis(if Over::of_run().is_some() { 1500 } else { 300 });
    times.sort();
    assert!(times[times.len() / 2] < limit, "{times:?}");
}

#[test]
fn a_client_that_just_goes_frees_its_place_at_once() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let sockets: Vec<_> = (0..5).map(|_| open(&acme)).collect();
    assert_eq!(server.metric("stentor_streams"), 5);
    drop(sockets);
    let gone = Instant::now();
    eventually("no stream is left", || server.metric("stentor_streams") == 0);
    assert!(gone.elapsed().as_secs() < 2, "{:?}", gone.elapsed());
}

#[test]
fn a_request_that_is_not_quite_a_handshake_is_no_handshake() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let whole = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let status = |headers: &[(&str, &str)]| {
        let request = acme.plain("GET", "/api/v1/realtime").bearer(&acme.token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.open().expect("an answer").0.status
    };
    for left_out in 0..whole.len() {
        let rest: Vec<_> = whole.iter().enumerate().filter(|(n, _)| *n != left_out).map(|(_, pair)| *pair).collect();
        assert_eq!(status(&rest), 426, "without {}", whole[left_out].0);
    }
    for (name, value) in [
        ("Upgrade", "h2c"),
        ("Upgrade", "h2c, websocket"),
        ("Sec-WebSocket-Version", "12"),
        // drafts of before the standard
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Version", "7"),
        ("Sec-WebSocket-Key", "short"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("Connection", "keep-alive"),
    ] {
        let wrong = whole.map(|pair| if pair.0 == name { (name, value) } else { pair });
        assert_eq!(status(&wrong), 426, "{name}: {value}");
    }
    for twice in ["Sec-WebSocket-Version", "Sec-WebSocket-Key", "Upgrade"] {
        let again = whole.iter().find(|(name, _)| *name == twice).copied().expect("it is one of them");
        assert_eq!(status(&[&whole[..], &[again]].concat()), 426, "{twice} twice");
    }
    assert_eq!(status(&whole), 101);
}
