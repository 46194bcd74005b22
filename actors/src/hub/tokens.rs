//! Tokens of channels: create, list, revoke.

use std::sync::Arc;

use super::Hub;
use crate::catalog::{View, record};
use crate::clock;
use crate::documents::DocumentError;
use crate::journal::{AppendError, Urgency};
use crate::model::access::{Scope, TokenHash, TokenRecord, secret_text};
use crate::model::channel::{Channel, NameError, check_name};
use crate::model::event::ChannelNo;

#[derive(Clone, Debug)]
pub struct NewToken {
    pub scopes: Vec<Scope>,
    pub name: Option<String>,
    /// Unix milliseconds.
    pub expires_ms: Option<i64>,
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
            channel: 0,
            scopes,
            name: new.name,
            expires_ms: new.expires_ms,
            inserted_ms: now,
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

    /// The tokens of a channel, or all of them.
    pub fn tokens(&self, channel: Option<ChannelNo>) -> Vec<(Arc<TokenRecord>, Arc<Channel>)> {
        self.rooms.catalog.read(|tables| {
            let with_channel =
                |token: Arc<TokenRecord>| Some((token.clone(), tables.channel(ChannelNo(token.channel))?.clone()));
            tables.tokens(channel).into_iter().filter_map(with_channel).collect()
        })
    }

    pub fn token(&self, id: &str) -> Option<Arc<TokenRecord>> {
        self.rooms.catalog.token(id)
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
