//! The session actor of a WebSocket client (RFC 6455). It writes what is not an event: the opening frame, the ping of every
//! heartbeat (a frame that the application sees, and a protocol ping), pongs and the close frame. Clients listen only: data
//! from a client ends the session.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Handler, StreamHandler};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};

use super::body::Body;
use super::reader::Reader;
use super::seat::{Ask, End, Seat};
use super::{Opening, open};
use crate::clock;
use crate::engine::Engine;

/// The largest frame that a client may send. It has nothing to say but pongs, pings and a close.
const CLIENT_FRAME_BYTES: usize = 4096;

pub struct WebSocketSession {
    seat: Rc<Seat>,
    opening: Option<String>,
    /// The notice of a gap, where there is one.
    gap: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("this address speaks WebSocket; connect with Upgrade: websocket and Sec-WebSocket-Version: 13")]
    NotAnUpgrade,
    #[error("the channel is starting; try again in a second")]
    Unavailable,
}

/// Whether the request is a WebSocket handshake that can be answered, to be asked before anything is spent on it.
pub fn is_upgrade(request: &HttpRequest) -> bool {
    ws::handshake(request).is_ok()
}

/// Answers the handshake; the response's body is the session.
pub async fn upgrade(
    engine: &Arc<Engine>,
    request: &HttpRequest,
    payload: Payload,
    opening: Opening,
) -> Result<HttpResponse, UpgradeError> {
    let mut response = ws::handshake(request).map_err(|_| UpgradeError::NotAnUpgrade)?;
    let opened = open(engine, opening, true).await.ok_or(UpgradeError::Unavailable)?;
    let gap = opened.start.gap.map(|gap| gap.text(opened.encoding.envelope));
    let actor = WebSocketSession { seat: opened.seat.clone(), opening: Some(opened.connected), gap };
    let codec = actix_http_ws_codec();
    let control = WebsocketContext::with_codec(actor, payload, codec);
    let reader = Reader::new(opened.room.clone(), opened.filter, opened.encoding, &opened.start);
    Ok(response.streaming(Body::new(control, true, reader, opened.seat, opened.room)))
}

fn actix_http_ws_codec() -> actix_http::ws::Codec {
    actix_http::ws::Codec::new().max_size(CLIENT_FRAME_BYTES)
}

impl Actor for WebSocketSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.seat.actor_started(ctx.address().recipient());
        if let Some(first) = self.opening.take() {
            ctx.text(first);
        }
        if let Some(gap) = self.gap.take() {
            ctx.text(gap);
        }
    }
}

impl WebSocketSession {
    fn close(&self, ctx: &mut WebsocketContext<Self>, code: CloseCode, reason: &str) {
        ctx.close(Some(CloseReason { code, description: Some(reason.into()) }));
        ctx.stop();
    }
}

impl Handler<Ask> for WebSocketSession {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Self::Context) {
        match ask {
            Ask::Beat => {
                ctx.text(format!("{{\"event\":\"ping\",\"timestamp\":{}}}", clock::now_ms()));
                ctx.ping(b"");
            }
            Ask::End(End::Shutdown) => {
                self.close(ctx, CloseCode::Away, "the server is stopping; resume by the last id")
            }
            Ask::End(End::Revoked) => self.close(ctx, CloseCode::Other(4401), "the token was revoked or has expired"),
            Ask::End(End::Failed) => {
                ctx.text(r#"{"event":"error","error":"The log could not be read; reconnect with the last id"}"#);
                self.close(ctx, CloseCode::Error, "the log could not be read; resume by the last id");
            }
            Ask::End(End::Deleted) => self.close(ctx, CloseCode::Away, "the channel was deleted"),
            Ask::End(End::Stalled) => {
                self.close(ctx, CloseCode::Other(4408), "the reader took nothing for too long; resume by the last id");
            }
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for WebSocketSession {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        match item {
            Ok(Message::Ping(data)) => ctx.pong(&data),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Close(reason)) => {
                // the client's own code goes back to it (RFC 6455, 5.5.1)
                ctx.close(reason.map(|reason| CloseReason { code: reason.code, description: None }));
                ctx.stop();
            }
            Ok(Message::Text(_) | Message::Binary(_) | Message::Continuation(_)) => {
                self.close(ctx, CloseCode::Policy, "this stream only sends; publish by POST");
            }
            Err(ProtocolError::Overflow) => self.close(ctx, CloseCode::Size, "the frame is too large"),
            Err(_) => self.close(ctx, CloseCode::Protocol, "the frame breaks RFC 6455"),
        }
    }
}
