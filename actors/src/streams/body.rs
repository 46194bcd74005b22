//! The response body of a stream: what the session's actor says, and between its words the events, read by cursor.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::Error;
use bytes::Bytes;
use futures_util::Stream;

use crate::streams::LocalChannel;
use crate::streams::reader::{Read, Reader};
use crate::streams::session_handle::{End, SessionHandle};

pub struct Body<S> {
    /// The actor's context: its frames, and for a WebSocket what the client sends.
    control: Pin<Box<S>>,
    /// Whether the control has to be polled even when nobody asked the actor anything, because a client may speak.
    hears: bool,
    reader: Reader,
    session: Rc<SessionHandle>,
    local: Rc<LocalChannel>,
    place: usize,
}

impl<S: Stream<Item = Result<Bytes, Error>>> Body<S> {
    pub fn new(
        control: S,
        hears: bool,
        reader: Reader,
        session: Rc<SessionHandle>,
        local: Rc<LocalChannel>,
    ) -> Body<S> {
        local.engine.metrics.streams.inc();
        let place = local.sit(session.clone());
        Body { control: Box::pin(control), hears, reader, session, local, place }
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Body<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.hears || this.session.asked.replace(false) {
            match this.control.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    // it may have more to say
                    this.session.asked.set(true);
                    this.session.wrote();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(end) => {
                    if this.hears {
                        this.session.close_written();
                    }
                    return Poll::Ready(end);
                }
                Poll::Pending => {}
            }
        }
        if this.session.ending().is_some() {
            // the actor has been asked to end; until it has said so there are no events any more
            this.session.parked(cx.waker());
            return Poll::Pending;
        }
        match this.reader.poll(cx, this.session.lost_position.replace(false)) {
            Poll::Ready(Read::Chunk(bytes, events)) => {
                this.session.wrote();
                this.local.engine.metrics.delivered.inc_by(u64::from(events));
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Read::Failed) => {
                // its actor says so, and the client resumes from its cursor
                this.session.parked(cx.waker());
                this.session.end(End::Failed);
                Poll::Pending
            }
            Poll::Ready(Read::UpToDate) | Poll::Pending => {
                this.session.parked(cx.waker());
                Poll::Pending
            }
        }
    }
}

impl<S> Drop for Body<S> {
    fn drop(&mut self) {
        self.local.stand_up(self.place);
        self.local.engine.metrics.streams.dec();
    }
}
