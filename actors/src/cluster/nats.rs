//! NATS JetStream as this room uses it: the connection, streams, conditional publishing, atomic batches, and reading by
//! sequence. `async-nats` gives the connection; the rest are requests with JSON and headers
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>, ADR-31 for reading in batches, ADR-50 for atomic
//! batches).
//!
//! Nothing here repeats a request: whoever asks knows whether that is safe.

use std::collections::VecDeque;
use std::time::Duration;

use super::picture::{Replica, Stream};
use async_nats::{Client, HeaderMap, Request, RequestErrorKind, StatusCode, Subscriber};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long an answer of JetStream is waited for. While there is no leader there is none.
pub const ANSWER: Duration = Duration::from_secs(2);
/// The oldest server that has everything in the form that is used here.
pub const VERSION_MIN: (u64, u64, u64) = (2, 15, 1);

/// Error codes of JetStream (<https://github.com/nats-io/nats-server/blob/main/server/errors.json>).
pub mod code {
    /// JetStream is not ready.
    pub const UNAVAILABLE: u64 = 10008;
    /// Not enough servers for the replicas, as before they have found each other.
    pub const NO_PEERS: u64 = 10005;
    pub const STREAM_NOT_FOUND: u64 = 10059;
    pub const NO_MESSAGE: u64 = 10037;
    pub const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub const MAX_BYTES: u64 = 10077;
    pub const MESSAGE_TOO_LARGE: u64 = 10054;
    /// Another conditional write is under way.
    pub const IN_FLIGHT: u64 = 10164;
}

/// Why JetStream did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NatsError {
    #[error("NATS answers: {description} (error {code})")]
    Refused { code: u64, description: String },
    #[error("NATS does not answer")]
    NoAnswer,
    #[error("nobody listens on {subject}; is JetStream switched on for this account?")]
    NoResponders { subject: String },
    #[error("NATS cannot be reached: {0}")]
    Connection(String),
    #[error("an answer of NATS cannot be read: {0}")]
    Unreadable(String),
    /// A message is larger than the server takes.
    #[error("a message is larger than max_payload of the NATS server")]
    TooLarge,
}

impl NatsError {
    /// Whether the same may succeed a little later: there is no leader, or a server is just starting.
    pub fn may_pass(&self) -> bool {
        match self {
            NatsError::Refused { code, .. } => matches!(*code, code::UNAVAILABLE | code::NO_PEERS),
            NatsError::NoAnswer | NatsError::NoResponders { .. } | NatsError::Connection(_) => true,
            NatsError::Unreadable(_) | NatsError::TooLarge => false,
        }
    }

    fn is(&self, wanted: u64) -> bool {
        matches!(self, NatsError::Refused { code, .. } if *code == wanted)
    }
}

/// A message of a stream.
#[derive(Clone, Debug)]
pub struct Stored {
    pub subject: String,
    pub sequence: u64,
    /// The server's clock when it was stored, in Unix milliseconds.
    pub time_ms: u64,
    pub payload: Bytes,
}

/// How a stream is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// The sequence of the last message that it has ever had.
    pub last: u64,
    /// Who has it.
    pub stream: Stream,
    /// The server's clock when it answered, in Unix milliseconds.
    pub answered_ms: Option<u64>,
}

/// How a stream is made, and what of it is checked.
pub struct StreamSpec {
    pub name: String,
    pub subjects: Vec<String>,
    /// Its messages are published again under these subjects: (of, as).
    pub republish: Option<(String, String)>,
    /// Only the newest message of a subject is kept.
    pub one_per_subject: bool,
    pub replicas: usize,
}

/// What has to hold for something to be published.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The last message of the stream has this sequence.
    pub last: Option<u64>,
    /// The last message on this subject has this sequence; 0: there is none.
    pub last_on: Option<(String, u64)>,
}

impl Conditions {
    fn headers(&self, subject: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(last) = self.last {
            headers.insert("Nats-Expected-Last-Sequence", last.to_string());
        }
        if let Some((on, last)) = &self.last_on {
            headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
            if on != subject {
                headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", on.as_str());
            }
        }
        headers
    }
}

#[derive(Clone)]
pub struct JetStream {
    client: Client,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct PublishAnswer {
    #[serde(default)]
    error: Option<ApiError>,
    #[serde(default)]
    seq: u64,
}

impl JetStream {
    pub fn new(client: Client) -> JetStream {
        JetStream { client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the API. The answer has no error in it.
    ///
    /// # Errors
    /// What JetStream says, or that it says nothing in time.
    pub async fn api(&self, verb: &str, body: Option<Value>) -> Result<Value, NatsError> {
        let payload = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = self.ask(&format!("$JS.API.{verb}"), HeaderMap::new(), payload).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|e| NatsError::Unreadable(e.to_string()))?;
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => {
                let error = ApiError::deserialize(error).map_err(|e| NatsError::Unreadable(e.to_string()))?;
                Err(NatsError::Refused { code: error.err_code, description: error.description })
            }
        }
    }

    async fn ask(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<Bytes, NatsError> {
        let request = Request::new().headers(headers).payload(payload).timeout(Some(ANSWER));
        let answer = self.client.send_request(subject.to_owned(), request).await;
        answer.map(|answer| answer.payload).map_err(|e| match e.kind() {
            RequestErrorKind::TimedOut => NatsError::NoAnswer,
            RequestErrorKind::NoResponders => NatsError::NoResponders { subject: subject.into() },
            RequestErrorKind::MaxPayloadExceeded => NatsError::TooLarge,
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => NatsError::Connection(e.to_string()),
        })
    }

    /// Makes a stream where there is none, and checks one that is there.
    ///
    /// # Errors
    /// It is there and made otherwise, or what JetStream says.
    pub async fn ensure(&self, spec: &StreamSpec) -> Result<StreamState, EnsureError> {
        let info = match self.api(&format!("STREAM.INFO.{}", spec.name), None).await {
            Ok(info) => info,
            Err(e) if e.is(code::STREAM_NOT_FOUND) => {
                self.api(&format!("STREAM.CREATE.{}", spec.name), Some(spec.config())).await?
            }
            Err(e) => return Err(e.into()),
        };
        spec.check(&info["config"])?;
        Ok(state(&info))
    }

    /// # Errors
    /// What JetStream says.
    pub async fn state(&self, stream: &str) -> Result<StreamState, NatsError> {
        Ok(state(&self.api(&format!("STREAM.INFO.{stream}"), None).await?))
    }

    /// Publishes a message and waits until it is stored; answers with its sequence.
    ///
    /// # Errors
    /// [`NatsError::Refused`]: it was not stored. With every other error that is not known.
    pub async fn publish(&self, subject: &str, payload: Bytes, conditions: &Conditions) -> Result<u64, NatsError> {
        self.store(subject, conditions.headers(subject), payload).await
    }

    async fn store(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<u64, NatsError> {
        let answer = self.ask(subject, headers, payload).await?;
        let answer: PublishAnswer =
            serde_json::from_slice(&answer).map_err(|e| NatsError::Unreadable(e.to_string()))?;
        match answer.error {
            None => Ok(answer.seq),
            Some(error) => Err(NatsError::Refused { code: error.err_code, description: error.description }),
        }
    }

    /// Publishes messages that are stored together or not at all; answers with the sequence of the last one. `id` is another
    /// one for each attempt.
    ///
    /// # Errors
    /// As [`JetStream::publish`].
    pub async fn publish_all(
        &self,
        id: &str,
        mut messages: VecDeque<(String, Bytes)>,
        conditions: &Conditions,
    ) -> Result<u64, NatsError> {
        let Some((last_subject, last)) = messages.pop_back() else { return Ok(0) };
        if messages.is_empty() {
            return self.publish(&last_subject, last, conditions).await;
        }
        let count = messages.len() + 1;
        for (n, (subject, payload)) in messages.into_iter().enumerate() {
            let mut headers = if n == 0 { conditions.headers(&subject) } else { HeaderMap::new() };
            headers.insert("Nats-Batch-Id", id);
            headers.insert("Nats-Batch-Sequence", (n + 1).to_string());
            let sent = self.client.publish_with_headers(subject, headers, payload).await;
            sent.map_err(|e| NatsError::Connection(e.to_string()))?;
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Batch-Id", id);
        headers.insert("Nats-Batch-Sequence", count.to_string());
        headers.insert("Nats-Batch-Commit", "1");
        self.store(&last_subject, headers, last).await
    }

    /// A message as the leader of the stream has it.
    ///
    /// # Errors
    /// What JetStream says. None: there is no such message.
    pub async fn at_leader(&self, stream: &str, find: Find<'_>) -> Result<Option<Stored>, NatsError> {
        let body = match find {
            Find::Next(sequence, subject) => json!({ "seq": sequence, "next_by_subj": subject }),
            Find::Last(subject) => json!({ "last_by_subj": subject }),
        };
        let answer = match self.api(&format!("STREAM.MSG.GET.{stream}"), Some(body)).await {
            Ok(answer) => answer,
            Err(e) if e.is(code::NO_MESSAGE) => return Ok(None),
            Err(e) => return Err(e),
        };
        let message = &answer["message"];
        let payload = STANDARD.decode(message["data"].as_str().unwrap_or_default());
        Ok(Some(Stored {
            subject: message["subject"].as_str().unwrap_or_default().into(),
            sequence: message["seq"].as_u64().unwrap_or(0),
            time_ms: time_ms(message["time"].as_str().unwrap_or_default())?,
            payload: payload.map_err(|e| NatsError::Unreadable(e.to_string()))?.into(),
        }))
    }

    /// Messages from a sequence on, as any replica has them, and how many there are behind them.
    ///
    /// # Errors
    /// That the answer did not come, or not all of it.
    pub async fn read(&self, stream: &str, read: &Read<'_>) -> Result<(Vec<Stored>, u64), NatsError> {
        let inbox = self.client.new_inbox();
        let answers = self.client.subscribe(inbox.clone()).await;
        let mut answers = answers.map_err(|e| NatsError::Connection(e.to_string()))?;
        let body = json!({
            "seq": read.from, "batch": read.messages, "max_bytes": read.bytes, "next_by_subj": read.subject
        });
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let sent = self.client.publish_with_reply(subject.clone(), inbox, body.to_string().into()).await;
        sent.map_err(|e| NatsError::Connection(e.to_string()))?;
        collect(&mut answers, &subject).await
    }

    /// Takes messages on a subject away, up to a sequence that is kept.
    ///
    /// # Errors
    /// What JetStream says.
    pub async fn purge(&self, stream: &str, subject: &str, before: u64) -> Result<(), NatsError> {
        let body = json!({ "filter": subject, "seq": before });
        self.api(&format!("STREAM.PURGE.{stream}"), Some(body)).await.map(drop)
    }
}

/// Which message is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Find<'a> {
    /// The first one with this sequence or a higher one, on a subject with or without wildcards.
    Next(u64, &'a str),
    /// The newest one on a subject.
    Last(&'a str),
}

/// What is read at once.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    pub from: u64,
    pub messages: usize,
    pub bytes: usize,
    pub subject: &'a str,
}

async fn collect(answers: &mut Subscriber, subject: &str) -> Result<(Vec<Stored>, u64), NatsError> {
    let mut found = Vec::new();
    loop {
        let answer = tokio::time::timeout(ANSWER, answers.next()).await.map_err(|_| NatsError::NoAnswer)?;
        let answer = answer.ok_or_else(|| NatsError::Connection("the connection is closed".into()))?;
        let header = |name: &str| answer.headers.as_ref().and_then(|headers| headers.get(name)).map(|v| v.as_str());
        match answer.status {
            Some(StatusCode::NO_RESPONDERS) => return Err(NatsError::NoResponders { subject: subject.into() }),
            Some(StatusCode::NOT_FOUND) => return Ok((found, 0)),
            // the end of the batch
            Some(status) if status.as_u16() == 204 => {
                let pending = header("Nats-Num-Pending").and_then(|text| text.parse().ok()).unwrap_or(0);
                return Ok((found, pending));
            }
            Some(status) => {
                let description = answer.description.clone().unwrap_or_default();
                return Err(NatsError::Refused { code: status.as_u16().into(), description });
            }
            None => {
                let stored = stored(&answer)?;
                found.push(stored);
            }
        }
    }
}

/// A message that came with its place in the stream: read in a batch, or published again.
///
/// # Errors
/// It has no such place.
pub fn stored(message: &async_nats::Message) -> Result<Stored, NatsError> {
    let header = |name: &str| {
        let value = message.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str());
        value.ok_or_else(|| NatsError::Unreadable(format!("a message has no {name}")))
    };
    let sequence = header("Nats-Sequence")?.parse().map_err(|_| NatsError::Unreadable("a bad sequence".into()))?;
    Ok(Stored {
        subject: header("Nats-Subject")?.into(),
        sequence,
        time_ms: time_ms(header("Nats-Time-Stamp")?)?,
        payload: message.payload.clone(),
    })
}

fn time_ms(text: &str) -> Result<u64, NatsError> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|e| NatsError::Unreadable(e.to_string()))?;
    Ok(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

fn state(info: &Value) -> StreamState {
    StreamState {
        last: info["state"]["last_seq"].as_u64().unwrap_or(0),
        stream: stream(info),
        answered_ms: info["ts"].as_str().and_then(|text| time_ms(text).ok()),
    }
}

/// On which servers a stream is. One server alone says nothing of that.
fn stream(info: &Value) -> Stream {
    let (config, cluster) = (&info["config"], &info["cluster"]);
    let name_of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut replicas = Vec::new();
    let leader = name_of(&cluster["leader"]);
    if !leader.is_empty() || cluster.is_null() {
        replicas.push(Replica { server: leader, is_leader: true, is_current: true, is_offline: false, lag: 0 });
    }
    replicas.extend(cluster["replicas"].as_array().into_iter().flatten().map(|one| Replica {
        server: name_of(&one["name"]),
        is_leader: false,
        is_current: one["current"].as_bool().unwrap_or(false),
        is_offline: one["offline"].as_bool().unwrap_or(false),
        lag: one["lag"].as_u64().unwrap_or(0),
    }));
    let configured = config["num_replicas"].as_u64().unwrap_or(1) as usize;
    Stream { name: name_of(&config["name"]), configured, replicas, ..Stream::default() }
}

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("the stream {stream} has {key} = {found}, and {wanted} is needed")]
    Differs { stream: String, key: &'static str, found: String, wanted: String },
}

impl StreamSpec {
    fn config(&self) -> Value {
        let mut config = json!({
            "name": self.name,
            "subjects": self.subjects,
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": self.replicas,
            "max_age": 0,
            "allow_direct": true,
            "allow_atomic": true,
            "allow_msg_ttl": false,
            "max_msgs_per_subject": if self.one_per_subject { 1 } else { -1 },
        });
        if let Some((of, to)) = &self.republish {
            config["republish"] = json!({ "src": of, "dest": to });
        }
        config
    }

    /// Compares what the promises rest on.
    fn check(&self, found: &Value) -> Result<(), EnsureError> {
        let wanted = self.config();
        let keys = [
            "subjects",
            "discard",
            "storage",
            "num_replicas",
            "max_age",
            "allow_direct",
            "allow_atomic",
            "allow_msg_ttl",
            "max_msgs_per_subject",
            "republish",
        ];
        for key in keys {
            // what is not set is left out of the answer
            let shown = |value: &Value| match &value[key] {
                Value::Null | Value::Bool(false) => "unset".to_owned(),
                value => value.to_string(),
            };
            let (found, wanted) = (shown(found), shown(&wanted));
            if found != wanted {
                return Err(EnsureError::Differs { stream: self.name.clone(), key, found, wanted });
            }
        }
        Ok(())
    }
}

/// The version of a server, as far as it can be read.
pub fn version(text: &str) -> (u64, u64, u64) {
    let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}
