//! What browsers get: the pages with their files, and the documents that describe the API.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, VARY};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use actors::model::hex;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::compression::{self, Coding};
use super::problem::{Code, Problem};

/// A file of the pages, as it is kept. `build.rs` makes the table.
struct File {
    /// Its path in `static/`.
    name: &'static str,
    /// Of the plain bytes.
    hash: &'static str,
    plain: &'static [u8],
    /// None where it is not smaller.
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

/// Sorted by name.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

impl File {
    fn find(name: &str) -> Option<&'static File> {
        FILES.iter().find(|file| file.name == name)
    }
}

/// Bytes that are shared by all who ask for them. They are handed to the connection in pieces, so that a client who does not read
/// costs one piece.
struct Kept(Bytes);

/// What one piece holds.
const PIECE_BYTES: usize = 8 * 1024;

impl MessageBody for Kept {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        let piece = this.0.split_to(this.0.len().min(PIECE_BYTES));
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

/// The answer with these bytes, in the best coding that the client takes; or that it has them already. Each coding has a tag
/// of its own, because a strong tag stands for bytes (RFC 9110, 8.8.1).
fn kept(
    request: &HttpRequest,
    content_type: &'static str,
    hash: &str,
    plain: Bytes,
    codings: [(Coding, Option<Bytes>); 2],
) -> HttpResponse {
    let varies = codings.iter().any(|(_, bytes)| bytes.is_some());
    let chosen = codings.into_iter().find_map(|(coding, bytes)| {
        let bytes = bytes.filter(|_| compression::takes(request.headers(), coding))?;
        Some(match coding {
            Coding::Brotli => ("br", bytes),
            Coding::Gzip => ("gzip", bytes),
        })
    });
    let etag = match &chosen {
        Some((coding, _)) => format!("\"{hash}-{coding}\""),
        None => format!("\"{hash}\""),
    };
    let seen = request.headers().get_all(IF_NONE_MATCH).any(|seen| names(seen.as_bytes(), &etag));
    let mut answer = if seen { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, "no-cache"));
    if varies {
        answer.insert_header((VARY, "Accept-Encoding"));
    }
    if seen {
        return answer.finish();
    }
    answer.content_type(content_type);
    match chosen {
        Some((coding, bytes)) => answer.insert_header((CONTENT_ENCODING, coding)).body(Kept(bytes)),
        None => answer.body(Kept(plain)),
    }
}

/// Pages load nothing from other hosts and run nothing that is not a file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Addresses of pages, and the files that they are. The pages of the documentation are below `docs/`, as `build/docs.rs` names them.
const PAGES: [(&str, &str); 3] =
    [("/", "index.html"), ("/docs/reference", "reference.html"), ("/docs/streams", "streams.html")];

/// The name of the file at an address.
fn name_of(path: &str) -> Cow<'_, str> {
    let page = PAGES.iter().find(|(address, _)| *address == path);
    match path.strip_prefix("/docs") {
        _ if let Some((_, name)) = page => Cow::Borrowed(name),
        Some(below) if below.starts_with('/') && below.ends_with(".svg") => Cow::Owned(format!("docs{below}")),
        Some(below) if below.is_empty() || below.starts_with('/') => Cow::Owned(format!("docs{below}.html")),
        _ => Cow::Borrowed(path.trim_start_matches('/')),
    }
}

/// The text of a page that is completed for each request.
pub fn text(name: &str) -> &'static str {
    // `build/docs.rs` makes it, and of a text
    let file = File::find(name).expect("a page that is built in");
    std::str::from_utf8(file.plain).expect("a page is text")
}

/// An answer with a page that was made for this request.
pub fn made(page: String) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "no-cache")).content_type(content_type(".html"));
    with_policy(answer.body(page))
}

/// Whether one of them is at a path.
pub fn is_there(path: &str) -> bool {
    File::find(&name_of(path)).is_some()
}

/// `GET /`, `GET /docs`, the pages below it, and the files that the pages load, each under its name in `static/`.
pub async fn file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let path = request.path();
    if path == "/" {
        super::operators_only(&request)?;
    }
    let name = name_of(path);
    let file = File::find(&name).ok_or_else(|| Problem::new(Code::NotFound, format!("There is nothing at {path}")))?;
    let codings = [(Coding::Brotli, file.brotli), (Coding::Gzip, file.gzip)];
    let codings = codings.map(|(coding, bytes)| (coding, bytes.map(Bytes::from_static)));
    Ok(with_policy(kept(&request, content_type(&name), file.hash, Bytes::from_static(file.plain), codings)))
}

fn with_policy(mut answer: HttpResponse) -> HttpResponse {
    for (name, value) in
        [("content-security-policy", POLICY), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
    {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// A document that is made once, but for the addresses at which the server is reached.
struct Document {
    before: String,
    after: String,
    hash: [u8; 32],
    forms: Mutex<Vec<Form>>,
}

/// A document with the addresses of a request in it.
#[derive(Clone)]
struct Form {
    servers: String,
    hash: String,
    plain: Bytes,
    /// None where the form is not kept.
    gzip: Option<Bytes>,
}

/// Forms that are kept: one, unless clients reach the server by several names. Others are made for each request.
const FORMS_MAX: usize = 8;
/// Stands where the addresses are put in.
const SERVERS: &str = "\u{0}servers";

impl Document {
    fn of(mut document: Value) -> Document {
        document["servers"] = SERVERS.into();
        let text = document.to_string();
        // it was put there just now
        let (before, after) = text.split_once(&Value::from(SERVERS).to_string()).expect("a place for the servers");
        let hash = Sha256::digest(&text).into();
        Document { before: before.into(), after: after.into(), hash, forms: Mutex::default() }
    }

    fn form(&self, servers: &Value) -> Form {
        let servers = servers.to_string();
        let is_full = {
            let forms = self.forms.lock();
            if let Some(form) = forms.iter().find(|form| form.servers == servers) {
                return form.clone();
            }
            forms.len() == FORMS_MAX
        };
        let hash = Sha256::new().chain_update(self.hash).chain_update(&servers).finalize();
        let hash = hex::encode(&hash[..16]);
        let plain: Bytes = [&*self.before, &*servers, &*self.after].concat().into();
        if is_full {
            return Form { servers, hash, plain, gzip: None };
        }
        let gzip = compression::by_gzip(&plain);
        let gzip = gzip.inspect_err(|e| log::warn!("an API document is not kept compressed: {e}")).ok();
        let form = Form { servers, hash, plain, gzip: gzip.map(Bytes::from) };
        let mut forms = self.forms.lock();
        if forms.len() < FORMS_MAX {
            forms.push(form.clone());
        }
        form
    }

    fn answer(&self, request: &HttpRequest, servers: &Value) -> HttpResponse {
        let Form { hash, plain, gzip, .. } = self.form(servers);
        let codings = [(Coding::Brotli, None), (Coding::Gzip, gzip)];
        kept(request, "application/json", &hash, plain, codings)
    }
}

/// `GET /openapi.json`
pub async fn openapi(context: web::Data<super::Context>, request: HttpRequest) -> HttpResponse {
    static MADE: LazyLock<Document> = LazyLock::new(|| Document::of(super::openapi::document(&super::table())));
    // who reads the document knows the scheme and host, which a proxy may have changed; a public address is sure
    let url = match &context.settings.server.public_url {
        Some(url) => url.clone(),
        None => context.proxies.prefix(&request) + "/",
    };
    MADE.answer(&request, &super::openapi::servers(&url))
}

/// `GET /asyncapi.json`
pub async fn asyncapi(context: web::Data<super::Context>, request: HttpRequest) -> HttpResponse {
    static MADE: LazyLock<Document> = LazyLock::new(|| Document::of(super::asyncapi::document()));
    MADE.answer(&request, &super::asyncapi::servers(&context.base_url(&request)))
}

/// Whether an `If-None-Match` names the tag. A proxy that compresses weakens the tags that it passes on (RFC 9110, 13.1.2).
fn names(if_none_match: &[u8], etag: &str) -> bool {
    let mut tags = if_none_match.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
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
    fn files_are_kept_by_their_names_and_compressed_where_that_is_smaller() {
        let script = File::find("vendor/swagger-ui-bundle.js").expect("it is there");
        let (gzip, brotli) = (script.gzip.expect("by gzip"), script.brotli.expect("by Brotli"));
        assert!(brotli.len() < gzip.len() && gzip.len() < script.plain.len() / 2);
        assert!(FILES.is_sorted_by_key(|file| file.name));
        for bad in ["", "/", "app/", "../settings.toml", "app/../../Cargo.toml", ".git", "app\\main.js"] {
            assert!(File::find(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_kept_file_comes_whole_in_small_pieces() {
        let script = File::find("vendor/swagger-ui-bundle.js").expect("it is there");
        let mut body = Kept(Bytes::from_static(script.plain));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut whole = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_next(&mut context) {
            assert!(piece.len() <= PIECE_BYTES);
            whole.extend_from_slice(&piece);
        }
        assert!(whole == script.plain);
    }

    #[test]
    fn a_tag_is_known_again_in_a_list_and_when_a_proxy_weakened_it() {
        for seen in ["\"x\"", "W/\"x\"", "\"a\", W/\"x\"", "\"x\" ,\"b\""] {
            assert!(names(seen.as_bytes(), "\"x\""), "{seen}");
        }
        assert!(names(b"*", "\"x\""));
        assert!(!names(b"\"xx\", x", "\"x\""));
    }
}
