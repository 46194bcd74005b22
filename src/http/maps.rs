//! The maps family: maps, their events, history and stats.

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::{HistoryQuery, MapChange, NewMap, Order, StatsQuery};
use actors::model::catalogue;
use actors::model::channel::{Channel, ChannelKind};
use actors::model::draft;
use actors::model::filter::{Filter, FilterSpec};
use actors::model::timestamp::to_iso;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::guard::{self, Admin, Caller, Manages, OnMap, Publishes, Reads};
use super::problem::{Code, Problem};
use super::query::{self, Pairs};
use super::streams::{self, TicketRequest};
use super::{Context, now_ms};

type Answer = Result<HttpResponse, Problem>;

/// A map as clients see it.
fn shown(map: &Channel) -> Value {
    json!({
        "id": map.id,
        "slug": map.slug,
        "name": map.name,
        "webhooks_enabled": map.webhooks_enabled,
        "event_names": map.event_names,
        "inserted_at": to_iso(map.inserted_ms),
        "updated_at": to_iso(map.updated_ms),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateMap {
    name: String,
    slug: Option<String>,
    id: Option<String>,
}

/// `POST /api/maps`
pub async fn create(context: web::Data<Context>, _: Admin, request: HttpRequest, body: web::Bytes) -> Answer {
    let CreateMap { name, slug, id } = query::json(&request, &body)?;
    let (map, token) = context.hub.create_map(NewMap { name, slug, id }).await?;
    let mut shown = shown(&map);
    shown["token"] = token.into();
    Ok(HttpResponse::Created().json(json!({ "data": shown })))
}

/// `GET /api/maps`: all for the admin, its own for a channel token.
pub async fn list(context: web::Data<Context>, Caller(principal): Caller) -> Answer {
    let maps = context.hub.list(ChannelKind::Map);
    let own = |map: &&std::sync::Arc<Channel>| {
        !matches!(
            principal.may(map.no(), actors::model::access::Scope::Subscribe),
            Err(actors::model::access::Refusal::Foreign)
        )
    };
    let data: Vec<_> = maps.iter().filter(own).map(|map| shown(map)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET /api/maps/{map}`
pub async fn get(on: OnMap<Reads>) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "data": shown(&on.map) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchMap {
    name: Option<String>,
    slug: Option<String>,
    #[serde(default, deserialize_with = "given")]
    event_names: Option<Option<bool>>,
}

/// Tells `null` from a field that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<bool>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PATCH /api/maps/{map}`
pub async fn change(context: web::Data<Context>, on: OnMap<Manages>, request: HttpRequest, body: web::Bytes) -> Answer {
    let PatchMap { name, slug, event_names } = query::json(&request, &body)?;
    let map = context.hub.change_map(&on.map, MapChange { name, slug, event_names }).await?;
    Ok(HttpResponse::Ok().json(json!({ "data": shown(&map) })))
}

/// `DELETE /api/maps/{map}`
pub async fn delete(context: web::Data<Context>, on: OnMap<Manages>) -> Answer {
    context.hub.delete_map(&on.map).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/maps/{map}/events`
pub async fn publish(
    context: web::Data<Context>,
    on: OnMap<Publishes>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let form = query::body_form(&request)?;
    let key =
        match request.headers().get("idempotency-key") {
            Some(value) => Some(value.to_str().ok().filter(|key| (1..=255).contains(&key.len())).ok_or_else(|| {
                Problem::new(Code::BadRequest, "Idempotency-Key is 1 to 255 visible ASCII characters")
            })?),
            None => None,
        };
    let drafts = draft::parse(&body, form, &context.draft_limits)?.drafts;
    let receipt = context.hub.publish(on.map, drafts, key).await?;
    let mut answer = HttpResponse::Created();
    if receipt.repeated {
        answer.insert_header(("Idempotency-Replayed", "true"));
    }
    // ids need no escaping, and this answer is the one that is made most often
    let mut text = String::with_capacity(24 + receipt.ids.len() * 29);
    text.push_str("{\"data\":{\"ids\":[");
    for (n, id) in receipt.ids.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        text.push_str(&format!("{comma}\"{id}\""));
    }
    text.push_str("]}}");
    Ok(answer.content_type("application/json").body(text))
}

/// Most events of a page of history.
const PAGE_MAX: usize = 1000;
const PAGE_DEFAULT: usize = 100;

/// `GET /api/maps/{map}/events`
pub async fn history(context: web::Data<Context>, on: OnMap<Reads>, request: HttpRequest, pairs: Pairs) -> Answer {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let all = accept.split(',').any(|part| part.trim().starts_with("application/x-ndjson"));
    let limit = pairs.number("limit", 1..=PAGE_MAX)?;
    let query = HistoryQuery {
        filter: Filter::compile(&FilterSpec::from_query(pairs.iter())?)?,
        since_ms: pairs.time("since")?,
        until_ms: pairs.time("until")?,
        after: pairs.get("after").filter(|text| !text.is_empty()).map(str::parse).transpose()?,
        limit: limit.unwrap_or(if all { PAGE_MAX } else { PAGE_DEFAULT }),
        order: match pairs.get("order") {
            None | Some("asc") => Order::OldestFirst,
            Some("desc") => Order::NewestFirst,
            Some(_) => return Err(Problem::parameter("order", "asc or desc is expected")),
        },
    };
    if all {
        let lines = context.hub.export(&on.map, query);
        return Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines));
    }
    let page = context.hub.history(&on.map, query).await?;
    let mut text = b"{\"data\":[".to_vec();
    for (n, event) in page.events.iter().enumerate() {
        if n > 0 {
            text.push(b',');
        }
        text.extend_from_slice(event);
    }
    let next = page.next.map_or("null".into(), |id| format!("\"{id}\""));
    text.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// Most buckets that one answer holds.
const BUCKETS_MAX: i64 = 1000;
/// The longest window.
const WINDOW_MAX_MS: i64 = 366 * 86_400_000;

/// `GET /api/maps/{map}/stats`
pub async fn stats(context: web::Data<Context>, on: OnMap<Reads>, pairs: Pairs) -> Answer {
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
    let filter = Filter::compile(&FilterSpec::from_query(pairs.iter())?)?;
    let stats = context.hub.stats(&on.map, StatsQuery { filter, now_ms: now_ms(), window_ms, bucket_ms }).await?;
    let bucket = |b: &actors::hub::Bucket| json!({ "start": to_iso(b.start_ms), "total": b.types.values().sum::<u64>(), "types": b.types });
    Ok(HttpResponse::Ok().json(json!({ "data": {
        "since": to_iso(stats.since_ms),
        "until": to_iso(stats.until_ms),
        "bucket_seconds": bucket_ms / 1000,
        "total": stats.total,
        "types": stats.types,
        "buckets": stats.buckets.iter().map(bucket).collect::<Vec<_>>(),
    } })))
}

/// `POST /api/maps/{map}/events/ticket`
pub async fn ticket(context: web::Data<Context>, request: HttpRequest, body: web::Bytes) -> Answer {
    let principal = guard::caller(&request)?;
    let map = guard::map_for(&request, &principal, actors::model::access::Scope::Subscribe)?;
    let asked: TicketRequest = query::optional_json(&request, &body)?;
    let ticket = streams::mint(&context.hub, principal, &map, asked).await?;
    let url = format!("{}/api/maps/{}/events/stream?ticket={ticket}", context.base_url(&request), map.id);
    let expires = context.settings.tickets.ttl_s;
    Ok(HttpResponse::Created().json(json!({ "data": { "ticket": ticket, "expires_in_seconds": expires, "url": url } })))
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
