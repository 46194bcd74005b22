//! The rows of an endpoint in memory, with the orders in which they are wanted: by time due, by event, by request.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::DeliveryId;
use super::record::{Request, Row, RowState};
use crate::model::id::EventId;

/// Rows by first event, then by delivery.
type ByEvent = BTreeSet<(EventId, DeliveryId)>;

#[derive(Debug, Default)]
pub(super) struct Rows {
    entries: BTreeMap<DeliveryId, Entry>,
    retrying: ByEvent,
    dead: ByEvent,
    // rows in flight are in none of these
    due: BTreeSet<(u64, DeliveryId)>,
    manual: ByEvent,
    replay: ByEvent,
}

#[derive(Debug)]
struct Entry {
    row: Row,
    /// The Persist that holds the row as it is now; none while that was not asked for yet.
    saved_in: Option<u64>,
    in_flight: bool,
}

impl Rows {
    pub(super) fn get(&self, delivery: DeliveryId) -> Option<&Row> {
        self.entries.get(&delivery).map(|entry| &entry.row)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.entries.values().map(|entry| &entry.row)
    }

    /// How many are retried.
    pub(super) fn retrying(&self) -> usize {
        self.retrying.len()
    }

    pub(super) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// How many wait for an attempt that somebody asked for.
    pub(super) fn requested(&self) -> usize {
        self.manual.len() + self.replay.len()
    }

    /// Puts a row in, in place of one with the same id. It counts as not durable until [`Rows::saved`] says so.
    pub(super) fn put(&mut self, row: Row) {
        self.remove(row.delivery);
        self.index(&row);
        self.entries.insert(row.delivery, Entry { row, saved_in: None, in_flight: false });
    }

    pub(super) fn remove(&mut self, delivery: DeliveryId) -> Option<Row> {
        let entry = self.entries.remove(&delivery)?;
        let by_event = (entry.row.first(), delivery);
        self.retrying.remove(&by_event);
        self.dead.remove(&by_event);
        self.leave_queues(&entry.row);
        Some(entry.row)
    }

    /// Marks a row as in flight, so that nothing picks it again before it is put back.
    pub(super) fn take_off(&mut self, delivery: DeliveryId) {
        if let Some(mut entry) = self.entries.remove(&delivery) {
            entry.in_flight = true;
            self.leave_queues(&entry.row);
            self.entries.insert(delivery, entry);
        }
    }

    pub(super) fn is_in_flight(&self, delivery: DeliveryId) -> bool {
        self.entries.get(&delivery).is_some_and(|entry| entry.in_flight)
    }

    /// The row as it is now is part of the Persist `seq`.
    pub(super) fn saved(&mut self, delivery: DeliveryId, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&delivery) {
            entry.saved_in = Some(seq);
        }
    }

    /// Notes that the dead letter was announced.
    pub(super) fn set_announced(&mut self, delivery: DeliveryId) {
        if let Some(entry) = self.entries.get_mut(&delivery) {
            entry.row.announced = true;
            entry.saved_in = None;
        }
    }

    /// The row that has been due longest at `now_ms`, of those durable by the Persist `saved`.
    pub(super) fn next_due(&self, now_ms: u64, saved: u64) -> Option<DeliveryId> {
        let due = self.due.range(..=(now_ms, DeliveryId::MAX));
        due.map(|(_, id)| *id).find(|id| self.is_durable(*id, saved))
    }

    /// When the first of the rows that wait for an attempt is due.
    pub(super) fn first_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// When the next row that is not due yet will be.
    pub(super) fn next_due_after(&self, now_ms: u64) -> Option<u64> {
        self.due.range((now_ms + 1, DeliveryId::MIN)..).next().map(|(at, _)| *at)
    }

    /// The row whose events come first in the log, of those that are retried, in flight or not.
    pub(super) fn head(&self) -> Option<&Row> {
        self.retrying.first().and_then(|(_, id)| self.get(*id))
    }

    pub(super) fn is_due(&self, delivery: DeliveryId, now_ms: u64, saved: u64) -> bool {
        let at = self.get(delivery).map_or(u64::MAX, |row| row.next_at_ms);
        at <= now_ms && self.due.contains(&(at, delivery)) && self.is_durable(delivery, saved)
    }

    pub(super) fn next_manual(&self, saved: u64) -> Option<DeliveryId> {
        self.manual.iter().map(|(_, id)| *id).find(|id| self.is_durable(*id, saved))
    }

    pub(super) fn next_replay(&self, saved: u64) -> Option<DeliveryId> {
        self.replay.iter().map(|(_, id)| *id).find(|id| self.is_durable(*id, saved))
    }

    /// The dead rows in log order whose first event lies after `after`, up to and with `until`.
    pub(super) fn dead_within(&self, after: EventId, until: EventId) -> Vec<DeliveryId> {
        let range = (after, DeliveryId::MAX)..=(until.max(after), DeliveryId::MAX);
        self.dead.range(range).map(|(_, id)| *id).collect()
    }

    /// The oldest dead row beyond `most`, if there are more and nobody waits for it.
    pub(super) fn surplus_dead(&self, most: usize) -> Option<DeliveryId> {
        if self.dead.len() <= most {
            return None;
        }
        let free = |id: &DeliveryId| {
            self.entries.get(id).is_some_and(|entry| !entry.in_flight && entry.row.requested.is_none())
        };
        self.dead.iter().map(|(_, id)| *id).find(free)
    }

    fn is_durable(&self, delivery: DeliveryId, saved: u64) -> bool {
        self.entries.get(&delivery).and_then(|entry| entry.saved_in).is_some_and(|seq| seq <= saved)
    }

    fn index(&mut self, row: &Row) {
        let by_event = (row.first(), row.delivery);
        match row.state {
            RowState::Retrying => {
                self.retrying.insert(by_event);
            }
            RowState::Dead => {
                self.dead.insert(by_event);
            }
            RowState::Delivered => {}
        }
        match row.requested {
            Some(Request::Manual) => {
                self.manual.insert(by_event);
            }
            Some(Request::Replay(_)) => {
                self.replay.insert(by_event);
            }
            None if row.state == RowState::Retrying => {
                self.due.insert((row.next_at_ms, row.delivery));
            }
            None => {}
        }
    }

    fn leave_queues(&mut self, row: &Row) {
        let by_event = (row.first(), row.delivery);
        self.due.remove(&(row.next_at_ms, row.delivery));
        self.manual.remove(&by_event);
        self.replay.remove(&by_event);
    }
}
