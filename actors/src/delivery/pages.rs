//! Reading the log for a webhook: pages, filtered and made into what the state machine is offered, and single events.

use std::sync::Arc;

use crate::catalog::reader::ReadError;
use crate::catalog::webhook::Ready;
use crate::compute::{Slice, Tenant};
use crate::delivery::handles::Handles;
use crate::feed::frame::Frame;
use crate::log::{Direction, PageLimit};
use crate::metrics::Shed;
use crate::model::channel::Channel;
use crate::model::delivery::{JobId, Offer, Ticket};
use crate::model::event::Event;
use crate::model::id::EventId;

/// What an envelope adds to a payload, near enough for the size of a batch.
const ENVELOPE_BYTES: u64 = 200;

/// The page that the state machine asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub ticket: Ticket,
    /// The replay for which it is read; none: the live cursor.
    pub job: Option<JobId>,
    /// Only these types, beside the filter of the webhook.
    pub events: Option<Vec<String>>,
    pub after: EventId,
    pub until: EventId,
    pub want: usize,
}

pub struct Page {
    pub ticket: Ticket,
    pub job: Option<JobId>,
    pub offers: Vec<Offer>,
    pub through: EventId,
    pub more: bool,
    /// The newest event of the channel that retention has taken.
    pub lost_through: EventId,
    /// The first part of what was read that is damaged: events may be missing after the one id, up to the other.
    pub damaged: Option<(EventId, EventId)>,
    /// The events that matched.
    pub frames: Vec<Arc<Frame>>,
}

/// Steps of the filter for one page. What is behind is another page, so that the first matches need not wait for it.
const PAGE_STEPS_MAX: u64 = 5_000_000;

/// Reads the page, and judges it where that delays no other webhook.
///
/// # Errors
/// The log cannot be read, or the server stops.
pub async fn read(handles: &Arc<Handles>, ready: &Arc<Ready>, wanted: Wanted) -> Result<Page, ReadError> {
    let (on_thread, for_webhook) = (handles.clone(), ready.clone());
    let judged_at_once = !ready.filter.has_expression();
    let tenant = Tenant::of_channel(ready.channel.no());
    let read = handles.readers.read(tenant, move || {
        let mut judging = Judging::read(&on_thread, for_webhook, wanted)?;
        let page = if judged_at_once { judging.step(&on_thread, &mut Slice::endless()) } else { None };
        Ok((judging, page))
    });
    let (mut judging, page) = read.await.unwrap_or_else(|e| Err(ReadError::Panicked(e.to_string())))?;
    if let Some(page) = page {
        return Ok(page);
    }
    let handles = handles.clone();
    let judged = handles.compute.clone().slices(tenant, move |slice| judging.step(&handles, slice)).await;
    judged.map_err(|e| ReadError::Panicked(e.to_string()))
}

/// A page that was read and is being judged.
struct Judging {
    ready: Arc<Ready>,
    wanted: Wanted,
    events: std::vec::IntoIter<Event>,
    /// The end of what was read.
    read_through: EventId,
    /// What was read is everything up to here, if there is no more.
    head: EventId,
    steps: u64,
    page: Page,
}

impl Judging {
    /// Blocks.
    fn read(handles: &Handles, ready: Arc<Ready>, wanted: Wanted) -> Result<Judging, ReadError> {
        let no = ready.channel.no();
        // what is read is at least everything up to here
        let head = handles.log.head();
        let limit = PageLimit { events: wanted.want.max(1), bytes: handles.page_bytes };
        let read = handles.log.read(no, wanted.after, limit, Direction::Forward)?;
        let page = Page {
            ticket: wanted.ticket,
            job: wanted.job,
            offers: Vec::with_capacity(read.events.len()),
            through: wanted.after,
            more: read.more,
            lost_through: handles.log.expired(no),
            damaged: None,
            frames: Vec::new(),
        };
        Ok(Judging { ready, events: read.events.into_iter(), read_through: read.last, head, steps: 0, page, wanted })
    }

    /// Goes on for a slice; none: there is more to do.
    fn step(&mut self, handles: &Handles, slice: &mut Slice) -> Option<Page> {
        let until = self.wanted.until;
        while let Some(event) = self.events.next() {
            if event.id > until {
                self.page.more = false;
                break;
            }
            self.judge(event, handles);
            if self.steps >= PAGE_STEPS_MAX && self.events.len() > 0 {
                self.page.more = true;
                self.read_through = self.page.through;
                break;
            }
            if slice.is_over() && self.events.len() > 0 {
                return None;
            }
        }
        let page = &mut self.page;
        page.through = match page.more {
            // also where a page holds no event, because damage took them
            true => page.through.max(self.read_through.min(until)),
            false => page.through.max(self.head.min(until)),
        };
        let from = self.wanted.after.max(page.lost_through);
        page.damaged = handles.log.damaged_between(self.ready.channel.no(), from, page.through);
        Some(Page { offers: std::mem::take(&mut page.offers), frames: std::mem::take(&mut page.frames), ..*page })
    }

    fn judge(&mut self, event: Event, handles: &Handles) {
        let id = event.id;
        let bytes = event.payload.as_bytes().len() as u64 + ENVELOPE_BYTES;
        let frame = Frame::new(event, self.ready.channel.owner());
        let kind = frame.event.kind.as_str();
        let asked = self.wanted.events.as_ref().is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind));
        let matches = asked && {
            let judged = frame.judge(&self.ready.filter);
            self.steps += judged.steps;
            if judged.is_spent {
                handles.metrics.shed(Shed::Filter);
            }
            judged.verdict.is_match()
        };
        self.page.offers.push(Offer { id, matches, bytes });
        self.page.through = id;
        if matches {
            self.page.frames.push(Arc::new(frame));
        }
    }
}

/// One event of a channel; none when it is gone. Blocks.
///
/// # Errors
/// The log cannot be read.
pub fn read_one(handles: &Handles, channel: &Channel, id: EventId) -> Result<Option<Arc<Frame>>, ReadError> {
    let limit = PageLimit { events: 1, bytes: handles.page_bytes };
    let page = handles.log.read(channel.no(), id.before(), limit, Direction::Forward)?;
    let event = page.events.into_iter().find(|event| event.id == id);
    Ok(event.map(|event| Arc::new(Frame::new(event, channel.owner()))))
}

/// The frames of these events, without those that are gone. Blocks.
///
/// # Errors
/// The log cannot be read.
pub fn read_all(handles: &Handles, channel: &Channel, ids: &[EventId]) -> Result<Vec<Arc<Frame>>, ReadError> {
    ids.iter().filter_map(|id| read_one(handles, channel, *id).transpose()).collect()
}
