//! Operations: health and metrics.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::model::access::TokenHash;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Answer, Code, Problem};
use super::{Context, credential};

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
    let reason = match () {
        () if context.stopping() => Some("the server is stopping"),
        () if !disk_ok => Some("the disk has less room than storage.min_free_bytes: publishes and changes are refused"),
        () if health.storage_full => Some("the disk is full: publishes and changes are refused"),
        () if !health.journal_writable => Some("the last commit failed; the server's log says why"),
        () => None,
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
    };
    if ready { HttpResponse::Ok().json(report) } else { HttpResponse::ServiceUnavailable().json(report) }
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
