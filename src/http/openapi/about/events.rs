//! Events by request: publish, history, stats, the catalogue, the trace.

use actors::model::access::Scope;
use serde_json::json;

use super::super::schemas::{data, list, object, text};
use super::super::{Access, Operation, Place, events, parameters};
use crate::http::events as handlers;
use crate::http::problem::Code;
use crate::http::trace;

const TAG: &str = "Events";

pub fn publish(place: &Place<'_>) -> Operation {
    let example = json!({ "type": "map_kill", "payload": { "value": 250000000 } });
    let ids = [place.family.envelope().shown_id(events::EXAMPLE_ULID.parse().expect("a ULID"))];
    let lines = json!({
        "schema": text("One event a line, each as in JSON."),
        "example": "{\"type\":\"map_kill\"}\n{\"type\":\"add_system\",\"payload\":{\"name\":\"J123456\"}}\n",
    });
    let key = json!({
        "name": "Idempotency-Key", "in": "header",
        "description": "Within 24 h a request with the same key is answered like the first, with `Idempotency-Replayed: true`.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]([\\x20-\\x7e]*[\\x21-\\x7e])?$" },
    });
    let replayed = json!({ "const": "true" });
    Operation::new(TAG, "Publish events", Access::Scope(Scope::Publish))
        .says("One event, a list of them, or lines. A batch is atomic. The answer comes when all of them are durable.")
        .says("CloudEvents are taken too: structured, batched, and in binary mode, with attributes in headers that begin with `ce-` and any body.")
        .takes([key])
        .body(events::drafts(place), example)
        .with_body(true, "application/x-ndjson", lines)
        .with_body(true, "application/cloudevents+json", json!({ "schema": events::cloud_event(), "example": events::cloud_event_example() }))
        .with_body(true, "application/cloudevents-batch+json", json!({
            "schema": list(events::cloud_event()), "example": [events::cloud_event_example()],
        }))
        .answers(201, "The events are durable.", events::published(place), json!({ "data": { "ids": ids } }))
        .answer_header(201, "Idempotency-Replayed", "The answer to an earlier request with the same key.", replayed)
        .fails(&[Code::BadRequest])
}

pub fn history(place: &Place<'_>) -> Operation {
    let envelope = place.family.envelope();
    let mut page = json!({ "data": [events::example(envelope)], "next": null });
    if place.family.nests_errors() {
        page["nextCursor"] = json!(null);
    }
    let lines = json!({
        "schema": text("With `Accept: application/x-ndjson`: everything, one event a line."),
        "example": format!("{}\n", events::example(envelope)),
    });
    Operation::new(TAG, "Read events back", Access::Scope(Scope::Subscribe))
        .takes(parameters::page_of_events())
        .takes(parameters::filter())
        .takes(parameters::with_channel(place.family))
        .answers(200, "A page, or all of it as lines.", events::page(place), page)
        .answers_as(200, "", "application/x-ndjson", lines)
        .fails(&[Code::InvalidFilter, Code::InvalidCursor, Code::ScanLimit, Code::Unavailable, Code::Stopping])
}

pub fn stats(place: &Place<'_>) -> Operation {
    let length = |name: &str, description: &str, default: &str| {
        let schema = json!({ "type": "string", "pattern": "^[0-9]+[smhd]$", "default": default });
        parameters::optional(name, description, schema)
    };
    let example = json!({ "data": {
        "since": "2025-06-21T12:00:00.000Z", "until": "2025-06-21T13:00:00.000Z", "bucket_seconds": 3600, "total": 2,
        "types": { "map_kill": 2 },
        "types_total": 1,
        "buckets": [{ "start": "2025-06-21T12:00:00.000Z", "total": 2, "types": { "map_kill": 2 } }],
    } });
    Operation::new(TAG, "Count events", Access::Scope(Scope::Subscribe))
        .says("By type and time of appending.")
        .takes([
            length("window", "How far back; at most `366d`.", "24h"),
            length("bucket", "Length of a bucket; at most 1,000 of them.", "1h"),
        ])
        .takes(parameters::filter())
        .answers(200, "The counts.", data(place.answer::<handlers::StatsView>()), example)
        .fails(&[Code::InvalidFilter, Code::TooExpensive, Code::ScanLimit, Code::Unavailable, Code::Stopping])
}

pub fn event_types(_: &Place<'_>) -> Operation {
    let families = json!({ "type": "string", "enum": actors::model::catalogue::families() });
    let one = object(json!({
        "type": text("The type."),
        "family": text("The family."),
        "description": text("What it says."),
        "example": { "type": "object", "description": "A payload." },
        "schema": { "type": "object", "description": "The JSON Schema (2020-12) of the payload." },
    }));
    let example = json!({ "data": [{
        "type": "rally_point_removed", "family": "maps", "description": "A rally point was removed.",
        "example": { "solar_system_id": 31000005 }, "schema": { "type": "object" },
    }] });
    Operation::new(TAG, "The catalogue of event types", Access::Anyone)
        .says("It documents: events of other types are welcome.")
        .takes([parameters::optional("family", "Only the types of this family.", families)])
        .answers(200, "The types.", object(json!({ "data": list(one) })), example)
}

pub fn traced(place: &Place<'_>) -> Operation {
    let example = json!({ "data": {
        "id": "evt_01JY9X2C7B4N8Q0R2S5T6V7W8X", "type": "map_kill", "channel": "map:c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11", "session": null,
        "origin": { "kind": "token", "by": "tok_01JY9WXVB0000000000000T0KN", "name": "the game server" }, "validated": null,
        "timestamp": "2025-06-21T12:35:00.123Z", "appendedAt": "2025-06-21T12:35:00.130Z", "durableAt": "2025-06-21T12:35:00.134Z",
        "sessions": 12,
        "webhooks": [{
            "id": "0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11", "name": "Kill board", "url": "https://example.org/hook", "format": "map", "health": "healthy",
            "status": "delivered",
            "deliveries": [{
                "id": "dlv_01JY9X2C7B4N8Q0R2S5T6V7W8X", "status": "delivered", "attemptCount": 1, "nextAttemptAt": null,
                "attempts": [{
                    "number": 1, "trigger": "first", "startedAt": "2025-06-21T12:35:00.135Z", "durationMs": 23, "statusCode": 200,
                    "errorCode": null, "error": null,
                }],
            }],
        }],
    } });
    Operation::new(TAG, "Trace an event", Access::Caller)
        .says("Where it came from, when it became durable, to how many streams it was handed, and how it fared at each webhook of its channel.")
        .says("For those with the scope `subscribe` or `manage` on its channel; `url` and `error` only with `manage`.")
        .answers(200, "What is known of the event.", data(place.answer::<trace::TraceView>()), example)
        .fails(&[Code::NotFound])
}
