//! Start, stop and health of the engine.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use zeroize::Zeroizing;

use super::data_folder::{self, FolderError};
use super::figures::{self, Figures};
use super::janitor::Janitor;
use super::rooms::Rooms;
use super::scan::Scans;
use super::webhooks::Updates;
use super::{ChannelError, Hub, Limits, effects};
use crate::budget::Budget;
use crate::catalog::Catalog;
use crate::catalog::reader::FrameReader;
use crate::catalog::source::Source;
use crate::catalog::system::SystemEvents;
use crate::clock::Clock;
use crate::compute::{Compute, Nice};
use crate::delivery::delivery_log::DeliveryLog;
use crate::delivery::handles::{Handles as DeliveryHandles, LateWrites, Settings as DeliverySettings};
use crate::delivery::handshake::Handshakes;
use crate::delivery::http::resolver::Resolver;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::http::tls::{self, TlsError};
use crate::delivery::registry::WebhookActors;
use crate::disk::{Disk, DiskError, Point};
use crate::documents::{DocumentError, KeyChance, secret_key};
use crate::feed::trace::DeliveryTrace;
use crate::feed::{Announcer, Feed};
use crate::ingest::counters::{self, SourceCounters};
use crate::ingest::dead_letters;
use crate::ingest::registry::{ActiveSource, SourceLimits, SourceRegistry, SourceStats};
use crate::journal::{
    self, Committer, CommitterRest, DocumentChanges, Journal, JournalLimits, Rest, Store, Upkeep, Urgency, Worker,
};
use crate::log::LogOptions;
use crate::metrics::Metrics;
use crate::model::access::{TokenHash, secret_text};
use crate::model::id::{EventId, IdSource};
use crate::streams::{Handles as StreamHandles, SessionEnd, Streams, View};
use crate::wal;

/// What the engine needs to know to start.
#[derive(Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub log: LogOptions,
    pub durability: wal::Durability,
    pub journal: JournalLimits,
    pub limits: Limits,
    pub delivery: DeliverySettings,
    pub sources: SourceLimits,
    /// The key that seals secrets, as base64; without it the one in the data folder counts, which the first start makes.
    pub secret_key: Option<Zeroizing<String>>,
    /// How webhooks look up names.
    pub resolver: Resolver,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot start a thread: {0}; raise the limits of processes and memory (ulimit -u, ulimit -v)")]
    Thread(std::io::Error),
    #[error("webhooks cannot be delivered by TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("the first organizations cannot be made: {0}")]
    FirstChannels(#[from] ChannelError),
    #[error(
        "the admin token has {chars} characters and needs at least {ADMIN_TOKEN_CHARS_MIN}, because it may do everything; make \
         one with `openssl rand -base64 32`, and give it as STENTOR_ADMIN_TOKEN or in the file of STENTOR_ADMIN_TOKEN_FILE, or \
         take the file admin-token out of the data folder and let the server make one"
    )]
    ShortAdminToken { chars: usize },
}

/// The shortest admin token in characters.
pub const ADMIN_TOKEN_CHARS_MIN: usize = 20;

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

/// Damaged ranges that readiness lists.
pub const DAMAGE_SHOWN: usize = 20;

/// The health of the engine, as `/health/ready` shows it.
#[derive(Clone, Debug)]
pub struct Health {
    pub journal_writable: bool,
    /// Publishes and changes are refused because the disk is full, or nearly.
    pub storage_full: bool,
    pub disk_free_bytes: Option<u64>,
    /// Damaged segments of which something could not be recovered.
    pub quarantined: Vec<String>,
    /// Ranges of ids in which events are missing because of damage.
    pub damaged_ranges: usize,
    /// The newest of them, at most [`DAMAGE_SHOWN`]: the ids before the first and of the last event that may be missing.
    pub damage: Vec<(EventId, EventId)>,
    /// The delivery log, counters and dead letters were lost, and nobody was told yet.
    pub notes_lost: bool,
    /// By how much the wall clock was set since the start, in milliseconds; negative: back.
    pub clock_jumped_ms: i64,
    pub queue_events: usize,
}

/// The threads of the store, in the order in which they end.
pub(super) struct StoreThreads {
    journal: std::thread::JoinHandle<()>,
    upkeep: std::thread::JoinHandle<()>,
}

impl Hub {
    /// Opens the data folder and starts the engine. To be called within a running [`actix::System`]. `admin_token` is the
    /// operator's own; without it the one in the data folder counts, which the first start makes.
    ///
    /// # Errors
    /// [`HubError`]: the data folder cannot be used (each case says what to do), the admin token is too short, a thread
    /// cannot be started, the authorities for outgoing TLS cannot be read, or the first organizations cannot be stored.
    pub async fn start(config: Config, admin_token: Option<String>) -> Result<Started, HubError> {
        if let Some(token) = &admin_token {
            check_admin_token(token)?;
        }
        let (disk, clock) = (Disk::real(), Clock::system());
        let Config { data_dir, log: log_options, durability, journal: journal_limits, limits, .. } = config.clone();
        let options = data_folder::Options {
            log: log_options,
            wal: wal::Options { durability, ..wal::Options::new(u64::from_le_bytes(clock.random())) },
        };
        let (folder, store) = data_folder::open(&disk, &data_dir, options, &clock)?;
        let Store { wal, log, documents, generations } = store;
        let (log, documents) = (Arc::new(log), Arc::new(documents));
        let (admin, is_new) = match admin_token {
            Some(token) => (token, false),
            None => admin_token_file(&disk, &data_dir).map_err(FolderError::from)?,
        };
        check_admin_token(&admin)?;
        let (journal, queue) = Journal::new(&journal_limits);
        let catalog = Arc::new(Catalog::open(journal.clone(), documents.clone(), TokenHash::of(&admin))?);
        let own_key = config.secret_key.as_ref().map(|text| text.as_str());
        let chance = KeyChance { key: clock.random(), nonce: clock.random() };
        let sealed = catalog.sealed_example();
        let sealed = sealed.as_ref().map(|(sealed, place)| (sealed, place.as_str()));
        let key = secret_key(&disk, &data_dir, own_key, &documents, sealed, chance);
        let (seal_key, key_check) = key.map_err(FolderError::from)?;
        let notes = Arc::new(folder.open_notes(&disk, &data_dir, limits.min_free_bytes, &clock)?);

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
        let for_worker = Arc::downgrade(&catalog);
        let announcer = Announcer::new(feed.clone(), trace.clone());
        let worker = Worker {
            queue,
            ids: IdSource::after(log.head()),
            committer: Committer {
                wal,
                log: log.clone(),
                documents: documents.clone(),
                announcer: announcer.with_budget(budget.clone()).with_faults(disk.faults().clone()),
                // held weakly: the catalog holds the queue's other end, by whose loss the worker ends
                applied: Box::new(move |changes| {
                    if let Some(catalog) = for_worker.upgrade() {
                        catalog.apply(changes);
                    }
                }),
                metrics: metrics.clone(),
                clock: clock.clone(),
                disk: disk.clone(),
                data_dir: data_dir.clone(),
                min_free_bytes: journal_limits.min_free_bytes,
                upkeep: tasks,
                rest: CommitterRest::default(),
            },
            limits: journal_limits.clone(),
            rest: Rest::default(),
        };
        let threads = StoreThreads {
            upkeep: upkeep.spawn().map_err(HubError::Thread)?,
            journal: journal::spawn(worker).map_err(HubError::Thread)?,
        };
        Hub::first_channels(&catalog, &documents).await?;
        store_at_start(&catalog, &journal, key_check).await?;

        let arbiter = actix_rt::Arbiter::new().handle();
        let delivering: Vec<_> =
            (0..config.delivery.threads.max(1)).map(|_| actix_rt::Arbiter::new().handle()).collect();
        let seal_key = Arc::new(seal_key);
        let threads_of = |name, nice| Compute::start(name, compute_threads(limits.compute_threads), nice);
        let compute = threads_of("compute", COMPUTE_NICE).map_err(HubError::Thread)?;
        let scan_threads = threads_of("scan", SCAN_NICE).map_err(HubError::Thread)?;
        let handles = StreamHandles {
            view: View::new(log.clone(), catalog.clone()),
            feed: feed.clone(),
            trace: trace.clone(),
            metrics: metrics.clone(),
            budget: budget.clone(),
            compute: compute.clone(),
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
            answer_timeout: journal_limits.answer_timeout,
            late_writes: LateWrites::default(),
            faults: disk.faults().clone(),
        });
        let webhook_actors = WebhookActors::new(delivery.clone(), delivering.clone());
        let sources = Arc::new(SourceRegistry::new(config.sources));
        for source in catalog.sources() {
            let counts = counters::stored(&notes, &source.id).map_err(FolderError::from)?;
            sources.put(ActiveSource::new(Source::clone(&source), Arc::new(SourceStats::restored(counts)), &seal_key));
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
            scans: Scans::new(scans_per_token),
            trace,
            clock_jumped_ms: AtomicI64::new(0),
            data_dir,
            _folder: folder,
        });
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
            store_threads: Arc::new(parking_lot::Mutex::new(Some(threads))),
        };
        Ok(Started { hub, admin_token: admin.into(), made_admin_token: is_new })
    }

    /// Whether [`Hub::start`] can go well, as far as that is known while another server runs on the data folder. Blocks.
    ///
    /// # Errors
    /// A newer version has written the folder, or the admin token is too short.
    pub fn expect_start(data_dir: &Path, admin_token: Option<&str>) -> Result<(), HubError> {
        admin_token.map_or(Ok(()), check_admin_token)?;
        data_folder::has_format(&Disk::real(), data_dir)?;
        Ok(())
    }

    pub async fn health(&self) -> Health {
        let rooms = self.rooms.clone();
        let free = actix_rt::task::spawn_blocking(move || rooms.disk.free_bytes(&rooms.data_dir)).await;
        let stats = self.rooms.log.stats();
        Health {
            journal_writable: self.rooms.journal.writable(),
            storage_full: self.rooms.journal.storage_full(),
            // a system that does not answer is one whose disk is not known
            disk_free_bytes: free.ok().flatten(),
            quarantined: stats.quarantined,
            damaged_ranges: stats.damaged_ranges,
            damage: self
                .rooms
                .log
                .newest_damage(DAMAGE_SHOWN)
                .iter()
                .map(|range| (range.after, range.through))
                .collect(),
            notes_lost: self.rooms.notes.was_lost(),
            clock_jumped_ms: self.rooms.clock_jumped_ms.load(Ordering::Relaxed),
            queue_events: self.rooms.journal.queued(),
        }
    }

    /// Ends all sessions with a clean close, and opens no more.
    pub async fn end_sessions(&self, end: SessionEnd) {
        self.rooms.streams.close_all(end).await;
    }

    /// Lets the attempts in flight end and makes no new ones; gives up waiting after `patience`, and what was in flight is
    /// made again at the next start.
    pub async fn end_deliveries(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.rooms.webhook_actors.stop()).await.is_err() {
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
        if tokio::time::timeout(patience, self.rooms.counters.write_down()).await.is_err() {
            log::error!("the counters of sources of the last second are lost: the disk takes too long");
        }
        figures::sample(&self.rooms);
        if tokio::time::timeout(patience, figures::write(&self.rooms)).await.is_err() {
            log::error!("the figures of the last half minute are lost: the disk takes too long");
        }
        self.rooms.journal.stop();
        let threads = self.store_threads.lock().take();
        if let Some(StoreThreads { journal, upkeep }) = threads {
            let ended = actix_rt::task::spawn_blocking(move || (journal.join(), upkeep.join()));
            match tokio::time::timeout(patience, ended).await {
                Ok(Ok((Ok(()), Ok(())))) => {}
                Ok(_) => log::error!("a thread of the store panicked at the end; what was acknowledged is durable"),
                Err(_) => log::error!("the end of the store takes too long; what was acknowledged is durable"),
            }
        }
        let rooms = self.rooms.clone();
        let closed = actix_rt::task::spawn_blocking(move || rooms.notes.close());
        match tokio::time::timeout(patience, closed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(e))) => log::error!("the notes were not closed in order: {e}"),
            Ok(Err(_)) | Err(_) => log::error!("the notes were not closed in order"),
        }
        self.rooms.compute.stop();
        self.rooms.scan_threads.stop();
        for thread in self.delivering.iter() {
            thread.stop();
        }
        self.arbiter.stop();
    }
}

/// Streams and deliveries wait for this work, so it comes before scans; what serves requests comes before both.
const COMPUTE_NICE: Nice = Nice(5);
const SCAN_NICE: Nice = Nice(10);

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
    actix_rt::task::spawn_blocking(move || {
        let catalog = &rooms.catalog;
        rooms.delivery.delivery_log.sweep(|webhook| catalog.webhook(webhook).is_some());
        let swept = dead_letters::sweep(&rooms.notes, |source| catalog.source(source).is_some());
        if let Err(e) = swept {
            log::warn!("the dead letters of deleted sources are deleted at the next start: {e}");
        }
    });
}

fn check_admin_token(token: &str) -> Result<(), HubError> {
    match token.chars().count() {
        chars if chars < ADMIN_TOKEN_CHARS_MIN => Err(HubError::ShortAdminToken { chars }),
        _ => Ok(()),
    }
}

/// The token in the data folder, made when there is none: (token, made now). Blocks.
fn admin_token_file(disk: &Disk, data_dir: &Path) -> Result<(String, bool), DiskError> {
    let path = data_dir.join("admin-token");
    match disk.read(Point::SecretKeyRead, &path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            if !text.is_empty() {
                return Ok((text, false));
            }
        }
        Err(e) if e.is_missing() => {}
        Err(e) => return Err(e),
    }
    let token = secret_text("sta_", crate::clock::random());
    disk.replace(Point::SecretKeyWrite, &path, token.as_bytes())?;
    Ok((token, true))
}
