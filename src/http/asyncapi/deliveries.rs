//! Deliveries of webhooks: a channel per format, with the body as the format renders it and the headers as it signs.

use actors::feed::frame::Frame;
use actors::model::channel::{ChannelKind, Owner};
use actors::model::envelope::Envelope;
use actors::model::format::{self, Attempt, ChannelLabel, Family, Form, Format, Headers, Rendered, Subject, Template};
use actors::model::signature::{Keys, Secret};
use actors::model::source::raw::RawRequest;
use serde_json::{Map, Value, json};

use super::Parts;
use crate::http::openapi::events;
use crate::http::openapi::schemas::object;

/// What is said of a format.
fn says(format: Format) -> &'static str {
    match format {
        Format::Map => "The envelope of maps, signed over `<timestamp>.<body>` with SHA-256.",
        Format::Gateway => "The envelope of organizations, signed over the body with SHA-512.",
        Format::Feed => "The envelope of the feed, signed over the body with SHA-256.",
        Format::Standard => "The envelope of the channel's family, with the headers of Standard Webhooks.",
        Format::CloudEvents => "CloudEvents 1.0, structured JSON.",
        Format::Discord => "A message for an incoming webhook of Discord.",
        Format::Slack => "A message for an incoming webhook of Slack.",
        Format::Template => "JSON that the template of the webhook makes.",
        Format::CloudEventsBinary => {
            "CloudEvents 1.0 in binary mode: the payload, and everything else in `ce-` headers."
        }
        Format::Raw => "A request that a source in raw mode kept, as it came: method, path, query, headers and bytes.",
    }
}

/// The envelope that goes with a format.
fn envelope(format: Format) -> Envelope {
    match format {
        Format::Gateway => Envelope::Gateway,
        Format::Feed => Envelope::Feed,
        _ => Envelope::Map,
    }
}

fn form(format: Format) -> Form {
    Form::without_template(format).unwrap_or_else(|| {
        // a template of ours, which compiles
        Form::Template(Template::compile("{\"text\": {{ event.type | tojson }}}").expect("a good template"))
    })
}

/// What a webhook of the format would send for a sample.
fn sample(format: Format) -> (Rendered, Headers) {
    let envelope = envelope(format);
    let mut event = events::sample(envelope, events::sample_kind(envelope));
    if format == Format::Raw {
        event.payload = RawRequest::sample();
    }
    let kind = if envelope == Envelope::Map { ChannelKind::Map } else { ChannelKind::Organization };
    let id = if kind == ChannelKind::Map { events::MAP } else { events::ORGANIZATION };
    let at_ms = event.ts_ms;
    let frame = Frame::new(event, Owner { kind, id: id.into() });
    let json = frame.json(envelope);
    let channel = ChannelLabel { family: Family::of(kind), id, name: "Home" };
    let subject = Subject { event: &frame.event, envelope: &json, channel };
    // only a template can fail, and ours does not
    let rendered = form(format).render(&subject).expect("a body");
    let attempt = Attempt { delivery: "dlv_01JY9X2C7B4N8Q0R2S5T6V7W8X", number: 1, at_ms };
    let keys = Keys::new(Secret::from_random([7; 32]));
    let headers = format::headers(format, &rendered, &attempt, Some(&keys));
    (rendered, headers)
}

fn payload(format: Format) -> Value {
    match format {
        Format::Map | Format::Gateway | Format::Feed => {
            json!({ "$ref": format!("#/components/schemas/{}", events::name(envelope(format))) })
        }
        Format::Standard => {
            let of = |envelope| json!({ "$ref": format!("#/components/schemas/{}", events::name(envelope)) });
            json!({ "oneOf": [of(Envelope::Map), of(Envelope::Gateway)] })
        }
        Format::CloudEvents => json!({
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "data"],
            "properties": {
                "specversion": { "const": "1.0" }, "id": { "type": "string" }, "source": { "type": "string" }, "type": { "type": "string" },
                "time": { "type": "string", "format": "date-time" }, "datacontenttype": { "type": "string" }, "data": { "type": "object" },
            },
        }),
        Format::Discord | Format::Slack => json!({ "type": "object", "description": "As the service takes it." }),
        Format::CloudEventsBinary => json!({ "type": "object", "description": "The payload of the event." }),
        Format::Raw => json!({ "description": "The body of the request, byte for byte." }),
        Format::Template => json!({ "description": "Whatever the template makes." }),
    }
}

pub fn add(parts: &mut Parts) {
    for format in Format::ALL {
        let name = format.as_str();
        let (rendered, headers) = sample(format);
        let body: Value = serde_json::from_slice(&rendered.body).expect("bodies are JSON");
        let mut members = Map::new();
        let mut example = Map::new();
        for (header, value) in &headers {
            members.insert((*header).to_owned(), json!({ "type": "string" }));
            example.insert((*header).to_owned(), value.as_str().into());
        }
        let mut schema = object(members.into());
        // a webhook without a secret signs nothing, one whose secret was rotated signs twice, and owners add their own
        schema["additionalProperties"] = json!({ "type": "string" });
        if let Some(members) = schema.as_object_mut() {
            members.remove("required");
        }
        let message = json!({
            "name": name,
            "title": format!("A delivery in the format {name}"),
            "summary": says(format),
            "contentType": rendered.content_type,
            "headers": schema,
            "payload": payload(format),
            "examples": [{ "name": name, "headers": example, "payload": body }],
        });
        let message_name = format!("delivery.{name}");
        parts.messages.insert(message_name.clone(), message);
        let channel = json!({
            "address": null,
            "title": format!("Webhooks of the format {name}"),
            "description": format!(
                "{} Posted to the URL of the webhook, at least once. With `batch`, formats that carry envelopes post \
                 `{{\"events\": [...]}}`. Deliveries of a webhook without a secret have no signature headers.",
                says(format)
            ),
        });
        parts.add_channel(&format!("webhook_{name}"), channel, &[message_name], "An event, posted to a receiver.");
    }
}
