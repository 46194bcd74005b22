//! A webhook as clients see it, in the shape of the family that asks. Its secret is never in it.

use actors::hub::webhooks::{Handshake, OffReason, Status, Webhook, WebhookError};
use actors::model::catalogue;
use actors::model::channel::Channel;
use actors::model::timestamp::to_iso;
use serde_json::{Map, Value, json};

use super::super::Context;
use super::super::family::ApiFamily;
use super::super::names;
use super::super::problem::Problem;

/// A webhook in the shape of the maps or of the organizations.
///
/// # Errors
/// A 404 when the webhook was deleted meanwhile, a 503 or 500 when its state cannot be read.
pub async fn shown(
    context: &Context,
    family: ApiFamily,
    channel: &Channel,
    webhook: &Webhook,
) -> Result<Value, Problem> {
    let status = status(context, channel, webhook).await?;
    let whose = match family {
        ApiFamily::Organizations => json!({
            "organization": channel.id,
            "session": webhook.filter.session,
            "has_secret": webhook.secrets.is_some(),
        }),
        _ => json!({ "map_id": channel.id }),
    };
    // what the server switched off is not active, until its owner switches it on again
    let switched_off =
        matches!(status.as_ref().and_then(|status| status.reason), Some(OffReason::Gone | OffReason::Failing));
    let active = json!({ "active": webhook.active && !switched_off });
    let condition = condition(context, channel, webhook, status);
    let parts = [json!({ "id": webhook.id }), whose, choices(family, webhook), active, condition];
    Ok(names::object(family, joined(parts)))
}

/// The same of a webhook that was made or changed just now, with the types it asks for and the catalogue does not know.
///
/// # Errors
/// As [`shown`].
pub async fn changed(
    context: &Context,
    family: ApiFamily,
    channel: &Channel,
    webhook: &Webhook,
) -> Result<Value, Problem> {
    let mut shown = shown(context, family, channel, webhook).await?;
    shown[names::spelled(family, UNKNOWN_EVENTS)] = unknown_events(webhook);
    Ok(shown)
}

/// Where a misspelt type is told to whoever asks for it.
pub const UNKNOWN_EVENTS: &str = "unknown_events";

pub fn unknown_events(webhook: &Webhook) -> Value {
    webhook.filter.unknown_events(catalogue::knows).into()
}

/// An entry of the document, as it may be written back.
///
/// # Errors
/// As [`shown`].
pub async fn entry(context: &Context, channel: &Channel, webhook: &Webhook) -> Result<Value, Problem> {
    let status = status(context, channel, webhook).await?;
    let id = webhook.entry.as_ref().map(|entry| &*entry.id);
    let names = json!({ "id": id, "webhook_id": webhook.id });
    let mut entry = joined([names, choices(ApiFamily::Feed, webhook), condition(context, channel, webhook, status)]);
    if let [one] = webhook.filter.path_prefix.as_slice() {
        // as it was most likely written
        entry["path_prefix"] = one.as_str().into();
    }
    Ok(entry)
}

/// The fields of all these objects in one.
fn joined<const N: usize>(parts: [Value; N]) -> Value {
    let fields = |part| match part {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    parts.into_iter().flat_map(fields).collect::<Map<_, _>>().into()
}

/// What its owner chose.
fn choices(family: ApiFamily, webhook: &Webhook) -> Value {
    let headers = webhook.custom_headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let all = || vec!["*".to_string()];
    json!({
        "name": webhook.name,
        "url": webhook.url,
        "events": webhook.filter.events.clone().unwrap_or_else(all),
        "active": webhook.active,
        "format": webhook.format,
        "filter": webhook.filter.filter,
        "path_prefix": webhook.filter.path_prefix,
        "custom_headers": headers.collect::<Map<_, _>>(),
        "retry_policy": retry_policy(family, webhook),
        "ordered": webhook.ordered,
        "batch": names::object(family, json!(webhook.batch)),
        "rate_limit": names::object(family, json!(webhook.rate_limit)),
    })
}

/// The names of its fields are the same in every family; organizations are shown each of them.
fn retry_policy(family: ApiFamily, webhook: &Webhook) -> Value {
    let mut policy = json!(webhook.retry_policy);
    if let Some(fields) = policy.as_object_mut().filter(|_| family == ApiFamily::Organizations) {
        for name in ["delaySeconds", "maxDelaySeconds"] {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    policy
}

/// What its actor says; none while it cannot run. Its owner has to find the webhook among the others all the same.
async fn status(context: &Context, channel: &Channel, webhook: &Webhook) -> Result<Option<Status>, Problem> {
    match context.hub.webhook_status(channel, &webhook.id).await {
        Ok(status) => Ok(Some(status)),
        Err(WebhookError::Unavailable) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Why no delivery is made; none where they are.
fn held_back(channel: &Channel, webhook: &Webhook, status: Option<&Status>) -> Option<&'static str> {
    let reason = status.and_then(|status| status.reason);
    match (reason, status) {
        _ if webhook.active && !webhook.is_on(channel) => {
            Some("webhooks are off for this map: PUT .../webhooks/toggle")
        }
        _ if !webhook.active => Some("the webhook is not active: set active to true"),
        (_, None) => Some("its deliveries cannot run: see health, and change its url or rotate its secret"),
        (Some(OffReason::Gone | OffReason::Failing), _) => {
            Some("the server switched it off, see disabled_reason: set active to true when the receiver is well")
        }
        _ => None,
    }
}

/// How it does.
fn condition(context: &Context, channel: &Channel, webhook: &Webhook, status: Option<Status>) -> Value {
    let iso = |ms: u64| to_iso(i64::try_from(ms).unwrap_or(i64::MAX));
    let status = status.as_ref();
    let disabled = |status: &Status| status.reason.and_then(|reason| disabled(reason, &iso(status.since_ms)));
    let why = held_back(channel, webhook, status);
    let mut condition = json!({
        "delivering": why.is_none(),
        "why": why,
        "last_delivery_at": status.and_then(|status| status.last_delivery_ms).map(iso),
        "last_error": status.and_then(|status| status.last_error.as_deref()),
        "last_error_at": status.and_then(|status| status.last_error_ms).map(iso),
        "consecutive_failures": status.map(|status| status.consecutive_failures),
        "health": status.map_or_else(|| json!("unavailable"), |status| json!(status.health)),
        "health_since": status.map(|status| iso(status.since_ms)),
        "next_attempt_at": status.and_then(|status| status.next_attempt_ms).map(iso),
        "disabled_reason": status.and_then(disabled),
        "inserted_at": to_iso(webhook.inserted_ms),
        "updated_at": to_iso(webhook.updated_ms),
    });
    if let Some(standing) = context.hub.webhook_handshake(webhook) {
        condition["handshake"] = handshake(standing);
    }
    condition
}

/// Whether the receiver wants CloudEvents. Its names are the same in every family.
fn handshake(standing: Handshake) -> Value {
    match standing {
        Handshake::NotAsked => json!({ "state": "not_asked" }),
        Handshake::Granted { at_ms, rate } => json!({ "state": "granted", "at": to_iso(at_ms), "rate": rate }),
        Handshake::Refused { at_ms, reason } => json!({ "state": "refused", "at": to_iso(at_ms), "reason": reason }),
    }
}

/// Why the server switched a webhook off, and when. Its owner needs no reason for having done it.
fn disabled(reason: OffReason, since: &str) -> Option<String> {
    match reason {
        OffReason::Owner => None,
        OffReason::Gone => Some(format!("the receiver answered 410 Gone at {since}")),
        OffReason::Failing => Some(format!("every delivery had failed for too long at {since}")),
    }
}
