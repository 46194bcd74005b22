//! What the log holds at one moment, to be copied while it goes on.

use super::shelf::Log;
use super::{Dedupe, Direction, LogError, LogPage, PageLimit};
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

impl Log {
    /// The log as it is now. Taken between two commits it stands at the second one's end.
    pub fn view(&self) -> LogView {
        let shelf = self.shelf.read();
        LogView { head: shelf.head, sequence: shelf.sequence, keys_end: self.dedupe.lock().end() }
    }

    /// Events of the view in their order, strictly after the cursor. Blocks.
    ///
    /// # Errors
    /// Those of [`Log::read`].
    pub fn view_events(&self, view: &LogView, cursor: EventId, limit: PageLimit) -> Result<LogPage, LogError> {
        self.read_until(view.head, ChannelNo::ALL, cursor, limit, Direction::Forward)
    }

    /// Dedupe keys of the view in the order of their times, at most `count` from position `from` on, which is 0 at the
    /// beginning; and the position behind them. Empty at the end.
    pub fn view_keys(&self, view: &LogView, from: usize, count: usize) -> (Vec<UsedKey>, usize) {
        let page = self.dedupe.lock().page(from, view.keys_end, count);
        let next = page.last().map_or(view.keys_end, |(number, ..)| number + 1);
        (page.into_iter().map(|(_, dedupe, time_ms)| UsedKey { dedupe, time_ms }).collect(), next)
    }
}
