//! Tickets: a stream's credential in its address, good for one opening.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Map, Sse, TestServer, eventually};

fn ticket(map: &Map) -> String {
    let made = map.request("POST", "/events/ticket").send().expect(201);
    made["data"]["ticket"].as_str().expect("a ticket").to_string()
}

fn status(map: &Map, query: &str) -> u16 {
    map.anonymous("GET", &format!("/events/stream?{query}")).open().expect("an answer").0.status
}

#[test]
fn a_ticket_comes_with_its_time_and_an_address_that_opens_the_stream_once() {
    let server = TestServer::start(&[]);
    let map = server.new_map("ticket");
    let made = map.request("POST", "/events/ticket").send().expect(201);
    assert_eq!(made["data"]["expires_in_seconds"], 30);
    let ticket = made["data"]["ticket"].as_str().expect("a ticket");
    assert!(ticket.starts_with("rt_") && ticket.len() == 35, "{ticket}");
    let url = made["data"]["url"].as_str().expect("an address");
    let target = url.strip_prefix(&server.url()).expect("our own address");
    drop(Sse::open(server.request("GET", target)));
    assert_eq!(server.request("GET", target).send().status, 401);
}

#[test]
fn of_twenty_who_race_for_a_ticket_one_gets_in_and_the_others_are_unauthorized_a_hundred_times_over() {
    let server = TestServer::start(&[]);
    let map = server.new_map("race");
    for round in 0..100 {
        let query = format!("/events/stream?ticket={}", ticket(&map));
        let opened = std::thread::scope(|scope| {
            let open = || map.anonymous("GET", &query).open().expect("an answer");
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(open)).collect();
            // all answers are kept until all have come, so that no stream is closed meanwhile
            let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("an answer")).collect();
            answers.iter().map(|(answer, _)| answer.status).collect::<Vec<_>>()
        });
        let count = |status: u16| opened.iter().filter(|opened| **opened == status).count();
        assert_eq!((count(200), count(401)), (1, 19), "round {round}: {opened:?}");
        eventually("the stream's slot is free again", || server.metric("stentor_streams") == 0);
    }
}

#[test]
fn a_ticket_that_finds_no_free_slot_can_be_used_when_there_is_one() {
    let server = TestServer::start(&[("limits.streams_per_channel", "1")]);
    let map = server.new_map("full");
    let taken = map.stream("");
    let ticket = ticket(&map);
    assert_eq!(status(&map, &format!("ticket={ticket}")), 429);
    drop(taken);
    eventually("the ticket is taken", || status(&map, &format!("ticket={ticket}")) == 200);
}

#[test]
fn a_request_that_fails_another_check_does_not_spend_the_ticket() {
    let server = TestServer::start(&[]);
    let (map, other) = (server.new_map("spend"), server.new_map("other"));
    let ticket = ticket(&map);
    assert_eq!(status(&map, &format!("ticket={ticket}&since=x")), 400);
    assert_eq!(status(&map, &format!("ticket={ticket}&filter=%29")), 400);
    assert!(matches!(status(&other, &format!("ticket={ticket}")), 401 | 404));
    let plain = map.anonymous("GET", &format!("/events/ws?ticket={ticket}")).send();
    assert_eq!(plain.status, 426);
    assert_eq!(status(&map, &format!("ticket={ticket}")), 200);
}

#[test]
fn a_ticket_holds_its_owner_to_the_filter_and_cursor_it_was_made_with() {
    let server = TestServer::start(&[]);
    let map = server.new_map("bound");
    let ids = map.publish(&json!([{"type": "map_kill"}, {"type": "add_system"}, {"type": "map_kill"}]));
    let asked = json!({"events": "map_kill, map_kill", "since": ids[0]});
    let made = map.request("POST", "/events/ticket").json(&asked).send().expect(201);
    let query = format!("/events/stream?events=add_system&ticket={}", made["data"]["ticket"].as_str().expect("ticket"));
    let mut stream = Sse::open(map.anonymous("GET", &query));
    assert_eq!(stream.next().id.as_ref(), Some(&ids[2]));
    for bad in [json!({"filter": "1 +"}), json!({"since": "x"}), json!({"events": 5}), json!({"what": 1})] {
        assert_eq!(map.request("POST", "/events/ticket").json(&bad).send().status, 400, "{bad}");
    }
}

#[test]
fn a_ticket_ends_with_its_time_and_with_the_token_that_made_it() {
    let server = TestServer::start(&[("tickets.ttl_s", "1")]);
    let map = server.new_map("time");
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    let revoked = ticket(&map.with_token(&token));
    assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    assert_eq!(status(&map, &format!("ticket={revoked}")), 401);
    let (old, made) = (ticket(&map), std::time::Instant::now());
    eventually("the second is over", || made.elapsed() > Duration::from_millis(1100));
    assert_eq!(status(&map, &format!("ticket={old}")), 401);
    assert_eq!(status(&map, "ticket=rt_00000000000000000000000000000000"), 401);
}

#[test]
fn a_stream_by_ticket_ends_when_the_token_is_revoked() {
    let server = TestServer::start(&[]);
    let map = server.new_map("revoked");
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    let query = format!("/events/stream?ticket={}", ticket(&map.with_token(&token)));
    let mut stream = Sse::open(map.anonymous("GET", &query));
    assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    stream.ends_within(Duration::from_millis(2500));
}

#[test]
fn a_ticket_takes_one_path_prefix_or_a_list_and_the_names_of_either_spelling() {
    let server = TestServer::start(&[("limits.streams_per_token", "0")]);
    let map = server.new_map("prefixes");
    let event = |path: &str| json!({"type": "map_kill", "payload": {"path": path}});
    let ids = map.publish(&json!([event("/x"), event("/a/1"), event("/x"), event("/b/1")]));
    let expect = |address: &str, asked: &Value, stream: &str, expected: &[&String]| {
        let made = map.of_server("POST", address).json(asked).send().expect(201);
        let ticket = made["data"]["ticket"].as_str().or(made["ticket"].as_str()).expect("a ticket");
        let mut frames = Sse::open(server.request("GET", &format!("{stream}?ticket={ticket}")));
        let seen: Vec<_> = frames.take(expected.len()).into_iter().filter_map(|frame| frame.id).collect();
        let bare: Vec<_> = seen.iter().map(|id| id.trim_start_matches("evt_")).collect();
        assert_eq!(bare, expected, "{address} {asked}");
    };
    let of_map = format!("/api/maps/{}/events", map.id);
    let (a, b) = (&ids[1], &ids[3]);
    for (address, stream) in [
        (format!("{of_map}/ticket"), format!("{of_map}/stream")),
        ("/events/ticket".to_owned(), "/events/stream".to_owned()),
        ("/api/v1/realtime/ticket".to_owned(), "/api/v1/realtime/stream".to_owned()),
    ] {
        let begin = "00000000000000000000000000";
        expect(&address, &json!({"since": begin, "path_prefix": "/a/"}), &stream, &[a]);
        expect(&address, &json!({"since": begin, "path_prefix": ["/a/", "/b/"]}), &stream, &[a, b]);
        expect(&address, &json!({"lastEventId": ids[0], "pathPrefix": "/b/"}), &stream, &[b]);
        expect(
            &address,
            &json!({"since": "", "last_event_id": ids[1], "path_prefix": null, "events": "*"}),
            &stream,
            &[&ids[2], b],
        );
        let bad = map.of_server("POST", &address).json(&json!({"path_prefix": 5})).send();
        assert_eq!(bad.status, 400, "{}", bad.text());
    }
}
