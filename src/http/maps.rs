//! Maps: make, list, change, delete.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::{MapChange, NewMap};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::timestamp::to_iso;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::Context;
use super::guard::{Admin, Caller, Manages, On, Reads};
use super::problem::Problem;
use super::query;

type Answer = Result<HttpResponse, Problem>;

/// A map as clients see it.
fn shown(map: &Channel) -> Value {
    json!({
        "id": map.id,
        "slug": map.slug,
        "name": map.name,
        "webhooks_enabled": map.webhooks_enabled,
        "event_names": map.event_names,
        "inserted_at": to_iso(map.inserted_ms),
        "updated_at": to_iso(map.updated_ms),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateMap {
    name: String,
    slug: Option<String>,
    id: Option<String>,
}

/// `POST /api/maps`
pub async fn create(context: web::Data<Context>, _: Admin, request: HttpRequest, body: web::Bytes) -> Answer {
    let CreateMap { name, slug, id } = query::json(&request, &body)?;
    let (map, token) = context.hub.create_map(NewMap { name, slug, id }).await?;
    let mut shown = shown(&map);
    shown["token"] = token.into();
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/maps`: all for the admin, its own for a channel token.
pub async fn list(context: web::Data<Context>, Caller(principal): Caller) -> Answer {
    let maps = context.hub.list(ChannelKind::Map);
    let data: Vec<_> = maps.iter().filter(|map| principal.reaches(map.no())).map(|map| shown(map)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET /api/maps/{map}`
pub async fn get(on: On<Reads>) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": shown(&on.channel) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchMap {
    name: Option<String>,
    slug: Option<String>,
    #[serde(default, deserialize_with = "given")]
    event_names: Option<Option<bool>>,
}

/// Tells `null` from a field that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<bool>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PATCH /api/maps/{map}`
pub async fn change(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let PatchMap { name, slug, event_names } = query::json(&request, &body)?;
    let map = context.hub.change_channel(&on.channel, MapChange { name, slug, event_names }).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": shown(&map) })))
}

/// `DELETE /api/maps/{map}`
pub async fn delete(context: web::Data<Context>, on: On<Manages>) -> Answer {
    context.hub.delete_channel(&on.channel).await?;
    Ok(HttpResponse::NoContent().finish())
}
