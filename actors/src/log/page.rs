//! A page while it is being read: events of blocks that overlap are merged into the order of their ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;

use super::losses::DamagedRange;
use super::record::{self, Record};
use super::several::Only;
use super::{Direction, LogPage, PageLimit};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;
use crate::model::json::Canonical;

/// Events that take less than this part of their block are copied out of it, so that they do not keep all of it in memory.
const SHARED_PART: usize = 4;

/// A block of one channel that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub channel: ChannelNo,
    pub first: EventId,
    pub last: EventId,
}

#[derive(Debug)]
pub struct PageBuilder {
    pub no: ChannelNo,
    /// Where it began.
    start: EventId,
    /// How far it was read so far.
    pub cursor: EventId,
    /// Nothing beyond this is shown.
    pub head: EventId,
    pub limit: PageLimit,
    pub direction: Direction,
    pub events: Vec<Event>,
    bytes: usize,
    /// The limit was reached, and there is something behind it.
    pub more: bool,
    /// Records that failed their check.
    pub damaged: Vec<DamagedRange>,
    /// Only some channels are wanted of those that are read.
    pub(super) only: Option<Only>,
    by: Option<Arc<str>>,
}

/// A block that was loaded, and what of it comes next.
struct Opened {
    channel: ChannelNo,
    block: Bytes,
    /// In the order of reading.
    records: Vec<Record>,
    next: usize,
    taken_bytes: usize,
}

impl PageBuilder {
    pub fn new(no: ChannelNo, cursor: EventId, head: EventId, limit: PageLimit, direction: Direction) -> PageBuilder {
        PageBuilder {
            no,
            start: cursor,
            cursor,
            head,
            limit,
            direction,
            events: Vec::new(),
            bytes: 0,
            more: false,
            damaged: Vec::new(),
            only: None,
            by: None,
        }
    }

    pub fn is_forward(&self) -> bool {
        self.direction == Direction::Forward
    }

    pub fn has_room(&self) -> bool {
        self.events.is_empty() || self.events.len() < self.limit.events && self.bytes < self.limit.bytes
    }

    /// Events and bytes that still fit; at least one of each.
    pub fn room(&self) -> PageLimit {
        PageLimit {
            events: self.limit.events.saturating_sub(self.events.len()).max(1),
            bytes: self.limit.bytes.saturating_sub(self.bytes).max(1),
        }
    }

    /// Whether a block or segment with these first and last events may hold one that the page wants.
    pub fn wants(&self, first: EventId, last: EventId) -> bool {
        first <= self.head
            && match self.direction {
                Direction::Forward => last > self.cursor,
                Direction::Backward => first < self.cursor,
            }
    }

    /// Takes the events of some blocks in their order, loading a block only when it may hold the next event. The sources
    /// are in the order of their first ids, and no event outside of them lies between theirs.
    ///
    /// # Errors
    /// The error of `load`. What was taken before it stays in the page.
    pub fn merge<E>(
        &mut self,
        sources: &[Source],
        is_checked: bool,
        mut load: impl FnMut(usize) -> Result<Bytes, E>,
    ) -> Result<(), E> {
        let mut waiting: Vec<usize> = (0..sources.len()).collect();
        self.look_at(sources.len());
        waiting.retain(|n| self.wants(sources[*n].first, sources[*n].last) && self.takes(sources[*n].channel));
        match self.direction {
            Direction::Forward => waiting.reverse(),
            Direction::Backward => waiting.sort_by_key(|n| sources[*n].last),
        }
        let direction = self.direction;
        let begin = |n: usize| match direction {
            Direction::Forward => rank(sources[n].first, direction),
            Direction::Backward => rank(sources[n].last, direction),
        };
        let mut opened: Vec<Opened> = Vec::new();
        let mut heap: BinaryHeap<Reverse<(u128, usize)>> = BinaryHeap::new();
        let taken_from = self.events.len();
        let mut owners: Vec<usize> = Vec::new();
        let mut done = Ok(());
        loop {
            let next = heap.peek().map(|Reverse((rank, _))| *rank);
            if let Some(n) = waiting.last().copied().filter(|n| next.is_none_or(|next| begin(*n) <= next)) {
                if !self.has_room() {
                    self.more = true;
                    break;
                }
                waiting.pop();
                let block = match load(n) {
                    Ok(block) => block,
                    Err(e) => {
                        done = Err(e);
                        break;
                    }
                };
                let block = self.open(&sources[n], block, is_checked);
                if let Some(first) = block.records.first() {
                    heap.push(Reverse((rank(first.id, direction), opened.len())));
                    opened.push(block);
                }
                continue;
            }
            let Some(Reverse((_, owner))) = heap.pop() else { break };
            if !self.has_room() {
                self.more = true;
                break;
            }
            let block = &mut opened[owner];
            let record = block.records[block.next];
            block.next += 1;
            if let Some(next) = block.records.get(block.next) {
                heap.push(Reverse((rank(next.id, direction), owner)));
            }
            let Some(event) = record::event(&block.block, record, block.channel, self.by.as_ref()) else {
                self.damaged.push(DamagedRange::new(block.channel, record.id.before(), record.id));
                continue;
            };
            block.taken_bytes += record.end - record.start;
            self.by = Some(event.origin.by.clone());
            self.bytes += record::size(&event);
            self.events.push(event);
            owners.push(owner);
        }
        for (event, owner) in self.events[taken_from..].iter_mut().zip(owners) {
            let Opened { block, taken_bytes, .. } = &opened[owner];
            if taken_bytes * SHARED_PART < block.len()
                && let Some(copy) = Canonical::from_log(Bytes::copy_from_slice(event.payload.as_bytes()))
            {
                event.payload = copy;
            }
        }
        done
    }

    fn open(&mut self, source: &Source, block: Bytes, is_checked: bool) -> Opened {
        let mut records = Vec::new();
        check(source, &block, is_checked, |record| records.push(record), &mut self.damaged);
        records.retain(|record: &Record| self.wants(record.id, record.id));
        if self.direction == Direction::Backward {
            records.reverse();
        }
        Opened { channel: source.channel, block, records, next: 0, taken_bytes: 0 }
    }

    /// The page as it was read, when nothing is left to be read.
    pub fn finish(self) -> LogPage {
        let last = match (self.more, self.events.last()) {
            (true, last) => self.end(last.map_or(self.start, |event| event.id)),
            (false, _) if self.direction == Direction::Forward => self.head.max(self.start),
            (false, _) => EventId::ZERO,
        };
        LogPage { events: self.events, more: self.more, last }
    }
}

/// Walks over the records of a block and notes where one fails its check.
pub fn check(
    source: &Source,
    block: &[u8],
    is_checked: bool,
    mut take: impl FnMut(Record),
    damaged: &mut Vec<DamagedRange>,
) {
    let mut after = source.first.before();
    let mut is_hole = false;
    for record in record::scan(block, is_checked) {
        match record {
            // an id out of order or beyond the block is one that was read wrong
            Ok(record) if record.id > after && record.id <= source.last => {
                if std::mem::take(&mut is_hole) {
                    damaged.push(DamagedRange::new(source.channel, after, record.id.before()));
                }
                after = record.id;
                take(record);
            }
            _ => is_hole = true,
        }
    }
    if is_hole || after != source.last {
        damaged.push(DamagedRange::new(source.channel, after, source.last));
    }
}

/// Ids as numbers of which the smallest is read next.
fn rank(id: EventId, direction: Direction) -> u128 {
    let number = u128::from_be_bytes(id.to_bytes());
    match direction {
        Direction::Forward => number,
        Direction::Backward => !number,
    }
}
