//! The feed: which recipients are told when events were committed. It knows recipients of messages and no actor, so that the
//! journal depends on no reader.
//!
//! Two kinds are told: whoever stands for a channel gets every batch of it in log order ([`Committed`]); a webhook is only
//! woken ([`Wake`]) and reads the log itself. Channel number 0 stands for all channels.

pub mod frame;
pub mod trace;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::dev::SendError;
use actix::{Message, Recipient};
use parking_lot::RwLock;

use self::frame::Frame;
use self::trace::DeliveryTrace;
use crate::budget::Budget;
use crate::disk::{Faults, Point};
use crate::model::channel::Owner;
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

/// A batch of the channel is durable. Sent in log order; without frames it only says where the log is.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Committed {
    pub frames: Arc<[Arc<Frame>]>,
    /// The newest event of the channel before these. A recipient that has seen less than that missed a batch.
    pub previous: EventId,
}

/// The log of a channel has grown.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// Wakes one recipient. At most one wake waits in its mailbox.
pub struct WakeSignal {
    raised: AtomicBool,
    recipient: Recipient<Wake>,
}

impl WakeSignal {
    pub fn new(recipient: Recipient<Wake>) -> WakeSignal {
        WakeSignal { raised: AtomicBool::new(false), recipient }
    }

    /// Wakes the recipient, unless it is about to look anyway. Does not block.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            // the flag bounds the mailbox to one wake; a recipient that is gone reads the log when it is back
            self.recipient.do_send(Wake);
        }
    }

    /// The recipient looks now: what comes later needs another wake.
    pub fn lower(&self) {
        self.raised.store(false, Ordering::Release);
    }
}

/// Who is told. Changed by the recipients' owners, read for each commit.
#[derive(Default)]
pub struct Feed {
    channels: RwLock<HashMap<ChannelNo, Recipient<Committed>>>,
    signals: RwLock<HashMap<ChannelNo, Vec<Arc<WakeSignal>>>>,
}

impl Feed {
    /// Who stands for the channel; none when nobody listens to it.
    pub fn recipient(&self, no: ChannelNo) -> Option<Recipient<Committed>> {
        self.channels.read().get(&no).cloned()
    }

    /// From now on the recipient gets what is committed to the channel, in place of an earlier one.
    pub fn open(&self, no: ChannelNo, recipient: Recipient<Committed>) {
        self.channels.write().insert(no, recipient);
    }

    /// Takes the recipient out, unless another one has taken its place.
    pub fn close(&self, no: ChannelNo, recipient: &Recipient<Committed>) {
        let mut channels = self.channels.write();
        if channels.get(&no) == Some(recipient) {
            channels.remove(&no);
        }
    }

    /// Channels that somebody listens to.
    pub fn open_channels(&self) -> usize {
        self.channels.read().len()
    }

    fn open_numbers(&self) -> Vec<ChannelNo> {
        self.channels.read().keys().copied().collect()
    }

    pub fn add_signal(&self, no: ChannelNo, signal: Arc<WakeSignal>) {
        self.signals.write().entry(no).or_default().push(signal);
    }

    pub fn remove_signal(&self, no: ChannelNo, signal: &Arc<WakeSignal>) {
        let mut signals = self.signals.write();
        if let Some(of_channel) = signals.get_mut(&no) {
            of_channel.retain(|other| !Arc::ptr_eq(other, signal));
            if of_channel.is_empty() {
                signals.remove(&no);
            }
        }
    }

    fn wake(&self, no: ChannelNo) {
        let signals = self.signals.read();
        signals.get(&no).into_iter().flatten().for_each(|signal| signal.raise());
    }

    fn wake_all(&self) {
        self.signals.read().values().flatten().for_each(|signal| signal.raise());
    }
}

/// Hands committed events to the feed, in log order. Owned by the one that commits.
///
/// Each batch says what came before it in its channel, so a recipient that missed one notices, and its readers fetch the
/// rest from the log. That holds after a panic as well: what is handed over is noted before anything is sent, and
/// [`Announcer::recover`] covers what was committed and not even noted.
pub struct Announcer {
    feed: Arc<Feed>,
    trace: Arc<DeliveryTrace>,
    budget: Arc<Budget>,
    faults: Faults,
    /// The newest event of each channel that was handed over, or would have been.
    handed: HashMap<ChannelNo, EventId>,
    /// Of channels that are not among those: nothing after this was handed over.
    handed_of_others: EventId,
    /// Channels whose recipient missed a batch: they are told again that there is something to read.
    missed: Vec<ChannelNo>,
}

impl Announcer {
    pub fn new(feed: Arc<Feed>, trace: Arc<DeliveryTrace>) -> Announcer {
        Announcer {
            feed,
            trace,
            budget: Arc::default(),
            faults: Faults::default(),
            handed: HashMap::new(),
            handed_of_others: EventId::ZERO,
            missed: Vec::new(),
        }
    }

    /// Counts the frames in this budget.
    pub fn with_budget(self, budget: Arc<Budget>) -> Announcer {
        Announcer { budget, ..self }
    }

    pub fn with_faults(self, faults: Faults) -> Announcer {
        Announcer { faults, ..self }
    }

    /// Hands the events of one commit over. `owner`: whose channel it is; an event of a channel without one is not shown.
    pub fn announce(&mut self, events: Vec<Event>, owner: impl Fn(ChannelNo) -> Option<Owner>, now_ms: i64) {
        let Some(newest) = events.last().map(|event| event.id) else { return };
        // Noted before anything is sent: if this panics half way, the next batch tells its recipients that they missed one.
        let mut previous: BTreeMap<ChannelNo, EventId> = BTreeMap::new();
        for event in &events {
            let before = self.note(event.channel, event.id);
            previous.entry(event.channel).or_insert(before);
        }
        // known also while nobody follows, so that whoever begins to misses nothing
        let previous_of_all = self.note(ChannelNo::ALL, newest);
        if self.faults.check(Point::Announce).is_err() {
            return;
        }

        let marks = self.trace.extend(events.iter().map(|event| event.id), now_ms);
        let follows_all = self.feed.recipient(ChannelNo::ALL).is_some();
        let mut by_channel: BTreeMap<ChannelNo, Vec<Arc<Frame>>> = BTreeMap::new();
        for no in previous.keys() {
            if self.feed.recipient(*no).is_some() {
                by_channel.insert(*no, Vec::new());
            }
        }
        let mut all = Vec::new();
        if follows_all || !by_channel.is_empty() {
            for (n, event) in events.into_iter().enumerate() {
                let no = event.channel;
                // a frame is made only where somebody listens
                if !follows_all && !by_channel.contains_key(&no) {
                    continue;
                }
                let Some(owner) = owner(no) else { continue };
                let frame = Arc::new(Frame::committed(event, owner, marks.mark(n), &self.budget));
                if follows_all {
                    all.push(frame.clone());
                }
                if let Some(frames) = by_channel.get_mut(&no) {
                    frames.push(frame);
                }
            }
        }
        for (no, previous) in previous {
            self.feed.wake(no);
            if let Some(frames) = by_channel.remove(&no) {
                self.hand_over(no, Committed { frames: frames.into(), previous });
            }
        }
        if follows_all {
            self.hand_over(ChannelNo::ALL, Committed { frames: all.into(), previous: previous_of_all });
        }
    }

    /// Whether a recipient is owed a message.
    pub fn owes(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Tells recipients that missed a batch where the log is, so that they read it.
    pub fn tell_missed(&mut self) {
        for no in std::mem::take(&mut self.missed) {
            let previous = self.handed.get(&no).copied().unwrap_or(self.handed_of_others);
            self.hand_over(no, Committed { frames: Arc::new([]), previous });
        }
    }

    /// To be called after a panic of the one that commits, with the newest event of the log: what it had in hand may be
    /// durable and not announced. Everyone is told that they may have missed something up to there.
    pub fn recover(&mut self, head: EventId) {
        self.handed.clear();
        self.handed_of_others = head;
        self.missed = self.feed.open_numbers();
        self.feed.wake_all();
    }

    /// Notes that the channel's events up to `id` are handed over, and returns what was noted before.
    fn note(&mut self, no: ChannelNo, id: EventId) -> EventId {
        self.handed.insert(no, id).unwrap_or(self.handed_of_others)
    }

    fn hand_over(&mut self, no: ChannelNo, committed: Committed) {
        if let Some(recipient) = self.feed.recipient(no)
            && let Err(SendError::Full(_)) = recipient.try_send(committed)
            && !self.missed.contains(&no)
        {
            // the next message tells it that it missed something, and it makes its readers use the log
            self.missed.push(no);
        }
    }
}
