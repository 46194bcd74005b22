//! What the writer makes of requests: entries for the log, and an answer for each request. It decides by its own copy, which
//! holds everything up to the commit that is planned.

use std::collections::HashSet;

use bytes::Bytes;

use super::entry::{Entry, Part};
use super::position::Position;
use super::request::{Changes, Packed, Request};
use super::slots::Claims;
use crate::documents::{Documents, encode_changes};
use crate::journal::{DocumentChanges, Plan, runs};
use crate::log::{Log, encode_events, encode_keys};
use crate::model::id::{EventId, IdSource};
use crate::model::relay::{Message, Nonce, Receipt, Refusal, Request as Queued, Run, Settled, event_id};

/// What the writer decides by.
pub struct Planner<'a> {
    pub log: &'a Log,
    pub documents: &'a Documents,
    pub position: &'a Position,
    pub claims: &'a Claims,
    /// Bytes of an entry in one message.
    pub part_bytes: usize,
}

/// A commit, as far as the writer decides about it.
#[derive(Debug, Default)]
pub struct Planned {
    pub messages: Vec<Message<Part>>,
    pub settled: Vec<(Nonce, Settled)>,
}

impl Planner<'_> {
    /// `sequence`: the place in the stream that the first message will have; `ms`: the time in the ids.
    pub fn plan(&self, term: u64, sequence: u64, ms: u64, requests: Vec<Queued<Packed>>) -> Planned {
        let first = event_id(ms, sequence, 0);
        let mut ids = IdSource::after(first.before());
        let now_ms = ms as i64;
        let mut plan = Plan::default();
        let mut claimed = HashSet::new();
        let mut planned = Planned::default();
        let (mut of_events, mut of_changes) = (Vec::new(), Vec::new());
        let mut is_configured = false;
        for Queued { nonce, draft, .. } in requests {
            match draft.unpack() {
                Err(e) => {
                    log::error!("a request of another node cannot be made: {e}");
                    planned.settled.push((nonce, Settled::Refused(Refusal::Failed)));
                }
                Ok(Request::Events { channel, drafts }) => {
                    let receipt = plan.append_to(channel, drafts, self.log, &mut ids, now_ms, || 0);
                    let is_known = receipt.repeated && receipt.ids.iter().all(|id| *id < first);
                    let receipt = receipt_of(&receipt.ids);
                    match is_known {
                        true => planned.settled.push((nonce, Settled::Known(receipt))),
                        // what it repeats may be in this very commit
                        false => of_events.push((nonce, receipt)),
                    }
                }
                Ok(Request::Changes(request)) => {
                    let refusal = self.refusal(&request, is_configured, &claimed);
                    let configures = request.changes.iter().any(super::position::is_configuration);
                    let Changes { changes, required, fence, is_claim, .. } = request;
                    let refusal = refusal.or_else(|| {
                        let request = DocumentChanges { changes, requires: required, ..DocumentChanges::default() };
                        (!plan.change(&request, self.documents)).then_some(Refusal::Gone)
                    });
                    if let Some(refusal) = refusal {
                        planned.settled.push((nonce, Settled::Refused(refusal)));
                        continue;
                    }
                    is_configured |= configures;
                    if let (true, Some((slot, _))) = (is_claim, fence) {
                        claimed.insert(slot);
                    }
                    of_changes.push((nonce, Receipt::new()));
                }
            }
        }
        let before = self.position.events_at;
        let has_events = !plan.events.is_empty() || !plan.dedupe.is_empty() || !of_events.is_empty();
        if has_events {
            let last_id = plan.events.last().map_or(EventId::ZERO, |event| event.id);
            let records = Bytes::from(encode_events(&plan.events));
            let entry = Entry::Events { time_ms: now_ms, keys: encode_keys(&plan.dedupe).into(), records };
            self.add(&mut planned.messages, term, &entry, before, of_events, last_id);
        }
        if !of_changes.is_empty() {
            let changes = Bytes::from(encode_changes(&plan.changes));
            let entry = Entry::Changes { time_ms: now_ms, changes };
            self.add(&mut planned.messages, term, &entry, before, of_changes, EventId::ZERO);
        }
        planned
    }

    fn add(
        &self,
        messages: &mut Vec<Message<Part>>,
        term: u64,
        entry: &Entry,
        before: u64,
        mut requests: Vec<(Nonce, Receipt)>,
        last_id: EventId,
    ) {
        let parts = entry.parts(before, self.part_bytes);
        let last = parts.len() - 1;
        for (n, content) in parts.into_iter().enumerate() {
            let requests = if n == last { std::mem::take(&mut requests) } else { Vec::new() };
            messages.push(Message { term, requests, last_id, content });
        }
    }

    /// Why the changes must not be made.
    fn refusal(&self, request: &Changes, is_configured: bool, claimed: &HashSet<u8>) -> Option<Refusal> {
        if let Some(base) = request.based_on
            && (base != self.position.configured_at || is_configured)
        {
            return Some(Refusal::Conflict);
        }
        let (slot, claim) = request.fence?;
        let is_valid = self.claims.claim(slot) == claim && !claimed.contains(&slot);
        match is_valid {
            true => None,
            false if request.is_claim => Some(Refusal::Conflict),
            false => Some(Refusal::Gone),
        }
    }
}

fn receipt_of(ids: &[EventId]) -> Receipt {
    runs(ids).into_iter().map(|(first, count)| Run { first, count }).collect()
}

/// The ids of a receipt.
pub fn ids_of(receipt: &[Run]) -> Vec<EventId> {
    receipt.iter().flat_map(|run| (0..run.count).map(|n| run.first.plus(n))).collect()
}
