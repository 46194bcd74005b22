//! A webhook that is tried on events that are there, before it is made.

use serde_json::{Value, json};

use crate::support::{Answer, Map, Receiver, TestServer};

fn rehearse(map: &Map, body: &Value) -> Answer {
    map.request("POST", "/webhooks/preview").json(body).send()
}

/// Publishes kills with values from 0 on, with a system between every two of them.
fn publish(map: &Map, kills: usize) -> Vec<String> {
    let events: Vec<_> = (0..kills)
        .flat_map(|n| [json!({"type": "map_kill", "payload": {"value": n}}), json!({"type": "add_system"})])
        .collect();
    events.chunks(1000).flat_map(|events| map.publish(&json!(events))).collect()
}

#[test]
fn a_rehearsal_counts_what_would_be_sent_and_shows_both_bodies() {
    let server = TestServer::start(&[]);
    let map = server.new_map("rehearsal");
    let ids = publish(&map, 30);
    let asked = json!({
        "url": "https://example.org/hook", "events": ["map_kill"], "filter": "event.payload.value >= 10",
        "format": "template", "template": "{\"worth\": {{ event.payload.value }}}", "since": "2020-01-01T00:00:00Z", "limit": 10_000,
    });
    let done = rehearse(&map, &asked).expect(200);
    let figures = |done: &Value| {
        let names = ["scanned", "complete", "would_send", "changed", "failed"];
        json!(names.map(|name| done[name].clone()))
    };
    assert_eq!(figures(&done), json!([60, true, 20, 20, 0]));
    let samples = done["samples"].as_array().expect("a list");
    assert_eq!((samples.len(), &samples[0]["event_id"]), (20, &json!(ids[20])));
    assert_eq!((&samples[0]["after"], &samples[0]["error"]), (&json!({"worth": 10}), &Value::Null));
    let envelope: Value = map.history("events=map_kill&limit=11").remove(10);
    assert_eq!(samples[0]["before"], envelope);
    // the own format changes nothing
    let plain = rehearse(&map, &json!({"since": ids[1], "limit": 10})).expect(200);
    assert_eq!(figures(&plain), json!([10, false, 10, 0, 0]));
    assert_eq!(
        (&plain["samples"][0]["event_id"], &plain["samples"][0]["before"]),
        (&json!(ids[2]), &plain["samples"][0]["after"])
    );
    // without a time, the newest
    let newest = rehearse(&map, &json!({"limit": 1, "format": "discord"})).expect(200);
    assert_eq!((figures(&newest), &newest["samples"][0]["event_id"]), (json!([1, false, 1, 1, 0]), &json!(ids[59])));
    assert_eq!(rehearse(&map, &json!({"since": ids[59]})).expect(200)["scanned"], 0);
}

#[test]
fn a_template_that_fails_for_some_events_is_told_and_nothing_is_sent() {
    let server = TestServer::start(&[("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")]);
    let map = server.new_map("fails");
    let receiver = Receiver::start(&[200]);
    let ids = publish(&map, 30);
    let template = "{% if event.payload.value == 0 %}nothing{% else %}{\"part\": 1}{% endif %}";
    let asked = json!({
        "url": receiver.url(), "events": "map_kill", "format": "template", "template": template, "limit": 60,
        "since": "2020-01-01T00:00:00Z",
    });
    let done = rehearse(&map, &asked).expect(200);
    assert_eq!((&done["would_send"], &done["failed"]), (&json!(29), &json!(1)), "{done}");
    let first = &done["samples"][0];
    assert_eq!((&first["event_id"], &first["after"]), (&json!(ids[0]), &Value::Null));
    assert!(first["error"].as_str().is_some_and(|error| !error.is_empty()), "{first}");
    assert_eq!(done["samples"].as_array().map(Vec::len), Some(20));
    assert_eq!(receiver.received().len(), 0);
}

#[test]
fn a_rehearsal_and_the_deliveries_need_the_right_to_read_beside_that_to_manage() {
    let server = TestServer::start(&[]);
    let map = server.new_map("scopes");
    let made = map.request("POST", "/webhooks").json(&json!({"url": "https://example.org/", "events": ["*"]})).send();
    let id = made.expect(201)["data"]["id"].as_str().expect("an id").to_string();
    let (_, manager) = map.new_token(json!({"scopes": ["manage"]}));
    let manager = map.with_token(&manager);
    let deliveries = format!("/webhooks/{id}/deliveries");
    for (method, rest) in [("GET", deliveries.clone()), ("GET", format!("{deliveries}/dlv_01J00000000000000000000000"))]
    {
        assert_eq!(manager.request(method, &rest).send().expect(403)["code"], "FORBIDDEN", "{rest}");
    }
    assert_eq!(rehearse(&manager, &json!({"limit": 1})).expect(403)["code"], "FORBIDDEN");
    rehearse(&manager, &json!({"format": "map"})).expect(200);
    map.request("GET", &deliveries).send().expect(200);
    for (bad, field) in [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 10_001}), "limit"),
        (json!({"limit": "x"}), "limit"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"limit": 1, "format": "template"}), "template"),
        (json!({"limit": 1, "odd": 1}), "odd"),
    ] {
        assert_eq!(rehearse(&map, &bad).expect(400)["details"][0]["field"], field, "{bad}");
    }
    assert_eq!(rehearse(&map, &json!({"limit": 1, "filter": "("})).expect(400)["code"], "INVALID_FILTER");
}

#[test]
fn a_rehearsal_ends_where_the_budget_of_a_scan_does() {
    let server = TestServer::start(&[("limits.scan_events", "100")]);
    let map = server.new_map("budget");
    publish(&map, 100);
    let done =
        rehearse(&map, &json!({"since": "2020-01-01T00:00:00Z", "limit": 10_000, "events": ["nothing"]})).expect(200);
    assert_eq!((&done["scanned"], &done["complete"], &done["would_send"]), (&json!(100), &json!(false), &json!(0)));
    let acme = server.new_organization("Acme");
    acme.publish_many(3, "a");
    acme.publish_many(2, "b");
    let asked = json!({"since": "2020-01-01T00:00:00Z", "sessionId": "b"});
    let done = acme.request("POST", "/api/v1/webhooks/preview").json(&asked).send().expect(200);
    assert_eq!((&done["scanned"], &done["would_send"], &done["changed"]), (&json!(5), &json!(2), &json!(0)), "{done}");
}
