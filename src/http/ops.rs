//! Operations: health and metrics.

use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse, web};
use actors::model::access::TokenHash;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Answer, Code, Problem};
use super::{Context, credential};
use crate::settings::Durability;

/// Seconds after which it is worth asking again whether the server is ready: disk and journal are looked at that often.
const RETRY_READY_S: u64 = 1;

/// `GET /health/live`: the process answers, and says which version it is of.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(LiveView { status: "live", version: env!("CARGO_PKG_VERSION") })
}

#[derive(Serialize, ToSchema)]
#[schema(as = Live)]
pub struct LiveView {
    status: &'static str,
    /// Of the server.
    version: &'static str,
}

/// How the server is.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadyView {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// Why it is not ready; null when it is.
    reason: Option<&'static str>,
    stopping: bool,
    journal_writable: bool,
    /// Events that wait for a commit.
    journal_queue_events: usize,
    /// Null where the system does not say.
    disk_free_bytes: Option<u64>,
    /// Below this the server is not ready.
    disk_floor_bytes: u64,
    /// Damaged segments of the log of which something could not be recovered.
    quarantined_segments: Vec<String>,
    /// Ranges of event ids in which events are missing because of damage.
    damaged_ranges: usize,
    /// The newest of them, at most 20.
    damage: Vec<DamageView>,
    /// The delivery log, counters and dead letters were lost a moment ago; nothing else depends on them.
    notes_lost: bool,
    /// By how much the wall clock was set since the start, in milliseconds; negative: back.
    clock_jumped_ms: i64,
    /// Of the settings in force: servers with the same settings have the same. It tells nothing of secrets.
    settings_fingerprint: String,
    /// How this node is among the others; null for a server alone.
    cluster: Option<ClusterView>,
}

/// A node of a cluster.
#[derive(Serialize, ToSchema)]
#[schema(as = ClusterNode)]
pub struct ClusterView {
    /// Its name.
    node: String,
    /// Whether it is connected to NATS.
    connected: bool,
    /// For how long it has not reached the leader of the log.
    unreached_ms: u64,
    /// Messages by which its copy is behind what it has heard of the log.
    behind_messages: u64,
    /// For how long it has been behind without getting on.
    behind_ms: u64,
    /// Grows with each change of the node that writes the log.
    term: u64,
    /// The node that writes the log; null while there is none.
    writer: Option<String>,
    /// Whether that is this node.
    is_writer: bool,
    /// Slots of webhooks that this node delivers for.
    slots_owned: usize,
    /// Slots that there are.
    slots: usize,
    /// The nodes that are live, by name.
    nodes: Vec<String>,
    /// Whether NATS syncs to disk before it answers; null where `nats.monitor` does not tell.
    nats_syncs_always: Option<bool>,
    /// It was cut off for longer than `cluster.isolated_after_s`, and serves nobody.
    isolated: bool,
    /// What to do about the damage that is told beside this: the node has only a copy. Null while nothing is damaged.
    damage_cure: Option<&'static str>,
}

/// A node that has not reached the log for longer than an election takes is not ready.
const UNREACHED_MAX_MS: u64 = 12_000;
/// A node whose copy has not got on for this long, though there is more, is not ready.
const BEHIND_MAX_MS: u64 = 1_000;

impl ClusterView {
    /// Why the node is not ready.
    fn reason(&self, durability: Durability) -> Option<&'static str> {
        match () {
            () if self.nats_syncs_always == Some(false) && durability == Durability::Fsync => Some(
                "NATS answers before it has synced: set sync_interval: always there, or storage.durability to flush",
            ),
            () if self.isolated => Some("the node is cut off from NATS and cannot know of revocations"),
            () if !self.connected => Some("the node is not connected to NATS"),
            () if self.unreached_ms >= UNREACHED_MAX_MS => Some("the log in NATS has no leader that can be reached"),
            () if self.behind_ms >= BEHIND_MAX_MS => Some("the node's copy of the log is behind"),
            () => None,
        }
    }
}

#[cfg(feature = "nats")]
fn cluster(context: &Context, is_damaged: bool) -> Option<ClusterView> {
    let health = context.hub.cluster_health()?;
    Some(ClusterView {
        node: health.node.to_string(),
        connected: health.is_connected,
        unreached_ms: health.unreached.as_millis() as u64,
        behind_messages: health.behind,
        behind_ms: health.behind_for.as_millis() as u64,
        term: health.term,
        writer: health.writer.map(|node| node.to_string()),
        is_writer: health.is_writer,
        slots_owned: health.slots_owned,
        slots: health.slots,
        nodes: health.nodes.iter().map(ToString::to_string).collect(),
        nats_syncs_always: health.syncs_always,
        isolated: health.is_isolated,
        damage_cure: is_damaged.then_some(actors::hub::COPY_CURE),
    })
}

#[cfg(not(feature = "nats"))]
fn cluster(_: &Context, _: bool) -> Option<ClusterView> {
    None
}

/// Where events are missing because of damage.
#[derive(Serialize, ToSchema)]
#[schema(as = Damage)]
pub struct DamageView {
    /// Events that may be missing have ids behind this one.
    after: String,
    /// The last id that may be missing.
    through: String,
}

/// `GET /health/ready`: the journal can be written and the disk has room.
pub async fn ready(context: web::Data<Context>) -> HttpResponse {
    let health = context.hub.health().await;
    let floor = context.settings.storage.min_free_bytes;
    let disk_ok = health.disk_free_bytes.is_none_or(|free| free >= floor);
    let is_damaged = health.damaged_ranges > 0 || !health.quarantined.is_empty();
    let cluster = cluster(&context, is_damaged);
    let reason = match () {
        () if context.stopping() => Some("the server is stopping"),
        () if !disk_ok => Some("the disk has less room than storage.min_free_bytes: publishes and changes are refused"),
        () if health.storage_full => Some("the disk is full: publishes and changes are refused"),
        () if !health.journal_writable => Some("the last commit failed; the server's log says why"),
        () => cluster.as_ref().and_then(|cluster| cluster.reason(context.settings.storage.durability)),
    };
    let ready = reason.is_none();
    let report = ReadyView {
        status: if ready { "ready" } else { "not_ready" },
        reason,
        stopping: context.stopping(),
        journal_writable: health.journal_writable,
        journal_queue_events: health.queue_events,
        disk_free_bytes: health.disk_free_bytes,
        disk_floor_bytes: floor,
        quarantined_segments: health.quarantined,
        damaged_ranges: health.damaged_ranges,
        damage: health
            .damage
            .iter()
            .map(|(after, through)| DamageView { after: after.to_string(), through: through.to_string() })
            .collect(),
        notes_lost: health.notes_lost,
        clock_jumped_ms: health.clock_jumped_ms,
        settings_fingerprint: context.settings_fingerprint.clone(),
        cluster,
    };
    if ready {
        return HttpResponse::Ok().json(report);
    }
    HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, RETRY_READY_S)).json(report)
}

/// Whether the request may read the metrics, where they ask for a token: that of `metrics.token`, or the admin's.
fn may_read_metrics(context: &Context, request: &HttpRequest) -> Result<(), Problem> {
    let Some(wanted) = &context.settings.metrics.token else { return Ok(()) };
    let given = credential::header_token(request).ok_or_else(Problem::missing_token)?;
    // compared by their hashes, in constant time
    if TokenHash::of(given).is(&TokenHash::of(wanted.expose())) {
        return Ok(());
    }
    match credential::principal(request, given)?.is_admin() {
        true => Ok(()),
        false => Err(Problem::new(Code::Forbidden, "The metrics are read with metrics.token or the admin token")),
    }
}

/// `GET /metrics` (OpenMetrics 1.0).
pub async fn metrics(context: web::Data<Context>, request: HttpRequest) -> Answer {
    super::operators_only(&request)?;
    may_read_metrics(&context, &request)?;
    context.hub.measure_damage();
    Ok(HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(context.hub.metrics().text()))
}
