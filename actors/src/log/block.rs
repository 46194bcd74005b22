//! Values of a sealed segment, each with a head of its own, so that a value is checked when it is read and found again in
//! the raw file of a database that fails.
//!
//! ```text
//! magic:8 crc:u32 len:u32 kind:u8 flags:u8 part:u16 parts:u16 0:u16 number:u32 whole:u32 first:16 before:16 bytes
//! ```
//!
//! `crc` is a CRC-32C over all that stands behind it. A value that is too long for the database is cut into parts, each
//! with this head; `whole` is its length before compression. By kind:
//!
//! ```text
//! kind  key                            number    first       before                          content
//! c     c channel:u32 first:16 part    channel   its first   first of its channel's block    records
//!                                                            before; zero at the beginning
//! d     d number:u32 part              its own   0           0                               dedupe keys with their time
//! i     i first:16 part                0         its first   first of the stripe before      (channel, first, last) of
//!                                                                                            the blocks of a stripe
//! m     m part                         0         0           0                               the manifest
//! ```

use bytes::Bytes;

use super::section::{id_at, u32_at};
use crate::disk::database::VALUE_BYTES;
use crate::model::id::EventId;

/// At the beginning of each value. No text and no UTF-8 begins like this.
pub const MAGIC: &[u8; 8] = b"\x93Sblock\xc1";
const HEAD_BYTES: usize = 64;
/// Content of one part.
pub const PART_BYTES: usize = VALUE_BYTES - HEAD_BYTES;
/// Compression has to save at least one in so many bytes.
const SAVING: usize = 16;
const LZ4: u8 = 1;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Block = b'c' as isize,
    Keys = b'd' as isize,
    Stripe = b'i' as isize,
    Manifest = b'm' as isize,
}

impl Kind {
    fn of(letter: u8) -> Option<Kind> {
        [Kind::Block, Kind::Keys, Kind::Stripe, Kind::Manifest].into_iter().find(|kind| *kind as u8 == letter)
    }
}

/// What a value says of itself, the same in all its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    pub kind: Kind,
    /// The channel of a block, the number of a value with keys.
    pub number: u32,
    pub first: EventId,
    pub before: EventId,
}

impl Head {
    pub fn key(&self, part: u16) -> Vec<u8> {
        let mut key = vec![self.kind as u8];
        if matches!(self.kind, Kind::Block | Kind::Keys) {
            key.extend_from_slice(&self.number.to_be_bytes());
        }
        if matches!(self.kind, Kind::Block | Kind::Stripe) {
            key.extend_from_slice(&self.first.to_bytes());
        }
        key.extend_from_slice(&part.to_be_bytes());
        key
    }
}

/// The key of the block of a channel that begins with this event.
pub fn block_key(number: u32, first: EventId, part: u16) -> Vec<u8> {
    Head { kind: Kind::Block, number, first, before: EventId::ZERO }.key(part)
}

/// The key of the stripe that begins with this event.
pub fn stripe_key(first: EventId, part: u16) -> Vec<u8> {
    Head { kind: Kind::Stripe, number: 0, first, before: EventId::ZERO }.key(part)
}

/// The first key of dedupe keys with this number.
pub fn keys_key(number: u32) -> Vec<u8> {
    Head { kind: Kind::Keys, number, first: EventId::ZERO, before: EventId::ZERO }.key(0)
}

/// The key of a part of the manifest.
pub fn manifest_key(part: u16) -> Vec<u8> {
    Head { kind: Kind::Manifest, number: 0, first: EventId::ZERO, before: EventId::ZERO }.key(part)
}

/// One part of a value as it was read, checked.
#[derive(Clone, Debug)]
pub struct Part {
    pub head: Head,
    pub part: u16,
    pub parts: u16,
    whole: u32,
    is_compressed: bool,
    bytes: Bytes,
}

/// Compresses a value where that pays, and cuts it into the entries of the database.
pub fn entries(head: Head, content: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let packed = lz4_flex::block::compress(content);
    let pays = packed.len() < content.len() - content.len() / SAVING;
    let bytes: &[u8] = if pays { &packed } else { content };
    let parts = bytes.len().div_ceil(PART_BYTES).max(1);
    let entry = |part: usize| {
        let bytes = &bytes[part * PART_BYTES..bytes.len().min((part + 1) * PART_BYTES)];
        let mut value = Vec::with_capacity(HEAD_BYTES + bytes.len());
        value.extend_from_slice(MAGIC);
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        value.push(head.kind as u8);
        value.push(if pays { LZ4 } else { 0 });
        // the write-ahead log takes no commit that would need more than 65,535 parts
        value.extend_from_slice(&(part as u16).to_be_bytes());
        value.extend_from_slice(&(parts as u16).to_be_bytes());
        value.extend_from_slice(&[0; 2]);
        value.extend_from_slice(&head.number.to_be_bytes());
        value.extend_from_slice(&(content.len() as u32).to_be_bytes());
        value.extend_from_slice(&head.first.to_bytes());
        value.extend_from_slice(&head.before.to_bytes());
        value.extend_from_slice(bytes);
        let crc = crc32c::crc32c(&value[12..]);
        value[8..12].copy_from_slice(&crc.to_be_bytes());
        (head.key(part as u16), value)
    };
    (0..parts).map(entry).collect()
}

/// How long the value is that begins here; none when none does, or its check fails.
pub fn length(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEAD_BYTES || &bytes[..8] != MAGIC {
        return None;
    }
    let len = HEAD_BYTES.checked_add(u32_at(bytes, 12) as usize)?;
    let value = bytes.get(..len)?;
    (crc32c::crc32c(&value[12..]) == u32_at(value, 8)).then_some(len)
}

impl Part {
    /// Reads a value; none when its check fails.
    pub fn read(value: Bytes) -> Option<Part> {
        if length(&value)? != value.len() {
            return None;
        }
        let number = |at: usize| u16::from_be_bytes([value[at], value[at + 1]]);
        Some(Part {
            head: Head {
                kind: Kind::of(value[16])?,
                number: u32_at(&value, 24),
                first: id_at(&value, 32),
                before: id_at(&value, 48),
            },
            part: number(18),
            parts: number(20),
            whole: u32_at(&value, 28),
            is_compressed: value[17] & LZ4 != 0,
            bytes: value.slice(HEAD_BYTES..),
        })
    }
}

/// Puts a value together from all of its parts in their order; none when one is missing or foreign.
pub fn join(parts: &[Part]) -> Option<Bytes> {
    let first = parts.first()?;
    let fits = |(n, part): (usize, &Part)| usize::from(part.part) == n && part.head == first.head;
    if parts.len() != usize::from(first.parts) || !parts.iter().enumerate().all(fits) {
        return None;
    }
    let packed = match parts {
        [part] => part.bytes.clone(),
        parts => parts.iter().flat_map(|part| part.bytes.iter().copied()).collect::<Vec<u8>>().into(),
    };
    if !first.is_compressed {
        // a copy: the bytes that come from the database belong to a larger piece of its memory
        return (packed.len() == first.whole as usize).then(|| Bytes::copy_from_slice(&packed));
    }
    let whole = lz4_flex::block::decompress(&packed, first.whole as usize).ok()?;
    (whole.len() == first.whole as usize).then(|| whole.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { kind: Kind::Block, number: 7, first: EventId::at_time(5), before: EventId::at_time(3) }
    }

    fn random(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as u8
        };
        (0..len).map(step).collect()
    }

    fn parts(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<Part> {
        entries.iter().map(|(_, value)| Part::read(Bytes::copy_from_slice(value)).unwrap()).collect()
    }

    #[test]
    fn a_value_is_read_as_it_was_written_whatever_its_size() {
        for content in
            [vec![], vec![7; 100], vec![7; 1_000_000], random(PART_BYTES), random(PART_BYTES + 1), random(200_000)]
        {
            let entries = entries(head(), &content);
            assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
            assert!(entries.iter().all(|(_, value)| value.len() <= VALUE_BYTES));
            assert_eq!(join(&parts(&entries)).unwrap(), content);
        }
        assert_eq!(entries(head(), &random(PART_BYTES)).len(), 1);
        assert!(entries(head(), &vec![7; 1_000_000]).iter().map(|(_, value)| value.len()).sum::<usize>() < 10_000);
    }

    #[test]
    fn a_part_that_is_missing_or_doubled_is_noticed() {
        let mut parts = parts(&entries(head(), &random(200_000)));
        let all = parts.clone();
        parts.remove(1);
        assert!(join(&parts).is_none());
        parts.insert(1, parts[0].clone());
        assert!(join(&parts).is_none());
        assert!(join(&all[..all.len() - 1]).is_none());
        assert!(join(&[]).is_none());
    }

    #[test]
    fn every_flipped_bit_of_a_value_is_noticed() {
        let (_, value) = entries(head(), b"{\"some\":\"records\"}").remove(0);
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Part::read(bad.into()).is_none(), "bit {bit}");
        }
        assert!(Part::read(value[..value.len() - 1].to_vec().into()).is_none());
    }

    #[test]
    fn a_value_is_found_in_the_middle_of_other_bytes() {
        let (_, value) = entries(head(), &random(1000)).remove(0);
        let raw = [random(333).as_slice(), &value, &random(50)].concat();
        assert_eq!(length(&raw[333..]), Some(value.len()));
        assert_eq!((0..raw.len()).filter(|at| length(&raw[*at..]).is_some()).collect::<Vec<_>>(), [333]);
    }
}
