//! Organizations: make, list, change, delete.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::{MapChange, NewOrganization};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::timestamp::to_iso;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::guard::{Admin, Caller, Manages, On, Reads};
use super::problem::Problem;
use super::query;

type Answer = Result<HttpResponse, Problem>;

/// An organization as clients see it.
fn shown(organization: &Channel) -> Value {
    json!({
        "id": organization.id,
        "name": organization.name,
        "createdAt": to_iso(organization.inserted_ms),
        "updatedAt": to_iso(organization.updated_ms),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateOrganization {
    id: Option<String>,
    name: String,
}

/// `POST /api/v1/organizations`
pub async fn create(context: web::Data<Context>, _: Admin, request: HttpRequest, body: web::Bytes) -> Answer {
    let CreateOrganization { id, name } = query::json(&request, &body)?;
    let (organization, token) = context.hub.create_organization(NewOrganization { name, id }).await?;
    let mut shown = shown(&organization);
    shown["token"] = token.into();
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/v1/organizations`: all for the admin, its own for a token.
pub async fn list(context: web::Data<Context>, Caller(principal): Caller) -> Answer {
    let organizations = context.hub.list(ChannelKind::Organization);
    let own = organizations.iter().filter(|organization| principal.reaches(organization.no()));
    let data: Vec<_> = own.map(|organization| shown(organization)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "nextCursor": null })))
}

/// `GET /api/v1/organizations/{org}`
pub async fn get(on: On<Reads>) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": shown(&on.channel) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchOrganization {
    name: Option<String>,
}

/// `PATCH /api/v1/organizations/{org}`
pub async fn change(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let PatchOrganization { name } = query::json(&request, &body)?;
    let change = MapChange { name, ..MapChange::default() };
    let organization = context.hub.change_channel(&on.channel, change).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": shown(&organization) })))
}

/// `DELETE /api/v1/organizations/{org}`
pub async fn delete(context: web::Data<Context>, on: On<Manages>) -> Answer {
    context.hub.delete_channel(&on.channel).await?;
    Ok(HttpResponse::NoContent().finish())
}
