//! The trace of an event: where it came from, when it became durable, who got it.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
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
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use super::guard::Caller;
use super::problem::{Code, Problem};

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
    Ok(HttpResponse::Ok().json(json!({ "data": TraceView::of(&event, &channel, trace, manages) })))
}
