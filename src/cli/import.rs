//! `stentor import`: events from NDJSON into a channel, so that an import that was interrupted can be repeated.
//!
//! Each line gets a key by which the server knows it again, its `dedupe_id`: the id that the event had where it comes from,
//! else the hash of the line and how often the same line stood before it. So a file can be corrected and imported again
//! within the server's window: what is stored already is not stored twice. Type, time, payload and session stay; the id is a new one, because ids are the order of this log.

use std::collections::HashMap;
use std::path::PathBuf;

use actors::model::draft::UNIX_MS_MIN;
use actors::model::hex;
use actors::model::id::EventId;
use actors::model::timestamp;
use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::channel::Channel;
use super::lines::{Line, Lines};
use super::progress::Progress;
use super::publisher::{BATCH_BYTES, BATCH_EVENTS, Publisher, RetryArgs, Told};
use super::remote::{Remote, RemoteArgs, Request};
use super::{Failure, complete, output};

/// Bad lines that are named, of those that were passed over.
const BAD_NAMED: u64 = 20;

/// The flags of `stentor import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor import map:home events.ndjson
  stentor export map:home --server https://old.example.org | stentor import map:home -

An interrupted import can be repeated: what is stored already is not stored again, as long as the server remembers (a day).")]
pub struct ImportArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Channel to import into: map:ID, organization:ID, or feed for the token's own
    #[arg(add = complete::channels())]
    channel: Channel,
    /// NDJSON: envelopes as `export` writes them, or events as they are published; - for standard input
    #[arg(value_name = "FILE|-")]
    source: PathBuf,
    /// Pass over lines that are no events, instead of stopping at the first
    #[arg(long)]
    skip_invalid: bool,
    #[command(flatten)]
    retry: RetryArgs,
}

/// Lines without an id whose repetitions are counted, as many as the server remembers keys by default.
const LINES_REMEMBERED: usize = 1_000_000;

/// What was done so far.
#[derive(Debug, Default)]
struct Count {
    stored: u64,
    known: u64,
    bad: u64,
}

/// Imports and says on standard error how much.
///
/// # Errors
/// At the first bad line, unless they are passed over; when the server refuses or is not there.
pub fn run(args: ImportArgs) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(import(&args))
}

async fn import(args: &ImportArgs) -> Result<(), Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut lines = Lines::open(args.source.as_path().into())?;
    let progress = Progress::new(lines.total_bytes);
    let publisher = Publisher::new(&remote, &args.channel, &args.retry, &progress);
    let mut newest = newest(&remote, &args.channel).await;
    let mut count = Count::default();
    let mut keys = LineKeys::default();
    let outcome = async {
        while let Some(mut batch) = lines.batch(BATCH_EVENTS, BATCH_BYTES).await? {
            let end = batch.last().map_or(0, |line| line.end);
            batch.iter_mut().for_each(|line| keys.put(line));
            let mut tell = |told| {
                match told {
                    Told::Stored(ids) => count.add(&ids, &mut newest),
                    Told::Bad(bad) if args.skip_invalid => {
                        count.bad += 1;
                        match count.bad {
                            ..=BAD_NAMED => {
                                progress.notice(&format!("line {} is no event: {}", bad.number, bad.reason))
                            }
                            n if n == BAD_NAMED + 1 => {
                                progress.notice("further lines that are no events are only counted")
                            }
                            _ => {}
                        }
                    }
                    Told::Bad(bad) => {
                        let advice = "correct it and import the same again, or add --skip-invalid";
                        return Err(Failure::Failed(format!(
                            "line {} is no event: {}; {advice}",
                            bad.number, bad.reason
                        )));
                    }
                }
                Ok(())
            };
            publisher.lines(batch, &mut tell).await?;
            progress.set(end, count.stored + count.known, end);
        }
        Ok(())
    }
    .await;
    progress.finish();
    output::notice(&count.in_words(&args.channel));
    outcome
}

impl Count {
    /// Ids only ever grow, so one that is not above all others was given out before: its event was there.
    fn add(&mut self, ids: &[EventId], newest: &mut Option<EventId>) {
        for id in ids {
            match newest {
                Some(newest) if *id <= *newest => self.known += 1,
                _ => {
                    self.stored += 1;
                    *newest = Some(*id);
                }
            }
        }
    }

    fn in_words(&self, channel: &Channel) -> String {
        let mut text = format!("imported {} into {channel}", output::count(self.stored, "event", "events"));
        if self.known > 0 {
            let were = output::count(self.known, "was", "were");
            text.push_str(&format!(", {were} there already"));
        }
        if self.bad > 0 {
            text.push_str(&format!(", passed over {}", output::count(self.bad, "line", "lines")));
        }
        text
    }
}

/// The newest event that is there already. None too where the token may not read: then all count as new.
async fn newest(remote: &Remote, channel: &Channel) -> Option<EventId> {
    let path = channel.events();
    let query = [("order", "desc".to_owned()), ("limit", "1".to_owned())];
    let answer = remote.json(&Request::get(&path).query(query)).await.ok()?;
    let event = answer["data"].get(0)?;
    event.get("id").or_else(|| event.get("event_id"))?.as_str()?.parse().ok()
}

/// Gives each line the key by which the server knows it again.
#[derive(Default)]
struct LineKeys {
    /// How often a line without an id was there so far, by its hash.
    seen: HashMap<[u8; 16], u32>,
}

impl LineKeys {
    /// Puts the key into the line as its `dedupe_id`, unless it has one, and writes the time of an envelope of our own so that
    /// it cannot be mistaken. Everything else stays as it is written.
    fn put(&mut self, line: &mut Line) {
        if let Some(text) = told_time(&line.text) {
            line.text = text;
        }
        #[derive(Deserialize)]
        struct Origin {
            #[serde(alias = "event_id")]
            id: Option<Json>,
            dedupe_id: Option<Json>,
        }
        let Ok(Origin { id, dedupe_id: None }) = serde_json::from_str(&line.text) else { return };
        let key = match id {
            Some(Json::String(id)) => id.strip_prefix("evt_").unwrap_or(&id).to_owned(),
            Some(Json::Number(id)) => id.to_string(),
            Some(Json::Null) | None => self.of_text(line),
            Some(_) => return,
        };
        if let Some(rest) = line.text.strip_prefix('{') {
            let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
            line.text = format!("{{\"dedupe_id\":{}{comma}{rest}", Json::from(key));
        }
    }

    /// The same line is the same event when it is imported again, and another one when it stands in the file again.
    fn of_text(&mut self, line: &Line) -> String {
        let mut hash = [0; 16];
        hash.copy_from_slice(&Sha256::digest(&line.text)[..16]);
        let hex = hex::encode(&hash);
        if self.seen.len() >= LINES_REMEMBERED && !self.seen.contains_key(&hash) {
            // rather stored twice than taken for a repetition
            return format!("line-{hex}-at-{}", line.number);
        }
        let before = self.seen.entry(hash).or_default();
        *before += 1;
        format!("line-{hex}-{before}")
    }
}

/// The line with its time in ISO 8601, where it is an envelope of organizations with a time before 1973-03-03. That of an envelope
/// is in milliseconds; the server takes so small a number for seconds by mistake.
fn told_time(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct OfOrganization<'a> {
        schema: &'a str,
        id: &'a str,
        #[serde(borrow)]
        timestamp: &'a RawValue,
    }
    let OfOrganization { schema: "v1", id, timestamp } = serde_json::from_str(line).ok()? else { return None };
    let number = timestamp.get();
    let ms = number.parse().ok().filter(|ms: &i64| *ms < UNIX_MS_MIN)?;
    let start = number.as_ptr().addr() - line.as_ptr().addr();
    let (before, after) = (&line[..start], &line[start + number.len()..]);
    id.starts_with("evt_").then(|| format!("{before}\"{}\"{after}", timestamp::to_iso(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_any_envelope_becomes_the_dedupe_id_and_nothing_else_changes() {
        for (text, expected) in [
            (
                r#"{"id":"01J","type":"a","payload":{"n":1.0}}"#,
                r#"{"dedupe_id":"01J","id":"01J","type":"a","payload":{"n":1.0}}"#,
            ),
            (r#"{"id":"evt_01J","event":"a"}"#, r#"{"dedupe_id":"01J","id":"evt_01J","event":"a"}"#),
            (
                r#"{"event_id":"evt_01J","event_type":"a"}"#,
                r#"{"dedupe_id":"01J","event_id":"evt_01J","event_type":"a"}"#,
            ),
            (
                r#"{"schema":"v1","id":"evt_01J","event":"a","timestamp":86400001,"payload":{"timestamp":1}}"#,
                r#"{"dedupe_id":"01J","schema":"v1","id":"evt_01J","event":"a","timestamp":"1970-01-02T00:00:00.001Z","payload":{"timestamp":1}}"#,
            ),
            (
                r#"{"schema":"v1","id":"evt_01J","event":"a","timestamp":-1}"#,
                r#"{"dedupe_id":"01J","schema":"v1","id":"evt_01J","event":"a","timestamp":"1969-12-31T23:59:59.999Z"}"#,
            ),
            // not ours: most likely seconds, which the server refuses
            (
                r#"{"id":"evt_01J","event":"a","timestamp":86400001}"#,
                r#"{"dedupe_id":"01J","id":"evt_01J","event":"a","timestamp":86400001}"#,
            ),
            (r#"{"id":7,"type":"a"}"#, r#"{"dedupe_id":"7","id":7,"type":"a"}"#),
            (r#"{"id":"x","dedupe_id":"y","type":"a"}"#, r#"{"id":"x","dedupe_id":"y","type":"a"}"#),
            (r#"no JSON"#, r#"no JSON"#),
        ] {
            let mut line = Line { number: 1, text: text.into(), end: 0 };
            LineKeys::default().put(&mut line);
            assert_eq!(line.text, expected);
        }
    }

    #[test]
    fn a_line_without_an_id_has_the_same_key_when_it_is_imported_again_and_another_when_it_stands_there_again() {
        let keys_of = |texts: &[&str]| {
            let mut keys = LineKeys::default();
            let key = |text: &&str| {
                let mut line = Line { number: 1, text: (*text).to_owned(), end: 0 };
                keys.put(&mut line);
                let event: Json = serde_json::from_str(&line.text).expect("JSON");
                event["dedupe_id"].as_str().expect("a key").to_owned()
            };
            texts.iter().map(key).collect::<Vec<_>>()
        };
        let first = keys_of(&[r#"{"type":"a"}"#, r#"{"type":"b"}"#, r#"{"type":"a"}"#]);
        assert_eq!(first.iter().collect::<std::collections::HashSet<_>>().len(), 3);
        // a line before them was corrected
        let again = keys_of(&[r#"{"type":"c"}"#, r#"{"type":"a"}"#, r#"{"type":"b"}"#, r#"{"type":"a"}"#]);
        assert_eq!(again[1..], first);
        assert!(keys_of(&["{}"])[0].len() <= 128);
    }

    #[test]
    fn an_id_that_does_not_grow_is_that_of_an_event_that_was_there() {
        let id = |n| EventId::at_time(1_750_509_296_789).plus(n);
        let mut count = Count::default();
        let mut newest = Some(id(5));
        count.add(&[id(6), id(2), id(7), id(6)], &mut newest);
        assert_eq!((count.stored, count.known, newest), (2, 2, Some(id(7))));
        let mut blind = None;
        count.add(&[id(1), id(1)], &mut blind);
        assert_eq!((count.stored, count.known), (3, 3));
    }
}
