//! What became of one event at the webhooks of its channel: from the delivery log, corrected by the state of the
//! deliveries, which is the truth.

use std::collections::HashMap;
use std::sync::Arc;

use super::deliveries::merged;
use super::{Delivery, DeliveryStatus, Health, Hub, Webhook};
use crate::frame::Frame;
use crate::model::channel::Channel;
use crate::model::event::Event;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::store::StoreError;
use crate::webhook::actor::Seen;
use crate::webhook::history;

/// How an event fared at a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
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

impl From<DeliveryStatus> for Fate {
    fn from(status: DeliveryStatus) -> Fate {
        match status {
            DeliveryStatus::Pending => Fate::Pending,
            DeliveryStatus::Delivered => Fate::Delivered,
            DeliveryStatus::Retrying => Fate::Retrying,
            DeliveryStatus::Dead => Fate::Dead,
            DeliveryStatus::Dropped | DeliveryStatus::Failed => Fate::Dropped,
        }
    }
}

/// An event and one webhook.
pub struct Passage {
    pub webhook: Arc<Webhook>,
    /// None: it cannot be asked.
    pub health: Option<Health>,
    pub fate: Fate,
    /// Those that carried the event, the latest attempt last. More than one where a batch was cut anew.
    pub deliveries: Vec<Delivery>,
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passage").field("webhook", &self.webhook.id).field("fate", &self.fate).finish_non_exhaustive()
    }
}

impl Hub {
    /// What became of the event at each webhook of its channel, the oldest webhook first.
    pub(in crate::hub) async fn passages(&self, event: &Event, channel: &Channel) -> Result<Vec<Passage>, StoreError> {
        let mut passages = Vec::new();
        for webhook in self.list_webhooks(channel) {
            let Ok(seen) = self.seen(&webhook).await else {
                passages.push(Passage { webhook, health: None, fate: Fate::Unknown, deliveries: Vec::new() });
                continue;
            };
            let (id, of) = (event.id, webhook.id.clone());
            let rows = seen.rows.clone();
            let deliveries = self.blocking(move |engine| {
                let rows: HashMap<_, _> = rows.iter().map(|row| (row.delivery, row)).collect();
                let mut all = merged(history::read(&engine.state, &of)?, &rows);
                all.retain(|delivery| delivery.events.contains(&id));
                all.sort_by_key(|delivery| (delivery.updated_ms, delivery.id));
                Ok(all)
            });
            let deliveries = deliveries.await?;
            let fate = match deliveries.last() {
                Some(last) => last.status.into(),
                None => undelivered(event, channel, &webhook, &seen),
            };
            passages.push(Passage { health: Some(seen.observed.health), webhook, fate, deliveries });
        }
        Ok(passages)
    }
}

/// How it stands with an event of which there is no delivery.
fn undelivered(event: &Event, channel: &Channel, webhook: &Webhook, seen: &Seen) -> Fate {
    let wants = |filter: Filter| Frame::new(event.clone(), channel.owner()).passes(&filter);
    // a filter that was stored was compiled before
    let wanted = Filter::compile(&webhook.filter).is_ok_and(wants);
    match (wanted, event.id > seen.observed.cursor) {
        _ if made_after(event.id, webhook) => Fate::Earlier,
        (false, _) => Fate::Filtered,
        (true, true) => Fate::Pending,
        (true, false) => Fate::NotKept,
    }
}

fn made_after(event: EventId, webhook: &Webhook) -> bool {
    u64::try_from(webhook.inserted_ms).is_ok_and(|made_ms| made_ms > event.time_ms())
}
