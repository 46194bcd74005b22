//! A dry run: what a webhook would have sent of events that are in the log, without sending anything.

use bytes::Bytes;

use super::preview::{form_of, invalid};
use super::{Format, WebhookError};
use crate::catalog::webhook;
use crate::compute::{Slice, Tenant};
use crate::feed::frame::Frame;
use crate::hub::Hub;
use crate::hub::rooms::Rooms;
use crate::hub::scan::{self, ScanBudget, ScanError, ScanLimits};
use crate::log::{Direction, PageLimit};
use crate::model::access::Principal;
use crate::model::channel::Channel;
use crate::model::envelope::Envelope;
use crate::model::filter::Filter;
use crate::model::format::{ChannelLabel, Family, Form, Subject};
use crate::model::id::EventId;
use crate::model::selection::Selection;

/// Most events that one rehearsal looks at.
pub const EVENTS_MAX: usize = 10_000;
/// Most events that are shown.
pub const SAMPLES_MAX: usize = 20;
/// Most bytes of what is shown, beside its last event.
const SAMPLE_BYTES_MAX: usize = 1 << 20;

/// What is asked for.
pub struct RehearsalAsk {
    pub format: Format,
    pub template: Option<String>,
    pub filter: Filter,
    /// Events behind this one, the oldest first; none: the newest ones, the newest first.
    pub after: Option<EventId>,
    /// How many are looked at.
    pub limit: usize,
}

/// What would have become of the events.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// Events that were looked at.
    pub scanned: u64,
    /// Whether there are no more where it ended.
    pub complete: bool,
    /// Events that pass the filter and can be written in the format.
    pub would_send: u64,
    /// Of those, what is not sent as the event's own envelope.
    pub changed: u64,
    /// Events that pass the filter and for which the template fails.
    pub failed: u64,
    /// At most [`SAMPLES_MAX`], the failed ones first.
    pub samples: Vec<Sample>,
}

/// An event that passes the filter, and what would be posted for it.
#[derive(Debug)]
pub struct Sample {
    pub event: EventId,
    /// The event's own envelope.
    pub before: Bytes,
    /// Why nothing would be posted, or the body.
    pub after: Result<Bytes, String>,
}

/// A rehearsal that is under way.
struct Run {
    form: Form,
    format: Format,
    filter: Filter,
    channel: Channel,
    selection: Selection,
    direction: Direction,
    at: EventId,
    left: usize,
    budget: ScanBudget,
    frames: std::vec::IntoIter<Frame>,
    more: bool,
    sample_bytes: usize,
    failed: Vec<Sample>,
    sent: Vec<Sample>,
    done: Rehearsal,
}

/// Makes everything ready. Takes some time for a template or an expression that is new.
fn begin(channel: Channel, ask: RehearsalAsk, limits: ScanLimits) -> Result<Run, WebhookError> {
    let RehearsalAsk { format, template, filter, after, limit } = ask;
    let filter = match format {
        // nothing else can be sent in it
        Format::Raw => Filter::compile_for_requests(filter.spec()).map_err(|e| invalid("filter", e.to_string()))?,
        _ => filter,
    };
    Ok(Run {
        form: form_of(format, template.as_deref())?,
        format,
        filter,
        selection: Selection::One(channel.no()),
        channel,
        direction: if after.is_some() { Direction::Forward } else { Direction::Backward },
        at: after.unwrap_or(EventId::MAX),
        left: limit.min(EVENTS_MAX),
        budget: ScanBudget::new(limits),
        frames: Vec::new().into_iter(),
        more: true,
        sample_bytes: 0,
        failed: Vec::new(),
        sent: Vec::new(),
        done: Rehearsal::default(),
    })
}

impl Run {
    /// Goes on for a slice; none: there is more to do.
    fn step(&mut self, rooms: &Rooms, slice: &mut Slice) -> Option<Result<Rehearsal, ScanError>> {
        loop {
            let is_cut = self.left == 0 || self.budget.used_up().is_some();
            if is_cut || self.frames.len() == 0 && !self.more {
                let complete = self.frames.len() == 0 && !self.more;
                return Some(Ok(self.finish(complete)));
            }
            match self.frames.next() {
                Some(frame) => self.look_at(&frame, rooms),
                None => {
                    if let Err(e) = self.read(rooms) {
                        return Some(Err(e));
                    }
                }
            }
            if slice.is_over() {
                return None;
            }
        }
    }

    fn read(&mut self, rooms: &Rooms) -> Result<(), ScanError> {
        // one more, so that it is known whether there is one behind the last that is looked at
        let events = rooms.limits.page_events.min(self.left + 1);
        let limit = PageLimit { events, bytes: rooms.limits.page_bytes };
        let page = rooms.frames.page(&self.selection, self.at, limit, self.direction);
        let page = page.map_err(|e| ScanError::Read(e.into()))?;
        self.at = page.last.unwrap_or(self.at);
        self.more = page.more;
        self.frames = page.frames.into_iter();
        Ok(())
    }

    fn look_at(&mut self, frame: &Frame, rooms: &Rooms) {
        self.left -= 1;
        self.done.scanned += 1;
        if !self.budget.judge(frame, &self.filter, rooms) {
            return;
        }
        let envelope = frame.json(webhook::envelope_of(self.format, self.channel.kind));
        let (family, channel) = (Family::of(self.channel.kind), &self.channel);
        let label = ChannelLabel { family, id: &channel.id, name: &channel.name };
        let subject = Subject { event: &frame.event, envelope: &envelope, channel: label };
        let before = frame.json(Envelope::of(self.channel.kind));
        let after = self.form.render(&subject).map(|rendered| rendered.body).map_err(|e| e.to_string());
        let shown = match &after {
            Ok(body) => {
                self.done.would_send += 1;
                self.done.changed += u64::from(*body != before);
                &mut self.sent
            }
            Err(_) => {
                self.done.failed += 1;
                &mut self.failed
            }
        };
        if shown.len() < SAMPLES_MAX && self.sample_bytes < SAMPLE_BYTES_MAX {
            self.sample_bytes += before.len() + after.as_ref().map_or(0, Bytes::len);
            shown.push(Sample { event: frame.event.id, before, after });
        }
    }

    fn finish(&mut self, complete: bool) -> Rehearsal {
        let mut samples = std::mem::take(&mut self.failed);
        samples.append(&mut self.sent);
        samples.truncate(SAMPLES_MAX);
        Rehearsal { complete, samples, ..std::mem::take(&mut self.done) }
    }
}

impl Hub {
    /// Looks through events as a webhook with this filter and format would. It is a scan; when the budget is used up, it is
    /// not complete.
    ///
    /// # Errors
    /// [`WebhookError::Invalid`] for a template that cannot be used; the caller has too many scans under way, or the log cannot
    /// be read.
    pub async fn rehearse_webhook(
        &self,
        principal: &Principal,
        channel: &Channel,
        ask: RehearsalAsk,
    ) -> Result<Rehearsal, WebhookError> {
        let (of, limits) = (channel.clone(), self.rooms.limits.scans);
        let begin = self.rooms.scan_threads.run(Tenant::of(principal), move || begin(of, ask, limits));
        let mut run = begin.await.unwrap_or(Err(WebhookError::Unavailable))?;
        Ok(self.scan(principal, Some(scan::WAIT_MAX), move |rooms, slice| run.step(rooms, slice)).await?)
    }
}
