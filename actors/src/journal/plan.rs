//! What a batch of requests comes to: events with their ids, dedupe keys, changes of documents, and an answer for each
//! request. Nothing is written here.

use std::collections::HashMap;
use std::sync::Arc;

use super::{DocumentChanges, Receipt, Urgency};
use crate::documents::{Change, Documents, Table};
use crate::log::{Dedupe, DedupeKey, Log};
use crate::model::channel::{Channel, Owner};
use crate::model::event::{ChannelNo, Draft, Event, Origin, PublishedBy};
use crate::model::id::{EventId, IdSource};

/// Events that somebody publishes as one atomic batch.
pub struct Append {
    pub channel: Arc<Channel>,
    pub drafts: Vec<Draft>,
    /// The idempotency key of the request.
    pub key: Option<DedupeKey>,
    /// Who publishes.
    pub by: PublishedBy,
    pub urgency: Urgency,
}

/// What somebody publishes, without the channel.
#[derive(Debug)]
pub struct Drafts {
    pub drafts: Vec<Draft>,
    pub key: Option<DedupeKey>,
    pub by: PublishedBy,
}

/// A commit that is being put together.
#[derive(Default)]
pub struct Plan {
    /// In the order of their ids, which follow everything before.
    pub events: Vec<Event>,
    pub dedupe: Vec<Dedupe>,
    pub changes: Vec<Change>,
    /// Whose channel the events belong to.
    pub owners: HashMap<ChannelNo, Owner>,
    /// Keys first seen in this very commit.
    fresh: HashMap<(ChannelNo, DedupeKey), (EventId, u32)>,
    /// Documents that this very commit makes (true) or deletes.
    documents: HashMap<(Table, Vec<u8>), bool>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.dedupe.is_empty() && self.changes.is_empty()
    }

    /// Adds the events of a request, save those that an idempotency key shows to be known.
    pub fn append(
        &mut self,
        append: Append,
        log: &Log,
        ids: &mut IdSource,
        now_ms: i64,
        random: impl Fn() -> u128,
    ) -> Receipt {
        let Append { channel, drafts, key, by, .. } = append;
        self.owners.entry(channel.no()).or_insert_with(|| channel.owner());
        self.append_to(channel.no(), Drafts { drafts, key, by }, log, ids, now_ms, random)
    }

    /// The same, for a channel of which no more than the number is known.
    pub fn append_to(
        &mut self,
        no: ChannelNo,
        Drafts { drafts, key, by }: Drafts,
        log: &Log,
        ids: &mut IdSource,
        now_ms: i64,
        random: impl Fn() -> u128,
    ) -> Receipt {
        if let Some(key) = key
            && let Some(ids) = self.first_answer(no, key, log, now_ms)
        {
            return Receipt { ids, repeated: true };
        }
        let mut receipt = Receipt { ids: Vec::with_capacity(drafts.len()), repeated: false };
        // events of one request get consecutive ids, so that a dedupe record is a first id and a count
        let mut stored = 0;
        for draft in drafts {
            let event_key = draft.dedupe_id.as_deref().map(DedupeKey::of_event);
            if let Some((first, _)) = event_key.and_then(|key| self.known(no, key, log, now_ms)) {
                receipt.ids.push(first);
                continue;
            }
            let id = match stored {
                0 => ids.next(now_ms as u64, &random),
                _ => ids.next(0, || 0),
            };
            stored += 1;
            if let Some(key) = event_key {
                self.remember(no, key, id, 1);
            }
            receipt.ids.push(id);
            let ts_ms = draft.ts_ms.unwrap_or(id.time_ms() as i64);
            let Draft { kind, session, payload, validated, .. } = draft;
            let origin = Origin { by: by.by.clone(), validated, trace: by.trace.clone() };
            self.events.push(Event { id, channel: no, kind, ts_ms, session, origin, payload });
        }
        if let Some(key) = key {
            for (n, (first, count)) in runs(&receipt.ids).into_iter().enumerate() {
                self.remember(no, key.nth(n as u32), first, count);
            }
        }
        receipt
    }

    /// Adds changes of documents. False, and nothing is added: the document that they depend on is not there.
    pub fn change(&mut self, request: &DocumentChanges, documents: &Documents) -> bool {
        if let Some(required) = &request.requires {
            let within = self.documents.get(required).copied();
            if !within.unwrap_or_else(|| documents.contains(required.0, &required.1)) {
                return false;
            }
        }
        for change in &request.changes {
            // only what others may depend on needs to be known here
            if matches!(change.table(), Table::Webhooks | Table::Tickets) {
                self.documents.insert((change.table(), change.own_key().to_vec()), !change.is_deletion());
            }
        }
        self.changes.extend(request.changes.iter().cloned());
        true
    }

    /// The ids of an earlier request with this key.
    fn first_answer(&self, no: ChannelNo, key: DedupeKey, log: &Log, now_ms: i64) -> Option<Vec<EventId>> {
        let mut ids = Vec::new();
        let mut run = 0;
        while let Some((first, count)) = self.known(no, key.nth(run), log, now_ms) {
            ids.extend((0..count).map(|n| first.plus(n)));
            run += 1;
        }
        (!ids.is_empty()).then_some(ids)
    }

    /// What a key stands for, in this very commit or before.
    fn known(&self, no: ChannelNo, key: DedupeKey, log: &Log, now_ms: i64) -> Option<(EventId, u32)> {
        self.fresh.get(&(no, key)).copied().or_else(|| log.known(no, key, now_ms.max(0) as u64))
    }

    fn remember(&mut self, no: ChannelNo, key: DedupeKey, first: EventId, count: u32) {
        self.fresh.insert((no, key), (first, count));
        self.dedupe.push(Dedupe { channel: no, key, first, count });
    }
}

/// Cuts ids into runs of consecutive ones: (first, count). A request whose events were all new is one run.
pub fn runs(ids: &[EventId]) -> Vec<(EventId, u32)> {
    let mut runs: Vec<(EventId, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, count)) if first.plus(*count) == *id => *count += 1,
            _ => runs.push((*id, 1)),
        }
    }
    runs
}
