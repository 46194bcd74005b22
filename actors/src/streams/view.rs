//! What streams read of the log and of the catalog, and nothing else of them: where the log ends, pages of it, which
//! channels there are, and whether a credential is still good. Nothing is changed here.
//!
//! This is the only file of streams that knows where events and configuration are kept.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::reader::FrameReader;
use crate::log::{Direction, Log, PageLimit};
use crate::model::access::Principal;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::model::selection::Selection;

pub(super) use crate::log::LogError;

#[derive(Clone)]
pub struct View {
    log: Arc<Log>,
    catalog: Arc<Catalog>,
    frames: FrameReader,
}

pub(super) use crate::catalog::reader::{FramePage, ReadError};

impl View {
    pub fn new(log: Arc<Log>, catalog: Arc<Catalog>) -> View {
        View { frames: FrameReader::new(log.clone(), catalog.clone()), log, catalog }
    }

    /// The newest event of the log.
    pub(super) fn head(&self) -> EventId {
        self.log.head()
    }

    /// The oldest event of the selection that is still there.
    pub(super) fn oldest(&self, selection: &Selection) -> Option<EventId> {
        self.frames.oldest(selection)
    }

    /// The newest event of the selection that retention took, if it is newer than `after`.
    pub(super) fn expired(&self, selection: &Selection, after: EventId) -> Option<EventId> {
        Some(self.frames.expired(selection, after)).filter(|expired| *expired > after)
    }

    /// The first part of (after, through] in which events of the selection may be missing because of damage.
    pub(super) fn damaged_between(
        &self,
        selection: &Selection,
        after: EventId,
        through: EventId,
    ) -> Option<(EventId, EventId)> {
        self.frames.damaged_between(selection, after, through)
    }

    /// A page of the selection behind `after`. Events of channels that were deleted are left out. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn page(
        &self,
        selection: &Selection,
        after: EventId,
        events: usize,
        bytes: usize,
    ) -> Result<FramePage, LogError> {
        self.frames.page(selection, after, PageLimit { events, bytes }, Direction::Forward)
    }

    /// About how many events of the selection are in (after, through].
    pub(super) fn count_between(&self, selection: &Selection, after: EventId, through: EventId) -> u64 {
        self.frames.count_between(selection, after, through)
    }

    /// Whether the channel has not been deleted.
    pub(super) fn has_channel(&self, no: ChannelNo) -> bool {
        self.catalog.channel(no).is_some()
    }

    /// Whether there is, or may come to be, a channel of the selection.
    pub(super) fn has_any(&self, selection: &Selection) -> bool {
        match selection {
            Selection::One(no) => self.has_channel(*no),
            Selection::Several(set) => {
                set.kinds().next().is_some()
                    || self.catalog.read(|tables| set.listed().any(|no| tables.channel(no).is_some()))
            }
            Selection::All => true,
        }
    }

    /// See [`Catalog::valid_until_ms`].
    pub(super) fn valid_until_ms(&self, principal: &Principal) -> Option<i64> {
        self.catalog.valid_until_ms(principal)
    }

    /// Grows when a token is revoked or gets another end, so that sessions are checked again only then.
    pub(super) fn revocations(&self) -> u64 {
        self.catalog.revocations()
    }
}
