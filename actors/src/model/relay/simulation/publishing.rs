//! The publishers: what they ask which node for, and what they are told.

use super::Draft;
use super::ledger::Asked;
use super::world::{Coming, NOBODY, World};
use crate::model::relay::{Input, Load, Outcome, Refusal};

impl World {
    pub(super) fn publish(&mut self, publisher: usize) {
        if self.calm {
            // at every node
            let before = self.last_request;
            (0..self.nodes.len()).for_each(|no| self.publish_one(publisher, no));
            if self.last_request == before {
                self.plan(500, NOBODY, Coming::Publish(publisher));
            }
            return;
        }
        let up: Vec<usize> = (0..self.nodes.len()).filter(|no| self.can_take(*no)).collect();
        if !up.is_empty() && self.waits[publisher].is_none() {
            let no = self.dice.pick(&up);
            for _ in 0..self.dice.pick(&[1, 1, 1, 1, 2, 9]) {
                self.publish_one(publisher, no);
            }
        }
        let wait_ms = self.dice.pick(&[3, 10, 40, 200]);
        self.plan(wait_ms, NOBODY, Coming::Publish(publisher));
    }

    pub(super) fn can_take(&self, no: usize) -> bool {
        let node = &self.nodes[no];
        node.relay.is_some() && node.paused_until_ms <= self.now_ms && !node.is_stopping
    }

    pub(super) fn publish_one(&mut self, publisher: usize, no: usize) {
        if !self.can_take(no) {
            return;
        }
        self.last_request += 1;
        self.totals.published += 1;
        let trouble = !self.calm;
        let draft = Draft {
            request: self.last_request,
            events: self.dice.pick(&[1, 1, 1, 2, 3]),
            channel: self.dice.below(3) as u8,
            key: self.dice.one_in(4).then_some(self.last_request / 5),
            is_large: false,
            is_bad: trouble && self.dice.one_in(60),
            is_gone: trouble && self.dice.one_in(60),
        };
        // what has the same key asks for the same
        let events = if draft.key.is_some() { 1 } else { draft.events };
        let is_large = draft.key.is_none() && events > 1 && self.dice.one_in(4);
        self.totals.large += u64::from(is_large);
        let draft = Draft { events, is_large, ..draft };
        let load = Load { events: usize::from(events), bytes: self.dice.pick(&[100, 200, 800]) };
        let ticket = draft.request;
        self.ledger.ask(Asked {
            draft: draft.clone(),
            publisher,
            node: no,
            life: self.nodes[no].life,
            asked_ms: self.now_ms,
            answer: None,
            answered_ms: None,
            is_void: false,
            after: self.acknowledged[publisher],
        });
        self.waits[publisher] = Some(ticket);
        self.handle(no, Input::Publish { ticket, load, draft });
    }

    pub(super) fn answered(&mut self, no: usize, ticket: u64, outcome: Outcome) {
        let node = &self.nodes[no];
        let is_stored = matches!(outcome, Outcome::Stored { repeated: false, .. });
        if self.ledger.asked[&ticket].asked_ms > self.calm_from_ms {
            let is_fine = matches!(outcome, Outcome::Stored { .. } | Outcome::Refused(Refusal::QueueFull));
            assert!(is_fine, "{ticket} is not stored, and nothing is wrong any more: {outcome:?}");
        }
        let (applied, awake_ms) = (node.applied, node.awake_ms);
        self.ledger.answered(
            self.now_ms,
            (no, node.life),
            ticket,
            outcome,
            (applied, awake_ms),
            &self.stream,
            &self.limits,
            &mut self.totals,
        );
        let publisher = self.ledger.asked[&ticket].publisher;
        if is_stored {
            self.acknowledged[publisher] = Some(ticket);
        }
        if self.waits[publisher] == Some(ticket) {
            self.waits[publisher] = None;
        }
    }
}
