//! The cluster's worker behind the journal's queue. It owns this node's copy of the log and its part in writing it: the
//! relay, a pure state machine, says what is to be done, and this does it.
//!
//! Everything comes to one thread: requests by the queue, messages of the network by the inbox. It waits for the disk of the
//! copy, and for the network only where messages of the log are gone, to read what stands for them.
//!
//! If the process dies, what was not answered may or may not be in the log; what was answered is, at NATS. The copy goes on
//! from its [`Position`]. So what cannot be applied ends the process: the next start reads it again, and nothing is skipped.

mod copying;
mod owning;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::ClusterError;
use super::applying::Assembly;
use super::entry::Part;
use super::inbox::{Inbound, Inbox};
use super::link::Link;
use super::planning::{Planned, Planner, ids_of};
use super::position::{Position, is_of_this_folder};
use super::request::{Changes, Packed, pack_changes, pack_events};
use super::slots::{Claims, Slots, beat_ms};
use super::snapshot::Done;
use super::status::{COUNTS_EVERY, Status};
use super::vital::Vital;

use crate::journal::{
    Answer, AppendError, Committer, Content, DocumentChanges, JournalLimits, Load, Order, Queue, Receipt,
};
use crate::model::channel::Owner;
use crate::model::event::ChannelNo;
use crate::model::relay::{self, Effect, Input, Load as RelayLoad, Now, Opened, Outcome, Refusal, Relay};
use crate::wal;

/// How long the worker waits at most before it looks after time.
const IDLE: Duration = Duration::from_millis(20);
/// Requests that are taken from the queue between two looks at the network.
const REQUESTS_AT_ONCE: usize = 512;
/// How often it is looked at most after what is owed, in milliseconds.
const CARE_EVERY_MS: u64 = 200;

/// Events and changes of one commit, at most: each may be a request of its own, and all of them have to fit into the head of a
/// message, see [`super::MESSAGE_HEAD_BYTES`].
const BATCH_EVENTS_MAX: usize = 1_000;

/// Whose channel a number is of.
pub type OwnerOf = Box<dyn Fn(ChannelNo) -> Option<Owner> + Send>;

/// What a worker is made of.
pub struct Parts {
    pub queue: Queue,
    pub committer: Committer,
    pub owner_of: OwnerOf,
    pub limits: JournalLimits,
    pub link: Link,
    pub inbox: Inbox,
    pub inbound: mpsc::Receiver<Inbound>,
    pub position: Position,
    pub opened: Opened,
    pub claims: Claims,
    /// The newest snapshot.
    pub newest: Option<Done>,
    /// A node that was not heard for so long counts as gone.
    pub silent: Duration,
    pub status: Arc<Status>,
    /// Bytes of an entry in one message.
    pub part_bytes: usize,
}

pub struct Worker {
    queue: Queue,
    pub committer: Committer,
    pub owner_of: OwnerOf,
    link: Link,
    inbox: Inbox,
    inbound: mpsc::Receiver<Inbound>,
    relay: Relay<Packed, Part>,
    effects: VecDeque<Effect<Packed, Part>>,
    fresh: Vec<Effect<Packed, Part>>,
    life: u64,
    begun: Instant,
    position: Position,
    node: Arc<str>,
    claims: Claims,
    slots: Slots,
    newest: Option<Done>,
    /// A snapshot is being written: the bytes of the changes that it stands for.
    writing_snapshot: Option<u64>,
    /// Bytes of the changes that came since the newest snapshot.
    changes_bytes: u64,
    /// When it is looked next whether a snapshot is due.
    snapshot_look_ms: u64,
    assembly: Assembly,
    /// Requests of this node without an answer, by ticket.
    waiting: HashMap<u64, (Waiting, Load)>,
    next_ticket: u64,
    /// Changes of what is configured: one is under way at a time, because each rests on the one before.
    configuring: VecDeque<(DocumentChanges, Load, Answer<()>)>,
    is_configuring: bool,
    part_bytes: usize,
    status: Arc<Status>,
    cared_ms: u64,
    told_ms: u64,
    beaten_ms: u64,
    /// How often this node says that it is there, and looks who else is.
    beat_ms: u64,
    counted_ms: u64,
    is_leaving: bool,
    is_stopped: bool,
    /// Requests are taken.
    is_serving: bool,
    /// Why the process has to end.
    failed: Option<ClusterError>,
}

enum Waiting {
    Events(Answer<Receipt>),
    Changes(Answer<()>),
    /// The same, of what is configured.
    Configuration(Answer<()>),
    /// Of the document of a slot.
    Slot(u8),
}

impl Worker {
    pub fn new(parts: Parts) -> Worker {
        let Parts { queue, committer, owner_of, limits, link, inbox, inbound, position, .. } = parts;
        let Parts { opened, claims, newest, silent, status, part_bytes, .. } = parts;
        let begun = Instant::now();
        let limits = relay::RelayLimits {
            // the journal's own bounds turn publishers away first
            queue_events: limits.queue_events.saturating_mul(4),
            queue_bytes: limits.queue_bytes.saturating_mul(4),
            batch_events: limits.batch_events.min(BATCH_EVENTS_MAX),
            batch_bytes: limits.batch_bytes,
            silent_ms: silent.as_millis() as u64,
            beat_ms: beat_ms(silent.as_millis() as u64),
            answer_timeout_ms: limits.answer_timeout.as_millis() as u64,
            ..relay::RelayLimits::default()
        };
        let mut fresh = Vec::new();
        let life = opened.life;
        let node = opened.node.clone();
        let now = now(&begun, &committer);
        let slots = Slots::new(node.clone(), life, silent.as_millis() as u64, now.elapsed_ms);
        for slot in 0..super::slots::SLOTS as u8 {
            status.show_owner(slot, claims.of(slot).map(|claim| claim.node.clone()));
        }
        let relay = Relay::open(now, limits, opened, &mut fresh);
        Worker {
            queue,
            committer,
            owner_of,
            link,
            inbox,
            inbound,
            relay,
            effects: fresh.drain(..).collect(),
            fresh,
            life,
            begun,
            position,
            node,
            claims,
            slots,
            newest,
            writing_snapshot: None,
            changes_bytes: 0,
            snapshot_look_ms: 0,
            assembly: Assembly::default(),
            waiting: HashMap::new(),
            next_ticket: 0,
            configuring: VecDeque::new(),
            is_configuring: false,
            part_bytes,
            status,
            cared_ms: 0,
            told_ms: 0,
            beaten_ms: 0,
            beat_ms: beat_ms(silent.as_millis() as u64),
            counted_ms: 0,
            is_leaving: false,
            is_stopped: false,
            is_serving: false,
            failed: None,
        }
    }

    /// Follows the log until the copy holds everything that was in it. Blocks.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn catch_up(&mut self) -> Result<(), ClusterError> {
        loop {
            self.round();
            if let Some(failed) = self.failed.take() {
                return Err(failed);
            }
            if self.relay.observe().complete {
                return Ok(());
            }
        }
    }

    /// Runs until the queue is stopped and every request has its answer. Blocks.
    pub fn run(mut self) {
        let _vital = Vital("the worker of the cluster");
        self.committer.look_at_the_disk(self.queue.shown());
        self.is_serving = true;
        while !self.is_stopped {
            self.round();
            if let Some(failed) = &self.failed {
                // what is acknowledged or shown from here on would not be what the log says
                log::error!("the server ends: {failed}");
                std::process::abort();
            }
        }
        self.committer.close();
    }

    /// Waits for something and deals with it.
    fn round(&mut self) {
        self.perform();
        let wake_in = self.relay.wake_at_ms().saturating_sub(self.now().elapsed_ms);
        let timeout = IDLE.min(Duration::from_millis(wake_in));
        let mut order = self.queue.wait(timeout);
        self.inbox.opened();
        let mut taken = 0;
        while let Some(next) = order.take() {
            taken += usize::from(!matches!(next, Order::Wake));
            self.order(next);
            if !self.is_serving || taken >= REQUESTS_AT_ONCE {
                break;
            }
            order = self.queue.next();
        }
        while let Ok(inbound) = self.inbound.try_recv() {
            match inbound {
                Inbound::Relay(input) => {
                    self.inbox.taken(&input);
                    self.step(input);
                }
                Inbound::Node(beat) => self.heard(beat),
                Inbound::Counts(counts) => self.status.heard_counts(counts),
                Inbound::Released { slot, claim } => self.slots.released(slot, claim),
                Inbound::Snapshot(newest) => self.snapshot_written(newest),
            }
            if self.effects.len() >= REQUESTS_AT_ONCE {
                self.perform();
            }
        }
        if self.relay.wake_at_ms() <= self.now().elapsed_ms {
            self.step(Input::Tick);
        }
        self.perform();
        if !self.has_ended() {
            self.care();
        }
    }

    /// Nothing is to be done any more.
    fn has_ended(&self) -> bool {
        self.is_stopped || self.failed.is_some()
    }

    fn now(&self) -> Now {
        now(&self.begun, &self.committer)
    }

    fn step(&mut self, input: Input<Packed, Part>) {
        let now = self.now();
        self.relay.step(now, input, &mut self.fresh);
        self.effects.extend(self.fresh.drain(..));
    }

    // ---- requests --------------------------------------------------------------------------------------------------

    fn order(&mut self, order: Order) {
        match order {
            Order::Wake => {}
            // whoever asked may have given up
            Order::Snapshot(answer) => drop(answer.send(Ok(self.committer.snapshot()))),
            Order::Stop => {
                // webhooks have ended before the journal is stopped
                self.beat(true);
                self.is_leaving = true;
                self.step(Input::Stop);
            }
            Order::Append(append, load, answer) => {
                let draft = pack_events(&append);
                self.publish(draft, load, Waiting::Events(answer));
            }
            Order::Change(request, load, answer) => self.change(request, load, answer),
        }
    }

    fn publish(&mut self, draft: Packed, load: Load, waiting: Waiting) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.waiting.insert(ticket, (waiting, load));
        let load = RelayLoad { events: load.events, bytes: draft.0.len() };
        self.step(Input::Publish { ticket, load, draft });
    }

    fn change(&mut self, request: DocumentChanges, load: Load, answer: Answer<()>) {
        if request.changes.is_empty() {
            // somebody waits for what was queued before
            return self.configure(request, load, answer);
        }
        if request.changes.iter().all(is_of_this_folder) {
            let kept = self.keep(&request);
            self.queue.shown().subtract(load);
            // whoever asked may have given up
            return drop(answer.send(kept));
        }
        if request.epoch.is_some() {
            return self.configure(request, load, answer);
        }
        let mut changes = Changes { changes: request.changes, ..Changes::default() };
        changes.fence = request.fence.map(|fence| (fence.slot, fence.claim));
        changes.required = request.requires;
        self.publish(pack_changes(&changes), load, Waiting::Changes(answer));
    }

    /// Changes of this folder alone, which no other node has to know.
    fn keep(&mut self, request: &DocumentChanges) -> Result<(), AppendError> {
        let now_ms = self.committer.clock.now_ms();
        let content = Content { changes: &request.changes, ..Content::default() };
        match self.committer.write(&content, wal::Urgency::Reserve, now_ms) {
            Ok(committed) => {
                self.committer.show(&committed, &request.changes, now_ms);
                Ok(())
            }
            Err(e) => Err(AppendError::Store(e.to_string())),
        }
    }

    fn configure(&mut self, request: DocumentChanges, load: Load, answer: Answer<()>) {
        self.configuring.push_back((request, load, answer));
        self.configure_next();
    }

    fn configure_next(&mut self) {
        while !self.is_configuring
            && let Some((request, load, answer)) = self.configuring.pop_front()
        {
            let shown = self.queue.shown();
            let is_void = request.epoch.is_some_and(|epoch| epoch != shown.epoch());
            if is_void || request.changes.is_empty() {
                shown.subtract(load);
                // whoever asked may have given up
                drop(answer.send(if is_void { Err(AppendError::Conflict) } else { Ok(()) }));
                continue;
            }
            self.is_configuring = true;
            let changes = Changes {
                changes: request.changes,
                based_on: Some(self.position.configured_at),
                required: request.requires,
                ..Changes::default()
            };
            self.publish(pack_changes(&changes), load, Waiting::Configuration(answer));
        }
    }

    fn answer(&mut self, ticket: u64, outcome: Outcome) {
        let Some((waiting, load)) = self.waiting.remove(&ticket) else { return };
        self.queue.shown().subtract(load);
        let done = match outcome {
            Outcome::Stored { receipt, repeated } => Ok(Receipt { ids: ids_of(&receipt), repeated }),
            Outcome::Refused(refusal) => Err(error_of(refusal)),
            Outcome::Unknown => Err(AppendError::OutcomeUnknown),
        };
        // whoever asked may have given up
        match waiting {
            Waiting::Events(answer) => drop(answer.send(done)),
            Waiting::Changes(answer) => drop(answer.send(done.map(drop))),
            Waiting::Slot(slot) => {
                if let Err(e) = done {
                    log::debug!(slot; "the owner of a slot is not changed: {e}");
                }
                self.slots.written(slot);
            }
            Waiting::Configuration(answer) => {
                if done.is_err() {
                    // those that are queued behind it were computed on it
                    self.queue.shown().move_epoch_on();
                }
                drop(answer.send(done.map(drop)));
                self.is_configuring = false;
                self.configure_next();
            }
        }
    }

    // ---- what the relay says ---------------------------------------------------------------------------------------

    fn perform(&mut self) {
        let mut applied = None;
        while !self.has_ended()
            && let Some(effect) = self.effects.pop_front()
        {
            let is_of_copy = matches!(effect, Effect::Apply(_) | Effect::Lost { .. });
            if !is_of_copy && let Some(through) = applied.take() {
                self.step(Input::Applied { through });
            }
            match effect {
                Effect::Apply(message) => {
                    applied = Some(message.sequence);
                    self.apply(message);
                }
                Effect::Lost { from, through } => {
                    applied = Some(through);
                    self.lose(from, through);
                }
                Effect::Answer { ticket, outcome } => self.answer(ticket, outcome),
                Effect::Plan { number, term, sequence, ms, requests } => {
                    let planner = Planner {
                        log: &self.committer.log,
                        documents: &self.committer.documents,
                        position: &self.position,
                        claims: &self.claims,
                        part_bytes: self.part_bytes,
                    };
                    let Planned { messages, settled } = planner.plan(term, sequence, ms, requests);
                    self.step(Input::Planned { number, messages, settled });
                }
                Effect::WentBack { expected, found } => {
                    self.failed = Some(ClusterError::WentBack { expected, found });
                }
                Effect::Stopped => self.is_stopped = true,
                effect => drop(self.link.perform(effect)),
            }
            if self.effects.is_empty()
                && !self.has_ended()
                && let Some(through) = applied.take()
            {
                self.step(Input::Applied { through });
            }
        }
    }

    // ---- between the rounds ----------------------------------------------------------------------------------------

    fn care(&mut self) {
        let elapsed_ms = self.now().elapsed_ms;
        if elapsed_ms.saturating_sub(self.told_ms) >= IDLE.as_millis() as u64 {
            self.told_ms = elapsed_ms;
            self.committer.look_after_time();
            self.status.show(&self.relay.observe(), self.link.is_connected());
        }
        if elapsed_ms.saturating_sub(self.beaten_ms) >= self.beat_ms && self.status.takes_slots() && !self.is_leaving {
            self.beaten_ms = elapsed_ms;
            self.beat(false);
            self.look_at_slots();
        }
        if elapsed_ms.saturating_sub(self.counted_ms) >= COUNTS_EVERY.as_millis() as u64 {
            self.counted_ms = elapsed_ms;
            self.status.tell_counts();
        }
        if elapsed_ms.saturating_sub(self.cared_ms) < CARE_EVERY_MS {
            return;
        }
        self.cared_ms = elapsed_ms;
        self.committer.look_at_the_disk(self.queue.shown());
        self.committer.pay();
        self.committer.write_generation_if_due(self.queue.shown());
        self.write_snapshot_if_due(elapsed_ms);
    }
}

fn now(begun: &Instant, committer: &Committer) -> Now {
    let clock_ms = committer.clock.now_ms().max(0) as u64;
    Now { elapsed_ms: begun.elapsed().as_millis() as u64, clock_ms }
}

fn error_of(refusal: Refusal) -> AppendError {
    match refusal {
        Refusal::QueueFull => AppendError::QueueFull,
        Refusal::StorageFull => AppendError::StorageFull,
        Refusal::Stopping => AppendError::Stopping,
        Refusal::Gone => AppendError::Gone,
        Refusal::Conflict => AppendError::Conflict,
        Refusal::Failed => AppendError::Failed,
    }
}
