//! From settings to what the engine takes.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Uri;
use actors::delivery::handles::Settings as DeliverySettings;
use actors::delivery::http::resolver::Resolver;
use actors::hub::sources::SourceLimits;
use actors::hub::{Config, HubLimits, ScanLimits, WebhookLimits};
use actors::journal::JournalLimits;
use actors::log::{LogOptions, Retention};
use actors::model::delivery::RetryPolicy;
use actors::model::target::{Policy, network};
use actors::streams::limits::{RingLimits, SlotLimits, StreamLimits};
use actors::streams::tickets::TicketLimits;
use actors::wal::Durability;

use crate::settings::{self, Settings};

/// What is no setting: it comes from the command line or the environment, and no file may hold it.
#[derive(Default)]
pub struct Start {
    /// The operator's own admin token; without one that of the data folder counts.
    pub admin_token: Option<String>,
    /// The key that seals secrets, as base64; without one that of the data folder counts.
    pub secret_key: Option<String>,
    /// The key before it, while it is replaced.
    pub previous_secret_key: Option<String>,
    /// Webhooks may go to http and to the loopback.
    pub dev: bool,
}

/// As whom receivers of CloudEvents are asked; none: they are not.
fn handshake_origin(settings: &Settings) -> Option<Arc<str>> {
    let url = settings.server.public_url.as_ref().filter(|_| settings.webhooks.cloudevents_handshake)?;
    Some(url.parse::<Uri>().ok()?.host()?.into())
}

/// How long the cursor of a webhook may have moved before it is made durable. A crash of one server is rare, and each write takes
/// some of its disk; nodes are there to be lost.
const UNSAVED: Duration = Duration::from_millis(250);
const UNSAVED_OF_NODES: Duration = Duration::from_millis(50);

pub fn of(settings: &Settings, start: &Start) -> Config {
    let Settings { storage, journal, limits, sse, streams, webhooks, sources, tickets, .. } = settings;
    let seconds = Duration::from_secs;
    Config {
        data_dir: storage.data_dir.clone(),
        durability: match storage.durability {
            // a copy of what NATS holds durably need not be durable
            _ if settings.engine == settings::Engine::Nats => Durability::Flush,
            settings::Durability::Fsync => Durability::Fsync,
            settings::Durability::Flush => Durability::Flush,
            settings::Durability::Interval => Durability::Interval { every_ms: storage.flush_interval_ms },
        },
        log: log(settings),
        journal: JournalLimits {
            queue_events: journal.queue_events,
            queue_bytes: journal.queue_bytes,
            batch_events: journal.batch_events,
            batch_bytes: journal.batch_bytes,
            answer_timeout: seconds(journal.answer_timeout_s),
            min_free_bytes: storage.min_free_bytes,
        },
        limits: HubLimits {
            streams: StreamLimits {
                ring: RingLimits { events: streams.ring_events, bytes: streams.ring_bytes },
                write_bytes: streams.write_bytes,
                page_events: streams.page_events,
                page_bytes: streams.page_bytes,
                keepalive: seconds(sse.keepalive_s),
                heartbeat: seconds(streams.heartbeat_s),
                stall_timeout: seconds(streams.stall_timeout_s),
                channel_idle: seconds(streams.channel_idle_s),
                retry: Duration::from_millis(sse.retry_ms),
                slots: SlotLimits {
                    total: limits.streams_total,
                    per_channel: limits.streams_per_channel,
                    per_token: limits.streams_per_token,
                },
                ticket_ttl: seconds(tickets.ttl_s),
                tickets: TicketLimits { total: tickets.max, per_token: limits.tickets_per_token },
            },
            memory_bytes: limits.memory_bytes,
            page_events: streams.page_events,
            page_bytes: streams.page_bytes,
            traced_events: streams.traced_events,
            scans: ScanLimits {
                events: limits.scan_events,
                filter_steps: limits.filter_steps_per_request,
                per_token: limits.scans_per_token,
            },
            compute_threads: limits.compute_threads,
            channels: limits.channels,
            tokens_per_channel: limits.tokens_per_channel,
            webhooks: WebhookLimits {
                schedule: RetryPolicy::schedule(&webhooks.schedule_s).unwrap_or_else(|_| RetryPolicy::map_default()),
                per_map: limits.webhooks_per_map,
                per_organization: limits.webhooks_per_organization,
                per_document: limits.webhooks_per_document,
            },
            min_free_bytes: storage.min_free_bytes,
        },
        delivery: DeliverySettings {
            policy: Policy {
                allow_http: webhooks.allow_http,
                // the settings were checked by the same functions
                allow_networks: webhooks.allow_networks.iter().filter_map(|text| network(text).ok()).collect(),
                dev: start.dev,
            },
            tls_ca_file: webhooks.tls_ca_file.clone(),
            attempt_timeout: seconds(webhooks.attempt_timeout_s),
            connect_timeout: seconds(webhooks.connect_timeout_s),
            disable_after: seconds(webhooks.disable_after_s),
            max_in_flight: webhooks.max_in_flight,
            handshake_origin: handshake_origin(settings),
            manual_attempts: webhooks.manual_attempts,
            replays: webhooks.replays,
            log_deliveries: webhooks.log_deliveries,
            log_max_age: seconds(webhooks.log_max_age_s),
            unsaved: match settings.engine {
                settings::Engine::Local => UNSAVED,
                settings::Engine::Nats => UNSAVED_OF_NODES,
            },
            threads: webhooks.threads,
        },
        sources: SourceLimits {
            per_channel: sources.per_channel,
            dead_letters: sources.dead_letters,
            dead_letters_bytes: sources.dead_letters_bytes,
        },
        #[cfg(feature = "nats")]
        cluster: (settings.engine == settings::Engine::Nats).then(|| cluster(settings)),
        secret_key: start.secret_key.clone().map(Into::into),
        previous_secret_key: start.previous_secret_key.clone().map(Into::into),
        resolver: Resolver::system(),
    }
}

/// What stands between the commas of a setting that names one or several.
#[cfg(feature = "nats")]
fn each_of(setting: Option<&str>) -> Vec<String> {
    let parts = setting.unwrap_or_default().split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// How this server is one node of many.
#[cfg(feature = "nats")]
pub fn cluster(settings: &Settings) -> actors::cluster::Options {
    let settings::Nats { servers, credentials, tls_ca, prefix, replicas, monitor } = &settings.nats;
    // Linux shows the name here; without one the operator has to give it
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let listen = &settings.server.listen;
    // which of its addresses reaches it a server that listens on all of them cannot know
    let port = |any: &str| listen.strip_prefix(any).map(|port| format!("{}:{port}", host()));
    let address = port("0.0.0.0:").or_else(|| port("[::]:")).unwrap_or_else(|| listen.clone());
    actors::cluster::Options {
        version: env!("CARGO_PKG_VERSION").into(),
        address: address.into(),
        servers: servers.clone(),
        credentials: credentials.clone(),
        tls_ca: tls_ca.clone(),
        prefix: prefix.clone(),
        replicas: *replicas,
        monitors: each_of(monitor.as_deref()),
        node: settings.cluster.node.clone().unwrap_or_else(host).into(),
        isolated_after: Some(settings.cluster.isolated_after_s).filter(|s| *s > 0).map(Duration::from_secs),
        silent: Duration::from_millis(settings.cluster.silent_after_ms),
    }
}

/// How the log is kept.
pub fn log(settings: &Settings) -> LogOptions {
    let Settings { storage, retention, journal, .. } = settings;
    LogOptions {
        segment_max_bytes: storage.segment_max_bytes,
        segment_max_age_ms: storage.segment_max_age_s * 1000,
        open_segments: storage.open_segments,
        retention: Retention {
            max_age_ms: retention.max_age_s * 1000,
            max_bytes: retention.max_bytes,
            max_events: retention.max_events,
        },
        dedupe_window_ms: journal.dedupe_window_s * 1000,
        dedupe_keys: journal.dedupe_keys,
    }
}
