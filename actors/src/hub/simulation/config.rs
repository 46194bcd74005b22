//! How the simulated server is configured: everything small, so that little work reaches every bound.

use std::path::PathBuf;
use std::time::Duration;

use crate::delivery::handles::Settings as DeliverySettings;
use crate::delivery::http::resolver::Resolver;
use crate::hub::{Config, HubLimits, ScanLimits, WebhookLimits};
use crate::ingest::registry::SourceLimits;
use crate::journal::JournalLimits;
use crate::log::{LogOptions, Retention};
use crate::model::delivery::RetryPolicy;
use crate::model::target::Policy;
use crate::streams::limits::{RingLimits, SlotLimits, StreamLimits};
use crate::streams::tickets::TicketLimits;
use crate::wal;

/// There is no such folder on the machine that runs this.
pub const DATA: &str = "/nowhere/simulated";
pub const MEMORY_BYTES: usize = 64 << 20;

/// `seed` decides whether retention takes anything.
pub fn config(seed: u64) -> Config {
    let second = Duration::from_secs(1);
    Config {
        data_dir: PathBuf::from(DATA),
        log: LogOptions {
            segment_max_bytes: 12 << 10,
            segment_max_age_ms: 3_600_000,
            open_segments: 2,
            // some runs keep everything
            retention: Retention { max_events: if seed.is_multiple_of(2) { 40 } else { 0 }, ..Retention::default() },
            // longer than all jumps of the clock together
            dedupe_window_ms: 365 * 86_400_000,
            dedupe_keys: 10_000,
        },
        durability: wal::Durability::Fsync,
        journal: JournalLimits {
            queue_events: 10_000,
            queue_bytes: 1 << 24,
            batch_events: 64,
            batch_bytes: 1 << 18,
            answer_timeout: 15 * second,
            min_free_bytes: 0,
        },
        limits: HubLimits {
            streams: StreamLimits {
                ring: RingLimits { events: 24, bytes: 1 << 16 },
                write_bytes: 1 << 12,
                page_events: 16,
                page_bytes: 1 << 14,
                keepalive: 15 * second,
                heartbeat: 15 * second,
                stall_timeout: 20 * second,
                channel_idle: 5 * second,
                retry: second,
                slots: SlotLimits { total: 0, per_channel: 0, per_token: 0 },
                ticket_ttl: 30 * second,
                tickets: TicketLimits { total: 100, per_token: 100 },
            },
            memory_bytes: MEMORY_BYTES,
            page_events: 32,
            page_bytes: 1 << 16,
            traced_events: 100,
            scans: ScanLimits { events: 10_000, filter_steps: 1 << 30, per_token: 2 },
            compute_threads: 1,
            channels: 100,
            tokens_per_channel: 100,
            webhooks: WebhookLimits {
                schedule: RetryPolicy::schedule(&[2; 60]).expect("a schedule"),
                per_map: 20,
                per_organization: 20,
                per_document: 20,
            },
            min_free_bytes: 0,
        },
        delivery: DeliverySettings {
            policy: Policy { dev: true, ..Policy::default() },
            tls_ca_file: None,
            attempt_timeout: 10 * second,
            connect_timeout: 5 * second,
            disable_after: 864_000 * second,
            max_in_flight: 8,
            handshake_origin: None,
            manual_attempts: 100,
            replays: 4,
            log_deliveries: 50,
            log_max_age: 86_400 * second,
            unsaved: second,
            threads: 1,
        },
        sources: SourceLimits { per_channel: 10, dead_letters: 10, dead_letters_bytes: 1 << 16 },
        secret_key: None,
        previous_secret_key: None,
        resolver: Resolver::system(),
        #[cfg(feature = "nats")]
        cluster: None,
    }
}
