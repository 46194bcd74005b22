//! Where events come in from outside. The checks are made in the order that is promised: a known address, the announced size,
//! the rate, what the headers say of the sender, the sender over the raw bytes, and only then what the bytes say.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::sources::{ActiveSource, Arrival, TakenIn};
use actors::model::draft::FieldError;
use actors::model::envelope::Envelope;
use actors::model::id::EventId;
use actors::model::source::{Content, Headers};
use futures_util::StreamExt;
use serde_json::json;

use super::problem::{Answer, Code, Problem};
use super::query::{self, Pairs};
use super::{Context, guard};

/// The headers as a source reads them: one that was sent twice, or is not visible ASCII, is none.
struct Once<'a>(&'a HeaderMap);

impl Headers for Once<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.get_all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }
}

/// `POST /webhooks/{source}` and `POST /webhook/{source}`
pub async fn take(context: web::Data<Context>, request: HttpRequest, payload: web::Payload) -> Answer {
    let live = guard::source(&request).ok_or_else(Problem::no_source)?;
    announced(&context, &request)?;
    context.hub.admit(&live)?;
    let headers = Once(request.headers());
    context.hub.foresee(&live, &headers)?;
    let (body, mut share) = whole(&context, payload).await?;
    // a sender signs what it sends, so the body is unpacked behind this
    let proof = context.hub.recognise(&live, &headers, &body)?;
    let content = content(&request, &live)?;
    let body = query::unpacked(&request, &body)?;
    if let Cow::Owned(unpacked) = &body {
        share.grow(unpacked.len())?;
    }
    let arrival = Arrival {
        headers: &headers,
        body: &body,
        content,
        partial: Pairs::of(&request)?.flag("partial")?.unwrap_or(false),
        idempotency: query::idempotency_key(&request)?,
        limits: context.draft_limits,
    };
    let partial = arrival.partial;
    Ok(match context.hub.take_in(&live, &proof, arrival).await? {
        // the form that Slack asks for first
        TakenIn::Challenge(text) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text),
        TakenIn::Events { ids, repeated, errors } => accepted(&ids, repeated, partial.then_some(&errors)),
    })
}

/// The answer to whoever sent events.
pub fn accepted(ids: &[EventId], repeated: bool, left_out: Option<&Vec<FieldError>>) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    if repeated {
        answer.insert_header(("Idempotency-Replayed", "true"));
    }
    // ids need no escaping, and this answer is the one that is made most often
    let mut text = format!("{{\"accepted\":{},\"ids\":[", ids.len()).into_bytes();
    text.reserve(ids.len() * 33 + 16);
    for (n, id) in ids.iter().enumerate() {
        text.extend_from_slice(if n > 0 { b",\"" } else { b"\"" });
        Envelope::Listener.write_id(*id, &mut text);
        text.push(b'"');
    }
    text.push(b']');
    if let Some(errors) = left_out {
        let mut places: Vec<_> = errors.iter().map(|error| error.index).collect();
        places.dedup();
        let detail = |e: &FieldError| json!({ "index": e.index, "field": e.field, "message": e.message });
        let details: Vec<_> = errors.iter().map(detail).collect();
        text.extend_from_slice(format!(",\"rejected\":{},\"details\":{}", places.len(), json!(details)).as_bytes());
    }
    text.push(b'}');
    answer.content_type("application/json").body(text)
}

/// How many bytes of bodies are being received, over all sources: whoever sends them has proved nothing yet.
#[derive(Default)]
pub struct Bodies(AtomicUsize);

/// The share of one body, given back when it is dropped.
struct Share<'a> {
    all: &'a Bodies,
    most: usize,
    bytes: usize,
}

impl Share<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let before = self.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        match before + bytes <= self.most {
            true => Ok(()),
            false => {
                Err(Problem::new(Code::Unavailable, "Too many bodies are being received; send it again in a second"))
            }
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("The body is larger than {limit} bytes"))
}

/// Refuses a body that says itself that it is too large.
fn announced(context: &Context, request: &HttpRequest) -> Result<(), Problem> {
    let limit = context.settings.limits.batch_bytes;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) { Err(too_large(limit)) } else { Ok(()) }
}

/// The body, if it is not too large, and its share of the room for bodies of senders who have proved nothing yet.
async fn whole(context: &Context, payload: web::Payload) -> Result<(Bytes, Share<'_>), Problem> {
    let limit = context.settings.limits.batch_bytes;
    let mut share = Share { all: &context.bodies, most: context.settings.sources.bodies_bytes, bytes: 0 };
    // most bodies come in one piece, which is then not copied
    let (mut first, mut body) = (Bytes::new(), BytesMut::new());
    let mut payload = pin!(payload);
    while let Some(piece) = payload.next().await {
        let cut = |_| Problem::new(Code::BadRequest, "The body ended before its announced length");
        let piece = piece.map_err(cut)?;
        if share.bytes + piece.len() > limit {
            return Err(too_large(limit));
        }
        share.grow(piece.len())?;
        if first.is_empty() && body.is_empty() {
            first = piece;
            continue;
        }
        if body.is_empty() {
            body.extend_from_slice(&first);
        }
        body.extend_from_slice(&piece);
    }
    Ok((if body.is_empty() { first } else { body.freeze() }, share))
}

/// What the headers say about the body. Some senders say `text/plain` of JSON; they are understood where something proves
/// who they are, because a browser sends such a body for any page.
fn content(request: &HttpRequest, live: &ActiveSource) -> Result<Content, Problem> {
    let Some(value) = request.headers().get(CONTENT_TYPE) else { return Ok(Content::Json) };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => Ok(Content::Json),
        kind if kind.starts_with("application/") && kind.ends_with("+json") => Ok(Content::Json),
        "text/plain" | "text/json" if live.verifies_senders() => Ok(Content::Json),
        "application/x-www-form-urlencoded" if live.takes_forms() => Ok(Content::Form),
        _ => Err(Problem::new(Code::UnsupportedMediaType, "Send application/json")),
    }
}
