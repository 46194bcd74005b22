//! Webhooks of maps, of organizations, and those that are kept as one document. They are one thing in three spellings.

use actors::hub::webhooks::{GRACE_MAX_S, REHEARSED_EVENTS_MAX};
use actors::model::access::Scope;
use actors::model::delivery::{ATTEMPTS_MAX, BATCH_EVENTS_MAX, BATCH_WAIT_MAX_MS, DELAY_MAX_S, RATE_MAX};
use actors::model::format::Format;
use serde_json::{Map, Value, json};

use super::super::schemas::{count, data, flag, list, object, one_of, text, text_or_null, time, time_or_null};
use super::super::{Access, Operation, Place, parameters};
use crate::http::family::ApiFamily;
use crate::http::names;
use crate::http::problem::Code;

const TAG: &str = "Webhooks";
const MANAGES: Access = Access::Scope(Scope::Manage);
const HEALTH: &str =
    "How it does: `paused` by its owner, `disabled` by the server, `unavailable` where its deliveries cannot run.";
pub const ID: &str = "0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11";

/// Members in the spelling of the place's clients. A `?` at the end marks one that may be absent.
pub fn spelled(place: &Place<'_>, members: Value) -> Value {
    let Value::Object(members) = members else { return members };
    let spell = |(name, value): (String, Value)| match name.strip_suffix('?') {
        Some(name) => (format!("{}?", names::spelled(place.family, name)), value),
        None => (names::spelled(place.family, &name), value),
    };
    members.into_iter().map(spell).collect::<Map<_, _>>().into()
}

pub fn formats() -> Value {
    json!({ "type": "string", "enum": Format::ALL.map(Format::as_str), "description": "The form of what is posted." })
}

fn nullable(mut schema: Value) -> Value {
    if let Some(kind) = schema["type"].as_str().map(str::to_owned) {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    schema
}

/// The schemas of `batch` and `rate_limit`. `burst`: the name of that member, with a `?` where it may be absent.
fn limits(place: &Place<'_>, burst: &str) -> (Value, Value) {
    let bounded = |least: u64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    let batch = json!({
        "max_events": bounded(1, BATCH_EVENTS_MAX.into()), "max_wait_ms": bounded(0, BATCH_WAIT_MAX_MS),
    });
    let rate = json!({ "per_second": bounded(1, RATE_MAX.into()), burst: bounded(1, RATE_MAX.into()) });
    let form = |members: Value, description: &str| {
        let mut form = nullable(object(spelled(place, members)));
        form["description"] = description.into();
        form
    };
    (
        form(batch, "Posts `{\"events\": [...]}` when so many are there or the first has waited so long."),
        form(rate, "Attempts in the long run, and at once."),
    )
}

fn retry_policy(place: &Place<'_>) -> Value {
    let seconds = || json!({ "type": ["integer", "null"], "minimum": 1, "maximum": DELAY_MAX_S });
    let waits = json!({ "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": DELAY_MAX_S } });
    place.named("RetryPolicy", |_| {
        let mut policy = object(json!({
            "policy": one_of(&["exponential", "linear", "constant", "schedule"], "How the waits grow."),
            "delaySeconds?": seconds(),
            "maxDelaySeconds?": seconds(),
            "attempts": { "type": "integer", "minimum": 1, "maximum": ATTEMPTS_MAX, "description": "All POSTs of a delivery, the first included." },
            "scheduleSeconds?": waits,
        }));
        policy["description"] = "When a delivery that failed is attempted again.".into();
        policy
    })
}

/// What a client may choose.
fn choices(place: &Place<'_>) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let (batch, rate_limit) = limits(place, "burst");
    json!({
        "name": text_or_null("What its owner calls it, up to 200 bytes."),
        "url": text("Where deliveries are posted."),
        "events": list(json!({ "type": "string" })),
        "active": flag("The owner's switch."),
        "format": formats(),
        "filter": text_or_null("A CEL expression."),
        "path_prefix": texts(),
        "custom_headers": { "type": "object", "additionalProperties": { "type": "string" } },
        "retry_policy": retry_policy(place),
        "ordered": flag("One delivery at a time; one that fails holds the later ones back."),
        "batch": batch,
        "rate_limit": rate_limit,
    })
}

/// How it does.
fn condition() -> Value {
    json!({
        "delivering": flag("Whether deliveries are made."),
        "why": text_or_null("Why not, and what to do."),
        "last_delivery_at": time_or_null("When an attempt last succeeded."),
        "last_error": text_or_null("What went wrong last: `http_status 500`, `timeout`."),
        "last_error_at": time_or_null("When."),
        "consecutive_failures": nullable(count("Failed attempts since the last success.")),
        "health": one_of(&["healthy", "degraded", "probing", "paused", "disabled", "unavailable"], HEALTH),
        "health_since": time_or_null("Since when it does so."),
        "next_attempt_at": time_or_null("When something is attempted next of what has failed: a retry, or a probe."),
        "disabled_reason": text_or_null("Why the server switched it off, and when."),
        "inserted_at": time("When it was made."),
        "updated_at": time("When it was changed."),
        "handshake?": handshake(),
    })
}

/// Only with `webhooks.cloudevents_handshake`, of a webhook that sends CloudEvents.
fn handshake() -> Value {
    let mut handshake = object(json!({
        "state": one_of(&["not_asked", "granted", "refused"], "Whether the receiver has permitted deliveries."),
        "at?": time("When it answered."),
        "rate?": text_or_null("Requests a minute that it takes, as it says."),
        "reason?": text("What it did, and what it has to do."),
    }));
    handshake["description"] =
        "Only where receivers of CloudEvents are asked first whether they want them (`webhooks.cloudevents_handshake`).".into();
    handshake
}

fn join(parts: impl IntoIterator<Item = Value>) -> Value {
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    fields.flatten().collect::<Map<_, _>>().into()
}

/// What only answers to a change hold.
fn told() -> Value {
    let unknown = json!({
        "type": "array", "items": { "type": "string" },
        "description": "Types it asks for that the catalogue does not know. Only in the answer to its creation or change.",
    });
    json!({ "unknown_events?": unknown })
}

/// A webhook as the place shows it.
fn shown(place: &Place<'_>) -> Value {
    let secret = json!({ "secret?": text("What deliveries are signed with. Only in the answer to its creation.") });
    match place.family {
        ApiFamily::Organizations => place.named("OrganizationWebhook", |place| {
            let whose = json!({
                "id": text("A UUID."),
                "organization": text("The id of the channel."),
                "session": text_or_null("Only events of this session."),
                "has_secret": flag("Whether deliveries are signed."),
            });
            let mut shown = object(spelled(place, join([whose, choices(place), condition(), told(), secret])));
            shown["description"] = "A webhook of an organization.".into();
            shown
        }),
        _ => place.named("MapWebhook", |place| {
            let whose = json!({ "id": text("A UUID."), "map_id": text("The id of the map.") });
            let mut shown = object(join([whose, choices(place), condition(), told(), secret]));
            shown["description"] = "A webhook of a map.".into();
            shown
        }),
    }
}

/// What may be asked of a webhook: every member may be absent, and `null` is its default.
fn asked(place: &Place<'_>) -> Value {
    let name = match place.family {
        ApiFamily::Organizations => "OrganizationWebhookChange",
        ApiFamily::Feed => "FeedWebhookEntry",
        _ => "MapWebhookChange",
    };
    place.named(name, |place| {
        let one_or_many = json!({ "type": ["string", "array", "null"], "items": { "type": "string" } });
        let (batch, rate_limit) = limits(place, "burst?");
        let mut members = json!({
            "url?": text("Where deliveries are posted: https, and http where `webhooks.allow_http` is on."),
            "events?": one_or_many, "path_prefix?": one_or_many,
            "filter?": text_or_null("A CEL expression."),
            "active?": nullable(flag("The owner's switch.")),
            "custom_headers?": { "type": ["object", "null"], "additionalProperties": { "type": "string" } },
            "retry_policy?": { "type": ["object", "null"], "description": "As it is shown; each member may be absent." },
            "ordered?": nullable(flag("One delivery at a time.")),
            "batch?": batch, "rate_limit?": rate_limit,
            "resume?": nullable(one_of(&["skip", "pending", "all"], "What becomes of what waited while it was off.")),
        });
        let secret = json!({ "type": ["string", "null"], "description": "What deliveries are signed with." });
        match place.family {
            ApiFamily::Feed => {
                members["id"] = text("An id that you choose, unique in the document.");
                members["format?"] = nullable(json!({ "type": "string", "const": "feed" }));
                members["secret?"] = secret;
            }
            family => {
                members["format?"] = nullable(formats());
                members["template?"] = text_or_null("MiniJinja over `event`; goes with the format `template`.");
                if family == ApiFamily::Organizations {
                    members["session?"] = text_or_null("Only events of this session.");
                    members["secret?"] = secret;
                }
            }
        }
        // both spellings are understood, and what was read may be sent back
        let mut asked = object(spelled(place, members));
        asked["additionalProperties"] = true.into();
        asked["description"] = "What is to be chosen of a webhook. What the server writes into one is passed over.".into();
        asked
    })
}

fn example(place: &Place<'_>) -> Value {
    let whose = match place.family {
        ApiFamily::Organizations => json!({ "id": ID, "organization": "default", "session": null, "has_secret": true }),
        _ => json!({ "id": ID, "map_id": "c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11" }),
    };
    let format = if place.family == ApiFamily::Organizations { "gateway" } else { "map" };
    names::object(place.family, join([whose, example_choices(format), example_condition()]))
}

fn example_choices(format: &str) -> Value {
    json!({
        "name": "the kill board", "url": "https://example.org/hook", "events": ["*"], "active": true, "format": format,
        "filter": null, "path_prefix": [],
        "custom_headers": {}, "retry_policy": { "policy": "exponential", "delaySeconds": 2, "attempts": 15 }, "ordered": false,
        "batch": null, "rate_limit": null,
    })
}

fn example_condition() -> Value {
    json!({
        "delivering": true, "why": null,
        "last_delivery_at": null, "last_error": null, "last_error_at": null, "consecutive_failures": 0, "health": "healthy",
        "health_since": "2025-06-21T12:35:00.123Z", "next_attempt_at": null, "disabled_reason": null,
        "inserted_at": "2025-06-21T12:35:00.123Z", "updated_at": "2025-06-21T12:35:00.123Z",
    })
}

pub fn toggle(_: &Place<'_>) -> Operation {
    let form = || object(json!({ "webhooks_enabled": flag("Whether it is on.") }));
    let asked = object(json!({ "enabled": flag("Whether it is to be on.") }));
    Operation::new(TAG, "The switch over the webhooks of a map", MANAGES)
        .says("What happens while it is off waits in the log.")
        .body(asked, json!({ "enabled": true }))
        .answers(200, "How it is now.", form(), json!({ "webhooks_enabled": true }))
        .fails(&[Code::InvalidParameter])
}

pub fn list_webhooks(place: &Place<'_>) -> Operation {
    let all = object(json!({ "data": list(shown(place)) }));
    Operation::new(TAG, "List webhooks", MANAGES)
        .answers(200, "The webhooks.", all, json!({ "data": [example(place)] }))
        .fails(&[Code::Unavailable])
}

pub fn page(place: &Place<'_>) -> Operation {
    let all = object(json!({ "data": list(shown(place)), "nextCursor": text_or_null("What to ask for `after`.") }));
    Operation::new(TAG, "List webhooks", MANAGES)
        .takes(parameters::page(
            "Webhooks of a page, at most.",
            "Go on behind this webhook.",
            json!({ "type": "string" }),
        ))
        .answers(
            200,
            "A page of webhooks, the oldest first.",
            all,
            json!({ "data": [example(place)], "nextCursor": null }),
        )
        .fails(&[Code::InvalidCursor, Code::Unavailable])
}

pub fn create(place: &Place<'_>) -> Operation {
    let mut made = example(place);
    made[names::spelled(place.family, "unknown_events")] = json!([]);
    made["secret"] = "q0b7b3l1c2V0LXRoYXQtaXMtNDQtY2hhcmFjdGVycy4=".into();
    Operation::new(TAG, "Create a webhook", MANAGES)
        .says("It gets the events from now on. A secret that the server made is shown only here.")
        .body(asked(place), json!({ "url": "https://example.org/hook", "events": ["*"] }))
        .answers(201, "The webhook.", data(shown(place)), json!({ "data": made }))
        .fails(&[Code::Conflict, Code::WebhookLimit])
}

pub fn get(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "Get a webhook", MANAGES)
        .answers(200, "The webhook.", data(shown(place)), json!({ "data": example(place) }))
        .fails(&[Code::Unavailable])
}

pub fn change(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "Change a webhook", MANAGES)
        .says("What the body names is changed, the rest stays. `active: true` switches on again what the server switched off.")
        .body(asked(place), json!({ "active": true, "resume": "pending" }))
        .answers(200, "The webhook as it is now.", data(shown(place)), json!({ "data": example(place) }))
        .fails(&[Code::Conflict])
}

pub fn delete(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Delete a webhook", MANAGES).answers_nothing(204, "It is gone, with its deliveries.")
}

pub fn rotate_secret(place: &Place<'_>) -> Operation {
    let grace = json!({ "type": ["integer", "null"], "minimum": 0, "maximum": GRACE_MAX_S, "default": 86_400 });
    let mut asked = object(spelled(place, json!({ "grace_seconds?": grace })));
    if place.family == ApiFamily::Organizations {
        asked["properties"]["secret"] = text_or_null("One that you choose; else the server makes it.");
    }
    let answer = object(spelled(
        place,
        json!({
            "id": text("The webhook."),
            "secret?": text("The new secret, where the server made it. Shown only here."),
            "grace_seconds": count("How long the old one signs too."),
            "previous_secret_expires_at": time_or_null("When the old one ends."),
        }),
    ));
    let shown = json!({
        "id": ID, "secret": "q0b7b3l1c2V0LXRoYXQtaXMtNDQtY2hhcmFjdGVycy4=", "grace_seconds": 86_400,
        "previous_secret_expires_at": "2025-06-22T12:35:00.123Z",
    });
    Operation::new(TAG, "Rotate the secret of a webhook", MANAGES)
        .says("The old one signs too for a while.")
        .optional_body(asked, names::object(place.family, json!({ "grace_seconds": 3600 })))
        .answers(200, "The new secret.", data(answer), json!({ "data": names::object(place.family, shown) }))
}

/// The webhooks of a channel as one document.
fn document(place: &Place<'_>) -> Value {
    let entry = place.named("FeedWebhook", |place| {
        let names = json!({ "id": text("The id in the document."), "webhook_id": text("A UUID.") });
        let mut choices = choices(place);
        choices["format"] = json!({ "const": "feed" });
        choices["path_prefix"] = json!({ "type": ["string", "array"], "items": { "type": "string" } });
        object(join([names, choices, condition(), told()]))
    });
    object(json!({ "webhooks": list(entry) }))
}

fn document_example() -> Value {
    let names = json!({ "id": "indexer", "webhook_id": ID });
    json!({ "webhooks": [join([names, example_choices("feed"), example_condition()])] })
}

pub fn get_document(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "The feed's webhooks as one document", MANAGES)
        .says("Secrets are never in it.")
        .answers(200, "The document.", document(place), document_example())
        .fails(&[Code::Unavailable])
}

pub fn put_document(place: &Place<'_>) -> Operation {
    let document_asked = object(json!({ "webhooks": list(asked(place)) }));
    let example = json!({ "webhooks": [{ "id": "indexer", "url": "https://example.org/hook", "events": ["*"], "secret": "a secret of ours" }] });
    Operation::new(TAG, "Replace the feed's webhooks", MANAGES)
        .says("All at once, or nothing: every entry is checked first. Entries that are missing are removed; one without `secret` keeps it.")
        .body(document_asked, example)
        .answers(200, "The document as it is now.", document(place), document_example())
        .fails(&[Code::Conflict, Code::WebhookLimit])
}

pub fn delete_document(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Remove the feed's webhooks", MANAGES).answers_nothing(204, "They are gone.")
}

/// What may be asked of a preview: a webhook, and which events it is tried on.
fn asked_preview(place: &Place<'_>) -> Value {
    let name =
        if place.family == ApiFamily::Organizations { "OrganizationWebhookPreview" } else { "MapWebhookPreview" };
    let webhook = asked(place);
    place.named(name, |place| {
        let mut members = object(spelled(
            place,
            json!({
                "event_type?": text_or_null("The type of the sample. Absent: one that the format knows."),
                "since?": text_or_null("A rehearsal: on events from this time (ISO-8601), or behind this event, on."),
                "limit?": json!({
                    "type": ["integer", "null"], "minimum": 1, "maximum": REHEARSED_EVENTS_MAX,
                    "description": "A rehearsal: how many events are looked at, 1,000 where it is absent. Without `since` the newest ones.",
                }),
            }),
        ));
        members["additionalProperties"] = true.into();
        json!({ "allOf": [webhook, members], "description": "A webhook as it would be made, and what it is tried on." })
    })
}

/// What came of trying it on events that are there.
fn rehearsal(place: &Place<'_>) -> Value {
    place.named("WebhookRehearsal", |_| {
        let sample = object(json!({
            "event_id": text("The event."),
            "before": { "description": "Its own envelope." },
            "after": { "description": "What would be posted; null where the template fails." },
            "error": text_or_null("Why the template fails."),
        }));
        object(json!({
            "scanned": count("Events that were looked at."),
            "complete": flag("Whether there are no more of them."),
            "would_send": count("Events that pass the filter and would be posted."),
            "changed": count("Of those, what would be posted as something else than the event's own envelope."),
            "failed": count("Events that pass the filter and for which the template fails."),
            "samples": { "type": "array", "items": sample, "maxItems": 20, "description": "Events that pass the filter, the failed ones first." },
        }))
    })
}

pub fn preview(place: &Place<'_>) -> Operation {
    let form = object(spelled(
        place,
        json!({
            "event_type": text("The type of the sample."),
            "headers": { "type": "object", "additionalProperties": { "type": "string" } },
            "body": text("What would be posted."),
        }),
    ));
    let shown = json!({ "event_type": "map_kill", "headers": { "Content-Type": "application/json" }, "body": "{}" });
    let says = "The request that such a webhook would send for a sample of the type. With `since` or `limit` it is a rehearsal, which \
                needs the scope `subscribe`, too: what the webhook would have sent of events that are there. Nothing is sent.";
    Operation::new(TAG, "Preview a webhook", MANAGES)
        .says(says)
        .body(asked_preview(place), json!({ "format": "discord" }))
        .answers(
            200,
            "The request, or what came of the rehearsal.",
            json!({ "oneOf": [data(form), rehearsal(place)] }),
            json!({ "data": names::object(place.family, shown) }),
        )
        .fails(&[Code::InvalidFilter, Code::ScanLimit, Code::Unavailable, Code::Stopping])
        .stores_nothing()
}
