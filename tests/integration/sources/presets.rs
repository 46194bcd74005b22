//! Providers by name and by recipe, over the wire: what they sign, what they ask, and what their owner is told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Source, ids, now_ms};
use crate::support::{Answer, Map, Request, TestServer};

fn hex(key: &str, message: &str) -> String {
    mac(key, message).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &str, message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn post(source: &Source, query: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = source.request(query);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(body).send()
}

fn preset(map: &Map, name: &str, key: &str) -> Source {
    Source::new(map, json!({"authentication": name, "secretKey": key})).0
}

#[test]
fn presets_are_listed_with_what_to_enter_where() {
    let server = TestServer::start(&[]);
    let list = server.request("GET", "/api/source-presets").send().expect(200);
    let names: Vec<_> = list["data"].as_array().expect("a list").iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names.len(), 24);
    for name in
        "github gitlab gitea bitbucket stripe slack shopify twilio standard discord twitch zoom paddle square hubspot \
        linear intercom sendgrid mailgun woocommerce telegram meta msgraph eventgrid"
            .split_whitespace()
    {
        assert!(names.contains(&json!(name)), "{name}");
    }
    assert!(!list.to_string().contains("vectors"), "what tests need is not shown");
}

#[test]
fn a_recipe_is_believed_as_it_is_written_and_its_key_can_be_rotated() {
    let server = TestServer::start(&[]);
    let map = server.new_map("recipe");
    let recipe = json!({
        "scheme": "hmac", "header": "X-Sig", "prefix": "v1=", "encoding": "base64", "algorithm": "sha256",
        "signed": "{timestamp}.{id}.{body}", "timestamp_header": "X-Time", "timestamp_unit": "s", "tolerance_s": 60, "id_header": "X-Id",
    });
    let (source, made) = Source::new(&map, json!({"authentication": recipe, "secretKey": "one"}));
    assert_eq!(made["endpoint"]["authentication"], recipe);
    assert!(made.get("secret").is_none());
    let send = |key: &str, at_s: i64, id: &str| {
        let (at, body) = (at_s.to_string(), r#"{"event_type":"a"}"#);
        let signature = STANDARD.encode(mac(key, &format!("{at}.{id}.{body}")));
        let two = format!("v1=AAAA,v1={signature}");
        post(&source, "", &[("X-Sig", &two), ("X-Time", &at), ("X-Id", id)], body)
    };
    let now = now_ms() / 1000;
    let first = ids(&send("one", now, "d-1").expect(200));
    assert_eq!(ids(&send("one", now + 1, "d-1").expect(200)), first, "its signed id is that of the delivery");
    send("two", now, "d-2").expect(401);
    send("one", now - 90, "d-3").expect(401);
    let rotate = |body: Value| source.manage(&map.token, "POST", "/rotate-secret").json(&body).send();
    rotate(json!({"publicKey": "x"})).expect(400);
    rotate(json!({"secretKey": "two", "grace_seconds": 600})).expect(200);
    send("one", now, "d-4").expect(200);
    send("two", now, "d-5").expect(200);
    rotate(json!({"secretKey": "three", "grace_seconds": 0})).expect(200);
    send("two", now, "d-6").expect(401);
    send("three", now, "d-7").expect(200);
    // it is read back and may be sent back
    let read = source.manage(&map.token, "GET", "").send().expect(200);
    source
        .manage(&map.token, "PATCH", "")
        .json(&json!({"authentication": read["endpoint"]["authentication"]}))
        .send()
        .expect(200);
    for bad in [
        json!({"scheme": "hmac"}),
        json!({"scheme": "hmac", "header": "X", "signed": "nothing"}),
        json!({"scheme": "rot13", "header": "X"}),
        json!(7),
        json!("myspace"),
    ] {
        let asked = json!({"authentication": bad, "secretKey": "k"});
        let answer = Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&asked).send();
        assert_eq!(answer.expect(400)["details"][0]["field"], "authentication", "{bad}");
    }
}

#[test]
fn a_public_key_and_a_password_are_recipes_too() {
    let server = TestServer::start(&[]);
    let map = server.new_map("schemes");
    let token = json!({"scheme": "token", "header": "X-Token", "prefix": "Bearer "});
    let (source, made) = Source::new(&map, json!({"authentication": token}));
    let key = made["secret"].as_str().expect("a key that was made").to_owned();
    let body = r#"{"event_type":"a"}"#;
    post(&source, "", &[("X-Token", &format!("Bearer {key}"))], body).expect(200);
    post(&source, "", &[("X-Token", &key)], body).expect(401);
    let (source, _) = Source::new(&map, json!({"authentication": {"scheme": "basic"}, "secretKey": "me:pass:word"}));
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    post(&source, "", &[("Authorization", &basic("me:pass:word"))], body).expect(200);
    post(&source, "", &[("Authorization", &basic("me:pass"))], body).expect(401);
    post(&source, "", &[], body).expect(401);
    let discord = json!({"authentication": "discord", "publicKey": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"});
    let (source, _) = Source::new(&map, discord);
    post(&source, "", &[("X-Signature-Timestamp", "1"), ("X-Signature-Ed25519", "00")], r#"{"type":1}"#).expect(401);
    for (name, field) in [("discord", "secretKey"), ("github", "publicKey")] {
        let asked =
            json!({"authentication": name, field: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"});
        Request::new(map.addr, "POST", "/api/webhooks").bearer(&map.token).json(&asked).send().expect(400);
    }
}

#[test]
fn the_questions_of_providers_are_answered_as_each_of_them_asks() {
    let server = TestServer::start(&[]);
    let map = server.new_map("handshakes");
    // after the signature
    let zoom = preset(&map, "zoom", "zoom-secret");
    let body = r#"{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1,"event":"endpoint.url_validation"}"#;
    let at = (now_ms() / 1000).to_string();
    let signature = format!("v0={}", hex("zoom-secret", &format!("v0:{at}:{body}")));
    let headers = [("x-zm-request-timestamp", at.as_str()), ("x-zm-signature", signature.as_str())];
    let answer = post(&zoom, "", &headers, body).expect(200);
    let expected = hex("zoom-secret", "qgg8vlvZRS6UYooatFL8Aw");
    assert_eq!(answer, json!({"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": expected}));
    post(&zoom, "", &headers[..1], body).expect(401);
    let twitch = preset(&map, "twitch", "twitch-secret");
    let body = r#"{"challenge":"pogchamp-kappa-360noscope-vohiyo","subscription":{"type":"channel.follow"}}"#;
    let at = actors::model::timestamp::to_iso(now_ms());
    let signature = format!("sha256={}", hex("twitch-secret", &format!("m-1{at}{body}")));
    let headers = [
        ("Twitch-Eventsub-Message-Id", "m-1"),
        ("Twitch-Eventsub-Message-Timestamp", at.as_str()),
        ("Twitch-Eventsub-Message-Type", "webhook_callback_verification"),
        ("Twitch-Eventsub-Message-Signature", signature.as_str()),
    ];
    let answer = post(&twitch, "", &headers, body);
    assert_eq!((answer.status, answer.text()), (200, "pogchamp-kappa-360noscope-vohiyo"));
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    // by a token of its own
    let (meta, made) = Source::new(&map, json!({"authentication": "meta", "secretKey": "app-secret"}));
    let token = made["verifyToken"].as_str().expect("a token that was made").to_owned();
    let asks = |token: &str| {
        let query = format!("?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
        server.request("GET", &format!("/webhooks/{}{query}", meta.id)).send()
    };
    assert_eq!((asks(&token).status, asks(&token).text()), (200, "1158201444"));
    asks("another").expect(403);
    meta.manage(&map.token, "PATCH", "").json(&json!({"verifyToken": "my-own-token"})).send().expect(200);
    asks(&token).expect(403);
    assert_eq!(asks("my-own-token").text(), "1158201444");
    assert!(!meta.manage(&map.token, "GET", "").send().expect(200).to_string().contains("my-own-token"));
    // whatever its owner agreed on with the provider
    meta.manage(&map.token, "PATCH", "").json(&json!({"verifyToken": "v"})).send().expect(200);
    assert_eq!(asks("v").text(), "1158201444");
    meta.manage(&map.token, "PATCH", "").json(&json!({"verifyToken": ""})).send().expect(400);
    // without any proof, and with nothing but what was sent
    let graph = preset(&map, "msgraph", "client-state");
    let answer = post(&graph, "?validationToken=Validation%3A+Testing+1", &[], "");
    assert_eq!((answer.status, answer.text()), (200, "Validation: Testing 1"));
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    post(&graph, &format!("?validationToken={}", "x".repeat(257)), &[], "").expect(400);
    post(&graph, "?validationToken=%0d%0aX:1", &[], "").expect(400);
    let grid = preset(&map, "eventgrid", "grid-key");
    let body = r#"[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]"#;
    let answer = post(&grid, "", &[("aeg-event-type", "SubscriptionValidation")], body).expect(200);
    assert_eq!(answer, json!({"validationResponse": "512d38b6"}));
    assert!(map.history("").is_empty(), "no question is an event");
    // and nobody else is answered
    let open = Source::open(&map);
    post(&open, "?validationToken=x", &[], "").expect(400);
    server.request("GET", &format!("/webhooks/{}?hub.mode=subscribe", open.id)).send().expect(405);
}

#[test]
fn notifications_of_microsoft_and_azure_are_one_event_each_and_known_again() {
    let server = TestServer::start(&[]);
    let map = server.new_map("lists");
    let graph = preset(&map, "msgraph", "client-state");
    let one =
        |id: &str, state: &str| json!({"id": id, "clientState": state, "changeType": "created", "resource": "users/1"});
    let body = json!({"value": [one("1", "client-state"), one("2", "client-state")]}).to_string();
    let first = ids(&post(&graph, "", &[], &body).expect(200));
    assert_eq!(first.len(), 2);
    assert_eq!(ids(&post(&graph, "", &[], &body).expect(200)), first);
    // each of them has to prove itself
    post(&graph, "", &[], &json!({"value": [one("3", "client-state"), one("4", "other")]}).to_string()).expect(401);
    post(&graph, "", &[], r#"{"value":[]}"#).expect(401);
    assert!(!map.request("GET", "/events").send().text().contains("client-state"), "the token stays between the two");
    let grid = preset(&map, "eventgrid", "grid-key");
    let event = r#"[{"id":"e-1","eventType":"Microsoft.Storage.BlobCreated","data":{}}]"#;
    post(&grid, "", &[], event).expect(401);
    let first = ids(&post(&grid, "?code=grid-key", &[], event).expect(200));
    assert_eq!(ids(&post(&grid, "", &[("aeg-sas-key", "grid-key")], event).expect(200)), first);
    post(&grid, "?code=other", &[], event).expect(401);
}

#[test]
fn twilio_signs_the_address_that_it_was_given() {
    let server = TestServer::start(&[("server.public_url", "https://hooks.example.org/in")]);
    let map = server.new_map("twilio");
    let (source, made) = Source::new(&map, json!({"authentication": "square", "secretKey": "square-key"}));
    let url = made["endpoint"]["url"].as_str().expect("an address").to_owned();
    assert!(url.starts_with("https://hooks.example.org/in/webhooks/wh_"));
    let body = r#"{"event_id":"1","type":"payment.created"}"#;
    let signature = STANDARD.encode(mac("square-key", &format!("{url}{body}")));
    let first = ids(&post(&source, "", &[("x-square-hmacsha256-signature", &signature)], body).expect(200));
    assert_eq!(first.len(), 1);
    post(&source, "?x=1", &[("x-square-hmacsha256-signature", &signature)], body).expect(401);
}

#[test]
fn a_pasted_request_is_checked_step_by_step_without_telling_a_secret() {
    let server = TestServer::start(&[]);
    let map = server.new_map("check");
    let source = preset(&map, "github", "the-github-secret");
    let check = |body: Value| source.manage(&map.token, "POST", "/check").json(&body).send().expect(200);
    let body = r#"{"ref":"refs/heads/main"}"#;
    let right = hex("the-github-secret", body);
    let headers = json!({"X-GitHub-Event": "push", "X-Hub-Signature-256": format!("sha256={right}"), "Content-Type": "application/json"});
    let good = check(json!({"headers": headers, "body": body}));
    assert_eq!(
        (&good["accepted"], &good["believed"], &good["eventTypes"]),
        (&json!(true), &json!(true), &json!(["push"]))
    );
    let pasted =
        format!("POST /webhooks/x HTTP/1.1\nX-GitHub-Event: push\nX-Hub-Signature-256: sha256={right}\n\n{body}");
    assert_eq!(check(json!({"request": pasted}))["accepted"], true);
    let ended = check(json!({"request": format!("{pasted}\n")}));
    let signature =
        ended["steps"].as_array().expect("steps").iter().find(|step| step["step"] == "signature").expect("a step");
    assert_eq!(signature["ok"], false);
    assert!(signature["message"].as_str().is_some_and(|text| text.contains("line break at its end")), "{ended}");
    let other = check(json!({"headers": {"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=00"}, "body": body}));
    assert_eq!((&other["believed"], &other["accepted"]), (&json!(false), &json!(false)));
    let missing = check(json!({"headers": {"X-Hub-Signature": "sha1=00"}, "body": body}));
    assert!(missing.to_string().contains("X-Hub-Signature-256 is missing"), "{missing}");
    for answer in [&ended, &other, &missing] {
        assert!(!answer.to_string().contains(&right) && !answer.to_string().contains("the-github-secret"), "{answer}");
    }
    source.manage(&map.token, "POST", "/check").json(&json!({"request": "x", "body": "y"})).send().expect(400);
    assert!(map.history("").is_empty());
    assert_eq!(source.manage(&map.token, "GET", "/status").send().expect(200)["deadLetters"], 0);
}

#[test]
fn sources_with_recipes_outlive_a_restart() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("restart");
    let recipe =
        json!({"scheme": "hmac", "header": "X-Sig", "encoding": "hex", "algorithm": "sha256", "signed": "{body}"});
    let (source, _) = Source::new(&map, json!({"authentication": recipe, "secretKey": "k"}));
    let (meta, _) =
        Source::new(&map, json!({"authentication": "meta", "secretKey": "app", "verifyToken": "the-token"}));
    server.stop();
    server.restart();
    let (source, meta) = (source.at(&server), meta.at(&server));
    let body = r#"{"event_type":"a"}"#;
    post(&source, "", &[("X-Sig", &hex("k", body))], body).expect(200);
    post(&source, "", &[("X-Sig", &hex("x", body))], body).expect(401);
    let query = "?hub.mode=subscribe&hub.challenge=1&hub.verify_token=the-token";
    assert_eq!(server.request("GET", &format!("/webhooks/{}{query}", meta.id)).send().text(), "1");
}
