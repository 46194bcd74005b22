//! The janitor: an actor that looks after the disk. Once a second it measures what is free and what the log takes up, and
//! has retention drop what is too old or too much. The work is done on a blocking thread, one round at a time.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};

use crate::clock;
use crate::engine::Engine;

const ROUND: Duration = Duration::from_secs(1);

pub struct Janitor {
    engine: Arc<Engine>,
    at_work: bool,
}

impl Janitor {
    pub fn new(engine: Arc<Engine>) -> Janitor {
        Janitor { engine, at_work: false }
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
                if let Err(e) = result {
                    log::error!("a round failed and is tried again: {e}");
                }
            }));
        });
    }
}

impl Supervised for Janitor {}

fn round(engine: &Engine) {
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
    metrics.channels_running.set(engine.routes.running() as i64);
    if let Some(free) = engine.free_disk_bytes() {
        metrics.disk_free_bytes.set(free as i64);
    }
}
