//! What the owner of a webhook asks for, and the one function that checks it, whether the webhook is made or changed.

use std::collections::HashSet;

use bytes::Bytes;

use crate::catalog::webhook::Webhook;
use crate::clock;
use crate::feed::frame::Frame;
use crate::model::catalogue;
use crate::model::channel::{Channel, ChannelKind, check_name};
use crate::model::delivery::{Batch, EndpointConfig, PolicyChange, RateLimit, RetryPolicy};
use crate::model::event::{Event, EventType, Origin};
use crate::model::filter::{Filter, FilterSpec};
use crate::model::format::{ChannelLabel, Family, Format, Subject, Template};
use crate::model::id::EventId;
use crate::model::signature::Secret;
use crate::model::target::{Policy, header_allowed};

/// The most custom headers of one webhook.
pub const CUSTOM_HEADERS_MAX: usize = 32;

/// Headers that a receiver verifies by; a custom header in their place would break every delivery.
const SIGNATURE_HEADERS: [&str; 13] = [
    "x-wanderer-signature",
    "x-wanderer-signature-previous",
    "x-wanderer-timestamp",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-webhook-hmac",
    "x-webhook-hmac-algorithm",
    "x-webhook-hmac-previous",
    "x-aeordb-signature",
    "x-aeordb-signature-previous",
    "x-stentor-signature",
    "x-stentor-signature-previous",
];

/// What somebody asks of a webhook. Absent fields stay as they are, or take their default when the webhook is made;
/// `Some(None)` takes the default again.
#[derive(Clone, Default)]
pub struct WebhookSpec {
    pub name: Option<Option<String>>,
    pub url: Option<String>,
    pub active: Option<bool>,
    pub format: Option<Format>,
    pub template: Option<Option<String>>,
    pub events: Option<Vec<String>>,
    pub path_prefix: Option<Vec<String>>,
    pub filter: Option<Option<String>>,
    pub custom_headers: Option<Vec<(String, String)>>,
    pub retry_policy: Option<PolicyChange>,
    pub ordered: Option<bool>,
    pub batch: Option<Option<Batch>>,
    pub rate_limit: Option<Option<RateLimit>>,
    /// The session of an organization.
    pub session: Option<Option<String>>,
    pub secret: Option<SecretChoice>,
}

/// What a webhook is to sign with.
#[derive(Clone)]
pub enum SecretChoice {
    /// One that we make, and show once.
    Made,
    /// The owner's own.
    Given(Secret),
    /// Nothing: deliveries are not signed.
    Absent,
}

impl SecretChoice {
    /// The secret that was chosen, made now if it has to be.
    pub fn take(self) -> Option<Secret> {
        match self {
            SecretChoice::Made => Some(Secret::from_random(clock::random())),
            SecretChoice::Given(secret) => Some(secret),
            SecretChoice::Absent => None,
        }
    }
}

/// One field that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    pub field: String,
    pub message: String,
}

/// What a spec is judged by, beside itself.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    pub channel: &'a Channel,
    pub policy: &'a Policy,
    /// When webhooks that say nothing about it try again, by the settings.
    pub schedule: &'a RetryPolicy,
    /// Whether the webhook is being made.
    pub fresh: bool,
}

/// What is wrong with a webhook, and what is still to be tried.
#[derive(Default)]
pub struct Judged {
    pub bad: Vec<InvalidField>,
    /// Its template is new, and was not rendered yet.
    pub trial: Option<TemplateTrial>,
}

/// Puts what was asked for into the webhook and answers everything that is wrong with the result. Takes up to some 10 ms for
/// an expression or a template that is new.
pub fn apply(spec: WebhookSpec, webhook: &mut Webhook, basis: Basis<'_>) -> Judged {
    let Basis { channel, policy, schedule, fresh } = basis;
    let mut bad = Vec::new();
    let mut refuse = |field: &str, message: String| bad.push(InvalidField { field: field.into(), message });
    let new_template = spec.template.is_some() || spec.format.is_some();
    if let Some(url) = spec.url {
        webhook.url = url;
    }
    if webhook.url.is_empty() {
        refuse("url", "is missing: say where the events go".into());
    } else if let Err(e) = policy.judge_url(&webhook.url) {
        refuse("url", e.to_string());
    }
    if let Some(name) = spec.name {
        webhook.name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    }
    if let Some(Err(e)) = webhook.name.as_deref().map(check_name) {
        refuse("name", e.to_string());
    }
    if let Some(active) = spec.active {
        webhook.active = active;
    }
    if let Some(format) = spec.format {
        webhook.format = format;
    }
    if let Some(template) = spec.template {
        webhook.template = template;
    }
    if let Some(events) = spec.events {
        webhook.filter.events = Some(events);
    }
    if let Some(prefixes) = spec.path_prefix {
        webhook.filter.path_prefix = prefixes;
    }
    if let Some(filter) = spec.filter {
        webhook.filter.filter = filter;
    }
    if let Some(session) = spec.session {
        webhook.filter.session = session;
    }
    match Filter::compile(&webhook.filter) {
        Ok(filter) => webhook.filter = as_written(&webhook.filter, filter.spec()),
        Err(e) => refuse(e.parameter(), e.to_string()),
    }
    if let Some(change) = spec.retry_policy {
        let current = (!fresh).then_some(&webhook.retry_policy);
        match change.apply(current, &webhook.family.default_policy(schedule)) {
            Ok(policy) => webhook.retry_policy = policy,
            Err(fields) => {
                for field in fields {
                    refuse(&format!("retry_policy.{}", field.field), field.message);
                }
            }
        }
    }
    if let Some(ordered) = spec.ordered {
        webhook.ordered = ordered;
    }
    if let Some(batch) = spec.batch {
        webhook.batch = batch;
    }
    if let Some(rate_limit) = spec.rate_limit {
        webhook.rate_limit = rate_limit;
    }
    let config = EndpointConfig { batch: webhook.batch, rate_limit: webhook.rate_limit, ..EndpointConfig::new("") };
    for field in config.check() {
        refuse(&field.field, field.message);
    }
    if let (Some(batch), Some(most)) = (webhook.batch, webhook.format.events_max())
        && batch.max_events as usize > most
    {
        let message = format!("must be at most {most} with the format {}", webhook.format.as_str());
        refuse("batch.max_events", message);
    }
    if let Some(headers) = spec.custom_headers {
        webhook.custom_headers = headers;
    }
    bad.extend(check_headers(&webhook.custom_headers));
    let trial = if new_template { TemplateTrial::of(webhook, channel) } else { Ok(None) };
    let trial = trial.unwrap_or_else(|message| {
        bad.push(bad_template(message));
        None
    });
    Judged { bad, trial }
}

fn bad_template(message: String) -> InvalidField {
    InvalidField { field: "template".into(), message }
}

/// The normal form of a filter with its lists in the order of their owner, who will read them again.
fn as_written(written: &FilterSpec, normal: &FilterSpec) -> FilterSpec {
    let ordered = |written: &[String], normal: &[String]| {
        let mut seen = HashSet::new();
        let names = written.iter().map(|name| name.trim());
        let kept = names.filter(|name| normal.iter().any(|kept| kept == name) && seen.insert(*name));
        kept.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut filter = normal.clone();
    if let (Some(normal), Some(written)) = (&mut filter.events, &written.events) {
        *normal = ordered(written, normal);
    }
    if !filter.path_prefix.is_empty() {
        let mut seen = HashSet::new();
        filter.path_prefix = written.path_prefix.iter().filter(|prefix| seen.insert(*prefix)).cloned().collect();
    }
    filter
}

fn check_headers(headers: &[(String, String)]) -> Vec<InvalidField> {
    let mut bad = Vec::new();
    if headers.len() > CUSTOM_HEADERS_MAX {
        let message = format!("must be at most {CUSTOM_HEADERS_MAX} headers");
        bad.push(InvalidField { field: "custom_headers".into(), message });
        return bad;
    }
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let message = match header_allowed(name, value) {
            Err(e) => e.to_string(),
            Ok(()) if SIGNATURE_HEADERS.contains(&lower.as_str()) => {
                "receivers verify deliveries by this header; remove it".into()
            }
            Ok(()) if !seen.insert(lower) => "is given twice; give it once".into(),
            Ok(()) => continue,
        };
        let name: String = name.chars().take(128).collect();
        bad.push(InvalidField { field: format!("custom_headers.{name}"), message });
    }
    bad
}

/// A new template that is tried on an event without anything, and on a sample of each type of the channel's family.
pub struct TemplateTrial {
    template: Template,
    is_odd_done: bool,
    samples: std::vec::IntoIter<(Event, Bytes)>,
    family: Family,
    channel_id: Box<str>,
    channel_name: Box<str>,
}

impl TemplateTrial {
    /// Compiles the template. None: the webhook has none.
    ///
    /// # Errors
    /// Why it cannot be taken.
    fn of(webhook: &Webhook, channel: &Channel) -> Result<Option<TemplateTrial>, String> {
        let Some(text) = &webhook.template else {
            return match webhook.format {
                Format::Template => Err("is missing: the format template needs one".into()),
                _ => Ok(None),
            };
        };
        let template = Template::compile(text).map_err(|e| e.to_string())?;
        let samples: Vec<(Event, Bytes)> = sample_types(webhook, channel.kind)
            .filter_map(|kind| EventType::new(kind).ok())
            .enumerate()
            .map(|(n, kind)| {
                let payload = catalogue::sample(kind.as_str(), n as u64);
                let id = EventId::at_time(webhook.updated_ms.max(0) as u64).plus(n as u32);
                let ts_ms = webhook.updated_ms;
                let origin = Origin { by: Origin::SERVER.into(), validated: None, trace: None };
                let event = Event { id, channel: channel.no(), kind, ts_ms, session: None, origin, payload };
                let frame = Frame::new(event.clone(), channel.owner());
                let envelope = frame.json(frame.own_envelope());
                (event, envelope)
            })
            .collect();
        Ok(Some(TemplateTrial {
            template,
            is_odd_done: false,
            samples: samples.into_iter(),
            family: Family::of(channel.kind),
            channel_id: (&*channel.id).into(),
            channel_name: (&*channel.name).into(),
        }))
    }

    /// Tries the next one. None: there is another one; else what is wrong, if something is.
    pub fn step(&mut self) -> Option<Option<InvalidField>> {
        let tried = match self.is_odd_done {
            false => {
                self.is_odd_done = true;
                self.template.check_odd()
            }
            true => {
                let Some((event, envelope)) = self.samples.next() else { return Some(None) };
                let channel = ChannelLabel { family: self.family, id: &self.channel_id, name: &self.channel_name };
                self.template.render(&Subject { event: &event, envelope: &envelope, channel }).map(drop)
            }
        };
        tried.err().map(|e| Some(bad_template(e.to_string())))
    }
}

/// The types that a webhook may get, as far as the catalogue knows them; all of its family if that is none.
pub fn sample_types(webhook: &Webhook, kind: ChannelKind) -> impl Iterator<Item = &'static str> + use<> {
    let wanted: Vec<&str> = webhook.filter.events.iter().flatten().map(String::as_str).collect();
    let all = || catalogue::types().iter().map(|info| info.name);
    let chosen: Vec<&'static str> = all().filter(|name| wanted.contains(name)).collect();
    let family = match (webhook.format, kind) {
        (Format::Feed, _) => "feed",
        (Format::Gateway, _) | (_, ChannelKind::Organization) => "organizations",
        (_, ChannelKind::Map) => "maps",
    };
    if chosen.is_empty() { catalogue::of_family(family).map(|info| info.name).collect() } else { chosen }.into_iter()
}
