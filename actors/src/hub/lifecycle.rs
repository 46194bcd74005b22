//! Start and stop of the engine, and how it is.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::Supervisor;
use zeroize::Zeroizing;

use super::Hub;
use super::webhooks::Updates;
use super::{ChannelError, effects};
use crate::catalog::Catalog;
use crate::catalog::reader::FrameReader;
use crate::catalog::source::Source;
use crate::catalog::system::SystemEvents;
use crate::clock;
use crate::delivery::http::client::tls_config;
use crate::delivery::http::resolver::Resolver;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::registry::{WebhookConfig, WebhookRegistry};
use crate::delivery::supervisor::{StopAll, Supervisor as WebhookSupervisor};
use crate::documents::DocumentError;
use crate::engine::Engine;
use crate::feed::trace::DeliveryTrace;
use crate::feed::{Announcer, Feed};
use crate::hub::janitor::Janitor;
use crate::ingest::counters::{SourceCounters, WriteDown};
use crate::ingest::dead_letters::{self, DeadLetters};
use crate::ingest::registry::{ActiveSource, Counts, SourceLimits, SourceRegistry, SourceStats};
use crate::journal::{self, DocumentChanges, Journal, JournalLimits, Urgency, Worker};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::model::access::{TokenHash, secret_text};
use crate::model::id::IdSource;
use crate::store::{self, DataLock, Log, State, StoreError, Table};
use crate::streams::registry::Registry;
use crate::streams::shard::CloseAll;
use crate::streams::slots::Slots;
use crate::streams::tickets::Tickets;

/// What the engine needs to know to start.
#[derive(Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub log: store::Options,
    pub journal: JournalLimits,
    pub limits: Limits,
    pub webhooks: WebhookConfig,
    pub sources: SourceLimits,
    /// The key that seals secrets, as base64; without it the one in the data folder counts, which the first start makes.
    pub secret_key: Option<Zeroizing<String>>,
    /// How webhooks look up names.
    pub resolver: Resolver,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the engine's thread did not start")]
    Arbiter,
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the first organizations cannot be made: {0}")]
    FirstChannels(#[from] ChannelError),
}

/// A running engine.
pub struct Started {
    pub hub: Hub,
    /// The admin token, when it was made by this very start.
    pub new_admin_token: Option<String>,
}

/// How the engine is, for readiness.
#[derive(Clone, Debug)]
pub struct Health {
    pub journal_writable: bool,
    pub disk_free_bytes: Option<u64>,
    pub quarantined: Vec<String>,
    pub queue_events: usize,
}

impl Hub {
    /// Opens the data folder and starts the engine. To be called within a running [`actix::System`]. `admin_token` is the
    /// operator's own; without it the one in the data folder counts, which the first start makes.
    pub async fn start(config: Config, admin_token: Option<String>) -> Result<Started, HubError> {
        let Config { data_dir, log: options, journal: journal_limits, limits, webhooks, sources, secret_key, resolver } =
            config;
        let lock = DataLock::take(&data_dir)?;
        store::backup::refuse_half(&data_dir)?;
        let state = Arc::new(State::open(&data_dir, options.durability)?);
        let (log, _) = Log::open(options, clock::now_ms())?;
        let log = Arc::new(log);

        let (admin, is_new) = match admin_token {
            Some(token) => (token, false),
            None => admin_token_file(&data_dir)?,
        };
        let documents = Arc::new(state.documents()?);
        let (journal, queue) = Journal::new(&journal_limits);
        let catalog = Arc::new(Catalog::open(journal.clone(), documents.clone(), TokenHash::of(&admin))?);

        let key = store::secret_key(&data_dir, secret_key.as_ref().map(|text| text.as_str()))?;
        let threads: Vec<_> = (0..webhooks.threads.max(1)).map(|_| actix_rt::Arbiter::new().handle()).collect();
        let target_check = TargetCheck::new(webhooks.policy.clone(), resolver);
        let webhook_registry = WebhookRegistry::new(webhooks, target_check, tls_config(&[])?, key);
        let source_registry = SourceRegistry::new(sources);
        for source in catalog.sources() {
            let counts = state.get::<Counts>(Table::SourceCounts, &*source.id)?.unwrap_or_default();
            let letters = DeadLetters::of(&dead_letters::heads(&state, &source.id)?);
            source_registry.put(ActiveSource::new(
                Source::clone(&source),
                Arc::new(SourceStats::restored(counts, letters)),
                &webhook_registry.key,
            ));
        }

        let arbiter = actix_rt::Arbiter::new().handle();
        let metrics = Arc::new(Metrics::default());
        let feed = Arc::new(Feed::default());
        let registry = {
            let (feed, log, ring, idle) = (feed.clone(), log.clone(), limits.ring, limits.channel_idle);
            Supervisor::start_in_arbiter(&arbiter, move |_| Registry::new(feed, log, ring, idle))
        };
        let tickets = {
            let (ttl, most) = (limits.ticket_ttl, limits.tickets);
            Supervisor::start_in_arbiter(&arbiter, move |_| Tickets::new(ttl, most))
        };
        let trace = Arc::new(DeliveryTrace::new(limits.traced_events));
        let for_worker = Arc::downgrade(&catalog);
        let worker = Worker {
            queue,
            log: log.clone(),
            state: state.clone(),
            documents: documents.clone(),
            announcer: Announcer::new(feed.clone(), trace.clone()),
            // held weakly: the catalog holds the queue's other end, by whose loss the worker ends
            applied: Box::new(move |changes| {
                if let Some(catalog) = for_worker.upgrade() {
                    catalog.apply(changes);
                }
            }),
            metrics: metrics.clone(),
            limits: journal_limits,
            ids: IdSource::after(log.head()),
        };
        let thread = journal::spawn(worker).map_err(|source| HubError::Io {
            what: "cannot start the journal of",
            path: data_dir.clone(),
            source,
        })?;
        Hub::first_channels(&catalog, &documents).await?;
        delete_orphans(&catalog, &journal).await?;
        let slots = Slots::new(limits.streams);
        let engine = Arc::new(Engine {
            limits,
            frames: FrameReader::new(log.clone(), catalog.clone()),
            system: SystemEvents::new(journal.clone(), catalog.clone()),
            log,
            state,
            documents,
            journal,
            feed,
            registry,
            tickets,
            catalog,
            slots,
            metrics,
            trace,
            webhook_registry,
            source_registry,
            data_dir,
            lock,
        });
        let for_janitor = engine.clone();
        Supervisor::start_in_arbiter(&arbiter, move |_| Janitor::new(for_janitor));
        let for_keeper = engine.clone();
        let counters = Supervisor::start_in_arbiter(&arbiter, move |_| SourceCounters::new(for_keeper));
        let (for_webhooks, delivering) = (engine.clone(), threads.clone());
        let webhooks =
            Supervisor::start_in_arbiter(&arbiter, move |_| WebhookSupervisor::new(for_webhooks, delivering));
        let updates = Updates::new(engine.clone(), webhooks.clone(), arbiter.clone());
        let registry = engine.registry.clone();
        engine.catalog.set_sink(effects::sink(&engine, registry, &updates, arbiter.clone()));
        let hub = Hub {
            engine,
            updates,
            backups: Arc::new(tokio::sync::Semaphore::new(1)),
            arbiter: Arc::new(arbiter),
            supervisor: webhooks,
            counters,
            threads: threads.into(),
            journal_thread: Arc::new(parking_lot::Mutex::new(Some(thread))),
        };
        Ok(Started { hub, new_admin_token: is_new.then_some(admin) })
    }

    pub async fn health(&self) -> Health {
        let engine = self.engine.clone();
        let free = actix_rt::task::spawn_blocking(move || engine.free_disk_bytes()).await;
        Health {
            journal_writable: self.engine.journal.writable(),
            // a system that does not answer is one whose disk is not known
            disk_free_bytes: free.ok().flatten(),
            quarantined: self.engine.log.stats().quarantined,
            queue_events: self.engine.journal.queued(),
        }
    }

    /// Ends all sessions with a clean close.
    pub async fn end_sessions(&self) {
        // without a registry there are no sessions
        let _ = self.engine.registry.send(CloseAll).await;
    }

    /// Lets the attempts in flight end and makes no new ones; gives up waiting after `patience`, and what was in flight is
    /// made again at the next start.
    pub async fn end_deliveries(&self, patience: Duration) {
        let ended = self.supervisor.send(StopAll);
        if tokio::time::timeout(patience, ended).await.is_err() {
            log::warn!("attempts of webhooks were still under way and will be made again");
        }
    }

    /// Commits what is queued, flushes the store and ends the engine's threads. To be called when nothing listens any
    /// more; gives up waiting after `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.engine.journal.stop();
        let thread = self.journal_thread.lock().take();
        if let Some(thread) = thread {
            let ended = actix_rt::task::spawn_blocking(move || thread.join());
            if tokio::time::timeout(patience, ended).await.is_err() {
                log::error!("the last commit takes too long; what was acknowledged is durable");
            }
        }
        // without its actor the counters of the last second are lost, and nothing else
        let _ = tokio::time::timeout(patience, self.counters.send(WriteDown)).await;
        if let Err(e) = self.blocking(|engine| engine.state.sync()).await {
            log::error!("the last flush failed: {e}");
        }
        for thread in self.threads.iter() {
            thread.stop();
        }
        self.arbiter.stop();
    }
}

/// Deletes what a crash left of webhooks that were being deleted. The journal's errors are no reason not to start.
async fn delete_orphans(catalog: &Catalog, journal: &Journal) -> Result<(), DocumentError> {
    let changes = catalog.orphans()?;
    if changes.is_empty() {
        return Ok(());
    }
    let count = changes.len();
    let deletion = DocumentChanges { changes, urgency: Urgency::Reserve, ..DocumentChanges::default() };
    match journal.persist(deletion).await {
        Ok(()) => log::info!(count; "what was left of deleted webhooks is deleted"),
        Err(e) => log::warn!(count; "what is left of deleted webhooks is deleted at the next start: {e}"),
    }
    Ok(())
}

/// The token in the data folder, made when there is none: (token, made now).
fn admin_token_file(data_dir: &Path) -> Result<(String, bool), HubError> {
    let path = data_dir.join("admin-token");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok((text.trim().into(), false)),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(HubError::Io { what: "cannot read", path, source }),
    }
    let token = secret_text("sta_", clock::random());
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(token.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| HubError::Io { what: "cannot write", path: path.clone(), source })?;
    Ok((token, true))
}
