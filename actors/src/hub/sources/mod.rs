//! Sources: create, change, rotate, delete. What comes in at them is in `arrivals`.

mod arrivals;

use std::sync::Arc;

pub use zeroize::Zeroizing;

pub use arrivals::{Arrival, TakenIn};

use super::Hub;
use crate::catalog::source::SealedKeys;
pub use crate::catalog::source::Source;
use crate::clock;
use crate::engine::Engine;
pub use crate::ingest::dead_letters::{Detail, Letter};
pub use crate::ingest::registry::{ActiveSource, Counts, SourceLimits, SourceRefusal};
use crate::journal::AppendError;
use crate::model::channel::{Channel, check_name};
use crate::model::draft::DraftError;
use crate::model::event::ChannelNo;
use crate::model::record_id::SourceId;
use crate::model::source::{Authentication, HmacAlgorithm, Rate, Rule, Schema, Scheme};
use crate::store::{Change, State, StoreError, Table};

/// The longest that the key before a rotation may count beside the new one, in seconds.
pub const OVERLAP_MAX_S: u64 = 604_800;

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
}

/// What is to change of a source; absent fields stay, `Some(None)` takes the default again.
#[derive(Default)]
pub struct SourceChange {
    pub name: Option<Option<String>>,
    pub paused: Option<bool>,
    pub hmac_algorithm: Option<HmacAlgorithm>,
    pub issuer: Option<Option<String>>,
    pub audience: Option<Option<String>>,
    pub event_type: Option<Option<Vec<Rule>>>,
    pub schema: Option<Option<Schema>>,
    pub rate_limit: Option<Option<Rate>>,
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
    Append(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn invalid(field: &'static str) -> impl FnOnce(String) -> SourceError {
    move |message| SourceError::Invalid { field, message }
}

/// The field in which a key of this authentication is given.
pub fn key_field(authentication: Authentication) -> &'static str {
    match authentication {
        Authentication::ApiKey => "apiKey",
        Authentication::Jwt => "jwt.key",
        _ => "secretKey",
    }
}

/// The key that was given, or one that we make: (key, made).
fn key_of(scheme: &Scheme, given: Option<Zeroizing<String>>) -> Result<(Zeroizing<String>, bool), SourceError> {
    let field = key_field(scheme.authentication);
    if let Some(key) = given {
        scheme.check_key(&key).map_err(|e| invalid(field)(e.to_string()))?;
        return Ok((key, false));
    }
    match scheme.make_key(clock::random()) {
        Some(key) => Ok((Zeroizing::new(key), true)),
        None => Err(invalid(field)(scheme.missing_key().to_string())),
    }
}

impl Hub {
    /// Makes a source that publishes to the channel. A key that we made is returned once; keys are stored sealed.
    pub async fn create_source(
        &self,
        channel: &Channel,
        new: NewSource,
    ) -> Result<(Arc<ActiveSource>, Option<Zeroizing<String>>), SourceError> {
        if let Some(name) = &new.name {
            check_name(name).map_err(|e| invalid("name")(e.to_string()))?;
        }
        let NewSource { name, scheme, key, event_type, schema, rate_limit } = new;
        let id = SourceId::from(format!("wh_{}", clock::fresh_ulid()));
        let (keys, made) = match (scheme.has_key(), key) {
            (false, None) => (None, None),
            (false, Some(_)) => {
                return Err(invalid(key_field(scheme.authentication))("goes with another authentication".into()));
            }
            (true, given) => {
                let (key, made) = key_of(&scheme, given)?;
                (Some(SealedKeys::new(&self.engine.webhook_registry.key, &id, &key)), made.then_some(key))
            }
        };
        let _one_at_a_time = self.changes.lock().await;
        let channel = self.channel(channel.no()).ok_or(SourceError::NotFound)?;
        if channel.is_system() {
            return Err(SourceError::System);
        }
        let most = self.engine.source_registry.limits.per_channel;
        if self.engine.source_registry.list(Some(channel.no())).len() >= most {
            return Err(SourceError::TooMany(most));
        }
        let now_ms = clock::now_ms();
        let source = Source {
            id,
            channel: channel.no,
            name,
            event_type: event_type.unwrap_or_else(|| Rule::defaults(scheme.authentication)),
            scheme,
            keys,
            schema,
            rate_limit,
            paused: false,
            inserted_ms: now_ms,
            updated_ms: now_ms,
        };
        let live = self.store_source(source, Arc::default()).await?;
        Ok((live, made))
    }

    /// A source by its id, whoever it belongs to.
    pub fn source(&self, id: &str) -> Option<Arc<ActiveSource>> {
        self.engine.source_registry.get(id)
    }

    /// The sources of a channel, or all of them, the oldest first.
    pub fn sources(&self, channel: Option<ChannelNo>) -> Vec<Arc<ActiveSource>> {
        self.engine.source_registry.list(channel)
    }

    pub async fn change_source(&self, id: &str, change: SourceChange) -> Result<Arc<ActiveSource>, SourceError> {
        let _one_at_a_time = self.changes.lock().await;
        let live = self.source(id).ok_or(SourceError::NotFound)?;
        let mut source = live.source.clone();
        if let Some(name) = change.name {
            if let Some(name) = &name {
                check_name(name).map_err(|e| invalid("name")(e.to_string()))?;
            }
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
            source.event_type = rules.unwrap_or_else(|| Rule::defaults(source.scheme.authentication));
        }
        source.schema = change.schema.unwrap_or(source.schema);
        source.rate_limit = change.rate_limit.unwrap_or(source.rate_limit);
        source.paused = change.paused.unwrap_or(source.paused);
        source.updated_ms = clock::now_ms();
        Ok(self.store_source(source, live.stats.clone()).await?)
    }

    /// Gives a source another key, `given` or one that we make, which is then returned once. The old one counts for
    /// `overlap_s` more.
    pub async fn rotate_source_key(
        &self,
        id: &str,
        given: Option<Zeroizing<String>>,
        overlap_s: u64,
    ) -> Result<(Arc<ActiveSource>, Option<Zeroizing<String>>), SourceError> {
        let _one_at_a_time = self.changes.lock().await;
        let live = self.source(id).ok_or(SourceError::NotFound)?;
        let mut source = live.source.clone();
        let Some(old) = &source.keys else {
            return Err(invalid("authentication")("is none: there is no secret to rotate".into()));
        };
        let (key, made) = key_of(&source.scheme, given)?;
        let (seal, now_ms) = (&self.engine.webhook_registry.key, clock::now_ms());
        let until_ms = now_ms.saturating_add(overlap_s.min(OVERLAP_MAX_S) as i64 * 1_000);
        // an old key that does not open any more must not keep the new one from opening
        let keys = match source.verifier(seal) {
            Ok(_) => old.rotated(seal, &source.id, &key, until_ms, now_ms),
            Err(_) => SealedKeys::new(seal, &source.id, &key),
        };
        source.keys = Some(keys);
        source.updated_ms = now_ms;
        let live = self.store_source(source, live.stats.clone()).await?;
        Ok((live, made.then_some(key)))
    }

    /// Deletes a source with its dead letters. The events that it took in stay.
    pub async fn delete_source(&self, id: &str) -> Result<(), SourceError> {
        let _one_at_a_time = self.changes.lock().await;
        let id = self.source(id).ok_or(SourceError::NotFound)?.source.id.clone();
        let stored = id.clone();
        self.blocking(move |engine| engine.state.write(&deletion(&engine.state, &stored)?)).await?;
        self.engine.source_registry.remove(&id);
        Ok(())
    }

    async fn store_source(
        &self,
        source: Source,
        stats: Arc<crate::ingest::registry::SourceStats>,
    ) -> Result<Arc<ActiveSource>, StoreError> {
        let stored = source.clone();
        self.blocking(move |engine| engine.state.write(&[Change::put(Table::Sources, &*stored.id, &stored)?])).await?;
        let Engine { source_registry, webhook_registry, .. } = &*self.engine;
        Ok(source_registry.put(ActiveSource::new(source, stats, &webhook_registry.key)))
    }
}

/// The deletion of a source and of everything that belongs to it.
pub(super) fn deletion(state: &State, source: &str) -> Result<Vec<Change>, StoreError> {
    let mut changes = vec![Change::delete(Table::Sources, source), Change::delete(Table::SourceCounts, source)];
    for table in [Table::DeadLetters, Table::DeadLetterParts] {
        changes.extend(state.clear(table, source.as_bytes())?);
    }
    Ok(changes)
}
