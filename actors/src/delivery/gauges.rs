//! What one webhook adds to the metrics of the server, taken back when its actor ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::metrics::{Metrics, OutcomeLabels, WEBHOOK_SERIES_MAX, WebhookLabels};
use crate::model::delivery::{Health, Observed, Outcome};
use crate::model::id::EventId;

pub struct Gauges {
    metrics: Arc<Metrics>,
    labels: WebhookLabels,
    /// Whether the webhook has one of the few series.
    has_series: bool,
    retrying: i64,
    disabled: i64,
}

impl Gauges {
    pub fn new(metrics: Arc<Metrics>, webhook: &str) -> Gauges {
        let take = |taken| (taken < WEBHOOK_SERIES_MAX).then_some(taken + 1);
        let has_series = metrics.webhook_series.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        Gauges { metrics, labels: WebhookLabels { webhook: webhook.into() }, has_series, retrying: 0, disabled: 0 }
    }

    pub fn attempted(&self, outcome: Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Success => "success",
            Outcome::Failed { .. } => "failure",
            Outcome::Gone => "gone",
        };
        self.metrics.webhook_attempts.get_or_create(&OutcomeLabels { outcome }).inc();
        self.metrics.webhook_attempt_seconds.observe(took.as_secs_f64());
    }

    pub fn died(&self) {
        self.metrics.webhook_dead.inc();
    }

    /// `newest`: the newest event of the channel.
    pub fn observe(&mut self, observed: &Observed, newest: Option<EventId>) {
        let lag_ms = newest.map_or(0, |newest| newest.time_ms().saturating_sub(observed.cursor.time_ms()));
        if self.has_series {
            self.metrics.webhook_lag_seconds.get_or_create(&self.labels).set(lag_ms.div_ceil(1_000) as i64);
        }
        self.show(observed.retrying as i64, i64::from(observed.health == Health::Disabled));
    }

    fn show(&mut self, retrying: i64, disabled: i64) {
        self.metrics.webhook_retries_waiting.inc_by(retrying - self.retrying);
        self.metrics.webhooks_disabled.inc_by(disabled - self.disabled);
        (self.retrying, self.disabled) = (retrying, disabled);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.show(0, 0);
        if self.has_series {
            self.metrics.webhook_lag_seconds.remove(&self.labels);
            self.metrics.webhook_series.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
