//! The open streams: list them, close one.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::feed::frame::Carrier;
use actors::hub::Hub;
use actors::model::access::Scope;
use actors::model::event::ChannelNo;
use actors::model::filter::FilterSpec;
use actors::model::selection::Selection;
use actors::model::timestamp::to_iso;
use actors::streams::connections::{Connection, ConnectionId};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::guard::{self, Caller};
use super::problem::{Answer, Code, Problem};
use super::query::{PAGE_DEFAULT, Pairs};

/// An open stream as those see it who manage its channel.
#[derive(Serialize, ToSchema)]
#[schema(as = Connection)]
pub struct ConnectionView {
    /// `con_` and a ULID.
    id: String,
    /// `sse` or `websocket`.
    kind: &'static str,
    /// `map:<id>` or `organization:<id>`; null where several or all channels are read.
    channel: Option<String>,
    /// Where several channels are read: those, and `map:*` or `organization:*` for all of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    channels: Option<Vec<String>>,
    filter: FilterView,
    /// When it was opened.
    #[schema(format = DateTime)]
    since: String,
    /// For the admin only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_address: Option<String>,
    user_agent: Option<String>,
    /// Events that wait for it, before its filter; an estimate where it is far behind.
    behind_events: u64,
    /// The id of a token, `jwt:<sub>` or `admin`.
    token_id: Arc<str>,
}

/// What a stream filters by; what is absent is no condition.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamFilter)]
struct FilterView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    events: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    path_prefix: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session: Option<String>,
    /// A CEL expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    filter: Option<String>,
    /// The id of the source of a stream that listens to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    source: Option<String>,
}

impl FilterView {
    fn of(spec: FilterSpec) -> FilterView {
        let FilterSpec { events, path_prefix, session, filter, source, .. } = spec;
        let path_prefix = Some(path_prefix).filter(|prefixes| !prefixes.is_empty());
        FilterView { events, path_prefix, session, filter, source }
    }
}

impl ConnectionView {
    fn of(hub: &Hub, connection: Connection, is_admin: bool) -> ConnectionView {
        let (channel, channels) = match &connection.selection {
            Selection::One(no) => (hub.channel(*no).map(|channel| channel.name_on_tokens()), None),
            Selection::Several(set) => (None, Some(hub.names(set))),
            Selection::All => (None, None),
        };
        ConnectionView {
            id: connection.id.to_string(),
            kind: if connection.carrier == Carrier::WebSocket { "websocket" } else { "sse" },
            channel,
            channels,
            filter: FilterView::of(connection.filter),
            since: to_iso(i64::try_from(connection.id.time_ms()).unwrap_or(i64::MAX)),
            client_address: connection.client.address.filter(|_| is_admin).map(|address| address.to_string()),
            user_agent: connection.client.user_agent.map(Into::into),
            behind_events: connection.behind_events,
            token_id: connection.principal,
        }
    }
}

/// Which streams the caller may see: all, for an admin who names no channel.
fn scope(request: &HttpRequest, caller: &Caller) -> Result<Option<ChannelNo>, Problem> {
    Ok(guard::channel_or_all(request, &caller.0, Scope::Manage)?.map(|channel| channel.no()))
}

/// `GET /api/v1/connections`
pub async fn list(context: web::Data<Context>, caller: Caller, request: HttpRequest, pairs: Pairs) -> Answer {
    let of = scope(&request, &caller)?;
    let limit = pairs.page_limit(PAGE_DEFAULT)?;
    let after = pairs.get("after").filter(|text| !text.is_empty()).map(str::parse::<ConnectionId>).transpose();
    let after =
        after.map_err(|_| Problem::new(Code::InvalidCursor, "'after' is the id of a connection: nextCursor"))?;
    let (found, has_more) = context.hub.connections(of, after, limit).await?;
    let next = found.last().filter(|_| has_more).map(|last| last.id.to_string());
    let is_admin = caller.0.is_admin();
    let data: Vec<_> = found.into_iter().map(|one| ConnectionView::of(&context.hub, one, is_admin)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "nextCursor": next })))
}

/// `DELETE /api/v1/connections/{id}`
pub async fn end(context: web::Data<Context>, caller: Caller, request: HttpRequest, id: web::Path<String>) -> Answer {
    let of = scope(&request, &caller)?;
    let absent = || Problem::new(Code::NotFound, "Connection not found");
    // an id that cannot be one belongs to nobody
    let id: ConnectionId = id.parse().map_err(|_| absent())?;
    match context.hub.end_connection(id, of).await {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(absent()),
    }
}
