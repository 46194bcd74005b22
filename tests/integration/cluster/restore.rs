//! From one server to several.

use std::path::Path;

use serde_json::{Value, json};

use super::log::publish_until_known;
use super::nats::Nats;
use super::nodes::Nodes;
use crate::support::TestServer;
use crate::support::program::{Ended, Program, command};
use crate::support::server::{ADMIN, SECRET_KEY};

/// Events of a KiB each: several times what a node reads of the log at once.
const EVENTS: usize = 12_000;
const EVENTS_AT_ONCE: usize = 500;

fn fill(file: &Path, nats: &Nats) -> Ended {
    let mut asked = command(&["restore", "--engine", "nats"]);
    asked.arg(file).env("STENTOR__NATS__SERVERS", nats.addresses()).env("STENTOR__NATS__REPLICAS", "1");
    Program::start(asked).wait()
}

#[test]
fn a_server_that_was_alone_goes_on_as_several_nodes_with_all_that_it_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let with_key = |mut command: std::process::Command| {
        command.env("STENTOR_SECRET_KEY", SECRET_KEY);
        command
    };
    let mut alone = TestServer::at(&folder.path().join("alone"), &[("engine", "local")]).prepared(with_key);
    alone.launch();
    let acme = alone.new_organization("acme");
    let (_, reader) = acme.new_token(json!({ "scopes": ["subscribe"], "name": "reader" }));
    let filler = "x".repeat(1_000);
    for batch in 0..EVENTS / EVENTS_AT_ONCE {
        let event = |n| json!({ "event": "message", "payload": { "batch": batch, "n": n, "filler": filler } });
        acme.publish(&(0..EVENTS_AT_ONCE).map(event).collect::<Value>());
    }
    let once = publish_until_known(&acme, "once");
    let history = acme.export();
    let file = folder.path().join("backup.tar");
    let mut backup = command(&["backup", "--server", &format!("http://{}", alone.addr()), "--output"]);
    backup.arg(&file).env("STENTOR_TOKEN", ADMIN);
    Program::start(backup).wait().expect(0);
    alone.stop();

    let nats = Nats::start(1);
    fill(&file, &nats).expect(0);
    let again = fill(&file, &nats);
    assert!(again.code != Some(0) && again.err.contains("not empty"), "{again:?}");
    let nodes = Nodes::start(2, nats, &[]);
    for node in &nodes.nodes {
        let acme = acme.at(node);
        assert!(acme.with_token(&reader).export() == history, "each node has all of history, byte by byte");
        assert_eq!(publish_until_known(&acme, "once"), once, "idempotency keys are known");
    }
    let fresh = acme.at(&nodes.nodes[1]).publish(&json!({ "event": "message", "payload": {} }));
    assert!(fresh[0] > once[0], "ids go on behind those of before");
}
