//! Dead letters of sources: keeping what a verified sender sent and was refused, listing, sending again, removing.

use std::borrow::Cow;
use std::sync::Arc;

use super::arrivals::{TakenIn, config, event_keys, read, resolved, secrets};
use super::{ActiveSource, Detail, Hub, Letter, SourceError};
use crate::clock;
use crate::ingest::dead_letters::{self, HEADERS_BYTES_MAX, RequestLine};
use crate::model::draft::{DraftError, DraftLimits, FieldError};
use crate::model::source::raw::RAW_TARGET_BYTES_MAX;
use crate::model::source::{Content, Headers, Incoming, Read, Recipe, Unreadable};
use crate::model::trace_context::TraceContext;

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

impl Hub {
    /// Keeps a letter, unless the same request is among the letters already. The sender was refused either way, so a store
    /// that fails is the operator's to know.
    pub(super) async fn keep_letter(&self, live: &ActiveSource, mut letter: Letter, body: &[u8]) {
        if let Some(node) = self.rooms.node_name() {
            letter.n = dead_letters::least_number(&node, letter.received_ms);
        }
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
        limits: DraftLimits,
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

/// What a letter keeps of where a request was sent.
pub(super) fn line(live: &ActiveSource, request: &Incoming<'_>, path: &str, query: &str) -> Option<RequestLine> {
    let line = RequestLine { method: request.method.into(), path: path.into(), query: query.into() };
    let is_kept = live.source.raw.is_some() && path.len() + query.len() <= RAW_TARGET_BYTES_MAX;
    is_kept.then_some(line)
}

/// Headers that hold a credential of the sender, or of whoever stands between us; a letter does not keep them.
const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

pub(super) fn blank_letter(
    live: &ActiveSource,
    headers: &dyn Headers,
    key: Option<String>,
    bytes: usize,
    reason: &str,
) -> Letter {
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
pub(super) fn letter(
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
