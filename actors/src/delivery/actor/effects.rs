//! What a webhook actor does when its state machine says so: start, read, post, wake, write, speak.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::clock;
use crate::delivery::actor::{Answer, Done, Finished, Read, WebhookActor, now_ms};
use crate::delivery::history::Page;
use crate::delivery::{attempt, notices, pages, storage};
use crate::engine::Engine;
use crate::journal::AppendError;
use crate::model::channel::{ChannelKind, SYSTEM_ORGANIZATION};
use crate::model::delivery::{
    Attempt, Change, Endpoint, Input, LogEntry, Notice, NoticeKey, Opened, Standing, Trigger,
};
use crate::model::event::{Draft, Origin};
use crate::store::StoreError;

/// A write or a read that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Appends an event to the organization `system`; however long that takes. False: the server is stopping.
async fn append(engine: &Engine, draft: Draft) -> bool {
    loop {
        let Some(system) = engine.catalog.find(ChannelKind::Organization, SYSTEM_ORGANIZATION) else {
            log::error!("the organization {SYSTEM_ORGANIZATION} is missing; it is made at the next start");
            return false;
        };
        match engine.journal.append(system, vec![draft.clone()], None, Origin::SERVER.into()).await {
            Ok(_) => return true,
            Err(AppendError::Stopping) => return false,
            Err(e) => log::warn!("an event about a webhook could not be published, which is tried again: {e}"),
        }
        actix_rt::time::sleep(AGAIN).await;
    }
}

impl WebhookActor {
    pub(super) fn open(&mut self, stored: Option<storage::Stored>, ctx: &mut Context<Self>) {
        let Some(storage::Stored { state, rows, jobs }) = stored else {
            // a webhook is stored together with its state, so it was deleted a moment ago
            return ctx.stop();
        };
        let lost_through = self.engine.log.expired(self.ready.webhook.channel_no());
        let opened = Opened { config: self.config(), state, rows, jobs, lost_through };
        let mut effects = Vec::new();
        self.endpoint =
            Some(Endpoint::open(now_ms(), self.engine.webhook_registry.config.limits(), opened, &mut effects));
        self.perform(effects, None, ctx);
        self.tell(Input::Appended, ctx);
    }

    pub(super) fn read(&mut self, wanted: pages::Wanted, ctx: &mut Context<Self>) {
        let (engine, ready, me) = (self.engine.clone(), self.ready.clone(), ctx.address());
        actix_rt::spawn(async move {
            // the log does not fail for ever, and an actor that has ended ends this
            while me.connected() {
                let (engine, ready, wanted) = (engine.clone(), ready.clone(), wanted.clone());
                let read = actix_rt::task::spawn_blocking(move || pages::read(&engine, &ready, wanted));
                match read.await.unwrap_or_else(|e| Err(StoreError::Panicked(e.to_string()))) {
                    Ok(page) => return me.do_send(Read { page }),
                    Err(e) => log::error!("a webhook cannot read the log, which is tried again: {e}"),
                }
                actix_rt::time::sleep(AGAIN).await;
            }
        });
    }

    pub(super) fn attempt(&mut self, attempt: Attempt, ctx: &mut Context<Self>) {
        let mut frames: Vec<_> = attempt.events.iter().map(|id| self.frames.remove(id)).collect();
        let taken: usize = frames.iter().flatten().map(|frame| frame.weight()).sum();
        self.frames_bytes = self.frames_bytes.saturating_sub(taken);
        if attempt.trigger == Trigger::Test {
            frames = self.testing.get(&attempt.delivery).map(|(frame, _)| Some(frame.clone())).into_iter().collect();
        }
        let (engine, ready, client, me) = (self.engine.clone(), self.ready.clone(), self.client.clone(), ctx.address());
        // a task of its own, so that an answer wakes only its own attempt
        actix_rt::spawn(async move {
            let begun = clock::now_ms();
            let made = attempt::make(&engine, &ready, &client, &attempt, frames);
            // an error of ours over one delivery must not hold its slot for ever; it counts as a failed attempt
            let done = AssertUnwindSafe(made).catch_unwind().await;
            let done = done.unwrap_or_else(|_| attempt::panicked(&attempt, begun));
            me.do_send(Finished { attempt, done });
        });
    }

    pub(super) fn wake_at(&mut self, at_ms: u64, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wait = Duration::from_millis(at_ms.saturating_sub(now_ms()));
        self.timer = Some(ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            actor.tell(Input::Tick, ctx);
        }));
    }

    /// Writes what waits, in order and one write at a time; what came together is written together.
    pub(super) fn save(&mut self, ctx: &mut Context<Self>) {
        if self.saving || self.is_discarded || self.unsaved.is_empty() {
            return;
        }
        self.saving = true;
        let (mut through, mut changes) = (0, Vec::new());
        for (seq, more) in self.unsaved.drain(..) {
            through = seq;
            changes.extend(more);
        }
        let (engine, id) = (self.engine.clone(), self.ready.webhook.id.clone());
        let write = actix_rt::task::spawn_blocking(move || {
            let written = storage::apply(&engine.state, &id, &changes);
            (changes, written)
        });
        ctx.spawn(write.into_actor(self).map(move |written, actor, ctx| {
            actor.saving = false;
            if actor.is_discarded {
                return ctx.stop();
            }
            match written {
                Ok((_, Ok(()))) => actor.saved(through, ctx),
                Ok((changes, Err(e))) => actor.save_again(through, changes, &e.to_string(), ctx),
                // the changes are gone with the thread; what is stored says where to go on
                Err(e) => {
                    log::error!("a webhook's state could not be written; its deliveries begin again: {e}");
                    ctx.stop();
                }
            }
        }));
    }

    pub(super) fn saved(&mut self, through: u64, ctx: &mut Context<Self>) {
        self.saved_seq = through;
        let durable = |(seq, ..): &mut (u64, Answer, oneshot::Sender<Answer>)| *seq <= through;
        for (_, answer, tell) in self.waiting.extract_if(.., durable) {
            // whoever asked may have gone
            let _ = tell.send(answer);
        }
        self.tell(Input::Persisted { through }, ctx);
    }

    pub(super) fn save_again(&mut self, through: u64, changes: Vec<Change>, reason: &str, ctx: &mut Context<Self>) {
        log::error!("a webhook's state could not be written, which is tried again: {reason}");
        self.unsaved.push_front((through, changes));
        self.saving = true;
        ctx.run_later(AGAIN, |actor, ctx| {
            actor.saving = false;
            if actor.is_discarded {
                return ctx.stop();
            }
            actor.save(ctx);
        });
    }

    /// Says what people have to know, and that it was said when the event is durable. Until then it is said again by
    /// the next life of the actor, with the same dedupe id.
    pub(super) fn announce(&mut self, key: NoticeKey, notice: &Notice, ctx: &mut Context<Self>) {
        notices::announce(&self.ready, notice);
        let (engine, draft) = (self.engine.clone(), notices::event(&self.ready, key, notice));
        let told = async move {
            match draft {
                Some(draft) => append(&engine, draft).await,
                None => true,
            }
        };
        ctx.spawn(told.into_actor(self).map(move |told, actor, ctx| {
            if told {
                actor.tell(Input::Announced { key }, ctx);
            }
        }));
    }

    pub(super) fn note(&mut self, entry: LogEntry, done: &mut Option<Done>) {
        notices::note(&self.ready, &entry);
        let LogEntry::Attempt { attempt, standing, .. } = entry else { return };
        let Some(mut done) = done.take() else { return };
        let test = self.testing.remove(&attempt.delivery);
        if test.is_some() {
            done.record.request_body = Some(String::from_utf8_lossy(&done.body).into_owned());
        }
        if standing == Standing::Dead {
            self.gauges.died();
        }
        let types = std::mem::take(&mut done.event_types);
        let record = match test {
            Some((_, tell)) => {
                let record = done.record.clone();
                // whoever asked may have gone
                let _ = tell.send(Ok(done));
                record
            }
            None => done.record,
        };
        self.history.note(attempt.delivery, attempt.events, types, standing, record);
    }

    pub(super) fn round(&mut self, _: &mut Context<Self>) {
        if let Some(endpoint) = &self.endpoint {
            let newest = self.engine.log.newest(self.ready.webhook.channel_no());
            self.gauges.observe(&endpoint.observe(), newest);
        }
        let page = self.history.take(now_ms());
        if !page.is_empty() {
            actix_rt::spawn(self.write_history(page));
        }
    }

    /// Writes a page of the delivery log; when it is done, so is every write before it.
    pub(super) fn write_history(&mut self, page: Page) -> impl Future<Output = ()> + use<> {
        let (engine, writing) = (self.engine.clone(), self.writing.clone());
        async move {
            // in order, because a delivery that is written again is read first
            let is_over = writing.lock().await;
            if page.is_empty() || *is_over {
                return;
            }
            let write = actix_rt::task::spawn_blocking(move || page.write(&engine.state));
            match write.await.unwrap_or_else(|e| Err(StoreError::Panicked(e.to_string()))) {
                Ok(()) => {}
                Err(e) => log::error!("the delivery log of a webhook could not be written: {e}"),
            }
        }
    }

    /// The machine is at rest: the delivery log is written, and the actor ends.
    pub(super) fn stopped(&mut self, ctx: &mut Context<Self>) {
        let last = self.history.take_all(now_ms());
        let last = self.write_history(last);
        ctx.spawn(last.into_actor(self).map(|(), _, ctx: &mut Context<Self>| ctx.stop()));
    }
}
