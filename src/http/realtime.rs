//! The ticket of `/api/v1/realtime`: what a client wants to read is said when the ticket is minted, and the ticket opens
//! a stream of exactly that.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::model::access::Scope;
use actors::model::filter::{FilterSpec, optional_names, prefixes};
use actors::model::selection::Selection;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::guard::{self, Uncounted};
use super::problem::{Code, Problem};
use super::{query, streams};

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RealtimeTicketRequest)]
pub struct RealtimeTicketRequest {
    /// `session`, `organization` (the default), or `firehose`, for which the admin token is needed.
    scope: Option<String>,
    /// Required for the scope `session`.
    #[serde(alias = "sessionId")]
    session: Option<String>,
    /// Wanted types, as a list or between commas; absent, or `*` among them: all; an empty list: none.
    #[serde(default, deserialize_with = "optional_names")]
    #[schema(value_type = serde_json::Value)]
    events: Option<Vec<String>>,
    /// Resume after this event.
    since: Option<String>,
    /// The same.
    #[serde(alias = "lastEventId")]
    last_event_id: Option<String>,
    /// One, or a list.
    #[serde(default, deserialize_with = "prefixes", alias = "pathPrefix")]
    #[schema(value_type = serde_json::Value)]
    path_prefix: Vec<String>,
    filter: Option<String>,
}

/// `POST /api/v1/realtime/ticket`
pub async fn ticket(
    context: web::Data<Context>,
    Uncounted(principal): Uncounted,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let asked: RealtimeTicketRequest = query::optional_json(&request, &body)?;
    let session = asked.session.clone().filter(|session| !session.is_empty());
    let selection = match asked.scope.as_deref() {
        Some("session") if session.is_none() => {
            return Err(Problem::parameter_text("session is required for scope=session"));
        }
        None | Some("" | "organization" | "session") => {
            Selection::One(guard::channel_for(&request, &principal, Scope::Subscribe)?.no())
        }
        Some("firehose") if principal.is_admin() => Selection::All,
        Some("firehose") => {
            return Err(Problem::new(Code::Forbidden, "Only the admin token may read the firehose"));
        }
        Some(_) => return Err(Problem::parameter_text("scope must be one of session|organization|firehose")),
    };
    let RealtimeTicketRequest { events, path_prefix, filter, since, last_event_id, .. } = asked;
    let spec = FilterSpec { events, path_prefix, session, filter, source: None };
    let cursor = streams::given(since).or(last_event_id);
    let ticket = streams::mint_bound(&context, principal, selection, Some(spec), cursor.as_deref()).await?;
    let base = context.base_url(&request);
    // http becomes ws, and https wss
    let url = format!("ws{}/api/v1/realtime?ticket={ticket}", base.strip_prefix("http").unwrap_or(&base));
    let expires = context.settings.tickets.ttl_s;
    Ok(HttpResponse::Created().json(json!({ "ticket": ticket, "expiresInSeconds": expires, "url": url })))
}
