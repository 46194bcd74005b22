//! Requests as they came: what a source in raw mode keeps of one, and what is sent on of it.
//!
//! The event is `http.request` (or by the type rule of the source), its payload `{"method", "path", "query", "headers", "body",
//! "body_encoding"}`. Whoever verifies the provider's signature over what is sent on gets the bytes that the provider signed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::auth::Incoming;
use super::pointer;
use crate::model::json::Canonical;
use crate::model::percent;

/// The type of the event unless the source has a rule.
pub const REQUEST_TYPE: &str = "http.request";
/// The largest body that a source in raw mode takes, in bytes: as base64 it fits an event of 256 KiB.
pub const RAW_BODY_BYTES_MAX: usize = 192 * 1024;
/// Bytes of the path and the query together, and of all headers, that are kept.
pub const RAW_TARGET_BYTES_MAX: usize = 16 * 1024;
pub const RAW_HEADERS_BYTES_MAX: usize = 32 * 1024;
/// Headers and parameters that a source may name.
pub const NAMES_MAX: usize = 50;
/// The longest of these names.
const NAME_BYTES_MAX: usize = 128;

/// Headers that hold a credential of the sender, or one of ours.
const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];
/// Parameters that hold one of ours.
const CREDENTIAL_PARAMETERS: [&str; 2] = ["token", "ticket"];

/// What a source in raw mode keeps and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RawRules {
    /// Headers that are kept although they hold a credential.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Further headers that are not kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
    /// Parameters of the query that are not kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact_query: Vec<String>,
    /// What senders are answered; absent: as events are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<RawResponse>,
}

/// The source's own answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawResponse {
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "pairs")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

fn ok() -> u16 {
    200
}

/// Headers as an object, or as a list of pairs.
fn pairs<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Listed(Vec<(String, String)>),
        Named(serde_json::Map<String, serde_json::Value>),
    }
    match Form::deserialize(source)? {
        Form::Listed(list) => Ok(list),
        Form::Named(map) => map
            .into_iter()
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => Ok((name, text)),
                _ => Err(serde::de::Error::custom("the value of a header is a text")),
            })
            .collect(),
    }
}

/// The longest answer of a source of its own, in bytes.
pub const RESPONSE_BODY_BYTES_MAX: usize = 16 * 1024;

/// Why an answer cannot be given, or names cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRaw {
    #[error("its status is 200 to 299 or 400 to 599")]
    Status,
    #[error("its Content-Type is text/plain, application/json or text/xml")]
    ContentType,
    #[error("has the header {0}; Content-Type, Cache-Control, Retry-After and names that begin with X- may be given")]
    Header(String),
    #[error("has the header {0}, with which a proxy in front would answer something else, such as a file of its own")]
    ForProxies(String),
    #[error("gives a header twice, or one whose value is not 1 to 1024 visible ASCII characters")]
    Value,
    #[error("has a body of more than 16384 bytes, or one with a status that has none")]
    Body,
    #[error("is a list of up to 50 names of 1 to 128 visible ASCII characters")]
    Names,
}

/// How the names of headers begin by which an answer commands a proxy: of nginx, of Apache and others, of lighttpd, of LiteSpeed
/// and of Perlbal. With them the owner of a source would read files of whoever runs the proxy.
const FOR_PROXIES: [&str; 5] = ["x-accel-", "x-sendfile", "x-lighttpd-", "x-litespeed-", "x-reproxy-"];

impl RawResponse {
    /// Whether this may be answered: no browser may take it for a page, and nothing may be done with our origin by it.
    ///
    /// # Errors
    /// What of it may not be.
    pub fn check(&self) -> Result<(), BadRaw> {
        if !matches!(self.status, 200..=299 | 400..=599) {
            return Err(BadRaw::Status);
        }
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in &self.headers {
            let is_name = name.len() <= NAME_BYTES_MAX && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let lower = name.to_ascii_lowercase();
            let own = ["content-type", "cache-control", "retry-after"].contains(&&*lower);
            // this one is ours
            let free = lower.starts_with("x-") && lower.len() > 2 && lower != "x-content-type-options";
            if !is_name || !own && !free {
                return Err(BadRaw::Header(name.chars().filter(|c| !c.is_control()).take(64).collect()));
            }
            if FOR_PROXIES.iter().any(|start| lower.starts_with(start)) {
                return Err(BadRaw::ForProxies(name.clone()));
            }
            let is_value =
                (1..=1024).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            if !is_value || seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return Err(BadRaw::Value);
            }
            seen.push(name);
            if lower == "content-type" {
                let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                if !["text/plain", "application/json", "text/xml"].contains(&&*kind) {
                    return Err(BadRaw::ContentType);
                }
            }
        }
        let has_none = matches!(self.status, 204 | 205) && !self.body.is_empty();
        if self.body.len() > RESPONSE_BODY_BYTES_MAX || has_none {
            return Err(BadRaw::Body);
        }
        Ok(())
    }
}

impl RawRules {
    /// # Errors
    /// A list is too long, or a name is none.
    pub fn check_names(names: &[String]) -> Result<(), BadRaw> {
        let is_name =
            |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if names.len() <= NAMES_MAX && names.iter().all(is_name) { Ok(()) } else { Err(BadRaw::Names) }
    }
}

/// Why a request is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    #[error("the body is larger than {RAW_BODY_BYTES_MAX} bytes")]
    Body,
    #[error("path and query are longer than {RAW_TARGET_BYTES_MAX} bytes")]
    Target,
    #[error("the headers are longer than {RAW_HEADERS_BYTES_MAX} bytes")]
    Headers,
}

/// What a request is kept as.
pub struct Keeping<'a> {
    pub rules: &'a RawRules,
    /// Headers, parameters and JSON pointers in which the sender shows the secret itself.
    pub secret_headers: &'a [String],
    pub secret_parameters: &'a [String],
    pub secret_fields: &'a [&'a str],
}

impl Keeping<'_> {
    /// The payload of the event. `path`: what follows the address of the source, as it came; `query`: the raw text behind
    /// the question mark.
    ///
    /// # Errors
    /// The request is larger than one may be.
    pub fn payload(&self, request: &Incoming<'_>, path: &str, query: &str) -> Result<Canonical, TooMuch> {
        if request.body.len() > RAW_BODY_BYTES_MAX {
            return Err(TooMuch::Body);
        }
        if path.len() + query.len() > RAW_TARGET_BYTES_MAX {
            return Err(TooMuch::Target);
        }
        let all = request.headers.all();
        let kept: Vec<_> = all.iter().filter(|(name, _)| self.keeps(name)).collect();
        if kept.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > RAW_HEADERS_BYTES_MAX {
            return Err(TooMuch::Headers);
        }
        let headers: Vec<_> =
            kept.iter().map(|(name, value)| format!("[{},{}]", quoted(name), quoted(value))).collect();
        let body = self.body(request);
        let (body, encoding) = encoded(&body);
        let query = self.query(query);
        let (method, path, query) = (quoted(request.method), quoted(path), quoted(&query));
        // every part was written in the canonical form, and the names need no escape
        let text = format!(
            "{{\"method\":{method},\"path\":{path},\"query\":{query},\"headers\":[{}],\"body\":{body},\"body_encoding\":\"{encoding}\"}}",
            headers.join(",")
        );
        Ok(Canonical::from_log(text.into()).expect("a string is UTF-8"))
    }

    fn is_kept_anyway(&self, name: &str) -> bool {
        self.rules.keep.iter().any(|kept| kept.eq_ignore_ascii_case(name))
    }

    fn keeps(&self, header: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(header);
        if self.rules.redact.iter().any(|name| is(name)) {
            return false;
        }
        let is_credential = CREDENTIALS.iter().any(|name| is(name)) || self.secret_headers.iter().any(|name| is(name));
        !is_credential || self.is_kept_anyway(header)
    }

    /// The query without what is not kept; the rest of it as it came.
    fn query(&self, query: &str) -> String {
        let is_kept = |pair: &&str| {
            let (name, _) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
            if self.rules.redact_query.iter().any(|other| *other == name) {
                return false;
            }
            let is_credential =
                CREDENTIAL_PARAMETERS.contains(&&*name) || self.secret_parameters.iter().any(|other| *other == name);
            !is_credential || self.is_kept_anyway(&name)
        };
        query.split('&').filter(is_kept).collect::<Vec<_>>().join("&")
    }

    /// The body without the token that the sender shows in it.
    fn body<'b>(&self, request: &Incoming<'b>) -> Cow<'b, [u8]> {
        let fields: Vec<&str> =
            self.secret_fields.iter().copied().filter(|field| !self.is_kept_anyway(field)).collect();
        let (false, Ok(text)) = (fields.is_empty(), std::str::from_utf8(request.body)) else {
            return request.body.into();
        };
        let kind = request.headers.get("content-type").unwrap_or_default();
        if kind.starts_with("application/x-www-form-urlencoded") {
            let is_kept = |pair: &&str| {
                let (name, _) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
                !fields.iter().any(|field| field[1..] == *name)
            };
            return text.split('&').filter(is_kept).collect::<Vec<_>>().join("&").into_bytes().into();
        }
        let start = text.find(|c: char| !c.is_ascii_whitespace() && c != '\u{feff}').unwrap_or(text.len());
        let (before, json) = text.split_at(start);
        format!("{before}{}", pointer::redacted(json, &fields)).into_bytes().into()
    }
}

fn quoted(text: &str) -> String {
    Canonical::of_text(text).as_str().to_owned()
}

/// Bytes as a JSON string: as they are where they are text, else, or where its escapes would make it longer, in base64.
fn encoded(bytes: &[u8]) -> (String, &'static str) {
    let most = bytes.len().div_ceil(3) * 4 + 2;
    let text = std::str::from_utf8(bytes).ok().map(quoted);
    // a short text with an escape is still a text
    match text.filter(|text| text.len() <= most.max(1024)) {
        Some(text) => (text, "utf8"),
        None => (format!("\"{}\"", STANDARD.encode(bytes)), "base64"),
    }
}

/// A request as an event has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRequest {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why a request is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSentOn {
    #[error("the path of the request has a segment . or .., which could lead elsewhere at the receiver")]
    DotSegment,
    #[error("the request has a path or a method that cannot be sent")]
    Malformed,
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    query: Cow<'a, str>,
    #[serde(borrow)]
    headers: &'a RawValue,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(borrow)]
    body_encoding: Cow<'a, str>,
}

/// Headers that belong to one connection (RFC 9110, 7.6.1), or say something that is another at the next receiver.
const NOT_SENT_ON: [&str; 14] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "host",
    "content-length",
    "forwarded",
    "x-real-ip",
    "expect",
    "http2-settings",
];

impl RawRequest {
    /// A payload to try a webhook with.
    pub fn sample() -> Canonical {
        let text = r#"{"method":"POST","path":"","query":"","headers":[["content-type","application/json"]],"body":"{\"test\":true}","body_encoding":"utf8"}"#;
        // it is written in the canonical form
        Canonical::parse(text).unwrap_or(Canonical::EMPTY_OBJECT)
    }

    /// Whether a payload is that of a request.
    pub fn is_one(payload: &str) -> bool {
        let Ok(form) = serde_json::from_str::<Form<'_>>(payload) else { return false };
        let is_list = form.headers.get().starts_with('[') && form.body.get().starts_with('"');
        is_list && matches!(&*form.body_encoding, "utf8" | "base64")
    }

    /// Reads the payload of an event.
    pub fn of(payload: &str) -> Option<RawRequest> {
        let form: Form<'_> = serde_json::from_str(payload).ok()?;
        let text: String = serde_json::from_str(form.body.get()).ok()?;
        let body = match &*form.body_encoding {
            "utf8" => text.into_bytes(),
            "base64" => STANDARD.decode(text).ok()?,
            _ => return None,
        };
        let headers = serde_json::from_str(form.headers.get()).ok()?;
        let (method, path, query) = (form.method.into_owned(), form.path.into_owned(), form.query.into_owned());
        Some(RawRequest { method, path, query, headers, body })
    }

    /// The address to which it is sent on: `url` with the path behind its own and the query behind its own.
    ///
    /// # Errors
    /// The path could lead to another place than it says.
    pub fn address(&self, url: &str) -> Result<String, NotSentOn> {
        let is_method = !self.method.is_empty() && self.method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if !is_method || matches!(self.method.as_str(), "TRACE" | "CONNECT") {
            return Err(NotSentOn::Malformed);
        }
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let is_path = self.path.is_empty() || self.path.starts_with('/');
        if !is_path || !is_plain(&self.path) || self.path.contains('?') || !is_plain(&self.query) {
            return Err(NotSentOn::Malformed);
        }
        if has_dot_segment(&self.path) {
            return Err(NotSentOn::DotSegment);
        }
        let (base, own) = url.split_once('?').map_or((url, ""), |(base, own)| (base, own));
        let base = if self.path.is_empty() { base } else { base.trim_end_matches('/') };
        let query = [own, &self.query].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        Ok(format!("{base}{}{mark}{query}", self.path))
    }

    /// The headers that are sent on, in their order.
    pub fn forwarded_headers(&self) -> impl Iterator<Item = &(String, String)> {
        let connection = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
        let named: Vec<String> = connection
            .flat_map(|(_, value)| value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect::<Vec<_>>())
            .collect();
        self.headers.iter().filter(move |(name, _)| {
            let lower = name.to_ascii_lowercase();
            let is_ours = lower.starts_with("x-stentor-") || lower.starts_with("x-forwarded-");
            !is_ours && !NOT_SENT_ON.contains(&&*lower) && !named.contains(&lower)
        })
    }
}

/// Whether a receiver could take a segment of the path for `.` or `..` (RFC 3986, 5.2.4), also one that is encoded, or encoded
/// twice.
fn has_dot_segment(path: &str) -> bool {
    let mut text = path.to_owned();
    for _ in 0..3 {
        let is_dot = |segment: &str| {
            let name = segment.split(';').next().unwrap_or_default();
            name == "." || name == ".."
        };
        if text.split(['/', '\\']).any(is_dot) {
            return true;
        }
        text = String::from_utf8_lossy(&percent::decode(text.as_bytes())).into_owned();
    }
    false
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
