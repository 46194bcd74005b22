//! The session actor of a WebSocket client (RFC 6455). It writes what is not an event: the opening frame, the ping of every
//! heartbeat (a frame that the application sees, and a protocol ping), pongs and the close frame. Clients only listen: data
//! from a client ends the session. What a client sends is checked by the [`inspector`](crate::streams::inspector) first.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Handler, StreamHandler};
use actix_web::http::Version;
use actix_web::http::header::{
    HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use actix_web::web::Payload;
use actix_web::{Error, HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream;

use crate::clock;
use crate::streams::body::Body;
use crate::streams::inspector::{ClientLimits, Inspected, Verdict, Violation};
use crate::streams::session::{Opening, open};
use crate::streams::session_handle::Ask;
use crate::streams::{SessionEnd, SessionHandle, Streams};

/// A client sends pongs, pings and a close. Of data, which it must not send, this much is still read to its end.
const CLIENT_LIMITS: ClientLimits = ClientLimits { frame_bytes: 4096, message_bytes: 4096 };

pub struct WebSocketSession {
    session: Rc<SessionHandle>,
    verdict: Verdict,
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

/// Whether the request is a WebSocket handshake that can be answered. To be asked before a slot or a ticket is taken.
pub fn is_upgrade(request: &HttpRequest) -> bool {
    let only = |name: HeaderName| {
        let mut values = request.headers().get_all(name);
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    // the codec's own check does not look into the key, which is 16 bytes as base64 (RFC 6455, 4.2.1)
    let key = only(SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    // takes the versions 7 and 8, which are drafts (4.4)
    let is_final = only(SEC_WEBSOCKET_VERSION) == Some(b"13");
    // and takes a list of protocols of which HTTP below it makes no connection of frames
    let is_alone = only(UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"));
    // and 4.1: the version of HTTP is 1.1 at least
    let is_new = request.version() >= Version::HTTP_11;
    is_new && is_final && is_alone && key.is_some_and(|key| key.len() == 16) && ws::handshake(request).is_ok()
}

/// The context of an actor that reads a WebSocket client: the stream is what the actor writes. `make` gets the verdict over
/// the client's bytes, to be looked at when they have ended.
///
/// # Errors
/// An item is an error when the actor writes a message that cannot be encoded. It ends the connection.
pub fn context<A>(
    payload: Payload,
    limits: ClientLimits,
    make: impl FnOnce(Verdict) -> A,
) -> impl Stream<Item = Result<Bytes, Error>>
where
    A: Actor<Context = WebsocketContext<A>> + StreamHandler<Result<Message, ProtocolError>>,
{
    let (inspected, verdict) = Inspected::new(payload, limits);
    let codec = actix_http::ws::Codec::new().max_size(limits.frame_bytes);
    WebsocketContext::with_codec(make(verdict), inspected, codec)
}

/// Deals with what a client sends beside data, and returns the data.
pub fn data_of<A>(item: Result<Message, ProtocolError>, ctx: &mut WebsocketContext<A>) -> Option<Message>
where
    A: Actor<Context = WebsocketContext<A>>,
{
    match item {
        Ok(Message::Ping(data)) => ctx.pong(&data),
        Ok(Message::Pong(_) | Message::Nop) => {}
        Ok(Message::Close(reason)) => {
            // the client's own code goes back to it (RFC 6455, 5.5.1)
            ctx.close(reason.map(|reason| CloseReason { code: reason.code, description: None }));
            ctx.stop();
        }
        Ok(data) => return Some(data),
        // only well-formed frames come this far, so it is the connection that broke
        Err(e) => {
            log::debug!("a WebSocket client is gone: {e}");
            ctx.stop();
        }
    }
    None
}

/// The client's bytes have ended: it is gone, or has broken a rule and is told which.
pub fn close_socket<A>(verdict: &Verdict, ctx: &mut WebsocketContext<A>)
where
    A: Actor<Context = WebsocketContext<A>>,
{
    match verdict.get() {
        Some(violation) => {
            let (code, reason) = violation.close();
            close(ctx, code, reason);
        }
        None => ctx.stop(),
    }
}

fn close<A>(ctx: &mut WebsocketContext<A>, code: CloseCode, reason: &str)
where
    A: Actor<Context = WebsocketContext<A>>,
{
    ctx.close(Some(CloseReason { code, description: Some(reason.into()) }));
    ctx.stop();
}

/// What a client is told that has sent data.
const ONLY_SENDS: &str = "this stream only sends; publish by POST";

/// The name of what is spoken here, for clients that want it said.
const PROTOCOL: &str = "stentor.v1";

/// The subprotocol of the session: our own if the client offers it, else its first, because a browser fails a connection that
/// takes none of those that it offered (RFC 6455, 4.1). What is no token (RFC 9110, 5.6.2) is passed over.
fn subprotocol(request: &HttpRequest) -> Option<HeaderValue> {
    let fields = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).filter_map(|field| field.to_str().ok());
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let offered = fields.flat_map(|field| field.split(',')).map(str::trim);
    let offered: Vec<_> = offered.filter(|name| !name.is_empty() && name.bytes().all(token)).collect();
    let taken = offered.iter().find(|name| **name == PROTOCOL).or(offered.first())?;
    HeaderValue::from_str(taken).ok()
}

/// Answers the handshake; the response's body is the session.
///
/// # Errors
/// The request is no handshake, or the channel cannot be reached, which passes.
pub async fn upgrade(
    streams: &Arc<Streams>,
    request: &HttpRequest,
    payload: Payload,
    opening: Opening,
) -> Result<HttpResponse, UpgradeError> {
    let mut response = ws::handshake(request).map_err(|_| UpgradeError::NotAnUpgrade)?;
    let opened = open(streams, opening, true).await.ok_or(UpgradeError::Unavailable)?;
    if let Some(protocol) = subprotocol(request) {
        response.insert_header((SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    let gap = opened.start.gap.map(|gap| gap.text(opened.encoding.envelope));
    let (session, opening) = (opened.session.clone(), Some(opened.connected.clone()));
    let actor = context(payload, CLIENT_LIMITS, |verdict| WebSocketSession { session, verdict, opening, gap });
    Ok(response.streaming(Body::new(actor, true, opened)))
}

impl Actor for WebSocketSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.session.actor_started(ctx.address().recipient());
        if let Some(first) = self.opening.take() {
            ctx.text(first);
        }
        if let Some(gap) = self.gap.take() {
            ctx.text(gap);
        }
    }
}

impl Handler<Ask> for WebSocketSession {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Self::Context) {
        match ask {
            Ask::Heartbeat => {
                ctx.text(format!("{{\"event\":\"ping\",\"timestamp\":{}}}", clock::now_ms()));
                ctx.ping(b"");
            }
            Ask::End(SessionEnd::Shutdown) => {
                close(ctx, CloseCode::Away, "the server is stopping; resume by the last id")
            }
            Ask::End(SessionEnd::Replaced) => {
                close(ctx, CloseCode::Away, "the server is being replaced; come back at once and resume by the last id")
            }
            Ask::End(SessionEnd::Revoked) => close(ctx, CloseCode::Other(4401), "the token was revoked or has expired"),
            Ask::End(SessionEnd::Deleted) => close(ctx, CloseCode::Away, "the channel was deleted"),
            Ask::End(SessionEnd::Closed) => {
                close(ctx, CloseCode::Other(4409), "somebody who manages the channel has ended this connection");
            }
            Ask::End(SessionEnd::Stalled) => {
                close(ctx, CloseCode::Other(4408), "the reader took nothing for too long; resume by the last id");
            }
            Ask::End(SessionEnd::Failed) => {
                ctx.text(r#"{"event":"error","error":"The log could not be read; reconnect with the last id"}"#);
                close(ctx, CloseCode::Error, "the log could not be read; resume by the last id");
            }
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for WebSocketSession {
    fn handle(&mut self, item: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        if data_of(item, ctx).is_some() {
            close(ctx, CloseCode::Policy, ONLY_SENDS);
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        match self.verdict.get() {
            // only data is ever too large, and data of no size is taken
            Some(Violation::TooLarge) => close(ctx, CloseCode::Policy, ONLY_SENDS),
            _ => close_socket(&self.verdict, ctx),
        }
    }
}
