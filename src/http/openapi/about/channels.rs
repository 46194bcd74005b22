//! Maps and organizations.

use actors::model::access::Scope;
use serde_json::{Value, json};

use super::super::schemas::{data, list, object};
use super::super::{Access, Operation, Place, events};
use crate::http::problem::Code;
use crate::http::{maps, organizations};

const MAPS: &str = "Maps";
const ORGANIZATIONS: &str = "Organizations";

fn map() -> Value {
    json!({
        "id": "c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11", "slug": "home", "name": "Home", "webhooks_enabled": false, "event_names": null,
        "inserted_at": "2025-06-21T12:35:00.123Z", "updated_at": "2025-06-21T12:35:00.123Z",
    })
}

fn with_token(mut shown: Value) -> Value {
    shown["token"] = "st_oWm1mXb1yQ0O5r8Jc6dV7u2t3s4r5q6p7o8n9m0l1k2".into();
    json!({ "data": shown })
}

pub fn create_map(place: &Place<'_>) -> Operation {
    Operation::new(MAPS, "Create a map", Access::Admin)
        .says("The answer holds a token with all scopes, which is shown only here.")
        .body(place.body::<maps::CreateMap>(), json!({ "name": "Home", "slug": "home" }))
        .answers(201, "The map with its first token.", data(place.answer::<maps::MapView>()), with_token(map()))
        .fails(&[Code::Conflict])
}

pub fn list_maps(place: &Place<'_>) -> Operation {
    let all = object(json!({ "data": list(place.answer::<maps::MapView>()) }));
    Operation::new(MAPS, "List maps", Access::Caller).says("All of them for the admin; its own for a token.").answers(
        200,
        "The maps.",
        all,
        json!({ "data": [map()] }),
    )
}

pub fn get_map(place: &Place<'_>) -> Operation {
    Operation::new(MAPS, "Get a map", Access::Scope(Scope::Subscribe)).answers(
        200,
        "The map.",
        data(place.answer::<maps::MapView>()),
        json!({ "data": map() }),
    )
}

pub fn change_map(place: &Place<'_>) -> Operation {
    Operation::new(MAPS, "Change a map", Access::Scope(Scope::Manage))
        .says("What the body names is changed, the rest stays.")
        .body(place.body::<maps::PatchMap>(), json!({ "event_names": true }))
        .answers(200, "The map as it is now.", data(place.answer::<maps::MapView>()), json!({ "data": map() }))
        .fails(&[Code::Conflict])
}

pub fn delete_map(_: &Place<'_>) -> Operation {
    Operation::new(MAPS, "Delete a map", Access::Scope(Scope::Manage))
        .says("Its tokens are void and its streams end. Its events leave with retention.")
        .answers_nothing(204, "It is gone.")
}

fn organization() -> Value {
    json!({
        "id": events::ORGANIZATION, "name": "Acme",
        "createdAt": "2025-06-21T12:35:00.123Z", "updatedAt": "2025-06-21T12:35:00.123Z",
    })
}

pub fn create_organization(place: &Place<'_>) -> Operation {
    let made = data(place.answer::<organizations::OrganizationView>());
    Operation::new(ORGANIZATIONS, "Create an organization", Access::Admin)
        .says("The answer holds a token with all scopes, which is shown only here.")
        .body(place.body::<organizations::CreateOrganization>(), json!({ "name": "Acme" }))
        .answers(201, "The organization with its first token.", made, with_token(organization()))
        .fails(&[Code::Conflict])
}

pub fn list_organizations(place: &Place<'_>) -> Operation {
    let all = list(place.answer::<organizations::OrganizationView>());
    let all = object(json!({ "data": all, "nextCursor": { "type": "null" } }));
    Operation::new(ORGANIZATIONS, "List organizations", Access::Caller)
        .says("All of them for the admin; its own for a token.")
        .answers(200, "The organizations.", all, json!({ "data": [organization()], "nextCursor": null }))
}

pub fn get_organization(place: &Place<'_>) -> Operation {
    let shown = data(place.answer::<organizations::OrganizationView>());
    Operation::new(ORGANIZATIONS, "Get an organization", Access::Scope(Scope::Subscribe)).answers(
        200,
        "The organization.",
        shown,
        json!({ "data": organization() }),
    )
}

pub fn change_organization(place: &Place<'_>) -> Operation {
    let shown = data(place.answer::<organizations::OrganizationView>());
    Operation::new(ORGANIZATIONS, "Rename an organization", Access::Scope(Scope::Manage))
        .body(place.body::<organizations::PatchOrganization>(), json!({ "name": "Acme Ltd" }))
        .answers(200, "The organization as it is now.", shown, json!({ "data": organization() }))
}

pub fn delete_organization(_: &Place<'_>) -> Operation {
    Operation::new(ORGANIZATIONS, "Delete an organization", Access::Scope(Scope::Manage))
        .says("Its tokens are void and its streams end. Its events leave with retention. The organization `system` stays.")
        .answers_nothing(204, "It is gone.")
}
