//! What becomes of webhooks, as events of the organization `system`.

use serde_json::{Value, json};

use crate::support::webhooks::{delivering, webhook};
use crate::support::{Receiver, Sse, TestServer};

/// What the server says of webhooks by itself, and not what others have done to them.
const NOTICES: &str = "events=webhook.dead_letter,webhook.disabled,webhook.enabled,webhook.gap";

fn history(server: &TestServer) -> Vec<Value> {
    let answer = server.admin("GET", &format!("/api/v1/organizations/system/events?{NOTICES}")).send().expect(200);
    answer["data"].as_array().expect("a list").clone()
}

#[test]
fn whoever_follows_the_organization_system_learns_what_becomes_of_webhooks() {
    let (mut server, map) = delivering(&[]);
    let at = format!("/api/v1/organizations/system/events/stream?{NOTICES}");
    let mut system = Sse::open(server.admin("GET", &at));
    let receiver = Receiver::start(&[500, 410]);
    let policy = json!({"policy": "constant", "delaySeconds": 1, "attempts": 1});
    let url = format!("{}?token=secret", receiver.url());
    let (at, made) = webhook(&map, json!({"url": url, "retry_policy": policy, "name": "Orders"}));
    let host = url.split('/').nth(2).expect("a host");
    let about = json!({"webhook_id": made["id"], "channel": format!("map:{}", map.id), "name": "Orders", "host": host});
    let mut next = |kind: &str| {
        let event = system.next().json();
        assert_eq!((&event["event"], &event["organization"]), (&kind.into(), &"system".into()), "{event}");
        for (field, value) in about.as_object().expect("an object") {
            assert_eq!(&event["payload"][field], value);
        }
        event["payload"].clone()
    };

    let first = map.publish(&json!({"type": "map_kill"}));
    let dead = next("webhook.dead_letter");
    assert_eq!(dead["event_ids"], json!([format!("evt_{}", first[0])]));
    assert_eq!(dead["delivery_id"], receiver.expect(1)[0].header("X-Wanderer-Delivery"));
    assert_eq!(
        (&dead["attempts"], &dead["status_code"], &dead["error_code"]),
        (&1.into(), &500.into(), &"http_status".into())
    );

    map.publish(&json!({"type": "map_kill"}));
    next("webhook.dead_letter");
    let disabled = next("webhook.disabled");
    assert_eq!((&disabled["reason"], &disabled["status_code"]), (&"gone".into(), &410.into()));
    assert_eq!(disabled["consecutive_failures"], 2);
    assert!(disabled["disabled_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    map.request("PATCH", &at).json(&json!({"active": true})).send().expect(200);
    next("webhook.enabled");

    // neither a kill nor an orderly end repeats one
    let before = history(&server);
    assert_eq!(before.len(), 4);
    server.restart();
    map.at(&server).publish(&json!({"type": "map_kill"}));
    receiver.expect(3);
    assert_eq!(history(&server), before);
}
