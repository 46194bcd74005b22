//! How this node of the cluster is, for readiness, metrics and doctor, and who is told when it owns a slot. Written by the
//! worker, read by everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::link::Out;
use super::peers::Peers;
use super::picture::{About, Node, Picture, Server, Stream};
use super::slots::SLOTS;
use super::wire::NodeCounts;
use crate::delivery::ownership::Ownership;
use crate::model::relay::Observed;
use crate::streams::slots::Slots as StreamSlots;

/// How often a node says all its counts of open streams.
pub(super) const COUNTS_EVERY: Duration = Duration::from_secs(5);
/// A count that was not said again for so long is over, and that was lost.
const COUNTS_KEPT: Duration = COUNTS_EVERY.saturating_mul(3);
/// The worker shows itself many times in this. One that does not hangs, and the copy gets on no more.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// A node that was not heard for so long is not spoken of any more, unless it owns slots.
const SPOKEN_OF: Duration = Duration::from_secs(86_400);
/// Who is live is noted now and then; a node that was heard in this time is, also when it is not noted yet.
const JUST_HEARD: Duration = Duration::from_secs(1);
/// Nodes that are spoken of, at most.
const NODES_MAX: usize = 256;
/// Counts in one message.
const COUNTS_AT_ONCE: usize = 1_000;

/// What has become of a slot on this node.
pub enum SlotChange {
    Owned,
    /// What is done for it must end at once.
    Lost,
    /// What is done for it must end in order; then this is to be called.
    Releasing(Box<dyn FnOnce() + Send>),
}

/// Told of slots, on the worker's thread.
pub type SlotsSink = Box<dyn Fn(u8, SlotChange) + Send + Sync>;

pub struct Status {
    node: Arc<str>,
    begun: Instant,
    peers: Peers,
    isolated_after: Option<Duration>,
    /// When the leader of the log was reached last, in milliseconds since the beginning.
    reached_ms: AtomicU64,
    /// When the worker showed itself last, likewise.
    shown_ms: AtomicU64,
    /// Since when the copy is behind what was heard of the log, likewise; 0: it is not.
    behind_since_ms: AtomicU64,
    /// Who owns each slot.
    owners: Mutex<Vec<Option<Arc<str>>>>,
    ownership: Arc<Ownership>,
    slots_sink: OnceLock<SlotsSink>,
    /// The open streams of this node and the others.
    streams: OnceLock<Arc<StreamSlots>>,
    out: Out,
    /// Whether NATS syncs before it answers; none: not known.
    syncs: Mutex<Option<bool>>,
    is_connected: AtomicBool,
    observed: Mutex<Observed>,
    /// The nodes that are live.
    nodes: Mutex<Vec<Arc<str>>>,
    /// What this node says of itself; the lag is added.
    about: About,
    seen: Mutex<Seen>,
}

/// What was seen of the cluster, for people.
#[derive(Default)]
struct Seen {
    /// Nodes that were heard, what they said last, and when.
    heard: BTreeMap<Arc<str>, (About, Instant)>,
    /// Since when a slot has had no owner that is live, by slot.
    unowned: BTreeMap<u8, Instant>,
    streams: Vec<Stream>,
    /// Since when a stream has not been whole, by name.
    incomplete: BTreeMap<String, Instant>,
    servers: Vec<Server>,
}

impl Status {
    /// `isolated_after`: when a node that cannot reach the log serves nobody any more; none: never.
    pub fn new(
        node: Arc<str>,
        ownership: Arc<Ownership>,
        peers: Peers,
        out: Out,
        isolated_after: Option<Duration>,
        about: About,
    ) -> Status {
        Status {
            node,
            begun: Instant::now(),
            peers,
            isolated_after,
            reached_ms: AtomicU64::new(0),
            shown_ms: AtomicU64::new(0),
            behind_since_ms: AtomicU64::new(0),
            owners: Mutex::new(vec![None; SLOTS]),
            ownership,
            slots_sink: OnceLock::new(),
            streams: OnceLock::new(),
            out,
            syncs: Mutex::default(),
            is_connected: AtomicBool::new(true),
            observed: Mutex::default(),
            nodes: Mutex::default(),
            about,
            seen: Mutex::default(),
        }
    }

    /// Says who is told of slots. To be called once; until then this node claims none.
    pub fn set_slots_sink(&self, sink: SlotsSink) {
        if self.slots_sink.set(sink).is_err() {
            log::error!("one sink only is told of slots; a second one was not taken");
        }
    }

    /// Counts these streams over all nodes from now on. To be called once.
    pub fn share_counts(&self, streams: Arc<StreamSlots>) {
        let (out, node) = (self.out.clone(), self.node.clone());
        streams.set_sink(Box::new(move |counted, streams| {
            out.counts(&NodeCounts { node: node.clone(), counts: vec![(counted.clone(), streams as u32)] });
        }));
        if self.streams.set(streams).is_err() {
            log::error!("streams are counted over all nodes once only");
        }
    }

    /// Says all counts, for those who have missed some.
    pub(super) fn tell_counts(&self) {
        let Some(streams) = self.streams.get() else { return };
        for counts in streams.all().chunks(COUNTS_AT_ONCE) {
            let counts = counts.iter().map(|(counted, streams)| (counted.clone(), *streams as u32)).collect();
            self.out.counts(&NodeCounts { node: self.node.clone(), counts });
        }
    }

    pub(super) fn heard_counts(&self, counts: NodeCounts) {
        let Some(streams) = self.streams.get().filter(|_| counts.node != self.node) else { return };
        let now = Instant::now();
        for (counted, count) in counts.counts {
            streams.count_elsewhere(&counts.node, counted, count as usize, now);
        }
    }

    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    fn elapsed_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// For how long the leader of the log was not reached.
    pub fn unreached(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms().saturating_sub(self.reached_ms.load(Ordering::Relaxed)))
    }

    /// Whether NATS syncs before it answers; none: not known.
    pub fn syncs_always(&self) -> Option<bool> {
        *self.syncs.lock()
    }

    pub(super) fn note_sync(&self, syncs: Option<bool>) {
        let before = std::mem::replace(&mut *self.syncs.lock(), syncs);
        if syncs == Some(false) && before != syncs {
            log::error!(
                "NATS answers before its disk has what it answers for; set sync_interval: always in jetstream {{ }}"
            );
        }
    }

    pub(super) fn note_reached(&self) {
        self.reached_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// For how long the worker has not shown itself; zero: it is at work.
    fn hangs_for(&self) -> Duration {
        let since = Duration::from_millis(self.elapsed_ms().saturating_sub(self.shown_ms.load(Ordering::Relaxed)));
        if since > HANGS_AFTER { since } else { Duration::ZERO }
    }

    /// Whether this node was cut off, or its worker has hung, for so long that it cannot know of revocations.
    pub fn is_isolated(&self) -> bool {
        self.isolated_after.is_some_and(|after| self.unreached().max(self.hangs_for()) >= after)
    }

    /// By how many messages the copy is behind what was heard of the log, and for how long it has not got on though there is more,
    /// or nobody looks whether there is.
    pub fn behind(&self) -> (u64, Duration) {
        let behind = {
            let observed = self.observed.lock();
            observed.heard.saturating_sub(observed.applied)
        };
        let since_ms = self.behind_since_ms.load(Ordering::Relaxed);
        let behind_for_ms = if since_ms == 0 { 0 } else { self.elapsed_ms().saturating_sub(since_ms) };
        (behind, Duration::from_millis(behind_for_ms).max(self.hangs_for()))
    }

    /// The node that owns a slot.
    pub fn owner(&self, slot: u8) -> Option<Arc<str>> {
        self.owners.lock().get(usize::from(slot))?.clone()
    }

    pub(super) fn show_owner(&self, slot: u8, owner: Option<Arc<str>>) {
        if let Some(of_slot) = self.owners.lock().get_mut(usize::from(slot)) {
            *of_slot = owner;
        }
    }

    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    pub fn observed(&self) -> Observed {
        self.observed.lock().clone()
    }

    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// The nodes that are live, this one included, by name.
    pub fn nodes(&self) -> Vec<Arc<str>> {
        self.nodes.lock().clone()
    }

    pub(super) fn takes_slots(&self) -> bool {
        self.slots_sink.get().is_some()
    }

    pub(super) fn tell(&self, slot: u8, change: SlotChange) {
        if let Some(sink) = self.slots_sink.get() {
            sink(slot, change);
        }
    }

    pub(super) fn show(&self, observed: &Observed, is_connected: bool) {
        self.shown_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        self.is_connected.store(is_connected, Ordering::Relaxed);
        let is_behind = observed.heard > observed.applied;
        let since_ms = self.behind_since_ms.load(Ordering::Relaxed);
        // what was applied meanwhile shows that it follows, though it may never catch the last one under load
        let follows = self.observed.lock().applied < observed.applied;
        if !is_behind {
            self.behind_since_ms.store(0, Ordering::Relaxed);
        } else if since_ms == 0 || follows {
            self.behind_since_ms.store(self.elapsed_ms().max(1), Ordering::Relaxed);
        }
        self.observed.lock().clone_from(observed);
    }

    pub(super) fn show_nodes(&self, nodes: Vec<Arc<str>>) {
        if let Some(streams) = self.streams.get() {
            streams.keep_nodes(|node| nodes.iter().any(|live| **live == *node));
            if let Some(since) = Instant::now().checked_sub(COUNTS_KEPT) {
                streams.keep_heard_since(since);
            }
        }
        self.note_unowned(&nodes);
        *self.nodes.lock() = nodes;
    }

    fn note_unowned(&self, live: &[Arc<str>]) {
        let owners = self.owners.lock().clone();
        let is_owned = |owner: &Option<Arc<str>>| owner.as_ref().is_some_and(|owner| live.contains(owner));
        let (now, mut seen) = (Instant::now(), self.seen.lock());
        for (slot, owner) in (0_u8..).zip(&owners) {
            match is_owned(owner) {
                true => drop(seen.unowned.remove(&slot)),
                false => drop(seen.unowned.entry(slot).or_insert(now)),
            }
        }
    }

    // ---- for people -----------------------------------------------------------------------------------------------

    /// What this node says of itself.
    pub(super) fn about(&self) -> About {
        let (behind, behind_for) = self.behind();
        About { behind, behind_ms: behind_for.as_millis() as u64, ..self.about.clone() }
    }

    pub(super) fn heard_node(&self, node: Arc<str>, about: About) {
        let (now, mut seen) = (Instant::now(), self.seen.lock());
        seen.heard.insert(node, (about, now));
        if seen.heard.len() > NODES_MAX {
            let oldest = seen.heard.iter().min_by_key(|(_, (_, at))| *at).map(|(node, _)| node.clone());
            oldest.and_then(|oldest| seen.heard.remove(&oldest));
        }
    }

    /// A node has said that it ends: nobody misses it.
    pub(super) fn node_left(&self, node: &str) {
        self.seen.lock().heard.remove(node);
    }

    /// The other nodes that were heard in this time, whether they deliver or not.
    pub fn others(&self, within: Duration) -> Vec<Arc<str>> {
        let (now, seen) = (Instant::now(), self.seen.lock());
        let is_there = |node: &Arc<str>, at: Instant| *node != self.node && now.duration_since(at) <= within;
        let there = seen.heard.iter().filter(|(node, (_, at))| is_there(node, *at));
        there.map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn show_stream(&self, mut stream: Stream) {
        let (now, mut seen) = (Instant::now(), self.seen.lock());
        let is_whole = stream.current() >= stream.configured;
        if is_whole {
            seen.incomplete.remove(&stream.name);
        } else {
            let since = *seen.incomplete.entry(stream.name.clone()).or_insert(now);
            stream.incomplete_for = now.duration_since(since);
        }
        match seen.streams.iter_mut().find(|known| known.name == stream.name) {
            Some(known) => *known = stream,
            None => seen.streams.push(stream),
        }
    }

    pub(super) fn show_servers(&self, servers: Vec<Server>) {
        self.seen.lock().servers = servers;
    }

    /// The cluster as this node sees it.
    pub fn picture(&self) -> Picture {
        let (observed, live, owners) = (self.observed(), self.nodes(), self.owners.lock().clone());
        let (now, seen) = (Instant::now(), self.seen.lock());
        let named = live.iter().chain(owners.iter().flatten()).chain([&self.node]);
        let heard = seen.heard.iter().filter(|(_, (_, at))| now.duration_since(*at) < SPOKEN_OF).map(|(node, _)| node);
        let names: BTreeSet<&Arc<str>> = named.chain(heard).collect();
        let nodes = names.into_iter().map(|name| {
            let is_own = *name == self.node;
            let heard = seen.heard.get(name);
            let heard_ago = heard.map(|(_, at)| now.duration_since(*at));
            let owned = (0_u8..).zip(&owners).filter(|(_, owner)| owner.as_ref() == Some(name));
            Node {
                name: name.clone(),
                about: if is_own { Some(self.about()) } else { heard.map(|(about, _)| about.clone()) },
                heard_ago: if is_own { Some(Duration::ZERO) } else { heard_ago },
                is_live: is_own || is_live(live.contains(name), heard_ago),
                slots: owned.map(|(slot, _)| slot).collect(),
            }
        });
        let nodes = nodes.collect();
        Picture {
            node: self.node.clone(),
            term: observed.term,
            writer: observed.writer,
            nodes,
            unowned: seen.unowned.keys().copied().collect(),
            unowned_for: seen.unowned.values().min().map_or(Duration::ZERO, |since| now.duration_since(*since)),
            streams: seen.streams.clone(),
            servers: seen.servers.clone(),
            syncs_always: self.syncs_always(),
        }
    }
}

fn is_live(is_noted: bool, heard_ago: Option<Duration>) -> bool {
    is_noted || heard_ago.is_some_and(|ago| ago < JUST_HEARD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_heard_for_the_first_time_is_not_lost() {
        assert!(is_live(false, Some(Duration::ZERO)), "it is noted soon");
        assert!(is_live(true, Some(Duration::from_secs(1))) && is_live(true, None));
        assert!(!is_live(false, Some(JUST_HEARD)) && !is_live(false, None));
    }
}
