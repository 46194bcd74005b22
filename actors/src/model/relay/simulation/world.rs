//! The world around the nodes: time, messages on their way, and what becomes of effects.
//!
//! Beside it: `writing` (the stream and its elections), `publishing`, `trouble` (what goes wrong, and the end of it).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger::Ledger;
use super::node::Node;
use super::stream::{Stream, Unchecked, Write};
use super::{Content, Draft, Totals};
use crate::model::dice::Dice;
use crate::model::relay::{Body, Effect, Input, Load, Nonce, Opened, Relay, RelayLimits, Settled, Term};

/// Steps with trouble, and how long everything may take to come to rest after it.
const STEPS: u64 = 450;
const REST_MS: u64 = 9_000;
/// How long after it publishers ask again.
pub(super) const CALM_PUBLISH_MS: u64 = 4_500;
pub(super) const PUBLISHERS: usize = 4;

/// Something to come.
#[derive(Debug)]
pub(super) enum Coming {
    /// For a process that bears this name, whichever life it is.
    Heard(Input<Draft, Content>),
    /// For the life that asked.
    Answered(u64, Input<Draft, Content>),
    Wake(u64, u64),
    /// A write comes to the stream's leader.
    Write {
        by: usize,
        life: u64,
        write: Write,
    },
    /// What the leader has taken up is decided.
    Decide,
    Publish(usize),
    Trouble,
    Start,
    Heal,
    Leader,
    Room,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now_ms: u64,
    pub(super) limits: RelayLimits,
    pub(super) nodes: Vec<Node>,
    pub(super) stream: Stream,
    pub(super) ledger: Ledger,
    /// What a publisher has had acknowledged last.
    pub(super) acknowledged: [Option<u64>; PUBLISHERS],
    /// What a publisher waits for.
    pub(super) waits: [Option<u64>; PUBLISHERS],
    pub(super) agenda: BTreeMap<(u64, u64), (usize, Coming)>,
    pub(super) planned: u64,
    pub(super) last_request: u64,
    pub(super) last_life: u64,
    pub(super) calm: bool,
    /// What is asked for after this must be stored.
    pub(super) calm_from_ms: u64,
    pub(super) totals: Totals,
    pub(super) trace: Option<Vec<String>>,
}

/// Stands for no node where something concerns all.
pub(super) const NOBODY: usize = usize::MAX;

impl World {
    pub fn new(seed: u64, unchecked: Unchecked, trace: bool) -> World {
        let mut dice = Dice(seed);
        dice.next();
        let limits = RelayLimits {
            queue_events: 12,
            queue_bytes: 3_000,
            batch_events: 6,
            batch_bytes: 900,
            answer_timeout_ms: 4_000,
            ahead_max: 8,
            unapplied_max: 6,
            behind_max: 30,
            nonces_max: 200,
            ..RelayLimits::default()
        };
        let count = dice.pick(&[1, 2, 3, 3, 3, 4]);
        let nodes = (0..count).map(|no| Node::new(&format!("n{no}"), 980_000 + dice.below(40_000))).collect();
        let mut world = World {
            dice,
            now_ms: 0,
            limits,
            nodes,
            stream: Stream { has_leader: true, unchecked, ..Stream::default() },
            ledger: Ledger::default(),
            acknowledged: [None; PUBLISHERS],
            waits: [None; PUBLISHERS],
            agenda: BTreeMap::new(),
            planned: 0,
            last_request: 0,
            last_life: 0,
            calm: false,
            calm_from_ms: u64::MAX,
            totals: Totals::default(),
            trace: trace.then(Vec::new),
        };
        for no in 0..world.nodes.len() {
            let node = &mut world.nodes[no];
            node.clock_ahead_ms = world.dice.pick(&[0, 0, 3, -40, 4_000, -4_000, 40_000, -40_000]);
            world.start(no);
        }
        for publisher in 0..PUBLISHERS {
            let wait_ms = world.dice.below(300);
            world.plan(wait_ms, NOBODY, Coming::Publish(publisher));
        }
        world.plan(200, NOBODY, Coming::Trouble);
        world
    }

    pub fn run(&mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.calm_down();
        let rest_at_ms = self.awake_ms() + REST_MS;
        while self.agenda.first_key_value().is_some_and(|((at_ms, _), _)| *at_ms <= rest_at_ms) {
            self.step();
        }
        self.check_rest();
    }

    pub fn end(mut self) -> (Totals, Vec<String>) {
        for no in 0..self.nodes.len() {
            self.count(no);
        }
        (self.totals, self.trace.unwrap_or_default())
    }

    pub(super) fn plan(&mut self, wait_ms: u64, node: usize, coming: Coming) {
        self.planned += 1;
        self.agenda.insert((self.now_ms + wait_ms, self.planned), (node, coming));
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let now_ms = self.now_ms;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now_ms:>6} {}", line()));
        }
    }

    pub(super) fn step(&mut self) {
        self.totals.steps += 1;
        let Some(((at_ms, no), (node, coming))) = self.agenda.pop_first() else { return };
        self.now_ms = at_ms;
        if node != NOBODY && self.nodes[node].paused_until_ms > at_ms {
            // it comes when the node can take it, in the same order
            self.agenda.insert((self.nodes[node].paused_until_ms, no), (node, coming));
            return;
        }
        match coming {
            Coming::Heard(input) => self.handle(node, input),
            Coming::Answered(life, input) if self.nodes[node].life == life => self.handle(node, input),
            Coming::Answered(..) => {}
            Coming::Wake(life, wake) => {
                if (self.nodes[node].life, self.nodes[node].wake) == (life, wake) {
                    self.nodes[node].wakes_at_ms = u64::MAX;
                    self.handle(node, Input::Tick);
                }
            }
            Coming::Write { by, life, write } => self.write(by, life, write),
            Coming::Decide => self.decide(true),
            Coming::Publish(publisher) => self.publish(publisher),
            Coming::Trouble => self.trouble(),
            Coming::Start => self.start(node),
            Coming::Heal => {
                if !self.nodes[node].is_connected {
                    self.nodes[node].is_connected = true;
                    self.nodes[node].awake_ms = at_ms;
                    self.handle(node, Input::Reconnected);
                }
            }
            Coming::Leader => self.leader_comes(),
            Coming::Room => self.stream.is_full = false,
        }
        let nodes = &self.nodes;
        let awake_ms = |node: usize| {
            let Node { paused_until_ms, awake_ms, .. } = nodes[node];
            (paused_until_ms <= at_ms).then_some(awake_ms)
        };
        self.ledger.check_open(at_ms, awake_ms, &self.limits);
    }

    // the nodes

    pub(super) fn start(&mut self, no: usize) {
        if self.nodes[no].relay.is_some() {
            return;
        }
        self.last_life += 1;
        let term = self.stream.message(self.stream.term).and_then(|message| match &message.body {
            Body::Term(claim) => Some(Term { number: message.sequence, claim: claim.clone() }),
            Body::Events(_) => None,
        });
        // where the copy ends is known, and the newest id, also that of events which are not there any more
        let node = &mut self.nodes[no];
        node.begin(self.now_ms, self.last_life);
        let last_id = self.stream.last_id(node.applied);
        let opened = Opened { node: Arc::clone(&node.name), life: node.life, applied: node.applied, last_id, term };
        let mut effects = Vec::new();
        node.relay = Some(Relay::open(node.now(self.now_ms), self.limits.clone(), opened, &mut effects));
        self.note(|| format!("n{no} starts"));
        self.perform(no, effects);
    }

    pub(super) fn crash(&mut self, no: usize) {
        self.count(no);
        self.note(|| format!("n{no} crashes"));
        self.nodes[no].relay = None;
        self.nodes[no].paused_until_ms = 0;
        self.totals.void += self.ledger.void(no);
        for publisher in 0..PUBLISHERS {
            let is_void = |request: &u64| self.ledger.asked[request].is_void;
            if self.waits[publisher].as_ref().is_some_and(is_void) {
                self.waits[publisher] = None;
            }
        }
        // the copy is not synced: its end may be missing
        let lost = self.dice.pick(&[0, 0, 1, 3]);
        let node = &mut self.nodes[no];
        node.applied = node.applied.saturating_sub(lost);
        if self.dice.one_in(6) {
            self.totals.empty_copies += 1;
            self.nodes[no].applied = 0;
        }
        let down_ms = self.dice.pick(&[0, 20, 400, 3_000]);
        self.plan(down_ms, no, Coming::Start);
    }

    /// Adds up what a life has come to.
    pub(super) fn count(&mut self, no: usize) {
        let Some(relay) = &self.nodes[no].relay else { return };
        let counts = relay.observe().counts;
        self.totals.commits += counts.commits;
        self.totals.conflicts += counts.conflicts;
        self.totals.forwarded_again += counts.forwarded_again;
        self.totals.resent += counts.resent;
        self.totals.fetches += counts.fetches;
        self.totals.away += counts.away;
    }

    pub(super) fn handle(&mut self, no: usize, input: Input<Draft, Content>) {
        let node = &mut self.nodes[no];
        let now = node.now(self.now_ms);
        let Some(mut relay) = node.relay.take() else { return };
        if let Input::Applied { through } = input {
            node.applied = node.applied.max(through);
        }
        self.note(|| format!("n{no} <- {input:?}"));
        let mut effects = Vec::new();
        relay.step(now, input, &mut effects);
        self.check_bounds(&relay);
        self.nodes[no].relay = Some(relay);
        self.perform(no, effects);
    }

    pub(super) fn check_bounds(&self, relay: &Relay<Draft, Content>) {
        let RelayLimits { queue_events, queue_bytes, ahead_max, unapplied_max, nonces_max, .. } = self.limits;
        // one request may be larger than the queue, when the queue is empty
        let is_bounded = |load: Load| load.events <= queue_events && load.bytes <= queue_bytes;
        assert!(is_bounded(relay.edge.load()), "a node's queue is over its bound: {:?}", relay.edge.load());
        let queued = relay.observe().queued;
        assert!(is_bounded(queued), "the writer's queue is over its bound: {queued:?}");
        assert!(relay.tail.ahead_len() <= ahead_max, "messages ahead are over their bound");
        let mut unapplied = relay.tail.applied() + 1..=relay.tail.taken();
        let is_there = |sequence: &u64| !self.stream.removed.contains(sequence);
        assert!(unapplied.by_ref().filter(is_there).count() <= unapplied_max, "over the bound of the copy");
        let known = relay.writer.as_ref().map_or((0, 0), |writer| writer.known());
        assert!(known.1 <= nonces_max, "nonces are over their bound");
        assert!(relay.early.len() <= queue_events, "early forwards are over their bound");
    }

    /// A message of one node to another (or to itself): lost, late, twice.
    pub(super) fn send(&mut self, from: usize, to: usize, mut make: impl FnMut() -> Input<Draft, Content>) {
        if !self.nodes[from].is_connected || !self.nodes[to].is_connected {
            return;
        }
        let copies = if self.calm { 1 } else { self.dice.pick(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0]) };
        for _ in 0..copies {
            let wait_ms = self.delay();
            self.plan(wait_ms, to, Coming::Heard(make()));
        }
    }

    pub(super) fn delay(&mut self) -> u64 {
        let usual = self.dice.below(3);
        if self.calm || !self.dice.one_in(25) {
            return usual;
        }
        self.dice.pick(&[20, 150, 700, 2_500, 6_000])
    }

    pub(super) fn node_named(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| *node.name == *name).expect("a node has that name")
    }

    /// Sends what wants to know that nobody listens.
    pub(super) fn ask(&mut self, from: usize, to: &str, term: u64, nonce: Nonce, input: &Input<Draft, Content>) {
        let target = self.node_named(to);
        let listens = self.nodes[target].relay.is_some() && self.nodes[target].is_connected;
        if listens {
            return self.send(from, target, || input.clone());
        }
        if self.nodes[from].is_connected && (self.calm || !self.dice.one_in(4)) {
            let life = self.nodes[from].life;
            self.plan(1, from, Coming::Answered(life, Input::NoResponders { term, nonce }));
        }
    }

    pub(super) fn perform(&mut self, no: usize, effects: Vec<Effect<Draft, Content>>) {
        for effect in effects {
            if self.nodes[no].relay.is_none() {
                return;
            }
            self.note(|| format!("n{no} -> {effect:?}"));
            self.do_one(no, effect);
            if !self.calm && self.dice.one_in(3_000) {
                // in the middle of what it had to do
                self.totals.crashes += 1;
                self.crash(no);
                return;
            }
        }
        let node = &mut self.nodes[no];
        let Some(relay) = &node.relay else { return };
        let at_ms = node.when_ms(relay.wake_at_ms());
        if at_ms >= node.wakes_at_ms {
            // it is woken before that
            return;
        }
        node.wake += 1;
        node.wakes_at_ms = at_ms;
        let (life, wake) = (node.life, node.wake);
        // timers are never early and sometimes late
        let late_ms = if self.calm { 0 } else { self.dice.pick(&[0, 0, 0, 1, 15]) };
        self.plan(at_ms.saturating_sub(self.now_ms).max(1) + late_ms, no, Coming::Wake(life, wake));
    }

    pub(super) fn do_one(&mut self, no: usize, effect: Effect<Draft, Content>) {
        let life = self.nodes[no].life;
        match effect {
            Effect::Answer { ticket, outcome } => self.answered(no, ticket, outcome),
            Effect::Forward { to, forward } => {
                let (term, nonce) = (forward.term, forward.nonce);
                self.ask(no, &to, term, nonce, &Input::Forwarded(forward));
            }
            Effect::Ask { to, ask } => {
                let (term, nonce) = (ask.term, ask.nonce);
                self.ask(no, &to, term, nonce, &Input::Asked(ask));
            }
            Effect::Reply { to, reply } => {
                let target = self.node_named(&to);
                self.send(no, target, || Input::Replied(reply.clone()));
            }
            Effect::Beat(beat) => {
                for target in 0..self.nodes.len() {
                    self.send(no, target, || Input::Beat(beat.clone()));
                }
            }
            Effect::Fetch { from, at_leader } => self.fetch(no, from, at_leader),
            Effect::Apply(message) => {
                let node = &mut self.nodes[no];
                assert_eq!(message.sequence, node.handed + 1, "the copy gets messages out of order");
                let stored = &self.stream.log[message.sequence as usize - 1];
                assert_eq!(message.body, stored.body, "the copy gets another message than the stream has");
                self.hand(no, message.sequence);
            }
            Effect::Lost { from, through } => {
                assert_eq!(from, self.nodes[no].handed + 1, "the copy gets messages out of order");
                let is_lost = |sequence: u64| self.stream.removed.contains(&sequence);
                assert!((from..=through).all(is_lost), "{from}..={through} is not lost");
                self.totals.lost += 1;
                self.hand(no, through);
            }
            Effect::Plan { number, term, sequence, ms, requests } => {
                let batch = requests.iter().fold(0, |sum, request| sum + request.load.events);
                assert!(batch <= self.limits.batch_events || requests.len() == 1, "a commit is over its bound");
                let (messages, settled) = self.nodes[no].plan((term, sequence, ms), requests, &self.stream);
                self.totals.refused_gone +=
                    settled.iter().filter(|(_, settled)| matches!(settled, Settled::Refused(_))).count() as u64;
                let wait_ms = self.dice.pick(&[0, 0, 1, 3]);
                self.plan(wait_ms, no, Coming::Answered(life, Input::Planned { number, messages, settled }));
            }
            Effect::Commit(commit) => self.submit(no, Write::Commit(commit)),
            Effect::Claim { previous, claim } => self.submit(no, Write::Claim { previous, claim }),
            Effect::WentBack { expected, found } => panic!("the stream went back from {expected} to {found}"),
            Effect::Stopped => {
                self.totals.stopped += 1;
                assert!(!self.ledger.open.values().any(|node| *node == no), "it stops and owes an answer");
                self.crash(no);
            }
        }
    }

    pub(super) fn hand(&mut self, no: usize, through: u64) {
        let node = &mut self.nodes[no];
        node.handed = through;
        let life = node.life;
        let wait_ms = self.dice.pick(&[0, 0, 0, 1, 4]);
        self.plan(wait_ms, no, Coming::Answered(life, Input::Applied { through }));
    }
}
