//! Tokens of channels: create, list, revoke.

use std::sync::Arc;

use super::Hub;
use crate::clock;
use crate::model::access::{Scope, TokenHash, TokenRecord, secret_text};
use crate::model::channel::{Channel, NameError, check_name};
use crate::model::event::ChannelNo;
use crate::store::{Change, StoreError, Table};

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
    Store(#[from] StoreError),
}

impl Hub {
    /// Creates a token of the channel. Its text is returned once and kept nowhere.
    pub async fn create_token(&self, channel: &Channel, new: NewToken) -> Result<(TokenRecord, String), TokenError> {
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
        let _one_at_a_time = self.changes.lock().await;
        self.channel(channel.no()).ok_or(TokenError::Gone)?;
        if self.engine.access.list(Some(channel.no())).len() >= self.engine.limits.tokens_per_channel {
            return Err(TokenError::TooMany);
        }
        let text = secret_text("st_", clock::random());
        let record = TokenRecord {
            id: format!("tok_{}", clock::fresh_ulid()).into(),
            hash: TokenHash::of(&text),
            channel: channel.no,
            scopes,
            name: new.name,
            expires_ms: new.expires_ms,
            inserted_ms: now,
        };
        let kept = record.clone();
        self.blocking(move |engine| engine.state.write(&[Change::put(Table::Tokens, kept.id.as_bytes(), &kept)?]))
            .await?;
        self.engine.access.add(record.clone());
        Ok((record, text))
    }

    /// The tokens of a channel, or all of them.
    pub fn tokens(&self, channel: Option<ChannelNo>) -> Vec<(TokenRecord, Arc<Channel>)> {
        let list = self.engine.access.list(channel);
        list.into_iter().filter_map(|token| Some((token.clone(), self.channel(ChannelNo(token.channel))?))).collect()
    }

    pub fn token(&self, id: &str) -> Option<TokenRecord> {
        self.engine.access.get(id)
    }

    /// Revokes a token; its streams end within a second. False when there is none.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let _one_at_a_time = self.changes.lock().await;
        if self.engine.access.get(id).is_none() {
            return Ok(false);
        }
        let key = id.to_string();
        self.blocking(move |engine| engine.state.write(&[Change::delete(Table::Tokens, key.as_bytes())])).await?;
        Ok(self.engine.access.remove(id).is_some())
    }
}
