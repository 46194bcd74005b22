//! Requests as nodes forward them to the writer: events that somebody publishes, and changes of documents with the
//! conditions under which they may be made.
//!
//! ```text
//! events:  1u8 channel:u32 has_key:u8 [key:16] records_len:u32 records, then per draft flags:u8 [dedupe id]
//! changes: 2u8 conditions:u8 [based on:u64] [required table:u8 key] [slot:u8 claim:u64] changes
//! ```

use bytes::Bytes;

use super::bytes::{Malformed, Reader, put_text};
use crate::documents::{Change, Table, decode_changes, encode_changes};
use crate::journal::{Append, Drafts};
use crate::log::{DedupeKey, decode_events, encode_events};
use crate::model::event::{ChannelNo, Draft, Event, Origin, PublishedBy};
use crate::model::id::EventId;

const EVENTS: u8 = 1;
const CHANGES: u8 = 2;

const HAS_TIME: u8 = 1;
const HAS_DEDUPE_ID: u8 = 2;

const HAS_BASE: u8 = 1;
const HAS_REQUIRED: u8 = 2;
const HAS_FENCE: u8 = 4;
const IS_CLAIM: u8 = 8;

/// A request as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(pub Bytes);

/// A request as the writer works on it.
#[derive(Debug)]
pub enum Request {
    Events { channel: ChannelNo, drafts: Drafts },
    Changes(Changes),
}

/// Changes of documents, and what must be so for them to be made.
#[derive(Debug, Default)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// They were computed on what was configured at this sequence of the log; nothing of it may have changed since.
    pub based_on: Option<u64>,
    /// A document that has to be there.
    pub required: Option<(Table, Vec<u8>)>,
    /// The slot in whose name they are made, and the sequence of the claim by which this node owns it.
    pub fence: Option<(u8, u64)>,
    /// They claim a slot: nobody may have claimed it since the claim in `fence`.
    pub is_claim: bool,
}

/// The events of a request as bytes. The node that publishes does not keep them in another form.
pub fn pack_events(append: &Append) -> Packed {
    let mut out = vec![EVENTS];
    out.extend_from_slice(&append.channel.no.to_be_bytes());
    out.push(u8::from(append.key.is_some()));
    if let Some(key) = append.key {
        out.extend_from_slice(&key.to_bytes());
    }
    let events: Vec<Event> = append.drafts.iter().zip(0..).map(|(draft, n)| numbered(draft, n, &append.by)).collect();
    let records = encode_events(&events);
    // a request is bounded far below what a u32 holds
    out.extend_from_slice(&(records.len() as u32).to_be_bytes());
    out.extend_from_slice(&records);
    for draft in &append.drafts {
        let time = if draft.ts_ms.is_some() { HAS_TIME } else { 0 };
        let dedupe_id = if draft.dedupe_id.is_some() { HAS_DEDUPE_ID } else { 0 };
        out.push(time | dedupe_id);
        if let Some(id) = &draft.dedupe_id {
            put_text(&mut out, id);
        }
    }
    Packed(out.into())
}

/// A draft as an event, so that it has the form of the log; its id only keeps the order.
fn numbered(draft: &Draft, n: u32, by: &PublishedBy) -> Event {
    Event {
        id: EventId::ZERO.plus(n + 1),
        channel: ChannelNo(0),
        kind: draft.kind.clone(),
        ts_ms: draft.ts_ms.unwrap_or(0),
        session: draft.session.clone(),
        origin: Origin { by: by.by.clone(), validated: draft.validated, trace: by.trace.clone() },
        payload: draft.payload.clone(),
    }
}

pub fn pack_changes(request: &Changes) -> Packed {
    let conditions = [
        (request.based_on.is_some(), HAS_BASE),
        (request.required.is_some(), HAS_REQUIRED),
        (request.fence.is_some(), HAS_FENCE),
        (request.is_claim, IS_CLAIM),
    ];
    let conditions = conditions.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, bit)| all | bit);
    let mut out = vec![CHANGES, conditions];
    if let Some(sequence) = request.based_on {
        out.extend_from_slice(&sequence.to_be_bytes());
    }
    if let Some((table, key)) = &request.required {
        out.push(table.letter());
        // keys have at most a KiB
        out.extend_from_slice(&(key.len() as u16).to_be_bytes());
        out.extend_from_slice(key);
    }
    if let Some((slot, claim)) = request.fence {
        out.push(slot);
        out.extend_from_slice(&claim.to_be_bytes());
    }
    out.extend_from_slice(&encode_changes(&request.changes));
    Packed(out.into())
}

impl Packed {
    /// # Errors
    /// A node of another version has made it.
    pub fn unpack(&self) -> Result<Request, Malformed> {
        let mut reader = Reader(self.0.clone());
        match reader.u8()? {
            EVENTS => unpack_events(reader),
            CHANGES => unpack_changes(reader).map(Request::Changes),
            _ => Err(Malformed),
        }
    }
}

fn unpack_events(mut reader: Reader) -> Result<Request, Malformed> {
    let channel = ChannelNo(reader.u32()?);
    let key = match reader.u8()? {
        0 => None,
        _ => Some(DedupeKey::from_bytes(reader.sixteen()?)),
    };
    let len = reader.u32()? as usize;
    let events = decode_events(&reader.take(len)?).map_err(|_| Malformed)?;
    let first = events.first().ok_or(Malformed)?;
    let by = PublishedBy { by: first.origin.by.clone(), trace: first.origin.trace.clone() };
    let mut drafts = Vec::with_capacity(events.len());
    for event in events {
        let flags = reader.u8()?;
        let dedupe_id = if flags & HAS_DEDUPE_ID != 0 { Some(reader.text()?.into()) } else { None };
        drafts.push(Draft {
            kind: event.kind,
            ts_ms: (flags & HAS_TIME != 0).then_some(event.ts_ms),
            session: event.session,
            payload: event.payload,
            dedupe_id,
            validated: event.origin.validated,
        });
    }
    if reader.is_empty() { Ok(Request::Events { channel, drafts: Drafts { drafts, key, by } }) } else { Err(Malformed) }
}

fn unpack_changes(mut reader: Reader) -> Result<Changes, Malformed> {
    let conditions = reader.u8()?;
    let based_on = if conditions & HAS_BASE != 0 { Some(reader.u64()?) } else { None };
    let required = match conditions & HAS_REQUIRED {
        0 => None,
        _ => {
            let table = Table::of_letter(reader.u8()?).ok_or(Malformed)?;
            let len = usize::from(reader.u16()?);
            Some((table, reader.take(len)?.to_vec()))
        }
    };
    let fence = if conditions & HAS_FENCE != 0 { Some((reader.u8()?, reader.u64()?)) } else { None };
    let changes = decode_changes(&reader.0).map_err(|_| Malformed)?;
    Ok(Changes { changes, based_on, required, fence, is_claim: conditions & IS_CLAIM != 0 })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::Urgency;
    use crate::model::channel::{Channel, ChannelKind};
    use crate::model::event::EventType;
    use crate::model::json::Canonical;

    fn draft(n: u32) -> Draft {
        Draft {
            kind: EventType::new("message").expect("a type"),
            ts_ms: n.is_multiple_of(2).then_some(i64::from(n)),
            session: n.is_multiple_of(3).then(|| "sess".into()),
            payload: Canonical::parse(&format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(20_000))).expect("JSON"),
            dedupe_id: (n % 2 == 1).then(|| format!("key {n}").into()),
            validated: [None, Some(true), Some(false)][n as usize % 3],
        }
    }

    #[test]
    fn events_come_to_the_writer_as_they_were_published() {
        let channel = Arc::new(Channel {
            no: 7,
            kind: ChannelKind::Map,
            id: "m".into(),
            slug: "m".into(),
            name: "m".into(),
            inserted_ms: 0,
            updated_ms: 0,
            event_names: None,
            webhooks_enabled: false,
        });
        let key = Some(DedupeKey::of_request("once"));
        // more than fits into one block
        let drafts: Vec<Draft> = (0..7).map(draft).collect();
        let append = Append { channel, drafts: drafts.clone(), key, by: "tok_1".into(), urgency: Urgency::Normal };
        let packed = pack_events(&append);
        let Ok(Request::Events { channel, drafts: read }) = packed.unpack() else { panic!("events") };
        assert_eq!((channel, read.key, &*read.by.by), (ChannelNo(7), key, "tok_1"));
        assert_eq!(read.drafts, drafts);
        let cut = Packed(packed.0.slice(..packed.0.len() - 1));
        assert!(cut.unpack().is_err());
    }

    #[test]
    fn changes_come_to_the_writer_with_their_conditions() {
        let change = Change::put(Table::Rows, "row", &7).expect("a document");
        let all = Changes {
            changes: vec![change, Change::delete(Table::Tokens, "tok_1")],
            based_on: Some(5),
            required: Some((Table::Webhooks, b"wh_1".to_vec())),
            fence: Some((63, u64::MAX)),
            is_claim: true,
        };
        for conditions in 0..16 {
            let request = Changes {
                changes: all.changes.clone(),
                based_on: all.based_on.filter(|_| conditions & 1 > 0),
                required: all.required.clone().filter(|_| conditions & 2 > 0),
                fence: all.fence.filter(|_| conditions & 4 > 0),
                is_claim: conditions & 8 > 0,
            };
            let Ok(Request::Changes(read)) = pack_changes(&request).unpack() else { panic!("changes") };
            assert_eq!(
                (read.changes, read.based_on, read.required),
                (request.changes, request.based_on, request.required)
            );
            assert_eq!((read.fence, read.is_claim), (request.fence, request.is_claim));
        }
    }
}
