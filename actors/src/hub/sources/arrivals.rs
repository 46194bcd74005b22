//! What comes in at sources: events that are taken, and dead letters.

use super::{ActiveSource, Detail, Hub, Letter, SourceError, SourceRefusal};
use crate::clock;
use crate::ingest::dead_letters;
use crate::journal::Receipt;
use crate::metrics::SourceOutcome;
use crate::model::draft::{DraftError, FieldError, Limits};
use crate::model::event::Draft;
use crate::model::id::EventId;
use crate::model::json;
use crate::model::source::{Config, Content, Headers, Proof, Read, Rule, Taken};

/// A request whose sender was believed.
pub struct Arrival<'a> {
    pub headers: &'a dyn Headers,
    pub body: &'a [u8],
    pub content: Content,
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
    /// The provider wants this text back.
    Challenge(String),
}

/// The headers that a dead letter keeps.
struct Kept<'a>(&'a [(String, String)]);

impl Headers for Kept<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn config<'a>(live: &'a ActiveSource, limits: Limits, partial: bool) -> Config<'a> {
    let source = &live.source;
    Config {
        id: &source.id,
        authentication: source.scheme.authentication,
        rules: &source.event_type,
        schema: source.schema.as_ref(),
        limits,
        partial,
    }
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
    /// Takes one request from the rate of a source.
    pub fn admit(&self, live: &ActiveSource) -> Result<(), SourceRefusal> {
        live.admit(clock::now_ms()).inspect_err(|_| self.metrics().source_request(SourceOutcome::Limited))
    }

    /// Refuses a request whose headers alone show that its sender cannot be believed. To be asked before there is a body.
    pub fn foresee(&self, live: &ActiveSource, headers: &dyn Headers) -> Result<(), SourceRefusal> {
        live.foresee(headers, clock::now_ms()).inspect_err(|refusal| self.count_refusal(refusal))
    }

    /// Whether the sender of these raw bytes is believed.
    pub fn recognise(&self, live: &ActiveSource, headers: &dyn Headers, body: &[u8]) -> Result<Proof, SourceRefusal> {
        live.verify(headers, body, clock::now_ms()).inspect_err(|refusal| self.count_refusal(refusal))
    }

    fn count_refusal(&self, refusal: &SourceRefusal) {
        self.metrics().source_request(match refusal {
            SourceRefusal::Untrusted(_) => SourceOutcome::Unauthenticated,
            _ => SourceOutcome::Unavailable,
        });
    }

    /// Publishes what a request holds; returns when it is durable. What is refused for its content is kept as a dead letter.
    pub async fn take_in(
        &self,
        live: &ActiveSource,
        proof: &Proof,
        arrival: Arrival<'_>,
    ) -> Result<TakenIn, SourceError> {
        let Arrival { headers, body, content, partial, idempotency, limits } = arrival;
        let config = config(live, limits, partial);
        let taken = match config.read(headers, body, content) {
            Ok(Read::Events(taken)) => taken,
            Ok(Read::Challenge(text)) => return Ok(TakenIn::Challenge(text)),
            Err(refusal) => {
                let delivery = json::text(body).ok().and_then(|text| config.delivery(headers, &text));
                let (key, _) = request_key(live, delivery.as_deref(), proof, idempotency);
                self.metrics().source_request(SourceOutcome::Refused);
                live.stats.refused_content(&refusal.to_string());
                let letter = letter(live, headers, content, key, body.len(), &refusal);
                self.keep_letter(live, letter, body).await;
                return Err(SourceError::Refused(refusal));
            }
        };
        let Taken { mut drafts, errors, refused, delivery } = taken;
        let (key, signed) = request_key(live, delivery.as_deref(), proof, idempotency);
        event_keys(live, &mut drafts, idempotency.filter(|_| signed));
        let receipt = self.publish_from(live, drafts, key.as_deref()).await?;
        if !refused.is_empty() && !receipt.repeated {
            let rest = format!("{{\"events\":[{}]}}", refused.join(","));
            let refusal = DraftError::Invalid(errors.clone());
            live.stats.refused_content(&refusal.to_string());
            let key = key.map(|key| format!("{key} refused"));
            self.keep_letter(live, letter(live, headers, content, key, rest.len(), &refusal), rest.as_bytes()).await;
        }
        Ok(TakenIn::Events { ids: receipt.ids, repeated: receipt.repeated, errors })
    }

    async fn publish_from(
        &self,
        live: &ActiveSource,
        drafts: Vec<Draft>,
        key: Option<&str>,
    ) -> Result<Receipt, SourceError> {
        let channel = self.channel(live.source.channel_no()).ok_or(SourceError::NotFound)?;
        let events = drafts.len() as u64;
        let receipt = self.publish(channel, drafts, key, live.by.clone()).await?;
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
    pub async fn dead_letter(&self, live: &ActiveSource, n: u64) -> Result<(Letter, Vec<u8>), SourceError> {
        let letters = live.letters(&self.rooms.notes).await;
        let (_, found) = letters.run(move |_, notes, source| dead_letters::find(notes, source, n)).await?;
        found.ok_or(SourceError::LetterNotFound)
    }

    /// Sends a dead letter through the source as it is now. It is gone when its events are durable, and stays with the new
    /// reason when it is refused again.
    pub async fn retry_dead_letter(&self, live: &ActiveSource, n: u64, limits: Limits) -> Result<TakenIn, SourceError> {
        // held to the end, so that two who ask at once do not both publish
        let letters = live.letters(&self.rooms.notes).await;
        let (letters, found) = letters.run(move |_, notes, source| dead_letters::find(notes, source, n)).await?;
        let (mut letter, body) = found.ok_or(SourceError::LetterNotFound)?;
        if !letter.is_whole() {
            return Err(SourceError::LetterCut);
        }
        let id = &live.source.id;
        let read = config(live, limits, false).read(&Kept(&letter.headers), &body, letter.content);
        let mut drafts = match read {
            Ok(Read::Events(taken)) => taken.drafts,
            Ok(Read::Challenge(text)) => return Ok(TakenIn::Challenge(text)),
            Err(refusal) => {
                letter.retries += 1;
                (letter.reason, letter.details) = described(&refusal);
                letters.run(move |letters, notes, source| letters.change(notes, source, &letter)).await?;
                return Err(SourceError::Refused(refusal));
            }
        };
        event_keys(live, &mut drafts, None);
        // a crash between the two writes must not make two of it
        let key = letter.key.unwrap_or_else(|| format!("{id} letter {n} of {}", letter.received_ms));
        let receipt = self.publish_from(live, drafts, Some(&key)).await?;
        if let Err(e) = letters.run(move |letters, notes, source| letters.remove(notes, source, n)).await {
            // its events are durable; who sends it again finds that they are known
            log::error!(source = &**id, letter = n; "a dead letter that was sent again stays among the others: {e}");
        }
        Ok(TakenIn::Events { ids: receipt.ids, repeated: receipt.repeated, errors: Vec::new() })
    }

    pub async fn remove_dead_letter(&self, live: &ActiveSource, n: u64) -> Result<(), SourceError> {
        let letters = live.letters(&self.rooms.notes).await;
        let (_, was_there) = letters.run(move |letters, notes, source| letters.remove(notes, source, n)).await?;
        if was_there { Ok(()) } else { Err(SourceError::LetterNotFound) }
    }

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

fn letter(
    live: &ActiveSource,
    headers: &dyn Headers,
    content: Content,
    key: Option<String>,
    bytes: usize,
    refusal: &DraftError,
) -> Letter {
    let (reason, details) = described(refusal);
    let named = Rule::headers(&live.source.event_type);
    let headers = named.filter_map(|name| Some((name.to_owned(), headers.get(name)?.to_owned())));
    Letter {
        n: 0,
        received_ms: clock::now_ms(),
        reason,
        details,
        content,
        headers: headers.collect(),
        key,
        bytes,
        kept_bytes: 0,
        retries: 0,
    }
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
