//! Bounds that hold for everyone: what one tenant may cost, in filters, templates, scans, tickets and exports. Nothing here is
//! judged by how long it takes, save that something happens at all while others are busy.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::sse::Frame;
use crate::support::webhooks::{deliveries, delivering, webhook};
use crate::support::{Map, Receiver, Sse, TestServer, eventually};

/// Takes more than an evaluation may, over any event.
fn endless() -> String {
    let list = "[1,2,3,4,5,6,7,8,9]";
    let loops = ["a", "b", "c", "d", "e", "f", "g"].map(|name| format!("{list}.all({name},")).concat();
    format!("{loops}true{}", ")".repeat(7))
}

/// Takes some 30,000 steps over any event, and holds.
fn heavy() -> String {
    let list = "[1,2,3,4,5,6,7,8,9]";
    let loops = ["a", "b", "c", "d"].map(|name| format!("{list}.all({name},")).concat();
    format!("{loops}true{} && event.payload.n >= 0", ")".repeat(4))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["payload"]["n"].as_u64().expect("n")).collect()
}

/// All pages of a query: what they held together, and how many there were.
fn pages(map: &Map, query: &str) -> (Vec<u64>, usize) {
    let (mut all, mut count, mut after) = (Vec::new(), 0, String::new());
    loop {
        let page = map.request("GET", &format!("/events?{query}&after={after}")).send().expect(200);
        all.extend(numbers(page["data"].as_array().expect("a list")));
        count += 1;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return (all, count),
        }
    }
}

fn ids(frames: Vec<Frame>) -> Vec<String> {
    frames.into_iter().map(|frame| frame.id.expect("an id")).collect()
}

const NO_API_LIMIT: (&str, &str) = ("limits.api_requests_per_minute", "0");

#[test]
fn a_page_ends_with_what_was_found_when_its_budget_is_used_up_and_goes_on_from_there() {
    let server = TestServer::start(&[
        NO_API_LIMIT,
        ("limits.scan_events", "300"),
        ("limits.filter_steps_per_request", "2000000"),
    ]);
    let map = server.new_map("pages");
    map.publish_many(1000);
    let all: Vec<u64> = (0..1000).collect();
    for order in ["asc", "desc"] {
        let (none, count) = pages(&map, &format!("limit=10&order={order}&events=nothing"));
        assert!(none.is_empty() && (4..=6).contains(&count), "{order}: {count} pages of at most 300 events");
    }
    let (found, count) = pages(&map, "limit=1000&filter=event.payload.n%20%25%202%20%3D%3D%200");
    assert_eq!(found, all.iter().copied().filter(|n| n % 2 == 0).collect::<Vec<_>>());
    assert!((4..=6).contains(&count), "{count} pages");
    let (found, count) = pages(&map, &format!("limit=1000&filter={}", encoded(&heavy())));
    assert_eq!(found, all, "nothing is passed over");
    assert!(count > 10, "{count} pages, each of at most 2,000,000 steps");
    assert!(server.metric("stentor_shed_total{what=\"page\"}") >= 15);
    // what needs no filter is no scan
    let (found, count) = pages(&map, "limit=1000");
    assert!(found == all && count == 1, "{} events on {count} pages", found.len());
    let lines = map.request("GET", &format!("/events?filter={}", encoded(&heavy())));
    let lines = lines.header("Accept", "application/x-ndjson").send();
    assert_eq!(lines.text().lines().count(), 1000, "an export does not end early");
}

#[test]
fn statistics_over_more_than_a_scan_may_look_at_are_refused_with_the_setting() {
    let server = TestServer::start(&[("limits.scan_events", "300"), ("limits.filter_steps_per_request", "2000000")]);
    let map = server.new_map("stats");
    map.publish_many(250);
    assert_eq!(map.request("GET", "/stats").send().expect(200)["data"]["total"], 250);
    let expensive = map.request("GET", &format!("/stats?filter={}", encoded(&heavy()))).send().expect(422);
    assert_eq!(expensive["code"], "TOO_EXPENSIVE");
    assert_eq!(expensive["details"], json!({"setting": "limits.filter_steps_per_request", "value": 2_000_000}));
    map.publish_many(100);
    let many = map.request("GET", "/stats").send().expect(422);
    assert_eq!(many["details"], json!({"setting": "limits.scan_events", "value": 300}));
    let org = server.admin("POST", "/api/v1/organizations").json(&json!({"name": "o", "id": "o"})).send().expect(201);
    let token = org["data"]["token"].as_str().expect("a token");
    let events: Vec<_> = (0..400).map(|n| json!({"event": "x", "payload": {"n": n}})).collect();
    let published = server.request("POST", "/api/v1/organizations/o/events").bearer(token);
    published.json(&json!({ "events": events })).send().expect(201);
    let answer = server.request("GET", "/api/v1/organizations/o/stats").bearer(token).send();
    let error = answer.expect_problem(422, "too_expensive");
    assert_eq!(error["details"], json!({"setting": "limits.scan_events", "value": 300}));
    assert_eq!(server.metric("stentor_shed_total{what=\"statistics\"}"), 3);
}

#[test]
fn statistics_name_a_thousand_types_and_count_the_rest_together() {
    let server = TestServer::start(&[]);
    let map = server.new_map("types");
    for from in [0, 800] {
        let events: Vec<_> =
            (from..from + 800).map(|n| json!({"type": format!("type_{n}"), "payload": {"n": n}})).collect();
        map.publish(&json!({ "events": events }));
    }
    let data = map.request("GET", "/stats?window=1h&bucket=1h").send().expect(200)["data"].clone();
    let types = data["types"].as_object().expect("counts by type");
    assert_eq!((&data["total"], &data["types_total"], types.len()), (&json!(1600), &json!(1600), 1001));
    assert_eq!((&types["type_0"], &types["type_999"], &types["other"]), (&json!(1), &json!(1), &json!(600)));
    let of_buckets: u64 = data["buckets"]
        .as_array()
        .expect("buckets")
        .iter()
        .flat_map(|bucket| bucket["types"].as_object().expect("counts").values())
        .map(|count| count.as_u64().expect("a number"))
        .sum();
    assert_eq!(of_buckets, 1600);
}

#[test]
fn one_more_scan_than_a_token_may_have_waits_and_is_refused_and_a_client_that_leaves_ends_its_own() {
    let server = TestServer::start(&[
        NO_API_LIMIT,
        ("limits.scans_per_token", "1"),
        ("limits.filter_steps_per_request", "1000000000000"),
    ]);
    let map = server.new_map("scans");
    for _ in 0..20 {
        map.publish_many(1000);
    }
    let cheap = || map.request("GET", "/events?events=nothing");
    cheap().send().expect(200);
    // minutes of work, as long as somebody waits for it
    let scanning = map.request("GET", &format!("/events?filter={}", encoded(&endless()))).connect();
    eventually("the scan is under way", || {
        // its place is taken: the next one waits
        let waiting = cheap().connect();
        waiting.set_read_timeout(Some(Duration::from_millis(200))).expect("a time limit");
        let mut byte = [0];
        (&waiting).read(&mut byte).is_err()
    });
    let begun = Instant::now();
    let refused = cheap().send();
    assert!(begun.elapsed() >= Duration::from_secs(4), "it waited");
    assert_eq!(refused.header("retry-after"), Some("5"));
    let body = refused.expect(429);
    assert_eq!(body["code"], "SCAN_LIMIT");
    assert_eq!(body["details"], json!({"setting": "limits.scans_per_token", "value": 1}));
    let (_, other) = map.new_token(json!({"scopes": ["subscribe"]}));
    map.with_token(&other).request("GET", "/events?events=nothing").send().expect(200);
    map.request("GET", "/events").send().expect(200);
    drop(scanning);
    eventually("the scan has ended with its client", || cheap().send().status == 200);
    assert!(server.metric("stentor_shed_total{what=\"scan\"}") >= 1);
}

#[test]
fn one_token_cannot_take_all_tickets_and_the_filter_of_a_ticket_is_bounded() {
    let mut server = TestServer::start(&[NO_API_LIMIT, ("limits.tickets_per_token", "3")]);
    let map = server.new_map("tickets");
    let mint = |map: &Map| map.request("POST", "/events/ticket").send();
    let first = mint(&map).expect(201)["data"]["ticket"].as_str().expect("a ticket").to_owned();
    (0..2).for_each(|_| drop(mint(&map).expect(201)));
    let refused = mint(&map);
    assert!(refused.header("retry-after").is_some());
    let body = refused.expect(429);
    assert_eq!(body["code"], "TICKET_LIMIT");
    assert_eq!(body["details"], json!({"setting": "limits.tickets_per_token", "value": 3}));
    let (_, other) = map.new_token(json!({"scopes": ["subscribe"]}));
    mint(&map.with_token(&other)).expect(201);
    drop(Sse::open(map.anonymous("GET", &format!("/events/stream?ticket={first}"))));
    mint(&map).expect(201);
    let prefixes = |count: usize| vec!["/".repeat(1000); count];
    let with =
        |count| map.with_token(&other).request("POST", "/events/ticket").json(&json!({"path_prefix": prefixes(count)}));
    assert_eq!(with(9).send().expect(400)["code"], "INVALID_FILTER");
    with(8).send().expect(201);
    server.restart_with(&[("limits.tickets_per_token", "0")]);
    let map = map.at(&server);
    (0..200).for_each(|_| drop(mint(&map).expect(201)));
}

#[test]
fn an_export_ends_when_its_token_is_revoked() {
    let server = TestServer::start(&[]);
    let map = server.new_map("export");
    let big = "x".repeat(200_000);
    // far more than sockets hold
    for n in 0..250 {
        map.publish(&json!({"type": "add_system", "payload": {"n": n, "big": big}}));
    }
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    let reader = map.with_token(&token);
    let lines = || reader.request("GET", "/events").header("Accept", "application/x-ndjson");
    let (answer, mut body) = lines().open().expect("an answer");
    assert_eq!(answer.status, 200);
    let mut some = vec![0; 100_000];
    body.read_exact(&mut some).expect("it has begun");
    server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().expect(204);
    let mut rest = Vec::new();
    let end = body.read_to_end(&mut rest);
    assert!(end.is_err(), "the client sees that it was cut, after {} bytes", rest.len());
    assert!(rest.len() < 40_000_000, "{}", rest.len());
}

#[test]
fn a_delivery_whose_template_fails_or_costs_too_much_is_dead_at_once_and_the_next_one_is_made() {
    let (server, map) = delivering(&[]);
    let receiver = Receiver::start(&[]);
    let template = "{\"n\": {% if event.payload.half is defined %}{{ event.payload.half / 2 }}{% else %}0{% endif %}, \
         \"hits\": [{% for x in event.payload.few | default([]) %}{% if x in event.payload.many %}1,{% endif %}{% endfor %}0]}";
    let asked = json!({"url": receiver.url(), "events": ["*"], "format": "template", "template": template});
    let (address, _) = webhook(&map, asked);
    map.publish(&json!({"type": "add_system", "payload": {"half": "no number"}}));
    let many: Vec<u32> = (1000..21_000).collect();
    let few: Vec<u32> = (0..1000).collect();
    map.publish(&json!({"type": "add_system", "payload": {"few": few, "many": many}}));
    map.publish(&json!({"type": "add_system", "payload": {"half": 8, "few": [1, 2], "many": [2, 3]}}));
    let got = receiver.expect(1);
    assert_eq!(got[0].json(), json!({"n": 4, "hits": [1, 0]}));
    eventually("two deliveries are dead", || deliveries(&map, &address, "status=dead").len() == 2);
    for dead in deliveries(&map, &address, "status=dead") {
        assert_eq!((&dead["attempt_count"], &dead["error_code"]), (&json!(1), &json!("render_error")), "{dead}");
        let id = dead["id"].as_str().expect("an id");
        let one = map.request("GET", &format!("{address}/deliveries/{id}")).send().expect(200);
        let reason = one["data"]["attempts"][0]["error"].as_str().expect("a reason").to_owned();
        assert!(reason.contains("line 1") && reason.contains("; "), "{reason}");
    }
    assert_eq!(server.metric("stentor_shed_total{what=\"template\"}"), 2);
    assert_eq!(receiver.received().len(), 1, "nothing was sent for the others");
}

#[test]
fn streams_with_heavy_filters_get_every_event_in_order_and_hold_up_nobody() {
    let server = TestServer::start(&[("limits.compute_threads", "1"), ("server.workers", "1")]);
    let (greedy, modest) = (server.new_map("greedy"), server.new_map("modest"));
    let path = format!("filter={}", encoded(&heavy()));
    let mut heavies: Vec<Sse> = (0..5).map(|_| greedy.stream(&path)).collect();
    let endless = format!("filter={}", encoded(&endless()));
    let _endless: Vec<Sse> = (0..4).map(|_| greedy.stream(&endless)).collect();
    let mut plain = modest.stream("");
    let first = greedy.publish_many(300);
    modest.publish_many(10);
    assert_eq!(ids(plain.take(10)).len(), 10);
    for stream in &mut heavies {
        assert_eq!(ids(stream.take(300)), first);
    }
    // the same from the log
    let mut late = greedy.stream(&format!("{path}&last_event_id={}", first[0]));
    assert_eq!(ids(late.take(299)), first[1..]);
    let next = greedy.publish_many(20);
    assert_eq!(ids(late.take(20)), next);
    assert!(server.metric("stentor_shed_total{what=\"filter\"}") > 0, "some events took too many steps");
}
