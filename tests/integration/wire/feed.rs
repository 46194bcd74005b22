//! The feed: every channel that the token may read, in one order, in the envelope of the feed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::access::{hs256, install_cryptography};
use crate::support::map::ids;
use crate::support::server::ADMIN;
use crate::support::{Request, Sse, TestServer, Ws, eventually};

const BEGINNING: &str = "evt_00000000000000000000000000";

/// Follows all channels from a cursor on.
#[track_caller]
fn follow(server: &TestServer, query: &str) -> Sse {
    Sse::open(server.admin("GET", &format!("/events/stream?{query}")))
}

fn ids_of(stream: &mut Sse, count: usize) -> Vec<String> {
    stream.take(count).into_iter().map(|frame| frame.id.expect("an id")).collect()
}

#[test]
fn an_event_is_id_event_and_data_in_this_order() {
    let server = TestServer::start(&[]);
    let (map, acme) = (server.new_map("m"), server.new_organization("Acme"));
    let mut stream = follow(&server, "");
    let raw = &stream.connected.raw;
    let head = stream.connected.id.clone().expect("the point it starts from");
    assert!(
        head.starts_with("evt_") && raw.starts_with(&format!("id: {head}\nevent: connected\nretry: 3000\ndata: {{")),
        "{raw}"
    );
    let connected = stream.connected.json();
    let time = connected["server_time"].clone();
    assert_eq!(connected, json!({"server_time": time, "resumed": false, "unknown_events": []}));
    let path = "/data/report.pdf";
    let event = json!({"event_type": "entries_created", "timestamp": 1775968398000_i64, "payload": {"entries": [{"path": path}]}});
    for published in [map.publish(&event)[0].clone(), acme.publish(&event)[0].trim_start_matches("evt_").to_string()] {
        let envelope = format!(
            "{{\"event_id\":\"evt_{published}\",\"event_type\":\"entries_created\",\"timestamp\":1775968398000,\
             \"payload\":{{\"entries\":[{{\"path\":\"{path}\"}}]}}}}"
        );
        assert_eq!(stream.next().raw, format!("id: evt_{published}\nevent: entries_created\ndata: {envelope}\n\n"));
    }
    // the name is there whatever is said about names
    let mut unnamed = follow(&server, &format!("since={BEGINNING}&event_names=false"));
    assert_eq!(unnamed.next().event.as_deref(), Some("entries_created"));
}

#[test]
fn an_event_names_its_channel_to_those_who_ask_for_it_live_replayed_and_in_the_history() {
    let server = TestServer::start(&[]);
    let (map, acme) = (server.new_map("m"), server.new_organization("Acme"));
    let mut live = follow(&server, "with_channel=true&events=a");
    map.publish(&json!([{"type": "a", "payload": {"n": 1}}]));
    acme.publish(&json!([{"event_type": "a", "payload": {"n": 2}}]));
    let channels = [format!("map:{}", map.id), format!("organization:{}", acme.id)];
    let told = |events: &[Value]| -> Vec<Value> { events.iter().map(|event| event["channel"].clone()).collect() };
    let seen: Vec<Value> = live.take(2).iter().map(|frame| frame.json()).collect();
    assert_eq!(told(&seen), channels);
    let mut replayed = follow(&server, &format!("since={BEGINNING}&events=a&with_channel=1"));
    assert_eq!(replayed.take(2).iter().map(|frame| frame.json()).collect::<Vec<_>>(), seen);
    let history = |query: &str| -> Vec<Value> {
        let page = server.admin("GET", &format!("/events?events=a&{query}")).send().expect(200);
        page["data"].as_array().expect("a list").clone()
    };
    assert_eq!(history("with_channel=true"), seen);
    assert_eq!(told(&history("with_channel=false")), [Value::Null, Value::Null]);
    server.admin("GET", "/events?with_channel=yes").send().expect(400);
    map.request("GET", "/events?with_channel=true").send().expect(400);
}

#[test]
fn a_prefix_matches_the_path_and_the_path_of_any_entry() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let entry = |path: &str| json!({"path": path});
    let ids = acme.publish(&json!([
        {"event_type": "entries_created", "payload": {"entries": [entry("/logs/a"), entry("/data/users/1")]}},
        {"event_type": "permissions_changed", "payload": {"path": "/data/users/2"}},
        {"event_type": "indexes_changed", "payload": {"path": "/database"}},
        {"event_type": "entries_deleted", "payload": {"entries": [entry("/data")]}},
        {"event_type": "versions_created", "payload": {"name": "/data/users"}},
        {"event_type": "entries_deleted", "payload": {"entries": []}},
        {"event_type": "entries_created", "payload": {"entries": [entry("/logs/b")]}},
    ]));
    for (query, expected) in [
        ("path_prefix=/data/users", vec![0, 1]),
        ("path_prefix=/data/", vec![0, 1]),
        ("path_prefix=/data", vec![0, 1, 2, 3]),
        ("path_prefix=/database&path_prefix=/logs", vec![0, 2, 6]),
        ("events=entries_created&path_prefix=/data/", vec![0]),
        ("events=entries_created,entries_deleted", vec![0, 3, 5, 6]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|n| ids[n].clone()).collect();
        let mut stream = follow(&server, &format!("since={BEGINNING}&{query}"));
        assert_eq!(ids_of(&mut stream, expected.len()), expected, "{query}");
        let history = server.admin("GET", &format!("/events?{query}")).send().expect(200);
        let listed: Vec<_> =
            history["data"].as_array().expect("a list").iter().map(|e| e["event_id"].clone()).collect();
        assert_eq!(json!(listed), json!(expected), "{query}");
    }
}

#[test]
fn a_silent_follower_is_pinged() {
    let server = TestServer::start(&[("sse.keepalive_s", "1")]);
    let mut stream = follow(&server, "");
    stream.patience(Duration::from_secs(4));
    assert_eq!(stream.frame().expect("in time").expect("the stream goes on").raw, ": ping\n\n");
}

#[test]
fn the_other_name_of_the_stream_gives_the_same() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let ids = acme.publish(&json!([{"event_type": "entries_created"}, {"event_type": "entries_deleted"}]));
    let frames = |target: &str| {
        let mut stream = Sse::open(server.admin("GET", &format!("{target}?since={BEGINNING}")));
        stream.take(2).into_iter().map(|frame| frame.raw).collect::<Vec<_>>()
    };
    assert_eq!(frames("/system/events"), frames("/events/stream"));
    let mut own = Sse::open(acme.request("GET", &format!("/system/events?last_event_id={}", ids[0])));
    assert_eq!(own.next().id.as_ref(), Some(&ids[1]));
}

#[test]
fn a_follower_of_fifty_channels_that_reconnects_misses_nothing_and_sees_one_order() {
    let server = TestServer::start(&[("limits.streams_per_token", "0"), ("streams.ring_events", "256")]);
    let maps: Vec<_> = (0..25).map(|n| server.new_map(&format!("m{n}"))).collect();
    let organizations: Vec<_> = (0..25).map(|n| server.new_organization(&format!("o{n}"))).collect();
    let publishing = AtomicBool::new(true);
    let (mut published, seen) = std::thread::scope(|scope| {
        // four publishers, each with channels of its own, publish until the follower has come back often enough
        let publish = |part: usize| {
            let mut ids = Vec::new();
            while publishing.load(Ordering::Relaxed) && ids.len() < 20_000 {
                for n in (part..25).step_by(4) {
                    let batch = json!([{"type": "add_system", "payload": {"n": ids.len()}}, {"type": "map_kill"}]);
                    ids.extend(maps[n].publish(&batch).into_iter().map(|id| format!("evt_{id}")));
                    ids.extend(organizations[n].publish(&batch));
                }
            }
            ids
        };
        let publishers: Vec<_> = (0..4).map(|part| scope.spawn(move || publish(part))).collect();
        let mut seen = Vec::new();
        let open = |cursor: &str| Sse::open(server.admin("GET", "/events/stream").header("Last-Event-ID", cursor));
        let mut stream = open(BEGINNING);
        for round in 0..40 {
            let count = 50 + 37 * (round % 7);
            seen.extend(ids_of(&mut stream, count));
            stream = open(&seen[seen.len() - 1]);
        }
        publishing.store(false, Ordering::Relaxed);
        let published: Vec<_> = publishers.into_iter().flat_map(|p| p.join().expect("ids")).collect();
        seen.extend(ids_of(&mut stream, published.len() - seen.len()));
        (published, seen)
    });
    assert!(seen.is_sorted_by(|a, b| a < b), "one order, and none twice");
    published.sort();
    assert!(seen == published, "{} of {}", seen.len(), published.len());
    // by the history, too, which is read in pages
    let lines = server.admin("GET", "/events").header("Accept", "application/x-ndjson").send();
    let listed = lines.text().lines().map(|line| line[13..43].to_string()).collect::<Vec<_>>();
    assert!(listed == seen, "{} of {}", listed.len(), seen.len());
}

#[test]
fn an_event_is_published_into_the_tokens_own_channel_or_the_one_that_the_admin_names() {
    let server = TestServer::start(&[]);
    let (map, acme) = (server.new_map("home"), server.new_organization("Acme"));
    let event = json!({"event_type": "entries_created", "payload": {"path": "/a"}});
    let post =
        |token: &str, query: &str| server.request("POST", &format!("/events{query}")).bearer(token).json(&event).send();
    for (token, query) in [
        (map.token.as_str(), String::new()),
        (acme.token.as_str(), String::new()),
        (ADMIN, format!("?channel=map:{}", map.id)),
        (ADMIN, "?channel=map:home".into()),
        (ADMIN, format!("?channel=organization:{}", acme.id)),
        (acme.token.as_str(), format!("?channel=organization:{}", acme.id)),
    ] {
        let published = ids(&post(token, &query).expect(201));
        assert!(published.len() == 1 && published[0].starts_with("evt_"), "{published:?}");
        let is_map = token == map.token || query.contains("map:");
        let newest = match is_map {
            true => format!("evt_{}", map.history("order=desc&limit=1")[0]["id"].as_str().expect("an id")),
            false => acme.history("order=desc&limit=1")[0]["id"].as_str().expect("an id").to_string(),
        };
        assert_eq!(newest, published[0], "{query}");
    }
    assert_eq!(post(ADMIN, "").expect(400)["code"], "INVALID_PARAMETER");
    assert_eq!(post(ADMIN, "?channel=map:nowhere").expect(404)["code"], "NOT_FOUND");
    assert_eq!(post(ADMIN, "?channel=nowhere").expect(404)["code"], "NOT_FOUND");
    assert_eq!(post(&map.token, &format!("?channel=organization:{}", acme.id)).expect(404)["code"], "NOT_FOUND");
    assert_eq!(post("st_wrong", "").expect(401)["code"], "UNAUTHORIZED");
    let (_, reader) = acme.new_token(json!({"scopes": ["subscribe"]}));
    assert_eq!(post(&reader, "").expect(403)["code"], "FORBIDDEN");
}

#[test]
fn a_token_follows_its_own_channel_and_the_admin_all_or_the_one_that_is_named() {
    let server = TestServer::start(&[]);
    let (map, acme) = (server.new_map("home"), server.new_organization("Acme"));
    let on_map: Vec<_> = map.publish_many(3).into_iter().map(|id| format!("evt_{id}")).collect();
    let on_acme = acme.publish_many(3, "s");
    let all = [&on_map[..], &on_acme[..]].concat();
    let cases = [
        (map.token.as_str(), String::new(), &on_map),
        (acme.token.as_str(), String::new(), &on_acme),
        (ADMIN, String::new(), &all),
        (ADMIN, "&channel=map:home".into(), &on_map),
        (ADMIN, format!("&channel=organization:{}", acme.id), &on_acme),
    ];
    let newest_first = |ids: &[String]| ids.iter().rev().cloned().collect::<Vec<_>>();
    for (token, query, expected) in cases {
        let request = |method: &str, target: &str| server.request(method, target).bearer(token);
        let mut sse = Sse::open(request("GET", &format!("/events/stream?since={BEGINNING}{query}")));
        assert_eq!(ids_of(&mut sse, expected.len()), *expected, "{query}");
        let mut socket = Ws::at(server.addr(), &format!("/events/ws?since={BEGINNING}{query}"), Some(token));
        let seen: Vec<_> = (0..expected.len()).map(|_| socket.json()["event_id"].clone()).collect();
        assert_eq!(json!(seen), json!(expected), "{query}");
        let ticket = request("POST", &format!("/events/ticket?{query}")).send().expect(201);
        assert_eq!(ticket["data"]["expires_in_seconds"], 30);
        let url = ticket["data"]["url"].as_str().expect("an address");
        let target = url.strip_prefix(&server.url()).expect("our own address");
        let mut sse = Sse::open(server.request("GET", &format!("{target}&since={BEGINNING}")));
        assert_eq!(ids_of(&mut sse, expected.len()), *expected, "by ticket {query}");
        for (order, expected) in [("asc", expected.clone()), ("desc", newest_first(expected))] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let page =
                    request("GET", &format!("/events?order={order}&limit=2&after={after}{query}")).send().expect(200);
                let ids = page["data"].as_array().expect("a list").iter();
                seen.extend(ids.map(|event| event["event_id"].as_str().expect("an id").to_string()));
                match page["next"].as_str() {
                    Some(next) => after = next.into(),
                    None => break,
                }
            }
            assert_eq!(seen, expected, "{order} {query}");
        }
        let stats = request("GET", &format!("/events/stats?{query}")).send().expect(200);
        assert_eq!(stats["data"]["total"], expected.len(), "{query}");
    }
    let foreign = format!("/events/stream?channel=map:{}", map.id);
    assert_eq!(acme.request("GET", &foreign).send().expect(404)["code"], "NOT_FOUND");
    let (_, publisher) = acme.new_token(json!({"scopes": ["publish"]}));
    assert_eq!(acme.with_token(&publisher).request("GET", "/events/stream").send().expect(403)["code"], "FORBIDDEN");
    server.request("GET", "/events/stream").send().expect_error(
        401,
        "UNAUTHORIZED",
        "Missing or invalid 'Bearer' token",
    );
}

#[test]
fn a_jwt_follows_the_channel_in_its_claims() {
    install_cryptography();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = TestServer::start(&[("auth.jwt.key", secret)]);
    let acme = server.new_organization("Acme");
    server.new_map("other").publish_many(1);
    let ids = acme.publish_many(1, "s");
    let claims = json!({"sub": "follower", "exp": 4_000_000_000_u64, "channel": format!("organization:{}", acme.id),
        "scopes": ["subscribe"]});
    let token = hs256(secret, &claims);
    let request = Request::new(server.addr(), "GET", &format!("/events/stream?since={BEGINNING}")).bearer(&token);
    assert_eq!(ids_of(&mut Sse::open(request), 1), ids);
}

#[test]
fn a_follower_whose_cursor_is_no_longer_kept_is_told_so_over_all_channels() {
    let server = TestServer::start(&[
        ("storage.segment_max_bytes", "1048576"),
        ("retention.max_events", "1000"),
        ("streams.ring_events", "16"),
    ]);
    let (quiet, busy) = (server.new_organization("quiet"), server.new_organization("busy"));
    let first = quiet.publish(&json!({"event_type": "entries_created"})).remove(0);
    let filler = "x".repeat(2000);
    let batch: Value =
        (0..500).map(|_| json!({"event_type": "entries_updated", "payload": {"filler": filler}})).collect();
    for _ in 0..6 {
        busy.publish(&batch);
    }
    let page = |query: &str| server.admin("GET", &format!("/events?{query}")).send().expect(200);
    let mut oldest = Value::Null;
    eventually("retention has dropped all that is too much", || {
        let kept = page("limit=1000");
        oldest = kept["data"][0]["event_id"].clone();
        kept["next"].is_null() && oldest != first.as_str()
    });
    let mut stream = follow(&server, &format!("since={first}"));
    let gap = stream.next();
    assert_eq!((gap.event.as_deref(), &gap.id), (Some("gap"), &None), "{}", gap.raw);
    assert_eq!(gap.json(), json!({"requested": first, "oldest": oldest, "reason": "expired"}));
    assert_eq!(json!(stream.next().id), oldest);
    // the quiet channel has lost nothing after its only event
    let mut stream = Sse::open(quiet.request("GET", &format!("/events/stream?since={first}")));
    let next = quiet.publish(&json!({"event_type": "entries_created"}));
    assert_eq!(stream.next().id.as_ref(), Some(&next[0]));
    let ahead = "evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    assert_eq!(follow(&server, &format!("since={ahead}")).next().json()["reason"], "ahead");
    for bad in ["x", "evt_", "evt_8ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
        let refused = server.admin("GET", &format!("/events/stream?since={bad}")).send().expect(400);
        assert_eq!(refused["code"], "INVALID_CURSOR", "{bad}");
    }
}
