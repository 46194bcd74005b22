//! The webhooks of a channel that are kept as one document: replaced together, or not at all.
//!
//! They are webhooks like all others, with cursors, deliveries and health; only [`Webhook::entry`] tells them apart. A
//! replacement is one commit. It is judged before that, which may take DNS, and judged again if the document was replaced
//! by somebody else meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::updates::Hold;
use super::{
    ApiFamily, Hub, InvalidField, JUDGED_AGAIN_MAX, Resume, SecretChoice, Webhook, WebhookError, WebhookSpec, make,
};
use crate::catalog::webhook::{self, DocumentEntry};
use crate::catalog::{View, record};
use crate::clock;
use crate::documents::Change;
use crate::journal::{AppendError, Urgency};
use crate::model::channel::{self, Channel};
use crate::model::record_id::WebhookId;
use crate::model::signature::{Keys, Secret};

/// The longest id of an entry, in bytes.
const ID_BYTES_MAX: usize = 128;

/// An entry as somebody wrote it. The default is one that cannot be read at all.
#[derive(Clone, Default)]
pub struct Entry {
    /// Absent where it could not be read; then `bad` says so.
    pub id: Option<String>,
    /// What it asks for; everything that it does not name takes its default, but the secret, which stays.
    pub spec: Option<WebhookSpec>,
    pub resume: Option<Resume>,
    /// What was found wrong with it so far.
    pub bad: Vec<InvalidField>,
}

/// A field of an entry that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEntry {
    /// Counted from 0.
    pub index: usize,
    pub id: Option<String>,
    pub field: String,
    pub message: String,
}

/// A webhook of the document that is to be, and the one that it was.
struct Draft {
    webhook: Webhook,
    old: Option<Arc<Webhook>>,
    resume: Option<Resume>,
}

impl Draft {
    fn is_changed(&self) -> bool {
        self.old.as_deref() != Some(&self.webhook)
    }
}

impl Hub {
    /// The webhooks of the channel's document, in its order.
    pub fn document(&self, channel: &Channel) -> Vec<Arc<Webhook>> {
        self.rooms.catalog.read(|tables| tables.document(channel.no()))
    }

    /// Replaces the document. Entries that it had before are known again by their id and go on where they were; those
    /// that are not in it any more are deleted with their deliveries.
    ///
    /// # Errors
    /// [`WebhookError::InvalidEntries`] names everything that is wrong with every entry; then nothing has changed. Else the
    /// channel is gone, there are too many entries, or the document could not be stored.
    pub async fn replace_document(
        &self,
        channel: &Channel,
        entries: Vec<Entry>,
    ) -> Result<Vec<Arc<Webhook>>, WebhookError> {
        let most = self.rooms.limits.webhooks.per_document;
        for _ in 0..JUDGED_AGAIN_MAX {
            let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
            if entries.len() > most {
                return Err(WebhookError::TooMany { setting: "limits.webhooks_per_document", most });
            }
            let before = self.document(&channel);
            let drafts = self.draft_all(&channel, &before, entries.clone()).await?;
            // those that may be switched on are told that together with what becomes of the events that waited
            let holds: Vec<_> =
                drafts.iter().map(|draft| draft.webhook.active.then(|| self.updates.hold(&draft.webhook.id))).collect();
            let changed = self.change::<_, WebhookError>(Urgency::Normal, |view| {
                let channel = view.channel(channel.no()).ok_or(WebhookError::NotFound)?;
                if view.document(channel.no()) != before {
                    return Ok((Vec::new(), false));
                }
                Ok((self.replacement(view, channel, &before, &drafts)?, true))
            });
            if !changed.await? {
                continue;
            }
            log::info!(channel = &*channel.id, entries = drafts.len(); "the webhooks of a document were replaced");
            for (draft, hold) in drafts.into_iter().zip(holds) {
                self.tell(draft, hold).await;
            }
            return Ok(self.document(&channel));
        }
        Err(AppendError::Conflict.into())
    }

    /// The changes that make the document what the drafts say.
    fn replacement(
        &self,
        view: &View<'_>,
        channel: &Channel,
        before: &[Arc<Webhook>],
        drafts: &[Draft],
    ) -> Result<Vec<Change>, WebhookError> {
        let head = self.rooms.log.head();
        let mut changes = Vec::new();
        for draft in drafts.iter().filter(|draft| draft.is_changed()) {
            match draft.old {
                None => changes.extend(make(&draft.webhook, channel, head)?),
                Some(_) => changes.push(record::put_webhook(&draft.webhook)?),
            }
        }
        let kept: HashSet<&WebhookId> = drafts.iter().map(|draft| &draft.webhook.id).collect();
        let gone = before.iter().filter(|old| !kept.contains(&old.id));
        changes.extend(gone.flat_map(|old| view.delete_webhook(&old.id)));
        Ok(changes)
    }

    /// Makes a webhook of each entry, or says what is wrong with all of them.
    async fn draft_all(
        &self,
        channel: &Channel,
        before: &[Arc<Webhook>],
        entries: Vec<Entry>,
    ) -> Result<Vec<Draft>, WebhookError> {
        let id_of = |webhook: &Arc<Webhook>| Some((webhook.entry.as_ref()?.id.clone(), webhook.clone()));
        let known: HashMap<Arc<str>, Arc<Webhook>> = before.iter().filter_map(id_of).collect();
        let mut seen = HashSet::new();
        let mut judged = Vec::with_capacity(entries.len());
        for (index, mut entry) in entries.into_iter().enumerate() {
            let id = entry.id.clone();
            if let Some(message) = id.as_deref().and_then(|id| bad_id(id, !seen.insert(id.to_owned()))) {
                entry.bad.push(InvalidField { field: "id".into(), message });
            }
            let old = id.as_deref().and_then(|id| known.get(id)).cloned();
            judged.push(self.draft(channel, index, old, entry));
        }
        // each may have to ask for the addresses of a name, so they are judged side by side
        let mut drafts = Vec::with_capacity(judged.len());
        let mut invalid = Vec::new();
        for (index, (id, draft, bad)) in join_all(judged).await.into_iter().enumerate() {
            let named = |InvalidField { field, message }| InvalidEntry { index, id: id.clone(), field, message };
            invalid.extend(bad.into_iter().map(named));
            drafts.extend(draft);
        }
        if invalid.is_empty() { Ok(drafts) } else { Err(WebhookError::InvalidEntries(invalid)) }
    }

    async fn draft(
        &self,
        channel: &Channel,
        index: usize,
        old: Option<Arc<Webhook>>,
        entry: Entry,
    ) -> (Option<String>, Option<Draft>, Vec<InvalidField>) {
        let Entry { id, spec, resume, mut bad } = entry;
        let Some(spec) = spec else {
            bad.push(InvalidField { field: "entry".into(), message: "must be an object".into() });
            return (id, None, bad);
        };
        let now_ms = clock::now_ms();
        let schedule = &self.rooms.limits.webhooks.schedule;
        let own = old.as_ref().map_or_else(|| channel::uuid_from(clock::random()).into(), |old| old.id.clone());
        let mut webhook = Webhook::new(own, channel, ApiFamily::Feed, schedule, now_ms);
        let position = u32::try_from(index).unwrap_or(u32::MAX);
        webhook.entry = Some(DocumentEntry { id: id.clone().unwrap_or_default().into(), position });
        if let Some(old) = &old {
            (webhook.inserted_ms, webhook.updated_ms) = (old.inserted_ms, old.updated_ms);
            webhook.secrets.clone_from(&old.secrets);
        }
        match &spec.secret {
            Some(SecretChoice::Given(secret)) if !self.signs_with(&webhook, secret) => {
                webhook.secrets = Some(self.seal(&webhook.id, secret.clone()));
            }
            Some(SecretChoice::Given(_)) => {}
            _ if old.is_some() || bad.iter().any(|bad| bad.field == "secret") => {}
            _ => {
                let message = "is missing: a new entry needs one; only one that is known by its id keeps its own";
                bad.push(InvalidField { field: "secret".into(), message: message.into() });
            }
        }
        let found = self.judge(spec, &mut webhook, channel, true).await;
        // a field that could not be read was left out of the spec, so what is said of it now is of no use
        let known: HashSet<String> = bad.iter().map(|bad| bad.field.clone()).collect();
        bad.extend(found.into_iter().filter(|found| !known.contains(&found.field)));
        if old.as_deref().is_some_and(|old| *old != webhook) {
            webhook.updated_ms = now_ms;
        }
        (id, Some(Draft { webhook, old, resume }), bad)
    }

    /// Whether this is the secret that the webhook has, so that it need not be stored (and an old one forgotten) anew.
    fn signs_with(&self, webhook: &Webhook, secret: &Secret) -> bool {
        let open = |sealed| webhook::open_keys(&self.rooms.delivery.seal_key, &webhook.id, sealed).ok();
        webhook.secrets.as_ref().and_then(open).is_some_and(|keys: Keys| keys.current == *secret)
    }

    /// Tells the actor of a webhook what became of it. What is stored says the same already, so that a failure here leaves
    /// nothing half done.
    async fn tell(&self, draft: Draft, hold: Option<Hold>) {
        let Draft { webhook, old, resume } = draft;
        let is_off = async || {
            let old = old.as_ref()?;
            self.observe(old, false).await.ok()?.state.off
        };
        if old.is_some() && webhook.active && (resume.is_some() || is_off().await.is_some()) {
            if let Err(e) = self.updates.enable(&webhook.id, resume.unwrap_or_default()).await {
                log::error!(webhook = &*webhook.id; "a webhook was not told of its new document: {e}");
            }
            return;
        }
        drop(hold);
        self.updates.configure(&webhook.id).await;
    }
}

/// What is wrong with the id of an entry.
fn bad_id(id: &str, twice: bool) -> Option<String> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Some(format!("must be a text of 1 to {ID_BYTES_MAX} bytes without control characters"));
    }
    twice.then(|| "is the id of an earlier entry too; each entry has one of its own".into())
}
