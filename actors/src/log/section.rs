//! The log's part of a commit as bytes: its events, and its dedupe keys.
//!
//! Events stand in blocks, each of one channel: `channel:u32 count:u32 first:16 last:16 len:u32 records`, in the order of
//! their first ids. A channel may have several, so that no reader takes in much more than it asked for. Dedupe keys are
//! `channel:u32 key:16 first:16 count:u32`. All numbers are big-endian. The write-ahead log checks the bytes of the whole
//! commit when it recovers; readers of a block check its records.

use std::collections::HashMap;

use bytes::Bytes;

use super::record;
use super::{Dedupe, DedupeKey};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

/// A block takes no further record beyond this size.
pub const BLOCK_BYTES: usize = 32 * 1024;
const HEAD_BYTES: usize = 44;
const KEY_BYTES: usize = 40;

/// A section that is not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a commit holds a part that this version cannot read; start the version that wrote it")]
pub struct MalformedSection;

/// A block of a section, and where its records stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionBlock {
    pub channel: ChannelNo,
    pub count: u32,
    pub first: EventId,
    pub last: EventId,
    /// From the beginning of the section.
    pub offset: u32,
    pub len: u32,
}

/// The events of a commit as bytes, in the order of their ids.
pub fn encode_events(events: &[Event]) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.iter().map(record::size).sum::<usize>() + HEAD_BYTES);
    let Some(first) = events.first() else { return out };
    if events.iter().all(|event| event.channel == first.channel) {
        let mut rest = events;
        while !rest.is_empty() {
            let taken = block(&mut out, first.channel, rest.iter());
            rest = &rest[taken..];
        }
        return out;
    }
    let mut channels: HashMap<ChannelNo, Vec<&Event>> = HashMap::new();
    for event in events {
        channels.entry(event.channel).or_default().push(event);
    }
    // of each channel the events that are not written yet, by the id of the next one
    let mut left: std::collections::BTreeMap<EventId, (ChannelNo, &[&Event])> = std::collections::BTreeMap::new();
    for (no, events) in &channels {
        left.insert(events[0].id, (*no, events));
    }
    while let Some((_, (no, events))) = left.pop_first() {
        let taken = block(&mut out, no, events.iter().copied());
        if let Some(next) = events.get(taken) {
            left.insert(next.id, (no, &events[taken..]));
        }
    }
    out
}

/// Writes one block with as many of the events as fit; returns how many.
fn block<'a>(out: &mut Vec<u8>, no: ChannelNo, events: impl Iterator<Item = &'a Event>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    let (mut count, mut first, mut last) = (0u32, EventId::ZERO, EventId::ZERO);
    for event in events {
        let len = out.len() - start - HEAD_BYTES;
        if count > 0 && len + record::size(event) > BLOCK_BYTES {
            break;
        }
        if count == 0 {
            first = event.id;
        }
        last = event.id;
        record::write(event, out);
        count += 1;
    }
    let len = (out.len() - start - HEAD_BYTES) as u32;
    let head = &mut out[start..start + HEAD_BYTES];
    head[..4].copy_from_slice(&no.0.to_be_bytes());
    head[4..8].copy_from_slice(&count.to_be_bytes());
    head[8..24].copy_from_slice(&first.to_bytes());
    head[24..40].copy_from_slice(&last.to_bytes());
    head[40..].copy_from_slice(&len.to_be_bytes());
    count as usize
}

/// The blocks of a section, without a look into their records.
///
/// # Errors
/// When it is not what [`encode_events`] makes.
pub fn blocks(section: &[u8]) -> Result<Vec<SectionBlock>, MalformedSection> {
    let mut found: Vec<SectionBlock> = Vec::new();
    let mut at = 0;
    while at < section.len() {
        let head = section.get(at..at + HEAD_BYTES).ok_or(MalformedSection)?;
        let block = SectionBlock {
            channel: ChannelNo(u32_at(head, 0)),
            count: u32_at(head, 4),
            first: id_at(head, 8),
            last: id_at(head, 24),
            offset: u32::try_from(at + HEAD_BYTES).map_err(|_| MalformedSection)?,
            len: u32_at(head, 40),
        };
        at = block.offset as usize + block.len as usize;
        let is_behind = found.last().is_none_or(|before| before.first < block.first);
        if at > section.len() || block.first > block.last || block.count == 0 || !is_behind {
            return Err(MalformedSection);
        }
        found.push(block);
    }
    Ok(found)
}

/// The events of a section, in the order of their ids. They share its bytes.
///
/// # Errors
/// When it is not what [`encode_events`] makes.
pub fn decode_events(section: &Bytes) -> Result<Vec<Event>, MalformedSection> {
    let mut events: Vec<Event> = Vec::new();
    for block in blocks(section)? {
        let records = section.slice(block.offset as usize..(block.offset + block.len) as usize);
        for record in record::scan(&records, false) {
            let record = record.map_err(|_| MalformedSection)?;
            let before = events.last().map(|event| &event.origin.by);
            events.push(record::event(&records, record, block.channel, before).ok_or(MalformedSection)?);
        }
    }
    events.sort_unstable_by_key(|event| event.id);
    Ok(events)
}

/// The dedupe keys of a commit as bytes.
pub fn encode_keys(keys: &[Dedupe]) -> Vec<u8> {
    let mut out = Vec::with_capacity(keys.len() * KEY_BYTES);
    for dedupe in keys {
        put_key(&mut out, dedupe);
    }
    out
}

pub(super) fn put_key(out: &mut Vec<u8>, dedupe: &Dedupe) {
    out.extend_from_slice(&dedupe.channel.0.to_be_bytes());
    out.extend_from_slice(&dedupe.key.0);
    out.extend_from_slice(&dedupe.first.to_bytes());
    out.extend_from_slice(&dedupe.count.to_be_bytes());
}

/// The dedupe keys of a section.
///
/// # Errors
/// When it is not what [`encode_keys`] makes.
pub fn keys(section: &[u8]) -> Result<impl Iterator<Item = Dedupe>, MalformedSection> {
    let (keys, []) = section.as_chunks::<KEY_BYTES>() else { return Err(MalformedSection) };
    Ok(keys.iter().map(|bytes| key_at(bytes)))
}

pub(super) fn key_at(bytes: &[u8]) -> Dedupe {
    let mut key = [0; 16];
    key.copy_from_slice(&bytes[4..20]);
    Dedupe {
        channel: ChannelNo(u32_at(bytes, 0)),
        key: DedupeKey(key),
        first: id_at(bytes, 20),
        count: u32_at(bytes, 36),
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(four)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(eight)
}

pub(super) fn id_at(bytes: &[u8], at: usize) -> EventId {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    EventId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{event, id};

    fn decode(section: &[u8]) -> Vec<Event> {
        let events = decode_events(&Bytes::copy_from_slice(section)).unwrap();
        for block in blocks(section).unwrap() {
            let of_block = events.iter().filter(|event| event.channel == block.channel);
            let of_block = of_block.filter(|event| block.first <= event.id && event.id <= block.last);
            assert_eq!(of_block.count(), block.count as usize);
        }
        events
    }

    #[test]
    fn a_section_holds_the_events_of_many_channels_in_blocks_that_stay_small() {
        for channels in [1, 2, 7] {
            let events: Vec<Event> = (0..900).map(|n| event(id(n), 1 + n % channels, 200)).collect();
            let section = encode_events(&events);
            let blocks = blocks(&section).unwrap();
            assert!(blocks.iter().all(|block| block.len as usize <= BLOCK_BYTES));
            assert!(blocks.is_sorted_by_key(|block| block.first));
            assert_eq!(decode(&section), events);
        }
        assert_eq!(encode_events(&[]), Vec::<u8>::new());
    }

    #[test]
    fn a_large_event_has_a_block_of_its_own() {
        let events = [event(id(1), 1, 10), event(id(2), 1, 100_000), event(id(3), 1, 10)];
        let section = encode_events(&events);
        assert_eq!(blocks(&section).unwrap().len(), 3);
        assert_eq!(decode(&section), events);
    }

    #[test]
    fn a_section_that_was_cut_is_refused() {
        let section = encode_events(&[event(id(1), 1, 10), event(id(2), 2, 10)]);
        for len in 1..section.len() {
            let cut = &section[..len];
            assert!(blocks(cut).is_err() || blocks(cut).unwrap().len() == 1, "{len}");
        }
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let dedupe =
            |n| Dedupe { channel: ChannelNo(n), key: DedupeKey::of_event(&n.to_string()), first: id(n), count: n };
        let all: Vec<Dedupe> = (1..50).map(dedupe).collect();
        let section = encode_keys(&all);
        assert_eq!(keys(&section).unwrap().collect::<Vec<_>>(), all);
        assert!(keys(&section[1..]).is_err());
    }
}
