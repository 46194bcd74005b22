//! The tables of `settings.toml` as types: a struct for each, and the words that a key may have.

use std::path::PathBuf;

use actors::model::jwt::JwtAlgorithm;
use serde::{Deserialize, Serialize};

use super::text::{Secret, empty_when_unset, unset_when_empty, withheld, without_passwords};

/// Where the log lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// In the data folder of one server.
    Local,
    /// On NATS JetStream, shared by several.
    Nats,
}

/// `[nats]`: how NATS is reached, with `engine = "nats"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nats {
    #[serde(serialize_with = "without_passwords")]
    pub servers: Vec<String>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub credentials: Option<PathBuf>,
    /// PEM.
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub tls_ca: Option<PathBuf>,
    pub prefix: String,
    pub replicas: usize,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub monitor: Option<String>,
}

/// `[cluster]`: this node among the others, with `engine = "nats"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub node: Option<String>,
    pub silent_after_ms: u64,
    /// 0 = never.
    pub isolated_after_s: u64,
}

/// `[server]`: the listening socket, the HTTP threads and the life of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// The address by which clients reach the server, without a `/` at its end.
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub public_url: Option<String>,
    /// 0 = one for each core.
    pub workers: usize,
    pub backlog: u32,
    /// Of the whole server, not of one worker.
    pub max_connections: usize,
    pub http2: bool,
    /// Of one connection.
    pub h2_streams: u32,
    /// Of all connections together.
    pub unauthenticated_bytes: usize,
    pub request_timeout_s: u64,
    pub body_timeout_s: u64,
    pub keep_alive_s: u64,
    pub shutdown_timeout_s: u64,
    pub takeover_drain_s: u64,
    /// Networks in CIDR notation, and single addresses.
    pub trusted_proxies: Vec<String>,
    /// `HOST:PORT` of the second listener.
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub admin_listen: Option<String>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub admin_client_ca: Option<PathBuf>,
    pub tls: Tls,
}

/// `[server.tls]`: both files are set, or neither.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub cert: Option<PathBuf>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub key: Option<PathBuf>,
}

/// `[storage]`: where and how durably the log is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub data_dir: PathBuf,
    pub durability: Durability,
    pub flush_interval_ms: u64,
    pub segment_max_bytes: u64,
    pub segment_max_age_s: u64,
    /// Of each open segment.
    pub open_segments: usize,
    pub min_free_bytes: u64,
}

/// When an appended event counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the disk: survives a power cut.
    Fsync,
    /// With the kernel: survives a crash of the process.
    Flush,
    /// In memory, flushed every `storage.flush_interval_ms`.
    Interval,
}

/// `[retention]`: how long events are kept; 0 = no limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub max_age_s: u64,
    pub max_bytes: u64,
    pub max_events: u64,
}

/// `[journal]`: the queue before the log and the size of its commits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    pub queue_events: usize,
    pub queue_bytes: usize,
    pub batch_events: usize,
    pub batch_bytes: usize,
    pub answer_timeout_s: u64,
    pub dedupe_window_s: u64,
    pub dedupe_keys: usize,
}

/// `[limits]`: what one client may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub event_bytes: usize,
    pub batch_events: usize,
    pub batch_bytes: usize,
    pub request_bytes: usize,
    pub memory_bytes: usize,
    pub channels: usize,
    pub tokens_per_channel: usize,
    /// 0 = no limit.
    pub streams_total: usize,
    /// 0 = no limit.
    pub streams_per_channel: usize,
    /// 0 = no limit.
    pub streams_per_token: usize,
    pub webhooks_per_map: usize,
    pub webhooks_per_organization: usize,
    pub webhooks_per_document: usize,
    /// For each token; 0 = no limit.
    pub api_requests_per_minute: u32,
    /// For each address; 0 = no limit.
    pub failed_logins_per_minute: u32,
    pub scan_events: usize,
    pub filter_steps_per_request: u64,
    /// 0 = no limit.
    pub scans_per_token: usize,
    /// 0 = half of the cores.
    pub compute_threads: usize,
    /// 0 = no limit.
    pub tickets_per_token: usize,
}

/// `[sse]`: what only event streams over SSE have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sse {
    pub event_names: bool,
    pub keepalive_s: u64,
    pub retry_ms: u64,
}

/// `[streams]`: what all streams share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    pub stall_timeout_s: u64,
    pub heartbeat_s: u64,
    /// Of each active channel.
    pub ring_events: usize,
    /// Of each active channel.
    pub ring_bytes: usize,
    pub traced_events: usize,
    pub page_events: usize,
    pub page_bytes: usize,
    pub write_bytes: usize,
    pub channel_idle_s: u64,
}

/// `[webhooks]`: where webhooks may go, and how they are delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    pub allow_http: bool,
    /// Networks in CIDR notation, and single addresses.
    pub allow_networks: Vec<String>,
    /// PEM.
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub tls_ca_file: Option<PathBuf>,
    pub attempt_timeout_s: u64,
    pub connect_timeout_s: u64,
    /// Of webhooks without a policy of their own; one attempt more than there are waits.
    pub schedule_s: Vec<u64>,
    pub disable_after_s: u64,
    pub max_in_flight: u32,
    pub threads: usize,
    /// Needs `server.public_url`.
    pub cloudevents_handshake: bool,
    /// Of one webhook.
    pub manual_attempts: usize,
    pub replays: usize,
    pub log_deliveries: usize,
    pub log_max_age_s: u64,
}

/// `[sources]`: where events come in from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Of one map or organization.
    pub per_channel: usize,
    /// Of all sources together.
    pub bodies_bytes: usize,
    /// Of one source.
    pub dead_letters: usize,
    pub dead_letters_bytes: usize,
}

/// `[tickets]`: single-use stand-ins for a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tickets {
    pub ttl_s: u64,
    pub max: usize,
}

/// `[auth]`: which proofs of identity are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub allow_query_token: bool,
    pub jwt: Jwt,
}

/// `[auth.jwt]`: tokens signed by someone else (RFC 7519). At most one of the three sources of keys is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    pub algorithm: JwtAlgorithm,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "withheld")]
    pub key: Option<Secret>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub key_file: Option<PathBuf>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub jwks_file: Option<PathBuf>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub issuer: Option<String>,
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "empty_when_unset")]
    pub audience: Option<String>,
}

impl Jwt {
    /// True when a key is configured, so that JWTs are accepted at all.
    pub fn is_on(&self) -> bool {
        self.key.is_some() || self.key_file.is_some() || self.jwks_file.is_some()
    }
}

/// `[cors]`: which web pages may call the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins as browsers send them (WHATWG Fetch); `*` allows every one.
    pub allowed_origins: Vec<String>,
}

/// `[metrics]`: who may read `/metrics`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Without one anybody may.
    #[serde(deserialize_with = "unset_when_empty", serialize_with = "withheld")]
    pub token: Option<Secret>,
}

/// `[log]`: what goes to standard error, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// The least severe event that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The shape of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}
