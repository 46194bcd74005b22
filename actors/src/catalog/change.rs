//! How what is configured is changed: by a closure that looks at it and returns changes of documents.
//!
//! The closure sees what is applied and what waits for its commit. Its changes are queued behind those, all under one lock
//! that is held for nothing else; then the caller waits for the commit without any lock. When a commit before it failed,
//! on which it may rest, the journal refuses the changes and the closure runs again on what is left.

use std::ops::Deref;

use super::record::Record;
use super::tables::Tables;
use super::{Catalog, OF_WEBHOOKS};
use crate::clock;
#[cfg(test)]
use crate::disk::mutant::{self, Mutant};
use crate::documents::{Change, DocumentError, Documents, Table};
use crate::journal::{AppendError, DocumentChanges, Pending, Urgency};
use crate::model::event::ChannelNo;
use crate::model::record_id::WebhookId;

/// How often a change is computed again because one before it was not stored. Each time waits for a commit, and all of
/// them together no longer than the journal's answer timeout.
const ATTEMPTS_MAX: usize = 32;

/// The counter of [`View::take_channel_no`].
const CHANNELS: &str = "channels";

/// What is applied, and what is queued behind it.
pub(super) struct Ahead {
    pub tables: Tables,
    /// [`Journal::epoch`](crate::journal::Journal::epoch) when the tables were copied from what is applied.
    pub epoch: u64,
}

/// Why nothing was changed, or why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The closure's own answer.
    #[error(transparent)]
    Refused(E),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl<E: From<AppendError>> ChangeError<E> {
    /// As an error of the verb that has changed something.
    pub fn into_error(self) -> E {
        match self {
            ChangeError::Refused(e) => e,
            ChangeError::Append(e) => e.into(),
        }
    }
}

/// What a closure may look at and take.
pub struct View<'a> {
    tables: &'a Tables,
    documents: &'a Documents,
}

impl Deref for View<'_> {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        self.tables
    }
}

impl View<'_> {
    /// A number for a new channel, and the change that has to be among those that make it. It is not given out again,
    /// also when nothing comes of the channel: old events may bear it.
    ///
    /// # Errors
    /// The counter is damaged, or all numbers are used up.
    pub fn take_channel_no(&self) -> Result<(ChannelNo, Change), DocumentError> {
        let (no, change) = self.documents.take_number(CHANNELS)?;
        Ok((ChannelNo(no), change))
    }

    /// The deletion of a webhook and of everything that belongs to it. What its actor has queued meanwhile is deleted when
    /// the deletion is applied.
    pub fn delete_webhook(&self, id: &WebhookId) -> Vec<Change> {
        // the state of the deliveries may still wait for its commit together with the webhook
        let mut changes = vec![Change::delete(Table::Webhooks, id), Change::delete(Table::Endpoints, id)];
        let others = OF_WEBHOOKS.iter().filter(|table| **table != Table::Endpoints);
        changes.extend(others.flat_map(|table| self.documents.clear(*table, id.as_bytes())));
        changes
    }

    /// The deletion of a channel with its tokens, webhooks and sources. Its events leave with retention.
    pub fn delete_channel(&self, no: ChannelNo) -> Vec<Change> {
        let mut changes = vec![Change::delete(Table::Channels, no.0.to_be_bytes())];
        changes.extend(self.tokens_of(no).iter().map(|token| Change::delete(Table::Tokens, &token.id)));
        changes.extend(self.webhooks_of(no).iter().flat_map(|webhook| self.delete_webhook(&webhook.id)));
        changes.extend(self.sources_of(no).iter().map(|source| Change::delete(Table::Sources, &source.id)));
        changes
    }
}

/// What came of running the closure once.
enum Attempt<T, E> {
    /// Its changes are queued; the value counts when they are durable.
    Queued(Pending<()>, T),
    /// It changes nothing, or refuses to, because of something that waits for its commit: it counts when that is durable.
    Rests(Pending<()>, Result<T, E>),
    /// It changes nothing, or refuses to, and everything that it has seen is durable.
    Settled(Result<T, E>),
}

impl Catalog {
    /// Changes what is configured: returns when the changes that `decide` returns are durable and applied.
    ///
    /// `decide` runs under a lock that all changes share, so it must not block; it may run again, so it must not have
    /// effects. Without changes it is an answer, given when everything that it has seen is durable.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] with the closure's own error; [`AppendError::OutcomeUnknown`] after the journal's answer
    /// timeout: then the changes may still come. With every other error nothing has changed.
    pub async fn change<T, E>(
        &self,
        urgency: Urgency,
        decide: impl Fn(&View<'_>) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, ChangeError<E>> {
        let changed = async {
            for _ in 0..ATTEMPTS_MAX {
                match self.attempt(urgency, &decide)? {
                    Attempt::Settled(answer) => return answer.map_err(ChangeError::Refused),
                    #[cfg(test)]
                    Attempt::Queued(_, value) if mutant::is_here(Mutant::Answer) => return Ok(value),
                    Attempt::Queued(pending, value) => match pending.await {
                        Ok(()) => return Ok(value),
                        Err(AppendError::Conflict) => {}
                        Err(e) => return Err(e.into()),
                    },
                    Attempt::Rests(pending, answer) => match pending.await {
                        Ok(()) => return answer.map_err(ChangeError::Refused),
                        Err(e @ (AppendError::Stopping | AppendError::OutcomeUnknown)) => return Err(e.into()),
                        // it was in the commit that failed, or behind it: what the closure has seen did not come to be
                        Err(_) => {}
                    },
                }
            }
            Err(AppendError::Conflict.into())
        };
        let timeout = self.journal.answer_timeout();
        clock::timeout(timeout, changed).await.unwrap_or(Err(AppendError::OutcomeUnknown.into()))
    }

    /// Runs the closure and queues what it returns. Waits for nothing.
    fn attempt<T, E>(
        &self,
        urgency: Urgency,
        decide: &impl Fn(&View<'_>) -> Result<(Vec<Change>, T), E>,
    ) -> Result<Attempt<T, E>, AppendError> {
        let mut ahead = self.ahead.lock();
        let epoch = self.journal.epoch();
        if ahead.epoch != epoch {
            // what was queued and not applied is void
            *ahead = Ahead { tables: self.applied.read().clone(), epoch };
        }
        let queue = |changes, urgency| {
            self.journal.change(DocumentChanges { changes, urgency, epoch: Some(epoch), ..DocumentChanges::default() })
        };
        let answer = match decide(&View { tables: &ahead.tables, documents: &self.documents }) {
            Ok((changes, value)) if !changes.is_empty() => {
                let records = Record::of_all(&changes);
                // first, because what cannot be queued must not be seen by others
                let pending = queue(changes, urgency)?;
                records.into_iter().for_each(|record| drop(ahead.tables.put(record)));
                return Ok(Attempt::Queued(pending, value));
            }
            Ok((_, value)) => Ok(value),
            Err(e) => Err(e),
        };
        if ahead.tables.version() == self.applied.read().version() {
            return Ok(Attempt::Settled(answer));
        }
        // no changes at all: they are answered when those before them are durable, and need no room on the disk
        Ok(Attempt::Rests(queue(Vec::new(), Urgency::Reserve)?, answer))
    }
}
