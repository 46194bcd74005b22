//! The session actor of an SSE client (WHATWG HTML 9.2). It writes what is not an event: the opening frame, keepalive
//! comments and, by ending the body, the end. It takes at most one message a heartbeat and one at the end.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Handler};
use actix_web::Error;
use actix_web_actors::HttpContext;
use bytes::Bytes;
use futures_util::Stream;

use super::body::Body;
use super::reader::Reader;
use super::seat::{Ask, Seat};
use super::{Opening, open};
use crate::engine::Engine;

const KEEPALIVE: Bytes = Bytes::from_static(b": keepalive\n\n");

pub struct SseSession {
    seat: Rc<Seat>,
    opening: Option<Bytes>,
}

/// Opens the stream; none while the channel's actor cannot be reached, which passes.
pub async fn stream(
    engine: &Arc<Engine>,
    opening: Opening,
) -> Option<impl Stream<Item = Result<Bytes, Error>> + use<>> {
    let opened = open(engine, opening, false).await?;
    let mut first = Vec::new();
    first.extend_from_slice(b"event: connected\nid: ");
    opened.start.cursor.write_to(&mut first);
    first.extend_from_slice(format!("\nretry: {}\ndata: ", engine.limits.retry.as_millis()).as_bytes());
    first.extend_from_slice(opened.connected.as_bytes());
    first.extend_from_slice(b"\n\n");
    if let Some(gap) = opened.start.gap {
        gap.write(opened.encoding, &mut first);
    }
    let control = HttpContext::create(SseSession { seat: opened.seat.clone(), opening: Some(first.into()) });
    let reader = Reader::new(opened.room.clone(), opened.owner, opened.filter, opened.encoding, &opened.start);
    Some(Body::new(control, false, reader, opened.seat, opened.room))
}

impl Actor for SseSession {
    type Context = HttpContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.seat.actor_started(ctx.address().recipient());
        if let Some(first) = self.opening.take() {
            ctx.write(first);
        }
    }
}

impl Handler<Ask> for SseSession {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Self::Context) {
        match ask {
            Ask::Beat => ctx.write(KEEPALIVE),
            Ask::End(_) => {
                ctx.write_eof();
                ctx.stop();
            }
        }
    }
}
