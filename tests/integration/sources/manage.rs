//! Making, changing and deleting sources, and who may.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{KEY, Source, now_ms};
use crate::support::server::ADMIN;
use crate::support::{Map, Receiver, Request, TestServer, webhooks};

#[track_caller]
fn refused(map: &Map, body: Value) -> Vec<String> {
    let answer = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&body).send().expect(400);
    assert_eq!(answer["code"], "VALIDATION_FAILED", "{answer}");
    answer["details"]
        .as_array()
        .expect("details")
        .iter()
        .map(|d| d["field"].as_str().expect("a field").into())
        .collect()
}

#[test]
fn a_new_source_is_shown_with_exactly_what_is_promised_and_a_made_key_once() {
    let server = TestServer::start(&[("server.public_url", "https://events.example.org")]);
    let map = server.new_map("shape");
    let (source, made) =
        Source::new(&map, json!({"name": "Game Server Events", "authentication": "hmac", "secretKey": KEY}));
    let created = made["endpoint"]["createdAt"].clone();
    assert!(created.as_str().is_some_and(|at| at.ends_with('Z')), "{created}");
    let expected = json!({"endpoint": {"id": source.id, "url": format!("https://events.example.org/webhooks/{}", source.id),
        "name": "Game Server Events", "channel": format!("map:{}", map.id), "authentication": "hmac", "createdAt": created,
        "eventsReceived": 0, "lastEventAt": null, "status": "active"}});
    assert_eq!(made, expected);
    for authentication in ["api_key", "hmac", "standard", "github"] {
        let (source, made) = Source::new(&map, json!({"authentication": authentication}));
        let secret = made["secret"].as_str().expect("a secret that was made");
        assert!(secret.len() >= 40, "{secret}");
        for path in ["", "/status"] {
            let seen = source.manage(&map.token, "GET", path).send();
            assert!(!seen.text().contains(secret) && !seen.text().contains("\"secret\""));
        }
    }
    let (_, made) = Source::new(&map, json!({"authentication": "jwt", "jwt": {"algorithm": "HS256"}}));
    assert!(made["secret"].is_string());
}

#[test]
fn what_is_not_certain_is_refused_so_that_no_address_is_open_by_mistake() {
    let server = TestServer::start(&[]);
    let map = server.new_map("closed");
    for (body, fields) in [
        (json!({}), vec!["authentication"]),
        (json!({"authentication": null}), vec!["authentication"]),
        (json!({"authentication": "hmack"}), vec!["authentication"]),
        (json!({"authentication": "HMAC"}), vec!["authentication"]),
        (json!({"authentication": ""}), vec!["authentication"]),
        (json!({"authentication": "hmac", "secretKey": ""}), vec!["secretKey"]),
        (json!({"authentication": "hmac", "secretKey": null}), vec!["secretKey"]),
        (json!({"authentication": "hmac", "apiKey": "x"}), vec!["apiKey"]),
        (json!({"authentication": "hmac", "hmacAlgorithm": "md5"}), vec!["hmacAlgorithm"]),
        (json!({"authentication": "api_key", "apiKey": ""}), vec!["apiKey"]),
        (json!({"authentication": "api_key", "apiKey": "two words"}), vec!["apiKey"]),
        (json!({"authentication": "none", "secretKey": "x"}), vec!["secretKey"]),
        (json!({"authentication": "stripe"}), vec!["secretKey"]),
        (json!({"authentication": "slack"}), vec!["secretKey"]),
        (json!({"authentication": "standard", "secretKey": "whsec_short"}), vec!["secretKey"]),
        (json!({"authentication": "jwt"}), vec!["jwt"]),
        (json!({"authentication": "jwt", "jwt": {"algorithm": "none"}}), vec!["jwt", "jwt"]),
        (json!({"authentication": "jwt", "jwt": {"algorithm": "HS256", "key": ""}}), vec!["jwt.key"]),
        (json!({"authentication": "jwt", "jwt": {"algorithm": "RS256"}}), vec!["jwt.key"]),
        (json!({"authentication": "jwt", "jwt": {"algorithm": "RS256", "key": "no PEM"}}), vec!["jwt.key"]),
        (json!({"authentication": "jwt", "jwt": {"algorithm": "HS256", "issuer": ""}}), vec!["jwt"]),
        (json!({"authentication": "none", "rateLimit": 0}), vec!["rateLimit"]),
        (json!({"authentication": "none", "rateLimit": {"requests": 1}}), vec!["rateLimit"]),
        (json!({"authentication": "none", "schema": {"x": "text"}}), vec!["schema"]),
        (json!({"authentication": "none", "eventType": {"pointer": "type"}}), vec!["eventType"]),
        (json!({"authentication": "none", "secret": "x", "nmae": "y"}), vec!["nmae", "secret"]),
        (json!({"authentication": "none", "name": ""}), vec!["name"]),
    ] {
        let mut named = refused(&map, body.clone());
        named.sort_unstable();
        assert_eq!(named, fields, "{body}");
    }
    let list = Request::new(map.addr, "GET", "/api/webhooks").bearer(&map.token).send().expect(200);
    assert_eq!(list["data"], json!([]));
}

#[test]
fn a_source_belongs_to_a_channel_and_to_nobody_else() {
    let server = TestServer::start(&[]);
    let (mine, theirs) = (server.new_map("mine"), server.new_map("theirs"));
    let (source, other) = (Source::open(&mine), Source::open(&theirs));
    for (method, rest) in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/status"),
        ("POST", "/rotate-secret"),
        ("GET", "/dead-letters"),
        ("DELETE", "/dead-letters"),
        ("POST", "/dead-letters/1/retry"),
        ("GET", "/events"),
        ("POST", "/events/ticket"),
    ] {
        source.manage(&theirs.token, method, rest).send().expect_error(404, "NOT_FOUND", "Webhook not found");
        let absent = Source { id: "wh_0".into(), ..source.clone() };
        absent.manage(ADMIN, method, rest).send().expect_error(404, "NOT_FOUND", "Webhook not found");
        assert_eq!(Request::new(source.addr, method, &format!("/api/webhooks/{}{rest}", source.id)).send().status, 401);
    }
    let (_, reader) = mine.new_token(json!({"scopes": ["subscribe", "publish"]}));
    assert_eq!(source.manage(&reader, "GET", "").send().expect(403)["code"], "FORBIDDEN");
    let make =
        Request::new(mine.addr, "POST", "/api/webhooks").bearer(&reader).json(&json!({"authentication": "none"}));
    assert_eq!(make.send().status, 403);
    let elsewhere = json!({"authentication": "none", "channel": format!("map:{}", theirs.id)});
    let make = Request::new(mine.addr, "POST", "/api/webhooks").bearer(&mine.token).json(&elsewhere);
    assert_eq!(make.send().status, 404);
    let seen = |token: &str, query: &str| -> Vec<Value> {
        let list = Request::new(mine.addr, "GET", &format!("/api/webhooks{query}")).bearer(token).send().expect(200);
        list["data"].as_array().expect("a list").iter().map(|source| source["id"].clone()).collect()
    };
    assert_eq!(seen(&mine.token, ""), [source.id.as_str()]);
    assert_eq!(seen(ADMIN, ""), [source.id.as_str(), other.id.as_str()]);
    assert_eq!(seen(ADMIN, &format!("?channel=map:{}", theirs.id)), [other.id.as_str()]);
}

#[test]
fn an_admin_who_names_no_channel_means_the_organization_that_is_there_from_the_beginning() {
    let server = TestServer::start(&[]);
    let make = |body: Value| server.admin("POST", "/api/webhooks").json(&body).send();
    let made = make(json!({"authentication": "none"})).expect(201);
    assert_eq!(made["endpoint"]["channel"], "organization:default");
    let source = Source { addr: server.addr(), id: made["endpoint"]["id"].as_str().expect("an id").into() };
    source.post(&json!({"event_type": "a"})).expect(200);
    let events = server.admin("GET", "/api/v1/organizations/default/events").send().expect(200);
    assert_eq!(events["data"][0]["payload"]["source"], source.id);
    let system = make(json!({"authentication": "none", "channel": "organization:system"}));
    assert_eq!(system.expect(403)["code"], "FORBIDDEN");
    assert_eq!(make(json!({"authentication": "none", "channel": "map:nowhere"})).status, 404);
}

#[test]
fn a_patch_changes_what_it_names_and_a_paused_source_takes_nothing() {
    let server = TestServer::start(&[]);
    let map = server.new_map("patch");
    let source = Source::hmac(&map);
    let patch = |body: Value| source.manage(&map.token, "PATCH", "").json(&body).send();
    let changed = patch(json!({"name": "Other", "schema": {"x": "number"}, "rateLimit": 600})).expect(200);
    assert_eq!(changed["endpoint"]["name"], "Other");
    assert_eq!(changed["endpoint"]["rateLimit"], json!({"requests": 600, "perSeconds": 60}));
    assert_eq!(changed["endpoint"]["schema"], json!({"x": "number"}));
    // what was read can be sent back
    assert_eq!(patch(changed["endpoint"].clone()).expect(200)["endpoint"]["name"], "Other");
    let body = r#"{"event_type":"a"}"#;
    assert_eq!(patch(json!({"status": "paused"})).expect(200)["endpoint"]["status"], "paused");
    let paused = source.signed(body, now_ms()).send();
    assert_eq!(
        (paused.expect(503)["code"].as_str(), paused.header("retry-after")),
        (Some("SOURCE_PAUSED"), Some("60"))
    );
    assert_eq!(source.request("").body(body).send().status, 401, "only a sender learns that it is paused");
    patch(json!({"status": "active"})).expect(200);
    source.signed(body, now_ms()).send().expect(200);
    for (body, field) in [
        (json!({"authentication": "none"}), "authentication"),
        (json!({"secretKey": "x"}), "secretKey"),
        (json!({"status": "off"}), "status"),
        (json!({"channel": "map:elsewhere"}), "channel"),
        (json!({"jwt": {"issuer": "x"}}), "jwt"),
        (json!({"unknown": 1}), "unknown"),
    ] {
        assert_eq!(patch(body.clone()).expect(400)["details"][0]["field"], field, "{body}");
    }
    source.manage(&map.token, "DELETE", "").send().expect(204);
    assert_eq!(source.signed(body, now_ms()).send().status, 404);
    assert_eq!(map.history("").len(), 1, "its events stay");
}

#[test]
fn a_rotated_secret_ends_the_old_one_at_once_or_after_the_time_that_was_asked_for() {
    let server = TestServer::start(&[]);
    let map = server.new_map("rotate");
    let (source, made) = Source::new(&map, json!({"authentication": "api_key"}));
    let works = |key: &Value| {
        let request = source.request("").header("X-API-Key", key.as_str().expect("a key"));
        request.body(r#"{"event_type":"a"}"#).send().status == 200
    };
    let rotate = |body: Value| source.manage(&map.token, "POST", "/rotate-secret").json(&body).send();
    let first = made["secret"].clone();
    let second = rotate(json!({"graceSeconds": 3600})).expect(200)["secret"].clone();
    assert!(works(&first) && works(&second));
    let third = rotate(json!({})).expect(200);
    assert!(!works(&first) && !works(&second) && works(&third["secret"]));
    let given = rotate(json!({"apiKey": "chosen-by-us"})).expect(200);
    assert!(given.get("secret").is_none() && works(&json!("chosen-by-us")) && !works(&third["secret"]));
    for bad in
        [json!({"graceSeconds": -1}), json!({"graceSeconds": 604801}), json!({"secretKey": "x"}), json!({"apiKey": ""})]
    {
        rotate(bad).expect(400);
    }
    assert!(works(&json!("chosen-by-us")));
    let open = Source::open(&map);
    open.manage(&map.token, "POST", "/rotate-secret").send().expect(400);
}

#[test]
fn a_channel_takes_its_sources_with_it_and_has_no_more_than_it_may() {
    let server = TestServer::start(&[("sources.per_channel", "2")]);
    let map = server.new_map("gone");
    let source = Source::open(&map);
    Source::open(&map);
    let third =
        Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&json!({"authentication": "none"}));
    assert_eq!(third.send().expect(409)["code"], "SOURCE_LIMIT");
    map.request("DELETE", "").send().expect(204);
    assert_eq!(source.post(&json!({"event_type": "a"})).status, 404);
    let left = server.admin("GET", "/api/webhooks").send().expect(200);
    assert_eq!(left["data"], json!([]));
}

#[test]
fn with_the_secret_key_of_another_server_there_is_no_start_and_with_its_own_sources_know_their_senders() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("sealed");
    let source = Source::hmac(&map);
    let body = r#"{"event_type":"a"}"#;
    source.signed(body, now_ms()).send().expect(200);
    server.stop();
    let (key, aside) = (server.folder().join("secret-key"), server.folder().join("aside"));
    std::fs::rename(&key, &aside).expect("the key that seals secrets");
    let other = TestServer::start(&[]);
    std::fs::copy(other.folder().join("secret-key"), &key).expect("the key of another server");
    let ended = server.try_launch().expect_err("no sender could be known");
    let said = ended.err.lines().last().unwrap_or_default();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said.contains(&key.display().to_string()) && said.contains("STENTOR_SECRET_KEY"), "{said}");
    std::fs::rename(&aside, &key).expect("the key is back");
    server.launch();
    let (map, source) = (map.at(&server), source.at(&server));
    source.signed(body, now_ms()).send().expect(200);
    assert_eq!(source.request("").body(body).send().status, 401, "and still nobody else");
    assert_eq!(map.history("").len(), 2);
}

#[test]
fn the_secret_key_is_replaced_by_a_start_with_both_and_no_sender_or_receiver_has_to_change() {
    let previous = Arc::new(Mutex::new(None::<String>));
    let given = previous.clone();
    let (server, map) = webhooks::delivering(&[]);
    let mut server = server.prepared(move |mut command| {
        command.envs(given.lock().expect("ours").iter().map(|key| ("STENTOR_PREVIOUS_SECRET_KEY", key)));
        command
    });
    let receiver = Receiver::start(&[]);
    let (hook, made) = webhooks::webhook(&map, json!({"url": receiver.url(), "format": "standard"}));
    let source = Source::hmac(&map);
    let (meta, made_meta) = Source::new(&map, json!({"authentication": "meta", "secretKey": "app"}));
    let (token, body) = (made_meta["verifyToken"].as_str().expect("it is shown"), r#"{"event_type":"a"}"#);
    let asked = format!("/webhooks/{}?hub.mode=subscribe&hub.challenge=42&hub.verify_token={token}", meta.id);
    server.stop();
    let file = server.folder().join("secret-key");
    let first = std::fs::read_to_string(&file).expect("the key that seals secrets");
    std::fs::remove_file(&file).expect("it is taken away");
    let alone = server.try_launch().expect_err("without the key before nothing opens").err;
    assert!(alone.contains("STENTOR_PREVIOUS_SECRET_KEY"), "{alone}");
    // with both; with the new one alone; and the old one is void then
    for given in [Some(first.clone()), None] {
        *previous.lock().expect("ours") = given;
        server.launch();
        let (map, source) = (map.at(&server), source.at(&server));
        source.signed(body, now_ms()).send().expect(200);
        let answer = server.request("GET", &asked).send();
        assert_eq!((answer.status, answer.text()), (200, "42"));
        let test = map.request("POST", &format!("{hook}/test")).send().expect(200)["data"].clone();
        let header = |name: &str| test["request_headers"][name].as_str().expect("a header").to_owned();
        let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
        let signed = format!("{id}.{at}.{}", test["request_body"].as_str().expect("a body"));
        let secret = made["secret"].as_str().expect("it is shown");
        assert_eq!(header("webhook-signature"), format!("v1,{}", standard_signature(secret, &signed)));
        server.stop();
    }
    assert_ne!(std::fs::read_to_string(&file).expect("the new key"), first);
    std::fs::write(&file, first).expect("ours");
    assert_eq!(server.try_launch().expect_err("it is void").code, Some(1));
}

/// The signature of Standard Webhooks, by a key as the server makes it.
fn standard_signature(secret: &str, text: &str) -> String {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[test]
fn what_is_wrong_with_a_recipe_is_said_once() {
    let server = TestServer::start(&[]);
    let map = server.new_map("recipe");
    for authentication in [json!({"scheme": "x"}), json!({"scheme": "hmac"}), json!("nobody"), json!(5)] {
        let asked = json!({"authentication": authentication, "secretKey": "key"});
        let answer = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&asked).send().expect(400);
        let details = answer["details"].as_array().expect("details");
        assert_eq!((details.len(), &details[0]["field"]), (1, &json!("authentication")), "{answer}");
    }
}
