//! Webhooks: make, change, rotate, delete. The handlers are the same for maps and organizations, which differ in names and
//! shapes only: `asked` reads and `shown` writes them. What became of deliveries is in `deliveries`, and the webhooks that
//! are kept as one document in `document`.

pub(super) mod asked;
pub mod deliveries;
pub mod document;
mod shown;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::audit::{AuditEntry, Change};
use actors::hub::webhooks::{GRACE_MAX_S, SecretChoice, Webhook, WebhookError};
use actors::model::access::Principal;
use actors::model::channel::Channel;
use actors::model::signature::Secret;
use actors::model::timestamp::to_iso;
use serde::Deserialize;
use serde_json::{Value, json};

use super::family::ApiFamily;
use super::guard::{Manages, On, OnWebhook};
use super::problem::{Answer, Code, Problem};
use super::query::{PAGE_DEFAULT, Pairs};
use super::{Context, names, now_ms, query};
use asked::Asked;
use shown::shown;

/// Seconds for which a rotated secret goes on signing when nobody says otherwise.
const GRACE_DEFAULT_S: u64 = 86_400;

/// An answer that is one object.
async fn data(context: &Context, family: ApiFamily, channel: &Channel, webhook: &Webhook) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": shown(context, family, channel, webhook).await? })))
}

fn audit(context: &Context, principal: &Principal, channel: &Channel, webhook: &Webhook, change: Change) {
    context.hub.audit(&principal.id, AuditEntry::WebhookChanged { channel, webhook: Some(webhook), change });
}

/// What was refused, with fields named as the clients of this family do.
fn refused(family: ApiFamily) -> impl Fn(WebhookError) -> Problem {
    move |e| Problem::from(e).spelled(|field| names::path(family, field))
}

/// `PUT /api/maps/{map}/webhooks/toggle`
pub async fn toggle(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let asked: Value = if body.is_empty() { Value::Null } else { query::any_json(&request, &body)? };
    let no_boolean = || Problem::parameter_text("The 'enabled' parameter must be a boolean value");
    let enabled = asked.get("enabled").and_then(Value::as_bool).ok_or_else(no_boolean)?;
    let map = context.hub.toggle_webhooks(&on.channel, enabled).await?;
    context.hub.audit(&on.principal.id, AuditEntry::ChannelChanged { channel: &map, change: Change::WebhooksToggled });
    Ok(HttpResponse::Ok().json(json!({ "webhooks_enabled": map.webhooks_enabled })))
}

/// `GET /api/maps/{map}/webhooks`: all of them.
pub async fn list(context: web::Data<Context>, on: On<Manages>) -> Answer {
    let mut data = Vec::new();
    for webhook in context.hub.list_webhooks(&on.channel) {
        data.push(shown(&context, ApiFamily::Maps, &on.channel, &webhook).await?);
    }
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET /api/v1/webhooks`: a page of them, the oldest first.
pub async fn page(context: web::Data<Context>, on: On<Manages>, pairs: Pairs) -> Answer {
    let limit = pairs.page_limit(PAGE_DEFAULT)?;
    let all = context.hub.list_webhooks(&on.channel);
    let begin = match pairs.get("after").filter(|after| !after.is_empty()) {
        None => 0,
        Some(after) => {
            let gone = || Problem::new(Code::InvalidCursor, "There is no webhook of this id; begin anew");
            1 + all.iter().position(|webhook| &*webhook.id == after).ok_or_else(gone)?
        }
    };
    let mut data = Vec::new();
    for webhook in all.iter().skip(begin).take(limit) {
        data.push(shown(&context, ApiFamily::Organizations, &on.channel, webhook).await?);
    }
    let last = begin + data.len();
    let next = all.get(last.wrapping_sub(1)).filter(|_| last < all.len()).map(|webhook| &*webhook.id);
    Ok(HttpResponse::Ok().json(json!({ "data": data, "nextCursor": next })))
}

/// `POST .../webhooks`
pub async fn create(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let family = ApiFamily::of(&request);
    let Asked { spec, .. } = Asked::read(family, query::json(&request, &body)?)?;
    let made = context.hub.create_webhook(&on.channel, family.of_webhooks(), spec).await;
    let (webhook, secret) = made.map_err(refused(family))?;
    audit(&context, &on.principal, &on.channel, &webhook, Change::Created);
    let mut shown = shown::changed(&context, family, &on.channel, &webhook).await?;
    if let Some(secret) = &secret {
        shown["secret"] = secret.reveal().into();
    }
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET .../webhooks/{webhook}`
pub async fn get(context: web::Data<Context>, on: OnWebhook, request: HttpRequest) -> Answer {
    data(&context, ApiFamily::of(&request), &on.channel, &on.webhook).await
}

/// `PUT` and `PATCH .../webhooks/{webhook}`: what the body names is changed, the rest stays.
pub async fn change(context: web::Data<Context>, on: OnWebhook, request: HttpRequest, body: web::Bytes) -> Answer {
    let family = ApiFamily::of(&request);
    let Asked { spec, resume, .. } = Asked::read(family, query::json(&request, &body)?)?;
    let changed = context.hub.change_webhook(&on.channel, &on.webhook.id, spec, resume).await;
    let changed = changed.map_err(refused(family))?;
    audit(&context, &on.principal, &on.channel, &changed, Change::Updated);
    let shown = shown::changed(&context, family, &on.channel, &changed).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": shown })))
}

/// `DELETE .../webhooks/{webhook}`
pub async fn delete(context: web::Data<Context>, on: OnWebhook) -> Answer {
    context.hub.delete_webhook(&on.channel, &on.webhook.id).await?;
    audit(&context, &on.principal, &on.channel, &on.webhook, Change::Deleted);
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(alias = "graceSeconds")]
    grace_seconds: Option<Value>,
    secret: Option<Value>,
}

impl Rotation {
    fn grace_seconds(&self, family: ApiFamily) -> Result<u64, Problem> {
        let out_of_range = || {
            let message = format!("a whole number from 0 to {GRACE_MAX_S} is expected");
            Problem::invalid(&names::spelled(family, "grace_seconds"), message)
        };
        match &self.grace_seconds {
            None => Ok(GRACE_DEFAULT_S),
            Some(given) => given.as_u64().filter(|s| *s <= GRACE_MAX_S).ok_or_else(out_of_range),
        }
    }

    /// The secret that the owner chose, where the family lets owners choose.
    fn secret(self, family: ApiFamily) -> Result<Option<Secret>, Problem> {
        match self.secret.map(asked::secret).transpose() {
            Ok(Some(SecretChoice::Given(_))) if family == ApiFamily::Maps => {
                Err(Problem::invalid("secret", "those of maps are made by the server; leave it out"))
            }
            Ok(Some(SecretChoice::Given(secret))) => Ok(Some(secret)),
            Ok(_) => Ok(None),
            Err(message) => Err(Problem::invalid("secret", message)),
        }
    }
}

/// `POST .../webhooks/{webhook}/rotate-secret`
pub async fn rotate_secret(
    context: web::Data<Context>,
    on: OnWebhook,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let family = ApiFamily::of(&request);
    let rotation: Rotation = query::optional_json(&request, &body)?;
    let grace_s = rotation.grace_seconds(family)?;
    let given = rotation.secret(family)?;
    let made = given.is_none();
    let until_ms = now_ms() + grace_s as i64 * 1_000;
    let id = &on.webhook.id;
    let secret = context.hub.rotate_secret(&on.channel, id, grace_s, given).await.map_err(refused(family))?;
    audit(&context, &on.principal, &on.channel, &on.webhook, Change::SecretRotated);
    let mut shown = json!({ "id": id });
    if made {
        shown["secret"] = secret.reveal().into();
    }
    shown["grace_seconds"] = grace_s.into();
    // a webhook that signed nothing before has no old secret
    let until = on.webhook.secrets.is_some().then(|| to_iso(until_ms));
    shown["previous_secret_expires_at"] = until.into();
    Ok(HttpResponse::Ok().json(json!({ "data": names::object(family, shown) })))
}
