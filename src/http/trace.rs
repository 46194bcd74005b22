//! The trace of an event: where it came from, when it became durable, who got it.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::webhooks::{
    AttemptRecord, Delivery, DeliveryId, DeliveryStatus, EventOutcome, EventStatus, Format, Health, Trigger,
};
use actors::hub::{Publisher, PublisherKind, Trace};
use actors::model::access::Scope;
use actors::model::channel::Channel;
use actors::model::envelope::Envelope;
use actors::model::event::Event;
use actors::model::id::EventId;
use actors::model::timestamp::to_iso;
use serde::Serialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;

use super::guard::Caller;
use super::problem::{Code, Problem};
use super::{Context, peers};

fn iso(ms: u64) -> String {
    to_iso(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// What is known of an event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Trace)]
pub struct TraceView {
    /// `evt_` and a ULID.
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// `map:<id>` or `organization:<id>`.
    channel: String,
    session: Option<String>,
    /// Who published it; null: the log did not keep it.
    origin: Option<OriginView>,
    /// What the schema of its source said.
    validated: Option<bool>,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    /// When it was given its id.
    #[schema(format = DateTime)]
    appended_at: String,
    /// When the commit with it ended; null: not remembered any more.
    #[schema(format = DateTime)]
    durable_at: Option<String>,
    /// To how many streams it was handed; null: not remembered any more.
    sessions: Option<u32>,
    /// Of its channel, the oldest webhook first.
    webhooks: Vec<PassageView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TraceOrigin)]
struct OriginView {
    /// `token`, `jwt`, `admin`, `source` or `server`.
    #[schema(value_type = String)]
    kind: PublisherKind,
    /// The id of a token, `jwt:<sub>`, `admin`, `source:<id>` or `server`.
    by: Arc<str>,
    name: Option<String>,
}

/// How an event fared at a webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = TraceWebhook)]
struct PassageView {
    id: Arc<str>,
    /// What its owner calls it; null where it has no name, and to those who may not manage the channel.
    name: Option<String>,
    /// Null to those who may not manage the channel: where webhooks lead, some keep a secret.
    url: Option<String>,
    #[schema(value_type = String)]
    format: Format,
    /// Null: its deliveries are not running.
    #[schema(value_type = Option<String>)]
    health: Option<Health>,
    /// `pending`, `delivered`, `retrying`, `dead`, `dropped`, `filtered`, `earlier`, `not_kept` or `unknown`.
    #[schema(value_type = String)]
    status: EventStatus,
    deliveries: Vec<DeliveryView>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TraceDelivery)]
struct DeliveryView {
    #[schema(value_type = String)]
    id: DeliveryId,
    #[schema(value_type = String)]
    status: DeliveryStatus,
    attempt_count: u32,
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    attempts: Vec<AttemptView>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TraceAttempt)]
struct AttemptView {
    number: u32,
    #[schema(value_type = String)]
    trigger: Trigger,
    #[schema(format = DateTime)]
    started_at: String,
    duration_ms: u64,
    status_code: Option<u16>,
    error_code: Option<String>,
    /// In a sentence, which may name addresses; null to those who may not manage the channel.
    error: Option<String>,
}

impl AttemptView {
    fn of(attempt: AttemptRecord, manages: bool) -> AttemptView {
        AttemptView {
            number: attempt.number,
            trigger: attempt.trigger,
            started_at: to_iso(attempt.started_ms),
            duration_ms: attempt.duration_ms,
            status_code: attempt.status_code,
            error_code: attempt.error_code,
            error: (manages && !attempt.detail.is_empty()).then_some(attempt.detail),
        }
    }
}

impl DeliveryView {
    fn of(delivery: Delivery, manages: bool) -> DeliveryView {
        DeliveryView {
            id: delivery.id,
            status: delivery.status,
            attempt_count: delivery.attempt_count,
            next_attempt_at: delivery.next_attempt_ms.map(iso),
            attempts: delivery.attempts.into_iter().map(|made| AttemptView::of(made, manages)).collect(),
        }
    }
}

impl PassageView {
    fn of(event_outcome: EventOutcome, manages: bool) -> PassageView {
        PassageView {
            id: event_outcome.webhook.id.clone().into(),
            name: event_outcome.webhook.name.clone().filter(|_| manages),
            url: manages.then(|| event_outcome.webhook.url.clone()),
            format: event_outcome.webhook.format,
            health: event_outcome.health,
            status: event_outcome.status,
            deliveries: event_outcome.deliveries.into_iter().map(|one| DeliveryView::of(one, manages)).collect(),
        }
    }
}

impl TraceView {
    fn of(event: &Event, channel: &Channel, trace: Trace, manages: bool) -> TraceView {
        TraceView {
            id: Envelope::Gateway.shown_id(event.id),
            kind: event.kind.to_string(),
            channel: channel.name_on_tokens(),
            session: event.session.as_deref().map(str::to_owned),
            origin: trace.publisher.map(|Publisher { kind, by, name }| OriginView { kind, by, name }),
            validated: event.origin.validated,
            timestamp: to_iso(event.ts_ms),
            appended_at: iso(event.id.time_ms()),
            durable_at: trace.remembered.map(|known| to_iso(known.durable_ms)),
            sessions: trace.remembered.map(|known| known.sessions),
            webhooks: trace.webhooks.into_iter().map(|one| PassageView::of(one, manages)).collect(),
        }
    }
}

/// `GET /api/v1/events/{id}/trace`
pub async fn trace(
    context: web::Data<Context>,
    Caller(principal): Caller,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let absent = || Problem::new(Code::NotFound, "Event not found");
    // an id that cannot be one belongs to no event
    let id: EventId = id.parse().map_err(|_| absent())?;
    let (event, channel) = context.hub.event(id).await?.ok_or_else(absent)?;
    let may = |scope| principal.may(&channel, scope).is_ok();
    let manages = may(Scope::Manage);
    if !manages && !may(Scope::Subscribe) {
        return Err(absent());
    }
    let trace = context.hub.trace(&event, &channel).await?;
    let own = TraceView::of(&event, &channel, trace, manages);
    let others = peers::ask_all(&context, &request).await;
    if others.is_empty() {
        return Ok(HttpResponse::Ok().json(json!({ "data": own })));
    }
    let own = serde_json::to_value(&own).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let owner_of = |webhook: &str| owner_of(&context, webhook);
    Ok(HttpResponse::Ok().json(json!({ "data": joined(own, &others, owner_of) })))
}

#[cfg(feature = "nats")]
fn owner_of(context: &Context, webhook: &str) -> Option<Arc<str>> {
    context.hub.webhook_is_of(webhook)
}

#[cfg(not(feature = "nats"))]
fn owner_of(_: &Context, _: &str) -> Option<Arc<str>> {
    None
}

/// The trace as all nodes know it: each knows its own streams, and has the delivery log of the webhooks that it delivers for.
fn joined(mut own: Json, others: &[(Arc<str>, Json)], owner_of: impl Fn(&str) -> Option<Arc<str>>) -> Json {
    for (_, other) in others {
        let other = &other["data"];
        if own["durableAt"].is_null() {
            own["durableAt"] = other["durableAt"].clone();
        }
        if let Some(more) = other["sessions"].as_u64() {
            own["sessions"] = (own["sessions"].as_u64().unwrap_or(0) + more).into();
        }
    }
    for webhook in own["webhooks"].as_array_mut().into_iter().flatten() {
        let Some(owner) = webhook["id"].as_str().and_then(&owner_of) else { continue };
        let told = others.iter().find(|(node, _)| *node == owner).and_then(|(_, other)| {
            other["data"]["webhooks"].as_array()?.iter().find(|theirs| theirs["id"] == webhook["id"])
        });
        match told {
            Some(theirs) => *webhook = theirs.clone(),
            // what this node does not know the owner may
            None if webhook["status"] == "not_kept" => webhook["status"] = "unknown".into(),
            None => {}
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_nodes_each_tells_of_its_own_webhooks_and_streams() {
        let hook = |id: &str, status: &str| json!({ "id": id, "status": status });
        let trace =
            |sessions: Json, webhooks: Json| json!({ "durableAt": null, "sessions": sessions, "webhooks": webhooks });
        let own = trace(
            json!(2),
            json!([
                hook("mine", "delivered"),
                hook("of_b", "not_kept"),
                hook("of_c", "not_kept"),
                hook("of_d", "retrying")
            ]),
        );
        let mut of_b = trace(json!(3), json!([hook("mine", "not_kept"), hook("of_b", "dead")]));
        of_b["durableAt"] = "2025-06-21T12:35:00.000Z".into();
        let others = [("b".into(), json!({ "data": of_b })), ("c".into(), Json::Null)];
        let all = joined(own, &others, |webhook| webhook.strip_prefix("of_").map(Arc::from));
        let webhooks =
            [hook("mine", "delivered"), hook("of_b", "dead"), hook("of_c", "unknown"), hook("of_d", "retrying")];
        assert_eq!(all, json!({ "durableAt": "2025-06-21T12:35:00.000Z", "sessions": 5, "webhooks": webhooks }));
    }
}
