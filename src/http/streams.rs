//! Opening a stream, the same for every family: credential or ticket, filter, cursor, slot, and only then a header.

use std::os::fd::RawFd;
use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, ORIGIN};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use actors::frame::Encoding;
use actors::hub::Hub;
use actors::model::access::{Principal, Scope};
use actors::model::catalogue;
use actors::model::channel::Channel;
use actors::model::filter::{Filter, FilterSpec};
use actors::model::id::EventId;
use actors::session::{Opening, websocket};
use actors::tickets::Grant;

use super::guard;
use super::problem::{Code, Problem};
use super::query::Pairs;

/// The socket of a connection, put there when it was accepted.
#[derive(Clone, Copy)]
pub struct Socket(pub RawFd);

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
        let grant = context.hub.look(ticket).await.ok_or_else(Problem::bad_ticket)?;
        let principal = grant.principal.clone();
        if principal.expired(super::now_ms()) || !context.hub.holds(&principal) {
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

/// Everything up to the slot. The ticket is spent last, by a request that passes all else.
async fn admit(
    request: &HttpRequest,
    pairs: &Pairs,
    encoding: impl FnOnce(&Channel) -> Result<Encoding, Problem>,
) -> Result<Opening, Problem> {
    let context = guard::context(request);
    let visitor = visitor(request, pairs).await?;
    let channel = guard::map_for(request, &visitor.principal, Scope::Subscribe)?;
    if visitor.ticket.as_ref().is_some_and(|(_, grant)| grant.channel != channel.no()) {
        return Err(Problem::bad_ticket());
    }
    let grant = visitor.ticket.as_ref().map(|(_, grant)| grant);
    let spec = match grant.and_then(|grant| grant.filter.clone()) {
        Some(spec) => spec,
        None => FilterSpec::from_query(pairs.iter())?,
    };
    let filter = Filter::compile(&spec)?;
    let cursor = match cursor(request.headers(), pairs)? {
        Some(cursor) => Some(cursor),
        None => grant.and_then(|grant| grant.cursor),
    };
    let encoding = encoding(&channel)?;
    let slot = context.hub.slot(channel.no(), &visitor.principal)?;
    if let Some((ticket, _)) = &visitor.ticket
        && !context.hub.spend(ticket).await
    {
        return Err(Problem::bad_ticket());
    }
    Ok(Opening {
        channel,
        principal: visitor.principal,
        filter,
        unknown_events: spec.unknown_events(catalogue::knows),
        cursor,
        encoding,
        slot,
        socket: request.conn_data::<Socket>().map(|socket| socket.0),
    })
}

/// The header wins over the query, because a browser that reconnects repeats the query it began with.
fn cursor(headers: &HeaderMap, pairs: &Pairs) -> Result<Option<EventId>, Problem> {
    let header = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().map_err(|_| actors::model::id::MalformedId)?),
        None => None,
    };
    let query = || ["last_event_id", "lastEventId", "since"].into_iter().find_map(|name| pairs.get(name));
    match header.filter(|text| !text.is_empty()).or_else(query) {
        Some("") | None => Ok(None),
        Some(text) => Ok(Some(text.parse()?)),
    }
}

/// `GET .../events/stream` (WHATWG HTML 9.2).
pub async fn sse(request: HttpRequest, pairs: Pairs) -> Result<HttpResponse, Problem> {
    let context = guard::context(&request);
    let opening = admit(&request, &pairs, |channel| {
        let by_query = pairs.flag("event_names")?;
        let named = by_query.or(channel.event_names).unwrap_or(context.settings.sse.event_names);
        Ok(if named { Encoding::SseNamed } else { Encoding::Sse })
    });
    let body = context.hub.stream(opening.await?).await;
    let body = body.ok_or_else(|| Problem::new(Code::Unavailable, "The server is stopping or starting; reconnect"))?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// `GET .../events/ws` (RFC 6455).
pub async fn websocket(request: HttpRequest, pairs: Pairs, payload: Payload) -> Result<HttpResponse, Problem> {
    let context = guard::context(&request);
    let opening = admit(&request, &pairs, |_| {
        if !websocket::is_upgrade(&request) {
            return Err(websocket::UpgradeError::NotAnUpgrade.into());
        }
        origin_allowed(&request)?;
        Ok(Encoding::WebSocket)
    });
    Ok(context.hub.upgrade(&request, payload, opening.await?).await?)
}

/// Browsers do not hold WebSockets to CORS, so we do.
fn origin_allowed(request: &HttpRequest) -> Result<(), Problem> {
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let allowed = &guard::context(request).settings.cors.allowed_origins;
    match origin.to_str() {
        Ok(origin) if allowed.iter().any(|a| a == "*" || a.eq_ignore_ascii_case(origin)) => Ok(()),
        _ => Err(Problem::new(
            Code::OriginForbidden,
            "This Origin may not connect; cors.allowed_origins lists those that may",
        )),
    }
}

/// What a client may ask a ticket to be bound to.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    events: Option<Vec<String>>,
    #[serde(default)]
    path_prefix: Vec<String>,
    filter: Option<String>,
    since: Option<String>,
    last_event_id: Option<String>,
}

/// Mints a ticket for a stream of the channel: (ticket, whole seconds it lives).
pub async fn mint(
    hub: &Hub,
    principal: Arc<Principal>,
    channel: &Channel,
    asked: TicketRequest,
) -> Result<String, Problem> {
    let TicketRequest { events, path_prefix, filter, since, last_event_id } = asked;
    let bound = events.is_some() || !path_prefix.is_empty() || filter.is_some();
    let spec = FilterSpec { events, path_prefix, session: None, filter };
    Filter::compile(&spec)?;
    let cursor = match since.or(last_event_id).filter(|text| !text.is_empty()) {
        Some(text) => Some(text.parse()?),
        None => None,
    };
    let grant = Grant { principal, channel: channel.no(), filter: bound.then_some(spec), cursor };
    let ticket = hub.mint(grant).await;
    ticket.ok_or_else(|| {
        Problem::new(Code::TicketLimit, "Too many tickets are open; use those, or wait for them to expire")
    })
}
