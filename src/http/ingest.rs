//! Incoming webhooks. The checks are made in the order that is promised: a known address, the announced size,
//! the rate, what the headers say of the sender, the sender over the raw bytes, and only then what the bytes say.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use actors::hub::sources::{ActiveSource, Arrival, TakenIn};
use actors::metrics::{Metrics, Shed};
use actors::model::draft::FieldError;
use actors::model::envelope::Envelope;
use actors::model::id::EventId;
use actors::model::source::raw::{RAW_BODY_BYTES_MAX, RawResponse};
use actors::model::source::{Headers, Incoming, Reply};
use futures_util::StreamExt;
use serde_json::json;

use super::problem::{Answer, AsItIs, Code, Problem};
use super::query::{self, Pairs};
use super::{Context, guard};
use crate::transport::HeaderOrder;

const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
/// What a source takes that is not in raw mode.
const METHODS: &str = "OPTIONS, POST";
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The headers as a source reads them: one that was sent twice, or is not visible ASCII, is none.
pub struct Once<'a> {
    headers: &'a HeaderMap,
    /// How they came, where that is known and matters.
    order: Option<Rc<HeaderOrder>>,
}

impl<'a> Once<'a> {
    pub fn of(request: &'a HttpRequest) -> Once<'a> {
        Once { headers: request.headers(), order: None }
    }

    /// The same, with the order in which they came.
    fn in_order(request: &'a HttpRequest) -> Once<'a> {
        let order = request.extensions().get::<Rc<HeaderOrder>>().cloned();
        Once { order, ..Once::of(request) }
    }
}

impl<'a> Headers for Once<'a> {
    fn get(&self, name: &str) -> Option<&str> {
        // these are looked for at every publish, and to make a name for the map costs more than the look
        let mut values = match name {
            "content-type" => self.headers.get_all(CONTENT_TYPE),
            "ce-specversion" => self.headers.get_all(SPECVERSION),
            "traceparent" => self.headers.get_all(TRACEPARENT),
            _ => self.headers.get_all(name),
        };
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        let ordered = self.order.as_ref().and_then(|order| order.of(self.headers));
        let all = ordered.unwrap_or_else(|| {
            let mut all: Vec<_> = self.headers.iter().collect();
            // the map has no order of names; the values of one name keep theirs
            all.sort_by_key(|(name, _)| name.as_str());
            all
        });
        let text = |(name, value): (&'a HeaderName, &'a HeaderValue)| {
            (name.as_str(), String::from_utf8_lossy(value.as_bytes()))
        };
        all.into_iter().map(text).collect()
    }
}

/// `POST /webhooks/{source}` and `POST /webhook/{source}`; of a source in raw mode every method, also below these addresses.
pub async fn take(context: web::Data<Context>, request: HttpRequest, payload: web::Payload) -> Answer {
    let live = guard::source(&request).ok_or_else(Problem::no_source)?;
    let is_raw = live.source.raw.is_some();
    let path = below(&request);
    if !is_raw && !path.is_empty() {
        return Err(Problem::no_source());
    }
    let headers = if is_raw { Once::in_order(&request) } else { Once::of(&request) };
    let url = if live.reads_address { address(&context, &request) } else { String::new() };
    let incoming = |body| Incoming { method: request.method().as_str(), url: &url, headers: &headers, body };
    let limit = if is_raw { RAW_BODY_BYTES_MAX } else { context.settings.limits.batch_bytes };
    if let Err((problem, bytes)) = announced(&request, limit) {
        context.hub.refuse_too_large(&live, &incoming(b""), bytes, &problem.to_string()).await;
        return Err(problem);
    }
    context.hub.admit(&live)?;
    // a question that nobody signs is no request of a sender
    if live.asks_unsigned()
        && let Some(answered) = answered(&live, &incoming(b""))
    {
        return answered;
    }
    if !is_raw && request.method() != Method::POST {
        return Err(Problem::method(METHODS, "Events are sent to this address by POST"));
    }
    if !live.asks_unsigned() {
        context.hub.foresee(&live, &incoming(b""))?;
    }
    let (body, mut share) = match whole(&context, payload, limit).await {
        Ok(whole) => whole,
        Err(problem) => {
            if problem.is(Code::PayloadTooLarge) {
                // without an announced length, at least one byte more than may come
                context.hub.refuse_too_large(&live, &incoming(b""), limit + 1, &problem.to_string()).await;
            }
            return Err(problem);
        }
    };
    if let Some(answered) = answered(&live, &incoming(&body)) {
        return answered;
    }
    let proof = context.hub.recognise(&live, &incoming(&body))?;
    // a sender signs what it sends, so the body is unpacked behind that
    let asked = match is_raw {
        true => Ok(((false, query::idempotency_key(&request).ok().flatten()), Cow::Borrowed(&*body))),
        false => asked(&request).and_then(|asked| Ok((asked, query::unpacked(&request, &body)?))),
    };
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
    let query = request.query_string();
    let (request, limits) = (incoming(&body), context.draft_limits);
    let arrival = Arrival { request, path, query, partial, idempotency, limits };
    Ok(match context.hub.take_in(&live, &proof, arrival).await? {
        TakenIn::Answer(reply) => replied(reply),
        TakenIn::Events { ids, repeated, errors } => {
            let own = live.source.raw.as_ref().and_then(|raw| raw.response.as_ref());
            own.map_or_else(|| accepted(&ids, repeated, partial.then_some(&errors)), own_answer)
        }
    })
}

/// `GET /webhooks/{source}` and `GET /webhook/{source}`: a provider asks whether somebody is there, or, in raw mode, a request.
pub async fn asks(context: web::Data<Context>, request: HttpRequest, payload: web::Payload) -> Answer {
    let live = guard::source(&request).ok_or_else(Problem::no_source)?;
    let asks = live.source.asks_by_get() && below(&request).is_empty();
    match take(context, request, payload).await {
        Err(problem) if asks && (problem.is(Code::MethodNotAllowed) || problem.is(Code::Unauthorized)) => {
            Err(Problem::new(
                Code::Forbidden,
                "This is no question of the provider, or it does not show the verify token of this source",
            ))
        }
        other => other,
    }
}

/// `OPTIONS`: a sender of CloudEvents asks whether it may (HTTP 1.1 Web Hooks for Event Delivery 1.0.1, section 4). Nobody is
/// called back: who asks learns the answer at once.
pub async fn options(context: web::Data<Context>, request: HttpRequest, payload: web::Payload) -> Answer {
    let live = guard::source(&request).ok_or_else(Problem::no_source)?;
    let headers = Once::of(&request);
    let Some(origin) = headers.get("WebHook-Request-Origin") else {
        return take(context, request, payload).await;
    };
    context.hub.admit(&live)?;
    let is_origin = (1..=253).contains(&origin.len()) && origin.bytes().all(|b| b.is_ascii_graphic());
    if !is_origin {
        return Err(Problem::invalid("WebHook-Request-Origin", "is the name of a sender: 1 to 253 visible characters"));
    }
    let mut answer = HttpResponse::Ok();
    answer.insert_header(("WebHook-Allowed-Origin", origin));
    answer.insert_header((ALLOW, METHODS));
    if headers.get("WebHook-Request-Rate").is_some() {
        let rate = live.source.rate_limit.map(|rate| u64::from(rate.requests) * 60 / u64::from(rate.per_seconds));
        answer.insert_header(("WebHook-Allowed-Rate", rate.map_or("*".to_owned(), |rate| rate.max(1).to_string())));
    }
    Ok(answer.finish())
}

/// What follows the address of the source, percent-encoded as it came.
fn below(request: &HttpRequest) -> &str {
    let path = request.uri().path();
    // `/webhooks/<id>`, of which the id has no character that is encoded
    path.splitn(4, '/').nth(3).map_or("", |rest| &path[path.len() - rest.len() - 1..])
}

/// The answer that the owner of a source in raw mode chose. It was checked when it was saved; no browser reads it as a page.
fn own_answer(own: &RawResponse) -> HttpResponse {
    let status = StatusCode::from_u16(own.status).unwrap_or(StatusCode::OK);
    let mut answer = HttpResponse::build(status);
    answer.content_type("text/plain; charset=utf-8");
    for (name, value) in &own.headers {
        answer.insert_header((name.as_str(), value.as_str()));
    }
    answer.insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    answer.insert_header((CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"));
    let mut answer = answer.body(own.body.clone());
    answer.extensions_mut().insert(AsItIs);
    answer
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
    metrics: &'a Metrics,
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
                self.metrics.shed(Shed::Body);
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
fn announced(request: &HttpRequest, limit: usize) -> Result<(), (Problem, usize)> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match announced.filter(|length: &usize| *length > limit) {
        Some(length) => Err((too_large(limit), length)),
        None => Ok(()),
    }
}

/// The body, if it is not too large, and its share of the room for bodies of senders who have proved nothing yet.
async fn whole(context: &Context, payload: web::Payload, limit: usize) -> Result<(Bytes, Share<'_>), Problem> {
    let most = context.settings.sources.bodies_bytes;
    let mut share = Share { all: &context.bodies, metrics: context.hub.metrics(), most, bytes: 0 };
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
