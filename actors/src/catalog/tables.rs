//! All that is configured at one moment, found in the ways in which requests ask for it.
//!
//! Records are shared by [`Arc`], so that all tables can be copied at the price of a pointer for each.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::catalog::event::CatalogEvent;
use crate::catalog::last_use::LastUse;
use crate::catalog::record::Record;
use crate::catalog::source::Source;
use crate::catalog::webhook::Webhook;
use crate::model::access::{Principal, TokenHash, TokenRecord};
use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::ChannelNo;
use crate::model::record_id::{SourceId, TokenId, WebhookId};

/// What is configured at one moment.
#[derive(Clone, Default)]
pub struct Tables {
    channels: HashMap<ChannelNo, Arc<Channel>>,
    /// By id and by slug; the two cannot be mistaken for each other, because a slug that looks like an id is refused.
    maps: HashMap<Arc<str>, ChannelNo>,
    organizations: HashMap<Arc<str>, ChannelNo>,
    tokens: Owned<TokenRecord>,
    principals: HashMap<TokenHash, Known>,
    webhooks: Owned<Webhook>,
    sources: Owned<Source>,
    /// See [`Tables::version`].
    version: u64,
}

/// What a token is worth to whoever sends it.
#[derive(Clone)]
pub struct Known {
    pub principal: Arc<Principal>,
    /// Stays when the token is changed. Only that of the applied copy is noted and read.
    pub last_use: Arc<LastUse>,
}

impl Tables {
    // ---- channels ------------------------------------------------------------------------------------------------

    pub fn channel(&self, no: ChannelNo) -> Option<&Arc<Channel>> {
        self.channels.get(&no)
    }

    /// A channel by what clients call it.
    pub fn find(&self, kind: ChannelKind, id_or_slug: &str) -> Option<&Arc<Channel>> {
        let no = match kind {
            // a UUID means the same in capitals (RFC 9562, section 4)
            ChannelKind::Map => {
                self.maps.get(id_or_slug).or_else(|| self.maps.get(id_or_slug.to_ascii_lowercase().as_str()))
            }
            ChannelKind::Organization => self.organizations.get(id_or_slug),
        };
        self.channels.get(no?)
    }

    /// All channels of a kind, the oldest first.
    pub fn channels(&self, kind: ChannelKind) -> Vec<Arc<Channel>> {
        let mut list: Vec<_> = self.channels.values().filter(|channel| channel.kind == kind).cloned().collect();
        list.sort_by_key(|channel| channel.no);
        list
    }

    pub fn count_channels(&self) -> usize {
        self.channels.len()
    }

    fn names(&mut self, kind: ChannelKind) -> &mut HashMap<Arc<str>, ChannelNo> {
        match kind {
            ChannelKind::Map => &mut self.maps,
            ChannelKind::Organization => &mut self.organizations,
        }
    }

    // ---- tokens --------------------------------------------------------------------------------------------------

    /// Whose token has this hash.
    pub fn known(&self, hash: &TokenHash) -> Option<&Known> {
        self.principals.get(hash)
    }

    pub fn last_use(&self, id: &str) -> Option<&Arc<LastUse>> {
        self.known(&self.token(id)?.hash).map(|known| &known.last_use)
    }

    /// The tokens whose last use is not written yet, in no order.
    pub fn unwritten_uses(&self) -> Vec<(TokenId, Arc<LastUse>)> {
        let unwritten = self.principals.values().filter(|known| known.last_use.unwritten_s().is_some());
        unwritten.map(|known| (TokenId::from(&*known.principal.id), known.last_use.clone())).collect()
    }

    pub fn token(&self, id: &str) -> Option<&Arc<TokenRecord>> {
        self.tokens.get(id)
    }

    /// The tokens of a channel, in no order.
    pub fn tokens_of(&self, no: ChannelNo) -> &[Arc<TokenRecord>] {
        self.tokens.of(no)
    }

    /// The tokens of one channel, or of all, the oldest first.
    pub fn tokens(&self, no: Option<ChannelNo>) -> Vec<Arc<TokenRecord>> {
        self.tokens.list(no, |a, b| a.id.cmp(&b.id))
    }

    // ---- webhooks ------------------------------------------------------------------------------------------------

    pub fn webhook(&self, id: &str) -> Option<&Arc<Webhook>> {
        self.webhooks.get(id)
    }

    /// The webhooks of a channel, in no order.
    pub fn webhooks_of(&self, no: ChannelNo) -> &[Arc<Webhook>] {
        self.webhooks.of(no)
    }

    /// The webhooks of one channel, or of all, the oldest first.
    pub fn webhooks(&self, no: Option<ChannelNo>) -> Vec<Arc<Webhook>> {
        self.webhooks.list(no, |a, b| (a.inserted_ms, &a.id).cmp(&(b.inserted_ms, &b.id)))
    }

    /// The webhooks of a channel that are kept as one document, in its order.
    pub fn document(&self, no: ChannelNo) -> Vec<Arc<Webhook>> {
        let mut entries: Vec<_> =
            self.webhooks_of(no).iter().filter(|webhook| webhook.entry.is_some()).cloned().collect();
        entries.sort_by_key(|webhook| webhook.entry.as_ref().map(|entry| entry.position));
        entries
    }

    // ---- sources -------------------------------------------------------------------------------------------------

    pub fn source(&self, id: &str) -> Option<&Arc<Source>> {
        self.sources.get(id)
    }

    /// The sources of a channel, in no order.
    pub fn sources_of(&self, no: ChannelNo) -> &[Arc<Source>] {
        self.sources.of(no)
    }

    /// All sources, the oldest first.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.sources.list(None, |a, b| (a.inserted_ms, &a.id).cmp(&(b.inserted_ms, &b.id)))
    }

    // ---- changes -------------------------------------------------------------------------------------------------

    /// How many changes have made a difference. Copies that were given the same changes have the same, also when one of
    /// them was given some a second time.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Puts a record in, or takes one out; returns what has happened by that, if anything has that others care about.
    pub(super) fn put(&mut self, record: Record) -> Option<CatalogEvent> {
        let event = match record {
            Record::Channel(no, Some(channel)) => return self.put_channel(no, channel),
            Record::Channel(no, None) => self.remove_channel(no)?,
            Record::Token(_, Some(token)) => return self.put_token(token),
            Record::Token(id, None) => {
                let token = self.tokens.remove(&id)?;
                self.principals.remove(&token.hash);
                CatalogEvent::TokenRevoked { token }
            }
            Record::Webhook(_, Some(new)) => match self.webhooks.put(new.clone()) {
                None => CatalogEvent::WebhookMade { webhook: new },
                Some(old) if *old == *new => return None,
                Some(old) => CatalogEvent::WebhookChanged { old, new },
            },
            Record::Webhook(id, None) => CatalogEvent::WebhookRemoved { webhook: self.webhooks.remove(&id)? },
            Record::Source(_, Some(new)) => match self.sources.put(new.clone()) {
                None => CatalogEvent::SourceMade { source: new },
                Some(old) if *old == *new => return None,
                Some(old) => CatalogEvent::SourceChanged { old, new },
            },
            Record::Source(id, None) => CatalogEvent::SourceRemoved { source: self.sources.remove(&id)? },
        };
        self.version += 1;
        Some(event)
    }

    fn put_channel(&mut self, no: ChannelNo, new: Arc<Channel>) -> Option<CatalogEvent> {
        let old = self.channels.insert(no, new.clone());
        if old.as_ref() == Some(&new) {
            return None;
        }
        self.version += 1;
        let names = self.names(new.kind);
        if let Some(old) = &old {
            names.remove(&old.slug);
        }
        names.insert(new.id.clone(), no);
        names.insert(new.slug.clone(), no);
        old.map(|old| CatalogEvent::ChannelChanged { old, new })
    }

    fn remove_channel(&mut self, no: ChannelNo) -> Option<CatalogEvent> {
        let channel = self.channels.remove(&no)?;
        let names = self.names(channel.kind);
        names.remove(&channel.slug);
        names.remove(&channel.id);
        Some(CatalogEvent::ChannelRemoved { channel })
    }

    fn put_token(&mut self, new: Arc<TokenRecord>) -> Option<CatalogEvent> {
        let old = self.tokens.put(new.clone());
        if old.as_ref() == Some(&new) {
            return None;
        }
        self.version += 1;
        let known = old.as_ref().and_then(|old| self.principals.remove(&old.hash));
        let last_use = known.map(|known| known.last_use).unwrap_or_default();
        self.principals.insert(new.hash, Known { principal: Arc::new(new.principal()), last_use });
        old.map(|old| CatalogEvent::TokenChanged { old, new })
    }

    /// Takes over the allocation of a record that is in here with the same content, so that it is in memory once.
    pub(super) fn share(&mut self, record: &Record) {
        match record {
            Record::Channel(no, Some(channel)) => {
                if let Some(own) = self.channels.get_mut(no).filter(|own| own == &channel) {
                    *own = channel.clone();
                }
            }
            Record::Token(_, Some(token)) => self.tokens.share(token),
            Record::Webhook(_, Some(webhook)) => self.webhooks.share(webhook),
            Record::Source(_, Some(source)) => self.sources.share(source),
            Record::Channel(_, None) | Record::Token(_, None) | Record::Webhook(_, None) | Record::Source(_, None) => {}
        }
    }
}

/// A record that belongs to a channel.
trait Belongs {
    type Id: Borrow<str> + Clone + Eq + Hash;

    fn id(&self) -> &Self::Id;
    fn channel_no(&self) -> ChannelNo;
}

impl Belongs for TokenRecord {
    type Id = TokenId;

    fn id(&self) -> &TokenId {
        &self.id
    }

    fn channel_no(&self) -> ChannelNo {
        ChannelNo(self.channel)
    }
}

impl Belongs for Webhook {
    type Id = WebhookId;

    fn id(&self) -> &WebhookId {
        &self.id
    }

    fn channel_no(&self) -> ChannelNo {
        ChannelNo(self.channel)
    }
}

impl Belongs for Source {
    type Id = SourceId;

    fn id(&self) -> &SourceId {
        &self.id
    }

    fn channel_no(&self) -> ChannelNo {
        ChannelNo(self.channel)
    }
}

/// Records of one kind, by id and by the channel that they belong to.
struct Owned<T: Belongs> {
    by_id: HashMap<T::Id, Arc<T>>,
    /// Shared by copies until one of them changes. A channel has few of them: their number has a limit in the settings.
    by_channel: HashMap<ChannelNo, Arc<Vec<Arc<T>>>>,
}

impl<T: Belongs> Clone for Owned<T> {
    fn clone(&self) -> Owned<T> {
        Owned { by_id: self.by_id.clone(), by_channel: self.by_channel.clone() }
    }
}

impl<T: Belongs> Default for Owned<T> {
    fn default() -> Owned<T> {
        Owned { by_id: HashMap::new(), by_channel: HashMap::new() }
    }
}

impl<T: Belongs> Owned<T> {
    fn get(&self, id: &str) -> Option<&Arc<T>> {
        self.by_id.get(id)
    }

    fn of(&self, no: ChannelNo) -> &[Arc<T>] {
        self.by_channel.get(&no).map_or(&[], |records| records)
    }

    fn list(&self, no: Option<ChannelNo>, order: impl FnMut(&Arc<T>, &Arc<T>) -> Ordering) -> Vec<Arc<T>> {
        let mut list = match no {
            Some(no) => self.of(no).to_vec(),
            None => self.by_id.values().cloned().collect(),
        };
        list.sort_by(order);
        list
    }

    /// Returns the record in whose place it came.
    fn put(&mut self, record: Arc<T>) -> Option<Arc<T>> {
        let old = self.remove(record.id().borrow());
        Arc::make_mut(self.by_channel.entry(record.channel_no()).or_default()).push(record.clone());
        self.by_id.insert(record.id().clone(), record);
        old
    }

    fn remove(&mut self, id: &str) -> Option<Arc<T>> {
        let old = self.by_id.remove(id)?;
        if let Entry::Occupied(mut of_channel) = self.by_channel.entry(old.channel_no()) {
            Arc::make_mut(of_channel.get_mut()).retain(|other| other.id() != old.id());
            if of_channel.get().is_empty() {
                of_channel.remove();
            }
        }
        Some(old)
    }
}

impl<T: Belongs + PartialEq> Owned<T> {
    fn share(&mut self, record: &Arc<T>) {
        let is_same = |own: &Arc<T>| own == record && !Arc::ptr_eq(own, record);
        if self.get(record.id().borrow()).is_some_and(is_same) {
            self.put(record.clone());
        }
    }
}
