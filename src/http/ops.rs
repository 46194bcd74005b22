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

/// `GET /` and the files that the page loads, each under its name in `static/`.
pub async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let path = request.path();
    let name = if path == "/" { "index.html" } else { path.trim_start_matches('/') };
    let found = is_plain(name).then(|| Files::get(name)).flatten();
    let file = found.ok_or_else(|| Problem::new(Code::NotFound, format!("There is nothing at {path}")))?;
    let hash: String = file.metadata.sha256_hash()[..16].iter().map(|b| format!("{b:02x}")).collect();
    let etag = format!("\"{hash}\"");
    if request.headers().get(IF_NONE_MATCH).is_some_and(|seen| names(seen.as_bytes(), &etag)) {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, etag)).finish());
    }
    Ok(HttpResponse::Ok()
        .content_type(content_type(name))
        .insert_header((ETAG, etag))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .body(file.data.into_owned()))
}

/// Whether each part of a path is an ordinary name: whatever rust-embed is told to read from, nothing leads out of it.
fn is_plain(path: &str) -> bool {
    let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(character))
}

/// Whether an `If-None-Match` names the tag. A proxy that compresses weakens the tags that it passes on (RFC 9110, 13.1.2).
fn names(if_none_match: &[u8], etag: &str) -> bool {
    let mut tags = if_none_match.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        // the notices of others
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_lead_to_files() {
        for good in ["index.html", "app/live-list.js", "vendor/preact.js", "a/b/c"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in
            ["", "/", "a/", "/a", "../settings.toml", "app/../../Cargo.toml", ".git", "a/.b", "%2e%2e/x", "a\\b", "ä"]
        {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    #[test]
    fn a_tag_is_known_again_in_a_list_and_when_a_proxy_weakened_it() {
        for seen in ["\"x\"", "W/\"x\"", "\"a\", W/\"x\"", "\"x\" ,\"b\""] {
            assert!(names(seen.as_bytes(), "\"x\""), "{seen}");
        }
        assert!(!names(b"\"xx\", x", "\"x\""));
    }
}
