//! Everything that goes wrong, the end of it, and what must be so after that.

use super::Content;
use super::world::{CALM_PUBLISH_MS, Coming, NOBODY, PUBLISHERS, World};
use crate::model::relay::{Body, Input, TailMessage};

impl World {
    pub(super) fn trouble(&mut self) {
        let no = self.dice.below(self.nodes.len() as u64) as usize;
        let is_up = self.nodes[no].relay.is_some();
        match self.dice.below(13) {
            0..2 if is_up => {
                self.totals.crashes += 1;
                self.crash(no);
            }
            2..4 if is_up && self.nodes[no].paused_until_ms <= self.now_ms => {
                self.totals.pauses += 1;
                let pause_ms = self.dice.pick(&[30, 400, 1_200, 1_700, 4_000, 7_000]);
                self.note(|| format!("n{no} is paused for {pause_ms} ms"));
                self.nodes[no].paused_until_ms = self.now_ms + pause_ms;
                self.nodes[no].awake_ms = self.now_ms + pause_ms;
            }
            4..6 if self.nodes[no].is_connected => {
                self.totals.cuts += 1;
                self.note(|| format!("n{no} is cut off"));
                self.nodes[no].is_connected = false;
                let cut_ms = self.dice.pick(&[10, 300, 2_000, 3_500]);
                self.plan(cut_ms, no, Coming::Heal);
            }
            6..8 => self.leader_goes(),
            8 => {
                self.stream.is_full = true;
                let full_ms = self.dice.pick(&[50, 500, 2_500]);
                self.plan(full_ms, NOBODY, Coming::Room);
            }
            9 => {
                self.totals.clock_steps += 1;
                self.nodes[no].clock_ahead_ms += self.dice.pick(&[-3_000, -20, 700, 2_500, -50_000, 50_000]);
            }
            10 => self.remove(),
            12 if is_up && self.dice.one_in(2) => {
                self.nodes[no].is_stopping = true;
                self.handle(no, Input::Stop);
            }
            _ => {}
        }
        let wait_ms = self.dice.pick(&[50, 150, 400, 1_200]);
        self.plan(wait_ms, NOBODY, Coming::Trouble);
    }

    /// Retention at the front, or something taken out of the middle. What has keys stays, the newest events, and the
    /// newest term.
    pub(super) fn remove(&mut self) {
        let end = self.stream.end();
        if end < 2 {
            return;
        }
        let is_events = |message: &&TailMessage<Content>| matches!(message.body, Body::Events(_));
        let newest = self.stream.log.iter().rev().find(is_events).map_or(0, |message| message.sequence);
        let from = if self.dice.one_in(2) { 1 } else { 1 + self.dice.below(end) };
        let through = (from + self.dice.below(6)).min(end);
        for sequence in from..=through {
            let is_kept = match &self.stream.log[sequence as usize - 1].body {
                Body::Term(_) => sequence == self.stream.term,
                Body::Events(events) => !events.content.keys.is_empty() || sequence == newest,
            };
            if !is_kept {
                self.stream.removed.insert(sequence);
            }
        }
        self.note(|| format!("stream: {from} to {through} are removed"));
    }

    /// The trouble ends: everything must come to rest by itself, and every node must be able to publish.
    pub(super) fn calm_down(&mut self) {
        self.note(|| "the trouble ends".to_owned());
        self.calm = true;
        self.stream.is_full = false;
        self.leader_comes();
        let is_trouble = |coming: &Coming| matches!(coming, Coming::Trouble | Coming::Publish(_) | Coming::Leader);
        self.agenda.retain(|_, (_, coming)| !is_trouble(coming));
        for no in 0..self.nodes.len() {
            self.plan(0, no, Coming::Heal);
            if self.nodes[no].clock_ahead_ms.abs() > 20_000 {
                // somebody sets its clock and starts it again
                self.nodes[no].clock_ahead_ms = 0;
                if self.nodes[no].relay.is_some() {
                    self.crash(no);
                }
            }
            self.plan(0, no, Coming::Start);
        }
        let wait_ms = self.awake_ms() - self.now_ms + CALM_PUBLISH_MS;
        self.calm_from_ms = self.now_ms + wait_ms - 1;
        for publisher in 0..PUBLISHERS {
            self.plan(wait_ms + publisher as u64, NOBODY, Coming::Publish(publisher));
        }
    }

    /// When the last node wakes that is paused.
    pub(super) fn awake_ms(&self) -> u64 {
        self.nodes.iter().map(|node| node.paused_until_ms).max().unwrap_or(0).max(self.now_ms)
    }

    pub(super) fn check_rest(&self) {
        self.ledger.check_all(&self.stream);
        for (no, node) in self.nodes.iter().enumerate() {
            let relay = node.relay.as_ref().expect("it runs");
            let observed = relay.observe();
            assert_eq!(observed.applied, self.stream.end(), "the copy of n{no} is not whole: {observed:?}");
            assert_eq!(observed.term, self.stream.term, "n{no} does not know the newest term");
            assert_eq!((observed.pending, observed.queued.events), (0, 0), "work is left at n{no}");
        }
        let writers = self.nodes.iter().filter(|node| node.relay.as_ref().is_some_and(|r| r.observe().is_writer));
        // the late claim of a process that has ended may come last: nobody writes then until somebody has something to publish
        let life = self.stream.life();
        let entitled = self.nodes.iter().filter(|node| Some(node.life) == life);
        assert_eq!(
            writers.count(),
            entitled.count(),
            "the process writes whose term is the newest, as long as it runs"
        );
    }
}
