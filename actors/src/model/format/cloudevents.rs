//! Formats `cloudevents` and `cloudevents_binary`: CloudEvents 1.0.2 in the structured mode of its JSON format, its batch
//! format, and the binary mode of its HTTP binding.

use std::fmt::Write;

use super::{Family, Rendered, Subject, join};
use crate::model::timestamp::to_iso;

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

pub(super) fn render(subject: &Subject<'_>) -> Rendered {
    Rendered::new(ONE, event(subject))
}

pub(super) fn render_batch(subjects: &[Subject<'_>]) -> Rendered {
    let each: Vec<bytes::Bytes> = subjects.iter().map(|subject| event(subject).into()).collect();
    let mut out = vec![b'['];
    join(&mut out, each.iter());
    out.push(b']');
    Rendered::new(BATCH, out)
}

/// The payload as the body, everything else in headers, whose values are percent-encoded (HTTP binding, 3.1.3.2).
pub(super) fn render_binary(subject: &Subject<'_>) -> Rendered {
    let event = subject.event;
    let mut rendered = Rendered::new("application/json", event.payload.as_bytes().clone());
    let mut source = String::new();
    push_source(&mut source, subject);
    rendered.headers.extend([
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", subject.shown_id()),
        ("ce-source", source),
        ("ce-type", event.kind.to_string()),
        ("ce-time", to_iso(event.ts_ms)),
    ]);
    if let Some(session) = event.session.as_deref().filter(|session| !session.is_empty()) {
        rendered.headers.push(("ce-subject", header_value(session)));
    }
    rendered
}

fn header_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'"' && byte != b'%' => out.push(char::from(byte)),
            // writing to a string cannot fail
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The payload is written as it stands in the log. `id` and `source` together name the event, as the specification
/// asks for; `subject` is the session.
fn event(subject: &Subject<'_>) -> String {
    let event = subject.event;
    let mut out = String::with_capacity(event.payload.as_str().len() + 320);
    out.push_str("{\"specversion\":\"1.0\",\"id\":\"");
    out.push_str(&subject.shown_id());
    out.push_str("\",\"source\":\"");
    push_source(&mut out, subject);
    // types and times are made of characters that JSON does not escape
    out.push_str("\",\"type\":\"");
    out.push_str(event.kind.as_str());
    out.push_str("\",\"time\":\"");
    out.push_str(&to_iso(event.ts_ms));
    out.push('"');
    if let Some(session) = event.session.as_deref().filter(|session| !session.is_empty()) {
        out.push_str(",\"subject\":");
        out.push_str(&serde_json::Value::from(session).to_string());
    }
    out.push_str(",\"datacontenttype\":\"application/json\",\"data\":");
    out.push_str(event.payload.as_str());
    out.push('}');
    out
}

/// `/maps/<id>` or `/organizations/<id>`, a URI reference (RFC 3986, section 4.1).
fn push_source(out: &mut String, subject: &Subject<'_>) {
    out.push_str(match subject.channel.family {
        Family::Map => "/maps/",
        Family::Organization => "/organizations/",
    });
    for byte in subject.channel.id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // writing to a string cannot fail
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}
