//! What the bodies of requests about sources ask for, read field by field, so that everything that is wrong is said at once.

use actors::hub::sources::{ActiveSource, NewSource, SourceChange, Zeroizing, key_field};
use actors::model::jwt::{JwtAlgorithm, JwtRules};
use actors::model::source::raw::{RawResponse, RawRules};
use actors::model::source::{Authentication, HmacAlgorithm, Rate, Recipe, Rule, Schema, Scheme};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::shown_authentication;
use crate::http::Context;
use crate::http::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    pub key: String,
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

/// Reads a value into a type.
///
/// # Errors
/// The text `expected`.
pub fn typed<T: DeserializeOwned>(value: Value, expected: &str) -> Result<T, String> {
    serde_json::from_value(value).map_err(|_| expected.to_string())
}

/// An empty text would never be in a token, or be in every one.
fn not_empty(text: Option<String>, field: &str) -> Result<Option<String>, String> {
    if text.as_deref() == Some("") { Err(format!("{field} must not be empty; leave it out instead")) } else { Ok(text) }
}

/// The name of one that is known, or a recipe; a field of a recipe that is wrong is named in the message.
fn authentication(value: Value) -> Result<(Authentication, Option<Box<Recipe>>), String> {
    match value {
        Value::String(name) => {
            let unknown = || format!("must be a recipe or one of {}", Authentication::names().join(", "));
            Authentication::from_name(&name).map(|known| (known, None)).ok_or_else(unknown)
        }
        value @ Value::Object(_) => {
            let recipe = Recipe::read(value).map_err(|e| format!("is no recipe: {e}"))?;
            Ok((Authentication::Recipe, Some(Box::new(recipe))))
        }
        _ => Err(format!("must be a recipe or one of {}", Authentication::names().join(", "))),
    }
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

/// The fields of a source in raw mode.
const RAW_FIELDS: [&str; 5] = ["keep", "redact", "redact_query", "redactQuery", "response"];

/// Whether requests are to be kept as they come.
fn mode(value: &Value) -> Result<bool, String> {
    match value.as_str() {
        Some("raw") => Ok(true),
        Some("events") => Ok(false),
        _ => Err("must be events or raw".into()),
    }
}

fn names(value: Value) -> Result<Vec<String>, String> {
    if value.is_null() { Ok(Vec::new()) } else { typed(value, "must be a list of names") }
}

fn response(value: Value) -> Result<Option<RawResponse>, String> {
    serde_json::from_value(value).map_err(|e| format!("must be {{\"status\"?, \"headers\"?, \"body\"?}}: {e}"))
}

/// What a body asks a new source to be. Its `channel` was read before.
pub struct Asked {
    pub new: NewSource,
}

impl Asked {
    /// Reads a body field by field, so that everything that is wrong with it is said at once.
    ///
    /// # Errors
    /// A 400 that names every field that is wrong.
    pub fn read(body: Map<String, Value>) -> Result<Asked, Problem> {
        let mut bad = Vec::new();
        let (mut by, mut keys, mut jwt) = (None, Vec::new(), None);
        let mut algorithm: Option<HmacAlgorithm> = None;
        let mut new = NewSource {
            name: None,
            scheme: Scheme::of(Authentication::None),
            key: None,
            event_type: None,
            schema: None,
            rate_limit: None,
            verify_token: None,
            raw: None,
        };
        let (mut is_raw, mut raw, mut raw_fields) = (false, RawRules::default(), Vec::new());
        for (name, value) in body {
            let text = "must be a text";
            if RAW_FIELDS.contains(&name.as_str()) && !value.is_null() {
                raw_fields.push(name.clone());
            }
            let taken = match name.as_str() {
                "name" => typed(value, "must be a text or null").map(|name| new.name = name),
                "channel" => typed::<String>(value, text).map(drop),
                "authentication" => authentication(value).map(|one| by = Some(one)),
                "verifyToken" => typed(value, text).map(|token: String| new.verify_token = Some(Zeroizing::new(token))),
                "secretKey" | "apiKey" | "publicKey" => {
                    typed::<String>(value, text).map(|key| keys.push((name.clone(), key)))
                }
                "hmacAlgorithm" => typed(value, "must be sha256 or sha512").map(|one| algorithm = Some(one)),
                "jwt" => {
                    let form = "must be {\"algorithm\": \"HS256\", \"EdDSA\", \"ES256\" or \"RS256\", \"key\"?, \"issuer\"?, \"audience\"?}";
                    typed::<JwtForm>(value, form).map(|form| jwt = Some(form))
                }
                "eventType" => event_type(value).map(|rules| new.event_type = rules),
                "schema" => schema(value).map(|schema| new.schema = schema),
                "rateLimit" => rate_limit(value).map(|rate| new.rate_limit = rate),
                "mode" => mode(&value).map(|one| is_raw = one),
                "keep" => names(value).map(|names| raw.keep = names),
                "redact" => names(value).map(|names| raw.redact = names),
                "redact_query" | "redactQuery" => names(value).map(|names| raw.redact_query = names),
                "response" => response(value).map(|answer| raw.response = answer),
                _ => Err("is not known".to_string()),
            };
            if let Err(message) = taken {
                bad.push(json!({ "field": name, "message": message }));
            }
        }
        for field in raw_fields.iter().filter(|_| !is_raw) {
            bad.push(json!({ "field": field, "message": "goes with the mode raw" }));
        }
        new.raw = is_raw.then_some(raw);
        if by.is_none() && bad.iter().any(|one| one["field"] == "authentication") {
            // what goes with it cannot be told
            return Err(Problem::validation(bad));
        }
        let mut wrong = |field: &str, message: &str| bad.push(json!({ "field": field, "message": message }));
        match by {
            Some((by, recipe)) => (new.scheme.authentication, new.scheme.recipe) = (by, recipe),
            // an address that takes everything has to be asked for
            None => wrong(
                "authentication",
                &format!("is required: a recipe or one of {}", Authentication::names().join(", ")),
            ),
        }
        let by = new.scheme.authentication;
        for (field, key) in keys {
            match field == key_field(&new.scheme) && by != Authentication::None {
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
        if bad.is_empty() { Ok(Asked { new }) } else { Err(Problem::validation(bad)) }
    }
}

/// What the server writes into a source; a client that sends back what it read does not mean to change it.
const READ_ONLY: [&str; 7] = ["id", "url", "createdAt", "updatedAt", "eventsReceived", "lastEventAt", "refusedSenders"];

/// Reads a change field by field.
///
/// # Errors
/// A 400 that names every field that is wrong.
pub fn read_change(context: &Context, live: &ActiveSource, body: Map<String, Value>) -> Result<SourceChange, Problem> {
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
            "mode" => match mode(&value) {
                Ok(is_raw) if is_raw == live.source.raw.is_some() => Ok(()),
                Ok(_) => Err("cannot be changed; make another source".into()),
                Err(message) => Err(message),
            },
            "keep" => names(value).map(|names| change.raw.keep = Some(names)),
            "redact" => names(value).map(|names| change.raw.redact = Some(names)),
            "redact_query" | "redactQuery" => names(value).map(|names| change.raw.redact_query = Some(names)),
            "response" => response(value).map(|answer| change.raw.response = Some(answer)),
            "authentication" if value == shown_authentication(&live.source.scheme) => Ok(()),
            "channel" if stays(context, live, &value) => Ok(()),
            "authentication" | "channel" => Err("cannot be changed; make another source".into()),
            "verifyToken" => {
                typed(value, "must be a text").map(|token: String| change.verify_token = Some(Zeroizing::new(token)))
            }
            "secretKey" | "apiKey" | "publicKey" => Err("is changed by POST .../rotate-secret".into()),
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
