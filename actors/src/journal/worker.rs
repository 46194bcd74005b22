//! The worker behind the queue: takes what waits, decides what it comes to, makes it durable in one commit, answers it. How
//! a commit is written and shown is the business of [`Committer`].
//!
//! [`Worker::step`] is one round; a thread calls it, or a simulation. A panic costs the batch in hand, whose requests are
//! told that it failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::committer::{Committer, Content};
use super::plan::{Append, Plan};
use super::{Answer, AppendError, DocumentChanges, JournalLimits, Load, Order, Queue, Receipt, Urgency};
use crate::log;
use crate::model::id::IdSource;
use crate::wal::{self, CommitError};

/// How long the worker waits for work before it looks after what it owes.
pub(super) const IDLE_TICK: Duration = Duration::from_millis(20);
/// How often it looks after what it owes at most, in milliseconds: the room on the disk, a failed commit that is to be
/// settled, changes that took effect and are not durable.
const CARE_EVERY_MS: u64 = 200;
/// How long a commit waits at most for the segment before the active one to be sealed. Changes wait behind it.
const SEALING_WAIT: Duration = Duration::from_millis(500);
/// How often it looks meanwhile.
pub(crate) const SEALING_POLL: Duration = Duration::from_millis(1);

/// Commits by itself: one server owns one data folder.
pub struct Worker {
    pub queue: Queue,
    pub committer: Committer,
    pub limits: JournalLimits,
    pub ids: IdSource,
    pub rest: Rest,
}

/// What the worker keeps between rounds.
#[derive(Default)]
pub struct Rest {
    in_hand: Load,
    held: Option<Order>,
    /// Requests whose commit failed, and of which it is not certain yet that they cannot appear.
    unsettled: Vec<Request>,
    cared_ms: u64,
    told_ms: u64,
}

/// A request that is in the commit being made, with what it is answered when that succeeds.
enum Request {
    Append(Answer<Receipt>, Receipt),
    Change(Answer<()>, DocumentChanges),
}

impl Request {
    // whoever asked may have gone and needs no answer

    fn succeed(self) {
        match self {
            Request::Append(answer, receipt) => drop(answer.send(Ok(receipt))),
            Request::Change(answer, _) => drop(answer.send(Ok(()))),
        }
    }

    fn fail(self, failure: &AppendError) {
        match self {
            Request::Append(answer, _) => drop(answer.send(Err(failure.clone()))),
            Request::Change(answer, _) => drop(answer.send(Err(failure.clone()))),
        }
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Worked,
    /// The queue was empty.
    Idle,
    /// The queue was stopped, and everything before that was done.
    Stopped,
}

impl Worker {
    /// Runs until the queue is stopped. Blocks.
    pub(super) fn run(mut self) {
        // before the first request, which may come as soon as the server listens
        self.committer.look_at_the_disk(&self.queue.shown);
        loop {
            let round = catch_unwind(AssertUnwindSafe(|| {
                if self.rest.held.is_none() {
                    match self.queue.orders.recv_timeout(IDLE_TICK) {
                        Ok(order) => self.rest.held = Some(order),
                        Err(mpsc::RecvTimeoutError::Timeout) => {}
                        Err(mpsc::RecvTimeoutError::Disconnected) => self.rest.held = Some(Order::Stop),
                    }
                }
                self.step()
            }));
            match round {
                Ok(Round::Worked | Round::Idle) => {}
                Ok(Round::Stopped) => break,
                Err(_) => self.after_panic(),
            }
        }
        self.stop();
    }

    fn after_panic(&mut self) {
        ::log::error!("the journal panicked over a batch and goes on without it");
        let shown = &self.queue.shown;
        shown.subtract(std::mem::take(&mut self.rest.in_hand));
        shown.epoch.fetch_add(1, Ordering::AcqRel);
        let head = self.committer.log.head();
        // the batch may be durable already, and readers must not miss it
        self.committer.announcer.recover(head);
        // ids go on behind everything that may be in the log
        self.ids = IdSource::after(self.ids.last().max(head));
    }

    /// Commits what waits, without waiting for more, and looks after what is owed. Blocks on the disk.
    pub fn step(&mut self) -> Round {
        let (batch, stop) = self.take();
        let is_idle = batch.is_empty();
        if !is_idle {
            self.work(batch);
        }
        if stop {
            return Round::Stopped;
        }
        self.care(is_idle);
        if is_idle { Round::Idle } else { Round::Worked }
    }

    /// Takes what fits into one commit from the queue.
    fn take(&mut self) -> (Vec<Order>, bool) {
        let mut batch = Vec::new();
        let in_hand = &mut self.rest.in_hand;
        let mut next = self.rest.held.take().or_else(|| self.queue.orders.try_recv().ok());
        while let Some(order) = next.take() {
            let order = match order {
                Order::Stop => return (batch, true),
                Order::Snapshot(answer) if batch.is_empty() => {
                    // whoever asked may have given up
                    drop(answer.send(Ok(self.committer.snapshot())));
                    next = self.queue.orders.try_recv().ok();
                    continue;
                }
                Order::Snapshot(_) => {
                    self.rest.held = Some(order);
                    break;
                }
                // everything comes to this worker by its queue
                Order::Wake => {
                    next = self.queue.orders.try_recv().ok();
                    continue;
                }
                order => order,
            };
            let more = order.load();
            let fits = in_hand.events + more.events <= self.limits.batch_events
                && in_hand.bytes + more.bytes <= self.limits.batch_bytes;
            if !batch.is_empty() && !fits {
                self.rest.held = Some(order);
                break;
            }
            in_hand.events += more.events;
            in_hand.bytes += more.bytes;
            batch.push(order);
            next = self.queue.orders.try_recv().ok().or_else(|| {
                // publishers that were answered together ask again together: let them, where they share our core
                std::thread::yield_now();
                self.queue.orders.try_recv().ok()
            });
        }
        (batch, false)
    }

    fn work(&mut self, batch: Vec<Order>) {
        let begun = Instant::now();
        let (mut appends, mut changes) = (Vec::new(), Vec::new());
        for order in batch {
            match order {
                Order::Append(append, _, answer) => appends.push((append, answer)),
                Order::Change(change, _, answer) => changes.push((change, answer)),
                // `take` leaves none of these in a batch
                Order::Snapshot(_) | Order::Wake | Order::Stop => {}
            }
        }
        let has_room = !self.committer.rest.out_of_room && !self.queue.shown.full.load(Ordering::Relaxed);
        if !has_room {
            let (urgent, others): (Vec<_>, Vec<_>) =
                changes.into_iter().partition(|(change, _)| change.urgency == Urgency::Reserve);
            let (urgent_appends, other_appends): (Vec<_>, Vec<_>) =
                appends.into_iter().partition(|(append, _)| append.urgency == Urgency::Reserve);
            if !urgent.is_empty() || !urgent_appends.is_empty() {
                // An urgent change may have been computed on one that is refused here. Then it is computed again.
                self.refuse_changes(others, &AppendError::StorageFull);
                self.commit(urgent_appends, urgent, wal::Urgency::Reserve, begun);
                changes = Vec::new();
            } else {
                changes = others;
            }
            appends = other_appends;
        }
        if !appends.is_empty() && !self.wait_for_sealing(self.rest.in_hand.bytes as u64) {
            let is_full = self.queue.shown.sealing_full.load(Ordering::Relaxed);
            let reason = if is_full { AppendError::StorageFull } else { AppendError::QueueFull };
            appends.drain(..).for_each(|(_, answer)| drop(answer.send(Err(reason.clone()))));
        }
        if !appends.is_empty() || !changes.is_empty() {
            self.commit(appends, changes, wal::Urgency::Normal, begun);
        }
        self.queue.shown.subtract(std::mem::take(&mut self.rest.in_hand));
    }

    fn refuse_changes(&self, changes: Vec<(DocumentChanges, Answer<()>)>, reason: &AppendError) {
        if changes.iter().any(|(change, _)| change.epoch.is_some()) {
            self.queue.shown.epoch.fetch_add(1, Ordering::AcqRel);
        }
        // whoever asked may have gone
        changes.into_iter().for_each(|(_, answer)| drop(answer.send(Err(reason.clone()))));
    }

    /// Waits until the log may take more events. False: not in time.
    fn wait_for_sealing(&self, bytes: u64) -> bool {
        let mut waited = Duration::ZERO;
        while !self.committer.log.may_admit(bytes) {
            if waited >= SEALING_WAIT {
                return false;
            }
            self.committer.clock.pause(SEALING_POLL);
            waited += SEALING_POLL;
        }
        true
    }

    /// Makes the requests durable, shows them, answers them.
    fn commit(
        &mut self,
        appends: Vec<(Append, Answer<Receipt>)>,
        changes: Vec<(DocumentChanges, Answer<()>)>,
        urgency: wal::Urgency,
        begun: Instant,
    ) {
        let committer = &self.committer;
        committer.log.follow_clock(committer.clock.moment());
        let now_ms = committer.clock.now_ms();
        let mut plan = Plan::default();
        let mut requests = Vec::with_capacity(appends.len() + changes.len());
        let epoch = self.queue.shown.epoch.load(Ordering::Acquire);
        for (append, answer) in appends {
            let random = || u128::from_le_bytes(committer.clock.random());
            let receipt = plan.append(append, &committer.log, &mut self.ids, now_ms, random);
            requests.push(Request::Append(answer, receipt));
        }
        for (change, answer) in changes {
            if change.epoch.is_some_and(|computed_in| computed_in != epoch) {
                drop(answer.send(Err(AppendError::Conflict)));
            } else if !plan.change(&change, &committer.documents) {
                drop(answer.send(Err(AppendError::Gone)));
            } else {
                requests.push(Request::Change(answer, change));
            }
        }
        if plan.is_empty() {
            return requests.into_iter().for_each(Request::succeed);
        }
        // what is owed was queued before, so it must not be written over what comes now
        plan.changes.splice(0..0, committer.rest.owed.iter().cloned());
        match self.store(&plan, urgency, now_ms) {
            Ok(()) => {
                let committer = &mut self.committer;
                committer.rest.owed.clear();
                if urgency == wal::Urgency::Normal {
                    committer.succeeded(&self.queue.shown);
                }
                let count = plan.events.len();
                committer.metrics.tallies.published(plan.events.iter().map(|event| event.channel));
                let owners = plan.owners;
                committer.announcer.announce(plan.events, |no| owners.get(&no).cloned(), now_ms);
                requests.into_iter().for_each(Request::succeed);
                committer.metrics.committed(count, begun.elapsed());
            }
            Err(e) => self.failed(&e, requests, urgency, begun),
        }
    }

    /// Writes the commit; when it is durable, events can be read and changes are in effect.
    fn store(&mut self, plan: &Plan, urgency: wal::Urgency, now_ms: i64) -> Result<(), CommitError> {
        let events = (!plan.events.is_empty()).then(|| log::encode_events(&plan.events));
        let keys = (!plan.dedupe.is_empty()).then(|| log::encode_keys(&plan.dedupe));
        let content = Content { events: events.as_deref(), changes: &plan.changes, keys: keys.as_deref() };
        let committed = self.committer.write(&content, urgency, now_ms);
        // it waits no longer, whatever came of it
        self.queue.shown.subtract(std::mem::take(&mut self.rest.in_hand));
        self.committer.show(&committed?, &plan.changes, now_ms);
        Ok(())
    }

    /// A commit failed: says so, and tells everybody what is known of it.
    fn failed(&mut self, e: &CommitError, requests: Vec<Request>, urgency: wal::Urgency, begun: Instant) {
        self.committer.failed(e, &self.queue.shown);
        if requests.iter().any(|request| matches!(request, Request::Change(_, change) if change.epoch.is_some())) {
            self.queue.shown.epoch.fetch_add(1, Ordering::AcqRel);
        }
        if !e.is_certain() {
            // until it is settled they may appear after a restart; whoever asked waits for its timeout
            return self.rest.unsettled.extend(requests);
        }
        let failure = refusal(e);
        let mut urgent = Vec::new();
        for request in requests {
            match request {
                Request::Change(answer, change) if change.urgency == Urgency::Reserve => urgent.push((change, answer)),
                request => request.fail(&failure),
            }
        }
        if urgent.is_empty() {
            return;
        }
        if e.is_full() && urgency == wal::Urgency::Normal {
            return self.commit(Vec::new(), urgent, wal::Urgency::Reserve, begun);
        }
        // a revocation must not wait for the disk: it is in effect now, and durable as soon as that is possible
        let committer = &mut self.committer;
        for (change, answer) in urgent {
            committer.documents.apply(&change.changes, committer.wal.last_sequence());
            (committer.applied)(&change.changes);
            committer.rest.owed.extend(change.changes);
            // whoever asked may have gone
            drop(answer.send(Err(failure.clone())));
        }
        // what was computed since the commit failed may not have seen that they are in effect
        self.queue.shown.epoch.fetch_add(1, Ordering::AcqRel);
    }

    // ---- what is owed ----------------------------------------------------------------------------------------------

    /// Looks after what is owed. Under load the queue is never empty, and yet nobody may wait for that.
    fn care(&mut self, is_idle: bool) {
        let moment = self.committer.clock.moment();
        if is_idle || moment.elapsed_ms.saturating_sub(self.rest.told_ms) >= IDLE_TICK.as_millis() as u64 {
            self.rest.told_ms = moment.elapsed_ms;
            self.committer.look_after_time();
        }
        if moment.elapsed_ms.saturating_sub(self.rest.cared_ms) < CARE_EVERY_MS {
            return;
        }
        self.rest.cared_ms = moment.elapsed_ms;
        self.settle();
        self.committer.look_at_the_disk(&self.queue.shown);
        self.committer.pay();
        self.committer.write_generation_if_due(&self.queue.shown);
    }

    /// Tries to make certain that a commit that failed cannot appear, and then answers its requests.
    fn settle(&mut self) {
        // a later commit may have settled it
        if let Err(e) = self.committer.wal.settle() {
            return ::log::warn!("a commit that failed is not settled yet: {e}");
        }
        let failure = AppendError::Store("the disk failed and works again; send it again".into());
        std::mem::take(&mut self.rest.unsettled).into_iter().for_each(|request| request.fail(&failure));
    }

    /// After the last request: everything becomes durable, and the log notes its end.
    pub fn stop(mut self) {
        self.settle();
        self.committer.close();
    }
}

/// What a publisher is told of a commit that certainly failed.
fn refusal(e: &CommitError) -> AppendError {
    match e {
        _ if e.is_full() => AppendError::StorageFull,
        e => AppendError::Store(e.to_string()),
    }
}
