//! What stands in queries: cursors and filters under every name that clients have for them, and names that mean nothing.

use serde_json::json;

use crate::support::{Map, Request, Sse, TestServer, Ws};

fn stream(map: &Map, query: &str) -> Request {
    map.request("GET", &format!("/events/stream?{query}"))
}

#[test]
fn a_cursor_is_read_under_every_name_that_clients_have_for_it() {
    let server = TestServer::start(&[]);
    let map = server.new_map("names");
    let ids = map.publish(&json!([{"type": "a"}, {"type": "b"}, {"type": "c"}]));
    let names =
        ["last_event_id", "lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "since", "after", "cursor"];
    for name in names {
        let mut resumed = Sse::open(stream(&map, &format!("{name}={}", ids[0])));
        assert_eq!(resumed.next().id.as_ref(), Some(&ids[1]), "{name}");
        let mut socket = Ws::open(&map, &format!("{name}=evt_{}", ids[1]));
        assert_eq!(socket.json()["id"], ids[2].as_str(), "{name}");
        for bad in ["x", "1", "evt_", "null", &ids[0][1..]] {
            let refused = stream(&map, &format!("{name}={bad}")).send();
            assert_eq!(refused.expect(400)["code"], "INVALID_CURSOR", "{name}={bad}");
        }
    }
}

#[test]
fn of_several_cursors_the_header_counts_and_else_the_newest() {
    let server = TestServer::start(&[]);
    let map = server.new_map("several");
    let ids = map.publish(&json!([{"type": "a"}, {"type": "b"}, {"type": "c"}, {"type": "d"}]));
    let [old, new] = [&ids[0], &ids[2]];
    // polyfills repeat the address that they began with and put the newest id behind it, or before it
    for query in [
        format!("last_event_id={old}&lastEventId={new}"),
        format!("lastEventId={new}&last_event_id={old}"),
        format!("lastEventId={old}&lastEventId={new}"),
        format!("since={old}&padding=true&last-event-id={new}&lastEventId="),
        format!("cursor=evt_{old}&after={new}&since={old}"),
    ] {
        let mut resumed = Sse::open(stream(&map, &query));
        assert_eq!(resumed.next().id.as_ref(), Some(&ids[3]), "{query}");
    }
    let query = format!("last_event_id={new}&lastEventId={new}");
    let mut by_header = Sse::open(stream(&map, &query).header("Last-Event-ID", old));
    assert_eq!(by_header.next().id.as_ref(), Some(&ids[1]));
    let mut by_two = Sse::open(stream(&map, "").header("Last-Event-ID", old).header("Last-Event-ID", new));
    assert_eq!(by_two.next().id.as_ref(), Some(&ids[3]));
    let mut by_list = Sse::open(stream(&map, "").header("Last-Event-ID", &format!("{new}, {old}")));
    assert_eq!(by_list.next().id.as_ref(), Some(&ids[3]));
    for bad in [format!("last_event_id={old}&lastEventId=x"), format!("since=x&cursor={new}")] {
        assert_eq!(stream(&map, &bad).send().expect(400)["code"], "INVALID_CURSOR", "{bad}");
    }
    let empty = Sse::open(stream(&map, "last_event_id=&lastEventId=").header("Last-Event-ID", ""));
    assert_eq!(empty.connected.json()["resumed"], false);
}

#[test]
fn filters_are_read_under_the_names_that_clients_have_for_them() {
    let server = TestServer::start(&[]);
    let map = server.new_map("filters");
    map.publish(&json!([
        {"type": "a", "session": "s", "payload": {"path": "/x"}}, {"type": "b", "session": "s", "payload": {"path": "/x"}},
        {"type": "c", "session": "s", "payload": {"path": "/x"}}, {"type": "a", "session": "t", "payload": {"path": "/x"}},
        {"type": "a", "session": "s", "payload": {"path": "/y"}},
    ]));
    let query = "events[]=a&events%5B%5D=b&pathPrefix=/x&sessionId=s";
    let kinds = |events: &[serde_json::Value]| events.iter().map(|e| e["type"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&map.history(query)), ["a", "b"]);
    let stats = map.request("GET", &format!("/stats?{query}")).send().expect(200);
    assert_eq!(stats["data"]["total"], 2);
    let mut resumed = Sse::open(stream(&map, &format!("{query}&last_event_id={}", "0".repeat(26))));
    assert_eq!(resumed.take(2).iter().map(|frame| frame.json()["type"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(kinds(&map.history("events[]=")), Vec::<serde_json::Value>::new());
    assert_eq!(map.request("GET", "/events?session=s&sessionId=t").send().status, 400);
}

#[test]
fn a_misspelt_parameter_is_refused_everywhere_with_the_nearest_name_and_without_its_value() {
    let server = TestServer::start(&[]);
    let map = server.new_map("misspelt");
    let org = server.new_organization("Misspelt");
    let refused = |request: Request, nearest: &str| {
        let answer = request.send();
        let body = answer.expect(400);
        let code = body["code"].as_str().or(body["error"]["code"].as_str()).map(str::to_ascii_uppercase);
        assert_eq!(code.as_deref(), Some("UNKNOWN_PARAMETER"), "{body}");
        assert!(answer.text().contains(&format!("'{nearest}'")) && !answer.text().contains("s3cret"), "{body}");
    };
    refused(stream(&map, "lastEvntId=s3cret"), "last_event_id");
    refused(stream(&map, "event=s3cret"), "events");
    refused(map.request("GET", "/events?sincee=s3cret"), "since");
    refused(map.request("GET", "/events?last_event_id=s3cret"), "after");
    refused(map.request("GET", "/events?token=s3cret"), "order");
    refused(map.request("GET", "/stats?windw=s3cret"), "window");
    refused(server.admin("POST", "/events?chanel=s3cret").json(&json!({"type": "a"})), "channel");
    refused(org.below("GET", "/events?Limit=s3cret"), "limit");
    refused(server.request("GET", "/api/event-types?familiy=s3cret"), "family");
    refused(org.request("GET", "/api/v1/webhooks?aftr=s3cret"), "after");
    refused(map.anonymous("GET", "/events/stream?tiket=s3cret"), "ticket");
    let nothing = map.request("GET", "?x=s3cret").send();
    assert!(nothing.expect(400)["error"].as_str().is_some_and(|text| text.contains("it takes none")));
    // who has no credential learns that first
    assert_eq!(map.anonymous("GET", "/events?token=s3cret").send().status, 401);
    // a refused publish has stored nothing
    assert_eq!(map.request("POST", "/events?dryrun=1").json(&json!({"type": "a"})).send().status, 400);
    assert!(map.history("").is_empty());
}

#[test]
fn what_caches_and_polyfills_add_to_a_query_is_passed_over() {
    let server = TestServer::start(&[]);
    let map = server.new_map("added");
    let added = "_=1719400000&t=1&t=2&r=0.5&v=2&ts=9&cb=7&_cacheBuster=x&padding=true&format=legacy";
    drop(Sse::open(stream(&map, added)));
    map.request("GET", &format!("/events?{added}")).send().expect(200);
    map.request("POST", &format!("/events?{added}")).json(&json!({"type": "a"})).send().expect(201);
    assert_eq!(stream(&map, "format=json").send().status, 400);
}

#[test]
fn a_query_that_is_no_text_is_refused_instead_of_read_as_something_else() {
    let server = TestServer::start(&[]);
    let map = server.new_map("text");
    for query in ["session=%ff", "%c3=1", "events=a&session=%ed%a0%80", "session=%c3%28"] {
        assert_eq!(
            map.request("GET", &format!("/events?{query}")).send().expect(400)["code"],
            "BAD_REQUEST",
            "{query}"
        );
        assert_eq!(stream(&map, query).send().status, 400, "{query}");
    }
    for query in ["session=%c3%a9", "session=100%", "session=%F0%9F%98%80"] {
        map.request("GET", &format!("/events?{query}")).send().expect(200);
    }
}

#[test]
fn pages_health_metrics_documents_and_sources_take_any_query() {
    let server = TestServer::start(&[]);
    let map = server.new_map("any");
    for page in
        ["/", "/docs", "/stentor.js", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/asyncapi.json"]
    {
        let target = format!("{page}?utm_source=x&utm_source=y&q=%ff");
        assert_eq!(server.request("GET", &target).send().status, 200, "{page}");
    }
    let source = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token);
    let made = source.json(&json!({"authentication": "none"})).send().expect(201);
    let id = made["endpoint"]["id"].as_str().expect("an id");
    let sender = server.request("POST", &format!("/webhooks/{id}?zone=eu&zone=us&token=x"));
    sender.json(&json!({"event_type": "a"})).send().expect(200);
}
