//! What the dashboard stands on: its files, who is logged in, and what a webhook would send.

use serde_json::json;

use crate::support::TestServer;

#[test]
fn the_files_of_the_dashboard_come_with_their_type_a_policy_and_a_tag() {
    let server = TestServer::start(&[]);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/stentor.js", "text/javascript; charset=utf-8"),
        ("/app/main.js", "text/javascript; charset=utf-8"),
        ("/app/base.css", "text/css; charset=utf-8"),
        ("/vendor/preact.js", "text/javascript; charset=utf-8"),
        ("/vendor/notice.txt", "text/plain; charset=utf-8"),
    ] {
        let answer = server.request("GET", path).send();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = server.request("GET", path).header("If-None-Match", &format!("\"x\", W/{tag}")).send();
        assert_eq!((again.status, again.text()), (304, ""), "{path}");
    }
}

#[test]
fn no_path_leads_out_of_the_folder_of_the_dashboard() {
    let server = TestServer::start(&[]);
    for path in [
        "/app/",
        "/app/..%2findex.html",
        "/app/%2e%2e/index.html",
        "/app/../../Cargo.toml",
        "/vendor/..%5cindex.html",
        "/app/none.js",
        "/app/a/b.js",
        "/tests/page.html",
    ] {
        assert_eq!(server.request("GET", path).send().status, 404, "{path}");
    }
}

#[test]
fn a_token_is_told_what_it_may_do_whatever_its_scopes() {
    let server = TestServer::start(&[]);
    let map = server.new_map("who");
    let admin = server.admin("GET", "/api/v1/tokens/current").send().expect(200)["data"].clone();
    assert_eq!((&admin["admin"], &admin["channel"]), (&json!(true), &json!(null)));
    assert_eq!(admin["scopes"], json!(["subscribe", "publish", "manage"]));
    let (id, token) =
        map.new_token(json!({"scopes": ["publish"], "name": "bot", "expires_at": "2999-01-01T00:00:00Z"}));
    let told = server.request("GET", "/api/v1/tokens/current").bearer(&token).send().expect(200);
    assert_eq!(
        told["data"],
        json!({"id": id, "admin": false, "channel": format!("map:{}", map.id), "scopes": ["publish"], "name": "bot",
            "expires_at": "2999-01-01T00:00:00.000Z"})
    );
    let nobody = server.request("GET", "/api/v1/tokens/current").bearer("st_wrong").send();
    assert_eq!(nobody.status, 401);
}

#[test]
fn a_preview_shows_what_would_be_sent_and_what_is_wrong_with_a_template() {
    let server = TestServer::start(&[]);
    let map = server.new_map("preview");
    let preview = |body| map.request("POST", "/webhooks/preview").json(&body).send();
    let made = preview(json!({"format": "map", "event_type": "map_kill"})).expect(200)["data"].clone();
    assert_eq!(made["headers"]["X-Wanderer-Event"], "map_kill");
    let body: serde_json::Value = serde_json::from_str(made["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&body["type"], &body["map_id"]), (&json!("map_kill"), &json!(map.id)));
    assert!(body["payload"].as_object().is_some_and(|payload| !payload.is_empty()), "a sample of the catalogue");

    let discord = preview(json!({"format": "discord"})).expect(200)["data"].clone();
    assert!(discord["body"].as_str().is_some_and(|body| body.contains("embeds")), "{discord}");
    let own = json!({"format": "template", "template": "{\"text\": {{ event.type }}}", "event_type": "odd"});
    assert_eq!(preview(own).expect(200)["data"]["body"], r#"{"text":"odd"}"#);

    for (bad, field) in [
        (json!({"format": "template"}), "template"),
        (json!({"format": "template", "template": "{{ event.type"}), "template"),
        (json!({"format": "template", "template": "no JSON"}), "template"),
        (json!({"format": "map", "event_type": "not a type"}), "event_type"),
    ] {
        assert_eq!(preview(bad).expect(400)["details"][0]["field"], field);
    }
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"]}));
    let refused = map.with_token(&reader).request("POST", "/webhooks/preview").json(&json!({"format": "map"})).send();
    assert_eq!(refused.status, 403);
}

#[test]
fn below_a_path_of_a_proxy_every_address_that_is_told_bears_that_path() {
    let server = TestServer::start(&[("server.public_url", "https://events.example.org/live/v2")]);
    let (map, org) = (server.new_map("prefix"), server.new_organization("Prefix"));
    // a request as a proxy hands it on: the path is stripped, and what it says of itself counts for less than the setting
    let get = |path: &str| server.request("GET", path).header("X-Forwarded-Prefix", "/other").send();
    let openapi = get("/openapi.json").expect(200);
    assert_eq!(openapi["servers"][0]["url"], "https://events.example.org/live/v2");
    let asyncapi = get("/asyncapi.json").expect(200);
    for (name, protocol) in [("http", "https"), ("websocket", "wss")] {
        let server = &asyncapi["servers"][name];
        let told = (&server["host"], &server["protocol"], &server["pathname"]);
        assert_eq!(told, (&json!("events.example.org"), &json!(protocol), &json!("/live/v2")));
    }
    let ticket = map.request("POST", "/events/ticket").send().expect(201);
    let url = ticket["data"]["url"].as_str().expect("an address");
    assert!(url.starts_with(&format!("https://events.example.org/live/v2/api/maps/{}/events/stream?ticket=", map.id)));
    let url = org.ask_ticket(&json!({})).expect(201)["url"].as_str().expect("an address").to_owned();
    assert!(url.starts_with("wss://events.example.org/live/v2/api/v1/realtime?ticket="), "{url}");
    let source = map.of_server("POST", "/api/webhooks").json(&json!({"authentication": "none"})).send().expect(201);
    let url = source["endpoint"]["url"].as_str().expect("an address");
    assert!(url.starts_with("https://events.example.org/live/v2/webhooks/wh_"), "{url}");
    // pages load what they need from beside themselves, wherever that is
    for page in ["/", "/docs", "/docs/webhooks", "/docs/operations/nginx", "/docs/search?q=nginx", "/docs/reference"] {
        let text = get(page).text().to_owned();
        for attribute in ["href=\"/", "src=\"/"] {
            assert!(!text.contains(attribute), "{page} has {attribute}");
        }
    }
    assert!(!get("/app/docs.js").text().contains("'/openapi.json'"));
}

#[test]
fn a_proxy_that_is_trusted_names_the_path_below_which_it_serves() {
    let server = TestServer::start(&[]);
    let get = |path: &str, prefix: &str| {
        let request = server.request("GET", path).header("X-Forwarded-Proto", "https");
        request.header("X-Forwarded-Host", "events.example.org").header("X-Forwarded-Prefix", prefix).send().expect(200)
    };
    assert_eq!(get("/openapi.json", "/live")["servers"][0]["url"], "/live/");
    let of_async = &get("/asyncapi.json", "/live")["servers"]["websocket"];
    assert_eq!((&of_async["host"], &of_async["pathname"]), (&json!("events.example.org"), &json!("/live")));
    assert_eq!(of_async["protocol"], "wss");
    // more names than are kept are served all the same
    for n in 0..20 {
        assert_eq!(get("/openapi.json", &format!("/p{n}"))["servers"][0]["url"], format!("/p{n}/"));
    }
    let plain = server.request("GET", "/openapi.json").send().expect(200);
    assert_eq!(plain["servers"][0]["url"], "/");
}
