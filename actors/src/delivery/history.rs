//! The history of a webhook's deliveries, successes too, for people to read. Nothing depends on it.
//!
//! Attempts are noted in memory and written in batches into the [`DeliveryLog`](super::delivery_log::DeliveryLog), so that
//! a delivery that goes well costs no write of its own; at most as many are held as are kept at all, and no more than
//! [`HELD_BYTES_MAX`] of all webhooks: of a flood of successes the newest of each interval are kept. Whoever reads has
//! everything written first. What was noted in the last seconds before a crash is missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::delivery::http::headers::Headers;
use crate::delivery::outcome::Timings;
use crate::model::delivery::{DeliveryId, Standing, Trigger};
use crate::model::id::EventId;

/// Attempts of one delivery that are kept; the oldest go first.
pub const ATTEMPTS_KEPT: usize = 32;
/// The latest of them that keep their headers and bodies.
pub const DETAILS_KEPT: usize = 4;
/// What all webhooks together hold in memory until it is written.
pub const HELD_BYTES_MAX: usize = 16 << 20;
/// Up to so many deliveries that went well are written each second; more wait for up to [`BUSY_EVERY_MS`].
const SMOOTH_AT_ONCE: usize = 64;
const BUSY_EVERY_MS: u64 = 5_000;
/// How often a webhook without deliveries looks for those that are too old.
const TRIM_EVERY_MS: u64 = 3_600_000;
/// Event types of a batch that are named.
const TYPES_KEPT: usize = 16;

/// What became of a delivery, as its latest attempt left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It waits for its first attempt, or for one that somebody asked for.
    Pending,
    Delivered,
    Retrying,
    Dead,
    /// Nobody waits for it any more: skipped, or its events are gone.
    Dropped,
    /// A test that failed.
    Failed,
}

/// One attempt, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Counts the POSTs of the delivery from 1.
    pub number: u32,
    pub trigger: Trigger,
    pub started_ms: i64,
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// What went wrong, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(default)]
    pub timings: Timings,
    /// The request went over a connection that an earlier one had opened.
    #[serde(default)]
    pub reused: bool,
    /// The address and port that it went to, if a connection stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// As they were sent, with the values of custom headers hidden.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub request_headers: Headers,
    /// The body of a test. That of a delivery is made of its events when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_body: Option<String>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub response_headers: Headers,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub response_body: String,
}

/// One delivery, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    /// Empty for a test.
    pub events: Vec<EventId>,
    pub event_types: Vec<String>,
    pub status: DeliveryStatus,
    /// POSTs so far.
    pub attempt_count: u32,
    /// The latest attempts, the oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// When the next attempt is due, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_ms: Option<u64>,
    pub updated_ms: i64,
}

impl Delivery {
    /// Adds the attempts that came later.
    pub(super) fn absorb(&mut self, newer: Delivery) {
        self.attempts.extend(newer.attempts);
        let surplus = self.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        self.attempts.drain(..surplus);
        let plain = self.attempts.len().saturating_sub(DETAILS_KEPT);
        for attempt in &mut self.attempts[..plain] {
            attempt.request_headers.clear();
            attempt.response_headers.clear();
            attempt.response_body = String::new();
        }
        self.status = newer.status;
        self.attempt_count = newer.attempt_count;
        self.next_attempt_ms = newer.next_attempt_ms;
        self.updated_ms = newer.updated_ms;
        self.events = newer.events;
    }

    /// What it takes up in memory, near enough for a bound.
    fn weight(&self) -> usize {
        let attempts = self.attempts.iter().map(|attempt| {
            let texts = attempt.request_headers.len() + attempt.response_headers.len() + attempt.response_body.len();
            256 + attempt.detail.len() + texts + attempt.request_body.as_ref().map_or(0, String::len)
        });
        256 + self.events.len() * size_of::<EventId>() + self.event_types.len() * 64 + attempts.sum::<usize>()
    }
}

/// What is noted of all webhooks and not written yet, in bytes.
#[derive(Debug, Default)]
pub struct UnwrittenBytes(AtomicUsize);

/// What was noted of one webhook and not written yet.
pub struct History {
    most: usize,
    /// Deliveries that went well at once, and all others, of which the disk may know something that is no longer so.
    smooth: BTreeMap<DeliveryId, Delivery>,
    others: BTreeMap<DeliveryId, Delivery>,
    /// When all of it was last taken to be written.
    taken_ms: u64,
    /// When something was last taken, if only to look for what is too old.
    trimmed_ms: u64,
    held: Arc<UnwrittenBytes>,
    own_bytes: usize,
}

impl History {
    /// `most`: deliveries that are kept.
    pub fn new(most: usize, now_ms: u64, held: Arc<UnwrittenBytes>) -> History {
        History {
            most,
            smooth: BTreeMap::new(),
            others: BTreeMap::new(),
            taken_ms: 0,
            trimmed_ms: now_ms,
            held,
            own_bytes: 0,
        }
    }

    /// Notes an attempt that ended.
    pub fn note(
        &mut self,
        id: DeliveryId,
        events: Vec<EventId>,
        event_types: Vec<String>,
        standing: Standing,
        attempt: AttemptRecord,
    ) {
        let failed = attempt.error_code.is_some() || attempt.status_code.is_none();
        let (status, next_attempt_ms) = match standing {
            Standing::Delivered => (DeliveryStatus::Delivered, None),
            Standing::Retrying { next_at_ms } => (DeliveryStatus::Retrying, Some(next_at_ms)),
            Standing::Dead => (DeliveryStatus::Dead, None),
            Standing::Dropped if attempt.trigger != Trigger::Test => (DeliveryStatus::Dropped, None),
            Standing::Dropped if failed => (DeliveryStatus::Failed, None),
            Standing::Dropped => (DeliveryStatus::Delivered, None),
        };
        let newer = Delivery {
            id,
            events,
            event_types: event_types.into_iter().take(TYPES_KEPT).collect(),
            status,
            attempt_count: attempt.number,
            updated_ms: attempt.started_ms,
            attempts: vec![attempt],
            next_attempt_ms,
        };
        let smooth = status == DeliveryStatus::Delivered && newer.attempt_count == 1;
        match (self.smooth.remove(&id), self.others.remove(&id)) {
            (None, None) if smooth => self.hold(newer, true),
            (None, None) => self.hold(newer, false),
            (earlier, other) => {
                for mut delivery in earlier.into_iter().chain(other) {
                    self.release(&delivery);
                    delivery.absorb(newer.clone());
                    self.hold(delivery, false);
                }
            }
        }
        while self.smooth.len() + self.others.len() > self.most || self.is_too_much() {
            let oldest = self.smooth.pop_first().or_else(|| self.others.pop_first());
            let Some((_, oldest)) = oldest else { break };
            self.release(&oldest);
        }
    }

    /// Whether the webhooks hold too much together; then each makes room when it notes something.
    fn is_too_much(&self) -> bool {
        self.smooth.len() > 1 && self.held.0.load(Ordering::Relaxed) > HELD_BYTES_MAX
    }

    fn hold(&mut self, delivery: Delivery, smooth: bool) {
        let bytes = delivery.weight();
        self.own_bytes += bytes;
        self.held.0.fetch_add(bytes, Ordering::Relaxed);
        let map = if smooth { &mut self.smooth } else { &mut self.others };
        map.insert(delivery.id, delivery);
    }

    fn release(&mut self, delivery: &Delivery) {
        let bytes = delivery.weight();
        self.own_bytes -= bytes;
        self.held.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What has to be written each second, the oldest first: everything where there is little; of more than that what did
    /// not go well, and the rest a few times a minute, so that a busy webhook does not write what is trimmed a moment later.
    /// None: there is nothing to do.
    pub fn take(&mut self, now_ms: u64) -> Option<Vec<Delivery>> {
        let is_busy = self.smooth.len() > SMOOTH_AT_ONCE;
        let fresh = if is_busy && is_within(BUSY_EVERY_MS, self.taken_ms, now_ms) {
            self.release_all(false)
        } else {
            self.take_all(now_ms)
        };
        if fresh.is_empty() && is_within(TRIM_EVERY_MS, self.trimmed_ms, now_ms) {
            return None;
        }
        self.trimmed_ms = now_ms;
        Some(fresh)
    }

    /// Everything that was noted, to be written, the oldest first.
    pub fn take_all(&mut self, now_ms: u64) -> Vec<Delivery> {
        self.taken_ms = now_ms;
        self.release_all(true)
    }

    fn release_all(&mut self, with_smooth: bool) -> Vec<Delivery> {
        let mut fresh = std::mem::take(&mut self.others);
        if with_smooth {
            fresh.append(&mut self.smooth);
        }
        fresh.values().for_each(|delivery| self.release(delivery));
        fresh.into_values().collect()
    }
}

/// Whether less than `every_ms` has passed. A clock that stepped back makes nothing wait longer.
fn is_within(every_ms: u64, since_ms: u64, now_ms: u64) -> bool {
    (since_ms..since_ms.saturating_add(every_ms)).contains(&now_ms)
}

impl Drop for History {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.own_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
