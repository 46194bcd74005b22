//! Those who listen to one source.

use serde_json::{Value, json};

use super::{Source, ids};
use crate::support::{Request, Sse, TestServer};

#[test]
fn a_listener_hears_its_source_and_no_other_event_of_the_channel() {
    let server = TestServer::start(&[("sse.event_names", "true")]);
    let map = server.new_map("listener");
    let (source, other) = (Source::open(&map), Source::open(&map));
    let mut stream = Sse::open(source.manage(&map.token, "GET", "/events"));
    assert_eq!(stream.connected.json()["source"], source.id);
    let body = json!({"event_type": "purchase", "timestamp": "2024-01-15T10:30:00Z", "user_id": "user_123",
        "properties": {"amount": 9.99}});
    other.post(&body).expect(200);
    map.publish(&json!({"type": "map_kill"}));
    let id = ids(&source.post(&body).expect(200)).remove(0);
    let frame = stream.next();
    assert_eq!((frame.event.as_deref(), frame.id.as_deref()), (None, Some(id.as_str())));
    assert_eq!(
        frame.data,
        format!(
            "{{\"id\":\"{id}\",\"timestamp\":\"2024-01-15T10:30:00.000Z\",\"source\":\"{0}\",\"eventType\":\"purchase\",\
             \"payload\":{{\"user_id\":\"user_123\",\"properties\":{{\"amount\":9.99}},\"source\":\"{0}\"}},\"validated\":true}}",
            source.id
        )
    );
}

#[test]
fn a_listener_resumes_from_any_event_of_its_source() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("resume");
    let (source, other) = (Source::open(&map), Source::open(&map));
    let send = |source: &Source, n: usize| {
        let events: Vec<Value> = (0..n).map(|n| json!({"event_type": "a", "properties": {"n": n}})).collect();
        ids(&source.post(&json!({ "events": events })).expect(200))
    };
    let first = send(&source, 300);
    send(&other, 300);
    let second = send(&source, 300);
    server.restart();
    let (map, source) = (map.at(&server), source.at(&server));
    let request = source.manage(&map.token, "GET", "/events").header("Last-Event-ID", &first[99]);
    let mut stream = Sse::open(request);
    let heard: Vec<_> = stream.take(500).into_iter().map(|frame| frame.id.expect("an id")).collect();
    assert_eq!(heard, [&first[100..], &second[..]].concat());
    let page = source.manage(&map.token, "GET", "/events/history?limit=1000").send().expect(200);
    assert_eq!(page["data"].as_array().map(Vec::len), Some(600));
}

#[test]
fn a_ticket_for_a_source_opens_that_source_once_and_nothing_else() {
    let server = TestServer::start(&[]);
    let map = server.new_map("tickets");
    let (source, other) = (Source::open(&map), Source::open(&map));
    let mint = || {
        let minted = source.manage(&map.token, "POST", "/events/ticket").json(&json!({})).send().expect(201);
        minted["data"]["ticket"].as_str().expect("a ticket").to_string()
    };
    let open = |source: &Source, ticket: &str| {
        Request::new(source.addr, "GET", &format!("/api/webhooks/{}/events?ticket={ticket}", source.id))
    };
    let ticket = mint();
    assert_eq!(open(&other, &ticket).open().expect("an answer").0.status, 401);
    let mut stream = Sse::open(open(&source, &ticket));
    let id = ids(&source.post(&json!({"event_type": "a"})).expect(200)).remove(0);
    assert_eq!(stream.next().id, Some(id));
    assert_eq!(open(&source, &ticket).open().expect("an answer").0.status, 401);
    // a ticket of the whole channel says nothing about one source
    let whole = map.request("POST", "/events/ticket").json(&json!({})).send().expect(201);
    let mut stream = Sse::open(open(&other, whole["data"]["ticket"].as_str().expect("a ticket")));
    source.post(&json!({"event_type": "a"})).expect(200);
    let id = ids(&other.post(&json!({"event_type": "b"})).expect(200)).remove(0);
    assert_eq!(stream.next().id, Some(id));
}
