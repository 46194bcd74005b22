//! Every bound of the engine by name.

use std::time::Duration;

use crate::streams::ring::RingLimits;
use crate::streams::slots::StreamLimits;

/// The engine's bounds. The edge fills them from the settings, where each has its default and its reason.
#[derive(Clone, Debug)]
pub struct Limits {
    pub ring: RingLimits,
    /// Most bytes that a session hands to its connection at once from the ring.
    pub write_bytes: usize,
    /// One page of the log for a reader that is behind.
    pub page_events: usize,
    pub page_bytes: usize,
    /// Newest events of the server of which it is remembered what became of them.
    pub traced_events: usize,
    pub keepalive: Duration,
    pub heartbeat: Duration,
    pub stall_timeout: Duration,
    /// After this a channel that nobody reads is let go.
    pub channel_idle: Duration,
    /// What browsers are told to wait before they reconnect.
    pub retry: Duration,
    pub streams: StreamLimits,
    pub channels: usize,
    pub tokens_per_channel: usize,
    /// Free disk below which the operator is told.
    pub min_free_bytes: u64,
    pub ticket_ttl: Duration,
    pub tickets: usize,
}
