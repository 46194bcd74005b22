//! What the log holds at one moment, to be copied while it goes on.

use super::page::PageBuilder;
use super::section;
use super::segment_writer::{KEY_BYTES, decode_keys};
use super::state::{Log, Snapshot};
use super::{Dedupe, Direction, LogError, LogPage, LossDocument, PageLimit};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// A moment of the log: everything up to one commit. It holds nothing back: what retention takes meanwhile is missing, and
/// [`Log::lost_between`] tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    /// The newest event then.
    pub head: EventId,
    /// The newest commit then that concerned the log.
    pub sequence: u64,
    keys_end: usize,
}

/// A dedupe key, and when it was used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsedKey {
    pub dedupe: Dedupe,
    pub time_ms: u64,
}

/// Dedupe keys as bytes, for a backup.
pub fn encode_used_keys(keys: &[UsedKey]) -> Vec<u8> {
    let mut out = Vec::with_capacity(keys.len() * KEY_BYTES);
    for UsedKey { dedupe, time_ms } in keys {
        section::put_key(&mut out, dedupe);
        out.extend_from_slice(&time_ms.to_be_bytes());
    }
    out
}

/// What [`encode_used_keys`] made; none when the bytes are something else.
pub fn decode_used_keys(bytes: &[u8]) -> Option<Vec<UsedKey>> {
    let keys = decode_keys(bytes)?;
    Some(keys.into_iter().map(|(dedupe, time_ms)| UsedKey { dedupe, time_ms }).collect())
}

impl Log {
    /// The log as it is now. Taken between two commits it stands at the second one's end.
    pub fn view(&self) -> LogView {
        let state = self.state.read();
        LogView { head: state.head, sequence: state.sequence, keys_end: self.dedupe.lock().end() }
    }

    /// Events of the view in their order, strictly after the cursor. Blocks.
    ///
    /// # Errors
    /// Those of [`Log::read`].
    pub fn view_events(&self, view: &LogView, cursor: EventId, limit: PageLimit) -> Result<LogPage, LogError> {
        let end = |head: EventId| head.min(view.head);
        self.read_with(|head| PageBuilder::new(ChannelNo::ALL, cursor, end(head), limit, Direction::Forward))
    }

    /// The last events of the segments, in the order of the log, as far as they are sealed or wait for it: where a copy of the
    /// log is best cut, because retention drops whole segments.
    pub fn segment_ends(&self) -> Vec<EventId> {
        let Snapshot { sealed, rolled, .. } = self.snapshot();
        let rolled = rolled.and_then(|rolled| rolled.span(ChannelNo::ALL)).map(|span| span.last);
        sealed.iter().filter_map(|sealed| sealed.manifest.last).chain(rolled).collect()
    }

    /// All that is known to be gone at this moment, stored or not.
    pub fn losses(&self) -> Vec<LossDocument> {
        self.losses.read().documents()
    }

    /// Dedupe keys of the view in the order of their times, at most `count` from position `from` on, which is 0 at the
    /// beginning; and the position behind them. Empty at the end.
    pub fn view_keys(&self, view: &LogView, from: usize, count: usize) -> (Vec<UsedKey>, usize) {
        let page = self.dedupe.lock().page(from, view.keys_end, count);
        let next = page.last().map_or(view.keys_end, |(number, ..)| number + 1);
        (page.into_iter().map(|(_, dedupe, time_ms)| UsedKey { dedupe, time_ms }).collect(), next)
    }
}
