//! What all webhook actors share: the settings, the target_check, the key of the secrets, and the list of webhooks with the
//! actors that stand for them.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use rustls::ClientConfig;

use crate::catalog::webhook::Webhook;
use crate::delivery::actor::WebhookActor;
use crate::delivery::history::UnwrittenBytes;
use crate::delivery::http::target::TargetCheck;
use crate::model::delivery::{Limits, RetryPolicy};
use crate::model::event::ChannelNo;
use crate::model::record_id::WebhookId;
use crate::model::seal::SealKey;
use crate::model::target::Policy;

/// The settings of outgoing webhooks.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub policy: Policy,
    pub attempt_timeout: Duration,
    pub connect_timeout: Duration,
    /// The retry policy of webhooks that name none.
    pub schedule: RetryPolicy,
    pub disable_after: Duration,
    /// Webhooks of one map, without those of its document.
    pub per_map: usize,
    /// Webhooks of one organization, without those of its document.
    pub per_organization: usize,
    /// Webhooks in the document of one map or organization.
    pub per_document: usize,
    pub max_in_flight: u32,
    /// Deliveries of one webhook that are kept for people, and for how long.
    pub log_deliveries: usize,
    pub log_max_age: Duration,
    /// Threads that deliver.
    pub threads: usize,
}

impl WebhookConfig {
    pub(crate) fn limits(&self) -> Limits {
        Limits { disable_after_ms: self.disable_after.as_millis() as u64, ..Limits::default() }
    }
}

struct Entry {
    webhook: Arc<Webhook>,
    actor: Option<Addr<WebhookActor>>,
}

pub struct WebhookRegistry {
    pub config: WebhookConfig,
    pub target_check: Arc<TargetCheck>,
    pub tls: Arc<ClientConfig>,
    pub key: SealKey,
    /// What the delivery logs hold until it is written.
    pub held: Arc<UnwrittenBytes>,
    entries: RwLock<HashMap<WebhookId, Entry>>,
}

impl WebhookRegistry {
    pub fn new(
        config: WebhookConfig,
        target_check: TargetCheck,
        tls: Arc<ClientConfig>,
        key: SealKey,
    ) -> WebhookRegistry {
        WebhookRegistry {
            config,
            target_check: Arc::new(target_check),
            tls,
            key,
            held: Arc::default(),
            entries: RwLock::default(),
        }
    }

    /// Puts a webhook in, in place of the one with its id; its actor stays.
    pub fn put(&self, webhook: Arc<Webhook>) {
        let mut entries = self.entries.write();
        let actor = entries.remove(&webhook.id).and_then(|entry| entry.actor);
        entries.insert(webhook.id.clone(), Entry { webhook, actor });
    }

    pub fn get(&self, id: &str) -> Option<Arc<Webhook>> {
        self.entries.read().get(id).map(|entry| entry.webhook.clone())
    }

    /// The webhooks of a channel, the oldest first.
    pub fn list(&self, channel: ChannelNo) -> Vec<Arc<Webhook>> {
        let entries = self.entries.read();
        let of_channel = entries.values().filter(|entry| entry.webhook.channel_no() == channel);
        let mut list: Vec<_> = of_channel.map(|entry| entry.webhook.clone()).collect();
        list.sort_by(|a, b| (a.inserted_ms, &a.id).cmp(&(b.inserted_ms, &b.id)));
        list
    }

    pub fn all(&self) -> Vec<Arc<Webhook>> {
        let entries = self.entries.read();
        entries.values().map(|entry| entry.webhook.clone()).collect()
    }

    pub fn actor(&self, id: &str) -> Option<Addr<WebhookActor>> {
        let entries = self.entries.read();
        entries.get(id)?.actor.clone()
    }

    pub fn actors(&self) -> Vec<Addr<WebhookActor>> {
        let entries = self.entries.read();
        entries.values().filter_map(|entry| entry.actor.clone()).collect()
    }

    /// Notes the actor of a webhook. False: the webhook was deleted meanwhile.
    pub(crate) fn opened(&self, id: &str, addr: Addr<WebhookActor>) -> bool {
        let mut entries = self.entries.write();
        let entry = entries.get_mut(id);
        entry.map(|entry| entry.actor = Some(addr)).is_some()
    }

    /// Notes that an actor is gone. True: it was the one that stood for the webhook, which is still there.
    pub(crate) fn closed(&self, id: &str, addr: &Addr<WebhookActor>) -> bool {
        let mut entries = self.entries.write();
        let Some(entry) = entries.get_mut(id) else { return false };
        let was = entry.actor.as_ref() == Some(addr);
        if was {
            entry.actor = None;
        }
        was
    }

    /// Takes a webhook out. Its actor, if one runs, is the caller's to end.
    pub fn remove(&self, id: &str) -> Option<Addr<WebhookActor>> {
        let mut entries = self.entries.write();
        entries.remove(id)?.actor
    }
}
