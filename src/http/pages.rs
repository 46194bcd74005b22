//! What browsers get: the pages with their files, and the documents that describe the API.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::Embed;
use sha2::{Digest, Sha256};

use super::problem::{Code, Problem};

#[derive(Embed)]
#[folder = "static/"]
struct Files;

/// Pages load nothing from other hosts and run nothing that is not a file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Addresses of pages, and the files that they are.
const PAGES: [(&str, &str); 2] = [("/", "index.html"), ("/docs", "docs.html")];

/// `GET /`, `GET /docs` and the files that the pages load, each under its name in `static/`.
pub async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let path = request.path();
    let page = PAGES.iter().find(|(address, _)| *address == path);
    let name = page.map_or(path.trim_start_matches('/'), |(_, name)| name);
    let found = is_plain(name).then(|| Files::get(name)).flatten();
    let file = found.ok_or_else(|| Problem::new(Code::NotFound, format!("There is nothing at {path}")))?;
    let etag = etag(&file.metadata.sha256_hash());
    if let Some(known) = known(&request, &etag) {
        return Ok(known);
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

fn etag(hash: &[u8; 32]) -> String {
    let hash: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("\"{hash}\"")
}

/// The answer to a client that has it.
fn known(request: &HttpRequest, etag: &str) -> Option<HttpResponse> {
    let seen = request.headers().get(IF_NONE_MATCH)?;
    names(seen.as_bytes(), etag).then(|| HttpResponse::NotModified().insert_header((ETAG, etag)).finish())
}

/// A document that is made once.
struct Document {
    text: String,
    etag: String,
}

impl Document {
    fn of(document: &serde_json::Value) -> Document {
        let text = document.to_string();
        Document { etag: etag(&Sha256::digest(&text).into()), text }
    }

    fn answer(&'static self, request: &HttpRequest) -> HttpResponse {
        known(request, &self.etag).unwrap_or_else(|| {
            HttpResponse::Ok()
                .content_type("application/json")
                .insert_header((ETAG, self.etag.as_str()))
                .insert_header((CACHE_CONTROL, "no-cache"))
                .body(self.text.as_str())
        })
    }
}

/// `GET /openapi.json`
pub async fn openapi(request: HttpRequest) -> HttpResponse {
    static MADE: LazyLock<Document> = LazyLock::new(|| Document::of(&super::openapi::document(&super::table())));
    MADE.answer(&request)
}

/// `GET /asyncapi.json`
pub async fn asyncapi(request: HttpRequest) -> HttpResponse {
    static MADE: LazyLock<Document> = LazyLock::new(|| Document::of(&super::asyncapi::document()));
    MADE.answer(&request)
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
