//! Senders that people really have, as their documentation says that they send.

use actors::model::source::{HmacAlgorithm, sign_hmac};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Source, ids, now_ms};
use crate::support::{Receiver, Request, TestServer};

/// The HMAC-SHA256 of `<prefix>.<body>` as hex, which is also that of Stripe.
fn hex(key: &str, prefix: &str, body: &str) -> String {
    let signature = sign_hmac(HmacAlgorithm::Sha256, key, prefix, body.as_bytes());
    signature.strip_prefix("sha256=").expect("its prefix").to_string()
}

/// `sha256=<hex>` over the body alone.
fn github(key: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[test]
fn github_is_taken_by_its_signature_and_a_redelivery_once() {
    const SECRET: &str = "It's a Secret to Everybody";
    let server = TestServer::start(&[]);
    let map = server.new_map("github");
    let (source, _) = Source::new(&map, json!({"authentication": "github", "secretKey": SECRET}));
    let send = |delivery: &str, kind: &str, signature: &str, body: &str| {
        let request = Request::new(source.addr, "POST", &format!("/webhooks/{}", source.id));
        let request = request.header("Content-Type", kind).header("X-GitHub-Event", "push");
        request.header("X-Hub-Signature-256", signature).header("X-GitHub-Delivery", delivery).body(body).send()
    };
    let body = r#"{"ref":"refs/heads/main","commits":[{"message":"ä"}]}"#;
    let signature = github(SECRET, body);
    let first = ids(&send("d-1", "application/json", &signature, body).expect(200));
    assert_eq!(ids(&send("d-1", "application/json", &signature, body).expect(200)), first);
    assert_ne!(ids(&send("d-2", "application/json", &signature, body).expect(200)), first);
    // the other content type that its settings offer
    let form = "payload=%7B%22ref%22%3A%22refs%2Fheads%2Ftopic%22%7D";
    send("d-3", "application/x-www-form-urlencoded", &github(SECRET, form), form).expect(200);
    assert_eq!(send("d-4", "application/json", &signature, "{}").expect(401)["code"], "UNAUTHORIZED");
    // the vector of its documentation is believed, and refused because it is no JSON
    let vector = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(send("d-5", "application/json", vector, "Hello, World!").expect(400)["code"], "INVALID_JSON");
    let history = map.history("");
    assert_eq!(history.len(), 3);
    assert_eq!(history[0]["type"], "push");
    assert_eq!(history[0]["payload"]["properties"]["commits"][0]["message"], "ä");
    assert_eq!(history[2]["payload"]["properties"]["ref"], "refs/heads/topic");
}

#[test]
fn what_github_sends_arrives_at_discord_as_a_message() {
    const SECRET: &str = "It's a Secret to Everybody";
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("discord");
    let discord = Receiver::start(&[]);
    let (source, _) = Source::new(&map, json!({"authentication": "github", "secretKey": SECRET}));
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let webhook = json!({"url": discord.url(), "format": "discord", "events": ["push"]});
    map.request("POST", "/webhooks").json(&webhook).send().expect(201);
    let body = json!({
        "ref": "refs/heads/main", "compare": "https://github.com/octo/hello/compare/a...b", "commits": [{}],
        "head_commit": {"message": "Fix the door\n\nIt was open. @everyone"},
        "repository": {"full_name": "octo/hello"}, "sender": {"login": "octocat"},
    })
    .to_string();
    let request = source.request("").header("X-GitHub-Event", "push").header("X-GitHub-Delivery", "d-1");
    request.header("X-Hub-Signature-256", &github(SECRET, &body)).body(body).send().expect(200);
    let message = discord.expect(1)[0].json();
    assert_eq!(message["embeds"][0]["title"], "push in octo/hello");
    assert_eq!(message["embeds"][0]["description"], "**octocat**: **Fix the door**");
    assert_eq!(message["embeds"][0]["url"], "https://github.com/octo/hello/compare/a...b");
    assert_eq!(message["allowed_mentions"], json!({"parse": []}));
}

#[test]
fn the_challenge_of_slack_is_answered_and_its_events_are_taken() {
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    let server = TestServer::start(&[]);
    let map = server.new_map("slack");
    let (source, _) = Source::new(&map, json!({"authentication": "slack", "secretKey": SECRET}));
    let send = |body: &str| {
        let at = (now_ms() / 1000).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
        mac.update(format!("v0:{at}:{body}").as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let request = source.request("").header("X-Slack-Request-Timestamp", &at);
        request.header("X-Slack-Signature", &format!("v0={hex}")).body(body).send()
    };
    let challenge =
        r#"{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let answer = send(challenge);
    assert_eq!((answer.status, answer.text()), (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"));
    assert_eq!(source.request("").body(challenge).send().status, 401, "and to nobody else");
    let event = r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention","text":"hi"}}"#;
    let first = ids(&send(event).expect(200));
    assert_eq!(ids(&send(event).expect(200)), first, "its retries carry the same event id");
    let history = map.history("");
    assert_eq!((history.len(), &history[0]["type"]), (1, &json!("app_mention")));
}

#[test]
fn stripe_is_known_again_by_the_id_of_its_event_when_it_signs_anew() {
    let server = TestServer::start(&[]);
    let map = server.new_map("stripe");
    let (source, _) = Source::new(&map, json!({"authentication": "stripe", "secretKey": "whsec_test_secret"}));
    let body = r#"{"id":"evt_1","object":"event","type":"checkout.session.completed"}"#;
    let send = |at_s: i64, body: &str| {
        let header = format!("t={at_s},v1={}", hex("whsec_test_secret", &at_s.to_string(), body));
        source.request("").header("Stripe-Signature", &header).body(body).send()
    };
    let now = now_ms() / 1000;
    let first = ids(&send(now, body).expect(200));
    assert_eq!(ids(&send(now + 60, body).expect(200)), first);
    send(now - 600, body).expect(401);
    let history = map.history("");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["type"], "checkout.session.completed");
    assert_eq!(history[0]["payload"]["properties"], serde_json::from_str::<Value>(body).expect("JSON"));
}

#[test]
fn the_type_of_an_event_comes_from_where_the_owner_says() {
    let server = TestServer::start(&[]);
    let map = server.new_map("types");
    let (source, _) = Source::new(
        &map,
        json!({"authentication": "none", "eventType": [{"header": "X-Kind"}, {"pointer": "/meta/kind"}, "other"]}),
    );
    let send = |kind: Option<&str>, body: Value| {
        let request = source.request("");
        let request = if let Some(kind) = kind { request.header("X-Kind", kind) } else { request };
        request.body(body.to_string()).send().expect(200)
    };
    send(Some("from header"), json!({}));
    send(None, json!({"meta": {"kind": "from/body"}}));
    send(None, json!({"meta": {}}));
    let types: Vec<_> = map.history("").iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["from_header", "from_body", "other"]);
}
