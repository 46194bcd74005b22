//! Maps: make, list, change, delete.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::audit::{AuditEntry, Change};
use actors::hub::{MapChange, NewMap};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::timestamp::to_iso;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::guard::{Admin, Caller, Manages, On, Reads};
use super::problem::Answer;
use super::query;

/// A map as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Map)]
pub struct MapView {
    /// A UUID.
    id: Arc<str>,
    /// What may be written instead of the id.
    slug: Arc<str>,
    name: String,
    /// The switch over its webhooks.
    webhooks_enabled: bool,
    /// Whether frames of its streams carry an `event:` line; null: as `sse.event_names` says.
    event_names: Option<bool>,
    #[schema(format = DateTime)]
    inserted_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// A token with all scopes. Only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<String>,
}

impl MapView {
    fn of(map: &Channel) -> MapView {
        MapView {
            id: map.id.clone(),
            slug: map.slug.clone(),
            name: map.name.clone(),
            webhooks_enabled: map.webhooks_enabled,
            event_names: map.event_names,
            inserted_at: to_iso(map.inserted_ms),
            updated_at: to_iso(map.updated_ms),
            token: None,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMap {
    name: String,
    /// 1 to 64 of `a-z 0-9 -`; absent: made of the name.
    slug: Option<String>,
    /// A UUID; absent: made by chance.
    id: Option<String>,
    /// Of its first token; absent: made of the map's name.
    #[serde(alias = "tokenName")]
    token_name: Option<String>,
}

/// `POST /api/maps`
pub async fn create(context: web::Data<Context>, _: Admin, request: HttpRequest, body: web::Bytes) -> Answer {
    let CreateMap { name, slug, id, token_name } = query::json(&request, &body)?;
    let (map, token) = context.hub.create_map(NewMap { name, slug, id, token_name }).await?;
    let shown = MapView { token: Some(token), ..MapView::of(&map) };
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/maps`: all for the admin, its own for a channel token.
pub async fn list(context: web::Data<Context>, Caller(principal): Caller) -> Answer {
    let maps = context.hub.list(ChannelKind::Map);
    let data: Vec<_> = maps.iter().filter(|map| principal.reaches(map)).map(|map| MapView::of(map)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET /api/maps/{map}`
pub async fn get(on: On<Reads>) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": MapView::of(&on.channel) })))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchMap {
    name: Option<String>,
    slug: Option<String>,
    /// `null` goes back to the setting.
    #[serde(default, deserialize_with = "query::given")]
    #[schema(value_type = Option<bool>)]
    event_names: Option<Option<bool>>,
}

/// `PATCH /api/maps/{map}`
pub async fn change(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let PatchMap { name, slug, event_names } = query::json(&request, &body)?;
    let map = context.hub.change_channel(&on.channel, MapChange { name, slug, event_names }).await?;
    context.hub.audit(&on.principal.id, AuditEntry::ChannelChanged { channel: &map, change: Change::Updated });
    Ok(HttpResponse::Ok().json(json!({ "data": MapView::of(&map) })))
}

/// `DELETE /api/maps/{map}`
pub async fn delete(context: web::Data<Context>, on: On<Manages>) -> Answer {
    context.hub.delete_channel(&on.channel).await?;
    context.hub.audit(&on.principal.id, AuditEntry::ChannelChanged { channel: &on.channel, change: Change::Deleted });
    Ok(HttpResponse::NoContent().finish())
}
