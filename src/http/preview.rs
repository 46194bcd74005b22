//! What a webhook would post, before there is one.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::webhooks::{Format, PreviewAsk};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Context;
use super::family::ApiFamily;
use super::guard::{Manages, On};
use super::problem::Problem;
use super::query;

/// Field names of either family.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookPreviewRequest)]
pub struct Asked {
    #[schema(value_type = String)]
    format: Format,
    /// Goes with the format `template`.
    template: Option<String>,
    /// Absent: one that the format knows.
    #[serde(alias = "eventType")]
    event_type: Option<String>,
}

/// `POST .../webhooks/preview`: the request that a webhook of this format would send for a sample of the type.
pub async fn preview(
    context: web::Data<Context>,
    on: On<Manages>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let Asked { format, template, event_type } = query::json(&request, &body)?;
    let made = context.hub.preview_webhook(&on.channel, PreviewAsk { format, template, event_type }).await?;
    let type_name = if ApiFamily::of(&request) == ApiFamily::Organizations { "eventType" } else { "event_type" };
    let headers: Map<_, _> = made.headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    Ok(HttpResponse::Ok()
        .json(json!({ "data": { type_name: made.event_type, "headers": headers, "body": made.body } })))
}
