//! The data path of a session: a cursor that reads the local's ring, or the log while the ring does not reach back to it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::engine::Engine;
use crate::feed::frame::Encoding;
use crate::feed::trace::TraceMark;
use crate::model::event::ChannelNo;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::store::{Direction, PageLimit, StoreError};
use crate::streams::LocalChannel;
use crate::streams::session::{Gap, GapReason, Start};

/// A page of the log, already filtered and encoded.
struct Page {
    bytes: Bytes,
    events: u32,
    /// The last event of the page, whether it passed the filter or not.
    last: Option<EventId>,
    more: bool,
    /// Of those events that passed the filter and are remembered.
    marks: Vec<TraceMark>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Page, StoreError>>>>;

pub struct Reader {
    local: Rc<LocalChannel>,
    filter: Filter,
    encoding: Encoding,
    cursor: EventId,
    /// Where the next frame is in the ring; none: the cursor has to be looked up, or the log read.
    position: Option<u64>,
    reading: Option<(Reading, EventId)>,
}

/// What came of asking a reader for more.
pub enum Read {
    Chunk(Bytes, u32),
    /// Everything up to the head was taken.
    UpToDate,
    /// The log could not be read; the session ends and the client resumes.
    Failed,
}

impl Reader {
    pub fn new(local: Rc<LocalChannel>, filter: Filter, encoding: Encoding, start: &Start) -> Reader {
        Reader { local, filter, encoding, cursor: start.cursor, position: None, reading: None }
    }

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
                        log::error!(channel = self.local.no.0; "the log could not be read: {e}");
                        return Poll::Ready(Read::Failed);
                    }
                }
            }
            if self.position.is_none() {
                self.position = self.local.position_after(self.cursor);
            }
            let Some(position) = self.position else {
                self.read_log();
                continue;
            };
            let write_bytes = self.local.engine.limits.write_bytes;
            match self.local.take(position, self.encoding, &self.filter, write_bytes) {
                None => self.position = None,
                Some(taken) if taken.next == position => {
                    if self.cursor > self.local.head() {
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
        let floor = self.local.floor();
        let (engine, no, after) = (self.local.engine.clone(), self.local.no, self.cursor);
        let (filter, encoding) = (self.filter.clone(), self.encoding);
        let blocking = actix_rt::task::spawn_blocking(move || read_page(&engine, no, after, &filter, encoding));
        let reading = async move {
            // a reader thread that panicked is a page that could not be read
            blocking.await.unwrap_or_else(|e| Err(StoreError::Panicked(e.to_string())))
        };
        self.reading = Some((Box::pin(reading), floor));
    }
}

/// Reads and encodes one page. Runs on a blocking thread.
fn read_page(
    engine: &Engine,
    no: ChannelNo,
    after: EventId,
    filter: &Filter,
    encoding: Encoding,
) -> Result<Page, StoreError> {
    let limit = PageLimit { events: engine.limits.page_events, bytes: engine.limits.page_bytes };
    let page = engine.frames.page(no, after, limit, Direction::Forward)?;
    let mut bytes = Vec::new();
    // asked after the page was read: what retention took before that is announced, never skipped
    let through = if page.more { page.last.unwrap_or(after) } else { EventId::MAX };
    if engine.log.lost_between(no, after, through) {
        let oldest = engine.log.oldest(no);
        Gap { requested: after, oldest, reason: GapReason::Expired }.write(encoding, &mut bytes);
    }
    let passed: Vec<_> = page.frames.iter().filter(|frame| frame.passes(filter)).collect();
    passed.iter().for_each(|frame| bytes.extend_from_slice(&frame.bytes(encoding)));
    let marks = engine.trace.marks(passed.iter().map(|frame| frame.event.id));
    Ok(Page { bytes: bytes.into(), events: passed.len() as u32, last: page.last, more: page.more, marks })
}
