//! Lists of deliveries that are narrowed.

use serde_json::{Value, json};

use crate::support::webhooks::{deliveries, delivering, webhook};
use crate::support::{Map, Receiver, eventually};

#[test]
fn deliveries_are_found_by_type_code_time_and_text() {
    let (_server, map) = delivering(&[]);
    let receiver = Receiver::start(&[200, 500]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 1});
    let (at, _) =
        webhook(&map, json!({"url": receiver.url(), "retry_policy": policy, "ordered": true, "name": " The wall "}));
    map.publish(&json!([{"type": "add_system", "payload": {}}]));
    receiver.expect(1);
    let killed = map.publish(&json!([{"type": "map_kill", "payload": {}}]))[0].clone();
    eventually("both are listed", || deliveries(&map, &at, "").len() == 2);
    let types = |query: &str| -> Vec<Value> {
        deliveries(&map, &at, query).iter().map(|delivery| delivery["event_types"][0].clone()).collect()
    };
    for query in [
        "type=map_kill",
        "code=500",
        "code=http_status",
        "text=KILL",
        &format!("text={}", killed.to_lowercase()),
        "status=dead",
    ] {
        assert_eq!(types(query), ["map_kill"], "{query}");
    }
    assert_eq!(types("code=200"), ["add_system"]);
    assert_eq!(types("since=2001-01-01T00:00:00Z").len(), 2);
    for query in
        ["until=2001-01-01T00:00:00Z", "since=2999-01-01T00:00:00Z", "type=map_kill&code=200", "text=nothing-like-that"]
    {
        assert_eq!(types(query), Vec::<Value>::new(), "{query}");
    }
    assert_eq!(deliveries(&map, &at, "code=500")[0]["trigger"], "first");
    for (query, cure) in [
        ("since=soon", "ISO-8601"),
        ("since=2027-01-02T00:00:00Z&until=2027-01-01T00:00:00Z", "after `since`"),
        ("code=time_out", "timeout"),
        ("code=500,6xx", "5xx"),
        ("type=no%20type", "type"),
        ("types=map_kill", "did you mean 'type'"),
    ] {
        let refused = map.request("GET", &format!("{at}/deliveries?{query}")).send().expect(400);
        assert!(refused.to_string().contains(cure), "{query}: {refused}");
    }
    let shown = map.request("GET", &at).send().expect(200)["data"].clone();
    assert_eq!(shown["name"], "The wall");
    assert!(shown["health_since"].is_string(), "{shown}");
    map.request("PATCH", &at).json(&json!({"name": "x".repeat(201)})).send().expect(400);
    assert_eq!(map.request("PATCH", &at).json(&json!({"name": null})).send().expect(200)["data"]["name"], Value::Null);
}

#[test]
fn a_list_of_deliveries_that_is_narrowed_several_times_has_what_passes_each_condition() {
    let (_server, map) = delivering(&[("limits.api_requests_per_minute", "10000")]);
    let receiver = Receiver::start(&[200, 500, 404, 200, 503, 429, 200, 500]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 1});
    let (at, _) = webhook(&map, json!({"url": receiver.url(), "retry_policy": policy, "ordered": true}));
    for n in 0..8 {
        let kind = ["map_kill", "add_system", "my.own"][n % 3];
        map.publish(&json!([{"type": kind, "payload": {"n": n}}]));
        receiver.expect(n + 1);
    }
    eventually("all are listed", || deliveries(&map, &at, "").len() == 8);
    let all = deliveries(&map, &at, "");
    let time = |n: usize| all[n]["inserted_at"].as_str().expect("a time").to_owned();
    let is_in = |list: &str, text: &str| list.is_empty() || list.split(',').any(|one| one == text);
    let has_code = |list: &str, status: u64| {
        let is = |code: &str| match code.strip_suffix("xx") {
            Some(class) => status.to_string().starts_with(class),
            None if code == "http_status" => status >= 300,
            None => status.to_string() == code,
        };
        list.is_empty() || list.split(',').any(is)
    };
    for kinds in ["", "map_kill", "add_system,my.own", "map_kill,nobody.has.this"] {
        for codes in ["", "500", "5xx", "4xx,503", "200,http_status", "timeout"] {
            for (since, until) in [(String::new(), String::new()), (time(5), String::new()), (time(6), time(2))] {
                let query = format!("type={kinds}&code={codes}&since={since}&until={until}");
                let passes = |row: &&Value| {
                    let made = row["inserted_at"].as_str().expect("a time");
                    is_in(kinds, row["event_types"][0].as_str().expect("a type"))
                        && has_code(codes, row["status_code"].as_u64().expect("a status"))
                        && (since.is_empty() || made >= since.as_str())
                        && (until.is_empty() || made < until.as_str())
                };
                let wanted: Vec<&Value> = all.iter().filter(passes).collect();
                let narrowed = query.replace("&since=&", "&").trim_end_matches("&until=").to_owned();
                let found = deliveries(&map, &at, &narrowed);
                assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{narrowed}");
                // and page by page
                let first = map.request("GET", &format!("{at}/deliveries?{narrowed}&limit=1")).send().expect(200);
                assert_eq!(first["data"].as_array().expect("a list").first(), wanted.first().copied(), "{narrowed}");
                assert_eq!(first["next"].is_null(), wanted.len() < 2, "{narrowed}");
            }
        }
    }
}

/// All pages of a list of deliveries.
fn pages(map: &Map, at: &str, query: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    while pages.len() < 50 {
        let page = map.request("GET", &format!("{at}/deliveries?{query}&after={after}")).send().expect(200);
        pages.push(page["data"].as_array().expect("a list").clone());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return pages,
        }
    }
    panic!("the list of {query} has no end");
}

#[test]
fn what_waits_is_narrowed_before_it_is_divided_into_pages() {
    let (_server, map) = delivering(&[("limits.api_requests_per_minute", "10000")]);
    let (at, _) = webhook(&map, json!({"url": "http://127.0.0.1:9/x", "active": false}));
    let kinds =
        ["map_kill", "map_kill", "add_system", "map_kill", "add_system", "add_system", "add_system", "add_system"];
    let ids: Vec<_> = kinds.iter().map(|kind| map.publish(&json!({"type": kind, "payload": {}}))[0].clone()).collect();
    let found = pages(&map, &at, "status=pending&type=map_kill&limit=2");
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let events: Vec<_> = found.concat().iter().map(|delivery| delivery["event_ids"][0].clone()).collect();
    assert_eq!(events, [&ids[3], &ids[1], &ids[0]].map(|id| json!(id)));
    let text = format!("status=pending&limit=1&text={}", ids[0].to_lowercase());
    assert_eq!(pages(&map, &at, &text).concat().len(), 1);
    for none in ["code=500", "until=2001-01-01T00:00:00Z", "since=2999-01-01T00:00:00Z"] {
        assert_eq!(pages(&map, &at, &format!("status=pending&{none}")), [Vec::<Value>::new()]);
    }
}

#[test]
fn what_waits_beyond_the_budget_of_a_scan_is_on_the_next_page() {
    let (_server, map) = delivering(&[("limits.scan_events", "4"), ("limits.api_requests_per_minute", "10000")]);
    let (at, _) = webhook(&map, json!({"url": "http://127.0.0.1:9/x", "active": false}));
    for n in 0..14 {
        let kind = ["add_system", "map_kill"][n % 2];
        map.publish(&json!({"type": kind, "payload": {}}));
    }
    let found = pages(&map, &at, "status=pending&type=map_kill");
    assert!(found.len() > 2, "{found:?}");
    assert_eq!(found.concat().len(), 7);
}
