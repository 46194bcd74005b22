//! How the actors of webhooks learn how they are configured.
//!
//! An actor is told by whoever comes first: the verb that has changed something, which then knows that the actor knows, or
//! the event of the catalog, which comes also when the verb was cut off or the change was made elsewhere. Both tell what is
//! configured by then, and one actor is never told an older record after a newer one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use actix::Addr;
use actix_rt::ArbiterHandle;
use parking_lot::Mutex;

use super::WebhookError;
use crate::catalog::Catalog;
use crate::catalog::webhook::{Ready, Webhook};
use crate::delivery::actor::{Ask, WebhookActor};
use crate::delivery::registry::WebhookActors;
use crate::log::Log;
use crate::model::channel::Channel;
use crate::model::delivery::Resume;
use crate::model::event::ChannelNo;
use crate::model::record_id::WebhookId;

/// How often a webhook is looked at again because it changed while it was made ready. Whoever changed it tells as well.
const LOOKS_MAX: usize = 16;

pub(in crate::hub) struct Updates {
    catalog: Arc<Catalog>,
    log: Arc<Log>,
    actors: Arc<WebhookActors>,
    /// Where actors are told without anybody waiting for it.
    arbiter: ArbiterHandle,
    known: Mutex<Known>,
}

/// What is known of the actors.
#[derive(Default)]
struct Known {
    told: HashMap<WebhookId, Told>,
    /// Verbs that are about to tell an actor more than the record, see [`Updates::hold`]; also of a webhook that is only
    /// being made.
    holds: HashMap<WebhookId, usize>,
}

impl Known {
    /// Whether nobody has to tell the actor of this record now.
    fn needs_nothing(&self, webhook: &Arc<Webhook>, channel: &Arc<Channel>) -> bool {
        self.holds.contains_key(&webhook.id) || self.told.get(&webhook.id).is_none_or(|told| told.is(webhook, channel))
    }
}

/// What the actor of a webhook was told last.
struct Told {
    webhook: Arc<Webhook>,
    channel: Arc<Channel>,
}

impl Told {
    fn is(&self, webhook: &Arc<Webhook>, channel: &Arc<Channel>) -> bool {
        Arc::ptr_eq(&self.webhook, webhook) && Arc::ptr_eq(&self.channel, channel)
    }
}

/// Keeps the actor of a webhook from being told of a change by anybody but who holds this.
pub(in crate::hub) struct Hold {
    updates: Arc<Updates>,
    webhook: WebhookId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Entry::Occupied(mut holds) = self.updates.known.lock().holds.entry(self.webhook.clone()) {
            *holds.get_mut() -= 1;
            if *holds.get() == 0 {
                holds.remove();
            }
        }
        // what came meanwhile, also where its owner was cut off before it told anything
        self.updates.configure_soon(self.webhook.clone());
    }
}

impl Updates {
    /// To be made before the actors are started.
    pub fn new(
        catalog: Arc<Catalog>,
        log: Arc<Log>,
        actors: Arc<WebhookActors>,
        arbiter: ArbiterHandle,
    ) -> Arc<Updates> {
        let updates = Updates { catalog, log, actors, arbiter, known: Mutex::default() };
        let webhooks = updates.catalog.webhooks(None);
        webhooks.iter().for_each(|webhook| updates.made(webhook));
        Arc::new(updates)
    }

    // ---- what has happened ---------------------------------------------------------------------------------------

    /// A webhook is there: starts its actor.
    pub fn made(&self, webhook: &Arc<Webhook>) {
        if let Some(channel) = self.catalog.channel(webhook.channel_no()) {
            let told = Told { webhook: webhook.clone(), channel };
            self.known.lock().told.insert(webhook.id.clone(), told);
        }
        self.actors.start_soon(webhook.id.clone());
    }

    /// A webhook is gone: ends its actor.
    pub fn removed(&self, webhook: &Webhook) {
        self.known.lock().told.remove(&webhook.id);
        self.actors.forget_soon(webhook.id.clone());
    }

    /// Tells the actor of a webhook how it is configured, soon.
    pub fn configure_soon(self: &Arc<Self>, webhook: WebhookId) {
        let updates = self.clone();
        // when the thread is gone the server is stopping
        self.arbiter.spawn(async move { updates.configure(&webhook).await });
    }

    /// Tells the actors of all webhooks of a channel how they are configured, soon.
    pub fn configure_all_soon(self: &Arc<Self>, no: ChannelNo) {
        let updates = self.clone();
        self.arbiter.spawn(async move { updates.configure_all(no).await });
    }

    // ---- for verbs -----------------------------------------------------------------------------------------------

    /// The actor of a webhook, started where it is missing. None: it cannot deliver as it is, or the server is stopping.
    pub fn actor(&self, webhook: &WebhookId) -> Option<Addr<WebhookActor>> {
        self.actors.get(webhook)
    }

    /// Keeps the actor from hearing of changes until the hold is dropped: for a verb that switches on and has to say with
    /// it what is to become of the events that have waited.
    pub fn hold(self: &Arc<Self>, webhook: &WebhookId) -> Hold {
        *self.known.lock().holds.entry(webhook.clone()).or_default() += 1;
        Hold { updates: self.clone(), webhook: webhook.clone() }
    }

    /// Makes a webhook ready to deliver as it is configured. None: it cannot deliver, and the log says why.
    pub fn ready(&self, webhook: Arc<Webhook>, channel: Arc<Channel>) -> Option<Arc<Ready>> {
        self.actors.handles.ready(webhook, channel)
    }

    /// Tells the actor of a webhook how it is configured, unless it knows. When this returns, whatever the actor is asked
    /// next is done as it is configured now.
    pub async fn configure(&self, webhook: &WebhookId) {
        let Some(actor) = self.actor(webhook) else { return };
        for _ in 0..LOOKS_MAX {
            let Some((record, channel)) = self.current(webhook) else { return };
            if self.known.lock().needs_nothing(&record, &channel) {
                return;
            }
            let Some(ready) = self.ready(record.clone(), channel.clone()) else { return };
            let mut known = self.known.lock();
            if known.needs_nothing(&record, &channel) {
                return;
            }
            let Some(told) = known.told.get_mut(webhook) else { return };
            if self.is_current(&record, &channel) {
                let new_target = told.webhook.url != record.url;
                (told.webhook, told.channel) = (record, channel);
                // an actor that has died begins with what is configured
                return actor.do_send(Ask::Configure { ready, new_target });
            }
        }
    }

    /// The same for all webhooks of a channel.
    pub async fn configure_all(&self, no: ChannelNo) {
        for webhook in self.catalog.webhooks(Some(no)) {
            self.configure(&webhook.id).await;
        }
    }

    /// Switches on what its owner or the server has switched off; durable when it returns. False: it cannot deliver as it
    /// is configured. To be called with a [`Hold`] of the webhook.
    ///
    /// # Errors
    /// Its actor does not run, or refuses.
    pub async fn enable(&self, webhook: &WebhookId, resume: Resume) -> Result<bool, WebhookError> {
        for _ in 0..LOOKS_MAX {
            let (record, channel) = self.current(webhook).ok_or(WebhookError::NotFound)?;
            let Some(ready) = self.ready(record.clone(), channel.clone()) else { return Ok(false) };
            let actor = self.actor(webhook).ok_or(WebhookError::Unavailable)?;
            let head = self.log.head();
            let asked = {
                let mut known = self.known.lock();
                if !self.is_current(&record, &channel) {
                    continue;
                }
                if let Some(told) = known.told.get_mut(webhook) {
                    (told.webhook, told.channel) = (record.clone(), channel.clone());
                }
                self.actors.ask_actor(&actor, Ask::Enable { ready, resume, head })
            };
            let answer = asked.await;
            if let Some(told) = self.known.lock().told.get_mut(webhook).filter(|told| !told.is(&record, &channel)) {
                // what was told meanwhile may have overtaken this in a full mailbox, so it is told again
                (told.webhook, told.channel) = (record, channel);
            }
            answer?;
            return Ok(true);
        }
        Err(WebhookError::Unavailable)
    }

    fn current(&self, webhook: &WebhookId) -> Option<(Arc<Webhook>, Arc<Channel>)> {
        self.catalog.read(|tables| {
            let webhook = tables.webhook(webhook)?;
            Some((webhook.clone(), tables.channel(webhook.channel_no())?.clone()))
        })
    }

    fn is_current(&self, webhook: &Arc<Webhook>, channel: &Arc<Channel>) -> bool {
        let current = self.current(&webhook.id);
        current.is_some_and(|(record, of)| Arc::ptr_eq(&record, webhook) && Arc::ptr_eq(&of, channel))
    }
}
