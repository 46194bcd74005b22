//! A frame: one committed event and its encodings, each made at most once however many read it.
//!
//! The journal makes a frame when an event is durable; channels, shards, sessions and webhooks share it by `Arc`. What
//! is read back from the log becomes a frame again, with the same bytes.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::feed::trace::TraceMark;
use crate::model::channel::Owner;
use crate::model::envelope::{self, Envelope, SseParts};
use crate::model::event::Event;
use crate::model::filter::{Filter, FilterInput};

/// How a stream wants its events written: which JSON, and in what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Encoding {
    pub envelope: Envelope,
    pub carrier: Carrier,
}

/// What carries an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Carrier {
    /// SSE without an `event:` line where the envelope can do without, so that `onmessage` fires.
    Sse,
    /// SSE with an `event:` line where the envelope can have one.
    SseNamed,
    /// A WebSocket text frame with its header.
    WebSocket,
    /// Nothing: the envelope alone, as history and webhooks carry it.
    Json,
}

/// One envelope of an event in all carriers.
#[derive(Debug, Default)]
struct Texts {
    sse: OnceLock<(Bytes, SseParts)>,
    websocket: OnceLock<Bytes>,
}

#[derive(Debug)]
pub struct Frame {
    pub event: Event,
    owner: Owner,
    input: FilterInput,
    /// Of an event that was committed just now. What is read back from the log has none.
    mark: Option<TraceMark>,
    /// In the envelope of the channel's own family, which is nearly always the one that is asked for.
    own: Texts,
    others: OnceLock<Box<[Texts; Envelope::COUNT]>>,
}

impl Frame {
    pub fn new(event: Event, owner: Owner) -> Frame {
        let input = FilterInput::default();
        Frame { event, owner, input, mark: None, own: Texts::default(), others: OnceLock::new() }
    }

    /// The frame of an event that was committed just now.
    pub fn committed(event: Event, owner: Owner, mark: Option<TraceMark>) -> Frame {
        Frame { mark, ..Frame::new(event, owner) }
    }

    /// Counts sessions that the event was handed to.
    pub fn handed(&self, sessions: u32) {
        if let Some(mark) = &self.mark {
            mark.handed(sessions);
        }
    }

    pub fn passes(&self, filter: &Filter) -> bool {
        filter.is_all() || filter.matches(&self.event, &self.input).is_match()
    }

    /// The event as `encoding` writes it. The first call of each encoding makes it.
    pub fn bytes(&self, Encoding { envelope, carrier }: Encoding) -> Bytes {
        let texts = match envelope == Envelope::of(self.owner.kind) {
            true => &self.own,
            false => &self.others.get_or_init(Box::default)[envelope as usize],
        };
        let (sse, parts) = texts.sse.get_or_init(|| {
            let mut out = Vec::new();
            let parts = envelope.write_sse(&self.event, &self.owner, &mut out);
            (out.into(), parts)
        });
        match carrier {
            Carrier::SseNamed => sse.clone(),
            Carrier::Sse => sse.slice(parts.unnamed..),
            Carrier::Json => sse.slice(parts.json..parts.end),
            Carrier::WebSocket => {
                let frame = texts.websocket.get_or_init(|| {
                    let mut out = Vec::new();
                    envelope::write_ws_text(&sse[parts.json..parts.end], &mut out);
                    out.into()
                });
                frame.clone()
            }
        }
    }

    /// The envelope alone.
    pub fn json(&self, envelope: Envelope) -> Bytes {
        self.bytes(Encoding { envelope, carrier: Carrier::Json })
    }

    /// The envelope of the channel's own family.
    pub fn own_envelope(&self) -> Envelope {
        Envelope::of(self.owner.kind)
    }

    /// What the frame takes up in a ring, near enough for its bound.
    pub fn weight(&self) -> usize {
        512 + 2 * self.event.payload.as_bytes().len()
    }
}
