//! Filters that were compiled lately, so that equal ones are compiled once and share their program, its regular expressions
//! and the memory of both, whoever asks for them.
//!
//! Bounded by [`FILTERS_MAX`] and [`BYTES_MAX`]; what was not asked for for the longest time goes first. A filter that is in
//! use and leaves here lives on, it is only compiled again for the next who asks.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::{Compiled, FilterSpec};

/// The most filters that are kept.
pub const FILTERS_MAX: usize = 512;
/// The most memory of all that are kept, in bytes.
pub const BYTES_MAX: usize = 8 << 20;

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(|| Mutex::new(Cache::new(FILTERS_MAX, BYTES_MAX)));

/// The filter with this spec in its normal form, if it was compiled lately.
pub(super) fn get(spec: &FilterSpec) -> Option<Arc<Compiled>> {
    CACHE.lock().get(spec)
}

/// Keeps a filter, and returns the one to use: that of whoever compiled the same first.
pub(super) fn put(compiled: Compiled) -> Arc<Compiled> {
    CACHE.lock().put(compiled)
}

struct Cache {
    filters_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Grows with each use.
    uses: u64,
    /// Each with its last use.
    filters: HashMap<FilterSpec, (Arc<Compiled>, u64)>,
}

impl Cache {
    fn new(filters_max: usize, bytes_max: usize) -> Cache {
        Cache { filters_max, bytes_max, bytes: 0, uses: 0, filters: HashMap::new() }
    }

    fn get(&mut self, spec: &FilterSpec) -> Option<Arc<Compiled>> {
        self.uses += 1;
        let (compiled, used) = self.filters.get_mut(spec)?;
        *used = self.uses;
        Some(compiled.clone())
    }

    fn put(&mut self, compiled: Compiled) -> Arc<Compiled> {
        if let Some(earlier) = self.get(&compiled.spec) {
            return earlier;
        }
        let compiled = Arc::new(compiled);
        self.bytes += compiled.bytes;
        self.filters.insert(compiled.spec.clone(), (compiled.clone(), self.uses));
        while self.filters.len() > self.filters_max || self.bytes > self.bytes_max {
            let oldest = self.filters.iter().min_by_key(|(_, (_, used))| *used).map(|(spec, _)| spec.clone());
            let Some((gone, _)) = oldest.and_then(|spec| self.filters.remove(&spec)) else { break };
            self.bytes -= gone.bytes;
        }
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(n: usize, bytes: usize) -> Compiled {
        let spec = FilterSpec { session: Some(n.to_string()), ..FilterSpec::default() };
        Compiled { spec, prefixes: Box::default(), program: None, bytes, only_requests: false }
    }

    #[test]
    fn what_was_used_last_stays_within_both_bounds() {
        let mut cache = Cache::new(3, 100);
        for n in 0..3 {
            cache.put(compiled(n, 10));
        }
        assert!(cache.get(&compiled(0, 10).spec).is_some());
        cache.put(compiled(3, 10));
        let kept = |cache: &Cache, n| cache.filters.contains_key(&compiled(n, 0).spec);
        assert_eq!([0, 1, 2, 3].map(|n| kept(&cache, n)), [true, false, true, true]);
        cache.put(compiled(4, 85));
        assert_eq!([0, 2, 3, 4].map(|n| kept(&cache, n)), [false, false, true, true]);
        assert_eq!(cache.bytes, 95);
        cache.put(compiled(5, 1000));
        assert_eq!((cache.filters.len(), cache.bytes), (0, 0), "what is larger than all of it is not kept");
    }

    #[test]
    fn the_first_of_two_equal_filters_is_the_one() {
        let mut cache = Cache::new(3, 100);
        let (first, second) = (cache.put(compiled(1, 10)), cache.put(compiled(1, 10)));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(cache.bytes, 10);
    }
}
