//! Organizations: make, list, change, delete.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::audit::{AuditEntry, Change};
use actors::hub::{MapChange, NewOrganization};
use actors::model::channel::{Channel, ChannelKind};
use actors::model::timestamp::to_iso;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::guard::{Admin, Caller, Manages, On, Reads};
use super::problem::Answer;
use super::query;

/// An organization as clients see it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Organization)]
pub struct OrganizationView {
    /// `org_` and a ULID, or what was chosen.
    id: Arc<str>,
    name: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// A token with all scopes. Only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<String>,
}

impl OrganizationView {
    fn of(organization: &Channel) -> OrganizationView {
        OrganizationView {
            id: organization.id.clone(),
            name: organization.name.clone(),
            created_at: to_iso(organization.inserted_ms),
            updated_at: to_iso(organization.updated_ms),
            token: None,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrganization {
    /// Absent: `org_` and a ULID.
    id: Option<String>,
    name: String,
    /// Of its first token; absent: made of the organization's name.
    #[serde(rename = "tokenName", alias = "token_name")]
    token_name: Option<String>,
}

/// `POST /api/v1/organizations`
pub async fn create(context: web::Data<Context>, _: Admin, request: HttpRequest, body: web::Bytes) -> Answer {
    let CreateOrganization { id, name, token_name } = query::json(&request, &body)?;
    let (organization, token) = context.hub.create_organization(NewOrganization { name, id, token_name }).await?;
    let shown = OrganizationView { token: Some(token), ..OrganizationView::of(&organization) };
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/v1/organizations`: all for the admin, its own for a token.
pub async fn list(context: web::Data<Context>, Caller(principal): Caller) -> Answer {
    let organizations = context.hub.list(ChannelKind::Organization);
    let own = organizations.iter().filter(|organization| principal.reaches(organization));
    let data: Vec<_> = own.map(|organization| OrganizationView::of(organization)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "nextCursor": null })))
}

/// `GET /api/v1/organizations/{org}`
pub async fn get(on: On<Reads>) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": OrganizationView::of(&on.channel) })))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchOrganization {
    name: Option<String>,
}

/// `PATCH /api/v1/organizations/{org}`
pub async fn change(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let PatchOrganization { name } = query::json(&request, &body)?;
    let change = MapChange { name, ..MapChange::default() };
    let organization = context.hub.change_channel(&on.channel, change).await?;
    context.hub.audit(&on.principal.id, AuditEntry::ChannelChanged { channel: &organization, change: Change::Updated });
    Ok(HttpResponse::Ok().json(json!({ "data": OrganizationView::of(&organization) })))
}

/// `DELETE /api/v1/organizations/{org}`
pub async fn delete(context: web::Data<Context>, on: On<Manages>) -> Answer {
    context.hub.delete_channel(&on.channel).await?;
    context.hub.audit(&on.principal.id, AuditEntry::ChannelChanged { channel: &on.channel, change: Change::Deleted });
    Ok(HttpResponse::NoContent().finish())
}
