//! The bounds of streams by name. The edge fills them from the settings, where each has its default and its reason.

use std::time::Duration;

use crate::streams::tickets::TicketLimits;

#[derive(Clone, Debug)]
pub struct StreamLimits {
    pub ring: RingLimits,
    /// Most bytes that a session hands to its connection at once from the ring.
    pub write_bytes: usize,
    /// One page of the log for a reader that is behind.
    pub page_events: usize,
    pub page_bytes: usize,
    /// Silence on an SSE stream after which a comment is written.
    pub keepalive: Duration,
    /// Between two pings on a WebSocket.
    pub heartbeat: Duration,
    /// A reader that takes no byte for this long is closed.
    pub stall_timeout: Duration,
    /// After this a channel that nobody reads is let go.
    pub channel_idle: Duration,
    /// What browsers are told to wait before they reconnect.
    pub retry: Duration,
    pub slots: SlotLimits,
    pub ticket_ttl: Duration,
    pub tickets: TicketLimits,
}

/// How many streams may be open at once; 0 = no limit.
#[derive(Clone, Copy, Debug)]
pub struct SlotLimits {
    pub total: usize,
    pub per_channel: usize,
    pub per_token: usize,
}

/// What a ring keeps at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    pub events: usize,
    pub bytes: usize,
}

impl RingLimits {
    /// What a ring keeps while the memory budget is nearly used up: enough for readers that keep up, who then still take
    /// what arrives between two wake-ups from memory. All others read the log.
    pub const UNDER_PRESSURE: RingLimits = RingLimits { events: 256, bytes: 64 << 10 };

    /// What the ring of a set of channels keeps at most: there may be as many sets as streams, and the ring of all channels
    /// has the same frames.
    pub const OF_SET: RingLimits = RingLimits { events: 1024, bytes: 1 << 20 };

    pub const NOTHING: RingLimits = RingLimits { events: 0, bytes: 0 };

    /// The smaller of both bounds.
    pub fn and(self, other: RingLimits) -> RingLimits {
        RingLimits { events: self.events.min(other.events), bytes: self.bytes.min(other.bytes) }
    }
}
