//! The settings of deliveries, and what the webhook actors share of the rest of the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;

use crate::catalog::Catalog;
use crate::catalog::system::SystemEvents;
use crate::catalog::webhook::{Ready, Webhook};
use crate::compute::Compute;
use crate::delivery::delivery_log::DeliveryLog;
use crate::delivery::handshake::Handshakes;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::ownership::Ownership;
use crate::disk::Faults;
use crate::documents::Documents;
use crate::feed::Feed;
use crate::journal::Journal;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::model::channel::Channel;
use crate::model::delivery::{EndpointConfig, EndpointLimits};
use crate::model::seal::SealKey;
use crate::model::target::Policy;

/// The settings of deliveries.
#[derive(Clone, Debug)]
pub struct Settings {
    pub policy: Policy,
    /// Certificate authorities that are trusted beside those of the platform: a file in PEM.
    pub tls_ca_file: Option<PathBuf>,
    /// For a whole attempt.
    pub attempt_timeout: Duration,
    /// For DNS, connecting and TLS together.
    pub connect_timeout: Duration,
    /// A webhook of which every delivery has failed for this long is switched off.
    pub disable_after: Duration,
    pub max_in_flight: u32,
    /// As whom receivers of CloudEvents are asked first whether they want them; none: they are not asked.
    pub handshake_origin: Option<Arc<str>>,
    /// Deliveries of a webhook that wait for an attempt that somebody asked for, and its replays under way, at most.
    pub manual_attempts: usize,
    pub replays: usize,
    /// Deliveries of one webhook that are kept for people, and for how long.
    pub log_deliveries: usize,
    pub log_max_age: Duration,
    /// How long a cursor may have moved before it is made durable: what was delivered since is delivered again after a crash.
    pub unsaved: Duration,
    /// Threads that deliver.
    pub threads: usize,
}

impl Settings {
    pub(super) fn limits(&self) -> EndpointLimits {
        EndpointLimits {
            disable_after_ms: self.disable_after.as_millis() as u64,
            requested_max: self.manual_attempts,
            jobs_max: self.replays,
            unsaved_max_ms: self.unsaved.as_millis() as u64,
            ..EndpointLimits::default()
        }
    }
}

/// What the webhook actors share.
pub struct Handles {
    /// Only read.
    pub log: Arc<Log>,
    pub documents: Arc<Documents>,
    pub journal: Journal,
    pub feed: Arc<Feed>,
    pub catalog: Arc<Catalog>,
    pub system: SystemEvents,
    pub delivery_log: DeliveryLog,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub target_check: Arc<TargetCheck>,
    pub handshakes: Handshakes,
    pub tls: Arc<ClientConfig>,
    /// Opens the secrets that deliveries are signed with.
    pub seal_key: Arc<SealKey>,
    /// One page of the log.
    pub page_bytes: usize,
    /// Where filters and templates are worked through.
    pub compute: Compute,
    /// Where the log is read.
    pub readers: Compute,
    /// How long somebody who asks an actor for something waits until that is durable.
    pub answer_timeout: Duration,
    pub late_writes: LateWrites,
    /// For which webhooks actors run here.
    pub ownership: Arc<Ownership>,
    /// What tests let fail.
    pub faults: Faults,
}

impl Handles {
    /// A webhook made ready to deliver. None: it cannot deliver as it is configured, and the log says why.
    pub fn ready(&self, webhook: Arc<Webhook>, channel: Arc<Channel>) -> Option<Arc<Ready>> {
        let id = webhook.id.clone();
        let ready = Ready::of(webhook, channel, &self.seal_key, &self.target_check.policy);
        let ready = ready.inspect_err(|e| {
            log::error!(webhook = &*id; "a webhook cannot deliver until it is changed: {e}");
        });
        ready.ok().map(Arc::new)
    }

    pub(super) fn endpoint_config(&self, ready: &Ready) -> EndpointConfig {
        ready.webhook.endpoint(&ready.channel, self.settings.max_in_flight)
    }
}

/// Counts the webhooks whose state could not be written and waits in memory, so that the log says once that it waits and
/// once that all is written, however many webhooks there are.
#[derive(Debug, Default)]
pub struct LateWrites(AtomicUsize);

impl LateWrites {
    /// One more webhook waits.
    pub(super) fn enter(&self, webhook: &str, reason: &str) {
        if self.0.fetch_add(1, Ordering::AcqRel) == 0 {
            log::error!(webhook; "the state of webhooks cannot be written, and waits in memory until it can: {reason}");
        }
    }

    /// A webhook waits no longer.
    pub(super) fn leave(&self) {
        if self.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            log::info!("the state of all webhooks is written again");
        }
    }

    /// How many webhooks wait.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}
