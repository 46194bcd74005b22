//! Tokens of channels, of one or of several: create, list, rename, revoke.

use std::sync::Arc;

use super::Hub;
use crate::catalog::tables::Tables;
use crate::catalog::{View, record};
use crate::clock;
use crate::documents::DocumentError;
use crate::journal::{AppendError, Urgency};
use crate::model::access::{Scope, TokenHash, TokenRecord, secret_text};
use crate::model::channel::{Channel, NameError, check_name};
use crate::model::event::ChannelNo;
use crate::model::selection::{CHANNELS_MAX, ChannelSet, Selector};

#[derive(Clone, Debug)]
pub struct NewToken {
    pub scopes: Vec<Scope>,
    pub name: Option<String>,
    /// Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// The id of the principal that asks for it.
    pub created_by: Option<String>,
}

/// What is to change of a token; absent: it stays.
#[derive(Clone, Debug, Default)]
pub struct TokenChange {
    pub name: Option<Option<String>>,
    /// Unix milliseconds; none: never.
    pub expires_ms: Option<Option<i64>>,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("a token needs at least one scope of subscribe, publish, manage")]
    NoScope,
    #[error("{0}")]
    Name(NameError),
    #[error("expires_at lies in the past; give a time to come, or leave it out")]
    Expired,
    #[error("the channel has as many tokens as limits.tokens_per_channel allows; revoke some")]
    TooMany,
    #[error("there are as many tokens of several channels as limits.tokens_per_channel allows; revoke some")]
    TooManyOfSeveral,
    #[error("a token of several channels has the scopes subscribe and publish; manage is for a token of one channel")]
    ManagesSeveral,
    #[error("give 1 to {CHANNELS_MAX} channels")]
    Channels,
    #[error("the channel does not exist any more")]
    Gone,
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// A token that was made, and belongs to no channel yet.
pub(super) struct FreshToken {
    /// Shown once and kept nowhere.
    pub text: String,
    record: TokenRecord,
}

impl FreshToken {
    /// # Errors
    /// What was asked for cannot be.
    pub fn new(new: NewToken) -> Result<FreshToken, TokenError> {
        let mut scopes = new.scopes;
        scopes.dedup();
        if scopes.is_empty() {
            return Err(TokenError::NoScope);
        }
        if let Some(name) = &new.name {
            check_name(name).map_err(TokenError::Name)?;
        }
        let now = clock::now_ms();
        if new.expires_ms.is_some_and(|at| at <= now) {
            return Err(TokenError::Expired);
        }
        let text = secret_text("st_", clock::random());
        let record = TokenRecord {
            id: format!("tok_{}", clock::fresh_ulid()).into(),
            hash: TokenHash::of(&text),
            channel: ChannelNo::ALL.0,
            channels: None,
            scopes,
            name: new.name,
            expires_ms: new.expires_ms,
            inserted_ms: now,
            created_by: new.created_by,
        };
        Ok(FreshToken { text, record })
    }

    /// The record of the token as one of this channel.
    ///
    /// # Errors
    /// The channel has as many tokens as it may have.
    pub fn of(&self, no: ChannelNo, view: &View<'_>, tokens_per_channel: usize) -> Result<TokenRecord, TokenError> {
        if view.tokens_of(no).len() >= tokens_per_channel {
            return Err(TokenError::TooMany);
        }
        Ok(TokenRecord { channel: no.0, ..self.record.clone() })
    }

    /// The record of the token as one of these channels.
    ///
    /// # Errors
    /// It may not be, or there are as many such tokens as there may be.
    fn of_several(
        &self,
        channels: &Arc<ChannelSet>,
        view: &View<'_>,
        tokens_per_channel: usize,
    ) -> Result<TokenRecord, TokenError> {
        if self.record.scopes.contains(&Scope::Manage) {
            return Err(TokenError::ManagesSeveral);
        }
        if channels.listed().any(|no| view.channel(no).is_none()) {
            return Err(TokenError::Gone);
        }
        if view.tokens_of(ChannelNo::ALL).len() >= tokens_per_channel {
            return Err(TokenError::TooManyOfSeveral);
        }
        Ok(TokenRecord { channels: Some(channels.clone()), ..self.record.clone() })
    }
}

/// What a token is for, by the names that tokens have for it.
#[derive(Clone, PartialEq, Debug)]
pub enum TokenOf {
    Channel(String),
    /// Without channels that were deleted.
    Several(Vec<String>),
}

impl Hub {
    /// Creates a token of the channel. Its text is returned once and kept nowhere.
    ///
    /// # Errors
    /// What was asked for cannot be, the channel is gone or full, or the token could not be stored.
    pub async fn create_token(&self, channel: &Channel, new: NewToken) -> Result<(TokenRecord, String), TokenError> {
        let fresh = FreshToken::new(new)?;
        let no = channel.no();
        let tokens_per_channel = self.rooms.limits.tokens_per_channel;
        let record = self
            .change::<_, TokenError>(Urgency::Normal, |view| {
                view.channel(no).ok_or(TokenError::Gone)?;
                let record = fresh.of(no, view, tokens_per_channel)?;
                Ok((vec![record::put_token(&record)?], record))
            })
            .await?;
        Ok((record, fresh.text))
    }

    /// Creates a token of several channels. Its text is returned once and kept nowhere.
    ///
    /// # Errors
    /// As [`Hub::create_token`]; or there are too many channels or none, or the scopes are not for several.
    pub async fn create_token_of_several(
        &self,
        selectors: &[Selector],
        new: NewToken,
    ) -> Result<(TokenRecord, String), TokenError> {
        if !(1..=CHANNELS_MAX).contains(&selectors.len()) {
            return Err(TokenError::Channels);
        }
        let fresh = FreshToken::new(new)?;
        let channels = Arc::new(ChannelSet::of(selectors));
        let tokens_per_channel = self.rooms.limits.tokens_per_channel;
        let record = self
            .change::<_, TokenError>(Urgency::Normal, |view| {
                let record = fresh.of_several(&channels, view, tokens_per_channel)?;
                Ok((vec![record::put_token(&record)?], record))
            })
            .await?;
        Ok((record, fresh.text))
    }

    /// The tokens of a channel, or all of them, each with what it is for.
    pub fn tokens(&self, channel: Option<ChannelNo>) -> Vec<(Arc<TokenRecord>, TokenOf)> {
        self.rooms.catalog.read(|tables| {
            let with_names = |token: Arc<TokenRecord>| Some((token.clone(), token_of(tables, &token)?));
            tables.tokens(channel).into_iter().filter_map(with_names).collect()
        })
    }

    /// What a token is for; none when its channel was deleted.
    pub fn token_of(&self, token: &TokenRecord) -> Option<TokenOf> {
        self.rooms.catalog.read(|tables| token_of(tables, token))
    }

    /// The channels of a set by name, without those that were deleted.
    pub fn names(&self, channels: &ChannelSet) -> Vec<String> {
        self.rooms.catalog.read(|tables| names(tables, channels))
    }

    pub fn token(&self, id: &str) -> Option<Arc<TokenRecord>> {
        self.rooms.catalog.token(id)
    }

    /// Gives a token another name or another end; what is absent stays. Its open streams go by the new end.
    ///
    /// # Errors
    /// What was asked for cannot be, the token is gone, or it could not be stored.
    pub async fn change_token(&self, id: &str, change: TokenChange) -> Result<TokenRecord, TokenError> {
        if let Some(Some(name)) = &change.name {
            check_name(name).map_err(TokenError::Name)?;
        }
        if change.expires_ms.flatten().is_some_and(|at| at <= clock::now_ms()) {
            return Err(TokenError::Expired);
        }
        self.change::<_, TokenError>(Urgency::Normal, |view| {
            let mut token = TokenRecord::clone(view.token(id).ok_or(TokenError::Gone)?);
            token.name = change.name.clone().unwrap_or(token.name);
            token.expires_ms = change.expires_ms.unwrap_or(token.expires_ms);
            Ok((vec![record::put_token(&token)?], token))
        })
        .await
    }

    /// Revokes a token; its streams end within a second. False when there is none.
    ///
    /// # Errors
    /// The revocation could not be stored, or it is not known whether it was.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, AppendError> {
        self.change(Urgency::Reserve, |view| match view.token(id) {
            None => Ok((Vec::new(), false)),
            Some(token) => Ok((vec![record::delete_token(&token.id)], true)),
        })
        .await
    }
}

fn token_of(tables: &Tables, token: &TokenRecord) -> Option<TokenOf> {
    Some(match &token.channels {
        None => TokenOf::Channel(tables.channel(ChannelNo(token.channel))?.name_on_tokens()),
        Some(channels) => TokenOf::Several(names(tables, channels)),
    })
}

fn names(tables: &Tables, channels: &ChannelSet) -> Vec<String> {
    let listed = channels.listed().filter_map(|no| Some(tables.channel(no)?.name_on_tokens()));
    listed.chain(channels.kinds().map(|kind| Selector::Kind(kind).name())).collect()
}
