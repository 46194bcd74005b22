//! Senders that sign their events to a source: events that are verified, durable and answered, a second. Each sender sends its
//! next request when the one before is answered. Signing is the load's work, on its own core.

use std::time::{SystemTime, UNIX_EPOCH};

use actors::model::source::{HmacAlgorithm, sign_hmac};
use clap::Args;
use serde_json::json;

use super::Common;
use super::report::{Column, Report};
use super::sending::{Sending, columns};
use super::server::Server;
use crate::cli::Failure;

/// The flags of `stentor bench ingest`.
#[derive(Debug, Args)]
pub struct IngestArgs {
    /// Connections that send: one measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "16,256", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: Vec<u32>,
    /// Events in each signed request: one measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "1,100", value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: Vec<u32>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Bytes of an event as it is sent
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(150..=4000))]
    event_bytes: u32,
}

const COLUMNS: &[Column] = &columns("senders");

const KEY: &str = "the-key-of-the-measurement";

/// Measures how many events come in by a source. Blocks.
///
/// # Errors
/// The server or a connection failed.
pub fn run(args: &IngestArgs, common: &Common) -> Result<Report, Failure> {
    let mut report = Report::new("ingest", COLUMNS);
    for batch in &args.batch {
        for senders in &args.senders {
            report.add(measure(args, common, *senders, *batch)?);
        }
    }
    Ok(report)
}

fn measure(args: &IngestArgs, common: &Common, senders: u32, batch: u32) -> Result<Vec<serde_json::Value>, Failure> {
    let server = Server::start(common)?;
    let asked = json!({ "authentication": "hmac", "secretKey": KEY });
    let made = server.call("POST", "/api/webhooks", &asked)?;
    let id = made["endpoint"]["id"].as_str().ok_or_else(|| Failure::Failed("the server made no source".to_owned()))?;
    let sending = Sending { connections: senders, batch, event_bytes: args.event_bytes, seconds: args.seconds };
    sending.measure(&server, common, event, |body| request(&server, id, body))
}

/// A request that is signed now.
fn request(server: &Server, id: &str, body: &str) -> Vec<u8> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = since.as_millis().to_string();
    let signature = sign_hmac(HmacAlgorithm::Sha256, KEY, &at, body.as_bytes());
    format!(
        "POST /webhooks/{id} HTTP/1.1\r\nHost: {}\r\nX-Webhook-Timestamp: {at}\r\nX-Webhook-Signature: {signature}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.addr,
        body.len()
    )
    .into_bytes()
}

/// One event of about `bytes` bytes as a game server writes it, with `marker` in it.
fn event(marker: &str, bytes: usize) -> String {
    let before = r#"{"event_type":"purchase","user_id":"user_123","properties":{"amount":9.99,"note":""#;
    let after = r#""}}"#;
    let padding = bytes.saturating_sub(before.len() + marker.len() + after.len());
    format!("{before}{marker}{}{after}", "x".repeat(padding))
}
