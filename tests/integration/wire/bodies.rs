//! Bodies of requests: who calls is asked before them, they have a deadline at every address, and all share the memory budget.

use serde_json::json;

use crate::support::{Map, Request, TestServer, eventually};

/// Addresses that take a body, below a map and elsewhere, with the status for a caller without a credential.
fn addresses(map: &Map) -> Vec<(&'static str, String)> {
    let of_map = [
        ("POST", "/events"),
        ("POST", "/events/ticket"),
        ("POST", "/webhooks"),
        ("PATCH", ""),
        ("PUT", "/webhooks/toggle"),
        ("POST", "/webhooks/preview"),
    ];
    let elsewhere = [
        ("POST", "/events"),
        ("POST", "/events/ticket"),
        ("POST", "/api/maps"),
        ("POST", "/api/v1/organizations"),
        ("POST", "/api/v1/tokens"),
        ("POST", "/api/v1/realtime/ticket"),
        ("POST", "/api/v1/organizations/o/events/ticket"),
        ("POST", "/api/webhooks"),
    ];
    let below = of_map.map(|(method, rest)| (method, format!("/api/maps/{}{rest}", map.id)));
    below.into_iter().chain(elsewhere.map(|(method, path)| (method, path.to_string()))).collect()
}

#[test]
fn a_caller_without_a_good_credential_is_refused_before_the_body_comes() {
    let server = TestServer::start(&[]);
    let map = server.new_map("first who");
    for (method, path) in addresses(&map) {
        let request = || Request::new(map.addr, method, &path).header("Content-Type", "application/json");
        let nobody = request().unfinished(60_000, b"{").answer();
        assert_eq!(nobody.status, 401, "{method} {path}");
        let stranger = request().bearer("st_wrong").unfinished(60_000, b"{").answer();
        assert_eq!(stranger.status, 401, "{method} {path}");
    }
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"]}));
    let refused = map.with_token(&reader).request("POST", "/events").unfinished(60_000, b"{").answer();
    assert_eq!(refused.status, 403, "a token without the scope");
    let other = server.new_map("other");
    let path = format!("/api/maps/{}/events/ticket", other.id);
    let foreign = Request::new(map.addr, "POST", &path).bearer(&map.token).unfinished(60_000, b"{").answer();
    assert_eq!(foreign.status, 404, "a token of another map");
}

#[test]
fn a_body_that_does_not_come_in_time_is_given_up_at_every_address() {
    let server = TestServer::start(&[("server.body_timeout_s", "1")]);
    let map = server.new_map("slow");
    let waiting: Vec<_> = addresses(&map)
        .into_iter()
        .filter(|(_, path)| !path.contains("/o/"))
        .map(|(method, path)| {
            // the admin names the channel where the address does not, and means one
            let path = match path.as_str() {
                "/events" | "/events/ticket" | "/api/v1/realtime/ticket" | "/api/webhooks" => {
                    format!("{path}?channel=map:{}", map.id)
                }
                _ => path,
            };
            let request = server.admin(method, &path).header("Content-Type", "application/json");
            (format!("{method} {path}"), request.unfinished(100, b"{"))
        })
        .collect();
    for (what, waiting) in waiting {
        let answer = waiting.answer();
        assert_eq!(answer.status, 408, "{what}");
        assert!(answer.text().to_lowercase().contains("request_timeout"), "{what}: {}", answer.text());
    }
    // who is in time is not concerned
    map.publish(&json!({"type": "add_system"}));
}

#[test]
fn bodies_in_flight_share_the_memory_budget_and_what_does_not_fit_is_refused_for_now() {
    let server = TestServer::start(&[
        ("limits.memory_bytes", "33554432"),
        ("limits.batch_bytes", "16777216"),
        ("limits.event_bytes", "16777216"),
        ("sources.bodies_bytes", "16777216"),
    ]);
    let map = server.new_map("room");
    let part = vec![b' '; 15 << 20];
    let mut held: Vec<_> = (0..2).map(|_| map.request("POST", "/events").unfinished(16 << 20, &part)).collect();
    let large = json!({"type": "add_system", "payload": {"text": "x".repeat(4 << 20)}});
    eventually("there is no room for a third", || {
        let answer = map.post(&large);
        answer.status == 503 && answer.header("retry-after").is_some()
    });
    assert!(server.metric("stentor_memory_bytes{part=\"bodies\"}") > 2 * (14 << 20), "they are counted");
    held.pop();
    eventually("there is room again", || map.post(&large).status == 201);
}
