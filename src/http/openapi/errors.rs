//! The table of errors as answers of the document: one body or the other, by the family.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Place, schemas};
use crate::http::family::ApiFamily;
use crate::http::problem::{Code, Problem};

/// A sentence that goes with the code, as an example.
fn sentence(code: Code) -> &'static str {
    match code {
        Code::BadRequest => "The query is not percent-encoded UTF-8",
        Code::InvalidJson => "The body is not JSON: expected value at line 1 column 1",
        Code::ValidationFailed => "Validation failed",
        Code::InvalidCursor => {
            "Malformed cursor: a cursor is the id of an event: 26 characters (a ULID), with or without the prefix evt_"
        }
        Code::InvalidFilter => "Invalid filter: expected an expression at column 12",
        Code::InvalidParameter => "'limit': a whole number from 1 to 1000 is expected",
        Code::UnknownParameter => "'lastEvenId' is not a parameter of this address; did you mean 'last_event_id'?",
        Code::Unauthorized => "Missing or invalid 'Bearer' token",
        Code::Forbidden => "The token lacks the scope 'manage'",
        Code::OriginForbidden => "This Origin may not connect; cors.allowed_origins lists those that may",
        Code::NotFound => "Map not found for identifier: home",
        Code::MethodNotAllowed => "This address does not know this method; the Allow header lists those it does",
        Code::RequestTimeout => "The body did not come in time; send it again",
        Code::SourceLimit => "there are as many sources as sources.per_channel allows: 100",
        Code::SourcePaused => "the source is paused; send it again later",
        Code::Conflict => "another channel has this slug; choose another one",
        Code::WebhookLimit => "there are as many webhooks as limits.webhooks_per_map allows: 5",
        Code::PayloadTooLarge => "The body is larger than this address takes",
        Code::UnsupportedMediaType => "Send application/json",
        Code::UpgradeRequired => {
            "No WebSocket handshake: this address speaks WebSocket; connect with Upgrade: websocket and Sec-WebSocket-Version: 13"
        }
        Code::RateLimited => "More than 100 API requests in a minute; wait 12 s",
        Code::ServerConnectionLimit => "Too many connections to this server",
        Code::MapConnectionLimit => "Too many connections to this map",
        Code::ChannelConnectionLimit => "Too many connections to this channel",
        Code::ApiKeyConnectionLimit => "Too many connections for this API key",
        Code::TicketLimit => "Too many tickets are open; use those, or wait for them to expire",
        Code::ScanLimit => "This token has 4 scans under way; wait for one of them",
        Code::TooExpensive => "The window holds more events than one request may look at; ask for a shorter one",
        Code::JournalFull => "The journal is full; try again in a second",
        Code::StorageFull => {
            "The server's disk is full; nothing was stored. It takes events and changes again when there is room"
        }
        Code::OutcomeUnknown => {
            "It is not known whether this was stored; it may appear, once. With an Idempotency-Key it may be sent again"
        }
        Code::Unavailable => "The server is stopping or starting; reconnect",
        Code::Stopping => "The server is stopping; try again when it is back",
        Code::Internal => "The store did not answer; the server's log says why",
    }
}

/// A setting that goes with the code, as an example.
fn reached(code: Code) -> Option<(&'static str, u64)> {
    Some(match code {
        Code::RateLimited => ("limits.api_requests_per_minute", 100),
        Code::ServerConnectionLimit => ("limits.streams_total", 1000),
        Code::MapConnectionLimit | Code::ChannelConnectionLimit => ("limits.streams_per_channel", 50),
        Code::ApiKeyConnectionLimit => ("limits.streams_per_token", 10),
        Code::TicketLimit => ("limits.tickets_per_token", 100),
        Code::ScanLimit => ("limits.scans_per_token", 4),
        Code::TooExpensive => ("limits.scan_events", 1_000_000),
        _ => return None,
    })
}

/// What everything that is stored may end with, whoever asks for it.
pub const STORING: [Code; 5] =
    [Code::JournalFull, Code::StorageFull, Code::OutcomeUnknown, Code::Unavailable, Code::Stopping];

/// The two bodies.
fn body(place: &Place<'_>) -> Value {
    let detail = |place: &Place<'_>| {
        place.named("ErrorDetail", |_| {
            schemas::object(json!({
                "index?": schemas::count("Which event of a batch, or which entry of a list."),
                "id?": schemas::text_or_null("The id that the entry of a list gives itself."),
                "field": schemas::text("Which field, as a path with dots."),
                "message": schemas::text("What is wrong with it."),
            }))
        })
    };
    let by_setting = |place: &Place<'_>| {
        place.named("ErrorSetting", |_| {
            schemas::object(json!({
                "setting": schemas::text("The setting that says so."),
                "value": schemas::count("What it is set to."),
            }))
        })
    };
    match place.family.nests_errors() {
        false => place.named("Error", |place| {
            schemas::object(json!({
                "error": schemas::text("What went wrong, for people."),
                "code": { "type": "string", "enum": Code::ALL.map(Code::upper).to_vec(), "description": "What went wrong, for programs." },
                "status": { "type": "integer", "minimum": 400, "maximum": 599, "description": "The status again." },
                "details?": { "oneOf": [schemas::list(detail(place)), by_setting(place)] },
            }))
        }),
        true => place.named("NestedError", |place| {
            let errors = schemas::object(json!({ "errors": schemas::list(detail(place)) }));
            let details = json!({ "oneOf": [errors, by_setting(place)] });
            let error = schemas::object(json!({
                "code": { "type": "string", "enum": Code::ALL.map(Code::lower).to_vec(), "description": "What went wrong, for programs." },
                "message": schemas::text("What went wrong, for people."),
                "details?": details,
            }));
            schemas::object(json!({ "error": error }))
        }),
    }
}

/// The answers for these codes, by status.
pub fn answers(codes: &[Code], place: &Place<'_>) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in Code::ALL.into_iter().filter(|code| codes.contains(code)) {
        by_status.entry(code.status()).or_default().push(code);
    }
    let reference = |(status, codes): (u16, Vec<Code>)| {
        let name = name(&codes, place.family);
        let made = place.response(&name, |place| answer(status, &codes, place));
        (status.to_string(), made)
    };
    by_status.into_iter().map(reference).collect()
}

/// `NestedInvalidJsonOrValidationFailed`.
fn name(codes: &[Code], family: ApiFamily) -> String {
    let words: Vec<_> = codes.iter().map(|code| format!("{code:?}")).collect();
    let nested = if family.nests_errors() { "Nested" } else { "" };
    format!("{nested}{}", words.join("Or"))
}

fn answer(status: u16, codes: &[Code], place: &Place<'_>) -> Value {
    let nests = place.family.nests_errors();
    let words: Vec<&str> = codes.iter().map(|code| if nests { code.lower() } else { code.upper() }).collect();
    let narrowed = match nests {
        false => json!({ "properties": { "code": { "enum": words }, "status": { "const": status } } }),
        true => json!({ "properties": { "error": { "properties": { "code": { "enum": words } } } } }),
    };
    let examples: Map<String, Value> = codes
        .iter()
        .zip(&words)
        .map(|(code, word)| {
            let mut problem = Problem::new(*code, sentence(*code));
            if let Some((setting, value)) = reached(*code) {
                problem = problem.by_setting(setting, value);
            }
            if *code == Code::ValidationFailed {
                problem = problem.with_details(vec![json!({ "field": "name", "message": "is missing" })]);
            }
            (word.to_string(), json!({ "value": problem.body(place.family) }))
        })
        .collect();
    let mut answer = json!({
        "description": words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        "content": { "application/json": { "schema": { "allOf": [body(place), narrowed] }, "examples": examples } },
    });
    if matches!(status, 429 | 503) {
        let seconds = json!({ "type": "integer", "minimum": 0 });
        let header = json!({ "description": "Seconds after which to try again.", "schema": seconds });
        answer["headers"] = json!({ "Retry-After": header });
    }
    answer
}
