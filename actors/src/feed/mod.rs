//! The feed: who is told when events were committed. It knows recipients of messages and no actor, so that whoever commits
//! knows nobody who reads.
//!
//! Two kinds are told: whoever stands for a channel gets every batch of it in log order ([`Committed`]); a webhook is only
//! woken ([`Wake`]) and reads the log itself. Channel number 0 stands for all channels.

pub mod frame;
pub mod trace;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::dev::SendError;
use actix::{Message, Recipient};
use parking_lot::RwLock;

use self::frame::Frame;
use self::trace::DeliveryTrace;
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
}

/// Hands committed events to the feed, in log order. Owned by the one that commits.
pub struct Announcer {
    feed: Arc<Feed>,
    trace: Arc<DeliveryTrace>,
    /// The newest event of each channel that was handed over, or would have been.
    handed: HashMap<ChannelNo, EventId>,
    /// Channels whose recipient had a full mailbox: they are told again that there is something to read.
    missed: Vec<ChannelNo>,
}

impl Announcer {
    pub fn new(feed: Arc<Feed>, trace: Arc<DeliveryTrace>) -> Announcer {
        Announcer { feed, trace, handed: HashMap::new(), missed: Vec::new() }
    }

    /// Hands the events of one commit over. `owner`: whose channel it is; an event of a channel without one is not shown.
    pub fn announce(&mut self, events: Vec<Event>, owner: impl Fn(ChannelNo) -> Option<Owner>, now_ms: i64) {
        let Some(newest) = events.last().map(|event| event.id) else { return };
        // Noted before anything is sent: if this panics half way, the next batch tells its recipients that they missed one.
        let mut previous: HashMap<ChannelNo, EventId> = HashMap::new();
        for event in &events {
            let before = self.handed.insert(event.channel, event.id).unwrap_or(EventId::ZERO);
            previous.entry(event.channel).or_insert(before);
        }
        // known also while nobody follows, so that whoever begins to misses nothing
        let previous_of_all = self.handed.insert(ChannelNo::ALL, newest).unwrap_or(EventId::ZERO);

        let marks = self.trace.extend(events.iter().map(|event| event.id), now_ms);
        let follows_all = self.feed.recipient(ChannelNo::ALL).is_some();
        let mut by_channel: HashMap<ChannelNo, Vec<Arc<Frame>>> = HashMap::new();
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
                let frame = Arc::new(Frame::committed(event, owner, marks.mark(n)));
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
            let previous = self.handed.get(&no).copied().unwrap_or(EventId::ZERO);
            self.hand_over(no, Committed { frames: Arc::new([]), previous });
        }
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
