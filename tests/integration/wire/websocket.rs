//! WebSocket: the same envelopes, frames that are no events, close codes.

use std::time::Duration;

use serde_json::json;
use tungstenite::Message;

use crate::support::{Heard, STALLED, TestServer, Ws, within};

#[test]
fn the_first_frame_says_connected_and_then_come_replay_and_live_events() {
    let server = TestServer::start(&[]);
    let map = server.new_map("ws");
    let ids = map.publish_many(5);
    let mut socket = Ws::open(&map, &format!("since={}", ids[1]));
    assert_eq!(socket.connected["heartbeatSeconds"], 20);
    assert!(socket.connected["timestamp"].is_u64() && socket.connected.get("id").is_none());
    let later = map.publish_many(2);
    let seen: Vec<_> = (0..5).map(|_| socket.json()["id"].as_str().expect("an id").to_string()).collect();
    assert_eq!(seen, [&ids[2..], &later[..]].concat());
}

#[test]
fn a_gap_is_a_frame_without_id() {
    let server = TestServer::start(&[]);
    let map = server.new_map("gap");
    let ahead = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    let gap = Ws::open(&map, &format!("since={ahead}")).json();
    assert_eq!(gap, json!({"event": "gap", "requested": ahead, "oldest": null, "reason": "ahead"}));
}

#[test]
fn pings_come_by_the_clock_whatever_else_is_sent() {
    let server = TestServer::start(&[("streams.heartbeat_s", "1")]);
    let map = server.new_map("ping");
    let mut socket = Ws::open(&map, "");
    assert_eq!(socket.connected["heartbeatSeconds"], 1);
    let (mut texts, mut pings) = (0, 0);
    while texts < 2 || pings < 2 {
        match socket.hear() {
            Heard::Text(text) => {
                let ping: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                assert!(ping["event"] == "ping" && ping["timestamp"].is_u64() && ping.get("id").is_none(), "{ping}");
                texts += 1;
            }
            Heard::Ping => pings += 1,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_ping_of_the_client_is_answered_with_its_data() {
    let server = TestServer::start(&[]);
    let map = server.new_map("pong");
    let mut socket = Ws::open(&map, "");
    socket.send(Message::Ping(b"hello".as_slice().into()));
    assert_eq!(socket.hear(), Heard::Pong(b"hello".to_vec()));
}

#[test]
fn data_of_the_client_ends_the_stream_with_1008() {
    let server = TestServer::start(&[]);
    let map = server.new_map("1008");
    for message in [Message::text("hello"), Message::binary(vec![1, 2])] {
        let mut socket = Ws::open(&map, "");
        socket.send(message);
        let (code, reason) = socket.end();
        assert_eq!(code, 1008);
        assert!(!reason.is_empty());
    }
}

#[test]
fn a_stop_of_the_server_ends_the_stream_with_1001() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("1001");
    let mut socket = Ws::open(&map, "");
    server.ask_to_stop();
    let (code, reason) = socket.end();
    assert_eq!(code, 1001);
    assert!(!reason.is_empty());
    assert!(server.wait().success());
}

#[test]
fn a_revoked_token_ends_the_stream_with_4401_within_a_second_or_so() {
    let server = TestServer::start(&[]);
    let map = server.new_map("4401");
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    let mut socket = Ws::open(&map.with_token(&token), "");
    assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    socket.patience(Duration::from_secs(2));
    let (code, reason) = socket.end();
    assert_eq!(code, 4401);
    assert!(!reason.is_empty());
}

#[test]
fn a_reader_that_takes_nothing_is_ended_with_4408() {
    let server = TestServer::start(&[("streams.stall_timeout_s", "1")]);
    let map = server.new_map("4408");
    let mut socket = Ws::open(&map, "");
    let filler = "x".repeat(60_000);
    let batch: Vec<_> = (0..60).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
    for _ in 0..5 {
        map.publish(&json!(batch));
    }
    within(STALLED, "the stalled reader is ended", || server.metric("stentor_readers_stalled_total") == 1);
    let (code, reason) = socket.end();
    assert_eq!(code, 4408);
    assert!(!reason.is_empty());
}

#[test]
fn a_request_that_is_no_handshake_is_told_to_upgrade() {
    let server = TestServer::start(&[]);
    let map = server.new_map("426");
    assert_eq!(map.request("GET", "/events/ws").send().expect(426)["code"], "UPGRADE_REQUIRED");
    assert_eq!(map.anonymous("GET", "/events/ws").send().status, 401, "the credential is looked at first");
}

#[test]
fn a_client_that_offers_subprotocols_gets_ours_or_else_its_first_one() {
    let server = TestServer::start(&[]);
    let map = server.new_map("protocols");
    let taken = |offers: &[&str]| {
        let request = map.request("GET", "/events/ws");
        let request = offers.iter().fold(request, |request, offer| request.header("Sec-WebSocket-Protocol", offer));
        let (answer, _) = request.upgrade().expect("an answer");
        assert_eq!(answer.status, 101, "{offers:?}");
        answer.header("sec-websocket-protocol").map(str::to_owned)
    };
    for (offers, expected) in [
        (&[][..], None),
        (&["json"], Some("json")),
        (&["json, stentor.v1"], Some("stentor.v1")),
        (&["stentor.v1,json"], Some("stentor.v1")),
        (&["json", "xml , stentor.v1"], Some("stentor.v1")),
        (&["graphql-ws, json"], Some("graphql-ws")),
        (&["Stentor.V1, json"], Some("Stentor.V1")),
        // what is no token is not sent back
        (&[", ,"], None),
        (&["a b, json"], Some("json")),
    ] {
        assert_eq!(taken(offers).as_deref(), expected, "{offers:?}");
    }
}
