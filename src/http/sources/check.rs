//! A request that somebody pastes, looked at step by step: why a source believes it or not, and what its events would be.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::sources::WouldTake;
use actors::model::source::{Headers, Incoming, Step};
use actors::model::timestamp::from_iso;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::OnSource;
use crate::http::guard::Manages;
use crate::http::problem::{Answer, Problem};
use crate::http::{Context, now_ms, query};

/// The form of a pasted request: the whole of it as text, or its parts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Pasted {
    /// Request line, headers, an empty line, body.
    request: Option<String>,
    method: Option<String>,
    url: Option<String>,
    headers: Option<PastedHeaders>,
    body: Option<String>,
    body_base64: Option<String>,
    /// When it came; absent: now.
    at: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "headers must be an object of names and values, or a list of [name, value]")]
enum PastedHeaders {
    Named(Map<String, Value>),
    Listed(Vec<(String, String)>),
}

/// A request in its parts.
struct Parts {
    method: String,
    target: Option<String>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Headers for Parts {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.into())).collect()
    }
}

impl Parts {
    /// Reads a request as it stands in a log or a tool (RFC 9112, 2.1). Line breaks of the head may be LF; the body is taken
    /// as it is.
    fn of_text(text: &str) -> Result<Parts, String> {
        let (head, body) = match (text.find("\r\n\r\n"), text.find("\n\n")) {
            (Some(at), other) if other.is_none_or(|other| at < other) => (&text[..at], &text[at + 4..]),
            (_, Some(at)) => (&text[..at], &text[at + 2..]),
            _ => (text, ""),
        };
        let mut parts = Parts { method: "POST".into(), target: None, headers: Vec::new(), body: body.into() };
        for (n, line) in head.lines().enumerate() {
            let mut words = line.split(' ');
            let method = words.next().unwrap_or_default();
            let is_request_line = n == 0 && !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
            if let (true, Some(target)) = (is_request_line, words.next()) {
                (parts.method, parts.target) = (method.into(), Some(target.into()));
                continue;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("line {} is no header: Name: value", n + 1))?;
            parts.headers.push((name.trim().into(), value.trim().into()));
        }
        Ok(parts)
    }
}

impl Pasted {
    fn parts(self) -> Result<Parts, Problem> {
        let given =
            self.method.is_some() || self.headers.is_some() || self.body.is_some() || self.body_base64.is_some();
        if let Some(text) = &self.request {
            if given {
                return Err(Problem::invalid("request", "stands beside its parts; give one of them"));
            }
            let parts = Parts::of_text(text).map_err(|e| Problem::invalid("request", e))?;
            return Ok(Parts { target: self.url.or(parts.target), ..parts });
        }
        let body = match (self.body, self.body_base64) {
            (Some(_), Some(_)) => return Err(Problem::invalid("bodyBase64", "stands beside body; give one of them")),
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| Problem::invalid("bodyBase64", "is no base64"))?,
            (None, None) => Vec::new(),
        };
        let headers = match self.headers {
            None => Vec::new(),
            Some(PastedHeaders::Listed(list)) => list,
            Some(PastedHeaders::Named(map)) => {
                let text = |value: Value| match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                map.into_iter().map(|(name, value)| (name, text(value))).collect()
            }
        };
        Ok(Parts { method: self.method.unwrap_or_else(|| "POST".into()), target: self.url, headers, body })
    }
}

fn shown(step: &Step) -> Value {
    json!({ "step": step.name, "ok": step.is_right, "message": step.message })
}

/// `POST /api/webhooks/{source}/check`
pub async fn check(
    context: web::Data<Context>,
    on: OnSource<Manages>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let pasted: Pasted = query::json(&request, &body)?;
    let at_ms = match &pasted.at {
        None => now_ms(),
        Some(text) => {
            let bad = || Problem::invalid("at", "is an ISO 8601 date and time with an offset from UTC");
            from_iso(text).ok_or_else(bad)?
        }
    };
    let parts = pasted.parts()?;
    let own = format!("{}/webhooks/{}", context.base_url(&request), on.live.source.id);
    let url = match parts.target.as_deref() {
        None => own,
        Some(target) if target.starts_with('/') => format!("{}{target}", context.base_url(&request)),
        Some(url) => url.to_owned(),
    };
    let incoming = Incoming { method: &parts.method, url: &url, headers: &parts, body: &parts.body };
    let mut steps = Vec::new();
    let explained = on.live.explain(&incoming, at_ms);
    let is_believed = explained.as_ref().is_some_and(|explained| explained.is_believed);
    match &explained {
        Some(explained) => steps.extend(explained.steps.iter().map(shown)),
        None => steps
            .push(json!({ "step": "key", "ok": false, "message": "the key of this source does not open; rotate it" })),
    }
    if on.live.source.paused {
        steps.push(
            json!({ "step": "source", "ok": false, "message": "the source is paused; set its status to active" }),
        );
    }
    let (is_read, message, events) = match context.hub.would_take(&on.live, &incoming, context.draft_limits) {
        WouldTake::Answers => {
            (true, "the provider asks whether somebody is there, and is answered".to_owned(), Vec::new())
        }
        WouldTake::Events(kinds) => (true, format!("it holds {} events", kinds.len()), kinds),
        WouldTake::Refuses(reason) => (false, reason, Vec::new()),
    };
    steps.push(json!({ "step": "content", "ok": is_read, "message": message }));
    let is_accepted = is_believed && is_read && !on.live.source.paused;
    Ok(HttpResponse::Ok()
        .json(json!({ "accepted": is_accepted, "believed": is_believed, "steps": steps, "eventTypes": events })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_request_is_read_with_its_body_as_it_is() {
        let text = "POST /webhooks/wh_1?x=1 HTTP/1.1\r\nHost: a.org\r\nX-A:  b\r\n\r\n{\n\n}\r\n";
        let parts = Parts::of_text(text).expect("a request");
        assert_eq!((parts.method.as_str(), parts.target.as_deref()), ("POST", Some("/webhooks/wh_1?x=1")));
        assert_eq!((parts.get("x-a"), parts.body.as_slice()), (Some("b"), &b"{\n\n}\r\n"[..]));
        let parts = Parts::of_text("X-A: b\nX-B: c: d\n\n{}").expect("a request");
        assert_eq!(
            (parts.method.as_str(), parts.get("X-B"), parts.body.as_slice()),
            ("POST", Some("c: d"), &b"{}"[..])
        );
        assert!(Parts::of_text("POST / HTTP/1.1\nno header").is_err());
    }
}
