//! The response body of a stream: what the session's actor says, and between its words the events, read by cursor.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::Error;
use bytes::Bytes;
use futures_util::Stream;

use super::Room;
use super::reader::{Read, Reader};
use super::seat::{End, Seat};

pub struct Body<S> {
    /// The actor's context: its frames, and for a WebSocket what the client sends.
    control: Pin<Box<S>>,
    /// Whether the control has to be polled even when nobody asked the actor anything, because a client may speak.
    hears: bool,
    reader: Reader,
    seat: Rc<Seat>,
    room: Rc<Room>,
    place: usize,
}

impl<S: Stream<Item = Result<Bytes, Error>>> Body<S> {
    pub fn new(control: S, hears: bool, reader: Reader, seat: Rc<Seat>, room: Rc<Room>) -> Body<S> {
        room.engine.metrics.streams.inc();
        let place = room.sit(seat.clone());
        Body { control: Box::pin(control), hears, reader, seat, room, place }
    }
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Body<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.hears || this.seat.asked.replace(false) {
            match this.control.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    // it may have more to say
                    this.seat.asked.set(true);
                    this.seat.wrote();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(end) => {
                    if this.hears {
                        this.seat.said_all();
                    }
                    return Poll::Ready(end);
                }
                Poll::Pending => {}
            }
        }
        if this.seat.ending().is_some() {
            // the actor has been asked to end; until it has said so there are no events any more
            this.seat.parked(cx.waker());
            return Poll::Pending;
        }
        match this.reader.poll(cx, this.seat.lost_position.replace(false)) {
            Poll::Ready(Read::Chunk(bytes, events)) => {
                this.seat.wrote();
                this.room.engine.metrics.delivered.inc_by(u64::from(events));
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Read::Failed) => {
                // its actor says so, and the client resumes from its cursor
                this.seat.parked(cx.waker());
                this.seat.end(End::Failed);
                Poll::Pending
            }
            Poll::Ready(Read::UpToDate) | Poll::Pending => {
                this.seat.parked(cx.waker());
                Poll::Pending
            }
        }
    }
}

impl<S> Drop for Body<S> {
    fn drop(&mut self) {
        self.room.stand_up(self.place);
        self.room.engine.metrics.streams.dec();
    }
}
