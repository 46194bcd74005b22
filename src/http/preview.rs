//! What a webhook would post, before there is one: for a sample, or for events that are there.

use actix_web::{HttpRequest, HttpResponse, web};
use actors::hub::webhooks::{Format, PreviewAsk, REHEARSED_EVENTS_MAX, Rehearsal, RehearsalAsk, Sample};
use actors::model::access::Scope;
use actors::model::filter::FilterSpec;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Context;
use super::family::ApiFamily;
use super::guard::{self, Manages, On};
use super::problem::Problem;
use super::query;
use super::webhooks::asked::Asked as AskedWebhook;
use super::webhooks::deliveries::bound;

/// How many events a rehearsal looks at unless it is told.
const REHEARSED_EVENTS_DEFAULT: usize = 1000;

/// What a body asks: fields of a webhook in either spelling, and what is to be shown of it.
struct Asked {
    format: Format,
    template: Option<String>,
    filter: FilterSpec,
    event_type: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

/// Takes a field out of a body.
fn take<T: DeserializeOwned>(body: &mut Map<String, Value>, name: &str, expected: &str) -> Result<Option<T>, Problem> {
    let Some(value) = body.remove(name) else { return Ok(None) };
    serde_json::from_value(value).map_err(|_| Problem::invalid(name, expected))
}

impl Asked {
    fn read(family: ApiFamily, mut body: Map<String, Value>) -> Result<Asked, Problem> {
        let text = "must be a text or null";
        let event_type = take(&mut body, "event_type", text)?.or(take(&mut body, "eventType", text)?);
        let since = take(&mut body, "since", text)?;
        let limit = take(&mut body, "limit", "must be a whole number or null")?;
        let spec = AskedWebhook::read(family, body)?.spec;
        let filter = FilterSpec {
            events: spec.events,
            path_prefix: spec.path_prefix.unwrap_or_default(),
            session: spec.session.flatten(),
            filter: spec.filter.flatten(),
            source: None,
        };
        let format = spec.format.unwrap_or_else(|| family.of_webhooks().default_format());
        Ok(Asked { format, template: spec.template.flatten(), filter, event_type, since, limit })
    }

    /// Whether events that are there are meant, and no sample.
    fn is_rehearsal(&self) -> bool {
        self.since.is_some() || self.limit.is_some()
    }
}

/// `POST .../webhooks/preview`: the request that such a webhook would send for a sample of the type; with `since` or `limit`, what
/// it would have sent of events that are there.
pub async fn preview(
    context: web::Data<Context>,
    on: On<Manages>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    let family = ApiFamily::of(&request);
    let asked = Asked::read(family, query::json(&request, &body)?)?;
    if asked.is_rehearsal() {
        // events are shown, and not samples
        on.principal.may(&on.channel, Scope::Subscribe).map_err(guard::refused)?;
        return rehearse(&context, &on, family, asked).await;
    }
    let Asked { format, template, event_type, .. } = asked;
    let made = context.hub.preview_webhook(&on.channel, PreviewAsk { format, template, event_type }).await?;
    let type_name = if family == ApiFamily::Organizations { "eventType" } else { "event_type" };
    let headers: Map<_, _> = made.headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    Ok(HttpResponse::Ok()
        .json(json!({ "data": { type_name: made.event_type, "headers": headers, "body": made.body } })))
}

async fn rehearse(
    context: &Context,
    on: &On<Manages>,
    family: ApiFamily,
    asked: Asked,
) -> Result<HttpResponse, Problem> {
    let limit = asked.limit.unwrap_or(REHEARSED_EVENTS_DEFAULT);
    if !(1..=REHEARSED_EVENTS_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("must be a whole number from 1 to {REHEARSED_EVENTS_MAX}")));
    }
    let after = asked.since.as_deref().map(|since| bound("since", since, true)).transpose()?;
    let filter = context.hub.filter(&on.principal, &asked.filter).await?;
    let ask = RehearsalAsk { format: asked.format, template: asked.template, filter, after, limit };
    let Rehearsal { scanned, complete, would_send, changed, failed, samples } =
        context.hub.rehearse_webhook(&on.principal, &on.channel, ask).await?;
    let samples: Vec<_> = samples.into_iter().map(|sample| shown(family, sample)).collect();
    Ok(HttpResponse::Ok().json(json!({
        "scanned": scanned, "complete": complete, "would_send": would_send, "changed": changed, "failed": failed,
        "samples": samples,
    })))
}

/// A sample with both bodies as JSON, which every format makes.
fn shown(family: ApiFamily, sample: Sample) -> Value {
    let json = |body: &[u8]| -> Value {
        serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into())
    };
    let (after, error) = match &sample.after {
        Ok(body) => (json(body), Value::Null),
        Err(e) => (Value::Null, e.as_str().into()),
    };
    let id = family.envelope().shown_id(sample.event);
    json!({ "event_id": id, "before": json(&sample.before), "after": after, "error": error })
}
