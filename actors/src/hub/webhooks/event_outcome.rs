//! What became of one event at the webhooks of its channel: from the delivery log, corrected by the state of the
//! deliveries, which is the truth.

use std::collections::HashMap;
use std::sync::Arc;

use super::deliveries::merged;
use super::{Delivery, DeliveryStatus, Health, Hub, Webhook};
use crate::catalog::reader::ReadError;
use crate::clock;
use crate::compute::Tenant;
use crate::delivery::actor::Seen;
use crate::feed::frame::Frame;
use crate::model::channel::Channel;
use crate::model::event::Event;
use crate::model::filter::Filter;
use crate::model::id::EventId;

/// What became of an event at a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// It waits for its first attempt, or for one that somebody asked for.
    Pending,
    Delivered,
    Retrying,
    Dead,
    /// Given up without being delivered: skipped by its owner.
    Dropped,
    /// The filter, as it is now, does not want it.
    Filtered,
    /// The webhook was made after the event.
    Earlier,
    /// It is past, and the delivery log does not hold it (any more).
    NotKept,
    /// The webhook cannot be asked: its deliveries are not running.
    Unknown,
}

impl From<DeliveryStatus> for EventStatus {
    fn from(status: DeliveryStatus) -> EventStatus {
        match status {
            DeliveryStatus::Pending => EventStatus::Pending,
            DeliveryStatus::Delivered => EventStatus::Delivered,
            DeliveryStatus::Retrying => EventStatus::Retrying,
            DeliveryStatus::Dead => EventStatus::Dead,
            DeliveryStatus::Dropped | DeliveryStatus::Failed => EventStatus::Dropped,
        }
    }
}

/// An event and one webhook.
pub struct EventOutcome {
    pub webhook: Arc<Webhook>,
    /// None: it cannot be asked.
    pub health: Option<Health>,
    pub status: EventStatus,
    /// Those that carried the event, the latest attempt last. More than one where a batch was cut anew.
    pub deliveries: Vec<Delivery>,
}

impl std::fmt::Debug for EventOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventOutcome")
            .field("webhook", &self.webhook.id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// What became of the event at each webhook of its channel, the oldest webhook first.
    pub(in crate::hub) async fn event_outcomes(
        &self,
        event: &Event,
        channel: &Channel,
    ) -> Result<Vec<EventOutcome>, ReadError> {
        let mut event_outcomes = Vec::new();
        for webhook in self.list_webhooks(channel) {
            let Ok(seen) = self.seen(&webhook).await else {
                event_outcomes.push(EventOutcome {
                    webhook,
                    health: None,
                    status: EventStatus::Unknown,
                    deliveries: Vec::new(),
                });
                continue;
            };
            let (id, of) = (event.id, webhook.id.clone());
            let rows = seen.rows.clone();
            let deliveries = self.read(channel.no(), move |rooms| {
                let rows: HashMap<_, _> = rows.iter().map(|row| (row.delivery, row)).collect();
                let mut all = merged(rooms.delivery.delivery_log.read(&of, clock::now_ms().max(0) as u64), &rows);
                all.retain(|delivery| delivery.events.contains(&id));
                all.sort_by_key(|delivery| (delivery.updated_ms, delivery.id));
                Ok(all)
            });
            let deliveries = deliveries.await?;
            let status = match deliveries.last() {
                Some(last) => last.status.into(),
                None => {
                    let wanted = self.wants(event, channel, &webhook).await;
                    undelivered(event, &webhook, &seen, wanted)
                }
            };
            event_outcomes.push(EventOutcome { health: Some(seen.observed.health), webhook, status, deliveries });
        }
        Ok(event_outcomes)
    }

    /// Whether the event passes the filter of the webhook.
    async fn wants(&self, event: &Event, channel: &Channel, webhook: &Webhook) -> bool {
        let (frame, spec) = (Frame::new(event.clone(), channel.owner()), webhook.filter.clone());
        // a filter that was stored was compiled before
        let judge = move || Filter::compile(&spec).is_ok_and(|filter| frame.passes(&filter));
        self.rooms.scan_threads.run(Tenant::of_channel(channel.no()), judge).await.unwrap_or(false)
    }
}

/// The status of an event of which there is no delivery.
fn undelivered(event: &Event, webhook: &Webhook, seen: &Seen, wanted: bool) -> EventStatus {
    match (wanted, event.id > seen.observed.cursor) {
        _ if made_after(event.id, webhook) => EventStatus::Earlier,
        (false, _) => EventStatus::Filtered,
        (true, true) => EventStatus::Pending,
        (true, false) => EventStatus::NotKept,
    }
}

fn made_after(event: EventId, webhook: &Webhook) -> bool {
    u64::try_from(webhook.inserted_ms).is_ok_and(|made_ms| made_ms > event.time_ms())
}
