//! Every metric of Stentor, each name once. Beside them the counters from which series are sampled: [`tallies`].

pub mod tallies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::tallies::Tallies;
use crate::budget::{Budget, Part};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// Which API: maps, tokens, operations.
    pub family: &'static str,
    /// The error's code, as clients see it.
    pub code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// Of an attempt: success, failure or gone. Of a request at a source: see [`SourceOutcome`].
    pub outcome: &'static str,
}

/// What became of a request at a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceOutcome {
    Accepted,
    /// It had come before and was answered as then.
    Repeated,
    /// For its content.
    Refused,
    Unauthenticated,
    /// By the rate of the source.
    Limited,
    /// The body is larger than a body may be.
    TooLarge,
    /// The source is paused, or cannot read its keys.
    Unavailable,
}

impl SourceOutcome {
    fn as_str(self) -> &'static str {
        match self {
            SourceOutcome::Accepted => "accepted",
            SourceOutcome::Repeated => "repeated",
            SourceOutcome::Refused => "refused",
            SourceOutcome::Unauthenticated => "unauthenticated",
            SourceOutcome::Limited => "limited",
            SourceOutcome::TooLarge => "too_large",
            SourceOutcome::Unavailable => "unavailable",
        }
    }
}

/// What the server did not do, or not at once, so that others are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// A ticket: too many were open, or its filter was too large.
    Ticket,
    /// A scan: its token had as many under way as it may have.
    Scan,
    /// The rest of a page of history: its budget was used up.
    Page,
    /// Statistics, or a count: the budget was used up.
    Statistics,
    /// A judgement of a filter over an event, which took too many steps: the event does not match.
    Filter,
    /// A delivery whose template failed.
    Template,
    /// The head of a request over HTTP/1: too large, too slow, malformed, or without room in the memory for clients
    /// without a credential.
    Head,
    /// A request over HTTP/2 that had no room in the same memory.
    Http2Request,
    /// An HTTP/2 connection, because of what it did.
    Http2Connection,
    /// A handshake of TLS, or the beginning of HTTP/2, that did not come in time.
    Handshake,
    /// The body of a request: too slow, or without room.
    Body,
    /// The rest of an answer over HTTP/2, of which the client took nothing for too long.
    Answer,
    /// What rings of channels held, because memory was short; their readers read from the log.
    Rings,
}

impl Shed {
    pub const ALL: [Shed; 13] = [
        Shed::Ticket,
        Shed::Scan,
        Shed::Page,
        Shed::Statistics,
        Shed::Filter,
        Shed::Template,
        Shed::Head,
        Shed::Http2Request,
        Shed::Http2Connection,
        Shed::Handshake,
        Shed::Body,
        Shed::Answer,
        Shed::Rings,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Shed::Ticket => "ticket",
            Shed::Scan => "scan",
            Shed::Page => "page",
            Shed::Statistics => "statistics",
            Shed::Filter => "filter",
            Shed::Template => "template",
            Shed::Head => "head",
            Shed::Http2Request => "h2_request",
            Shed::Http2Connection => "h2_connection",
            Shed::Handshake => "handshake",
            Shed::Body => "body",
            Shed::Answer => "answer",
            Shed::Rings => "rings",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabels {
    /// The id of the webhook.
    pub webhook: String,
}

/// What the memory budget counts, read when the metrics are.
#[derive(Debug)]
struct MemoryInUse(Arc<Budget>);

impl Collector for MemoryInUse {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let used = ConstGauge::<i64>::new(0);
        let help = "Memory that counts towards limits.memory_bytes, by what holds it";
        let mut family = encoder.encode_descriptor("memory_bytes", help, None, used.metric_type())?;
        for part in Part::ALL {
            let used = ConstGauge::new(self.0.used_bytes_by(part) as i64);
            used.encode(family.encode_family(&[("part", part.name())])?)?;
        }
        Ok(())
    }
}

/// Webhooks that have a series of their own. More would make the answer long and the monitoring dear.
pub const WEBHOOK_SERIES_MAX: usize = 100;

pub struct Metrics {
    registry: Registry,
    pub streams: Gauge,
    pub delivered: Counter,
    pub stalled_readers: Counter,
    pub published: Counter,
    pub commits: Counter,
    pub commit_failures: Counter,
    commit_seconds: Histogram,
    commit_events: Histogram,
    pub requests: Counter,
    pub errors: Family<ErrorLabels, Counter>,
    pub failed_logins: Counter,
    pub queue_events: Gauge,
    pub channels_running: Gauge,
    pub log_bytes: Gauge,
    pub log_events: Gauge,
    pub log_segments: Gauge,
    pub log_quarantined: Gauge,
    pub log_damaged_ranges: Gauge,
    pub disk_free_bytes: Gauge,
    pub resident_bytes: Gauge,
    pub webhook_attempts: Family<OutcomeLabels, Counter>,
    pub webhook_attempt_seconds: Histogram,
    pub webhook_dead: Counter,
    pub webhook_retries_waiting: Gauge,
    pub webhooks_disabled: Gauge,
    pub webhook_lag_seconds: Family<WebhookLabels, Gauge>,
    /// Series of `webhook_lag_seconds` that are taken.
    pub webhook_series: AtomicUsize,
    source_requests: Family<OutcomeLabels, Counter>,
    pub source_events: Counter,
    pub source_dead_letters: Counter,
    shed: Family<ShedLabels, Counter>,
    pub tallies: Tallies,
    /// 1 on the node that writes the log of a cluster.
    pub cluster_writer: Gauge,
    pub cluster_term: Gauge,
    pub cluster_tail_lag_seconds: Gauge<f64, AtomicU64>,
    pub cluster_slots_owned: Gauge,
    pub cluster_nodes: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(Arc::default())
    }
}

impl Metrics {
    /// `budget`: whose use is shown.
    pub fn new(budget: Arc<Budget>) -> Metrics {
        let mut m = Metrics {
            registry: Registry::with_prefix("stentor"),
            streams: Gauge::default(),
            delivered: Counter::default(),
            stalled_readers: Counter::default(),
            published: Counter::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            commit_events: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            requests: Counter::default(),
            errors: Family::default(),
            failed_logins: Counter::default(),
            queue_events: Gauge::default(),
            channels_running: Gauge::default(),
            log_bytes: Gauge::default(),
            log_events: Gauge::default(),
            log_segments: Gauge::default(),
            log_quarantined: Gauge::default(),
            log_damaged_ranges: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            resident_bytes: Gauge::default(),
            webhook_attempts: Family::default(),
            webhook_attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            webhook_dead: Counter::default(),
            webhook_retries_waiting: Gauge::default(),
            webhooks_disabled: Gauge::default(),
            webhook_lag_seconds: Family::default(),
            webhook_series: AtomicUsize::new(0),
            source_requests: Family::default(),
            source_events: Counter::default(),
            source_dead_letters: Counter::default(),
            shed: Family::default(),
            tallies: Tallies::default(),
            cluster_writer: Gauge::default(),
            cluster_term: Gauge::default(),
            cluster_tail_lag_seconds: Gauge::default(),
            cluster_slots_owned: Gauge::default(),
            cluster_nodes: Gauge::default(),
        };
        let r = &mut m.registry;
        r.register("streams", "Open SSE and WebSocket streams", m.streams.clone());
        r.register("events_delivered", "Events handed to streams", m.delivered.clone());
        r.register("readers_stalled", "Streams closed because the reader took nothing", m.stalled_readers.clone());
        r.register("events_published", "Events made durable", m.published.clone());
        r.register("commits", "Commits of the log", m.commits.clone());
        r.register("commit_failures", "Commits that failed", m.commit_failures.clone());
        r.register("commit_seconds", "From a batch's start to its publishers' answers", m.commit_seconds.clone());
        r.register("commit_events", "Events per commit", m.commit_events.clone());
        r.register("requests", "HTTP requests", m.requests.clone());
        r.register("errors", "HTTP errors by API and code", m.errors.clone());
        r.register("failed_logins", "Wrong credentials, of all addresses", m.failed_logins.clone());
        r.register("journal_queue_events", "Events that wait for a commit", m.queue_events.clone());
        r.register("channels_running", "Channels that somebody reads", m.channels_running.clone());
        r.register("log_bytes", "Size of the log on disk", m.log_bytes.clone());
        r.register("log_events", "Events in the log", m.log_events.clone());
        r.register("log_segments", "Segments of the log", m.log_segments.clone());
        r.register(
            "log_quarantined_segments",
            "Damaged segments of which something could not be recovered",
            m.log_quarantined.clone(),
        );
        r.register(
            "log_damaged_ranges",
            "Ranges of event ids in which events are missing because of damage",
            m.log_damaged_ranges.clone(),
        );
        r.register("disk_free_bytes", "Free space where the data lives", m.disk_free_bytes.clone());
        r.register(
            "resident_bytes",
            "Memory of the process; 0 where the system does not say",
            m.resident_bytes.clone(),
        );
        r.register("webhook_attempts", "Attempts of deliveries by their outcome", m.webhook_attempts.clone());
        let (name, help) = ("webhook_attempt_seconds", "How long attempts of deliveries took");
        r.register(name, help, m.webhook_attempt_seconds.clone());
        r.register("webhook_dead_letters", "Deliveries that were given up", m.webhook_dead.clone());
        r.register("webhook_retries_waiting", "Deliveries that wait for a retry", m.webhook_retries_waiting.clone());
        r.register("webhooks_disabled", "Webhooks that the server switched off", m.webhooks_disabled.clone());
        let (name, help) = ("webhook_lag_seconds", "From a webhook's cursor to the newest event, in log time");
        r.register(name, help, m.webhook_lag_seconds.clone());
        r.register("source_requests", "Requests at sources by their outcome", m.source_requests.clone());
        r.register("source_events", "Events that sources took in", m.source_events.clone());
        let (name, help) = ("source_dead_letters", "Requests that sources refused and kept");
        r.register(name, help, m.source_dead_letters.clone());
        r.register("shed", "What was refused, cut short or given up so that others are served", m.shed.clone());
        r.register("cluster_writer", "1 on the node that writes the log of a cluster", m.cluster_writer.clone());
        r.register("cluster_term", "Grows with each change of the node that writes the log", m.cluster_term.clone());
        let (name, help) =
            ("cluster_tail_lag_seconds", "For how long the copy of the log has been behind without getting on");
        r.register(name, help, m.cluster_tail_lag_seconds.clone());
        let (name, help) = ("cluster_slots_owned", "Of the 64 slots of webhooks those that this node delivers for");
        r.register(name, help, m.cluster_slots_owned.clone());
        r.register(
            "cluster_nodes",
            "Nodes of the cluster that this one hears, itself included",
            m.cluster_nodes.clone(),
        );
        r.register_collector(Box::new(MemoryInUse(budget)));
        for what in Shed::ALL {
            // so that each series is there before its first time
            drop(m.shed.get_or_create(&ShedLabels { what: what.as_str() }));
        }
        m
    }

    pub fn committed(&self, events: usize, took: Duration) {
        self.tallies.committed(took);
        self.commits.inc();
        self.published.inc_by(events as u64);
        self.commit_events.observe(events as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts something that was not done so that others are served.
    pub fn shed(&self, what: Shed) {
        self.shed.get_or_create(&ShedLabels { what: what.as_str() }).inc();
    }

    pub fn source_request(&self, outcome: SourceOutcome) {
        self.source_requests.get_or_create(&OutcomeLabels { outcome: outcome.as_str() }).inc();
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // writing into a string does not fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod reference;
