//! What all webhook actors share: the settings, the check of targets, the key of the secrets, and which actor stands for
//! which webhook.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use parking_lot::RwLock;
use rustls::ClientConfig;

use crate::delivery::actor::WebhookActor;
use crate::delivery::history::UnwrittenBytes;
use crate::delivery::http::target::TargetCheck;
use crate::model::delivery::{Limits, RetryPolicy};
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

pub struct WebhookRegistry {
    pub config: WebhookConfig,
    pub target_check: Arc<TargetCheck>,
    pub tls: Arc<ClientConfig>,
    pub key: SealKey,
    /// What the delivery logs hold until it is written.
    pub held: Arc<UnwrittenBytes>,
    actors: RwLock<HashMap<WebhookId, Addr<WebhookActor>>>,
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
            actors: RwLock::default(),
        }
    }

    /// The actor of a webhook, if one runs.
    pub fn actor(&self, id: &str) -> Option<Addr<WebhookActor>> {
        self.actors.read().get(id).cloned()
    }

    pub fn actors(&self) -> Vec<Addr<WebhookActor>> {
        self.actors.read().values().cloned().collect()
    }

    /// Notes the actor of a webhook.
    pub(crate) fn opened(&self, id: WebhookId, addr: Addr<WebhookActor>) {
        self.actors.write().insert(id, addr);
    }

    /// Notes that an actor is gone. True: it was the one that stood for the webhook.
    pub(crate) fn closed(&self, id: &str, addr: &Addr<WebhookActor>) -> bool {
        let mut actors = self.actors.write();
        let was = actors.get(id) == Some(addr);
        if was {
            actors.remove(id);
        }
        was
    }

    /// Takes the actor of a webhook out, which is then the caller's to end.
    pub(crate) fn take(&self, id: &str) -> Option<Addr<WebhookActor>> {
        self.actors.write().remove(id)
    }
}
