//! What a webhook would post: a sample of an event type in a format, signed with a key that signs nothing else.

use std::sync::Arc;

use super::{Format, InvalidField, WebhookError};
use crate::catalog::webhook;
use crate::clock;
use crate::compute::Tenant;
use crate::feed::frame::Frame;
use crate::hub::Hub;
use crate::model::catalogue;
use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::{Event, EventType, Origin};
use crate::model::format::{self, ChannelLabel, Family, Form, Subject, Template};
use crate::model::id::EventId;
use crate::model::signature::{Keys, Secret};
use crate::model::source::raw::{REQUEST_TYPE, RawRequest};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PreviewAsk {
    pub format: Format,
    pub template: Option<String>,
    /// A sample of this type. Of a type that the catalogue does not have, the payload is empty. The first of the family, if it is left out.
    pub event_type: Option<String>,
}

/// A request that was not sent.
pub struct Preview {
    pub event_type: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

pub(super) fn invalid(field: &str, message: impl Into<String>) -> WebhookError {
    WebhookError::Invalid(vec![InvalidField { field: field.into(), message: message.into() }])
}

impl Hub {
    /// Makes the request that a webhook of this format would get for a sample.
    ///
    /// # Errors
    /// [`WebhookError::Invalid`] for a template that cannot be used and a type that is none.
    pub async fn preview_webhook(&self, channel: &Channel, ask: PreviewAsk) -> Result<Preview, WebhookError> {
        let of = channel.clone();
        let made = self.rooms.scan_threads.run(Tenant::of_channel(channel.no()), move || make(&of, ask)).await;
        made.unwrap_or(Err(WebhookError::Unavailable))
    }
}

/// The format made ready.
///
/// # Errors
/// The template is missing, or cannot be used.
pub(super) fn form_of(format: Format, template: Option<&str>) -> Result<Form, WebhookError> {
    if let (Format::Template, Some(text)) = (format, template) {
        Template::compile(text).map_err(|e| invalid("template", e.to_string()))?;
    }
    let missing = || invalid("template", "is missing: the format template needs one");
    webhook::form_of(format, template).ok_or_else(missing)
}

fn make(channel: &Channel, ask: PreviewAsk) -> Result<Preview, WebhookError> {
    let PreviewAsk { format, template, event_type } = ask;
    let form = form_of(format, template.as_deref())?;
    let (family, name) = match channel.kind {
        ChannelKind::Map => (Family::Map, "maps"),
        ChannelKind::Organization => (Family::Organization, "organizations"),
    };
    let first = || match format {
        Format::Raw => REQUEST_TYPE.to_owned(),
        _ => catalogue::of_family(name).next().map_or("webhook.test", |info| info.name).to_owned(),
    };
    let name = event_type.unwrap_or_else(first);
    let kind = EventType::new(&name).map_err(|e| invalid("event_type", e.to_string()))?;
    let now_ms = clock::now_ms();
    let event = Event {
        id: EventId::at_time(u64::try_from(now_ms).unwrap_or(0)),
        channel: channel.no(),
        kind,
        ts_ms: now_ms,
        session: None,
        origin: Origin { by: Origin::SERVER.into(), validated: None, trace: None },
        payload: if format == Format::Raw { RawRequest::sample() } else { catalogue::sample(&name, 0) },
    };
    let frame = Arc::new(Frame::new(event, channel.owner()));
    let envelope = frame.json(webhook::envelope_of(format, channel.kind));
    let label = ChannelLabel { family, id: &channel.id, name: &channel.name };
    let subject = Subject { event: &frame.event, envelope: &envelope, channel: label };
    let rendered = form.render(&subject).map_err(|e| invalid("template", e.to_string()))?;
    let keys = Keys::new(Secret::from_random(clock::random()));
    let delivery = frame.event.id.to_string();
    let attempt = format::Attempt { delivery: &delivery, number: 1, at_ms: now_ms };
    let mut headers = vec![("Content-Type".to_owned(), rendered.content_type.to_owned())];
    let ours = format::headers(format, &rendered, &attempt, Some(&keys));
    headers.extend(ours.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(Preview { event_type: name, headers, body: String::from_utf8_lossy(&rendered.body).into_owned() })
}
