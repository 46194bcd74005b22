//! Requests to sources: verified, read into events and published. What is refused for its content goes to `letters`.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::letters::{blank_letter, letter, line};
use super::{ActiveSource, Hub, SourceError, SourceRefusal};
use crate::clock;
use crate::journal::Receipt;
use crate::metrics::SourceOutcome;
use crate::model::cloudevents::Mode;
use crate::model::draft::{DraftError, DraftLimits, FieldError};
use crate::model::event::{Draft, PublishedBy};
use crate::model::id::EventId;
use crate::model::source::raw::Keeping;
use crate::model::source::rule::Rule;
use crate::model::source::{Config, Content, Headers, Incoming, Proof, Read, Reply, Taken, handshake};
use crate::model::trace_context::TraceContext;
use crate::model::{hex, json};

/// A request whose sender is verified.
pub struct Arrival<'a> {
    /// Its body unpacked, unless the source keeps requests as they come.
    pub request: Incoming<'a>,
    /// What follows the address of the source, and the raw text behind the question mark.
    pub path: &'a str,
    pub query: &'a str,
    /// Whether the good events of a batch are taken without the bad ones.
    pub partial: bool,
    /// The sender's own key for the request (`Idempotency-Key`).
    pub idempotency: Option<&'a str>,
    pub limits: DraftLimits,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub enum TakenIn {
    /// Durable: one id for each event that was taken, in order; and what was wrong with those that were left out.
    Events { ids: Vec<EventId>, repeated: bool, errors: Vec<FieldError> },
    /// The provider asked whether somebody is there, and this is the answer.
    Answer(Reply),
}

/// What a request would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WouldTake {
    /// Events of these types.
    Events(Vec<String>),
    /// It is a question of the provider, which is answered.
    Answers,
    /// It is refused for this reason.
    Refuses(String),
}

pub(super) fn config<'a>(
    live: &'a ActiveSource,
    secrets: &'a [&'a str],
    limits: DraftLimits,
    partial: bool,
) -> Config<'a> {
    let source = &live.source;
    Config {
        id: &source.id,
        preset: source.scheme.authentication.preset(),
        recipe: source.scheme.recipe.as_deref(),
        secrets,
        rules: &source.event_type,
        schema: source.schema.as_ref(),
        limits,
        partial,
    }
}

pub(super) fn secrets(live: &ActiveSource) -> Vec<&str> {
    live.secret_fields.iter().map(String::as_str).collect()
}

/// The answer with what only the source can make.
pub(super) fn resolved(live: &ActiveSource, reply: Reply) -> Reply {
    match reply {
        Reply::Hashed(plain) => {
            // the recipe of whoever asks so has a shared secret
            let hex = live.hex_of(&plain).unwrap_or_default();
            Reply::Json(handshake::hashed(&plain, &hex))
        }
        other => other,
    }
}

/// Reads a request as the source reads now. `content`: what its body is taken for where no header says it.
///
/// # Errors
/// Nothing of it can be taken.
pub(super) fn read(
    live: &ActiveSource,
    config: &Config<'_>,
    request: &Incoming<'_>,
    path: &str,
    query: &str,
    content: Option<Content>,
) -> Result<Read, SourceError> {
    let Incoming { headers, body, .. } = *request;
    if let Some(rules) = &live.source.raw {
        let (secret_headers, secret_parameters) = live.secret_places();
        let keeping = Keeping {
            rules,
            secret_headers: &secret_headers,
            secret_parameters: &secret_parameters,
            secret_fields: config.secrets,
        };
        return config.read_request(&keeping, request, path, query).map_err(SourceError::Refused);
    }
    if let Some(mode) = Mode::of(headers) {
        return config.read_cloudevents(mode, headers, body).map_err(SourceError::Refused);
    }
    let content = match (headers.get("content-type"), content) {
        (None, Some(content)) => content,
        _ => Content::of(headers, live.verifies_senders())?,
    };
    config.read(headers, body, content).map_err(SourceError::Refused)
}

/// Under which key a request is known again. What a sender signs or a provider numbers counts before what a header
/// without a signature says, so that nobody makes a new request of an old one by changing that header. `apart` is what
/// [`apart`] says of it.
fn request_key(
    live: &ActiveSource,
    delivery: Option<&str>,
    proof: &Proof,
    apart: Option<&str>,
    idempotency: Option<&str>,
) -> (Option<String>, bool) {
    let id = &live.source.id;
    let own = match (delivery, &proof.signature, apart) {
        (Some(delivery), ..) => Some(format!("{id} delivery {delivery}")),
        (None, Some(signature), None) => Some(format!("{id} signature {signature}")),
        (None, Some(signature), Some(apart)) => Some(format!("{id} signature {signature} {apart}")),
        (None, None, _) => None,
    };
    let signed = own.is_some();
    (own.or_else(|| idempotency.map(|key| format!("{id} request {key}"))), signed)
}

/// What makes the events of a request beside its body, which is all that many senders sign: the request line in raw mode, a
/// type that stands in a header, and which CloudEvent it is where headers say so. Requests that differ there are not the
/// same one sent again, whatever their signatures. None where the body says everything.
fn apart(live: &ActiveSource, request: &Incoming<'_>, path: &str, query: &str, drafts: &[Draft]) -> Option<String> {
    let is_raw = live.source.raw.is_some();
    let is_binary = !is_raw && Mode::of(request.headers) == Some(Mode::Binary);
    let names_type = is_binary || live.source.event_type.iter().any(|rule| matches!(rule, Rule::Header { .. }));
    let mut parts = Vec::new();
    if is_raw {
        parts.extend([request.method, path, query]);
    }
    for draft in drafts {
        parts.extend(names_type.then(|| draft.kind.as_str()));
        parts.extend(draft.dedupe_id.as_deref().filter(|_| is_binary));
    }
    if parts.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    Some(hex::encode(&hash.finalize()))
}

/// Keys of events within the source, where no publisher's key meets them. A sender that signs the same request anew with
/// its `Idempotency-Key` is known by the keys of its events.
pub(super) fn event_keys(live: &ActiveSource, drafts: &mut [Draft], idempotency: Option<&str>) {
    let id = &live.source.id;
    for (n, draft) in drafts.iter_mut().enumerate() {
        let own = draft.dedupe_id.as_deref().map(|own| format!("{id} event {own}"));
        let of_request = || idempotency.map(|key| format!("{id} request {key} {n}"));
        draft.dedupe_id = own.or_else(of_request).map(Into::into);
    }
}

impl Hub {
    /// Counts a request against the rate limit of a source.
    ///
    /// # Errors
    /// [`SourceRefusal::Rate`], with the time after which the next request may come.
    pub fn admit(&self, live: &ActiveSource) -> Result<(), SourceRefusal> {
        live.admit(clock::now_ms()).inspect_err(|_| self.metrics().source_request(SourceOutcome::Limited))
    }

    /// Refuses a request whose headers alone show that its sender cannot be verified. To be called before the body is read.
    ///
    /// # Errors
    /// [`SourceRefusal::Untrusted`], or [`SourceRefusal::Unusable`] when the keys of the source cannot be opened.
    pub fn foresee(&self, live: &ActiveSource, request: &Incoming<'_>) -> Result<(), SourceRefusal> {
        live.foresee(request, clock::now_ms()).inspect_err(|refusal| self.count_refusal(refusal))
    }

    /// Verifies the sender of a request, by its headers and the raw bytes of its body.
    ///
    /// # Errors
    /// [`SourceRefusal::Untrusted`] says what does not fit, [`SourceRefusal::Paused`] comes after that,
    /// [`SourceRefusal::Unusable`] when the keys of the source cannot be opened.
    pub fn recognise(&self, live: &ActiveSource, request: &Incoming<'_>) -> Result<Proof, SourceRefusal> {
        live.verify(request, clock::now_ms()).inspect_err(|refusal| self.count_refusal(refusal))
    }

    fn count_refusal(&self, refusal: &SourceRefusal) {
        self.metrics().source_request(match refusal {
            SourceRefusal::Untrusted(_) => SourceOutcome::Unauthenticated,
            _ => SourceOutcome::Unavailable,
        });
    }

    /// Publishes what a request holds; returns when it is durable. What is refused for its content is kept as a dead letter.
    ///
    /// # Errors
    /// [`SourceError::Refused`] or [`SourceError::Unreadable`] for its content, [`SourceError::NotFound`] when the
    /// channel is gone, [`SourceError::Append`] when it was not, or not surely, stored.
    pub async fn take_in(
        &self,
        live: &ActiveSource,
        proof: &Proof,
        arrival: Arrival<'_>,
    ) -> Result<TakenIn, SourceError> {
        let Arrival { request, path, query, partial, idempotency, limits } = arrival;
        let Incoming { headers, body, .. } = request;
        let secrets = secrets(live);
        let config = config(live, &secrets, limits, partial);
        let taken = match read(live, &config, &request, path, query, None) {
            Ok(Read::Events(taken)) => taken,
            Ok(Read::Question(reply)) => return Ok(TakenIn::Answer(resolved(live, reply))),
            Err(refusal) => {
                let delivery = json::text(body).ok().and_then(|text| config.delivery(headers, &text));
                let apart = apart(live, &request, path, query, &[]);
                let (key, _) = request_key(live, delivery.as_deref(), proof, apart.as_deref(), idempotency);
                self.metrics().source_request(SourceOutcome::Refused);
                live.stats.refused_content(&refusal.to_string());
                let mut letter = letter(live, headers, key, body.len(), &refusal);
                letter.line = line(live, &request, path, query);
                self.keep_letter(live, letter, body).await;
                return Err(refusal);
            }
        };
        let Taken { mut drafts, errors, refused, delivery } = taken;
        let apart = apart(live, &request, path, query, &drafts);
        let (key, signed) = request_key(live, delivery.as_deref(), proof, apart.as_deref(), idempotency);
        if idempotency.is_some() && Mode::of(headers).is_some() {
            // the sender's own key wins over what names a CloudEvent
            drafts.iter_mut().for_each(|draft| draft.dedupe_id = None);
        }
        event_keys(live, &mut drafts, idempotency.filter(|_| signed));
        let trace = TraceContext::of(headers).map(Arc::new);
        let receipt = self.publish_from(live, drafts, key.as_deref(), trace).await?;
        if !refused.is_empty() && !receipt.repeated {
            // in the shape in which the source reads several
            let (rest, are_cloudevents) = (refused.join(","), Mode::of(headers).is_some());
            let rest = match live.source.event_type.is_empty() && !are_cloudevents {
                true => format!("{{\"events\":[{rest}]}}"),
                false => format!("[{rest}]"),
            };
            let refusal = DraftError::Invalid(errors.clone());
            live.stats.refused_content(&refusal.to_string());
            let key = key.map(|key| format!("{key} refused"));
            let mut letter = letter(live, headers, key, rest.len(), &SourceError::Refused(refusal));
            // what is left over is JSON, whatever the whole was, or still a batch of CloudEvents
            letter.headers.retain(|(name, _)| are_cloudevents || !name.eq_ignore_ascii_case("content-type"));
            self.keep_letter(live, letter, rest.as_bytes()).await;
        }
        Ok(TakenIn::Events { ids: receipt.ids, repeated: receipt.repeated, errors })
    }

    /// What would become of a request if its sender was verified. Nothing is stored or counted.
    pub fn would_take(&self, live: &ActiveSource, request: &Incoming<'_>, limits: DraftLimits) -> WouldTake {
        if let Some(asked) = live.answer(request) {
            return asked.map_or_else(|(field, e)| WouldTake::Refuses(format!("{field} {e}")), |_| WouldTake::Answers);
        }
        let secrets = secrets(live);
        let config = config(live, &secrets, limits, false);
        match read(live, &config, request, "", "", None) {
            Ok(Read::Events(taken)) => {
                WouldTake::Events(taken.drafts.iter().map(|draft| draft.kind.as_str().to_owned()).collect())
            }
            Ok(Read::Question(_)) => WouldTake::Answers,
            Err(refusal) => WouldTake::Refuses(refusal.to_string()),
        }
    }

    /// Keeps a request of a verified sender that is refused for another reason than what its body says.
    pub async fn refuse(&self, live: &ActiveSource, proof: &Proof, headers: &dyn Headers, body: &[u8], reason: &str) {
        self.metrics().source_request(SourceOutcome::Refused);
        live.stats.refused_content(reason);
        let (key, _) = request_key(live, None, proof, None, None);
        self.keep_letter(live, blank_letter(live, headers, key, body.len(), reason), body).await;
    }

    /// A body that is larger than a body may be, of which nothing was read. Where the headers alone say who the sender is,
    /// a letter without a body says how large it was said to be (`announced` bytes); else it is counted.
    pub async fn refuse_too_large(&self, live: &ActiveSource, request: &Incoming<'_>, announced: usize, reason: &str) {
        self.metrics().source_request(SourceOutcome::TooLarge);
        if live.verify_headers(request, clock::now_ms()).is_some() {
            live.stats.refused_content(reason);
            self.keep_letter(live, blank_letter(live, request.headers, None, announced, reason), b"").await;
        }
    }

    pub(super) async fn publish_from(
        &self,
        live: &ActiveSource,
        drafts: Vec<Draft>,
        key: Option<&str>,
        trace: Option<Arc<TraceContext>>,
    ) -> Result<Receipt, SourceError> {
        let channel = self.channel(live.source.channel_no()).ok_or(SourceError::NotFound)?;
        let events = drafts.len() as u64;
        let receipt = self.publish(channel, drafts, key, PublishedBy { by: live.by.clone(), trace }).await?;
        match receipt.repeated {
            true => self.metrics().source_request(SourceOutcome::Repeated),
            false => {
                self.metrics().source_request(SourceOutcome::Accepted);
                self.metrics().source_events.inc_by(events);
                live.stats.took(events, clock::now_ms());
            }
        }
        Ok(receipt)
    }
}
