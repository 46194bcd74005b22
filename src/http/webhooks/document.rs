//! `/engine/.config/webhooks.json`: the webhooks of a channel as one document, which is replaced as a whole.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::audit::{AuditEntry, Change};
use actors::hub::webhooks::{Entry, InvalidField};
use actors::model::channel::Channel;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::family::ApiFamily;
use super::super::guard::{Manages, On};
use super::super::{Context, query};
use super::asked::Asked;
use super::{Answer, shown};

fn audit(context: &Context, on: &On<Manages>) {
    let entry = AuditEntry::WebhookChanged { channel: &on.channel, webhook: None, change: Change::DocumentReplaced };
    context.hub.audit(&on.principal.id, entry);
}

async fn document(context: &Context, channel: &Channel, is_answer_to_change: bool) -> Answer {
    let mut entries = Vec::new();
    for webhook in context.hub.document(channel) {
        let mut entry = shown::entry(context, channel, &webhook).await?;
        if is_answer_to_change {
            entry[shown::UNKNOWN_EVENTS] = shown::unknown_events(&webhook);
        }
        entries.push(entry);
    }
    Ok(HttpResponse::Ok().json(json!({ "webhooks": entries })))
}

/// `GET /engine/.config/webhooks.json`
pub async fn get(context: web::Data<Context>, on: On<Manages>) -> Answer {
    document(&context, &on.channel, false).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    webhooks: Vec<Value>,
}

/// `PUT /engine/.config/webhooks.json`
pub async fn put(context: web::Data<Context>, on: On<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let Document { webhooks } = query::json(&request, &body)?;
    context.hub.replace_document(&on.channel, webhooks.into_iter().map(entry).collect()).await?;
    audit(&context, &on);
    document(&context, &on.channel, true).await
}

/// `DELETE /engine/.config/webhooks.json`
pub async fn delete(context: web::Data<Context>, on: On<Manages>) -> Answer {
    context.hub.replace_document(&on.channel, Vec::new()).await?;
    audit(&context, &on);
    Ok(HttpResponse::NoContent().finish())
}

/// Reads an entry, with everything that is wrong with it.
fn entry(value: Value) -> Entry {
    let Value::Object(fields) = value else { return Entry::default() };
    let id = fields.get("id").and_then(Value::as_str).map(str::to_owned);
    let wrong_id = match fields.get("id") {
        None | Some(Value::Null) => Some("is missing: each entry has an id that you choose"),
        Some(_) if id.is_none() => Some("must be a text"),
        Some(_) => None,
    };
    let (Asked { spec, resume, .. }, mut bad) = Asked::read_all(ApiFamily::Feed, fields);
    bad.extend(wrong_id.map(|message| InvalidField { field: "id".into(), message: message.into() }));
    Entry { id, spec: Some(spec), resume, bad }
}
