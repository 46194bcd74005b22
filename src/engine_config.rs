//! From settings to what the engine takes.

use std::time::Duration;

use actors::hub::Config;
use actors::journal::JournalLimits;
use actors::limits::{Limits, StreamLimits};
use actors::ring::RingLimits;
use actors::store::{Durability, Options, Retention};

use crate::settings::{self, Settings};

pub fn of(settings: &Settings) -> Config {
    let Settings { storage, retention, journal, limits, sse, streams, tickets, .. } = settings;
    let seconds = Duration::from_secs;
    Config {
        data_dir: storage.data_dir.clone(),
        log: Options {
            data_dir: storage.data_dir.clone(),
            durability: match storage.durability {
                settings::Durability::Fsync => Durability::Fsync,
                settings::Durability::Flush => Durability::Flush,
                settings::Durability::Interval => Durability::Interval { ms: storage.flush_interval_ms },
            },
            segment_max_bytes: storage.segment_max_bytes,
            segment_max_age_ms: storage.segment_max_age_s * 1000,
            cache_bytes: storage.cache_bytes,
            open_segments: storage.open_segments,
            retention: Retention {
                max_age_ms: retention.max_age_s * 1000,
                max_bytes: retention.max_bytes,
                max_events: retention.max_events,
            },
            dedupe_window_ms: journal.dedupe_window_s * 1000,
            dedupe_keys: journal.dedupe_keys,
        },
        journal: JournalLimits {
            queue_events: journal.queue_events,
            queue_bytes: journal.queue_bytes,
            batch_events: journal.batch_events,
            batch_bytes: journal.batch_bytes,
        },
        limits: Limits {
            ring: RingLimits { events: streams.ring_events, bytes: streams.ring_bytes },
            write_bytes: streams.write_bytes,
            page_events: streams.page_events,
            page_bytes: streams.page_bytes,
            keepalive: seconds(sse.keepalive_s),
            heartbeat: seconds(streams.heartbeat_s),
            stall_timeout: seconds(streams.stall_timeout_s),
            channel_idle: seconds(streams.channel_idle_s),
            retry: Duration::from_millis(sse.retry_ms),
            streams: StreamLimits {
                total: limits.streams_total,
                per_channel: limits.streams_per_channel,
                per_token: limits.streams_per_token,
            },
            channels: limits.channels,
            tokens_per_channel: limits.tokens_per_channel,
            ticket_ttl: seconds(tickets.ttl_s),
            tickets: tickets.max,
        },
    }
}
