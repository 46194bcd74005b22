//! History: pages of the log for people and programs that ask instead of listening.

use bytes::Bytes;
use futures_util::Stream;

use super::Hub;
use super::rooms::Rooms;
use crate::catalog::reader::ReadError;
use crate::feed::frame::Frame;
use crate::log::{Direction, PageLimit};
use crate::model::envelope::Envelope;
use crate::model::event::ChannelNo;
use crate::model::filter::Filter;
use crate::model::id::EventId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub filter: Filter,
    /// Events whose time is at or after this, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Events whose time is at or before this.
    pub until_ms: Option<i64>,
    /// Go on behind this event, in the order asked for.
    pub after: Option<EventId>,
    pub limit: usize,
    pub order: Order,
}

pub struct HistoryPage {
    /// The envelopes, as JSON.
    pub events: Vec<Bytes>,
    /// Where the next page begins; none: this was the last one.
    pub next: Option<EventId>,
}

/// How far before `since` reading starts: an event may say that it happened up to this much after it was appended.
const CLOCK_SKEW_MS: i64 = 24 * 3600 * 1000;

/// Most events that one request looks at. A page may end early because of it; `next` then goes on.
const SCAN_EVENTS: usize = 100_000;

impl HistoryQuery {
    fn begin(&self) -> EventId {
        if let Some(after) = self.after {
            return after;
        }
        match (self.order, self.since_ms) {
            (Order::OldestFirst, Some(since)) => oldest_from(since),
            (Order::OldestFirst, None) => EventId::ZERO,
            (Order::NewestFirst, _) => EventId::MAX,
        }
    }

    fn takes(&self, frame: &Frame) -> bool {
        let ts = frame.event.ts_ms;
        self.since_ms.is_none_or(|since| ts >= since)
            && self.until_ms.is_none_or(|until| ts <= until)
            && frame.passes(&self.filter)
    }

    /// Whether no event from here on, in the order asked for, can be wanted.
    fn past(&self, id: EventId) -> bool {
        self.order == Order::NewestFirst && self.since_ms.is_some_and(|since| id <= oldest_from(since))
    }
}

fn oldest_from(since_ms: i64) -> EventId {
    EventId::at_time(since_ms.saturating_sub(CLOCK_SKEW_MS).max(0) as u64).before()
}

fn page(rooms: &Rooms, no: ChannelNo, envelope: Envelope, query: &HistoryQuery) -> Result<HistoryPage, ReadError> {
    let direction = match query.order {
        Order::OldestFirst => Direction::Forward,
        Order::NewestFirst => Direction::Backward,
    };
    let mut page = HistoryPage { events: Vec::new(), next: None };
    let (mut at, mut scanned) = (query.begin(), 0);
    loop {
        let events = rooms.limits.page_events.min(query.limit.max(16));
        let read = rooms.frames.page(no, at, PageLimit { events, bytes: rooms.limits.page_bytes }, direction)?;
        let count = read.frames.len();
        for (n, frame) in read.frames.into_iter().enumerate() {
            at = frame.event.id;
            scanned += 1;
            if query.past(at) {
                return Ok(page);
            }
            if query.takes(&frame) {
                page.events.push(frame.json(envelope));
            }
            if page.events.len() == query.limit || scanned == SCAN_EVENTS {
                page.next = (read.more || n + 1 < count).then_some(at);
                return Ok(page);
            }
        }
        if !read.more {
            return Ok(page);
        }
        // behind events of channels that were deleted, too
        at = read.last.unwrap_or(at);
    }
}

impl Hub {
    /// A page of a channel, or of all, in the envelope asked for.
    pub async fn history(
        &self,
        no: ChannelNo,
        envelope: Envelope,
        query: HistoryQuery,
    ) -> Result<HistoryPage, ReadError> {
        self.blocking(move |rooms| page(rooms, no, envelope, &query)).await
    }

    /// All that the query asks for, one envelope a line, read page by page as the client takes it.
    pub fn export(
        &self,
        no: ChannelNo,
        envelope: Envelope,
        query: HistoryQuery,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + use<> {
        let hub = self.clone();
        futures_util::stream::try_unfold(Some(query), move |query| {
            let hub = hub.clone();
            async move {
                let Some(mut query) = query else { return Ok(None) };
                let page = hub.history(no, envelope, query.clone()).await;
                // the answer has begun, so the client only sees that it is cut
                let page = page.inspect_err(|e| log::error!(target: "store", "an export ends early: {e}"))?;
                let mut lines = Vec::new();
                for event in page.events {
                    lines.extend_from_slice(&event);
                    lines.push(b'\n');
                }
                query.after = page.next;
                let rest = page.next.is_some().then_some(query);
                Ok(Some((Bytes::from(lines), rest)))
            }
        })
    }
}
