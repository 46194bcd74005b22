//! The effects of a webhook actor, as its state machine asks for them: read the log, post, set timers, publish notices. Writing
//! its state is in `saving`.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::FutureExt;

use crate::catalog::system::{SystemEvents, Unannounced};
use crate::clock;
use crate::delivery::actor::{Done, Finished, Read, WebhookActor, now_ms};
use crate::delivery::history::Delivery;
use crate::delivery::{attempt, delivery_log, notices, pages, storage};
use crate::journal::AppendError;
use crate::model::delivery::{Attempt, Endpoint, Input, LogEntry, Notice, NoticeKey, Opened, Standing, Trigger};
use crate::model::event::Draft;

/// A read or an event about the webhook that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Between two looks whether a node whose lease is over has it again.
const LEASE_LOOK: Duration = Duration::from_millis(50);

/// Publishes an event to the organization `system`, however long that takes. False: it cannot be.
async fn publish(system: &SystemEvents, draft: Draft) -> bool {
    loop {
        match system.publish(draft.clone()).await {
            Ok(_) => return true,
            Err(Unannounced::Append(AppendError::Stopping)) => return false,
            Err(e @ Unannounced::NoChannel) => {
                log::error!("an event about a webhook is not published: {e}");
                return false;
            }
            Err(e) => log::warn!("an event about a webhook could not be published, which is tried again: {e}"),
        }
        clock::sleep(AGAIN).await;
    }
}

impl WebhookActor {
    pub(super) fn open(&mut self, kept: storage::Kept, ctx: &mut Context<Self>) {
        let storage::Kept { state, rows, jobs } = kept;
        let lost_through = self.handles.log.expired(self.ready.webhook.channel_no());
        let opened = Opened { config: self.config(), state, rows, jobs, lost_through };
        let mut effects = Vec::new();
        self.endpoint = Some(Endpoint::open(now_ms(), self.handles.settings.limits(), opened, &mut effects));
        self.perform(effects, None, ctx);
        self.tell(Input::Appended, ctx);
    }

    /// Ends the actor for good.
    pub(super) fn end(&mut self, ctx: &mut Context<Self>) {
        self.guard.end_in_order();
        ctx.stop();
    }

    pub(super) fn read(&mut self, wanted: pages::Wanted, ctx: &mut Context<Self>) {
        let (handles, ready, me) = (self.handles.clone(), self.ready.clone(), ctx.address());
        actix_rt::spawn(async move {
            // the log does not fail for ever, and an actor that has ended ends this
            while me.connected() {
                match pages::read(&handles, &ready, wanted.clone()).await {
                    Ok(page) => return me.do_send(Read { page }),
                    Err(e) => log::error!("a webhook cannot read the log, which is tried again: {e}"),
                }
                clock::sleep(AGAIN).await;
            }
        });
    }

    /// Makes an attempt, or, when another node may be making it, waits until that is certain: then this actor is ended, or the
    /// lease goes on.
    pub(super) fn attempt(&mut self, attempt: Attempt, ctx: &mut Context<Self>) {
        if !self.handles.ownership.may_begin() {
            clock::later(ctx, LEASE_LOOK, |actor, ctx| actor.attempt(attempt, ctx));
            return;
        }
        let mut frames: Vec<_> = attempt.events.iter().map(|id| self.frames.remove(id)).collect();
        let taken: usize = frames.iter().flatten().map(|frame| frame.weight()).sum();
        self.frames_bytes = self.frames_bytes.saturating_sub(taken);
        if attempt.trigger == Trigger::Test {
            frames = self.testing.get(&attempt.delivery).map(|(frame, _)| Some(frame.clone())).into_iter().collect();
        }
        let (handles, ready, client, me) =
            (self.handles.clone(), self.ready.clone(), self.client.clone(), ctx.address());
        // a task of its own, so that an answer wakes only its own attempt
        actix_rt::spawn(async move {
            let begun = clock::now_ms();
            let made = attempt::make(&handles, &ready, &client, &attempt, frames);
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
        self.timer = Some(clock::later(ctx, wait, |actor, ctx| {
            actor.timer = None;
            actor.tell(Input::Tick, ctx);
        }));
    }

    /// Publishes a notice, and tells the state machine when the event is durable. Until then the notice is published again
    /// after a restart of the actor, with the same dedupe id.
    pub(super) fn announce(&mut self, key: NoticeKey, notice: &Notice, ctx: &mut Context<Self>) {
        notices::announce(&self.ready, notice);
        let (system, draft) = (self.handles.system.clone(), notices::event(&self.ready, key, notice));
        let told = async move {
            match draft {
                Some(draft) => publish(&system, draft).await,
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

    pub(super) fn round(&mut self, ctx: &mut Context<Self>) {
        // A webhook that waits for a retry reads nothing, and would not learn that what it retries is gone.
        let lost_through = self.handles.log.expired(self.ready.webhook.channel_no());
        if self.endpoint.as_ref().is_some_and(|endpoint| endpoint.state().lost_through < lost_through) {
            self.tell(Input::Lost { through: lost_through }, ctx);
        }
        if let Some(endpoint) = &self.endpoint {
            let newest = self.handles.log.newest(self.ready.webhook.channel_no());
            self.gauges.observe(&endpoint.observe(), newest);
        }
        if let Some(fresh) = self.history.take(now_ms()) {
            actix_rt::spawn(self.write_history(fresh));
        }
    }

    /// Writes into the delivery log; when it is done, so is every write before it.
    pub(super) fn write_history(&mut self, fresh: Vec<Delivery>) -> impl Future<Output = ()> + use<> {
        let (handles, writer) = (self.handles.clone(), self.log_writer.clone());
        async move {
            // in order, because a delivery that is written again is read first
            let writer = writer.lock_owned().await;
            delivery_log::write(&handles, writer, fresh, now_ms()).await;
        }
    }

    /// The machine is at rest: the delivery log is written, and the actor ends.
    pub(super) fn stopped(&mut self, ctx: &mut Context<Self>) {
        let fresh = self.history.take_all(now_ms());
        let last = self.write_history(fresh);
        ctx.spawn(last.into_actor(self).map(|(), actor, ctx| actor.end(ctx)));
    }
}
