//! The log as frames: events with the channels that they belong to.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::feed::frame::Frame;
use crate::log::{Direction, Log, LogError, PageLimit, SomeChannels};
use crate::model::channel::Owner;
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;
use crate::model::selection::{ChannelSet, Selection};

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("a thread that read the log panicked: {0}")]
    Panicked(String),
}

/// A page of the log as frames.
pub struct FramePage {
    pub frames: Vec<Frame>,
    /// The last event that was looked at, also when it is not among the frames.
    pub last: Option<EventId>,
    /// Whether there are events behind the last one.
    pub more: bool,
}

/// Reads the log as frames.
#[derive(Clone)]
pub struct FrameReader {
    log: Arc<Log>,
    catalog: Arc<Catalog>,
}

impl FrameReader {
    pub fn new(log: Arc<Log>, catalog: Arc<Catalog>) -> FrameReader {
        FrameReader { log, catalog }
    }

    /// The channels of a set as the log takes them: those that are there when it comes upon them.
    fn some(&self, set: &Arc<ChannelSet>) -> SomeChannels {
        let some = SomeChannels::listed(set.listed());
        if set.kinds().next().is_none() {
            return some;
        }
        let (set, catalog) = (set.clone(), self.catalog.clone());
        some.and(move |no| catalog.channel(no).is_some_and(|channel| set.contains(no, &channel.owner())))
    }

    /// The oldest kept event of the selection.
    pub fn oldest(&self, selection: &Selection) -> Option<EventId> {
        match selection {
            Selection::Several(set) => self.log.oldest_of_some(&self.some(set)),
            Selection::One(_) | Selection::All => self.log.oldest(selection.no()),
        }
    }

    /// The newest event of the selection that retention took, if it is newer than `after`; else zero or another that is not.
    pub fn expired(&self, selection: &Selection, after: EventId) -> EventId {
        match selection {
            Selection::Several(set) => self.log.expired_of_some(&self.some(set), after),
            Selection::One(_) | Selection::All => self.log.expired(selection.no()),
        }
    }

    /// The first part of (after, through] in which events of the selection may be missing because of damage.
    pub fn damaged_between(
        &self,
        selection: &Selection,
        after: EventId,
        through: EventId,
    ) -> Option<(EventId, EventId)> {
        match selection {
            Selection::Several(set) => self.log.damaged_of_some(&self.some(set), after, through),
            Selection::One(_) | Selection::All => self.log.damaged_between(selection.no(), after, through),
        }
    }

    /// About how many events of the selection are in (after, through], told by what segments hold and without reading them.
    pub fn count_between(&self, selection: &Selection, after: EventId, through: EventId) -> u64 {
        match selection {
            Selection::Several(set) => self.log.count_some(&self.some(set), after, through),
            Selection::One(_) | Selection::All => self.log.count_of(selection.no(), after, through),
        }
    }

    /// A page of the selection, strictly beyond the cursor. Events of channels that were deleted are left out. A page of
    /// several channels may end before its limit with `more`. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn page(
        &self,
        selection: &Selection,
        cursor: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<FramePage, LogError> {
        let read = match selection {
            Selection::Several(set) => self.log.read_some(&self.some(set), cursor, limit, direction)?,
            Selection::One(_) | Selection::All => self.log.read(selection.no(), cursor, limit, direction)?,
        };
        let last = (read.more || !read.events.is_empty()).then_some(read.last);
        let mut known: Option<(ChannelNo, Option<Owner>)> = None;
        let frame = |event: Event| {
            // events of one channel come in runs
            if known.as_ref().is_none_or(|(no, _)| *no != event.channel) {
                let owner = self.catalog.channel(event.channel).map(|channel| channel.owner());
                known = Some((event.channel, owner));
            }
            let owner = known.as_ref()?.1.clone()?;
            Some(Frame::new(event, owner))
        };
        Ok(FramePage { frames: read.events.into_iter().filter_map(frame).collect(), last, more: read.more })
    }
}
