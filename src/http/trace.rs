//! The trace of an event: where it came from, when it became durable, who got it.

use actix_web::{HttpResponse, web};
use actors::hub::webhooks::{AttemptRecord, Delivery, Passage};
use actors::model::access::{Principal, Scope};
use actors::model::envelope::Envelope;
use actors::model::id::EventId;
use actors::model::timestamp::to_iso;
use serde_json::{Value, json};

use super::Context;
use super::guard::Caller;
use super::problem::{Code, Problem};

fn iso(ms: u64) -> String {
    to_iso(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn attempt(attempt: &AttemptRecord, manages: bool) -> Value {
    json!({
        "number": attempt.number,
        "trigger": attempt.trigger,
        "startedAt": to_iso(attempt.started_ms),
        "durationMs": attempt.duration_ms,
        "statusCode": attempt.status_code,
        "errorCode": attempt.error_code,
        // the sentence may name addresses
        "error": (manages && !attempt.detail.is_empty()).then_some(&attempt.detail),
    })
}

fn delivery(delivery: &Delivery, manages: bool) -> Value {
    json!({
        "id": delivery.id,
        "status": delivery.status,
        "attemptCount": delivery.attempt_count,
        "nextAttemptAt": delivery.next_attempt_ms.map(iso),
        "attempts": delivery.attempts.iter().map(|a| attempt(a, manages)).collect::<Vec<_>>(),
    })
}

/// `manages`: the caller may see where webhooks lead, which some keep a secret.
fn passage(passage: &Passage, manages: bool) -> Value {
    json!({
        "id": passage.webhook.id,
        "url": manages.then_some(&passage.webhook.url),
        "format": passage.webhook.format,
        "health": passage.health,
        "status": passage.fate,
        "deliveries": passage.deliveries.iter().map(|d| delivery(d, manages)).collect::<Vec<_>>(),
    })
}

/// `GET /api/v1/events/{id}/trace`
pub async fn trace(
    context: web::Data<Context>,
    Caller(principal): Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let absent = || Problem::new(Code::NotFound, "Event not found");
    let may = |scope: Scope, principal: &Principal, no| principal.may(no, scope).is_ok();
    // an id that cannot be one belongs to no event
    let id: EventId = id.parse().map_err(|_| absent())?;
    let (event, channel) = context.hub.event(id).await?.ok_or_else(absent)?;
    let manages = may(Scope::Manage, &principal, channel.no());
    if !manages && !may(Scope::Subscribe, &principal, channel.no()) {
        return Err(absent());
    }
    let trace = context.hub.trace(&event, &channel).await?;
    let origin = trace.publisher.map(|by| json!({ "kind": by.kind, "by": by.by, "name": by.name }));
    Ok(HttpResponse::Ok().json(json!({ "data": {
        "id": Envelope::Gateway.shown_id(event.id),
        "type": event.kind.as_str(),
        "channel": channel.name_on_tokens(),
        "session": event.session,
        "origin": origin,
        "validated": event.origin.validated,
        "timestamp": to_iso(event.ts_ms),
        "appendedAt": iso(event.id.time_ms()),
        "durableAt": trace.remembered.map(|known| to_iso(known.durable_ms)),
        "sessions": trace.remembered.map(|known| known.sessions),
        "webhooks": trace.webhooks.iter().map(|p| passage(p, manages)).collect::<Vec<_>>(),
    } })))
}
