//! Maps as objects: create, list, change, delete; the catalogue; CORS; health.

use serde_json::{Value, json};

use crate::support::{Request, TestServer};

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_new_map_is_shown_with_its_token_once() {
    let server = TestServer::start(&[]);
    let asked = json!({"name": "Home chain", "slug": "home", "id": "9B2F1C3E-1111-4222-8333-444455556666"});
    let made = server.admin("POST", "/api/maps").json(&asked).send().expect(201);
    let map = &made["data"];
    assert_eq!(
        (&map["id"], &map["slug"], &map["name"], &map["webhooks_enabled"]),
        (&"9b2f1c3e-1111-4222-8333-444455556666".into(), &"home".into(), &"Home chain".into(), &false.into())
    );
    let token = map["token"].as_str().expect("a token");
    for identifier in ["home", "9b2f1c3e-1111-4222-8333-444455556666", "9B2F1C3E-1111-4222-8333-444455556666"] {
        let target = format!("/api/maps/{identifier}");
        let shown = server.request("GET", &target).bearer(token).send().expect(200);
        assert_eq!(shown["data"]["id"], map["id"]);
        assert!(!keys(&shown["data"]).contains(&"token"), "{shown}");
        let by_key = server.request("GET", &target).header("X-API-Key", token).send();
        assert_eq!(by_key.expect(200), shown, "X-API-Key is as good as a Bearer");
    }
}

#[test]
fn a_list_is_not_taken_for_the_fields_of_an_object() {
    let server = TestServer::start(&[]);
    for body in [json!(["n", null, null]), json!([])] {
        let refused = server.admin("POST", "/api/maps").json(&body).send().expect(400);
        assert_eq!(refused["details"][0]["message"], "a JSON object is expected", "{refused}");
    }
}

#[test]
fn a_second_map_with_the_same_slug_or_id_is_a_conflict() {
    let server = TestServer::start(&[]);
    let id = "9b2f1c3e-1111-4222-8333-444455556666";
    server.admin("POST", "/api/maps").json(&json!({"name": "a", "slug": "home", "id": id})).send().expect(201);
    for body in [json!({"name": "b", "slug": "home"}), json!({"name": "b", "id": id})] {
        assert_eq!(server.admin("POST", "/api/maps").json(&body).send().expect(409)["code"], "CONFLICT");
    }
}

#[test]
fn only_the_admin_makes_maps_and_everyone_lists_only_what_is_theirs() {
    let server = TestServer::start(&[]);
    let (a, b) = (server.new_map("a"), server.new_map("b"));
    let refused = server.request("POST", "/api/maps").bearer(&a.token).json(&json!({"name": "c"})).send();
    assert_eq!(refused.expect(403)["code"], "FORBIDDEN");
    let list = |token: &str| {
        let list = server.request("GET", "/api/maps").bearer(token).send().expect(200);
        let list = list["data"].as_array().expect("a list").clone();
        list.iter().map(|map| map["id"].as_str().expect("an id").to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(&a.token), std::slice::from_ref(&a.id));
    assert_eq!(list(crate::support::server::ADMIN), [a.id.clone(), b.id.clone()]);
}

#[test]
fn a_change_of_a_map_touches_only_what_it_names_and_outlives_a_restart() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("before");
    let before = map.request("GET", "").send().expect(200);
    let after = map.request("PATCH", "").json(&json!({"name": "after"})).send().expect(200);
    assert_eq!((&after["data"]["name"], &after["data"]["slug"]), (&"after".into(), &before["data"]["slug"]));
    server.restart();
    assert_eq!(map.at(&server).request("GET", "").send().expect(200), after);
}

#[test]
fn a_deleted_map_is_gone_with_its_tokens_and_its_streams_end() {
    let server = TestServer::start(&[]);
    let map = server.new_map("doomed");
    let mut stream = map.stream("");
    assert_eq!(map.request("DELETE", "").send().status, 204);
    stream.ends_within(std::time::Duration::from_secs(2));
    assert_eq!(map.request("GET", "").send().status, 401);
    let gone = server.admin("GET", &format!("/api/maps/{}", map.id)).send();
    gone.expect_error(404, "NOT_FOUND", &format!("Map not found for identifier: {}", map.id));
}

#[test]
fn the_catalogue_has_every_type_of_every_family_with_example_and_schema() {
    let server = TestServer::start(&[]);
    let types = server.request("GET", "/api/event-types?family=maps").send().expect(200);
    let names: Vec<_> =
        types["data"].as_array().expect("a list").iter().map(|t| t["type"].as_str().unwrap_or("")).collect();
    let promised = "add_system deleted_system system_renamed system_metadata_changed connection_added \
        connection_removed connection_updated signature_added signature_removed signatures_updated character_added \
        character_removed character_updated characters_updated map_kill acl_member_added acl_member_removed \
        acl_member_updated rally_point_added rally_point_removed structure_added structure_removed structure_updated \
        structure_timer";
    for name in promised.split_whitespace() {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    for info in types["data"].as_array().expect("a list") {
        assert!(info["description"].is_string() && info["example"].is_object() && info["schema"].is_object(), "{info}");
    }
    for (family, size, one) in
        [("organizations", 18, "poll.recap"), ("feed", 9, "entries_created"), ("system", 17, "storage.low_disk")]
    {
        let types = server.request("GET", &format!("/api/event-types?family={family}")).send().expect(200);
        let types = types["data"].as_array().expect("a list");
        assert_eq!((types.len(), types.iter().any(|t| t["type"] == one)), (size, true), "{family}");
        assert!(types.iter().all(|t| t["family"] == family), "{family}");
    }
    let all = server.request("GET", "/api/event-types").send().expect(200);
    assert_eq!(all["data"].as_array().map(Vec::len), Some(24 + 18 + 9 + 17));
    assert_eq!(server.request("GET", "/api/event-types?family=none").send().expect(400)["code"], "INVALID_PARAMETER");
}

#[test]
fn pages_of_every_origin_may_call_by_default() {
    let server = TestServer::start(&[]);
    let map = server.new_map("cors");
    let preflight = map
        .anonymous("OPTIONS", "/events/stream")
        .header("Origin", "https://tools.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization,last-event-id")
        .send();
    assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    let allowed = preflight.header("access-control-allow-headers").expect("headers").to_ascii_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("last-event-id"), "{allowed}");
    let stream =
        crate::support::Sse::open(map.request("GET", "/events/stream").header("Origin", "https://tools.example"));
    assert_eq!(stream.answer.header("access-control-allow-origin"), Some("*"));
    let refused = map.anonymous("GET", "").header("Origin", "https://tools.example").send();
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("*")));
}

#[test]
fn pages_of_other_origins_than_those_allowed_get_no_permission() {
    let server = TestServer::start(&[("cors.allowed_origins", "https://good.example")]);
    let map = server.new_map("cors");
    let asked = |origin: &str| map.request("GET", "").header("Origin", origin).send();
    assert_eq!(asked("https://good.example").header("access-control-allow-origin"), Some("https://good.example"));
    assert_eq!(asked("https://evil.example").header("access-control-allow-origin"), None);
    let upgrade = map
        .request("GET", "/events/ws")
        .header("Origin", "https://evil.example")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let (answer, _) = upgrade.open().expect("an answer");
    assert_eq!(answer.status, 403);
}

#[test]
fn health_and_metrics_need_no_token() {
    let server = TestServer::start(&[]);
    for target in ["/health/live", "/health/ready", "/metrics", "/"] {
        assert_eq!(Request::new(server.addr(), "GET", target).send().status, 200, "{target}");
    }
}
