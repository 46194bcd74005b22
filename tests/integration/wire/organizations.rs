//! Organizations: made, listed, changed, deleted; their events by REST and by streams, in their own envelope; body B.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::access::{hs256, install_cryptography};
use crate::support::{Organization, Sse, TestServer, Ws, eventually};

/// Streams of tokens that are revoked or expire end within a second; the rest is for a busy machine.
const ABOUT_A_SECOND: Duration = Duration::from_millis(2500);
const BEGINNING: &str = "00000000000000000000000000";

#[test]
fn an_organization_is_made_listed_renamed_and_deleted() {
    let server = TestServer::start(&[]);
    let made = server.admin("POST", "/api/v1/organizations").json(&json!({"name": "Acme"})).send().expect(201);
    let made = &made["data"];
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert!(id.starts_with("org_") && id.len() == 30, "org_ and a ULID: {id}");
    let acme = Organization { addr: server.addr(), id: id.into(), token: token.into() };
    let shown = acme.below("GET", "").send().expect(200);
    assert_eq!((&shown["data"]["id"], &shown["data"]["name"]), (&id.into(), &"Acme".into()));
    assert!(shown["data"].get("token").is_none(), "the token is shown once: {shown}");

    let renamed = acme.below("PATCH", "").json(&json!({"name": "Acme & Söhne"})).send().expect(200);
    assert_eq!(renamed["data"]["name"], "Acme & Söhne");
    let own = acme.request("GET", "/api/v1/organizations").send().expect(200);
    assert_eq!(own["data"].as_array().map(Vec::len), Some(1), "a token sees its own: {own}");
    assert_eq!((&own["data"][0]["id"], &own["nextCursor"]), (&id.into(), &Value::Null));
    let all = server.admin("GET", "/api/v1/organizations").send().expect(200);
    let ids: Vec<_> = all["data"].as_array().expect("a list").iter().map(|o| o["id"].as_str()).collect();
    assert!([Some(id), Some("default"), Some("system")].iter().all(|id| ids.contains(id)), "{ids:?}");

    let (mut sse, mut ws) = (acme.stream(""), acme.realtime(&json!({})));
    assert_eq!(acme.below("DELETE", "").send().status, 204);
    assert_eq!(sse.next_or_end(), None);
    let (code, reason) = ws.end();
    assert!(code == 1001 && !reason.is_empty(), "{code} {reason}");
    assert_eq!(acme.below("GET", "").send().status, 401, "its tokens are void");
    server.admin("GET", &format!("/api/v1/organizations/{id}")).send().expect(404);
}

#[test]
fn an_id_may_be_chosen_and_holds_nothing_that_a_path_could_not() {
    let server = TestServer::start(&[]);
    let create = |body: Value| server.admin("POST", "/api/v1/organizations").json(&body).send();
    let made = create(json!({"id": "acme-1", "name": "Acme"})).expect(201);
    assert_eq!(made["data"]["id"], "acme-1");
    create(json!({"id": "acme-1", "name": "again"})).expect_problem(409, "conflict");
    for id in ["", "_a", "a b", "a/b", "..", "ä", &"a".repeat(65)] {
        let refused = create(json!({"id": id, "name": "bad"})).expect_problem(400, "validation_failed");
        assert_eq!(refused["details"]["errors"][0]["field"], "id", "{id:?}: {refused}");
    }
    create(json!({"name": ""})).expect_problem(400, "validation_failed");
    create(json!({"id": "nameless"})).expect_problem(400, "validation_failed");
    create(json!({"name": "a", "slug": "b"})).expect_problem(400, "validation_failed");
    let token = made["data"]["token"].as_str().expect("a token");
    let body = json!({"name": "mine"});
    server.request("POST", "/api/v1/organizations").bearer(token).json(&body).send().expect_problem(403, "forbidden");
}

#[test]
fn default_and_system_are_there_from_the_first_start_and_system_is_the_servers_own() {
    let mut server = TestServer::start(&[]);
    let at = |server: &TestServer, method: &str, rest: &str| {
        let body = if method == "PATCH" { json!({"name": "x"}) } else { json!({"event": "message"}) };
        server.admin(method, &format!("/api/v1/organizations/{rest}")).json(&body).send()
    };
    at(&server, "GET", "default").expect(200);
    at(&server, "GET", "system").expect(200);
    for (method, rest) in [("PATCH", "system"), ("DELETE", "system"), ("POST", "system/events")] {
        at(&server, method, rest).expect_problem(403, "forbidden");
    }
    let by_feed = server.admin("POST", "/events?channel=organization:system").json(&json!({"type": "x"})).send();
    assert_eq!(by_feed.expect(403)["code"], "FORBIDDEN");
    let taken = json!({"id": "system", "name": "mine"});
    server.admin("POST", "/api/v1/organizations").json(&taken).send().expect_problem(409, "conflict");

    assert_eq!(server.admin("DELETE", "/api/v1/organizations/default").send().status, 204);
    server.restart();
    at(&server, "GET", "default").expect_problem(404, "not_found");
    at(&server, "GET", "system").expect(200);
}

#[test]
fn an_event_has_the_same_bytes_by_every_way_out() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let (mut sse, mut ws, mut realtime) = (
        acme.stream(""),
        Ws::at(acme.addr, &format!("/api/v1/organizations/{}/events/ws", acme.id), Some(&acme.token)),
        acme.realtime(&json!({})),
    );
    let published = acme.publish(&json!([
        {"event": "message", "session": "sess_1", "timestamp": 1719400000000_i64, "payload": {"text": "hi", "n": 1.0}},
        {"type": "session.status", "ts": "2024-06-26T11:06:40Z"},
    ]));
    assert!(published.iter().all(|id| id.starts_with("evt_") && id.len() == 30), "{published:?}");
    let envelope = |id: &str, event: &str, session: &str, payload: &str| {
        format!(
            "{{\"schema\":\"v1\",\"id\":\"{id}\",\"event\":\"{event}\",\"session\":{session},\"organization\":\"{}\",\
             \"timestamp\":1719400000000,\"payload\":{payload}}}",
            acme.id
        )
    };
    let expected = [
        envelope(&published[0], "message", "\"sess_1\"", "{\"text\":\"hi\",\"n\":1}"),
        envelope(&published[1], "session.status", "null", "{}"),
    ];
    let lines = acme.below("GET", "/events").header("Accept", "application/x-ndjson").send();
    assert_eq!(lines.text(), format!("{}\n{}\n", expected[0], expected[1]));
    let page = acme.below("GET", "/events").send();
    let text = format!("{{\"data\":[{},{}],\"next\":null,\"nextCursor\":null}}", expected[0], expected[1]);
    assert_eq!(page.text(), text);
    let mut replay = acme.stream(&format!("since={BEGINNING}"));
    for (data, id) in expected.iter().zip(&published) {
        for stream in [&mut sse, &mut replay] {
            let frame = stream.next();
            assert_eq!((&frame.data, frame.id.as_ref(), &frame.event), (data, Some(id), &None));
        }
        assert_eq!(&ws.text(), data);
        assert_eq!(&realtime.text(), data);
    }
}

#[test]
fn history_is_paged_in_both_orders_and_by_session() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let events: Vec<_> = (0..10).map(|n| json!({"event": "message", "session": format!("s{}", n % 2)})).collect();
    let ids = acme.publish(&json!(events));
    let page = |query: &str| {
        let body = acme.below("GET", &format!("/events?{query}")).send().expect(200);
        let ids = body["data"].as_array().expect("a list").iter().map(|e| e["id"].as_str().expect("an id").to_string());
        assert_eq!(body["next"], body["nextCursor"]);
        (ids.collect::<Vec<_>>(), body["nextCursor"].as_str().map(String::from))
    };
    for (order, expected) in [("asc", ids.clone()), ("desc", ids.iter().rev().cloned().collect())] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let (ids, next) = page(&format!("order={order}&limit=3&after={after}"));
            seen.extend(ids);
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(seen, expected, "{order}");
    }
    let odd: Vec<_> = ids.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(page("session=s1").0, odd);
    assert_eq!(page("session=s1&events=presence.update").0, Vec::<String>::new());
    acme.below("GET", "/events?limit=0").send().expect_problem(400, "invalid_parameter");
    acme.below("GET", "/events?after=x").send().expect_problem(400, "invalid_cursor");
}

#[test]
fn stats_count_by_type() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    acme.publish(&json!([{"event": "message"}, {"event": "message"}, {"event": "poll.vote"}]));
    let stats = acme.below("GET", "/stats?window=1h&bucket=1h").send().expect(200);
    assert_eq!(stats["data"]["total"], 3);
    assert_eq!(stats["data"]["types"], json!({"message": 2, "poll.vote": 1}));
    acme.below("GET", "/stats?window=1y").send().expect_problem(400, "invalid_parameter");
}

/// Addresses below an organization, with the scope that each needs.
const REQUESTS: [(&str, &str, &str); 9] = [
    ("GET", "", "subscribe"),
    ("GET", "/events", "subscribe"),
    ("GET", "/stats", "subscribe"),
    ("GET", "/events/stream", "subscribe"),
    ("GET", "/events/ws", "subscribe"),
    ("POST", "/events/ticket", "subscribe"),
    ("POST", "/events", "publish"),
    ("PATCH", "", "manage"),
    ("DELETE", "", "manage"),
];

#[test]
fn what_belongs_to_another_organization_does_not_exist() {
    let server = TestServer::start(&[]);
    let (mine, theirs) = (server.new_organization("mine"), server.new_organization("theirs"));
    let map = server.new_map("map");
    for token in [&mine.token, &map.token] {
        for (method, rest, _) in REQUESTS {
            let refused = theirs.with_token(token).below(method, rest).send().expect_problem(404, "not_found");
            let sentence = format!("Organization not found for identifier: {}", theirs.id);
            assert_eq!(refused["message"], sentence.as_str(), "{method} {rest}");
        }
    }
    let (id, _) = theirs.new_token(json!({"scopes": ["subscribe"]}));
    mine.request("DELETE", &format!("/api/v1/tokens/{id}")).send().expect_problem(404, "not_found");
    let body = json!({"channel": format!("organization:{}", theirs.id), "scopes": ["subscribe"]});
    mine.request("POST", "/api/v1/tokens").json(&body).send().expect_problem(404, "not_found");
    let listed = mine.request("GET", "/api/v1/tokens").send();
    assert!(listed.text().contains(&mine.id) && !listed.text().contains(&theirs.id), "{}", listed.text());
    // a ticket opens what it was made for and nothing else
    let ticket = mine.ticket(&json!({}));
    let refused = theirs.anonymous("GET", &format!("/events/stream?ticket={ticket}")).send();
    assert!(matches!(refused.status, 401 | 404), "{}", refused.status);
    drop(Sse::open(mine.anonymous("GET", &format!("/events/stream?ticket={ticket}"))));
}

#[test]
fn a_token_does_what_its_scopes_say_and_nothing_else() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    for (method, rest, _) in REQUESTS {
        let without = acme.anonymous(method, rest).send().expect_problem(401, "unauthorized");
        assert_eq!(without["message"], "Missing or invalid 'Bearer' token");
        acme.with_token("st_wrong").below(method, rest).send().expect_problem(401, "unauthorized");
    }
    for scope in ["subscribe", "publish", "manage"] {
        let (_, token) = acme.new_token(json!({"scopes": [scope]}));
        for (method, rest, needed) in REQUESTS.iter().filter(|(_, _, needed)| *needed != scope) {
            let refused = acme.with_token(&token).below(method, rest).json(&json!({})).send();
            let refused = refused.expect_problem(403, "forbidden");
            assert!(refused["message"].as_str().is_some_and(|text| text.contains(needed)), "{refused}");
        }
    }
}

#[test]
fn a_jwt_may_stand_for_an_organization() {
    install_cryptography();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = TestServer::start(&[("auth.jwt.key", secret)]);
    let acme = server.new_organization("Acme");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = |channel: &str, seconds: u64| json!({"sub": "worker", "exp": now + seconds, "channel": channel, "scopes": ["subscribe", "publish"]});
    let channel = format!("organization:{}", acme.id);
    let worker = acme.with_token(&hs256(secret, &claims(&channel, 60)));
    let mut stream = worker.realtime(&json!({}));
    let ids = worker.publish(&json!({"event": "message"}));
    assert_eq!(stream.json()["id"], ids[0].as_str());
    worker.below("PATCH", "").json(&json!({"name": "x"})).send().expect_problem(403, "forbidden");
    let foreign = acme.with_token(&hs256(secret, &claims("organization:default", 60)));
    foreign.below("GET", "").send().expect_problem(404, "not_found");
    let nowhere = acme.with_token(&hs256(secret, &claims("organization:nowhere", 60)));
    nowhere.below("GET", "").send().expect_problem(401, "unauthorized");
    let admin = acme.with_token(&hs256(secret, &claims("*", 60)));
    drop(admin.realtime(&json!({"scope": "firehose"})));
}

#[test]
fn a_login_that_ends_leaves_what_its_tickets_opened_open_and_ends_what_it_opened_itself() {
    install_cryptography();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = TestServer::start(&[("auth.jwt.key", secret)]);
    let acme = server.new_organization("Acme");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({"sub": "worker", "exp": now + 3, "channel": format!("organization:{}", acme.id),
        "scopes": ["subscribe"]});
    let login = acme.with_token(&hs256(secret, &claims));
    let unused = login.ticket(&json!({}));
    let mut socket = login.realtime(&json!({}));
    let by_ticket = |ticket: &str| server.request("GET", &format!("/api/v1/realtime/stream?ticket={ticket}"));
    let mut events = Sse::open(by_ticket(&login.ticket(&json!({}))));
    let stream = format!("/api/v1/organizations/{}/events/stream", acme.id);
    let mut own = Sse::open(server.request("GET", &stream).bearer(&login.token));
    own.ends_within(Duration::from_secs(3) + ABOUT_A_SECOND);
    login.below("GET", "").send().expect_problem(401, "unauthorized");
    // whoever looks after expiries has looked at the others as well when it looks again
    let looked = Instant::now();
    eventually("the shard has looked again", || looked.elapsed() > ABOUT_A_SECOND);
    let id = acme.publish(&json!({"event": "message"})).remove(0);
    assert_eq!(socket.json()["id"], id.as_str());
    assert_eq!(events.next().id.as_deref(), Some(id.as_str()));
    // a ticket that was not used yet is as good as those that were
    let mut late = Sse::open(by_ticket(&unused));
    let id = acme.publish(&json!({"event": "message"})).remove(0);
    assert_eq!(late.next().id.as_deref(), Some(id.as_str()));
}

#[test]
fn a_stored_token_that_ends_ends_what_its_tickets_opened() {
    let server = TestServer::start(&[]);
    let acme = server.new_organization("Acme");
    let at = time::OffsetDateTime::now_utc() + Duration::from_secs(2);
    let at = at.format(&time::format_description::well_known::Rfc3339).expect("a text");
    let (_, token) = acme.new_token(json!({"scopes": ["subscribe"], "expires_at": at}));
    let (id, other) = acme.new_token(json!({"scopes": ["subscribe"]}));
    let mut expiring = acme.with_token(&token).realtime(&json!({}));
    let mut revoked = acme.with_token(&other).realtime(&json!({}));
    assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    revoked.patience(ABOUT_A_SECOND);
    assert_eq!(revoked.end().0, 4401);
    expiring.patience(Duration::from_secs(2) + ABOUT_A_SECOND);
    assert_eq!(expiring.end().0, 4401);
}

#[test]
fn every_error_below_api_v1_is_an_object_with_code_and_message() {
    let server = TestServer::start(&[("limits.api_requests_per_minute", "3")]);
    let admin = |method: &str, target: &str| server.admin(method, target);
    let organizations = "/api/v1/organizations";
    admin("GET", "/api/v1/nothing").send().expect_problem(404, "not_found");
    admin("GET", "/api/v1").send().expect_problem(404, "not_found");
    admin("PUT", organizations).send().expect_problem(405, "method_not_allowed");
    admin("POST", organizations)
        .header("Content-Type", "application/json")
        .body("{")
        .send()
        .expect_problem(400, "invalid_json");
    let text = admin("POST", organizations).header("Content-Type", "text/plain").body("{}");
    text.send().expect_problem(415, "unsupported_media_type");
    admin("POST", organizations)
        .json(&json!({"name": "x".repeat(70_000)}))
        .send()
        .expect_problem(413, "payload_too_large");
    let batch = json!([{"event": "no spaces"}, {"event": "message"}, {"payload": 1}]);
    let refused = admin("POST", "/api/v1/organizations/default/events").json(&batch).send();
    let refused = refused.expect_problem(400, "validation_failed");
    let errors = refused["details"]["errors"].as_array().expect("a list");
    assert!(errors.iter().any(|e| e["index"] == 0) && errors.iter().any(|e| e["index"] == 2), "{refused}");
    admin("GET", "/api/v1/organizations/default/events/stream?filter=1%2B")
        .send()
        .expect_problem(400, "invalid_filter");
    let limited = server.new_organization("limited");
    for _ in 0..3 {
        limited.below("GET", "").send().expect(200);
    }
    // a minute may just have begun, but hardly two
    let more = (0..4).map(|_| limited.below("GET", "").send());
    let refused = more.into_iter().find(|answer| answer.status != 200).expect("the fourth of a minute is refused");
    refused.expect_problem(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    limited.publish(&json!({"event": "message"}));
}
