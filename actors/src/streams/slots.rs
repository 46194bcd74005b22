//! The slots that open streams take: of the server, of one channel, of one token.

use std::collections::HashMap;
use std::sync::Arc;

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

/// Counts open streams over all threads. One short lock per opened or closed stream, none per event.
#[derive(Debug)]
pub struct Slots {
    limits: SlotLimits,
    counts: Mutex<Counts>,
}

#[derive(Default, Debug)]
struct Counts {
    total: usize,
    channels: HashMap<ChannelNo, usize>,
    tokens: HashMap<Arc<str>, usize>,
}

impl Slots {
    pub fn new(limits: SlotLimits) -> Arc<Slots> {
        Arc::new(Slots { limits, counts: Mutex::default() })
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
        let in_channel = channel.and_then(|no| self.channels.get(&no).copied());
        if full(in_channel.unwrap_or(0), limits.per_channel) {
            return Err(StreamRefusal::Channel);
        }
        if full(self.tokens.get(token).copied().unwrap_or(0), limits.per_token) {
            return Err(StreamRefusal::Token);
        }
        Ok(())
    }
}

/// A place among the open streams, free again when it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    channel: Option<ChannelNo>,
    token: Arc<str>,
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
    }
}

#[cfg(test)]
mod tests {
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
}
