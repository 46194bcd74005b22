//! Outgoing webhooks: the objects, the errors, and deliveries as a receiver gets them.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::webhooks::{deliveries, delivering, webhook};
use crate::support::{Map, Receiver, TestServer, eventually};

const KEYS: [&str; 26] = [
    "id",
    "map_id",
    "name",
    "url",
    "events",
    "active",
    "format",
    "filter",
    "path_prefix",
    "custom_headers",
    "retry_policy",
    "ordered",
    "batch",
    "rate_limit",
    "delivering",
    "why",
    "last_delivery_at",
    "last_error",
    "last_error_at",
    "consecutive_failures",
    "health",
    "health_since",
    "next_attempt_at",
    "disabled_reason",
    "inserted_at",
    "updated_at",
];

fn started() -> (TestServer, Map) {
    delivering(&[])
}

fn fields(error: &Value) -> Vec<&str> {
    error["details"].as_array().expect("details").iter().filter_map(|detail| detail["field"].as_str()).collect()
}

/// An address on which nobody listens.
fn dead_end() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    format!("http://{free}/")
}

#[test]
fn the_switch_takes_nothing_but_a_boolean() {
    let (_server, map) = started();
    for body in [json!({}), json!({"enabled": "true"}), json!({"enabled": 1}), json!({"enabled": null}), json!([])] {
        let answer = map.request("PUT", "/webhooks/toggle").json(&body).send().expect(400);
        assert_eq!(answer["error"], "The 'enabled' parameter must be a boolean value", "{body}");
    }
    let answer = map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": false})).send().expect(200);
    assert_eq!(answer, json!({"webhooks_enabled": false}));
    assert_eq!(map.request("GET", "").send().expect(200)["data"]["webhooks_enabled"], false);
}

#[test]
fn a_webhook_is_shown_in_full_and_its_secret_only_once() {
    let (_server, map) = started();
    let (at, made) = webhook(&map, json!({"url": "https://93.184.215.14/a", "events": ["map_kill"], "active": true}));
    let mut keys: Vec<&str> = made.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!((keys.pop(), keys.pop()), (Some("secret"), Some("unknown_events")));
    assert_eq!(keys, KEYS);
    assert_eq!(made["secret"].as_str().map(str::len), Some(44));
    assert_eq!((&made["map_id"], &made["format"]), (&map.id.clone().into(), &"map".into()));
    assert_eq!(made["retry_policy"]["attempts"], 8);
    for target in [at.as_str(), "/webhooks"] {
        let answer = map.request("GET", target).send();
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    let shown = map.request("GET", &at).send().expect(200)["data"].clone();
    let same = map.request("PUT", &at).json(&shown).send().expect(200)["data"].clone();
    assert_eq!(same["events"], json!(["map_kill"]), "what was read may be sent back");
}

#[test]
fn put_and_patch_change_only_what_they_name() {
    let (_server, map) = started();
    let filter = "event.payload.value > 1.0";
    let (at, _) = webhook(&map, json!({"url": "https://93.184.215.14/", "events": "map_kill", "filter": filter}));
    for method in ["PUT", "PATCH"] {
        let changed = map.request(method, &at).json(&json!({"active": false})).send().expect(200)["data"].clone();
        assert_eq!((&changed["active"], &changed["filter"]), (&false.into(), &filter.into()));
        assert_eq!((&changed["health"], &changed["disabled_reason"]), (&"paused".into(), &Value::Null));
    }
    let reset = json!({"filter": null, "events": null, "active": true});
    let reset = map.request("PATCH", &at).json(&reset).send().expect(200)["data"].clone();
    assert_eq!((&reset["filter"], &reset["events"]), (&Value::Null, &json!(["*"])));
}

#[test]
fn every_wrong_field_is_named_when_a_webhook_is_made_and_when_it_is_changed() {
    let (_server, map) = started();
    let (at, before) = webhook(&map, json!({"url": "https://93.184.215.14/"}));
    let cases = [
        (json!({"url": 5, "active": "yes", "format": "xml", "colour": 1}), vec!["url", "active", "format", "colour"]),
        (json!({"url": "ftp://93.184.215.14/"}), vec!["url"]),
        (json!({"url": "http://169.254.169.254/latest"}), vec!["url"]),
        (json!({"url": "https://10.0.0.1/"}), vec!["url"]),
        (json!({"url": "https://[::ffff:127.0.0.2]/"}), vec!["url"]),
        (json!({"url": "https://u:p@93.184.215.14/"}), vec!["url"]),
        (json!({"url": "https://93.184.215.14/", "filter": "event.("}), vec!["filter"]),
        (json!({"url": "https://93.184.215.14/", "events": ["a b"]}), vec!["events"]),
        (json!({"url": "https://93.184.215.14/", "format": "template"}), vec!["template"]),
        (json!({"url": "https://93.184.215.14/", "custom_headers": {"Host": "a"}}), vec!["custom_headers.Host"]),
        (json!({"url": "https://93.184.215.14/", "retry_policy": {"attempts": 0}}), vec!["retry_policy.attempts"]),
        (
            json!({"url": "https://93.184.215.14/", "batch": {"max_events": 0, "max_wait_ms": 1}}),
            vec!["batch.max_events"],
        ),
    ];
    for (body, wrong) in cases {
        for (method, target) in [("POST", "/webhooks"), ("PUT", &at), ("PATCH", &at)] {
            let error = map.request(method, target).json(&body).send().expect(400);
            assert_eq!((&error["error"], fields(&error)), (&"Validation failed".into(), wrong.clone()), "{body}");
        }
    }
    assert_eq!(fields(&map.request("POST", "/webhooks").json(&json!({})).send().expect(400)), ["url"]);
    assert_eq!(map.request("GET", &at).send().expect(200)["data"]["url"], before["url"]);
}

#[test]
fn a_second_webhook_with_a_url_and_a_sixth_webhook_are_conflicts() {
    let (_server, map) = started();
    let body = |n: u32| json!({"url": format!("https://93.184.215.14/{n}")});
    for n in 0..4 {
        webhook(&map, body(n));
    }
    assert_eq!(map.request("POST", "/webhooks").json(&body(0)).send().expect(409)["code"], "CONFLICT");
    let (at, _) = webhook(&map, body(4));
    assert_eq!(map.request("PUT", &at).json(&body(0)).send().expect(409)["code"], "CONFLICT");
    assert_eq!(map.request("POST", "/webhooks").json(&body(5)).send().expect(409)["code"], "WEBHOOK_LIMIT");
    assert_eq!(map.request("DELETE", &at).send().status, 204);
    webhook(&map, body(5));
}

#[test]
fn webhooks_need_the_scope_manage_and_are_hidden_from_other_maps() {
    let (server, map) = started();
    let (at, _) = webhook(&map, json!({"url": "https://93.184.215.14/"}));
    let (_, token) = map.new_token(json!({"scopes": ["subscribe", "publish"]}));
    let reader = map.with_token(&token);
    let other = server.new_map("other");
    for (method, below) in [
        ("GET", ""),
        ("PUT", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate-secret"),
        ("POST", "/test"),
        ("POST", "/replay"),
        ("GET", "/replays/1"),
        ("GET", "/deliveries"),
        ("GET", "/deliveries/dlv_01J00000000000000000000000"),
        ("POST", "/deliveries/dlv_01J00000000000000000000000/retry"),
    ] {
        let target = format!("{at}{below}");
        assert_eq!(reader.request(method, &target).body("{}").send().expect(403)["code"], "FORBIDDEN");
        let foreign = other.request(method, &target).body("{}").send().expect(404);
        assert_eq!(foreign["error"], "Webhook not found", "{method} {target}");
        map.anonymous(method, &target).body("{}").send().expect(401);
    }
    for (method, target) in [("GET", "/webhooks"), ("POST", "/webhooks"), ("PUT", "/webhooks/toggle")] {
        reader.request(method, target).body("{}").send().expect(403);
    }
}

#[test]
fn an_event_is_delivered_with_the_bytes_of_the_history_and_listed() {
    let (_server, map) = started();
    let receiver = Receiver::start(&[]);
    let headers = json!({"X-Tenant": "a-password"});
    let (at, _) = webhook(&map, json!({"url": receiver.url(), "events": ["map_kill"], "custom_headers": headers}));
    map.publish(
        &json!([{"type": "add_system"}, {"type": "map_kill", "payload": {"value": 2.5e8, "10": "😀", "2": 1.0}}]),
    );
    let got = receiver.expect(1).remove(0);
    assert_eq!(String::from_utf8_lossy(&got.body), map.export()[1]);
    assert_eq!(got.header("X-Tenant"), "a-password");
    assert_eq!((got.header("X-Wanderer-Event"), got.header("X-Wanderer-Attempt")), ("map_kill", "1"));
    eventually("the delivery is listed", || !deliveries(&map, &at, "status=delivered").is_empty());
    let listed = deliveries(&map, &at, "");
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &got.header("X-Wanderer-Delivery").into()));
    let target = format!("{at}/deliveries/{}", got.header("X-Wanderer-Delivery"));
    let answer = map.request("GET", &target).send();
    assert!(!answer.text().contains("a-password"), "custom headers may hold secrets");
    let attempt = &answer.expect(200)["data"]["attempts"][0];
    assert_eq!((&attempt["number"], &attempt["trigger"]), (&1.into(), &"first".into()));
    assert_eq!((&attempt["status_code"], &attempt["error_code"]), (&200.into(), &Value::Null));
    assert_eq!(attempt["request_body"], String::from_utf8_lossy(&got.body).into_owned());
    assert_eq!(attempt["response_body"], "OK");
    // an address needs no DNS, and http no TLS
    let timings = &attempt["timings"];
    assert!(timings["connect_ms"].as_f64() > Some(0.0) && timings["first_byte_ms"].as_f64() > Some(0.0), "{attempt}");
    assert_eq!((&timings["dns_ms"], &timings["tls_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(attempt["connection_reused"], false);
    assert!(receiver.url().contains(attempt["remote_address"].as_str().expect("an address")));
}

#[test]
fn a_dead_delivery_is_kept_over_a_kill_and_can_be_sent_again() {
    let (mut server, map) = started();
    let receiver = Receiver::start(&[500, 503]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 2});
    let (at, _) = webhook(&map, json!({"url": receiver.url(), "retry_policy": policy}));
    map.publish(&json!({"type": "map_kill"}));
    let tries = receiver.expect(2);
    assert_eq!(tries[0].header("X-Wanderer-Delivery"), tries[1].header("X-Wanderer-Delivery"));
    eventually("it is dead", || !deliveries(&map, &at, "status=dead").is_empty());
    server.restart();
    let map = map.at(&server);
    let dead = deliveries(&map, &at, "status=dead");
    assert_eq!(dead[0]["attempt_count"], 2);
    let target = format!("{at}/deliveries/{}", dead[0]["id"].as_str().expect("an id"));
    map.request("POST", &format!("{target}/retry")).send().expect(202);
    assert_eq!(receiver.expect(3)[2].header("X-Wanderer-Attempt"), "3");
    eventually("it is delivered", || map.request("GET", &target).send().json()["data"]["status"] == "delivered");
}

#[test]
fn webhooks_show_their_names_in_lists_and_say_when_they_try_again() {
    let (_server, map) = started();
    let receiver = Receiver::start(&[500]);
    let policy = json!({"policy": "constant", "delaySeconds": 3600, "attempts": 3});
    let (at, _) = webhook(&map, json!({"url": receiver.url(), "retry_policy": policy, "name": "The wall"}));
    let listed = || map.request("GET", "/webhooks").send().expect(200)["data"][0].clone();
    assert_eq!((&listed()["name"], &listed()["next_attempt_at"]), (&json!("The wall"), &Value::Null));
    map.publish(&json!([{"type": "map_kill", "payload": {}}]));
    eventually("a retry is due", || listed()["next_attempt_at"].is_string());
    let due = deliveries(&map, &at, "status=retrying")[0]["next_attempt_at"].clone();
    assert_eq!(listed()["next_attempt_at"], due);
}

#[test]
fn a_test_sends_the_type_that_is_asked_for() {
    let (_server, map) = started();
    let receiver = Receiver::start(&[]);
    let (at, _) = webhook(&map, json!({"url": receiver.url(), "events": ["map_kill"]}));
    let test = |body: Value| map.request("POST", &format!("{at}/test")).json(&body).send();
    test(json!({"event_type": "rally_point_added"})).expect(200);
    test(json!({"event_type": "my.own"})).expect(200);
    test(json!({})).expect(200);
    let sent: Vec<Value> = receiver.expect(3).iter().map(|request| request.json()["type"].clone()).collect();
    assert_eq!(sent, ["rally_point_added", "my.own", "map_kill"]);
    test(json!({"event_type": "no type"})).expect(400);
    test(json!({"events": ["a"]})).expect(400);
}

#[test]
fn a_test_says_what_came_of_it() {
    let (_server, map) = started();
    let receiver = Receiver::start(&[200, 500]);
    let (at, _) = webhook(&map, json!({"url": receiver.url()}));
    let outcome = || map.request("POST", &format!("{at}/test")).send().expect(200)["data"].clone();
    let good = outcome();
    assert_eq!((&good["delivered"], &good["status_code"]), (&true.into(), &200.into()));
    let bad = outcome();
    assert_eq!((&bad["delivered"], &bad["error_code"]), (&false.into(), &"http_status".into()));
    map.request("PATCH", &at).json(&json!({"url": dead_end()})).send().expect(200);
    assert_eq!(outcome()["error_code"], "connection_refused");
    // it is listed, and not sent again
    let test = deliveries(&map, &at, "")[0]["id"].as_str().expect("an id").to_owned();
    let again = map.request("POST", &format!("{at}/deliveries/{test}/retry")).send().expect(409);
    assert_eq!(again["code"], "CONFLICT");
    assert_eq!(map.request("GET", &at).send().expect(200)["data"]["consecutive_failures"], 0);
}

#[test]
fn a_replay_sends_a_range_again_and_its_dry_run_sends_nothing() {
    let (_server, map) = started();
    let receiver = Receiver::start(&[]);
    let (at, _) = webhook(&map, json!({"url": receiver.url()}));
    let ids = map.publish_many(5);
    receiver.expect(5);
    let replay = |body: Value| map.request("POST", &format!("{at}/replay")).json(&body).send();
    let range = json!({"after": ids[0], "until": ids[3], "events": "add_system"});
    let mut dry = range.clone();
    dry["dry_run"] = true.into();
    eventually("three would be sent", || replay(dry.clone()).json()["data"]["count"] == 3);
    let job = replay(range).expect(202)["data"]["id"].clone();
    let shown = || map.request("GET", &format!("{at}/replays/{job}")).send().expect(200)["data"].clone();
    eventually("the job is done", || shown()["state"] == "done");
    assert_eq!(shown()["delivered"], 3);
    let mut again: Vec<_> = receiver.received()[5..].iter().map(|got| got.json()["id"].clone()).collect();
    again.sort_by_key(Value::to_string);
    assert_eq!(again, ids[1..4]);
    for body in [json!({}), json!({"since": "x"}), json!({"status": "alive"}), json!({"since": "0", "events": [""]})] {
        assert_eq!(replay(body).expect(400)["error"], "Validation failed");
    }
    assert_eq!(map.request("GET", &format!("{at}/replays/77")).send().expect(404)["error"], "Replay not found");
}

#[test]
fn a_receiver_that_is_gone_switches_the_webhook_off_until_it_is_enabled_again() {
    let (_server, map) = started();
    let receiver = Receiver::start(&[410]);
    let (at, _) = webhook(&map, json!({"url": receiver.url()}));
    map.publish(&json!({"type": "map_kill"}));
    let shown = || map.request("GET", &at).send().expect(200)["data"].clone();
    eventually("it is disabled", || shown()["health"] == "disabled");
    assert!(shown()["disabled_reason"].as_str().is_some_and(|reason| reason.contains("410 Gone")));
    assert_eq!(shown()["active"], false);
    map.request("PATCH", &at).json(&json!({"active": true, "resume": "all"})).send().expect(200);
    assert_eq!(shown()["active"], true);
    receiver.expect(2);
    eventually("it is healthy", || shown()["health"] == "healthy");
}

#[test]
fn types_that_the_catalogue_does_not_know_are_told_when_a_webhook_is_made_or_changed() {
    let server = TestServer::start(&[]);
    let (map, org) = (server.new_map("unknown"), server.new_organization("Unknown"));
    let asked = json!({"url": "https://example.com/a", "events": ["map_kill", "map_kil", "my.own"]});
    let made = map.request("POST", "/webhooks").json(&asked).send().expect(201)["data"].clone();
    assert_eq!(made["unknown_events"], json!(["map_kil", "my.own"]));
    assert_eq!(made["events"], asked["events"], "they are accepted all the same");
    let one = format!("/webhooks/{}", made["id"].as_str().expect("an id"));
    let change = |method: &str, body: Value| map.request(method, &one).json(&body).send().expect(200)["data"].clone();
    assert_eq!(change("PATCH", json!({"active": false}))["unknown_events"], json!(["map_kil", "my.own"]));
    assert_eq!(change("PUT", json!({"events": "*"}))["unknown_events"], json!([]));
    // what was read may be written back
    let shown = map.request("GET", &one).send().expect(200)["data"].clone();
    assert_eq!(shown.get("unknown_events"), None, "it is an answer to a change");
    change("PATCH", change("PATCH", shown));
    let asked = json!({"url": "https://example.com/a", "events": ["message", "mesage"]});
    let made = org.request("POST", "/api/v1/webhooks").json(&asked).send().expect(201)["data"].clone();
    assert_eq!(made["unknownEvents"], json!(["mesage"]));
    let document = json!({"webhooks": [{"id": "a", "url": "https://example.com/a", "secret": "a secret of some length", "events": ["entries_createt"]}]});
    let put = map.of_server("PUT", "/engine/.config/webhooks.json").json(&document).send().expect(200);
    assert_eq!(put["webhooks"][0]["unknown_events"], json!(["entries_createt"]));
    let read = map.of_server("GET", "/engine/.config/webhooks.json").send().expect(200);
    map.of_server("PUT", "/engine/.config/webhooks.json").json(&read).send().expect(200);
}

#[test]
fn a_webhook_that_is_made_while_the_switch_is_off_says_so_and_raises_nothing() {
    let server = TestServer::start(&[]);
    let map = server.new_map("off");
    let post = |url: &str, active: bool| {
        map.request("POST", "/webhooks").json(&json!({"url": url, "active": active})).send().expect(201)["data"].clone()
    };
    let made = post("https://example.com/a", true);
    let why = "webhooks are off for this map: PUT .../webhooks/toggle";
    assert_eq!((&made["delivering"], &made["why"], &made["active"]), (&json!(false), &json!(why), &json!(true)));
    assert_eq!(made["health"], "paused");
    let inactive = post("https://example.com/b", false);
    assert_eq!(inactive["delivering"], false);
    // once another event of the system is there, one of these webhooks would have been there before it
    let toggle =
        |enabled: bool| map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": enabled})).send().expect(200);
    toggle(true);
    let system = || {
        let page = server.admin("GET", "/api/v1/organizations/system/events?events=webhook.enabled,webhook.disabled");
        let page = page.send().expect(200);
        let kinds = page["data"].as_array().expect("events").iter();
        kinds.map(|event| event["event"].as_str().expect("a type").to_owned()).collect::<Vec<_>>()
    };
    eventually("it is told that deliveries begin", || !system().is_empty());
    assert_eq!(system(), ["webhook.enabled"]);
    let one = format!("/webhooks/{}", made["id"].as_str().expect("an id"));
    let shown = map.request("GET", &one).send().expect(200)["data"].clone();
    assert_eq!((&shown["delivering"], &shown["why"]), (&json!(true), &json!(null)));
    // a switch that is turned off under it is told as before
    toggle(false);
    eventually("it is told that deliveries end", || system().len() == 2);
    assert_eq!(system(), ["webhook.enabled", "webhook.disabled"]);
    assert_eq!(map.request("GET", &one).send().expect(200)["data"]["why"], why);
}

#[test]
fn names_of_the_loopback_are_refused_when_a_webhook_is_saved_in_every_spelling() {
    let mut server = TestServer::start(&[]);
    let map = server.new_map("localhost");
    for host in [
        "localhost",
        "localhost.",
        "LOCALHOST",
        "LocalHost.",
        "a.localhost",
        "a.b.localhost.",
        "localhost.localdomain",
        "ip6-localhost",
        "localhost6.localdomain6.",
        "%6cocalhost",
        "\u{ff4c}ocalhost",
        "localhost%2e",
        "127.0.0.1.",
        "2130706433",
        "0x7f.1.",
        "[::1]",
    ] {
        let refused = map.request("POST", "/webhooks").json(&json!({"url": format!("https://{host}/x")})).send();
        let refused = refused.expect(400);
        assert_eq!(refused["details"][0]["field"], "url", "{host}: {refused}");
    }
    let made =
        map.request("POST", "/webhooks").json(&json!({"url": "https://localhost.example.com/x"})).send().expect(201);
    let one = format!("/webhooks/{}", made["data"]["id"].as_str().expect("an id"));
    assert_eq!(map.request("PATCH", &one).json(&json!({"url": "https://localhost./x"})).send().status, 400);
    let document = json!({"webhooks": [{"id": "a", "url": "https://x.localhost./", "events": ["*"]}]});
    assert_eq!(map.of_server("PUT", "/engine/.config/webhooks.json").json(&document).send().status, 400);
    // whoever has opened the loopback means it
    server.restart_with(&[("webhooks.allow_networks", "127.0.0.1/32,::1/128")]);
    let map = map.at(&server);
    map.request("POST", "/webhooks").json(&json!({"url": "https://localhost./y"})).send().expect(201);
}
