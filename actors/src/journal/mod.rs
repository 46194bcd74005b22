//! The journal: the only writer. Events and changes of documents come in by one bounded queue; a thread of its own makes
//! what waits durable in one commit, shows it, and only then answers.
//!
//! While one commit is being made durable the next one collects, so the rate under load is set by the disk and the latency
//! when idle by one commit. Changes of documents are opaque here: whoever holds what they mean is told by `applied`, in the
//! order of commits.
//!
//! If the process dies, what was not answered may or may not be there; what was answered is.

mod commit;
mod committer;
mod plan;
mod recovery;
#[cfg(test)]
pub(crate) mod stand_in;
mod upkeep;
mod worker;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use self::commit::read as read_commit;
pub use self::committer::{Applied, Committer, CommitterRest, Content};
pub use self::plan::{Append, Drafts, Plan, runs};
pub use self::recovery::{CHANNEL_NUMBERS, RecoveryError, Store, recover};
pub use self::upkeep::{Upkeep, UpkeepCounts};
#[cfg(feature = "nats")]
pub(crate) use self::worker::SEALING_POLL;
pub use self::worker::{Rest, Round, Worker};
use crate::clock;
use crate::documents::{Change, DocumentError, Frozen, Table, encode_changes};
use crate::log::{DedupeKey, LogView, LossChange, LossDocument};
use crate::model::channel::Channel;
use crate::model::event::{Draft, PublishedBy};
use crate::model::id::EventId;

/// The journal's bounds.
#[derive(Clone, Debug)]
pub struct JournalLimits {
    /// Events that may wait; beyond it publishers are told to come back. Changes of documents count as one each.
    pub queue_events: usize,
    /// Their bytes, likewise.
    pub queue_bytes: usize,
    /// Events of one commit.
    pub batch_events: usize,
    /// Bytes of one commit.
    pub batch_bytes: usize,
    /// After this an answer that is not known is given as not known.
    pub answer_timeout: Duration,
    /// Free disk below which publishes and changes are refused.
    pub min_free_bytes: u64,
}

/// What a publisher learns when its events are durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// One id per draft, in order.
    pub ids: Vec<EventId>,
    /// Whether the whole answer repeats an earlier one because of its idempotency key.
    pub repeated: bool,
}

/// Why events or changes were not stored, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the journal's queue is full; try again in a second")]
    QueueFull,
    #[error("the server is stopping; try again when it is back")]
    Stopping,
    #[error("the disk is full; nothing was stored, try again when there is room")]
    StorageFull,
    #[error("nothing was stored: {0}")]
    Store(String),
    #[error(
        "it is not known yet whether this was stored; it may appear, once. An idempotency key makes a repetition safe"
    )]
    OutcomeUnknown,
    #[error("the journal failed over this request; it may be sent again")]
    Failed,
    /// The document that a change depends on does not exist (any more).
    #[error("what this belongs to was deleted")]
    Gone,
    /// An earlier change on which this one was computed was not stored: compute it again.
    #[error("a change before this one was not stored")]
    Conflict,
}

/// What a change may use when the disk is nearly full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    #[default]
    Normal,
    /// Revocations and deletions use what is held in reserve. When even that fails they are answered as not stored, take
    /// effect in memory at once, and are made durable as soon as they can be.
    Reserve,
}

/// A slot of webhooks, and the claim by which a node of a cluster owned it when it began what it writes. The writer of the log
/// refuses what comes in the name of a claim that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    pub slot: u8,
    pub claim: u64,
}

/// Changes of documents that become durable together.
#[derive(Debug, Default)]
pub struct DocumentChanges {
    pub changes: Vec<Change>,
    /// The document without which they must not be made, such as the webhook that rows belong to.
    pub requires: Option<(Table, Vec<u8>)>,
    /// In whose name a node of a cluster makes them; none where nobody else can.
    pub fence: Option<Fence>,
    pub urgency: Urgency,
    /// [`Journal::epoch`] when they were computed on what is not durable yet; none where they depend on nothing.
    pub epoch: Option<u64>,
}

/// Where the answer of a request goes.
pub type Answer<T> = oneshot::Sender<Result<T, AppendError>>;

/// All documents and the log of one moment between two commits: everything that was acknowledged before is in it.
pub struct Snapshot {
    pub documents: Frozen,
    pub log: LogView,
}

/// What comes by the queue.
pub enum Order {
    Append(Append, Load, Answer<Receipt>),
    Change(DocumentChanges, Load, Answer<()>),
    /// Is done between two commits.
    Snapshot(Answer<Snapshot>),
    /// The worker has something to look at that did not come by the queue.
    Wake,
    Stop,
}

impl Order {
    fn load(&self) -> Load {
        match self {
            Order::Append(_, load, _) | Order::Change(_, load, _) => *load,
            Order::Snapshot(_) | Order::Wake | Order::Stop => Load::default(),
        }
    }
}

/// What waits in the queue, or is about to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub events: usize,
    pub bytes: usize,
}

/// What everybody may see of the journal.
#[derive(Debug, Default)]
pub struct Shown {
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    /// The last commit failed.
    failing: AtomicBool,
    /// The disk is below its floor, or was full when it was last written.
    full: AtomicBool,
    stopping: AtomicBool,
    /// Grows when changes of documents failed, see [`DocumentChanges::epoch`].
    epoch: AtomicU64,
    /// Segments cannot be sealed because the disk has no room.
    sealing_full: AtomicBool,
    /// Upkeep wants the documents, to write them as a generation.
    generation_due: AtomicBool,
}

impl Shown {
    /// Which generation of queued changes is valid, see [`Journal::epoch`].
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// New requests are refused, and the worker is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Changes took effect on which those that are queued were not computed.
    pub fn move_epoch_on(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Adds to the queue's load; returns what it was before.
    fn add(&self, load: Load) -> Load {
        Load {
            events: self.queued.fetch_add(load.events, Ordering::Relaxed),
            bytes: self.queued_bytes.fetch_add(load.bytes, Ordering::Relaxed),
        }
    }

    /// What was queued waits no longer.
    pub fn subtract(&self, load: Load) {
        self.queued.fetch_sub(load.events, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(load.bytes, Ordering::Relaxed);
    }
}

/// The queue's end for everybody who has something to store.
#[derive(Clone)]
pub struct Journal {
    orders: mpsc::Sender<Order>,
    shown: Arc<Shown>,
    queue_events: usize,
    queue_bytes: usize,
    answer_timeout: Duration,
}

/// The other end, for the worker.
pub struct Queue {
    orders: mpsc::Receiver<Order>,
    shown: Arc<Shown>,
}

impl Queue {
    /// What everybody sees of the journal.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// The next order, which is waited for. None: not in time. A queue to which nobody holds the other end is stopped.
    pub fn wait(&self, timeout: Duration) -> Option<Order> {
        match self.orders.recv_timeout(timeout) {
            Ok(order) => Some(order),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Order::Stop),
        }
    }

    /// The next order, if one waits.
    pub fn next(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }
}

/// Wakes a worker that waits at its queue. At most one wake waits there.
#[derive(Clone)]
pub struct Waker {
    orders: mpsc::Sender<Order>,
    raised: Arc<AtomicBool>,
}

impl Waker {
    pub fn wake(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            // a worker that has ended looks at nothing
            let _ = self.orders.send(Order::Wake);
        }
    }

    /// The worker looks now: what comes later needs another wake.
    pub fn lower(&self) {
        self.raised.store(false, Ordering::Release);
    }
}

/// A request that waits for its commit. Resolves when it is durable and in effect.
#[must_use = "whether it was stored is known only by this"]
pub struct Pending<T> {
    answer: oneshot::Receiver<Result<T, AppendError>>,
    shown: Arc<Shown>,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(unanswered(&self.shown))))
    }
}

/// The worker dropped a request without an answer.
fn unanswered(shown: &Shown) -> AppendError {
    if shown.stopping.load(Ordering::Relaxed) { AppendError::Stopping } else { AppendError::Failed }
}

impl Journal {
    /// A queue with its two ends.
    pub fn new(limits: &JournalLimits) -> (Journal, Queue) {
        let (orders, taken) = mpsc::channel();
        let shown = Arc::new(Shown::default());
        let journal = Journal {
            orders,
            shown: shown.clone(),
            queue_events: limits.queue_events,
            queue_bytes: limits.queue_bytes,
            answer_timeout: limits.answer_timeout,
        };
        (journal, Queue { orders: taken, shown })
    }

    /// Queues drafts as one atomic batch and waits until they are durable.
    ///
    /// # Errors
    /// [`AppendError::OutcomeUnknown`] after the answer's timeout: then the events may still appear, once. With every other
    /// error nothing was stored.
    pub async fn append(
        &self,
        channel: Arc<Channel>,
        drafts: Vec<Draft>,
        key: Option<DedupeKey>,
        by: PublishedBy,
    ) -> Result<Receipt, AppendError> {
        self.within_timeout(self.submit(channel, drafts, key, by)?).await
    }

    /// Queues drafts as one atomic batch, without waiting: what was queued first is committed first.
    ///
    /// # Errors
    /// They cannot be queued; nothing will be stored.
    pub fn submit(
        &self,
        channel: Arc<Channel>,
        drafts: Vec<Draft>,
        key: Option<DedupeKey>,
        by: PublishedBy,
    ) -> Result<Pending<Receipt>, AppendError> {
        self.submit_append(Append { channel, drafts, key, by, urgency: Urgency::Normal })
    }

    /// Queues drafts that use the reserve when the disk is nearly full: what the server itself has to tell, once in a while.
    ///
    /// # Errors
    /// They cannot be queued; nothing will be stored.
    pub fn submit_urgent(
        &self,
        channel: Arc<Channel>,
        drafts: Vec<Draft>,
        by: PublishedBy,
    ) -> Result<Pending<Receipt>, AppendError> {
        self.submit_append(Append { channel, drafts, key: None, by, urgency: Urgency::Reserve })
    }

    fn submit_append(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        self.admit(append.urgency)?;
        let load = Load { events: append.drafts.len(), bytes: append.drafts.iter().map(Draft::bytes).sum() };
        self.reserve(load)?;
        let (answer, answered) = oneshot::channel();
        self.queue(Order::Append(append, load, answer))?;
        Ok(Pending { answer: answered, shown: self.shown.clone() })
    }

    /// Queues changes of documents, without waiting: what was queued first is committed first.
    ///
    /// # Errors
    /// They cannot be queued; nothing will be stored.
    pub fn change(&self, changes: DocumentChanges) -> Result<Pending<()>, AppendError> {
        self.admit(changes.urgency)?;
        let load = Load { events: 1, bytes: changes.changes.iter().map(Change::encoded_bytes).sum() };
        match changes.urgency {
            Urgency::Normal => self.reserve(load)?,
            // a revocation is not turned away because many publish
            Urgency::Reserve => drop(self.shown.add(load)),
        }
        let (answer, answered) = oneshot::channel();
        self.queue(Order::Change(changes, load, answer))?;
        Ok(Pending { answer: answered, shown: self.shown.clone() })
    }

    /// Waits for what was queued before, and takes a snapshot behind it.
    ///
    /// # Errors
    /// The journal is stopping, or does not answer in time.
    pub async fn snapshot(&self) -> Result<Snapshot, AppendError> {
        let (answer, answered) = oneshot::channel();
        self.queue(Order::Snapshot(answer))?;
        self.within_timeout(Pending { answer: answered, shown: self.shown.clone() }).await
    }

    /// Queues changes and waits until they are durable and applied, or it is not known in time.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn persist(&self, changes: DocumentChanges) -> Result<(), AppendError> {
        self.within_timeout(self.change(changes)?).await
    }

    /// Waits for an answer no longer than the answer's timeout.
    ///
    /// # Errors
    /// [`AppendError::OutcomeUnknown`] after it.
    pub async fn within_timeout<T>(&self, pending: Pending<T>) -> Result<T, AppendError> {
        clock::timeout(self.answer_timeout, pending).await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    fn admit(&self, urgency: Urgency) -> Result<(), AppendError> {
        if self.shown.stopping.load(Ordering::Relaxed) {
            return Err(AppendError::Stopping);
        }
        if urgency == Urgency::Normal && self.storage_full() {
            return Err(AppendError::StorageFull);
        }
        Ok(())
    }

    /// Takes room in the queue.
    fn reserve(&self, load: Load) -> Result<(), AppendError> {
        let before = self.shown.add(load);
        // an empty queue takes any batch, so that a batch larger than the queue is not refused for ever
        let full = before.events + load.events > self.queue_events || before.bytes + load.bytes > self.queue_bytes;
        if before.events > 0 && full {
            self.shown.subtract(load);
            return Err(AppendError::QueueFull);
        }
        Ok(())
    }

    fn queue(&self, order: Order) -> Result<(), AppendError> {
        self.orders.send(order).map_err(|refused| {
            self.shown.subtract(refused.0.load());
            AppendError::Stopping
        })
    }

    /// Wakes the worker behind this queue.
    pub fn waker(&self) -> Waker {
        Waker { orders: self.orders.clone(), raised: Arc::default() }
    }

    /// How long an answer is waited for.
    pub fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// Which generation of queued changes is valid: it grows when changes failed, and those that were computed on them
    /// are answered by [`AppendError::Conflict`].
    pub fn epoch(&self) -> u64 {
        self.shown.epoch.load(Ordering::Acquire)
    }

    /// Requests that wait for a commit, in events.
    pub fn queued(&self) -> usize {
        self.shown.queued.load(Ordering::Relaxed)
    }

    /// Whether the last commit succeeded and the disk has room.
    pub fn writable(&self) -> bool {
        !self.shown.failing.load(Ordering::Relaxed) && !self.storage_full()
    }

    /// Whether publishes and changes are refused because the disk is full, or nearly.
    pub fn storage_full(&self) -> bool {
        self.shown.full.load(Ordering::Relaxed)
    }

    /// Refuses new requests, commits what is queued and ends the worker.
    pub fn stop(&self) {
        self.shown.stopping.store(true, Ordering::Relaxed);
        // when the worker has ended already there is nothing to stop
        let _ = self.orders.send(Order::Stop);
    }
}

/// A loss of the log as a document.
pub(crate) fn loss_document(loss: &LossChange) -> Result<Change, DocumentError> {
    match &loss.document {
        Some(document) => Change::put(Table::Losses, &loss.key, document),
        None => Ok(Change::delete(Table::Losses, &loss.key)),
    }
}

/// What the migration of an older data folder has found to be lost, as a change of documents.
///
/// # Errors
/// It cannot be written as JSON.
pub fn loss_of_migration(loss: LossDocument) -> Result<Change, DocumentError> {
    loss_document(&LossChange::of(loss))
}

/// The payload of a commit that holds only documents, for the migration of an older data folder.
pub fn documents_payload(changes: &[Change], now_ms: i64, documents_changed_at: u64) -> Vec<u8> {
    let mut payload = commit::Payload::default();
    payload.begin(now_ms, documents_changed_at);
    payload.add_documents(&encode_changes(changes));
    payload.bytes().to_vec()
}

/// Runs the worker on a thread of its own: it blocks on the disk, and actors share single-threaded runtimes.
///
/// # Errors
/// The system gives no thread.
pub fn spawn(worker: Worker) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("journal".into()).spawn(move || worker.run())
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub mod test_store;
#[cfg(test)]
mod tests;
