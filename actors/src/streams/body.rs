//! The response body of a stream: what the session's actor writes, and between that the events, read by a cursor.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::Error;
use bytes::Bytes;
use futures_util::Stream;

use crate::streams::reader::{Read, Reader};
use crate::streams::session::Opened;
use crate::streams::{LocalChannel, SessionEnd, SessionHandle};

pub(super) struct Body<S> {
    /// The context of the session's actor: what it writes, and for a WebSocket what it reads of the client.
    actor: Pin<Box<S>>,
    /// The actor's context is polled each time, because the client may send something. Otherwise only when the actor was
    /// asked for something.
    reads_client: bool,
    reader: Reader,
    session: Rc<SessionHandle>,
    channel: Rc<LocalChannel>,
    /// Of the session in the local channel.
    key: usize,
}

impl<S: Stream<Item = Result<Bytes, Error>>> Body<S> {
    /// Adds the session to its local channel.
    pub fn new(actor: S, reads_client: bool, opened: Opened) -> Body<S> {
        let Opened { channel, session, start, filter, encoding, .. } = opened;
        channel.streams().handles.metrics.streams.inc();
        let key = channel.add_session(session.clone());
        // Only now is it told of a revocation or a deletion. What happened since the request was let in is looked up.
        session.check(&channel.streams().handles.view, &channel.selection);
        let reader = Reader::new(channel.clone(), session.tenant(), filter, encoding, &start);
        Body { actor: Box::pin(actor), reads_client, reader, session, channel, key }
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Body<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.reads_client || this.session.actor_may_write.replace(false) {
            match this.actor.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    // there may be more
                    this.session.actor_may_write.set(true);
                    this.session.wrote();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(end) => {
                    if this.reads_client {
                        this.session.close_written();
                    }
                    return Poll::Ready(end);
                }
                Poll::Pending => {}
            }
        }
        if this.session.ending().is_some() {
            // the actor was asked to end; until it has written that, there are no events any more
            this.session.parked(cx.waker());
            return Poll::Pending;
        }
        let read = this.reader.poll(cx, this.session.lost_position.replace(false));
        this.session.read_to(this.reader.cursor());
        match read {
            Poll::Ready(Read::Chunk(bytes, events)) => {
                this.session.wrote();
                this.channel.streams().handles.metrics.delivered.inc_by(u64::from(events));
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Read::Failed) => {
                // its actor tells the client, which resumes from its cursor
                this.session.parked(cx.waker());
                this.session.end(SessionEnd::Failed);
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
        self.channel.remove_session(self.key);
        self.channel.streams().handles.metrics.streams.dec();
    }
}
