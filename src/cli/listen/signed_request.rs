//! From an envelope as it came over the stream to what a webhook would post.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::web::Bytes;
use actors::delivery::http::client::Headers;
use actors::feed::frame::Frame;
use actors::model::channel::{ChannelKind, Owner};
use actors::model::delivery::DeliveryId;
use actors::model::envelope::Envelope as Shape;
use actors::model::event::{ChannelNo, Event, EventType, Origin};
use actors::model::format::{self, ChannelLabel, Family, Form, Format, Subject};
use actors::model::id::EventId;
use actors::model::json::Canonical;
use actors::model::signature::Keys;
use actors::model::source::raw::RawRequest;

use crate::cli::Failure;
use crate::cli::channel::Channel;
use crate::cli::envelope::Envelope;
use crate::cli::follow::Way;
use crate::cli::remote::{Remote, Request};

/// What stands for the id of a webhook in the ids of deliveries.
const WEBHOOK: &str = "listen";

/// The stream whose envelopes the format sends, or is made of.
pub fn way(channel: &Channel, format: Format) -> Way {
    let named = |path: &str| Way {
        path: path.to_owned(),
        query: match channel {
            Channel::Feed => Vec::new(),
            channel => vec![("channel", channel.to_string())],
        },
        name: channel.to_string(),
    };
    match (format, channel) {
        (Format::Feed, _) => named("/events/stream"),
        (Format::Map | Format::Standard, _) | (_, Channel::Organization(_)) => Way::own(channel),
        // the envelope of organizations is the one that says everything about an event, its session too
        _ => named("/api/v1/realtime/stream"),
    }
}

/// What is posted.
pub struct SignedRequest {
    pub id: EventId,
    pub kind: String,
    pub body: Bytes,
    pub headers: Headers,
    /// The request that goes on as it came.
    pub request: Option<Box<RawRequest>>,
}

/// Makes signed_requests of one format for one channel.
pub struct SignedRequests {
    form: Form,
    keys: Keys,
    family: Family,
    /// Of the channel; without them for the feed, whose formats do not name it.
    owner: Option<Owner>,
    name: String,
    /// Whether requests that a source kept as they came go on as they came, whatever the form.
    sends_on: bool,
}

impl SignedRequests {
    /// Asks the server for the id and the name of the channel.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn new(remote: &Remote, channel: &Channel, form: Form, keys: Keys) -> Result<SignedRequests, Failure> {
        let (family, kind) = match channel {
            Channel::Map(_) => (Family::Map, ChannelKind::Map),
            Channel::Organization(_) | Channel::Feed => (Family::Organization, ChannelKind::Organization),
        };
        let Some(path) = channel.resource() else {
            return Ok(SignedRequests { form, keys, family, owner: None, name: String::new(), sends_on: false });
        };
        let answer = match remote.json(&Request::get(&path)).await {
            Ok(answer) => answer,
            Err(trouble) => return Err(remote.explain(&trouble, channel, "subscribe").await),
        };
        let text = |name: &str| answer["data"][name].as_str().unwrap_or_default();
        let owner = Owner { kind, id: text("id").into() };
        Ok(SignedRequests { form, keys, family, owner: Some(owner), name: text("name").to_owned(), sends_on: false })
    }

    /// The same, with requests that a source kept as they came going on as they came, if `sends_on`.
    pub fn sending_on(self, sends_on: bool) -> SignedRequests {
        SignedRequests { sends_on, ..self }
    }

    /// The body and the headers of the first attempt to deliver an event; none where the format does not send it.
    ///
    /// # Errors
    /// A sentence: the envelope cannot be read, or the template makes no JSON of this event.
    pub fn pack(&self, json: &str, at_ms: i64) -> Result<Option<SignedRequest>, String> {
        let event = event(json)?;
        let is_request = RawRequest::is_one(event.payload.as_str());
        let form = if self.sends_on && is_request { &Form::Raw } else { &self.form };
        if form.format() == Format::Raw && !is_request {
            return Ok(None);
        }
        let (id, kind) = (event.id, event.kind.to_string());
        let envelope = self.envelope(json, &event);
        let channel = ChannelLabel {
            family: self.family,
            id: self.owner.as_ref().map_or("", |owner| &*owner.id),
            name: &self.name,
        };
        let rendered = form.render(&Subject { event: &event, envelope: &envelope, channel });
        let rendered = rendered.map_err(|e| e.to_string())?;
        let delivery = DeliveryId::of(WEBHOOK, &[id]).to_string();
        let attempt = format::Attempt { delivery: &delivery, number: 1, at_ms };
        let mut headers: Headers = match &rendered.request {
            None => vec![(Cow::Borrowed("Content-Type"), rendered.content_type.to_owned())],
            Some(request) => {
                let own = request.forwarded_headers();
                own.map(|(name, value)| (Cow::Owned(name.clone()), value.clone())).collect()
            }
        };
        let ours = format::headers(form.format(), &rendered, &attempt, Some(&self.keys));
        headers.extend(ours.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)));
        Ok(Some(SignedRequest { id, kind, body: rendered.body, headers, request: rendered.request }))
    }

    /// The envelope that the format sends: as it came, or written from an event that came in another one.
    fn envelope(&self, json: &str, event: &Event) -> Bytes {
        match (self.form.format(), &self.owner) {
            (
                Format::CloudEvents | Format::CloudEventsBinary | Format::Discord | Format::Slack | Format::Template,
                Some(owner),
            ) => Frame::new(event.clone(), owner.clone()).json(Shape::of(owner.kind)),
            _ => Bytes::copy_from_slice(json.as_bytes()),
        }
    }
}

/// The event that an envelope is about, as far as the envelope tells.
fn event(json: &str) -> Result<Event, String> {
    let envelope = Envelope::read(json)?;
    Ok(Event {
        id: envelope.id,
        // its number on the server, which nothing that is sent shows
        channel: ChannelNo(0),
        kind: EventType::new(&envelope.kind).map_err(|e| e.to_string())?,
        ts_ms: envelope.ts_ms,
        session: envelope.session.map(Into::into),
        origin: Origin { by: Arc::from(""), validated: None, trace: None },
        payload: Canonical::parse(envelope.payload).map_err(|e| e.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    use actors::model::signature::Secret;

    use super::*;

    const GATEWAY: &str = r#"{"schema":"v1","id":"evt_01J0YYYYYYYYYYYYYYYYYYYYYY","event":"map_kill","session":null,"organization":"m-1","timestamp":1750509296789,"payload":{"value":1.5}}"#;
    const MAP: &str = r#"{"id":"01J0YYYYYYYYYYYYYYYYYYYYYY","type":"map_kill","map_id":"m-1","ts":"2025-06-21T12:34:56.789Z","timestamp":"2025-06-21T12:34:56.789Z","payload":{"value":1.5}}"#;

    fn signed_requests(form: Form) -> SignedRequests {
        let keys = Keys::new(Secret::from_text("secret").expect("a text"));
        let owner = Owner { kind: ChannelKind::Map, id: "m-1".into() };
        SignedRequests { form, keys, family: Family::Map, owner: Some(owner), name: "Home".into(), sends_on: false }
    }

    #[test]
    fn the_envelope_of_a_map_is_sent_as_it_came_and_written_the_same_from_another_one() {
        let signed_request =
            signed_requests(Form::Map).pack(MAP, 1_750_509_300_000).expect("an envelope").expect("a post");
        assert_eq!(signed_request.body, MAP);
        let other = signed_requests(Form::CloudEvents);
        let written = other.envelope(GATEWAY, &event(GATEWAY).expect("an envelope"));
        assert_eq!(written, MAP, "the same bytes as the server's own");
        assert!(signed_requests(Form::Map).pack("{}", 0).is_err());
    }

    #[test]
    fn each_format_follows_the_stream_that_has_its_envelopes() {
        let path = |channel: &str, format| {
            let way = way(&channel.parse().expect("a channel"), format);
            let query: Vec<_> = way.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}?{}", way.path, query.join("&"))
        };
        assert_eq!(path("map:m", Format::Map), "/api/maps/m/events/stream?");
        assert_eq!(path("map:m", Format::Standard), "/api/maps/m/events/stream?");
        assert_eq!(path("map:m", Format::Gateway), "/api/v1/realtime/stream?channel=map:m");
        assert_eq!(path("map:m", Format::Discord), "/api/v1/realtime/stream?channel=map:m");
        assert_eq!(path("map:m", Format::Feed), "/events/stream?channel=map:m");
        assert_eq!(path("organization:o", Format::Gateway), "/api/v1/organizations/o/events/stream?");
        assert_eq!(path("organization:o", Format::Feed), "/events/stream?channel=organization:o");
        assert_eq!(path("feed", Format::Feed), "/events/stream?");
        assert_eq!(path("feed", Format::Standard), "/events/stream?");
        assert_eq!(path("feed", Format::Gateway), "/api/v1/realtime/stream?");
    }
}
