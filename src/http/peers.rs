//! What nodes of a cluster ask each other. Requests about a webhook that only the node that delivers for it can answer: whichever node got one passes it on, as it
//! is, and gives back the answer. Callers are judged by the node that answers, which knows the same tokens.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_service::Service;

use actix_web::body::{MessageBody, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::test::TestRequest;
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, ResponseError};
use actors::hub::cluster::{PeerError, PeerRequest};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use super::problem::{AsItIs, Code, Problem};
use super::{Context, Side};

/// How long an owner is looked for: a node that dies is replaced in less.
const OWNER_WAIT: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Requests of other nodes that are worked on at once. Others wait, up to a bound, and are refused beyond it.
const AT_ONCE: usize = 256;
/// The header that names the node that has answered.
const NODE: &str = "stentor-node";
/// Kept free of a message for its head.
const HEAD_BYTES: usize = 64 << 10;

/// An `App` that serves other nodes has this among its data: what they ask is not passed on again.
#[derive(Clone, Copy)]
pub struct OfPeer;

#[derive(Serialize, Deserialize)]
struct Asked {
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    is_admin_side: bool,
    peer: Option<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
}

/// A head as JSON, its length before it, and the body.
fn pack(head: &impl Serialize, body: &[u8]) -> Result<Bytes, Problem> {
    let head = serde_json::to_vec(head).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let mut out = BytesMut::with_capacity(4 + head.len() + body.len());
    // a head is bounded by what HTTP takes
    out.extend_from_slice(&(head.len() as u32).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    Ok(out.freeze())
}

fn unpack<T: for<'de> Deserialize<'de>>(packed: &Bytes) -> Option<(T, Bytes)> {
    let len = u32::from_be_bytes(packed.get(..4)?.try_into().ok()?) as usize;
    let head = serde_json::from_slice(packed.get(4..4 + len)?).ok()?;
    Some((head, packed.slice(4 + len..)))
}

/// Headers as text, each byte of a value as the character of that number.
fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The value of a header that [`listed`] has made a text of.
fn value_of(text: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(char).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// The webhook of a request that its owner has to answer: one that changes it, or asks for something below it.
fn webhook_of<'a>(method: &Method, path: &'a str) -> Option<&'a str> {
    // those of sources look alike, and every node answers them
    let below = match path.strip_prefix("/api/maps/") {
        Some(of_map) => of_map.split_once('/')?.1,
        None => path.strip_prefix("/api/v1/")?,
    };
    let mut parts = below.strip_prefix("webhooks/")?.split('/');
    let webhook = parts.next().filter(|id| actors::model::channel::is_uuid(id))?;
    let is_below = parts.next().is_some();
    (is_below || matches!(*method, Method::PATCH | Method::PUT)).then_some(webhook)
}

/// Whether a request may be one for another node, or for none because this one is cut off.
pub fn may_be_elsewhere(context: &Context) -> bool {
    !context.hub.is_alone()
}

/// The answer of the node that delivers for the webhook of a request; none: this node answers it itself.
///
/// Nodes do not see at the same moment that a webhook has changed its node, and one that has died is replaced soon, so it is
/// looked again for a while before the client is told to.
pub async fn ask_elsewhere(context: &Context, request: &mut ServiceRequest) -> Option<HttpResponse> {
    if context.hub.is_isolated() && !is_for_operators(request.path()) {
        let message = "This node is cut off from the others and cannot know of revocations; another node serves you";
        return Some(Problem::new(Code::Unavailable, message).error_response());
    }
    let webhook = webhook_of(request.method(), request.path())?.to_owned();
    let is_of_peer = request.app_data::<OfPeer>().is_some();
    let deadline = Instant::now() + OWNER_WAIT;
    let mut asked: Option<(Bytes, Bytes)> = None;
    loop {
        // what does not exist every node can answer
        if context.hub.webhook_is_mine(&webhook) || !context.hub.knows_webhook(&webhook) {
            if let Some((_, body)) = asked {
                request.set_payload(unread(body));
            }
            return None;
        }
        if let Some(node) = context.hub.webhook_is_of(&webhook)
            && !is_of_peer
        {
            let known = match asked.take() {
                Some(known) => known,
                None => match pack_request(context, request).await {
                    Ok(packed) => packed,
                    Err(problem) => return Some(problem.error_response()),
                },
            };
            let packed = known.0.clone();
            asked = Some(known);
            match pass_on(context, packed, &node).await {
                Err(PeerError::Absent) if Instant::now() < deadline => {}
                Err(e) => return Some(no_answer(&node, &e).error_response()),
                Ok(answer) => return Some(answer.unwrap_or_else(|problem| problem.error_response())),
            }
        }
        if Instant::now() >= deadline {
            let message = "No node delivers for this webhook at the moment; try again";
            return Some(Problem::new(Code::Unavailable, message).error_response());
        }
        actix_web::rt::time::sleep(LOOK_EVERY).await;
    }
}

/// What shows how the node is.
fn is_for_operators(path: &str) -> bool {
    path.starts_with("/health") || path == "/metrics"
}

/// Says with an answer which node has given it: of what nodes keep to themselves each knows its own.
pub fn name_node<B>(context: &Context, response: &mut ServiceResponse<B>) {
    let Some(node) = context.hub.node_name() else { return };
    // that of another node says so already
    if let Ok(name) = HeaderValue::from_str(&node)
        && !response.headers().contains_key(NODE)
    {
        response.headers_mut().insert(HeaderName::from_static(NODE), name);
    }
}

/// What every other node answers to a request without a body, at the same time, by its name; null: nothing that can be used.
/// Nobody for a request that another node asks, and of a server that is alone.
pub async fn ask_all(context: &Context, request: &HttpRequest) -> Vec<(Arc<str>, Json)> {
    let Ok(packed) = pack(&head_of(request), b"") else { return Vec::new() };
    let ask = |node: Arc<str>| {
        let packed = packed.clone();
        async move {
            let answer = context.hub.ask_node(&node, packed, OWNER_WAIT).await;
            let answer = answer.inspect_err(|e| log::debug!(node:%; "another node is not heard: {e}")).ok();
            let answer = answer.as_ref().and_then(unpack::<Answered>).filter(|(head, _)| head.status == 200);
            (node, answer.and_then(|(_, body)| serde_json::from_slice(&body).ok()).unwrap_or_default())
        }
    };
    futures_util::future::join_all(others(context, request).into_iter().map(ask)).await
}

/// The answer of the first other node that has what a request is about; none: no node has it.
///
/// # Errors
/// A node did not answer, and nobody else has it.
pub async fn ask_who_has(
    context: &Context,
    request: &HttpRequest,
    body: &[u8],
) -> Result<Option<HttpResponse>, Problem> {
    let packed = pack(&head_of(request), body)?;
    let mut silent = None;
    for node in others(context, request) {
        match pass_on(context, packed.clone(), &node).await {
            Ok(answer) => {
                let answer = answer?;
                if answer.status() != StatusCode::NOT_FOUND {
                    return Ok(Some(answer));
                }
            }
            Err(e) => silent = Some(unheard(&node, &e)),
        }
    }
    silent.map_or(Ok(None), Err)
}

/// Has every other node do what a request asks for.
///
/// # Errors
/// One of them has not done it; the others have.
pub async fn ask_to_do(context: &Context, request: &HttpRequest) -> Result<(), Problem> {
    let packed = pack(&head_of(request), b"")?;
    let ask = |node: Arc<str>| {
        let packed = packed.clone();
        async move {
            match pass_on(context, packed, &node).await {
                Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
                Ok(Ok(answer)) => Err(Problem::new(
                    Code::Unavailable,
                    format!("The node {node} has not done it and answers {}; try again", answer.status()),
                )),
                Ok(Err(problem)) => Err(problem),
                Err(e) => Err(unheard(&node, &e)),
            }
        }
    };
    futures_util::future::join_all(others(context, request).into_iter().map(ask)).await.into_iter().collect()
}

/// Whom a request may be passed on to: all other nodes, unless one of them asks.
fn others(context: &Context, request: &HttpRequest) -> Vec<Arc<str>> {
    if request.app_data::<OfPeer>().is_some() { Vec::new() } else { context.hub.other_nodes() }
}

fn unheard(node: &str, e: &PeerError) -> Problem {
    Problem::new(Code::Unavailable, format!("The node {node} may have it, and {e}; try again"))
}

fn head_of(request: &HttpRequest) -> Asked {
    Asked {
        method: request.method().to_string(),
        uri: request.uri().to_string(),
        headers: listed(request.headers()),
        is_admin_side: Side::of(request) == Side::Admin,
        peer: request.peer_addr(),
    }
}

/// A request as another node gets it, and its body, which is not there any more.
async fn pack_request(context: &Context, request: &mut ServiceRequest) -> Result<(Bytes, Bytes), Problem> {
    let asked = head_of(request.request());
    let body = body(request.take_payload(), context.settings.limits.request_bytes).await?;
    Ok((pack(&asked, &body)?, body))
}

/// Gives a request its body again.
fn unread(body: Bytes) -> Payload {
    let (_, mut payload) = actix_http::h1::Payload::create(true);
    payload.unread_data(body);
    payload.into()
}

async fn pass_on(context: &Context, packed: Bytes, node: &str) -> Result<Result<HttpResponse, Problem>, PeerError> {
    let timeout =
        Duration::from_secs(context.settings.journal.answer_timeout_s + context.settings.webhooks.attempt_timeout_s);
    let answer = context.hub.ask_node(node, packed, timeout).await?;
    Ok(answered(&answer))
}

/// What another node has answered, errors in the words that it has found.
fn answered(packed: &Bytes) -> Result<HttpResponse, Problem> {
    let unreadable = || Problem::new(Code::Internal, "Another node has given an answer that cannot be read");
    let (head, body) = unpack::<Answered>(packed).ok_or_else(unreadable)?;
    let mut builder = HttpResponse::build(StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY));
    for (name, value) in head.headers {
        builder.append_header((name, value_of(&value).ok_or_else(unreadable)?));
    }
    let mut response = builder.body(body);
    response.extensions_mut().insert(AsItIs);
    Ok(response)
}

fn no_answer(node: &str, e: &PeerError) -> Problem {
    match e {
        PeerError::Absent | PeerError::NoAnswer | PeerError::Refused => {
            Problem::new(Code::Unavailable, format!("The node {node} delivers for this webhook, and {e}; try again"))
        }
        PeerError::TooLarge => Problem::new(Code::PayloadTooLarge, e.to_string()),
    }
}

async fn body(mut payload: Payload, most: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk: Bytes = chunk.map_err(|e: PayloadError| Problem::new(Code::BadRequest, e.to_string()))?;
        if body.len() + chunk.len() > most {
            return Err(Problem::new(
                Code::PayloadTooLarge,
                format!("The body of this request has more than {most} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Answers what other nodes ask, as long as this one runs, by the same service as anybody's requests.
pub async fn serve<S, B>(
    context: web::Data<Context>,
    mut requests: Receiver<PeerRequest>,
    service_of: impl Fn(Side) -> Rc<S>,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    // first a place, so that those who wait do it where they are counted
    while let Ok(place) = places.clone().acquire_owned().await
        && let Some(asked) = requests.recv().await
    {
        let Some((request, side)) = request_of(&asked) else {
            log::error!("a request of another node cannot be read; all nodes have to run the same version");
            asked.refuse().await;
            continue;
        };
        let (service, context) = (service_of(side), context.clone());
        actix_web::rt::spawn(async move {
            let answer = match service.call(request).await {
                Ok(response) => answer_of(&context, response.into_parts().1).await,
                Err(e) => answer_of(&context, e.error_response()).await,
            };
            asked.answer(answer).await;
            drop(place);
        });
    }
}

/// A request of another node as one of ours; none when it cannot be read.
fn request_of(asked: &PeerRequest) -> Option<(Request, Side)> {
    let (head, body) = unpack::<Asked>(&asked.payload)?;
    let mut request =
        TestRequest::with_uri(&head.uri.parse::<Uri>().ok()?.to_string()).method(head.method.parse().ok()?);
    if let Some(peer) = head.peer {
        request = request.peer_addr(peer);
    }
    for (name, value) in head.headers {
        let name = name.parse::<HeaderName>().ok()?;
        request = request.append_header((name, value_of(&value)?));
    }
    let side = if head.is_admin_side { Side::Admin } else { Side::Public };
    Some((request.set_payload(body).to_request(), side))
}

/// What another node is answered.
async fn answer_of(context: &Context, response: HttpResponse<impl MessageBody>) -> Bytes {
    let head = Answered { status: response.status().as_u16(), headers: listed(response.headers()) };
    let most = context.hub.peer_answer_bytes_max().saturating_sub(HEAD_BYTES);
    let body = to_bytes_limited(response.into_body(), most).await;
    let packed = match body {
        Ok(Ok(body)) => pack(&head, &body),
        Ok(Err(_)) | Err(_) => Err(Problem::new(
            Code::Internal,
            "The answer is too large to be passed between nodes; ask for a smaller page, or the node that delivers for it",
        )),
    };
    packed
        .or_else(|problem| {
            let response = problem.error_response();
            let head = Answered { status: response.status().as_u16(), headers: listed(response.headers()) };
            pack(&head, problem.to_string().as_bytes())
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_owner_of_a_webhook_has_to_answer_is_passed_on() {
        let id = "4cf3fc97-ecb8-4177-962c-e927364f2ed2";
        let of = |method: &Method, path: &str| webhook_of(method, &path.replace("ID", id)).map(str::to_owned);
        for path in
            ["/api/v1/webhooks/ID/test", "/api/maps/home/webhooks/ID/deliveries", "/api/maps/m/webhooks/ID/replay"]
        {
            assert_eq!(of(&Method::POST, path).as_deref(), Some(id), "{path}");
        }
        assert_eq!(of(&Method::PATCH, "/api/maps/home/webhooks/ID").as_deref(), Some(id));
        for path in ["/webhooks/ID/below", "/api/webhooks/ID/check", "/api/v1/webhooks", "/api/maps/webhooks/ID/x"] {
            assert_eq!(of(&Method::PUT, path), None, "{path}");
        }
        assert_eq!(of(&Method::GET, "/api/v1/webhooks/ID"), None, "what is configured every node knows");
        assert_eq!(of(&Method::PUT, "/api/maps/home/webhooks/toggle"), None);
    }

    #[test]
    fn what_nodes_send_each_other_is_read_as_it_was_written() {
        let mut headers = HeaderMap::new();
        let latin = HeaderValue::from_bytes(b"caf\xe9 \xc3\xa9").unwrap();
        headers.append(HeaderName::from_static("x-name"), latin.clone());
        let head = Answered { status: 409, headers: listed(&headers) };
        let packed = pack(&head, b"body").unwrap();
        let response = answered(&packed).unwrap();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers().get("x-name"), Some(&latin), "byte by byte, whatever they are");
        assert_eq!(value_of("\u{100}"), None);
        assert!(response.extensions().contains::<AsItIs>(), "an error keeps its words");
        assert!(unpack::<Answered>(&packed.slice(..6)).is_none());
    }
}
