//! NATS servers that are lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::log::{publish_until_known, seen};
use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::webhooks::webhook;
use crate::support::{Sse, within};

/// An election of NATS takes 4 to 9 seconds, and on a busy machine may have to be held twice.
const ELECTION: Duration = Duration::from_secs(40);

#[test]
fn a_lost_nats_server_costs_an_election_and_no_event() {
    let settings =
        [("journal.answer_timeout_s", "40"), ("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")];
    let mut nodes = Nodes::start(2, Nats::start(3), &settings);
    let acme = nodes.nodes[0].new_organization("acme");
    let map = nodes.nodes[0].new_map("home");
    map.request("PUT", "/webhooks/toggle").json(&json!({ "enabled": true })).send().expect(200);
    webhook(&map, json!({ "url": "http://127.0.0.1:9/" }));
    let mut published = acme.publish(&json!({ "event": "message", "payload": {} }));
    for n in 0..3 {
        nodes.nats.kill(n);
        let begun = Instant::now();
        for node in &nodes.nodes {
            // no client has to ask twice
            published.extend(acme.at(node).publish(&json!({ "event": "message", "payload": { "n": n } })));
        }
        assert!(begun.elapsed() < ELECTION, "{:?}", begun.elapsed());
        nodes.nats.launch(n);
        nodes.nats.expect_healthy();
    }
    for node in &nodes.nodes {
        let resumed = acme.at(node).below("GET", "/events/stream").header("Last-Event-ID", &published[0]);
        assert_eq!(seen(&mut Sse::open(resumed), published.len() - 1), published[1..]);
        // that another node delivers for a webhook is nothing to worry about
        let overview = node.admin("GET", "/api/v1/overview").send().expect(200);
        assert!(!overview.to_string().contains("webhook_unavailable"), "{overview}");
    }
}

#[test]
fn without_a_majority_publishes_are_answered_as_unknown_the_node_serves_nobody_and_goes_on_when_it_is_back() {
    let settings = [("journal.answer_timeout_s", "2"), ("cluster.isolated_after_s", "4")];
    let mut nodes = Nodes::start(1, Nats::start(3), &settings);
    let acme = nodes.nodes[0].new_organization("acme");
    let known = publish_until_known(&acme, "before");
    let mut stream = acme.stream("");
    nodes.nats.kill(0);
    nodes.nats.kill(1);
    let body = json!({ "event": "message", "payload": {} });
    let answer = acme.below("POST", "/events").header("Idempotency-Key", "unknown").json(&body).send();
    assert!(answer.header("retry-after").is_some());
    answer.expect_problem(503, "outcome_unknown");
    stream.ends_within(Duration::from_secs(20));
    within(Duration::from_secs(20), "nobody is served", || {
        let answer = acme.below("GET", "/events").send();
        answer.status == 503
    });
    let not_ready = nodes.nodes[0].request("GET", "/health/ready").send().expect(503);
    assert!(not_ready["reason"].is_string(), "{not_ready}");
    for n in [0, 1] {
        nodes.nats.launch(n);
    }
    within(ELECTION, "the node is ready again", || nodes.nodes[0].request("GET", "/health/ready").send().status == 200);
    let again = publish_until_known(&acme, "unknown");
    let stored: BTreeSet<String> = acme.history("limit=100").iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(stored, [known, again].concat().iter().map(|id| json!(id).to_string()).collect());
}
