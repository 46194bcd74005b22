//! The server's own events, published to the organization `system`, where they are read like any other.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::journal::{AppendError, Journal, Receipt};
use crate::model::channel::{ChannelKind, SYSTEM_ORGANIZATION};
use crate::model::event::{Draft, EventType, Origin};
use crate::model::json::Canonical;

#[derive(Debug, thiserror::Error)]
pub enum Unannounced {
    #[error("the organization system is not there; it is made again at the next start")]
    NoChannel,
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Publishes to the organization `system`.
#[derive(Clone)]
pub struct SystemEvents {
    journal: Journal,
    catalog: Arc<Catalog>,
}

impl SystemEvents {
    pub fn new(journal: Journal, catalog: Arc<Catalog>) -> SystemEvents {
        SystemEvents { journal, catalog }
    }

    /// Publishes an event of the server's own; durable when it returns. `kind` is a type of the catalogue's family `system`,
    /// `payload` an object. Within the dedupe window a second event with the same `dedupe_id` is not stored again.
    ///
    /// # Errors
    /// As [`SystemEvents::publish`].
    pub async fn announce(
        &self,
        kind: EventType,
        payload: &serde_json::Value,
        dedupe_id: Option<String>,
    ) -> Result<Receipt, Unannounced> {
        // JSON that we made from a value is JSON
        let payload = Canonical::parse(&payload.to_string()).unwrap_or(Canonical::EMPTY_OBJECT);
        let dedupe_id = dedupe_id.map(Into::into);
        self.publish(Draft { kind, ts_ms: None, session: None, payload, dedupe_id, validated: None }).await
    }

    /// Queues an event of the server's own without waiting for its commit.
    ///
    /// # Errors
    /// The organization is missing, or the journal does not take the event.
    pub fn queue(&self, kind: EventType, payload: &serde_json::Value) -> Result<(), Unannounced> {
        let channel = self.catalog.find(ChannelKind::Organization, SYSTEM_ORGANIZATION);
        let channel = channel.ok_or(Unannounced::NoChannel)?;
        let payload = Canonical::parse(&payload.to_string()).unwrap_or(Canonical::EMPTY_OBJECT);
        let draft = Draft { kind, ts_ms: None, session: None, payload, dedupe_id: None, validated: None };
        // a commit that fails is told by the journal itself
        drop(self.journal.submit(channel, vec![draft], None, Origin::SERVER.into())?);
        Ok(())
    }

    /// As [`SystemEvents::announce`], also when the disk is nearly full. For what is told once in a while.
    ///
    /// # Errors
    /// As [`SystemEvents::publish`].
    pub async fn announce_urgently(
        &self,
        kind: EventType,
        payload: &serde_json::Value,
    ) -> Result<Receipt, Unannounced> {
        let channel = self.catalog.find(ChannelKind::Organization, SYSTEM_ORGANIZATION);
        let channel = channel.ok_or(Unannounced::NoChannel)?;
        let payload = Canonical::parse(&payload.to_string()).unwrap_or(Canonical::EMPTY_OBJECT);
        let draft = Draft { kind, ts_ms: None, session: None, payload, dedupe_id: None, validated: None };
        let pending = self.journal.submit_urgent(channel, vec![draft], Origin::SERVER.into())?;
        Ok(self.journal.within_timeout(pending).await?)
    }

    /// Publishes a draft; durable when it returns.
    ///
    /// # Errors
    /// The organization is missing, or the journal does not take the event.
    pub async fn publish(&self, draft: Draft) -> Result<Receipt, Unannounced> {
        let channel = self.catalog.find(ChannelKind::Organization, SYSTEM_ORGANIZATION);
        let channel = channel.ok_or(Unannounced::NoChannel)?;
        Ok(self.journal.append(channel, vec![draft], None, Origin::SERVER.into()).await?)
    }
}
