//! HEAD (RFC 9110, 9.3.2): what its handler answers to GET, without the body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::web::Bytes;

/// A body that is left out: only its size is told. What would have made it is dropped unread.
struct LeftOut(BodySize);

impl MessageBody for LeftOut {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// Leaves the body of the answer to a HEAD out. Nothing that reads bodies may stand around this.
pub fn without_body(response: ServiceResponse) -> ServiceResponse {
    response.map_body(|_, body| BoxBody::new(LeftOut(body.size())))
}
