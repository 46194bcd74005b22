//! One event as bytes, and the blocks that hold them.
//!
//! A record is `len:u32 crc:u32 body`, its body
//! `version:u8 id:16 ts_ms:i64 type_len:u8 type session_len:u8 session by_len:u8 by validated:u8 payload`; `session_len` 0 means
//! none, `validated` is 0 or 1, or 2 where nobody asked. Version 1 had neither `by` nor `validated`. Version 3 is written for
//! events of a trace only, and has `trace_len:u16 trace` before the payload. The payload stands last and reaches to the end, so
//! that reading slices it.

use std::sync::Arc;

use bytes::{Buf, Bytes};

#[cfg(test)]
use crate::disk::mutant::{self, Mutant};
use crate::model::event::{BY_BYTES_MAX, ChannelNo, Event, EventType, Origin};
use crate::model::id::EventId;
use crate::model::json::Canonical;
use crate::model::trace_context::TraceContext;

const VERSION: u8 = 2;
const VERSION_WITH_TRACE: u8 = 3;
const VERSION_WITHOUT_ORIGIN: u8 = 1;
const NOT_VALIDATED: u8 = 2;
const HEAD: usize = 8;
/// Version, id, time and the length of the type.
const BODY_BYTES_MIN: usize = 26;

/// Appends the record of an event.
pub fn write(event: &Event, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let trace = event.origin.trace.as_ref().map(|trace| trace.stored());
    out.push(if trace.is_some() { VERSION_WITH_TRACE } else { VERSION });
    out.extend_from_slice(&event.id.to_bytes());
    out.extend_from_slice(&event.ts_ms.to_be_bytes());
    // types have at most 64 bytes, sessions at most 128
    out.push(event.kind.as_str().len() as u8);
    out.extend_from_slice(event.kind.as_str().as_bytes());
    let session = event.session.as_deref().unwrap_or_default();
    out.push(session.len() as u8);
    out.extend_from_slice(session.as_bytes());
    let by = &event.origin.by.as_bytes()[..event.origin.by.floor_char_boundary(BY_BYTES_MAX)];
    out.push(by.len() as u8);
    out.extend_from_slice(by);
    out.push(event.origin.validated.map_or(NOT_VALIDATED, u8::from));
    if let Some(trace) = &trace {
        // a trace has at most 55 and 512 bytes
        out.extend_from_slice(&(trace.len() as u16).to_be_bytes());
        out.extend_from_slice(trace.as_bytes());
    }
    out.extend_from_slice(event.payload.as_bytes());
    let crc = crc32fast::hash(&out[start + HEAD..]);
    let len = (out.len() - start - HEAD) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&crc.to_be_bytes());
}

/// What the record of an event takes up.
pub fn size(event: &Event) -> usize {
    37 + event.kind.as_str().len()
        + event.session.as_deref().map_or(0, str::len)
        + event.origin.by.len()
        + event.origin.trace.as_ref().map_or(0, |trace| 2 + trace.stored().len())
        + event.payload.as_bytes().len()
}

/// How long a block has to be for the records that begin in it; none when it is complete.
pub fn missing(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at + HEAD <= block.len() {
        at = at.saturating_add(HEAD).saturating_add(length(&block[at..]));
    }
    (at > block.len()).then_some(at)
}

fn length(head: &[u8]) -> usize {
    u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize
}

/// Where a record stands in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: EventId,
    pub start: usize,
    pub end: usize,
}

/// A record that fails its check. What comes after it can be read when its length was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Walks over the records of a block.
#[derive(Debug)]
pub struct Scan<'a> {
    block: &'a [u8],
    at: usize,
    is_checked: bool,
}

/// The records of a block, oldest first. `is_checked`: a checksum over the whole block was right, so that those of its
/// records need not be computed.
pub fn scan(block: &[u8], is_checked: bool) -> Scan<'_> {
    Scan { block, at: 0, is_checked }
}

impl Iterator for Scan<'_> {
    type Item = Result<Record, Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.block[self.at..];
        if rest.is_empty() {
            return None;
        }
        let whole = (rest.len() >= HEAD).then(|| HEAD + length(rest)).filter(|whole| *whole <= rest.len());
        let Some(whole) = whole else {
            self.at = self.block.len();
            return Some(Err(Corrupt));
        };
        let (start, end) = (self.at, self.at + whole);
        self.at = end;
        let crc = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]);
        let body = &rest[HEAD..whole];
        let is_checked = self.is_checked;
        #[cfg(test)]
        let is_checked = is_checked || mutant::is_here(Mutant::Checksum);
        if body.len() < BODY_BYTES_MIN || !is_checked && crc32fast::hash(body) != crc {
            return Some(Err(Corrupt));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&body[1..17]);
        Some(Ok(Record { id: EventId::from_bytes(id), start, end }))
    }
}

/// The event of a record; none when it is not one that this version knows. `before`: who published the event before.
pub fn event(block: &Bytes, record: Record, channel: ChannelNo, before: Option<&Arc<str>>) -> Option<Event> {
    parse(block.slice(record.start + HEAD..record.end), channel, before.cloned())
}

/// `before`: who published the event before, most often the same one, whose name is then shared.
fn parse(mut body: Bytes, channel: ChannelNo, before: Option<Arc<str>>) -> Option<Event> {
    let version = *body.first()?;
    if body.len() < BODY_BYTES_MIN || !matches!(version, VERSION | VERSION_WITH_TRACE | VERSION_WITHOUT_ORIGIN) {
        return None;
    }
    body.advance(1);
    let mut id = [0; 16];
    body.copy_to_slice(&mut id);
    let ts_ms = body.get_i64();
    let kind = text(&mut body)?;
    let session = text(&mut body)?;
    let origin = match version {
        VERSION_WITHOUT_ORIGIN => Origin::default(),
        version => origin(&mut body, before, version == VERSION_WITH_TRACE)?,
    };
    Some(Event {
        id: EventId::from_bytes(id),
        channel,
        kind: EventType::new(std::str::from_utf8(&kind).ok()?).ok()?,
        ts_ms,
        session: match session.is_empty() {
            true => None,
            false => Some(std::str::from_utf8(&session).ok()?.into()),
        },
        origin,
        payload: Canonical::from_log(body)?,
    })
}

fn origin(body: &mut Bytes, before: Option<Arc<str>>, has_trace: bool) -> Option<Origin> {
    let by = text(body)?;
    let by = match before.filter(|before| before.as_bytes() == by) {
        Some(before) => before,
        None => std::str::from_utf8(&by).ok()?.into(),
    };
    let validated = match body.has_remaining().then(|| body.get_u8())? {
        NOT_VALIDATED => None,
        validated => Some(validated == 1),
    };
    let trace = match has_trace {
        false => None,
        true => {
            let len = (body.len() >= 2).then(|| usize::from(body.get_u16()))?;
            let stored = (len <= body.len()).then(|| body.split_to(len))?;
            Some(Arc::new(TraceContext::from_stored(std::str::from_utf8(&stored).ok()?)?))
        }
    };
    Some(Origin { by, validated, trace })
}

fn text(body: &mut Bytes) -> Option<Bytes> {
    let len = if body.has_remaining() { usize::from(body.get_u8()) } else { return None };
    (len <= body.len()).then(|| body.split_to(len))
}
