//! Events in the document: each envelope as it leaves, with an example that the envelope itself wrote, and the forms in which
//! an event may be published.

use actors::model::catalogue;
use actors::model::channel::{ChannelKind, Owner};
use actors::model::envelope::Envelope;
use actors::model::event::{ChannelNo, Event, EventType, Origin, SESSION_BYTES_MAX};
use serde_json::{Value, json};

use super::Place;
use super::schemas::{count, object, text, text_or_null, time};

/// A moment, a map, an organization and a source for examples.
const MOMENT_MS: i64 = 1_750_509_300_123;
pub const MAP: &str = "c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11";
pub const ORGANIZATION: &str = "org_01JY9WXVB0000000000000ACME";
pub const SOURCE: &str = "wh_01JY9WXVB0000000000000HOOK";
pub const EXAMPLE_ULID: &str = "01JY9X2C7B4N8Q0R2S5T6V7W8X";

fn kind() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$", "description": "What happened." })
}

fn payload() -> Value {
    json!({ "type": "object", "description": "What the publisher said about it. `/api/event-types` has the schemas of known types." })
}

fn bare_id() -> Value {
    json!({ "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "description": "A ULID: the order of ids is that of the log." })
}

pub fn id() -> Value {
    json!({ "type": "string", "pattern": "^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$", "description": "`evt_` and a ULID: the order of ids is that of the log." })
}

/// An event as CloudEvents 1.0 writes it in JSON, with extension attributes beside those that are named.
pub fn cloud_event() -> Value {
    json!({
        "type": "object",
        "title": "CloudEvent",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string", "minLength": 1, "description": "With `source`: the same event is stored once within 24 h." },
            "source": { "type": "string", "minLength": 1 },
            "type": kind(),
            "time": time("When it happened; left out, now."),
            "data": { "description": "The payload; what is no object becomes `{\"data\": ...}`." },
        },
        "additionalProperties": true,
    })
}

pub fn cloud_event_example() -> Value {
    json!({ "specversion": "1.0", "id": "A234-1234", "source": "/shop", "type": "shop.order", "data": { "total": 12 } })
}

/// The id of an event as the clients of an envelope read it.
pub fn id_in(envelope: Envelope) -> Value {
    if envelope == Envelope::Map { bare_id() } else { id() }
}

fn unix_ms() -> Value {
    json!({ "type": "integer", "description": "When it happened, in Unix milliseconds." })
}

/// The name of an envelope's schema.
pub fn name(envelope: Envelope) -> &'static str {
    match envelope {
        Envelope::Map => "MapEvent",
        Envelope::Gateway => "GatewayEvent",
        Envelope::Feed | Envelope::FeedWithChannel => "FeedEvent",
        Envelope::Listener => "ListenerEvent",
    }
}

/// The schema of an envelope.
pub fn schema(envelope: Envelope) -> Value {
    match envelope {
        Envelope::Map => object(json!({
            "id": bare_id(),
            "type": kind(),
            "map_id": text("The id of the map; of an organization's event, that of the organization."),
            "ts": time("When it happened."),
            "timestamp": time("The same."),
            "payload": payload(),
        })),
        Envelope::Gateway => object(json!({
            "schema": { "const": "v1" },
            "id": id(),
            "event": kind(),
            "session": text_or_null("The session that the publisher named."),
            "organization": text("The id of the organization; of a map's event, that of the map."),
            "timestamp": unix_ms(),
            "payload": payload(),
        })),
        Envelope::Feed | Envelope::FeedWithChannel => object(json!({
            "event_id": id(),
            "event_type": kind(),
            "timestamp": unix_ms(),
            "channel?": text("`map:<id>` or `organization:<id>`. Only with `with_channel=true`."),
            "payload": payload(),
        })),
        Envelope::Listener => object(json!({
            "id": id(),
            "timestamp": time("When it happened."),
            "source": text("The id of the source that took it in."),
            "eventType": kind(),
            "payload": payload(),
            "validated": { "type": "boolean", "description": "What the schema of the source said." },
        })),
    }
}

/// A type that goes with an envelope.
pub fn sample_kind(envelope: Envelope) -> &'static str {
    match envelope {
        Envelope::Map => "map_kill",
        Envelope::Gateway => "message",
        Envelope::Feed | Envelope::FeedWithChannel => "entries_created",
        Envelope::Listener => "player_joined",
    }
}

/// An event for examples.
pub fn sample(envelope: Envelope, kind: &str) -> Event {
    Event {
        id: EXAMPLE_ULID.parse().expect("a ULID"),
        channel: ChannelNo(1),
        // both the catalogue and the code name types only
        kind: EventType::new(kind).expect("a type"),
        ts_ms: MOMENT_MS,
        session: (envelope == Envelope::Gateway).then(|| "sess_support".into()),
        origin: Origin { by: format!("{}{SOURCE}", Origin::SOURCE).into(), validated: Some(true), trace: None },
        payload: catalogue::sample(kind, 0),
    }
}

/// An event of this type as the envelope writes it.
pub fn example_of(envelope: Envelope, kind: &str) -> Value {
    let owner = match envelope {
        Envelope::Map => Owner { kind: ChannelKind::Map, id: MAP.into() },
        _ => Owner { kind: ChannelKind::Organization, id: ORGANIZATION.into() },
    };
    let mut out = Vec::new();
    envelope.write(&sample(envelope, kind), &owner, &mut out);
    // envelopes are JSON
    serde_json::from_slice(&out).expect("JSON")
}

pub fn example(envelope: Envelope) -> Value {
    example_of(envelope, sample_kind(envelope))
}

/// The schema of an envelope, by name.
pub fn envelope(place: &Place<'_>, envelope: Envelope) -> Value {
    place.named(name(envelope), |_| schema(envelope))
}

/// One event as a publisher may write it.
pub fn draft(place: &Place<'_>) -> Value {
    place.named("NewEvent", |_| {
        let moment = json!({
            "type": ["string", "integer", "null"],
            "description": "When it happened: ISO-8601 with offset, or Unix milliseconds. Absent: now.",
        });
        let kind = || json!({ "type": ["string", "null"], "pattern": "^[A-Za-z0-9_.:-]{1,64}$", "description": "What happened." });
        let payload = || json!({ "type": ["object", "null"], "description": "Absent: `{}`." });
        let passed_over = || json!({ "description": "Part of envelopes; passed over, so that an event can be sent as it was received." });
        let session = json!({ "type": ["string", "null"], "maxLength": SESSION_BYTES_MAX, "description": "A name that publishers choose." });
        let mut one = object(json!({
            "type?": kind(), "event?": kind(), "event_type?": kind(),
            "payload?": payload(), "properties?": payload(),
            "ts?": moment, "timestamp?": moment,
            "session?": session,
            "user_id?": { "type": ["string", "integer", "null"], "description": "Put into the payload, unless it has one." },
            "dedupe_id?": {
                "type": ["string", "null"], "maxLength": 256,
                "description": "An event with the same one within 24 h is not stored again and gets the first id.",
            },
            "id?": passed_over(), "event_id?": passed_over(), "map_id?": passed_over(), "schema?": passed_over(),
            "organization?": passed_over(), "source?": passed_over(), "validated?": passed_over(),
        }));
        let named = |name: &str| json!({ "required": [name], "properties": { name: { "type": "string" } } });
        one["anyOf"] = json!(["type", "event", "event_type"].map(named));
        one["description"] = "An event; the names of its fields are those of any family.".into();
        one
    })
}

/// What may be published in one request.
pub fn drafts(place: &Place<'_>) -> Value {
    let (one, many) = (draft(place), draft(place));
    let list = json!({ "type": "array", "items": many, "minItems": 1, "maxItems": 1000 });
    json!({ "oneOf": [one, object(json!({ "events": list })), list] })
}

/// The answer to a publisher.
pub fn published(place: &Place<'_>) -> Value {
    let ids =
        json!({ "type": "array", "items": id_in(place.family.envelope()), "description": "One per event, in order." });
    super::schemas::data(object(json!({ "ids": ids })))
}

/// A page of history.
pub fn page(place: &Place<'_>) -> Value {
    let envelope = place.family.envelope();
    let next = json!({ "oneOf": [{ "type": "null" }, id_in(envelope)], "description": "The cursor of the next page, if there is one." });
    let mut page = json!({ "data": super::schemas::list(self::envelope(place, envelope)), "next": next });
    if place.family.nests_errors() {
        page["nextCursor"] = next;
    }
    object(page)
}

/// Counts by type.
pub fn counts() -> Value {
    json!({ "type": "object", "additionalProperties": count("Events.") })
}
