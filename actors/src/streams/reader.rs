//! The data path of a session: a cursor that reads the ring of its local channel, or the log while the ring does not reach
//! back to it. Pages of the log are read, filtered and encoded on a blocking thread, one at a time, and their bytes count
//! in the memory budget until the connection has taken them.
//!
//! The log also knows what is missing in it. A page tells of it with notices of a gap: what retention took before the first
//! event, what damage took where it is missing. The ring needs none, because it has every event after its floor.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::budget::{Part, Reservation};
use crate::feed::frame::Encoding;
use crate::feed::trace::TraceMark;
use crate::model::event::ChannelNo;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::streams::session::{Gap, GapReason, Start};
use crate::streams::view::LogError;
use crate::streams::{LocalChannel, Streams};

/// A page of the log, already filtered and encoded.
struct Page {
    bytes: Bytes,
    events: u32,
    /// The last event of the page, whether it passed the filter or not.
    last: Option<EventId>,
    more: bool,
    /// What is missing up to here was told, in this page or before it.
    told: EventId,
    /// Of those events that passed the filter and are remembered.
    marks: Vec<TraceMark>,
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

#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the thread that read it panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

type Reading = Pin<Box<dyn Future<Output = Result<Page, PageError>>>>;

pub(super) struct Reader {
    channel: Rc<LocalChannel>,
    filter: Filter,
    encoding: Encoding,
    cursor: EventId,
    /// What is missing up to here was told. It may be ahead of the cursor, which stays at the last event that was read.
    told: EventId,
    /// Where the next frame is in the ring; none: the cursor has to be looked up, or the log read.
    position: Option<u64>,
    /// A page under way, and the floor of the ring when it was asked for.
    reading: Option<(Reading, EventId)>,
}

/// What came of asking a reader for more.
pub(super) enum Read {
    Chunk(Bytes, u32),
    /// Everything up to the head was taken.
    UpToDate,
    /// The log could not be read; the session ends and the client resumes.
    Failed,
}

impl Reader {
    pub fn new(channel: Rc<LocalChannel>, filter: Filter, encoding: Encoding, start: &Start) -> Reader {
        let cursor = start.cursor;
        Reader { channel, filter, encoding, cursor, told: cursor, position: None, reading: None }
    }

    /// `lost_position`: the ring was replaced, so the position in it means nothing.
    pub fn poll(&mut self, cx: &mut Context<'_>, lost_position: bool) -> Poll<Read> {
        if lost_position {
            self.position = None;
        }
        loop {
            if let Some((reading, floor)) = &mut self.reading {
                let floor = *floor;
                let page = match reading.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(page) => page,
                };
                self.reading = None;
                match page {
                    Ok(page) => {
                        self.cursor = page.last.unwrap_or(self.cursor);
                        self.told = page.told;
                        if !page.more {
                            // everything up to the ring's floor was in the log before the page was read
                            self.cursor = self.cursor.max(floor);
                        }
                        page.marks.iter().for_each(|mark| mark.handed(1));
                        if !page.bytes.is_empty() {
                            return Poll::Ready(Read::Chunk(page.bytes, page.events));
                        }
                    }
                    Err(e) => {
                        log::error!(channel = self.channel.no.0; "the log could not be read: {e}");
                        return Poll::Ready(Read::Failed);
                    }
                }
            }
            if self.position.is_none() {
                self.position = self.channel.position_after(self.cursor);
            }
            let Some(position) = self.position else {
                self.read_log();
                continue;
            };
            let write_bytes = self.channel.streams().limits.write_bytes;
            match self.channel.take(position, self.encoding, &self.filter, write_bytes) {
                None => self.position = None,
                Some(taken) if taken.next == position => {
                    if self.cursor > self.channel.head() {
                        // The log is ahead of the ring, so what the ring gets next may be behind the cursor: the
                        // end of the ring is no position to go on from.
                        self.position = None;
                    }
                    return Poll::Ready(Read::UpToDate);
                }
                Some(taken) => {
                    self.position = Some(taken.next);
                    self.cursor = taken.cursor;
                    if taken.events > 0 {
                        return Poll::Ready(Read::Chunk(taken.bytes, taken.events));
                    }
                }
            }
        }
    }

    fn read_log(&mut self) {
        let floor = self.channel.floor();
        let (streams, no) = (self.channel.streams().clone(), self.channel.no);
        let (after, told) = (self.cursor, self.told);
        let (filter, encoding) = (self.filter.clone(), self.encoding);
        let blocking = actix_rt::task::spawn_blocking(move || read_page(&streams, no, after, told, &filter, encoding));
        self.reading = Some((Box::pin(async move { Ok(blocking.await??) }), floor));
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

/// Reads and encodes one page. What is missing up to `told` is not told again. Blocks.
fn read_page(
    streams: &Streams,
    no: ChannelNo,
    after: EventId,
    told: EventId,
    filter: &Filter,
    encoding: Encoding,
) -> Result<Page, LogError> {
    let view = &streams.handles.view;
    // what comes in behind it while the page is read may be in the page or not
    let head = view.head();
    let page = view.page(no, after, streams.limits.page_events, streams.limits.page_bytes)?;
    let mut bytes = Vec::new();
    let mut told = told.max(after);
    // asked after the page was read: what retention or damage took before that is announced, never skipped
    let expired = view.expired(no);
    if expired > told {
        Gap { requested: after, oldest: view.oldest(no), reason: GapReason::Expired }.write(encoding, &mut bytes);
        told = expired;
    }
    let ids: Vec<EventId> = page.frames.iter().map(|frame| frame.event.id).collect();
    let last = page.last.unwrap_or(after);
    let end = if page.more { PageEnd::More(last) } else { PageEnd::Complete(last.max(head)) };
    let holes = holes(told, &ids, end, |after, through| view.damaged_between(no, after, through));
    told = holes.last().map_or(told, |hole| hole.through);
    let tell = |hole: Hole, bytes: &mut Vec<u8>| {
        let next = ids.get(ids.partition_point(|id| *id <= hole.through)).copied();
        let oldest = next.or_else(|| view.oldest(no).filter(|oldest| *oldest > hole.through));
        Gap { requested: hole.after, oldest, reason: GapReason::Damaged }.write(encoding, bytes);
    };
    let mut holes = holes.into_iter().peekable();
    let mut passed = Vec::new();
    for (n, frame) in page.frames.iter().enumerate() {
        // also before an event that does not pass the filter: what is missing might have passed it
        while let Some(hole) = holes.next_if(|hole| hole.before == n) {
            tell(hole, &mut bytes);
        }
        if frame.passes(filter) {
            bytes.extend_from_slice(&frame.bytes(encoding));
            passed.push(frame.event.id);
        }
    }
    holes.for_each(|hole| tell(hole, &mut bytes));
    let events = passed.len() as u32;
    let marks = streams.handles.trace.marks(passed.into_iter());
    let _held = streams.handles.budget.hold(Part::Frames, bytes.capacity());
    let bytes = Bytes::from_owner(PageBytes { bytes, _held });
    Ok(Page { bytes, events, last: page.last, more: page.more, told, marks })
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
