//! A position in the log and what lies between it and the cursor: events that are known but not attempted, and
//! first attempts in flight. The live cursor of an endpoint is one, a replay is another.

use std::collections::{BTreeSet, VecDeque};

use super::config::{BATCH_BYTES_MAX, Batch};
use super::protocol::{Offer, Ticket};
use crate::model::id::EventId;

#[derive(Debug)]
pub(super) struct Reader {
    /// Everything up to here is known.
    read_to: EventId,
    ready: VecDeque<Ready>,
    ready_bytes: u64,
    /// The first events of the attempts in flight.
    in_flight: BTreeSet<EventId>,
    /// The read that was asked for and not answered.
    asked: Option<Ticket>,
    /// Whether the log may hold more behind `read_to`.
    more: bool,
    /// Whether the log has grown since the read was asked for, which its answer may not show.
    grown: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ready {
    id: EventId,
    bytes: u64,
    since_ms: u64,
}

impl Reader {
    pub(super) fn at(cursor: EventId) -> Reader {
        Reader {
            read_to: cursor,
            ready: VecDeque::new(),
            ready_bytes: 0,
            in_flight: BTreeSet::new(),
            asked: None,
            more: true,
            grown: false,
        }
    }

    /// Everything up to here has been attempted to an end.
    pub(super) fn cursor(&self) -> EventId {
        let open = [self.in_flight.first().copied(), self.ready.front().map(|ready| ready.id)];
        open.into_iter().flatten().min().map_or(self.read_to, EventId::before)
    }

    /// Up to here everything was attempted, if only begun.
    pub(super) fn begun(&self) -> EventId {
        self.ready.front().map_or(self.read_to, |ready| ready.id.before())
    }

    pub(super) fn read_to(&self) -> EventId {
        self.read_to
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn first_ready(&self) -> Option<EventId> {
        self.ready.front().map(|ready| ready.id)
    }

    /// Whether to read more: there may be more, no read is under way, and less than half of `ahead` is read and not attempted.
    pub(super) fn wants_more(&self, ahead: usize) -> bool {
        self.more && self.asked.is_none() && self.ready.len() <= ahead / 2
    }

    pub(super) fn ask(&mut self, ticket: Ticket) {
        self.asked = Some(ticket);
        self.grown = false;
    }

    pub(super) fn appended(&mut self) {
        self.more = true;
        self.grown = true;
    }

    /// Whether everything up to `until` is done.
    pub(super) fn is_done(&self, until: EventId) -> bool {
        self.read_to >= until && self.ready.is_empty() && self.in_flight.is_empty()
    }

    /// Takes the answer to a read; `wanted` picks the events to be attempted. False: nobody waits for this answer.
    pub(super) fn offered(
        &mut self,
        ticket: Ticket,
        events: &[Offer],
        through: EventId,
        more: bool,
        now_ms: u64,
        wanted: impl Fn(EventId) -> bool,
    ) -> bool {
        if self.asked != Some(ticket) {
            return false;
        }
        self.asked = None;
        self.more = more || self.grown;
        for offer in events {
            if offer.id > self.read_to && offer.matches && wanted(offer.id) {
                self.ready.push_back(Ready { id: offer.id, bytes: offer.bytes, since_ms: now_ms });
                self.ready_bytes += offer.bytes;
            }
        }
        let last = events.last().map_or(EventId::ZERO, |offer| offer.id);
        self.read_to = self.read_to.max(through).max(last);
        true
    }

    /// Whether the next delivery is complete: an event, or a batch that is full or has waited long enough.
    pub(super) fn has_unit(&self, batch: Option<Batch>, now_ms: u64, at_end: bool) -> bool {
        let Some(front) = self.ready.front() else { return false };
        batch.is_none_or(|batch| {
            self.ready.len() >= batch.max_events as usize
                || self.ready_bytes >= BATCH_BYTES_MAX
                || at_end
                || front.since_ms.saturating_add(batch.max_wait_ms) <= now_ms
        })
    }

    /// When the batch that is being filled must go, if there is one.
    pub(super) fn batch_due_ms(&self, batch: Option<Batch>) -> Option<u64> {
        Some(self.ready.front()?.since_ms.saturating_add(batch?.max_wait_ms))
    }

    /// The events of the next delivery, which are in flight from now on; none if there are none.
    pub(super) fn take_unit(&mut self, batch: Option<Batch>) -> Vec<EventId> {
        let most = batch.map_or(1, |batch| batch.max_events as usize);
        let mut events = Vec::with_capacity(most.min(self.ready.len()));
        let mut bytes = 0;
        while let Some(ready) = self.ready.front().filter(|_| events.len() < most) {
            if !events.is_empty() && bytes + ready.bytes > BATCH_BYTES_MAX {
                break;
            }
            bytes += ready.bytes;
            self.ready_bytes -= ready.bytes;
            events.push(ready.id);
            self.ready.pop_front();
        }
        self.in_flight.extend(events.first());
        events
    }

    /// The attempt that began with this event has come to an end, whatever that was.
    pub(super) fn settle(&mut self, first: EventId) {
        self.in_flight.remove(&first);
    }

    /// Forgets what is known but not attempted: it is read again. For a new filter, or an endpoint that is switched off.
    pub(super) fn rewind(&mut self) {
        if let Some(front) = self.ready.front() {
            self.read_to = front.id.before();
        }
        self.ready.clear();
        self.ready_bytes = 0;
        self.asked = None;
        self.more = true;
    }

    /// Goes on from `head`, whatever lies before it.
    pub(super) fn jump(&mut self, head: EventId) {
        *self = Reader::at(self.read_to.max(head));
    }

    /// Everything up to `through` is gone. Answers from where on events are missing that were not attempted.
    pub(super) fn lose(&mut self, through: EventId) -> Option<EventId> {
        let missing_after = match self.ready.front() {
            Some(front) if front.id <= through => Some(front.id.before()),
            _ => (self.read_to < through).then_some(self.read_to),
        };
        while let Some(front) = self.ready.front().filter(|front| front.id <= through) {
            self.ready_bytes -= front.bytes;
            self.ready.pop_front();
        }
        if self.read_to < through {
            self.read_to = through;
            self.asked = None;
            self.more = true;
        }
        missing_after
    }

    /// The clock stepped back to `now_ms`: nothing has waited since a time to come.
    pub(super) fn clock_stepped_back(&mut self, now_ms: u64) {
        for ready in &mut self.ready {
            ready.since_ms = ready.since_ms.min(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_appended_while_a_page_is_read_is_not_overlooked() {
        let at = EventId::at_time(1);
        let mut reader = Reader::at(at);
        reader.ask(Ticket(1));
        reader.appended();
        assert!(reader.offered(Ticket(1), &[], at, false, 1, |_| true));
        assert!(reader.wants_more(16), "the page may have been read before the event was there");
        reader.ask(Ticket(2));
        assert!(reader.offered(Ticket(2), &[], at, false, 1, |_| true));
        assert!(!reader.wants_more(16));
    }
}
