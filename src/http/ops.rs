//! Operations: health, metrics, and the page at the root.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::Embed;
use serde_json::json;

use super::Context;
use super::problem::{Code, Problem};

/// `GET /health/live`: the process answers.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "live" }))
}

/// `GET /health/ready`: the journal can be written and the disk has room.
pub async fn ready(context: web::Data<Context>) -> HttpResponse {
    let health = context.hub.health().await;
    let floor = context.settings.storage.min_free_bytes;
    let disk_ok = health.disk_free_bytes.is_none_or(|free| free >= floor);
    let ready = health.journal_writable && disk_ok && !context.stopping();
    let report = json!({
        "status": if ready { "ready" } else { "not_ready" },
        "stopping": context.stopping(),
        "journal_writable": health.journal_writable,
        "journal_queue_events": health.queue_events,
        "disk_free_bytes": health.disk_free_bytes,
        "disk_floor_bytes": floor,
        "quarantined_segments": health.quarantined,
    });
    if ready { HttpResponse::Ok().json(report) } else { HttpResponse::ServiceUnavailable().json(report) }
}

/// `GET /metrics` (OpenMetrics 1.0).
pub async fn metrics(context: web::Data<Context>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(context.hub.metrics().text())
}

#[derive(Embed)]
#[folder = "static/"]
struct Files;

/// Pages load nothing from other hosts and run nothing that is not a file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /` and the files that the page loads.
pub async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let name = match request.path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    let file = Files::get(name).ok_or_else(|| Problem::new(Code::NotFound, format!("There is nothing at /{name}")))?;
    let hash: String = file.metadata.sha256_hash()[..16].iter().map(|b| format!("{b:02x}")).collect();
    let etag = format!("\"{hash}\"");
    if request.headers().get(IF_NONE_MATCH).is_some_and(|seen| seen.as_bytes() == etag.as_bytes()) {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, etag)).finish());
    }
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "application/octet-stream",
    };
    Ok(HttpResponse::Ok()
        .content_type(kind)
        .insert_header((ETAG, etag))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .body(file.data.into_owned()))
}
