//! Sources: make, change, rotate, delete. What comes in at them is in `ingest`, what was refused in `dead_letters`.

mod asked;
mod check;

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use actors::hub::audit::{AuditEntry, Change};
use actors::hub::sources::{ActiveSource, OVERLAP_MAX_S, RefusedSenders, Zeroizing, key_field};
use actors::model::access::{Principal, Scope};
use actors::model::channel::{Channel, ChannelKind, DEFAULT_ORGANIZATION};
use actors::model::jwt::JwtRules;
use actors::model::source::{Authentication, Preset, Scheme, preset};
use actors::model::timestamp::to_iso;
use serde_json::{Map, Value, json};

use self::asked::{Asked, JwtKey, read_change, typed};
pub use self::check::check;
use super::guard::{self, Act, Caller, Manages, On};
use super::problem::{Answer, Problem};
use super::{Context, now_ms, peers, query};

/// The source in the path, if the caller may do `A` with its channel.
pub struct OnSource<A> {
    pub live: Arc<ActiveSource>,
    pub channel: Arc<Channel>,
    pub principal: Arc<Principal>,
    act: PhantomData<A>,
}

impl<A: Act> FromRequest for OnSource<A> {
    type Error = Problem;
    type Future = Ready<Result<OnSource<A>, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let allowed = On::<A>::from_request(request, payload).into_inner();
        ready(allowed.and_then(|On { channel, principal, .. }| {
            let live = guard::source(request).ok_or_else(Problem::no_source)?;
            Ok(OnSource { live, channel, principal, act: PhantomData })
        }))
    }
}

fn audit(context: &Context, principal: &Principal, channel: &Channel, live: &ActiveSource, change: Change) {
    context.hub.audit(&principal.id, AuditEntry::SourceChanged { channel, source: &live.source, change });
}

/// A source as the answer to its creation shows it. Its key is never in it.
fn shown(context: &Context, request: &HttpRequest, live: &ActiveSource) -> Value {
    let (source, counts) = (&live.source, live.stats.counts());
    let channel = context.hub.channel(source.channel_no()).map(|channel| channel.name_on_tokens());
    json!({
        "id": source.id,
        "url": format!("{}/webhooks/{}", context.base_url(request), source.id),
        "name": source.name,
        "channel": channel,
        "authentication": shown_authentication(&source.scheme),
        "createdAt": to_iso(source.inserted_ms),
        "eventsReceived": counts.received,
        "lastEventAt": (counts.last_ms > 0).then(|| to_iso(counts.last_ms)),
        "status": status(live),
    })
}

/// The name of the authentication, or the recipe that its owner wrote.
fn shown_authentication(scheme: &Scheme) -> Value {
    match &scheme.recipe {
        Some(recipe) => json!(recipe),
        None => json!(scheme.authentication),
    }
}

fn status(live: &ActiveSource) -> &'static str {
    if live.source.paused { "paused" } else { "active" }
}

/// Who was not believed. Only counted: anybody can send that.
fn shown_refused(refused: &RefusedSenders) -> Value {
    let iso = |ms: i64| (ms > 0).then(|| to_iso(ms));
    json!({
        "requests": refused.requests,
        "inARow": refused.in_a_row,
        "since": iso(refused.since_ms).filter(|_| refused.in_a_row > 0),
        "lastAt": iso(refused.last_ms),
        "lastReason": (refused.last_ms > 0).then_some(&refused.reason),
        "lastUserAgent": refused.user_agent,
    })
}

/// The same with everything that can be changed.
fn shown_whole(context: &Context, request: &HttpRequest, live: &ActiveSource) -> Value {
    let (source, scheme) = (&live.source, &live.source.scheme);
    let mut shown = shown(context, request, live);
    if scheme.authentication == Authentication::Hmac {
        shown["hmacAlgorithm"] = json!(scheme.hmac_algorithm);
    }
    if let Some(JwtRules { algorithm, issuer, audience }) = &scheme.jwt {
        shown["jwt"] = json!({ "algorithm": algorithm, "issuer": issuer, "audience": audience });
    }
    shown["mode"] = if source.raw.is_some() { "raw" } else { "events" }.into();
    if let Some(raw) = &source.raw {
        shown["keep"] = json!(raw.keep);
        shown["redact"] = json!(raw.redact);
        shown["redact_query"] = json!(raw.redact_query);
        shown["response"] = json!(raw.response);
    }
    shown["eventType"] = match source.event_type.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    shown["schema"] = json!(source.schema);
    shown["rateLimit"] = json!(source.rate_limit);
    shown["refusedSenders"] = shown_refused(&live.stats.counts().refused_senders);
    shown["updatedAt"] = to_iso(source.updated_ms).into();
    shown
}

/// `POST /api/webhooks`
pub async fn create(
    context: web::Data<Context>,
    Caller(principal): Caller,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let body: Map<String, Value> = query::json(&request, &body)?;
    let hub = &context.hub;
    // who may not is told so before what else is wrong
    let channel = match body.get("channel").and_then(Value::as_str) {
        Some(name) => {
            let absent = || Problem::no_channel(None, name);
            guard::permitted(hub.find_named(name), &principal, Scope::Manage, absent)?
        }
        None => match guard::channel_or_all(&request, &principal, Scope::Manage)? {
            Some(channel) => channel,
            // an admin who names none means the organization that is there from the beginning
            None => {
                let found = hub.find(ChannelKind::Organization, DEFAULT_ORGANIZATION);
                found.ok_or_else(|| Problem::invalid("channel", "is missing: map:<id or slug> or organization:<id>"))?
            }
        },
    };
    let (live, made) = hub.create_source(&channel, Asked::read(body)?.new).await?;
    audit(&context, &principal, &channel, &live, Change::Created);
    let mut answer = json!({ "endpoint": shown(&context, &request, &live) });
    if let Some(secret) = made.key {
        answer["secret"] = secret.as_str().into();
    }
    if let Some(token) = made.verify_token {
        answer["verifyToken"] = token.as_str().into();
    }
    Ok(HttpResponse::Created().json(answer))
}

/// `GET /api/webhooks`: those of one channel, or all for an admin who names none.
pub async fn list(context: web::Data<Context>, request: HttpRequest) -> Answer {
    let principal = guard::caller(&request)?;
    guard::count(&request, &principal)?;
    let of_channel = guard::channel_or_all(&request, &principal, Scope::Manage)?.map(|channel| channel.no());
    let sources = context.hub.sources(of_channel);
    let data: Vec<_> = sources.iter().map(|live| shown_whole(&context, &request, live)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET /api/webhooks/{source}`
pub async fn get(context: web::Data<Context>, on: OnSource<Manages>, request: HttpRequest) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "endpoint": shown_whole(&context, &request, &on.live) })))
}

/// `GET /api/webhooks/{source}/status`: how it does, in short.
pub async fn get_status(context: web::Data<Context>, on: OnSource<Manages>, request: HttpRequest) -> Answer {
    let counts = on.live.stats.counts();
    let last = (counts.last_ms > 0).then(|| to_iso(counts.last_ms));
    let mut told = json!({
        "id": on.live.source.id,
        "status": status(&on.live),
        "eventsReceived": counts.received,
        "lastEventAt": last,
        "deadLetters": context.hub.count_dead_letters(&on.live).await,
        "refusedSenders": shown_refused(&counts.refused_senders),
    });
    // each node of a cluster counts what it took itself
    for (_, other) in peers::ask_all(&context, &request).await {
        for count in ["eventsReceived", "deadLetters"] {
            told[count] = (told[count].as_u64().unwrap_or(0) + other[count].as_u64().unwrap_or(0)).into();
        }
        if other["lastEventAt"].as_str() > told["lastEventAt"].as_str() {
            told["lastEventAt"] = other["lastEventAt"].clone();
        }
    }
    Ok(HttpResponse::Ok().json(told))
}

/// `PATCH /api/webhooks/{source}`: what the body names is changed, the rest stays.
pub async fn change(
    context: web::Data<Context>,
    on: OnSource<Manages>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let change = read_change(&context, &on.live, query::json(&request, &body)?)?;
    let live = context.hub.change_source(&on.live.source.id, change).await?;
    audit(&context, &on.principal, &on.channel, &live, Change::Updated);
    Ok(HttpResponse::Ok().json(json!({ "endpoint": shown_whole(&context, &request, &live) })))
}

/// `DELETE /api/webhooks/{source}`
pub async fn delete(context: web::Data<Context>, on: OnSource<Manages>) -> Answer {
    context.hub.delete_source(&on.live.source.id).await?;
    audit(&context, &on.principal, &on.channel, &on.live, Change::Deleted);
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/webhooks/{source}/rotate-secret`
pub async fn rotate_secret(
    context: web::Data<Context>,
    on: OnSource<Manages>,
    request: HttpRequest,
    body: web::Bytes,
) -> Answer {
    let asked: Map<String, Value> = query::optional_json(&request, &body)?;
    let source = &on.live.source;
    let authentication = source.scheme.authentication;
    let mut bad = Vec::new();
    let (mut given, mut overlap_s) = (None, 0);
    for (name, value) in asked {
        let taken = match name.as_str() {
            "graceSeconds" | "grace_seconds" => {
                let within = value.as_u64().filter(|seconds| *seconds <= OVERLAP_MAX_S);
                within
                    .map(|seconds| overlap_s = seconds)
                    .ok_or_else(|| format!("a whole number from 0 to {OVERLAP_MAX_S} is expected"))
            }
            "jwt" if authentication == Authentication::Jwt => {
                typed::<JwtKey>(value, "must be {\"key\": text}").map(|jwt| given = Some(jwt.key))
            }
            name if name == key_field(&source.scheme) => {
                typed::<String>(value, "must be a text").map(|key| given = Some(key))
            }
            _ => Err("is not known".into()),
        };
        if let Err(message) = taken {
            bad.push(json!({ "field": name, "message": message }));
        }
    }
    if !bad.is_empty() {
        return Err(Problem::validation(bad));
    }
    let until_ms = now_ms() + overlap_s as i64 * 1_000;
    let (live, made) = context.hub.rotate_source_key(&source.id, given.map(Zeroizing::new), overlap_s).await?;
    audit(&context, &on.principal, &on.channel, &live, Change::SecretRotated);
    let mut answer = json!({
        "id": live.source.id,
        "graceSeconds": overlap_s,
        "previousSecretExpiresAt": to_iso(until_ms),
    });
    if let Some(secret) = made {
        answer["secret"] = secret.as_str().into();
    }
    Ok(HttpResponse::Ok().json(answer))
}

fn shown_preset(preset: &Preset) -> Value {
    json!({
        "name": preset.name,
        "title": preset.title,
        "documentation": preset.documentation,
        "setup": preset.setup,
        "key": { "field": preset.key_field(), "called": preset.key, "made": preset.makes_key },
        "recipes": preset.recipes,
        "eventType": preset.event_type,
        "id": preset.id,
        "handshake": preset.handshake,
    })
}

/// `GET /api/source-presets`: the providers that are known, and what to enter where at each of them.
pub async fn presets() -> Answer {
    let data: Vec<_> = preset::all().iter().map(shown_preset).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}
