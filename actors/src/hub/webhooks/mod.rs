//! Webhooks: create, change, rotate, delete. What became of their deliveries is in `deliveries`.

mod deliveries;
mod document;
mod event_outcome;
mod pending;
mod preview;

use std::sync::Arc;

pub use deliveries::{Page, ReplayAnswer, ReplayAsk, TestOutcome};
pub use document::{Entry, InvalidEntry};
pub use event_outcome::{EventOutcome, EventStatus};
pub use preview::{Preview, PreviewAsk};

use super::Hub;
pub use crate::catalog::webhook::ApiFamily;
pub use crate::catalog::webhook::Webhook;
use crate::catalog::webhook::{self, Ready};
use crate::catalog::webhook_validate;
pub use crate::catalog::webhook_validate::{InvalidField, SecretChoice, WebhookSpec};
use crate::clock;
use crate::delivery::actor::{Ask, Discard, Observe, Seen};
pub use crate::delivery::history::{AttemptRecord, Delivery, DeliveryStatus};
pub use crate::delivery::http::headers::Headers;
use crate::delivery::http::target::Refusal as TargetRefusal;
pub use crate::delivery::outcome::Timings;
use crate::delivery::supervisor::Launch;
use crate::delivery::{actor::WebhookActor, storage};
use crate::model::channel::{self, Channel, ChannelKind};
use crate::model::delivery::EndpointState;
pub use crate::model::delivery::{
    Batch, DeliveryId, Health, Job, JobId, JobState, OffReason, PolicyChange, RateLimit, Refusal, Resume, RetryPolicy,
    RetryPolicyForm, Trigger,
};
pub use crate::model::format::Format;
use crate::model::signature::{Keys, Secret};
use crate::store::{Change, StoreError, Table};

/// The longest that an old secret may sign beside a new one, in seconds.
pub const GRACE_MAX_S: u64 = 604_800;

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("the webhook cannot be taken as it is")]
    Invalid(Vec<InvalidField>),
    #[error("another webhook of this channel has this url; change that one, or choose another url")]
    Duplicate,
    #[error("there are as many webhooks as {setting} allows: {most}")]
    TooMany { setting: &'static str, most: usize },
    #[error("entries of the document cannot be taken as they are")]
    InvalidEntries(Vec<InvalidEntry>),
    #[error("the webhook does not exist")]
    NotFound,
    #[error("the delivery is not known; it may have left the delivery log")]
    DeliveryNotFound,
    #[error("the replay is not known")]
    ReplayNotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the webhook's deliveries are not running; change the webhook, or see the server's log")]
    Unavailable,
}

/// How a webhook does.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub health: Health,
    /// Why it is switched off, if it is.
    pub reason: Option<OffReason>,
    /// Since when the health is what it is, in Unix milliseconds.
    pub since_ms: u64,
    pub consecutive_failures: u32,
    pub last_delivery_ms: Option<u64>,
    /// `http_status 500`, `timeout`.
    pub last_error: Option<String>,
    pub last_error_ms: Option<u64>,
}

impl Status {
    fn of(state: &EndpointState, health: Health) -> Status {
        let last_error = state.last_failure.map(|failure| match failure.status {
            Some(status) => format!("{} {status}", failure.code),
            None => failure.code.to_string(),
        });
        Status {
            health,
            reason: state.off.map(|off| off.reason),
            since_ms: state.health_since_ms,
            consecutive_failures: state.consecutive_failures,
            last_delivery_ms: state.last_delivery_ms,
            last_error,
            last_error_ms: state.last_failure.map(|failure| failure.at_ms),
        }
    }
}

/// What a new webhook signs with: what was asked for, else what its interface does.
fn secret_choice(family: ApiFamily, spec: &WebhookSpec) -> SecretChoice {
    let by_default = match family {
        ApiFamily::Maps | ApiFamily::Feed => SecretChoice::Made,
        // a delivery of this format that is not signed is none
        ApiFamily::Organizations if spec.format == Some(Format::Standard) => SecretChoice::Made,
        ApiFamily::Organizations => SecretChoice::Absent,
    };
    spec.secret.clone().unwrap_or(by_default)
}

impl Hub {
    /// Makes a webhook that gets the events from now on. A secret that we made is returned once; secrets are stored
    /// sealed.
    pub async fn create_webhook(
        &self,
        channel: &Channel,
        family: ApiFamily,
        spec: WebhookSpec,
    ) -> Result<(Arc<Webhook>, Option<Secret>), WebhookError> {
        let _one_at_a_time = self.changes.lock().await;
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        let webhook_registry = &self.engine.webhook_registry;
        let id = channel::uuid_from(clock::random());
        let now_ms = clock::now_ms();
        let choice = secret_choice(family, &spec);
        let made = matches!(choice, SecretChoice::Made);
        let secret = choice.take();
        let mut webhook = Webhook::new(id.into(), &channel, family, &webhook_registry.config.schedule, now_ms);
        webhook.secrets = secret.clone().map(|secret| self.seal(&webhook.id, secret));
        self.check(spec, &mut webhook, &channel, true).await?;
        self.find_room(&channel)?;
        let webhook = Arc::new(webhook);
        let stored = webhook.clone();
        self.blocking(move |engine| {
            let endpoint = EndpointState::new(engine.log.head(), now_ms.max(0) as u64);
            engine.state.write(&storage::create(&stored, &endpoint)?)
        })
        .await?;
        webhook_registry.put(webhook.clone());
        self.launch(&webhook).await;
        Ok((webhook, secret.filter(|_| made)))
    }

    /// The webhooks of a channel, the oldest first.
    pub fn list_webhooks(&self, channel: &Channel) -> Vec<Arc<Webhook>> {
        self.engine.webhook_registry.list(channel.no())
    }

    /// A webhook of this channel; that of another one does not exist.
    pub fn webhook(&self, channel: &Channel, id: &str) -> Result<Arc<Webhook>, WebhookError> {
        let webhook = self.engine.webhook_registry.get(id).filter(|webhook| webhook.channel == channel.no);
        webhook.ok_or(WebhookError::NotFound)
    }

    /// A webhook of whatever channel, with the channel.
    pub fn find_webhook(&self, id: &str) -> Result<(Arc<Channel>, Arc<Webhook>), WebhookError> {
        let webhook = self.engine.webhook_registry.get(id).ok_or(WebhookError::NotFound)?;
        let channel = self.channel(webhook.channel_no()).ok_or(WebhookError::NotFound)?;
        Ok((channel, webhook))
    }

    /// Changes what the spec names. `active: true` also switches on what the server has switched off, and `resume` says
    /// what is to become of the events that waited.
    pub async fn change_webhook(
        &self,
        channel: &Channel,
        id: &str,
        spec: WebhookSpec,
        resume: Option<Resume>,
    ) -> Result<Arc<Webhook>, WebhookError> {
        let _one_at_a_time = self.changes.lock().await;
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        let old = self.webhook(&channel, id)?;
        let enable = spec.active == Some(true) || resume.is_some();
        let mut webhook = Webhook::clone(&old);
        webhook.updated_ms = clock::now_ms();
        if let Some(choice) = &spec.secret {
            webhook.secrets = choice.clone().take().map(|secret| self.seal(&webhook.id, secret));
        }
        self.check(spec, &mut webhook, &channel, false).await?;
        let enable = enable && webhook.is_on(&channel);
        let new_target = webhook.url != old.url;
        let webhook = self.store_webhook(webhook).await?;
        // what cannot run is kept as it is asked for all the same, and shown as what it is
        let Ok(ready) = self.ready(&webhook, channel) else { return Ok(webhook) };
        let ask = match enable {
            true => Ask::Enable { ready, resume: resume.unwrap_or_default(), head: self.engine.log.head() },
            false => Ask::Configure { ready, new_target },
        };
        self.ask(&webhook, ask).await?;
        Ok(webhook)
    }

    /// Deletes a webhook with its deliveries. Attempts in flight end unnoticed.
    pub async fn delete_webhook(&self, channel: &Channel, id: &str) -> Result<(), WebhookError> {
        let _one_at_a_time = self.changes.lock().await;
        let webhook = self.webhook(channel, id)?;
        self.end_webhook(&webhook.id).await;
        let id = webhook.id.clone();
        let deleted = self.blocking(move |engine| engine.state.write(&storage::delete(&engine.state, &id)?)).await;
        if let Err(e) = deleted {
            // it is there still
            self.engine.webhook_registry.put(webhook.clone());
            self.launch(&webhook).await;
            return Err(e.into());
        }
        Ok(())
    }

    /// Gives a webhook a new secret, `given` or one that we make, and returns it once. The old one signs as well for
    /// `grace_seconds`.
    pub async fn rotate_secret(
        &self,
        channel: &Channel,
        id: &str,
        grace_seconds: u64,
        given: Option<Secret>,
    ) -> Result<Secret, WebhookError> {
        if grace_seconds > GRACE_MAX_S {
            let message = format!("must be a number from 0 to {GRACE_MAX_S}");
            return Err(WebhookError::Invalid(vec![InvalidField { field: "grace_seconds".into(), message }]));
        }
        let _one_at_a_time = self.changes.lock().await;
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        let mut webhook = Webhook::clone(&*self.webhook(&channel, id)?);
        let key = &self.engine.webhook_registry.key;
        let secret = given.unwrap_or_else(|| Secret::from_random(clock::random()));
        let now_ms = clock::now_ms();
        let old = webhook.secrets.as_ref().map(|sealed| webhook::open_keys(key, &webhook.id, sealed));
        let keys = match old {
            Some(Ok(mut keys)) => {
                keys.rotate(secret.clone(), now_ms + grace_seconds as i64 * 1_000);
                keys.expire(now_ms);
                keys
            }
            // with another key of the data folder there is no old secret any more
            Some(Err(_)) | None => Keys::new(secret.clone()),
        };
        webhook.secrets = Some(webhook::seal_keys(key, &webhook.id, &keys));
        webhook.updated_ms = now_ms;
        if let Some(bad) = self.unfit_secret(&webhook) {
            return Err(WebhookError::Invalid(vec![bad]));
        }
        let webhook = self.store_webhook(webhook).await?;
        let ready = self.ready(&webhook, channel)?;
        self.ask(&webhook, Ask::Configure { ready, new_target: false }).await?;
        Ok(secret)
    }

    /// The switch over the webhooks of a map.
    pub async fn toggle_webhooks(&self, channel: &Channel, enabled: bool) -> Result<Arc<Channel>, WebhookError> {
        let _one_at_a_time = self.changes.lock().await;
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        if channel.webhooks_enabled == enabled {
            return Ok(channel);
        }
        let mut changed = Channel::clone(&channel);
        changed.webhooks_enabled = enabled;
        changed.updated_ms = clock::now_ms();
        let changed = self
            .blocking(move |engine| {
                engine.state.write(&[Change::put(Table::Channels, changed.no.to_be_bytes(), &changed)?])?;
                Ok(changed)
            })
            .await?;
        let channel = self.engine.directory.put(changed);
        self.refresh_webhooks(&channel).await;
        Ok(channel)
    }

    /// How a webhook does.
    pub async fn webhook_status(&self, channel: &Channel, id: &str) -> Result<Status, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let seen = self.observe(&webhook, false).await?;
        Ok(Status::of(&seen.state, seen.observed.health))
    }

    // ---- what the verbs share ------------------------------------------------------------------------------------

    /// Puts the spec into the webhook, or says what is wrong with it. `fresh`: it is being made.
    async fn check(
        &self,
        spec: WebhookSpec,
        webhook: &mut Webhook,
        channel: &Channel,
        fresh: bool,
    ) -> Result<(), WebhookError> {
        let bad = self.judge(spec, webhook, channel, fresh).await;
        if !bad.is_empty() {
            return Err(WebhookError::Invalid(bad));
        }
        // an organization may send one session here and another one there, to the same address
        let same = |other: &Arc<Webhook>| {
            other.family == ApiFamily::Maps && other.id != webhook.id && other.url == webhook.url
        };
        let twice =
            webhook.family == ApiFamily::Maps && self.engine.webhook_registry.list(channel.no()).iter().any(same);
        if twice { Err(WebhookError::Duplicate) } else { Ok(()) }
    }

    /// Puts the spec into the webhook, with the form of the URL that is stored, and answers everything that is wrong.
    async fn judge(
        &self,
        spec: WebhookSpec,
        webhook: &mut Webhook,
        channel: &Channel,
        fresh: bool,
    ) -> Vec<InvalidField> {
        let webhook_registry = &self.engine.webhook_registry;
        let basis = webhook_validate::Basis {
            channel,
            policy: &webhook_registry.target_check.policy,
            schedule: &webhook_registry.config.schedule,
            fresh,
        };
        let mut bad = webhook_validate::apply(spec, webhook, basis);
        bad.extend(self.unfit_secret(webhook));
        if bad.is_empty()
            && let Ok(target) = webhook_registry.target_check.judge_url(&webhook.url)
        {
            let admitted = tokio::time::timeout(
                webhook_registry.config.connect_timeout,
                webhook_registry.target_check.admit(&target),
            )
            .await;
            // a name that nobody knows yet may be known when the first event is delivered
            if let Ok(Err(refusal @ TargetRefusal::Forbidden { .. })) = admitted {
                bad.push(InvalidField { field: "url".into(), message: refusal.to_string() });
            }
            webhook.url = target.url;
        }
        bad
    }

    /// The format `standard` has no other signature than one that takes a certain kind of key.
    fn unfit_secret(&self, webhook: &Webhook) -> Option<InvalidField> {
        let sealed = webhook.secrets.as_ref().filter(|_| webhook.format == Format::Standard)?;
        let keys = webhook::open_keys(&self.engine.webhook_registry.key, &webhook.id, sealed).ok()?;
        let message = "the format standard signs with base64 of 24 to 64 bytes behind whsec_; have a secret made, or \
            choose such a one";
        (!keys.current.signs_standard()).then(|| InvalidField { field: "secret".into(), message: message.into() })
    }

    fn seal(&self, webhook: &str, secret: Secret) -> webhook::SealedKeys {
        webhook::seal_keys(&self.engine.webhook_registry.key, webhook, &Keys::new(secret))
    }

    /// Whether the channel may have one more webhook beside those of its document.
    fn find_room(&self, channel: &Channel) -> Result<(), WebhookError> {
        let config = &self.engine.webhook_registry.config;
        let (setting, most) = match channel.kind {
            ChannelKind::Map => ("limits.webhooks_per_map", config.per_map),
            ChannelKind::Organization => ("limits.webhooks_per_organization", config.per_organization),
        };
        let own = self
            .engine
            .webhook_registry
            .list(channel.no())
            .iter()
            .filter(|webhook| webhook.family != ApiFamily::Feed)
            .count();
        if own < most { Ok(()) } else { Err(WebhookError::TooMany { setting, most }) }
    }

    async fn store_webhook(&self, webhook: Webhook) -> Result<Arc<Webhook>, WebhookError> {
        let webhook = Arc::new(webhook);
        let stored = webhook.clone();
        self.blocking(move |engine| engine.state.write(&[Change::put(Table::Webhooks, &*stored.id, &*stored)?]))
            .await?;
        self.engine.webhook_registry.put(webhook.clone());
        Ok(webhook)
    }

    fn ready(&self, webhook: &Arc<Webhook>, channel: Arc<Channel>) -> Result<Arc<Ready>, WebhookError> {
        let webhook_registry = &self.engine.webhook_registry;
        let ready = Ready::of(webhook.clone(), channel, &webhook_registry.key, &webhook_registry.target_check.policy);
        ready.map(Arc::new).map_err(|e| {
            log::error!(webhook = &*webhook.id; "a webhook cannot deliver until it is changed: {e}");
            WebhookError::Unavailable
        })
    }

    async fn launch(&self, webhook: &Arc<Webhook>) {
        // without a supervisor the server is stopping, and the webhook starts with the next one
        let _ = self.supervisor.send(Launch { webhook: webhook.clone() }).await;
    }

    async fn actor(&self, webhook: &Arc<Webhook>) -> Result<actix::Addr<WebhookActor>, WebhookError> {
        if let Some(actor) = self.engine.webhook_registry.actor(&webhook.id) {
            return Ok(actor);
        }
        self.launch(webhook).await;
        self.engine.webhook_registry.actor(&webhook.id).ok_or(WebhookError::Unavailable)
    }

    async fn ask(&self, webhook: &Arc<Webhook>, ask: Ask) -> Result<Option<JobId>, WebhookError> {
        let answer = self.actor(webhook).await?.send(ask).await.map_err(|_| WebhookError::Unavailable)?;
        Ok(answer?)
    }

    async fn observe(&self, webhook: &Arc<Webhook>, rows: bool) -> Result<Seen, WebhookError> {
        let seen = self.actor(webhook).await?.send(Observe { rows }).await;
        seen.ok().flatten().ok_or(WebhookError::Unavailable)
    }

    /// Ends the actor of a webhook that is about to be deleted.
    pub(super) async fn end_webhook(&self, id: &str) {
        if let Some(actor) = self.engine.webhook_registry.remove(id) {
            // an actor that has died writes nothing either
            let _ = actor.send(Discard).await;
        }
    }

    /// Tells the webhooks of a channel that the channel has changed.
    pub(super) async fn refresh_webhooks(&self, channel: &Arc<Channel>) {
        for webhook in self.engine.webhook_registry.list(channel.no()) {
            let Ok(ready) = self.ready(&webhook, channel.clone()) else { continue };
            if let Err(e) = self.ask(&webhook, Ask::Configure { ready, new_target: false }).await {
                log::error!(webhook = &*webhook.id; "a webhook was not told of a change: {e}");
            }
        }
    }
}
