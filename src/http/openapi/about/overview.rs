//! The overview. Its series and kinds are documented from the tables that the server works by.

use std::fmt::Write;

use actors::hub::attention::KINDS;
use actors::series::names::SERIES;
use serde_json::{Map, Value, json};

use super::super::schemas::{data, list, object, one_of};
use super::super::{Access, Operation, Place, parameters};
use crate::http::overview as handlers;
use crate::http::problem::Code;

/// What is written above the tables, in the reference by request and in the one for reading.
const SAYS: &str = "Figures over time and what needs attention, of what the token may read: for the admin the server, or the channel or webhook that is \
    named; for others their channels. The last point of a series is of the step that is under way; a point is null where nothing is \
    known, such as while the server did not run. Figures outlast restarts; a crash may cost those of the last minute.";

/// The page for reading.
#[cfg(test)]
pub fn page() -> String {
    format!(
        "# Figures and what needs attention\n\n\
         `GET /api/v1/overview?window=1h|24h|7d&channel=&webhook=` (any token). {SAYS}\n\n\
         The answer is `{{\"data\": {{window, resolution_s, series, attention, attention_total}}}}`. The [dashboard](dashboard.md) is drawn from it.\n\n\
         ## Series\n\n\
         `series` holds each by its name as `[[ms, value], ...]`: when a step begins, in Unix milliseconds, and what it says. {STEPS} What is \
         counted is a number for each step; what goes up and down is the worst of the step.\n\n{}\n\
         ## What needs attention\n\n\
         `attention` lists what is wrong, errors first: `{{kind, severity, title, cause, since, link, action?, channel?, webhook?, source?}}`. `since` is \
         an ISO-8601 time, or `null` where it is not known. `link` leads to the dashboard; `action` is `{{label, method, href, body?}}`, one request \
         that helps. At most 100 are listed, and `attention_total` says how many there are.\n\n{}",
        series_table(),
        kinds_table(),
    )
}

const STEPS: &str = "Steps of the server are 10 s for `1h`, 1 min for `24h`, 1 h for `7d`; of channels and webhooks 5 min for `1h` and `24h`, 1 h \
    for `7d`.";

/// The series as a table in Markdown.
pub fn series_table() -> String {
    let mut table = "| series | unit | of | needs | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for one in SERIES {
        let (of, needs) = (one.of.as_str(), one.needs.as_str());
        // writing into a text does not fail
        let _ = writeln!(table, "| `{}` | {} | {of} | {needs} | {} |", one.name, one.unit, one.says);
    }
    table
}

/// What may need attention as a table in Markdown.
pub fn kinds_table() -> String {
    let mut table = "| kind | severity | told to | when |\n| --- | --- | --- | --- |\n".to_owned();
    for kind in KINDS {
        let whom = if kind.is_for_admin { "admin" } else { "`manage`" };
        // writing into a text does not fail
        let _ = writeln!(table, "| `{}` | {} | {whom} | {} |", kind.name, kind.severity.as_str(), kind.when);
    }
    table
}

pub fn overview(place: &Place<'_>) -> Operation {
    let window = json!({ "type": "string", "enum": ["1h", "24h", "7d", ""], "default": "1h" });
    let webhook = json!({ "type": "string" });
    let point = json!({
        "type": "array", "minItems": 2, "maxItems": 2,
        "prefixItems": [
            { "type": "integer", "description": "When the step begins, in Unix milliseconds." },
            { "type": ["number", "null"], "description": "What the step says." },
        ],
    });
    let points = place.named("SeriesPoints", |_| list(point));
    let described = |one: &actors::series::names::Series| {
        let schema = json!({ "allOf": [points.clone()], "description": format!("In {}. {}", one.unit, one.says) });
        (one.name.to_owned(), schema)
    };
    let series = json!({
        "type": "object", "additionalProperties": false,
        "properties": SERIES.iter().map(described).collect::<Map<_, _>>(),
        "description": "By name; those that the token may not read, or that there are not of what is asked for, are absent.",
    });
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let attention = json!({
        "allOf": [place.answer::<handlers::AttentionView>(), { "properties": { "kind": one_of(&kinds, "What is wrong.") } }],
    });
    let shown = object(json!({
        "window": one_of(&["1h", "24h", "7d"], "As it was asked for."),
        "resolution_s": { "type": "integer", "enum": [10, 60, 300, 3600], "description": "Length of a step, in seconds." },
        "series": series,
        "attention": list(attention),
        "attention_total": { "type": "integer", "minimum": 0, "description": "How many there are; at most 100 are told." },
    }));
    Operation::new("Operations", "What is going on, and what needs attention", Access::Caller)
        .says(SAYS)
        .says(STEPS)
        .says(format!("\n\n{}\n{}", series_table(), kinds_table()))
        .takes([
            parameters::optional("window", "How far back.", window),
            parameters::channel(),
            parameters::optional("webhook", "The id of a webhook, of which the token has `manage`.", webhook),
        ])
        .answers(200, "The overview.", data(shown), example())
        .fails(&[Code::Forbidden, Code::NotFound, Code::ScanLimit, Code::Unavailable, Code::Stopping])
}

fn example() -> Value {
    json!({ "data": {
        "window": "1h", "resolution_s": 10,
        "series": { "published": [[1_750_509_290_000_i64, 12], [1_750_509_300_000_i64, null]], "latency_p50_ms": [[1_750_509_290_000_i64, 42.5]] },
        "attention": [{
            "kind": "webhook_failing", "severity": "error", "title": "Deliveries to hooks.example.org fail",
            "cause": "31 attempts in a row failed: answered 500", "since": "2025-06-21T12:04:00.000Z",
            "link": "/#/webhook/map/c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11/0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11",
            "action": {
                "label": "Send a test", "method": "POST",
                "href": "/api/maps/c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11/webhooks/0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11/test",
            },
            "channel": "map:c3e0f0e6-6c7f-4c0c-9d5e-0d8a1f1b7a11", "webhook": "0b0e3b9c-9c4e-4e6f-8a39-1d2f7f2f7d11",
        }],
        "attention_total": 1,
    } })
}
