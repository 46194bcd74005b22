//! The journal: the only writer of the log, on a thread of its own, because the store blocks and actors share
//! single-threaded runtimes.
//!
//! Publishers hand it drafts through a bounded queue. It gives out ids, writes a batch, makes it durable, hands the
//! committed frames to the channels in log order and only then answers the publishers. While one batch is being made
//! durable the next one collects, so the rate under load is set by the disk and the latency when idle by one commit.
//!
//! If the process dies, what was not answered may or may not be in the log; what was answered is.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock;
use crate::feed::Routes;
use crate::feed::frame::Frame;
use crate::feed::trace::DeliveryTrace;
use crate::metrics::Metrics;
use crate::model::channel::{Channel, Owner};
use crate::model::event::{ChannelNo, Draft, Event, Origin};
use crate::model::id::{EventId, IdSource};
use crate::store::{Commit, Dedupe, DedupeKey, Log, StoreError};
use crate::streams::channel::Committed;

/// The journal's bounds.
#[derive(Clone, Debug)]
pub struct JournalLimits {
    /// Events that may wait; beyond it publishers are told to come back.
    pub queue_events: usize,
    /// Their bytes, likewise.
    pub queue_bytes: usize,
    /// Events of one commit.
    pub batch_events: usize,
    /// Bytes of one commit.
    pub batch_bytes: usize,
}

/// What a publisher learns when its events are durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// One id per draft, in order.
    pub ids: Vec<EventId>,
    /// Whether the whole answer repeats an earlier one because of its idempotency key.
    pub repeated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the journal's queue is full; try again in a second")]
    QueueFull,
    #[error("the server is stopping; try again when it is back")]
    Stopping,
    #[error("the log could not be written: {0}")]
    Store(String),
    #[error("the journal failed over this request; it may be sent again")]
    Failed,
}

/// A request to append, as it waits in the queue.
struct Append {
    channel: Arc<Channel>,
    drafts: Vec<Draft>,
    load: Load,
    key: Option<DedupeKey>,
    /// Who publishes.
    by: Arc<str>,
    answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

enum Order {
    Append(Append),
    Stop,
}

/// What waits in the queue, or is about to.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    events: usize,
    bytes: usize,
}

/// What everybody may see of the journal.
#[derive(Debug)]
pub struct JournalState {
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    writable: AtomicBool,
    stopping: AtomicBool,
}

impl JournalState {
    /// Adds to the queue's load; returns what it was before.
    fn add(&self, load: Load) -> Load {
        Load {
            events: self.queued.fetch_add(load.events, Ordering::Relaxed),
            bytes: self.queued_bytes.fetch_add(load.bytes, Ordering::Relaxed),
        }
    }

    fn subtract(&self, load: Load) {
        self.queued.fetch_sub(load.events, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(load.bytes, Ordering::Relaxed);
    }
}

/// The queue's end for publishers.
#[derive(Clone)]
pub struct Journal {
    orders: mpsc::Sender<Order>,
    state: Arc<JournalState>,
    queue_events: usize,
    queue_bytes: usize,
}

impl Journal {
    /// Starts the journal's thread behind `log`.
    pub fn start(
        log: Arc<Log>,
        routes: Arc<Routes>,
        metrics: Arc<Metrics>,
        trace: Arc<DeliveryTrace>,
        limits: JournalLimits,
    ) -> std::io::Result<(Journal, JoinHandle<()>)> {
        let (orders, queue) = mpsc::channel();
        let state = Arc::new(JournalState {
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            writable: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
        });
        let journal = Journal {
            orders,
            state: state.clone(),
            queue_events: limits.queue_events,
            queue_bytes: limits.queue_bytes,
        };
        let ids = IdSource::after(log.head());
        let mut writer = Writer {
            log,
            routes,
            metrics,
            trace,
            limits,
            state,
            ids,
            handed: HashMap::new(),
            missed: Vec::new(),
            in_hand: Load::default(),
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            // A panic costs the batch in hand, whose publishers are told that it failed; the journal goes on.
            while catch_unwind(AssertUnwindSafe(|| writer.run(&queue))).is_err() {
                log::error!("the journal panicked over a batch and goes on without it");
                writer.recover();
            }
        })?;
        Ok((journal, thread))
    }

    /// Queues drafts as one atomic batch. The answer comes when they are durable.
    pub async fn append(
        &self,
        channel: Arc<Channel>,
        drafts: Vec<Draft>,
        key: Option<DedupeKey>,
        by: Arc<str>,
    ) -> Result<Receipt, AppendError> {
        if self.state.stopping.load(Ordering::Relaxed) {
            return Err(AppendError::Stopping);
        }
        let load = Load { events: drafts.len(), bytes: size(&drafts) };
        // an empty queue takes any batch, so that a batch larger than the queue is not refused for ever
        let before = self.state.add(load);
        let full = before.events + load.events > self.queue_events || before.bytes + load.bytes > self.queue_bytes;
        if before.events > 0 && full {
            self.state.subtract(load);
            return Err(AppendError::QueueFull);
        }
        let (answer, answered) = oneshot::channel();
        self.orders
            .send(Order::Append(Append { channel, drafts, load, key, by, answer }))
            .map_err(|_| AppendError::Stopping)?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) if self.state.stopping.load(Ordering::Relaxed) => Err(AppendError::Stopping),
            Err(_) => Err(AppendError::Failed),
        }
    }

    /// Events that wait for a commit.
    pub fn queued(&self) -> usize {
        self.state.queued.load(Ordering::Relaxed)
    }

    /// Whether the last commit succeeded.
    pub fn writable(&self) -> bool {
        self.state.writable.load(Ordering::Relaxed)
    }

    /// Refuses new drafts, commits what is queued and ends the thread.
    pub fn stop(&self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        // when the thread has ended already there is nothing to stop
        let _ = self.orders.send(Order::Stop);
    }
}

/// How long the journal waits for work before it looks after what it owes: channels that missed a batch, an interval
/// flush.
const IDLE_TICK: Duration = Duration::from_millis(20);

struct Writer {
    log: Arc<Log>,
    routes: Arc<Routes>,
    metrics: Arc<Metrics>,
    trace: Arc<DeliveryTrace>,
    limits: JournalLimits,
    state: Arc<JournalState>,
    ids: IdSource,
    /// The newest event of each channel that was handed to its actor (or would have been).
    handed: HashMap<ChannelNo, EventId>,
    /// Channels whose mailbox was full: they are told again that there is something to read.
    missed: Vec<ChannelNo>,
    /// Drafts that were taken from the queue and not yet counted off.
    in_hand: Load,
}

impl Writer {
    fn run(&mut self, queue: &mpsc::Receiver<Order>) {
        let mut batch: Vec<Append> = Vec::new();
        let mut held: Option<Append> = None;
        let mut looked_after = Instant::now();
        loop {
            let first = match held.take() {
                Some(append) => Order::Append(append),
                None => match queue.recv_timeout(IDLE_TICK) {
                    Ok(order) => order,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        self.idle();
                        continue;
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => Order::Stop,
                },
            };
            let mut stop = false;
            let (mut events, mut bytes) = (0, 0);
            let mut next = Some(first);
            while let Some(order) = next.take() {
                let append = match order {
                    Order::Append(append) => append,
                    Order::Stop => {
                        stop = true;
                        break;
                    }
                };
                let Load { events: more_events, bytes: more_bytes } = append.load;
                let fits =
                    events + more_events <= self.limits.batch_events && bytes + more_bytes <= self.limits.batch_bytes;
                if !batch.is_empty() && !fits {
                    held = Some(append);
                    break;
                }
                events += more_events;
                bytes += more_bytes;
                batch.push(append);
                next = queue.try_recv().ok().or_else(|| {
                    // publishers that were answered together ask again together: let them, where they share our core
                    std::thread::yield_now();
                    queue.try_recv().ok()
                });
            }
            self.commit(&mut batch);
            if !self.missed.is_empty() && looked_after.elapsed() >= IDLE_TICK {
                // under load the queue is never empty for a tick, and those who missed a batch must not wait for that
                self.idle();
                looked_after = Instant::now();
            }
            if stop {
                // whatever was queued before the stop has been taken in order; the rest is told by its dropped sender
                if let Some(append) = held.take() {
                    self.commit(&mut vec![append]);
                }
                break;
            }
        }
        if let Err(e) = self.log.sync() {
            log::error!("the last flush failed: {e}");
        }
    }

    /// After a panic: what was in hand is lost, and ids go on behind everything that may be in the log.
    fn recover(&mut self) {
        self.state.subtract(std::mem::take(&mut self.in_hand));
        self.ids = IdSource::after(self.ids.last().max(self.log.head()));
    }

    fn idle(&mut self) {
        for no in std::mem::take(&mut self.missed) {
            let last = self.handed.get(&no).copied().unwrap_or(EventId::ZERO);
            self.hand_over(no, Committed { frames: Arc::new([]), previous: last });
        }
        if let Err(e) = self.log.sync_if_due(clock::now_ms()) {
            self.failed(&e);
        }
    }

    /// Makes the batch durable, shows it, answers it.
    fn commit(&mut self, batch: &mut Vec<Append>) {
        if batch.is_empty() {
            return;
        }
        let begun = Instant::now();
        let now_ms = clock::now_ms();
        let mut plan = Plan::default();
        for append in batch.iter_mut() {
            self.in_hand.events += append.load.events;
            self.in_hand.bytes += append.load.bytes;
            let receipt = plan.add(append, &self.log, &mut self.ids, now_ms);
            plan.receipts.push(receipt.map_err(|e| AppendError::Store(e.to_string())));
        }
        // a request that is answered with earlier ids may still have a key of its own to keep
        let nothing = plan.commit.events.is_empty() && plan.commit.dedupe.is_empty();
        let result = if nothing { Ok(()) } else { self.log.append(&plan.commit, now_ms) };
        self.state.subtract(std::mem::take(&mut self.in_hand));
        match result {
            Ok(()) => {
                self.state.writable.store(true, Ordering::Relaxed);
                let count = plan.commit.events.len();
                self.show(plan.commit.events, batch);
                for (append, receipt) in batch.drain(..).zip(plan.receipts) {
                    // a publisher that has gone needs no answer
                    let _ = append.answer.send(receipt);
                }
                self.metrics.committed(count, begun.elapsed());
            }
            Err(e) => {
                self.failed(&e);
                for append in batch.drain(..) {
                    let _ = append.answer.send(Err(AppendError::Store(e.to_string())));
                }
            }
        }
    }

    fn failed(&self, e: &StoreError) {
        self.state.writable.store(false, Ordering::Relaxed);
        self.metrics.commit_failures.inc();
        log::error!("a commit failed: {e}");
    }

    /// Hands the committed events to their channels, in log order, and to those who follow all channels.
    fn show(&mut self, events: Vec<Event>, batch: &[Append]) {
        let owners: HashMap<ChannelNo, Owner> =
            batch.iter().map(|append| (append.channel.no(), append.channel.owner())).collect();
        let mut by_channel: Vec<(ChannelNo, Vec<Arc<Frame>>)> = Vec::new();
        let mut last: HashMap<ChannelNo, usize> = HashMap::new();
        let has_followers = self.routes.channel(ChannelNo::ALL).is_some();
        let newest = events.last().map(|event| event.id);
        let mut all = Vec::with_capacity(if has_followers { events.len() } else { 0 });
        let marks = self.trace.extend(events.iter().map(|event| event.id), clock::now_ms());
        for (n, event) in events.into_iter().enumerate() {
            let no = event.channel;
            let frame = Arc::new(Frame::committed(event, owners[&no].clone(), marks.mark(n)));
            if has_followers {
                all.push(frame.clone());
            }
            let at = *last.entry(no).or_insert_with(|| {
                by_channel.push((no, Vec::new()));
                by_channel.len() - 1
            });
            by_channel[at].1.push(frame);
        }
        for (no, frames) in by_channel {
            let newest = frames.last().map_or(EventId::ZERO, |frame| frame.event.id);
            let previous = self.handed.insert(no, newest).unwrap_or(EventId::ZERO);
            self.routes.wake_webhooks(no);
            self.hand_over(no, Committed { frames: frames.into(), previous });
        }
        // known also while nobody follows, so that whoever begins to misses nothing
        if let Some(newest) = newest {
            let previous = self.handed.insert(ChannelNo::ALL, newest).unwrap_or(EventId::ZERO);
            if has_followers {
                self.hand_over(ChannelNo::ALL, Committed { frames: all.into(), previous });
            }
        }
    }

    fn hand_over(&mut self, no: ChannelNo, committed: Committed) {
        if let Some(addr) = self.routes.channel(no)
            && let Err(actix::dev::SendError::Full(_)) = addr.try_send(committed)
        {
            // the next message tells the channel that it missed something, and it makes its readers use the log
            if !self.missed.contains(&no) {
                self.missed.push(no);
            }
        }
    }
}

fn size(drafts: &[Draft]) -> usize {
    drafts.iter().map(Draft::bytes).sum()
}

/// What a batch of requests comes to: events to store, and an answer for each request.
#[derive(Default)]
struct Plan {
    commit: Commit,
    receipts: Vec<Result<Receipt, AppendError>>,
    /// Keys first seen in this very batch.
    fresh: HashMap<(ChannelNo, DedupeKey), (EventId, u32)>,
}

impl Plan {
    fn add(&mut self, append: &mut Append, log: &Log, ids: &mut IdSource, now_ms: i64) -> Result<Receipt, StoreError> {
        let no = append.channel.no();
        let drafts = std::mem::take(&mut append.drafts);
        if let Some(key) = append.key
            && let Some(ids) = self.first_answer(no, key, log, now_ms)?
        {
            return Ok(Receipt { ids, repeated: true });
        }
        // looked up before anything is added, so that a lookup that fails leaves nothing of the request behind
        let mut repeats = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let key = draft.dedupe_id.as_deref().map(DedupeKey::of_event);
            let known = key.map(|key| self.known(no, key, log, now_ms)).transpose()?.flatten();
            repeats.push((key, known));
        }
        let mut receipt = Receipt { ids: Vec::with_capacity(drafts.len()), repeated: false };
        // events of one request get consecutive ids, so that a dedupe record is a first id and a count
        let mut stored = 0;
        for (draft, (key, known)) in drafts.into_iter().zip(repeats) {
            // a key may come twice within one batch
            let within = key.and_then(|key| self.fresh.get(&(no, key)).copied());
            if let Some((first, _)) = known.or(within) {
                receipt.ids.push(first);
                continue;
            }
            let id = match stored {
                0 => ids.next(now_ms as u64, u128::from_le_bytes(clock::random())),
                _ => ids.next(0, 0),
            };
            stored += 1;
            if let Some(key) = key {
                self.remember(no, key, id, 1);
            }
            receipt.ids.push(id);
            let ts_ms = draft.ts_ms.unwrap_or(id.time_ms() as i64);
            let Draft { kind, session, payload, validated, .. } = draft;
            let origin = Origin { by: append.by.clone(), validated };
            self.commit.events.push(Event { id, channel: no, kind, ts_ms, session, origin, payload });
        }
        if let Some(key) = append.key {
            for (n, (first, count)) in runs(&receipt.ids).into_iter().enumerate() {
                self.remember(no, key.nth(n as u32), first, count);
            }
        }
        Ok(receipt)
    }

    /// The ids of an earlier request with this key.
    fn first_answer(
        &self,
        no: ChannelNo,
        key: DedupeKey,
        log: &Log,
        now_ms: i64,
    ) -> Result<Option<Vec<EventId>>, StoreError> {
        let mut ids = Vec::new();
        let mut run = 0;
        while let Some((first, count)) = self.known(no, key.nth(run), log, now_ms)? {
            ids.extend((0..count).map(|n| first.plus(n)));
            run += 1;
        }
        Ok((!ids.is_empty()).then_some(ids))
    }

    fn known(
        &self,
        no: ChannelNo,
        key: DedupeKey,
        log: &Log,
        now_ms: i64,
    ) -> Result<Option<(EventId, u32)>, StoreError> {
        match self.fresh.get(&(no, key)) {
            Some(known) => Ok(Some(*known)),
            None => log.known(no, key, now_ms),
        }
    }

    fn remember(&mut self, no: ChannelNo, key: DedupeKey, first: EventId, count: u32) {
        self.fresh.insert((no, key), (first, count));
        self.commit.dedupe.push(Dedupe { channel: no, key, first, count });
    }
}

/// Cuts ids into runs of consecutive ones: (first, count). A request whose events were all new is one run.
fn runs(ids: &[EventId]) -> Vec<(EventId, u32)> {
    let mut runs: Vec<(EventId, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, count)) if first.plus(*count) == *id => *count += 1,
            _ => runs.push((*id, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
