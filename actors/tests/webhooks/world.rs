//! A hub on a folder of its own, which can be stopped and started again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::delivery::handles::Settings as DeliverySettings;
use actors::delivery::http::resolver::Resolver;
use actors::hub::sources::SourceLimits;
use actors::hub::webhooks::{ApiFamily, RetryPolicyForm, Webhook, WebhookSpec};
use actors::hub::{Config, Hub, HubLimits, NewMap, ScanLimits, WebhookLimits};
use actors::journal::JournalLimits;
use actors::log::{LogOptions, Retention};
use actors::model::access::{Principal, Reach};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::delivery::RetryPolicy;
use actors::model::event::{Draft, EventType};
use actors::model::id::EventId;
use actors::model::json::Canonical;
use actors::model::target::Policy;
use actors::streams::limits::{RingLimits, SlotLimits, StreamLimits};
use actors::streams::tickets::TicketLimits;
use actors::wal::Durability;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub hub: Hub,
    pub map: Arc<Channel>,
    config: Config,
    folder: tempfile::TempDir,
}

/// As long as an admin token has to be.
const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

fn config(folder: &Path) -> Config {
    let second = Duration::from_secs(1);
    Config {
        data_dir: folder.into(),
        durability: Durability::Flush,
        log: LogOptions {
            segment_max_bytes: 1 << 28,
            segment_max_age_ms: 86_400_000,
            open_segments: 4,
            retention: Retention::default(),
            dedupe_window_ms: 86_400_000,
            dedupe_keys: 1_000,
        },
        journal: JournalLimits {
            queue_events: 10_000,
            queue_bytes: 1 << 24,
            batch_events: 1_000,
            batch_bytes: 1 << 20,
            answer_timeout: Duration::from_secs(60),
            min_free_bytes: 0,
        },
        limits: HubLimits {
            streams: StreamLimits {
                ring: RingLimits { events: 100, bytes: 1 << 20 },
                write_bytes: 1 << 16,
                page_events: 1_000,
                page_bytes: 1 << 18,
                keepalive: 30 * second,
                heartbeat: 20 * second,
                stall_timeout: 30 * second,
                channel_idle: 300 * second,
                retry: 3 * second,
                slots: SlotLimits { total: 0, per_channel: 0, per_token: 0 },
                ticket_ttl: 30 * second,
                tickets: TicketLimits { total: 10, per_token: 0 },
            },
            memory_bytes: 1 << 28,
            page_events: 1_000,
            page_bytes: 1 << 18,
            traced_events: 1_000,
            scans: ScanLimits { events: 100_000, filter_steps: 10_000_000, per_token: 4 },
            compute_threads: 1,
            channels: 100,
            tokens_per_channel: 10,
            webhooks: WebhookLimits {
                schedule: RetryPolicy::map_default(),
                per_map: 5,
                per_organization: 100,
                per_document: 100,
            },
            min_free_bytes: 0,
        },
        delivery: DeliverySettings {
            policy: Policy { dev: true, ..Policy::default() },
            tls_ca_file: None,
            attempt_timeout: 5 * second,
            connect_timeout: 2 * second,
            disable_after: 432_000 * second,
            max_in_flight: 16,
            handshake_origin: None,
            manual_attempts: 1_000,
            replays: 4,
            log_deliveries: 100,
            log_max_age: 86_400 * second,
            unsaved: second / 4,
            threads: 1,
        },
        sources: SourceLimits { per_channel: 10, dead_letters: 10, dead_letters_bytes: 1 << 16 },
        secret_key: None,
        previous_secret_key: None,
        #[cfg(feature = "nats")]
        cluster: None,
        resolver: Resolver::system(),
    }
}

impl World {
    /// A hub with one map whose webhooks are switched on.
    pub async fn start() -> World {
        World::start_with(|_| {}).await
    }

    /// The same with something changed about its configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(folder.path());
        change(&mut config);
        let hub = Hub::start(config.clone(), Some(ADMIN_TOKEN.into())).await.expect("it starts").hub;
        let new = NewMap { name: "Home".into(), slug: Some("home".into()), ..NewMap::default() };
        let (map, _) = hub.create_map(new).await.expect("a map");
        let map = hub.toggle_webhooks(&map, true).await.expect("webhooks on");
        World { hub, map, config, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops the hub in order and starts another one on the same folder.
    pub async fn restart(self) -> World {
        self.restart_after(|_| {}).await
    }

    /// The same, with something done to the folder while no hub runs.
    pub async fn restart_after(self, change: impl FnOnce(&Path)) -> World {
        let World { hub, config, folder, .. } = self;
        hub.end_deliveries(PATIENCE).await;
        hub.stop(PATIENCE).await;
        drop(hub);
        change(folder.path());
        let begun = Instant::now();
        let hub = loop {
            // the actors of the first hub hold the folder until their threads have ended
            match Hub::start(config.clone(), Some(ADMIN_TOKEN.into())).await {
                Ok(started) => break started.hub,
                Err(e) => assert!(begun.elapsed() < PATIENCE, "the folder stays locked: {e}"),
            }
            tokio::task::yield_now().await;
        };
        let map = hub.find(ChannelKind::Map, "home").expect("the map is still there");
        World { hub, map, config, folder }
    }

    pub async fn webhook(&self, spec: WebhookSpec) -> (Arc<Webhook>, String) {
        let made = self.hub.create_webhook(&self.map, ApiFamily::Maps, spec).await;
        let (webhook, secret) = made.unwrap_or_else(|e| panic!("no webhook: {e:?}"));
        (webhook, secret.expect("maps have a secret made").reveal().to_owned())
    }

    /// Publishes events with the numbers `ns` in their payloads, one by one.
    pub async fn publish(&self, ns: impl IntoIterator<Item = i64>) -> Vec<EventId> {
        let mut ids = Vec::new();
        for n in ns {
            ids.extend(self.publish_together([n]).await);
        }
        ids
    }

    /// The same as one batch.
    pub async fn publish_together(&self, ns: impl IntoIterator<Item = i64>) -> Vec<EventId> {
        let draft = |n: i64| {
            let payload = Canonical::parse(&format!("{{\"n\":{n}}}")).expect("JSON");
            let kind = EventType::new("map_kill").expect("a type");
            Draft { kind, ts_ms: None, session: None, payload, dedupe_id: None, validated: None }
        };
        let drafts = ns.into_iter().map(draft).collect();
        self.hub.publish(self.map.clone(), drafts, None, "tok_1".into()).await.expect("published").ids
    }

    /// Waits until `done`, which must come to pass.
    pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !done().await {
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A webhook to `url` whose retries come after about a second.
pub fn to(url: &str) -> WebhookSpec {
    let policy = RetryPolicyForm {
        policy: Some("constant".into()),
        delay_seconds: Some(1),
        attempts: Some(3),
        ..RetryPolicyForm::default()
    };
    WebhookSpec { url: Some(url.into()), retry_policy: Some(policy.into()), ..WebhookSpec::default() }
}

/// The operator.
pub fn admin() -> Principal {
    Principal { id: "admin".into(), reach: Reach::Admin, expires_ms: None }
}
