//! What nodes say to each other beside the log: forwards, replies and beats, as bytes. None of it is stored.

use std::sync::Arc;

use bytes::Bytes;

use super::bytes::{Malformed, Reader, put_text};
use super::entry::{put_runs, runs};
use super::picture::About;
use super::request::Packed;
use crate::model::event::ChannelNo;
use crate::model::relay::{Ask, Beat, Forward, Load, Nonce, Refusal, Reply, ReplyKind};
use crate::streams::slots::Counted;

/// A forward; behind the head stands the request.
pub fn encode_forward(forward: &Forward<Packed>) -> Bytes {
    let mut out = Vec::with_capacity(64 + forward.draft.0.len());
    let Nonce { life, number } = forward.nonce;
    for number in [forward.term, forward.writer, life, number, forward.settled_below, forward.left_ms] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    // both are bounded by the queue
    out.extend_from_slice(&(forward.load.events as u32).to_be_bytes());
    out.extend_from_slice(&(forward.load.bytes as u32).to_be_bytes());
    put_text(&mut out, &forward.from);
    out.extend_from_slice(&forward.draft.0);
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_forward(bytes: Bytes) -> Result<Forward<Packed>, Malformed> {
    let mut reader = Reader(bytes);
    let (term, writer) = (reader.u64()?, reader.u64()?);
    let nonce = Nonce { life: reader.u64()?, number: reader.u64()? };
    let (settled_below, left_ms) = (reader.u64()?, reader.u64()?);
    let load = Load { events: reader.u32()? as usize, bytes: reader.u32()? as usize };
    let from = Arc::from(reader.text()?);
    Ok(Forward { term, writer, nonce, settled_below, from, left_ms, load, draft: Packed(reader.0) })
}

pub fn encode_ask(ask: &Ask) -> Bytes {
    let mut out = Vec::with_capacity(64);
    for number in [ask.term, ask.writer, ask.nonce.life, ask.nonce.number] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    put_text(&mut out, &ask.from);
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_ask(bytes: Bytes) -> Result<Ask, Malformed> {
    let mut reader = Reader(bytes);
    let (term, writer) = (reader.u64()?, reader.u64()?);
    let nonce = Nonce { life: reader.u64()?, number: reader.u64()? };
    Ok(Ask { term, writer, nonce, from: Arc::from(reader.text()?) })
}

const QUEUED: u8 = 1;
const KNOWN: u8 = 2;
const REFUSED: u8 = 3;
const NOT_WRITER: u8 = 4;

const REFUSALS: [Refusal; 6] =
    [Refusal::QueueFull, Refusal::StorageFull, Refusal::Stopping, Refusal::Gone, Refusal::Conflict, Refusal::Failed];

pub fn encode_reply(reply: &Reply) -> Bytes {
    let mut out = Vec::with_capacity(48);
    for number in [reply.term, reply.nonce.life, reply.nonce.number] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    match &reply.kind {
        ReplyKind::Queued => out.push(QUEUED),
        ReplyKind::Known { receipt, through } => {
            out.push(KNOWN);
            out.extend_from_slice(&through.to_be_bytes());
            put_runs(&mut out, receipt);
        }
        ReplyKind::Refused(refusal) => {
            let number = REFUSALS.iter().position(|known| known == refusal).unwrap_or(REFUSALS.len() - 1);
            out.extend_from_slice(&[REFUSED, number as u8]);
        }
        ReplyKind::NotWriter { newest } => {
            out.push(NOT_WRITER);
            out.extend_from_slice(&newest.to_be_bytes());
        }
    }
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_reply(bytes: Bytes) -> Result<Reply, Malformed> {
    let mut reader = Reader(bytes);
    let term = reader.u64()?;
    let nonce = Nonce { life: reader.u64()?, number: reader.u64()? };
    let kind = match reader.u8()? {
        QUEUED => ReplyKind::Queued,
        KNOWN => ReplyKind::Known { through: reader.u64()?, receipt: runs(&mut reader)? },
        REFUSED => ReplyKind::Refused(*REFUSALS.get(usize::from(reader.u8()?)).ok_or(Malformed)?),
        NOT_WRITER => ReplyKind::NotWriter { newest: reader.u64()? },
        _ => return Err(Malformed),
    };
    Ok(Reply { term, nonce, kind })
}

pub fn encode_beat(beat: &Beat) -> Bytes {
    let mut out = Vec::with_capacity(40);
    out.extend_from_slice(&beat.term.to_be_bytes());
    out.extend_from_slice(&beat.head.to_be_bytes());
    put_text(&mut out, &beat.node);
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_beat(bytes: Bytes) -> Result<Beat, Malformed> {
    let mut reader = Reader(bytes);
    let (term, head) = (reader.u64()?, reader.u64()?);
    Ok(Beat { node: Arc::from(reader.text()?), term, head })
}

/// Said by each node to all others, several times a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBeat {
    pub node: Arc<str>,
    pub life: u64,
    /// It ends in order, and delivers nothing any more.
    pub is_leaving: bool,
    /// When it was said, by the node's own clock of the time since its start.
    pub said_ms: u64,
    pub about: About,
}

pub fn encode_node_beat(beat: &NodeBeat) -> Bytes {
    let NodeBeat { node, life, is_leaving, said_ms, about } = beat;
    let About { version, address, started_ms, behind, behind_ms } = about;
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&life.to_be_bytes());
    out.push(u8::from(*is_leaving));
    put_text(&mut out, node);
    for number in [*said_ms, started_ms.cast_unsigned(), *behind, *behind_ms] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    put_text(&mut out, version);
    put_text(&mut out, address);
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_node_beat(bytes: Bytes) -> Result<NodeBeat, Malformed> {
    let mut reader = Reader(bytes);
    let (life, is_leaving) = (reader.u64()?, reader.u8()? != 0);
    let node = Arc::from(reader.text()?);
    let (said_ms, started_ms) = (reader.u64()?, reader.i64()?);
    let (behind, behind_ms) = (reader.u64()?, reader.u64()?);
    let (version, address) = (Arc::from(reader.text()?), Arc::from(reader.text()?));
    Ok(NodeBeat { node, life, is_leaving, said_ms, about: About { version, address, started_ms, behind, behind_ms } })
}

/// How many streams a node has of some channels and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    pub node: Arc<str>,
    pub counts: Vec<(Counted, u32)>,
}

const OF_CHANNEL: u8 = 1;
const OF_TOKEN: u8 = 2;

pub fn encode_counts(counts: &NodeCounts) -> Bytes {
    let mut out = Vec::with_capacity(64);
    put_text(&mut out, &counts.node);
    for (counted, streams) in &counts.counts {
        match counted {
            Counted::Channel(no) => {
                out.push(OF_CHANNEL);
                out.extend_from_slice(&no.0.to_be_bytes());
            }
            Counted::Token(token) => {
                out.push(OF_TOKEN);
                put_text(&mut out, token);
            }
        }
        out.extend_from_slice(&streams.to_be_bytes());
    }
    out.into()
}

/// # Errors
/// A node of another version has made it.
pub fn decode_counts(bytes: Bytes) -> Result<NodeCounts, Malformed> {
    let mut reader = Reader(bytes);
    let node = Arc::from(reader.text()?);
    let mut counts = Vec::new();
    while !reader.is_empty() {
        let counted = match reader.u8()? {
            OF_CHANNEL => Counted::Channel(ChannelNo(reader.u32()?)),
            OF_TOKEN => Counted::Token(reader.text()?.into()),
            _ => return Err(Malformed),
        };
        counts.push((counted, reader.u32()?));
    }
    Ok(NodeCounts { node, counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::EventId;
    use crate::model::relay::Run;

    #[test]
    fn what_nodes_say_is_read_as_it_was_said() {
        let nonce = Nonce { life: 7, number: 8 };
        let forward = Forward {
            term: 1,
            writer: 2,
            nonce,
            settled_below: 3,
            from: "n1".into(),
            left_ms: 4,
            load: Load { events: 5, bytes: 6 },
            draft: Packed(Bytes::from_static(b"events")),
        };
        assert_eq!(decode_forward(encode_forward(&forward)), Ok(forward));
        let ask = Ask { term: 1, writer: 2, nonce, from: "n1".into() };
        assert_eq!(decode_ask(encode_ask(&ask)), Ok(ask));
        let receipt = vec![Run { first: EventId::at_time(5), count: 3 }];
        let mut kinds =
            vec![ReplyKind::Queued, ReplyKind::Known { receipt, through: 9 }, ReplyKind::NotWriter { newest: 4 }];
        kinds.extend(REFUSALS.map(ReplyKind::Refused));
        for kind in kinds {
            let reply = Reply { term: 1, nonce, kind };
            assert_eq!(decode_reply(encode_reply(&reply)), Ok(reply));
        }
        let beat = Beat { node: "n1".into(), term: 1, head: 2 };
        assert_eq!(decode_beat(encode_beat(&beat)), Ok(beat));
        let about = About {
            version: "0.1.0".into(),
            address: "n1:8080".into(),
            started_ms: 1_750_509_300_000,
            behind: 6,
            behind_ms: 7,
        };
        let beat = NodeBeat { node: "n1".into(), life: 5, is_leaving: true, said_ms: 8, about };
        let whole = encode_node_beat(&beat);
        assert!((0..whole.len()).all(|len| decode_node_beat(whole.slice(..len)).is_err()));
        assert_eq!(decode_node_beat(whole), Ok(beat));
        let counts = vec![(Counted::Channel(ChannelNo(4)), 2), (Counted::Token("tok_1".into()), 0)];
        let counts = NodeCounts { node: "n1".into(), counts };
        assert_eq!(decode_counts(encode_counts(&counts)), Ok(counts.clone()));
        let whole = encode_counts(&counts);
        assert!((whole.len() - 3..whole.len()).all(|len| decode_counts(whole.slice(..len)).is_err()));
    }
}
