//! Webhooks: create, change, rotate, delete. What became of their deliveries is in `deliveries`.

mod deliveries;
mod delivery_query;
mod document;
mod event_outcome;
mod pending;
mod preview;
mod rehearsal;
mod updates;

use std::sync::Arc;

pub use deliveries::{Page, ReplayAnswer, ReplayAsk, TestOutcome};
pub use delivery_query::{DeliveriesQuery, OutcomeCode, UnknownCode};
pub use document::{Entry, InvalidEntry};
pub use event_outcome::{EventOutcome, EventStatus};
pub use preview::{Preview, PreviewAsk};
pub use rehearsal::{EVENTS_MAX as REHEARSED_EVENTS_MAX, Rehearsal, RehearsalAsk, Sample};
pub(super) use updates::Updates;

use super::Hub;
use super::scan::ScanError;
use crate::catalog::reader::ReadError;
pub use crate::catalog::webhook::ApiFamily;
pub use crate::catalog::webhook::Webhook;
use crate::catalog::webhook::{self, Ready};
pub use crate::catalog::webhook_validate::{InvalidField, SecretChoice, WebhookSpec};
use crate::catalog::{SealedKeys, View, record, webhook_validate};
use crate::clock;
use crate::compute::{self, Ended, Tenant};
use crate::delivery::actor::{Ask, Observe, Seen, WebhookActor};
pub use crate::delivery::handshake::Standing as Handshake;
pub use crate::delivery::history::{AttemptRecord, Delivery, DeliveryStatus};
pub use crate::delivery::http::headers::Headers;
use crate::delivery::http::target::Refusal as TargetRefusal;
pub use crate::delivery::outcome::Timings;
use crate::delivery::registry::AskError;
use crate::delivery::{elsewhere, handshake};
use crate::documents::{Change, DocumentError, Table};
use crate::journal::{AppendError, Urgency};
use crate::model::channel::{self, Channel, ChannelKind};
pub use crate::model::delivery::{
    Batch, DeliveryId, Health, Job, JobId, JobState, OffReason, PolicyChange, RateLimit, Refusal, Resume, RetryPolicy,
    RetryPolicyForm, Trigger,
};
use crate::model::delivery::{EndpointState, Observed};
pub use crate::model::format::Format;
use crate::model::id::EventId;
use crate::model::signature::{Keys, Secret};

/// The longest that an old secret may sign beside a new one, in seconds.
pub const GRACE_MAX_S: u64 = 604_800;

/// How often a change is judged again because what it changes was changed by somebody else meanwhile.
const JUDGED_AGAIN_MAX: usize = 8;

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
    Append(#[from] AppendError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Store(#[from] ReadError),
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the webhook's deliveries are not running; change the webhook, or see the server's log")]
    Unavailable,
}

impl From<AskError> for WebhookError {
    fn from(e: AskError) -> WebhookError {
        match e {
            AskError::NotRunning => WebhookError::Unavailable,
            AskError::Refused(refusal) => refusal.into(),
            AskError::Append(e) => e.into(),
        }
    }
}

/// The health of a webhook, and why it is off or failing.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub health: Health,
    /// Why it is switched off, if it is.
    pub reason: Option<OffReason>,
    /// Since when the health is what it is, in Unix milliseconds.
    pub since_ms: u64,
    /// When something is attempted next of what has failed, if that is known.
    pub next_attempt_ms: Option<u64>,
    /// When the first attempt failed of those since which none has succeeded.
    pub failing_since_ms: Option<u64>,
    pub consecutive_failures: u32,
    pub last_delivery_ms: Option<u64>,
    /// `http_status 500`, `timeout`.
    pub last_error: Option<String>,
    pub last_error_ms: Option<u64>,
}

impl Status {
    fn of(state: &EndpointState, observed: &Observed) -> Status {
        let last_error = state.last_failure.map(|failure| match failure.status {
            Some(status) => format!("{} {status}", failure.code),
            None => failure.code.to_string(),
        });
        Status {
            health: observed.health,
            next_attempt_ms: observed.next_attempt_ms,
            reason: state.off.map(|off| off.reason),
            since_ms: state.health_since_ms,
            failing_since_ms: state.failing.map(|failing| failing.first_ms),
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

/// A map sends to one URL once. An organization may send one session here and another one there, to the same address.
fn check_twice(view: &View<'_>, webhook: &Webhook) -> Result<(), WebhookError> {
    let same =
        |other: &Arc<Webhook>| other.family == ApiFamily::Maps && other.id != webhook.id && other.url == webhook.url;
    let twice = webhook.family == ApiFamily::Maps && view.webhooks_of(webhook.channel_no()).iter().any(same);
    if twice { Err(WebhookError::Duplicate) } else { Ok(()) }
}

/// The changes that make a webhook of the channel which gets the events after the cursor.
fn make(webhook: &Webhook, channel: &Channel, cursor: EventId) -> Result<[Change; 2], DocumentError> {
    let now_ms = clock::now_ms().max(0) as u64;
    let endpoint = match webhook.is_on(channel) {
        true => EndpointState::new(cursor, now_ms),
        false => EndpointState::new_and_off(cursor, now_ms),
    };
    Ok([record::put_webhook(webhook)?, Change::put(Table::Endpoints, &webhook.id, &endpoint)?])
}

impl Hub {
    /// Makes a webhook that gets the events from now on. A secret that we made is returned once; secrets are stored
    /// sealed.
    ///
    /// # Errors
    /// What was asked for cannot be, the channel is gone or full, or the webhook could not be stored.
    pub async fn create_webhook(
        &self,
        channel: &Channel,
        family: ApiFamily,
        spec: WebhookSpec,
    ) -> Result<(Arc<Webhook>, Option<Secret>), WebhookError> {
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        let schedule = &self.rooms.limits.webhooks.schedule;
        let id = channel::uuid_from(clock::random());
        let now_ms = clock::now_ms();
        let choice = secret_choice(family, &spec);
        let made = matches!(choice, SecretChoice::Made);
        let secret = choice.take();
        let mut webhook = Webhook::new(id.into(), &channel, family, schedule, now_ms);
        webhook.secrets = secret.clone().map(|secret| self.seal(&webhook.id, secret));
        self.check(spec, &mut webhook, &channel, true).await?;
        let webhook = Arc::new(webhook);
        self.change::<_, WebhookError>(Urgency::Normal, |view| {
            let channel = view.channel(webhook.channel_no()).ok_or(WebhookError::NotFound)?;
            check_twice(view, &webhook)?;
            self.find_room(view, channel)?;
            Ok((make(&webhook, channel, self.rooms.log.head())?.into(), ()))
        })
        .await?;
        self.updates.configure(&webhook.id).await;
        Ok((webhook, secret.filter(|_| made)))
    }

    /// The webhooks of a channel, the oldest first.
    pub fn list_webhooks(&self, channel: &Channel) -> Vec<Arc<Webhook>> {
        self.rooms.catalog.webhooks(Some(channel.no()))
    }

    /// A webhook of this channel; that of another one does not exist.
    ///
    /// # Errors
    /// There is none.
    pub fn webhook(&self, channel: &Channel, id: &str) -> Result<Arc<Webhook>, WebhookError> {
        let webhook = self.rooms.catalog.webhook(id).filter(|webhook| webhook.channel == channel.no);
        webhook.ok_or(WebhookError::NotFound)
    }

    /// A webhook of whatever channel, with the channel.
    ///
    /// # Errors
    /// There is none.
    pub fn find_webhook(&self, id: &str) -> Result<(Arc<Channel>, Arc<Webhook>), WebhookError> {
        let found = self.rooms.catalog.read(|tables| {
            let webhook = tables.webhook(id)?;
            Some((tables.channel(webhook.channel_no())?.clone(), webhook.clone()))
        });
        found.ok_or(WebhookError::NotFound)
    }

    /// Changes what the spec names. `active: true` also switches on what the server has switched off, and `resume` says
    /// what is to become of the events that waited.
    ///
    /// # Errors
    /// What was asked for cannot be, the webhook is gone, or the change could not be stored.
    pub async fn change_webhook(
        &self,
        channel: &Channel,
        id: &str,
        spec: WebhookSpec,
        resume: Option<Resume>,
    ) -> Result<Arc<Webhook>, WebhookError> {
        let enable = spec.active == Some(true) || resume.is_some();
        for _ in 0..JUDGED_AGAIN_MAX {
            let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
            let old = self.webhook(&channel, id)?;
            let mut webhook = Webhook::clone(&old);
            webhook.updated_ms = clock::now_ms();
            if let Some(choice) = &spec.secret {
                webhook.secrets = choice.clone().take().map(|secret| self.seal(&webhook.id, secret));
            }
            self.check(spec.clone(), &mut webhook, &channel, false).await?;
            let webhook = Arc::new(webhook);
            let hold = enable.then(|| self.updates.hold(&webhook.id));
            let changed = self.change::<_, WebhookError>(Urgency::Normal, |view| {
                let current = view.webhook(id).ok_or(WebhookError::NotFound)?;
                if **current != *old {
                    return Ok((Vec::new(), false));
                }
                check_twice(view, &webhook)?;
                Ok((vec![record::put_webhook(&webhook)?], true))
            });
            if !changed.await? {
                continue;
            }
            let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
            if enable && webhook.is_on(&channel) {
                // what cannot run is kept as it is asked for all the same, and shown as what it is
                self.updates.enable(&webhook.id, resume.unwrap_or_default()).await?;
            } else {
                drop(hold);
                self.updates.configure(&webhook.id).await;
            }
            return Ok(webhook);
        }
        Err(AppendError::Conflict.into())
    }

    /// Deletes a webhook with its deliveries. Attempts in flight end unnoticed.
    ///
    /// # Errors
    /// The webhook is gone, or the deletion could not be stored: then it is there still.
    pub async fn delete_webhook(&self, channel: &Channel, id: &str) -> Result<(), WebhookError> {
        self.change(Urgency::Reserve, |view| {
            let webhook = view.webhook(id).filter(|webhook| webhook.channel == channel.no);
            let webhook = webhook.ok_or(WebhookError::NotFound)?;
            Ok((view.delete_webhook(&webhook.id), ()))
        })
        .await
    }

    /// Gives a webhook a new secret, `given` or one that we make, and returns it once. The old one signs as well for
    /// `grace_seconds`.
    ///
    /// # Errors
    /// The secret does not go with the webhook, which may be gone, or it could not be stored.
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
        let key = &self.rooms.delivery.seal_key;
        let secret = given.unwrap_or_else(|| Secret::from_random(clock::random()));
        let webhook = self
            .change::<_, WebhookError>(Urgency::Normal, |view| {
                let webhook = view.webhook(id).filter(|webhook| webhook.channel == channel.no);
                let mut webhook = Webhook::clone(webhook.ok_or(WebhookError::NotFound)?);
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
                Ok((vec![record::put_webhook(&webhook)?], Arc::new(webhook)))
            })
            .await?;
        let channel = self.channel(webhook.channel_no()).ok_or(WebhookError::NotFound)?;
        self.ready(&webhook, channel)?;
        self.updates.configure(&webhook.id).await;
        Ok(secret)
    }

    /// The switch over the webhooks of a map.
    ///
    /// # Errors
    /// The channel is gone, or the change could not be stored.
    pub async fn toggle_webhooks(&self, channel: &Channel, enabled: bool) -> Result<Arc<Channel>, WebhookError> {
        let channel = self
            .change::<_, WebhookError>(Urgency::Normal, |view| {
                let channel = view.channel(channel.no()).ok_or(WebhookError::NotFound)?;
                if channel.webhooks_enabled == enabled {
                    return Ok((Vec::new(), channel.clone()));
                }
                let mut changed = Channel::clone(channel);
                changed.webhooks_enabled = enabled;
                changed.updated_ms = clock::now_ms();
                Ok((vec![record::put_channel(&changed)?], Arc::new(changed)))
            })
            .await?;
        self.refresh_webhooks(&channel).await;
        Ok(channel)
    }

    /// How the receiver of a webhook has answered whether it wants CloudEvents; none where it is not asked.
    pub fn webhook_handshake(&self, webhook: &Webhook) -> Option<Handshake> {
        let delivery = &self.rooms.delivery;
        handshake::origin(&delivery.settings, webhook.format)?;
        Some(delivery.handshakes.standing(&webhook.id, &webhook.url))
    }

    /// The health of a webhook, and why it is off or failing.
    ///
    /// # Errors
    /// [`WebhookError::NotFound`], or [`WebhookError::Unavailable`] when the webhook's actor is not running.
    pub async fn webhook_status(&self, channel: &Channel, id: &str) -> Result<Status, WebhookError> {
        let webhook = self.webhook(channel, id)?;
        let seen = self.observe(&webhook, false).await?;
        Ok(Status::of(&seen.state, &seen.observed))
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
        if bad.is_empty() { Ok(()) } else { Err(WebhookError::Invalid(bad)) }
    }

    /// Puts the spec into the webhook, with the form of the URL that is stored, and answers everything that is wrong.
    async fn judge(
        &self,
        spec: WebhookSpec,
        webhook: &mut Webhook,
        channel: &Channel,
        fresh: bool,
    ) -> Vec<InvalidField> {
        let delivery = &self.rooms.delivery;
        let Ok(mut bad) = self.judge_fields(spec, webhook, channel, fresh).await else {
            let message = "cannot be checked while the server is stopping; try again".into();
            return vec![InvalidField { field: "filter".into(), message }];
        };
        bad.extend(self.unfit_secret(webhook));
        if bad.is_empty()
            && let Ok(target) = delivery.target_check.judge_url(&webhook.url)
        {
            let admitted =
                clock::timeout(delivery.settings.connect_timeout, delivery.target_check.admit(&target)).await;
            // a name that nobody knows yet may be known when the first event is delivered
            if let Ok(Err(refusal @ TargetRefusal::Forbidden { .. })) = admitted {
                bad.push(InvalidField { field: "url".into(), message: refusal.to_string() });
            }
            webhook.url = target.url;
        }
        bad
    }

    /// Everything that can be judged without asking others. Filters and templates are compiled and tried where that delays
    /// nobody else.
    async fn judge_fields(
        &self,
        spec: WebhookSpec,
        webhook: &mut Webhook,
        channel: &Channel,
        fresh: bool,
    ) -> Result<Vec<InvalidField>, Ended> {
        let tenant = Tenant::of_channel(channel.no());
        let (rooms, channel, mut judged) = (self.rooms.clone(), channel.clone(), webhook.clone());
        let judge = move || {
            let basis = webhook_validate::Basis {
                channel: &channel,
                policy: &rooms.delivery.target_check.policy,
                schedule: &rooms.limits.webhooks.schedule,
                fresh,
            };
            let found = webhook_validate::apply(spec, &mut judged, basis);
            (found, judged)
        };
        let (found, judged) = self.rooms.scan_threads.run(tenant, judge).await?;
        *webhook = judged;
        let webhook_validate::Judged { mut bad, trial } = found;
        if let Some(mut trial) = trial {
            // one sample a turn
            bad.extend(self.rooms.scan_threads.slices(tenant, move |_| trial.step()).await?);
        }
        Ok(bad)
    }

    /// The format `standard` has no other signature than one that takes a certain kind of key.
    fn unfit_secret(&self, webhook: &Webhook) -> Option<InvalidField> {
        let sealed = webhook.secrets.as_ref().filter(|_| webhook.format == Format::Standard)?;
        let keys = webhook::open_keys(&self.rooms.delivery.seal_key, &webhook.id, sealed).ok()?;
        let message = "the format standard signs with base64 of 24 to 64 bytes behind whsec_; have a secret made, or \
            choose such a one";
        (!keys.current.signs_standard()).then(|| InvalidField { field: "secret".into(), message: message.into() })
    }

    fn seal(&self, webhook: &str, secret: Secret) -> SealedKeys {
        webhook::seal_keys(&self.rooms.delivery.seal_key, webhook, &Keys::new(secret))
    }

    /// Whether the channel may have one more webhook beside those of its document.
    fn find_room(&self, view: &View<'_>, channel: &Channel) -> Result<(), WebhookError> {
        let config = &self.rooms.limits.webhooks;
        let (setting, most) = match channel.kind {
            ChannelKind::Map => ("limits.webhooks_per_map", config.per_map),
            ChannelKind::Organization => ("limits.webhooks_per_organization", config.per_organization),
        };
        let webhooks = view.webhooks_of(channel.no());
        let own = webhooks.iter().filter(|webhook| webhook.family != ApiFamily::Feed).count();
        if own < most { Ok(()) } else { Err(WebhookError::TooMany { setting, most }) }
    }

    fn ready(&self, webhook: &Arc<Webhook>, channel: Arc<Channel>) -> Result<Arc<Ready>, WebhookError> {
        self.updates.ready(webhook.clone(), channel).ok_or(WebhookError::Unavailable)
    }

    fn actor(&self, webhook: &Webhook) -> Result<actix::Addr<WebhookActor>, WebhookError> {
        self.rooms.webhook_actors.get(&webhook.id).ok_or(WebhookError::Unavailable)
    }

    async fn ask(&self, webhook: &Webhook, ask: Ask) -> Result<Option<JobId>, WebhookError> {
        Ok(self.rooms.webhook_actors.ask(&webhook.id, ask).await?)
    }

    async fn observe(&self, webhook: &Arc<Webhook>, rows: bool) -> Result<Seen, WebhookError> {
        if !self.rooms.delivery.ownership.is_mine(&webhook.id) {
            return self.observe_elsewhere(webhook).await;
        }
        let seen = self.actor(webhook)?.send(Observe { rows }).await;
        seen.ok().flatten().ok_or(WebhookError::Unavailable)
    }

    /// How deliveries stand that another node makes.
    async fn observe_elsewhere(&self, webhook: &Webhook) -> Result<Seen, WebhookError> {
        let (rooms, id) = (self.rooms.clone(), webhook.id.clone());
        let seen = compute::blocking(move || elsewhere::observe(&rooms.delivery, &id)).await;
        seen.map_err(|e| ReadError::Panicked(e.to_string()))??.ok_or(WebhookError::Unavailable)
    }

    /// Tells the webhooks of a channel that the channel has changed.
    pub(super) async fn refresh_webhooks(&self, channel: &Channel) {
        self.updates.configure_all(channel.no()).await;
    }
}
