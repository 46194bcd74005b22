//! Publishing so that nothing is stored twice: a request that may have been lost is repeated under the same
//! `Idempotency-Key`, for as long as it makes sense.

use std::time::Duration;

use actix_web::web::Bytes;
use actors::model::draft::{self, BodyForm, DraftError, DraftLimits};
use actors::model::hex;
use actors::model::id::EventId;
use clap::Args;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::Failure;
use super::backoff::{Backoff, chance};
use super::channel::Channel;
use super::lines::Line;
use super::progress::Progress;
use super::remote::{Remote, Request, Trouble};
use super::since::duration_ms;

/// Events of one request, well within what servers take by default.
pub const BATCH_EVENTS: usize = 500;
/// Bytes of one request, likewise.
pub const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Wrong fields of one line that are named.
const FIELDS_NAMED: usize = 5;

/// How long to try.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Try again for so long when the server is not there or has no room; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    retry_for: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let ms = duration_ms(text).and_then(|ms| u64::try_from(ms).ok());
    ms.map(Duration::from_millis).ok_or_else(|| "give a number and s, m, h or d, such as 30s".to_owned())
}

/// Publishes into one channel.
pub struct Publisher<'a> {
    remote: &'a Remote,
    channel: &'a Channel,
    path: String,
    retry_for: Duration,
    progress: &'a Progress,
}

/// A line that the server, or we in its place, cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    pub number: u64,
    pub reason: String,
}

/// What became of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// They are durable, under these ids.
    Stored(Vec<EventId>),
    Bad(BadLine),
}

enum Step {
    Send(Vec<Line>),
    Tell(BadLine),
}

/// The steps for lines as they were read, the first one last: what we see to be no event is not sent.
fn steps(lines: Vec<Line>) -> Vec<Step> {
    let mut steps = vec![Step::Send(Vec::with_capacity(lines.len()))];
    for line in lines {
        match (check_event(&line.text), steps.last_mut()) {
            (Ok(()), Some(Step::Send(part))) => part.push(line),
            (Ok(()), _) => steps.push(Step::Send(vec![line])),
            (Err(reason), _) => steps.push(Step::Tell(BadLine { number: line.number, reason })),
        }
    }
    steps.reverse();
    steps
}

impl<'a> Publisher<'a> {
    pub fn new(remote: &'a Remote, channel: &'a Channel, retry: &RetryArgs, progress: &'a Progress) -> Publisher<'a> {
        Publisher { remote, channel, path: channel.events(), retry_for: retry.retry_for, progress }
    }

    /// Publishes one JSON body of events. Returns their ids, in order.
    ///
    /// # Errors
    /// When the server refuses, or is not there for longer than it was to be tried.
    pub async fn json(&self, body: String) -> Result<Vec<EventId>, Failure> {
        match self.post("application/json", body.into()).await {
            Ok(ids) => Ok(ids),
            Err(trouble) => Err(self.failure(&trouble).await),
        }
    }

    /// Publishes lines in their order, and tells what became of them as it goes. Where a server takes less in one request
    /// than we would send, it gets them in smaller ones. When a line is told to be bad, all before it are stored and
    /// nothing behind it is.
    ///
    /// # Errors
    /// As [`Publisher::json`], and whatever `tell` says.
    pub async fn lines(
        &self,
        lines: Vec<Line>,
        tell: &mut impl FnMut(Told) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // what is still to be done, the first thing last
        let mut steps = steps(lines);
        while let Some(step) = steps.pop() {
            let mut part = match step {
                Step::Tell(bad) => {
                    tell(Told::Bad(bad))?;
                    continue;
                }
                Step::Send(part) if part.is_empty() => continue,
                Step::Send(part) => part,
            };
            let mut body = Vec::with_capacity(part.iter().map(|line| line.text.len() + 1).sum());
            for line in &part {
                body.extend_from_slice(line.text.as_bytes());
                body.push(b'\n');
            }
            let trouble = match self.post("application/x-ndjson", body.into()).await {
                Ok(ids) => {
                    tell(Told::Stored(ids))?;
                    continue;
                }
                Err(trouble) => trouble,
            };
            if let Some((at, bad)) = refused_line(&trouble, &part) {
                let rest = part.split_off(at + 1);
                part.truncate(at);
                steps.extend([Step::Send(rest), Step::Tell(bad), Step::Send(part)]);
            } else if trouble.status() == Some(413) && part.len() > 1 {
                let rest = part.split_off(part.len() / 2);
                steps.extend([Step::Send(rest), Step::Send(part)]);
            } else {
                return Err(self.failure(&trouble).await);
            }
        }
        Ok(())
    }

    async fn failure(&self, trouble: &Trouble) -> Failure {
        self.remote.explain(trouble, self.channel, "publish").await
    }

    /// One request, repeated under one key until it is answered.
    async fn post(&self, kind: &'static str, body: Bytes) -> Result<Vec<EventId>, Trouble> {
        let key = random_key().map_err(|e| self.remote.unreachable(format!("no random key could be drawn: {e}")))?;
        let request =
            Request::new(actix_web::http::Method::POST, &self.path).header("Idempotency-Key", key).body(kind, body);
        let deadline = Instant::now() + self.retry_for;
        let mut backoff = Backoff::default();
        loop {
            let trouble = match self.remote.json(&request).await {
                Ok(answer) => match ids(&answer) {
                    Some(ids) => return Ok(ids),
                    None => {
                        return Err(self.remote.unreachable("its answer has no ids; is this a Stentor server?".into()));
                    }
                },
                Err(trouble) => trouble,
            };
            let wait = backoff.next(trouble.retry_after(), chance());
            if !trouble.is_passing() || Instant::now() + wait > deadline {
                return Err(trouble);
            }
            self.progress.notice(&format!("{}; trying again in {:.1} s", trouble.reason(), wait.as_secs_f64()));
            actix_web::rt::time::sleep(wait).await;
        }
    }
}

fn ids(answer: &Json) -> Option<Vec<EventId>> {
    let ids = answer.pointer("/data/ids")?.as_array()?;
    ids.iter().map(|id| id.as_str()?.parse().ok()).collect()
}

fn random_key() -> Result<String, getrandom::Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(hex::encode(&random))
}

/// The first line that a refusal is about, its place in the part, and why.
fn refused_line(trouble: &Trouble, part: &[Line]) -> Option<(usize, BadLine)> {
    let Trouble::Refused(refusal) = trouble else { return None };
    if let ([only], 413) = (part, refusal.status.as_u16()) {
        return Some((0, BadLine { number: only.number, reason: refusal.sentence.clone() }));
    }
    let place = |detail: &Json| detail["index"].as_u64().and_then(|at| usize::try_from(at).ok());
    let at = refusal.details.iter().filter_map(place).filter(|at| *at < part.len()).min()?;
    let text = |detail: &Json, name: &str| detail[name].as_str().unwrap_or_default().to_owned();
    let about = refusal.details.iter().filter(|detail| place(detail) == Some(at)).take(FIELDS_NAMED);
    let reasons: Vec<_> =
        about.map(|d| format!("{} {}", text(d, "field"), text(d, "message")).trim().to_owned()).collect();
    Some((at, BadLine { number: part[at].number, reason: reasons.join("; ") }))
}

/// Whether a text is one event that can be published, as the server will judge it but for its limits.
///
/// # Errors
/// What is wrong with it.
pub fn check_event(json: &str) -> Result<(), String> {
    let limits = DraftLimits { event_bytes: usize::MAX, batch_events: 1 };
    let error = match draft::parse(json.as_bytes(), BodyForm::NdJson, &limits) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    Err(match error {
        DraftError::Malformed { column, message, .. } => format!("{message} at column {column}"),
        DraftError::Invalid(fields) => {
            let each = fields.iter().take(FIELDS_NAMED).map(|f| format!("{} {}", f.field, f.message).trim().to_owned());
            each.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::cli::remote::Refusal;

    #[test]
    fn what_is_no_event_is_said_without_asking_the_server() {
        assert_eq!(check_event(r#"{"type":"a","payload":{}}"#), Ok(()));
        assert_eq!(check_event(r#"{"id":"01J","event":"a","organization":"o","timestamp":1750509296789}"#), Ok(()));
        for (json, reason) in [
            (r#"{"typ":"a"}"#, "typ is no field of an event"),
            (r#"{"payload":{}}"#, "type is required"),
            (r#"{"type":"a","payload":[]}"#, "payload must be a JSON object"),
            (r#"{"type":"a","#, "at column"),
            (r#"7"#, "an event must be a JSON object"),
        ] {
            let said = check_event(json).expect_err(json);
            assert!(said.contains(reason), "{json}: {said}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_the_numbers_of_the_lines() {
        let line = |number| Line { number, text: String::new(), end: 0 };
        let refusal = Refusal {
            status: StatusCode::BAD_REQUEST,
            sentence: "Validation failed".into(),
            details: vec![
                json!({"index": 1, "field": "type", "message": "is required"}),
                json!({"index": 1, "field": "ts", "message": "is not a time"}),
                json!({"index": 7, "field": "x", "message": "is beyond what was sent"}),
            ],
            body: Box::default(),
            retry_after: None,
        };
        let bad = refused_line(&Trouble::Refused(refusal), &[line(3), line(8)]);
        assert_eq!(bad, Some((1, BadLine { number: 8, reason: "type is required; ts is not a time".into() })));
    }

    #[test]
    fn keys_are_long_and_never_the_same() {
        let (a, b) = (random_key().expect("chance"), random_key().expect("chance"));
        assert!(a.len() == 32 && a != b);
    }
}
