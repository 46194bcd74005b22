//! `Expect: 100-continue` over HTTP/1.1 (RFC 9110, 10.1.1): a client that waits with its body until we want it. It is told to go
//! on when the application asks for the body, which is after the headers were judged, and not when its head is whole, as
//! actix-http would. Who is refused by its headers is refused without having sent the body.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{HttpMessage, Payload, Request, Response};
use actix_service::Service;
use actix_web::web::Bytes;
use futures_util::Stream;
use futures_util::future::LocalBoxFuture;

use super::watched::{Watched, WatchedBody};

/// The application's answer to a request, once it comes.
type Answer<B> = LocalBoxFuture<'static, Result<Response<WatchedBody<B>>, actix_web::Error>>;

/// Begins to answer requests whose clients wait.
pub struct Judged<S, B> {
    app: Rc<Watched<S, B>>,
}

impl<S, B> Judged<S, B> {
    pub fn new(app: Rc<Watched<S, B>>) -> Judged<S, B> {
        Judged { app }
    }
}

/// The answer to a request that came before its body was asked for: the client need not send it.
pub struct Unasked(Response<BoxBody>);

impl From<Unasked> for Response<BoxBody> {
    fn from(answer: Unasked) -> Response<BoxBody> {
        answer.0
    }
}

/// An answer that was begun while the client waited. It travels in the request that stands for it.
pub struct Begun<B>(Cell<Option<Answer<B>>>);

impl<B: 'static> Begun<B> {
    pub fn take(request: &Request) -> Option<Answer<B>> {
        request.extensions().get::<Begun<B>>()?.0.take()
    }
}

impl<S, B> Service<Request> for Judged<S, B>
where
    S: Service<Request, Error = actix_web::Error> + 'static,
    S::Response: Into<Response<B>>,
    S::Future: 'static,
    B: MessageBody + Unpin + 'static,
{
    type Response = Request;
    type Error = Unasked;
    type Future = LocalBoxFuture<'static, Result<Request, Unasked>>;

    actix_service::always_ready!();

    /// Ready with a request when the client is to go on.
    fn call(&self, mut request: Request) -> Self::Future {
        let wanted = Rc::new(Wanted::default());
        let body = Asking { body: request.take_payload(), wanted: wanted.clone() };
        *request.payload() = Payload::Stream { payload: Box::pin(body) };
        let mut answer = Some(self.app.call(request));
        Box::pin(poll_fn(move |cx| {
            // it is polled until it is ready, and then not again
            let Some(answering) = &mut answer else { return Poll::Pending };
            match answering.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Err(Unasked(response.map_into_boxed_body()))),
                Poll::Ready(Err(e)) => Poll::Ready(Err(Unasked(e.error_response().into()))),
                Poll::Pending if wanted.poll(cx) => {
                    let stand_in = Request::new();
                    stand_in.extensions_mut().insert(Begun(Cell::new(answer.take())));
                    Poll::Ready(Ok(stand_in))
                }
                Poll::Pending => Poll::Pending,
            }
        }))
    }
}

/// Whether the body was asked for.
#[derive(Default)]
struct Wanted {
    is: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Wanted {
    /// If not, the task is woken when it is.
    fn poll(&self, cx: &mut Context<'_>) -> bool {
        if !self.is.get() {
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
        }
        self.is.get()
    }
}

/// A body that notes when it is asked for.
struct Asking {
    body: Payload,
    wanted: Rc<Wanted>,
}

impl Stream for Asking {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.wanted.is.replace(true)
            && let Some(waker) = this.wanted.waiting.take()
        {
            waker.wake();
        }
        Pin::new(&mut this.body).poll_next(cx)
    }
}
