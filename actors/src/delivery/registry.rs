//! The actors of the webhooks: starts one where it is missing, on the threads that deliver; starts it again when it died; ends
//! them all in order.
//!
//! This is no actor, so it cannot die. Each actor holds an [`ActorGuard`], whose end is told here however the actor ended: by a
//! panic, before it had begun, or with its thread. What an actor needs to go on is in the documents.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, Addr};
use actix_rt::ArbiterHandle;
use parking_lot::Mutex;

use crate::delivery::actor::{Ask, Discard, Shutdown, WebhookActor};
use crate::delivery::handles::Handles;
use crate::delivery::http::client::DeliveryClient;
use crate::delivery::ownership::slot_of;
use crate::journal::AppendError;
use crate::model::delivery::{JobId, Refusal};
use crate::model::record_id::WebhookId;
use crate::{clock, compute};

/// Why nothing came of what an actor was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the webhook's deliveries are not running")]
    NotRunning,
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable, or not in time.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// An actor that died is started again after this.
const RESTART: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });

thread_local! {
    /// The client of this thread, made by its first webhook.
    static CLIENT: RefCell<Option<Rc<DeliveryClient>>> = const { RefCell::new(None) };
}

fn client(handles: &Handles) -> Rc<DeliveryClient> {
    let new = || Rc::new(DeliveryClient::new(handles.target_check.clone(), handles.tls.clone()));
    CLIENT.with(|client| client.borrow_mut().get_or_insert_with(new).clone())
}

pub struct WebhookActors {
    pub handles: Arc<Handles>,
    threads: Vec<ArbiterHandle>,
    next_thread: AtomicUsize,
    /// Held over the start of an actor, so that no webhook gets two.
    starting: Mutex<Starting>,
    /// Ordered, so that a simulation repeats itself.
    running: Mutex<BTreeMap<WebhookId, Running>>,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Starting {
    lives: u64,
}

struct Running {
    life: u64,
    /// None while it is being started.
    addr: Option<Addr<WebhookActor>>,
}

/// Held by an actor as long as it lives; its drop tells that the actor has ended.
pub struct ActorGuard {
    actors: Weak<WebhookActors>,
    webhook: WebhookId,
    number: u64,
    /// The actor has ended by itself: its webhook is deleted, or the server stops.
    ends_in_order: bool,
}

impl ActorGuard {
    /// The actor ends, and is not to be started again.
    pub fn end_in_order(&mut self) {
        self.ends_in_order = true;
    }
}

impl Drop for ActorGuard {
    fn drop(&mut self) {
        if let Some(actors) = self.actors.upgrade() {
            actors.ended(self);
        }
    }
}

impl WebhookActors {
    /// `threads`: those that deliver, at least one.
    pub fn new(handles: Arc<Handles>, threads: Vec<ArbiterHandle>) -> Arc<WebhookActors> {
        Arc::new(WebhookActors {
            handles,
            threads,
            next_thread: AtomicUsize::new(0),
            starting: Mutex::default(),
            running: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// The actor of a webhook, if one runs.
    pub fn find(&self, webhook: &str) -> Option<Addr<WebhookActor>> {
        self.running.lock().get(webhook)?.addr.clone().filter(Addr::connected)
    }

    /// The actor of a webhook, started where it is missing. None: there is no such webhook, it cannot deliver as it is, it is
    /// another node's, or the server stops.
    pub fn get(self: &Arc<Self>, webhook: &str) -> Option<Addr<WebhookActor>> {
        if let Some(running) = self.find(webhook) {
            return Some(running);
        }
        let mut starting = self.starting.lock();
        if self.is_stopping.load(Ordering::Acquire) {
            return None;
        }
        // whoever held the lock may have started it
        if let Some(running) = self.find(webhook) {
            return Some(running);
        }
        // whoever takes a slot away ends its actors afterwards, under the lock as well
        let fence = self.handles.ownership.fence(webhook).ok()?;
        // read under the lock, so that who changes it from here on finds the actor that is started with it
        let handles = &self.handles;
        let record = handles.catalog.webhook(webhook)?;
        let (id, channel) = (record.id.clone(), handles.catalog.channel(record.channel_no())?);
        let ready = handles.ready(record, channel)?;
        let thread = self.thread()?;
        starting.lives += 1;
        let guard = ActorGuard {
            actors: Arc::downgrade(self),
            webhook: id.clone(),
            number: starting.lives,
            ends_in_order: false,
        };
        let number = guard.number;
        // first, so that an actor that ends at once is taken out again
        self.running.lock().insert(id.clone(), Running { life: number, addr: None });
        let handles = handles.clone();
        let addr = WebhookActor::start_in_arbiter(thread, move |_| {
            let client = client(&handles);
            WebhookActor::new(handles, ready, guard, fence, client)
        });
        let mut running = self.running.lock();
        // none: it has ended already
        running.get_mut(&id).filter(|running| running.life == number)?.addr = Some(addr.clone());
        Some(addr)
    }

    /// The next thread that has not ended; none when the server stops.
    fn thread(&self) -> Option<&ArbiterHandle> {
        let next = self.next_thread.fetch_add(1, Ordering::Relaxed);
        let from_next = (0..self.threads.len()).map(|n| &self.threads[next.wrapping_add(n) % self.threads.len()]);
        // one that has ended takes no work
        from_next.into_iter().find(|thread| thread.spawn_fn(|| {}))
    }

    /// Asks the actor of a webhook for something; answered when that is durable.
    ///
    /// # Errors
    /// With [`AppendError::OutcomeUnknown`] it may still come to pass; with every other error it does not.
    pub async fn ask(self: &Arc<Self>, webhook: &str, ask: Ask) -> Result<Option<JobId>, AskError> {
        if ask.is_new_work() && self.handles.journal.storage_full() {
            return Err(AppendError::StorageFull.into());
        }
        let actor = self.get(webhook).ok_or(AskError::NotRunning)?;
        self.ask_actor(&actor, ask).await
    }

    /// The same of an actor that is at hand. The question is in its mailbox when this returns, unless that is full.
    ///
    /// # Errors
    /// [`AskError::NotRunning`] when the actor is gone, [`AskError::Refused`] when its state does
    /// not allow it, [`AskError::Append`] when the answer could not be made durable or did not come in time.
    pub fn ask_actor(
        &self,
        actor: &Addr<WebhookActor>,
        ask: Ask,
    ) -> impl Future<Output = Result<Option<JobId>, AskError>> + use<> {
        let asked = clock::timeout(self.handles.answer_timeout, actor.send(ask));
        async {
            let answer = asked.await.map_err(|_| AppendError::OutcomeUnknown)?;
            Ok(answer.map_err(|_| AskError::NotRunning)??)
        }
    }

    /// Starts the actor of a webhook, soon and on a thread that delivers.
    pub fn start_soon(self: &Arc<Self>, webhook: WebhookId) {
        let actors = self.clone();
        // without a thread the server is stopping, and the webhook starts with the next one
        let Some(thread) = self.thread() else { return };
        thread.spawn_fn(move || actors.start(webhook));
    }

    /// Ends the actor of a webhook that was deleted and forgets what people could read of its deliveries, soon.
    pub fn forget_soon(self: &Arc<Self>, webhook: WebhookId) {
        let actors = self.clone();
        let Some(thread) = self.thread() else { return };
        thread.spawn(async move {
            actors.discard(&webhook).await;
            actors.handles.handshakes.forget(&webhook);
            let (handles, id) = (actors.handles.clone(), webhook.clone());
            let cleared = compute::blocking(move || handles.delivery_log.clear(&id));
            if let Err(e) = cleared.await {
                log::error!(webhook = &*webhook; "the delivery log of a webhook that was deleted stays: {e}");
            }
        });
    }

    /// Starts an actor without an answer. A panic of ours over it must not leave the webhook without one for good.
    fn start(self: &Arc<Self>, webhook: WebhookId) {
        if catch_unwind(AssertUnwindSafe(|| self.get(&webhook))).is_err() {
            log::error!(webhook = &*webhook; "the start of a webhook's actor panicked and is tried again");
            self.start_later(webhook);
        }
    }

    fn start_later(self: &Arc<Self>, webhook: WebhookId) {
        let actors = self.clone();
        let Some(thread) = self.thread() else { return };
        thread.spawn(async move {
            clock::sleep(RESTART).await;
            actors.start(webhook);
        });
    }

    fn ended(self: Arc<Self>, guard: &ActorGuard) {
        let was_running = {
            let mut running = self.running.lock();
            let is_this = running.get(&guard.webhook).is_some_and(|running| running.life == guard.number);
            is_this && running.remove(&guard.webhook).is_some()
        };
        // one that was discarded was taken out before
        if was_running && !self.is_stopping.load(Ordering::Acquire) {
            if guard.ends_in_order {
                // it was to end with the server, which goes on after all
                return self.start_soon(guard.webhook.clone());
            }
            log::error!(webhook = &*guard.webhook; "the actor of a webhook died and is started again");
            self.start_later(guard.webhook.clone());
        }
    }

    /// Ends the actor of a webhook that is about to be deleted and is not in the catalog any more; returns when none of its
    /// writes is under way.
    pub async fn discard(&self, webhook: &str) {
        let running = {
            // one that is being started has an address after that
            let _nobody_starts = self.starting.lock();
            self.running.lock().remove(webhook)
        };
        if let Some(addr) = running.and_then(|running| running.addr) {
            // an actor that has died writes nothing either
            let _ = addr.send(Discard).await;
        }
    }

    /// Ends the actors of a slot that is not owned any more: at once, or in order, when attempts in flight have ended and
    /// everything is durable.
    pub async fn end_slot(&self, slot: u8, in_order: bool) {
        let running: Vec<_> = {
            let _nobody_starts = self.starting.lock();
            let mut running = self.running.lock();
            let of_slot: Vec<_> = running.keys().filter(|webhook| slot_of(webhook) == slot).cloned().collect();
            of_slot.iter().filter_map(|webhook| running.remove(webhook)?.addr).collect()
        };
        // an actor that has died has nothing in flight
        match in_order {
            true => drop(futures_util::future::join_all(running.iter().map(|addr| addr.send(Shutdown))).await),
            false => drop(futures_util::future::join_all(running.iter().map(|addr| addr.send(Discard))).await),
        }
    }

    /// Starts the actors of these webhooks, as far as they are in this slot, soon.
    pub fn start_slot<'a>(self: &Arc<Self>, slot: u8, webhooks: impl Iterator<Item = &'a WebhookId>) {
        webhooks.filter(|webhook| slot_of(webhook) == slot).for_each(|webhook| self.start_soon(webhook.clone()));
    }

    /// Ends all actors: no new attempts, and returns when those in flight have ended and everything is durable.
    pub async fn stop(&self) {
        let running: Vec<_> = {
            // whoever is being started is among those that run
            let _nobody_starts = self.starting.lock();
            self.is_stopping.store(true, Ordering::Release);
            self.running.lock().values().filter_map(|running| running.addr.clone()).collect()
        };
        let told = running.iter().map(|addr| addr.send(Shutdown));
        // an actor that has died has nothing in flight
        futures_util::future::join_all(told).await;
        for thread in &self.threads {
            // its connections have to go before its runtime does
            thread.spawn_fn(|| CLIENT.with(|client| drop(client.borrow_mut().take())));
        }
    }

    /// Starts the actors of these webhooks after [`WebhookActors::stop`], which may have been given up. One that is still about to
    /// end is started again when it has.
    pub fn resume(self: &Arc<Self>, webhooks: impl Iterator<Item = WebhookId>) {
        {
            let _nobody_starts = self.starting.lock();
            self.is_stopping.store(false, Ordering::Release);
        }
        webhooks.for_each(|webhook| self.start_soon(webhook));
    }

    /// Ends a thread with all that runs on it.
    #[cfg(test)]
    pub(super) fn stop_thread(&self, thread: usize) {
        self.threads[thread].stop();
    }
}
