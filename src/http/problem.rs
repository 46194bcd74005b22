//! The only place where an error becomes a status: one table, two bodies.
//!
//! A handler returns a [`Problem`]. What the client reads is written by [`shape`], which also puts the framework's own
//! errors (no such path, wrong method, body too large) into the same words.
//!
//! - [`code`]: the table of codes with their status
//! - [`from_engine`]: what each error of the engine is to a client

mod code;
mod from_engine;
#[cfg(test)]
mod reference;

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, ResponseError};
use actors::metrics::ErrorLabels;
use actors::model::channel::ChannelKind;
use actors::streams::slots::StreamRefusal;
use actors::streams::tickets::MintRefusal;
use serde_json::{Value, json};

pub use self::code::Code;
use super::family::ApiFamily;
use super::{Context, credential};
use crate::settings::{Limits, Settings};

/// What a handler answers.
pub type Answer = Result<HttpResponse, Problem>;

/// Seconds after which a client may try again what was refused for lack of room.
const RETRY_SOON_S: u64 = 1;
/// Seconds after which a refused stream may find a free slot.
const RETRY_STREAM_S: u64 = 5;
/// Seconds after which a ticket or a scan of the same token may have ended.
const RETRY_LATER_S: u64 = 5;
/// Seconds after which a sender may try a paused source again.
const RETRY_PAUSED_S: u64 = 60;

/// An error as a client will read it.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    message: String,
    /// What is wrong with which field.
    details: Vec<Value>,
    /// The setting that says so, and its value.
    setting: Option<(&'static str, u64)>,
    retry_after_s: Option<u64>,
    /// The methods that the address knows, where this is said of another one.
    allow: Option<&'static str>,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Problem {
        let retry_after_s = match code {
            Code::ServerConnectionLimit
            | Code::MapConnectionLimit
            | Code::ChannelConnectionLimit
            | Code::ApiKeyConnectionLimit => Some(RETRY_STREAM_S),
            Code::SourcePaused => Some(RETRY_PAUSED_S),
            Code::TicketLimit | Code::ScanLimit => Some(RETRY_LATER_S),
            _ if matches!(code.status(), 429 | 503) => Some(RETRY_SOON_S),
            _ => None,
        };
        Problem { code, message: message.into(), details: Vec::new(), setting: None, retry_after_s, allow: None }
    }

    pub fn with_details(mut self, details: Vec<Value>) -> Problem {
        self.details = details;
        self
    }

    /// Names the fields of the details by `spell`.
    pub fn spelled(mut self, spell: impl Fn(&str) -> String) -> Problem {
        for detail in &mut self.details {
            if let Some(field) = detail.get("field").and_then(Value::as_str).map(&spell) {
                detail["field"] = field.into();
            }
        }
        self
    }

    /// Names the setting that says so.
    pub fn by_setting(mut self, setting: &'static str, value: impl Into<u64>) -> Problem {
        self.setting = Some((setting, value.into()));
        self
    }

    pub fn retry_after(mut self, seconds: u64) -> Problem {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Another method than these.
    pub fn method(allow: &'static str, message: &str) -> Problem {
        Problem { allow: Some(allow), ..Problem::new(Code::MethodNotAllowed, message) }
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code
    }

    /// One field of a body or query is not as it should be.
    pub fn invalid(field: &str, message: impl fmt::Display) -> Problem {
        Problem::validation(vec![json!({ "field": field, "message": message.to_string() })])
    }

    /// Fields of a body are not as they should be; each of `details` has `field` and `message`.
    pub fn validation(details: Vec<Value>) -> Problem {
        Problem::new(Code::ValidationFailed, "Validation failed").with_details(details)
    }

    pub fn parameter(name: &str, message: impl fmt::Display) -> Problem {
        Problem::new(Code::InvalidParameter, format!("'{name}': {message}"))
    }

    /// For parameters whose sentence clients know by heart.
    pub fn parameter_text(text: &'static str) -> Problem {
        Problem::new(Code::InvalidParameter, text)
    }

    pub fn missing_token() -> Problem {
        Problem::new(Code::Unauthorized, "Missing or invalid 'Bearer' token")
    }

    pub fn bad_token(family: ApiFamily) -> Problem {
        let text = match family {
            ApiFamily::Maps => "Unauthorized (invalid token for map)",
            _ => "Unauthorized (the token is not valid, or not any more)",
        };
        Problem::new(Code::Unauthorized, text)
    }

    pub fn bad_ticket() -> Problem {
        Problem::new(Code::Unauthorized, "The ticket is unknown, expired or used; POST for a new one")
    }

    /// `kind`: none where `called` names it too.
    pub fn no_channel(kind: Option<ChannelKind>, called: &str) -> Problem {
        let message = match kind {
            Some(ChannelKind::Map) => format!("Map not found for identifier: {called}"),
            Some(ChannelKind::Organization) => format!("Organization not found for identifier: {called}"),
            None if called.is_empty() => "The channel of this token does not exist any more".into(),
            None => format!("Channel not found: {called}"),
        };
        Problem::new(Code::NotFound, message)
    }

    /// A channel of several that a request names, by `map:<id>` and so on.
    pub fn unknown_channel(name: &str) -> Problem {
        Problem::new(Code::NotFound, format!("Channel not found: {name}"))
    }

    /// A source that is not there, or that the caller may not know of.
    pub fn no_source() -> Problem {
        Problem::new(Code::NotFound, "Webhook not found")
    }

    /// No room for another stream.
    pub fn no_slot(refusal: StreamRefusal, family: ApiFamily, limits: &Limits) -> Problem {
        let (code, setting, value) = match refusal {
            StreamRefusal::Total => (Code::ServerConnectionLimit, "limits.streams_total", limits.streams_total),
            StreamRefusal::Channel => {
                let is_map = family == ApiFamily::Maps;
                let code = if is_map { Code::MapConnectionLimit } else { Code::ChannelConnectionLimit };
                (code, "limits.streams_per_channel", limits.streams_per_channel)
            }
            StreamRefusal::Token => (Code::ApiKeyConnectionLimit, "limits.streams_per_token", limits.streams_per_token),
        };
        let problem = match code {
            Code::ChannelConnectionLimit => Problem::new(code, "Too many connections to this channel"),
            _ => Problem::new(code, refusal.to_string()),
        };
        problem.by_setting(setting, value as u64)
    }

    /// No ticket.
    pub fn no_ticket(refusal: MintRefusal, settings: &Settings) -> Problem {
        let limited = |message: &str, setting, value: usize| {
            Problem::new(Code::TicketLimit, message).by_setting(setting, value as u64)
        };
        match refusal {
            MintRefusal::Total { .. } => {
                let message = "Too many tickets are open; use those, or wait for them to expire";
                limited(message, "tickets.max", settings.tickets.max)
            }
            MintRefusal::Token { .. } => {
                let message = "Too many tickets of this token are open; use those, or wait for them to expire";
                limited(message, "limits.tickets_per_token", settings.limits.tickets_per_token)
            }
            MintRefusal::Filter { .. } => Problem::new(Code::InvalidFilter, format!("Invalid filter: {refusal}")),
            MintRefusal::Unavailable => Problem::new(Code::Unavailable, refusal.to_string()),
        }
    }

    /// See [`has_bad_host`](super::forwarded::has_bad_host).
    pub fn bad_host() -> Problem {
        Problem::new(Code::BadRequest, "The Host of the request is none: send a name or an address")
    }

    /// What the client reads at this family.
    pub fn body(&self, family: ApiFamily) -> Value {
        if family.nests_errors() { self.body_b() } else { self.body_a() }
    }

    fn body_a(&self) -> Value {
        let mut body = json!({ "error": self.message, "code": self.code.upper(), "status": self.code.status() });
        if !self.details.is_empty() {
            body["details"] = self.details.clone().into();
        }
        if let Some((setting, value)) = self.setting {
            body["details"] = json!({ "setting": setting, "value": value });
        }
        body
    }

    fn body_b(&self) -> Value {
        let mut error = json!({ "code": self.code.lower(), "message": self.message });
        if !self.details.is_empty() {
            error["details"] = json!({ "errors": self.details });
        }
        if let Some((setting, value)) = self.setting {
            error["details"] = json!({ "setting": setting, "value": value });
        }
        json!({ "error": error })
    }

    /// The problem of an error that the framework made.
    fn of_status(status: StatusCode, path: &str) -> Problem {
        match status {
            StatusCode::NOT_FOUND => Problem::new(Code::NotFound, format!("There is nothing at {path}")),
            StatusCode::METHOD_NOT_ALLOWED => Problem::new(
                Code::MethodNotAllowed,
                "This address does not know this method; the Allow header lists those it does",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(Code::PayloadTooLarge, "The body is larger than this address takes")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(Code::UnsupportedMediaType, "Send application/json"),
            status if status.is_client_error() => Problem::new(Code::BadRequest, "The request cannot be understood"),
            _ => Problem::new(Code::Internal, "Something went wrong here; the server's log says what"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::new(self.status_code());
        response.extensions_mut().insert(self.clone());
        response
    }
}

/// Marks an answer with the status of an error that somebody else wrote, and that goes out as it is.
pub struct AsItIs;

/// Writes the body of an error, in the words of the API that was called, and counts it. Other answers go out as they are.
pub fn shape(response: ServiceResponse) -> ServiceResponse {
    if !(response.status().is_client_error() || response.status().is_server_error()) {
        return response;
    }
    if response.response().extensions().contains::<AsItIs>() {
        return response;
    }
    let (request, response) = response.into_parts();
    let problem = response.extensions().get::<Problem>().cloned();
    if problem.is_none() && response.headers().contains_key(CONTENT_TYPE) && request.path().starts_with("/health/") {
        // readiness answers 503 with a report of its own
        return ServiceResponse::new(request, response);
    }
    let family = ApiFamily::of_path(request.path());
    let problem = problem.unwrap_or_else(|| Problem::of_status(response.status(), request.path()));
    if let Some(context) = request.app_data::<actix_web::web::Data<Context>>() {
        let labels = ErrorLabels { family: family.name(), code: problem.code.upper() };
        context.hub.metrics().errors.get_or_create(&labels).inc();
    }
    let mut response = response.set_body(BoxBody::new(problem.body(family).to_string()));
    *response.status_mut() = problem.status_code();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if problem.code == Code::Unauthorized {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(credential::challenge(&request)));
    }
    if problem.code == Code::UpgradeRequired {
        // RFC 9110, 15.5.22, and RFC 6455, 4.4
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    if problem.code == Code::UnsupportedMediaType && request.headers().contains_key(CONTENT_ENCODING) {
        // RFC 9110, 15.5.16: which codings would have been taken
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
    }
    if let Some(allow) = problem.allow {
        // RFC 9110, 15.5.6; where the framework refuses a method it says so itself
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    if let Some(seconds) = problem.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    ServiceResponse::new(request, response)
}
