//! The audit log: who changed what of the configuration, and from where wrong credentials came. Each entry is an event of the
//! organization `system` and a line of the log, written after the change; where the journal does not take the event, the line
//! remains.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::attention::host;
use super::{Hub, TokenOf};
use crate::catalog::source::Source;
use crate::catalog::webhook::Webhook;
use crate::clock;
use crate::model::access::TokenRecord;
use crate::model::channel::Channel;
use crate::model::event::EventType;
use crate::model::timestamp;

/// What happened to a webhook, a source or a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Created,
    Updated,
    Deleted,
    SecretRotated,
    /// All webhooks of a document at once.
    DocumentReplaced,
    /// The switch over the webhooks of a map.
    WebhooksToggled,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Deleted => "deleted",
            Change::SecretRotated => "secret_rotated",
            Change::DocumentReplaced => "document_replaced",
            Change::WebhooksToggled => "webhooks_toggled",
        }
    }
}

/// An action that goes into the audit log.
#[derive(Clone, Copy)]
pub enum AuditEntry<'a> {
    TokenCreated {
        token: &'a TokenRecord,
        of: &'a TokenOf,
    },
    /// It has another name, or another end.
    TokenChanged {
        token: &'a TokenRecord,
        of: Option<&'a TokenOf>,
    },
    TokenRevoked {
        token: &'a TokenRecord,
        of: Option<&'a TokenOf>,
    },
    ChannelChanged {
        channel: &'a Channel,
        change: Change,
    },
    /// `webhook` none: those of the channel's document.
    WebhookChanged {
        channel: &'a Channel,
        webhook: Option<&'a Webhook>,
        change: Change,
    },
    SourceChanged {
        channel: &'a Channel,
        source: &'a Source,
        change: Change,
    },
    BackupTaken,
}

impl AuditEntry<'_> {
    /// The type of its event, and what the payload has beside `by` and `at`.
    fn told(&self) -> (&'static str, Value) {
        match *self {
            AuditEntry::TokenCreated { token, of } => {
                let (channel, channels) = named(of);
                let expires_at = token.expires_ms.map(timestamp::to_iso);
                let payload = json!({ "token_id": token.id, "channel": channel, "channels": channels, "scopes": token.scopes,
                    "name": token.name, "expires_at": expires_at });
                ("token.created", payload)
            }
            AuditEntry::TokenChanged { token, of } => {
                let channel = of.and_then(|of| named(of).0);
                let expires_at = token.expires_ms.map(timestamp::to_iso);
                let payload =
                    json!({ "token_id": token.id, "channel": channel, "name": token.name, "expires_at": expires_at });
                ("token.changed", payload)
            }
            AuditEntry::TokenRevoked { token, of } => {
                let channel = of.and_then(|of| named(of).0);
                ("token.revoked", json!({ "token_id": token.id, "channel": channel, "name": token.name }))
            }
            AuditEntry::ChannelChanged { channel, change } => {
                let payload =
                    json!({ "channel": channel.name_on_tokens(), "name": channel.name, "change": change.as_str() });
                ("channel.changed", payload)
            }
            AuditEntry::WebhookChanged { channel, webhook, change } => {
                let channel = channel.name_on_tokens();
                let (id, host) = (webhook.map(|webhook| &webhook.id), webhook.map(|webhook| host(&webhook.url)));
                let name = webhook.and_then(|webhook| webhook.name.as_ref());
                let payload = json!({ "webhook_id": id, "channel": channel, "name": name, "host": host, "change": change.as_str() });
                ("webhook.changed", payload)
            }
            AuditEntry::SourceChanged { channel, source, change } => {
                let channel = channel.name_on_tokens();
                let payload = json!({ "source_id": source.id, "channel": channel, "name": source.name, "change": change.as_str() });
                ("source.changed", payload)
            }
            AuditEntry::BackupTaken => ("backup.taken", json!({})),
        }
    }
}

/// One channel, or several.
fn named(of: &TokenOf) -> (Option<&str>, Option<&[String]>) {
    match of {
        TokenOf::Channel(channel) => (Some(channel), None),
        TokenOf::Several(channels) => (None, Some(channels)),
    }
}

impl Hub {
    /// Writes an action of a principal into the audit log. Does not wait for the event to be durable.
    pub fn audit(&self, by: &str, entry: AuditEntry<'_>) {
        let (kind, mut payload) = entry.told();
        payload["by"] = by.into();
        self.record(kind, payload);
    }

    /// Tells that credentials from this address were wrong, and of how many addresses and minutes that was not told before.
    pub fn audit_failed_login(&self, address: Option<IpAddr>, unreported: u64) {
        self.record("login.failed", json!({ "address": shown(address), "unreported": unreported }));
    }

    /// Tells that somebody has logged in by the link that the start has printed.
    pub fn audit_login_link(&self, address: Option<IpAddr>) {
        self.record("login.link_used", json!({ "address": shown(address) }));
    }

    fn record(&self, kind: &'static str, mut payload: Value) {
        payload["at"] = timestamp::to_iso(clock::now_ms()).into();
        log::info!(event = kind; "{payload}");
        // the name is one of the catalogue, which a test holds to what event types are
        let Ok(event_type) = EventType::new(kind) else { return };
        if let Err(e) = self.rooms.system.queue(event_type, &payload) {
            log::warn!("{kind} stands in the log and not in the organization system: {e}");
        }
    }
}

fn shown(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "unknown".into(), |address| address.to_string())
}
