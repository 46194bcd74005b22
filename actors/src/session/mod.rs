//! Sessions: one per client of a stream. The actor in [`sse`] or [`websocket`] is the life of the client: its opening
//! frame, heartbeats and end. Its events do not pass through the actor: [`body::Body`] reads them from the room of its
//! thread by a cursor, is woken at most once per batch, and takes everything up to the head in one write.
//!
//! This folder is the only place that knows `actix-web-actors`, so that another transport can replace it here.

mod body;
mod reader;
mod room;
mod seat;
pub mod sse;
pub mod websocket;

use std::rc::Rc;
use std::sync::Arc;

use crate::clock;
use crate::engine::Engine;
use crate::frame::Encoding;
use crate::limits::Slot;
use crate::model::access::Principal;
use crate::model::channel::Channel;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::{envelope, timestamp};
use crate::shard::ShardCore;

pub use room::Room;
pub use seat::{End, Seat};

/// Everything that opening a stream takes, after all checks have passed.
#[derive(Debug)]
pub struct Opening {
    pub channel: Arc<Channel>,
    pub principal: Arc<Principal>,
    pub filter: Filter,
    /// What the client asked for and the catalogue does not know.
    pub unknown_events: Vec<String>,
    /// The cursor to resume from; none: from now on.
    pub cursor: Option<EventId>,
    pub encoding: Encoding,
    /// Taken from the limits; given back when the session ends.
    pub slot: Slot,
    /// The client's socket, to see whether a stalled reader takes bytes after all.
    pub socket: Option<std::os::fd::RawFd>,
}

/// A session that has its place in a room, before its body is made.
struct Opened {
    room: Rc<Room>,
    seat: Rc<Seat>,
    start: Start,
    /// The JSON of the opening frame.
    connected: String,
    owner: Arc<str>,
    filter: Filter,
    encoding: Encoding,
}

async fn open(engine: &Arc<Engine>, opening: Opening, beats_always: bool) -> Option<Opened> {
    // read before anything waits, so that a token revoked in the meantime is looked at again
    let revocations = engine.access.revocations();
    let core = ShardCore::here(engine);
    let room = core.room(opening.channel.no()).await?;
    if core.stopping() {
        return None;
    }
    let start = Start::at(engine, &opening);
    let connected = serde_json::json!({
        "map_id": opening.channel.id,
        "server_time": timestamp::to_iso(clock::now_ms()),
        "resumed": start.resumed,
        "unknown_events": opening.unknown_events,
    });
    let seat = Seat::new(opening.principal, opening.slot, opening.socket, beats_always, revocations);
    Some(Opened {
        room,
        seat: Rc::new(seat),
        start,
        connected: connected.to_string(),
        owner: opening.channel.id.clone(),
        filter: opening.filter,
        encoding: opening.encoding,
    })
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    cursor: EventId,
    resumed: bool,
    gap: Option<Gap>,
}

impl Start {
    fn at(engine: &Engine, opening: &Opening) -> Start {
        let head = engine.log.head();
        match opening.cursor {
            None => Start { cursor: head, resumed: false, gap: None },
            Some(cursor) if cursor <= head => Start { cursor, resumed: true, gap: None },
            Some(requested) => {
                let oldest = engine.log.oldest(Some(opening.channel.no()));
                let gap = Gap { requested, oldest, reason: GapReason::Ahead };
                Start { cursor: head, resumed: true, gap: Some(gap) }
            }
        }
    }
}

/// What a consumer is told before the first event when it cannot have all it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub requested: EventId,
    pub oldest: Option<EventId>,
    pub reason: GapReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Retention (or a damaged segment) took events after the cursor.
    Expired,
    /// The cursor is newer than anything in the log.
    Ahead,
}

impl Gap {
    fn fields(&self) -> String {
        let oldest = self.oldest.map_or("null".into(), |id| format!("\"{id}\""));
        let reason = match self.reason {
            GapReason::Expired => "expired",
            GapReason::Ahead => "ahead",
        };
        format!("\"requested\":\"{}\",\"oldest\":{oldest},\"reason\":\"{reason}\"", self.requested)
    }

    /// The notice as a WebSocket message.
    fn text(&self) -> String {
        format!("{{\"event\":\"gap\",{}}}", self.fields())
    }

    /// The notice as the encoding writes it. It has no id, so that a client's cursor stays where it was.
    fn write(&self, encoding: Encoding, out: &mut Vec<u8>) {
        match encoding {
            Encoding::WebSocket => {
                envelope::write_ws_text(self.text().as_bytes(), out);
            }
            Encoding::Sse | Encoding::SseNamed => {
                out.extend_from_slice(format!("event: gap\ndata: {{{}}}\n\n", self.fields()).as_bytes());
            }
            // envelopes alone go to consumers that are told in another way
            Encoding::Json => {}
        }
    }
}
