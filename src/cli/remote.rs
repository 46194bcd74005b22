//! A running server as seen from the command line: where it is, who asks, and its JSON answers over HTTP.

mod args;

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use awc::error::{ConnectError, SendRequestError};
use serde_json::Value as Json;

use super::channel::Channel;
use super::{Failure, output, suggest};

pub use args::RemoteArgs;

/// Longest wait for an answer, its body included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Details of a refusal that are shown.
const DETAILS_NAMED: usize = 50;
/// Largest answer that is read.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Asks one server with one token. Not `Send`, like awc's client in it.
pub struct Remote {
    client: awc::Client,
    server: String,
    token: Option<String>,
}

/// A success whose body is still to be read.
pub type Answer = awc::ClientResponse;

/// One request, beside who asks.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: Vec<(Cow<'static, str>, String)>,
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Its content type, and the bytes.
    pub body: Option<(&'static str, Bytes)>,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, path: &'a str) -> Request<'a> {
        Request { method, path, query: Vec::new(), headers: Vec::new(), body: None }
    }

    pub fn get(path: &'a str) -> Request<'a> {
        Request::new(Method::GET, path)
    }

    pub fn delete(path: &'a str) -> Request<'a> {
        Request::new(Method::DELETE, path)
    }

    pub fn query(mut self, query: impl IntoIterator<Item = (&'static str, String)>) -> Request<'a> {
        self.query.extend(query.into_iter().map(|(name, value)| (name.into(), value)));
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, kind: &'static str, body: impl Into<Bytes>) -> Request<'a> {
        self.body = Some((kind, body.into()));
        self
    }
}

/// Why a request was not answered as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No whole answer came.
    Unreachable { server: String, reason: String },
    /// The server said no.
    Refused(Refusal),
}

/// A status that is no success, and what the server said with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub sentence: String,
    /// The list `details` of the error body.
    pub details: Vec<Json>,
    /// The whole body; null where it is no JSON.
    pub body: Box<Json>,
    pub retry_after: Option<Duration>,
}

impl Trouble {
    /// Whether the same request may well succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status.as_u16(), 408 | 429 | 502 | 503 | 504),
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unreachable { .. } => None,
            Self::Refused(refusal) => refusal.retry_after,
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unreachable { .. } => None,
            Self::Refused(refusal) => Some(refusal.status.as_u16()),
        }
    }

    /// What happened, without advice.
    pub fn reason(&self) -> String {
        match self {
            Self::Unreachable { server, reason } => format!("cannot talk to {server}: {reason}"),
            Self::Refused(refusal) => {
                format!("the server answered {}: {}", refusal.status.as_u16(), refusal.sentence)
            }
        }
    }

    /// The failure, with the scope that the request needs.
    pub fn needing(&self, scope: &str) -> Failure {
        let advice = match self.status() {
            None => "check --server and that the server runs".to_owned(),
            Some(401) => "check the token".to_owned(),
            Some(403) => format!("use a token with the scope {scope}, or the admin token"),
            Some(404) => "check the name and that the token may know of it".to_owned(),
            Some(429 | 503) => "try again later".to_owned(),
            Some(_) => "correct the request".to_owned(),
        };
        let details = match self {
            Self::Unreachable { .. } => String::new(),
            Self::Refused(refusal) => refusal.explained(),
        };
        Failure::Failed(format!("{}; {advice}{details}", self.reason()))
    }
}

impl Remote {
    /// Prepares requests; connects to nothing yet. Must be called inside an actix runtime.
    ///
    /// # Errors
    /// Wrong usage when no token is given.
    pub fn new(args: &RemoteArgs) -> Result<Self, Failure> {
        let remote = Self::with_or_without_token(args)?;
        match remote.has_token() {
            true => Ok(remote),
            false => {
                let reason =
                    "no token is given; set STENTOR_TOKEN, use --token-file or --token, or log in by stentor login";
                Err(Failure::Usage(reason.to_owned()))
            }
        }
    }

    /// Like [`Remote::new`], for questions that anyone may ask.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_or_without_token(args: &RemoteArgs) -> Result<Self, Failure> {
        let server = args.server()?;
        let token = args.token(&server)?;
        Self::at(args, &server, token)
    }

    /// Like [`Remote::with_or_without_token`], with both given.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn at(args: &RemoteArgs, server: &str, token: Option<String>) -> Result<Self, Failure> {
        super::install_cryptography();
        let connector = awc::Connector::new().rustls_0_23(args.tls()?);
        let client = awc::Client::builder().connector(connector).timeout(TIMEOUT).disable_redirects().finish();
        Ok(Self { client, server: server.to_owned(), token })
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// The same client at another address, which does not get the token.
    pub fn elsewhere(&self, server: &str) -> Remote {
        Remote { client: self.client.clone(), server: server.to_owned(), token: None }
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Opens a WebSocket and ends it again.
    ///
    /// # Errors
    /// A sentence, when there is no handshake.
    pub async fn handshake(&self, path: &str) -> Result<(), String> {
        let mut opening = self.client.ws(format!("{}{path}", self.server));
        if let Some(token) = &self.token {
            opening = opening.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        match actix_web::rt::time::timeout(TIMEOUT, opening.connect()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    /// Sends one request and reads the JSON of its answer; an empty answer is `null`.
    ///
    /// # Errors
    /// When the server is not reached, or answers with anything but a 2xx; its own sentence is repeated.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        let mut request = Request::new(method, path);
        if let Some(body) = body {
            request = request.body("application/json", body.to_string());
        }
        self.json(&request).await.map_err(|trouble| trouble.needing("manage"))
    }

    /// Sends one request and reads the JSON of its answer; an empty answer is `null`.
    ///
    /// # Errors
    /// [`Trouble::Refused`] for a status that is not 2xx, [`Trouble::Unreachable`] when no whole answer came in time or
    /// it is not JSON.
    pub async fn json(&self, request: &Request<'_>) -> Result<Json, Trouble> {
        let exchange = async {
            let mut response = self.open(request).await?;
            response.body().limit(ANSWER_BYTES).await.map_err(|e| self.broken(&e))
        };
        // awc's own timeout ends with the head of the answer.
        let answered = actix_web::rt::time::timeout(TIMEOUT, exchange).await;
        let bytes = answered.map_err(|_| self.unreachable(format!("no answer within {} s", TIMEOUT.as_secs())))??;
        if bytes.is_empty() {
            return Ok(Json::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|_| self.unreachable("its answer is no JSON; is this a Stentor server?".to_owned()))
    }

    /// Sends one request and leaves the body of its answer, which is a success, to be read.
    ///
    /// # Errors
    /// [`Trouble::Refused`] for a status that is not 2xx, [`Trouble::Unreachable`] when no head of an answer came in
    /// time.
    pub async fn open(&self, request: &Request<'_>) -> Result<Answer, Trouble> {
        let url = format!("{}{}", self.server, request.path);
        let mut sending = self.client.request(request.method.clone(), &url);
        if let Some(token) = &self.token {
            sending = sending.bearer_auth(token);
        }
        for (name, value) in &request.headers {
            sending = sending.insert_header((&**name, value.as_str()));
        }
        if !request.query.is_empty() {
            sending = sending.query(&request.query).map_err(|e| self.unreachable(e.to_string()))?;
        }
        let sent = match &request.body {
            Some((kind, body)) => sending.insert_header_if_none((CONTENT_TYPE, *kind)).send_body(body.clone()),
            None => sending.send(),
        };
        let mut response = sent.await.map_err(|error| self.unreachable(in_words(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let reading = response.body().limit(ANSWER_BYTES);
        // what it said does not come; its status did
        let said = actix_web::rt::time::timeout(TIMEOUT, reading).await.ok().and_then(Result::ok).unwrap_or_default();
        Err(Trouble::Refused(Refusal::of(response.status(), response.headers(), &said)))
    }

    /// The failure of a request about a channel. Where the channel is not there, the nearest that is there is named.
    pub async fn explain(&self, trouble: &Trouble, channel: &Channel, scope: &str) -> Failure {
        let failure = trouble.needing(scope);
        let (Some(404), Some((list, name))) = (trouble.status(), channel.listed()) else { return failure };
        let Ok(answer) = self.json(&Request::get(list)).await else { return failure };
        let rows = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
        let names: Vec<&str> =
            rows.iter().flat_map(|row| [row["slug"].as_str(), row["id"].as_str()]).flatten().collect();
        if names.contains(&name) {
            // the channel is there: something in it is missing
            return failure;
        }
        Failure::Failed(format!("{failure}{}", suggest::did_you_mean(name, names)))
    }

    /// The trouble of an answer whose body ended before its time.
    pub fn broken(&self, error: &awc::error::PayloadError) -> Trouble {
        self.unreachable(format!("its answer broke off: {error}"))
    }

    /// The trouble of a server that does not answer as it should.
    pub fn unreachable(&self, reason: String) -> Trouble {
        Trouble::Unreachable { server: self.server.clone(), reason }
    }
}

/// One entry of a list of details: where it is, and what is wrong there.
fn detail_in_words(detail: &Json) -> String {
    let text = |name: &str| detail[name].as_str().unwrap_or_default();
    let place = detail["index"].as_u64().map(|at| format!("event {at}: ")).unwrap_or_default();
    match (text("field"), text("message")) {
        ("", "") => plain(detail),
        ("", message) => format!("{place}{message}"),
        (field, message) => format!("{place}{field} {message}"),
    }
}

/// A text without its quotes, anything else as JSON.
fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What awc says, for people.
pub fn in_words(error: &SendRequestError) -> String {
    match error {
        SendRequestError::Connect(ConnectError::Resolver(_) | ConnectError::NoRecords) => {
            "the name of the server is not known".to_owned()
        }
        SendRequestError::Connect(ConnectError::Disconnected) => {
            "the connection ended before an answer came".to_owned()
        }
        SendRequestError::Connect(error) if error.to_string().contains("InvalidContentType") => {
            "it does not speak TLS there; use http:// or another port".to_owned()
        }
        SendRequestError::Connect(error) => error.to_string(),
        SendRequestError::Send(error) => format!("the connection broke off: {error}"),
        SendRequestError::Response(error) => format!("the connection broke off within the answer ({error})"),
        SendRequestError::Timeout => format!("no answer within {} s", TIMEOUT.as_secs()),
        error => error.to_string(),
    }
}

impl Refusal {
    /// Everything that the server says beside its sentence, a line for each.
    fn explained(&self) -> String {
        let whole = self.body.pointer("/error/details").or_else(|| self.body.get("details"));
        let mut lines: Vec<String> = match whole {
            _ if !self.details.is_empty() => self.details.iter().map(detail_in_words).collect(),
            Some(Json::Object(about)) => {
                about.iter().map(|(name, value)| format!("{name}: {}", plain(value))).collect()
            }
            _ => Vec::new(),
        };
        if lines.len() > DETAILS_NAMED {
            let rest = lines.len() - DETAILS_NAMED;
            lines.truncate(DETAILS_NAMED);
            lines.push(format!("and {}", output::count(rest as u64, "more", "more")));
        }
        lines.iter().map(|line| format!("\n  {}", output::tame(line))).collect()
    }

    /// Understands both error bodies of the server.
    fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
        let json: Json = serde_json::from_slice(body).unwrap_or_default();
        let sentence = json.pointer("/error/message").or_else(|| json.get("error")).and_then(Json::as_str);
        let details = json.pointer("/error/details/errors").or_else(|| json.get("details")).and_then(Json::as_array);
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let sentence = sentence.map(str::to_owned);
        let details = details.cloned().unwrap_or_default();
        Refusal {
            status,
            sentence: sentence
                .unwrap_or_else(|| "no reason that Stentor would give; is this a Stentor server?".to_owned()),
            details,
            body: Box::new(json),
            retry_after: seconds.map(Duration::from_secs),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_error_bodies_of_the_server_are_understood() {
        let b = json!({"error": {"code": "forbidden", "message": "the scope manage is missing"}});
        let a = json!({"error": "Map not found for identifier: x", "code": "MAP_NOT_FOUND", "status": 404});
        let failure = |status, body: &Json| {
            let refusal = Refusal::of(status, &HeaderMap::new(), body.to_string().as_bytes());
            Trouble::Refused(refusal).needing("manage").to_string()
        };
        assert_eq!(
            failure(StatusCode::FORBIDDEN, &b),
            "the server answered 403: the scope manage is missing; \
             use a token with the scope manage, or the admin token"
        );
        assert!(failure(StatusCode::NOT_FOUND, &a).contains("Map not found for identifier: x"));
        assert!(failure(StatusCode::BAD_GATEWAY, &Json::Null).contains("is this a Stentor server?"));
    }

    #[test]
    fn every_detail_of_a_refusal_is_shown_and_no_control_character() {
        let said = |body: Json| {
            let refusal = Refusal::of(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.to_string().as_bytes());
            Trouble::Refused(refusal).needing("manage").to_string()
        };
        let detail = |field: &str, message: &str| json!({"field": field, "message": message});
        let a = json!({"error": "Validation failed", "code": "VALIDATION", "status": 400,
            "details": [detail("url", "is required"), {"index": 3, "field": "type", "message": "is\u{1b}[2J long"}]});
        assert_eq!(
            said(a),
            "the server answered 400: Validation failed; correct the request\n  url is required\n  event 3: type is\\u001b[2J long"
        );
        let b = json!({"error": {"code": "invalid", "message": "Validation failed",
            "details": {"errors": [detail("expires_at", "is no time")]}}});
        assert!(said(b).ends_with("\n  expires_at is no time"));
        let limit = json!({"error": "Too many", "details": {"setting": "limits.streams_per_token", "value": 10}});
        assert!(said(limit).ends_with("\n  setting: limits.streams_per_token\n  value: 10"));
        let many: Vec<Json> = (0..60).map(|n| detail(&format!("f{n}"), "is wrong")).collect();
        assert!(said(json!({"error": "x", "details": many})).ends_with("\n  and 10 more"));
    }
}
