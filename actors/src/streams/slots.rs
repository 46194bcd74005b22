//! The slots that open streams take: of the server, of one channel, of one token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use crate::model::event::ChannelNo;
use crate::streams::limits::SlotLimits;

/// Which limit a new stream would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefusal {
    #[error("Too many connections to this server")]
    Total,
    #[error("Too many connections to this map")]
    Channel,
    #[error("Too many connections for this API key")]
    Token,
}

/// What streams are counted by over all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    Channel(ChannelNo),
    Token(Arc<str>),
}

/// Told how many streams this server has of a channel or token when that has changed. It must not wait for anything.
pub type CountsSink = Box<dyn Fn(&Counted, usize) + Send + Sync>;

/// Counts open streams over all threads. One short lock per opened or closed stream, none per event.
pub struct Slots {
    limits: SlotLimits,
    counts: Mutex<Counts>,
    sink: OnceLock<CountsSink>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    channels: HashMap<ChannelNo, usize>,
    tokens: HashMap<Arc<str>, usize>,
    /// Those of other nodes, by their names.
    elsewhere: HashMap<Arc<str>, HashMap<Counted, Heard>>,
}

/// Streams of another node, and when they were said last.
struct Heard {
    streams: usize,
    at: Instant,
}

impl Slots {
    pub fn new(limits: SlotLimits) -> Arc<Slots> {
        Arc::new(Slots { limits, counts: Mutex::default(), sink: OnceLock::new() })
    }

    /// Says who is told of the counts of this server. To be called once.
    pub fn set_sink(&self, sink: CountsSink) {
        if self.sink.set(sink).is_err() {
            log::error!("one sink only is told of open streams; a second one was not taken");
        }
    }

    /// Another node says now that it has so many streams of a channel or token.
    pub fn count_elsewhere(&self, node: &Arc<str>, counted: Counted, streams: usize, now: Instant) {
        let mut counts = self.counts.lock();
        let of_node = counts.elsewhere.entry(node.clone()).or_default();
        match streams {
            0 => drop(of_node.remove(&counted)),
            streams => drop(of_node.insert(counted, Heard { streams, at: now })),
        }
    }

    /// Forgets the streams of nodes that are not among these.
    pub fn keep_nodes(&self, is_live: impl Fn(&str) -> bool) {
        self.counts.lock().elsewhere.retain(|node, _| is_live(node));
    }

    /// Forgets what other nodes have not said again since then: that it is over may have been lost.
    pub fn keep_heard_since(&self, since: Instant) {
        for of_node in self.counts.lock().elsewhere.values_mut() {
            of_node.retain(|_, heard| heard.at >= since);
        }
    }

    /// All that this server has.
    pub fn all(&self) -> Vec<(Counted, usize)> {
        let counts = self.counts.lock();
        let channels = counts.channels.iter().map(|(no, streams)| (Counted::Channel(*no), *streams));
        channels.chain(counts.tokens.iter().map(|(token, streams)| (Counted::Token(token.clone()), *streams))).collect()
    }

    /// Tells the sink how many streams there are now, under the lock, so that the last word is the newest.
    fn tell(&self, counts: &Counts, channel: Option<ChannelNo>, token: &Arc<str>) {
        let Some(sink) = self.sink.get() else { return };
        if let Some(no) = channel {
            sink(&Counted::Channel(no), counts.channels.get(&no).copied().unwrap_or(0));
        }
        sink(&Counted::Token(token.clone()), counts.tokens.get(token).copied().unwrap_or(0));
    }

    /// A slot for a stream of the channel under the token; of several channels it counts in none of them.
    ///
    /// # Errors
    /// Which limit would be passed.
    pub fn take(self: &Arc<Self>, channel: Option<ChannelNo>, token: &Arc<str>) -> Result<Slot, StreamRefusal> {
        let mut counts = self.counts.lock();
        counts.room(&self.limits, channel, token)?;
        counts.total += 1;
        if let Some(no) = channel {
            *counts.channels.entry(no).or_default() += 1;
        }
        *counts.tokens.entry(token.clone()).or_default() += 1;
        self.tell(&counts, channel, token);
        Ok(Slot { slots: self.clone(), channel, token: token.clone() })
    }

    /// The open streams of each channel that has some.
    pub fn by_channel(&self) -> Vec<(ChannelNo, usize)> {
        self.counts.lock().channels.iter().map(|(no, open)| (*no, *open)).collect()
    }

    /// Whether [`Slots::take`] would find a slot now. Nothing is taken.
    ///
    /// # Errors
    /// Which limit would be passed.
    pub fn room(&self, channel: Option<ChannelNo>, token: &Arc<str>) -> Result<(), StreamRefusal> {
        self.counts.lock().room(&self.limits, channel, token)
    }
}

impl Counts {
    fn room(&self, limits: &SlotLimits, channel: Option<ChannelNo>, token: &Arc<str>) -> Result<(), StreamRefusal> {
        let full = |used: usize, limit: usize| limit > 0 && used >= limit;
        if full(self.total, limits.total) {
            return Err(StreamRefusal::Total);
        }
        if let Some(no) = channel {
            let own = self.channels.get(&no).copied().unwrap_or(0);
            if full(own + self.elsewhere(&Counted::Channel(no)), limits.per_channel) {
                return Err(StreamRefusal::Channel);
            }
        }
        let own = self.tokens.get(token).copied().unwrap_or(0);
        if full(own + self.elsewhere(&Counted::Token(token.clone())), limits.per_token) {
            return Err(StreamRefusal::Token);
        }
        Ok(())
    }

    fn elsewhere(&self, counted: &Counted) -> usize {
        self.elsewhere.values().filter_map(|of_node| of_node.get(counted)).map(|heard| heard.streams).sum()
    }
}

/// A place among the open streams, free again when it is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    channel: Option<ChannelNo>,
    token: Arc<str>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("channel", &self.channel).field("token", &self.token).finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.counts.lock();
        counts.total -= 1;
        let counts = &mut *counts;
        if let Some(no) = self.channel
            && let Some(used) = counts.channels.get_mut(&no)
        {
            *used -= 1;
            if *used == 0 {
                counts.channels.remove(&no);
            }
        }
        if let Some(used) = counts.tokens.get_mut(&self.token) {
            *used -= 1;
            if *used == 0 {
                counts.tokens.remove(&self.token);
            }
        }
        self.slots.tell(counts, self.channel, &self.token);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_slot_is_refused_at_the_limit_and_free_again_when_dropped() {
        let slots = Slots::new(SlotLimits { total: 0, per_channel: 2, per_token: 1 });
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (one, another) = (Some(ChannelNo(1)), Some(ChannelNo(2)));
        let first = slots.take(one, &a).expect("the first slot");
        assert_eq!(slots.take(one, &a).err(), Some(StreamRefusal::Token));
        let second = slots.take(one, &b).expect("another token's slot");
        assert_eq!(slots.take(one, &"c".into()).err(), Some(StreamRefusal::Channel));
        assert_eq!(slots.room(one, &"c".into()), Err(StreamRefusal::Channel));
        assert_eq!(slots.room(another, &"c".into()), Ok(()));
        assert!(slots.take(None, &"c".into()).is_ok(), "a stream of several channels counts in none");
        drop((first, second));
        assert_eq!(slots.room(one, &a), Ok(()));
        assert!(slots.take(one, &a).is_ok());
    }

    #[test]
    fn streams_of_other_nodes_count_as_long_as_these_are_heard() {
        let slots = Slots::new(SlotLimits { total: 1, per_channel: 3, per_token: 2 });
        let (a, one): (Arc<str>, _) = ("a".into(), Some(ChannelNo(1)));
        let (other, third): (Arc<str>, Arc<str>) = ("n2".into(), "n3".into());
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = told.clone();
        slots.set_sink(Box::new(move |counted, streams| noted.lock().push((counted.clone(), streams))));
        let now = Instant::now();
        slots.count_elsewhere(&other, Counted::Token(a.clone()), 1, now);
        slots.count_elsewhere(&third, Counted::Token(a.clone()), 1, now);
        assert_eq!(slots.room(one, &a), Err(StreamRefusal::Token));
        slots.keep_nodes(|node| node == "n2");
        let slot = slots.take(one, &a).expect("one node is gone");
        drop(slot);
        slots.count_elsewhere(&other, Counted::Channel(ChannelNo(1)), 3, now);
        assert_eq!(slots.room(one, &"b".into()), Err(StreamRefusal::Channel));
        slots.count_elsewhere(&other, Counted::Channel(ChannelNo(1)), 0, now);
        assert_eq!(slots.room(one, &"b".into()), Ok(()));
        let (channel, token) = (Counted::Channel(ChannelNo(1)), Counted::Token(a));
        assert_eq!(*told.lock(), [(channel.clone(), 1), (token.clone(), 1), (channel, 0), (token, 0)]);
    }

    #[test]
    fn a_count_that_is_not_said_again_is_forgotten_though_its_node_lives() {
        let slots = Slots::new(SlotLimits { total: 0, per_channel: 0, per_token: 1 });
        let (node, begun): (Arc<str>, _) = ("n2".into(), Instant::now());
        let later = begun + Duration::from_secs(5);
        slots.count_elsewhere(&node, Counted::Token("a".into()), 1, begun);
        slots.count_elsewhere(&node, Counted::Token("b".into()), 1, later);
        slots.keep_heard_since(begun);
        assert_eq!(slots.room(None, &"a".into()), Err(StreamRefusal::Token));
        slots.keep_heard_since(later);
        assert_eq!(slots.room(None, &"a".into()), Ok(()));
        assert_eq!(slots.room(None, &"b".into()), Err(StreamRefusal::Token));
    }
}
