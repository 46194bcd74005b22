//! Sources: endpoints that take in what others send, their dead letters, and the address that senders post to.

use actors::hub::sources::OVERLAP_MAX_S;
use actors::model::access::Scope;
use actors::model::source::Authentication;
use serde_json::{Value, json};

use super::super::schemas::{count, data, list, object, one_of, text, text_or_null, time, time_or_null};
use super::super::{Access, Operation, Place, events, parameters};
use crate::http::problem::Code;

const TAG: &str = "Sources";
const MANAGES: Access = Access::Scope(Scope::Manage);

fn authentication() -> Value {
    let name =
        json!({ "type": "string", "enum": Authentication::names(), "description": "How a sender proves itself." });
    json!({ "oneOf": [name, recipe()] })
}

/// How requests are signed, as its owner writes it.
fn recipe() -> Value {
    let header = || json!({ "type": "string", "maxLength": 128 });
    let pointer =
        || json!({ "type": "string", "maxLength": 256, "description": "A JSON pointer (RFC 6901) into the body." });
    let part = |description: &str| json!({ "type": "string", "maxLength": 256, "description": description });
    let mut recipe = object(json!({
        "scheme": one_of(&["hmac", "ed25519", "ecdsa", "token", "basic"], "What proves who the sender is."),
        "header?": header(), "prefix?": part("Before each signature."), "separator?": part("Between the parts of the header; `,`."),
        "encoding?": one_of(&["hex", "base64"], "How the signature is written."),
        "algorithm?": one_of(&["sha1", "sha256", "sha512"], "Its hash."),
        "signed?": part("What is signed, of `{timestamp} {id} {url} {method} {body} {form_sorted}`; the body."),
        "timestamp_header?": header(), "timestamp_prefix?": part("Before the time."),
        "timestamp_unit?": one_of(&["s", "ms", "iso"], "How the time is written."),
        "tolerance_s?": json!({ "type": "integer", "minimum": 1, "maximum": 86_400, "default": 300 }),
        "id_header?": header(), "signature_field?": pointer(), "timestamp_field?": pointer(), "id_field?": pointer(),
        "token_field?": pointer(), "token_query?": part("The parameter of the address with the token."),
        "body_hash_query?": part("The parameter of the address with the SHA-256 of the body."),
        "key_form?": one_of(&["text", "standard"], "Whether the secret is its text, or base64 as Standard Webhooks writes it."),
    }));
    recipe["description"] = "A recipe: how requests are signed.".into();
    recipe
}

fn algorithm() -> Value {
    one_of(&["sha256", "sha512"], "The hash of the signature.")
}

fn jwt_algorithm() -> Value {
    one_of(&["HS256", "EdDSA", "ES256", "RS256"], "The one algorithm that is accepted.")
}

/// Where the type of an event stands.
fn event_type() -> Value {
    let one = json!({ "oneOf": [
        { "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$", "description": "Always this type." },
        object(json!({ "header": { "type": "string", "pattern": "^[A-Za-z0-9-]{1,128}$" } })),
        object(json!({ "pointer": { "type": "string", "maxLength": 128, "description": "A JSON pointer (RFC 6901)." } })),
        object(json!({ "besides": { "type": "string", "maxLength": 128, "description": "The first member that is not called so: its name." } })),
    ] });
    json!({
        "anyOf": [{ "type": "null" }, one, { "type": "array", "items": one, "minItems": 1, "maxItems": 8 }],
        "description": "Where the type of an event stands, where senders have a form of their own.",
    })
}

fn schema() -> Value {
    let field = json!({ "type": "string", "enum": ["string", "number", "boolean", "date", "unknown"] });
    json!({
        "type": ["object", "null"], "additionalProperties": field, "maxProperties": 100,
        "description": "What fields hold; an event that is otherwise is stored and marked.",
    })
}

fn rate_shown() -> Value {
    let mut rate = object(json!({ "requests": count("Requests."), "perSeconds": count("In so many seconds.") }));
    rate["type"] = json!(["object", "null"]);
    rate
}

fn rate_asked() -> Value {
    let rate = object(json!({ "requests": count("Requests."), "perSeconds": count("In so many seconds.") }));
    json!({ "anyOf": [{ "type": "null" }, { "type": "integer", "minimum": 1, "description": "Requests a minute." }, rate] })
}

fn members() -> Value {
    json!({
        "id": text("`wh_` and a ULID."),
        "url": text("Where senders post to."),
        "name": text_or_null("What people call it."),
        "channel": text_or_null("`map:<id>` or `organization:<id>`."),
        "authentication": authentication(),
        "createdAt": time("When it was made."),
        "eventsReceived": count("Events that it took in."),
        "lastEventAt": time_or_null("When the last one came."),
        "status": one_of(&["active", "paused"], "Whether it takes events in."),
    })
}

fn source(place: &Place<'_>) -> Value {
    place.named("Source", |_| {
        let mut all = members();
        all["hmacAlgorithm?"] = algorithm();
        all["jwt?"] = object(json!({
            "algorithm": jwt_algorithm(), "issuer": text_or_null("Required `iss`."), "audience": text_or_null("Required `aud`; without it, tokens with an `aud` are refused."),
        }));
        all["mode"] = one_of(&["events", "raw"], "Whether bodies are read, or requests kept as they come.");
        all["keep?"] = list(text("A header, parameter or field."));
        all["redact?"] = list(text("A header."));
        all["redact_query?"] = list(text("A parameter."));
        all["response?"] = response();
        all["eventType"] = event_type();
        all["schema"] = schema();
        all["rateLimit"] = rate_shown();
        all["refusedSenders"] = refused_senders();
        all["updatedAt"] = time("When it was changed.");
        object(all)
    })
}

/// Who was not believed.
fn refused_senders() -> Value {
    let mut form = object(json!({
        "requests": count("Requests whose sender could not be verified. They are counted and not kept: anybody can make them."),
        "inARow": count("Those since the latest event."),
        "since": time_or_null("When the first of those came."),
        "lastAt": time_or_null("When the latest came."),
        "lastReason": text_or_null("Why the latest was refused."),
        "lastUserAgent": text_or_null("How the client of the latest called itself, cut to 120 characters."),
    }));
    form["description"] = "Who was not believed.".into();
    form
}

fn nobody_refused() -> Value {
    json!({ "requests": 0, "inARow": 0, "since": null, "lastAt": null, "lastReason": null, "lastUserAgent": null })
}

fn example() -> Value {
    let mut whole = example_in_short();
    whole["mode"] = "events".into();
    whole["eventType"] = Value::Null;
    whole["schema"] = json!({ "level": "number" });
    whole["rateLimit"] = json!({ "requests": 600, "perSeconds": 60 });
    whole["refusedSenders"] = nobody_refused();
    whole["updatedAt"] = "2025-06-21T12:35:00.123Z".into();
    whole
}

fn example_in_short() -> Value {
    json!({
        "id": events::SOURCE, "url": format!("https://events.example.org/webhooks/{}", events::SOURCE), "name": "game server",
        "channel": "organization:default", "authentication": "api_key", "createdAt": "2025-06-21T12:35:00.123Z",
        "eventsReceived": 0, "lastEventAt": null, "status": "active",
    })
}

/// What a source in raw mode answers.
fn response() -> Value {
    json!({
        "type": ["object", "null"], "additionalProperties": false,
        "description": "The answer to senders, of a source in raw mode; absent: as for events.",
        "properties": {
            "status": { "type": "integer", "minimum": 200, "maximum": 599, "default": 200 },
            "headers": { "description": "An object, or a list of `[name, value]`: `Content-Type`, `Cache-Control`, `Retry-After`, `X-...`.", "type": ["object", "array"] },
            "body": { "type": "string", "maxLength": 16384 },
        },
    })
}

fn names(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 128 }, "maxItems": 50, "description": description })
}

fn public_key() -> Value {
    json!({ "type": "string", "minLength": 1, "description": "The public key of the sender: PEM, hexadecimal digits or base64." })
}

fn verify_token() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 256, "description": "What Meta shows when it asks; absent: made." })
}

fn key() -> Value {
    json!({ "type": "string", "minLength": 1, "description": "A key of yours; absent: made, and shown once." })
}

pub fn create(place: &Place<'_>) -> Operation {
    let jwt = object(json!({
        "algorithm": jwt_algorithm(), "key?": text_or_null("The key: a text for HS256, else a public key as PEM."),
        "issuer?": text_or_null("Required `iss`."), "audience?": text_or_null("Required `aud`; without it, tokens with an `aud` are refused."),
    }));
    let asked = object(json!({
        "authentication": authentication(),
        "name?": text_or_null("What people call it."),
        "channel?": text("Where its events go: `map:<id or slug>` or `organization:<id>`."),
        "mode?": one_of(&["events", "raw"], "Whether bodies are read, or requests kept as they come."),
        "keep?": names("Raw mode: headers, parameters and fields that are kept although they hold a credential."),
        "redact?": names("Raw mode: further headers that are not kept."), "redact_query?": names("Raw mode: parameters that are not kept."),
        "response?": response(),
        "secretKey?": key(), "apiKey?": key(), "publicKey?": public_key(), "verifyToken?": verify_token(), "hmacAlgorithm?": algorithm(), "jwt?": jwt, "eventType?": event_type(), "schema?": schema(),
        "rateLimit?": rate_asked(),
    }));
    let made = place.named("NewSource", |_| object(members()));
    let made = object(json!({
        "endpoint": made, "secret?": text("The key that was made. Shown only here."),
        "verifyToken?": text("The token that was made and that the provider shows when it asks. Shown only here."),
    }));
    Operation::new(TAG, "Create a source", MANAGES)
        .body(asked, json!({ "name": "game server", "authentication": "api_key" }))
        .answers(
            201,
            "The source.",
            made,
            json!({ "endpoint": example_in_short(), "secret": "whk_oWm1mXb1yQ0O5r8Jc6dV7u2t3s4r5q6p" }),
        )
        .fails(&[Code::Conflict, Code::SourceLimit])
}

pub fn list_sources(place: &Place<'_>) -> Operation {
    let all = object(json!({ "data": list(source(place)) }));
    Operation::new(TAG, "List sources", MANAGES).answers(200, "The sources.", all, json!({ "data": [example()] }))
}

fn endpoint(place: &Place<'_>) -> Value {
    object(json!({ "endpoint": source(place) }))
}

pub fn get(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "Get a source", MANAGES).answers(
        200,
        "The source.",
        endpoint(place),
        json!({ "endpoint": example() }),
    )
}

pub fn change(place: &Place<'_>) -> Operation {
    let jwt = object(json!({
        "algorithm?": jwt_algorithm(), "issuer?": text_or_null("Required `iss`."), "audience?": text_or_null("Required `aud`; without it, tokens with an `aud` are refused."),
    }));
    let mut asked = object(json!({
        "name?": text_or_null("What people call it."),
        "status?": one_of(&["active", "paused"], "Whether it is to take events in."),
        "verifyToken?": verify_token(),
        "keep?": names("Raw mode: headers, parameters and fields that are kept although they hold a credential."),
        "redact?": names("Raw mode: further headers that are not kept."), "redact_query?": names("Raw mode: parameters that are not kept."),
        "response?": response(),
        "hmacAlgorithm?": algorithm(), "jwt?": jwt, "eventType?": event_type(), "schema?": schema(), "rateLimit?": rate_asked(),
    }));
    // what was read may be sent back
    asked["additionalProperties"] = true.into();
    Operation::new(TAG, "Change a source", MANAGES)
        .says("What the body names is changed, the rest stays. `authentication` and `channel` cannot be changed.")
        .body(asked, json!({ "status": "paused" }))
        .answers(200, "The source as it is now.", endpoint(place), json!({ "endpoint": example() }))
}

pub fn delete(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Delete a source", MANAGES).answers_nothing(204, "It is gone, with its dead letters.")
}

pub fn status(_: &Place<'_>) -> Operation {
    let form = object(json!({
        "id": text("The source."),
        "status": one_of(&["active", "paused"], "Whether it takes events in."),
        "eventsReceived": count("Events that it took in."),
        "lastEventAt": time_or_null("When the last one came."),
        "deadLetters": count("What was refused and is kept."),
        "refusedSenders": refused_senders(),
    }));
    let example = json!({
        "id": events::SOURCE, "status": "active", "eventsReceived": 12, "lastEventAt": "2025-06-21T12:35:00.123Z", "deadLetters": 0,
        "refusedSenders": nobody_refused(),
    });
    Operation::new(TAG, "How a source does", MANAGES).answers(200, "In short.", form, example)
}

pub fn rotate_secret(_: &Place<'_>) -> Operation {
    let grace = || json!({ "type": "integer", "minimum": 0, "maximum": OVERLAP_MAX_S, "default": 0 });
    let asked = object(json!({
        "graceSeconds?": grace(), "grace_seconds?": grace(), "secretKey?": key(), "apiKey?": key(), "publicKey?": public_key(),
        "jwt?": object(json!({ "key": text("The new key.") })),
    }));
    let form = object(json!({
        "id": text("The source."),
        "graceSeconds": count("How long the old key is taken too."),
        "previousSecretExpiresAt": time("When the old one ends."),
        "secret?": text("The key that was made. Shown only here."),
    }));
    let example = json!({
        "id": events::SOURCE, "graceSeconds": 3600, "previousSecretExpiresAt": "2025-06-21T13:35:00.123Z",
        "secret": "whk_oWm1mXb1yQ0O5r8Jc6dV7u2t3s4r5q6p",
    });
    Operation::new(TAG, "Rotate the key of a source", MANAGES)
        .optional_body(asked, json!({ "graceSeconds": 3600 }))
        .answers(200, "The new key.", form, example)
        .fails(&[Code::Conflict])
}

fn letter_members() -> Value {
    let detail = object(json!({
        "index": { "type": ["integer", "null"] }, "field": { "type": ["string", "null"] }, "message": text("What is wrong."),
    }));
    json!({
        "n": count("Its number."),
        "receivedAt": time("When it came."),
        "reason": text("Why it was refused."),
        "details": list(detail),
        "bytes": count("The length of its body."),
        "truncated": { "type": "boolean", "description": "Whether only the beginning of the body is kept." },
        "retries": count("How often it was sent again."),
    })
}

fn letter_example() -> Value {
    json!({
        "n": 1, "receivedAt": "2025-06-21T12:35:00.123Z", "reason": "invalid",
        "details": [{ "index": 0, "field": "event_type", "message": "is required" }], "bytes": 2, "truncated": false, "retries": 0,
    })
}

pub fn list_letters(place: &Place<'_>) -> Operation {
    let letter = place.named("DeadLetter", |_| object(letter_members()));
    let next = json!({ "type": ["integer", "null"], "description": "What to ask for `after`." });
    let page = object(json!({ "data": list(letter), "next": next }));
    let cursor = json!({ "type": "integer", "minimum": 0 });
    Operation::new(TAG, "List dead letters", MANAGES)
        .says("What a verified sender sent and was refused for its content.")
        .takes(parameters::page("Dead letters of a page, at most.", "Go on behind this one.", cursor))
        .answers(200, "A page of dead letters.", page, json!({ "data": [letter_example()], "next": null }))
}

pub fn get_letter(place: &Place<'_>) -> Operation {
    let letter = place.named("DeadLetterWithBody", |_| {
        let mut members = letter_members();
        let pair = json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 });
        members["headers"] = list(pair);
        members["body"] = text("What was sent, as far as it is kept.");
        members["bodyBase64?"] = text("The same exactly, where it is not UTF-8.");
        object(members)
    });
    let mut example = letter_example();
    example["headers"] = json!([["content-type", "application/json"]]);
    example["body"] = "{}".into();
    Operation::new(TAG, "Get a dead letter", MANAGES).answers(
        200,
        "The letter with its body.",
        data(letter),
        json!({ "data": example }),
    )
}

fn accepted() -> Value {
    let detail = object(
        json!({ "index": count("Which event."), "field": text("Which field."), "message": text("What is wrong.") }),
    );
    object(json!({
        "accepted": count("How many events are stored."),
        "ids": list(events::id()),
        "rejected?": count("With `partial=true`: how many are not."),
        "details?": list(detail),
    }))
}

fn accepted_example() -> Value {
    json!({ "accepted": 1, "ids": [format!("evt_{}", events::EXAMPLE_ULID)] })
}

pub fn retry_letter(_: &Place<'_>) -> Operation {
    let challenge = object(json!({ "challenge": text("A letter that was no event but a challenge of its sender.") }));
    let edited = object(json!({
        "body?": text("What to send in the place of its body."),
        "bodyBase64?": text("The same for bytes that are no text."),
        "contentType?": text("What to send in the place of its `Content-Type`."),
    }));
    Operation::new(TAG, "Send a dead letter again", MANAGES)
        .says("It is read as the source reads now, and leaves the list when it is taken. A body that is given here is sent in its place.")
        .optional_body(edited, json!({ "body": "{\"event_type\":\"a\"}" }))
        .answers(200, "It was taken.", json!({ "oneOf": [accepted(), challenge] }), accepted_example())
        .fails(&[Code::InvalidJson, Code::ValidationFailed, Code::PayloadTooLarge, Code::Conflict])
}

pub fn presets(_: &Place<'_>) -> Operation {
    let key = object(json!({
        "field": one_of(&["secretKey", "publicKey"], "Where it is given when a source is created."),
        "called": text("What the provider calls it."),
        "made": { "type": "boolean", "description": "Whether one is made where none is given." },
    }));
    let one = object(json!({
        "name": text("What a source names in `authentication`."), "title": text("What people call the provider."),
        "documentation": text("Where the provider says how it signs."), "setup": text("What to enter where at the provider."),
        "key": key, "recipes": list(recipe()), "eventType": event_type(),
        "id": { "type": "object", "description": "Where the provider's own id of a delivery or an event is." },
        "handshake": text_or_null("How it asks whether somebody is there."),
    }));
    let example = json!({ "data": [{
        "name": "github", "title": "GitHub", "documentation": "https://docs.github.com/en/webhooks", "setup": "Settings, Webhooks.",
        "key": { "field": "secretKey", "called": "Secret", "made": true },
        "recipes": [{ "scheme": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256=", "encoding": "hex", "algorithm": "sha256" }],
        "eventType": [{ "header": "X-GitHub-Event" }], "id": { "header": ["X-GitHub-Delivery"] }, "handshake": null,
    }] });
    Operation::new(TAG, "The providers that are known", Access::Anyone)
        .says("Each is a name for `authentication` of a source.")
        .answers(200, "The presets.", object(json!({ "data": list(one) })), example)
}

pub fn check(_: &Place<'_>) -> Operation {
    let mut asked = object(json!({
        "request?": text("The whole request: request line, headers, an empty line, body."),
        "method?": text("`POST`."), "url?": text("The address that the sender used; that of the source."),
        "headers?": { "description": "An object, or a list of `[name, value]`.", "type": ["object", "array"] },
        "body?": text("The body."), "bodyBase64?": text("The body, where it is no text."),
        "at?": time("When it came; now."),
    }));
    asked["description"] = "`request`, or its parts.".into();
    let step = object(json!({
        "step": text("What was looked at."), "ok": { "type": "boolean", "description": "Whether it is right." },
        "message": text("What was compared, and what differs."),
    }));
    let form = object(json!({
        "accepted": { "type": "boolean", "description": "Whether the source would take it." },
        "believed": { "type": "boolean", "description": "Whether its sender is believed." },
        "steps": list(step), "eventTypes": list(text("The type of an event in it.")),
    }));
    let example = json!({
        "accepted": false, "believed": false, "eventTypes": ["push"],
        "steps": [{ "step": "signature", "ok": false, "message": "the signature does not match: the body has a line break at its end that was not signed" }],
    });
    Operation::new(TAG, "Check a pasted request", MANAGES)
        .says("Why the source believes a request or not, step by step. Nothing is stored; no secret and no right signature is shown.")
        .body(asked, json!({ "headers": { "X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=00" }, "body": "{}" }))
        .answers(200, "What was compared.", form, example)
        .stores_nothing()
}

pub fn asks(_: &Place<'_>) -> Operation {
    let parameter = |name: &str| parameters::optional(name, "As Meta asks.", json!({ "type": "string" }));
    let challenge = json!({ "schema": text("`hub.challenge`."), "example": "1158201444" });
    Operation::new(TAG, "Whether somebody is there", Access::Anyone)
        .says("Meta asks so before it sends, with the `verifyToken` of the source.")
        .takes([parameter("hub.mode"), parameter("hub.verify_token"), parameter("hub.challenge")])
        .answers_as(200, "The challenge.", "text/plain", challenge)
        .fails(&[Code::NotFound, Code::Forbidden, Code::MethodNotAllowed, Code::RateLimited])
}

pub fn options(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Whether CloudEvents may be sent", Access::Anyone)
        .says("The handshake of the CloudEvents webhook specification: `WebHook-Request-Origin` is answered with `WebHook-Allowed-Origin`.")
        .answers_nothing(200, "They may.")
        .fails(&[Code::NotFound, Code::MethodNotAllowed, Code::RateLimited, Code::ValidationFailed])
}

pub fn take_below(_: &Place<'_>) -> Operation {
    let any = json!({ "schema": {}, "example": "anything" });
    let accepted = object(json!({ "accepted": count("How many events are stored."), "ids": list(events::id()) }));
    Operation::new(TAG, "Send a request to a source in raw mode", Access::Anyone)
        .says("Such a source takes any method but TRACE and CONNECT and any content type, here and at its own address, and answers what its owner chose.")
        .with_body(false, "application/octet-stream", any)
        .answers(200, "The request is durable.", accepted, accepted_example())
        .fails(&[Code::Unauthorized, Code::NotFound, Code::RequestTimeout, Code::RateLimited, Code::SourcePaused, Code::PayloadTooLarge])
}

pub fn delete_letter(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Throw a dead letter away", MANAGES).answers_nothing(204, "It is gone.")
}

pub fn clear_letters(_: &Place<'_>) -> Operation {
    Operation::new(TAG, "Throw all dead letters away", MANAGES).answers_nothing(204, "They are gone.")
}

pub fn take(place: &Place<'_>) -> Operation {
    let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string" } });
    let partial = json!({ "type": "boolean" });
    let example = json!({ "event_type": "player_joined", "user_id": "u1", "properties": { "level": 3 } });
    let any = json!({ "description": "JSON in the form of the sender, where the source knows it (`eventType`); else an event." });
    let body = json!({ "anyOf": [events::drafts(place), any] });
    let challenge = json!({ "schema": text("What a sender wants to hear first."), "example": "challenge" });
    let answer = object(
        json!({ "plainToken?": text("Zoom."), "encryptedToken?": text("Zoom."), "type?": count("Discord."), "validationResponse?": text("Event Grid.") }),
    );
    let form = json!({ "schema": text("The fields of a form become `properties`."), "example": "event_type=player_joined&level=3" });
    Operation::new(TAG, "Send events", Access::Anyone)
        .says("Checked in this order: address, size, rate, the sender over the raw bytes, and then what they say.")
        .says("`api_key`: `X-API-Key`. `hmac`: `X-Webhook-Timestamp` (ms) and `X-Webhook-Signature: sha256=<hex of HMAC over timestamp.body>`. `jwt`: `Authorization: Bearer`.")
        .takes([
            parameters::optional("partial", "Take the good events of a batch and say which were not.", partial),
            header("X-API-Key", "For `api_key`."),
            header("X-Webhook-Timestamp", "For `hmac`, in Unix milliseconds."),
            header("X-Webhook-Signature", "For `hmac`."),
            header("Idempotency-Key", "Within 24 h a request with the same key is answered like the first."),
        ])
        .body(body, example)
        .with_body(true, "application/x-www-form-urlencoded", form)
        .answers(200, "The events are durable, or what a provider asked for.", json!({ "oneOf": [accepted(), answer] }), accepted_example())
        .answers_nothing(204, "What Discord asked for.")
        .answers_as(200, "", "text/plain", challenge)
        .answer_header(200, "Idempotency-Replayed", "The answer to an earlier request with the same key.", json!({ "const": "true" }))
        .fails(&[Code::Unauthorized, Code::NotFound, Code::RequestTimeout, Code::RateLimited, Code::SourcePaused, Code::Internal])
}
