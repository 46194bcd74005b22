//! Deliveries that wait for their first attempt. They have no record: they are the events behind the cursor, one each.

use std::collections::HashSet;

use super::deliveries::SCAN_PAGE_EVENTS;
use super::{DeliveriesQuery, Delivery, DeliveryId, DeliveryStatus, Webhook};
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
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The newest that are asked for and whose ids are below `before`, at least `limit` and one more where there are so many.
    Page { query: DeliveriesQuery, before: DeliveryId, limit: usize },
    /// The one with this id.
    One(DeliveryId),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The newest first.
    pub deliveries: Vec<Delivery>,
    /// The budget was used up: what has a lower id than this was not looked at.
    pub cut_at: Option<DeliveryId>,
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
        let behind = |id: DeliveryId| match id {
            DeliveryId::MAX => EventId::MAX,
            id => EventId::at_time(id.time_ms().saturating_add(1)),
        };
        let at = match &wanted {
            Wanted::Page { query, before, .. } => {
                behind(*before).min(query.until_ms.map_or(EventId::MAX, EventId::at_time))
            }
            Wanted::One(id) => behind(*id),
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
    pub fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<Result<Waiting, ScanError>> {
        loop {
            if let Some(event) = self.events.next() {
                self.at = event.id;
                if self.at <= self.cursor || self.is_enough() {
                    return Some(Ok(self.found(None)));
                }
                if let Some(e) = self.budget.used_up() {
                    return Some(self.cut().ok_or(e));
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
                return Some(Ok(self.found(None)));
            }
            if slice.is_over() {
                return None;
            }
        }
    }

    /// What was found when the budget is used up; none when that is less than a millisecond, so that the next page would get no
    /// further.
    fn cut(&mut self) -> Option<Waiting> {
        // within a millisecond the ids follow no order, so all of it is left to the next page
        let cut_at = DeliveryId::fresh(self.at.time_ms().saturating_add(1), 0);
        if matches!(self.wanted, Wanted::Page { before, .. } if cut_at >= before) {
            return None;
        }
        self.found.retain(|delivery| delivery.id >= cut_at);
        Some(self.found(Some(cut_at)))
    }

    fn found(&mut self, cut_at: Option<DeliveryId>) -> Waiting {
        Waiting { deliveries: std::mem::take(&mut self.found), cut_at }
    }

    /// A delivery has the time of its first event, and within a millisecond the ids follow no order.
    fn is_enough(&self) -> bool {
        match &self.wanted {
            Wanted::Page { query, limit, .. } => {
                let is_behind = |last: &Delivery| last.id.time_ms() > self.at.time_ms();
                query.since_ms.is_some_and(|since| self.at.time_ms() < since)
                    || self.found.len() > *limit && self.found.last().is_some_and(is_behind)
            }
            Wanted::One(id) => !self.found.is_empty() || self.at.time_ms() < id.time_ms(),
        }
    }

    fn look(&mut self, event: Event, rooms: &Rooms) {
        let (at, id) = (event.id, DeliveryId::of(&self.webhook, &[event.id]));
        let is_wanted = match &self.wanted {
            Wanted::Page { before, .. } => id < *before,
            Wanted::One(wanted) => id == *wanted,
        };
        if !is_wanted || self.covered.contains(&at) {
            self.budget.read_nothing();
            return;
        }
        let Some(filter) = &self.filter else { return };
        let frame = Frame::new(event, self.owner.clone());
        if !self.budget.judge(&frame, filter, rooms) {
            return;
        }
        let delivery = Delivery {
            id,
            events: vec![at],
            event_types: vec![frame.event.kind.to_string()],
            status: DeliveryStatus::Pending,
            attempt_count: 0,
            attempts: Vec::new(),
            next_attempt_ms: None,
            updated_ms: at.time_ms() as i64,
        };
        if !matches!(&self.wanted, Wanted::Page { query, .. } if !query.has(&delivery)) {
            self.found.push(delivery);
        }
    }
}
