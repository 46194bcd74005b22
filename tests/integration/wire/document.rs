//! `/engine/.config/webhooks.json`: the webhooks of a channel as one document.

use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::random::{Random, seed};
use crate::support::{Organization, Receiver, TestServer, eventually};

const AT: &str = "/engine/.config/webhooks.json";

fn started() -> (TestServer, Organization) {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let organization = server.new_organization("store");
    (server, organization)
}

#[track_caller]
fn put(organization: &Organization, entries: &Value) -> Vec<Value> {
    let answer = organization.request("PUT", AT).json(&json!({ "webhooks": entries })).send().expect(200);
    answer["webhooks"].as_array().expect("the document").clone()
}

#[track_caller]
fn got(organization: &Organization) -> Value {
    organization.request("GET", AT).send().expect(200)
}

fn entry(id: &str, url: &str) -> Value {
    json!({"id": id, "url": url, "events": ["entries_created"], "secret": "secret"})
}

/// `sha256=` and the hex HMAC-SHA256, as a receiver computes it.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn created(path: &str) -> Value {
    json!({"event_type": "entries_created", "payload": {"entries": [{"path": path}]}})
}

#[test]
fn the_receiver_verifies_by_a_vector_of_others() {
    let expected = "sha256=b82fcb791acec57859b989b430a826488ce2e479fdf92326bd0a2e8375a42ba4";
    assert_eq!(signature("secret", b"payload"), expected);
}

#[test]
fn what_is_put_is_delivered_at_once_with_the_headers_of_the_feed_and_never_shows_its_secret() {
    let (_server, organization) = started();
    assert_eq!(got(&organization), json!({"webhooks": []}));
    let receiver = Receiver::start(&[]);
    let mut first = entry("backup", &receiver.url());
    first["path_prefix"] = "/data/".into();
    let entries = put(&organization, &json!([first]));
    assert_eq!((&entries[0]["id"], &entries[0]["active"]), (&"backup".into(), &true.into()));
    assert_eq!((&entries[0]["events"], &entries[0]["path_prefix"]), (&json!(["entries_created"]), &"/data/".into()));
    let answer = organization.request("GET", AT).send();
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    organization
        .publish(&json!([created("/logs/a"), {"event_type": "entries_deleted", "payload": {"path": "/data/"}}]));
    let ids = organization.publish(&created("/data/report.pdf"));
    let delivered = receiver.expect(1).remove(0);
    let body = delivered.json();
    assert_eq!(body["payload"]["entries"][0]["path"], "/data/report.pdf");
    let keys: Vec<&str> = body.as_object().expect("an envelope").keys().map(String::as_str).collect();
    assert_eq!(keys, ["event_id", "event_type", "timestamp", "payload"]);
    assert_eq!(delivered.header("X-AeorDB-Signature"), signature("secret", &delivered.body));
    assert_eq!(delivered.header("X-AeorDB-Event"), "entries_created");
    assert_eq!((delivered.header("X-AeorDB-Delivery"), &body["event_id"]), (&*ids[0], &ids[0].clone().into()));
    assert!(body["timestamp"].is_u64());
}

#[test]
fn every_bad_entry_is_named_and_then_nothing_has_changed() {
    let (_server, organization) = started();
    put(&organization, &json!([entry("a", "https://93.184.215.14/a"), entry("b", "https://93.184.215.14/b")]));
    let before = got(&organization);
    let bad = json!([
        entry("a", "https://93.184.215.14/changed"),
        entry("c", "http://169.254.169.254/"),
        {"id": "d", "url": "https://93.184.215.14/", "events": ["entries_created"]},
        {"url": 7, "secret": ""},
        "nothing",
        entry("a", "https://93.184.215.14/again"),
        {"id": "e", "url": "https://93.184.215.14/", "events": 5, "active": "yes", "secret": "s", "colour": 1},
        entry(&"x".repeat(129), "https://93.184.215.14/"),
        {"id": "f", "url": "https://93.184.215.14/", "secret": "s", "format": "discord"},
    ]);
    let error = organization.request("PUT", AT).json(&json!({ "webhooks": bad })).send().expect(400);
    assert_eq!((&error["error"], &error["code"]), (&"Validation failed".into(), &"VALIDATION_FAILED".into()));
    let details = error["details"].as_array().expect("details");
    let mut named: Vec<_> =
        details.iter().map(|d| (d["index"].as_u64().unwrap(), d["field"].as_str().unwrap())).collect();
    named.sort_unstable();
    let expected = [
        (1, "url"),
        (2, "secret"),
        (3, "id"),
        (3, "secret"),
        (3, "url"),
        (4, "entry"),
        (5, "id"),
        (6, "active"),
        (6, "colour"),
        (6, "events"),
        (7, "id"),
        (8, "format"),
    ];
    assert_eq!(named, expected, "{error:#}");
    assert!(details.iter().all(|detail| detail["message"].as_str().is_some_and(|message| !message.is_empty())));
    assert_eq!(details.iter().find(|detail| detail["index"] == 1).map(|detail| &detail["id"]), Some(&"c".into()));
    assert_eq!(got(&organization), before);
    for body in [json!([]), json!({}), json!({"webhooks": {}}), json!({"webhooks": [], "version": 1})] {
        assert_eq!(organization.request("PUT", AT).json(&body).send().status, 400, "{body}");
    }
    assert_eq!(got(&organization), before);
}

#[test]
fn an_entry_without_a_secret_keeps_its_own_and_those_that_are_missing_are_gone() {
    let (mut server, organization) = started();
    let [kept, gone] = [0; 2].map(|_| Receiver::start(&[]));
    let before = put(&organization, &json!([entry("gone", &gone.url()), entry("kept", &kept.url())]));
    let without_secret = json!({"id": "kept", "url": kept.url(), "events": ["*"]});
    let after = put(&organization, &json!([without_secret, entry("new", "https://93.184.215.14/")]));
    assert_eq!(after[0]["webhook_id"], before[1]["webhook_id"], "it is the same webhook");
    let names: Vec<_> = after.iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(names, ["kept", "new"], "in the order of the document");
    let deleted = format!("/api/v1/webhooks/{}", before[0]["webhook_id"].as_str().expect("an id"));
    organization.request("GET", &deleted).send().expect(404);
    organization.publish(&created("/data/x"));
    let delivered = kept.expect(1).remove(0);
    assert_eq!(delivered.header("X-AeorDB-Signature"), signature("secret", &delivered.body));
    let read = got(&organization);
    server.restart();
    let organization = organization.at(&server);
    let same = |entries: &Value| {
        let entries = entries["webhooks"].as_array().expect("entries").iter();
        entries.map(|e| (e["id"].clone(), e["webhook_id"].clone(), e["updated_at"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(same(&got(&organization)), same(&read), "it is durable");
    let back = organization.request("PUT", AT).json(&read).send().expect(200);
    assert_eq!(same(&back), same(&read), "what was read may be written back, and changes nothing");
    organization.publish(&created("/data/y"));
    assert_eq!(kept.expect(2)[1].header("X-AeorDB-Event"), "entries_created");
    assert!(gone.received().is_empty());
    assert_eq!(organization.request("DELETE", AT).send().status, 204);
    assert_eq!(got(&organization), json!({"webhooks": []}));
}

#[test]
fn the_document_holds_only_its_own_webhooks_and_needs_no_switch_of_the_map() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("m");
    let receiver = Receiver::start(&[]);
    let request = |method: &str| server.request(method, AT).bearer(&map.token);
    map.request("POST", "/webhooks").json(&json!({"url": "https://93.184.215.14/"})).send().expect(201);
    let mut many: Vec<_> = (0..10).map(|n| entry(&n.to_string(), "https://93.184.215.14/same")).collect();
    many.push(entry("x", &receiver.url()));
    let document = json!({ "webhooks": many });
    request("PUT").json(&document).send().expect(200);
    map.publish(&json!({"type": "entries_created"}));
    assert_eq!(receiver.expect(1)[0].header("X-AeorDB-Event"), "entries_created");
    request("DELETE").send();
    let left = map.request("GET", "/webhooks").send().expect(200);
    assert_eq!(left["data"].as_array().map(Vec::len), Some(1), "a webhook of the map is not in the document");
}

#[test]
fn an_entry_that_the_receiver_switched_off_is_on_again_when_the_document_says_so() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[410]);
    let document = json!([entry("a", &receiver.url())]);
    put(&organization, &document);
    organization.publish(&created("/a"));
    eventually("it is off", || got(&organization)["webhooks"][0]["health"] == "disabled");
    put(&organization, &document);
    receiver.expect(2);
    eventually("it is healthy", || got(&organization)["webhooks"][0]["health"] == "healthy");
    let mut paused = document;
    paused[0]["active"] = false.into();
    assert_eq!(put(&organization, &paused)[0]["health"], "paused");
}

#[test]
fn the_document_needs_the_scope_manage_and_an_admin_names_the_channel() {
    let (server, organization) = started();
    put(&organization, &json!([entry("a", "https://93.184.215.14/")]));
    let asked = json!({"channel": format!("organization:{}", organization.id), "scopes": ["subscribe", "publish"]});
    let made = organization.request("POST", "/api/v1/tokens").json(&asked).send().expect(201);
    let reader = made["data"]["token"].as_str().expect("a token");
    for method in ["GET", "PUT", "DELETE"] {
        let body = json!({"webhooks": []});
        server.request(method, AT).json(&body).send().expect(401);
        assert_eq!(server.request(method, AT).bearer(reader).json(&body).send().expect(403)["code"], "FORBIDDEN");
        assert_eq!(server.admin(method, AT).json(&body).send().expect(400)["code"], "INVALID_PARAMETER");
    }
    let named = format!("{AT}?channel=organization:{}", organization.id);
    assert_eq!(server.admin("GET", &named).send().expect(200)["webhooks"][0]["id"], "a");
    let other = server.new_organization("other");
    assert_eq!(got(&other), json!({"webhooks": []}), "each channel has its own");
}

#[test]
fn more_entries_than_the_limit_allows_are_refused() {
    let (mut server, organization) = started();
    server.restart_with(&[("limits.webhooks_per_document", "2")]);
    let organization = organization.at(&server);
    let many: Vec<_> = (0..3).map(|n| entry(&n.to_string(), "https://93.184.215.14/")).collect();
    let full = organization.request("PUT", AT).json(&json!({ "webhooks": many })).send().expect(409);
    assert_eq!(full["code"], "WEBHOOK_LIMIT");
    assert_eq!(put(&organization, &json!(many[..2])).len(), 2);
}

/// Puts one document after the other until the server is gone. Returns how many were answered.
fn put_by_turns(organization: &Organization, documents: [Value; 2]) -> usize {
    let mut answered = 0;
    loop {
        match organization.request("PUT", AT).json(&documents[answered % 2]).try_send() {
            Ok(answer) => assert_eq!(answer.status, 200, "{}", answer.text()),
            Err(_) => return answered,
        }
        answered += 1;
    }
}

#[test]
fn after_a_kill_the_document_is_one_or_the_other_and_never_a_mixture() {
    let seed = seed();
    println!("STENTOR_TEST_SEED={seed}");
    let mut random = Random(seed);
    let (mut server, mut organization) = started();
    server.restart_with(&[("limits.api_requests_per_minute", "0")]);
    let document = |prefix: &str| {
        let names: Vec<String> =
            (0..6).map(|n| if n < 2 { format!("kept{n}") } else { format!("{prefix}{n}") }).collect();
        let entries: Vec<_> = names.iter().map(|id| entry(id, &format!("https://93.184.215.14/{prefix}"))).collect();
        (names, json!({ "webhooks": entries }))
    };
    let [(first_names, first), (second_names, second)] = ["a", "b"].map(document);
    let mut answered = 0;
    for _ in 0..10 {
        organization = organization.at(&server);
        let (writer, documents) = (organization.clone(), [first.clone(), second.clone()]);
        let writing = thread::spawn(move || put_by_turns(&writer, documents));
        let death = Instant::now() + Duration::from_millis(30 + random.below(150));
        while let Some(left) = death.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        server.restart();
        let done = writing.join().expect("every document is taken");
        answered += done;
        organization = organization.at(&server);
        let found = got(&organization);
        let entries = found["webhooks"].as_array().expect("entries");
        let names: Vec<_> = entries.iter().map(|entry| entry["id"].as_str().expect("an id").to_string()).collect();
        let whole = |wanted: &[String], prefix: &str| {
            let of_it = |entry: &Value| entry["url"].as_str().is_some_and(|url| url.ends_with(&format!("/{prefix}")));
            names == wanted && entries.iter().all(of_it)
        };
        let is_new = entries.is_empty() && answered == 0;
        assert!(whole(&first_names, "a") || whole(&second_names, "b") || is_new, "{names:?}");
        assert!(entries.iter().all(|entry| entry["health"] == "healthy"), "{found}");
    }
    println!("{answered} documents were put over 10 kills");
}
