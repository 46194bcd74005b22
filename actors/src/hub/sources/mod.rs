//! Sources: create, change, rotate, delete. What comes in at them is in `arrivals`, what was refused in `letters`.

mod arrivals;
mod letters;

use std::sync::Arc;

pub use zeroize::Zeroizing;

pub use arrivals::{Arrival, TakenIn, WouldTake};
pub use letters::EditedLetter;

use super::Hub;
use crate::catalog::reader::ReadError;
pub use crate::catalog::source::Source;
use crate::catalog::source::{rotate_key, seal_key, seal_verify_token};
use crate::catalog::{View, record};
use crate::clock;
use crate::documents::DocumentError;
use crate::documents::notes::NotesError;
use crate::hub::rooms::Rooms;
use crate::ingest::dead_letters::LetterError;
pub use crate::ingest::dead_letters::{Detail, Letter};
pub use crate::ingest::registry::{ActiveSource, Counts, RefusedSenders, SourceLimits, SourceRefusal};
use crate::journal::{AppendError, Urgency};
use crate::model::access::secret_text;
use crate::model::channel::{Channel, check_name};
use crate::model::draft::DraftError;
use crate::model::event::ChannelNo;
use crate::model::record_id::SourceId;
use crate::model::source::preset::Handshake;
use crate::model::source::raw::{RawResponse, RawRules};
use crate::model::source::{Authentication, HmacAlgorithm, Rate, Rule, Schema, Scheme, Unreadable};

/// The longest that the key before a rotation may count beside the new one, in seconds.
pub const OVERLAP_MAX_S: u64 = 604_800;

/// The longest token that a provider shows when it asks.
const VERIFY_TOKEN_CHARS_MAX: usize = 256;

/// A source that somebody asks for.
pub struct NewSource {
    pub name: Option<String>,
    pub scheme: Scheme,
    /// Absent: made, where it can be.
    pub key: Option<Zeroizing<String>>,
    /// Absent: the default of the authentication.
    pub event_type: Option<Vec<Rule>>,
    pub schema: Option<Schema>,
    pub rate_limit: Option<Rate>,
    /// What the provider is to show when it asks; absent: made, where it asks so.
    pub verify_token: Option<Zeroizing<String>>,
    /// Whether requests are to be kept as they come, and what of them.
    pub raw: Option<RawRules>,
}

/// What was made for a new source and is shown once.
#[derive(Default)]
pub struct Made {
    pub key: Option<Zeroizing<String>>,
    pub verify_token: Option<Zeroizing<String>>,
}

/// What is to change of a source; absent fields stay, `Some(None)` takes the default again.
#[derive(Clone, Default)]
pub struct SourceChange {
    pub name: Option<Option<String>>,
    pub paused: Option<bool>,
    pub hmac_algorithm: Option<HmacAlgorithm>,
    pub issuer: Option<Option<String>>,
    pub audience: Option<Option<String>>,
    pub event_type: Option<Option<Vec<Rule>>>,
    pub schema: Option<Option<Schema>>,
    pub rate_limit: Option<Option<Rate>>,
    pub verify_token: Option<Zeroizing<String>>,
    pub raw: RawChange,
}

/// What is to change of what a source in raw mode keeps and answers; absent fields stay.
#[derive(Clone, Default)]
pub struct RawChange {
    pub keep: Option<Vec<String>>,
    pub redact: Option<Vec<String>>,
    pub redact_query: Option<Vec<String>>,
    pub response: Option<Option<RawResponse>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{field} {message}")]
    Invalid { field: &'static str, message: String },
    #[error("only the server publishes to this organization; choose another channel")]
    System,
    #[error("there are as many sources as sources.per_channel allows: {0}")]
    TooMany(usize),
    #[error("the source does not exist")]
    NotFound,
    #[error("the dead letter does not exist; it may have made room for newer ones")]
    LetterNotFound,
    #[error("the body of the dead letter was too large to be kept whole; ask the sender to send it again")]
    LetterCut,
    #[error(transparent)]
    Refused(DraftError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl From<LetterError> for SourceError {
    fn from(e: LetterError) -> SourceError {
        match e {
            LetterError::Notes(NotesError::Full { .. } | NotesError::Closed { .. }) => AppendError::StorageFull.into(),
            e => AppendError::Store(e.to_string()).into(),
        }
    }
}

fn invalid(field: &'static str) -> impl FnOnce(String) -> SourceError {
    move |message| SourceError::Invalid { field, message }
}

/// The field in which a key of this scheme is given.
pub fn key_field(scheme: &Scheme) -> &'static str {
    match scheme.authentication {
        Authentication::ApiKey => "apiKey",
        Authentication::Jwt => "jwt.key",
        _ if scheme.has_public_key() => "publicKey",
        _ => "secretKey",
    }
}

/// Whether the provider shows a token of the source when it asks.
fn shows_token(scheme: &Scheme) -> bool {
    scheme.authentication.preset().is_some_and(|preset| preset.handshake == Some(Handshake::Meta))
}

fn check_verify_token(scheme: &Scheme, token: &str) -> Result<(), SourceError> {
    if !shows_token(scheme) {
        return Err(invalid("verifyToken")("goes with the authentication meta".into()));
    }
    let is_good = (1..=VERIFY_TOKEN_CHARS_MAX).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if is_good { Ok(()) } else { Err(invalid("verifyToken")("is 1 to 256 visible ASCII characters".into())) }
}

fn check_raw(raw: &RawRules) -> Result<(), SourceError> {
    for (field, names) in [("keep", &raw.keep), ("redact", &raw.redact), ("redact_query", &raw.redact_query)] {
        RawRules::check_names(names).map_err(|e| invalid(field)(e.to_string()))?;
    }
    raw.response.as_ref().map_or(Ok(()), RawResponse::check).map_err(|e| invalid("response")(e.to_string()))
}

/// The key that was given, or one that we make: (key, made).
fn key_of(scheme: &Scheme, given: Option<Zeroizing<String>>) -> Result<(Zeroizing<String>, bool), SourceError> {
    let field = key_field(scheme);
    if let Some(key) = given {
        scheme.check_key(&key).map_err(|e| invalid(field)(e.to_string()))?;
        return Ok((key, false));
    }
    match scheme.make_key(clock::random()) {
        Some(key) => Ok((Zeroizing::new(key), true)),
        None => Err(invalid(field)(scheme.missing_key().to_string())),
    }
}

/// The source as it is to be.
///
/// # Errors
/// A field does not go with its authentication.
fn changed(source: &Source, change: SourceChange) -> Result<Source, SourceError> {
    let mut source = source.clone();
    if let Some(name) = change.name {
        source.name = name;
    }
    if let Some(algorithm) = change.hmac_algorithm {
        if source.scheme.authentication != Authentication::Hmac {
            return Err(invalid("hmacAlgorithm")("goes with the authentication hmac".into()));
        }
        source.scheme.hmac_algorithm = algorithm;
    }
    match &mut source.scheme.jwt {
        Some(rules) => {
            rules.issuer = change.issuer.unwrap_or(rules.issuer.take());
            rules.audience = change.audience.unwrap_or(rules.audience.take());
        }
        None if change.issuer.is_some() || change.audience.is_some() => {
            return Err(invalid("jwt")("goes with the authentication jwt".into()));
        }
        None => {}
    }
    if let Some(rules) = change.event_type {
        source.event_type = rules.unwrap_or_else(|| match source.raw {
            Some(_) => Vec::new(),
            None => Rule::defaults(source.scheme.authentication),
        });
    }
    let RawChange { keep, redact, redact_query, response } = change.raw;
    match &mut source.raw {
        Some(raw) => {
            raw.keep = keep.unwrap_or(std::mem::take(&mut raw.keep));
            raw.redact = redact.unwrap_or(std::mem::take(&mut raw.redact));
            raw.redact_query = redact_query.unwrap_or(std::mem::take(&mut raw.redact_query));
            raw.response = response.unwrap_or(raw.response.take());
            check_raw(raw)?;
        }
        None if keep.is_some() || redact.is_some() || redact_query.is_some() || response.is_some() => {
            return Err(invalid("mode")("is not raw, and only such a source keeps and answers so".into()));
        }
        None => {}
    }
    source.schema = change.schema.unwrap_or(source.schema);
    source.rate_limit = change.rate_limit.unwrap_or(source.rate_limit);
    source.paused = change.paused.unwrap_or(source.paused);
    source.updated_ms = clock::now_ms();
    Ok(source)
}

impl Hub {
    /// Makes a source that publishes to the channel. A key that we made is returned once; keys are stored sealed.
    ///
    /// # Errors
    /// What was asked for cannot be, the channel is gone, the server's own or full, or the source could not be stored.
    pub async fn create_source(
        &self,
        channel: &Channel,
        new: NewSource,
    ) -> Result<(Arc<ActiveSource>, Made), SourceError> {
        if let Some(name) = &new.name {
            check_name(name).map_err(|e| invalid("name")(e.to_string()))?;
        }
        let NewSource { name, scheme, key, event_type, schema, rate_limit, verify_token, raw } = new;
        if let Some(raw) = &raw {
            check_raw(raw)?;
        }
        let id = SourceId::from(format!("wh_{}", clock::fresh_ulid()));
        let (keys, made) = match (scheme.has_key(), key) {
            (false, None) => (None, None),
            (false, Some(_)) => {
                return Err(invalid(key_field(&scheme))("goes with another authentication".into()));
            }
            (true, given) => {
                let (key, made) = key_of(&scheme, given)?;
                (Some(seal_key(&self.rooms.delivery.seal_key, &id, &key)), made.then_some(key))
            }
        };
        let (token, made_token) = match verify_token {
            Some(token) => {
                check_verify_token(&scheme, &token)?;
                (Some(token), false)
            }
            None => (shows_token(&scheme).then(|| Zeroizing::new(secret_text("", clock::random()))), true),
        };
        let sealed = token.as_ref().map(|token| seal_verify_token(&self.rooms.delivery.seal_key, &id, token));
        let made = Made { key: made, verify_token: token.filter(|_| made_token) };
        let now_ms = clock::now_ms();
        let source = Source {
            id,
            verify_token: sealed,
            channel: channel.no,
            name,
            event_type: event_type.unwrap_or_else(|| match raw {
                // a request is called http.request unless its owner says otherwise
                Some(_) => Vec::new(),
                None => Rule::defaults(scheme.authentication),
            }),
            raw,
            scheme,
            keys,
            schema,
            rate_limit,
            paused: false,
            inserted_ms: now_ms,
            updated_ms: now_ms,
        };
        let most = self.rooms.sources.limits.per_channel;
        let live = self
            .write_source(|view| {
                let channel = view.channel(source.channel_no()).ok_or(SourceError::NotFound)?;
                if channel.is_system() {
                    return Err(SourceError::System);
                }
                if view.sources_of(channel.no()).len() >= most {
                    return Err(SourceError::TooMany(most));
                }
                Ok(source.clone())
            })
            .await?;
        Ok((live, made))
    }

    /// A source by its id, whoever it belongs to.
    pub fn source(&self, id: &str) -> Option<Arc<ActiveSource>> {
        self.rooms.sources.get(id)
    }

    /// The sources of a channel, or all of them, the oldest first.
    pub fn sources(&self, channel: Option<ChannelNo>) -> Vec<Arc<ActiveSource>> {
        self.rooms.sources.list(channel)
    }

    /// Changes what `change` names.
    ///
    /// # Errors
    /// What was asked for cannot be, the source is gone, or the change could not be stored.
    pub async fn change_source(&self, id: &str, change: SourceChange) -> Result<Arc<ActiveSource>, SourceError> {
        if let Some(Some(name)) = &change.name {
            self.source(id).ok_or(SourceError::NotFound)?;
            check_name(name).map_err(|e| invalid("name")(e.to_string()))?;
        }
        if let Some(token) = &change.verify_token {
            check_verify_token(&self.source(id).ok_or(SourceError::NotFound)?.source.scheme, token)?;
        }
        let seal = &self.rooms.delivery.seal_key;
        self.write_source(|view| {
            let mut source = changed(view.source(id).ok_or(SourceError::NotFound)?, change.clone())?;
            if let Some(token) = &change.verify_token {
                source.verify_token = Some(seal_verify_token(seal, &source.id, token));
            }
            Ok(source)
        })
        .await
    }

    /// Gives a source another key, `given` or one that we make, which is then returned once. The old one counts for
    /// `overlap_s` more.
    ///
    /// # Errors
    /// The key cannot be used, the source is gone or has none, or the key could not be stored.
    pub async fn rotate_source_key(
        &self,
        id: &str,
        given: Option<Zeroizing<String>>,
        overlap_s: u64,
    ) -> Result<(Arc<ActiveSource>, Option<Zeroizing<String>>), SourceError> {
        let seal = &self.rooms.delivery.seal_key;
        // a source keeps the scheme by which a key is judged and made
        let source = self.source(id).ok_or(SourceError::NotFound)?;
        let no_key = || invalid("authentication")("is none: there is no secret to rotate".into());
        source.source.keys.as_ref().ok_or_else(no_key)?;
        let (key, made) = key_of(&source.source.scheme, given)?;
        let live = self
            .write_source(|view| {
                let mut source = Source::clone(view.source(id).ok_or(SourceError::NotFound)?);
                let old = source.keys.as_ref().ok_or_else(no_key)?;
                let now_ms = clock::now_ms();
                let until_ms = now_ms.saturating_add(overlap_s.min(OVERLAP_MAX_S) as i64 * 1_000);
                // an old key that does not open any more must not keep the new one from opening
                let keys = match source.verifier(seal) {
                    Ok(_) => rotate_key(seal, &source.id, old, &key, until_ms, now_ms),
                    Err(_) => seal_key(seal, &source.id, &key),
                };
                source.keys = Some(keys);
                source.updated_ms = now_ms;
                Ok(source)
            })
            .await?;
        Ok((live, made.then_some(key)))
    }

    /// Deletes a source with its dead letters. The events that it took in stay.
    ///
    /// # Errors
    /// The source is gone, or the deletion could not be stored.
    pub async fn delete_source(&self, id: &str) -> Result<(), SourceError> {
        self.change(Urgency::Reserve, |view| {
            let source = view.source(id).ok_or(SourceError::NotFound)?;
            Ok((vec![record::delete_source(&source.id)], ()))
        })
        .await
    }

    /// Stores the source that `decide` returns. When that is durable, the source is at work as it is stored.
    async fn write_source(
        &self,
        decide: impl Fn(&View<'_>) -> Result<Source, SourceError>,
    ) -> Result<Arc<ActiveSource>, SourceError> {
        let id = self
            .change::<_, SourceError>(Urgency::Normal, |view| {
                let source = decide(view)?;
                Ok((vec![record::put_source(&source)?], source.id))
            })
            .await?;
        // it may have been deleted at once
        self.source(&id).ok_or(SourceError::NotFound)
    }
}

/// Forgets the counters and the dead letters of a source that is gone.
pub(super) async fn forget(rooms: Arc<Rooms>, live: Arc<ActiveSource>) {
    let letters = live.letters(&rooms.notes).await;
    if let Err(e) = letters.run(|letters, notes, source| letters.end(notes, source)).await {
        log::error!(source = &*live.source.id; "the dead letters of a source that was deleted stay: {e}");
    }
}
