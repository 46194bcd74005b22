//! Limits: how many streams, how many requests, and that what is given back is free at once.

use serde_json::json;

use crate::support::{Map, Sse, TestServer, eventually};

fn refused(map: &Map) -> crate::support::Answer {
    let answer = map.request("GET", "/events/stream").send();
    assert_eq!(answer.header("content-type"), Some("application/json"), "refused before any header of a stream");
    assert!(answer.header("retry-after").is_some());
    answer
}

#[test]
fn the_eleventh_stream_of_a_token_is_refused_and_a_vanished_client_frees_its_slot() {
    let server = TestServer::start(&[]);
    let map = server.new_map("token");
    let mut streams: Vec<Sse> = (0..10).map(|_| map.stream("")).collect();
    refused(&map).expect_error(429, "API_KEY_CONNECTION_LIMIT", "Too many connections for this API key");
    let (_, other) = map.new_token(json!({"scopes": ["subscribe"]}));
    drop(map.with_token(&other).stream(""));
    streams.pop();
    // nothing is published meanwhile: the slot must not wait for a write that fails
    eventually("the slot is free", || Sse::try_open(map.request("GET", "/events/stream")).is_ok());
}

#[test]
fn the_limit_of_a_map_counts_the_streams_of_all_tokens() {
    let server = TestServer::start(&[("limits.streams_per_channel", "2")]);
    let (map, other) = (server.new_map("map"), server.new_map("other"));
    let first = map.stream("");
    let socket = crate::support::Ws::open(&map, "");
    refused(&map).expect_error(429, "MAP_CONNECTION_LIMIT", "Too many connections to this map");
    drop(other.stream(""));
    drop(socket);
    eventually("the slot is free", || Sse::try_open(map.request("GET", "/events/stream")).is_ok());
    drop(first);
}

#[test]
fn the_limit_of_the_server_counts_all_maps_and_zero_is_none() {
    let mut server = TestServer::start(&[("limits.streams_total", "2")]);
    let (a, b) = (server.new_map("a"), server.new_map("b"));
    let open = [a.stream(""), b.stream("")];
    refused(&a).expect_error(429, "SERVER_CONNECTION_LIMIT", "Too many connections to this server");
    drop(open);
    server.restart_with(&[
        ("limits.streams_total", "0"),
        ("limits.streams_per_channel", "0"),
        ("limits.streams_per_token", "0"),
    ]);
    let a = a.at(&server);
    let open: Vec<Sse> = (0..60).map(|_| a.stream("")).collect();
    assert_eq!((open.len() as i64, server.metric("stentor_streams")), (60, 60));
    drop(open);
    eventually("no stream is counted", || server.metric("stentor_streams") == 0);
}

#[test]
fn requests_over_the_limit_are_refused_until_the_minute_ends_and_publishing_is_not_counted() {
    let server = TestServer::start(&[("limits.api_requests_per_minute", "5")]);
    let map = server.new_map("rate");
    let mut left = Vec::new();
    // a minute may end in between, so more than one round is allowed
    for _ in 0..12 {
        map.publish(&json!({"type": "add_system"}));
        let answer = map.request("GET", "").send();
        assert_eq!(answer.header("ratelimit-limit"), Some("5"));
        let reset: u64 = answer.header("ratelimit-reset").expect("a header").parse().expect("a number");
        assert!((1..=60).contains(&reset));
        if answer.status == 429 {
            assert_eq!(answer.json()["code"], "RATE_LIMITED");
            assert_eq!(answer.header("retry-after"), answer.header("ratelimit-reset"));
            drop(map.stream(""));
            return;
        }
        assert_eq!(answer.status, 200);
        left.push(answer.header("ratelimit-remaining").expect("a header").to_string());
    }
    panic!("never refused: {left:?}");
}

#[test]
fn an_answer_of_429_names_the_setting_that_was_reached_and_its_value() {
    let settings =
        [("limits.streams_per_channel", "2"), ("limits.streams_per_token", "1"), ("limits.streams_total", "3")];
    let server = TestServer::start(&settings);
    let (map, org) = (server.new_map("map"), server.new_organization("Org"));
    let (_, second) = map.new_token(json!({"scopes": ["subscribe"]}));
    let (_, third) = map.new_token(json!({"scopes": ["subscribe"]}));
    let told = |setting: &str, value: u64| json!({"setting": setting, "value": value});
    let details = |map: &Map| refused(map).expect(429)["details"].clone();
    let streams = [map.stream(""), map.with_token(&second).stream("")];
    assert_eq!(details(&map.with_token(&third)), told("limits.streams_per_channel", 2));
    let socket = org.realtime(&json!({}));
    assert_eq!(details(&server.new_map("other")), told("limits.streams_total", 3));
    drop((streams, socket));
    eventually("the slots are free", || server.metric("stentor_streams") == 0);
    let _one = org.stream("");
    let refused = org.below("GET", "/events/stream").send().expect_problem(429, "api_key_connection_limit");
    assert_eq!(refused["details"], told("limits.streams_per_token", 1), "{refused}");
}

#[test]
fn a_refused_request_names_the_limit_of_requests() {
    let server = TestServer::start(&[("limits.api_requests_per_minute", "1")]);
    let map = server.new_map("rate");
    let mut answer = map.request("GET", "").send();
    eventually("the limit is reached", || {
        answer = map.request("GET", "").send();
        answer.status == 429
    });
    assert_eq!(answer.json()["details"], json!({"setting": "limits.api_requests_per_minute", "value": 1}));
}
