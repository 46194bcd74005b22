//! Deliveries: list, look, send again, replay, test.

use actors::model::access::Scope;
use serde_json::{Value, json};

use super::super::schemas::{count, data, flag, list, object, one_of, text, text_or_null, time, time_or_null};
use super::super::{Access, Operation, Place, events, parameters};
use super::webhooks::{ID, spelled};
use crate::http::family::ApiFamily;
use crate::http::names;
use crate::http::problem::Code;

const TAG: &str = "Deliveries";
const MANAGES: Access = Access::Scope(Scope::Manage);
const DELIVERY: &str = "dlv_01JY9X2C7B4N8Q0R2S5T6V7W8X";

const STATUSES: [&str; 6] = ["pending", "delivered", "retrying", "dead", "dropped", "failed"];

fn error_code() -> Value {
    json!({
        "type": ["string", "null"],
        "enum": [
            "dns_error", "connection_refused", "connection_reset", "timeout", "tls_error", "target_forbidden",
            "response_too_large", "http_status", "handshake_refused", "render_error", null,
        ],
        "description": "What went wrong, for programs.",
    })
}

fn status_code() -> Value {
    json!({ "type": ["integer", "null"], "description": "The status that the receiver answered." })
}

fn headers() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": "Values of custom headers are hidden." })
}

fn delivery_members(place: &Place<'_>) -> Value {
    json!({
        "id": text("`dlv_` and a ULID."),
        "webhook_id": text("The webhook."),
        "status": one_of(&STATUSES, "Where it stands. `dropped`: nobody waits for it any more; `failed`: a test that failed."),
        "event_ids": list(events::id_in(place.family.envelope())),
        "event_types": list(json!({ "type": "string" })),
        "attempt_count": count("POSTs so far."),
        "status_code": status_code(),
        "error_code": error_code(),
        "trigger": json!({ "type": ["string", "null"], "enum": ["first", "retry", "manual", "replay", "test", null], "description": "Why its latest attempt was made." }),
        "next_attempt_at": time_or_null("When the next attempt is due."),
        "inserted_at": time("When its first event was appended."),
        "updated_at": time("When its latest attempt was made."),
    })
}

fn timings(place: &Place<'_>) -> Value {
    let part = |what: &str| json!({ "type": ["number", "null"], "minimum": 0, "description": what });
    object(spelled(
        place,
        json!({
            "dns_ms": part("Looking the name up."), "connect_ms": part("Connecting."), "tls_ms": part("The handshake."),
            "first_byte_ms": part("Until the answer began."),
        }),
    ))
}

fn attempt(place: &Place<'_>) -> Value {
    object(spelled(
        place,
        json!({
            "number": count("Counts the POSTs of the delivery from 1."),
            "trigger": one_of(&["first", "retry", "manual", "replay", "test"], "Why it was made."),
            "started_at": time("When it began."),
            "duration_ms": count("How long it took."),
            "timings": timings(place),
            "connection_reused": { "type": ["boolean", "null"], "description": "Whether it went over a connection that was there." },
            "remote_address": text_or_null("The address that was dialled."),
            "status_code": status_code(),
            "error_code": error_code(),
            "error": text_or_null("What went wrong, in a sentence."),
            "request_headers": headers(),
            "request_body": text_or_null("What was posted."),
            "response_headers": { "type": "object", "additionalProperties": { "type": "string" } },
            "response_body": text("The first 4 KiB of the answer."),
        }),
    ))
}

fn shown(place: &Place<'_>) -> Value {
    let name = if place.family == ApiFamily::Organizations { "OrganizationDelivery" } else { "MapDelivery" };
    place.named(name, |place| object(spelled(place, delivery_members(place))))
}

fn whole(place: &Place<'_>) -> Value {
    let name = if place.family == ApiFamily::Organizations {
        "OrganizationDeliveryWithAttempts"
    } else {
        "MapDeliveryWithAttempts"
    };
    place.named(name, |place| {
        let mut members = delivery_members(place);
        members["attempts"] = list(attempt(place));
        object(spelled(place, members))
    })
}

fn example(place: &Place<'_>) -> Value {
    let event = place.family.envelope().shown_id(events::EXAMPLE_ULID.parse().expect("a ULID"));
    names::object(
        place.family,
        json!({
            "id": DELIVERY, "webhook_id": ID, "status": "delivered", "event_ids": [event], "event_types": ["map_kill"],
            "attempt_count": 1, "status_code": 200, "error_code": null, "trigger": "first", "next_attempt_at": null,
            "inserted_at": "2025-06-21T12:35:00.123Z", "updated_at": "2025-06-21T12:35:00.140Z",
        }),
    )
}

fn example_attempt(place: &Place<'_>) -> Value {
    let timings =
        names::object(place.family, json!({ "dns_ms": 0.4, "connect_ms": 8.1, "tls_ms": 12.9, "first_byte_ms": 23.0 }));
    names::object(
        place.family,
        json!({
            "number": 1, "trigger": "first", "started_at": "2025-06-21T12:35:00.140Z", "duration_ms": 23, "timings": timings,
            "connection_reused": false, "remote_address": "93.184.215.14:443", "status_code": 200, "error_code": null, "error": null,
            "request_headers": { "Content-Type": "application/json" }, "request_body": "{}", "response_headers": {},
            "response_body": "OK",
        }),
    )
}

pub fn list_deliveries(place: &Place<'_>) -> Operation {
    let next = if place.family == ApiFamily::Organizations { "nextCursor" } else { "next" };
    let page = object(json!({ "data": list(shown(place)), next: text_or_null("What to ask for `after`.") }));
    let cursor = json!({ "type": "string", "pattern": "^(dlv_[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})?$" });
    let status = json!({ "type": "string", "enum": ["pending", "delivered", "retrying", "dead"] });
    Operation::new(TAG, "List deliveries", Access::ManageAndRead)
        .says("The newest first. What waits for its first attempt is listed by `status=pending` only.")
        .takes([
            parameters::optional("status", "Only those that stand so.", status),
            parameters::optional("type", "Only those with an event of this type, or of one of these: a list with commas.", json!({ "type": "string" })),
            parameters::optional(
                "code",
                "Only those whose latest attempt ended so: a status such as `503`, a class such as `5xx`, an error code such as `timeout`, or several with commas.",
                json!({ "type": "string" }),
            ),
            parameters::optional(
                "since",
                "Only those that were made at this time or later.",
                json!({ "type": "string", "format": "date-time" }),
            ),
            parameters::optional(
                "until",
                "Only those that were made before.",
                json!({ "type": "string", "format": "date-time" }),
            ),
            parameters::optional(
                "text",
                "Only those with this text in an id, a type, a reason or an answer, in whatever case.",
                json!({ "type": "string" }),
            ),
        ])
        .takes(parameters::page("Deliveries of a page, at most.", "Go on behind this delivery.", cursor))
        .answers(200, "A page of deliveries.", page, json!({ "data": [example(place)], next: null }))
        .fails(&[Code::InvalidCursor, Code::Unavailable])
}

pub fn get(place: &Place<'_>) -> Operation {
    let mut with_attempts = example(place);
    with_attempts["attempts"] = json!([example_attempt(place)]);
    Operation::new(TAG, "Get a delivery with its attempts", Access::ManageAndRead)
        .answers(200, "The delivery.", data(whole(place)), json!({ "data": with_attempts }))
        .fails(&[Code::Unavailable])
}

pub fn retry(place: &Place<'_>) -> Operation {
    let form = json!({
        "id": text("The delivery."), "webhook_id": text("The webhook."), "status": { "const": "pending" },
    });
    let example = json!({ "id": DELIVERY, "webhook_id": ID, "status": "pending" });
    Operation::new(TAG, "Attempt a delivery again now", MANAGES)
        .answers(
            202,
            "It will be attempted.",
            data(object(spelled(place, form))),
            json!({ "data": names::object(place.family, example) }),
        )
        .fails(&[Code::Conflict, Code::RateLimited, Code::Unavailable, Code::Stopping])
}

pub fn test(place: &Place<'_>) -> Operation {
    let form = object(spelled(
        place,
        json!({
            "id": text("The delivery."),
            "delivered": flag("Whether the receiver took it."),
            "status_code": status_code(),
            "error_code": error_code(),
            "error": text_or_null("What went wrong, in a sentence."),
            "duration_ms": count("How long it took."),
            "timings": timings(place),
            "request_headers": headers(),
            "request_body": text("What was posted."),
            "response_headers": { "type": "object", "additionalProperties": { "type": "string" } },
            "response_body": text("The first 4 KiB of the answer."),
        }),
    ));
    let timings =
        names::object(place.family, json!({ "dns_ms": 0.4, "connect_ms": 8.1, "tls_ms": 12.9, "first_byte_ms": 23.0 }));
    let example = json!({
        "id": DELIVERY, "delivered": true, "status_code": 200, "error_code": null, "error": null, "duration_ms": 23,
        "timings": timings, "request_headers": {}, "request_body": "{}", "response_headers": {}, "response_body": "OK",
    });
    let asked = object(spelled(
        place,
        json!({ "event_type?": text("The type of the event; absent: one that the webhook gets.") }),
    ));
    Operation::new(TAG, "Send a sample now", MANAGES)
        .says("Waits for what comes of it.")
        .optional_body(asked, names::object(place.family, json!({ "event_type": "map_kill" })))
        .answers(200, "What came of it.", data(form), json!({ "data": names::object(place.family, example) }))
        .fails(&[Code::Conflict, Code::Unavailable, Code::Stopping])
}

fn job(place: &Place<'_>) -> Value {
    let name = if place.family == ApiFamily::Organizations { "OrganizationReplay" } else { "MapReplay" };
    let id = || events::id_in(place.family.envelope());
    place.named(name, |place| {
        object(spelled(
            place,
            json!({
                "id": count("The number of the replay."),
                "webhook_id": text("The webhook."),
                "state": one_of(&["running", "done"], "Whether it goes on."),
                "after": id(),
                "until": id(),
                "events": { "type": ["array", "null"], "items": { "type": "string" }, "description": "Only these types." },
                "status": { "type": ["string", "null"], "enum": ["dead", null], "description": "Only dead deliveries." },
                "position": id(),
                "delivered": count("Deliveries that succeeded."),
                "failed": count("Deliveries that failed."),
                "skipped": count("Deliveries that were under way anyway."),
                "lost": flag("Whether retention took a part of the range before it was reached."),
                "inserted_at": time("When it was asked for."),
                "finished_at": time_or_null("When it ended."),
            }),
        ))
    })
}

fn job_example(place: &Place<'_>) -> Value {
    let id = place.family.envelope().shown_id(events::EXAMPLE_ULID.parse().expect("a ULID"));
    let example = json!({
        "id": 1, "webhook_id": ID, "state": "running", "after": id, "until": id, "events": null, "status": null, "position": id,
        "delivered": 0, "failed": 0, "skipped": 0, "lost": false, "inserted_at": "2025-06-21T12:35:00.123Z", "finished_at": null,
    });
    json!({ "data": names::object(place.family, example) })
}

pub fn replay(place: &Place<'_>) -> Operation {
    let dry = object(spelled(
        place,
        json!({ "dry_run": { "const": true }, "count": count("How many events, or dead deliveries, would be sent.") }),
    ));
    let bound = |what: &str| text_or_null(what);
    let mut asked = object(spelled(
        place,
        json!({
            "since?": bound("Events at or after this: an ISO-8601 time, or an event id."),
            "after?": bound("Events after this one."),
            "until?": bound("Up to and with this."),
            "events?": { "type": ["string", "array", "null"], "items": { "type": "string" }, "description": "Only these types." },
            "status?": { "type": ["string", "null"], "enum": ["dead", null], "description": "Only dead deliveries; then `since` may be left out." },
            "dry_run?": flag("Only count."),
        }),
    ));
    if place.family == ApiFamily::Organizations {
        asked["properties"]["dry_run"] = flag("The same.");
    }
    let answer = data(json!({ "oneOf": [job(place), dry] }));
    Operation::new(TAG, "Send a range again", MANAGES)
        .says("Within the filter of the webhook, as a job that survives a restart.")
        .optional_body(asked, json!({ "since": "2025-06-21T12:00:00Z" }))
        .answers(202, "The job, or what it would send.", answer, job_example(place))
        .fails(&[
            Code::Conflict,
            Code::RateLimited,
            Code::ScanLimit,
            Code::TooExpensive,
            Code::Unavailable,
            Code::Stopping,
        ])
}

pub fn replay_jobs(place: &Place<'_>) -> Operation {
    let example = json!({ "data": [job_example(place)["data"].take()] });
    Operation::new(TAG, "The replays of a webhook", MANAGES)
        .says("Those that are kept, the oldest first.")
        .answers(200, "The jobs.", data(json!({ "type": "array", "items": job(place) })), example)
        .fails(&[Code::Unavailable])
}

pub fn replay_job(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "How far a replay is", MANAGES)
        .answers(200, "The job.", data(job(place)), job_example(place))
        .fails(&[Code::Unavailable])
}
