//! A frame: one committed event and its encodings, each made at most once however many read it.
//!
//! The journal makes a frame when an event is durable; channels, shards, sessions and webhooks share it by `Arc`. What
//! is read back from the log becomes a frame again, with the same bytes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::model::envelope::{self, SseParts};
use crate::model::event::Event;
use crate::model::filter::{Filter, FilterInput};

/// How a stream wants its events written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Encoding {
    /// SSE with `id:` and `data:`, so that `onmessage` fires.
    Sse,
    /// SSE with an `event:` line as well.
    SseNamed,
    /// A WebSocket text frame with its header.
    WebSocket,
    /// The envelope alone, as history and webhooks carry it.
    Json,
}

#[derive(Debug)]
pub struct Frame {
    pub event: Event,
    /// The public id of the event's channel.
    owner: Arc<str>,
    input: FilterInput,
    sse: OnceLock<(Bytes, SseParts)>,
    websocket: OnceLock<Bytes>,
}

impl Frame {
    pub fn new(event: Event, owner: Arc<str>) -> Frame {
        Frame { event, owner, input: FilterInput::default(), sse: OnceLock::new(), websocket: OnceLock::new() }
    }

    pub fn passes(&self, filter: &Filter) -> bool {
        filter.is_all() || filter.matches(&self.event, &self.input).is_match()
    }

    /// The event as `encoding` writes it. The first call of each encoding makes it.
    pub fn bytes(&self, encoding: Encoding) -> Bytes {
        let (sse, parts) = self.sse.get_or_init(|| {
            let mut out = Vec::new();
            let parts = envelope::write_map_sse(&self.event, &self.owner, &mut out);
            (out.into(), parts)
        });
        match encoding {
            Encoding::SseNamed => sse.clone(),
            Encoding::Sse => sse.slice(parts.unnamed..),
            Encoding::Json => sse.slice(parts.json..parts.end),
            Encoding::WebSocket => {
                let frame = self.websocket.get_or_init(|| {
                    let mut out = Vec::new();
                    envelope::write_ws_text(&sse[parts.json..parts.end], &mut out);
                    out.into()
                });
                frame.clone()
            }
        }
    }

    /// What the frame takes up in a ring, near enough for its bound.
    pub fn weight(&self) -> usize {
        512 + 2 * self.event.payload.as_bytes().len()
    }
}
