//! The data path of a session: a cursor that reads the ring of its local channel, or the log while the ring does not reach
//! back to it. Pages of the log are read, filtered and encoded on a blocking thread, one at a time, and their bytes count
//! in the memory budget until the connection has taken them.

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
        Reader { channel, filter, encoding, cursor: start.cursor, position: None, reading: None }
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
        let (streams, no, after) = (self.channel.streams().clone(), self.channel.no, self.cursor);
        let (filter, encoding) = (self.filter.clone(), self.encoding);
        let blocking = actix_rt::task::spawn_blocking(move || read_page(&streams, no, after, &filter, encoding));
        self.reading = Some((Box::pin(async move { Ok(blocking.await??) }), floor));
    }
}

/// Reads and encodes one page. Blocks.
fn read_page(
    streams: &Streams,
    no: ChannelNo,
    after: EventId,
    filter: &Filter,
    encoding: Encoding,
) -> Result<Page, LogError> {
    let view = &streams.handles.view;
    let page = view.page(no, after, streams.limits.page_events, streams.limits.page_bytes)?;
    let mut bytes = Vec::new();
    // asked after the page was read: what retention took before that is announced, never skipped
    let through = if page.more { page.last.unwrap_or(after) } else { EventId::MAX };
    if view.lost_between(no, after, through) {
        Gap { requested: after, oldest: view.oldest(no), reason: GapReason::Expired }.write(encoding, &mut bytes);
    }
    let passed: Vec<_> = page.frames.iter().filter(|frame| frame.passes(filter)).collect();
    passed.iter().for_each(|frame| bytes.extend_from_slice(&frame.bytes(encoding)));
    let marks = streams.handles.trace.marks(passed.iter().map(|frame| frame.event.id));
    let _held = streams.handles.budget.hold(Part::Frames, bytes.capacity());
    let bytes = Bytes::from_owner(PageBytes { bytes, _held });
    Ok(Page { bytes, events: passed.len() as u32, last: page.last, more: page.more, marks })
}
