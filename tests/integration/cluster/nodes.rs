//! The nodes of a test.

use std::thread;
use std::time::Duration;

use super::nats::Nats;
use crate::support::{TestServer, within};

/// Nodes that share what NATS holds. They are dropped before it.
pub struct Nodes {
    pub nodes: Vec<TestServer>,
    pub nats: Nats,
    folders: Vec<tempfile::TempDir>,
}

/// By when a writer that is lost has been replaced, on a machine that does other things as well.
const CHANGE: Duration = Duration::from_secs(20);

impl Nodes {
    /// Starts so many nodes at once.
    pub fn start(count: usize, nats: Nats, settings: &[(&str, &str)]) -> Nodes {
        let (servers, replicas) = (nats.addresses(), nats.count().to_string());
        let folders: Vec<_> = (0..count).map(|_| tempfile::tempdir().expect("a folder can be made")).collect();
        let mut nodes: Vec<TestServer> = Vec::new();
        for (n, folder) in folders.iter().enumerate() {
            let name = format!("node-{n}");
            let own =
                [("engine", "nats"), ("nats.servers", &servers), ("nats.replicas", &replicas), ("cluster.node", &name)];
            nodes.push(TestServer::at(folder.path(), &[&own, settings].concat()));
        }
        thread::scope(|scope| nodes.iter_mut().for_each(|node| drop(scope.spawn(|| node.launch()))));
        Nodes { nodes, nats, folders }
    }

    /// Which node writes the log, of those that run.
    pub fn writer(&self) -> usize {
        let mut found = None;
        within(CHANGE, "a node writes the log", || {
            found = self.nodes.iter().position(|node| node.runs() && node.metric("stentor_cluster_writer") == 1);
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Takes away all that a node that does not run has kept.
    pub fn empty(&self, n: usize) {
        let folder = self.folders[n].path();
        std::fs::remove_dir_all(folder).expect("the folder goes");
        std::fs::create_dir(folder).expect("an empty one takes its place");
    }
}
