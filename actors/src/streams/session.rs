//! What all sessions share, whatever carries them: what the client asked for, where its stream starts, the opening frame,
//! and the notice of a gap.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::clock;
use crate::feed::frame::{Carrier, Encoding};
use crate::model::access::Principal;
use crate::model::channel::Channel;
use crate::model::envelope::{self, Envelope};
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::selection::{ChannelSet, Selection};
use crate::model::timestamp;
use crate::streams::connections::ClientInfo;
use crate::streams::shard::ShardCore;
use crate::streams::slots::Slot;
use crate::streams::{LocalChannel, SessionHandle, Socket, Streams};

/// What a stream reads.
#[derive(Clone, Debug)]
pub enum StreamTarget {
    Channel(Arc<Channel>),
    /// Some channels, in one order.
    Several(Arc<ChannelSet>),
    /// Every channel, in one order.
    All,
}

impl StreamTarget {
    pub fn selection(&self) -> Selection {
        match self {
            StreamTarget::Channel(channel) => Selection::One(channel.no()),
            StreamTarget::Several(set) => Selection::Several(set.clone()),
            StreamTarget::All => Selection::All,
        }
    }

    /// The public id of the channel; none of several.
    pub fn id(&self) -> Option<&str> {
        match self {
            StreamTarget::Channel(channel) => Some(&channel.id),
            StreamTarget::Several(_) | StreamTarget::All => None,
        }
    }
}

/// Everything that opening a stream takes, after all checks have passed.
#[derive(Debug)]
pub struct Opening {
    pub target: StreamTarget,
    pub principal: Arc<Principal>,
    pub filter: Filter,
    /// What the client asked for and the catalogue does not know.
    pub unknown_events: Vec<String>,
    /// The cursor to resume from; none: from now on.
    pub cursor: Option<EventId>,
    pub encoding: Encoding,
    /// Taken from the limits; given back when the session ends.
    pub slot: Slot,
    pub client: ClientInfo,
    /// The client's socket, to see whether a reader that seems stalled takes bytes after all.
    pub socket: Option<Socket>,
}

/// A session whose local channel is there, before its body is made.
pub(super) struct Opened {
    pub(super) channel: Rc<LocalChannel>,
    pub(super) session: Rc<SessionHandle>,
    pub(super) start: Start,
    /// The JSON of the opening frame.
    pub(super) connected: String,
    pub(super) filter: Filter,
    pub(super) encoding: Encoding,
}

/// Finds where the stream starts; none while the channel cannot be reached, or when the server stops.
pub(super) async fn open(streams: &Arc<Streams>, opening: Opening, heartbeats_always: bool) -> Option<Opened> {
    let core = ShardCore::here(streams);
    let channel = core.channel(&opening.target.selection()).await?;
    if streams.stopping().is_some() {
        return None;
    }
    let start = Start::at(streams, &opening);
    let connected = match opening.encoding.carrier {
        Carrier::WebSocket => connected_of_websocket(streams, &opening, start.resumed),
        Carrier::Sse | Carrier::SseNamed | Carrier::Json => connected_of_sse(&opening, start.resumed),
    };
    let (filter, encoding) = (opening.filter.clone(), opening.encoding);
    let session = Rc::new(SessionHandle::new(streams.fresh_id(), opening, start.cursor, heartbeats_always));
    Some(Opened { channel, session, start, connected: Value::Object(connected).to_string(), filter, encoding })
}

/// What the opening frame of an SSE stream says: what is read, the server's time, and how the request was understood.
fn connected_of_sse(opening: &Opening, resumed: bool) -> Map<String, Value> {
    let mut fields = Map::new();
    match opening.encoding.envelope {
        Envelope::Map => fields.insert("map_id".into(), opening.target.id().into()),
        Envelope::Gateway => fields.insert("organization".into(), opening.target.id().into()),
        Envelope::Feed | Envelope::FeedWithChannel => None,
        Envelope::Listener => fields.insert("source".into(), opening.filter.spec().source.clone().into()),
    };
    fields.insert("server_time".into(), timestamp::to_iso(clock::now_ms()).into());
    fields.insert("resumed".into(), resumed.into());
    fields.insert("unknown_events".into(), opening.unknown_events.clone().into());
    fields
}

/// The opening frame of a WebSocket. Organizations have the three fields that their clients know, and the types that
/// are not known only where there are some.
fn connected_of_websocket(streams: &Streams, opening: &Opening, resumed: bool) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("event".into(), "connected".into());
    fields.insert("heartbeatSeconds".into(), streams.limits.heartbeat.as_secs().into());
    fields.insert("timestamp".into(), clock::now_ms().into());
    match opening.encoding.envelope {
        Envelope::Gateway if opening.unknown_events.is_empty() => {}
        Envelope::Gateway => drop(fields.insert("unknown_events".into(), opening.unknown_events.clone().into())),
        Envelope::Map | Envelope::Feed | Envelope::FeedWithChannel | Envelope::Listener => {
            fields.extend(connected_of_sse(opening, resumed))
        }
    }
    fields
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) cursor: EventId,
    pub(super) resumed: bool,
    pub(super) gap: Option<Gap>,
}

impl Start {
    pub(super) fn at(streams: &Streams, opening: &Opening) -> Start {
        let view = &streams.handles.view;
        let head = view.head();
        match opening.cursor {
            None => Start { cursor: head, resumed: false, gap: None },
            Some(cursor) if cursor <= head => Start { cursor, resumed: true, gap: None },
            Some(requested) => {
                let oldest = view.oldest(&opening.target.selection());
                let gap = Gap { requested, oldest, reason: GapReason::Ahead };
                Start { cursor: head, resumed: true, gap: Some(gap) }
            }
        }
    }
}

/// What a reader is told where it cannot have all it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The cursor behind which events are missing; of a cursor that is ahead, the cursor itself.
    pub requested: EventId,
    /// The first event that is there behind them; none while there is none.
    pub oldest: Option<EventId>,
    pub reason: GapReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Retention took events after the cursor. Comes before the first event.
    Expired,
    /// Events here are lost to damage. Comes where they are missing.
    Damaged,
    /// The cursor is newer than anything in the log.
    Ahead,
}

impl Gap {
    /// The members of the notice, ids as the envelope shows them.
    fn fields(&self, envelope: Envelope) -> String {
        let oldest = self.oldest.map_or("null".into(), |id| format!("\"{}\"", envelope.shown_id(id)));
        let reason = match self.reason {
            GapReason::Expired => "expired",
            GapReason::Damaged => "damaged",
            GapReason::Ahead => "ahead",
        };
        let requested = envelope.shown_id(self.requested);
        format!("\"requested\":\"{requested}\",\"oldest\":{oldest},\"reason\":\"{reason}\"")
    }

    /// The notice as a WebSocket message.
    pub(super) fn text(&self, envelope: Envelope) -> String {
        format!("{{\"event\":\"gap\",{}}}", self.fields(envelope))
    }

    /// Writes the notice in the encoding. It has no id, so that a client's cursor stays where it was.
    pub(super) fn write(&self, encoding: Encoding, out: &mut Vec<u8>) {
        match encoding.carrier {
            Carrier::WebSocket => {
                envelope::write_ws_text(self.text(encoding.envelope).as_bytes(), out);
            }
            Carrier::Sse | Carrier::SseNamed => {
                let fields = self.fields(encoding.envelope);
                out.extend_from_slice(format!("event: gap\ndata: {{{fields}}}\n\n").as_bytes());
            }
            // who reads bare envelopes is told in another way
            Carrier::Json => {}
        }
    }
}
