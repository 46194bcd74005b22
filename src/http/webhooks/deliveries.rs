//! The deliveries of a webhook: list, look, send again, replay, test. The same handlers for every family.

use std::fmt::Display;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::webhooks::{
    AttemptRecord, DeliveriesQuery, Delivery, DeliveryId, DeliveryStatus, Headers, Job, JobId, ReplayAnswer, ReplayAsk,
    TestOutcome, Timings,
};
use actors::model::event::EventType;
use actors::model::filter::{Filter, FilterSpec};
use actors::model::id::EventId;
use actors::model::timestamp::{self, to_iso};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::family::ApiFamily;
use super::super::guard::OnWebhook;
use super::super::problem::{Answer, Code, Problem};
use super::super::query::{self, PAGE_DEFAULT, Pairs};
use super::super::{Context, names};
use super::asked::event_types;

#[derive(Deserialize)]
pub struct DeliveryPath {
    delivery: String,
}

impl DeliveryPath {
    /// An id that cannot be one belongs to nobody.
    fn id(&self) -> Result<DeliveryId, Problem> {
        self.delivery.parse().map_err(|_| Problem::new(Code::NotFound, "Delivery not found"))
    }
}

#[derive(Deserialize)]
pub struct ReplayPath {
    job: u64,
}

fn iso(ms: u64) -> String {
    to_iso(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Ids of events as the clients of this family know them.
fn event_id(family: ApiFamily, id: EventId) -> String {
    family.envelope().shown_id(id)
}

/// A delivery as a list shows it.
fn shown(family: ApiFamily, delivery: &Delivery, webhook: &str) -> Value {
    let last = delivery.attempts.last();
    let events: Vec<_> = delivery.events.iter().map(|id| event_id(family, *id)).collect();
    let shown = json!({
        "id": delivery.id,
        "webhook_id": webhook,
        "status": delivery.status,
        "event_ids": events,
        "event_types": delivery.event_types,
        "attempt_count": delivery.attempt_count,
        "status_code": last.and_then(|attempt| attempt.status_code),
        "error_code": last.and_then(|attempt| attempt.error_code.as_deref()),
        "trigger": last.map(|attempt| attempt.trigger),
        "next_attempt_at": delivery.next_attempt_ms.map(iso),
        "inserted_at": iso(delivery.id.time_ms()),
        "updated_at": to_iso(delivery.updated_ms),
    });
    names::object(family, shown)
}

fn header_object(headers: &Headers) -> Map<String, Value> {
    headers.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// The parts of an attempt in milliseconds; null is a part that did not happen or did not end.
fn timings_shown(family: ApiFamily, timings: &Timings) -> Value {
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
    let shown = json!({
        "dns_ms": ms(timings.dns_us),
        "connect_ms": ms(timings.connect_us),
        "tls_ms": ms(timings.tls_us),
        "first_byte_ms": ms(timings.first_byte_us),
    });
    names::object(family, shown)
}

fn attempt(family: ApiFamily, attempt: &AttemptRecord) -> Value {
    let shown = json!({
        "number": attempt.number,
        "trigger": attempt.trigger,
        "started_at": to_iso(attempt.started_ms),
        "duration_ms": attempt.duration_ms,
        "timings": timings_shown(family, &attempt.timings),
        "connection_reused": attempt.reused,
        "remote_address": attempt.address,
        "status_code": attempt.status_code,
        "error_code": attempt.error_code,
        "error": (!attempt.detail.is_empty()).then_some(&attempt.detail),
        "request_headers": header_object(&attempt.request_headers),
        "request_body": attempt.request_body,
        "response_headers": header_object(&attempt.response_headers),
        "response_body": attempt.response_body,
    });
    names::object(family, shown)
}

/// What a list of deliveries is narrowed by besides their status.
fn narrowed(pairs: &Pairs) -> Result<DeliveriesQuery, Problem> {
    let ms = |name| pairs.time(name).map(|ms| ms.map(|ms| u64::try_from(ms).unwrap_or(0)));
    let (since_ms, until_ms) = (ms("since")?, ms("until")?);
    if since_ms.zip(until_ms).is_some_and(|(since, until)| since >= until) {
        return Err(Problem::parameter("until", "a time after `since` is expected"));
    }
    Ok(DeliveriesQuery {
        status: None,
        types: each(pairs, "type", EventType::new)?,
        codes: each(pairs, "code", str::parse)?,
        since_ms,
        until_ms,
        text: pairs.get("text").filter(|text| !text.is_empty()).map(str::to_lowercase),
    })
}

/// The values of a parameter that is a list with commas.
fn each<T, E: Display>(pairs: &Pairs, name: &str, read: impl Fn(&str) -> Result<T, E>) -> Result<Vec<T>, Problem> {
    let values = pairs.get(name).into_iter().flat_map(|text| text.split(',')).map(str::trim);
    let read = |value: &str| read(value).map_err(|e| Problem::parameter(name, e.to_string()));
    values.filter(|value| !value.is_empty()).map(read).collect()
}

/// `GET .../webhooks/{webhook}/deliveries`
pub async fn list(context: web::Data<Context>, on: OnWebhook, request: HttpRequest, pairs: Pairs) -> Answer {
    on.reads()?;
    let (family, id) = (ApiFamily::of(&request), &*on.webhook.id);
    let status = match pairs.get("status") {
        None | Some("") => None,
        Some("pending") => Some(DeliveryStatus::Pending),
        Some("delivered") => Some(DeliveryStatus::Delivered),
        Some("retrying") => Some(DeliveryStatus::Retrying),
        Some("dead") => Some(DeliveryStatus::Dead),
        Some(_) => return Err(Problem::parameter("status", "pending, delivered, retrying or dead is expected")),
    };
    let limit = pairs.page_limit(PAGE_DEFAULT)?;
    let after = pairs.get("after").filter(|text| !text.is_empty()).map(str::parse::<DeliveryId>).transpose();
    let after = after.map_err(|e| Problem::new(Code::InvalidCursor, format!("Malformed cursor: {e}")))?;
    let query = DeliveriesQuery { status, ..narrowed(&pairs)? };
    let page = context.hub.deliveries(&on.channel, id, query, limit, after).await?;
    let data: Vec<_> = page.data.iter().map(|delivery| shown(family, delivery, id)).collect();
    let next = if family == ApiFamily::Organizations { "nextCursor" } else { "next" };
    Ok(HttpResponse::Ok().json(json!({ "data": data, next: page.next })))
}

/// `GET .../webhooks/{webhook}/deliveries/{delivery}`
pub async fn get(
    context: web::Data<Context>,
    on: OnWebhook,
    path: web::Path<DeliveryPath>,
    request: HttpRequest,
) -> Answer {
    on.reads()?;
    let family = ApiFamily::of(&request);
    let delivery = context.hub.delivery(&on.channel, &on.webhook.id, path.id()?).await?;
    let mut shown = shown(family, &delivery, &on.webhook.id);
    shown["attempts"] = delivery.attempts.iter().map(|made| attempt(family, made)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": shown })))
}

/// `POST .../webhooks/{webhook}/deliveries/{delivery}/retry`
pub async fn retry(
    context: web::Data<Context>,
    on: OnWebhook,
    path: web::Path<DeliveryPath>,
    request: HttpRequest,
) -> Answer {
    let id = path.id()?;
    context.hub.retry_delivery(&on.channel, &on.webhook.id, id).await?;
    let shown = json!({ "id": id, "webhook_id": on.webhook.id, "status": DeliveryStatus::Pending });
    Ok(HttpResponse::Accepted().json(json!({ "data": names::object(ApiFamily::of(&request), shown) })))
}

fn tested(family: ApiFamily, outcome: &TestOutcome) -> Value {
    let shown = json!({
        "id": outcome.delivery,
        "delivered": outcome.delivered,
        "status_code": outcome.status_code,
        "error_code": outcome.error_code,
        "error": (!outcome.detail.is_empty()).then_some(&outcome.detail),
        "duration_ms": outcome.duration_ms,
        "timings": timings_shown(family, &outcome.timings),
        "request_headers": header_object(&outcome.request_headers),
        "request_body": String::from_utf8_lossy(&outcome.body),
        "response_headers": header_object(&outcome.response_headers),
        "response_body": outcome.response_body,
    });
    names::object(family, shown)
}

/// `POST .../webhooks/{webhook}/test`
pub async fn test(context: web::Data<Context>, on: OnWebhook, request: HttpRequest, body: web::Bytes) -> Answer {
    let asked = query::optional_json::<TestAsk>(&request, &body)?;
    let kind = asked.event_type.filter(|name| !name.is_empty()).map(|name| EventType::new(&name)).transpose();
    let kind = kind.map_err(|e| Problem::invalid("event_type", e))?;
    let outcome = context.hub.test_webhook(&on.channel, &on.webhook.id, kind).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": tested(ApiFamily::of(&request), &outcome) })))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestAsk {
    /// Of the event that is sent; absent: one that the webhook gets.
    #[serde(alias = "eventType")]
    event_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    since: Option<String>,
    after: Option<String>,
    until: Option<String>,
    events: Option<Value>,
    status: Option<String>,
    #[serde(default, alias = "dryRun")]
    dry_run: bool,
}

/// Where a replay begins or ends: an event id, or an ISO-8601 time. Of a time, `below` is just before its first event,
/// otherwise the last event that it may have.
///
/// # Errors
/// A 400 when the text is neither.
pub fn bound(field: &str, text: &str, below: bool) -> Result<EventId, Problem> {
    let Some(ms) = timestamp::from_iso(text) else {
        let expected = "an event id or an ISO-8601 time with offset is expected";
        return text.parse().map_err(|_| Problem::invalid(field, expected));
    };
    // a clock before 1970 has no event
    let ms = u64::try_from(ms).unwrap_or(0);
    Ok(EventId::at_time(if below { ms } else { ms.saturating_add(1) }))
}

impl Replay {
    fn check(self) -> Result<ReplayAsk, Problem> {
        let after = match (&self.since, &self.after) {
            (Some(_), Some(_)) => return Err(Problem::invalid("since", "goes instead of after, not with it")),
            (Some(since), None) => bound("since", since, true)?,
            (None, Some(after)) => bound("after", after, true)?,
            (None, None) if self.status.is_some() => EventId::ZERO,
            (None, None) => return Err(Problem::invalid("since", "is missing: give since (a time) or after (an id)")),
        };
        let until = self.until.as_deref().map(|until| bound("until", until, false)).transpose()?;
        let dead_only = match self.status.as_deref() {
            None => false,
            Some("dead") => true,
            Some(_) => return Err(Problem::invalid("status", "must be dead, or left out")),
        };
        let named = self.events.map(event_types).transpose().map_err(|e| Problem::invalid("events", e))?;
        let types = Filter::compile(&FilterSpec { events: named, ..FilterSpec::default() });
        let types = types.map_err(|e| Problem::invalid("events", e))?.spec().clone();
        let events = if types.wants_all_events() { None } else { types.events };
        Ok(ReplayAsk { after, until, events, dead_only, dry_run: self.dry_run })
    }
}

fn job_shown(family: ApiFamily, job: &Job, webhook: &str) -> Value {
    let shown = json!({
        "id": job.id,
        "webhook_id": webhook,
        "state": job.state,
        "after": event_id(family, job.after),
        "until": event_id(family, job.until),
        "events": job.events,
        "status": job.dead_only.then_some("dead"),
        "position": event_id(family, job.position),
        "delivered": job.delivered,
        "failed": job.failed,
        "skipped": job.skipped,
        "lost": job.lost,
        "inserted_at": iso(job.created_ms),
        "finished_at": job.finished_ms.map(iso),
    });
    names::object(family, shown)
}

/// `POST .../webhooks/{webhook}/replay`
pub async fn replay(context: web::Data<Context>, on: OnWebhook, request: HttpRequest, body: web::Bytes) -> Answer {
    let (family, id) = (ApiFamily::of(&request), &on.webhook.id);
    let ask = query::optional_json::<Replay>(&request, &body)?.check()?;
    let data = match context.hub.replay(&on.principal, &on.channel, id, ask).await? {
        ReplayAnswer::Counted(count) => names::object(family, json!({ "dry_run": true, "count": count })),
        ReplayAnswer::Started(job) => job_shown(family, &context.hub.replay_job(&on.channel, id, job).await?, id),
    };
    Ok(HttpResponse::Accepted().json(json!({ "data": data })))
}

/// `GET .../webhooks/{webhook}/replays`: there are few, so there are no pages.
pub async fn replay_jobs(context: web::Data<Context>, on: OnWebhook, request: HttpRequest) -> Answer {
    let (family, id) = (ApiFamily::of(&request), &on.webhook.id);
    let jobs = context.hub.replay_jobs(&on.channel, id).await?;
    let data: Vec<_> = jobs.iter().map(|job| job_shown(family, job, id)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET .../webhooks/{webhook}/replays/{job}`
pub async fn replay_job(
    context: web::Data<Context>,
    on: OnWebhook,
    path: web::Path<ReplayPath>,
    request: HttpRequest,
) -> Answer {
    let job = context.hub.replay_job(&on.channel, &on.webhook.id, JobId(path.job)).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": job_shown(ApiFamily::of(&request), &job, &on.webhook.id) })))
}
