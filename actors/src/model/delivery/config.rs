//! What an endpoint is told: the owner's choices for one webhook, and the limits of the server that hold for all.

use serde::{Deserialize, Serialize};

use super::policy::{BadField, RetryPolicy};

/// The most events of one batch.
pub const BATCH_EVENTS_MAX: u32 = 500;
/// The longest that the first event of a batch may wait for others, in milliseconds.
pub const BATCH_WAIT_MAX_MS: u64 = 60_000;
/// A batch is closed before its events pass this many bytes, unless the first alone does.
pub const BATCH_BYTES_MAX: u64 = 1 << 20;
/// The highest rate and burst of a rate limit.
pub const RATE_MAX: u32 = 10_000;
/// The most first attempts that may be in flight to one endpoint.
pub const IN_FLIGHT_MAX: u32 = 256;

/// What the owner of a webhook chose, as far as the time and the order of its deliveries depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// The id of the webhook. Part of every delivery id, so it never changes.
    pub webhook: String,
    /// The owner's switch, and that of the channel: both must be on.
    pub active: bool,
    /// One delivery at a time, in log order; one that fails holds the later ones back.
    #[serde(default)]
    pub ordered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    pub retry_policy: RetryPolicy,
    /// How many first attempts may be in flight at once, where the order does not matter.
    #[serde(default = "default_in_flight")]
    pub max_in_flight: u32,
}

fn default_in_flight() -> u32 {
    16
}

impl EndpointConfig {
    /// A webhook with the defaults of maps.
    pub fn new(webhook: impl Into<String>) -> EndpointConfig {
        EndpointConfig {
            webhook: webhook.into(),
            active: true,
            ordered: false,
            batch: None,
            rate_limit: None,
            retry_policy: RetryPolicy::map_default(),
            max_in_flight: default_in_flight(),
        }
    }

    /// Every field that is outside of its limits; nothing when the configuration can be taken.
    pub fn check(&self) -> Vec<BadField> {
        let mut bad = Vec::new();
        let mut bound = |field, number: u64, low: u64, high: u64| {
            if !(low..=high).contains(&number) {
                bad.push(BadField::new(field, format!("must be a number from {low} to {high}")));
            }
        };
        if let Some(batch) = self.batch {
            bound("batch.max_events", u64::from(batch.max_events), 1, u64::from(BATCH_EVENTS_MAX));
            bound("batch.max_wait_ms", batch.max_wait_ms, 0, BATCH_WAIT_MAX_MS);
        }
        if let Some(limit) = self.rate_limit {
            bound("rate_limit.per_second", u64::from(limit.per_second), 1, u64::from(RATE_MAX));
            bound("rate_limit.burst", u64::from(limit.burst), 1, u64::from(RATE_MAX));
        }
        bound("max_in_flight", u64::from(self.max_in_flight), 1, u64::from(IN_FLIGHT_MAX));
        bad
    }
}

/// Many events in one delivery: sent when `max_events` are there or the first has waited `max_wait_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub max_events: u32,
    pub max_wait_ms: u64,
}

/// A token bucket over all attempts but tests: `per_second` in the long run, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    pub per_second: u32,
    #[serde(default = "default_burst")]
    pub burst: u32,
}

fn default_burst() -> u32 {
    1
}

/// The bounds of one endpoint and the times of its health. The same for every endpoint of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Retries and manual attempts in flight at once, beside the first attempts.
    pub retry_slots: usize,
    /// Replayed deliveries in flight at once, beside all others.
    pub replay_slots: usize,
    /// Rows that are retried, at most: at this number the cursor waits, whatever the health.
    pub rows_max: usize,
    /// Rows that are retried at which a failing endpoint is only probed. Below `rows_max` by what probes add in the
    /// 27.6 hours that a row lives under the default schedule (331 at one in five minutes).
    pub rows_hold: usize,
    /// Dead rows that are kept; the oldest go first.
    pub dead_max: usize,
    /// Events that are known but not yet attempted; at least a batch in batch mode.
    pub read_ahead: usize,
    /// Deliveries that somebody asked to be attempted again and that are not done.
    pub requested_max: usize,
    /// Replay jobs that may wait or run at once.
    pub jobs_max: usize,
    /// Finished replay jobs that are kept for people.
    pub jobs_kept: usize,
    /// Failed attempts in a row from which on an endpoint is degraded.
    pub degraded_after: u32,
    /// How long a degraded endpoint must have failed before it is only probed, in milliseconds.
    pub probe_after_ms: u64,
    /// The time between two probes, in milliseconds, before jitter.
    pub probe_every_ms: u64,
    /// How long all deliveries must have failed before the endpoint is disabled, in milliseconds.
    pub disable_after_ms: u64,
    /// And in how many attempts at least.
    pub disable_failures_min: u32,
    /// What the time between two failures counts at most towards `disable_after_ms`, in milliseconds: the longest wait
    /// of the default schedule with its jitter. So neither a process that was down nor a clock that leapt disables.
    pub failing_gap_max_ms: u64,
    /// How long a 429 with `Retry-After` holds back all deliveries to the endpoint, at most, in milliseconds. The
    /// delivery that got it waits as long as it was told.
    pub throttle_max_ms: u64,
    /// Deliveries that may be done before the cursor is made durable: what may be sent twice after a crash.
    pub unsaved_max: u32,
    /// How long a cursor may have moved before it is made durable, in milliseconds.
    pub unsaved_max_ms: u64,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        EndpointLimits {
            retry_slots: 8,
            replay_slots: 4,
            rows_max: 1_000,
            rows_hold: 600,
            dead_max: 1_000,
            read_ahead: 256,
            requested_max: 1_000,
            jobs_max: 4,
            jobs_kept: 16,
            degraded_after: 5,
            probe_after_ms: 600_000,
            probe_every_ms: 300_000,
            disable_after_ms: 5 * 86_400_000,
            disable_failures_min: 3,
            failing_gap_max_ms: 12 * 3_600_000,
            throttle_max_ms: 60_000,
            unsaved_max: 256,
            unsaved_max_ms: 250,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_fit_together() {
        let limits = EndpointLimits::default();
        let ladder_ms: u64 = super::super::policy::DEFAULT_SCHEDULE_S.iter().sum::<u64>() * 1_000;
        let probes = ladder_ms / limits.probe_every_ms;
        assert!(limits.rows_hold + probes as usize <= limits.rows_max);
        assert!(limits.rows_max > IN_FLIGHT_MAX as usize);
        assert!(limits.failing_gap_max_ms < limits.disable_after_ms);
        assert!(limits.probe_after_ms < limits.disable_after_ms);
    }

    #[test]
    fn a_configuration_keeps_its_names_on_disk_and_takes_defaults() {
        let text = r#"{"webhook":"w","active":true,"retry_policy":{"policy":"constant","delaySeconds":2,"attempts":3},
            "batch":{"max_events":10,"max_wait_ms":50},"rate_limit":{"per_second":5}}"#;
        let config: EndpointConfig = serde_json::from_str(text).expect("a configuration");
        assert_eq!(config.max_in_flight, 16);
        assert_eq!(config.rate_limit, Some(RateLimit { per_second: 5, burst: 1 }));
        assert!(!config.ordered && config.check().is_empty());
    }

    #[test]
    fn a_configuration_outside_its_limits_is_refused_field_by_field() {
        let mut config = EndpointConfig::new("w");
        assert!(config.check().is_empty());
        config.batch = Some(Batch { max_events: 0, max_wait_ms: 60_001 });
        config.rate_limit = Some(RateLimit { per_second: 0, burst: 0 });
        config.max_in_flight = 0;
        let fields: Vec<_> = config.check().into_iter().map(|bad| bad.field).collect();
        let all =
            ["batch.max_events", "batch.max_wait_ms", "rate_limit.per_second", "rate_limit.burst", "max_in_flight"];
        assert_eq!(fields, all);
    }
}
