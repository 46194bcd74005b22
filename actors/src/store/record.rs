//! One event as bytes, and the blocks that hold them.
//!
//! A record is `len:u32 crc:u32 body`, its body
//! `version:u8 id:16 ts_ms:i64 type_len:u8 type session_len:u8 session by_len:u8 by validated:u8 payload`; `session_len` 0 means
//! none, `validated` is 0 or 1, or 2 where nobody asked. Version 1 had neither `by` nor `validated`. The payload stands
//! last and reaches to the end, so that reading slices it.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::model::event::{BY_BYTES_MAX, ChannelNo, Event, EventType, Origin};
use crate::model::id::EventId;
use crate::model::json::Canonical;

const VERSION: u8 = 2;
const VERSION_WITHOUT_ORIGIN: u8 = 1;
const NOT_VALIDATED: u8 = 2;
const HEAD: usize = 8;

/// Appends the record of an event.
pub fn write(event: &Event, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.push(VERSION);
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
    out.extend_from_slice(event.payload.as_bytes());
    let crc = crc32fast::hash(&out[start + HEAD..]);
    let len = (out.len() - start - HEAD) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&crc.to_be_bytes());
}

/// How long a block has to be for the records that begin in it; none when it is complete.
pub fn missing(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at + HEAD <= block.len() {
        let len = u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]) as usize;
        at += HEAD + len;
    }
    (at > block.len()).then_some(at)
}

/// The events of a block, oldest first. A record whose CRC does not fit is skipped and counted.
pub fn read(mut block: Bytes, channel: ChannelNo, corrupt: &mut u64) -> Vec<Event> {
    let mut events = Vec::new();
    while block.len() >= HEAD {
        let len = block.get_u32() as usize;
        let crc = block.get_u32();
        if len > block.len() {
            *corrupt += 1;
            break;
        }
        let body = block.split_to(len);
        let before = events.last().map(|event: &Event| event.origin.by.clone());
        match (crc32fast::hash(&body) == crc).then(|| parse(body, channel, before)).flatten() {
            Some(event) => events.push(event),
            None => *corrupt += 1,
        }
    }
    events
}

/// `before`: who published the event before, most often the same one, whose name is then shared.
fn parse(mut body: Bytes, channel: ChannelNo, before: Option<Arc<str>>) -> Option<Event> {
    let version = *body.first()?;
    if body.len() < 26 || !matches!(version, VERSION | VERSION_WITHOUT_ORIGIN) {
        return None;
    }
    body.advance(1);
    let mut id = [0; 16];
    body.copy_to_slice(&mut id);
    let ts_ms = body.get_i64();
    let kind = text(&mut body)?;
    let session = text(&mut body)?;
    let origin = if version == VERSION { origin(&mut body, before)? } else { Origin::default() };
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

fn origin(body: &mut Bytes, before: Option<Arc<str>>) -> Option<Origin> {
    let by = text(body)?;
    let by = match before.filter(|before| before.as_bytes() == by) {
        Some(before) => before,
        None => std::str::from_utf8(&by).ok()?.into(),
    };
    let validated = match body.has_remaining().then(|| body.get_u8())? {
        NOT_VALIDATED => None,
        validated => Some(validated == 1),
    };
    Some(Origin { by, validated })
}

fn text(body: &mut Bytes) -> Option<Bytes> {
    let len = if body.has_remaining() { usize::from(body.get_u8()) } else { return None };
    (len <= body.len()).then(|| body.split_to(len))
}
