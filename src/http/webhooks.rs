//! The webhooks of a map: make, change, rotate, delete. What became of their deliveries is in `deliveries`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::webhooks::{
    Batch, Door, GRACE_MAX_S, OffReason, RateLimit, Resume, RetryPolicyForm, Webhook, WebhookSpec,
};
use actors::model::channel::Channel;
use actors::model::filter::FilterSpec;
use actors::model::format::Format;
use actors::model::signature::Secret;
use actors::model::timestamp::to_iso;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::guard::{Manages, On};
use super::problem::Problem;
use super::{Context, now_ms, query};

type Answer = Result<HttpResponse, Problem>;

/// Seconds for which a rotated secret goes on signing when nobody says otherwise.
const GRACE_DEFAULT_S: u64 = 86_400;

/// The last part of the path: the webhook, and what belongs to it.
#[derive(Deserialize)]
pub struct WebhookPath {
    pub webhook: String,
}

/// A webhook as clients see it. Its secret is never in it.
async fn shown(context: &Context, map: &Channel, webhook: &Webhook) -> Result<Value, Problem> {
    let status = context.hub.webhook_status(map, &webhook.id).await?;
    let iso = |ms: u64| to_iso(i64::try_from(ms).unwrap_or(i64::MAX));
    let headers = webhook.custom_headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let all = || vec!["*".to_string()];
    Ok(json!({
        "id": webhook.id,
        "map_id": map.id,
        "url": webhook.url,
        "events": webhook.filter.events.clone().unwrap_or_else(all),
        "active": webhook.active,
        "format": webhook.format,
        "filter": webhook.filter.filter,
        "path_prefix": webhook.filter.path_prefix,
        "custom_headers": headers.collect::<Map<_, _>>(),
        "retry_policy": webhook.retry_policy,
        "ordered": webhook.ordered,
        "batch": webhook.batch,
        "rate_limit": webhook.rate_limit,
        "last_delivery_at": status.last_delivery_ms.map(iso),
        "last_error": status.last_error,
        "last_error_at": status.last_error_ms.map(iso),
        "consecutive_failures": status.consecutive_failures,
        "health": status.health,
        "disabled_reason": status.reason.and_then(|reason| disabled(reason, &iso(status.since_ms))),
        "inserted_at": to_iso(webhook.inserted_ms),
        "updated_at": to_iso(webhook.updated_ms),
    }))
}

/// Why the server switched a webhook off, and when. Its owner needs no reason for having done it.
fn disabled(reason: OffReason, since: &str) -> Option<String> {
    match reason {
        OffReason::Owner => None,
        OffReason::Gone => Some(format!("the receiver answered 410 Gone at {since}")),
        OffReason::Failing => Some(format!("every delivery had failed for too long at {since}")),
    }
}

async fn data(context: &Context, map: &Channel, webhook: &Arc<Webhook>) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": shown(context, map, webhook).await? })))
}

/// `PUT /api/maps/{map}/webhooks/toggle`
pub async fn toggle(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let asked: Value = query::optional_json(&request, &body)?;
    let no_boolean = || Problem::parameter_text("The 'enabled' parameter must be a boolean value");
    let enabled = asked.get("enabled").and_then(Value::as_bool).ok_or_else(no_boolean)?;
    let map = context.hub.toggle_webhooks(&on.channel, enabled).await?;
    Ok(HttpResponse::Ok().json(json!({ "webhooks_enabled": map.webhooks_enabled })))
}

/// `GET /api/maps/{map}/webhooks`
pub async fn list(context: web::Data<Context>, on: On<Manages>) -> Answer {
    let mut data = Vec::new();
    for webhook in context.hub.list_webhooks(&on.channel) {
        data.push(shown(&context, &on.channel, &webhook).await?);
    }
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `POST /api/maps/{map}/webhooks`
pub async fn create(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let Asked { spec, .. } = Asked::read(&context, query::json(&request, &body)?)?;
    let (webhook, secret) = context.hub.create_webhook(&on.channel, Door::Maps, spec).await?;
    let mut shown = shown(&context, &on.channel, &webhook).await?;
    shown["secret"] = secret.as_ref().map(Secret::reveal).into();
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/maps/{map}/webhooks/{webhook}`
pub async fn get(context: web::Data<Context>, on: On<Manages>, path: web::Path<WebhookPath>) -> Answer {
    let webhook = context.hub.webhook(&on.channel, &path.webhook)?;
    data(&context, &on.channel, &webhook).await
}

/// `PUT` and `PATCH /api/maps/{map}/webhooks/{webhook}`: what the body names is changed, the rest stays.
pub async fn change(
    context: web::Data<Context>,
    on: On<Manages>,
    path: web::Path<WebhookPath>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    context.hub.webhook(&on.channel, &path.webhook)?;
    let Asked { spec, resume } = Asked::read(&context, query::json(&request, &body)?)?;
    let webhook = context.hub.change_webhook(&on.channel, &path.webhook, spec, resume).await?;
    data(&context, &on.channel, &webhook).await
}

/// `DELETE /api/maps/{map}/webhooks/{webhook}`
pub async fn delete(context: web::Data<Context>, on: On<Manages>, path: web::Path<WebhookPath>) -> Answer {
    context.hub.delete_webhook(&on.channel, &path.webhook).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    grace_seconds: Option<Value>,
}

/// `POST /api/maps/{map}/webhooks/{webhook}/rotate-secret`
pub async fn rotate_secret(
    context: web::Data<Context>,
    on: On<Manages>,
    path: web::Path<WebhookPath>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    context.hub.webhook(&on.channel, &path.webhook)?;
    let asked: Rotation = query::optional_json(&request, &body)?;
    let out_of_range =
        || Problem::invalid("grace_seconds", format!("a whole number from 0 to {GRACE_MAX_S} is expected"));
    let grace_s = match asked.grace_seconds {
        None | Some(Value::Null) => GRACE_DEFAULT_S,
        Some(given) => given.as_u64().filter(|s| *s <= GRACE_MAX_S).ok_or_else(out_of_range)?,
    };
    let until_ms = now_ms() + grace_s as i64 * 1_000;
    let secret = context.hub.rotate_secret(&on.channel, &path.webhook, grace_s, None).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": {
        "id": path.webhook,
        "secret": secret.reveal(),
        "grace_seconds": grace_s,
        "previous_secret_expires_at": to_iso(until_ms),
    } })))
}

/// What the server writes into a webhook; a client that sends back what it read does not mean to change it.
const READ_ONLY: [&str; 10] = [
    "id",
    "map_id",
    "last_delivery_at",
    "last_error",
    "last_error_at",
    "consecutive_failures",
    "health",
    "disabled_reason",
    "inserted_at",
    "updated_at",
];

/// What a body asks of a webhook.
struct Asked {
    spec: WebhookSpec,
    resume: Option<Resume>,
}

impl Asked {
    /// Reads a body field by field, so that everything that is wrong with it is said at once.
    fn read(context: &Context, body: Map<String, Value>) -> Result<Asked, Problem> {
        let mut bad = Vec::new();
        let mut asked = Asked { spec: WebhookSpec::default(), resume: None };
        for (name, value) in body {
            if let Err(message) = asked.take(context, &name, value) {
                bad.push(json!({ "field": name, "message": message }));
            }
        }
        if bad.is_empty() { Ok(asked) } else { Err(Problem::validation(bad)) }
    }

    fn take(&mut self, context: &Context, name: &str, value: Value) -> Result<(), String> {
        let spec = &mut self.spec;
        match name {
            "url" => spec.url = Some(typed(value, "must be a text")?),
            "active" => spec.active = Some(typed(value, "must be true or false")?),
            "format" => spec.format = Some(format(&value)?),
            "template" => spec.template = Some(typed(value, "must be a text or null")?),
            "events" => spec.events = Some(event_types(value)?),
            "path_prefix" => spec.path_prefix = Some(filter_part(name, value)?.path_prefix),
            "filter" => spec.filter = Some(typed(value, "must be a text or null")?),
            "custom_headers" => spec.custom_headers = Some(headers(value)?),
            "retry_policy" => spec.retry_policy = Some(retry_policy(context, value)?),
            "ordered" => spec.ordered = Some(typed(value, "must be true or false")?),
            "batch" => {
                spec.batch = Some(typed::<Option<Batch>>(value, "must be {max_events, max_wait_ms} or null")?);
            }
            "rate_limit" => {
                let form = "must be {per_second, burst} or null";
                spec.rate_limit = Some(typed::<Option<RateLimit>>(value, form)?);
            }
            "resume" => self.resume = typed(value, "must be skip, pending or all")?,
            _ if READ_ONLY.contains(&name) => {}
            _ => return Err("is not known".into()),
        }
        Ok(())
    }
}

fn typed<T: DeserializeOwned>(value: Value, expected: &str) -> Result<T, String> {
    serde_json::from_value(value).map_err(|_| expected.to_string())
}

fn format(value: &Value) -> Result<Format, String> {
    let names = || format!("must be one of {}", Format::ALL.map(Format::as_str).join(", "));
    value.as_str().and_then(|name| name.parse().ok()).ok_or_else(names)
}

/// A field of a filter, in every form in which a filter takes it.
fn filter_part(name: &str, value: Value) -> Result<FilterSpec, String> {
    serde_json::from_value(json!({ name: value })).map_err(|_| "must be a text or a list of texts".to_string())
}

/// `null` is all of them, as when the field is left out.
pub fn event_types(value: Value) -> Result<Vec<String>, String> {
    Ok(filter_part("events", value)?.events.unwrap_or_else(|| vec!["*".into()]))
}

fn headers(value: Value) -> Result<Vec<(String, String)>, String> {
    let wrong = || "must be an object of header names and texts".to_string();
    let object = match value {
        Value::Null => Map::new(),
        Value::Object(object) => object,
        _ => return Err(wrong()),
    };
    let pair = |(name, value): (String, Value)| Some((name, value.as_str()?.to_string()));
    object.into_iter().map(pair).collect::<Option<_>>().ok_or_else(wrong)
}

/// `null` goes back to the schedule of the settings.
fn retry_policy(context: &Context, value: Value) -> Result<RetryPolicyForm, String> {
    if value.is_null() {
        let delays = context.settings.webhooks.schedule_s.iter().map(|delay| *delay as i64).collect();
        return Ok(RetryPolicyForm { schedule_seconds: Some(delays), ..RetryPolicyForm::default() });
    }
    // serde's own words say which field is not known or of the wrong type
    serde_json::from_value(value).map_err(|e| format!("cannot be read: {e}"))
}
