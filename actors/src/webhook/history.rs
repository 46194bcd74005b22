//! The delivery log: what people may read of the deliveries of a webhook, successes too. Nothing depends on it.
//!
//! Attempts are noted in memory and written in batches, so that a delivery that goes well costs no write of its own; at
//! most as many are held as are kept at all. What was noted in the last second before a crash is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::shelf::delivery_key;
use crate::model::delivery::{DeliveryId, Standing, Trigger};
use crate::model::id::EventId;
use crate::store::{Change, State, StoreError, Table};

/// Attempts of one delivery that are kept; the oldest go first.
pub const ATTEMPTS_KEPT: usize = 32;
/// The latest of them that keep their headers and bodies.
pub const DETAILS_KEPT: usize = 4;
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
    /// As they were sent, with the values of custom headers hidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<(String, String)>,
    /// The body of a test. That of a delivery is made of its events when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_body: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<(String, String)>,
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
    fn absorb(&mut self, newer: Delivery) {
        self.attempts.extend(newer.attempts);
        let surplus = self.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        self.attempts.drain(..surplus);
        let plain = self.attempts.len().saturating_sub(DETAILS_KEPT);
        for attempt in &mut self.attempts[..plain] {
            attempt.request_headers.clear();
            attempt.response_headers.clear();
            attempt.response_body.clear();
        }
        self.status = newer.status;
        self.attempt_count = newer.attempt_count;
        self.next_attempt_ms = newer.next_attempt_ms;
        self.updated_ms = newer.updated_ms;
        self.events = newer.events;
    }
}

/// The log of one webhook.
pub struct History {
    webhook: String,
    most: usize,
    max_age_ms: u64,
    /// What is on disk, the oldest first.
    known: BTreeSet<DeliveryId>,
    /// What was noted since the last write.
    fresh: BTreeMap<DeliveryId, Delivery>,
}

/// What is to be written: the deliveries that changed and those that go.
pub struct Page {
    webhook: String,
    fresh: Vec<Delivery>,
    gone: Vec<DeliveryId>,
}

impl History {
    /// `known`: what is on disk.
    pub fn new(webhook: &str, most: usize, max_age_ms: u64, known: BTreeSet<DeliveryId>) -> History {
        History { webhook: webhook.into(), most, max_age_ms, known, fresh: BTreeMap::new() }
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
        match self.fresh.get_mut(&id) {
            Some(delivery) => delivery.absorb(newer),
            None => {
                self.fresh.insert(id, newer);
            }
        }
        while self.fresh.len() > self.most {
            self.fresh.pop_first();
        }
    }

    /// Everything that was noted, to be written, and what has to go because there is too much of it or it is too old.
    pub fn take(&mut self, now_ms: u64) -> Page {
        let fresh = std::mem::take(&mut self.fresh);
        self.known.extend(fresh.keys().copied());
        let mut gone = Vec::new();
        while let Some(oldest) = self.known.first().copied() {
            let old = oldest.time_ms().saturating_add(self.max_age_ms) < now_ms;
            if self.known.len() <= self.most && !old {
                break;
            }
            self.known.pop_first();
            gone.push(oldest);
        }
        let kept = fresh.into_values().filter(|delivery| self.known.contains(&delivery.id)).collect();
        Page { webhook: self.webhook.clone(), fresh: kept, gone }
    }
}

impl Page {
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.gone.is_empty()
    }

    pub fn write(self, state: &State) -> Result<(), StoreError> {
        let mut changes = Vec::with_capacity(self.fresh.len() + self.gone.len());
        for newer in self.fresh {
            let at = delivery_key(&self.webhook, newer.id);
            let began = newer.attempts.first().is_some_and(|attempt| attempt.number == 1);
            let earlier = if began { None } else { state.get::<Delivery>(Table::Deliveries, &at)? };
            let delivery = match earlier {
                Some(mut earlier) => {
                    earlier.absorb(newer);
                    earlier
                }
                None => newer,
            };
            changes.push(Change::put(Table::Deliveries, at, &delivery)?);
        }
        let gone = self.gone.iter().map(|id| Change::delete(Table::Deliveries, delivery_key(&self.webhook, *id)));
        changes.extend(gone);
        state.write(&changes)
    }
}

/// The ids that are on disk.
pub fn known(state: &State, webhook: &str) -> Result<BTreeSet<DeliveryId>, StoreError> {
    Ok(read(state, webhook)?.into_iter().map(|delivery| delivery.id).collect())
}

/// The whole log of a webhook, the oldest delivery first.
pub fn read(state: &State, webhook: &str) -> Result<Vec<Delivery>, StoreError> {
    let all = state.scan::<Delivery>(Table::Deliveries, webhook.as_bytes())?;
    Ok(all.into_iter().map(|(_, delivery)| delivery).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> AttemptRecord {
        AttemptRecord {
            number,
            trigger: Trigger::First,
            started_ms: 5,
            duration_ms: 1,
            status_code: Some(200),
            error_code: None,
            detail: String::new(),
            request_headers: vec![("a".into(), "b".into())],
            request_body: None,
            response_headers: Vec::new(),
            response_body: String::new(),
        }
    }

    fn id(n: u64) -> DeliveryId {
        DeliveryId::fresh(n, 1)
    }

    #[test]
    fn the_log_keeps_the_newest_deliveries_and_no_older_ones_than_it_may() {
        let mut history = History::new("w", 3, 100, [id(1), id(2)].into());
        for n in 3..=6 {
            history.note(id(n), Vec::new(), Vec::new(), Standing::Delivered, record(1));
        }
        let page = history.take(50);
        assert_eq!(page.fresh.iter().map(|d| d.id).collect::<Vec<_>>(), [id(4), id(5), id(6)]);
        assert_eq!(page.gone, [id(1), id(2)]);
        assert_eq!(history.take(105).gone, [id(4)]);
    }

    #[test]
    fn only_the_latest_attempts_of_a_delivery_keep_their_details() {
        let mut history = History::new("w", 3, 100, BTreeSet::new());
        for number in 1..=40 {
            history.note(id(1), Vec::new(), Vec::new(), Standing::Dead, record(number));
        }
        let page = history.take(1);
        let attempts = &page.fresh[0].attempts;
        assert_eq!((attempts.len(), attempts[0].number), (ATTEMPTS_KEPT, 9));
        assert_eq!(attempts.iter().filter(|a| !a.request_headers.is_empty()).count(), DETAILS_KEPT);
    }
}
