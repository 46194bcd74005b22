//! The keeper: an actor that writes down what the sources have counted and reports what they have refused. It works once a
//! second, so a crash loses a second of counting and no event.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, Supervised, WrapFuture};
use serde_json::json;

use crate::clock;
use crate::engine::Engine;
use crate::ingest::registry::ActiveSource;
use crate::model::event::EventType;
use crate::model::timestamp::to_iso;
use crate::store::{Change, StoreError, Table};

const ROUND: Duration = Duration::from_secs(1);
/// Longest reason in a report, in characters.
const REASON_CHARS_MAX: usize = 1000;

/// Writes the counters down now; sent when the server stops.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteDown;

pub struct SourceCounters {
    engine: Arc<Engine>,
    at_work: bool,
}

impl SourceCounters {
    pub fn new(engine: Arc<Engine>) -> SourceCounters {
        SourceCounters { engine, at_work: false }
    }
}

impl Actor for SourceCounters {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(ROUND, |keeper, ctx| {
            if std::mem::replace(&mut keeper.at_work, true) {
                return;
            }
            let engine = keeper.engine.clone();
            let round = async move {
                report(&engine).await;
                write_down(engine).await;
            };
            ctx.spawn(round.into_actor(keeper).map(|(), keeper, _| keeper.at_work = false));
        });
    }
}

impl Supervised for SourceCounters {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.at_work = false;
    }
}

impl Handler<WriteDown> for SourceCounters {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: WriteDown, _: &mut Self::Context) -> Self::Result {
        Box::pin(write_down(self.engine.clone()))
    }
}

async fn write_down(engine: Arc<Engine>) {
    let changed = |live: Arc<ActiveSource>| live.stats.changed().map(|counts| (live, counts));
    let changed: Vec<_> = engine.source_registry.list(None).into_iter().filter_map(changed).collect();
    if changed.is_empty() {
        return;
    }
    let written = actix_rt::task::spawn_blocking(move || {
        let change =
            |(live, counts): &(Arc<ActiveSource>, _)| Change::put(Table::SourceCounts, &*live.source.id, counts);
        let changes = changed.iter().map(change).collect::<Result<Vec<_>, StoreError>>();
        let written = changes.and_then(|changes| engine.state.write(&changes));
        if let Err(e) = written {
            changed.iter().for_each(|(live, _)| live.stats.still_changed());
            log::error!("the counters of sources were not written and are written again: {e}");
        }
    });
    if let Err(e) = written.await {
        log::error!("the counters of sources were not written: {e}");
    }
}

/// Publishes `source.rejected` for each source that has something to report.
async fn report(engine: &Engine) {
    let now_ms = clock::now_ms();
    for live in engine.source_registry.list(None) {
        let Some(channel) = engine.catalog.channel(live.source.channel_no()) else { continue };
        let Some(refusals) = live.stats.report_due(now_ms) else { continue };
        let (source, content, unauthenticated) = (&*live.source.id, refusals.content, refusals.unauthenticated);
        log::warn!(source, content, unauthenticated; "a source refused requests: {}", refusals.reason);
        let payload = json!({
            "source_id": source,
            "name": live.source.name,
            "channel": channel.name_on_tokens(),
            "rejected": content,
            "unauthenticated": unauthenticated,
            "dead_letters": live.stats.letters.lock().await.count(),
            "reason": refusals.reason.chars().take(REASON_CHARS_MAX).collect::<String>(),
            "rejected_at": to_iso(now_ms),
        });
        // the name is one of the catalogue, which a test holds to what event types are
        let Ok(kind) = EventType::new("source.rejected") else { return };
        if let Err(e) = engine.system.announce(kind, &payload, None).await {
            log::warn!(source; "a report is missing in the organization system: {e}");
        }
    }
}
