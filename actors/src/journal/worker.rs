//! The worker behind the queue: takes what waits, makes it durable in one commit, shows it, answers it.
//!
//! It owns the write-ahead log. What takes longer than a commit (sealing segments, writing generations of documents, making
//! pieces) is done by [`super::upkeep`], which it tells when there is something to do.
//!
//! [`Worker::step`] is one round; a thread calls it, or a simulation. A panic costs the batch in hand, whose requests are
//! told that it failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::commit::Payload;
use super::plan::{Append, Plan};
use super::upkeep::Task;
use super::{Answer, AppendError, DocumentChanges, JournalLimits, Load, Order, Queue, Receipt, Snapshot, Urgency};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::documents::{self, Change, Documents};
use crate::feed::Announcer;
use crate::log::{self, Admission, CommitPart, Log};
use crate::metrics::Metrics;
use crate::model::id::IdSource;
use crate::wal::{self, CommitError, Wal};

/// How long the worker waits for work before it looks after what it owes.
pub(super) const IDLE_TICK: Duration = Duration::from_millis(20);
/// How often it looks after what it owes at most, in milliseconds: the room on the disk, a failed commit that is to be
/// settled, changes that took effect and are not durable.
const CARE_EVERY_MS: u64 = 200;
/// How long a commit waits at most for the segment before the active one to be sealed. Changes wait behind it.
const SEALING_WAIT: Duration = Duration::from_millis(500);

/// Told of every commit's changes of documents, in order, when they are durable.
pub type Applied = Box<dyn FnMut(&[Change]) + Send>;

/// What the worker commits to, and who is told.
pub struct Worker {
    pub queue: Queue,
    pub wal: Wal,
    pub log: Arc<Log>,
    pub documents: Arc<Documents>,
    pub announcer: Announcer,
    pub applied: Applied,
    pub metrics: Arc<Metrics>,
    pub limits: JournalLimits,
    pub ids: IdSource,
    pub clock: Clock,
    pub disk: Disk,
    pub data_dir: PathBuf,
    pub upkeep: mpsc::Sender<Task>,
    pub rest: Rest,
}

/// What the worker keeps between rounds.
#[derive(Default)]
pub struct Rest {
    payload: Payload,
    in_hand: Load,
    held: Option<Order>,
    /// Requests whose commit failed, and of which it is not certain yet that they cannot appear.
    unsettled: Vec<Request>,
    /// Changes that took effect in memory because they could not wait, and are not durable.
    owed: Vec<Change>,
    /// The last commit found no room.
    out_of_room: bool,
    /// The last commit failed for whatever reason.
    failing: bool,
    /// A segment was rolled, and what it holds is not known to be synced yet.
    to_seal: bool,
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
        self.look_at_the_disk();
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
        // the batch may be durable already, and readers must not miss it
        self.announcer.recover(self.log.head());
        // ids go on behind everything that may be in the log
        self.ids = IdSource::after(self.ids.last().max(self.log.head()));
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
                    let snapshot = Snapshot { documents: self.documents.freeze(), log: self.log.view() };
                    // whoever asked may have given up
                    drop(answer.send(Ok(snapshot)));
                    next = self.queue.orders.try_recv().ok();
                    continue;
                }
                Order::Snapshot(_) => {
                    self.rest.held = Some(order);
                    break;
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
                Order::Snapshot(_) | Order::Stop => {}
            }
        }
        let has_room = !self.rest.out_of_room && !self.queue.shown.full.load(Ordering::Relaxed);
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
        let deadline = Instant::now() + SEALING_WAIT;
        while !self.log.may_admit(bytes) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
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
        let now_ms = self.clock.now_ms();
        let mut plan = Plan::default();
        let mut requests = Vec::with_capacity(appends.len() + changes.len());
        let epoch = self.queue.shown.epoch.load(Ordering::Acquire);
        for (append, answer) in appends {
            let random = || u128::from_le_bytes(self.clock.random());
            let receipt = plan.append(append, &self.log, &mut self.ids, now_ms, random);
            requests.push(Request::Append(answer, receipt));
        }
        for (change, answer) in changes {
            if change.epoch.is_some_and(|computed_in| computed_in != epoch) {
                drop(answer.send(Err(AppendError::Conflict)));
            } else if !plan.change(&change, &self.documents) {
                drop(answer.send(Err(AppendError::Gone)));
            } else {
                requests.push(Request::Change(answer, change));
            }
        }
        if plan.is_empty() {
            return requests.into_iter().for_each(Request::succeed);
        }
        // what is owed was queued before, so it must not be written over what comes now
        plan.changes.splice(0..0, self.rest.owed.iter().cloned());
        match self.store(&plan, urgency, now_ms) {
            Ok(()) => {
                self.rest.owed.clear();
                if urgency == wal::Urgency::Normal {
                    self.succeeded();
                }
                let count = plan.events.len();
                let owners = plan.owners;
                self.announcer.announce(plan.events, |no| owners.get(&no).cloned(), now_ms);
                requests.into_iter().for_each(Request::succeed);
                self.metrics.committed(count, begun.elapsed());
            }
            Err(e) => self.failed(&e, requests, urgency, begun),
        }
    }

    /// Writes the commit; when it is durable, events can be read and changes are in effect.
    fn store(&mut self, plan: &Plan, urgency: wal::Urgency, now_ms: i64) -> Result<(), CommitError> {
        let payload = &mut self.rest.payload;
        payload.begin(now_ms, self.documents.changed_at());
        if !plan.events.is_empty() {
            payload.add_events(&log::encode_events(&plan.events));
        }
        if !plan.changes.is_empty() {
            payload.add_documents(&documents::encode_changes(&plan.changes));
        }
        if !plan.dedupe.is_empty() {
            payload.add_keys(&log::encode_keys(&plan.dedupe));
        }
        let committed = self.wal.commit(&[payload.bytes()], urgency);
        // it waits no longer, whatever came of it
        self.queue.shown.subtract(std::mem::take(&mut self.rest.in_hand));
        let committed = committed?;
        let admission = Admission {
            sequence: committed.sequence,
            time_ms: now_ms.max(0) as u64,
            piece: &committed.piece,
            events: payload.events().map(|(at, bytes)| part_at(committed.offset, at, bytes)),
            keys: payload.keys().map(|(at, bytes)| part_at(committed.offset, at, bytes)),
        };
        if let Err(e) = self.log.admit(&admission) {
            // what was encoded a moment ago can be read
            ::log::error!("a commit cannot be indexed, and is read at the next start: {e}");
        }
        self.documents.apply(&plan.changes, committed.sequence);
        if !plan.changes.is_empty() {
            (self.applied)(&plan.changes);
        }
        Ok(())
    }

    fn succeeded(&mut self) {
        (self.rest.failing, self.rest.out_of_room) = (false, false);
        self.queue.shown.failing.store(false, Ordering::Relaxed);
    }

    /// A commit failed: says so, and tells everybody what is known of it.
    fn failed(&mut self, e: &CommitError, requests: Vec<Request>, urgency: wal::Urgency, begun: Instant) {
        self.metrics.commit_failures.inc();
        ::log::error!("a commit failed: {e}");
        self.rest.failing = true;
        self.queue.shown.failing.store(true, Ordering::Relaxed);
        if e.is_full() {
            self.rest.out_of_room = true;
            self.queue.shown.full.store(true, Ordering::Relaxed);
        }
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
        for (change, answer) in urgent {
            self.documents.apply(&change.changes, self.wal.last_sequence());
            (self.applied)(&change.changes);
            self.rest.owed.extend(change.changes);
            // whoever asked may have gone
            drop(answer.send(Err(failure.clone())));
        }
        // what was computed since the commit failed may not have seen that they are in effect
        self.queue.shown.epoch.fetch_add(1, Ordering::AcqRel);
    }

    // ---- what is owed ----------------------------------------------------------------------------------------------

    /// Looks after what is owed. Under load the queue is never empty, and yet nobody may wait for that.
    fn care(&mut self, is_idle: bool) {
        let moment = self.clock.moment();
        if is_idle || moment.elapsed_ms.saturating_sub(self.rest.told_ms) >= IDLE_TICK.as_millis() as u64 {
            self.rest.told_ms = moment.elapsed_ms;
            self.announcer.tell_missed();
            if let Err(e) = self.wal.sync_if_due(moment.elapsed_ms) {
                ::log::error!("what was answered is not synced yet: {e}");
            }
            self.roll_if_due();
        }
        if moment.elapsed_ms.saturating_sub(self.rest.cared_ms) < CARE_EVERY_MS {
            return;
        }
        self.rest.cared_ms = moment.elapsed_ms;
        self.settle();
        self.look_at_the_disk();
        self.pay();
        self.write_generation_if_due();
    }

    /// Begins a new active segment when the time has come, and has the one before sealed.
    fn roll_if_due(&mut self) {
        if self.log.roll_if_due(self.clock.moment()) {
            self.rest.to_seal = true;
        }
        if !self.rest.to_seal {
            return;
        }
        // what is sealed must not be newer than what a power cut leaves of the log
        match self.wal.sync() {
            Ok(()) => {
                self.rest.to_seal = false;
                self.tell_upkeep(Task::Seal);
            }
            Err(e) => ::log::error!("a segment cannot be sealed yet: {e}"),
        }
    }

    fn write_generation_if_due(&mut self) {
        if !self.queue.shown.generation_due.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(e) = self.wal.sync() {
            return ::log::error!("the documents cannot be written as a generation yet: {e}");
        }
        self.tell_upkeep(Task::Generation(self.documents.freeze()));
    }

    fn tell_upkeep(&self, task: Task) {
        // without upkeep the server is stopping
        let _ = self.upkeep.send(task);
    }

    /// Tries to make certain that a commit that failed cannot appear, and then answers its requests.
    fn settle(&mut self) {
        // a later commit may have settled it
        if let Err(e) = self.wal.settle() {
            return ::log::warn!("a commit that failed is not settled yet: {e}");
        }
        let failure = AppendError::Store("the disk failed and works again; send it again".into());
        std::mem::take(&mut self.rest.unsettled).into_iter().for_each(|request| request.fail(&failure));
    }

    /// Refuses publishes and changes below the floor, and finds out whether a disk that failed works again.
    fn look_at_the_disk(&mut self) {
        let free_bytes = self.disk.free_bytes(&self.data_dir);
        let is_low = free_bytes.is_some_and(|free| free < self.limits.min_free_bytes);
        if self.rest.failing && !is_low {
            // a commit that holds nothing; a balancer that obeys readiness would never send one
            self.rest.payload.begin(self.clock.now_ms(), self.documents.changed_at());
            match self.wal.commit(&[self.rest.payload.bytes()], wal::Urgency::Normal) {
                Ok(committed) => {
                    self.documents.apply(&[], committed.sequence);
                    self.succeeded();
                    ::log::info!("the journal takes commits again");
                }
                Err(e) => ::log::debug!("the journal still takes no commits: {e}"),
            }
        }
        let full = is_low || self.rest.out_of_room || self.queue.shown.sealing_full.load(Ordering::Relaxed);
        if self.queue.shown.full.swap(full, Ordering::Relaxed) != full {
            let free_bytes = free_bytes.unwrap_or(0);
            match full {
                true => ::log::warn!(free_bytes; "the disk has no room: publishes and changes are refused"),
                false => ::log::info!(free_bytes; "the disk has room again"),
            }
        }
    }

    /// Makes changes durable that are in effect already, and what was found to be lost.
    fn pay(&mut self) {
        let losses = self.log.take_unsaved();
        if self.rest.owed.is_empty() && losses.is_empty() {
            return;
        }
        let mut changes = self.rest.owed.clone();
        for loss in &losses {
            match super::loss_document(loss) {
                Ok(change) => changes.push(change),
                Err(e) => ::log::error!("a loss cannot be noted: {e}"),
            }
        }
        let mut plan = Plan::default();
        plan.changes = changes;
        match self.store(&plan, wal::Urgency::Reserve, self.clock.now_ms()) {
            Ok(()) => self.rest.owed.clear(),
            Err(e) => {
                self.log.give_back(losses);
                ::log::warn!("changes that are in effect are not durable yet, which is tried again: {e}");
            }
        }
    }

    /// After the last request: everything becomes durable, and the log notes its end.
    pub fn stop(mut self) {
        self.settle();
        self.pay();
        match self.wal.sync() {
            Ok(()) => self.tell_upkeep(Task::Stop(self.documents.freeze())),
            // no generation may be ahead of the log; upkeep ends when nobody can tell it anything any more
            Err(e) => ::log::error!("the last sync failed: {e}"),
        }
        if let Err(e) = self.wal.close() {
            ::log::error!("the write-ahead log was not closed cleanly: {e}");
        }
    }
}

fn part_at(offset: u32, at: usize, bytes: &[u8]) -> CommitPart<'_> {
    // a commit is far smaller than what a u32 can count
    CommitPart { offset: offset + at as u32, bytes }
}

/// What a publisher is told of a commit that certainly failed.
fn refusal(e: &CommitError) -> AppendError {
    match e {
        _ if e.is_full() => AppendError::StorageFull,
        e => AppendError::Store(e.to_string()),
    }
}
