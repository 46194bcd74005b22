//! Blocks of an open database that were unpacked lately: a reader goes through a stripe in many pages, and each page wants
//! blocks of the same channels.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::model::id::EventId;

/// Records that are kept, of each open database. A stripe has to fit.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

const _: () = assert!(CACHE_BYTES as u64 > super::segment_writer::STRIPE_BYTES);

#[derive(Debug, Default)]
pub struct BlockCache(Mutex<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    /// By channel and first id.
    blocks: HashMap<(u32, EventId), Bytes>,
    bytes: usize,
}

impl BlockCache {
    pub fn get(&self, channel: u32, first: EventId) -> Option<Bytes> {
        self.0.lock().blocks.get(&(channel, first)).cloned()
    }

    pub fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    pub fn put(&self, channel: u32, first: EventId, records: &Bytes) {
        if records.len() > CACHE_BYTES {
            return;
        }
        let mut cache = self.0.lock();
        if cache.bytes + records.len() > CACHE_BYTES {
            *cache = Blocks::default();
        }
        if cache.blocks.insert((channel, first), records.clone()).is_none() {
            cache.bytes += records.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::id;

    #[test]
    fn it_keeps_no_more_than_its_size() {
        let cache = BlockCache::default();
        let block = Bytes::from(vec![1; 500_000]);
        for n in 0..5 {
            cache.put(n, id(n), &block);
        }
        let kept = (0..5).filter(|n| cache.get(*n, id(*n)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [4], "it begins anew when it is full");
        cache.put(9, id(9), &Bytes::from(vec![1; CACHE_BYTES + 1]));
        assert_eq!(cache.get(9, id(9)), None);
    }
}
