//! Deliveries that wait for their first attempt. They have no record: they are the events behind the cursor, one each.

use std::collections::HashSet;

use super::deliveries::SCAN_PAGE_EVENTS;
use super::{Delivery, DeliveryId, DeliveryStatus, Webhook};
use crate::catalog::reader::ReadError;
use crate::delivery::actor::Seen;
use crate::delivery::handles::Handles as DeliveryHandles;
use crate::feed::frame::Frame;
use crate::log::{Direction, PageLimit};
use crate::model::channel::Owner;
use crate::model::filter::Filter;
use crate::model::id::EventId;

/// Most events that one look reads.
const SCAN_EVENTS: usize = 1_000_000;

/// The newest of them whose ids are below `before`, at least `limit` and one more where there are so many.
pub fn list(
    delivery: &DeliveryHandles,
    webhook: &Webhook,
    owner: &Owner,
    seen: &Seen,
    before: DeliveryId,
    limit: usize,
) -> Result<Vec<Delivery>, ReadError> {
    let from = match before {
        DeliveryId::MAX => EventId::MAX,
        before => EventId::at_time(before.time_ms() + 1),
    };
    // a delivery has the time of its first event, and within a millisecond the ids follow no order
    let enough = |found: &[Delivery], at: EventId| {
        found.len() > limit && found.last().is_some_and(|last| last.id.time_ms() > at.time_ms())
    };
    scan(delivery, webhook, owner, seen, from, |id| id < before, enough)
}

/// The one with this id.
pub fn find(
    delivery: &DeliveryHandles,
    webhook: &Webhook,
    owner: &Owner,
    seen: &Seen,
    wanted: DeliveryId,
) -> Result<Option<Delivery>, ReadError> {
    let from = EventId::at_time(wanted.time_ms().saturating_add(1));
    let enough = |found: &[Delivery], at: EventId| !found.is_empty() || at.time_ms() < wanted.time_ms();
    Ok(scan(delivery, webhook, owner, seen, from, |id| id == wanted, enough)?.pop())
}

/// Goes back from an event to the cursor, until there is `enough` when some event is reached.
fn scan(
    delivery: &DeliveryHandles,
    webhook: &Webhook,
    owner: &Owner,
    seen: &Seen,
    from: EventId,
    wanted: impl Fn(DeliveryId) -> bool,
    enough: impl Fn(&[Delivery], EventId) -> bool,
) -> Result<Vec<Delivery>, ReadError> {
    let Ok(filter) = Filter::compile(&webhook.filter) else { return Ok(Vec::new()) };
    let covered: HashSet<_> = seen.rows.iter().flat_map(|row| &row.events).collect();
    let (mut at, mut found, mut scanned) = (from, Vec::new(), 0);
    loop {
        let limits = PageLimit { events: SCAN_PAGE_EVENTS, bytes: delivery.page_bytes };
        let page = delivery.log.read(webhook.channel_no(), at, limits, Direction::Backward)?;
        for event in page.events {
            at = event.id;
            scanned += 1;
            if at <= seen.observed.cursor || scanned > SCAN_EVENTS || enough(&found, at) {
                return Ok(found);
            }
            let id = DeliveryId::of(&webhook.id, &[at]);
            if !wanted(id) || covered.contains(&at) {
                continue;
            }
            let frame = Frame::new(event, owner.clone());
            if frame.passes(&filter) {
                found.push(Delivery {
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
        if !page.more {
            return Ok(found);
        }
    }
}
