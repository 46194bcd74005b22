//! Webhooks of organizations: their objects and errors, whose they are, and what a receiver gets.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha512;

use crate::support::{Organization, Receiver, TestServer, eventually};

const KEYS: [&str; 30] = [
    "id",
    "organization",
    "sessionId",
    "hasSecret",
    "name",
    "url",
    "events",
    "active",
    "format",
    "filter",
    "pathPrefix",
    "customHeaders",
    "retryPolicy",
    "ordered",
    "batch",
    "rateLimit",
    "delivering",
    "why",
    "lastDeliveryAt",
    "lastError",
    "lastErrorAt",
    "consecutiveFailures",
    "health",
    "healthSince",
    "nextAttemptAt",
    "disabledReason",
    "createdAt",
    "updatedAt",
    "unknownEvents",
    "secret",
];
const AT: &str = "/api/v1/webhooks";

/// A server whose webhooks may go to this machine, and an organization.
fn started() -> (TestServer, Organization) {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let organization = server.new_organization("o");
    (server, organization)
}

/// A webhook of the organization: its address, and what the 201 said.
#[track_caller]
fn made(organization: &Organization, body: &Value) -> (String, Value) {
    let made = organization.request("POST", AT).json(body).send().expect(201)["data"].clone();
    (format!("{AT}/{}", made["id"].as_str().expect("an id")), made)
}

#[track_caller]
fn deliveries(organization: &Organization, webhook: &str, query: &str) -> Vec<Value> {
    let list = organization.request("GET", &format!("{webhook}/deliveries?{query}")).send().expect(200);
    assert!(list.get("nextCursor").is_some(), "{list}");
    list["data"].as_array().expect("a list").clone()
}

/// The fields that the error names, in body B.
#[track_caller]
fn fields(error: &Value) -> Vec<String> {
    assert_eq!(error["error"]["code"], "validation_failed", "{error}");
    let details = error["error"]["details"]["errors"].as_array().expect("details");
    details.iter().map(|detail| detail["field"].as_str().expect("a field").to_string()).collect()
}

/// Lower-case hex HMAC-SHA512, as a receiver computes it.
fn hmac_sha512(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha512>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_receiver_verifies_by_the_vector_of_the_document() {
    let fox = "b42af09057bac1e2d41708e48a902e09b5ff7f12ab428a4fe86653c73dd248fb82f948a549f7b791a5b41915ee4d1ec3935357e4e2317250d0372afa2ebeeb3a";
    assert_eq!(hmac_sha512("key", b"The quick brown fox jumps over the lazy dog"), fox);
}

#[test]
fn a_webhook_has_the_defaults_of_the_document_and_never_shows_its_secret() {
    let (_server, organization) = started();
    let body = json!({"url": "https://93.184.215.14/a", "secret": "the-chosen-secret"});
    let (at, made) = made(&organization, &body);
    let keys: Vec<&str> = made.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, KEYS[..29]);
    assert_eq!(made["organization"], organization.id);
    for (name, value) in [
        ("sessionId", json!(null)),
        ("hasSecret", json!(true)),
        ("events", json!(["*"])),
        ("active", json!(true)),
        ("format", json!("gateway")),
        ("customHeaders", json!({})),
        ("retryPolicy", json!({"policy": "exponential", "delaySeconds": 2, "attempts": 15, "maxDelaySeconds": null})),
        ("health", json!("healthy")),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    for target in [at.as_str(), AT] {
        let answer = organization.request("GET", target).send();
        assert!(!answer.text().contains("the-chosen-secret"), "{}", answer.text());
    }
    let shown = organization.request("GET", &at).send().expect(200)["data"].clone();
    let same = organization.request("PATCH", &at).json(&shown).send().expect(200)["data"].clone();
    assert_eq!((&same["hasSecret"], &same["url"]), (&true.into(), &shown["url"]), "what was read may be sent back");
}

#[test]
fn a_patch_changes_only_what_it_names_and_null_takes_a_default_again() {
    let (_server, organization) = started();
    let policy = json!({"policy": "linear", "delaySeconds": 7, "attempts": 4, "maxDelaySeconds": 20});
    let body = json!({
        "url": "https://93.184.215.14/", "sessionId": "sess_1", "events": ["message", "poll.vote"], "secret": "s",
        "customHeaders": {"X-Tenant": "t"}, "retryPolicy": policy, "pathPrefix": "/a", "ordered": true,
        "batch": {"maxEvents": 5, "maxWaitMs": 100}, "rateLimit": {"perSecond": 9}, "format": "standard",
        "filter": "event.payload.n > 1",
    });
    let refused = organization.request("POST", AT).json(&body).send().expect(400);
    assert_eq!(fields(&refused), ["secret"], "standard cannot sign with such a secret");
    let mut body = body;
    body["format"] = "cloudevents".into();
    let (at, before) = made(&organization, &body);
    let patch = |body: Value| organization.request("PATCH", &at).json(&body).send().expect(200)["data"].clone();
    let mut after = patch(json!({"active": false}));
    assert_eq!((&after["active"], &after["health"]), (&false.into(), &"paused".into()));
    for name in ["active", "health", "healthSince", "updatedAt", "delivering", "why"] {
        after[name] = before[name].clone();
    }
    assert_eq!(after, before);
    let attempts = patch(json!({"retryPolicy": {"attempts": 9}}));
    let expected = json!({"policy": "linear", "delaySeconds": 7, "attempts": 9, "maxDelaySeconds": 20});
    assert_eq!(attempts["retryPolicy"], expected, "only what is named, in an object too");
    let reset = json!({
        "sessionId": null, "events": null, "secret": null, "customHeaders": null, "retryPolicy": null, "active": null,
        "pathPrefix": null, "ordered": null, "batch": null, "rateLimit": null, "format": null, "filter": null, "name": null,
    });
    let mut reset = patch(reset);
    let mut fresh = made(&organization, &json!({"url": "https://93.184.215.14/"})).1;
    for name in ["id", "createdAt", "updatedAt", "healthSince"] {
        (reset[name], fresh[name]) = (Value::Null, Value::Null);
    }
    assert_eq!(reset, fresh);
    assert_eq!(
        organization.request("PUT", &at).json(&json!({})).send().expect(405)["error"]["code"],
        "method_not_allowed"
    );
}

#[test]
fn every_wrong_field_is_named_as_clients_write_it_and_nothing_changes() {
    let (_server, organization) = started();
    let url = "https://93.184.215.14/";
    let (at, _) = made(&organization, &json!({"url": url, "retryPolicy": {"policy": "constant"}}));
    let before = organization.request("GET", &at).send().expect(200)["data"].clone();
    let cases = [
        (json!({"url": 5, "active": "yes", "format": "xml", "colour": 1}), vec!["url", "active", "format", "colour"]),
        (json!({"url": url, "sessionId": 1, "events": 2}), vec!["sessionId", "events"]),
        (json!({"url": url, "sessionId": ""}), vec!["sessionId"]),
        (json!({"url": url, "customHeaders": ["a"], "retryPolicy": 15}), vec!["customHeaders", "retryPolicy"]),
        (
            json!({"url": url, "retryPolicy": {"attempts": "15", "delaySeconds": 0, "jitter": 1}}),
            vec!["retryPolicy.attempts", "retryPolicy.jitter", "retryPolicy.delaySeconds"],
        ),
        (json!({"url": url, "customHeaders": {"Host": "a"}}), vec!["customHeaders.Host"]),
        (json!({"url": url, "customHeaders": {"X_A": "1\n"}}), vec!["customHeaders.X_A"]),
        (json!({"url": url, "customHeaders": {"x-webhook-hmac": "1"}}), vec!["customHeaders.x-webhook-hmac"]),
        (json!({"url": url, "batch": {"maxEvents": 0, "maxWaitMs": 1}}), vec!["batch.maxEvents"]),
        (json!({"url": url, "batch": [], "rateLimit": "1/s"}), vec!["batch", "rateLimit"]),
        (json!({"url": url, "secret": ""}), vec!["secret"]),
        (json!({"url": url, "secret": 7}), vec!["secret"]),
        (json!({"url": url, "filter": "event.("}), vec!["filter"]),
        (json!({"url": "http://169.254.169.254/latest"}), vec!["url"]),
        (json!({"url": url, "customHeaders": {}, "custom_headers": {}}), vec!["custom_headers"]),
    ];
    for (body, wrong) in cases {
        for (method, target) in [("POST", AT), ("PATCH", &at)] {
            let mut named = fields(&organization.request(method, target).json(&body).send().expect(400));
            let mut wrong: Vec<String> = wrong.iter().map(|name| name.to_string()).collect();
            named.sort();
            wrong.sort();
            assert_eq!(named, wrong, "{method} {body}");
        }
    }
    assert_eq!(fields(&organization.request("POST", AT).json(&json!({})).send().expect(400)), ["url"]);
    assert_eq!(organization.request("GET", &at).send().expect(200)["data"], before);
}

#[test]
fn a_delivery_has_the_headers_of_the_document_and_the_bytes_of_the_history() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[]);
    let (at, _) = made(&organization, &json!({"url": receiver.url(), "secret": "correct horse"}));
    let payload = json!({"body": "😀", "10": 1.0, "2": 2.5e8});
    let ids = organization.publish(&json!({"event": "message", "session": "sess_1", "payload": payload}));
    let got = receiver.expect(1).remove(0);
    assert_eq!(String::from_utf8_lossy(&got.body), organization.export()[0]);
    let body = got.json();
    assert_eq!(
        (&body["schema"], &body["id"], &body["event"]),
        (&"v1".into(), &ids[0].clone().into(), &"message".into())
    );
    assert_eq!((&body["session"], &body["organization"]), (&"sess_1".into(), &organization.id.clone().into()));
    assert_eq!(got.header("Content-Type"), "application/json");
    assert_eq!(got.header("X-Webhook-Request-Id"), ids[0]);
    assert!(got.header("X-Webhook-Timestamp").parse::<u64>().is_ok_and(|ms| ms > 1_700_000_000_000));
    assert_eq!(got.header("X-Webhook-Hmac"), hmac_sha512("correct horse", &got.body));
    assert_eq!(got.header("X-Webhook-Hmac-Algorithm"), "sha512");
    assert!(!got.has("webhook-signature") && !got.has("X-Wanderer-Signature"));
    eventually("the delivery is listed", || !deliveries(&organization, &at, "status=delivered").is_empty());
    let listed = deliveries(&organization, &at, "").remove(0);
    assert_eq!((&listed["eventIds"], &listed["eventTypes"]), (&json!(ids), &json!(["message"])));
    let target = format!("{at}/deliveries/{}", listed["id"].as_str().expect("an id"));
    let delivery = organization.request("GET", &target).send().expect(200)["data"].clone();
    let attempt = &delivery["attempts"][0];
    assert_eq!((&attempt["statusCode"], &attempt["errorCode"]), (&200.into(), &Value::Null));
    assert_eq!(attempt["requestBody"], String::from_utf8_lossy(&got.body).into_owned());
    assert!(attempt["requestHeaders"]["X-Webhook-Request-Id"].is_string(), "headers keep their names: {attempt}");
    assert!(attempt["timings"]["firstByteMs"].is_number() && attempt["connectionReused"].is_boolean(), "{attempt}");
    assert!(delivery["createdAt"].is_string() && delivery["webhookId"].is_string());
}

#[test]
fn without_a_secret_nothing_is_signed_and_custom_headers_replace_those_of_the_document() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[]);
    let headers = json!({"X-Webhook-Request-Id": "mine", "content-type": "application/vnd.mine+json", "X-More": "1"});
    made(&organization, &json!({"url": receiver.url(), "customHeaders": headers}));
    organization.publish(&json!({"event": "message"}));
    let got = receiver.expect(1).remove(0);
    assert_eq!((got.header("X-Webhook-Request-Id"), got.header("X-More")), ("mine", "1"));
    assert_eq!(got.header("Content-Type"), "application/vnd.mine+json");
    assert!(got.has("X-Webhook-Timestamp") && !got.has("X-Webhook-Hmac") && !got.has("X-Webhook-Hmac-Algorithm"));
}

#[test]
fn only_the_session_and_the_types_that_a_webhook_names_reach_it_and_an_empty_list_is_none() {
    let (_server, organization) = started();
    let [narrow, none, all] = [0; 3].map(|_| Receiver::start(&[]));
    made(&organization, &json!({"url": narrow.url(), "sessionId": "a", "events": ["message"]}));
    made(&organization, &json!({"url": none.url(), "events": []}));
    made(&organization, &json!({"url": all.url()}));
    let event = |kind: &str, session: &str, n: u32| json!({"event": kind, "session": session, "payload": {"n": n}});
    let events =
        [event("message", "b", 0), event("poll.vote", "a", 1), event("message", "a", 2), json!({"event": "x"})];
    organization.publish(&json!(events));
    assert_eq!(all.expect(4).len(), 4);
    assert_eq!(narrow.expect(1)[0].json()["payload"]["n"], 2);
    organization.publish(&event("message", "a", 3));
    assert_eq!(narrow.expect(2)[1].json()["payload"]["n"], 3, "nothing came between");
    assert!(none.received().is_empty());
}

#[test]
fn attempts_counts_every_post_and_a_dead_delivery_can_be_sent_again() {
    let (mut server, organization) = started();
    let receiver = Receiver::start(&[500, 503]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 2});
    let (at, _) = made(&organization, &json!({"url": receiver.url(), "retryPolicy": policy}));
    let ids = organization.publish(&json!({"event": "message"}));
    let tries = receiver.expect(2);
    assert!(
        tries.iter().all(|got| got.header("X-Webhook-Request-Id") == ids[0]),
        "a retry repeats the id of the event"
    );
    eventually("it is dead", || !deliveries(&organization, &at, "status=dead").is_empty());
    server.restart();
    let organization = organization.at(&server);
    let dead = deliveries(&organization, &at, "status=dead").remove(0);
    assert_eq!((&dead["attemptCount"], &dead["statusCode"]), (&2.into(), &503.into()));
    let target = format!("{at}/deliveries/{}", dead["id"].as_str().expect("an id"));
    let again = organization.request("POST", &format!("{target}/retry")).send().expect(202)["data"].clone();
    assert_eq!((&again["status"], &again["webhookId"]), (&"pending".into(), &dead["webhookId"]));
    assert_eq!(receiver.expect(3)[2].header("X-Webhook-Request-Id"), ids[0]);
    let status = || organization.request("GET", &target).send().json()["data"]["status"].clone();
    eventually("it is delivered", || status() == "delivered");
}

#[test]
fn test_and_replay_answer_in_the_words_of_the_family() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[]);
    let (at, _) = made(&organization, &json!({"url": receiver.url(), "events": ["poll.vote"], "sessionId": "s"}));
    let tested = organization.request("POST", &format!("{at}/test")).send().expect(200)["data"].clone();
    assert_eq!((&tested["delivered"], &tested["statusCode"]), (&true.into(), &200.into()));
    let sample = receiver.expect(1)[0].json();
    assert_eq!((&sample["event"], &sample["session"]), (&"poll.vote".into(), &"s".into()));
    assert!(sample["payload"]["pollId"].is_string(), "a sample of the type: {sample}");
    let events: Vec<_> = (0..4).map(|n| json!({"event": "poll.vote", "session": "s", "payload": {"n": n}})).collect();
    let ids = organization.publish(&json!(events));
    receiver.expect(5);
    let replay = |body: &Value| organization.request("POST", &format!("{at}/replay")).json(body).send();
    let dry = json!({"after": ids[0], "until": ids[2], "dryRun": true});
    eventually("two would be sent", || replay(&dry).json()["data"] == json!({"dryRun": true, "count": 2}));
    let job = replay(&json!({"after": ids[0], "until": ids[2]})).expect(202)["data"].clone();
    assert_eq!((&job["after"], &job["until"]), (&ids[0].clone().into(), &ids[2].clone().into()));
    let shown =
        || organization.request("GET", &format!("{at}/replays/{}", job["id"])).send().expect(200)["data"].clone();
    eventually("the job is done", || shown()["state"] == "done");
    assert_eq!((&shown()["delivered"], shown()["finishedAt"].is_string()), (&2.into(), true));
    let mut again: Vec<_> =
        receiver.expect(7)[5..].iter().map(|got| got.header("X-Webhook-Request-Id").to_string()).collect();
    again.sort();
    assert_eq!(again, ids[1..3], "a replay repeats the ids of the events");
}

#[test]
fn a_rotation_signs_with_both_secrets_and_shows_only_one_that_the_server_made() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[]);
    let (at, _) = made(&organization, &json!({"url": receiver.url(), "secret": "first"}));
    let rotate = |body: &Value| organization.request("POST", &format!("{at}/rotate-secret")).json(body).send();
    let given = rotate(&json!({"secret": "second", "graceSeconds": 60})).expect(200)["data"].clone();
    assert_eq!((given.get("secret"), &given["graceSeconds"]), (None, &60.into()));
    assert!(given["previousSecretExpiresAt"].is_string(), "{given}");
    organization.publish(&json!({"event": "message"}));
    let got = receiver.expect(1).remove(0);
    assert_eq!(got.header("X-Webhook-Hmac"), hmac_sha512("second", &got.body));
    assert_eq!(got.header("X-Webhook-Hmac-Previous"), hmac_sha512("first", &got.body));
    let made = rotate(&json!({"graceSeconds": 0})).expect(200)["data"].clone();
    let secret = made["secret"].as_str().expect("the new secret, shown once");
    organization.publish(&json!({"event": "message"}));
    let got = receiver.expect(2).remove(1);
    assert_eq!(got.header("X-Webhook-Hmac"), hmac_sha512(secret, &got.body));
    assert!(!got.has("X-Webhook-Hmac-Previous") && got.has("webhook-signature"));
    assert_eq!(fields(&rotate(&json!({"graceSeconds": -1})).expect(400)), ["graceSeconds"]);
    assert_eq!(fields(&rotate(&json!({"secret": ""})).expect(400)), ["secret"]);
    organization.request("PATCH", &at).json(&json!({"secret": null})).send().expect(200);
    organization.publish(&json!({"event": "message"}));
    assert!(!receiver.expect(3)[2].has("X-Webhook-Hmac"), "the secret was taken away");
}

#[test]
fn a_batch_is_told_by_the_id_of_its_delivery() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[]);
    let batch = json!({"maxEvents": 2, "maxWaitMs": 50});
    made(&organization, &json!({"url": receiver.url(), "batch": batch, "secret": "k"}));
    let ids = organization.publish(&json!([{"event": "message"}, {"event": "poll.vote"}]));
    let got = receiver.expect(1).remove(0);
    let events: Vec<_> = got.json()["events"].as_array().expect("events").iter().map(|e| e["id"].clone()).collect();
    assert_eq!(events, ids);
    assert!(got.header("X-Webhook-Request-Id").starts_with("dlv_"));
    assert_eq!(got.header("X-Webhook-Hmac"), hmac_sha512("k", &got.body));
}

#[test]
fn a_foreign_webhook_is_not_there_and_an_admin_needs_its_id_only() {
    let (server, organization) = started();
    let (at, made) = made(&organization, &json!({"url": "https://93.184.215.14/"}));
    let other = server.new_organization("other");
    let delivery = "deliveries/dlv_01J00000000000000000000000";
    for (method, below) in [
        ("GET", String::new()),
        ("PATCH", String::new()),
        ("DELETE", String::new()),
        ("POST", "/rotate-secret".into()),
        ("POST", "/test".into()),
        ("POST", "/replay".into()),
        ("GET", "/replays/1".into()),
        ("GET", "/deliveries".into()),
        ("GET", format!("/{delivery}")),
        ("POST", format!("/{delivery}/retry")),
    ] {
        let foreign = other.request(method, &format!("{at}{below}")).body("{}").send().expect(404);
        assert_eq!(foreign["error"], json!({"code": "not_found", "message": "Webhook not found"}), "{method} {below}");
        server.request(method, &format!("{at}{below}")).body("{}").send().expect(401);
    }
    assert_eq!(other.request("GET", AT).send().expect(200), json!({"data": [], "nextCursor": null}));
    assert_eq!(server.admin("GET", &at).send().expect(200)["data"]["id"], made["id"]);
    server.admin("GET", AT).send().expect(400);
    let named = format!("{AT}?channel=organization:{}", organization.id);
    assert_eq!(server.admin("GET", &named).send().expect(200)["data"][0]["id"], made["id"]);
    server.admin("POST", &named).json(&json!({"url": "https://93.184.215.14/2"})).send().expect(201);
    let elsewhere = format!("{at}?channel=organization:{}", other.id);
    server.admin("GET", &elsewhere).send().expect(404);
    server.admin("DELETE", &at).send();
    organization.request("GET", &at).send().expect(404);
}

#[test]
fn lists_come_in_pages_and_the_limit_of_organizations_is_their_own() {
    let (mut server, organization) = started();
    server.restart_with(&[("limits.webhooks_per_organization", "7")]);
    let organization = organization.at(&server);
    let body = json!({"url": "https://93.184.215.14/same"});
    let ids: Vec<_> = (0..7).map(|_| made(&organization, &body).1["id"].clone()).collect();
    let full = organization.request("POST", AT).json(&body).send().expect(409);
    assert_eq!(full["error"]["code"], "webhook_limit");
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = organization.request("GET", &format!("{AT}?limit=3&after={after}")).send().expect(200);
        let data = page["data"].as_array().expect("a list");
        assert!(data.len() <= 3);
        seen.extend(data.iter().map(|webhook| webhook["id"].clone()));
        match page["nextCursor"].as_str() {
            Some(next) => after = next.to_string(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    assert!(ids.iter().all(|id| seen.contains(id)));
    assert_eq!(
        organization.request("GET", &format!("{AT}?after=x")).send().expect(400)["error"]["code"],
        "invalid_cursor"
    );
}

#[test]
fn the_token_of_a_map_reaches_the_webhooks_of_its_map_in_this_shape() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("m");
    let receiver = Receiver::start(&[]);
    let request = |method: &str, target: &str| server.request(method, target).bearer(&map.token);
    let made =
        request("POST", AT).json(&json!({"url": receiver.url(), "secret": "k"})).send().expect(201)["data"].clone();
    assert_eq!((&made["format"], &made["organization"]), (&"gateway".into(), &map.id.clone().into()));
    map.publish(&json!({"type": "map_kill"}));
    let got = receiver.expect(1).remove(0);
    assert_eq!((&got.json()["event"], &got.json()["organization"]), (&"map_kill".into(), &map.id.clone().into()));
    assert_eq!(got.header("X-Webhook-Hmac"), hmac_sha512("k", &got.body));
    let here = map.request("GET", "/webhooks").send().expect(200);
    assert_eq!((&here["data"][0]["id"], &here["data"][0]["map_id"]), (&made["id"], &map.id.clone().into()));
}

#[test]
fn a_server_whose_secret_key_is_missing_does_not_start_and_with_it_webhooks_sign_as_before() {
    let (mut server, organization) = started();
    let receiver = Receiver::start(&[]);
    let (at, _) = made(&organization, &json!({"url": receiver.url(), "secret": "kept"}));
    server.kill();
    let (key, aside) = (server.folder().join("secret-key"), server.folder().join("aside"));
    std::fs::rename(&key, &aside).expect("the key of the secrets");
    let ended = server.try_launch().expect_err("nothing could be signed");
    let said = ended.err.lines().last().unwrap_or_default();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said.contains(&key.display().to_string()) && said.contains("STENTOR_SECRET_KEY"), "{said}");
    assert!(!key.exists(), "no new key is made beside secrets that it does not open");
    std::fs::rename(&aside, &key).expect("the key is back");
    server.launch();
    let organization = organization.at(&server);
    let shown = organization.request("GET", &at).send().expect(200);
    assert_eq!((&shown["data"]["health"], &shown["data"]["hasSecret"]), (&"healthy".into(), &true.into()));
    organization.publish(&json!({"event": "message"}));
    let got = receiver.expect(1).remove(0);
    assert_eq!(got.header("X-Webhook-Hmac"), hmac_sha512("kept", &got.body));
}

#[test]
fn lists_are_shown_in_the_order_of_their_owner() {
    let (_server, organization) = started();
    let events = json!(["session.status", "message", "poll.vote", "message"]);
    let body = json!({"url": "https://93.184.215.14/", "events": events, "pathPrefix": ["/b", "/a"]});
    let (at, made) = made(&organization, &body);
    let shown = organization.request("GET", &at).send().expect(200)["data"].clone();
    for webhook in [made, shown] {
        assert_eq!(webhook["events"], json!(["session.status", "message", "poll.vote"]));
        assert_eq!(webhook["pathPrefix"], json!(["/b", "/a"]));
    }
    let everything = organization.request("PATCH", &at).json(&json!({"events": ["message", "*"]})).send().expect(200);
    assert_eq!(everything["data"]["events"], json!(["*"]));
}

#[test]
fn the_format_standard_is_always_signed() {
    let (_server, organization) = started();
    let receiver = Receiver::start(&[]);
    let (at, made) = made(&organization, &json!({"url": receiver.url(), "format": "standard"}));
    assert_eq!((made["secret"].as_str().map(str::len), &made["hasSecret"]), (Some(44), &true.into()));
    organization.publish(&json!({"event": "message"}));
    let got = receiver.expect(1).remove(0);
    assert!(got.has("webhook-signature") && !got.has("X-Webhook-Hmac"));
    let patch = |body: Value| organization.request("PATCH", &at).json(&body).send();
    assert_eq!(fields(&patch(json!({"secret": "no key"})).expect(400)), ["secret"]);
    patch(json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})).expect(200);
    let rotated =
        organization.request("POST", &format!("{at}/rotate-secret")).json(&json!({"secret": "no key"})).send();
    assert_eq!(fields(&rotated.expect(400)), ["secret"]);
}

#[test]
fn an_organization_that_is_gone_takes_its_webhooks_along() {
    let (server, organization) = started();
    let (at, _) = made(&organization, &json!({"url": "https://93.184.215.14/"}));
    organization.request("DELETE", &format!("/api/v1/organizations/{}", organization.id)).send();
    server.admin("GET", &at).send().expect(404);
}
