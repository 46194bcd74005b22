//! One log for all nodes.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::map::ids;
use crate::support::organization::Organization;
use crate::support::{Sse, eventually, within};

/// How long a client goes on asking for the same.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes with a key, again and again until it is answered, as a client does that loses its server. The ids.
pub fn publish_until_known(acme: &Organization, key: &str) -> Vec<String> {
    let body = json!({ "event": "message", "payload": { "key": key } });
    let mut published = None;
    within(PATIENCE, "an event is stored", || {
        let answer = acme.below("POST", "/events").header("Idempotency-Key", key).json(&body).try_send();
        published = answer.ok().filter(|answer| answer.status == 201).map(|answer| ids(&answer.expect(201)));
        published.is_some()
    });
    published.expect("it was stored")
}

/// The ids of the next events of a stream.
pub fn seen(stream: &mut Sse, count: usize) -> Vec<String> {
    stream.take(count).into_iter().map(|frame| frame.id.expect("an id")).collect()
}

#[test]
fn what_one_node_acknowledges_every_node_reads_in_the_same_order() {
    let nodes = Nodes::start(3, Nats::start(1), &[]);
    let [a, b, c] = &nodes.nodes[..] else { panic!("three nodes") };
    let acme = a.new_organization("acme");
    for node in [b, c] {
        eventually("the node knows the organization", || acme.at(node).below("GET", "").send().status == 200);
    }
    let mut streams: Vec<_> = [a, b, c].iter().map(|node| acme.at(node).stream("")).collect();
    let mut published = Vec::new();
    for n in 0..10 {
        for node in [a, b, c] {
            published.extend(acme.at(node).publish(&json!({ "event": "message", "payload": { "n": n } })));
        }
    }
    for stream in &mut streams {
        assert_eq!(seen(stream, published.len()), published);
    }
    let histories: BTreeSet<Vec<String>> = [a, b, c].iter().map(|node| acme.at(node).export()).collect();
    assert_eq!(histories.len(), 1, "each node has the same bytes");
}

#[test]
fn whichever_node_is_killed_nothing_is_lost_or_doubled_and_a_client_resumes_at_another_node() {
    let mut nodes = Nodes::start(3, Nats::start(1), &[]);
    let acme = nodes.nodes[0].new_organization("acme");
    let first = acme.publish(&json!({ "event": "message", "payload": {} })).remove(0);
    let published = Mutex::new(BTreeSet::from([first.clone()]));
    for round in 0..2 {
        let writer = nodes.writer();
        let others: Vec<_> = (0..3).filter(|n| *n != writer).collect();
        let clients: Vec<_> = others.iter().map(|n| acme.at(&nodes.nodes[*n])).collect();
        let (stopping, longest) = (AtomicBool::new(false), Mutex::new(Duration::ZERO));
        thread::scope(|scope| {
            for client in &clients {
                let (published, stopping, longest) = (&published, &stopping, &longest);
                scope.spawn(move || {
                    for n in 0.. {
                        if stopping.load(Ordering::Relaxed) {
                            break;
                        }
                        let begun = Instant::now();
                        // a node that lives never answers by 5xx
                        let ids = client.publish(&json!({ "event": "message", "payload": { "n": n } }));
                        published.lock().expect("the set").extend(ids);
                        let mut longest = longest.lock().expect("the time");
                        *longest = longest.max(begun.elapsed());
                    }
                });
            }
            let known = published.lock().expect("the set").len();
            eventually("publishers are at work", || published.lock().expect("the set").len() > known + 20);
            nodes.nodes[writer].kill();
            let known = published.lock().expect("the set").len();
            within(PATIENCE, "publishers go on", || published.lock().expect("the set").len() > known + 20);
            stopping.store(true, Ordering::Relaxed);
        });
        let longest = longest.into_inner().expect("the time");
        assert!(longest < Duration::from_secs(8), "round {round}: a publisher waited for {longest:?}");
        nodes.nodes[writer].launch();
    }
    let published: Vec<String> = published.into_inner().expect("the set").into_iter().collect();
    for node in &nodes.nodes {
        let resumed = acme.at(node).below("GET", "/events/stream").header("Last-Event-ID", &first);
        assert_eq!(seen(&mut Sse::open(resumed), published.len() - 1), published[1..]);
    }
}

#[test]
fn an_idempotency_key_is_known_to_all_nodes_and_after_all_of_them_were_started_again() {
    let mut nodes = Nodes::start(2, Nats::start(1), &[]);
    let acme = nodes.nodes[0].new_organization("acme");
    let first = publish_until_known(&acme, "once");
    assert_eq!(publish_until_known(&acme.at(&nodes.nodes[1]), "once"), first);
    let writer = nodes.writer();
    nodes.nodes[writer].kill();
    assert_eq!(publish_until_known(&acme.at(&nodes.nodes[1 - writer]), "once"), first);
    nodes.nodes[1 - writer].kill();
    nodes.nodes.iter_mut().for_each(|node| node.launch());
    for node in &nodes.nodes {
        assert_eq!(publish_until_known(&acme.at(node), "once"), first);
        assert_eq!(acme.at(node).export().len(), 1);
    }
}

#[test]
fn a_node_with_an_empty_folder_fills_it_and_one_of_another_cluster_is_refused() {
    let mut nodes = Nodes::start(2, Nats::start(1), &[]);
    let acme = nodes.nodes[0].new_organization("acme");
    acme.publish_many(3_000, "s");
    let (_, token) = acme.new_token(json!({ "scopes": ["subscribe"], "name": "reader" }));
    let history = acme.export();
    nodes.nodes[1].kill();
    nodes.empty(1);
    nodes.nodes[1].launch();
    assert_eq!(acme.at(&nodes.nodes[1]).with_token(&token).export(), history);

    let other = Nats::start(1);
    nodes.nodes[1].kill();
    nodes.nodes[1].set(&[("nats.servers", &other.addresses())]);
    let refused = nodes.nodes[1].try_launch().expect_err("its folder is a copy of another log");
    assert!(refused.err.contains("another cluster"), "{refused:?}");
}
