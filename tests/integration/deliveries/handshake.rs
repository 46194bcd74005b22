//! Receivers of CloudEvents that are asked first whether they want them (HTTP 1.1 Web Hooks for Event Delivery 1.0.1, 4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::receiver::Reply;
use crate::support::webhooks::{deliveries, delivering, webhook};
use crate::support::{Map, Receiver, eventually};

const ON: [(&str, &str); 2] =
    [("webhooks.cloudevents_handshake", "true"), ("server.public_url", "https://events.example.org/live")];

fn shown(map: &Map, webhook: &str) -> Value {
    map.request("GET", webhook).send().expect(200)["data"].clone()
}

fn methods(receiver: &Receiver) -> Vec<String> {
    receiver.received().iter().map(|got| got.line.split(' ').next().expect("a method").to_owned()).collect()
}

#[test]
fn a_receiver_is_asked_once_and_its_permission_is_shown() {
    let (server, map) = delivering(&ON);
    let receiver = Receiver::deciding(|request| match request.line.starts_with("OPTIONS ") {
        true => Reply::With(200, "WebHook-Allowed-Origin: events.example.org\r\nWebHook-Allowed-Rate: 120\r\n"),
        false => Reply::Status(200),
    });
    let (cloud, made) = webhook(&map, json!({"url": receiver.url(), "format": "cloudevents"}));
    assert_eq!(made["handshake"], json!({"state": "not_asked"}));
    map.publish_many(20);
    let got = receiver.expect(21);
    assert_eq!(methods(&receiver)[0], "OPTIONS");
    assert!(methods(&receiver)[1..].iter().all(|method| method == "POST"), "{:?}", methods(&receiver));
    assert_eq!(got[0].header("webhook-request-origin"), "events.example.org");
    assert!(got[0].body.is_empty() && !got[0].has("origin") && !got[0].has("content-type"));
    assert!(got[1..].iter().all(|post| post.header("origin") == "events.example.org"));
    let told = shown(&map, &cloud)["handshake"].clone();
    assert_eq!((&told["state"], &told["rate"]), (&json!("granted"), &json!("120")));
    // another address is asked anew
    let other = Receiver::deciding(|_| Reply::With(200, "WebHook-Allowed-Origin: *\r\n"));
    map.request("PATCH", &cloud).json(&json!({"url": other.url(), "format": "cloudevents_binary"})).send().expect(200);
    map.publish(&json!({"type": "a"}));
    other.expect(2);
    assert_eq!(methods(&other), ["OPTIONS", "POST"]);
    assert_eq!(shown(&map, &cloud)["handshake"]["rate"], Value::Null);
    // and nobody who gets something else
    let plain = Receiver::start(&[]);
    let (plain_hook, made) = webhook(&map, json!({"url": plain.url()}));
    assert!(made.get("handshake").is_none() && shown(&map, &plain_hook).get("handshake").is_none());
    map.publish(&json!({"type": "a"}));
    assert_eq!(plain.expect(1)[0].line, "POST /webhook HTTP/1.1");
    assert!(!plain.received()[0].has("origin"));
    drop(server);
}

#[test]
fn a_receiver_that_does_not_permit_it_gets_nothing_until_it_does_and_the_reason_is_told() {
    let (_server, map) = delivering(&ON);
    let permits = Arc::new(AtomicBool::new(false));
    let asked = permits.clone();
    let receiver = Receiver::deciding(move |request| match request.line.starts_with("OPTIONS ") {
        true if asked.load(Ordering::Acquire) => Reply::With(204, "WebHook-Allowed-Origin: Events.Example.Org\r\n"),
        true => Reply::With(200, "Allow: POST\r\nWebHook-Allowed-Origin: elsewhere.example.org\r\n"),
        false => Reply::Status(200),
    });
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 50});
    let (cloud, _) = webhook(&map, json!({"url": receiver.url(), "format": "cloudevents", "retry_policy": policy}));
    let ids = map.publish_many(3);
    eventually("each is refused", || {
        let all = deliveries(&map, &cloud, "");
        all.len() == 3 && all.iter().all(|delivery| delivery["error_code"] == "handshake_refused")
    });
    let told = shown(&map, &cloud);
    let reason = told["handshake"]["reason"].as_str().expect("a reason");
    assert_eq!(told["handshake"]["state"], "refused");
    assert!(reason.contains("allows another origin") && reason.contains("events.example.org (or *)"), "{reason}");
    assert_eq!(told["last_error"], "handshake_refused 200");
    assert!(methods(&receiver).iter().all(|method| method == "OPTIONS"), "{:?}", methods(&receiver));
    // a test of the webhook says the same
    let tested = map.request("POST", &format!("{cloud}/test")).json(&json!({})).send().expect(200)["data"].clone();
    assert_eq!((&tested["delivered"], &tested["error_code"]), (&json!(false), &json!("handshake_refused")), "{tested}");
    permits.store(true, Ordering::Release);
    eventually("all arrive", || methods(&receiver).iter().filter(|method| *method == "POST").count() == ids.len());
    assert_eq!(shown(&map, &cloud)["handshake"]["state"], "granted");
}

#[test]
fn nobody_is_asked_unless_the_operator_wants_it() {
    let (_server, map) = delivering(&[]);
    let receiver = Receiver::start(&[]);
    let (_, made) = webhook(&map, json!({"url": receiver.url(), "format": "cloudevents"}));
    assert!(made.get("handshake").is_none(), "{made}");
    map.publish(&json!({"type": "a"}));
    let got = receiver.expect(1);
    assert!(got[0].line.starts_with("POST ") && !got[0].has("origin"));
}
