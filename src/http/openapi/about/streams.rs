//! Streams, and the tickets that open them. What flows in them is described in the AsyncAPI document.

use actors::model::access::Scope;
use serde_json::{Value, json};

use super::super::schemas::{count, data, list, object, text};
use super::super::{Access, Operation, Place, parameters};
use crate::http::family::ApiFamily;
use crate::http::problem::Code;
use crate::http::{connections, realtime, streams};

const TAG: &str = "Streams";

/// What the members of a ticket are also called.
const ALIASES: [(&str, &str); 3] =
    [("path_prefix", "pathPrefix"), ("session", "sessionId"), ("last_event_id", "lastEventId")];

/// The error of a channel that has too many readers.
fn full(place: &Place<'_>) -> Code {
    match place.family {
        ApiFamily::Maps => Code::MapConnectionLimit,
        _ => Code::ChannelConnectionLimit,
    }
}

pub fn sse(place: &Place<'_>) -> Operation {
    let names = json!({ "type": "boolean" });
    let names = parameters::optional("event_names", "Whether frames carry an `event:` line with the type.", names);
    let frame = json!({
        "schema": text("Frames of `id:`, `data:` and perhaps `event:`. The first is `event: connected`."),
        "example": "event: connected\nid: 01JY9X2C7B4N8Q0R2S5T6V7W8X\nretry: 3000\ndata: {\"resumed\":false}\n\n",
    });
    Operation::new(TAG, "Stream events by Server-Sent Events", Access::Stream)
        .says("WHATWG HTML 9.2. Goes on without an end; after a break resume by the last id.")
        .takes(parameters::filter())
        .takes(parameters::resume())
        .takes(parameters::with_channel(place.family))
        .takes([names])
        .answers_as(200, "The stream.", "text/event-stream", frame)
        .fails(&[full(place)])
}

pub fn websocket(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "Stream events by WebSocket", Access::Stream)
        .says("RFC 6455; one envelope per text message. The client only listens.")
        .takes(parameters::filter())
        .takes(parameters::resume())
        .takes(parameters::with_channel(place.family))
        .answers_nothing(101, "The stream begins.")
        .fails(&[full(place), Code::OriginForbidden, Code::UpgradeRequired])
}

fn url() -> Value {
    text("Where to use it.")
}

pub fn ticket(place: &Place<'_>) -> Operation {
    let (expires, stream) = match place.family {
        ApiFamily::Organizations => ("expiresInSeconds", "/api/v1/organizations/default/events/stream"),
        ApiFamily::Maps => ("expires_in_seconds", "/api/maps/home/events/stream"),
        ApiFamily::Sources => ("expires_in_seconds", "/api/webhooks/wh_01JY9WXVB0000000000000HOOK/events"),
        _ => ("expires_in_seconds", "/events/stream"),
    };
    let ticket = "rt_5mHGXb1yQ0O5r8Jc6dV7u2t3s4r5q6p7";
    let shown = json!({
        "ticket": ticket, expires: 30, "url": format!("https://events.example.org{stream}?ticket={ticket}"),
    });
    let mut members = json!({ "ticket": text("The ticket.") });
    members[expires] = count("How long it is good.");
    members["url"] = url();
    Operation::new(TAG, "Mint a ticket", Access::Scope(Scope::Subscribe))
        .says("It opens one stream, as `?ticket=`, bound to the filter and cursor given here.")
        .optional_body(place.body_with_aliases::<streams::TicketRequest>(&ALIASES), json!({ "events": ["map_kill"] }))
        .answers(201, "The ticket.", data(object(members)), json!({ "data": shown }))
        .fails(&[Code::InvalidFilter, Code::InvalidCursor, Code::TicketLimit, Code::Unavailable])
        .stores_nothing()
}

pub fn realtime_ticket(place: &Place<'_>) -> Operation {
    let ticket = "rt_5mHGXb1yQ0O5r8Jc6dV7u2t3s4r5q6p7";
    let shown = json!({
        "ticket": ticket, "expiresInSeconds": 30, "url": format!("wss://events.example.org/api/v1/realtime?ticket={ticket}"),
    });
    let form = object(
        json!({ "ticket": text("The ticket."), "expiresInSeconds": count("How long it is good."), "url": url() }),
    );
    let asked = json!({ "scope": "session", "session": "sess_support" });
    Operation::new(TAG, "Mint a realtime ticket", Access::Scope(Scope::Subscribe))
        .says("For the events of an organization, of one of its sessions, or (for the admin) of everything.")
        .optional_body(place.body_with_aliases::<realtime::RealtimeTicketRequest>(&ALIASES), asked)
        .answers(201, "The ticket.", form, shown)
        .fails(&[Code::InvalidFilter, Code::InvalidCursor, Code::TicketLimit, Code::Unavailable])
        .stores_nothing()
}

pub fn connections(place: &Place<'_>) -> Operation {
    let shown = json!({
        "id": "con_01JY9WXVB0000000000000C0NN", "kind": "sse", "channel": "map:c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11",
        "filter": { "events": ["map_kill"] }, "since": "2025-06-21T12:35:00.123Z", "client_address": "203.0.113.7",
        "user_agent": "curl/8.5.0", "behind_events": 0, "token_id": "tok_01JY9WXVB0000000000000T0KN",
    });
    let next = json!({ "type": ["string", "null"], "description": "Where the next page begins; null: this was the last one." });
    let page = object(json!({ "data": list(place.answer::<connections::ConnectionView>()), "nextCursor": next }));
    let cursor = json!({ "type": "string", "pattern": "^(con_[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})?$" });
    Operation::new(TAG, "List open streams", Access::Scope(Scope::Manage))
        .says("All of them for the admin who names no channel; else those that lie wholly in the channel. The oldest first.")
        .takes(parameters::page("Streams of a page, at most.", "Go on behind this one: `nextCursor` of the page before.", cursor))
        .answers(200, "The open streams.", page, json!({ "data": [shown], "nextCursor": null }))
        .fails(&[Code::Forbidden, Code::NotFound, Code::InvalidCursor])
}

pub fn end_connection(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "End an open stream", Access::Scope(Scope::Manage))
        .says("A WebSocket is closed with 4409. It is no ban: the client may come back; who is to stay away loses its token.")
        .answers_nothing(204, "It ends.")
        .fails(&[Code::Forbidden, Code::NotFound])
        .stores_nothing()
}
