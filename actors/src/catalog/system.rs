//! The server's own events, published to the organization `system`, where they are read like any other.

use crate::engine::Engine;
use crate::journal::{AppendError, Receipt};
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

impl Engine {
    /// Publishes an event of the server's own; durable when it returns. `kind` is a type of the catalogue's family `system`,
    /// `payload` an object. Within the dedupe window a second event with the same `dedupe_id` is not stored again.
    pub async fn announce(
        &self,
        kind: EventType,
        payload: &serde_json::Value,
        dedupe_id: Option<String>,
    ) -> Result<Receipt, Unannounced> {
        let channel = self.directory.find(ChannelKind::Organization, SYSTEM_ORGANIZATION);
        let channel = channel.ok_or(Unannounced::NoChannel)?;
        // JSON that we made from a value is JSON
        let payload = Canonical::parse(&payload.to_string()).unwrap_or(Canonical::EMPTY_OBJECT);
        let dedupe_id = dedupe_id.map(Into::into);
        let draft = Draft { kind, ts_ms: None, session: None, payload, dedupe_id, validated: None };
        Ok(self.journal.append(channel, vec![draft], None, Origin::SERVER.into()).await?)
    }
}
