//! Who is connected, and the end of a connection that somebody asks for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::server::ADMIN;
use crate::support::{Sse, TestServer, Ws, eventually};

/// An ended stream ends at once; the rest is for a busy machine.
const ABOUT_A_SECOND: Duration = Duration::from_millis(2500);

fn list(server: &TestServer, token: &str, query: &str) -> Vec<Value> {
    let page = server.request("GET", &format!("/api/v1/connections{query}")).bearer(token).send().expect(200);
    page["data"].as_array().expect("a list").clone()
}

#[test]
fn open_streams_are_listed_with_what_they_read_and_who_reads() {
    let server = TestServer::start(&[]);
    let (home, other, acme) = (server.new_map("home"), server.new_map("other"), server.new_organization("Acme"));
    let (id, reader) = home.new_token(json!({"scopes": ["subscribe"]}));
    assert_eq!(list(&server, ADMIN, ""), Vec::<Value>::new());
    let query = "/events/stream?events=map_kill&path_prefix=/a&filter=event.payload.x%20%3E%201";
    let _own = Sse::open(home.with_token(&reader).request("GET", query).header("User-Agent", "reader/1.0"));
    let _socket = Ws::at(server.addr(), &format!("/api/v1/organizations/{}/events/ws", acme.id), Some(&acme.token));
    let _both = Sse::open(server.admin("GET", "/events/stream?channel=map:home,organization:*"));
    let _all = Sse::open(server.admin("GET", "/events/stream"));
    let of_home = format!("map:{}", home.id);
    let seen = list(&server, ADMIN, "");
    let kinds: Vec<_> = seen.iter().map(|one| (one["kind"].clone(), one["channel"].clone())).collect();
    let of_acme = format!("organization:{}", acme.id);
    let expected = [("sse", json!(of_home)), ("websocket", json!(of_acme)), ("sse", Value::Null), ("sse", Value::Null)];
    assert_eq!(kinds, expected.map(|(kind, channel)| (json!(kind), channel)));
    assert_eq!(
        seen[0]["filter"],
        json!({"events": ["map_kill"], "path_prefix": ["/a"], "filter": "event.payload.x > 1"})
    );
    assert_eq!((&seen[0]["token_id"], &seen[0]["user_agent"]), (&json!(id), &json!("reader/1.0")));
    assert_eq!((&seen[0]["client_address"], &seen[0]["behind_events"]), (&json!("127.0.0.1"), &json!(0)));
    assert_eq!((&seen[2]["channels"], &seen[2]["token_id"]), (&json!([of_home, "organization:*"]), &json!("admin")));
    // whoever manages a channel sees what lies wholly in it, and no addresses
    let own = list(&server, &home.token, "");
    assert_eq!((own.len(), &own[0]["id"], own[0].get("client_address")), (1, &seen[0]["id"], None));
    assert_eq!(list(&server, ADMIN, "?channel=map:home")[0]["id"], seen[0]["id"]);
    assert_eq!(list(&server, &other.token, ""), Vec::<Value>::new());
    let ask =
        |token: &str, query: &str| server.request("GET", &format!("/api/v1/connections{query}")).bearer(token).send();
    ask(&reader, "").expect(403);
    ask(&home.token, "?channel=map:other").expect(404);
    ask(ADMIN, "?after=x").expect(400);
    server.request("GET", "/api/v1/connections").send().expect(401);
}

#[test]
fn the_list_is_read_page_by_page() {
    let server = TestServer::start(&[("limits.streams_per_channel", "0"), ("limits.streams_per_token", "0")]);
    let map = server.new_map("pages");
    let streams: Vec<_> = (0..25).map(|_| map.stream("")).collect();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.admin("GET", &format!("/api/v1/connections?limit=7&after={after}")).send().expect(200);
        let data = page["data"].as_array().expect("a list");
        assert!(data.len() <= 7);
        seen.extend(data.iter().map(|one| one["id"].as_str().expect("an id").to_string()));
        match page["nextCursor"].as_str() {
            Some(next) => after = next.into(),
            None => break,
        }
    }
    assert!(seen.len() == 25 && seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    drop(streams);
    eventually("closed ones are not listed", || list(&server, ADMIN, "").is_empty());
}

#[test]
fn an_ended_connection_is_closed_and_may_come_back() {
    let server = TestServer::start(&[]);
    let (home, other) = (server.new_map("home"), server.new_map("other"));
    let mut socket = Ws::open(&home, "");
    let mut stream = home.stream("");
    let mut all = Sse::open(server.admin("GET", "/events/stream"));
    let end = |token: &str, id: &Value| {
        let id = id.as_str().expect("an id");
        server.request("DELETE", &format!("/api/v1/connections/{id}")).bearer(token).send().status
    };
    let seen = list(&server, ADMIN, "");
    let ids: Vec<_> = seen.iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids.len(), 3);
    // somebody else's is not there, nor is one that reads more than the own channel
    assert_eq!((end(&other.token, &ids[0]), end(&home.token, &ids[2])), (404, 404));
    assert_eq!((end(ADMIN, &json!("con_01J00000000000000000000000")), end(ADMIN, &json!("x"))), (404, 404));
    assert_eq!(end(&home.token, &ids[0]), 204);
    let (code, reason) = socket.end();
    assert_eq!((code, reason.is_empty()), (4409, false));
    assert_eq!(end(&home.token, &ids[1]), 204);
    stream.ends_within(ABOUT_A_SECOND);
    eventually("they are not listed", || list(&server, ADMIN, "").len() == 1);
    assert_eq!((end(&home.token, &ids[0]), end(ADMIN, &ids[2])), (404, 204));
    all.ends_within(ABOUT_A_SECOND);
    let mut back = home.stream("");
    let published = home.publish_many(1);
    assert_eq!(back.next().id.as_ref(), Some(&published[0]));
}

#[test]
fn a_reader_that_takes_nothing_is_shown_behind_in_the_ring_and_in_the_log() {
    let server = TestServer::start(&[("streams.ring_events", "256")]);
    let map = server.new_map("behind");
    let mut slow = map.stream("");
    let mut quick = map.stream("");
    let filler = "x".repeat(4000);
    let batch: Value = (0..200).map(|_| json!({"type": "add_system", "payload": {"filler": filler}})).collect();
    let mut published = 0;
    let behind = |n: usize| list(&server, ADMIN, "")[n]["behind_events"].as_u64().expect("a number");
    // more than the sockets' buffers take
    eventually("the slow one is behind by more than the ring", || {
        published += map.publish(&batch).len();
        quick.take(200);
        behind(0) > 1000
    });
    // what waits in the log is estimated
    assert!(behind(0) <= published as u64 + 256);
    eventually("the quick one is not behind", || behind(1) == 0);
    slow.take(published);
    eventually("neither is the other when it has read", || behind(0) == 0);
}
