//! History: pages of the log for people and programs that ask instead of listening.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use super::Hub;
use super::rooms::Rooms;
use super::scan::{self, ScanBudget, ScanError, ScanLimits};
use crate::clock;
use crate::compute::{Slice, Tenant};
use crate::feed::frame::Frame;
use crate::log::{Direction, PageLimit};
use crate::metrics::Shed;
use crate::model::access::Principal;
use crate::model::envelope::Envelope;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::selection::Selection;

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

#[derive(Default)]
pub struct HistoryPage {
    /// The envelopes, as JSON, with the separator between them.
    pub events: Vec<u8>,
    /// Where the next page begins; none: this was the last one.
    pub next: Option<EventId>,
}

/// Why an export ends before its end. Its answer has begun, so the client only sees that it is cut.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("its token was revoked or has expired")]
    Revoked,
    #[error(transparent)]
    Scan(#[from] ScanError),
}

/// How far before `since` reading starts: an event may say that it happened up to this much after it was appended.
const CLOCK_SKEW_MS: i64 = 24 * 3600 * 1000;

/// Most bytes of envelopes in one page, beside its last event. A page may end early because of it; `next` then goes on.
const PAGE_BYTES_MAX: usize = 4 << 20;

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

    /// Whether events may have to be passed over, however many, to find those that are wanted.
    fn is_scan(&self) -> bool {
        !self.filter.is_all() || self.since_ms.is_some() || self.until_ms.is_some()
    }

    fn is_within(&self, frame: &Frame) -> bool {
        let ts = frame.event.ts_ms;
        self.since_ms.is_none_or(|since| ts >= since) && self.until_ms.is_none_or(|until| ts <= until)
    }

    /// Whether no event from here on, in the order asked for, can be wanted.
    fn past(&self, id: EventId) -> bool {
        self.order == Order::NewestFirst && self.since_ms.is_some_and(|since| id <= oldest_from(since))
    }
}

fn oldest_from(since_ms: i64) -> EventId {
    EventId::at_time(since_ms.saturating_sub(CLOCK_SKEW_MS).max(0) as u64).before()
}

/// A page in the making.
struct PageScan {
    selection: Selection,
    envelope: Envelope,
    query: HistoryQuery,
    budget: ScanBudget,
    /// The last event that was looked at.
    at: EventId,
    /// What was read and not looked at yet.
    frames: std::vec::IntoIter<Frame>,
    /// Whether there is more in the log behind that, and where that begins.
    behind: Option<EventId>,
    page: HistoryPage,
    /// How many events the page has.
    events: usize,
    separator: u8,
}

impl PageScan {
    fn new(
        selection: Selection,
        envelope: Envelope,
        query: HistoryQuery,
        separator: u8,
        limits: ScanLimits,
    ) -> PageScan {
        let at = query.begin();
        // what passes over nothing is bounded by the size of the page
        let budget = if query.is_scan() { ScanBudget::new(limits) } else { ScanBudget::endless(limits) };
        PageScan {
            selection,
            envelope,
            query,
            budget,
            at,
            frames: Vec::new().into_iter(),
            behind: Some(at),
            page: HistoryPage::default(),
            events: 0,
            separator,
        }
    }

    /// Goes on for a slice; none: there is more to do.
    fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<Result<HistoryPage, ScanError>> {
        loop {
            if let Some(frame) = self.frames.next() {
                self.at = frame.event.id;
                if self.query.past(self.at) {
                    return Some(Ok(std::mem::take(&mut self.page)));
                }
                // also an event of another time is one that was looked at
                let passes = self.budget.judge(&frame, &self.query.filter, rooms);
                if passes && self.query.is_within(&frame) {
                    if self.events > 0 {
                        self.page.events.push(self.separator);
                    }
                    self.page.events.extend_from_slice(&frame.json(self.envelope));
                    self.events += 1;
                }
            } else if let Some(behind) = self.behind {
                if let Err(e) = self.read(rooms, behind) {
                    return Some(Err(e));
                }
            } else {
                return Some(Ok(std::mem::take(&mut self.page)));
            }
            let is_full = self.events >= self.query.limit || self.page.events.len() >= PAGE_BYTES_MAX;
            let is_cut = self.budget.used_up().is_some();
            if is_full || is_cut {
                let more = self.behind.is_some() || self.frames.len() > 0;
                if is_cut && more {
                    rooms.metrics.shed(Shed::Page);
                }
                self.page.next = more.then_some(self.at);
                return Some(Ok(std::mem::take(&mut self.page)));
            }
            if slice.is_over() {
                return None;
            }
        }
    }

    fn read(&mut self, rooms: &Rooms, behind: EventId) -> Result<(), ScanError> {
        let direction = match self.query.order {
            Order::OldestFirst => Direction::Forward,
            Order::NewestFirst => Direction::Backward,
        };
        let events = match self.query.is_scan() {
            true => rooms.limits.page_events,
            false => rooms.limits.page_events.min(self.query.limit.max(16)),
        };
        let limit = PageLimit { events, bytes: rooms.limits.page_bytes };
        let read =
            rooms.frames.page(&self.selection, behind, limit, direction).map_err(|e| ScanError::Read(e.into()))?;
        // behind events of channels that were deleted, too
        let last = read.last.unwrap_or(behind);
        self.behind = read.more.then_some(last);
        if read.frames.is_empty() {
            self.budget.read_nothing();
            self.at = last;
        }
        self.frames = read.frames.into_iter();
        Ok(())
    }
}

impl Hub {
    /// A page of the selection, in the envelope asked for, with commas between the events. Where events have to be passed over it is a scan: when the
    /// budget is used up, the page holds what was found so far.
    ///
    /// # Errors
    /// The caller has too many scans under way, or the log cannot be read.
    pub async fn history(
        &self,
        principal: &Principal,
        selection: Selection,
        envelope: Envelope,
        query: HistoryQuery,
    ) -> Result<HistoryPage, ScanError> {
        self.page(principal, selection, envelope, query, b',', Some(scan::WAIT_MAX)).await
    }

    async fn page(
        &self,
        principal: &Principal,
        selection: Selection,
        envelope: Envelope,
        query: HistoryQuery,
        separator: u8,
        patience: Option<std::time::Duration>,
    ) -> Result<HistoryPage, ScanError> {
        // of several channels, too: events of all others are passed over
        let is_scan = query.is_scan() || matches!(selection, Selection::Several(_));
        let mut page = PageScan::new(selection, envelope, query, separator, self.rooms.limits.scans);
        if is_scan {
            return self.scan(principal, patience, move |rooms, slice| page.step(rooms, slice)).await;
        }
        let rooms = self.rooms.clone();
        // as many events as are asked for and no more: one turn of work that is bounded by itself
        let read = move || loop {
            if let Some(page) = page.step(&rooms, &mut Slice::endless()) {
                return page;
            }
        };
        let read = self.rooms.readers.read(Tenant::of(principal), read).await;
        read.unwrap_or_else(|e| Err(ScanError::Read(crate::catalog::reader::ReadError::Panicked(e.to_string()))))
    }

    /// All that the query asks for, one envelope a line, read page by page as the client takes it. It waits for its turn among
    /// the scans of its token, page by page, and for the processor; it never ends before its end for that. It ends when the
    /// caller's token is revoked or expires.
    ///
    /// # Errors
    /// An item is an error, and the last one, when the token is revoked or expires ([`ExportError::Revoked`]), the
    /// server stops, the scan's memory runs out, or the log cannot be read.
    pub fn export(
        &self,
        principal: Arc<Principal>,
        selection: Selection,
        envelope: Envelope,
        query: HistoryQuery,
    ) -> impl Stream<Item = Result<Bytes, ExportError>> + use<> {
        let hub = self.clone();
        futures_util::stream::try_unfold(Some(query), move |query| {
            let (hub, principal, selection) = (hub.clone(), principal.clone(), selection.clone());
            async move {
                let page = hub.export_page(&principal, &selection, envelope, query).await;
                page.inspect_err(|e| log::warn!(target: "store", token = &*principal.id; "an export ends early: {e}"))
            }
        })
    }

    /// The next lines of an export, and what is left to ask for. None: there was nothing left.
    async fn export_page(
        &self,
        principal: &Principal,
        selection: &Selection,
        envelope: Envelope,
        mut query: Option<HistoryQuery>,
    ) -> Result<Option<(Bytes, Option<HistoryQuery>)>, ExportError> {
        while let Some(mut asked) = query.take() {
            if !self.holds(principal, clock::now_ms()) {
                return Err(ExportError::Revoked);
            }
            let page = self.page(principal, selection.clone(), envelope, asked.clone(), b'\n', None).await?;
            asked.after = page.next;
            query = page.next.is_some().then_some(asked);
            let mut lines = page.events;
            if !lines.is_empty() {
                lines.push(b'\n');
                return Ok(Some((Bytes::from(lines), query)));
            }
        }
        Ok(None)
    }
}
