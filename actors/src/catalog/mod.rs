//! All that is configured: channels, tokens, webhooks and sources, in memory.
//!
//! There are two copies. *Applied* is what is durable; every request reads it. *Ahead* is that and what waits for its
//! commit; only [`Catalog::change`] reads it, so that of two requests that race for a name or the last free place exactly
//! one gets it.
//!
//! [`Catalog::apply`] is the only place where the applied copy changes and where side effects begin: whoever holds streams
//! to close or actors to tell learns of it by [`CatalogEvent`]s, whether the change came from a request to this node, from
//! a backup or from another node.
//!
//! - `change`: how something is changed; [`tables`]: one copy; [`record`]: records as documents; [`event`]: what has happened
//! - [`webhook`], [`webhook_validate`], [`source`]: what is stored of webhooks and sources, and what may be;
//!   `sealed_keys`: their keys at rest
//! - [`last_use`]: when tokens were last used
//! - [`reader`]: the log as frames; [`system`]: the server's own events

mod change;
pub mod event;
pub mod last_use;
pub mod reader;
pub mod record;
mod sealed_keys;
pub mod source;
pub mod system;
pub mod tables;
pub mod webhook;
pub mod webhook_validate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use serde::de::IgnoredAny;

use self::change::Ahead;
pub use self::change::{ChangeError, View};
pub use self::event::{CatalogEvent, Sink};
use self::record::Record;
pub use self::sealed_keys::SealedKeys;
use self::source::Source;
use self::tables::Tables;
use self::webhook::Webhook;
use crate::documents::{Change, DocumentError, Documents, Table};
use crate::journal::{DocumentChanges, Journal, Urgency};
use crate::model::access::{Principal, Reach, TokenHash, TokenRecord};
use crate::model::channel::{Channel, ChannelKind, is_uuid};
use crate::model::event::ChannelNo;
use crate::model::seal::{SealKey, Sealed};

/// The id under which the admin token's requests and streams are counted.
pub const ADMIN: &str = "admin";

/// The length of a webhook's id, a UUID, with which the keys of all that belongs to it begin.
pub const WEBHOOK_ID_BYTES: usize = 36;

/// The tables of what belongs to a webhook beside its own document.
const OF_WEBHOOKS: [Table; 3] = [Table::Endpoints, Table::Rows, Table::Replays];

pub struct Catalog {
    journal: Journal,
    documents: Arc<Documents>,
    admin: TokenHash,
    admin_principal: Arc<Principal>,
    applied: RwLock<Tables>,
    /// Held while something is decided and queued, and never while anything waits.
    ahead: Mutex<Ahead>,
    revocations: AtomicU64,
    sink: OnceLock<Sink>,
}

impl Catalog {
    /// The catalog of the stored documents. `admin`: the hash of the admin token, which is not among them.
    ///
    /// # Errors
    /// A document is damaged, or a newer version wrote it.
    pub fn open(journal: Journal, documents: Arc<Documents>, admin: TokenHash) -> Result<Catalog, DocumentError> {
        let mut tables = Tables::default();
        let mut put = |record| drop(tables.put(record));
        for (_, channel) in documents.scan::<Channel>(Table::Channels, b"")? {
            put(Record::Channel(channel.no(), Some(Arc::new(channel))));
        }
        for (_, token) in documents.scan::<TokenRecord>(Table::Tokens, b"")? {
            put(Record::Token(token.id.clone(), Some(Arc::new(token))));
        }
        for (_, webhook) in documents.scan::<Webhook>(Table::Webhooks, b"")? {
            put(Record::Webhook(webhook.id.clone(), Some(Arc::new(webhook))));
        }
        for (_, source) in documents.scan::<Source>(Table::Sources, b"")? {
            put(Record::Source(source.id.clone(), Some(Arc::new(source))));
        }
        let ahead = Mutex::new(Ahead { tables: tables.clone(), epoch: journal.epoch() });
        Ok(Catalog {
            journal,
            documents,
            admin,
            admin_principal: Arc::new(Principal { id: ADMIN.into(), reach: Reach::Admin, expires_ms: None }),
            applied: RwLock::new(tables),
            ahead,
            revocations: AtomicU64::new(0),
            sink: OnceLock::new(),
        })
    }

    /// Says who is told of what happens from now on. To be called once, before anything can be changed.
    pub fn set_sink(&self, sink: Sink) {
        if self.sink.set(sink).is_err() {
            log::error!("the catalog tells one sink only; a second one was not taken");
        }
    }

    // ---- what is applied -----------------------------------------------------------------------------------------

    /// Reads what is applied. No other change is applied before `read` returns, so it must not wait for anything.
    pub fn read<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.applied.read())
    }

    /// A channel by what clients call it.
    pub fn find(&self, kind: ChannelKind, id_or_slug: &str) -> Option<Arc<Channel>> {
        self.read(|tables| tables.find(kind, id_or_slug).cloned())
    }

    pub fn channel(&self, no: ChannelNo) -> Option<Arc<Channel>> {
        self.read(|tables| tables.channel(no).cloned())
    }

    /// All channels of a kind, the oldest first.
    pub fn channels(&self, kind: ChannelKind) -> Vec<Arc<Channel>> {
        self.read(|tables| tables.channels(kind))
    }

    pub fn count_channels(&self) -> usize {
        self.read(Tables::count_channels)
    }

    /// Whose token this is, which is noted as its use now. The text is hashed first, so what is compared tells nothing about
    /// tokens that exist.
    pub fn principal(&self, token: &str, now_ms: i64) -> Option<Arc<Principal>> {
        let hash = TokenHash::of(token);
        if self.admin.is(&hash) {
            return Some(self.admin_principal.clone());
        }
        self.read(|tables| {
            let known = tables.known(&hash)?;
            if !known.principal.expired(now_ms) {
                known.last_use.note(now_ms / 1_000);
            }
            Some(known.principal.clone())
        })
    }

    /// Until when a principal that was authenticated before is valid as things are now, in Unix milliseconds; without end
    /// `i64::MAX`. None where its token was revoked.
    pub fn valid_until_ms(&self, principal: &Principal) -> Option<i64> {
        let expires_ms = match principal.is_stored_token() {
            true => self.read(|tables| tables.token(&principal.id).map(|token| token.expires_ms))?,
            // the admin token and JWTs cannot be revoked or changed one by one
            false => principal.expires_ms,
        };
        Some(expires_ms.unwrap_or(i64::MAX))
    }

    /// Whether a principal that was authenticated before is still valid.
    pub fn holds(&self, principal: &Principal, now_ms: i64) -> bool {
        self.valid_until_ms(principal).is_some_and(|until_ms| until_ms > now_ms)
    }

    /// Grows when a token is revoked or gets another end, so that sessions look again only then.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    pub fn token(&self, id: &str) -> Option<Arc<TokenRecord>> {
        self.read(|tables| tables.token(id).cloned())
    }

    /// The tokens of one channel, or of all, the oldest first.
    pub fn tokens(&self, no: Option<ChannelNo>) -> Vec<Arc<TokenRecord>> {
        self.read(|tables| tables.tokens(no))
    }

    pub fn webhook(&self, id: &str) -> Option<Arc<Webhook>> {
        self.read(|tables| tables.webhook(id).cloned())
    }

    /// The webhooks of one channel, or of all, the oldest first.
    pub fn webhooks(&self, no: Option<ChannelNo>) -> Vec<Arc<Webhook>> {
        self.read(|tables| tables.webhooks(no))
    }

    pub fn source(&self, id: &str) -> Option<Arc<Source>> {
        self.read(|tables| tables.source(id).cloned())
    }

    /// All sources, the oldest first.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.read(Tables::sources)
    }

    // ---- what becomes durable ------------------------------------------------------------------------------------

    /// Makes durable changes visible and starts their side effects. Called by the journal's worker with every commit, in
    /// the order of commits, after [`Documents::apply`] and before the requests are answered. Changes of what is not
    /// configured here are left alone, and what was applied before has no effect a second time.
    ///
    /// A worker that applies what was not queued here by [`Catalog::change`], or applies what was though its commit failed,
    /// moves [`Journal::epoch`] on *afterwards*: whoever copied what is applied before that has not seen it, and decides
    /// again.
    pub fn apply(&self, changes: &[Change]) {
        let records = Record::of_all(changes);
        if records.is_empty() {
            return;
        }
        let events: Vec<CatalogEvent> = {
            let mut applied = self.applied.write();
            records.iter().filter_map(|record| applied.put(record.clone())).collect()
        };
        {
            let mut ahead = self.ahead.lock();
            records.iter().for_each(|record| ahead.tables.share(record));
        }
        for event in events {
            match &event {
                // after the token is gone or changed, so that whoever looks because of it does not find it as it was
                CatalogEvent::TokenRevoked { .. } => drop(self.revocations.fetch_add(1, Ordering::Release)),
                CatalogEvent::TokenChanged { old, new } if old.expires_ms != new.expires_ms => {
                    self.revocations.fetch_add(1, Ordering::Release);
                }
                CatalogEvent::WebhookRemoved { webhook } => self.sweep(&webhook.id),
                _ => {}
            }
            let Some(sink) = self.sink.get() else { continue };
            // the change is durable, and whoever asked for it must not be told that it failed
            if catch_unwind(AssertUnwindSafe(|| sink(event))).is_err() {
                log::error!("a side effect of a change of the configuration panicked");
            }
        }
    }

    /// Deletes what the actor of a webhook had queued when the deletion of the webhook was decided, and which was committed
    /// before that. The journal refuses what the actor writes later.
    fn sweep(&self, webhook: &str) {
        let left: Vec<Change> =
            OF_WEBHOOKS.iter().flat_map(|table| self.documents.clear(*table, webhook.as_bytes())).collect();
        if left.is_empty() {
            return;
        }
        let changes = DocumentChanges { changes: left, urgency: Urgency::Reserve, ..DocumentChanges::default() };
        // nobody waits for it: what cannot be deleted now is deleted at the next start, see `orphans`
        if let Err(e) = self.journal.change(changes).map(drop) {
            log::warn!(webhook; "what is left of a deleted webhook is deleted at the next start: {e}");
        }
    }

    /// What is sealed with a secret key that was replaced, sealed with the one in its place; to be committed at the start. What opens
    /// with neither stays as it is, and the log says so.
    ///
    /// # Errors
    /// A document is too large.
    pub fn resealed(&self, before: &SealKey, key: &SealKey) -> Result<Vec<Change>, DocumentError> {
        let applied = self.applied.read();
        let mut changes = Vec::new();
        for webhook in applied.webhooks(None) {
            let Some(secrets) = &webhook.secrets else { continue };
            match secrets.resealed(before, key, &webhook::place(&webhook.id)) {
                Ok(None) => {}
                Ok(secrets) => changes.push(record::put_webhook(&Webhook { secrets, ..Webhook::clone(&webhook) })?),
                Err(e) => log::warn!(webhook:display = webhook.id; "the secret of a webhook stays as it is: {e}"),
            }
        }
        for source in applied.sources() {
            match source.resealed(before, key) {
                Ok(None) => {}
                Ok(Some(source)) => changes.push(record::put_source(&source)?),
                Err(e) => log::warn!(source:display = source.id; "the key of a source stays as it is: {e}"),
            }
        }
        Ok(changes)
    }

    /// Something that is sealed, with the place it is sealed for: it proves a secret key. None where nothing is.
    pub fn sealed_example(&self) -> Option<(Sealed, String)> {
        let applied = self.applied.read();
        let webhooks = applied.webhooks(None);
        let of_webhook = webhooks
            .iter()
            .find_map(|webhook| Some((webhook.secrets.as_ref()?.current.clone(), webhook::place(&webhook.id))));
        let of_source = || {
            let sources = applied.sources();
            sources.iter().find_map(|source| Some((source.keys.as_ref()?.current.clone(), source::place(&source.id))))
        };
        of_webhook.or_else(of_source)
    }

    /// The deletion of what belongs to webhooks that do not exist any more: left behind by a crash shortly after a
    /// deletion. To be committed at the start.
    ///
    /// # Errors
    /// A document is damaged.
    pub fn orphans(&self) -> Result<Vec<Change>, DocumentError> {
        let applied = self.applied.read();
        let mut orphans = Vec::new();
        for table in OF_WEBHOOKS {
            for (key, _) in self.documents.scan::<IgnoredAny>(table, b"")? {
                let id = key.get(..WEBHOOK_ID_BYTES).and_then(|id| std::str::from_utf8(id).ok());
                // what is stored under another kind of key is not understood here, and stays
                if id.is_some_and(|id| is_uuid(id) && applied.webhook(id).is_none()) {
                    orphans.push(Change::delete(table, key));
                }
            }
        }
        Ok(orphans)
    }
}

#[cfg(test)]
mod tests;
