//! The document of what flows (AsyncAPI 3.0): the streams, and what webhooks post. Made from the catalogue of event types, from
//! the envelopes as they write themselves, and from the formats as they render and sign.
//!
//! - [`streams`]: channels of Server-Sent Events and WebSocket, with their frames
//! - [`deliveries`]: a channel per format of webhooks
//!
//! The file `docs/asyncapi.json` is the same document; a test holds them together.

mod deliveries;
mod streams;

use actors::model::catalogue;
use actors::model::envelope::Envelope;
use serde_json::{Map, Value, json};

use super::openapi::events;

/// The envelopes, in which each family's types are described.
const ENVELOPES: [Envelope; 4] = [Envelope::Map, Envelope::Gateway, Envelope::Feed, Envelope::Listener];

const INTRODUCTION: &str = "What a Stentor server sends: events on streams (Server-Sent Events and WebSocket), and deliveries of webhooks. \
    Requests are described in `/openapi.json`.\n\nAn event has the same bytes live, replayed, in the history and in a delivery. Its id \
    is a cursor: a stream resumes after it without a hole and without a duplicate. Events of types that are not listed here are sent \
    in the same envelopes.";

/// The document.
pub fn document() -> Value {
    let mut parts = Parts::default();
    for envelope in ENVELOPES {
        parts.schemas.insert(events::name(envelope).into(), events::schema(envelope));
        parts.add_events(envelope);
    }
    streams::add(&mut parts);
    deliveries::add(&mut parts);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stentor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": servers("http://127.0.0.1:8080"),
        "channels": parts.channels,
        "operations": parts.operations,
        "components": { "messages": parts.messages, "schemas": parts.schemas },
    })
}

/// Where the server is reached, from its address without a slash at the end.
pub fn servers(base_url: &str) -> Value {
    let (scheme, rest) = base_url.split_once("://").unwrap_or(("http", base_url));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let server = |protocol: &str, description: &str| {
        let protocol = if scheme == "https" { format!("{protocol}s") } else { protocol.to_owned() };
        let mut server = json!({ "host": host, "protocol": protocol, "description": description });
        if !path.is_empty() {
            server["pathname"] = path.into();
        }
        server
    };
    json!({ "http": server("http", "Server-Sent Events."), "websocket": server("ws", "WebSocket.") })
}

#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Parts {
    /// The messages of an envelope: one per type of its family, and one for all others.
    fn add_events(&mut self, envelope: Envelope) {
        let schema = format!("#/components/schemas/{}", events::name(envelope));
        for info in family(envelope).into_iter().flat_map(catalogue::of_family) {
            let payload = payload_schema(info.schema.get());
            let kind = kind_member(envelope);
            let narrowed =
                json!({ "type": "object", "properties": { kind: { "const": info.name }, "payload": payload } });
            let example = events::example_of(envelope, info.name);
            self.messages.insert(
                message_name(envelope, info.name),
                json!({
                    "name": info.name,
                    "title": info.name,
                    "summary": info.description,
                    "payload": { "allOf": [{ "$ref": schema }, narrowed] },
                    "examples": [{ "name": "event", "payload": example }],
                }),
            );
        }
        let other = json!({
            "name": "event",
            "title": "An event of any type",
            "summary": "In the same envelope as those of known types.",
            "payload": { "$ref": schema },
            "examples": [{ "name": "event", "payload": events::example(envelope) }],
        });
        self.messages.insert(message_name(envelope, "event"), other);
    }

    /// The names of the messages of an envelope.
    fn events_of(envelope: Envelope) -> Vec<String> {
        let known = family(envelope).into_iter().flat_map(catalogue::of_family);
        known.map(|info| info.name).chain(["event"]).map(|name| message_name(envelope, name)).collect()
    }

    /// A channel on which the server sends these messages.
    fn add_channel(&mut self, name: &str, mut channel: Value, messages: &[String], operation: &str) {
        let references =
            messages.iter().map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })));
        channel["messages"] = references.collect::<Map<_, _>>().into();
        self.channels.insert(name.into(), channel);
        let sent = messages.iter().map(|message| json!({ "$ref": format!("#/channels/{name}/messages/{message}") }));
        let operation = json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{name}") },
            "summary": operation,
            "messages": sent.collect::<Vec<_>>(),
        });
        self.operations.insert(format!("send_{name}"), operation);
    }
}

/// The families of types that are described in an envelope.
fn family(envelope: Envelope) -> Vec<&'static str> {
    match envelope {
        Envelope::Map => vec!["maps"],
        Envelope::Gateway => vec!["organizations", "system"],
        Envelope::Feed | Envelope::FeedWithChannel => vec!["feed"],
        // senders choose their types
        Envelope::Listener => Vec::new(),
    }
}

/// The member that holds the type.
fn kind_member(envelope: Envelope) -> &'static str {
    match envelope {
        Envelope::Map => "type",
        Envelope::Gateway => "event",
        Envelope::Feed | Envelope::FeedWithChannel => "event_type",
        Envelope::Listener => "eventType",
    }
}

/// `map.map_kill`; names of components hold no other characters than these.
fn message_name(envelope: Envelope, kind: &str) -> String {
    let family = match envelope {
        Envelope::Map => "map",
        Envelope::Gateway => "gateway",
        Envelope::Feed | Envelope::FeedWithChannel => "feed",
        Envelope::Listener => "listener",
    };
    format!("{family}.{kind}")
}

/// The schema of a payload as a part of this document.
fn payload_schema(text: &str) -> Value {
    // the catalogue holds JSON
    let mut schema: Value = serde_json::from_str(text).expect("JSON");
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
    }
    schema
}

#[cfg(test)]
mod tests;
