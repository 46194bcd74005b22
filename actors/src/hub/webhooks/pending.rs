//! Deliveries that wait for their first attempt. They have no record: they are the events behind the cursor, one each.

use std::collections::HashSet;

use super::deliveries::SCAN_PAGE_EVENTS;
use super::{Delivery, DeliveryId, DeliveryStatus, Webhook};
use crate::compute::Slice;
use crate::delivery::actor::Seen;
use crate::feed::frame::Frame;
use crate::hub::rooms::Rooms;
use crate::hub::scan::{ScanBudget, ScanError, ScanLimits};
use crate::log::{Direction, PageLimit};
use crate::model::channel::Owner;
use crate::model::event::{ChannelNo, Event};
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::record_id::WebhookId;

/// Which of them are wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The newest whose ids are below `before`, at least `limit` and one more where there are so many.
    Page { before: DeliveryId, limit: usize },
    /// The one with this id.
    One(DeliveryId),
}

/// Goes back from an event to the cursor, until enough is found or the budget is used up.
pub struct PendingScan {
    no: ChannelNo,
    webhook: WebhookId,
    owner: Owner,
    wanted: Wanted,
    /// None: it cannot be compiled any more, so nothing waits.
    filter: Option<Filter>,
    cursor: EventId,
    /// Events that have a record.
    covered: HashSet<EventId>,
    budget: ScanBudget,
    at: EventId,
    events: std::vec::IntoIter<Event>,
    more: bool,
    found: Vec<Delivery>,
}

impl PendingScan {
    pub fn new(webhook: &Webhook, owner: Owner, seen: &Seen, wanted: Wanted, limits: ScanLimits) -> PendingScan {
        let at = match wanted {
            Wanted::Page { before: DeliveryId::MAX, .. } => EventId::MAX,
            Wanted::Page { before: id, .. } | Wanted::One(id) => EventId::at_time(id.time_ms().saturating_add(1)),
        };
        PendingScan {
            no: webhook.channel_no(),
            webhook: webhook.id.clone(),
            owner,
            wanted,
            filter: Filter::compile(&webhook.filter).ok(),
            cursor: seen.observed.cursor,
            covered: seen.rows.iter().flat_map(|row| row.events.iter().copied()).collect(),
            budget: ScanBudget::new(limits),
            at,
            events: Vec::new().into_iter(),
            more: true,
            found: Vec::new(),
        }
    }

    /// Goes on for a slice; none: there is more to do. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<Result<Vec<Delivery>, ScanError>> {
        loop {
            if let Some(event) = self.events.next() {
                self.at = event.id;
                if self.at <= self.cursor || self.is_enough() || self.budget.used_up().is_some() {
                    return Some(Ok(std::mem::take(&mut self.found)));
                }
                self.look(event, rooms);
            } else if self.more && self.filter.is_some() {
                let limits = PageLimit { events: SCAN_PAGE_EVENTS, bytes: rooms.limits.page_bytes };
                match rooms.log.read(self.no, self.at, limits, Direction::Backward) {
                    Ok(page) => {
                        (self.more, self.events) = (page.more, page.events.into_iter());
                        if self.events.len() == 0 {
                            self.budget.read_nothing();
                            self.at = page.last;
                        }
                    }
                    Err(e) => return Some(Err(ScanError::Read(e.into()))),
                }
            } else {
                return Some(Ok(std::mem::take(&mut self.found)));
            }
            if slice.is_over() {
                return None;
            }
        }
    }

    /// A delivery has the time of its first event, and within a millisecond the ids follow no order.
    fn is_enough(&self) -> bool {
        match self.wanted {
            Wanted::Page { limit, .. } => {
                let is_behind = |last: &Delivery| last.id.time_ms() > self.at.time_ms();
                self.found.len() > limit && self.found.last().is_some_and(is_behind)
            }
            Wanted::One(id) => !self.found.is_empty() || self.at.time_ms() < id.time_ms(),
        }
    }

    fn look(&mut self, event: Event, rooms: &Rooms) {
        let (at, id) = (event.id, DeliveryId::of(&self.webhook, &[event.id]));
        let is_wanted = match self.wanted {
            Wanted::Page { before, .. } => id < before,
            Wanted::One(wanted) => id == wanted,
        };
        if !is_wanted || self.covered.contains(&at) {
            self.budget.read_nothing();
            return;
        }
        let Some(filter) = &self.filter else { return };
        let frame = Frame::new(event, self.owner.clone());
        if self.budget.judge(&frame, filter, rooms) {
            self.found.push(Delivery {
                id,
                events: vec![at],
                event_types: vec![frame.event.kind.to_string()],
                status: DeliveryStatus::Pending,
                attempt_count: 0,
                attempts: Vec::new(),
                next_attempt_ms: None,
                updated_ms: at.time_ms() as i64,
            });
        }
    }
}
