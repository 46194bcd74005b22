//! `stentor verify`, on what the server really sends.

use serde_json::{Value, json};

use crate::support::program::{Ended, Program, command};
use crate::support::receiver::Received;
use crate::support::{Map, Receiver, TestServer};

fn verify(arguments: &[&str], input: &[u8]) -> Ended {
    let mut program = Program::start(command(&[&["verify"], arguments].concat()));
    program.type_in(std::str::from_utf8(input).expect("text"));
    program.wait()
}

/// A map with a webhook to the receiver: the path of the webhook, and its secret.
fn subscribed(map: &Map, receiver: &Receiver, format: &str) -> (String, String) {
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": true})).send().expect(200);
    let webhook = json!({"url": receiver.url(), "events": ["*"], "format": format});
    let made: Value = map.request("POST", "/webhooks").json(&webhook).send().expect(201);
    let text = |name: &str| made["data"][name].as_str().expect("a text").to_owned();
    (format!("/webhooks/{}", text("id")), text("secret"))
}

fn headers_of(delivery: &Received, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}: {}", delivery.header(name))).collect()
}

const STANDARD: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

#[test]
fn deliveries_of_every_format_are_valid_as_they_arrive_and_as_the_log_shows_them() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    for (format, names) in [
        ("map", &["X-Wanderer-Timestamp", "X-Wanderer-Signature"][..]),
        ("standard", &STANDARD[..]),
        ("gateway", &["X-Webhook-Hmac", "X-Webhook-Timestamp"][..]),
        ("feed", &["X-AeorDB-Signature"][..]),
    ] {
        let (receiver, map) = (Receiver::start(&[]), server.new_map(format));
        let (path, secret) = subscribed(&map, &receiver, format);
        map.publish(&json!({"type": "map_kill", "payload": {"name": "ä🚀", "value": 1.5}}));
        let delivery = receiver.expect(1).remove(0);
        for (format, names) in [(format, names), ("standard", &STANDARD[..])] {
            let headers = headers_of(&delivery, names);
            let headers: Vec<&str> = headers.iter().flat_map(|header| ["--header", header]).collect();
            let arguments = [&["--secret", &secret, "--format", format], &headers[..]].concat();
            let ended = verify(&arguments, &delivery.body);
            assert!(ended.expect(0).starts_with("valid: HMAC-SHA"), "{ended:?}");
            let changed = verify(&arguments, &[&delivery.body[..], b"x"].concat());
            assert_eq!((changed.code, changed.out.as_str()), (Some(1), ""), "{changed:?}");
            assert!(changed.err.starts_with("stentor: not valid: the signature does not match"), "{}", changed.err);
            let early = verify(&[&arguments[..], &["--tolerance-s", "0"]].concat(), &delivery.body);
            assert!(early.code == Some(0) || early.err.contains("which is more than 0 s"), "{early:?}");
        }
        crate::support::eventually("the log has it", || {
            let list = map.request("GET", &format!("{path}/deliveries?status=delivered")).send().expect(200);
            list["data"].as_array().is_some_and(|list| !list.is_empty())
        });
        let list = map.request("GET", &format!("{path}/deliveries")).send().expect(200);
        let id = list["data"][0]["id"].as_str().expect("an id");
        let shown = map.request("GET", &format!("{path}/deliveries/{id}")).send();
        let ended = verify(&["--secret", &secret, "--delivery", "-"], &shown.body);
        assert!(ended.expect(0).starts_with("valid: HMAC-SHA"), "{ended:?}");
        let other =
            verify(&["--secret", "BBECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "--delivery", "-"], &shown.body);
        assert!(other.code == Some(1) && other.err.contains("the secret is another one"), "{other:?}");
    }
}

#[test]
fn an_old_signature_is_told_from_a_wrong_one_and_usage_from_both() {
    let headers = [
        "--header",
        "X-Wanderer-Timestamp: 1750509300",
        "--header",
        "X-Wanderer-Signature: sha256=828d15a910eb9e11592b8bd958160a611ef3c2dfac950ecc49cf4785c35eef31",
    ];
    let body = r#"{"id":"01J0YYYYYYYYYYYYYYYYYYYYYY","type":"map_kill","payload":{"value":250000000,"name":"ä🚀"}}"#
        .as_bytes();
    let secret = ["--secret", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="];
    let old = verify(&[&secret[..], &headers].concat(), body);
    assert_eq!(old.code, Some(1));
    assert!(old.err.contains("the signature matches, but it was made "), "{}", old.err);
    let ageless = verify(&[&secret[..], &headers, &["--no-age"]].concat(), body);
    assert_eq!(ageless.expect(0), "valid: HMAC-SHA256 over 99 bytes, in X-Wanderer-Signature\n");
    let unsigned = verify(&[&secret[..], &["--header", "Content-Type: application/json"]].concat(), body);
    assert!(unsigned.code == Some(1) && unsigned.err.contains("no header with a signature"), "{unsigned:?}");
    for wrong in [
        &secret[..],
        &headers,
        &[&secret[..], &headers, &["--body", "/nowhere"]].concat(),
        &[&secret[..], &headers, &["--format", "mpa"]].concat(),
        &[&secret[..], &["--header", "no colon"]].concat(),
        &[&secret[..], &["--delivery", "-"]].concat(),
    ] {
        let ended = verify(wrong, b"");
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{wrong:?}: {}", ended.err);
    }
}

#[test]
fn a_provider_is_judged_by_its_preset_or_a_recipe_step_by_step() {
    let run = |flags: &[&str], body: &str| {
        let mut line = vec!["verify", "--secret", "It's a Secret to Everybody"];
        line.extend(flags);
        let mut program = Program::start(command(&line));
        program.type_in(body);
        program.wait()
    };
    let signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let header = format!("X-Hub-Signature-256: sha256={signature}");
    let good = run(&["--preset", "github", "--header", &header], "Hello, World!");
    assert_eq!(good.code, Some(0), "{}", good.err);
    let ended = run(&["--preset", "github", "--header", &header], "Hello, World!\n");
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("line break at its end"), "{}", ended.out);
    let recipe = r#"{"scheme":"hmac","header":"X-Sig","encoding":"hex","algorithm":"sha256","signed":"{body}"}"#;
    let header = format!("X-Sig: {signature}");
    assert_eq!(run(&["--recipe", recipe, "--header", &header], "Hello, World!").code, Some(0));
    assert_eq!(run(&["--recipe", recipe, "--header", "X-Sig: 00"], "Hello, World!").code, Some(1));
    let wrong = run(&["--preset", "gitbub", "--header", &header], "");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("github"), "{}", wrong.err);
    assert_eq!(run(&["--recipe", "{}", "--header", &header], "").code, Some(2));
}
