//! Tokens of channels.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::audit::AuditEntry;
use actors::hub::{Hub, NewToken, TokenChange, TokenOf};
use actors::model::access::{Principal, Reach, Scope, TokenRecord};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::selection::Selector;
use actors::model::timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::guard::{self, Caller};
use super::problem::{Answer, Code, Problem};
use super::{query, reading};

/// A token as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenView {
    /// `tok_` and a ULID.
    id: Arc<str>,
    /// `map:<id>` or `organization:<id>`; null where there are several.
    channel: Option<String>,
    /// Of a token of several channels: those, and `map:*` or `organization:*` for all of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    channels: Option<Vec<String>>,
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    name: Option<String>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    inserted_at: String,
    /// When it was last used, to the second; null where that is not known.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// Who made it: `admin`, the id of a token, or `jwt:<sub>`; null where an older version made it.
    created_by: Option<String>,
    /// What to send as `Authorization: Bearer`. Only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<String>,
}

impl TokenView {
    fn of(hub: &Hub, token: &TokenRecord, of: TokenOf) -> TokenView {
        let (channel, channels) = match of {
            TokenOf::Channel(channel) => (Some(channel), None),
            TokenOf::Several(channels) => (None, Some(channels)),
        };
        TokenView {
            id: token.id.clone().into(),
            channel,
            channels,
            scopes: token.scopes.clone(),
            name: token.name.clone(),
            expires_at: token.expires_ms.map(timestamp::to_iso),
            inserted_at: timestamp::to_iso(token.inserted_ms),
            last_used_at: hub.last_use_ms(&token.id).map(timestamp::to_iso),
            created_by: token.created_by.clone(),
            token: None,
        }
    }
}

/// Whether the caller may give these scopes to a new token. A JWT ends soon and a token may stay, so a JWT hands on no more
/// than it has itself.
fn may_give(principal: &Principal, scopes: &[Scope]) -> Result<(), Problem> {
    match scopes.iter().find(|scope| principal.is_jwt() && principal.has(**scope).is_err()) {
        None => Ok(()),
        Some(scope) => {
            let message = format!("The JWT lacks the scope '{scope}', so it cannot give it to a token");
            Err(Problem::new(Code::Forbidden, message))
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// `map:<id or slug>` or `organization:<id>`. A token with the scope `manage` may leave out its own channel.
    #[schema(nullable = false)]
    channel: Option<String>,
    /// In place of `channel`, for the admin: 1 to 100 of `map:<id or slug>`, `organization:<id>`, and `map:*` and `organization:*` for
    /// all of a kind, also those that are made later, without the organization `system`. The scopes are then `subscribe` and
    /// `publish`.
    #[schema(nullable = false)]
    channels: Option<Vec<String>>,
    /// At least one of `subscribe`, `publish`, `manage`.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    name: Option<String>,
    /// ISO-8601 with offset, in the future; absent: never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What a token is asked for.
enum Asked {
    One(Arc<Channel>),
    Several(Vec<Selector>),
}

/// `POST /api/v1/tokens`
pub async fn create(
    context: web::Data<Context>,
    Caller(principal): Caller,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let asked: CreateToken = query::json(&request, &body)?;
    let hub = &context.hub;
    let of = match (&asked.channel, &asked.channels) {
        (Some(_), Some(_)) => return Err(Problem::invalid("channels", "goes instead of channel, not with it")),
        (None, Some(names)) => {
            if !principal.is_admin() {
                return Err(Problem::new(Code::Forbidden, "Only the admin token may make a token of several channels"));
            }
            Asked::Several(reading::selectors(&request, &principal, Scope::Manage, names)?)
        }
        (Some(name), None) => {
            let absent = || Problem::new(Code::NotFound, format!("There is no channel {name}"));
            if ChannelKind::parse_name(name).is_none() {
                return Err(Problem::invalid("channel", "map:<id> or organization:<id> is expected"));
            }
            Asked::One(guard::permitted(hub.find_named(name), &principal, Scope::Manage, absent)?)
        }
        (None, None) => {
            let own = guard::channel_or_all(&request, &principal, Scope::Manage)?;
            let missing = || Problem::invalid("channel", "is missing: map:<id> or organization:<id>");
            Asked::One(own.ok_or_else(missing)?)
        }
    };
    may_give(&principal, &asked.scopes)?;
    let expires_ms = asked.expires_at.as_deref().map(expiry).transpose()?;
    let created_by = Some(principal.id.to_string());
    let new = NewToken { scopes: asked.scopes, name: asked.name, expires_ms, created_by };
    let (token, text) = match of {
        Asked::One(channel) => hub.create_token(&channel, new).await?,
        Asked::Several(selectors) => hub.create_token_of_several(&selectors, new).await?,
    };
    let of = hub.token_of(&token).ok_or_else(|| Problem::new(Code::NotFound, "The channel does not exist any more"))?;
    hub.audit(&principal.id, AuditEntry::TokenCreated { token: &token, of: &of });
    let shown = TokenView { token: Some(text), ..TokenView::of(hub, &token, of) };
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/v1/tokens`
pub async fn list(context: web::Data<Context>, request: HttpRequest, Caller(principal): Caller) -> Answer {
    let channel = guard::channel_or_all(&request, &principal, Scope::Manage)?.map(|channel| channel.no());
    let view = |(token, of): (Arc<TokenRecord>, TokenOf)| TokenView::of(&context.hub, &token, of);
    let data: Vec<_> = context.hub.tokens(channel).into_iter().map(view).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "nextCursor": null })))
}

/// `GET /api/v1/tokens/current`: what the caller's own credential allows, whatever its scopes.
pub async fn current(context: web::Data<Context>, Caller(principal): Caller) -> Answer {
    let (channel, channels, scopes) = match &principal.reach {
        Reach::Admin => (None, None, Scope::ALL.to_vec()),
        Reach::Channel { no, scopes } => (context.hub.channel(*no), None, scopes.clone()),
        Reach::Several { channels, scopes } => (None, Some(context.hub.names(channels)), scopes.clone()),
    };
    let record = context.hub.token(&principal.id);
    let shown = CredentialView {
        id: principal.id.clone(),
        admin: principal.is_admin(),
        channel: channel.map(|channel| channel.name_on_tokens()),
        channels,
        scopes,
        name: record.and_then(|record| record.name.clone()),
        expires_at: principal.expires_ms.map(timestamp::to_iso),
    };
    Ok(HttpResponse::Ok().json(json!({ "data": shown })))
}

/// What a credential allows.
#[derive(Serialize, ToSchema)]
#[schema(as = Credential)]
pub struct CredentialView {
    /// The id of a token, `jwt:<sub>` or `admin`.
    id: Arc<str>,
    admin: bool,
    /// `map:<id>` or `organization:<id>`; null for the admin and where there are several.
    channel: Option<String>,
    /// Of a token of several channels: those, and `map:*` or `organization:*` for all of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    channels: Option<Vec<String>>,
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    name: Option<String>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// The token of this id, if the caller may manage it; who may not is told that there is none.
fn managed(context: &Context, principal: &Principal, id: &str) -> Result<Arc<TokenRecord>, Problem> {
    let token = context.hub.token(id).ok_or_else(|| absent(id))?;
    match &token.channels {
        None => {
            guard::permitted(context.hub.channel(token.channel_no()), principal, Scope::Manage, || absent(id))?;
        }
        // whoever it reaches did not make it, and has nothing to do with the other channels
        Some(_) if principal.is_admin() => {}
        Some(_) => return Err(absent(id)),
    }
    Ok(token)
}

fn absent(id: &str) -> Problem {
    Problem::new(Code::NotFound, format!("There is no token {id}"))
}

fn shown(context: &Context, token: &TokenRecord) -> Answer {
    let of = context.hub.token_of(token).ok_or_else(|| absent(&token.id))?;
    Ok(HttpResponse::Ok().json(json!({ "data": TokenView::of(&context.hub, token, of) })))
}

/// `GET /api/v1/tokens/{id}`
pub async fn get(context: web::Data<Context>, Caller(principal): Caller, id: web::Path<String>) -> Answer {
    shown(&context, &*managed(&context, &principal, &id)?)
}

/// What is to change of a token. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeToken {
    /// Null: none.
    #[serde(default, deserialize_with = "query::given")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// ISO-8601 with offset, in the future; null: never.
    #[serde(default, deserialize_with = "query::given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<String>>,
}

/// `PATCH /api/v1/tokens/{id}`
pub async fn change(
    context: web::Data<Context>,
    Caller(principal): Caller,
    id: web::Path<String>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let old = managed(&context, &principal, &id)?;
    let asked: ChangeToken = query::json(&request, &body)?;
    let expires_ms = match asked.expires_at {
        None => None,
        Some(None) => Some(None),
        Some(Some(text)) => Some(Some(expiry(&text)?)),
    };
    let token = context.hub.change_token(&id, TokenChange { name: asked.name, expires_ms }).await?;
    if token != *old {
        let of = context.hub.token_of(&token);
        context.hub.audit(&principal.id, AuditEntry::TokenChanged { token: &token, of: of.as_ref() });
    }
    shown(&context, &token)
}

/// When a token ends, in Unix milliseconds.
fn expiry(text: &str) -> Result<i64, Problem> {
    timestamp::from_iso(text).ok_or_else(|| Problem::invalid("expires_at", "an ISO-8601 time with offset is expected"))
}

/// `DELETE /api/v1/tokens/{id}`
pub async fn revoke(context: web::Data<Context>, Caller(principal): Caller, id: web::Path<String>) -> Answer {
    let token = managed(&context, &principal, &id)?;
    let of = context.hub.token_of(&token);
    if !context.hub.revoke_token(&id).await? {
        return Err(absent(&id));
    }
    context.hub.audit(&principal.id, AuditEntry::TokenRevoked { token: &token, of: of.as_ref() });
    Ok(HttpResponse::NoContent().finish())
}
