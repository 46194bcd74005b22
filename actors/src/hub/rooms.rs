//! The rooms of the engine, as the hub's verbs reach them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::HubLimits;
use super::data_folder::DataFolder;
use super::figures::Figures;
use super::scan::Scans;
use super::token_uses::TokenUses;
use crate::budget::Budget;
use crate::catalog::Catalog;
use crate::catalog::reader::FrameReader;
use crate::catalog::system::SystemEvents;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::delivery::handles::Handles as DeliveryHandles;
use crate::delivery::registry::WebhookActors;
use crate::disk::Disk;
use crate::documents::notes::Notes;
use crate::feed::Feed;
use crate::feed::trace::DeliveryTrace;
use crate::ingest::counters::SourceCounters;
use crate::ingest::registry::SourceRegistry;
use crate::journal::Journal;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::streams::Streams;

pub(super) struct Rooms {
    pub limits: HubLimits,
    pub clock: Clock,
    pub disk: Disk,
    pub log: Arc<Log>,
    pub notes: Arc<Notes>,
    pub journal: Journal,
    pub feed: Arc<Feed>,
    pub catalog: Arc<Catalog>,
    pub frames: FrameReader,
    pub system: SystemEvents,
    pub streams: Arc<Streams>,
    pub delivery: Arc<DeliveryHandles>,
    pub webhook_actors: Arc<WebhookActors>,
    pub sources: Arc<SourceRegistry>,
    pub counters: Arc<SourceCounters>,
    pub figures: Figures,
    pub token_uses: TokenUses,
    pub metrics: Arc<Metrics>,
    pub budget: Arc<Budget>,
    /// For what streams and deliveries need of filters and templates.
    pub compute: Compute,
    /// For what requests need: scans, which also read the log there, and filters and templates that are compiled and tried.
    pub scan_threads: Compute,
    /// For pages of the log that streams, deliveries and requests read as they are.
    pub readers: Compute,
    pub scans: Arc<Scans>,
    pub trace: Arc<DeliveryTrace>,
    /// By how much the wall clock was set since the start, in milliseconds.
    pub clock_jumped_ms: AtomicI64,
    pub data_dir: PathBuf,
    /// How this node is among the others; none: it is a server alone.
    #[cfg(feature = "nats")]
    pub cluster: Option<Arc<crate::cluster::Status>>,
    /// Held for as long as anything works on it.
    pub _folder: DataFolder,
}

impl Rooms {
    /// Whether this is a server alone, and no node of a cluster.
    pub fn is_alone(&self) -> bool {
        #[cfg(feature = "nats")]
        return self.cluster.is_none();
        #[cfg(not(feature = "nats"))]
        true
    }

    /// The name of this node of a cluster.
    pub fn node_name(&self) -> Option<Arc<str>> {
        #[cfg(feature = "nats")]
        return self.cluster.as_ref().map(|status| status.node().clone());
        #[cfg(not(feature = "nats"))]
        None
    }
}
