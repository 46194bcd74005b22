//! The channels in memory, found by number, id or slug. Read by every request; the state database keeps the records.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::ChannelNo;

#[derive(Default)]
pub struct Directory {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    by_no: HashMap<ChannelNo, Arc<Channel>>,
    /// Ids and slugs; the two cannot be mistaken for each other, because a slug that looks like an id is refused.
    by_name: HashMap<(ChannelKind, Arc<str>), ChannelNo>,
}

impl Directory {
    pub fn find(&self, kind: ChannelKind, id_or_slug: &str) -> Option<Arc<Channel>> {
        let index = self.index.read();
        let no = index.by_name.get(&(kind, Arc::from(id_or_slug)))?;
        index.by_no.get(no).cloned()
    }

    pub fn get(&self, no: ChannelNo) -> Option<Arc<Channel>> {
        self.index.read().by_no.get(&no).cloned()
    }

    /// Puts a channel in, in place of the one with its number.
    pub fn put(&self, channel: Channel) -> Arc<Channel> {
        let mut index = self.index.write();
        let no = channel.no();
        if let Some(old) = index.by_no.remove(&no) {
            index.by_name.remove(&(old.kind, old.slug.clone()));
        }
        index.by_name.insert((channel.kind, channel.id.clone()), no);
        index.by_name.insert((channel.kind, channel.slug.clone()), no);
        let channel = Arc::new(channel);
        index.by_no.insert(no, channel.clone());
        channel
    }

    pub fn remove(&self, no: ChannelNo) {
        let mut index = self.index.write();
        if let Some(old) = index.by_no.remove(&no) {
            index.by_name.remove(&(old.kind, old.slug.clone()));
            index.by_name.remove(&(old.kind, old.id.clone()));
        }
    }

    /// All channels of a kind, oldest first.
    pub fn list(&self, kind: ChannelKind) -> Vec<Arc<Channel>> {
        let index = self.index.read();
        let mut list: Vec<_> = index.by_no.values().filter(|c| c.kind == kind).cloned().collect();
        list.sort_by_key(|c| c.no);
        list
    }

    pub fn count(&self) -> usize {
        self.index.read().by_no.len()
    }
}
