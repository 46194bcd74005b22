//! Where events come in from outside. The checks are made in the order that is promised: a known address, the announced size,
//! the rate, what the headers say of the sender, the sender over the raw bytes, and only then what the bytes say.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::sources::{ActiveSource, Arrival, TakenIn};
use actors::model::draft::FieldError;
use actors::model::envelope::Envelope;
use actors::model::id::EventId;
use actors::model::source::{Headers, Incoming, Reply};
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

    fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))).collect()
    }
}

/// `POST /webhooks/{source}` and `POST /webhook/{source}`
pub async fn take(context: web::Data<Context>, request: HttpRequest, payload: web::Payload) -> Answer {
    let live = guard::source(&request).ok_or_else(Problem::no_source)?;
    let headers = Once(request.headers());
    let url = if live.reads_address { address(&context, &request) } else { String::new() };
    let incoming = |body| Incoming { method: request.method().as_str(), url: &url, headers: &headers, body };
    if let Err((problem, bytes)) = announced(&context, &request) {
        context.hub.refuse_too_large(&live, &incoming(b""), bytes, &problem.to_string()).await;
        return Err(problem);
    }
    context.hub.admit(&live)?;
    // a question that nobody signs is no request of a sender
    if live.asks_unsigned() {
        if let Some(answered) = answered(&live, &incoming(b"")) {
            return answered;
        }
    } else {
        context.hub.foresee(&live, &incoming(b""))?;
    }
    let (body, mut share) = match whole(&context, payload).await {
        Ok(whole) => whole,
        Err(problem) => {
            if problem.is(Code::PayloadTooLarge) {
                // without an announced length, at least one byte more than may come
                let bytes = context.settings.limits.batch_bytes + 1;
                context.hub.refuse_too_large(&live, &incoming(b""), bytes, &problem.to_string()).await;
            }
            return Err(problem);
        }
    };
    if let Some(answered) = answered(&live, &incoming(&body)) {
        return answered;
    }
    let proof = context.hub.recognise(&live, &incoming(&body))?;
    // a sender signs what it sends, so the body is unpacked behind that
    let asked = asked(&request).and_then(|asked| Ok((asked, query::unpacked(&request, &body)?)));
    let ((partial, idempotency), body) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            context.hub.refuse(&live, &proof, &headers, &body, &problem.to_string()).await;
            return Err(problem);
        }
    };
    if let Cow::Owned(unpacked) = &body {
        share.grow(unpacked.len())?;
    }
    let arrival = Arrival { headers: &headers, body: &body, partial, idempotency, limits: context.draft_limits };
    Ok(match context.hub.take_in(&live, &proof, arrival).await? {
        TakenIn::Answer(reply) => replied(reply),
        TakenIn::Events { ids, repeated, errors } => accepted(&ids, repeated, partial.then_some(&errors)),
    })
}

/// `GET /webhooks/{source}` and `GET /webhook/{source}`: a provider asks whether somebody is there.
pub async fn asks(context: web::Data<Context>, request: HttpRequest) -> Answer {
    let live = guard::source(&request).ok_or_else(Problem::no_source)?;
    context.hub.admit(&live)?;
    let (headers, url) = (Once(request.headers()), address(&context, &request));
    let incoming = Incoming { method: request.method().as_str(), url: &url, headers: &headers, body: b"" };
    match answered(&live, &incoming) {
        Some(answered) => answered,
        None if live.source.asks_by_get() => Err(Problem::new(
            Code::Forbidden,
            "This is no question of the provider, or it does not show the verify token of this source",
        )),
        None => Err(Problem::new(Code::MethodNotAllowed, "Events are sent to this address by POST")),
    }
}

/// The address as the sender knows it.
fn address(context: &Context, request: &HttpRequest) -> String {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    format!("{}{path}", context.base_url(request))
}

/// The answer to a provider that asks without a signature whether somebody is there; none where nobody asks.
fn answered(live: &ActiveSource, incoming: &Incoming<'_>) -> Option<Answer> {
    let asked = live.answer(incoming)?;
    Some(asked.map(replied).map_err(|(field, e)| Problem::invalid(field, e)))
}

/// What a provider asked for. No browser reads any of it as a page.
fn replied(reply: Reply) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    match reply {
        Reply::Echo(text) | Reply::Hashed(text) => answer.content_type("text/plain; charset=utf-8").body(text),
        Reply::Json(text) => answer.content_type("application/json").body(text),
        Reply::Nothing => HttpResponse::NoContent().finish(),
    }
}

/// Whether the good events of a batch are to be taken alone, and the sender's own key of the request.
fn asked(request: &HttpRequest) -> Result<(bool, Option<&str>), Problem> {
    let partial = Pairs::of(request)?.flag("partial")?.unwrap_or(false);
    Ok((partial, query::idempotency_key(request)?))
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

/// Refuses a body that says itself that it is too large, and says how large.
fn announced(context: &Context, request: &HttpRequest) -> Result<(), (Problem, usize)> {
    let limit = context.settings.limits.batch_bytes;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match announced.filter(|length: &usize| *length > limit) {
        Some(length) => Err((too_large(limit), length)),
        None => Ok(()),
    }
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
