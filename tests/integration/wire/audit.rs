//! Who did what, as events of the organization `system`.

use serde_json::{Value, json};

use crate::support::{TestServer, eventually};

/// The audit events of these types, the oldest first.
fn told(server: &TestServer, types: &str) -> Vec<Value> {
    let path = format!("/api/v1/organizations/system/events?events={types}");
    let page = server.admin("GET", &path).send().expect(200);
    page["data"].as_array().expect("a list").clone()
}

/// What is told next of a type, after `before` events of it.
fn next(server: &TestServer, kind: &str, before: usize) -> Value {
    let mut found = Value::Null;
    eventually(kind, || {
        let events = told(server, kind);
        found = events.get(before).map_or(Value::Null, |event| event["payload"].clone());
        events.len() == before + 1
    });
    assert!(found["at"].is_string(), "{found}");
    found
}

#[test]
fn changes_of_what_is_configured_are_told_with_who_made_them() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("audited");
    let channel = format!("map:{}", map.id);
    let mine = server.request("GET", "/api/v1/tokens/current").bearer(&map.token).send().expect(200);
    let me = mine["data"]["id"].clone();

    let (id, token) = map.new_token(json!({"scopes": ["subscribe"], "name": "bot"}));
    let made = next(&server, "token.created", 0);
    assert_eq!((&made["token_id"], &made["channel"], &made["by"]), (&json!(id), &json!(channel), &me));
    assert_eq!((&made["scopes"], &made["name"]), (&json!(["subscribe"]), &json!("bot")));
    assert!(!made.to_string().contains(&token));
    assert_eq!(server.admin("DELETE", &format!("/api/v1/tokens/{id}")).send().status, 204);
    let revoked = next(&server, "token.revoked", 0);
    assert_eq!((&revoked["token_id"], &revoked["by"]), (&json!(id), &json!("admin")));

    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    assert_eq!(next(&server, "channel.changed", 0)["change"], "webhooks_toggled");
    let webhook = map
        .request("POST", "/webhooks")
        .json(&json!({"url": "http://127.0.0.1:9/x", "name": "Orders"}))
        .send()
        .expect(201);
    let webhook = webhook["data"]["id"].as_str().expect("an id").to_string();
    let one = format!("/webhooks/{webhook}");
    let expect = |before: usize, change: &str| {
        let told = next(&server, "webhook.changed", before);
        assert_eq!((&told["webhook_id"], &told["change"]), (&json!(webhook), &json!(change)), "{told}");
        assert_eq!((&told["channel"], &told["by"]), (&json!(channel), &me));
        assert_eq!((&told["name"], &told["host"]), (&json!("Orders"), &json!("127.0.0.1:9")), "as people know it");
    };
    expect(0, "created");
    map.request("PATCH", &one).json(&json!({"events": ["add_system"]})).send().expect(200);
    expect(1, "updated");
    map.request("POST", &format!("{one}/rotate-secret")).send().expect(200);
    expect(2, "secret_rotated");
    assert_eq!(map.request("DELETE", &one).send().status, 204);
    expect(3, "deleted");

    let source = json!({"name": "game", "authentication": "api_key"});
    let source = server.request("POST", "/api/webhooks").bearer(&map.token).json(&source).send().expect(201);
    let source = source["endpoint"]["id"].as_str().expect("an id").to_string();
    assert_eq!(next(&server, "source.changed", 0)["change"], "created");
    assert_eq!(server.admin("DELETE", &format!("/api/webhooks/{source}")).send().status, 204);
    let deleted = next(&server, "source.changed", 1);
    assert_eq!((&deleted["source_id"], &deleted["change"]), (&json!(source), &json!("deleted")));
    map.request("PATCH", "").json(&json!({"name": "renamed"})).send().expect(200);
    assert_eq!(next(&server, "channel.changed", 1)["change"], "updated");
    assert_eq!(map.request("DELETE", "").send().status, 204);
    let deleted = next(&server, "channel.changed", 2);
    assert_eq!((&deleted["channel"], &deleted["change"]), (&json!(channel), &json!("deleted")));
    assert_eq!(server.admin("POST", "/api/v1/backup").send().status, 200);
    assert_eq!(next(&server, "backup.taken", 0)["by"], "admin");
}

#[test]
fn a_request_that_changes_nothing_is_not_told() {
    let server = TestServer::start(&[]);
    let map = server.new_map("quiet");
    let body = json!({"channel": format!("map:{}", map.id), "scopes": []});
    server.admin("POST", "/api/v1/tokens").json(&body).send().expect(400);
    server.admin("DELETE", "/api/v1/tokens/tok_nothing").send().expect(404);
    map.request("POST", "/webhooks").json(&json!({"url": "nowhere"})).send().expect(400);
    let (id, _) = map.new_token(json!({"scopes": ["publish"]}));
    // events are told in order
    assert_eq!(next(&server, "token.created", 0)["token_id"], json!(id));
    assert_eq!(told(&server, "token.revoked,webhook.changed,channel.changed,login.failed"), Vec::<Value>::new());
}

#[test]
fn wrong_credentials_are_told_once_for_an_address_and_minute_and_a_flood_of_addresses_is_summed_up() {
    let server = TestServer::start(&[]);
    let from = |address: &str| {
        server.request("GET", "/api/v1/tokens").bearer("st_wrong").header("X-Forwarded-For", address).send()
    };
    for _ in 0..20 {
        from("203.0.113.7").expect(401);
    }
    server.request("GET", "/api/v1/tokens").send().expect(401);
    from("2001:db8::17").expect(401);
    let addresses = || -> Vec<Value> {
        told(&server, "login.failed").iter().map(|event| event["payload"]["address"].clone()).collect()
    };
    eventually("both are told", || addresses().contains(&json!("2001:db8::17")));
    // a minute may have ended meanwhile
    let times = addresses().iter().filter(|address| **address == "203.0.113.7").count();
    assert!((1..=2).contains(&times) && addresses().len() <= 4, "{:?}", addresses());

    for n in 0..200 {
        from(&format!("198.51.100.{n}")).expect(401);
    }
    from("192.0.2.200").expect(401);
    let all = addresses().len();
    assert!((30..=66).contains(&all), "{all} of 202 addresses are told");
    let first = &told(&server, "login.failed")[0];
    assert!(!first.to_string().contains("st_wrong"), "{first}");
}
