//! The log as frames: events with the channels that they belong to.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::feed::frame::Frame;
use crate::log::{Direction, Log, LogError, PageLimit};
use crate::model::channel::Owner;
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

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

    /// A page of a channel, or of all, strictly beyond the cursor. Events of channels that were deleted are left out.
    /// Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn page(
        &self,
        no: ChannelNo,
        cursor: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<FramePage, LogError> {
        let read = self.log.read(no, cursor, limit, direction)?;
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
