//! What follows from a change of the configuration: streams end, actors start, learn or end, sources are at work or gone.

use std::sync::{Arc, Weak};

use actix_rt::ArbiterHandle;

use super::rooms::Rooms;
use super::sources;
use super::webhooks::Updates;
use crate::catalog::source::Source;
use crate::catalog::{CatalogEvent, Sink};
#[cfg(feature = "nats")]
use crate::cluster::{SlotChange, SlotsSink};
use crate::ingest::registry::ActiveSource;

/// The catalog's sink. It runs on the journal's thread and hands everything that takes time to others. `updates` holds the
/// catalog and with it this: so it is held weakly.
pub(super) fn sink(rooms: &Arc<Rooms>, updates: &Arc<Updates>, arbiter: ArbiterHandle) -> Sink {
    let (rooms, updates) = (Arc::downgrade(rooms), Arc::downgrade(updates));
    Box::new(move |event| {
        // without them the server has ended
        let (Some(rooms), Some(updates)) = (Weak::upgrade(&rooms), Weak::upgrade(&updates)) else { return };
        match event {
            CatalogEvent::ChannelChanged { new, .. } => updates.configure_all_soon(new.no()),
            CatalogEvent::ChannelRemoved { channel } => rooms.streams.close_channel(channel.no()),
            // sessions look for themselves when the count of revocations has grown
            CatalogEvent::TokenRevoked { .. } | CatalogEvent::TokenChanged { .. } => {}
            CatalogEvent::WebhookMade { webhook } => updates.made(&webhook),
            CatalogEvent::WebhookChanged { new, .. } => updates.configure_soon(new.id.clone()),
            CatalogEvent::WebhookRemoved { webhook } => updates.removed(&webhook),
            CatalogEvent::SourceMade { source } | CatalogEvent::SourceChanged { new: source, .. } => {
                put_to_work(&rooms, &source);
            }
            CatalogEvent::SourceRemoved { source } => {
                if let Some(live) = rooms.sources.remove(&source.id) {
                    // when the thread is gone the server is stopping, and the letters are left behind
                    arbiter.spawn(sources::forget(rooms, live));
                }
            }
        }
    })
}

/// What follows from owning the slot of webhooks, or not any more. It runs on the worker's thread. `released`: what was
/// done for the slot has ended.
#[cfg(feature = "nats")]
pub(super) fn slots_sink(rooms: &Arc<Rooms>, arbiter: ArbiterHandle) -> SlotsSink {
    let rooms = Arc::downgrade(rooms);
    Box::new(move |slot, change| {
        let Some(rooms) = Weak::upgrade(&rooms) else { return };
        let actors = rooms.webhook_actors.clone();
        match change {
            // when the thread is gone the server is stopping; all three go by it, so that they are done in their order
            SlotChange::Owned => drop(arbiter.spawn(async move {
                let webhooks = rooms.catalog.webhooks(None);
                actors.start_slot(slot, webhooks.iter().map(|webhook| &webhook.id));
            })),
            SlotChange::Lost => drop(arbiter.spawn(async move { actors.end_slot(slot, false).await })),
            SlotChange::Releasing(released) => drop(arbiter.spawn(async move {
                actors.end_slot(slot, true).await;
                released();
            })),
        }
    })
}

/// Starts a source as it is configured now; its counters stay.
fn put_to_work(rooms: &Rooms, source: &Source) {
    let registry = &rooms.sources;
    let stats = registry.get(&source.id).map_or_else(Arc::default, |live| live.stats.clone());
    registry.put(ActiveSource::new(source.clone(), stats, &rooms.delivery.seal_key));
}
