//! What is configured as documents: which document a record is stored as, and what a change of a document means.

use std::sync::Arc;

use crate::catalog::source::Source;
use crate::catalog::webhook::Webhook;
use crate::documents::{Change, DocumentError, Table};
use crate::model::access::TokenRecord;
use crate::model::channel::Channel;
use crate::model::event::ChannelNo;
use crate::model::record_id::{SourceId, TokenId, WebhookId};

/// A record that is made or changed, or, without one, deleted.
#[derive(Clone)]
pub(super) enum Record {
    Channel(ChannelNo, Option<Arc<Channel>>),
    Token(TokenId, Option<Arc<TokenRecord>>),
    Webhook(WebhookId, Option<Arc<Webhook>>),
    Source(SourceId, Option<Arc<Source>>),
}

/// Why a change of a document cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("a document of {table} is stored under a key that is not its own")]
    Key { table: &'static str },
}

impl Record {
    /// What a change means; none when it is of nothing that is configured, such as the rows of a webhook.
    ///
    /// # Errors
    /// A document cannot be read, or is stored under the key of another.
    pub fn of(change: &Change) -> Result<Option<Record>, Unreadable> {
        let table = change.table();
        let misplaced = || Unreadable::Key { table: table.name() };
        let text = || std::str::from_utf8(change.own_key()).map_err(|_| misplaced());
        Ok(Some(match table {
            Table::Channels => {
                let no = change.own_key().try_into().map_err(|_| misplaced())?;
                let no = ChannelNo(u32::from_be_bytes(no));
                let channel = change.document::<Channel>()?;
                fits(channel.as_ref().is_none_or(|channel| channel.no() == no), misplaced)?;
                Record::Channel(no, channel.map(Arc::new))
            }
            Table::Tokens => {
                let id = TokenId::from(text()?);
                let token = change.document::<TokenRecord>()?;
                fits(token.as_ref().is_none_or(|token| token.id == id), misplaced)?;
                Record::Token(id, token.map(Arc::new))
            }
            Table::Webhooks => {
                let id = WebhookId::from(text()?);
                let webhook = change.document::<Webhook>()?;
                fits(webhook.as_ref().is_none_or(|webhook| webhook.id == id), misplaced)?;
                Record::Webhook(id, webhook.map(Arc::new))
            }
            Table::Sources => {
                let id = SourceId::from(text()?);
                let source = change.document::<Source>()?;
                fits(source.as_ref().is_none_or(|source| source.id == id), misplaced)?;
                Record::Source(id, source.map(Arc::new))
            }
            Table::Numbers
            | Table::Endpoints
            | Table::Rows
            | Table::Replays
            | Table::Losses
            | Table::Slots
            | Table::Tickets
            | Table::Copy => return Ok(None),
        }))
    }

    /// What changes mean. One that cannot be applied is left out, and the log says so.
    pub fn of_all(changes: &[Change]) -> Vec<Record> {
        let of = |change: &Change| {
            Record::of(change).unwrap_or_else(|e| {
                log::error!("a change of the configuration is not applied ({change:?}): {e}");
                None
            })
        };
        changes.iter().filter_map(of).collect()
    }
}

fn fits(is_own: bool, misplaced: impl Fn() -> Unreadable) -> Result<(), Unreadable> {
    if is_own { Ok(()) } else { Err(misplaced()) }
}

/// # Errors
/// The document is too large.
pub fn put_channel(channel: &Channel) -> Result<Change, DocumentError> {
    Change::put(Table::Channels, channel.no.to_be_bytes(), channel)
}

/// # Errors
/// The document is too large.
pub fn put_token(token: &TokenRecord) -> Result<Change, DocumentError> {
    Change::put(Table::Tokens, &token.id, token)
}

/// # Errors
/// The document is too large.
pub fn put_webhook(webhook: &Webhook) -> Result<Change, DocumentError> {
    Change::put(Table::Webhooks, &webhook.id, webhook)
}

/// # Errors
/// The document is too large.
pub fn put_source(source: &Source) -> Result<Change, DocumentError> {
    Change::put(Table::Sources, &source.id, source)
}

pub fn delete_token(id: &TokenId) -> Change {
    Change::delete(Table::Tokens, id)
}

pub fn delete_source(id: &SourceId) -> Change {
    Change::delete(Table::Sources, id)
}
