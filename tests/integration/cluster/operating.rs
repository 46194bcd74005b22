//! What those are told who run a cluster: by doctor, by the overview, and when a node does not start.

use std::time::Duration;

use serde_json::{Value, json};

use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::program::{Ended, Program, command};
use crate::support::server::ADMIN;
use crate::support::webhooks::webhook;
use crate::support::{Receiver, TestServer, eventually, folder, within};

/// By when it is noticed that a NATS server is gone for good, on a machine that does other things as well.
const NOTICED: Duration = Duration::from_secs(40);

fn doctor(node: &TestServer) -> Ended {
    let mut asked = command(&["doctor", "--server", &node.url()]);
    asked.env("STENTOR_TOKEN", ADMIN);
    Program::start(asked).wait()
}

fn cluster(node: &TestServer) -> Value {
    node.admin("GET", "/api/v1/cluster").send().expect(200)["data"].clone()
}

fn troubles(node: &TestServer) -> Vec<String> {
    let told = cluster(node)["troubles"].as_array().expect("a list").clone();
    told.iter().map(|trouble| trouble["kind"].as_str().expect("a kind").to_owned()).collect()
}

/// The kinds of what needs attention.
fn attention(node: &TestServer) -> Vec<String> {
    let overview = node.admin("GET", "/api/v1/overview").send().expect(200);
    let told = overview["data"]["attention"].as_array().expect("a list").clone();
    told.iter().map(|one| one["kind"].as_str().expect("a kind").to_owned()).collect()
}

fn all_slots_are_owned(nodes: &Nodes) {
    eventually("all slots are owned", || {
        let running = nodes.nodes.iter().filter(|node| node.runs());
        running.map(|node| node.metric("stentor_cluster_slots_owned")).sum::<i64>() == 64
    });
}

#[test]
fn doctor_and_the_overview_say_who_is_in_the_cluster_who_is_missing_and_what_helps_a_damaged_node() {
    let nats = Nats::start(1);
    let monitor = nats.monitor(0);
    let mut nodes = Nodes::start(2, nats, &[("nats.monitor", &monitor)]);
    let acme = nodes.nodes[0].new_organization("acme");
    acme.publish_many(200, "s");
    all_slots_are_owned(&nodes);
    let writer = nodes.writer();
    eventually("all of it is known", || {
        let told = cluster(&nodes.nodes[0]);
        told["nats_syncs_always"] == true
            && told["nats_servers"][0]["version"].is_string()
            && told["streams"][1].is_object()
    });
    let told = cluster(&nodes.nodes[0]);
    let writer_name = format!("node-{writer}");
    assert_eq!((told["node"].as_str(), told["writer"].as_str()), (Some("node-0"), Some(&*writer_name)));
    assert_eq!(told["slots_unowned"], "");
    for (n, node) in nodes.nodes.iter().enumerate() {
        let said = &told["nodes"][n];
        assert_eq!((&said["live"], &said["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))), "{said}");
        assert_eq!(said["slots_owned"], node.metric("stentor_cluster_slots_owned"));
        assert!(said["started_at"].is_string() && said["heard_ms"].as_u64() < Some(1_500), "{said}");
    }
    let doctored = doctor(&nodes.nodes[0]);
    let expected = [
        "node-0: ",
        "node-1: ",
        " writes the log in term ",
        "_LOG is whole on 1 of 1",
        " is 2.",
        "syncs to disk before",
    ];
    for part in expected {
        assert!(doctored.out.contains(part), "{part}: {}", doctored.out);
    }
    assert_eq!(doctored.code, Some(0), "{doctored:?}");
    assert_eq!((troubles(&nodes.nodes[0]), attention(&nodes.nodes[0])), (vec![], vec![]));

    // one that ends in order is not missed
    nodes.nodes[1].stop();
    eventually("it is not spoken of", || cluster(&nodes.nodes[0])["nodes"].as_array().expect("nodes").len() == 1);
    nodes.nodes[1].launch();
    all_slots_are_owned(&nodes);
    nodes.nodes[1].kill();
    eventually("the node is missed", || troubles(&nodes.nodes[0]) == ["cluster_node_lost"]);
    assert_eq!(attention(&nodes.nodes[0]), ["cluster_node_lost"]);
    let doctored = doctor(&nodes.nodes[0]);
    assert!(
        doctored.out.contains("A node is not heard: the other nodes stand in for node-1 (heard last"),
        "{doctored:?}"
    );

    let data = nodes.nodes[1].folder().to_owned();
    folder::remove(&data.join("wal/manifest"));
    let refused = nodes.nodes[1].try_launch().expect_err("its folder is damaged");
    assert!(refused.err.contains("take its data folder away") && !refused.err.contains("backup"), "{refused:?}");
    nodes.empty(1);
    nodes.nodes[1].launch();
    assert_eq!(acme.at(&nodes.nodes[1]).export(), acme.export());
    eventually("nobody is missed", || troubles(&nodes.nodes[0]).is_empty());
}

#[test]
fn a_nats_server_that_is_missing_is_named() {
    let mut nodes = Nodes::start(1, Nats::start(3), &[]);
    within(NOTICED, "all servers are known", || {
        let told = cluster(&nodes.nodes[0]);
        told["streams"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["replicas_current"] == 3))
    });
    assert_eq!(troubles(&nodes.nodes[0]), Vec::<String>::new());
    nodes.nats.kill(2);
    within(NOTICED, "a server is missed", || troubles(&nodes.nodes[0]) == ["nats_replicas_missing"]);
    let doctored = doctor(&nodes.nodes[0]);
    assert!(doctored.out.contains("is whole on 2 of 3 servers (n2 is "), "{doctored:?}");
    assert_eq!(attention(&nodes.nodes[0]), ["nats_replicas_missing"]);
    nodes.nats.launch(2);
    within(NOTICED, "nothing is wrong", || troubles(&nodes.nodes[0]).is_empty());
}

#[test]
fn the_secret_key_is_replaced_while_the_other_nodes_are_stopped() {
    const NEW_KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY=";
    let receiver = Receiver::start(&[]);
    let settings = [("webhooks.allow_http", "true"), ("webhooks.allow_networks", "127.0.0.1")];
    let mut nodes = Nodes::start(2, Nats::start(1), &settings);
    let map = nodes.nodes[0].new_map("home");
    map.request("PUT", "/webhooks/toggle").json(&json!({ "enabled": true })).send().expect(200);
    webhook(&map, json!({ "url": receiver.url() }));
    map.post(&json!({ "type": "map_kill", "payload": {} })).expect(201);
    receiver.expect(1);

    let old_key = crate::support::server::SECRET_KEY;
    nodes.nodes[1].stop();
    let second = nodes.nodes.pop().expect("a node");
    let mut second = second.prepared(move |mut command| {
        command.env("STENTOR_SECRET_KEY", NEW_KEY).env("STENTOR_PREVIOUS_SECRET_KEY", old_key);
        command
    });
    let refused = second.try_launch().expect_err("the other node knows only the key before");
    assert!(refused.err.contains("(node-0)") && refused.err.contains("nothing was changed"), "{refused:?}");
    map.post(&json!({ "type": "map_kill", "payload": {} })).expect(201);
    receiver.expect(2);

    nodes.nodes[0].stop();
    second.launch();
    let refused = nodes.nodes[0].try_launch().expect_err("it has the key of before");
    assert!(refused.err.contains("STENTOR_SECRET_KEY"), "{refused:?}");
    let first = nodes.nodes.pop().expect("a node");
    let mut first = first.prepared(|mut command| {
        command.env("STENTOR_SECRET_KEY", NEW_KEY);
        command
    });
    first.launch();
    nodes.nodes = vec![first, second];
    all_slots_are_owned(&nodes);
    for node in &nodes.nodes {
        map.at(node).post(&json!({ "type": "map_kill", "payload": {} })).expect(201);
    }
    receiver.expect(4);
}
