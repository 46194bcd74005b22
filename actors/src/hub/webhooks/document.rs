//! The webhooks of a channel that are kept as one document: replaced together, or not at all.
//!
//! They are webhooks like all others, with cursors, deliveries and health; only [`Webhook::entry`] tells them apart. A
//! replacement is one write of the state. The actors are told afterwards, and one that was not told reads the new state
//! when it starts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::{ApiFamily, Hub, InvalidField, Resume, SecretChoice, Webhook, WebhookError, WebhookSpec};
use crate::catalog::webhook::{self, DocumentEntry};
use crate::clock;
use crate::delivery::actor::Ask;
use crate::delivery::storage;
use crate::model::channel::{self, Channel};
use crate::model::delivery::EndpointState;
use crate::model::record_id::WebhookId;
use crate::model::signature::{Keys, Secret};
use crate::store::{Change, Table};

/// The longest id of an entry, in bytes.
const ID_BYTES_MAX: usize = 128;

/// An entry as somebody wrote it. The default is one that cannot be read at all.
#[derive(Default)]
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

impl Hub {
    /// The webhooks of the channel's document, in its order.
    pub fn document(&self, channel: &Channel) -> Vec<Arc<Webhook>> {
        let mut entries = self.engine.webhook_registry.list(channel.no());
        entries.retain(|webhook| webhook.entry.is_some());
        entries.sort_by_key(|webhook| webhook.entry.as_ref().map(|entry| entry.position));
        entries
    }

    /// Replaces the document. Entries that it had before are known again by their id and go on where they were; those
    /// that are not in it any more are deleted with their deliveries.
    ///
    /// # Errors
    /// [`WebhookError::InvalidEntries`] names everything that is wrong with every entry; then nothing has changed.
    pub async fn replace_document(
        &self,
        channel: &Channel,
        entries: Vec<Entry>,
    ) -> Result<Vec<Arc<Webhook>>, WebhookError> {
        let _one_at_a_time = self.changes.lock().await;
        let channel = self.channel(channel.no()).ok_or(WebhookError::NotFound)?;
        let most = self.engine.webhook_registry.config.per_document;
        if entries.len() > most {
            return Err(WebhookError::TooMany { setting: "limits.webhooks_per_document", most });
        }
        let before = self.document(&channel);
        let drafts = self.draft_all(&channel, &before, entries).await?;
        let kept: HashSet<WebhookId> = drafts.iter().map(|draft| draft.webhook.id.clone()).collect();
        let gone: Vec<_> = before.into_iter().filter(|old| !kept.contains(&old.id)).collect();
        self.store_document(&channel, &drafts, gone).await?;
        for draft in drafts {
            self.tell(&channel, draft).await;
        }
        Ok(self.document(&channel))
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
        let schedule = &self.engine.webhook_registry.config.schedule;
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
        let open = |sealed| webhook::open_keys(&self.engine.webhook_registry.key, &webhook.id, sealed).ok();
        webhook.secrets.as_ref().and_then(open).is_some_and(|keys: Keys| keys.current == *secret)
    }

    /// Writes what the document says, all at once.
    async fn store_document(
        &self,
        channel: &Channel,
        drafts: &[Draft],
        gone: Vec<Arc<Webhook>>,
    ) -> Result<(), WebhookError> {
        for webhook in &gone {
            self.end_webhook(&webhook.id).await;
        }
        let now_ms = clock::now_ms().max(0) as u64;
        let changed = drafts.iter().filter(|draft| draft.old.as_deref() != Some(&draft.webhook));
        let changed: Vec<_> = changed.map(|draft| (draft.webhook.clone(), draft.old.is_none())).collect();
        let (written, deleted) = (changed.clone(), gone.clone());
        let stored = self.blocking(move |engine| {
            let mut changes = Vec::new();
            for (webhook, is_new) in &written {
                match is_new {
                    true => changes.extend(storage::create(webhook, &EndpointState::new(engine.log.head(), now_ms))?),
                    false => changes.push(Change::put(Table::Webhooks, &*webhook.id, webhook)?),
                }
            }
            for webhook in &deleted {
                changes.extend(storage::delete(&engine.state, &webhook.id)?);
            }
            engine.state.write(&changes)
        });
        if let Err(e) = stored.await {
            // those that were to go are there still
            for webhook in gone {
                self.engine.webhook_registry.put(webhook.clone());
                self.launch(&webhook).await;
            }
            return Err(e.into());
        }
        for (webhook, _) in changed {
            self.engine.webhook_registry.put(Arc::new(webhook));
        }
        log::info!(channel = &*channel.id, entries = drafts.len(); "the webhooks of a document were replaced");
        Ok(())
    }

    /// Tells the actor of a webhook what became of it. The state says the same already, so that a failure here leaves
    /// nothing half done.
    async fn tell(&self, channel: &Arc<Channel>, draft: Draft) {
        let Some(webhook) = self.engine.webhook_registry.get(&draft.webhook.id) else { return };
        let Some(old) = draft.old else { return self.launch(&webhook).await };
        let off = self.observe(&webhook, false).await.is_ok_and(|seen| seen.state.off.is_some());
        let enable = webhook.active && (off || draft.resume.is_some());
        if old == webhook && !enable {
            return;
        }
        let Ok(ready) = self.ready(&webhook, channel.clone()) else { return };
        let ask = match enable {
            true => {
                let resume = draft.resume.unwrap_or_default();
                Ask::Enable { ready, resume, head: self.engine.log.head() }
            }
            false => Ask::Configure { ready, new_target: old.url != webhook.url },
        };
        if let Err(e) = self.ask(&webhook, ask).await {
            log::error!(webhook = &*webhook.id; "a webhook was not told of its new document: {e}");
        }
    }
}

/// What is wrong with the id of an entry.
fn bad_id(id: &str, twice: bool) -> Option<String> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Some(format!("must be a text of 1 to {ID_BYTES_MAX} bytes without control characters"));
    }
    twice.then(|| "is the id of an earlier entry too; each entry has one of its own".into())
}
