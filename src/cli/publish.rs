//! `stentor publish`: one event from flags, or many from NDJSON.

use std::path::{Path, PathBuf};

use actors::model::id::EventId;
use clap::{ArgGroup, Args};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};

use super::channel::Channel;
use super::lines::Lines;
use super::manage::arguments;
use super::progress::Progress;
use super::publisher::{BATCH_BYTES, BATCH_EVENTS, BadLine, Publisher, RetryArgs, Told, check_event};
use super::remote::{Remote, RemoteArgs};
use super::{Failure, complete, output};

/// The flags of `stentor publish`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").args(["type", "ndjson"]).required(true),
    after_help = "Examples:
  stentor publish map:home --type map_kill --payload '{\"killmail_id\": 1}'
  stentor publish map:home --type add_system --payload @system.json
  produce-events | stentor publish map:home --ndjson

Each line that is printed is the id of an event, which is durable then."
)]
pub struct PublishArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Channel to publish into: map:ID, organization:ID, or feed for the token's own
    #[arg(add = complete::channels())]
    channel: Channel,
    /// Type of the event
    #[arg(long = "type", id = "type", value_name = "TYPE", add = complete::types())]
    kind: Option<String>,
    /// Payload, a JSON object: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", requires = "type")]
    payload: Option<String>,
    /// Session that the event belongs to
    #[arg(long, value_name = "NAME", requires = "type")]
    session: Option<String>,
    /// When it happened, such as 2027-01-31T12:00:00Z; without it, now
    #[arg(long, value_name = "ISO-8601", requires = "type")]
    ts: Option<String>,
    /// The same event is stored once, however often it is published with this key within a day
    #[arg(long, value_name = "KEY", requires = "type")]
    dedupe_id: Option<String>,
    /// Publish events from NDJSON, one a line: a file, or standard input
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    ndjson: Option<PathBuf>,
    #[command(flatten)]
    retry: RetryArgs,
}

/// Publishes and prints the ids.
///
/// # Errors
/// Wrong usage for flags that make no event; failed when the server refuses or is not there, or a line is no event.
pub fn run(args: PublishArgs) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(async {
        let remote = Remote::new(&args.remote)?;
        let progress = Progress::hidden();
        let publisher = Publisher::new(&remote, &args.channel, &args.retry, &progress);
        match (&args.kind, &args.ndjson) {
            (Some(kind), _) => one(&publisher, &args, kind).await,
            (None, Some(path)) => many(&publisher, path).await,
            // the group of flags needs one of them
            (None, None) => Ok(()),
        }
    })
}

async fn one(publisher: &Publisher<'_>, args: &PublishArgs, kind: &str) -> Result<(), Failure> {
    let mut event = Map::new();
    event.insert("type".into(), kind.into());
    for (name, value) in [("session", &args.session), ("ts", &args.ts), ("dedupe_id", &args.dedupe_id)] {
        event.extend(value.as_ref().map(|value| (name.to_owned(), Json::from(value.as_str()))));
    }
    let mut event = json!(event).to_string();
    if let Some(payload) = args.payload.as_deref().map(payload).transpose()? {
        // the payload's own text, so that its numbers keep their digits
        event.truncate(event.len() - 1);
        event.push_str(&format!(",\"payload\":{payload}}}"));
    }
    check_event(&event).map_err(|reason| Failure::Usage(format!("this is no event: {reason}")))?;
    print(&publisher.json(event).await?)
}

/// The text of the payload, wherever it is.
pub(super) fn payload(flag: &str) -> Result<Box<RawValue>, Failure> {
    serde_json::from_str(&arguments::text(flag)?).map_err(|e| {
        let hint = if flag.starts_with(['{', '[', '-', '@']) { "" } else { "; a file is given as @FILE" };
        Failure::Usage(format!("--payload is no JSON: {e}{hint}"))
    })
}

async fn many(publisher: &Publisher<'_>, path: &Path) -> Result<(), Failure> {
    let mut lines = Lines::open(path.into())?;
    let mut tell = |told| match told {
        Told::Stored(ids) => print(&ids),
        Told::Bad(BadLine { number, reason }) => Err(Failure::Failed(format!(
            "line {number} is no event: {reason}; all before it is published: correct it and publish from there on"
        ))),
    };
    while let Some(batch) = lines.batch(BATCH_EVENTS, BATCH_BYTES).await? {
        publisher.lines(batch, &mut tell).await?;
    }
    Ok(())
}

pub(super) fn print(ids: &[EventId]) -> Result<(), Failure> {
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    output::bytes(text.as_bytes())
}
