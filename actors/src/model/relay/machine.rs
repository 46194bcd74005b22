//! The state machine of one node: what it holds, and what one step consists of.
//!
//! Beside it: `edge` (the requests that this node has got), `writer` (what it does while it writes), `tail` (the stream in
//! order), `terms` (who writes, and how a node comes to be the writer).

use std::collections::VecDeque;
use std::sync::Arc;

use super::clock::StreamClock;
use super::edge::{Answer, Edge, Pending, Stage};
use super::protocol::{CommitAnswer, Counts, Effect, Input, Now, Observed, Opened, Outcome, Refusal, RelayLimits};
use super::rules::{Rule, keeps};
use super::tail::{Next, Tail};
use super::terms::Claiming;
use super::wire::{Ask, Beat, Body, Commit, Forward, Load, Nonce, Reply, ReplyKind, TailMessage, Term, event_id};
use super::writer::{Addressed, Queued, Verdict, Writer};
use crate::model::id::EventId;

/// One node of many, as a pure machine: [`Relay::step`] takes what happened and says what to do.
#[derive(Debug)]
pub struct Relay<D, R> {
    pub(super) limits: RelayLimits,
    pub(super) node: Arc<str>,
    pub(super) life: u64,
    pub(super) now: Now,
    pub(super) tail: Tail<R>,
    pub(super) edge: Edge<D>,
    /// The newest term in the stream.
    pub(super) term: Option<Term>,
    /// While that term is this node's.
    pub(super) writer: Option<Writer<D, R>>,
    pub(super) claiming: Option<Claiming>,
    /// No claim before this.
    pub(super) claim_at_ms: u64,
    pub(super) last_claim: u64,
    /// The writer's process is gone.
    pub(super) writer_is_gone: bool,
    /// When the writer gave a sign of life, or a node became the writer.
    pub(super) writer_heard_ms: u64,
    /// Forwards for a term of this life that the stream has not shown yet.
    pub(super) early: VecDeque<Forward<D>>,
    pub(super) stream_clock: StreamClock,
    /// Messages before this do not show it.
    clock_seen_from_ms: u64,
    /// A newer term has come: what is not in the stream is sent again.
    pub(super) must_resend: bool,
    pub(super) counts: Counts,
    last_id: EventId,
    last_plan: u64,
    beat_at_ms: u64,
    stopping: bool,
    stopped: bool,
    wake_at_ms: u64,
}

impl<D: Clone, R> Relay<D, R> {
    /// Takes up a node where its copy ends.
    pub fn open(now: Now, limits: RelayLimits, opened: Opened, effects: &mut Vec<Effect<D, R>>) -> Relay<D, R> {
        let Opened { node, life, applied, last_id, term } = opened;
        let mut relay = Relay {
            limits,
            node,
            life,
            now,
            tail: Tail::behind(applied, now.elapsed_ms),
            edge: Edge::new(),
            term,
            writer: None,
            claiming: None,
            claim_at_ms: 0,
            last_claim: 0,
            writer_is_gone: false,
            writer_heard_ms: now.elapsed_ms,
            early: VecDeque::new(),
            stream_clock: StreamClock::default(),
            clock_seen_from_ms: 0,
            must_resend: false,
            counts: Counts::default(),
            last_id,
            last_plan: 0,
            beat_at_ms: 0,
            stopping: false,
            stopped: false,
            wake_at_ms: 0,
        };
        // the newest term is that of another life, whatever the name of its node
        relay.writer = relay.term.as_ref().and_then(|term| relay.own(term));
        relay.end_step(effects);
        relay
    }

    /// Takes one input at `now` and appends what is to be done to `effects`.
    pub fn step(&mut self, now: Now, input: Input<D, R>, effects: &mut Vec<Effect<D, R>>) {
        let was_away = now.elapsed_ms >= self.now.elapsed_ms + self.limits.silent_ms;
        self.now = Now { elapsed_ms: now.elapsed_ms.max(self.now.elapsed_ms), ..now };
        if was_away {
            self.was_away();
        }
        match input {
            Input::Publish { ticket, load, draft } => self.publish(ticket, load, draft, effects),
            Input::Forwarded(forward) => self.forwarded(forward, effects),
            Input::Asked(ask) => self.asked(ask, effects),
            Input::Replied(reply) => self.replied(reply, effects),
            Input::NoResponders { term, nonce } => {
                if nonce.life == self.life && self.edge.awaits(nonce.number, term) {
                    self.writer_gone(term);
                }
            }
            Input::Beat(beat) => self.heard_beat(&beat),
            Input::Live(messages) => self.live(messages),
            Input::Reconnected => self.tail.reconnected(self.now.elapsed_ms),
            Input::Fetched { from, at_leader, messages, end } => {
                self.tail.fetched(self.now.elapsed_ms, (from, at_leader), messages, end, &self.limits);
            }
            Input::FetchFailed { from } => self.tail.fetch_failed(self.now.elapsed_ms, from, &self.limits),
            Input::Applied { through } => self.tail.applied_through(through),
            Input::Planned { number, messages, settled } => {
                let Some(writer) = &mut self.writer else { return self.end_step(effects) };
                let mut replies = Vec::new();
                let now_ms = self.now.elapsed_ms;
                let commit = writer.planned(now_ms, number, messages, settled, &self.limits, &mut replies);
                self.deliver(replies, effects);
                effects.extend(commit.map(|commit| self.count_commit(commit)));
            }
            Input::Committed { number, answer } => self.committed(number, answer, effects),
            Input::Claimed { number, answer } => self.claimed(number, answer, effects),
            Input::Tick => {}
            Input::Stop => self.stopping = true,
        }
        self.end_step(effects);
    }

    /// When the relay wants [`Input::Tick`] next, as [`Now::elapsed_ms`].
    pub fn wake_at_ms(&self) -> u64 {
        self.wake_at_ms
    }

    pub fn observe(&self) -> Observed {
        Observed {
            term: self.term_number(),
            writer: self.term.as_ref().map(|term| Arc::clone(&term.claim.node)),
            is_writer: self.writer.is_some(),
            complete: self.tail.is_complete(),
            clock_off: self.clock_is_off(),
            applied: self.tail.applied(),
            heard: self.tail.heard(),
            pending: self.edge.len(),
            queued: self.writer.as_ref().map_or(Load::default(), Writer::load),
            counts: self.counts,
        }
    }

    /// Timers did not go off: nothing that was not heard meanwhile is evidence, and much may have happened.
    fn was_away(&mut self) {
        self.counts.away += 1;
        let now_ms = self.now.elapsed_ms;
        self.writer_heard_ms = now_ms;
        // what waited for this node meanwhile comes late, and makes the clock look fast
        self.clock_seen_from_ms = now_ms + self.limits.quiet_ms;
        self.tail.heard_of(0, now_ms);
        self.tail.fetch_now(now_ms);
    }

    fn publish(&mut self, ticket: u64, load: Load, draft: D, effects: &mut Vec<Effect<D, R>>) {
        let admitted = match self.stopping {
            true => Err(Refusal::Stopping),
            false => self.edge.admit(self.now.elapsed_ms, ticket, load, draft, &self.limits),
        };
        match admitted {
            Ok(number) => self.send(number, effects),
            Err(refusal) => effects.push(Effect::Answer { ticket, outcome: Outcome::Refused(refusal) }),
        }
    }

    /// Sends a request to the writer of the newest term, which may be this node.
    fn send(&mut self, number: u64, effects: &mut Vec<Effect<D, R>>) {
        let now_ms = self.now.elapsed_ms;
        let (Some(pending), Some(term)) = (self.edge.get(number), &self.term) else { return };
        let nonce = Nonce { life: self.life, number };
        let (load, draft, deadline_ms) = (pending.load, pending.draft.clone(), pending.deadline_ms);
        let settled_below = self.edge.settled_below();
        let heard = self.tail.heard();
        if let Some(writer) = &mut self.writer {
            let request = Queued { nonce, from: None, deadline_ms, load, draft };
            self.edge.sent(number, term.number, heard, None);
            let term = writer.term();
            if let Some(kind) = writer.accept(now_ms, request, settled_below, &self.limits) {
                self.replied(Reply { term, nonce, kind }, effects);
            }
        } else if term.claim.life != self.life {
            let forward = Forward {
                term: term.number,
                writer: term.claim.life,
                nonce,
                settled_below,
                from: Arc::clone(&self.node),
                left_ms: deadline_ms.saturating_sub(now_ms),
                load,
                draft,
            };
            effects.push(Effect::Forward { to: Arc::clone(&term.claim.node), forward });
            let due_ms = now_ms + self.limits.forward_ms;
            self.edge.sent(number, term.number, heard, Some(due_ms));
        }
    }

    /// Sends again what was not acknowledged, and asks for what was and does not come.
    fn send_due(&mut self, effects: &mut Vec<Effect<D, R>>) {
        if std::mem::take(&mut self.must_resend) {
            for number in self.edge.recall() {
                self.counts.resent += u64::from(self.edge.get(number).is_some_and(Pending::was_sent));
                self.send(number, effects);
            }
        }
        let now_ms = self.now.elapsed_ms;
        while let Some(number) = self.edge.pop_due(now_ms) {
            let stage = self.edge.get(number).map(|pending| pending.stage.clone());
            match (stage, &self.term) {
                (Some(Stage::Queued { .. }), Some(term)) => {
                    let (writer, nonce) = (term.claim.life, Nonce { life: self.life, number });
                    let ask = Ask { term: term.number, writer, nonce, from: Arc::clone(&self.node) };
                    effects.push(Effect::Ask { to: Arc::clone(&term.claim.node), ask });
                    let stage = Stage::Queued { term: term.number };
                    self.edge.set(number, stage, Some(now_ms + self.limits.ask_ms));
                }
                (Some(Stage::Sent { .. }), _) => {
                    self.counts.forwarded_again += 1;
                    self.send(number, effects);
                }
                _ => {}
            }
        }
    }

    fn replied(&mut self, reply: Reply, effects: &mut Vec<Effect<D, R>>) {
        let Reply { term, nonce: Nonce { life, number }, kind } = reply;
        if life != self.life || !self.edge.awaits(number, term) {
            return;
        }
        let now_ms = self.now.elapsed_ms;
        match kind {
            ReplyKind::Queued => {
                self.writer_lives(term);
                let ask_at_ms = self.writer.is_none().then_some(now_ms + self.limits.ask_ms);
                self.edge.set(number, Stage::Queued { term }, ask_at_ms);
                if !keeps(Rule::AnswerByTheCopy) {
                    self.edge.land(number, 0, Vec::new(), false);
                }
            }
            ReplyKind::Known { receipt, through } => {
                self.tail.heard_of(through, now_ms);
                self.edge.land(number, through, receipt, true);
            }
            ReplyKind::Refused(refusal) => {
                let answered = self.edge.remove(number);
                effects.extend(
                    answered
                        .map(|pending| Effect::Answer { ticket: pending.ticket, outcome: Outcome::Refused(refusal) }),
                );
            }
            ReplyKind::NotWriter { newest } if newest > term => self.tail.heard_of(newest, now_ms),
            ReplyKind::NotWriter { .. } => self.writer_gone(term),
        }
    }

    fn forwarded(&mut self, forward: Forward<D>, effects: &mut Vec<Effect<D, R>>) {
        let newest = self.term_number();
        let is_mine = self.writer.as_ref().is_some_and(|writer| writer.term() == forward.term);
        let is_known = |writer: &Writer<D, R>| writer.asked(forward.nonce).is_some();
        let is_taken = is_mine || self.writer.is_some() && !keeps(Rule::ForwardsNameTheirTerm);
        if !is_taken {
            if forward.writer == self.life && forward.term > newest {
                self.tail.heard_of(forward.term, self.now.elapsed_ms);
                if self.early.len() < self.limits.queue_events {
                    self.early.push_back(forward);
                }
                return;
            }
            let newest = if forward.writer == self.life { newest } else { 0 };
            self.reply(&forward.from, forward.term, forward.nonce, ReplyKind::NotWriter { newest }, effects);
        } else if self.stopping && !self.writer.as_ref().is_some_and(is_known) {
            self.reply(&forward.from, forward.term, forward.nonce, ReplyKind::NotWriter { newest }, effects);
        } else {
            self.accept(forward, effects);
        }
    }

    pub(super) fn accept(&mut self, forward: Forward<D>, effects: &mut Vec<Effect<D, R>>) {
        let Some(writer) = &mut self.writer else { return };
        let Forward { term, nonce, settled_below, from, left_ms, load, draft, .. } = forward;
        let now_ms = self.now.elapsed_ms;
        let deadline_ms = now_ms + left_ms.min(self.limits.answer_timeout_ms);
        let request = Queued { nonce, from: Some(Arc::clone(&from)), deadline_ms, load, draft };
        if let Some(kind) = writer.accept(now_ms, request, settled_below, &self.limits) {
            self.reply(&from, term, nonce, kind, effects);
        }
    }

    fn asked(&mut self, ask: Ask, effects: &mut Vec<Effect<D, R>>) {
        let Ask { term, writer, nonce, from } = ask;
        let newest = self.term_number();
        let kind = match &self.writer {
            Some(mine) if mine.term() == term => mine.asked(nonce),
            _ if writer == self.life && term > newest => None,
            _ => Some(ReplyKind::NotWriter { newest: if writer == self.life { newest } else { 0 } }),
        };
        if let Some(kind) = kind {
            self.reply(&from, term, nonce, kind, effects);
        }
    }

    fn reply(&self, to: &Arc<str>, term: u64, nonce: Nonce, kind: ReplyKind, effects: &mut Vec<Effect<D, R>>) {
        effects.push(Effect::Reply { to: Arc::clone(to), reply: Reply { term, nonce, kind } });
    }

    /// Brings replies to where they go.
    fn deliver(&mut self, replies: Vec<Addressed>, effects: &mut Vec<Effect<D, R>>) {
        let term = self.term_number();
        for (to, nonce, kind) in replies {
            match to {
                Some(to) => self.reply(&to, term, nonce, kind, effects),
                None => self.replied(Reply { term, nonce, kind }, effects),
            }
        }
    }

    fn live(&mut self, messages: Vec<TailMessage<R>>) {
        let now_ms = self.now.elapsed_ms;
        for message in messages {
            if now_ms >= self.clock_seen_from_ms {
                self.stream_clock.seen(now_ms, message.time_ms);
            }
            self.tail.heard_of(message.sequence, now_ms);
            if let (Body::Term(claim), false) = (&message.body, keeps(Rule::ResendAfterTheNewTerm)) {
                self.begin_term(Term { number: message.sequence, claim: claim.clone() });
            }
            self.tail.offer(message, &self.limits);
        }
        if self.clock_is_off() {
            // its ids would be of another time: somebody else is to write
            self.writer = None;
        }
    }

    fn committed(&mut self, number: u64, answer: CommitAnswer, effects: &mut Vec<Effect<D, R>>) {
        let Some(writer) = &mut self.writer else { return };
        let now_ms = self.now.elapsed_ms;
        let mut replies = Vec::new();
        match writer.committed(now_ms, number, answer, &self.limits, &mut replies) {
            Verdict::Nothing => {}
            Verdict::Stored(head, messages) => {
                for (sequence, message) in (head + 1..).zip(messages.iter()) {
                    let body = Body::Events(Arc::clone(message));
                    self.tail.offer(TailMessage { sequence, time_ms: self.now.clock_ms, body }, &self.limits);
                }
            }
            Verdict::Conflict => {
                self.counts.conflicts += 1;
                self.tail.fetch_now(now_ms);
            }
            Verdict::Renew => writer.renewing = true,
        }
        self.deliver(replies, effects);
    }

    /// Takes what the stream has next, in order.
    fn take(&mut self, effects: &mut Vec<Effect<D, R>>) {
        while let Some(next) = self.tail.next(&self.limits) {
            match next {
                Next::Lost { from, through } => {
                    self.edge.lost(through);
                    effects.push(Effect::Lost { from, through });
                }
                Next::Message(message) => {
                    let sequence = message.sequence;
                    match &message.body {
                        Body::Term(claim) => self.begin_term(Term { number: sequence, claim: claim.clone() }),
                        Body::Events(events) => {
                            self.last_id = self.last_id.max(events.last_id);
                            for (nonce, receipt) in &events.requests {
                                if nonce.life == self.life {
                                    self.edge.land(nonce.number, sequence, receipt.clone(), false);
                                }
                            }
                        }
                    }
                    effects.push(Effect::Apply(message));
                }
            }
            if let Some(end) = self.writer.as_mut().and_then(|writer| writer.reached(self.tail.taken())) {
                self.tail.heard_of(end, self.now.elapsed_ms);
            }
        }
    }

    /// The milliseconds of ids in a message that gets this sequence: the clock's, unless ids would not grow.
    fn id_ms(&self, sequence: u64) -> u64 {
        let clock_ms = self.now.clock_ms;
        if !keeps(Rule::IdsGrow) {
            return clock_ms;
        }
        let ms = clock_ms.max(self.last_id.time_ms());
        // an imported id may lie behind any of ours in its millisecond
        if event_id(ms, sequence, 0) > self.last_id { ms } else { ms + 1 }
    }

    /// Plans what waits, or repeats the commit that has no answer.
    fn write(&mut self, effects: &mut Vec<Effect<D, R>>) {
        let now_ms = self.now.elapsed_ms;
        let head = self.tail.taken();
        let is_whole = self.tail.is_settled() || !keeps(Rule::PlanByAWholeCopy);
        let ms = self.id_ms(head + 1);
        let Some(writer) = &mut self.writer else { return };
        writer.expire(now_ms);
        if writer.wants_plan() && is_whole {
            let order = writer.begin_plan(now_ms, self.last_plan + 1, head, &self.limits);
            if let Some(order) = order {
                self.last_plan += 1;
                let (term, sequence) = (writer.term(), head + 1);
                effects.push(Effect::Plan { number: order.number, term, sequence, ms, requests: order.requests });
            }
        }
        if let Some(commit) = writer.repeat(now_ms, head, &self.limits) {
            effects.push(self.count_commit(commit));
        }
        if self.writer.is_some() && now_ms >= self.beat_at_ms {
            self.beat_at_ms = now_ms + self.limits.beat_ms;
            let beat = Beat { node: Arc::clone(&self.node), term: self.term_number(), head };
            effects.push(Effect::Beat(beat));
        }
    }

    fn count_commit(&mut self, commit: Commit<R>) -> Effect<D, R> {
        self.counts.commits += 1;
        Effect::Commit(commit)
    }

    /// What every input ends with.
    fn end_step(&mut self, effects: &mut Vec<Effect<D, R>>) {
        self.take(effects);
        let now_ms = self.now.elapsed_ms;
        self.take_early(effects);
        self.send_due(effects);
        let mut answers: Vec<Answer> = Vec::new();
        self.edge.answer_through(self.tail.applied(), &mut answers);
        self.edge.expire(now_ms, &mut answers);
        effects.extend(answers.into_iter().map(|(ticket, outcome)| Effect::Answer { ticket, outcome }));
        self.claim(effects);
        self.write(effects);
        if self.tail.fetch_due_ms(now_ms, &self.limits).is_some_and(|due_ms| due_ms <= now_ms) {
            let (from, at_leader) = self.tail.begin_fetch(now_ms);
            self.counts.fetches += 1;
            effects.push(Effect::Fetch { from, at_leader });
        }
        if self.stopping && !self.stopped && self.edge.is_empty() {
            let has_work = |writer: &Writer<D, R>| !writer.is_idle() || writer.load().events > 0;
            if !self.writer.as_ref().is_some_and(has_work) {
                self.stopped = true;
                effects.push(Effect::Stopped);
            }
        }
        self.wake_at_ms = self.next_wake_ms();
    }

    fn next_wake_ms(&mut self) -> u64 {
        let now_ms = self.now.elapsed_ms;
        let writer = self.writer.as_ref();
        let times = [
            self.edge.wake_at_ms(),
            writer.and_then(|writer| writer.wake_at_ms(self.tail.taken())),
            writer.map(|_| self.beat_at_ms),
            self.claim_due_ms(),
            self.tail.fetch_due_ms(now_ms, &self.limits),
            // often enough to notice that it was away
            Some(now_ms + self.limits.silent_ms / 3),
        ];
        times.into_iter().flatten().min().unwrap_or(now_ms).max(now_ms + 1)
    }
}
