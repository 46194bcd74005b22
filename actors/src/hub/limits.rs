//! The limits of the engine, except those that a room defines itself: `streams::limits`, `journal::JournalLimits`.

use super::scan::ScanLimits;
use crate::model::delivery::RetryPolicy;
use crate::streams::limits::StreamLimits;

/// The edge fills them from the settings, where each has its default and its reason.
#[derive(Clone, Debug)]
pub struct HubLimits {
    pub streams: StreamLimits,
    /// Memory for what grows with the load, see [`crate::budget`].
    pub memory_bytes: usize,
    /// What is read of the log at once.
    pub page_events: usize,
    pub page_bytes: usize,
    /// Newest events of the server of which it is remembered what became of them.
    pub traced_events: usize,
    pub scans: ScanLimits,
    /// Threads for scans, and as many for what streams and deliveries need of filters and templates. 0 = half of the cores.
    pub compute_threads: usize,
    pub channels: usize,
    pub tokens_per_channel: usize,
    pub webhooks: WebhookLimits,
    /// Free disk below which the operator is told.
    pub min_free_bytes: u64,
}

/// What the owners of webhooks may choose, and what they get when they choose nothing.
#[derive(Clone, Debug)]
pub struct WebhookLimits {
    /// The retry policy of webhooks that name none.
    pub schedule: RetryPolicy,
    /// Webhooks of one map, without those of its document.
    pub per_map: usize,
    /// Webhooks of one organization, without those of its document.
    pub per_organization: usize,
    /// Webhooks in the document of one map or organization.
    pub per_document: usize,
}
