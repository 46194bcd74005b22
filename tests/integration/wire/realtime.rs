//! The realtime WebSocket of organizations: the ticket and its rules, what it is bound to, frames, ends.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::secure::Over;
use crate::support::server::ADMIN;
use crate::support::{Heard, Organization, STALLED, Sse, TestServer, Ws, eventually, within};

const BEGINNING: &str = "evt_00000000000000000000000000";

fn ids(socket: &mut Ws, count: usize) -> Vec<String> {
    (0..count).map(|_| socket.json()["id"].as_str().expect("an id").to_string()).collect()
}

fn admin(server: &TestServer) -> Organization {
    Organization { addr: server.addr(), id: "default".into(), token: ADMIN.into() }
}

/// The status with which a handshake is answered.
fn handshake(acme: &Organization, query: &str) -> u16 {
    acme.plain("GET", &format!("/api/v1/realtime{query}")).upgrade().expect("an answer").0.status
}

#[test]
fn a_ticket_has_three_fields_and_its_address_opens_the_organization() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let post = || acme.request("POST", "/api/v1/realtime/ticket");
    for (what, answer) in [
        ("no body", post().send()),
        ("an empty body", post().header("Content-Type", "application/json").body("").send()),
        ("an empty object", post().json(&json!({})).send()),
        ("all defaults said", post().json(&json!({"scope": "organization", "events": ["*"], "since": ""})).send()),
        ("all null", post().json(&json!({"scope": null, "session": null, "events": null, "since": null})).send()),
    ] {
        let made = answer.expect(201);
        let ticket = made["ticket"].as_str().expect("a ticket");
        assert!(ticket.starts_with("rt_") && ticket.len() == 35, "{ticket}");
        let url = format!("{}/api/v1/realtime?ticket={ticket}", server.url().replacen("http", "ws", 1));
        assert_eq!(made, json!({"ticket": ticket, "expiresInSeconds": 30, "url": url}), "{what}");
        let mut socket = Ws::at(acme.addr, &format!("/api/v1/realtime?ticket={ticket}"), None);
        let published = acme.publish(&json!({"event": "message"}));
        assert_eq!(ids(&mut socket, 1), published, "{what}");
    }
}

#[test]
fn the_address_of_a_ticket_is_that_of_the_public_url() {
    let server = TestServer::start(&[("server.public_url", "https://events.example.org")]);
    let made = server.new_organization("Acme").ask_ticket(&json!({})).expect(201);
    let url = made["url"].as_str().expect("an address");
    assert!(url.starts_with("wss://events.example.org/api/v1/realtime?ticket=rt_"), "{url}");
}

#[test]
fn the_body_of_a_ticket_may_have_64_kib_and_not_a_byte_more() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let post = |length: usize| {
        let body = format!("{{\"scope\":\"organization\"{}}}", " ".repeat(length - 24));
        assert_eq!(body.len(), length);
        acme.request("POST", "/api/v1/realtime/ticket").header("Content-Type", "application/json").body(body).send()
    };
    post(64 * 1024).expect(201);
    post(64 * 1024 + 1).expect_problem(413, "payload_too_large");
}

#[test]
fn what_is_wrong_with_a_wish_is_said_in_the_sentences_that_clients_know() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let missing = "session is required for scope=session";
    let unknown = "scope must be one of session|organization|firehose";
    for (body, sentence) in [
        (json!({"scope": "session"}), missing),
        (json!({"scope": "session", "session": ""}), missing),
        (json!({"scope": "everything"}), unknown),
        (json!({"scope": "Organization"}), unknown),
    ] {
        assert_eq!(acme.ask_ticket(&body).expect_problem(400, "invalid_parameter")["message"], sentence, "{body}");
    }
    for (body, code) in [
        (json!({"since": "x"}), "invalid_cursor"),
        (json!({"events": ["no spaces"]}), "invalid_filter"),
        (json!({"filter": "event.type =="}), "invalid_filter"),
        (json!({"events": 5}), "validation_failed"),
        (json!(["session", "s", null, null, [], null]), "validation_failed"),
        (json!({"session": 5}), "validation_failed"),
        (json!({"sesion": "s"}), "validation_failed"),
        (json!([]), "validation_failed"),
    ] {
        acme.ask_ticket(&body).expect_problem(400, code);
    }
    let post = || acme.request("POST", "/api/v1/realtime/ticket").header("Content-Type", "application/json");
    post().body("{").send().expect_problem(400, "invalid_json");
}

#[test]
fn each_scope_needs_its_right() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let (_, publisher) = acme.new_token(json!({"scopes": ["publish", "manage"]}));
    for body in [json!({}), json!({"scope": "session", "session": "s"})] {
        acme.with_token(&publisher).ask_ticket(&body).expect_problem(403, "forbidden");
        acme.plain("POST", "/api/v1/realtime/ticket").json(&body).send().expect_problem(401, "unauthorized");
        acme.ask_ticket(&body).expect(201);
    }
    acme.ask_ticket(&json!({"scope": "firehose"})).expect_problem(403, "forbidden");
    let admin = admin(&server);
    admin.ask_ticket(&json!({"scope": "firehose"})).expect(201);
    // the admin's token belongs to no organization, so it says which one
    admin.ask_ticket(&json!({})).expect_problem(400, "invalid_parameter");
    let named = |name: &str| admin.request("POST", &format!("/api/v1/realtime/ticket?channel={name}")).send();
    let made = named(&format!("organization:{}", acme.id)).expect(201);
    let ticket = made["ticket"].as_str().expect("a ticket");
    let mut socket = Ws::at(acme.addr, &format!("/api/v1/realtime?ticket={ticket}"), None);
    assert_eq!(acme.publish(&json!({"event": "message"})), ids(&mut socket, 1));
    named("organization:nowhere").expect_problem(404, "not_found");
    let other = server.new_organization("other");
    let foreign = format!("/api/v1/realtime/ticket?channel=organization:{}", acme.id);
    other.request("POST", &foreign).send().expect_problem(404, "not_found");
}

#[test]
fn a_ticket_is_bound_to_what_was_asked_for_whatever_its_address_says_later() {
    let server = TestServer::start(&[]);
    let other = server.new_organization("other");
    for (target, id) in [("/api/v1/realtime", "id"), ("/events/ws", "event_id")] {
        let acme = server.new_organization("Acme");
        let event = |kind: &str, session: &str| json!({"event": kind, "session": session});
        let published = acme.publish(&json!([
            event("message", "a"),
            event("poll.vote", "a"),
            event("message", "b"),
            event("message", "a"),
            event("poll.vote", "b"),
        ]));
        let body = json!({"scope": "session", "session": "a", "events": ["message"], "since": published[0]});
        let more = format!("events=poll.vote&session=b&since={BEGINNING}&channel=organization:{}", other.id);
        let mut socket = Ws::at(acme.addr, &format!("{target}?ticket={}&{more}", acme.ticket(&body)), None);
        other.publish(&event("message", "a"));
        let live = acme.publish(&json!([event("poll.vote", "a"), event("message", "b"), event("message", "a")]));
        let seen: Vec<_> = (0..2).map(|_| socket.json()[id].as_str().expect("an id").to_string()).collect();
        assert_eq!(seen, [published[3].clone(), live[2].clone()], "{target}");
    }
}

#[test]
fn a_ticket_for_a_session_never_shows_another_session() {
    let server = TestServer::start(&[("streams.ring_events", "64")]);
    let acme = server.new_organization("Acme");
    let sessions = ["s1", "s10", "S1", "s1 ", "ß", "\u{1F600}"];
    let publish = || {
        let events = (0..200).map(|n| json!({"event": "message", "session": sessions[n % sessions.len()]}));
        acme.publish(&events.collect::<Value>())
    };
    let own = |ids: &[String], at: usize| ids.iter().skip(at).step_by(sessions.len()).cloned().collect::<Vec<_>>();
    let before = publish();
    for (at, session) in sessions.iter().enumerate() {
        let body = json!({"scope": "session", "session": session, "since": BEGINNING});
        let mut socket = acme.realtime(&body);
        let target = format!("/api/v1/realtime/stream?ticket={}", acme.ticket(&body));
        let mut sse = Sse::open(acme.plain("GET", &target));
        let expected = own(&before, at);
        assert_eq!(ids(&mut socket, expected.len()), expected, "{session:?}");
        assert_eq!(sse.take(expected.len()).into_iter().filter_map(|f| f.id).collect::<Vec<_>>(), expected);
        if at == 0 {
            let live = publish();
            let expected = own(&live, at);
            assert_eq!(ids(&mut socket, expected.len()), expected, "live");
            assert_eq!(sse.take(expected.len()).into_iter().filter_map(|f| f.id).collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn the_firehose_is_one_order_over_all_channels_without_those_that_were_deleted() {
    let server = TestServer::start(&[]);
    let channels: Vec<_> = (0..3).map(|n| server.new_organization(&format!("o{n}"))).collect();
    let map = server.new_map("m");
    let gone = server.new_organization("gone");
    // the record of who changed what is among them, and here not the point
    let types = ["message", "map_kill"];
    let firehose =
        |since: &str| admin(&server).realtime(&json!({"scope": "firehose", "since": since, "events": types}));
    let mut live = firehose("");
    let mut published = Vec::new();
    for _ in 0..20 {
        for channel in &channels {
            published.extend(channel.publish(&json!([{"event": "message", "session": "s"}, {"event": "message"}])));
        }
        published.extend(map.publish(&json!({"type": "map_kill"})).into_iter().map(|id| format!("evt_{id}")));
    }
    assert!(published.is_sorted(), "ids are the order of the log");
    assert_eq!(ids(&mut live, published.len()), published);
    gone.publish_many(50, "s");
    let seen: Vec<_> = (0..50).map(|_| live.json()["organization"].as_str().expect("whose").to_string()).collect();
    assert!(seen.iter().all(|id| *id == gone.id), "a live reader had them while they were there");
    assert_eq!(gone.below("DELETE", "").send().status, 204);
    let last = channels[0].publish(&json!({"event": "message"}));
    assert_eq!(ids(&mut live, 1), last, "the firehose goes on when a channel is deleted");
    published.extend(last);
    for since in [BEGINNING, &published[3], &published[published.len() - 2]] {
        let expected: Vec<_> = published.iter().filter(|id| id.as_str() > since).cloned().collect();
        assert_eq!(ids(&mut firehose(since), expected.len()), expected, "after {since}");
    }
    // the same where no ring of a worker holds what was deleted
    let log = admin(&server).request("GET", "/events?limit=1000&events=message,map_kill").send().expect(200);
    let log: Vec<_> = log["data"].as_array().expect("a list").iter().map(|e| e["event_id"].as_str()).collect();
    assert_eq!(log, published.iter().map(|id| Some(id.as_str())).collect::<Vec<_>>());
}

#[test]
fn a_handshake_without_a_good_ticket_is_answered_before_the_upgrade_in_json() {
    let server = TestServer::start(&[("tickets.ttl_s", "1")]);
    let acme = server.new_organization("Acme");
    let (used, (old, minted)) = (acme.ticket(&json!({})), (acme.ticket(&json!({})), Instant::now()));
    let open = Ws::at(acme.addr, &format!("/api/v1/realtime?ticket={used}"), None);
    eventually("the ticket is too old", || minted.elapsed() > Duration::from_millis(1100));
    for query in [
        String::new(),
        "?ticket=".into(),
        "?ticket=rt_00000000000000000000000000000000".into(),
        format!("?ticket={used}"),
        format!("?ticket={old}"),
        format!("?ticket={}", acme.token),
    ] {
        let (answer, _) = acme.plain("GET", &format!("/api/v1/realtime{query}")).upgrade().expect("an answer");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{query}");
        answer.expect_problem(401, "unauthorized");
    }
    drop(open);
}

#[test]
fn a_foreign_origin_is_refused_also_where_none_is_listed_and_the_own_one_never() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let target = format!("/api/v1/realtime?ticket={}", acme.ticket(&json!({"events": "message,poll.vote"})));
    let with_origin =
        |origin: &str| acme.plain("GET", &target).header("Origin", origin).upgrade().expect("an answer").0;
    with_origin("https://evil.example").expect_problem(403, "origin_forbidden");
    assert_eq!(with_origin(&server.url()).status, 101);
}

#[test]
fn a_request_that_fails_another_check_does_not_spend_the_ticket() {
    let server =
        TestServer::start(&[("cors.allowed_origins", "https://app.example.org"), ("limits.streams_per_token", "1")]);
    let acme = server.new_organization("Acme");
    let ticket = acme.ticket(&json!({}));
    let target = format!("/api/v1/realtime?ticket={ticket}");
    let plain = acme.plain("GET", &target).send();
    plain.expect_problem(426, "upgrade_required");
    // HTTP/2 has no header of that name
    let upgrade = (Over::of_run() != Some(Over::Http2)).then_some("websocket");
    assert_eq!(plain.header("upgrade"), upgrade);
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));
    for (origin, status) in
        [("https://evil.example", 403), ("null", 403), ("https://app.example.org.evil.example", 403)]
    {
        let (answer, _) = acme.plain("GET", &target).header("Origin", origin).upgrade().expect("an answer");
        answer.expect_problem(status, "origin_forbidden");
    }
    acme.plain("POST", &target).send().expect_problem(405, "method_not_allowed");
    let (answer, _) = acme.plain("GET", &format!("{target}&since=x")).upgrade().expect("an answer");
    answer.expect_problem(400, "invalid_cursor");
    let busy = acme.stream("");
    let (answer, _) = acme.plain("GET", &target).upgrade().expect("an answer");
    answer.expect_problem(429, "api_key_connection_limit");
    drop(busy);
    let allowed = || acme.plain("GET", &target).header("Origin", "https://app.example.org").upgrade();
    eventually("the listed origin may connect", || allowed().expect("an answer").0.status == 101);
    assert_eq!(handshake(&acme, &format!("?ticket={ticket}")), 401, "now it is spent");
}

#[test]
fn of_twenty_who_race_for_a_ticket_one_is_let_in_a_hundred_times_over() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    for round in 0..100 {
        let target = format!("/api/v1/realtime?ticket={}", acme.ticket(&json!({})));
        let statuses = std::thread::scope(|scope| {
            let open = || acme.plain("GET", &target).upgrade().expect("an answer");
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(open)).collect();
            // all are kept until all have come, so that no stream is closed meanwhile
            let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("an answer")).collect();
            answers.iter().map(|(answer, _)| answer.status).collect::<Vec<_>>()
        });
        let count = |status: u16| statuses.iter().filter(|other| **other == status).count();
        assert_eq!((count(101), count(401)), (1, 19), "round {round}: {statuses:?}");
        eventually("the stream's slot is free again", || server.metric("stentor_streams") == 0);
    }
}

#[test]
fn the_first_frame_has_three_fields_and_the_types_that_nobody_knows_where_there_are_some() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let before = now();
    let connected = acme.realtime(&json!({"events": ["message", "poll.recap"]})).connected;
    let at = connected["timestamp"].as_i64().expect("a time");
    assert!((before..=now()).contains(&at), "{before} {at}");
    assert_eq!(connected, json!({"event": "connected", "heartbeatSeconds": 20, "timestamp": at}));
    let connected = acme.realtime(&json!({"events": ["message", "mesage"]})).connected;
    assert_eq!(connected["unknown_events"], json!(["mesage"]));
}

#[test]
fn a_replay_of_any_length_comes_before_what_is_live() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let before = acme.publish_many(5000, "s");
    let mut socket = acme.realtime(&json!({"since": before[0]}));
    let live = acme.publish_many(2000, "s");
    let expected = [&before[1..], &live[..]].concat();
    assert!(ids(&mut socket, expected.len()) == expected, "all of them, in order, once");
    let mut nothing = acme.realtime(&json!({"since": live[live.len() - 1]}));
    let next = acme.publish(&json!({"event": "message"}));
    assert_eq!(ids(&mut nothing, 1), next, "nothing is repeated");
}

#[test]
fn pings_come_by_the_clock_also_in_the_middle_of_a_replay() {
    let server = TestServer::start(&[("streams.heartbeat_s", "1")]);
    let acme = server.new_organization("Acme");
    // more than the buffers of the two sockets hold, so that a reader who waits is in the middle of it
    let filler = "x".repeat(50_000);
    let batch: Value = (0..80).map(|_| json!({"event": "message", "payload": {"filler": filler}})).collect();
    let before: Vec<_> = (0..6).flat_map(|_| acme.publish(&batch)).collect();
    let mut socket = acme.realtime(&json!({"since": BEGINNING}));
    assert_eq!(socket.connected["heartbeatSeconds"], 1);
    let opened = Instant::now();
    eventually("two heartbeats are due", || opened.elapsed() > Duration::from_millis(2500));
    let (mut seen, mut pings, mut protocol_pings) = (Vec::new(), 0, 0);
    while seen.len() < before.len() {
        match socket.hear() {
            Heard::Ping => protocol_pings += 1,
            Heard::Text(text) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                match frame["id"].as_str() {
                    Some(id) => seen.push(id.to_string()),
                    None => {
                        let at = frame["timestamp"].as_u64().expect("a time");
                        assert_eq!(frame, json!({"event": "ping", "timestamp": at}));
                        pings += 1;
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, before);
    assert!(pings >= 1 && protocol_pings >= 1, "{pings} {protocol_pings}");
}

#[test]
fn a_cursor_whose_successors_are_gone_is_answered_by_a_gap_without_id() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let ids = acme.publish(&json!({"event": "message"}));
    let ahead = "evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    let gap = acme.realtime(&json!({"since": ahead})).json();
    assert_eq!(gap, json!({"event": "gap", "requested": ahead, "oldest": ids[0], "reason": "ahead"}));
}

#[test]
fn a_stream_ends_with_a_code_and_a_reason() {
    let mut server = TestServer::start(&[("streams.stall_timeout_s", "1")]);
    let acme = server.new_organization("Acme");
    let ends = |socket: &mut Ws, code: u16| {
        let (said, reason) = socket.end();
        assert_eq!(said, code, "{reason}");
        assert!(!reason.is_empty(), "{code}");
    };
    for data in [Message::text("hello"), Message::binary(vec![0, 1])] {
        let mut socket = acme.realtime(&json!({}));
        socket.send(data);
        ends(&mut socket, 1008);
    }

    let (id, token) = acme.new_token(json!({"scopes": ["subscribe"]}));
    let mut socket = acme.with_token(&token).realtime(&json!({}));
    let ticket = acme.with_token(&token).ticket(&json!({}));
    assert_eq!(acme.request("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    socket.patience(Duration::from_millis(2500));
    ends(&mut socket, 4401);
    assert_eq!(handshake(&acme, &format!("?ticket={ticket}")), 401, "the ticket ends with its token");

    let soon = time::OffsetDateTime::now_utc() + Duration::from_millis(1500);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).expect("a text");
    let (_, token) = acme.new_token(json!({"scopes": ["subscribe"], "expires_at": soon}));
    let mut socket = acme.with_token(&token).realtime(&json!({}));
    socket.patience(Duration::from_secs(4));
    ends(&mut socket, 4401);

    let mut stalled = acme.realtime(&json!({}));
    let filler = "x".repeat(60_000);
    let batch: Value = (0..60).map(|_| json!({"event": "message", "payload": {"filler": filler}})).collect();
    for _ in 0..5 {
        acme.publish(&batch);
    }
    within(STALLED, "the stalled reader is ended", || server.metric("stentor_readers_stalled_total") == 1);
    ends(&mut stalled, 4408);

    let mut socket = acme.realtime(&json!({}));
    server.ask_to_stop();
    ends(&mut socket, 1001);
    assert!(server.wait().success());
}

#[test]
fn the_same_is_there_by_sse_with_a_token_or_a_ticket() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let before = acme.publish_many(3, "s");
    let target = format!("/api/v1/realtime/stream?session=s&since={}", before[0]);
    let by_ticket =
        format!("/api/v1/realtime/stream?ticket={}", acme.ticket(&json!({"session": "s", "since": before[0]})));
    for request in [acme.request("GET", &target), acme.plain("GET", &by_ticket)] {
        let mut stream = Sse::open(request);
        assert_eq!(stream.connected.id.as_ref(), Some(&before[0]));
        let connected = stream.connected.json();
        assert_eq!((&connected["organization"], &connected["resumed"]), (&acme.id.as_str().into(), &true.into()));
        let seen: Vec<_> = stream.take(2).into_iter().filter_map(|frame| frame.id).collect();
        assert_eq!(seen, before[1..]);
    }
    let named = acme.request("GET", &format!("{target}&event_names=true"));
    assert_eq!(Sse::open(named).next().event.as_deref(), Some("message"));
    let every = server.admin("GET", &format!("/api/v1/realtime/stream?since={BEGINNING}"));
    assert_eq!(Sse::open(every).next().id.as_ref(), Some(&before[0]), "without a channel the admin reads all");
}
