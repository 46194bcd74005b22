//! The data path of a session: a cursor that reads the ring of its local channel, or the log while the ring does not reach
//! back to it. Pages of the log are read, filtered and encoded elsewhere, one at a time, and their bytes count in the memory
//! budget until the connection has taken them. Frames of the ring go the same way as soon as the filter takes more than
//! [`INLINE_STEPS`]: on the thread of the connections no filter holds up anybody else.
//!
//! The log also knows what is missing in it. A page tells of it with notices of a gap: what retention took before the first
//! event, what damage took where it is missing. The ring needs none, because it has every event after its floor.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::compute::{Ended, Slice, Tenant};
use crate::feed::frame::Encoding;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::streams::LocalChannel;
use crate::streams::page::{Page, PageWork, Wanted};
use crate::streams::session::Start;
use crate::streams::view::LogError;

/// Steps that the filter may take on the thread of the connections each time a session takes something: some 100 us.
pub(super) const INLINE_STEPS: u64 = 5_000;
/// Frames of the ring that are judged elsewhere at once.
const RING_PAGE_FRAMES: usize = 256;

#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Ended(#[from] Ended),
}

type Reading = Pin<Box<dyn Future<Output = Result<Page, PageError>>>>;

pub(super) struct Reader {
    channel: Rc<LocalChannel>,
    tenant: Tenant,
    filter: Filter,
    encoding: Encoding,
    cursor: EventId,
    /// What is missing up to here was told. It may be ahead of the cursor, which stays at the last event that was read.
    told: EventId,
    /// Where the next frame is in the ring; none: the cursor has to be looked up, or the log read.
    position: Option<u64>,
    /// A page under way, and the floor of the ring when it was asked for.
    reading: Option<(Reading, EventId)>,
    /// The filter took long the last time, so it is not asked on this thread.
    is_slow: bool,
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
    pub fn new(channel: Rc<LocalChannel>, tenant: Tenant, filter: Filter, encoding: Encoding, start: &Start) -> Reader {
        let cursor = start.cursor;
        let (position, reading, is_slow) = (None, None, false);
        Reader { channel, tenant, filter, encoding, cursor, told: cursor, position, reading, is_slow }
    }

    /// The last event that was read, whether it passed the filter or not.
    pub fn cursor(&self) -> EventId {
        self.cursor
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
                        self.is_slow = page.steps > INLINE_STEPS;
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
                        log::error!(channel = self.channel.selection.no().0; "the log could not be read: {e}");
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
            let steps = if self.is_slow { 0 } else { INLINE_STEPS };
            match self.channel.take(position, self.encoding, &self.filter, write_bytes, steps) {
                None => self.position = None,
                Some(taken) if taken.is_cut && taken.events == 0 => {
                    self.cursor = self.cursor.max(taken.cursor);
                    self.judge_elsewhere(taken.next);
                }
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

    fn wanted(&self) -> Wanted {
        let (selection, filter) = (self.channel.selection.clone(), self.filter.clone());
        Wanted { selection, filter, encoding: self.encoding, told: self.told }
    }

    fn read_log(&mut self) {
        let floor = self.channel.floor();
        let (streams, tenant) = (self.channel.streams().clone(), self.tenant);
        let (wanted, after) = (self.wanted(), self.cursor);
        let judged_at_once = !self.filter.has_expression();
        let (compute, readers) = (streams.handles.compute.clone(), streams.handles.readers.clone());
        let read = move || {
            let mut work = PageWork::read(streams, wanted, after)?;
            let page = if judged_at_once { work.step(&mut Slice::endless()) } else { None };
            Ok::<_, LogError>((work, page))
        };
        let reading = async move {
            let (mut work, page) = readers.read(tenant, read).await??;
            match page {
                Some(page) => Ok(page),
                None => Ok(compute.slices(tenant, move |slice| work.step(slice)).await?),
            }
        };
        self.reading = Some((Box::pin(reading), floor));
    }

    /// Has frames of the ring judged where that may take long.
    fn judge_elsewhere(&mut self, position: u64) {
        // afterwards it is found by the cursor: the ring may be another one by then
        self.position = None;
        let Some(frames) = self.channel.frames_from(position, RING_PAGE_FRAMES) else { return };
        let (streams, tenant) = (self.channel.streams().clone(), self.tenant);
        let compute = streams.handles.compute.clone();
        let mut work = PageWork::of_ring(streams, self.wanted(), frames);
        let reading = async move { Ok(compute.slices(tenant, move |slice| work.step(slice)).await?) };
        self.reading = Some((Box::pin(reading), self.channel.floor()));
    }
}
