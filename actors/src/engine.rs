//! What the engine's threads share: the log, the journal's queue, the catalog, and the addresses of the actors.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Addr;

use crate::catalog::Catalog;
use crate::catalog::reader::FrameReader;
use crate::catalog::system::SystemEvents;
use crate::delivery::registry::WebhookRegistry;
use crate::documents::Documents;
use crate::feed::Feed;
use crate::feed::trace::DeliveryTrace;
use crate::ingest::registry::SourceRegistry;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::store::{DataLock, Log, State, free_bytes};
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
    pub catalog: Arc<Catalog>,
    pub frames: FrameReader,
    pub system: SystemEvents,
    pub slots: Arc<Slots>,
    pub metrics: Arc<Metrics>,
    pub trace: Arc<DeliveryTrace>,
    pub webhook_registry: WebhookRegistry,
    pub source_registry: SourceRegistry,
    pub data_dir: PathBuf,
    /// Held as long as the engine lives, so that no second server writes into the folder.
    pub lock: DataLock,
}

impl Engine {
    /// Bytes that are free for the data folder; none when the system does not say.
    pub fn free_disk_bytes(&self) -> Option<u64> {
        free_bytes(&self.data_dir)
    }
}
