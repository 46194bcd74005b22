//! What a body asks of a webhook, read field by field so that everything that is wrong with it is said at once.

use std::collections::HashSet;

use actors::hub::webhooks::{Batch, InvalidField, PolicyChange, RateLimit, Resume, SecretChoice, WebhookSpec};
use actors::model::filter::FilterSpec;
use actors::model::format::Format;
use actors::model::signature::Secret;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::super::family::ApiFamily;
use super::super::names;
use super::super::problem::Problem;

/// What the server writes into a webhook; a client that sends back what it read does not mean to change it.
const READ_ONLY: [&str; 18] = [
    "id",
    "map_id",
    "organization",
    "webhook_id",
    "has_secret",
    "unknown_events",
    "delivering",
    "why",
    "last_delivery_at",
    "last_error",
    "last_error_at",
    "consecutive_failures",
    "health",
    "health_since",
    "next_attempt_at",
    "disabled_reason",
    "inserted_at",
    "updated_at",
];

/// What a body asks of a webhook.
pub struct Asked {
    family: ApiFamily,
    pub spec: WebhookSpec,
    pub resume: Option<Resume>,
}

impl Asked {
    /// Reads a body whose every field can be taken.
    ///
    /// # Errors
    /// A 400 that names every field that is wrong.
    pub fn read(family: ApiFamily, body: Map<String, Value>) -> Result<Asked, Problem> {
        let (asked, bad) = Asked::read_all(family, body);
        let detail = |bad: InvalidField| json!({ "field": bad.field, "message": bad.message });
        match bad.is_empty() {
            true => Ok(asked),
            false => Err(Problem::validation(bad.into_iter().map(detail).collect())),
        }
    }

    /// Reads what can be taken, and says what cannot. A field is named as the client wrote it.
    pub fn read_all(family: ApiFamily, body: Map<String, Value>) -> (Asked, Vec<InvalidField>) {
        let mut asked = Asked { family, spec: WebhookSpec::default(), resume: None };
        let (mut bad, mut seen) = (Vec::new(), HashSet::new());
        for (name, value) in body {
            let own = names::understood(&name);
            let taken = match seen.insert(own.clone()) {
                true => asked.take(&own, value),
                false => Err("is given in two spellings; give it once".into()),
            };
            if let Err(message) = taken {
                bad.push(InvalidField { field: name.chars().take(128).collect(), message });
            }
        }
        (asked, bad)
    }

    /// `null` takes the default of a field again.
    fn take(&mut self, name: &str, value: Value) -> Result<(), String> {
        let spec = &mut self.spec;
        match name {
            "name" => spec.name = Some(typed(value, "must be a text or null")?),
            "url" => spec.url = Some(typed(value, "must be a text")?),
            "active" => spec.active = Some(typed::<Option<bool>>(value, "must be true or false")?.unwrap_or(true)),
            "events" => spec.events = Some(event_types(value)?),
            "path_prefix" => spec.path_prefix = Some(path_prefixes(value)?),
            "filter" => spec.filter = Some(typed(value, "must be a text or null")?),
            "custom_headers" => spec.custom_headers = Some(headers(value)?),
            "retry_policy" => spec.retry_policy = Some(retry_policy(value)?),
            "ordered" => spec.ordered = Some(typed::<Option<bool>>(value, "must be true or false")?.unwrap_or(false)),
            "batch" => {
                let form = format!("must be {} or null", self.family.fields(&["max_events", "max_wait_ms"]));
                spec.batch = Some(typed::<Option<Batch>>(names::understood_object(value), &form)?);
            }
            "rate_limit" => {
                let form = format!("must be {} or null", self.family.fields(&["per_second", "burst"]));
                spec.rate_limit = Some(typed::<Option<RateLimit>>(names::understood_object(value), &form)?);
            }
            "resume" => self.resume = typed(value, "must be skip, pending or all")?,
            // a document has one format; what was read of it may be written back
            "format" if self.family == ApiFamily::Feed && value == "feed" => {}
            "format" if self.family != ApiFamily::Feed => spec.format = Some(format(self.family, &value)?),
            "template" if self.family != ApiFamily::Feed => {
                spec.template = Some(typed(value, "must be a text or null")?)
            }
            "session" if self.family == ApiFamily::Organizations => {
                spec.session = Some(typed(value, "must be a text or null")?);
            }
            "secret" if self.family == ApiFamily::Organizations => spec.secret = Some(secret(value)?),
            // an entry of a document that says nothing of its secret keeps it
            "secret" if self.family == ApiFamily::Feed => {
                spec.secret = (!value.is_null()).then(|| secret(value)).transpose()?;
            }
            _ if READ_ONLY.contains(&name) => {}
            _ => return Err("is not known".into()),
        }
        Ok(())
    }
}

impl ApiFamily {
    /// The form of an object, for people.
    fn fields(self, names: &[&str]) -> String {
        let spelled: Vec<_> = names.iter().map(|name| names::spelled(self, name)).collect();
        format!("{{{}}}", spelled.join(", "))
    }
}

fn typed<T: DeserializeOwned>(value: Value, expected: &str) -> Result<T, String> {
    serde_json::from_value(value).map_err(|_| expected.to_string())
}

fn format(family: ApiFamily, value: &Value) -> Result<Format, String> {
    if value.is_null() {
        return Ok(family.of_webhooks().default_format());
    }
    let names = || format!("must be one of {}", Format::ALL.map(Format::as_str).join(", "));
    value.as_str().and_then(|name| name.parse().ok()).ok_or_else(names)
}

/// A secret that somebody chose; `null` is none. What was written is not repeated.
///
/// # Errors
/// What a secret looks like.
pub fn secret(value: Value) -> Result<SecretChoice, String> {
    match value {
        Value::Null => Ok(SecretChoice::Absent),
        Value::String(text) => Secret::from_text(&text).map(SecretChoice::Given).map_err(|e| e.to_string()),
        _ => Err("must be a text or null".into()),
    }
}

/// A field of a filter, in every form in which a filter takes it.
fn filter_part(name: &str, value: Value) -> Result<FilterSpec, String> {
    serde_json::from_value(json!({ name: value })).map_err(|_| "must be a text or a list of texts".to_string())
}

/// `null` is all of them, as when the field is left out.
///
/// # Errors
/// What event types look like.
pub fn event_types(value: Value) -> Result<Vec<String>, String> {
    Ok(filter_part("events", value)?.events.unwrap_or_else(|| vec!["*".into()]))
}

fn path_prefixes(value: Value) -> Result<Vec<String>, String> {
    if value.is_null() { Ok(Vec::new()) } else { Ok(filter_part("path_prefix", value)?.path_prefix) }
}

fn headers(value: Value) -> Result<Vec<(String, String)>, String> {
    let wrong = || "must be an object of header names and texts".to_string();
    let object = match value {
        Value::Null => Map::new(),
        Value::Object(object) => object,
        _ => return Err(wrong()),
    };
    let pair = |(name, value): (String, Value)| Some((name, value.as_str()?.to_string()));
    object.into_iter().map(pair).collect::<Option<_>>().ok_or_else(wrong)
}

fn retry_policy(value: Value) -> Result<PolicyChange, String> {
    match value {
        Value::Null => Ok(PolicyChange::Default),
        Value::Object(fields) => Ok(PolicyChange::Fields(fields)),
        _ => Err("must be an object or null".into()),
    }
}
