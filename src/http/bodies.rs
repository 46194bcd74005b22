//! Bodies of requests on their way in: each has a deadline, and all together share the memory budget, at every address and
//! over either version of HTTP. Handlers read them as they like; what went wrong here is what the client is told.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use actix_web::body::BoxBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, UPGRADE};
use actix_web::rt::time::{Sleep, sleep_until};
use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpRequest, ResponseError, web};
use actors::budget::{Part, Reservation};
use actors::metrics::Shed;
use futures_util::Stream;

use super::problem::{Code, Problem};
use super::{Context, guard};

/// What is known of a body that is being received.
struct Receiving {
    deadline: Instant,
    /// None: it has no bounds (any more).
    held: RefCell<Option<Reservation>>,
    /// What is still to come of a body that the framework would read to the end of the connection, since its request offers a
    /// WebSocket. None: it ends by itself, or there is a WebSocket.
    left: Cell<Option<u64>>,
    refusal: Cell<Option<Refused>>,
}

#[derive(Clone, Copy)]
enum Refused {
    Late,
    NoRoom,
}

impl Refused {
    fn problem(self) -> Problem {
        match self {
            Refused::Late => Problem::new(Code::RequestTimeout, "The body did not come in time; send it again"),
            Refused::NoRoom => {
                Problem::new(Code::Unavailable, "The server has no memory left for bodies; send it again in a second")
            }
        }
    }
}

impl Receiving {
    fn refuse(&self, why: Refused) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.refusal.set(Some(why));
        Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}

/// A body with its bounds.
struct Bounded {
    body: Payload,
    /// Made when the body has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
    receiving: Rc<Receiving>,
}

impl Stream for Bounded {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let left = this.receiving.left.get();
        if left == Some(0) {
            return Poll::Ready(None);
        }
        let mut next = Pin::new(&mut this.body).poll_next(task);
        if let (Some(left), Poll::Ready(Some(Ok(piece)))) = (left, &mut next) {
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            this.receiving.left.set(Some(left - piece.len() as u64));
        }
        let mut held = this.receiving.held.borrow_mut();
        let Some(reservation) = &mut *held else { return next };
        match next {
            Poll::Ready(Some(Ok(piece))) if !reservation.grow(piece.len()) => this.receiving.refuse(Refused::NoRoom),
            Poll::Ready(_) => next,
            Poll::Pending => {
                let deadline = this.receiving.deadline.into();
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                match timer.as_mut().poll(task) {
                    Poll::Ready(()) => this.receiving.refuse(Refused::Late),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

/// Bounds the body of a request, if it has one.
pub fn bound(request: &mut ServiceRequest) -> Option<Bounds> {
    let body = request.take_payload();
    if matches!(body, Payload::None) {
        return None;
    }
    let receiving = {
        // the one `App` of this program is built with it
        let context = request.app_data::<web::Data<Context>>().expect("the app has its context");
        Rc::new(Receiving {
            deadline: Instant::now() + Duration::from_secs(context.settings.server.body_timeout_s),
            held: RefCell::new(Some(context.hub.budget().hold(Part::Bodies, 0))),
            left: Cell::new(offers_websocket(request).then(|| announced(request))),
            refusal: Cell::new(None),
        })
    };
    request.extensions_mut().insert(receiving.clone());
    let bounded = Bounded { body, timer: None, receiving: receiving.clone() };
    request.set_payload(Payload::Stream { payload: Box::pin(bounded) });
    Some(Bounds(receiving))
}

/// Whether a client would rather speak WebSocket. Where nobody takes that offer it counts as not made (RFC 9110, 7.8).
fn offers_websocket(request: &ServiceRequest) -> bool {
    let offer = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    offer.is_some_and(|offer| offer.trim().eq_ignore_ascii_case("websocket")) && !request.chunked().unwrap_or(true)
}

/// How long the body is by its head.
fn announced(request: &ServiceRequest) -> u64 {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

/// The bounds of a request's body, until its answer is there.
pub struct Bounds(Rc<Receiving>);

impl Bounds {
    /// The answer, unless the handler failed because the body met a bound: then the answer says so.
    pub fn judge(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let failed = response.status().is_client_error() || response.status().is_server_error();
        match self.0.refusal.get().filter(|_| failed) {
            Some(refused) => {
                guard::context(response.request()).hub.metrics().shed(Shed::Body);
                response.into_response(refused.problem().error_response())
            }
            None => response,
        }
    }
}

/// Counts bytes that were made of the request's body as if they had come with it.
///
/// # Errors
/// The memory budget has no room for them.
pub fn hold(request: &HttpRequest, bytes: usize) -> Result<(), Problem> {
    let extensions = request.extensions();
    let Some(receiving) = extensions.get::<Rc<Receiving>>() else { return Ok(()) };
    let fits = receiving.held.borrow_mut().as_mut().is_none_or(|held| held.grow(bytes));
    if fits {
        return Ok(());
    }
    guard::context(request).hub.metrics().shed(Shed::Body);
    Err(Refused::NoRoom.problem())
}

/// Lifts the bounds from the body of a request that is the beginning of a conversation (WebSocket), when it is known who
/// speaks.
pub fn lift_bounds(request: &HttpRequest) {
    if let Some(receiving) = request.extensions().get::<Rc<Receiving>>() {
        receiving.held.borrow_mut().take();
        receiving.left.set(None);
    }
}
