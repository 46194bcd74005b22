//! Webhooks as tests make them.

use serde_json::{Value, json};

use super::{Map, TestServer};

/// A server whose webhooks may go to this machine, and a map with webhooks switched on.
pub fn delivering(settings: &[(&str, &str)]) -> (TestServer, Map) {
    let open = [("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")];
    let server = TestServer::start(&[&open, settings].concat());
    let map = server.new_map("m");
    let answer = map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    assert_eq!(answer, json!({"webhooks_enabled": true}));
    (server, map)
}

/// A webhook of the map: its address below the map, and what the 201 said.
#[track_caller]
pub fn webhook(map: &Map, body: Value) -> (String, Value) {
    let made = map.request("POST", "/webhooks").json(&body).send().expect(201)["data"].clone();
    (format!("/webhooks/{}", made["id"].as_str().expect("an id")), made)
}

/// The deliveries of a webhook, as its list shows them.
#[track_caller]
pub fn deliveries(map: &Map, webhook: &str, query: &str) -> Vec<Value> {
    let list = map.request("GET", &format!("{webhook}/deliveries?{query}")).send().expect(200);
    list["data"].as_array().expect("a list").clone()
}
