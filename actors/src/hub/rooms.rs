//! The rooms of the engine, as the hub's verbs reach them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::Limits;
use super::data_folder::DataFolder;
use super::figures::Figures;
use super::scan::Scans;
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
    pub limits: Limits,
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
    pub metrics: Arc<Metrics>,
    pub budget: Arc<Budget>,
    /// For what streams and deliveries need of filters and templates.
    pub compute: Compute,
    /// For what requests need: scans, which also read the log there, and filters and templates that are compiled and tried.
    pub scan_threads: Compute,
    pub scans: Arc<Scans>,
    pub trace: Arc<DeliveryTrace>,
    /// By how much the wall clock was set since the start, in milliseconds.
    pub clock_jumped_ms: AtomicI64,
    pub data_dir: PathBuf,
    /// Held for as long as anything works on it.
    pub _folder: DataFolder,
}
