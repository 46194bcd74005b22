//! What stands in the log's stream: the term's messages, and commits.
//!
//! A commit has at most two *entries*, one for its events with their dedupe keys and one for its changes of documents, so that
//! old changes can be taken out of the stream without the events beside them. An entry that is larger than what the server
//! takes is cut into parts, each of which is a message; the last one names the requests that are answered by it.
//!
//! ```text
//! message: version:u8 kind:u8 part:u16 parts:u16 term:u64 before:u64 last_id:16
//!          requests:u32, per request life:u64 number:u64 runs:u16, per run first:16 count:u32
//!          the part of the entry
//! entry of events:  time_ms:i64 keys_len:u32 keys records
//! entry of changes: time_ms:i64 changes
//! term:    version:u8 life:u64 number:u64 node
//! ```
//! `before` is the sequence of the last message of an entry of events before this commit, so that one that is missing is
//! noticed.

use std::sync::Arc;

use bytes::Bytes;

use super::bytes::{Malformed, Reader, put_text};
use crate::model::id::EventId;
use crate::model::relay::{Claim, Message, Nonce, Run};

const VERSION: u8 = 1;
/// What a message takes beside its part and its requests.
const HEAD_BYTES: usize = 42;
const REQUEST_BYTES: usize = 18;
const RUN_BYTES: usize = 20;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Events = 1,
    Changes = 2,
    /// Nothing: what stood there was taken away and is in no copy any more, or in none that needs it.
    Nothing = 3,
}

/// A part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub kind: Kind,
    /// From 0 on.
    pub part: u16,
    pub parts: u16,
    /// See the head of this file.
    pub before: u64,
    pub bytes: Bytes,
}

/// A whole entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Events { time_ms: i64, keys: Bytes, records: Bytes },
    Changes { time_ms: i64, changes: Bytes },
}

impl Entry {
    pub fn kind(&self) -> Kind {
        match self {
            Entry::Events { .. } => Kind::Events,
            Entry::Changes { .. } => Kind::Changes,
        }
    }

    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Entry::Events { time_ms, keys, records } => {
                out.reserve_exact(12 + keys.len() + records.len());
                out.extend_from_slice(&time_ms.to_be_bytes());
                out.extend_from_slice(&(keys.len() as u32).to_be_bytes());
                out.extend_from_slice(keys);
                out.extend_from_slice(records);
            }
            Entry::Changes { time_ms, changes } => {
                out.reserve_exact(8 + changes.len());
                out.extend_from_slice(&time_ms.to_be_bytes());
                out.extend_from_slice(changes);
            }
        }
        out.into()
    }

    /// # Errors
    /// A node of another version has made it.
    pub fn decode(kind: Kind, bytes: Bytes) -> Result<Entry, Malformed> {
        let mut reader = Reader(bytes);
        let time_ms = reader.i64()?;
        Ok(match kind {
            Kind::Events => {
                let len = reader.u32()? as usize;
                let keys = reader.take(len)?;
                Entry::Events { time_ms, keys, records: reader.0 }
            }
            Kind::Changes => Entry::Changes { time_ms, changes: reader.0 },
            Kind::Nothing => return Err(Malformed),
        })
    }

    /// The entry in parts of at most so many bytes.
    pub fn parts(&self, before: u64, part_bytes: usize) -> Vec<Part> {
        let bytes = self.encode();
        let parts = bytes.len().div_ceil(part_bytes).max(1) as u16;
        let slice = |part: u16| {
            let from = usize::from(part) * part_bytes;
            bytes.slice(from..(from + part_bytes).min(bytes.len()))
        };
        (0..parts).map(|part| Part { kind: self.kind(), part, parts, before, bytes: slice(part) }).collect()
    }
}

/// What stands for a message that was taken away.
pub fn nothing() -> Message<Part> {
    let content = Part { kind: Kind::Nothing, part: 0, parts: 1, before: 0, bytes: Bytes::new() };
    Message { term: 0, requests: Vec::new(), last_id: EventId::ZERO, content }
}

/// A message of a commit as it is published.
pub fn encode(message: &Message<Part>) -> Bytes {
    let Message { term, requests, last_id, content } = message;
    let runs: usize = requests.iter().map(|(_, receipt)| receipt.len()).sum();
    let bytes = HEAD_BYTES + requests.len() * REQUEST_BYTES + runs * RUN_BYTES + content.bytes.len();
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(&[VERSION, content.kind as u8]);
    out.extend_from_slice(&content.part.to_be_bytes());
    out.extend_from_slice(&content.parts.to_be_bytes());
    out.extend_from_slice(&term.to_be_bytes());
    out.extend_from_slice(&content.before.to_be_bytes());
    out.extend_from_slice(&last_id.to_bytes());
    // a commit holds at most as many requests as events and changes, and these are bounded, see `RelayLimits::batch_events`
    out.extend_from_slice(&(requests.len() as u32).to_be_bytes());
    for (nonce, receipt) in requests {
        out.extend_from_slice(&nonce.life.to_be_bytes());
        out.extend_from_slice(&nonce.number.to_be_bytes());
        put_runs(&mut out, receipt);
    }
    out.extend_from_slice(&content.bytes);
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode(bytes: Bytes) -> Result<Message<Part>, Malformed> {
    let mut reader = Reader(bytes);
    if reader.u8()? != VERSION {
        return Err(Malformed);
    }
    let kind = match reader.u8()? {
        1 => Kind::Events,
        2 => Kind::Changes,
        _ => return Err(Malformed),
    };
    let (part, parts) = (reader.u16()?, reader.u16()?);
    let (term, before) = (reader.u64()?, reader.u64()?);
    let last_id = EventId::from_bytes(reader.sixteen()?);
    let count = reader.u32()?;
    let mut requests = Vec::with_capacity((count as usize).min(reader.0.len() / REQUEST_BYTES));
    for _ in 0..count {
        let nonce = Nonce { life: reader.u64()?, number: reader.u64()? };
        requests.push((nonce, runs(&mut reader)?));
    }
    Ok(Message { term, requests, last_id, content: Part { kind, part, parts, before, bytes: reader.0 } })
}

pub fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    out.extend_from_slice(&(runs.len() as u16).to_be_bytes());
    for run in runs {
        out.extend_from_slice(&run.first.to_bytes());
        out.extend_from_slice(&run.count.to_be_bytes());
    }
}

pub fn runs(reader: &mut Reader) -> Result<Vec<Run>, Malformed> {
    let count = reader.u16()?;
    (0..count)
        .map(|_| Ok(Run { first: EventId::from_bytes(reader.sixteen()?), count: reader.u32()? }))
        .collect::<Result<_, _>>()
}

/// A message on the term's subject as it is published.
pub fn encode_claim(claim: &Claim) -> Bytes {
    let mut out = vec![VERSION];
    out.extend_from_slice(&claim.life.to_be_bytes());
    out.extend_from_slice(&claim.number.to_be_bytes());
    put_text(&mut out, &claim.node);
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_claim(bytes: Bytes) -> Result<Claim, Malformed> {
    let mut reader = Reader(bytes);
    if reader.u8()? != VERSION {
        return Err(Malformed);
    }
    let (life, number) = (reader.u64()?, reader.u64()?);
    Ok(Claim { node: Arc::from(reader.text()?), life, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_from_parts_as_it_was_cut() {
        let entry =
            Entry::Events { time_ms: 5, keys: Bytes::from_static(b"keys"), records: Bytes::from(vec![7; 1_000]) };
        for part_bytes in [1, 10, 999, 1_016, 5_000] {
            let parts = entry.parts(3, part_bytes);
            assert!(parts.iter().all(|part| part.bytes.len() <= part_bytes && usize::from(part.parts) == parts.len()));
            let whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes.to_vec()).collect();
            assert_eq!(Entry::decode(Kind::Events, whole.into()), Ok(entry.clone()));
        }
        let changes = Entry::Changes { time_ms: -1, changes: Bytes::new() };
        let [only] = &changes.parts(0, 100)[..] else { panic!("one part") };
        assert_eq!(Entry::decode(Kind::Changes, only.bytes.clone()), Ok(changes));
    }

    #[test]
    fn a_message_is_read_as_it_was_published_and_not_when_it_is_cut() {
        let receipt = vec![Run { first: EventId::at_time(9), count: 2 }, Run { first: EventId::at_time(10), count: 1 }];
        let message = Message {
            term: 4,
            requests: vec![(Nonce { life: 1, number: 2 }, receipt), (Nonce { life: 3, number: 4 }, Vec::new())],
            last_id: EventId::at_time(11),
            content: Part { kind: Kind::Changes, part: 1, parts: 2, before: 3, bytes: Bytes::from_static(b"part") },
        };
        let bytes = encode(&message);
        assert_eq!(decode(bytes.clone()), Ok(message));
        assert!((0..bytes.len() - b"part".len()).all(|len| decode(bytes.slice(..len)).is_err()));
        let claim = Claim { node: "node-ä".into(), life: 7, number: 8 };
        assert_eq!(decode_claim(encode_claim(&claim)), Ok(claim));
    }
}
