//! How often each of many has done something in the current minute: the requests of tokens, the wrong credentials of addresses.
//! The one place where that is counted. (The rate of a source is its owner's, and slides: `model::source`.)

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// No step takes longer with more of them, so that many slow nobody down.
pub struct PerMinute<K> {
    /// Those beyond count together as one, so that memory has an end.
    keys_max: usize,
    current: Mutex<Minute<K>>,
}

/// Forgotten as a whole when it is over.
struct Minute<K> {
    at: i64,
    counts: HashMap<K, u32>,
    /// Of all for whom there was no room.
    others: u32,
}

impl<K> Minute<K> {
    fn new(at: i64) -> Minute<K> {
        Minute { at, counts: HashMap::new(), others: 0 }
    }
}

/// What one has done in this minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// This time included.
    pub times: u32,
    /// Seconds until the minute ends.
    pub left_s: u64,
}

impl<K: Eq + Hash> PerMinute<K> {
    pub fn new(keys_max: usize) -> PerMinute<K> {
        PerMinute { keys_max, current: Mutex::new(Minute::new(0)) }
    }

    /// Counts once more.
    pub fn count<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&self, key: &Q, now_s: i64) -> Count
    where
        K: Borrow<Q>,
    {
        let at = now_s.div_euclid(60);
        let mut minute = self.current.lock();
        let past = (minute.at != at).then(|| std::mem::replace(&mut *minute, Minute::new(at)));
        let has_room = minute.counts.len() < self.keys_max;
        let Minute { counts, others, .. } = &mut *minute;
        let times = match counts.get_mut(key) {
            Some(times) => times,
            None if has_room => counts.entry(key.to_owned()).or_default(),
            None => others,
        };
        *times = times.saturating_add(1);
        let times = *times;
        drop(minute);
        // what may be many is let go without the lock
        drop(past);
        Count { times, left_s: (60 - now_s.rem_euclid(60)) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_by_itself_until_the_minute_ends() {
        let counts = PerMinute::<u32>::new(10);
        assert_eq!(counts.count(&1, 60), Count { times: 1, left_s: 60 });
        assert_eq!(counts.count(&1, 119), Count { times: 2, left_s: 1 });
        assert_eq!(counts.count(&2, 119).times, 1);
        assert_eq!(counts.count(&1, 120), Count { times: 1, left_s: 60 });
        // a clock that is set back begins another minute
        assert_eq!(counts.count(&1, -1), Count { times: 1, left_s: 1 });
    }

    #[test]
    fn those_without_room_count_together() {
        let counts = PerMinute::<u32>::new(2);
        assert!((0..2).all(|n| counts.count(&n, 0).times == 1));
        assert_eq!((counts.count(&7, 0).times, counts.count(&8, 0).times), (1, 2));
        assert_eq!(counts.count(&1, 0).times, 2);
        assert_eq!(counts.current.lock().counts.len(), 2);
    }
}
