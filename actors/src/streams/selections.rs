//! The local channels of one thread that stand for several channels: one for each set that somebody on this thread reads,
//! however many read it.
//!
//! All of them are fed from the local channel of all channels, which knows the one order: what arrives there is handed to
//! the sets that want it. So an event costs a look-up and a pointer for each set that has its channel, a set that is not
//! concerned is not woken, and readers of a set share its ring and its chunks as readers of one channel do.
//!
//! A set has every event of its channels that the ring of all channels has had since the set was opened. When that ring has
//! missed something it starts anew, and with it all sets; their readers go on from the log.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::feed::frame::Frame;
use crate::model::event::ChannelNo;
use crate::model::selection::{ChannelSet, Selection};
use crate::streams::{LocalChannel, Streams};

#[derive(Default)]
pub(super) struct Selections {
    by_set: HashMap<Arc<ChannelSet>, Rc<LocalChannel>>,
    /// Of sets whose channels are all listed: by each of them.
    by_channel: HashMap<ChannelNo, Vec<Rc<LocalChannel>>>,
    /// Sets that have all channels of a kind.
    of_kinds: Vec<(Arc<ChannelSet>, Rc<LocalChannel>)>,
    /// Sessions of all sets together, see [`LocalChannel::of_several`].
    sessions: Rc<Cell<usize>>,
    /// Kept as long as there is a set, so that it stays joined.
    all: Option<Rc<LocalChannel>>,
}

fn has_kinds(set: &ChannelSet) -> bool {
    set.kinds().next().is_some()
}

impl Selections {
    /// The local channel of a set, made and filled from that of all channels when it is not there.
    pub fn open(&mut self, set: &Arc<ChannelSet>, all: &Rc<LocalChannel>, streams: &Arc<Streams>) -> Rc<LocalChannel> {
        if let Some(known) = self.by_set.get(set) {
            return known.clone();
        }
        let made = Rc::new(LocalChannel::of_several(set.clone(), streams.clone(), self.sessions.clone()));
        made.refill(all);
        self.by_set.insert(set.clone(), made.clone());
        if has_kinds(set) {
            self.of_kinds.push((set.clone(), made.clone()));
        } else {
            for no in set.listed() {
                self.by_channel.entry(no).or_default().push(made.clone());
            }
        }
        self.all = Some(all.clone());
        made
    }

    /// All local channels of sets.
    pub fn all(&self) -> impl Iterator<Item = &Rc<LocalChannel>> {
        self.by_set.values()
    }

    /// Those that may read a channel.
    pub fn with(&self, no: ChannelNo) -> impl Iterator<Item = &Rc<LocalChannel>> {
        let listing = self.by_channel.get(&no).into_iter().flatten();
        listing.chain(self.of_kinds.iter().map(|(_, channel)| channel))
    }

    /// Hands a batch of all channels to the sets that want something of it; returns those, which then take it.
    pub fn hand_over(&self, frames: &[Arc<Frame>]) -> Vec<Rc<LocalChannel>> {
        let mut concerned = Vec::new();
        if self.by_set.is_empty() {
            return concerned;
        }
        for frame in frames {
            let no = frame.event.channel;
            let listing = self.by_channel.get(&no).into_iter().flatten();
            let of_kinds = self.of_kinds.iter().filter(|(set, _)| set.contains(no, frame.owner()));
            for channel in listing.chain(of_kinds.map(|(_, channel)| channel)) {
                if channel.put_aside(frame) {
                    concerned.push(channel.clone());
                }
            }
        }
        concerned
    }

    /// The local channel of all channels was filled anew, or has missed something.
    pub fn refill(&self, all: &LocalChannel) {
        self.all().for_each(|channel| channel.refill(all));
    }

    /// Lets sets go that nobody has read for so long.
    pub fn leave_idle(&mut self, idle_after: Duration) {
        let is_idle = |(set, channel): &(&Arc<ChannelSet>, &Rc<LocalChannel>)| {
            // somebody else who holds it is about to add a session
            let own = 1 + if has_kinds(set) { 1 } else { set.listed().len() };
            Rc::strong_count(channel) <= own && channel.is_idle_for(idle_after)
        };
        let idle: Vec<_> = self.by_set.iter().filter(is_idle).map(|(set, _)| set.clone()).collect();
        for set in idle {
            let Some(gone) = self.by_set.remove(&set) else { continue };
            self.of_kinds.retain(|(_, channel)| !Rc::ptr_eq(channel, &gone));
            for no in set.listed() {
                if let Some(listing) = self.by_channel.get_mut(&no) {
                    listing.retain(|channel| !Rc::ptr_eq(channel, &gone));
                    if listing.is_empty() {
                        self.by_channel.remove(&no);
                    }
                }
            }
        }
        if self.by_set.is_empty() {
            self.all = None;
        }
    }
}

/// Whether a selection takes a frame.
pub(super) fn takes(selection: &Selection, frame: &Frame) -> bool {
    match selection {
        Selection::One(no) => frame.event.channel == *no,
        Selection::Several(set) => set.contains(frame.event.channel, frame.owner()),
        Selection::All => true,
    }
}
