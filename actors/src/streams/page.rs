//! Pages: events read from the log or taken from a ring, judged by a session's filter and encoded, with notices of what is
//! missing among them. Where a filter takes long they are made a slice at a time, on threads for that
//! ([`crate::compute`]), so that a session delays no other one.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Part, Reservation};
use crate::compute::Slice;
use crate::feed::frame::{Encoding, Frame};
use crate::feed::trace::TraceMark;
use crate::metrics::Shed;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::selection::Selection;
use crate::streams::Streams;
use crate::streams::session::{Gap, GapReason};
use crate::streams::view::LogError;

/// Events of one page of the log where the filter may take long, so that the first matches need not wait for many others.
const EXPRESSION_PAGE_EVENTS: usize = 128;

/// Events that were judged and encoded.
pub(super) struct Page {
    pub bytes: Bytes,
    pub events: u32,
    /// The last event of the page, whether it passed the filter or not.
    pub last: Option<EventId>,
    pub more: bool,
    /// What is missing up to here was told, in this page or before it.
    pub told: EventId,
    /// Of those events that passed the filter and are remembered.
    pub marks: Vec<TraceMark>,
    /// What the filter took.
    pub steps: u64,
}

/// The text of a page, and its place in the memory budget.
struct PageBytes {
    bytes: Vec<u8>,
    _held: Reservation,
}

impl AsRef<[u8]> for PageBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a session reads, and how.
#[derive(Clone)]
pub(super) struct Wanted {
    pub selection: Selection,
    pub filter: Filter,
    pub encoding: Encoding,
    /// What is missing up to here is not told again.
    pub told: EventId,
}

/// A page in the making.
pub(super) struct PageWork<F> {
    streams: Arc<Streams>,
    wanted: Wanted,
    frames: std::vec::IntoIter<F>,
    /// Frames so far.
    done: usize,
    /// Of all frames.
    ids: Vec<EventId>,
    holes: VecDeque<Hole>,
    /// The page ends when it has so many bytes.
    bytes_max: usize,
    /// Events of deleted channels may be among the frames.
    has_deleted: bool,
    bytes: Vec<u8>,
    passed: Vec<EventId>,
    last: Option<EventId>,
    more: bool,
    told: EventId,
    steps: u64,
}

impl PageWork<Frame> {
    /// Reads a page of the log behind `after`. Blocks.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read(streams: Arc<Streams>, wanted: Wanted, after: EventId) -> Result<PageWork<Frame>, LogError> {
        let (view, selection) = (&streams.handles.view, &wanted.selection);
        // what comes in behind it while the page is read may be in the page or not
        let head = view.head();
        let events = match wanted.filter.has_expression() {
            true => streams.limits.page_events.min(EXPRESSION_PAGE_EVENTS),
            false => streams.limits.page_events,
        };
        let page = view.page(selection, after, events, streams.limits.page_bytes)?;
        let mut bytes = Vec::new();
        let mut told = wanted.told.max(after);
        // asked after the page was read: what retention or damage took before that is announced, never skipped
        if let Some(expired) = view.expired(selection, told) {
            let oldest = view.oldest(selection);
            Gap { requested: after, oldest, reason: GapReason::Expired }.write(wanted.encoding, &mut bytes);
            // what is known to go may still be there, and when it goes it is told of again
            told = told.max(oldest.map_or(expired, |oldest| expired.min(oldest.before())));
        }
        let ids: Vec<EventId> = page.frames.iter().map(|frame| frame.event.id).collect();
        let last = page.last.unwrap_or(after);
        let end = if page.more { PageEnd::More(last) } else { PageEnd::Complete(last.max(head)) };
        let holes = holes(told, &ids, end, |after, through| view.damaged_between(selection, after, through));
        told = holes.last().map_or(told, |hole| hole.through);
        Ok(PageWork {
            wanted,
            frames: page.frames.into_iter(),
            done: 0,
            ids,
            holes: holes.into(),
            bytes_max: usize::MAX,
            has_deleted: false,
            bytes,
            passed: Vec::new(),
            last: page.last,
            more: page.more,
            told,
            steps: 0,
            streams,
        })
    }
}

impl PageWork<Arc<Frame>> {
    /// Frames of a ring, which has no holes; there may be more behind them.
    pub fn of_ring(streams: Arc<Streams>, wanted: Wanted, frames: Vec<Arc<Frame>>) -> PageWork<Arc<Frame>> {
        PageWork {
            ids: Vec::new(),
            done: 0,
            holes: VecDeque::new(),
            bytes_max: streams.limits.write_bytes,
            // a ring of all channels still holds what was published before one of them was deleted
            has_deleted: !matches!(wanted.selection, Selection::One(_)),
            bytes: Vec::new(),
            passed: Vec::new(),
            last: frames.last().map(|frame| frame.event.id),
            more: true,
            told: wanted.told,
            steps: 0,
            frames: frames.into_iter(),
            wanted,
            streams,
        }
    }
}

impl<F: Borrow<Frame>> PageWork<F> {
    /// Goes on for a slice; none: there is more to do.
    pub fn step(&mut self, slice: &mut Slice) -> Option<Page> {
        while let Some(frame) = self.frames.next() {
            let frame: &Frame = frame.borrow();
            // also before an event that does not pass the filter: what is missing might have passed it
            self.tell_holes(|hole, done| hole.before <= done);
            self.done += 1;
            if self.passes(frame) {
                self.bytes.extend_from_slice(&frame.bytes(self.wanted.encoding));
                self.passed.push(frame.event.id);
            }
            if self.frames.len() == 0 {
                break;
            }
            if self.bytes.len() >= self.bytes_max {
                (self.last, self.more) = (Some(frame.event.id), true);
                break;
            }
            if slice.is_over() {
                return None;
            }
        }
        self.tell_holes(|_, _| true);
        Some(self.finish())
    }

    fn passes(&mut self, frame: &Frame) -> bool {
        let judged = frame.judge(&self.wanted.filter);
        self.steps += judged.steps;
        if judged.is_spent {
            self.streams.handles.metrics.shed(Shed::Filter);
        }
        let is_gone = |no| self.has_deleted && !self.streams.handles.view.has_channel(no);
        judged.verdict.is_match() && !is_gone(frame.event.channel)
    }

    /// Tells of the next holes, as long as they are `due`.
    fn tell_holes(&mut self, due: impl Fn(&Hole, usize) -> bool) {
        let view = &self.streams.handles.view;
        while let Some(hole) = self.holes.pop_front_if(|hole| due(hole, self.done)) {
            let next = self.ids.get(self.ids.partition_point(|id| *id <= hole.through)).copied();
            let oldest = next.or_else(|| view.oldest(&self.wanted.selection).filter(|oldest| *oldest > hole.through));
            let gap = Gap { requested: hole.after, oldest, reason: GapReason::Damaged };
            gap.write(self.wanted.encoding, &mut self.bytes);
        }
    }

    fn finish(&mut self) -> Page {
        let (bytes, passed) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.passed));
        let events = passed.len() as u32;
        let handles = &self.streams.handles;
        let marks = handles.trace.marks(passed.into_iter());
        let _held = handles.budget.hold(Part::Frames, bytes.capacity());
        let bytes = Bytes::from_owner(PageBytes { bytes, _held });
        Page { bytes, events, last: self.last, more: self.more, told: self.told, marks, steps: self.steps }
    }
}

/// Events that may be missing because of damage, with ids in (after, through], and where a page tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    after: EventId,
    through: EventId,
    /// The index of the event before which it is told; the number of events at the end of the page.
    before: usize,
}

/// Where a page ends.
#[derive(Clone, Copy, Debug)]
enum PageEnd {
    /// There is more behind this event.
    More(EventId),
    /// Everything up to here was read.
    Complete(EventId),
}

/// The holes behind `told` that a page with these events tells of, in order. `damaged` returns the first damaged part of a
/// range.
///
/// A hole is told before the first event behind its beginning. No event behind a missing one is sent before, also where
/// events of other channels lie within the hole: a reader that resumes from one of them would not be told.
/// A hole that begins at the end of the page or later is left to the next page.
fn holes(
    told: EventId,
    ids: &[EventId],
    end: PageEnd,
    damaged: impl Fn(EventId, EventId) -> Option<(EventId, EventId)>,
) -> Vec<Hole> {
    let (begins_before, through_max) = match end {
        PageEnd::More(last) => (last, EventId::MAX),
        PageEnd::Complete(through) => (through, through),
    };
    let mut holes: Vec<Hole> = Vec::new();
    let mut told = told;
    while let Some((after, through)) = damaged(told, through_max).filter(|(after, _)| *after < begins_before) {
        told = through;
        let before = ids.partition_point(|id| *id <= after);
        match holes.last_mut() {
            // as when a block of each channel is lost: the reader sees one hole
            Some(hole) if hole.through == after && hole.before == before => hole.through = through,
            _ => holes.push(Hole { after, through, before }),
        }
    }
    holes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> EventId {
        EventId::ZERO.plus(n)
    }

    /// The first part of (after, through] that is in one of the ranges, as the log says it.
    fn first_of(ranges: &[(u32, u32)], after: EventId, through: EventId) -> Option<(EventId, EventId)> {
        let within = ranges.iter().map(|(from, to)| (id(*from).max(after), id(*to).min(through)));
        within.filter(|(after, through)| after < through).min()
    }

    fn holes_of(told: u32, ids: &[u32], end: PageEnd, ranges: &[(u32, u32)]) -> Vec<Hole> {
        let ids: Vec<EventId> = ids.iter().copied().map(id).collect();
        holes(id(told), &ids, end, |after, through| first_of(ranges, after, through))
    }

    fn hole(after: u32, through: u32, before: usize) -> Hole {
        Hole { after: id(after), through: id(through), before }
    }

    #[test]
    fn a_hole_is_told_before_the_event_behind_it_or_at_the_end() {
        let (more, complete) = (PageEnd::More(id(9)), PageEnd::Complete(id(12)));
        let ids = [1, 2, 5, 9];
        assert_eq!(holes_of(0, &ids, more, &[]), []);
        assert_eq!(holes_of(0, &ids, more, &[(2, 4), (5, 8)]), [hole(2, 4, 2), hole(5, 8, 3)]);
        assert_eq!(holes_of(3, &ids[2..], more, &[(2, 4)]), [hole(3, 4, 0)], "the cursor is inside of it");
        assert_eq!(holes_of(4, &ids, more, &[(2, 4)]), [], "it was told");
        assert_eq!(holes_of(0, &ids, more, &[(9, 11)]), [], "the next page tells it");
        assert_eq!(holes_of(0, &ids, complete, &[(9, 11)]), [hole(9, 11, 4)]);
        assert_eq!(holes_of(0, &ids, complete, &[(11, 20)]), [hole(11, 12, 4)], "what is behind was not read");
        assert_eq!(holes_of(0, &[], complete, &[(0, 12)]), [hole(0, 12, 0)]);
        assert_eq!(holes_of(0, &ids, more, &[(2, 3), (3, 4)]), [hole(2, 4, 2)], "they are one to the reader");
        assert_eq!(holes_of(0, &ids, more, &[(4, 20)]), [hole(4, 20, 2)], "events of other channels are within it");
    }

    proptest! {
        #[test]
        fn every_hole_is_told_once_in_order_and_in_its_place_whatever_the_page_size(
            events in proptest::collection::btree_set(1u32..60, 0..40),
            ranges in proptest::collection::vec((0u32..60, 1u32..9), 0..8),
            start in 0u32..60,
            page_events in 1usize..12,
        ) {
            const HEAD: u32 = 60;
            let ranges: Vec<_> = ranges.into_iter().map(|(after, len)| (after, (after + len).min(HEAD))).collect();
            let (mut cursor, mut told) = (start, id(start));
            let mut announced = BTreeSet::new();
            // a second round: a reader that comes back to the log is told nothing again
            for round in 0..2 {
                loop {
                    let mut rest = events.range(cursor + 1..).copied();
                    let page: Vec<u32> = rest.by_ref().take(page_events).collect();
                    let is_last = rest.next().is_none();
                    let last = page.last().copied().unwrap_or(cursor);
                    let end = if is_last { PageEnd::Complete(id(HEAD)) } else { PageEnd::More(id(last)) };
                    let ids: Vec<EventId> = page.iter().copied().map(id).collect();
                    let from = told.max(id(cursor));
                    for hole in holes(from, &ids, end, |after, through| first_of(&ranges, after, through)) {
                        prop_assert!(round == 0, "told again: {:?}", hole);
                        prop_assert!(hole.after >= told && hole.through > hole.after);
                        let previous = hole.before.checked_sub(1).map_or(id(cursor), |n| ids[n]);
                        prop_assert!(previous <= hole.after);
                        prop_assert!(ids.get(hole.before).is_none_or(|next| *next > hole.after));
                        announced.extend((start + 1..=HEAD).filter(|n| hole.after < id(*n) && id(*n) <= hole.through));
                        told = hole.through;
                    }
                    cursor = last;
                    if is_last {
                        break;
                    }
                }
            }
            let is_damaged = |n: &u32| ranges.iter().any(|(after, through)| after < n && n <= through);
            let damaged: BTreeSet<u32> = (start + 1..=HEAD).filter(is_damaged).collect();
            prop_assert_eq!(announced, damaged);
        }
    }
}
