//! One node delivers for a webhook, and any node answers for it.

use std::collections::BTreeSet;

use serde_json::json;

use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::webhooks::webhook;
use crate::support::{Receiver, eventually};

#[test]
fn a_webhook_is_delivered_by_one_node_and_goes_on_when_that_node_dies() {
    let receiver = Receiver::start(&[]);
    let settings = [("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")];
    let mut nodes = Nodes::start(3, Nats::start(1), &settings);
    let map = nodes.nodes[0].new_map("home");
    map.request("PUT", "/webhooks/toggle").json(&json!({ "enabled": true })).send().expect(200);
    let (below, made) = webhook(&map, json!({ "url": receiver.url() }));
    let label = format!("webhook={}", made["id"]);
    eventually("all slots are owned", || {
        nodes.nodes.iter().map(|node| node.metric("stentor_cluster_slots_owned")).sum::<i64>() == 64
    });
    for (n, node) in nodes.nodes.iter().enumerate() {
        map.at(node).post(&json!({ "type": "map_kill", "payload": { "n": n } })).expect(201);
    }
    receiver.expect(3);
    // whichever node is asked
    for node in &nodes.nodes {
        map.at(node).request("POST", &format!("{below}/test")).send().expect(200);
        eventually("the list of deliveries has them all", || {
            let listed = map.at(node).request("GET", &format!("{below}/deliveries")).send().expect(200);
            listed["data"].as_array().is_some_and(|listed| listed.len() >= 3)
        });
    }
    receiver.expect(6);
    let event = map.at(&nodes.nodes[0]).history("limit=1")[0]["id"].as_str().expect("an id").to_owned();
    for (n, node) in nodes.nodes.iter().enumerate() {
        eventually("every node tells what became of an event", || {
            let answer = map.at(node).of_server("GET", &format!("/api/v1/events/{event}/trace")).send();
            assert_eq!(answer.header("stentor-node"), Some(&*format!("node-{n}")));
            let trace = answer.expect(200)["data"]["webhooks"][0].clone();
            trace["status"] == "delivered"
                && trace["deliveries"][0]["attempts"].as_array().is_some_and(|all| all.len() == 1)
        });
    }
    let mut owner = None;
    eventually("a node says how far the webhook is", || {
        owner = nodes.nodes.iter().position(|node| node.request("GET", "/metrics").send().text().contains(&label));
        owner.is_some()
    });
    let owner = owner.expect("a node delivers");
    nodes.nodes[owner].kill();
    let alive = map.at(&nodes.nodes[(owner + 1) % 3]);
    let last: Vec<u64> = (10..15).collect();
    for n in &last {
        alive.post(&json!({ "type": "map_kill", "payload": { "n": n } })).expect(201);
    }
    let delivered = || -> Vec<(u64, String)> {
        let received = receiver.received();
        let numbered =
            received.iter().map(|one| (one.json()["payload"]["n"].as_u64(), one.header("webhook-id").to_owned()));
        numbered.filter_map(|(n, id)| Some((n?, id))).collect()
    };
    eventually("another node goes on", || delivered().iter().filter(|(n, _)| last.contains(n)).count() >= last.len());
    let ids: BTreeSet<(u64, String)> = delivered().into_iter().collect();
    assert_eq!(ids.len(), 3 + last.len(), "what is sent again has the same id: {ids:?}");
}
