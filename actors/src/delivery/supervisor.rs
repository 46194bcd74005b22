//! The supervisor of the webhook actors: starts one for each webhook on the threads that deliver, starts it again when it
//! died, and ends them all in order.
//!
//! It keeps no state of deliveries: what an actor needs is on disk. Its mailbox is actix's default; a message comes per
//! webhook that is made or dies, not per event.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, Supervised};
use actix_rt::ArbiterHandle;

use crate::catalog::webhook::Ready;
use crate::delivery::actor::{Discard, Shutdown, WebhookActor};
use crate::delivery::http::client::DeliveryClient;
use crate::engine::Engine;
use crate::model::record_id::WebhookId;
use crate::store::{StoreError, Table};

/// An actor that died is started again after this.
const RESTART: Duration = Duration::from_secs(1);

/// Start the actor of a webhook. Sent when one is made, and for all when the server starts.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Launch {
    pub webhook: WebhookId,
}

/// A webhook was deleted: end its actor, and forget what people could read of its deliveries.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Remove {
    pub webhook: WebhookId,
}

/// An actor has ended, in order or by a panic. Sent by its destructor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ended {
    pub webhook: WebhookId,
    pub addr: Addr<WebhookActor>,
}

/// End all actors: no new attempts, and wait for those in flight.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopAll;

thread_local! {
    /// The client of this thread, made by its first webhook.
    static CLIENT: RefCell<Option<Rc<DeliveryClient>>> = const { RefCell::new(None) };
}

fn client(engine: &Engine) -> Rc<DeliveryClient> {
    let new = || {
        Rc::new(DeliveryClient::new(engine.webhook_registry.target_check.clone(), engine.webhook_registry.tls.clone()))
    };
    CLIENT.with(|client| client.borrow_mut().get_or_insert_with(new).clone())
}

pub struct Supervisor {
    engine: Arc<Engine>,
    threads: Vec<ArbiterHandle>,
    next: usize,
    stopping: bool,
}

impl Supervisor {
    /// `threads`: those that deliver, at least one.
    pub fn new(engine: Arc<Engine>, threads: Vec<ArbiterHandle>) -> Supervisor {
        Supervisor { engine, threads, next: 0, stopping: false }
    }

    fn launch(&mut self, id: WebhookId, ctx: &mut Context<Self>) {
        let (webhook_registry, catalog) = (&self.engine.webhook_registry, &self.engine.catalog);
        if self.stopping || webhook_registry.actor(&id).is_some() {
            return;
        }
        // as it is now: it may have been changed since the message was sent, or deleted
        let Some(webhook) = catalog.webhook(&id) else { return };
        let Some(channel) = catalog.channel(webhook.channel_no()) else { return };
        let ready = match Ready::of(webhook, channel, &webhook_registry.key, &webhook_registry.target_check.policy) {
            Ok(ready) => Arc::new(ready),
            Err(e) => return log::error!(webhook = &*id; "a webhook cannot deliver until it is changed: {e}"),
        };
        self.next = (self.next + 1) % self.threads.len();
        let (engine, supervisor) = (self.engine.clone(), ctx.address());
        let addr = WebhookActor::start_in_arbiter(&self.threads[self.next], move |_| {
            let client = client(&engine);
            WebhookActor::new(engine, ready, supervisor, client)
        });
        webhook_registry.opened(id, addr);
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Supervised for Supervisor {}

impl Handler<Launch> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: Launch, ctx: &mut Self::Context) {
        self.launch(msg.webhook, ctx);
    }
}

impl Handler<Remove> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, msg: Remove, _: &mut Self::Context) -> Self::Result {
        let (actor, engine) = (self.engine.webhook_registry.take(&msg.webhook), self.engine.clone());
        Box::pin(async move {
            if let Some(actor) = actor {
                // an actor that has died writes nothing either
                let _ = actor.send(Discard).await;
            }
            let id = msg.webhook.clone();
            let forget = move || engine.state.write(&engine.state.clear(Table::Deliveries, id.as_bytes())?);
            let forgotten = actix_rt::task::spawn_blocking(forget).await;
            if let Err(e) = forgotten.unwrap_or_else(|e| Err(StoreError::Panicked(e.to_string()))) {
                log::error!(webhook = &*msg.webhook; "the delivery log of a deleted webhook could not be deleted: {e}");
            }
        })
    }
}

impl Handler<Ended> for Supervisor {
    type Result = ();

    fn handle(&mut self, msg: Ended, ctx: &mut Self::Context) {
        if !self.engine.webhook_registry.closed(&msg.webhook, &msg.addr) || self.stopping {
            return;
        }
        log::error!(webhook = &*msg.webhook; "the actor of a webhook died and is started again");
        ctx.run_later(RESTART, move |supervisor, ctx| {
            // one that was deleted meanwhile is not started
            supervisor.launch(msg.webhook, ctx);
        });
    }
}

impl Handler<StopAll> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopAll, _: &mut Self::Context) -> Self::Result {
        self.stopping = true;
        let told: Vec<_> = self.engine.webhook_registry.actors().iter().map(|actor| actor.send(Shutdown)).collect();
        let threads = self.threads.clone();
        Box::pin(async move {
            // an actor that has died has nothing in flight
            futures_util::future::join_all(told).await;
            for thread in threads {
                // its connections have to go before its runtime does
                thread.spawn_fn(|| CLIENT.with(|client| drop(client.borrow_mut().take())));
            }
        })
    }
}
