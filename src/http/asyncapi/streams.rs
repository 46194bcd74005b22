//! The streams: what opens them, and the frames that are no events.

use actors::model::envelope::Envelope;
use serde_json::{Map, Value, json};

use super::{ENVELOPES, Parts, message_name};
use crate::http::openapi::schemas::{count, flag, list, object, one_of, text, text_or_null, time};
use crate::http::openapi::{events, parameters};

/// A stream: its name, its address, and the envelope of its events.
const STREAMS: [(&str, &str, Envelope); 5] = [
    ("map", "/api/maps/{map}/events", Envelope::Map),
    ("organization", "/api/v1/organizations/{org}/events", Envelope::Gateway),
    ("feed", "/events", Envelope::Feed),
    ("source", "/api/webhooks/{source}/events", Envelope::Listener),
    ("realtime", "/api/v1/realtime", Envelope::Gateway),
];

pub fn add(parts: &mut Parts) {
    for envelope in ENVELOPES {
        add_frames(parts, envelope);
    }
    for (name, address, envelope) in STREAMS {
        let (sse, websocket) = match name {
            "realtime" => (format!("{address}/stream"), address.to_owned()),
            _ => (format!("{address}/stream"), format!("{address}/ws")),
        };
        add_stream(parts, name, &sse, envelope, false);
        add_stream(parts, name, &websocket, envelope, true);
    }
}

fn frame_name(envelope: Envelope, carrier: &str, frame: &str) -> String {
    message_name(envelope, &format!("{carrier}.{frame}"))
}

/// What the opening frame says beside what its carrier says.
fn greeting(envelope: Envelope) -> Value {
    let mut members = match envelope {
        Envelope::Map => json!({ "map_id": text_or_null("The id of the map; null where all channels are read.") }),
        Envelope::Gateway => {
            json!({ "organization": text_or_null("The id of the organization; null where all channels are read.") })
        }
        Envelope::Feed | Envelope::FeedWithChannel => json!({}),
        Envelope::Listener => json!({ "source": text_or_null("The id of the source.") }),
    };
    members["server_time"] = time("The clock of the server.");
    members["resumed"] = flag("Whether the stream goes on from a cursor.");
    members["unknown_events"] = list(text("A type that was asked for and that the catalogue does not know."));
    members
}

fn greeting_example(envelope: Envelope) -> Value {
    let mut example = match envelope {
        Envelope::Map => json!({ "map_id": "c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11" }),
        Envelope::Gateway => json!({ "organization": events::ORGANIZATION }),
        Envelope::Feed | Envelope::FeedWithChannel => json!({}),
        Envelope::Listener => json!({ "source": events::SOURCE }),
    };
    example["server_time"] = "2025-06-21T12:35:00.123Z".into();
    example["resumed"] = false.into();
    example["unknown_events"] = json!([]);
    example
}

fn moment() -> Value {
    json!({ "type": "integer", "description": "In Unix milliseconds." })
}

/// The frames that are no events.
fn add_frames(parts: &mut Parts, envelope: Envelope) {
    let shown = envelope.shown_id(events::EXAMPLE_ULID.parse().expect("a ULID"));
    let id = || events::id_in(envelope);
    let gap = || {
        json!({
            "requested": id(),
            "oldest": { "oneOf": [{ "type": "null" }, id()] },
            "reason": one_of(
                &["expired", "damaged", "ahead"],
                "`expired`: retention took events after the cursor. `damaged`: events are lost here because the disk damaged them. `ahead`: the cursor is newer than the log.",
            ),
        })
    };
    let gap_example = json!({ "requested": shown, "oldest": null, "reason": "ahead" });
    let mut add = |carrier: &str, frame: &str, summary: &str, members: Value, example: Value| {
        let message = json!({
            "name": frame, "title": frame, "summary": summary, "payload": object(members),
            "examples": [{ "name": frame, "payload": example }],
        });
        parts.messages.insert(frame_name(envelope, carrier, frame), message);
    };
    let first =
        "The first frame. `id:` is the cursor from which the stream goes on, `retry:` the time before a reconnect.";
    add("sse", "connected", first, greeting(envelope), greeting_example(envelope));
    let told = "Tells that events are missing, without an id: before the first event, or with `damaged` where they are missing.";
    add("sse", "gap", told, gap(), gap_example.clone());

    let with_event = |event: &str, members: Value| {
        let mut all = json!({ "event": { "const": event } });
        if let (Some(all), Value::Object(members)) = (all.as_object_mut(), members) {
            all.extend(members);
        }
        all
    };
    let example_with = |event: &str, example: Value| {
        let mut all = json!({ "event": event });
        if let (Some(all), Value::Object(example)) = (all.as_object_mut(), example) {
            all.extend(example);
        }
        all
    };
    let hello = json!({ "heartbeatSeconds": count("How often a ping comes."), "timestamp": moment() });
    let hello_example = json!({ "heartbeatSeconds": 20, "timestamp": 1_750_509_300_123_i64 });
    let (members, example) = match envelope {
        Envelope::Gateway => {
            let mut members = hello;
            members["unknown_events?"] = list(text("A type that was asked for and that the catalogue does not know."));
            (members, hello_example)
        }
        _ => (joined(hello, greeting(envelope)), joined(hello_example, greeting_example(envelope))),
    };
    add(
        "websocket",
        "connected",
        "The first frame.",
        with_event("connected", members),
        example_with("connected", example),
    );
    let ping = json!({ "timestamp": moment() });
    let ping_example = json!({ "timestamp": 1_750_509_300_123_i64 });
    add(
        "websocket",
        "ping",
        "Comes every 20 s, also during a replay.",
        with_event("ping", ping),
        example_with("ping", ping_example),
    );
    add("websocket", "gap", told, with_event("gap", gap()), example_with("gap", gap_example));
}

fn joined(one: Value, other: Value) -> Value {
    let fields = [one, other].into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    fields.flatten().collect::<Map<_, _>>().into()
}

fn add_stream(parts: &mut Parts, name: &str, address: &str, envelope: Envelope, by_websocket: bool) {
    let (carrier, server, title) = match by_websocket {
        true => ("websocket", "websocket", "WebSocket"),
        false => ("sse", "http", "Server-Sent Events"),
    };
    let description = match by_websocket {
        true => {
            "RFC 6455, one message per text frame; the client only listens. Close codes: 1001 the server stops or the channel was \
                 deleted, 1008 the client sent data, 4401 the token was revoked or has expired, 4408 the reader took nothing for too long, 4409 somebody who manages the channel has ended it."
        }
        false => {
            "WHATWG HTML 9.2. A message is the `data:` of a frame; `id:` is the id of the event, and `event:` its type where the stream \
                  names events. `: keepalive` comes after 30 s of silence (`: ping` on the feed)."
        }
    };
    let mut channel = json!({
        "address": address,
        "title": format!("{name}: {title}"),
        "description": description,
        "servers": [{ "$ref": format!("#/servers/{server}") }],
    });
    let named: Map<String, Value> = parameters::of_path(address)
        .iter()
        .filter_map(|parameter| {
            Some((parameter["name"].as_str()?.to_owned(), json!({ "description": parameter["description"] })))
        })
        .collect();
    if !named.is_empty() {
        channel["parameters"] = named.into();
    }
    if by_websocket {
        let several = matches!(name, "feed" | "realtime").then(parameters::channels);
        let query = several.into_iter().chain(parameters::filter()).chain(parameters::resume());
        let query = query.filter(|one| one["in"] == "query");
        let query: Map<String, Value> = query
            .filter_map(|one| {
                let mut schema = one["schema"].clone();
                schema["description"] = one["description"].clone();
                Some((one["name"].as_str()?.to_owned(), schema))
            })
            .collect();
        let query = json!({ "type": "object", "properties": query });
        channel["bindings"] = json!({ "ws": { "method": "GET", "query": query, "bindingVersion": "0.1.0" } });
    }
    let frames: &[&str] = if by_websocket { &["connected", "gap", "ping"] } else { &["connected", "gap"] };
    let mut messages: Vec<_> = frames.iter().map(|frame| frame_name(envelope, carrier, frame)).collect();
    messages.extend(Parts::events_of(envelope));
    parts.add_channel(&format!("{name}_{carrier}"), channel, &messages, &format!("Events of the stream, by {title}."));
}
