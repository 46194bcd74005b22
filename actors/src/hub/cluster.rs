//! This server as one node of many, as the edge sees it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use tokio::sync::mpsc;

use super::Hub;
use crate::cluster::Status;
pub use crate::cluster::picture::{self, Picture, Trouble};
pub use crate::cluster::{PeerError, PeerRequest};
use crate::delivery::ownership::{SLOTS, slot_of};

/// How a node of a cluster is.
#[derive(Clone, Debug)]
pub struct ClusterHealth {
    pub node: Arc<str>,
    pub is_connected: bool,
    /// For how long the leader of the log was not reached.
    pub unreached: Duration,
    /// How far the copy is behind what the writer has said of the log, in messages, and for how long.
    pub behind: u64,
    pub behind_for: Duration,
    /// The term, and who writes in it.
    pub term: u64,
    pub writer: Option<Arc<str>>,
    pub is_writer: bool,
    /// Slots of webhooks that this node owns, of how many.
    pub slots_owned: usize,
    pub slots: usize,
    /// The nodes that are live.
    pub nodes: Vec<Arc<str>>,
    /// Whether NATS syncs before it answers; none: not known.
    pub syncs_always: Option<bool>,
    /// It cannot know of revocations any more, so it serves nobody.
    pub is_isolated: bool,
}

impl Hub {
    fn node(&self) -> Option<&Arc<Status>> {
        self.rooms.cluster.as_ref()
    }

    /// None: this is a server alone.
    pub fn cluster_health(&self) -> Option<ClusterHealth> {
        let status = self.node()?;
        let observed = status.observed();
        let (behind, behind_for) = status.behind();
        Some(ClusterHealth {
            node: status.node().clone(),
            is_connected: status.is_connected(),
            unreached: status.unreached(),
            behind,
            behind_for,
            term: observed.term,
            writer: observed.writer,
            is_writer: observed.is_writer,
            slots_owned: status.ownership().owned(),
            slots: SLOTS,
            nodes: status.nodes(),
            syncs_always: status.syncs_always(),
            is_isolated: status.is_isolated(),
        })
    }

    /// The cluster as this node sees it; none: this is a server alone.
    pub fn cluster_picture(&self) -> Option<Picture> {
        Some(self.node()?.picture())
    }

    /// Whether this node was cut off for so long that it cannot know of revocations.
    pub fn is_isolated(&self) -> bool {
        self.node().is_some_and(|status| status.is_isolated())
    }

    /// The node that delivers for a webhook, if it is another one.
    pub fn webhook_is_of(&self, webhook: &str) -> Option<Arc<str>> {
        let status = self.node()?;
        if status.ownership().is_mine(webhook) {
            return None;
        }
        status.owner(slot_of(webhook)).filter(|owner| owner != status.node())
    }

    /// The name of this node; none: this is a server alone.
    pub fn node_name(&self) -> Option<Arc<str>> {
        Some(self.node()?.node().clone())
    }

    /// The other nodes that are live.
    pub fn other_nodes(&self) -> Vec<Arc<str>> {
        let Some(status) = self.node() else { return Vec::new() };
        status.nodes().into_iter().filter(|node| node != status.node()).collect()
    }

    /// Whether this server delivers for a webhook.
    pub fn webhook_is_mine(&self, webhook: &str) -> bool {
        self.rooms.delivery.ownership.is_mine(webhook)
    }

    /// Whether there is a webhook of this id, as far as this node knows.
    pub fn knows_webhook(&self, webhook: &str) -> bool {
        self.rooms.catalog.webhook(webhook).is_some()
    }

    /// Asks another node.
    ///
    /// # Errors
    /// Why it has not answered.
    pub async fn ask_node(&self, node: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, PeerError> {
        match self.node() {
            Some(status) => status.peers().ask(node, payload, timeout).await,
            None => Err(PeerError::Absent),
        }
    }

    /// What other nodes ask of this one. Some once, in a cluster.
    pub fn take_peer_requests(&self) -> Option<mpsc::Receiver<PeerRequest>> {
        self.node()?.peers().take_requests()
    }

    /// What an answer to another node may have in bytes.
    pub fn peer_answer_bytes_max(&self) -> usize {
        self.node().map_or(0, |status| status.peers().answer_bytes_max())
    }
}
