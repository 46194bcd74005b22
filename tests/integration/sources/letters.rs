//! What a verified sender sent and was refused for its content.

use serde_json::{Value, json};

use super::{Source, ids, now_ms};
use crate::support::{TestServer, eventually};

#[test]
fn a_dead_letter_is_kept_retried_and_removed() {
    let server = TestServer::start(&[]);
    let map = server.new_map("letters");
    let (source, _) = Source::new(&map, json!({"authentication": "none", "eventType": {"pointer": "/kind"}}));
    let owner = |method: &str, rest: &str| source.manage(&map.token, method, rest);
    let refused = source.post(&json!({"type": "deploy", "n": 1})).expect(400);
    assert_eq!(refused["details"][0]["field"], "/kind");
    source.post(&json!({"type": "deploy", "n": 2})).expect(400);
    source.request("").body(&b"\xff"[..]).send().expect(400);
    let list = owner("GET", "/dead-letters?limit=2").send().expect(200);
    assert_eq!((list["data"][0]["n"].as_u64(), &list["next"]), (Some(1), &json!(2)), "{list}");
    assert!(list["data"][0]["reason"].as_str().is_some_and(|reason| reason.contains("/kind")));
    assert_eq!(owner("GET", "/dead-letters?after=2").send().expect(200)["data"][0]["n"], 3);
    let one = owner("GET", "/dead-letters/1").send().expect(200);
    assert_eq!(one["data"]["body"], r#"{"type":"deploy","n":1}"#);
    // in vain, while nothing has changed
    owner("POST", "/dead-letters/1/retry").send().expect(400);
    assert_eq!(owner("GET", "/dead-letters/1").send().expect(200)["data"]["retries"], 1);
    owner("PATCH", "").json(&json!({"eventType": {"pointer": "/type"}})).send().expect(200);
    let retried = ids(&owner("POST", "/dead-letters/1/retry").send().expect(200));
    let history = map.history("");
    assert_eq!(format!("evt_{}", history[0]["id"].as_str().expect("an id")), retried[0]);
    assert_eq!((&history[0]["type"], &history[0]["payload"]["properties"]["n"]), (&json!("deploy"), &json!(1)));
    for (method, rest) in [("POST", "/dead-letters/1/retry"), ("GET", "/dead-letters/1"), ("DELETE", "/dead-letters/1")]
    {
        owner(method, rest).send().expect_error(404, "NOT_FOUND", "Dead letter not found");
    }
    owner("DELETE", "/dead-letters/2").send().expect(204);
    owner("DELETE", "/dead-letters").send().expect(204);
    assert_eq!(owner("GET", "/dead-letters").send().expect(200)["data"], json!([]));
    assert_eq!(map.history("").len(), 1);
}

#[test]
fn only_what_a_verified_sender_sent_is_kept_and_a_repetition_once() {
    let server = TestServer::start(&[]);
    let map = server.new_map("verified");
    let source = Source::hmac(&map);
    source.request("").body("{").send().expect(401);
    let at = now_ms();
    for _ in 0..3 {
        source.signed("{", at).send().expect(400);
    }
    assert_eq!(source.manage(&map.token, "GET", "/status").send().expect(200)["deadLetters"], 1);
}

#[test]
fn the_bounds_hold_and_what_does_not_fit_is_cut_and_says_so() {
    let mut server = TestServer::start(&[("sources.dead_letters", "3"), ("sources.dead_letters_bytes", "100000")]);
    let map = server.new_map("bounds");
    let source = Source::open(&map);
    let letters = |source: &Source, token: &str| -> Vec<Value> {
        let list = source.manage(token, "GET", "/dead-letters").send().expect(200);
        list["data"].as_array().expect("a list").clone()
    };
    for n in 0..5 {
        source.request("").body(format!("{{\"n\":{n}")).send().expect(400);
    }
    let numbers: Vec<_> = letters(&source, &map.token).iter().map(|letter| letter["n"].as_u64()).collect();
    assert_eq!(numbers, [Some(3), Some(4), Some(5)]);
    source.request("").body(format!("{{{}", "x".repeat(150_000))).send().expect(400);
    let kept = letters(&source, &map.token);
    assert_eq!((kept.len(), &kept[0]["truncated"], &kept[0]["bytes"]), (1, &json!(true), &json!(150_001)));
    let cut = source.manage(&map.token, "GET", "/dead-letters/6").send().expect(200);
    assert_eq!(cut["data"]["body"].as_str().map(str::len), Some(100_000));
    assert_eq!(source.manage(&map.token, "POST", "/dead-letters/6/retry").send().expect(409)["code"], "CONFLICT");
    server.restart();
    let (map, source) = (map.at(&server), source.at(&server));
    assert_eq!(letters(&source, &map.token), kept, "they outlive a kill");
}

#[test]
fn the_server_reports_refusals_in_its_own_organization_at_most_once_a_minute() {
    let server = TestServer::start(&[]);
    let map = server.new_map("reports");
    let source = Source::hmac(&map);
    let system = || -> Vec<Value> {
        let page = server.admin("GET", "/api/v1/organizations/system/events?events=source.rejected").send().expect(200);
        page["data"].as_array().expect("events").clone()
    };
    for _ in 0..3 {
        source.request("").body("{}").send().expect(401);
    }
    source.signed("{", now_ms()).send().expect(400);
    eventually("a report comes", || !system().is_empty());
    source.signed("[", now_ms()).send().expect(400);
    let reports = system();
    assert_eq!(reports.len(), 1);
    let payload = &reports[0]["payload"];
    assert_eq!((&payload["source_id"], &payload["channel"]), (&json!(source.id), &json!(format!("map:{}", map.id))));
    assert_eq!((&payload["rejected"], &payload["unauthenticated"]), (&json!(1), &json!(3)), "{payload}");
}

#[test]
fn a_credential_that_fails_again_and_again_is_reported_without_what_was_sent() {
    let server = TestServer::start(&[]);
    let map = server.new_map("guesses");
    let (source, _) = Source::new(&map, json!({"authentication": "api_key", "apiKey": "the-right-one"}));
    for n in 0..10 {
        source.request("").header("X-API-Key", &format!("guess-number-{n}")).body("{}").send().expect(401);
    }
    let mut report = Value::Null;
    eventually("a report comes", || {
        let page = server.admin("GET", "/api/v1/organizations/system/events?events=source.rejected").send().expect(200);
        report = page["data"][0].clone();
        report.is_object()
    });
    let payload = &report["payload"];
    assert_eq!((&payload["unauthenticated"], &payload["rejected"]), (&json!(10), &json!(0)), "{payload}");
    assert!(!report.to_string().contains("guess-number"), "{report}");
}

#[test]
fn every_refusal_of_a_verified_sender_is_kept_with_its_headers_and_reason() {
    let server = TestServer::start(&[("limits.batch_bytes", "5000"), ("limits.event_bytes", "2000")]);
    let map = server.new_map("refusals");
    let (source, _) = Source::new(&map, json!({"authentication": "api_key", "apiKey": "the-key"}));
    let send = |key: &str, kind: &str, query: &str, body: &str| {
        let request = crate::support::Request::new(source.addr, "POST", &format!("/webhooks/{}{query}", source.id));
        request.header("X-API-Key", key).header("Content-Type", kind).header("X-Trace", "abc").body(body).send()
    };
    let letters = || -> Vec<Value> {
        let list = source.manage(&map.token, "GET", "/dead-letters").send().expect(200);
        list["data"].as_array().expect("a list").clone()
    };
    // the sender is judged first, whatever the type of the body
    send("another", "application/xml", "", "<a/>").expect(401);
    assert!(letters().is_empty());
    assert_eq!(send("the-key", "application/xml", "", "<a/>").expect(415)["code"], "UNSUPPORTED_MEDIA_TYPE");
    send("the-key", "application/json", "?partial=perhaps", r#"{"event_type":"a"}"#).expect(400);
    let long = json!({"event_type": "a", "properties": {"x": "y".repeat(3000)}}).to_string();
    send("the-key", "application/json", "", &long).expect(413);
    send("the-key", "application/json", "", &"x".repeat(6000)).expect(413);
    send("another", "application/json", "", &"x".repeat(6000)).expect(413);
    let kept = letters();
    assert_eq!(kept.len(), 4, "{kept:?}");
    let bytes: Vec<_> = kept.iter().map(|letter| letter["bytes"].as_u64()).collect();
    assert_eq!(bytes, [Some(4), Some(18), Some(long.len() as u64), Some(6000)]);
    assert!(kept.iter().all(|letter| letter["reason"].as_str().is_some_and(|reason| !reason.is_empty())), "{kept:?}");
    let first = source.manage(&map.token, "GET", "/dead-letters/1").send().expect(200);
    assert_eq!(first["data"]["body"], "<a/>");
    let headers = first["data"]["headers"].as_array().expect("headers");
    assert!(headers.contains(&json!(["x-trace", "abc"])), "{headers:?}");
    assert!(!first.to_string().contains("the-key"), "{first}");
    // what was too large to be received is kept by its size alone
    let last = source.manage(&map.token, "GET", "/dead-letters/4").send().expect(200);
    assert_eq!((&last["data"]["body"], &last["data"]["truncated"]), (&json!(""), &json!(true)));
}

#[test]
fn a_dead_letter_can_be_edited_before_it_is_sent_again() {
    let server = TestServer::start(&[]);
    let map = server.new_map("edited");
    let source = Source::open(&map);
    source.request("").body("{\"event_type\":").send().expect(400);
    let retry = |body: Value| source.manage(&map.token, "POST", "/dead-letters/1/retry").json(&body).send();
    assert_eq!(retry(json!({"body": "a", "bodyBase64": "YQ=="})).expect(400)["code"], "VALIDATION_FAILED");
    retry(json!({"bodyBase64": "%"})).expect(400);
    retry(json!({"text": "{}"})).expect(400);
    retry(json!({"body": "{}"})).expect(400);
    // what did not help is not kept in the place of what came
    let letter = source.manage(&map.token, "GET", "/dead-letters/1").send().expect(200);
    assert_eq!((&letter["data"]["body"], &letter["data"]["retries"]), (&json!("{\"event_type\":"), &json!(1)));
    let form = json!({"body": "event_type=mended&by=hand", "contentType": "application/x-www-form-urlencoded"});
    ids(&retry(form).expect(200));
    retry(json!({})).expect_error(404, "NOT_FOUND", "Dead letter not found");
    let history = map.history("");
    assert_eq!((&history[0]["type"], &history[0]["payload"]["properties"]), (&json!("mended"), &json!({"by": "hand"})));
}

#[test]
fn a_source_takes_forms_arrays_and_fields_that_it_does_not_know() {
    let server = TestServer::start(&[]);
    let map = server.new_map("lenient");
    let source = Source::open(&map);
    ids(&source.post(&json!({"event_type": "a", "id": 7, "context": {"ip": "::1"}})).expect(200));
    let form = crate::support::Request::new(source.addr, "POST", &format!("/webhooks/{}", source.id));
    let form = form.header("Content-Type", "application/x-www-form-urlencoded");
    ids(&form.body("event_type=b&tag=x&tag=y").send().expect(200));
    assert_eq!(ids(&source.post(&json!([{"event_type": "c"}, {"event_type": "d"}])).expect(200)).len(), 2);
    source.post(&json!([])).expect(400);
    source.post(&json!({"event_type": "x".repeat(65)})).expect(400);
    let history = map.history("");
    assert_eq!(history.len(), 4);
    assert_eq!(history[0]["payload"]["extra"], json!({"id": 7, "context": {"ip": "::1"}}));
    assert_eq!(history[1]["payload"]["properties"], json!({"tag": ["x", "y"]}));
}

#[test]
fn senders_that_are_not_believed_are_counted_and_the_latest_is_described_over_a_restart() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("strangers");
    let source = Source::hmac(&map);
    let refused = |source: &Source, path: &str| {
        let shown = source.manage(&map.token, "GET", path).send().expect(200);
        shown.get("endpoint").unwrap_or(&shown)["refusedSenders"].clone()
    };
    let nobody =
        json!({"requests": 0, "inARow": 0, "since": null, "lastAt": null, "lastReason": null, "lastUserAgent": null});
    assert_eq!(refused(&source, ""), nobody);
    let at = now_ms();
    let wrong = |source: &Source| source.request("").header("X-Webhook-Timestamp", &at.to_string());
    source.request("").body("{}").send().expect(401);
    let signature = format!("sha256={}", "0".repeat(64));
    wrong(&source)
        .header("User-Agent", "Hookshot/7")
        .header("X-Webhook-Signature", &signature)
        .body("{}")
        .send()
        .expect(401);
    let told = refused(&source, "");
    assert_eq!(
        (&told["requests"], &told["inARow"], &told["lastUserAgent"]),
        (&json!(2), &json!(2), &json!("Hookshot/7"))
    );
    assert!(
        told["lastReason"].as_str().is_some_and(|reason| reason.contains("the signature does not match")),
        "{told}"
    );
    assert!(told["since"].as_str() <= told["lastAt"].as_str() && told["since"].is_string(), "{told}");
    assert_eq!(refused(&source, "/status"), told);
    // what was read is sent back by clients that change one field of it
    let all = source.manage(&map.token, "GET", "").send().expect(200)["endpoint"].clone();
    let back = json!({"name": "The shop", "refusedSenders": all["refusedSenders"]});
    source.manage(&map.token, "PATCH", "").json(&back).send().expect(200);
    server.stop();
    server.restart();
    let source = source.at(&server);
    let shown = Source::manage(&source, &map.token, "GET", "").send().expect(200);
    assert_eq!(shown["endpoint"]["refusedSenders"], told);
    source.signed(r#"{"event_type":"a"}"#, now_ms()).send().expect(200);
    let told = refused(&source, "");
    assert_eq!((&told["requests"], &told["inARow"], &told["since"]), (&json!(2), &json!(0), &json!(null)));
}
