//! What streams read of the log and of the catalog, and nothing else of them: where the log ends, pages of it, which
//! channels there are, and whether a credential is still good. Nothing is changed here.
//!
//! This is the only file of streams that knows where events and configuration are kept.

use std::sync::Arc;

use crate::catalog::channels::Directory;
use crate::catalog::credentials::Credentials;
use crate::feed::frame::Frame;
use crate::model::access::Principal;
use crate::model::channel::Owner;
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;
use crate::store::{Direction, Log, PageLimit, StoreError};

/// Why the log could not be read.
pub(super) type LogError = StoreError;

#[derive(Clone)]
pub struct View {
    log: Arc<Log>,
    directory: Arc<Directory>,
    credentials: Arc<Credentials>,
}

/// A page of the log as frames.
pub(super) struct FramePage {
    pub frames: Vec<Frame>,
    /// The last event that was looked at, also when it is not among the frames.
    pub last: Option<EventId>,
    /// Whether there are events behind the last one.
    pub more: bool,
}

impl View {
    pub fn new(log: Arc<Log>, directory: Arc<Directory>, credentials: Arc<Credentials>) -> View {
        View { log, directory, credentials }
    }

    /// The newest event of the log.
    pub(super) fn head(&self) -> EventId {
        self.log.head()
    }

    /// The oldest event of the channel that is still there.
    pub(super) fn oldest(&self, no: ChannelNo) -> Option<EventId> {
        self.log.oldest(no)
    }

    /// Whether events of the channel after `after` and up to `through` are lost.
    pub(super) fn lost_between(&self, no: ChannelNo, after: EventId, through: EventId) -> bool {
        self.log.lost_between(no, after, through)
    }

    /// A page of a channel, or of all, behind `after`. Events of channels that were deleted are left out. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn page(
        &self,
        no: ChannelNo,
        after: EventId,
        events: usize,
        bytes: usize,
    ) -> Result<FramePage, LogError> {
        let read = self.log.read(no, after, PageLimit { events, bytes }, Direction::Forward)?;
        let last = read.events.last().map(|event| event.id);
        let mut known: Option<(ChannelNo, Option<Owner>)> = None;
        let frame = |event: Event| {
            // events of one channel come in runs
            if known.as_ref().is_none_or(|(no, _)| *no != event.channel) {
                let owner = self.directory.get(event.channel).map(|channel| channel.owner());
                known = Some((event.channel, owner));
            }
            let owner = known.as_ref()?.1.clone()?;
            Some(Frame::new(event, owner))
        };
        Ok(FramePage { frames: read.events.into_iter().filter_map(frame).collect(), last, more: read.more })
    }

    /// Whether the channel has not been deleted.
    pub(super) fn has_channel(&self, no: ChannelNo) -> bool {
        no == ChannelNo::ALL || self.directory.get(no).is_some()
    }

    /// Whether a principal that was let in before would be let in now.
    pub(super) fn still_admits(&self, principal: &Principal) -> bool {
        self.credentials.holds(principal)
    }

    /// Grows with every revocation, so that sessions are checked again only when there was one.
    pub(super) fn revocations(&self) -> u64 {
        self.credentials.revocations()
    }
}
