//! Sources: make, change, rotate, delete. What comes in at them is in `ingest`, what was refused in `dead_letters`.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use actors::hub::sources::{ActiveSource, NewSource, OVERLAP_MAX_S, SourceChange, Zeroizing, key_field};
use actors::model::access::Scope;
use actors::model::channel::{ChannelKind, DEFAULT_ORGANIZATION};
use actors::model::jwt::{JwtAlgorithm, JwtRules};
use actors::model::source::{Authentication, HmacAlgorithm, Rate, Rule, Schema, Scheme};
use actors::model::timestamp::to_iso;
use actors::streams::session::StreamTarget;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::guard::{self, Act, Caller, Manages, On};
use super::problem::{Answer, Problem};
use super::{Context, now_ms, query};

/// The source in the path, if the caller may do `A` with its channel.
pub struct OnSource<A> {
    pub live: Arc<ActiveSource>,
    act: PhantomData<A>,
}

impl<A: Act> FromRequest for OnSource<A> {
    type Error = Problem;
    type Future = Ready<Result<OnSource<A>, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let allowed = On::<A>::from_request(request, payload).into_inner();
        ready(allowed.and_then(|_| {
            let live = guard::source(request).ok_or_else(Problem::no_source)?;
            Ok(OnSource { live, act: PhantomData })
        }))
    }
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
        "authentication": source.scheme.authentication,
        "createdAt": to_iso(source.inserted_ms),
        "eventsReceived": counts.received,
        "lastEventAt": (counts.last_ms > 0).then(|| to_iso(counts.last_ms)),
        "status": status(live),
    })
}

fn status(live: &ActiveSource) -> &'static str {
    if live.source.paused { "paused" } else { "active" }
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
    shown["eventType"] = match source.event_type.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    shown["schema"] = json!(source.schema);
    shown["rateLimit"] = json!(source.rate_limit);
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
    let Asked { channel, new } = Asked::read(query::json(&request, &body)?)?;
    let hub = &context.hub;
    let channel = match channel {
        Some(name) => {
            let absent = || Problem::no_channel(None, &name);
            guard::permitted(hub.find_named(&name), &principal, Scope::Manage, absent)?
        }
        None => match guard::lane_for(&request, &principal, Scope::Manage)? {
            StreamTarget::Channel(channel) => channel,
            // an admin who names none means the organization that is there from the beginning
            StreamTarget::All => {
                let found = hub.find(ChannelKind::Organization, DEFAULT_ORGANIZATION);
                found.ok_or_else(|| Problem::invalid("channel", "is missing: map:<id or slug> or organization:<id>"))?
            }
        },
    };
    let (live, made) = hub.create_source(&channel, new).await?;
    let mut answer = json!({ "endpoint": shown(&context, &request, &live) });
    if let Some(secret) = made {
        answer["secret"] = secret.as_str().into();
    }
    Ok(HttpResponse::Created().json(answer))
}

/// `GET /api/webhooks`: those of one channel, or all for an admin who names none.
pub async fn list(context: web::Data<Context>, request: HttpRequest) -> Answer {
    let principal = guard::caller(&request)?;
    guard::count(&request, &principal)?;
    let of_channel = match guard::lane_for(&request, &principal, Scope::Manage)? {
        StreamTarget::Channel(channel) => Some(channel.no()),
        StreamTarget::All => None,
    };
    let sources = context.hub.sources(of_channel);
    let data: Vec<_> = sources.iter().map(|live| shown_whole(&context, &request, live)).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// `GET /api/webhooks/{source}`
pub async fn get(context: web::Data<Context>, on: OnSource<Manages>, request: HttpRequest) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "endpoint": shown_whole(&context, &request, &on.live) })))
}

/// `GET /api/webhooks/{source}/status`: how it does, in short.
pub async fn get_status(context: web::Data<Context>, on: OnSource<Manages>) -> Answer {
    let counts = on.live.stats.counts();
    let last = (counts.last_ms > 0).then(|| to_iso(counts.last_ms));
    Ok(HttpResponse::Ok().json(json!({
        "id": on.live.source.id,
        "status": status(&on.live),
        "eventsReceived": counts.received,
        "lastEventAt": last,
        "deadLetters": context.hub.count_dead_letters(&on.live).await,
    })))
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
    Ok(HttpResponse::Ok().json(json!({ "endpoint": shown_whole(&context, &request, &live) })))
}

/// `DELETE /api/webhooks/{source}`
pub async fn delete(context: web::Data<Context>, on: OnSource<Manages>) -> Answer {
    context.hub.delete_source(&on.live.source.id).await?;
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
            name if name == key_field(authentication) => {
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

// ---- what bodies ask for -------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtKey {
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtForm {
    algorithm: JwtAlgorithm,
    key: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
}

/// The form of a change: `null` takes a condition away.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JwtChange {
    #[serde(deserialize_with = "given")]
    issuer: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    audience: Option<Option<String>>,
}

/// Tells `null` from a field that is not there.
fn given<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(source).map(Some)
}

fn typed<T: DeserializeOwned>(value: Value, expected: &str) -> Result<T, String> {
    serde_json::from_value(value).map_err(|_| expected.to_string())
}

/// An empty text would never be in a token, or be in every one.
fn not_empty(text: Option<String>, field: &str) -> Result<Option<String>, String> {
    if text.as_deref() == Some("") { Err(format!("{field} must not be empty; leave it out instead")) } else { Ok(text) }
}

fn authentication(value: Value) -> Result<Authentication, String> {
    let names = || format!("must be one of {}", Authentication::ALL.map(Authentication::as_str).join(", "));
    value.as_str().and_then(Authentication::from_name).ok_or_else(names)
}

fn event_type(value: Value) -> Result<Option<Vec<Rule>>, String> {
    if value.is_null() { Ok(None) } else { Rule::list(value).map(Some).map_err(|e| e.to_string()) }
}

fn schema(value: Value) -> Result<Option<Schema>, String> {
    if value.is_null() { Ok(None) } else { Schema::read(value).map(Some).map_err(|e| e.to_string()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RateForm {
    requests: u64,
    per_seconds: u64,
}

/// `{"requests": n, "perSeconds": m}`, or a number of requests a minute.
fn rate_limit(value: Value) -> Result<Option<Rate>, String> {
    let bad = || actors::model::source::limit::BadRate.to_string();
    let RateForm { requests, per_seconds } = match value {
        Value::Null => return Ok(None),
        Value::Number(requests) => RateForm { requests: requests.as_u64().ok_or_else(bad)?, per_seconds: 60 },
        form => typed(form, &bad())?,
    };
    Rate::new(requests, per_seconds).map(Some).map_err(|e| e.to_string())
}

/// What a body asks a new source to be.
struct Asked {
    channel: Option<String>,
    new: NewSource,
}

impl Asked {
    /// Reads a body field by field, so that everything that is wrong with it is said at once.
    fn read(body: Map<String, Value>) -> Result<Asked, Problem> {
        let mut bad = Vec::new();
        let (mut channel, mut by, mut keys, mut jwt) = (None, None, Vec::new(), None);
        let mut algorithm: Option<HmacAlgorithm> = None;
        let mut new = NewSource {
            name: None,
            scheme: Scheme {
                authentication: Authentication::None,
                hmac_algorithm: HmacAlgorithm::default(),
                jwt: None,
            },
            key: None,
            event_type: None,
            schema: None,
            rate_limit: None,
        };
        for (name, value) in body {
            let text = "must be a text";
            let taken = match name.as_str() {
                "name" => typed(value, "must be a text or null").map(|name| new.name = name),
                "channel" => typed(value, text).map(|name| channel = Some(name)),
                "authentication" => authentication(value).map(|one| by = Some(one)),
                "secretKey" | "apiKey" => typed::<String>(value, text).map(|key| keys.push((name.clone(), key))),
                "hmacAlgorithm" => typed(value, "must be sha256 or sha512").map(|one| algorithm = Some(one)),
                "jwt" => {
                    let form = "must be {\"algorithm\": \"HS256\", \"EdDSA\", \"ES256\" or \"RS256\", \"key\"?, \"issuer\"?, \"audience\"?}";
                    typed::<JwtForm>(value, form).map(|form| jwt = Some(form))
                }
                "eventType" => event_type(value).map(|rules| new.event_type = rules),
                "schema" => schema(value).map(|schema| new.schema = schema),
                "rateLimit" => rate_limit(value).map(|rate| new.rate_limit = rate),
                _ => Err("is not known".to_string()),
            };
            if let Err(message) = taken {
                bad.push(json!({ "field": name, "message": message }));
            }
        }
        let mut wrong = |field: &str, message: &str| bad.push(json!({ "field": field, "message": message }));
        match by {
            Some(by) => new.scheme.authentication = by,
            // an address that takes everything has to be asked for
            None => wrong("authentication", "is required: none, api_key, hmac, jwt, standard, github, stripe or slack"),
        }
        let by = by.unwrap_or(Authentication::None);
        for (field, key) in keys {
            match field == key_field(by) && by != Authentication::None {
                true => new.key = Some(Zeroizing::new(key)),
                false => wrong(&field, "goes with another authentication"),
            }
        }
        match algorithm {
            Some(_) if by != Authentication::Hmac => wrong("hmacAlgorithm", "goes with the authentication hmac"),
            algorithm => new.scheme.hmac_algorithm = algorithm.unwrap_or_default(),
        }
        match jwt {
            Some(_) if by != Authentication::Jwt => wrong("jwt", "goes with the authentication jwt"),
            None if by == Authentication::Jwt => wrong("jwt", "is required: it names the algorithm"),
            None => {}
            Some(JwtForm { algorithm, key, issuer, audience }) => {
                match (not_empty(issuer, "issuer"), not_empty(audience, "audience")) {
                    (Ok(issuer), Ok(audience)) => new.scheme.jwt = Some(JwtRules { algorithm, issuer, audience }),
                    (Err(message), _) | (_, Err(message)) => wrong("jwt", &message),
                }
                new.key = key.map(Zeroizing::new);
            }
        }
        if bad.is_empty() { Ok(Asked { channel, new }) } else { Err(Problem::validation(bad)) }
    }
}

/// What the server writes into a source; a client that sends back what it read does not mean to change it.
const READ_ONLY: [&str; 6] = ["id", "url", "createdAt", "updatedAt", "eventsReceived", "lastEventAt"];

fn read_change(context: &Context, live: &ActiveSource, body: Map<String, Value>) -> Result<SourceChange, Problem> {
    let mut change = SourceChange::default();
    let mut bad = Vec::new();
    for (name, value) in body {
        let taken = match name.as_str() {
            "name" => typed(value, "must be a text or null").map(|name| change.name = Some(name)),
            "status" => match value.as_str() {
                Some("active") => Ok(false),
                Some("paused") => Ok(true),
                _ => Err("must be active or paused".to_string()),
            }
            .map(|paused| change.paused = Some(paused)),
            "hmacAlgorithm" => typed(value, "must be sha256 or sha512").map(|one| change.hmac_algorithm = Some(one)),
            "jwt" => jwt_change(live, value).map(|JwtChange { issuer, audience }| {
                (change.issuer, change.audience) = (issuer, audience);
            }),
            "eventType" => event_type(value).map(|rules| change.event_type = Some(rules)),
            "schema" => schema(value).map(|schema| change.schema = Some(schema)),
            "rateLimit" => rate_limit(value).map(|rate| change.rate_limit = Some(rate)),
            "authentication" if value == json!(live.source.scheme.authentication) => Ok(()),
            "channel" if stays(context, live, &value) => Ok(()),
            "authentication" | "channel" => Err("cannot be changed; make another source".into()),
            "secretKey" | "apiKey" => Err("is changed by POST .../rotate-secret".into()),
            name if READ_ONLY.contains(&name) => Ok(()),
            _ => Err("is not known".into()),
        };
        if let Err(message) = taken {
            bad.push(json!({ "field": name, "message": message }));
        }
    }
    if bad.is_empty() { Ok(change) } else { Err(Problem::validation(bad)) }
}

fn stays(context: &Context, live: &ActiveSource, channel: &Value) -> bool {
    let named = channel.as_str().and_then(|name| context.hub.find_named(name));
    named.is_some_and(|channel| channel.no() == live.source.channel_no())
}

/// Issuer and audience; an algorithm may be repeated and not changed, because the key would not fit it.
fn jwt_change(live: &ActiveSource, mut value: Value) -> Result<JwtChange, String> {
    let algorithm = value.as_object_mut().and_then(|fields| fields.remove("algorithm"));
    let current = live.source.scheme.jwt.as_ref().map(|rules| json!(rules.algorithm));
    if algorithm.is_some() && algorithm != current {
        return Err("the algorithm cannot be changed; make another source".into());
    }
    let JwtChange { issuer, audience } =
        typed(value, "must be {\"issuer\"?, \"audience\"?}; the key is changed by POST .../rotate-secret")?;
    let checked = |text: Option<Option<String>>, field| text.map(|text| not_empty(text, field)).transpose();
    Ok(JwtChange { issuer: checked(issuer, "issuer")?, audience: checked(audience, "audience")? })
}
