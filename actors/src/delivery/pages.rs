//! Reading the log for a webhook: pages, filtered and made into what the state machine is offered, and single events.

use std::sync::Arc;

use crate::catalog::reader::ReadError;
use crate::catalog::webhook::Ready;
use crate::delivery::handles::Handles;
use crate::feed::frame::Frame;
use crate::log::{Direction, PageLimit};
use crate::model::channel::Channel;
use crate::model::delivery::{JobId, Offer, Ticket};
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

/// Blocks.
///
/// # Errors
/// The log cannot be read.
pub fn read(handles: &Handles, ready: &Ready, wanted: Wanted) -> Result<Page, ReadError> {
    let no = ready.channel.no();
    // what is read is at least everything up to here
    let head = handles.log.head();
    let limit = PageLimit { events: wanted.want.max(1), bytes: handles.page_bytes };
    let read = handles.log.read(no, wanted.after, limit, Direction::Forward)?;
    let lost_through = handles.log.expired(no);
    let mut page = Page {
        ticket: wanted.ticket,
        job: wanted.job,
        offers: Vec::with_capacity(read.events.len()),
        through: wanted.after,
        more: read.more,
        lost_through,
        damaged: None,
        frames: Vec::new(),
    };
    let read_through = read.last;
    for event in read.events {
        if event.id > wanted.until {
            page.more = false;
            break;
        }
        let id = event.id;
        let bytes = event.payload.as_bytes().len() as u64 + ENVELOPE_BYTES;
        let frame = Frame::new(event, ready.channel.owner());
        let kind = frame.event.kind.as_str();
        let asked = wanted.events.as_ref().is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind));
        let matches = asked && frame.passes(&ready.filter);
        page.offers.push(Offer { id, matches, bytes });
        page.through = id;
        if matches {
            page.frames.push(Arc::new(frame));
        }
    }
    page.through = match page.more {
        // also where a page holds no event, because damage took them
        true => page.through.max(read_through.min(wanted.until)),
        false => page.through.max(head.min(wanted.until)),
    };
    page.damaged = handles.log.damaged_between(no, wanted.after.max(lost_through), page.through);
    Ok(page)
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
