//! Who writes: how a node follows the terms in the stream, and when it claims one.

use super::machine::Relay;
use super::protocol::{ClaimAnswer, Effect};
use super::rules::{Rule, keeps};
use super::wire::{Beat, Body, Claim, TailMessage, Term};
use super::writer::Writer;

/// A claim that was not answered, or whose term the stream has not shown.
#[derive(Clone, Debug)]
pub(super) struct Claiming {
    claim: Claim,
    previous: u64,
    again_ms: u64,
}

impl<D: Clone, R> Relay<D, R> {
    pub(super) fn term_number(&self) -> u64 {
        self.term.as_ref().map_or(0, |term| term.number)
    }

    /// The stream shows a newer term: nothing of the older one can land behind it.
    pub(super) fn begin_term(&mut self, term: Term) {
        if term.number <= self.term_number() {
            return;
        }
        let was = self.term.as_ref().map(|before| before.claim.life);
        self.counts.changes += u64::from(was != Some(term.claim.life));
        self.writer = self.own(&term);
        self.term = Some(term);
        self.claiming = None;
        self.writer_is_gone = false;
        self.writer_heard_ms = self.now.elapsed_ms;
        self.must_resend = true;
    }

    /// What this node becomes by a term, if it is its own and it may write.
    pub(super) fn own(&self, term: &Term) -> Option<Writer<D, R>> {
        let is_own = match keeps(Rule::TermsBelongToALife) {
            true => term.claim.life == self.life,
            false => term.claim.node == self.node,
        };
        (is_own && !self.clock_is_off()).then(|| Writer::new(term.number))
    }

    /// Takes the forwards that came before their term, or drops them: whoever sent them sees the term as well.
    pub(super) fn take_early(&mut self, effects: &mut Vec<Effect<D, R>>) {
        let number = self.term_number();
        if self.early.front().is_some_and(|forward| forward.term <= number) {
            for forward in std::mem::take(&mut self.early) {
                if self.writer.as_ref().is_some_and(|writer| writer.term() == forward.term) {
                    self.accept(forward, effects);
                }
            }
        }
    }

    pub(super) fn heard_beat(&mut self, beat: &Beat) {
        let newest = self.term_number();
        if beat.term < newest {
            return;
        }
        self.tail.heard_of(beat.head.max(beat.term), self.now.elapsed_ms);
        self.writer_heard_ms = self.now.elapsed_ms;
        if beat.term == newest {
            self.writer_lives(newest);
        }
    }

    /// The writer of this term has given a sign of life.
    pub(super) fn writer_lives(&mut self, term: u64) {
        if term != self.term_number() {
            return;
        }
        self.writer_is_gone = false;
        self.writer_heard_ms = self.now.elapsed_ms;
        if self.writer.is_none() {
            // it may have been sent already, and then the stream tells
            self.claiming = None;
        }
    }

    /// The writer of this term is not there any more.
    pub(super) fn writer_gone(&mut self, term: u64) {
        self.writer_is_gone |= term == self.term_number();
    }

    /// Whether the clock is further from the stream's than a writer's may be.
    pub(super) fn clock_is_off(&self) -> bool {
        let ahead_ms = self.stream_clock.ahead_ms(self.now.elapsed_ms, self.now.clock_ms);
        ahead_ms.is_some_and(|ahead_ms| ahead_ms.unsigned_abs() > self.limits.clock_off_ms)
    }

    fn may_write(&self) -> bool {
        let behind = self.tail.heard() - self.tail.applied();
        self.tail.is_complete() && behind <= self.limits.behind_max && !self.clock_is_off()
    }

    /// When to claim, or to repeat a claim.
    pub(super) fn claim_due_ms(&self) -> Option<u64> {
        if !self.may_write() {
            return None;
        }
        if let Some(claiming) = &self.claiming {
            return Some(claiming.again_ms);
        }
        let due_ms = match &self.writer {
            Some(writer) if writer.renewing => 0,
            Some(_) => return None,
            None if !self.edge.has_work() => return None,
            None if self.term.is_none() || self.writer_is_gone => 0,
            None => self.writer_heard_ms + self.limits.silent_ms,
        };
        Some(due_ms.max(self.claim_at_ms))
    }

    pub(super) fn claim(&mut self, effects: &mut Vec<Effect<D, R>>) {
        let now_ms = self.now.elapsed_ms;
        if self.claim_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        let claiming = match self.claiming.take() {
            Some(claiming) => claiming,
            None => self.new_claim(self.term_number()),
        };
        effects.push(Effect::Claim { previous: claiming.previous, claim: claiming.claim.clone() });
        self.claiming = Some(Claiming { again_ms: now_ms + self.limits.commit_ms, ..claiming });
    }

    /// Terms up to this sequence would have been seen, and are not the newest.
    fn passed_term(&self) -> u64 {
        if self.term.is_none() { self.tail.taken() } else { 0 }
    }

    fn new_claim(&mut self, previous: u64) -> Claiming {
        self.last_claim += 1;
        let claim = Claim { node: self.node.clone(), life: self.life, number: self.last_claim };
        Claiming { claim, previous, again_ms: self.now.elapsed_ms }
    }

    /// The stream has answered a claim.
    pub(super) fn claimed(&mut self, number: u64, answer: ClaimAnswer, effects: &mut Vec<Effect<D, R>>) {
        let now_ms = self.now.elapsed_ms;
        if let ClaimAnswer::Stored { sequence } = answer {
            self.tail.heard_of(sequence, now_ms);
        }
        let Some(claiming) = self.claiming.clone().filter(|claiming| claiming.claim.number == number) else { return };
        match answer {
            // it was taken away before the copy came to it
            ClaimAnswer::Stored { sequence } if sequence <= self.tail.lost_through() => self.claiming = None,
            ClaimAnswer::Stored { sequence } if sequence <= self.tail.taken() => {
                // the term would have been seen if the stream had not been cut meanwhile
                effects.push(Effect::WentBack { expected: self.tail.taken() + 1, found: sequence });
            }
            ClaimAnswer::Stored { sequence } => {
                let body = Body::Term(claiming.claim);
                self.tail.offer(TailMessage { sequence, time_ms: self.now.clock_ms, body }, &self.limits);
            }
            // retention has taken the term, or the copy began behind it
            ClaimAnswer::Conflict { last: Some(last) } if last != claiming.previous && last <= self.passed_term() => {
                self.claiming = Some(self.new_claim(last));
            }
            ClaimAnswer::Conflict { last } => {
                self.claiming = None;
                self.claim_at_ms = now_ms + self.limits.retry_ms;
                self.tail.heard_of(last.unwrap_or(0), now_ms);
                self.tail.fetch_now(now_ms);
            }
            ClaimAnswer::Failed => {
                self.claiming = Some(Claiming { again_ms: now_ms + self.limits.retry_ms, ..claiming });
            }
        }
    }
}
