//! The session actor of an SSE client (WHATWG HTML 9.2). It writes what is not an event: the opening frame, keepalive
//! comments and, by ending the body, the end. Its mailbox gets at most one message a heartbeat and one at the end.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Handler};
use actix_web::Error;
use actix_web_actors::HttpContext;
use bytes::Bytes;
use futures_util::Stream;

use crate::clock;
use crate::model::envelope::Envelope;
use crate::streams::body::Body;
use crate::streams::session::{Opening, open};
use crate::streams::session_handle::Ask;
use crate::streams::{SessionEnd, SessionHandle, Streams};

/// What is written after a silence. Clients of the feed expect another word.
fn keepalive(envelope: Envelope) -> Bytes {
    match envelope {
        Envelope::Feed | Envelope::FeedWithChannel => Bytes::from_static(b": ping\n\n"),
        Envelope::Map | Envelope::Gateway | Envelope::Listener => Bytes::from_static(b": keepalive\n\n"),
    }
}

/// The shortest and longest time after which clients are asked to come back when another process takes the server's place.
/// The longest is there so that they do not all come in one moment; whoever comes too early waits for its answer.
const COME_BACK_MS: std::ops::RangeInclusive<u32> = 50..=450;

/// What is written before the end when another process takes the server's place. The next `connected` has the usual `retry`.
fn come_back(chance: u32) -> Bytes {
    let (least, most) = COME_BACK_MS.into_inner();
    let wait_ms = least + chance % (most - least + 1);
    format!(": the server is being replaced; resume by the last id\nretry: {wait_ms}\n\n").into()
}

pub struct SseSession {
    session: Rc<SessionHandle>,
    opening: Option<Bytes>,
    keepalive: Bytes,
}

/// Opens the stream; none while the channel's actor cannot be reached, which passes.
///
/// # Errors
/// No item is an error: a session that fails tells the client so and ends. actix-web asks for the type.
pub async fn stream(
    streams: &Arc<Streams>,
    opening: Opening,
) -> Option<impl Stream<Item = Result<Bytes, Error>> + use<>> {
    let opened = open(streams, opening, false).await?;
    let envelope = opened.encoding.envelope;
    let id = envelope.shown_id(opened.start.cursor);
    let mut first = match envelope {
        Envelope::Feed | Envelope::FeedWithChannel => format!("id: {id}\nevent: connected"),
        Envelope::Map | Envelope::Gateway | Envelope::Listener => format!("event: connected\nid: {id}"),
    }
    .into_bytes();
    first.extend_from_slice(format!("\nretry: {}\ndata: ", streams.limits.retry.as_millis()).as_bytes());
    first.extend_from_slice(opened.connected.as_bytes());
    first.extend_from_slice(b"\n\n");
    if let Some(gap) = opened.start.gap {
        gap.write(opened.encoding, &mut first);
    }
    let actor =
        SseSession { session: opened.session.clone(), opening: Some(first.into()), keepalive: keepalive(envelope) };
    Some(Body::new(HttpContext::create(actor), false, opened))
}

impl Actor for SseSession {
    type Context = HttpContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.session.actor_started(ctx.address().recipient());
        if let Some(first) = self.opening.take() {
            ctx.write(first);
        }
    }
}

impl Handler<Ask> for SseSession {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Self::Context) {
        match ask {
            Ask::Heartbeat => ctx.write(self.keepalive.clone()),
            Ask::End(end) => {
                if end == SessionEnd::Replaced {
                    ctx.write(come_back(u32::from_le_bytes(clock::random())));
                }
                ctx.write_eof();
                ctx.stop();
            }
        }
    }
}
