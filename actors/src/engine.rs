//! What the engine's threads share: the log, the journal's queue, the directory, and the addresses of the actors.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Addr;

use crate::catalog::channels::Directory;
use crate::catalog::credentials::Credentials;
use crate::catalog::webhooks::WebhookRegistry;
use crate::documents::Documents;
use crate::feed::Feed;
use crate::feed::frame::Frame;
use crate::feed::trace::DeliveryTrace;
use crate::ingest::registry::SourceRegistry;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::model::channel::Owner;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::store::{DataLock, Direction, Log, PageLimit, State, StoreError, free_bytes};
use crate::streams::registry::Registry;
use crate::streams::slots::Slots;
use crate::streams::tickets::Tickets;

pub struct Engine {
    pub limits: Limits,
    pub log: Arc<Log>,
    pub state: Arc<State>,
    pub documents: Arc<Documents>,
    pub journal: Journal,
    pub feed: Arc<Feed>,
    pub registry: Addr<Registry>,
    pub tickets: Addr<Tickets>,
    pub directory: Directory,
    pub access: Credentials,
    pub slots: Arc<Slots>,
    pub metrics: Arc<Metrics>,
    pub trace: Arc<DeliveryTrace>,
    pub webhook_registry: WebhookRegistry,
    pub source_registry: SourceRegistry,
    pub data_dir: PathBuf,
    /// Held as long as the engine lives, so that no second server writes into the folder.
    pub lock: DataLock,
}

/// A page of the log as frames.
pub struct FramePage {
    pub frames: Vec<Frame>,
    /// The last event that was looked at, also when it is not among the frames.
    pub last: Option<EventId>,
    /// Whether there are events behind the last one.
    pub more: bool,
}

impl Engine {
    /// A page of a channel, or of all, strictly beyond the cursor. Events of channels that were deleted are left out.
    /// Blocks.
    pub fn page(
        &self,
        no: ChannelNo,
        cursor: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<FramePage, StoreError> {
        let read = self.log.read(no, cursor, limit, direction)?;
        let last = read.events.last().map(|event| event.id);
        let mut known: Option<(ChannelNo, Option<Owner>)> = None;
        let frame = |event: crate::model::event::Event| {
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

    /// Bytes that are free for the data folder; none when the system does not say.
    pub fn free_disk_bytes(&self) -> Option<u64> {
        free_bytes(&self.data_dir)
    }
}
