//! Reading several channels in one order: the stripes and commits of all channels are gone through, and of their blocks only
//! those of wanted channels are read. Segments that hold none of them are passed over.

use std::fmt;
use std::sync::Arc;

use super::losses::DamagedRange;
use super::page::PageBuilder;
use super::state::{Log, Snapshot};
use super::{Direction, LogError, LogPage, PageLimit, Span};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;

/// Blocks that a page looks at before it ends with what it has found: a few milliseconds of work. Tests come to it sooner.
const LOOKED_AT_MAX: usize = if cfg!(test) { 64 } else { 64 * 1024 };

/// Some of the channels.
#[derive(Clone)]
pub struct SomeChannels {
    /// In order.
    listed: Arc<[ChannelNo]>,
    also: Option<Arc<Also>>,
}

type Also = dyn Fn(ChannelNo) -> bool + Send + Sync;

impl SomeChannels {
    /// Those that are listed.
    pub fn listed(listed: impl IntoIterator<Item = ChannelNo>) -> SomeChannels {
        let mut listed: Vec<ChannelNo> = listed.into_iter().collect();
        listed.sort_unstable();
        SomeChannels { listed: listed.into(), also: None }
    }

    /// Those, and those for which `also` is true. It is asked for each block, on the thread that reads, without any lock.
    pub fn and(self, also: impl Fn(ChannelNo) -> bool + Send + Sync + 'static) -> SomeChannels {
        SomeChannels { also: Some(Arc::new(also)), ..self }
    }

    pub(super) fn has(&self, no: ChannelNo) -> bool {
        self.listed.binary_search(&no).is_ok() || self.also.as_ref().is_some_and(|also| also(no))
    }

    /// What a part of the log may hold of them, by what it holds of one channel or of all.
    fn span(&self, span: impl Fn(ChannelNo) -> Option<Span>) -> Option<Span> {
        if self.also.is_some() {
            return span(ChannelNo::ALL);
        }
        let spans = self.listed.iter().filter_map(|no| span(*no));
        spans.reduce(|a, b| Span { first: a.first.min(b.first), last: a.last.max(b.last), events: a.events + b.events })
    }
}

impl fmt::Debug for SomeChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listed, also } = self;
        f.debug_struct("SomeChannels").field("listed", listed).field("also", &also.is_some()).finish()
    }
}

/// How far a page of some channels has looked.
#[derive(Debug)]
pub(super) struct Only {
    pub channels: SomeChannels,
    looked_at: usize,
    /// Up to here everything was looked at; none at the beginning.
    reached: Option<EventId>,
}

impl PageBuilder {
    /// The page takes the events of these channels, of all that it reads.
    pub(super) fn of(mut self, channels: SomeChannels) -> PageBuilder {
        debug_assert_eq!(self.no, ChannelNo::ALL);
        self.only = Some(Only { channels, looked_at: 0, reached: None });
        self
    }

    /// Whether it takes the events of a channel that it comes upon.
    pub(super) fn takes(&self, no: ChannelNo) -> bool {
        self.only.as_ref().is_none_or(|only| only.channels.has(no))
    }

    /// Blocks were looked at, whether they are wanted or not.
    pub(super) fn look_at(&mut self, blocks: usize) {
        if let Some(only) = &mut self.only {
            only.looked_at += blocks;
        }
    }

    /// Everything up to here, in the direction of reading, was looked at. Ends the page when that was enough.
    pub(super) fn reach(&mut self, at: EventId) {
        if let Some(only) = self.only.as_mut().filter(|_| !self.more) {
            only.reached = Some(at);
            self.more = only.looked_at >= LOOKED_AT_MAX;
        }
    }

    /// Where a page that has more behind it goes on: behind its last event, or further.
    pub(super) fn end(&self, last: EventId) -> EventId {
        match (self.only.as_ref().and_then(|only| only.reached), self.direction) {
            (None, _) => last,
            (Some(reached), Direction::Forward) => last.max(reached),
            (Some(reached), Direction::Backward) => last.min(reached),
        }
    }

    /// What a part of the log may hold for the page, by what it holds of one channel or of all.
    pub(super) fn span(&self, span: impl Fn(ChannelNo) -> Option<Span>) -> Option<Span> {
        match &self.only {
            None => span(self.no),
            Some(only) => only.channels.span(span),
        }
    }
}

impl Log {
    /// A page of several channels in one order, as [`Log::read`]. It may end before its limit, also without an event, with
    /// `more`: then it goes on at `last`. Blocks.
    ///
    /// # Errors
    /// What the disk says. Nothing was read then.
    pub fn read_some(
        &self,
        channels: &SomeChannels,
        cursor: EventId,
        limit: PageLimit,
        direction: Direction,
    ) -> Result<LogPage, LogError> {
        self.read_with(|head| PageBuilder::new(ChannelNo::ALL, cursor, head, limit, direction).of(channels.clone()))
    }

    /// The oldest kept event of the channels.
    pub fn oldest_of_some(&self, channels: &SomeChannels) -> Option<EventId> {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let firsts_in = |numbers: &mut dyn Iterator<Item = u32>, span: &dyn Fn(ChannelNo) -> Option<Span>| {
            let wanted = numbers.map(ChannelNo).filter(|no| channels.has(*no));
            wanted.filter_map(|no| Some(span(no)?.first)).min()
        };
        let in_sealed = sealed.iter().find_map(|sealed| {
            firsts_in(&mut sealed.manifest.channels.iter().map(|span| span.channel), &|no| sealed.span(no))
        });
        in_sealed.or_else(|| {
            let unsealed = rolled.iter().chain([&active]);
            unsealed.into_iter().find_map(|part| firsts_in(&mut part.channels().into_iter(), &|no| part.span(no)))
        })
    }

    /// The newest event of the channels that retention took, if it is newer than `after`; else zero.
    pub fn expired_of_some(&self, channels: &SomeChannels, after: EventId) -> EventId {
        // whether a channel is wanted is asked when the lock is given back
        let newer = self.losses.read().expired_after(after);
        newer.into_iter().filter(|(no, _)| channels.has(*no)).map(|(_, through)| through).max().unwrap_or_default()
    }

    /// The first part of (after, through] in which events of the channels may be missing because of damage.
    pub fn damaged_of_some(
        &self,
        channels: &SomeChannels,
        after: EventId,
        through: EventId,
    ) -> Option<(EventId, EventId)> {
        let ranges: Vec<DamagedRange> = self.losses.read().damaged().to_vec();
        let concerns =
            |range: &&DamagedRange| range.channel == ChannelNo::ALL.0 || channels.has(ChannelNo(range.channel));
        let within = ranges.iter().filter(concerns).map(|range| (range.after.max(after), range.through.min(through)));
        within.filter(|(after, through)| after < through).min()
    }

    /// About how many events of a channel, or of all, are in (after, through]: of a segment that lies in it by a part, that part.
    pub fn count_of(&self, no: ChannelNo, after: EventId, through: EventId) -> u64 {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let sealed = sealed.iter().filter_map(|sealed| sealed.span(no));
        let unsealed = rolled.iter().chain([&active]).filter_map(|part| part.span(no));
        sealed.chain(unsealed).map(|span| part_of(span, after, through)).sum()
    }

    /// As [`Log::count_of`], of several channels.
    pub fn count_some(&self, channels: &SomeChannels, after: EventId, through: EventId) -> u64 {
        let Snapshot { sealed, rolled, active, .. } = self.snapshot();
        let within = |span: &Span| span.last > after && span.first <= through;
        let count_in = |numbers: Vec<u32>, span: &dyn Fn(ChannelNo) -> Option<Span>| -> u64 {
            let wanted = numbers.into_iter().map(ChannelNo).filter(|no| channels.has(*no));
            wanted.filter_map(span).map(|span| part_of(span, after, through)).sum()
        };
        let mut count = 0;
        for sealed in sealed.iter().filter(|sealed| sealed.span(ChannelNo::ALL).is_some_and(|span| within(&span))) {
            let numbers = sealed.manifest.channels.iter().map(|span| span.channel).collect();
            count += count_in(numbers, &|no| sealed.span(no));
        }
        for part in rolled.iter().chain([&active]) {
            count += count_in(part.channels(), &|no| part.span(no));
        }
        count
    }
}

/// The part of a span's events that are in (after, through], as if they were spread evenly over its time.
fn part_of(span: Span, after: EventId, through: EventId) -> u64 {
    if span.last <= after || span.first > through {
        return 0;
    }
    if span.first > after && span.last <= through {
        return span.events;
    }
    let (from, to) = (span.first.max(after).time_ms(), span.last.min(through).time_ms());
    let (whole, part) = (span.last.time_ms() - span.first.time_ms(), to.saturating_sub(from));
    let events = u128::from(span.events) * u128::from(part + 1) / u128::from(whole + 1);
    (events as u64).clamp(1, span.events)
}
