//! Which dedupe keys were used within the window: all of them in memory, so that no look-up reads the disk.
//!
//! A key counts for so much time as has really passed, also when somebody sets the wall clock meanwhile. (After a start the wall
//! clock counts, because times are stored by it.)
//!
//! A key costs its entry in a list by time, and a slot of a hash table: 46 and at most 12 bytes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::chunks::Chunks;
use super::{Dedupe, DedupeKey};
use crate::clock::Moment;
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// What a key costs at most, for the memory budget.
pub const KEY_BYTES_MAX: usize = 60;

/// The wall clock was set when it went on by so much more or less than the time that passed.
const SET_MS: u64 = 1_000;

/// Bytes without alignment, so that nothing is left empty between them.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: [u8; 16],
    channel: [u8; 4],
    first: [u8; 16],
    count: [u8; 4],
    time_ms: [u8; 6],
}

impl Slot {
    fn new(dedupe: &Dedupe, time_ms: u64) -> Slot {
        let mut slot = Slot {
            key: dedupe.key.0,
            channel: dedupe.channel.0.to_be_bytes(),
            first: dedupe.first.to_bytes(),
            count: dedupe.count.to_be_bytes(),
            time_ms: [0; 6],
        };
        slot.set_time(time_ms);
        slot
    }

    fn set_time(&mut self, time_ms: u64) {
        // 48 bits of milliseconds are those of an event id
        self.time_ms.copy_from_slice(&time_ms.to_be_bytes()[2..]);
    }

    fn time_ms(&self) -> u64 {
        let mut time = [0; 8];
        time[2..].copy_from_slice(&self.time_ms);
        u64::from_be_bytes(time)
    }

    fn dedupe(&self) -> Dedupe {
        Dedupe {
            channel: ChannelNo(u32::from_be_bytes(self.channel)),
            key: DedupeKey(self.key),
            first: EventId::from_bytes(self.first),
            count: u32::from_be_bytes(self.count),
        }
    }
}

#[derive(Debug)]
pub struct DedupeTable {
    window_ms: u64,
    keys_max: usize,
    /// Oldest first.
    slots: Chunks<Slot>,
    /// Numbers of slots, cut to 32 bits. Of a key that was used again after its window the newer one.
    table: HashTable<u32>,
    hasher: RandomState,
    /// When the clocks were looked at last.
    clock: Option<Moment>,
    /// Keys that had to go before their time.
    forgotten: u64,
}

impl DedupeTable {
    /// Keys are known for `window_ms`, and at most `keys_max` of them.
    pub fn new(window_ms: u64, keys_max: usize) -> DedupeTable {
        DedupeTable {
            window_ms,
            keys_max,
            slots: Chunks::default(),
            table: HashTable::new(),
            hasher: RandomState::new(),
            clock: None,
            forgotten: 0,
        }
    }

    /// Notes a key that was used at `time_ms`. Keys come in the order of their times.
    pub fn add(&mut self, dedupe: &Dedupe, time_ms: u64) {
        let slot = Slot::new(dedupe, time_ms);
        let number = self.slots.push(slot) as u32;
        let (slots, hasher) = (&self.slots, &self.hasher);
        let is_same = |other: &u32| slot_of(slots, *other).is_some_and(|other| is_key(other, slot.key, slot.channel));
        let hash_of = |other: &u32| slot_of(slots, *other).map_or(0, |other| hash(hasher, other.key, other.channel));
        let hash = hash(hasher, slot.key, slot.channel);
        match self.table.find_mut(hash, is_same) {
            Some(known) => *known = number,
            None => drop(self.table.insert_unique(hash, number, hash_of)),
        }
        self.expire(time_ms);
    }

    /// Looks at the clocks. When somebody has set the wall clock since the last look, all times are set by as much.
    pub fn follow(&mut self, now: Moment) {
        let Some(before) = self.clock.replace(now).filter(|before| before.boot == now.boot) else { return };
        let passed_ms = now.elapsed_ms.saturating_sub(before.elapsed_ms);
        let set_by_ms = now.wall_ms as i64 - (before.wall_ms + passed_ms) as i64;
        if set_by_ms.unsigned_abs() >= SET_MS {
            self.slots.iter_mut().for_each(|slot| slot.set_time(slot.time_ms().saturating_add_signed(set_by_ms)));
        }
    }

    /// Lets go of what is out of the window.
    pub fn expire(&mut self, now_ms: u64) {
        while let Some(oldest) = self.slots.get(self.slots.first()).copied() {
            let is_expired = !self.in_window(oldest.time_ms(), now_ms);
            if !is_expired && self.slots.len() <= self.keys_max {
                break;
            }
            self.forgotten += u64::from(!is_expired);
            let number = self.slots.first() as u32;
            let hash = hash(&self.hasher, oldest.key, oldest.channel);
            if let Ok(entry) = self.table.find_entry(hash, |other| *other == number) {
                entry.remove();
            }
            self.slots.pop_front();
        }
        // a table that was large once is not kept for good
        if self.table.capacity() > 4 * self.table.len().max(1024) {
            let (slots, hasher) = (&self.slots, &self.hasher);
            self.table.shrink_to(2 * self.table.len(), |number| {
                slot_of(slots, *number).map_or(0, |slot| hash_of_slot(hasher, slot))
            });
        }
    }

    /// What a key stands for, within the window: the first id and the count.
    pub fn known(&self, no: ChannelNo, key: DedupeKey, now_ms: u64) -> Option<(EventId, u32)> {
        let channel = no.0.to_be_bytes();
        let is_same = |number: &u32| slot_of(&self.slots, *number).is_some_and(|slot| is_key(slot, key.0, channel));
        let number = self.table.find(hash(&self.hasher, key.0, channel), is_same)?;
        let slot = slot_of(&self.slots, *number).filter(|slot| self.in_window(slot.time_ms(), now_ms))?;
        let Dedupe { first, count, .. } = slot.dedupe();
        Some((first, count))
    }

    pub fn in_window(&self, time_ms: u64, now_ms: u64) -> bool {
        time_ms.saturating_add(self.window_ms) >= now_ms
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What the table has allocated.
    pub fn bytes(&self) -> usize {
        self.slots.bytes() + self.table.allocation_size()
    }

    /// Where the numbers of the keys end at this moment.
    pub fn end(&self) -> usize {
        self.slots.end()
    }

    /// Keys from number `from` on and before `end`, at most `count` of them: (number, key, time). Those that have expired
    /// are left out.
    pub fn page(&self, from: usize, end: usize, count: usize) -> Vec<(usize, Dedupe, u64)> {
        let numbers = from.max(self.slots.first())..end.min(self.slots.end());
        let entry = |number: usize| self.slots.get(number).map(|slot| (number, slot.dedupe(), slot.time_ms()));
        numbers.filter_map(entry).take(count).collect()
    }
}

fn hash(hasher: &RandomState, key: [u8; 16], channel: [u8; 4]) -> u64 {
    hasher.hash_one((key, channel))
}

fn hash_of_slot(hasher: &RandomState, slot: &Slot) -> u64 {
    hash(hasher, slot.key, slot.channel)
}

fn is_key(slot: &Slot, key: [u8; 16], channel: [u8; 4]) -> bool {
    slot.key == key && slot.channel == channel
}

/// The slot of a number that was cut to 32 bits. There are never as many slots at once.
fn slot_of(slots: &Chunks<Slot>, number: u32) -> Option<&Slot> {
    let first = slots.first();
    slots.get(first + number.wrapping_sub(first as u32) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 1_100_000;

    fn dedupe(channel: u32, name: &str, n: u32) -> Dedupe {
        let key = DedupeKey::of_event(name);
        Dedupe { channel: ChannelNo(channel), key, first: EventId::at_time(1).plus(n), count: n }
    }

    fn known(table: &DedupeTable, channel: u32, name: &str, now_ms: u64) -> Option<u32> {
        table.known(ChannelNo(channel), DedupeKey::of_event(name), now_ms).map(|(_, count)| count)
    }

    #[test]
    fn a_key_is_known_within_its_window_and_in_its_channel() {
        let mut table = DedupeTable::new(100, 10);
        table.add(&dedupe(1, "a", 1), 1000);
        assert_eq!(known(&table, 1, "a", 1100), Some(1));
        assert_eq!(known(&table, 1, "a", 1101), None);
        assert_eq!(known(&table, 2, "a", 1000), None);
        assert_eq!(known(&table, 1, "b", 1000), None);
    }

    #[test]
    fn a_key_that_is_used_again_after_its_window_stays_for_its_newer_use() {
        let mut table = DedupeTable::new(100, 10);
        table.add(&dedupe(1, "a", 1), 1000);
        table.add(&dedupe(1, "a", 2), 1101);
        assert_eq!((known(&table, 1, "a", 1201), table.len()), (Some(2), 1));
        table.expire(1202);
        assert_eq!((known(&table, 1, "a", 1202), table.len(), table.table.len()), (None, 0, 0));
    }

    #[test]
    fn a_key_counts_for_the_time_that_has_passed_however_the_wall_clock_is_set() {
        let mut table = DedupeTable::new(100_000, 10);
        let mut now = Moment { wall_ms: 1_000_000, boot: 1, elapsed_ms: 5_000 };
        let pass = |now: &mut Moment, ms: u64, set_by_ms: i64| {
            now.elapsed_ms += ms;
            now.wall_ms = (now.wall_ms + ms).saturating_add_signed(set_by_ms);
        };
        table.follow(now);
        table.add(&dedupe(1, "a", 1), now.wall_ms);
        for set_by_ms in [86_400_000, -3_600_000] {
            pass(&mut now, 40_000, set_by_ms);
            table.follow(now);
            table.add(&dedupe(1, &set_by_ms.to_string(), 2), now.wall_ms);
            assert_eq!(known(&table, 1, "a", now.wall_ms), Some(1), "set by {set_by_ms} ms");
        }
        pass(&mut now, 30_000, 0);
        table.follow(now);
        table.expire(now.wall_ms);
        assert_eq!((known(&table, 1, "a", now.wall_ms), table.len()), (None, 2));
        // another boot: what has passed is not known
        let later = Moment { wall_ms: now.wall_ms + 200_000, boot: 2, elapsed_ms: 1 };
        table.follow(later);
        table.expire(later.wall_ms);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn keys_beyond_the_bound_are_forgotten_oldest_first_and_counted() {
        let mut table = DedupeTable::new(1000, 3);
        for n in 0..5 {
            table.add(&dedupe(1, &n.to_string(), n), 1000);
        }
        assert_eq!((table.forgotten(), known(&table, 1, "1", 1000), known(&table, 1, "2", 1000)), (2, None, Some(2)));
    }

    #[test]
    fn a_page_of_keys_ends_where_it_was_frozen() {
        let mut table = DedupeTable::new(100, 100);
        for n in 0..10 {
            table.add(&dedupe(1, &n.to_string(), n), 1000 + u64::from(n));
        }
        let end = table.end();
        table.add(&dedupe(1, "later", 99), 1105);
        let page = table.page(0, end, 3);
        assert_eq!(page.iter().map(|(_, dedupe, _)| dedupe.count).collect::<Vec<_>>(), [5, 6, 7]);
        let rest = table.page(page[2].0 + 1, end, 100);
        assert_eq!(
            rest.iter().map(|(_, dedupe, time_ms)| (dedupe.count, *time_ms)).collect::<Vec<_>>(),
            [(8, 1008), (9, 1009)]
        );
    }

    #[test]
    fn a_million_keys_cost_sixty_bytes_each() {
        let mut table = DedupeTable::new(100, KEYS);
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        };
        let mut most = 0;
        for n in 0..KEYS + 50_000 {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&random().to_be_bytes());
            key[8..].copy_from_slice(&random().to_be_bytes());
            let first = EventId::at_time(1).plus(n as u32);
            table.add(&Dedupe { channel: ChannelNo(1), key: DedupeKey(key), first, count: 1 }, 1000);
            if n >= 100_000 && n % 1000 == 0 {
                most = most.max(table.bytes() / table.len());
            }
        }
        assert_eq!((table.len(), table.table.len()), (KEYS, KEYS));
        assert!(table.bytes() < 66_000_000, "{} bytes", table.bytes());
        assert!(most <= KEY_BYTES_MAX, "{most} bytes a key");
    }
}
