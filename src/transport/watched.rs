//! The application as HTTP/1 calls it: it tells each connection's conversation when a request is answered, and closes the
//! connection behind a body of unknown length for clients of HTTP/1.0.

use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, MessageBody};
use actix_http::{ConnectionType, HttpMessage, Request, Response, Version};
use actix_service::Service;
use actix_web::web::Bytes;
use futures_util::future::LocalBoxFuture;

use super::conversation::Conversation;
use super::expectation::Begun;
use super::traffic::{Traffic, UnderWay};

/// Held while a request is answered.
struct Answering(Rc<Conversation>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answered();
    }
}

/// The application, told of its conversations.
pub struct Watched<S, B> {
    app: S,
    traffic: Arc<Traffic>,
    body: PhantomData<B>,
}

impl<S, B> Watched<S, B> {
    pub fn new(app: S, traffic: Arc<Traffic>) -> Watched<S, B> {
        Watched { app, traffic, body: PhantomData }
    }
}

impl<S, B> Service<Request> for Watched<S, B>
where
    S: Service<Request, Error = actix_web::Error> + 'static,
    S::Response: Into<Response<B>>,
    S::Future: 'static,
    B: MessageBody + Unpin + 'static,
{
    type Response = Response<WatchedBody<B>>;
    type Error = S::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::forward_ready!(app);

    fn call(&self, request: Request) -> Self::Future {
        if let Some(begun) = Begun::take(&request) {
            return begun;
        }
        let conversation = request.conn_data::<Rc<Conversation>>().cloned();
        let is_old = request.version() == Version::HTTP_10;
        let answering = conversation.map(|conversation| {
            if let Some(order) = conversation.answering(announced(&request)) {
                request.extensions_mut().insert(Rc::new(order));
            }
            Answering(conversation)
        });
        let mut under_way = Some(self.traffic.answer());
        let traffic = self.traffic.clone();
        let answer = self.app.call(request);
        Box::pin(async move {
            let mut response: Response<B> = answer.await?.into();
            let is_stream = response.body().size() == BodySize::Stream;
            if is_stream {
                // it has an end of its own, or none
                under_way = None;
            }
            if is_old && is_stream {
                // whoever speaks HTTP/1.0 knows no chunks: the connection ends the body (RFC 9112, 6.1 and 6.3)
                response.head_mut().no_chunking(true);
                response.head_mut().set_connection_type(ConnectionType::Close);
            } else if traffic.is_ending() && !response.upgrade() {
                // the client learns that it has to connect anew before it sends the next request
                response.head_mut().set_connection_type(ConnectionType::Close);
            }
            Ok(response.map_body(|_, body| WatchedBody { body, _answering: answering, _under_way: under_way }))
        })
    }
}

/// How long the body may become that the head announces.
fn announced(request: &Request) -> usize {
    let length = request.headers().get(actix_http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    match request.chunked() {
        Ok(false) => length.unwrap_or(if request.head().upgrade() { usize::MAX } else { 0 }),
        _ => usize::MAX,
    }
}

/// A body that is our turn as long as it is sent.
pub struct WatchedBody<B> {
    body: B,
    _answering: Option<Answering>,
    /// It is waited for before the server ends.
    _under_way: Option<UnderWay>,
}

impl<B: MessageBody + Unpin> MessageBody for WatchedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
