//! Tokens after they were made: their last use, another name, another end.

use std::time::Duration;

use actors::clock;
use actors::model::timestamp;
use serde_json::{Value, json};

use crate::support::server::ADMIN;
use crate::support::{Sse, TestServer, eventually};

/// The token in the list of the admin.
fn listed(server: &TestServer, id: &str) -> Value {
    let page = server.admin("GET", "/api/v1/tokens").send().expect(200);
    let all = page["data"].as_array().expect("a list").clone();
    all.into_iter().find(|token| token["id"] == id).expect("it is listed")
}

#[test]
fn the_last_use_of_a_token_is_told_also_after_a_restart() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("home");
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"]}));
    assert_eq!(listed(&server, &id)["last_used_at"], Value::Null);
    map.with_token(&token).history("");
    let used = listed(&server, &id)["last_used_at"].clone();
    assert!(used.is_string(), "{used}");
    server.stop();
    server.restart();
    assert_eq!(listed(&server, &id)["last_used_at"], used);
}

#[test]
fn the_last_use_of_a_token_stays_when_the_token_is_changed_and_goes_on_after_a_kill() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("home");
    let (id, token) = map.new_token(json!({"scopes": ["publish"]}));
    map.with_token(&token).publish(&json!([{"type": "add_system", "payload": {}}]));
    let used = listed(&server, &id)["last_used_at"].clone();
    assert!(used.is_string(), "{used}");
    let target = format!("/api/v1/tokens/{id}");
    let changed = server.admin("PATCH", &target).json(&json!({"name": "bot"})).send().expect(200);
    assert_eq!(changed["data"]["last_used_at"], used);
    server
        .request("POST", &format!("/api/maps/{}/events", map.id))
        .bearer("st_of_nobody")
        .json(&json!({"type": "a"}))
        .send()
        .expect(401);
    server.restart();
    let map = map.at(&server);
    assert_eq!(listed(&server, &id)["name"], "bot");
    map.with_token(&token).publish(&json!([{"type": "add_system", "payload": {}}]));
    let later = listed(&server, &id)["last_used_at"].clone();
    assert!(later.as_str() >= used.as_str(), "{later}");
}

#[test]
fn the_first_token_of_a_channel_tells_whose_it_is_or_has_the_name_that_is_given() {
    let server = TestServer::start(&[]);
    let long = "é".repeat(100);
    for (path, name, given, wanted) in [
        ("/api/maps", "Home chain", Value::Null, "first token of Home chain".to_owned()),
        ("/api/maps", "Other", json!("the wall"), "the wall".to_owned()),
        ("/api/v1/organizations", "Works", json!("Ann"), "Ann".to_owned()),
        ("/api/v1/organizations", "Acme", Value::Null, "first token of Acme".to_owned()),
        ("/api/v1/organizations", long.as_str(), Value::Null, format!("first token of {}", "é".repeat(92))),
    ] {
        let mut body = json!({ "name": name });
        if !given.is_null() {
            body[if path == "/api/maps" { "token_name" } else { "tokenName" }] = given;
        }
        let made = server.admin("POST", path).json(&body).send().expect(201);
        let token = made["data"]["token"].as_str().expect("a token").to_owned();
        let own = server.request("GET", "/api/v1/tokens/current").bearer(&token).send().expect(200);
        assert_eq!(own["data"]["name"], wanted);
    }
    let refused = server.admin("POST", "/api/maps").json(&json!({"name": "Home", "token_name": ""})).send().expect(400);
    assert!(refused.to_string().contains("token_name"), "{refused}");
}

#[test]
fn a_token_gets_another_name_and_another_end_by_which_its_streams_go() {
    let server = TestServer::start(&[]);
    let (map, other) = (server.new_map("home"), server.new_map("other"));
    let (id, token) = map.new_token(json!({"scopes": ["subscribe"], "name": "bot"}));
    let target = format!("/api/v1/tokens/{id}");
    let change = |by: &str, body: &Value| server.request("PATCH", &target).bearer(by).json(body).send();
    let mut stream = Sse::open(map.with_token(&token).request("GET", "/events/stream"));
    let renamed = change(&map.token, &json!({"name": "wall"})).expect(200);
    assert_eq!((&renamed["data"]["name"], &renamed["data"]["expires_at"]), (&json!("wall"), &Value::Null));
    let ended = change(&map.token, &json!({"expires_at": "2999-01-01T00:00:00Z"})).expect(200);
    assert_eq!(
        (&ended["data"]["name"], &ended["data"]["expires_at"]),
        (&json!("wall"), &json!("2999-01-01T00:00:00.000Z"))
    );
    let near = timestamp::to_iso(clock::now_ms() + 1_000);
    change(&map.token, &json!({"expires_at": near})).expect(200);
    stream.ends_within(Duration::from_secs(5));
    assert_eq!(map.with_token(&token).request("GET", "/events").send().status, 401);
    let endless = change(ADMIN, &json!({"expires_at": null, "name": null})).expect(200);
    assert_eq!((&endless["data"]["name"], &endless["data"]["expires_at"]), (&Value::Null, &Value::Null));
    for bad in [
        json!({"expires_at": "2001-01-01T00:00:00Z"}),
        json!({"expires_at": "soon"}),
        json!({"name": ""}),
        json!({"scopes": []}),
    ] {
        change(&map.token, &bad).expect(400);
    }
    change(&other.token, &json!({"name": "mine"})).expect(404);
    change(&token, &json!({"name": "mine"})).expect(403);
    // what changes nothing is not on record
    change(&map.token, &json!({})).expect(200);
    change(ADMIN, &json!({"name": null})).expect(200);
    eventually("it is on record", || {
        let told = server.admin("GET", "/api/v1/organizations/system/events?events=token.changed").send().expect(200);
        told["data"].as_array().is_some_and(|events| events.len() == 4)
    });
}

#[test]
fn the_admin_may_name_the_channel_of_a_token_in_the_address() {
    let server = TestServer::start(&[]);
    let (map, other) = (server.new_map("home"), server.new_map("other"));
    let ask = |token: &str, query: &str| {
        let request = server.request("POST", &format!("/api/v1/tokens{query}")).bearer(token);
        request.json(&json!({"scopes": ["subscribe"]})).send()
    };
    let named = format!("?channel=map:{}", map.id);
    for token in [ADMIN, &map.token] {
        for query in [&named, "?channel=map:home"] {
            assert_eq!(ask(token, query).expect(201)["data"]["channel"], format!("map:{}", map.id), "{query}");
        }
    }
    assert_eq!(ask(&map.token, "").expect(201)["data"]["channel"], format!("map:{}", map.id));
    ask(&other.token, &named).expect(404);
    ask(ADMIN, "?channel=map:nowhere").expect(404);
    assert_eq!(ask(ADMIN, "").expect(400)["error"]["details"]["errors"][0]["field"], "channel");
}
