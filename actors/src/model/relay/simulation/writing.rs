//! Reading and writing the stream: what gets lost on the way there and back, and elections.

use super::Content;
use super::stream::{Proposal, Told, Write};
use super::world::{Coming, NOBODY, World};
use crate::model::relay::{ClaimAnswer, CommitAnswer, Input, TailMessage};

impl World {
    pub(super) fn fetch(&mut self, no: usize, from: u64, at_leader: bool) {
        let life = self.nodes[no].life;
        let (leader, connected) = (self.stream.has_leader, self.nodes[no].is_connected);
        if !connected || (at_leader && !leader) || (!self.calm && self.dice.one_in(15)) {
            if self.dice.one_in(2) {
                self.plan(20, no, Coming::Answered(life, Input::FetchFailed { from }));
            }
            return;
        }
        let lag = if at_leader || self.calm { 0 } else { self.dice.pick(&[0, 0, 0, 1, 4]) };
        let end = self.stream.end().saturating_sub(lag);
        let most = self.dice.pick(&[1, 3, 10, 100]);
        let there = (from..=end).filter_map(|sequence| self.stream.message(sequence));
        let messages: Vec<TailMessage<Content>> = there.take(most).cloned().collect();
        let wait_ms = 1 + self.delay();
        self.plan(wait_ms, no, Coming::Answered(life, Input::Fetched { from, at_leader, messages, end }));
    }

    /// A write goes to the stream, whatever becomes of the node, and may come there late or never.
    pub(super) fn submit(&mut self, by: usize, write: Write) {
        if !self.nodes[by].is_connected || (!self.calm && self.dice.one_in(20)) {
            return;
        }
        let wait_ms = self.delay();
        let life = self.nodes[by].life;
        self.plan(wait_ms, NOBODY, Coming::Write { by, life, write });
    }

    pub(super) fn tell(&mut self, no: usize, life: u64, told: Told) {
        if !self.nodes[no].is_connected || (!self.calm && self.dice.one_in(12)) {
            return;
        }
        let input = match told {
            Told::Commit(number, answer) => Input::Committed { number, answer },
            Told::Claim(number, answer) => Input::Claimed { number, answer },
        };
        let wait_ms = self.delay();
        self.plan(wait_ms, no, Coming::Answered(life, input));
    }

    pub(super) fn write(&mut self, by: usize, life: u64, write: Write) {
        if !self.stream.has_leader {
            if self.dice.one_in(3) {
                let told = match &write {
                    Write::Commit(commit) => Told::Commit(commit.number, CommitAnswer::Failed),
                    Write::Claim { claim, .. } => Told::Claim(claim.number, ClaimAnswer::Failed),
                };
                self.tell(by, life, told);
            }
            return;
        }
        if let Some(told) = self.stream.refuses(&write) {
            return self.tell(by, life, told);
        }
        self.stream.under_way = Some(Proposal { by, life, write });
        let wait_ms = 1 + self.dice.below(3);
        self.plan(wait_ms, NOBODY, Coming::Decide);
    }

    /// What the leader has taken up is appended. `is_heard`: and told.
    pub(super) fn decide(&mut self, is_heard: bool) {
        if is_heard && !self.stream.has_leader {
            return;
        }
        let Some(Proposal { by, life, write }) = self.stream.under_way.take() else { return };
        let before = self.stream.end();
        let told = self.stream.append(self.now_ms, &write);
        if matches!(told, Told::Claim(..)) {
            self.totals.terms += 1;
        }
        self.note(|| format!("stream: {before} + {told:?} of life {life}"));
        if !is_heard {
            return;
        }
        self.tell(by, life, told);
        for target in 0..self.nodes.len() {
            let mut messages = self.stream.log[before as usize..].to_vec();
            if !self.calm && self.dice.one_in(30) {
                messages.pop();
            }
            if self.nodes[target].is_connected {
                self.send(target, target, || Input::Live(messages.clone()));
            }
        }
    }

    pub(super) fn leader_goes(&mut self) {
        if !self.stream.has_leader {
            return;
        }
        self.totals.elections += 1;
        self.note(|| "the stream has no leader".to_owned());
        self.stream.has_leader = false;
        let wait_ms = self.dice.pick(&[30, 400, 2_000, 5_000]);
        self.plan(wait_ms, NOBODY, Coming::Leader);
    }

    pub(super) fn leader_comes(&mut self) {
        if self.stream.has_leader {
            return;
        }
        // the next leader has what was under way, or not; nobody is told
        if self.dice.one_in(2) {
            self.decide(false);
        }
        self.stream.under_way = None;
        self.stream.has_leader = true;
        self.note(|| "the stream has a leader".to_owned());
    }
}
