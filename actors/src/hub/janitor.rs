//! The janitor: an actor that looks after the disk. Once a second it measures what is free and what the log takes up, and
//! has retention drop what is too old or too much. The work is done on a blocking thread, one round at a time. When the disk
//! has less room than its floor it says so, once until there is room again.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};

use crate::clock;
use crate::engine::Engine;
use crate::model::event::EventType;
use crate::model::timestamp;

const ROUND: Duration = Duration::from_secs(1);

pub struct Janitor {
    engine: Arc<Engine>,
    at_work: bool,
    /// The disk was low in the round before.
    low: bool,
}

impl Janitor {
    pub fn new(engine: Arc<Engine>) -> Janitor {
        Janitor { engine, at_work: false, low: false }
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(ROUND, |janitor, ctx| {
            if std::mem::replace(&mut janitor.at_work, true) {
                return;
            }
            let engine = janitor.engine.clone();
            let round = actix_rt::task::spawn_blocking(move || round(&engine));
            ctx.spawn(round.into_actor(janitor).map(|result, janitor, _| {
                janitor.at_work = false;
                match result {
                    Ok(free_bytes) => janitor.watch(free_bytes),
                    Err(e) => log::error!("a round failed and is tried again: {e}"),
                }
            }));
        });
    }
}

impl Janitor {
    /// Says that the disk is low when it has just become so. Not known, it is not low.
    fn watch(&mut self, free_bytes: Option<u64>) {
        let floor_bytes = self.engine.limits.min_free_bytes;
        let Some(free_bytes) = free_bytes.filter(|free| *free < floor_bytes) else {
            self.low = false;
            return;
        };
        if std::mem::replace(&mut self.low, true) {
            return;
        }
        log::warn!(free_bytes, floor_bytes; "the disk is low; the server is not ready until there is room");
        let at = timestamp::to_iso(clock::now_ms());
        let payload = serde_json::json!({ "free_bytes": free_bytes, "floor_bytes": floor_bytes, "at": at });
        let engine = self.engine.clone();
        actix_rt::spawn(async move {
            // the name is one of the catalogue, which a test holds to what event types are
            let Ok(kind) = EventType::new("storage.low_disk") else { return };
            if let Err(e) = engine.system.announce(kind, &payload, None).await {
                log::error!("the event that the disk is low could not be published: {e}");
            }
        });
    }
}

impl Supervised for Janitor {}

/// Returns the bytes that are free; none when the system does not say.
fn round(engine: &Engine) -> Option<u64> {
    match engine.log.retain(clock::now_ms()) {
        Ok(dropped) if dropped.segments > 0 => {
            let (segments, events, bytes) = (dropped.segments, dropped.events, dropped.bytes);
            log::info!(segments, events, bytes; "retention dropped the oldest part of the log");
        }
        Ok(_) => {}
        Err(e) => log::error!("retention failed: {e}"),
    }
    let (stats, metrics) = (engine.log.stats(), &engine.metrics);
    metrics.log_bytes.set(stats.bytes as i64);
    metrics.log_events.set(stats.events as i64);
    metrics.log_segments.set(stats.segments as i64);
    metrics.log_quarantined.set(stats.quarantined.len() as i64);
    metrics.queue_events.set(engine.journal.queued() as i64);
    metrics.channels_running.set(engine.feed.open_channels() as i64);
    let free = engine.free_disk_bytes();
    if let Some(free) = free {
        metrics.disk_free_bytes.set(free as i64);
    }
    free
}
