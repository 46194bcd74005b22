//! What stands in paths and queries.

use serde_json::{Value, json};

use super::schemas::one_of;
use crate::http::family::ApiFamily;

const ULID: &str = "^(evt_)?[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$";

fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// A parameter that may be left out.
pub fn optional(name: &str, description: &str, schema: Value) -> Value {
    query(name, description, schema)
}

/// The id of an event, or nothing.
pub fn cursor_schema() -> Value {
    json!({ "type": "string", "pattern": format!("{ULID}|^$") })
}

/// The parameters of a path.
pub fn of_path(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    names.map(|name| of_path_named(name, path)).collect()
}

fn of_path_named(name: &str, path: &str) -> Value {
    let (description, schema, example) = match name {
        "map" => ("The id (a UUID) or the slug of a map.", text(), json!("home")),
        "org" => ("The id of an organization.", text(), json!("org_01J00000000000000000000000")),
        "webhook" => ("The id of a webhook.", text(), json!("0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11")),
        "delivery" => ("The id of a delivery.", text(), json!("dlv_01J00000000000000000000000")),
        "job" => ("The number of a replay.", json!({ "type": "integer", "minimum": 0 }), json!(1)),
        "id" if path.starts_with("/api/v1/tokens") => {
            ("The id of a token.", text(), json!("tok_01J00000000000000000000000"))
        }
        "id" if path.starts_with("/api/v1/connections") => {
            ("The id of an open stream.", text(), json!("con_01J00000000000000000000000"))
        }
        "id" if path.starts_with("/api/v1/events") => {
            ("The id of an event.", text(), json!("evt_01J00000000000000000000000"))
        }
        "source" => ("The id of a source.", text(), json!(super::events::SOURCE)),
        "letter" => ("The number of a dead letter.", json!({ "type": "integer", "minimum": 0 }), json!(1)),
        "folder" if path.starts_with("/docs") => ("The folder of the page.", text(), json!("operations")),
        "page" => {
            ("The name of a page.", text(), json!(if path.contains("{folder}") { "nginx" } else { "quick-start" }))
        }
        "folder" => ("The folder.", one_of(&["app", "vendor"], "The folder."), json!("app")),
        "file" => ("The name of a file.", text(), json!("stentor.js")),
        _ => ("Which one.", text(), json!("1")),
    };
    json!({
        "name": name, "in": "path", "required": true, "description": description, "schema": schema, "example": example,
    })
}

/// For addresses that name no channel.
pub fn channel() -> Value {
    let description = "Which channel: `map:<id or slug>` or `organization:<id>`. Without it, the token's own; the admin has none, \
                       and a token of several channels names one.";
    query("channel", description, text())
}

/// For addresses at which several channels can be read.
pub fn channels() -> Value {
    let description = "Which channels, in one order: 1 to 100 of `map:<id or slug>`, `organization:<id>`, and `map:*` or `organization:*` for \
                       all of a kind, also those that are made later. A comma list; may be repeated. One that may not be read makes it a \
                       404. Without it, all that the token may read.";
    let mut channels = query("channel", description, json!({ "type": "array", "items": text() }));
    channels["style"] = "form".into();
    channels["explode"] = false.into();
    channels
}

/// Names that other APIs and their clients have for the same, behind the name that it has here.
pub const SPELLINGS: [(&str, &[&str]); 4] = [
    ("events", &["events[]"]),
    ("path_prefix", &["pathPrefix"]),
    ("session", &["sessionId"]),
    ("last_event_id", &["lastEventId", "lastEventID", "last-event-id", "Last-Event-ID", "since", "after", "cursor"]),
];

/// A parameter in every spelling.
fn spelled(parameter: Value) -> Vec<Value> {
    let others = SPELLINGS.iter().find(|(own, _)| parameter["name"] == **own).map_or(&[][..], |(_, others)| others);
    let spelling = |name: &&str| {
        let mut other = parameter.clone();
        other["name"] = (*name).into();
        let description = format!("Another name of `{}`.", parameter["name"].as_str().unwrap_or_default());
        other["description"] = description.into();
        if name.ends_with("[]") {
            other["explode"] = true.into();
        }
        other
    };
    let others: Vec<_> = others.iter().map(spelling).collect();
    std::iter::once(parameter).chain(others).collect()
}

/// The filter, the same everywhere.
pub fn filter() -> Vec<Value> {
    let list = json!({ "type": "array", "items": { "type": "string" } });
    let mut events = query("events", "Comma list of types; absent or `*`: all; empty: none.", list.clone());
    events["style"] = "form".into();
    events["explode"] = false.into();
    let mut prefix =
        query("path_prefix", "Prefix of `payload.path` or of any `payload.entries[].path`. May be repeated.", list);
    prefix["style"] = "form".into();
    prefix["explode"] = true.into();
    let cel = json!({ "type": "string", "maxLength": 2048 });
    let all = [
        events,
        prefix,
        query("session", "Only events of this session.", text()),
        query(
            "filter",
            "A CEL expression over `event`: `event.type == \"map_kill\" && event.payload.value > 1000.0`.",
            cel,
        ),
    ];
    all.into_iter().flat_map(spelled).collect()
}

/// Whether envelopes of the feed say which channel an event belongs to.
pub fn with_channel(family: ApiFamily) -> Option<Value> {
    let flag = || {
        let description = "Whether each envelope has the `channel` of its event.";
        query("with_channel", description, json!({ "type": "boolean" }))
    };
    (family == ApiFamily::Feed).then(flag)
}

/// Where a stream begins.
pub fn resume() -> Vec<Value> {
    let description = "Resume after this event. Of several, under whatever names, the newest counts.";
    let mut all = spelled(query("last_event_id", description, cursor_schema()));
    all.push(json!({
        "name": "Last-Event-ID", "in": "header", "schema": cursor_schema(),
        "description": "Resume after this event; wins over the query.",
    }));
    all
}

/// Pages of events.
pub fn page_of_events() -> Vec<Value> {
    let moment = json!({ "type": "string", "format": "date-time" });
    vec![
        query(
            "limit",
            "Events of a page, at most.",
            json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 }),
        ),
        query(
            "order",
            "`asc`: the oldest first.",
            json!({ "type": "string", "enum": ["asc", "desc"], "default": "asc" }),
        ),
        query("after", "Go on behind this event, in the order asked for: `next` of the page before.", cursor_schema()),
        query("since", "Events whose time is at or after this.", moment.clone()),
        query("until", "Events whose time is at or before this.", moment),
    ]
}

/// Pages of what has no time range.
pub fn page(limit: &str, after: &str, cursor: Value) -> Vec<Value> {
    vec![
        query("limit", limit, json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 })),
        query("after", after, cursor),
    ]
}
