//! Health, metrics, documents, pages.

use serde_json::json;

use super::super::schemas::text;
use super::super::{Access, Operation, Place, parameters};
use crate::http::problem::Code;
use crate::http::{cluster, ops};

const TAG: &str = "Operations";
const PAGES: &str = "Pages";

pub fn live(place: &Place<'_>) -> Operation {
    Operation::new(TAG, "Whether the process answers", Access::Anyone).answers(
        200,
        "It does.",
        place.answer::<ops::LiveView>(),
        json!({ "status": "live", "version": env!("CARGO_PKG_VERSION") }),
    )
}

pub fn ready(place: &Place<'_>) -> Operation {
    let report = |status: &str| {
        json!({
            "status": status,
            "reason": (status != "ready").then_some("the server is stopping"), "stopping": status != "ready", "journal_writable": true, "journal_queue_events": 0,
            "disk_free_bytes": 51_539_607_552_u64, "disk_floor_bytes": 268_435_456, "quarantined_segments": [],
            "damaged_ranges": 0, "damage": [], "notes_lost": false, "clock_jumped_ms": 0,
            "settings_fingerprint": "5d41402abc4b2a76", "cluster": null,
        })
    };
    let schema = place.answer::<ops::ReadyView>();
    let seconds = json!({ "type": "integer", "minimum": 0 });
    Operation::new(TAG, "Whether the server can do its work", Access::Anyone)
        .says("The journal is writable, and the disk has room.")
        .answers(200, "It can.", schema.clone(), report("ready"))
        .answers(503, "It cannot, and the body says why.", schema, report("not_ready"))
        .answer_header(503, "Retry-After", "Seconds after which to ask again.", seconds)
}

pub fn cluster(place: &Place<'_>) -> Operation {
    let node = |name: &str, slots: &str, owned: usize| {
        json!({
            "name": name, "live": true, "address": "10.0.0.1:8080", "version": env!("CARGO_PKG_VERSION"),
            "started_at": "2025-06-21T12:35:00.123Z", "heard_ms": 120, "behind_messages": 0, "behind_ms": 0, "slots": slots,
            "slots_owned": owned,
        })
    };
    let replica = |server: &str, leader: bool| json!({ "server": server, "leader": leader, "current": true, "offline": false, "behind_messages": 0 });
    let example = json!({ "data": {
        "node": "a", "term": 1_204, "writer": "b", "nodes": [node("a", "0-31", 32), node("b", "32-63", 32)], "slots_unowned": "",
        "streams": [{
            "name": "stentor_LOG", "replicas_configured": 3, "replicas_current": 3,
            "replicas": [replica("n1", true), replica("n2", false), replica("n3", false)],
        }],
        "nats_servers": [{ "address": "10.0.0.1:4222", "name": "n1", "version": "2.15.1" }],
        "nats_syncs_always": true, "troubles": [],
    } });
    Operation::new(TAG, "The cluster", Access::Admin)
        .says("As the node that answers sees it: nodes, who writes the log, who delivers for which webhooks, the streams in NATS, and what is wrong.")
        .answers(200, "The cluster; `data` is null for a server alone.", place.answer::<cluster::ClusterAnswer>(), example)
}

pub fn metrics(_: &Place<'_>) -> Operation {
    let content = json!({ "schema": text("OpenMetrics 1.0."), "example": "# EOF\n" });
    Operation::new(TAG, "Metrics", Access::Anyone)
        .says("OpenMetrics, for Prometheus. With `server.admin_listen` only at that address; with `metrics.token` only with that or the admin token.")
        .answers_as(200, "The metrics.", "application/openmetrics-text", content)
        .fails(&[Code::Unauthorized, Code::Forbidden, Code::RateLimited, Code::NotFound])
}

pub fn backup(_: &Place<'_>) -> Operation {
    let archive = json!({ "schema": { "type": "string", "format": "binary", "description": "A tar archive." } });
    Operation::new(TAG, "Take a backup", Access::Admin)
        .says("Everything that the data folder keeps, of this moment, while the server runs. It holds secrets.")
        .answers_as(200, "The archive.", "application/x-tar", archive)
        .fails(&[Code::Conflict])
}

pub fn openapi(_: &Place<'_>) -> Operation {
    let schema = json!({ "type": "object", "description": "An OpenAPI 3.1 document." });
    Operation::new(TAG, "This document", Access::Anyone)
        .answers(200, "The API by request.", schema, json!({ "openapi": "3.1.0" }))
        .answers_nothing(304, "The client has it (`If-None-Match`).")
}

pub fn asyncapi(_: &Place<'_>) -> Operation {
    let schema = json!({ "type": "object", "description": "An AsyncAPI 3.0 document." });
    Operation::new(TAG, "The streams and deliveries", Access::Anyone)
        .answers(200, "What flows in streams, and what webhooks post.", schema, json!({ "asyncapi": "3.0.0" }))
        .answers_nothing(304, "The client has it (`If-None-Match`).")
}

pub fn search(_: &Place<'_>) -> Operation {
    let content = json!({ "schema": { "description": "The page." } });
    Operation::new(PAGES, "Search the documentation", Access::Anyone)
        .takes([parameters::optional(
            "q",
            "Words, the code of an error, the name of a setting, or a question. 200 characters are read.",
            json!({ "type": "string" }),
        )])
        .answers_as(200, "A page with the sections that answer best.", "text/html", content)
}

pub fn file(place: &Place<'_>) -> Operation {
    let summary = match place.path {
        "/" => "The dashboard",
        "/docs" => "The documentation",
        "/docs/{page}" => "A page of the documentation",
        "/docs/{folder}/{page}" => "A page of the documentation, one folder down",
        _ => "A file of the pages",
    };
    let media_types: &[&str] = match place.path {
        "/" => &["text/html"],
        // pictures stand beside the pages that show them
        path if path.starts_with("/docs") => &["text/html", "image/svg+xml"],
        _ => &[
            "text/javascript",
            "text/css",
            "image/svg+xml",
            "image/png",
            "text/html",
            "text/plain",
            "application/octet-stream",
        ],
    };
    let content = json!({ "schema": { "description": "The file." } });
    let operation = Operation::new(PAGES, summary, Access::Anyone);
    let operation = media_types
        .iter()
        .fold(operation, |operation, media_type| operation.answers_as(200, "The file.", media_type, content.clone()));
    let operation = operation.answers_nothing(304, "The client has it (`If-None-Match`).");
    // of the rest some is not there, and the dashboard is not where it has an address of its own
    if place.path == "/docs" { operation } else { operation.fails(&[Code::NotFound]) }
}
