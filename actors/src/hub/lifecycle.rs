//! Start and stop of the engine.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use super::admin_token;
use super::data_folder::{self, FolderError};
use super::engine::Engine;
use super::figures::{self, Figures};
use super::ground::{Ground, StoreThreads};
use super::janitor::Janitor;
use super::reseal::reseal;
use super::rooms::Rooms;
use super::scan::Scans;
use super::token_uses::TokenUses;
use super::webhooks::Updates;
use super::{ChannelError, Hub, HubLimits, effects};
use crate::budget::Budget;
use crate::catalog::Catalog;
use crate::catalog::reader::FrameReader;
use crate::catalog::source::Source;
use crate::catalog::system::SystemEvents;
use crate::clock;
#[cfg(feature = "nats")]
use crate::cluster::{self, ClusterError};
use crate::compute::{self, Compute, Nice};
use crate::delivery::delivery_log::DeliveryLog;
use crate::delivery::handles::{Handles as DeliveryHandles, LateWrites, Settings as DeliverySettings};
use crate::delivery::handshake::Handshakes;
use crate::delivery::http::resolver::Resolver;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::http::tls::{self, TlsError};
use crate::delivery::ownership::Ownership;
use crate::delivery::registry::WebhookActors;
use crate::disk::Disk;
use crate::documents::{DocumentError, KeyChance, OwnKeys, ProvedKey, secret_key};
use crate::feed::trace::DeliveryTrace;
use crate::feed::{Announcer, Feed};
use crate::ingest::counters::{self, SourceCounters};
use crate::ingest::dead_letters;
use crate::ingest::registry::{ActiveSource, SourceLimits, SourceRegistry, SourceStats};
use crate::journal::{
    AppendError, Committer, CommitterRest, DocumentChanges, Journal, JournalLimits, Store, Upkeep, Urgency,
};
use crate::log::LogOptions;
use crate::metrics::Metrics;
use crate::model::access::TokenHash;
use crate::streams::{Handles as StreamHandles, SessionEnd, Streams, View};
use crate::wal;

/// What the engine needs to know to start.
#[derive(Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub log: LogOptions,
    pub durability: wal::Durability,
    pub journal: JournalLimits,
    pub limits: HubLimits,
    pub delivery: DeliverySettings,
    pub sources: SourceLimits,
    /// The key that seals secrets, as base64; without it the one in the data folder counts, which the first start makes.
    pub secret_key: Option<Zeroizing<String>>,
    /// The key before it, while it is replaced.
    pub previous_secret_key: Option<Zeroizing<String>>,
    /// How webhooks look up names.
    pub resolver: Resolver,
    /// How this node is one of many; none: it is a server alone.
    #[cfg(feature = "nats")]
    pub cluster: Option<cluster::Options>,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[cfg(feature = "nats")]
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[cfg(feature = "nats")]
    #[error(
        "with engine = \"nats\" all nodes need the same {name}; make one with `openssl rand -base64 32`, and give it to each \
         of them in the environment"
    )]
    SharedSecret { name: &'static str },
    #[cfg(feature = "nats")]
    #[error(
        "the secret key cannot be replaced while other nodes run that know only the one before ({nodes}); nothing was changed: stop \
         them, start this one, and then the others with the new key"
    )]
    OthersRun { nodes: String },
    #[error("cannot start a thread: {0}; raise the limits of processes and memory (ulimit -u, ulimit -v)")]
    Thread(std::io::Error),
    #[error("webhooks cannot be delivered by TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("the first organizations cannot be made: {0}")]
    FirstChannels(#[from] ChannelError),
    #[error(
        "the admin token has {chars} characters and needs at least {}, because it may do everything; make \
         one with `openssl rand -base64 32`, and give it as STENTOR_ADMIN_TOKEN or in the file of STENTOR_ADMIN_TOKEN_FILE, or \
         take the file admin-token out of the data folder and let the server make one",
        admin_token::CHARS_MIN
    )]
    ShortAdminToken { chars: usize },
    #[error("not everything could be sealed with the new secret key: {0}; start again with both keys")]
    Reseal(AppendError),
}

#[cfg(feature = "nats")]
impl HubError {
    fn of_node(self) -> HubError {
        match self {
            HubError::Folder(e) => HubError::Folder(e.of_node()),
            HubError::Cluster(ClusterError::Document(e)) => HubError::Folder(FolderError::from(e).of_node()),
            other => other,
        }
    }
}

impl From<DocumentError> for HubError {
    fn from(e: DocumentError) -> HubError {
        FolderError::from(e).into()
    }
}

/// A running engine.
pub struct Started {
    pub hub: Hub,
    pub admin_token: Zeroizing<String>,
    /// This very start has made the admin token.
    pub made_admin_token: bool,
}

impl Hub {
    /// Opens the data folder and starts the engine. To be called within a running [`actix::System`]. `admin_token` is the
    /// operator's own; without it the one in the data folder counts, which the first start makes.
    ///
    /// # Errors
    /// [`HubError`]: the data folder cannot be used (each case says what to do), the admin token is too short, a thread
    /// cannot be started, the authorities for outgoing TLS cannot be read, or the first organizations cannot be stored.
    pub async fn start(config: Config, admin_token: Option<String>) -> Result<Started, HubError> {
        #[cfg(feature = "nats")]
        if config.cluster.is_some() {
            return Hub::start_on(Ground::system(), config, admin_token).await.map_err(HubError::of_node);
        }
        Hub::start_on(Ground::system(), config, admin_token).await
    }

    /// The same on this ground.
    pub(super) async fn start_on(
        ground: Ground,
        config: Config,
        admin_token: Option<String>,
    ) -> Result<Started, HubError> {
        if let Some(token) = &admin_token {
            admin_token::check(token)?;
        }
        #[cfg(feature = "nats")]
        if config.cluster.is_some() {
            expect_shared_secrets(&config, admin_token.as_deref())?;
        }
        let Ground { disk, clock, piece_bytes, threads } = ground;
        let Config { data_dir, log: log_options, durability, journal: journal_limits, limits, .. } = config.clone();
        let usual = wal::Options::new(u64::from_le_bytes(clock.random()));
        let options = data_folder::Options {
            log: log_options,
            wal: wal::Options { durability, piece_bytes: piece_bytes.unwrap_or(usual.piece_bytes), ..usual },
        };
        let (folder, store) = data_folder::open(&disk, &data_dir, options, &clock)?;
        let Store { wal, log, documents, generations } = store;
        let log_id = wal.log_id();
        let (log, documents) = (Arc::new(log), Arc::new(documents));
        let (admin, is_new) = match admin_token {
            Some(token) => (token, false),
            None => admin_token::of_folder(&disk, &data_dir).map_err(FolderError::from)?,
        };
        admin_token::check(&admin)?;
        let (journal, queue) = Journal::new(&journal_limits);
        let budget = Arc::new(Budget::new(limits.memory_bytes));
        let metrics = Arc::new(Metrics::new(budget.clone()));
        let feed = Arc::new(Feed::default());
        let trace = Arc::new(DeliveryTrace::new(limits.traced_events));
        let (tasks, taken) = mpsc::channel();
        let upkeep = Upkeep::new(
            taken,
            wal.pieces().clone(),
            log.clone(),
            documents.clone(),
            generations,
            journal.clone(),
            clock.clone(),
        );
        let announcer = Announcer::new(feed.clone(), trace.clone());
        let committer = Committer {
            wal,
            log: log.clone(),
            documents: documents.clone(),
            announcer: announcer.with_budget(budget.clone()).with_faults(disk.faults().clone()),
            // the catalog is made of what is stored, which is complete only when the engine is open
            applied: Box::new(|_| {}),
            metrics: metrics.clone(),
            clock: clock.clone(),
            disk: disk.clone(),
            data_dir: data_dir.clone(),
            min_free_bytes: journal_limits.min_free_bytes,
            upkeep: tasks,
            rest: CommitterRest::default(),
        };
        let arbiter = threads.arbiter();
        let delivering: Vec<_> = (0..config.delivery.threads.max(1)).map(|_| threads.arbiter()).collect();
        // an engine that has to fill the folder needs it kept up from the beginning
        let store_threads = threads.keep_up(upkeep).map_err(HubError::Thread)?;
        let ownership = Arc::new(ownership_of(&config));
        let mut engine = Engine::open(&config, committer, &journal, queue, &ownership)?;
        let catalog = Arc::new(Catalog::open(journal.clone(), documents.clone(), TokenHash::of(&admin))?);
        let own_keys = OwnKeys {
            current: config.secret_key.as_deref().map(String::as_str),
            previous: config.previous_secret_key.as_deref().map(String::as_str),
        };
        let chance = KeyChance { key: clock.random(), nonce: clock.random() };
        let sealed = catalog.sealed_example();
        let sealed = sealed.as_ref().map(|(sealed, place)| (sealed, place.as_str()));
        let key = secret_key(&disk, &data_dir, own_keys, &documents, sealed, chance);
        let ProvedKey { key: seal_key, check: key_check, replaced } = key.map_err(FolderError::from)?;
        let notes = Arc::new(folder.open_notes(&disk, &data_dir, log_id, limits.min_free_bytes, &clock)?);
        engine.tell(&catalog);
        #[cfg(feature = "nats")]
        let cluster = engine.status();
        let store_threads = store_threads.run(engine).map_err(HubError::Thread)?;
        Hub::first_channels(&catalog, &documents).await?;
        #[cfg(feature = "nats")]
        if let (Some(_), Some(cluster), Some(options)) = (&replaced, &cluster, &config.cluster) {
            // each says that it is there several times in this
            clock::sleep(options.silent).await;
            let others = cluster.others(options.silent);
            if !others.is_empty() {
                return Err(HubError::OthersRun { nodes: others.join(", ") });
            }
        }
        let key_check = match replaced {
            None => key_check,
            Some(before) => reseal(&catalog, &journal, &before, &seal_key, key_check).await.map(|()| None)?,
        };
        store_at_start(&catalog, &journal, key_check).await?;

        let seal_key = Arc::new(seal_key);
        let threads_of = |name, nice| Compute::start(name, compute_threads(limits.compute_threads), nice);
        let compute = threads_of("compute", COMPUTE_NICE).map_err(HubError::Thread)?;
        let scan_threads = threads_of("scan", SCAN_NICE).map_err(HubError::Thread)?;
        let readers = Compute::start("reader", reader_threads(), READER_NICE).map_err(HubError::Thread)?;
        let handles = StreamHandles {
            view: View::new(log.clone(), catalog.clone()),
            feed: feed.clone(),
            trace: trace.clone(),
            metrics: metrics.clone(),
            budget: budget.clone(),
            compute: compute.clone(),
            readers: readers.clone(),
            faults: disk.faults().clone(),
        };
        let streams = Streams::start(handles, limits.streams.clone(), &arbiter);
        let system = SystemEvents::new(journal.clone(), catalog.clone());
        let settings = config.delivery.clone();
        let delivery = Arc::new(DeliveryHandles {
            log: log.clone(),
            documents: documents.clone(),
            journal: journal.clone(),
            feed: feed.clone(),
            catalog: catalog.clone(),
            system: system.clone(),
            delivery_log: DeliveryLog::new(notes.clone(), &settings),
            metrics: metrics.clone(),
            target_check: Arc::new(TargetCheck::new(settings.policy.clone(), config.resolver.clone())),
            handshakes: Handshakes::default(),
            tls: tls::client_config(settings.tls_ca_file.as_deref())?,
            settings,
            seal_key: seal_key.clone(),
            page_bytes: limits.page_bytes,
            compute: compute.clone(),
            readers: readers.clone(),
            answer_timeout: journal_limits.answer_timeout,
            late_writes: LateWrites::default(),
            ownership,
            faults: disk.faults().clone(),
        });
        let webhook_actors = WebhookActors::new(delivery.clone(), delivering.clone());
        let sources = Arc::new(SourceRegistry::new(config.sources));
        for source in catalog.sources() {
            // notes that stay closed for now do not keep the server from starting
            let stats = counters::stored(&notes, &source.id).map_or_else(
                |e| {
                    let id = &*source.id;
                    log::error!(source = id; "a source counts from nothing until its counters can be read: {e}; {}", e.cure());
                    SourceStats::unread()
                },
                SourceStats::restored,
            );
            sources.put(ActiveSource::new(Source::clone(&source), Arc::new(stats), &seal_key));
        }
        let counters = SourceCounters::new(sources.clone(), catalog.clone(), notes.clone(), system.clone());
        let scans_per_token = limits.scans.per_token;
        let rooms = Arc::new(Rooms {
            frames: FrameReader::new(log.clone(), catalog.clone()),
            limits,
            clock,
            disk,
            log: log.clone(),
            figures: Figures::new(notes.clone()),
            token_uses: TokenUses::restore(notes.clone(), |id| catalog.read(|tables| tables.last_use(id).cloned())),
            notes,
            journal,
            feed,
            catalog: catalog.clone(),
            system,
            streams,
            delivery,
            webhook_actors: webhook_actors.clone(),
            sources,
            counters,
            metrics,
            budget,
            compute,
            scan_threads,
            readers,
            scans: Scans::new(scans_per_token),
            trace,
            clock_jumped_ms: AtomicI64::new(0),
            data_dir,
            #[cfg(feature = "nats")]
            cluster: cluster.clone(),
            _folder: folder,
        });
        #[cfg(feature = "nats")]
        if let Some(cluster) = &cluster {
            cluster.share_counts(rooms.streams.counted().clone());
            cluster.set_slots_sink(effects::slots_sink(&rooms, arbiter.clone()));
        }
        let updates = Updates::new(catalog.clone(), log, webhook_actors, arbiter.clone());
        catalog.set_sink(effects::sink(&rooms, &updates, arbiter.clone()));
        rooms.counters.start(&arbiter);
        Janitor::start(rooms.clone(), &arbiter);
        figures::start(rooms.clone(), &arbiter);
        sweep_notes(rooms.clone());
        let hub = Hub {
            rooms,
            updates,
            backups: Arc::new(tokio::sync::Semaphore::new(1)),
            arbiter: Arc::new(arbiter),
            delivering: delivering.into(),
            store_threads: Arc::new(parking_lot::Mutex::new(store_threads)),
        };
        Ok(Started { hub, admin_token: admin.into(), made_admin_token: is_new })
    }

    /// Whether [`Hub::start`] can go well, as far as that is known while another server runs on the data folder. Blocks.
    ///
    /// # Errors
    /// A newer version has written the folder, or the admin token is too short.
    pub fn expect_start(data_dir: &Path, admin_token: Option<&str>) -> Result<(), HubError> {
        admin_token.map_or(Ok(()), admin_token::check)?;
        data_folder::has_format(&Disk::real(), data_dir)?;
        Ok(())
    }

    /// Ends all sessions with a clean close, and opens no more.
    pub async fn end_sessions(&self, end: SessionEnd) {
        self.rooms.streams.close_all(end).await;
    }

    /// Lets the attempts in flight end and makes no new ones; gives up waiting after `patience`, and what was in flight is
    /// made again at the next start.
    pub async fn end_deliveries(&self, patience: Duration) {
        if clock::timeout(patience, self.rooms.webhook_actors.stop()).await.is_err() {
            log::warn!("attempts of webhooks were still under way and will be made again");
        }
    }

    /// Delivers again after [`Hub::end_deliveries`]: the server goes on after all.
    pub fn resume_deliveries(&self) {
        let webhooks = self.rooms.catalog.webhooks(None);
        self.rooms.webhook_actors.resume(webhooks.iter().map(|webhook| webhook.id.clone()));
    }

    /// Commits what is queued, writes the documents and ends the engine's threads. To be called when nothing listens any
    /// more; gives up waiting after `patience`.
    pub async fn stop(&self, patience: Duration) {
        if clock::timeout(patience, self.rooms.counters.write_down()).await.is_err() {
            log::error!("the counters of sources of the last second are lost: the disk takes too long");
        }
        figures::sample(&self.rooms);
        if clock::timeout(patience, figures::write(&self.rooms)).await.is_err() {
            log::error!("the figures of the last half minute are lost: the disk takes too long");
        }
        self.rooms.journal.stop();
        let threads = self.store_threads.lock().take();
        if let Some(StoreThreads { journal, upkeep }) = threads {
            let ended = compute::blocking(move || (journal.join(), upkeep.join()));
            match clock::timeout(patience, ended).await {
                Ok(Ok((Ok(()), Ok(())))) => {}
                Ok(_) => log::error!("a thread of the store panicked at the end; what was acknowledged is durable"),
                Err(_) => log::error!("the end of the store takes too long; what was acknowledged is durable"),
            }
        }
        let rooms = self.rooms.clone();
        let closed = compute::blocking(move || rooms.notes.close());
        match clock::timeout(patience, closed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(e))) => log::error!("the notes were not closed in order: {e}"),
            Ok(Err(_)) | Err(_) => log::error!("the notes were not closed in order"),
        }
        self.rooms.compute.stop();
        self.rooms.scan_threads.stop();
        self.rooms.readers.stop();
        for thread in self.delivering.iter() {
            thread.stop();
        }
        self.arbiter.stop();
    }
}

/// What one node would make for itself the others would not know.
#[cfg(feature = "nats")]
fn expect_shared_secrets(config: &Config, admin_token: Option<&str>) -> Result<(), HubError> {
    match (config.secret_key.is_some(), admin_token.is_some()) {
        (false, _) => Err(HubError::SharedSecret { name: "STENTOR_SECRET_KEY" }),
        (_, false) => Err(HubError::SharedSecret { name: "STENTOR_ADMIN_TOKEN" }),
        (true, true) => Ok(()),
    }
}

/// A node among many owns only what it has claimed.
fn ownership_of(config: &Config) -> Ownership {
    #[cfg(feature = "nats")]
    if config.cluster.is_some() {
        return Ownership::of_slots();
    }
    #[cfg(not(feature = "nats"))]
    let _ = config;
    Ownership::default()
}

/// Streams and deliveries wait for this work, so it comes before scans; what serves requests comes before both.
const COMPUTE_NICE: Nice = Nice(5);
const SCAN_NICE: Nice = Nice(10);
/// Deliveries are among those who read, and whoever publishes or has an event handed on comes before all of them.
const READER_NICE: Nice = Nice(4);

/// Reads wait for the disk, so there may be more of them than cores.
fn reader_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get()).saturating_mul(2).max(4)
}

/// `asked` 0: half of the cores, so that the other half is always there for those who ask for little.
fn compute_threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1),
        asked => asked,
    }
}

/// Stores what follows from the start itself: the proof of the secret key, and the deletion of what a crash left of webhooks
/// that were being deleted. The journal's errors are no reason not to start.
async fn store_at_start(
    catalog: &Catalog,
    journal: &Journal,
    key_check: Option<crate::documents::Change>,
) -> Result<(), DocumentError> {
    let mut changes = catalog.orphans()?;
    changes.extend(key_check);
    if changes.is_empty() {
        return Ok(());
    }
    let request = DocumentChanges { changes, urgency: Urgency::Reserve, ..DocumentChanges::default() };
    if let Err(e) = journal.persist(request).await {
        log::warn!("what the start has to store is stored at the next one: {e}");
    }
    Ok(())
}

/// Deletes the notes of webhooks and sources that do not exist any more, beside everything else.
fn sweep_notes(rooms: Arc<Rooms>) {
    compute::blocking(move || {
        let catalog = &rooms.catalog;
        rooms.delivery.delivery_log.sweep(|webhook| catalog.webhook(webhook).is_some());
        let swept = dead_letters::sweep(&rooms.notes, |source| catalog.source(source).is_some());
        if let Err(e) = swept {
            log::warn!("the dead letters of deleted sources are deleted at the next start: {e}");
        }
    });
}
