//! A webhook as it is stored, and as the delivery engine uses it: checked, compiled, with its secrets opened.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sealed_keys::SealedKeys;
use crate::model::channel::{Channel, ChannelKind};
use crate::model::delivery::{Batch, EndpointConfig, RateLimit, RetryPolicy};
use crate::model::envelope::Envelope;
use crate::model::event::ChannelNo;
use crate::model::filter::{Filter, FilterSpec};
use crate::model::format::{Family, Form, Format, Template};
use crate::model::record_id::WebhookId;
use crate::model::seal::{SealKey, Unsealable};
use crate::model::signature::{Keys, Secret};
use crate::model::target::{Policy, Target};

/// Which of the interfaces a webhook was made through. It decides the defaults, and whether the map's switch counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFamily {
    #[default]
    Maps,
    Organizations,
    Feed,
}

impl ApiFamily {
    /// What a webhook sends unless it says otherwise.
    pub fn default_format(self) -> Format {
        match self {
            ApiFamily::Maps => Format::Map,
            ApiFamily::Organizations => Format::Gateway,
            ApiFamily::Feed => Format::Feed,
        }
    }

    /// When it tries again unless it says otherwise. `schedule`: that of the settings.
    pub fn default_policy(self, schedule: &RetryPolicy) -> RetryPolicy {
        match self {
            ApiFamily::Maps | ApiFamily::Feed => schedule.clone(),
            ApiFamily::Organizations => RetryPolicy::organization_default(),
        }
    }
}

/// Where a webhook stands in the document that keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DocumentEntry {
    /// The owner's own name for it, unique in the document.
    pub id: Arc<str>,
    /// Counted from 0.
    pub position: u32,
}

/// A webhook as the state database keeps it. It has no Debug, because custom headers may hold credentials.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// A UUID.
    pub id: WebhookId,
    pub channel: u32,
    #[serde(default, rename = "door")]
    pub family: ApiFamily,
    /// For those of [`ApiFamily::Feed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<DocumentEntry>,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub url: String,
    /// The owner's switch; that of the map counts as well, see [`Webhook::is_on`].
    pub active: bool,
    pub format: Format,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    pub filter: FilterSpec,
    #[serde(default)]
    pub custom_headers: Vec<(String, String)>,
    pub retry_policy: RetryPolicy,
    #[serde(default)]
    pub ordered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// None: deliveries are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SealedKeys>,
    pub inserted_ms: i64,
    pub updated_ms: i64,
}

impl Webhook {
    /// A webhook with the defaults of its interface, which goes nowhere yet and signs nothing.
    pub fn new(id: WebhookId, channel: &Channel, family: ApiFamily, schedule: &RetryPolicy, now_ms: i64) -> Webhook {
        Webhook {
            id,
            channel: channel.no,
            family,
            entry: None,
            name: None,
            url: String::new(),
            active: true,
            format: family.default_format(),
            template: None,
            filter: FilterSpec::default(),
            custom_headers: Vec::new(),
            retry_policy: family.default_policy(schedule),
            ordered: false,
            batch: None,
            rate_limit: None,
            secrets: None,
            inserted_ms: now_ms,
            updated_ms: now_ms,
        }
    }

    pub fn channel_no(&self) -> ChannelNo {
        ChannelNo(self.channel)
    }

    /// Whether it is to deliver. The switch of a map is over those that were made through the maps' interface; the
    /// others know no such switch.
    pub fn is_on(&self, channel: &Channel) -> bool {
        self.active && (self.family != ApiFamily::Maps || channel.webhooks_enabled)
    }

    /// What the state machine of the deliveries is told.
    pub fn endpoint(&self, channel: &Channel, max_in_flight: u32) -> EndpointConfig {
        EndpointConfig {
            webhook: self.id.to_string(),
            active: self.is_on(channel),
            ordered: self.ordered,
            batch: self.batch,
            rate_limit: self.rate_limit,
            retry_policy: self.retry_policy.clone(),
            max_in_flight,
        }
    }
}

/// What a sealed secret is bound to.
pub(super) fn place(webhook: &str) -> String {
    format!("webhook {webhook}")
}

/// Seals the signing secrets of a webhook.
pub fn seal_keys(key: &SealKey, webhook: &str, keys: &Keys) -> SealedKeys {
    let previous = keys.previous.as_ref().map(|(secret, until_ms)| (secret.reveal(), *until_ms));
    SealedKeys::seal(key, &place(webhook), keys.current.reveal(), previous)
}

/// Opens the sealed signing secrets of a webhook.
///
/// # Errors
/// The secrets were sealed with another secret key or for another webhook.
pub fn open_keys(key: &SealKey, webhook: &str, sealed: &SealedKeys) -> Result<Keys, Unsealable> {
    let secret = |text: &str| Secret::from_text(text).map_err(|_| Unsealable);
    let open = sealed.open(key, &place(webhook))?;
    let previous = open.previous.map(|(text, until_ms)| Ok((secret(&text)?, until_ms)));
    Ok(Keys { current: secret(&open.current)?, previous: previous.transpose()? })
}

/// A webhook made ready to deliver.
#[derive(Clone)]
pub struct Ready {
    pub webhook: Arc<Webhook>,
    pub channel: Arc<Channel>,
    pub filter: Filter,
    pub form: Form,
    /// Why nothing can be sent, where the policy was narrowed since the webhook was saved.
    pub target: Result<Target, String>,
    /// None: deliveries are not signed.
    pub keys: Option<Keys>,
}

/// Why a stored webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Secret(#[from] Unsealable),
    #[error("its {0} is not valid any more")]
    Field(&'static str),
}

impl Ready {
    /// Makes a webhook ready to deliver: filter and template compiled, secrets opened, target judged.
    ///
    /// # Errors
    /// [`Unusable::Field`] when the filter or the template cannot be compiled any more, and when the secrets cannot be
    /// opened. A target that is not allowed is no error here: see [`Ready::target`].
    pub fn of(webhook: Arc<Webhook>, channel: Arc<Channel>, key: &SealKey, policy: &Policy) -> Result<Ready, Unusable> {
        let keys = webhook.secrets.as_ref().map(|sealed| open_keys(key, &webhook.id, sealed)).transpose()?;
        let filter = match webhook.format {
            Format::Raw => Filter::compile_for_requests(&webhook.filter),
            _ => Filter::compile(&webhook.filter),
        };
        let filter = filter.map_err(|_| Unusable::Field("filter"))?;
        let form = form_of(webhook.format, webhook.template.as_deref()).ok_or(Unusable::Field("template"))?;
        let target = policy.judge_url(&webhook.url).map_err(|e| e.to_string());
        Ok(Ready { webhook, channel, filter, form, target, keys })
    }

    pub fn family(&self) -> Family {
        Family::of(self.channel.kind)
    }

    pub fn envelope(&self) -> Envelope {
        envelope_of(self.webhook.format, self.channel.kind)
    }
}

/// The envelope that a format sends.
pub fn envelope_of(format: Format, kind: ChannelKind) -> Envelope {
    match format {
        Format::Map => Envelope::Map,
        Format::Gateway => Envelope::Gateway,
        Format::Feed => Envelope::Feed,
        Format::Standard
        | Format::CloudEvents
        | Format::CloudEventsBinary
        | Format::Discord
        | Format::Slack
        | Format::Template
        | Format::Raw => Envelope::of(kind),
    }
}

/// The format made ready; none for a template that is missing or wrong.
pub fn form_of(format: Format, template: Option<&str>) -> Option<Form> {
    let of_template = || Some(Form::Template(Template::compile(template?).ok()?));
    Form::without_template(format).or_else(of_template)
}
