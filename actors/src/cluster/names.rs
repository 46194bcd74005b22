//! The names of streams and subjects, each once.

use super::entry::Kind;
use crate::model::hex;

/// Names with the prefix of an installation.
#[derive(Debug)]
pub struct Names {
    prefix: String,
    events: String,
    changes: String,
}

impl Names {
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.into(), events: format!("{prefix}.log.e"), changes: format!("{prefix}.log.d") }
    }

    /// The stream of the log.
    pub fn log(&self) -> String {
        format!("{}_LOG", self.prefix)
    }

    /// The stream of what the nodes have agreed on: the cluster's id, and documents as they were at one moment.
    pub fn configuration(&self) -> String {
        format!("{}_CONF", self.prefix)
    }

    pub fn all_of_configuration(&self) -> String {
        format!("{}.conf.>", self.prefix)
    }

    pub fn cluster_id(&self) -> String {
        format!("{}.conf.id", self.prefix)
    }

    /// A part of the documents as they were after a message of the log.
    pub fn snapshot_part(&self, sequence: u64, part: u32) -> String {
        format!("{}.conf.s.{sequence}.{part}", self.prefix)
    }

    pub fn snapshot_parts(&self) -> String {
        format!("{}.conf.s.>", self.prefix)
    }

    /// Which of them are whole.
    pub fn snapshot_done(&self) -> String {
        format!("{}.conf.done", self.prefix)
    }

    pub fn all_of_log(&self) -> String {
        format!("{}.log.>", self.prefix)
    }

    pub fn term(&self) -> String {
        format!("{}.log.term", self.prefix)
    }

    pub fn of_entry(&self, kind: Kind) -> &str {
        match kind {
            Kind::Events => &self.events,
            // nothing is never published
            Kind::Changes | Kind::Nothing => &self.changes,
        }
    }

    /// Where messages of the log are published again when they are stored.
    pub fn tail_of_log(&self) -> String {
        format!("{}.tail.log.>", self.prefix)
    }

    pub fn forwards_to(&self, node: &str) -> String {
        format!("{}.j.{}", self.prefix, token(node))
    }

    /// Questions about forwards.
    pub fn asks_of(&self, node: &str) -> String {
        format!("{}.q.{}", self.prefix, token(node))
    }

    pub fn replies_to(&self, node: &str) -> String {
        format!("{}.a.{}", self.prefix, token(node))
    }

    /// What other nodes ask of this one.
    pub fn requests_to(&self, node: &str) -> String {
        format!("{}.h.{}", self.prefix, token(node))
    }

    /// The writer's beats.
    pub fn beats(&self) -> String {
        format!("{}.beat", self.prefix)
    }

    /// How many streams nodes have open.
    pub fn counts(&self) -> String {
        format!("{}.counts", self.prefix)
    }

    /// The beats of all nodes.
    pub fn nodes(&self) -> String {
        format!("{}.node", self.prefix)
    }
}

/// A name as one part of a subject.
fn token(name: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match !name.is_empty() && name.bytes().all(is_plain) {
        true => name.into(),
        // no plain name begins so
        false => format!("={}", hex::encode(name.as_bytes())),
    }
}
