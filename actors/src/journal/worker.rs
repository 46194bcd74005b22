//! The worker behind the queue: takes what waits, commits it, shows it, answers it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::{Answer, AppendError, JournalLimits, Load, Order, Queue, Receipt};
use crate::clock;
use crate::documents::{Change, Documents};
use crate::feed::Announcer;
use crate::metrics::Metrics;
use crate::model::id::IdSource;
use crate::store::{self, Log, State, StoreError};

/// How long the worker waits for work before it looks after what it owes: recipients that missed a batch, an interval
/// flush.
const IDLE_TICK: Duration = Duration::from_millis(20);

/// Told of every commit's changes of documents, in order, when they are durable.
pub type Applied = Box<dyn FnMut(&[Change]) + Send>;

/// What the worker commits to, and who is told.
pub struct Worker {
    pub queue: Queue,
    pub log: Arc<Log>,
    pub state: Arc<State>,
    pub documents: Arc<Documents>,
    pub announcer: Announcer,
    pub applied: Applied,
    pub metrics: Arc<Metrics>,
    pub limits: JournalLimits,
    pub ids: IdSource,
}

/// A request that is in the commit being made, with what it will be answered.
enum InHand {
    Append(Answer<Receipt>, Result<Receipt, AppendError>),
    Change(Answer<()>, Result<(), AppendError>),
}

impl InHand {
    fn answer(self, failure: Option<&AppendError>) {
        // whoever asked may have gone and needs no answer
        match (self, failure) {
            (InHand::Append(answer, Ok(_)), Some(e)) => drop(answer.send(Err(e.clone()))),
            (InHand::Append(answer, result), _) => drop(answer.send(result)),
            (InHand::Change(answer, Ok(())), Some(e)) => drop(answer.send(Err(e.clone()))),
            (InHand::Change(answer, result), _) => drop(answer.send(result)),
        }
    }
}

impl Worker {
    /// Runs until the queue is stopped. A panic costs the batch in hand, whose requests are told that it failed.
    pub(super) fn run(&mut self) {
        let mut in_hand = Load::default();
        while catch_unwind(AssertUnwindSafe(|| self.work(&mut in_hand))).is_err() {
            log::error!("the journal panicked over a batch and goes on without it");
            self.queue.shown.subtract(std::mem::take(&mut in_hand));
            self.queue.shown.epoch.fetch_add(1, Ordering::AcqRel);
            // ids go on behind everything that may be in the log
            self.ids = IdSource::after(self.ids.last().max(self.log.head()));
            // the batch may be durable already, and readers must not miss it
            self.announcer.recover(self.log.head());
        }
    }

    fn work(&mut self, in_hand: &mut Load) {
        let mut held: Option<Order> = None;
        let mut looked_after = Instant::now();
        loop {
            let first = match held.take() {
                Some(order) => order,
                None => match self.queue.orders.recv_timeout(IDLE_TICK) {
                    Ok(order) => order,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        self.idle();
                        continue;
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => Order::Stop,
                },
            };
            let mut batch = Vec::new();
            let mut stop = false;
            let mut next = Some(first);
            while let Some(order) = next.take() {
                if matches!(order, Order::Stop) {
                    stop = true;
                    break;
                }
                let more = order.load();
                let fits = in_hand.events + more.events <= self.limits.batch_events
                    && in_hand.bytes + more.bytes <= self.limits.batch_bytes;
                if !batch.is_empty() && !fits {
                    held = Some(order);
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
            if !batch.is_empty() {
                self.commit(batch, in_hand);
            }
            if self.announcer.owes() && looked_after.elapsed() >= IDLE_TICK {
                // under load the queue is never empty for a tick, and those who missed a batch must not wait for that
                self.idle();
                looked_after = Instant::now();
            }
            if stop {
                // whatever was queued before the stop has been taken in order; the rest is told by its dropped sender
                if let Some(order) = held.take() {
                    self.commit(vec![order], in_hand);
                }
                break;
            }
        }
        if let Err(e) = self.log.sync() {
            log::error!("the last flush failed: {e}");
        }
    }

    fn idle(&mut self) {
        self.announcer.tell_missed();
        if let Err(e) = self.log.sync_if_due(clock::now_ms()) {
            self.failed(&e);
        }
    }

    /// Makes the batch durable, shows it, answers it.
    fn commit(&mut self, batch: Vec<Order>, load: &mut Load) {
        let begun = Instant::now();
        let now_ms = clock::now_ms();
        let random = || u128::from_le_bytes(clock::random());
        let mut plan = Plan::default();
        let mut requests = Vec::with_capacity(batch.len());
        let epoch = self.queue.shown.epoch.load(Ordering::Acquire);
        for order in batch {
            match order {
                Order::Append(append, _, answer) => {
                    let receipt = plan.append(append, &self.log, &mut self.ids, now_ms, random);
                    requests.push(InHand::Append(answer, receipt));
                }
                Order::Change(request, _, answer) => {
                    let result = match request.epoch {
                        Some(computed_in) if computed_in != epoch => Err(AppendError::Conflict),
                        _ if plan.change(request.changes, request.requires.as_ref(), &self.documents) => Ok(()),
                        _ => Err(AppendError::Gone),
                    };
                    requests.push(InHand::Change(answer, result));
                }
                Order::Stop => {}
            }
        }
        // a request that is answered with earlier ids may still have a key of its own to keep
        let stored = if plan.is_empty() { Ok(()) } else { self.store(&plan, now_ms) };
        self.queue.shown.subtract(std::mem::take(load));
        match stored {
            Ok(()) => {
                self.queue.shown.failing.store(false, Ordering::Relaxed);
                if !plan.changes.is_empty() {
                    self.documents.apply(&plan.changes, 0);
                    (self.applied)(&plan.changes);
                }
                let count = plan.commit.events.len();
                let owners = plan.owners;
                self.announcer.announce(plan.commit.events, |no| owners.get(&no).cloned(), clock::now_ms());
                requests.into_iter().for_each(|request| request.answer(None));
                self.metrics.committed(count, begun.elapsed());
            }
            Err(e) => {
                self.failed(&e);
                if !plan.changes.is_empty() {
                    self.queue.shown.epoch.fetch_add(1, Ordering::AcqRel);
                }
                let failure = AppendError::Store(e.to_string());
                requests.into_iter().for_each(|request| request.answer(Some(&failure)));
            }
        }
    }

    fn store(&mut self, plan: &Plan, now_ms: i64) -> Result<(), StoreError> {
        if !plan.changes.is_empty() {
            let changes: Vec<_> = plan.changes.iter().map(store::Change::of).collect();
            self.state.write(&changes)?;
        }
        if plan.commit.events.is_empty() && plan.commit.dedupe.is_empty() {
            return Ok(());
        }
        self.log.append(&plan.commit, now_ms)
    }

    fn failed(&self, e: &StoreError) {
        self.queue.shown.failing.store(true, Ordering::Relaxed);
        self.metrics.commit_failures.inc();
        log::error!("a commit failed: {e}");
    }
}
