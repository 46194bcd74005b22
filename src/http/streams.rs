//! Opening a stream, the same for every family: credential or ticket, filter, cursor, slot, and only then a header.

use std::convert::Infallible;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, ORIGIN, USER_AGENT};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use actors::feed::frame::{Carrier, Encoding};
use actors::model::access::Principal;
use actors::model::catalogue;
use actors::model::filter::{Filter, FilterSpec, optional_names, prefixes};
use actors::model::id::{EventId, MalformedId};
use actors::model::selection::Selection;
use actors::streams::connections::{ClientInfo, USER_AGENT_BYTES_MAX};
use actors::streams::session::{Opening, StreamTarget};
use actors::streams::tickets::Grant;
use actors::streams::{Socket, websocket};

use super::Context;
use super::bodies;
use super::credential;
use super::family::ApiFamily;
use super::problem::{Code, Problem};
use super::query::Pairs;
use super::query_names::CURSOR;
use super::{guard, reading};

/// Who wants the stream: a principal, by a credential or by a ticket that is still to be spent.
struct Visitor {
    principal: Arc<Principal>,
    ticket: Option<(String, Grant)>,
}

async fn visitor(request: &HttpRequest, pairs: &Pairs) -> Result<Visitor, Problem> {
    let context = guard::context(request);
    if let Some(token) = guard::header_token(request) {
        return Ok(Visitor { principal: guard::principal(request, token)?, ticket: None });
    }
    if let Some(ticket) = pairs.get("ticket") {
        let grant = credential::grant(request, ticket).await?;
        let principal = grant.principal.clone();
        if !context.hub.holds(&principal, super::now_ms()) {
            return Err(Problem::bad_ticket());
        }
        return Ok(Visitor { principal, ticket: Some((ticket.to_string(), grant)) });
    }
    match pairs.get("token") {
        Some(token) if context.settings.auth.allow_query_token && !token.is_empty() => {
            Ok(Visitor { principal: guard::principal(request, token)?, ticket: None })
        }
        _ => Err(Problem::missing_token()),
    }
}

/// What the visitor reads. A ticket says it where the request does not.
fn target(request: &HttpRequest, visitor: &Visitor) -> Result<StreamTarget, Problem> {
    match &visitor.ticket {
        None => reading::target(request, &visitor.principal),
        Some((_, grant)) => reading::granted(request, &visitor.principal, &grant.selection),
    }
}

/// A request for a stream that has passed every check that takes nothing.
struct Wanted {
    visitor: Visitor,
    target: StreamTarget,
    filter: Filter,
    unknown_events: Vec<String>,
    cursor: Option<EventId>,
    encoding: Encoding,
}

/// Everything but the ticket's use and the slot.
async fn wanted(
    request: &HttpRequest,
    pairs: &Pairs,
    carrier: impl FnOnce(&StreamTarget) -> Result<Carrier, Problem>,
) -> Result<Wanted, Problem> {
    let visitor = visitor(request, pairs).await?;
    let target = target(request, &visitor)?;
    let grant = visitor.ticket.as_ref().map(|(_, grant)| grant);
    let of_path = guard::filter(request, pairs)?;
    let spec = match grant.and_then(|grant| grant.filter.clone()) {
        // a ticket for one source opens no other
        Some(spec) if of_path.source.is_some() && spec.source != of_path.source => return Err(Problem::bad_ticket()),
        Some(spec) => spec,
        None => of_path,
    };
    let filter = guard::context(request).hub.filter(&visitor.principal, &spec).await?;
    // a ticket that was made for a cursor goes on from there and from nowhere else
    let asked = cursor(request.headers(), pairs)?;
    let cursor = grant.and_then(|grant| grant.cursor).or(asked);
    let encoding = Encoding { envelope: reading::envelope(request, pairs)?, carrier: carrier(&target)? };
    let unknown_events = spec.unknown_events(catalogue::knows);
    Ok(Wanted { visitor, target, filter, unknown_events, cursor, encoding })
}

/// Takes the ticket and the slot. The ticket is spent by a request that has passed all else, and given back when there is
/// no slot for it.
async fn admit(request: &HttpRequest, wanted: Wanted) -> Result<Opening, Problem> {
    let (context, family) = (guard::context(request), ApiFamily::of(request));
    let Wanted { visitor, target, filter, unknown_events, cursor, encoding } = wanted;
    let spent = match &visitor.ticket {
        Some((ticket, _)) => {
            // before it is spent: whoever comes with it a moment later is not guessing
            context.spent_tickets.note(ticket);
            Some(context.hub.spend(ticket).await.ok_or_else(Problem::bad_ticket)?)
        }
        None => None,
    };
    let slot = match context.hub.slot(&target.selection(), &visitor.principal) {
        Ok(slot) => slot,
        Err(refusal) => {
            if let Some(spent) = spent {
                context.hub.restore(spent).await;
            }
            return Err(Problem::no_slot(refusal, family, &context.settings.limits));
        }
    };
    let (client, socket) = (client(request), socket(request));
    let principal = visitor.principal;
    Ok(Opening { target, principal, filter, unknown_events, cursor, encoding, slot, client, socket })
}

/// The connection's, or the part of it that a stream of HTTP/2 has.
fn socket(request: &HttpRequest) -> Option<Socket> {
    let of_stream = || request.extensions().get::<Socket>().cloned();
    request.conn_data::<Socket>().cloned().or_else(of_stream)
}

/// What the list of connections says of the client.
fn client(request: &HttpRequest) -> ClientInfo {
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let short = |text: &str| text.chars().take(USER_AGENT_BYTES_MAX).collect::<String>().into_boxed_str();
    let address = guard::context(request).proxies.client(request);
    ClientInfo { address, user_agent: agent.map(short) }
}

/// The header wins over the query, because a browser that reconnects repeats the query it began with. Polyfills that
/// cannot send the header put the id of the last event behind that query, so the newest of several counts.
fn cursor(headers: &HeaderMap, pairs: &Pairs) -> Result<Option<EventId>, Problem> {
    let mut by_header = Vec::new();
    for value in headers.get_all("last-event-id") {
        // a proxy may have put several fields into one (RFC 9110, 5.3)
        by_header.extend(value.to_str().map_err(|_| MalformedId)?.split(','));
    }
    let (by_header, by_query) = (newest(by_header)?, newest(pairs.all(CURSOR))?);
    Ok(by_header.or(by_query))
}

/// The newest of these cursors; an empty text is none.
fn newest<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Option<EventId>, MalformedId> {
    let given = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
    given.map(str::parse).try_fold(None, |newest, id| Ok(newest.max(Some(id?))))
}

/// `GET .../events/stream` (WHATWG HTML 9.2). HEAD says whether it would open, and takes nothing.
pub async fn sse(request: HttpRequest, pairs: Pairs) -> Result<HttpResponse, Problem> {
    let context = guard::context(&request);
    let wanted = wanted(&request, &pairs, |target| {
        let by_query = pairs.flag("event_names")?;
        let by_channel = match target {
            StreamTarget::Channel(channel) => channel.event_names,
            StreamTarget::Several(_) | StreamTarget::All => None,
        };
        let named = by_query.or(by_channel).unwrap_or(context.settings.sse.event_names);
        Ok(if named { Carrier::SseNamed } else { Carrier::Sse })
    });
    let wanted = wanted.await?;
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"));
    if request.method() == Method::HEAD {
        let room = context.hub.slot_is_free(&wanted.target.selection(), &wanted.visitor.principal);
        room.map_err(|full| Problem::no_slot(full, ApiFamily::of(&request), &context.settings.limits))?;
        return Ok(answer.streaming(futures_util::stream::empty::<Result<Bytes, Infallible>>()));
    }
    let body = context.hub.stream(admit(&request, wanted).await?).await;
    let body = body.ok_or_else(|| Problem::new(Code::Unavailable, "The server is stopping or starting; reconnect"))?;
    Ok(answer.streaming(body))
}

/// `GET .../events/ws` (RFC 6455).
pub async fn websocket(request: HttpRequest, pairs: Pairs, payload: Payload) -> Result<HttpResponse, Problem> {
    let context = guard::context(&request);
    if request.method() == Method::HEAD {
        return Err(websocket::UpgradeError::NotAnUpgrade.into());
    }
    let wanted = wanted(&request, &pairs, |_| {
        if !websocket::is_upgrade(&request) {
            return Err(websocket::UpgradeError::NotAnUpgrade.into());
        }
        origin_allowed(&request)?;
        Ok(Carrier::WebSocket)
    });
    let opening = admit(&request, wanted.await?).await?;
    bodies::lift_bounds(&request);
    Ok(context.hub.upgrade(&request, payload, opening).await?)
}

/// Browsers do not hold WebSockets to CORS, so we do. Pages of our own address may always connect; the sockets of
/// organizations are for others only where an origin is listed by its name.
fn origin_allowed(request: &HttpRequest) -> Result<(), Problem> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let context = guard::context(request);
    let listed = |origin: &str| {
        let everyone = ApiFamily::of(request) != ApiFamily::Organizations;
        let allowed = &context.settings.cors.allowed_origins;
        allowed.iter().any(|a| a == "*" && everyone || a.eq_ignore_ascii_case(origin))
    };
    match origin.to_str() {
        Ok(origin) if is_own(request, origin) || listed(origin) => Ok(()),
        _ => Err(Problem::new(
            Code::OriginForbidden,
            "This Origin may not connect; cors.allowed_origins lists those that may",
        )),
    }
}

/// Whether a page comes from the address that the request went to, or from the public one.
fn is_own(request: &HttpRequest, origin: &str) -> bool {
    let context = guard::context(request);
    let here = context.origin(request);
    let public = context.settings.server.public_url.as_deref();
    let is_public = |url: &str| {
        let rest =
            url.get(..origin.len()).filter(|start| start.eq_ignore_ascii_case(origin)).map(|_| &url[origin.len()..]);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    here.eq_ignore_ascii_case(origin) || public.is_some_and(is_public)
}

/// What a client may ask a ticket to be bound to.
#[derive(Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// Wanted types; absent, or `*` among them: all; an empty list: none.
    #[serde(default, deserialize_with = "optional_names")]
    #[schema(value_type = serde_json::Value)]
    events: Option<Vec<String>>,
    /// One, or a list.
    #[serde(default, deserialize_with = "prefixes", alias = "pathPrefix")]
    #[schema(value_type = serde_json::Value)]
    path_prefix: Vec<String>,
    #[serde(alias = "sessionId")]
    session: Option<String>,
    /// A CEL expression.
    filter: Option<String>,
    /// Resume after this event.
    since: Option<String>,
    /// The same.
    #[serde(alias = "lastEventId")]
    last_event_id: Option<String>,
    /// Where the path names no channel: these, 1 to 100 of `map:<id or slug>`, `organization:<id>`, `map:*` and `organization:*`, in one
    /// order.
    #[schema(nullable = false)]
    pub channels: Option<Vec<String>>,
}

/// Mints a ticket for a stream of the selection, or of one source of the channel.
///
/// # Errors
/// A 400 for a filter or cursor that cannot be used, a 429 when the token has too many tickets.
pub async fn mint(
    context: &Context,
    principal: Arc<Principal>,
    selection: Selection,
    source: Option<&str>,
    asked: TicketRequest,
) -> Result<String, Problem> {
    let TicketRequest { events, path_prefix, session, filter, since, last_event_id, channels: _ } = asked;
    let narrowed = events.is_some() || !path_prefix.is_empty() || session.is_some() || filter.is_some();
    let bound = narrowed || source.is_some();
    let spec = FilterSpec { events, path_prefix, session, filter, source: source.map(str::to_owned) };
    let cursor = given(since).or(last_event_id);
    mint_bound(context, principal, selection, bound.then_some(spec), cursor.as_deref()).await
}

/// A text that is not empty.
pub fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Mints a ticket; `spec` none: what is read is said by the request that uses it. An empty cursor is none.
///
/// # Errors
/// As [`mint`].
pub async fn mint_bound(
    context: &Context,
    principal: Arc<Principal>,
    selection: Selection,
    spec: Option<FilterSpec>,
    cursor: Option<&str>,
) -> Result<String, Problem> {
    if let Some(spec) = &spec {
        context.hub.filter(&principal, spec).await?;
    }
    let cursor = match cursor.filter(|text| !text.is_empty()) {
        Some(text) => Some(text.parse()?),
        None => None,
    };
    let grant = Grant { principal: principal.carried_by_ticket(), selection, filter: spec, cursor };
    context.hub.mint(grant).await.map_err(|e| Problem::no_ticket(e, &context.settings))
}
