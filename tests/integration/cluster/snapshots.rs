//! What no node needs any more is taken out of NATS, whoever writes.

use std::time::Duration;

use serde_json::{Value, json};

use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::organization::Organization;
use crate::support::within;

/// By when retention has taken a segment, and the writer has written a snapshot because of it.
const TAKEN: Duration = Duration::from_secs(40);
/// Events of a KiB each that fill more than a segment.
const EVENTS: usize = 4_000;
const EVENTS_AT_ONCE: usize = 500;

fn publish_segments(acme: &Organization) {
    let filler = "x".repeat(1_000);
    let event = |n| json!({ "event": "message", "payload": { "n": n, "filler": filler } });
    for _ in 0..EVENTS / EVENTS_AT_ONCE {
        acme.publish(&(0..EVENTS_AT_ONCE).map(event).collect::<Value>());
    }
}

/// Publishes more and more until what retention took is taken out of NATS as well.
fn expect_taken(nodes: &Nodes, acme: &Organization, already: u64) -> u64 {
    let mut taken = already;
    within(TAKEN, "what retention took is taken out of the log", || {
        publish_segments(acme);
        taken = nodes.nats.taken_out_of("stentor_LOG");
        taken > already
    });
    taken
}

#[test]
fn a_new_writer_writes_its_snapshots_behind_those_of_the_one_before() {
    let settings = [("storage.segment_max_bytes", "1048576"), ("retention.max_events", "1000")];
    let mut nodes = Nodes::start(2, Nats::start(1), &settings);
    let acme = nodes.nodes[0].new_organization("acme");
    let first = nodes.writer();
    let taken = expect_taken(&nodes, &acme.at(&nodes.nodes[first]), 0);
    nodes.nodes[first].kill();
    let other = acme.at(&nodes.nodes[1 - first]);
    publish_segments(&other);
    assert_eq!(nodes.writer(), 1 - first);
    let taken = expect_taken(&nodes, &other, taken);
    // the one before comes back to a log that goes on behind its copy
    nodes.nodes[first].launch();
    nodes.nodes[1 - first].kill();
    let again = acme.at(&nodes.nodes[first]);
    publish_segments(&again);
    expect_taken(&nodes, &again, taken);
}
