//! Counts per type and time, read from the log.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::Hub;
use super::rooms::Rooms;
use super::scan::{self, ScanBudget, ScanError, ScanLimits};
use crate::budget::{Part, Reservation};
use crate::compute::Slice;
use crate::feed::frame::Frame;
use crate::log::{Direction, PageLimit};
use crate::metrics::Shed;
use crate::model::access::Principal;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::selection::Selection;

/// The most types that are counted by name: the first that occur.
pub const TYPES_MAX: usize = 1000;
/// The most counts by type of all buckets together.
pub const BUCKET_TYPES_MAX: usize = 50_000;
/// Where all others are counted.
pub const OTHER: &str = "other";
/// The most types that are told apart to say how many there are.
const TOLD_APART_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct StatsQuery {
    pub filter: Filter,
    pub now_ms: i64,
    pub window_ms: i64,
    pub bucket_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    pub start_ms: i64,
    pub types: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub since_ms: i64,
    pub until_ms: i64,
    pub total: u64,
    /// How many types there are, with those that are not named.
    pub types_total: u64,
    pub types: BTreeMap<String, u64>,
    /// In the order of time, also the empty ones.
    pub buckets: Vec<Bucket>,
}

/// Tells types apart by their hashes, within the memory budget.
struct TypesSeen {
    hasher: RandomState,
    hashes: HashSet<u64>,
    held: Vec<Reservation>,
}

/// What a hash takes up in the set, with the room that the set keeps.
const HASH_BYTES: usize = 20;

impl TypesSeen {
    /// # Errors
    /// There is no memory left.
    fn see(&mut self, kind: &str, rooms: &Rooms) -> Result<(), ScanError> {
        if self.hashes.len() < TOLD_APART_MAX && self.hashes.insert(self.hasher.hash_one(kind)) {
            let held = self.held.len() * HELD_AT_ONCE;
            if self.hashes.len() > held {
                let reserved = rooms.budget.reserve(Part::Caches, HELD_AT_ONCE * HASH_BYTES);
                self.held.push(reserved.ok_or(ScanError::Memory)?);
            }
        }
        Ok(())
    }
}

/// Hashes for which memory is reserved together.
const HELD_AT_ONCE: usize = 16 << 10;

/// Counts in the making.
struct Counting {
    selection: Selection,
    filter: Filter,
    bucket_ms: i64,
    budget: ScanBudget,
    after: EventId,
    frames: std::vec::IntoIter<Frame>,
    more: bool,
    seen: TypesSeen,
    named: BTreeSet<String>,
    /// Counts by type in all buckets.
    bucket_types: usize,
    stats: Stats,
}

impl Counting {
    fn new(selection: Selection, query: StatsQuery, limits: ScanLimits) -> Counting {
        let StatsQuery { filter, now_ms, window_ms, bucket_ms } = query;
        // buckets begin at whole multiples, so that two requests in a row agree on them
        let since_ms = (now_ms - window_ms).div_euclid(bucket_ms) * bucket_ms;
        let count = (now_ms - since_ms).div_euclid(bucket_ms) + 1;
        let start = |n| Bucket { start_ms: since_ms + n * bucket_ms, types: BTreeMap::new() };
        Counting {
            selection,
            filter,
            bucket_ms,
            budget: ScanBudget::new(limits),
            after: EventId::at_time(since_ms.max(0) as u64).before(),
            frames: Vec::new().into_iter(),
            more: true,
            seen: TypesSeen { hasher: RandomState::new(), hashes: HashSet::new(), held: Vec::new() },
            named: BTreeSet::new(),
            bucket_types: 0,
            stats: Stats {
                since_ms,
                until_ms: now_ms,
                total: 0,
                types_total: 0,
                types: BTreeMap::new(),
                buckets: (0..count).map(start).collect(),
            },
        }
    }

    /// Goes on for a slice; none: there is more to do.
    fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<Result<Stats, ScanError>> {
        loop {
            let done = match self.frames.next() {
                Some(frame) => self.count(&frame, rooms).map(|()| false),
                None if self.more => self.read(rooms).map(|()| false),
                None => Ok(true),
            };
            match done {
                Err(e) => return Some(Err(e)),
                Ok(true) => {
                    self.stats.types_total = self.seen.hashes.len() as u64;
                    return Some(Ok(std::mem::take(&mut self.stats)));
                }
                Ok(false) if self.more || self.frames.len() > 0 => {
                    if let Some(e) = self.budget.used_up() {
                        rooms.metrics.shed(Shed::Statistics);
                        return Some(Err(e));
                    }
                }
                Ok(false) => {}
            }
            if slice.is_over() {
                return None;
            }
        }
    }

    fn read(&mut self, rooms: &Rooms) -> Result<(), ScanError> {
        let limit = PageLimit { events: rooms.limits.page_events, bytes: rooms.limits.page_bytes };
        let page = rooms.frames.page(&self.selection, self.after, limit, Direction::Forward);
        let page = page.map_err(|e| ScanError::Read(e.into()))?;
        if page.frames.is_empty() {
            self.budget.read_nothing();
        }
        self.after = page.last.unwrap_or(self.after);
        self.more = page.more;
        self.frames = page.frames.into_iter();
        Ok(())
    }

    fn count(&mut self, frame: &Frame, rooms: &Rooms) -> Result<(), ScanError> {
        if !self.budget.judge(frame, &self.filter, rooms) {
            return Ok(());
        }
        let kind = frame.event.kind.as_str();
        self.seen.see(kind, rooms)?;
        if !self.named.contains(kind) && self.named.len() < TYPES_MAX {
            self.named.insert(kind.to_owned());
        }
        let kind = if self.named.contains(kind) { kind } else { OTHER };
        let stats = &mut self.stats;
        stats.total += 1;
        *stats.types.entry(kind.into()).or_default() += 1;
        let at = (frame.event.id.time_ms() as i64 - stats.since_ms).div_euclid(self.bucket_ms);
        // an id may run ahead of the clock after the clock stepped back: it counts as now
        let last = stats.buckets.len() - 1;
        let types = &mut stats.buckets[(at.max(0) as usize).min(last)].types;
        if let Some(count) = types.get_mut(kind) {
            *count += 1;
        } else if self.bucket_types < BUCKET_TYPES_MAX {
            self.bucket_types += 1;
            types.insert(kind.into(), 1);
        } else {
            *types.entry(OTHER.into()).or_default() += 1;
        }
        Ok(())
    }
}

impl Hub {
    /// Counts the events of a channel, or of all, that were appended within the window.
    ///
    /// # Errors
    /// The window holds more than one request may look at, the caller has too many scans under way, or the log cannot be
    /// read.
    pub async fn stats(
        &self,
        principal: &Principal,
        selection: Selection,
        query: StatsQuery,
    ) -> Result<Stats, ScanError> {
        let mut counting = Counting::new(selection, query, self.rooms.limits.scans);
        self.scan(principal, Some(scan::WAIT_MAX), move |rooms, slice| counting.step(rooms, slice)).await
    }
}
