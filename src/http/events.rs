//! Events by request, the same for every family: publish, history, stats, tickets for streams, the catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::{HistoryQuery, Order, Stats, StatsQuery};
use actors::model::access::Principal;
use actors::model::cloudevents::{self, Mode};
use actors::model::draft::BodyForm;
use actors::model::event::PublishedBy;
use actors::model::filter::FilterSpec;
use actors::model::selection::CHANNELS_MAX;
use actors::model::timestamp::to_iso;
use actors::model::trace_context::TraceContext;
use actors::model::{catalogue, draft};
use actors::streams::session::StreamTarget;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::accept;
use super::family::ApiFamily;
use super::guard::{self, On, Publishes};
use super::ingest::Once;
use super::problem::{Answer, Code, Problem};
use super::query::{self, PAGE_DEFAULT, PAGE_MAX, Pairs};
use super::reading::{self, Minting, Reading};
use super::streams::{self, TicketRequest};
use super::{Context, now_ms};

/// `POST .../events`: one event, a list or lines, into one channel.
pub async fn publish(context: web::Data<Context>, on: On<Publishes>, request: HttpRequest, body: web::Bytes) -> Answer {
    let headers = Once::of(&request);
    let cloudevents = Mode::of(&headers);
    let form = if cloudevents.is_some() { BodyForm::Json } else { query::body_form(&request)? };
    let key = query::idempotency_key(&request)?;
    if on.channel.is_system() {
        return Err(Problem::new(Code::Forbidden, "Only the server itself publishes to the organization system"));
    }
    let body = query::unpacked(&request, &body)?;
    let limits = &context.draft_limits;
    let mut drafts = match cloudevents {
        None => draft::parse(&body, form, limits)?.drafts,
        Some(mode) => cloudevents::published(mode, &headers, &body, limits)?,
    };
    if cloudevents.is_some() && key.is_some() {
        // the publisher's own key wins over what names a CloudEvent
        drafts.iter_mut().for_each(|draft| draft.dedupe_id = None);
    }
    let family = ApiFamily::of(&request);
    let publisher = PublishedBy { by: on.principal.id.clone(), trace: TraceContext::of(&headers).map(Arc::new) };
    let receipt = context.hub.publish(on.channel, drafts, key, publisher).await?;
    let mut answer = HttpResponse::Created();
    if receipt.repeated {
        answer.insert_header(("Idempotency-Replayed", "true"));
    }
    // ids need no escaping, and this answer is the one that is made most often
    let mut text = Vec::with_capacity(24 + receipt.ids.len() * 33);
    text.extend_from_slice(b"{\"data\":{\"ids\":[");
    for (n, id) in receipt.ids.iter().enumerate() {
        text.extend_from_slice(if n > 0 { b",\"" } else { b"\"" });
        family.envelope().write_id(*id, &mut text);
        text.push(b'"');
    }
    text.extend_from_slice(b"]}}");
    Ok(answer.content_type("application/json").body(text))
}

/// `GET .../events`: a page of a channel, or all of it as lines.
pub async fn history(context: web::Data<Context>, of: Reading, request: HttpRequest, pairs: Pairs) -> Answer {
    let (selection, family) = (of.target.selection(), ApiFamily::of(&request));
    let envelope = reading::envelope(&request, &pairs)?;
    let all = accept::prefers_lines(request.headers());
    let limit = pairs.page_limit(if all { PAGE_MAX } else { PAGE_DEFAULT })?;
    let query = HistoryQuery {
        filter: context.hub.filter(&of.principal, &guard::filter(&request, &pairs)?).await?,
        since_ms: pairs.time("since")?,
        until_ms: pairs.time("until")?,
        after: pairs.get("after").filter(|text| !text.is_empty()).map(str::parse).transpose()?,
        limit,
        order: match pairs.get("order") {
            None | Some("asc") => Order::OldestFirst,
            Some("desc") => Order::NewestFirst,
            Some(_) => return Err(Problem::parameter("order", "asc or desc is expected")),
        },
    };
    if all {
        let lines = context.hub.export(of.principal, selection, envelope, query);
        let lines = context.long_answers.counting(lines);
        return Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines));
    }
    let page = context.hub.history(&of.principal, selection, envelope, query).await?;
    // put together where it was read; here, on a thread that serves, it is only copied
    let mut text = Vec::with_capacity(page.events.len() + 128);
    text.extend_from_slice(b"{\"data\":[");
    text.extend_from_slice(&page.events);
    let next = page.next.map_or("null".into(), |id| format!("\"{}\"", envelope.shown_id(id)));
    text.extend_from_slice(format!("],\"next\":{next}").as_bytes());
    if family == ApiFamily::Organizations {
        // the name that lists of this family have
        text.extend_from_slice(format!(",\"nextCursor\":{next}").as_bytes());
    }
    text.push(b'}');
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// Most buckets that one answer holds.
const BUCKETS_MAX: i64 = 1000;
/// The longest window.
const WINDOW_MAX_MS: i64 = 366 * 86_400_000;

/// `GET .../stats`: counts per type and time.
pub async fn stats(context: web::Data<Context>, of: Reading, pairs: Pairs) -> Answer {
    let window_ms = pairs.duration("window")?.unwrap_or(86_400_000);
    let bucket_ms = pairs.duration("bucket")?.unwrap_or(3_600_000);
    if window_ms > WINDOW_MAX_MS {
        return Err(Problem::parameter("window", "at most 366d"));
    }
    if window_ms / bucket_ms >= BUCKETS_MAX {
        return Err(Problem::parameter(
            "bucket",
            format!("the window has more than {BUCKETS_MAX} buckets; make them longer"),
        ));
    }
    let filter = context.hub.filter(&of.principal, &FilterSpec::from_query(pairs.iter())?).await?;
    let query = StatsQuery { filter, now_ms: now_ms(), window_ms, bucket_ms };
    let stats = context.hub.stats(&of.principal, of.target.selection(), query).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": StatsView::of(stats, bucket_ms) })))
}

/// Counts as clients see them.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct StatsView {
    #[schema(format = DateTime)]
    since: String,
    #[schema(format = DateTime)]
    until: String,
    #[schema(minimum = 0)]
    bucket_seconds: i64,
    total: u64,
    /// How many types there are, with those that are not named.
    types_total: u64,
    /// At most 1,000 are named; the rest is counted under `other`.
    types: BTreeMap<String, u64>,
    /// The oldest first; those without events are left out.
    buckets: Vec<BucketView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StatsBucket)]
struct BucketView {
    #[schema(format = DateTime)]
    start: String,
    total: u64,
    types: BTreeMap<String, u64>,
}

impl StatsView {
    fn of(stats: Stats, bucket_ms: i64) -> StatsView {
        let bucket = |b: actors::hub::Bucket| BucketView {
            start: to_iso(b.start_ms),
            total: b.types.values().sum(),
            types: b.types,
        };
        StatsView {
            since: to_iso(stats.since_ms),
            until: to_iso(stats.until_ms),
            bucket_seconds: bucket_ms / 1000,
            total: stats.total,
            types_total: stats.types_total,
            types: stats.types,
            buckets: stats.buckets.into_iter().map(bucket).collect(),
        }
    }
}

/// The channels that the body of a request for a ticket names.
fn named_by_body(request: &HttpRequest, principal: &Principal, names: &[String]) -> Result<StreamTarget, Problem> {
    if guard::names_channel_in_path(request) || !reading::names_in_query(request)?.is_empty() {
        return Err(Problem::invalid("channels", "the address names the channel already"));
    }
    if !(1..=CHANNELS_MAX).contains(&names.len()) {
        return Err(Problem::invalid("channels", format!("1 to {CHANNELS_MAX} channels are expected")));
    }
    reading::named(request, principal, names)
}

/// `POST .../events/ticket`: a single-use ticket for a stream of the channel, of several or of all.
pub async fn ticket(context: web::Data<Context>, of: Minting, request: HttpRequest, body: web::Bytes) -> Answer {
    let Minting { principal, mut target } = of;
    let asked: TicketRequest = query::optional_json(&request, &body)?;
    if let Some(names) = &asked.channels {
        target = named_by_body(&request, &principal, names)?;
    }
    let source = request.match_info().get("source");
    let ticket = streams::mint(&context, principal, target.selection(), source, asked).await?;
    let path = request.path().trim_end_matches("ticket");
    let path = match &target {
        StreamTarget::Channel(channel) => match request.match_info().get("map") {
            // the id holds when the slug is changed
            Some(_) => format!("/api/maps/{}/events/", channel.id),
            None => path.to_string(),
        },
        StreamTarget::Several(_) | StreamTarget::All => path.to_string(),
    };
    let url = format!("{}{path}stream?ticket={ticket}", context.base_url(&request));
    let expires = match ApiFamily::of(&request) {
        ApiFamily::Organizations => "expiresInSeconds",
        _ => "expires_in_seconds",
    };
    let ttl_s = context.settings.tickets.ttl_s;
    Ok(HttpResponse::Created().json(json!({ "data": { "ticket": ticket, expires: ttl_s, "url": url } })))
}

/// `GET /api/event-types`
pub async fn event_types(pairs: Pairs) -> Answer {
    let family = pairs.get("family");
    if let Some(family) = family.filter(|family| !catalogue::families().contains(family)) {
        let known = catalogue::families().join(", ");
        return Err(Problem::parameter("family", format!("'{family}' is not known; one of {known} is expected")));
    }
    let data = family.map_or_else(|| catalogue::types().iter().collect(), |name| catalogue::of_family(name).collect());
    Ok(HttpResponse::Ok().json(Types { data }))
}

#[derive(Serialize)]
struct Types {
    data: Vec<&'static catalogue::TypeInfo>,
}
