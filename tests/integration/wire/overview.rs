//! The overview: figures over time, what needs attention, and who may know of it.

use serde_json::{Value, json};

use crate::support::server::ADMIN;
use crate::support::webhooks::{delivering, webhook};
use crate::support::{Map, Receiver, Reply, TestServer, eventually};

fn overview(server: &TestServer, token: &str, query: &str) -> Value {
    server.request("GET", &format!("/api/v1/overview{query}")).bearer(token).send().expect(200)["data"].clone()
}

/// The highest value of a series that is no sum.
fn highest(shown: &Value, name: &str) -> u64 {
    let points = shown["series"][name].as_array().unwrap_or_else(|| panic!("there is a series {name}"));
    points.iter().filter_map(|point| point[1].as_u64()).max().unwrap_or(0)
}

/// The sum of the points of a series.
fn total(overview: &Value, name: &str) -> u64 {
    let points = overview["series"][name].as_array().unwrap_or_else(|| panic!("no series {name}"));
    points.iter().filter_map(|point| point[1].as_u64()).sum()
}

fn names(overview: &Value) -> Vec<String> {
    let mut names: Vec<_> = overview["series"].as_object().expect("series").keys().cloned().collect();
    names.sort();
    names
}

/// What needs attention, by kind.
fn troubles(overview: &Value) -> Vec<String> {
    let all = overview["attention"].as_array().expect("a list");
    all.iter().map(|one| one["kind"].as_str().expect("a kind").to_owned()).collect()
}

/// Sends what the overview says would help.
fn act(server: &TestServer, trouble: &Value) -> u16 {
    let action = &trouble["action"];
    let request = server.admin(action["method"].as_str().expect("a method"), action["href"].as_str().expect("a path"));
    let request = if action["body"].is_null() { request } else { request.json(&action["body"]) };
    request.send().status
}

fn hook_id(map: &Map, receiver: &Receiver) -> String {
    let (_, made) =
        webhook(map, json!({"url": receiver.url(), "events": ["*"], "retry_policy": {"schedule_seconds": [1]}}));
    made["id"].as_str().expect("an id").to_owned()
}

#[test]
fn what_happened_is_in_the_figures_at_once_and_in_the_steps_that_the_window_has() {
    let (server, map) = delivering(&[]);
    let receiver = Receiver::start(&[200]);
    let hook = hook_id(&map, &receiver);
    map.publish_many(7);
    let _stream = map.stream("");
    receiver.expect(7);
    eventually("the attempts are counted", || total(&overview(&server, ADMIN, ""), "delivered") == 7);
    for (query, is_server, resolution_s, steps) in [
        ("?window=1h".to_owned(), true, 10, 360),
        ("?window=24h".to_owned(), true, 60, 1_440),
        ("?window=7d".to_owned(), true, 3_600, 168),
        ("?window=1h&channel=map:m".to_owned(), false, 300, 12),
        ("?window=24h&channel=map:m".to_owned(), false, 300, 288),
        ("?window=7d&channel=map:m".to_owned(), false, 3_600, 168),
        (format!("?window=24h&webhook={hook}"), false, 300, 288),
        (format!("?channel=map:m&webhook={hook}"), false, 300, 12),
    ] {
        let shown = overview(&server, ADMIN, &query);
        assert_eq!(shown["resolution_s"], json!(resolution_s), "{query}");
        for (name, points) in shown["series"].as_object().expect("series") {
            let points = points.as_array().expect("points");
            assert_eq!(points.len(), steps, "{query} {name}");
            let begins: Vec<i64> = points.iter().map(|point| point[0].as_i64().expect("a time")).collect();
            assert!(begins.windows(2).all(|pair| pair[1] - pair[0] == resolution_s * 1_000), "{query} {name}");
            assert!(begins.iter().all(|ms| ms % (resolution_s * 1_000) == 0));
        }
        for name in ["attempts", "delivered", "answered_2xx"] {
            assert_eq!(total(&shown, name), 7, "{query} {name}");
        }
        assert_eq!((total(&shown, "failed"), total(&shown, "gave_up")), (0, 0));
        if !query.contains("webhook") {
            // the organization system has events of its own
            let published = total(&shown, "published");
            assert!(if is_server { published >= 7 } else { published == 7 }, "{query}: {published}");
            // it may be open in more than one step
            assert_eq!(highest(&shown, "connections"), 1, "{query}");
        }
        let latency = shown["series"]["latency_p50_ms"].as_array().expect("points");
        assert!(latency.iter().any(|point| point[1].as_f64().is_some_and(|ms| ms > 0.0 && ms < 10_000.0)));
    }
    // nothing is known of the time before the server ran
    let shown = overview(&server, ADMIN, "?window=7d");
    assert_eq!(shown["series"]["published"][0][1], Value::Null);
    let known = shown["series"]["memory_bytes"].as_array().expect("points").last().expect("a point")[1].clone();
    assert!(known.as_u64().is_none_or(|bytes| bytes > 1_000_000), "{known}");
}

#[test]
fn figures_outlast_a_restart() {
    let (mut server, map) = delivering(&[]);
    map.publish_many(5);
    server.stop();
    server.restart();
    map.at(&server).publish_many(3);
    for query in ["?channel=map:m", "?window=24h&channel=map:m", "?window=7d&channel=map:m"] {
        assert_eq!(total(&overview(&server, ADMIN, query), "published"), 8, "{query}");
    }
    assert!(total(&overview(&server, ADMIN, "?window=24h"), "published") >= 8);
}

#[test]
fn a_token_sees_what_it_may_read_and_nothing_else() {
    let server = TestServer::start(&[]);
    let (home, other) = (server.new_map("home"), server.new_map("other"));
    home.publish_many(3);
    other.publish_many(4);
    let (_, reader) = home.new_token(json!({"scopes": ["subscribe"]}));
    let (_, publisher) = home.new_token(json!({"scopes": ["publish"]}));
    let several = json!({"channels": ["map:home", "map:other"], "scopes": ["subscribe"]});
    let several = server.admin("POST", "/api/v1/tokens").json(&several).send().expect(201)["data"]["token"].clone();
    let several = several.as_str().expect("a token");
    assert_eq!(total(&overview(&server, &home.token, ""), "published"), 3);
    assert_eq!(total(&overview(&server, several, ""), "published"), 7);
    assert_eq!(total(&overview(&server, several, "?channel=map:other"), "published"), 4);
    assert_eq!(names(&overview(&server, &reader, "")), ["connections", "published"]);
    assert_eq!(names(&overview(&server, &publisher, "")), Vec::<String>::new());
    let own = names(&overview(&server, &home.token, ""));
    assert!(
        own.contains(&"lag_ms".into()) && !own.iter().any(|name| name.contains("bytes") || name.contains("commit"))
    );
    let all = names(&overview(&server, ADMIN, ""));
    assert!(["disk_free_bytes", "memory_bytes", "commit_p99_ms"].iter().all(|name| all.iter().any(|one| one == name)));
    let ask =
        |token: &str, query: &str| server.request("GET", &format!("/api/v1/overview{query}")).bearer(token).send();
    ask(&home.token, "?channel=map:other").expect(404);
    ask(&home.token, "?webhook=0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11").expect(404);
    ask(ADMIN, "?channel=map:none").expect(404);
    ask(ADMIN, "?window=2h").expect(400);
    ask(ADMIN, "?windows=1h").expect(400);
    server.request("GET", "/api/v1/overview").send().expect(401);
}

#[test]
fn a_webhook_of_somebody_else_is_not_there_and_one_of_a_reader_is_refused() {
    let (server, map) = delivering(&[]);
    let receiver = Receiver::start(&[200]);
    let hook = hook_id(&map, &receiver);
    let other = server.new_map("other");
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"]}));
    let ask = |token: &str| server.request("GET", &format!("/api/v1/overview?webhook={hook}")).bearer(token).send();
    ask(&map.token).expect(200);
    ask(&other.token).expect(404);
    ask(&reader).expect(403);
}

#[test]
fn a_webhook_that_fails_is_named_with_the_cause_and_what_helps() {
    let (server, map) = delivering(&[]);
    let receiver = Receiver::deciding(|_| Reply::Status(500));
    let hook = hook_id(&map, &receiver);
    map.publish_many(6);
    let of_hook = |kind: &str| {
        let shown = overview(&server, ADMIN, "");
        let all = shown["attention"].as_array().expect("a list");
        all.iter().find(|one| one["kind"] == kind && one["webhook"] == hook.as_str()).cloned()
    };
    let is_failing = || of_hook("webhook_failing").or_else(|| of_hook("webhook_degraded"));
    eventually("it is told that the webhook fails", || is_failing().is_some());
    let trouble = is_failing().expect("it fails still");
    assert!(trouble["cause"].as_str().is_some_and(|cause| cause.contains("answered 500")), "{trouble}");
    map.request("PATCH", &format!("/webhooks/{hook}")).json(&json!({"name": "Orders"})).send().expect(200);
    assert!(trouble["since"].is_string() && trouble["link"].as_str().is_some_and(|link| link.contains(&hook)));
    assert_eq!(trouble["channel"], json!(format!("map:{}", map.id)));
    assert_eq!(act(&server, &trouble), 200, "the test is sent");
    eventually("it is told what was given up", || of_hook("webhook_gave_up").is_some());
    let shown = overview(&server, ADMIN, &format!("?webhook={hook}"));
    assert!(total(&shown, "failed") > 0 && total(&shown, "answered_5xx") > 0 && total(&shown, "gave_up") > 0);
    // whoever manages the channel is told, whoever only reads it is not
    let (_, reader) = map.new_token(json!({"scopes": ["subscribe"]}));
    assert!(troubles(&overview(&server, &map.token, "")).contains(&"webhook_gave_up".into()));
    assert_eq!(troubles(&overview(&server, &reader, "")), Vec::<String>::new());
    let given_up = of_hook("webhook_gave_up").expect("it is told");
    assert!(given_up["title"].as_str().is_some_and(|title| title.contains("of “Orders”")), "{given_up}");
    assert_eq!(act(&server, &given_up), 202, "what was given up is sent again");
}

#[test]
fn a_webhook_that_was_switched_off_is_switched_on_by_what_the_overview_says() {
    let (server, map) = delivering(&[]);
    let receiver = Receiver::start(&[410, 200]);
    let hook = hook_id(&map, &receiver);
    map.publish_many(1);
    let disabled = || {
        let shown = overview(&server, &map.token, "");
        let all = shown["attention"].as_array().expect("a list").clone();
        all.into_iter().find(|one| one["kind"] == "webhook_disabled")
    };
    eventually("it is told", || disabled().is_some());
    let trouble = disabled().expect("it is told");
    assert_eq!((&trouble["severity"], &trouble["webhook"]), (&json!("error"), &json!(hook)));
    assert_eq!(act(&server, &trouble), 200);
    receiver.expect(2);
    eventually("it is well", || disabled().is_none());
}

#[test]
fn the_switch_of_a_map_a_source_that_refuses_and_a_token_that_ends_soon_are_told() {
    let (server, map) = delivering(&[]);
    let receiver = Receiver::start(&[200]);
    hook_id(&map, &receiver);
    map.request("PUT", "/webhooks/toggle").json(&json!({"enabled": false})).send().expect(200);
    let source = json!({"channel": "map:m", "name": "shop", "authentication": "none"});
    let source = server.admin("POST", "/api/webhooks").json(&source).send().expect(201);
    let id = source["endpoint"]["id"].as_str().expect("an id").to_owned();
    server.request("POST", &format!("/webhooks/{id}")).body("{").undescribed().send().expect(400);
    let soon = (std::time::SystemTime::now() + std::time::Duration::from_secs(86_400))
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let soon = actors::model::timestamp::to_iso(soon.as_millis() as i64);
    map.new_token(json!({"scopes": ["subscribe"], "name": "short", "expires_at": soon}));
    eventually("all of it is told", || {
        let told = troubles(&overview(&server, ADMIN, "?channel=map:m"));
        ["webhooks_off", "source_refused", "token_expires"].iter().all(|kind| told.iter().any(|one| one == kind))
    });
    let shown = overview(&server, ADMIN, "");
    let all = shown["attention"].as_array().expect("a list");
    let off = all.iter().find(|one| one["kind"] == "webhooks_off").expect("it is told");
    assert_eq!(act(&server, off), 200);
    assert!(!troubles(&overview(&server, ADMIN, "")).contains(&"webhooks_off".into()));
}

#[test]
fn a_source_that_believes_none_of_its_senders_is_told_until_one_is_believed_or_it_is_changed() {
    let (server, map) = delivering(&[]);
    let source = json!({"channel": "map:m", "name": "shop", "authentication": "api_key", "apiKey": "the-key"});
    let source = server.admin("POST", "/api/webhooks").json(&source).send().expect(201);
    let address = format!("/webhooks/{}", source["endpoint"]["id"].as_str().expect("an id"));
    let send = |key: &str| {
        let request = server.request("POST", &address).header("X-API-Key", key).undescribed();
        request.json(&json!({"event_type": "a"})).send().status
    };
    let told = || {
        let shown = overview(&server, &map.token, "");
        let all = shown["attention"].as_array().expect("a list").clone();
        all.into_iter().find(|one| one["kind"] == "source_distrusts")
    };
    assert_eq!([send("wrong"), send("wrong")], [401, 401]);
    assert_eq!(told(), None, "two may be somebody's typing error");
    assert_eq!(send("wrong"), 401);
    let one = told().expect("it is told");
    assert_eq!(one["title"], "The source shop believes none of its senders");
    let cause = one["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("3 requests in a row were refused: ") && cause.contains("key"), "{cause}");
    assert!(one["since"].is_string() && one["source"].is_string(), "{one}");
    assert_eq!(send("the-key"), 200);
    assert_eq!(told(), None);
    assert_eq!([send("wrong"), send("wrong"), send("wrong")], [401; 3]);
    assert!(told().is_some());
    server.admin("POST", &format!("/api{address}/rotate-secret")).json(&json!({"apiKey": "new"})).send().expect(200);
    eventually("whoever changed the key is not told of what was before", || told().is_none());
}

#[test]
fn the_metrics_may_ask_for_a_token() {
    let server = TestServer::start(&[("metrics.token", "scrape-me-with-this")]);
    let map = server.new_map("home");
    let ask = |token: &str| server.request("GET", "/metrics").bearer(token).send().status;
    server.request("GET", "/metrics").send().expect(401);
    assert_eq!([ask("scrape-me-with-this"), ask(ADMIN), ask(&map.token), ask("wrong")], [200, 200, 403, 401]);
}
