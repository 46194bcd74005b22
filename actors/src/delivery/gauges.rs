//! What one webhook adds to the metrics and the series of the server, taken back when its actor ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::catalog::webhook::Webhook;
use crate::metrics::tallies::{Standing, WebhookTally};
use crate::metrics::{Metrics, OutcomeLabels, WEBHOOK_SERIES_MAX, WebhookLabels};
use crate::model::delivery::{Health, Observed, Outcome};
use crate::model::id::EventId;

pub struct Gauges {
    metrics: Arc<Metrics>,
    labels: WebhookLabels,
    /// Whether the webhook has one of the few series.
    has_series: bool,
    tally: Arc<WebhookTally>,
    retrying: i64,
    disabled: i64,
}

impl Gauges {
    pub fn new(metrics: Arc<Metrics>, webhook: &Webhook) -> Gauges {
        let take = |taken| (taken < WEBHOOK_SERIES_MAX).then_some(taken + 1);
        let has_series = metrics.webhook_series.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        let tally = metrics.tallies.webhook(webhook.id.clone(), webhook.channel_no());
        let labels = WebhookLabels { webhook: webhook.id.to_string() };
        Gauges { metrics, labels, has_series, tally, retrying: 0, disabled: 0 }
    }

    /// `status`: of the answer, if there was one.
    pub fn attempted(&self, outcome: Outcome, status: Option<u16>, took: Duration) {
        self.tally.attempted(outcome, status, took);
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
        self.tally.gave_up();
    }

    /// `newest`: the newest event of the channel.
    pub fn observe(&mut self, observed: &Observed, newest: Option<EventId>) {
        let lag_ms = newest.map_or(0, |newest| newest.time_ms().saturating_sub(observed.cursor.time_ms()));
        if self.has_series {
            self.metrics.webhook_lag_seconds.get_or_create(&self.labels).set(lag_ms.div_ceil(1_000) as i64);
        }
        let count = |rows: usize| u32::try_from(rows).unwrap_or(u32::MAX);
        let (retrying, dead) = (count(observed.retrying), count(observed.dead));
        let standing = Standing { lag_ms, retrying, dead, ..Standing::default() };
        self.tally.stands(observed.health, standing);
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
        self.metrics.tallies.end(&self.tally);
        if self.has_series {
            self.metrics.webhook_lag_seconds.remove(&self.labels);
            self.metrics.webhook_series.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
