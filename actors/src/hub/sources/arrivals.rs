//! What comes in at sources: events that are taken, and dead letters.

use std::borrow::Cow;
use std::sync::Arc;

use super::{ActiveSource, Detail, Hub, Letter, SourceError, SourceRefusal};
use crate::clock;
use crate::ingest::dead_letters::{self, HEADERS_BYTES_MAX, RequestLine};
use crate::journal::Receipt;
use crate::metrics::SourceOutcome;
use crate::model::cloudevents::Mode;
use crate::model::draft::{DraftError, FieldError, Limits};
use crate::model::event::{Draft, PublishedBy};
use crate::model::id::EventId;
use crate::model::json;
use crate::model::source::raw::{Keeping, RAW_TARGET_BYTES_MAX};
use crate::model::source::{
    Config, Content, Headers, Incoming, Proof, Read, Recipe, Reply, Taken, Unreadable, handshake,
};
use crate::model::trace_context::TraceContext;

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
    pub limits: Limits,
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

/// The headers that a dead letter keeps.
struct Kept<'a>(&'a [(String, String)]);

impl Headers for Kept<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value.as_str()),
            _ => None,
        }
    }

    fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.into())).collect()
    }
}

/// What is to be sent in the place of what a dead letter holds; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct EditedLetter {
    pub body: Option<Vec<u8>>,
    pub content_type: Option<String>,
}

fn config<'a>(live: &'a ActiveSource, secrets: &'a [&'a str], limits: Limits, partial: bool) -> Config<'a> {
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

fn secrets(live: &ActiveSource) -> Vec<&str> {
    live.secret_fields.iter().map(String::as_str).collect()
}

/// The answer with what only the source can make.
fn resolved(live: &ActiveSource, reply: Reply) -> Reply {
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
fn read(
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

/// What a letter keeps of where a request was sent.
fn line(live: &ActiveSource, request: &Incoming<'_>, path: &str, query: &str) -> Option<RequestLine> {
    let line = RequestLine { method: request.method.into(), path: path.into(), query: query.into() };
    let is_kept = live.source.raw.is_some() && path.len() + query.len() <= RAW_TARGET_BYTES_MAX;
    is_kept.then_some(line)
}

/// Under which key a request is known again. What a sender signs or a provider numbers counts before what a header
/// without a signature says, so that nobody makes a new request of an old one by changing that header.
fn request_key(
    live: &ActiveSource,
    delivery: Option<&str>,
    proof: &Proof,
    idempotency: Option<&str>,
) -> (Option<String>, bool) {
    let id = &live.source.id;
    let own = match (delivery, &proof.signature) {
        (Some(delivery), _) => Some(format!("{id} delivery {delivery}")),
        (None, Some(signature)) => Some(format!("{id} signature {signature}")),
        (None, None) => None,
    };
    let signed = own.is_some();
    (own.or_else(|| idempotency.map(|key| format!("{id} request {key}"))), signed)
}

/// Keys of events within the source, where no publisher's key meets them. A sender that signs the same request anew with
/// its `Idempotency-Key` is known by the keys of its events.
fn event_keys(live: &ActiveSource, drafts: &mut [Draft], idempotency: Option<&str>) {
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
                let (key, _) = request_key(live, delivery.as_deref(), proof, idempotency);
                self.metrics().source_request(SourceOutcome::Refused);
                live.stats.refused_content(&refusal.to_string());
                let mut letter = letter(live, headers, key, body.len(), &refusal);
                letter.line = line(live, &request, path, query);
                self.keep_letter(live, letter, body).await;
                return Err(refusal);
            }
        };
        let Taken { mut drafts, errors, refused, delivery } = taken;
        let (key, signed) = request_key(live, delivery.as_deref(), proof, idempotency);
        if idempotency.is_some() && Mode::of(headers).is_some() {
            // the sender's own key wins over what names a CloudEvent
            drafts.iter_mut().for_each(|draft| draft.dedupe_id = None);
        }
        event_keys(live, &mut drafts, idempotency.filter(|_| signed));
        let trace = TraceContext::of(headers).map(Arc::new);
        let receipt = self.publish_from(live, drafts, key.as_deref(), trace).await?;
        if !refused.is_empty() && !receipt.repeated {
            // in the shape in which the source reads several
            let rest = match live.source.event_type.is_empty() {
                true => format!("{{\"events\":[{}]}}", refused.join(",")),
                false => format!("[{}]", refused.join(",")),
            };
            let refusal = DraftError::Invalid(errors.clone());
            live.stats.refused_content(&refusal.to_string());
            let key = key.map(|key| format!("{key} refused"));
            let mut letter = letter(live, headers, key, rest.len(), &SourceError::Refused(refusal));
            // what is left over is JSON, whatever the whole was
            letter.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            self.keep_letter(live, letter, rest.as_bytes()).await;
        }
        Ok(TakenIn::Events { ids: receipt.ids, repeated: receipt.repeated, errors })
    }

    /// What would become of a request if its sender was verified. Nothing is stored or counted.
    pub fn would_take(&self, live: &ActiveSource, request: &Incoming<'_>, limits: Limits) -> WouldTake {
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
        let (key, _) = request_key(live, None, proof, None);
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

    async fn publish_from(
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

    // ---- dead letters --------------------------------------------------------------------------------------------

    /// Keeps a letter, unless the same request is among the letters already. The sender was refused either way, so a store
    /// that fails is the operator's to know.
    async fn keep_letter(&self, live: &ActiveSource, letter: Letter, body: &[u8]) {
        let (limits, body) = (self.rooms.sources.limits.letters(), body.to_vec());
        let letters = live.letters(&self.rooms.notes).await;
        let kept = letters.run(move |letters, notes, source| letters.keep(notes, source, letter, &body, limits)).await;
        match kept {
            Ok((_, true)) => drop(self.metrics().source_dead_letters.inc()),
            Ok((_, false)) => {}
            Err(e) => log::error!(source = &*live.source.id; "a dead letter was lost: {e}"),
        }
    }

    /// Up to `limit` dead letters with a higher number than `after`, the oldest first, and whether there are more.
    ///
    /// # Errors
    /// [`SourceError::Store`] when the notes cannot be read.
    pub async fn dead_letters(
        &self,
        live: &ActiveSource,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<Letter>, bool), SourceError> {
        let letters = live.letters(&self.rooms.notes).await;
        let page = letters.run(move |_, notes, source| dead_letters::page(notes, source, after, limit + 1));
        let (_, mut heads) = page.await?;
        let more = heads.len() > limit;
        heads.truncate(limit);
        Ok((heads, more))
    }

    /// A dead letter and as much of its body as is kept.
    ///
    /// # Errors
    /// [`SourceError::LetterNotFound`], or [`SourceError::Store`] when the notes cannot be read.
    pub async fn dead_letter(&self, live: &ActiveSource, n: u64) -> Result<(Letter, Vec<u8>), SourceError> {
        let letters = live.letters(&self.rooms.notes).await;
        let (_, found) = letters.run(move |_, notes, source| dead_letters::find(notes, source, n)).await?;
        found.ok_or(SourceError::LetterNotFound)
    }

    /// Sends a dead letter through the source as it is now, with what was edited. It is gone when its events are durable, and
    /// stays as it came, with the new reason, when it is refused again.
    ///
    /// # Errors
    /// [`SourceError::LetterNotFound`], [`SourceError::LetterCut`] when its body was not kept whole and no other is
    /// given, or as [`Hub::take_in`].
    pub async fn retry_dead_letter(
        &self,
        live: &ActiveSource,
        n: u64,
        edited: EditedLetter,
        limits: Limits,
    ) -> Result<TakenIn, SourceError> {
        // held to the end, so that two who ask at once do not both publish
        let letters = live.letters(&self.rooms.notes).await;
        let (letters, found) = letters.run(move |_, notes, source| dead_letters::find(notes, source, n)).await?;
        let (mut letter, body) = found.ok_or(SourceError::LetterNotFound)?;
        if !letter.is_whole() && edited.body.is_none() {
            return Err(SourceError::LetterCut);
        }
        let id = &live.source.id;
        let mut headers = letter.headers.clone();
        // only what could not be unpacked is kept as it was packed
        let is_packed = edited.body.is_none() && live.source.raw.is_none() && is_packed(&headers);
        let body = edited.body.unwrap_or(body);
        if let Some(kind) = edited.content_type {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            headers.push(("content-type".into(), kind));
        }
        let headers = Kept(&headers);
        let secrets = secrets(live);
        let config = config(live, &secrets, limits, false);
        let line = letter.line.clone().unwrap_or_else(|| RequestLine {
            method: "POST".into(),
            path: String::new(),
            query: String::new(),
        });
        let request = Incoming { method: &line.method, url: "", headers: &headers, body: &body };
        let read = match is_packed {
            true => Err(Unreadable::Packed.into()),
            false => read(live, &config, &request, &line.path, &line.query, Some(letter.content)),
        };
        let mut drafts = match read {
            Ok(Read::Events(taken)) => taken.drafts,
            Ok(Read::Question(reply)) => return Ok(TakenIn::Answer(resolved(live, reply))),
            Err(refusal) => {
                letter.retries += 1;
                (letter.reason, letter.details) = match &refusal {
                    SourceError::Refused(refusal) => described(refusal),
                    other => (other.to_string(), Vec::new()),
                };
                letters.run(move |letters, notes, source| letters.change(notes, source, &letter)).await?;
                return Err(refusal);
            }
        };
        event_keys(live, &mut drafts, None);
        // a crash between the two writes must not make two of it
        let key = letter.key.unwrap_or_else(|| format!("{id} letter {n} of {}", letter.received_ms));
        let receipt = self.publish_from(live, drafts, Some(&key), TraceContext::of(&headers).map(Arc::new)).await?;
        if let Err(e) = letters.run(move |letters, notes, source| letters.remove(notes, source, n)).await {
            // its events are durable; who sends it again finds that they are known
            log::error!(source = &**id, letter = n; "a dead letter that was sent again stays among the others: {e}");
        }
        Ok(TakenIn::Events { ids: receipt.ids, repeated: receipt.repeated, errors: Vec::new() })
    }

    /// Removes a dead letter.
    ///
    /// # Errors
    /// [`SourceError::LetterNotFound`], or [`SourceError::Store`] when the notes cannot be written.
    pub async fn remove_dead_letter(&self, live: &ActiveSource, n: u64) -> Result<(), SourceError> {
        let letters = live.letters(&self.rooms.notes).await;
        let (_, was_there) = letters.run(move |letters, notes, source| letters.remove(notes, source, n)).await?;
        if was_there { Ok(()) } else { Err(SourceError::LetterNotFound) }
    }

    /// Removes all dead letters of a source.
    ///
    /// # Errors
    /// [`SourceError::Store`] when the notes cannot be written.
    pub async fn clear_dead_letters(&self, live: &ActiveSource) -> Result<(), SourceError> {
        let letters = live.letters(&self.rooms.notes).await;
        letters.run(|letters, notes, source| letters.clear(notes, source)).await?;
        Ok(())
    }

    /// How many dead letters a source has.
    pub async fn count_dead_letters(&self, live: &ActiveSource) -> usize {
        live.count_letters(&self.rooms.notes).await
    }
}

/// Headers that hold a credential of the sender, or of whoever stands between us; a letter does not keep them.
const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

fn blank_letter(live: &ActiveSource, headers: &dyn Headers, key: Option<String>, bytes: usize, reason: &str) -> Letter {
    let mut room = HEADERS_BYTES_MAX;
    let fits = |(name, value): &(&str, Cow<'_, str>)| {
        let left = room.checked_sub(name.len() + value.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    let recipes = live.source.scheme.recipes();
    let secret: Vec<&str> = CREDENTIALS.into_iter().chain(recipes.iter().filter_map(Recipe::secret_header)).collect();
    let is_secret = |name: &str| secret.iter().any(|other| name.eq_ignore_ascii_case(other));
    let kept = headers.all().into_iter().filter(|(name, _)| !is_secret(name)).filter(fits);
    Letter {
        n: 0,
        received_ms: clock::now_ms(),
        reason: reason.chars().take(DETAIL_CHARS_MAX).collect(),
        details: Vec::new(),
        content: Content::Json,
        headers: kept.map(|(name, value)| (name.to_owned(), value.into_owned())).collect(),
        line: None,
        key,
        bytes,
        kept_bytes: 0,
        retries: 0,
    }
}

fn is_packed(headers: &[(String, String)]) -> bool {
    let packs = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("content-encoding") && !value.eq_ignore_ascii_case("identity")
    };
    headers.iter().any(packs)
}

/// A letter of a body that was unpacked.
fn letter(
    live: &ActiveSource,
    headers: &dyn Headers,
    key: Option<String>,
    bytes: usize,
    refusal: &SourceError,
) -> Letter {
    let (reason, details) = match refusal {
        SourceError::Refused(refusal) => described(refusal),
        other => (other.to_string(), Vec::new()),
    };
    let mut letter = Letter { details, ..blank_letter(live, headers, key, bytes, &reason) };
    if live.source.raw.is_none() {
        letter.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-encoding"));
    }
    letter
}

/// Longest field name or message that is kept, in characters.
const DETAIL_CHARS_MAX: usize = 300;
/// Details of one letter that are kept.
const DETAILS_MAX: usize = 20;

fn described(refusal: &DraftError) -> (String, Vec<Detail>) {
    let cut = |text: &str| text.chars().take(DETAIL_CHARS_MAX).collect::<String>();
    let details = match refusal {
        DraftError::Invalid(errors) => {
            let detail = |e: &FieldError| Detail { index: e.index, field: cut(&e.field), message: cut(&e.message) };
            errors.iter().take(DETAILS_MAX).map(detail).collect()
        }
        _ => Vec::new(),
    };
    (cut(&refusal.to_string()), details)
}
