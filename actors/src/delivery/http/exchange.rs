//! One request and its answer over one connection.
//!
//! Both directions run at once: a receiver may answer before it has read the request, and its reason for hanging up stands
//! in that answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::delivery::http::answer::{AnswerReader, AtEnd, BadAnswer, Head, Part};
use crate::delivery::http::connection::Stream;
use crate::delivery::http::request::Request;
use crate::delivery::outcome::{BODY_KEPT_BYTES, BODY_READ_BYTES};

/// Bytes that are read from a connection at once.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// How an exchange ended.
pub(super) enum End {
    /// The answer is whole. `persists`: the connection can be used again.
    Whole { persists: bool },
    /// The body is longer than is read of one.
    TooLarge,
    /// The body ended before its time.
    BodyBroken(String),
    /// What came cannot be read as an answer.
    Bad(BadAnswer),
    /// The connection ended before there was an answer.
    Closed,
    /// The connection failed before there was an answer.
    Failed(io::Error),
}

pub(super) struct Exchange {
    request: Request,
    is_sent: bool,
    write_error: Option<io::Error>,
    reader: AnswerReader,
    /// What came so far, which stays when time is up.
    pub(super) answer: Answer,
}

#[derive(Default)]
pub(super) struct Answer {
    /// Bytes have come, be it of an interim answer.
    pub(super) began: bool,
    /// The final answer's head, and when it was whole.
    pub(super) head: Option<(Head, Instant)>,
    body_kept: BytesMut,
    body_bytes: usize,
}

impl Answer {
    /// The first bytes of the body.
    pub(super) fn take_body(&mut self) -> Bytes {
        std::mem::take(&mut self.body_kept).freeze()
    }
}

impl Exchange {
    /// `is_head`: the answer has no body, whatever it says of one (RFC 9110, 9.3.2).
    pub(super) fn new(request: Request, is_head: bool) -> Exchange {
        let (reader, answer) = (AnswerReader::to(is_head), Answer::default());
        Exchange { request, is_sent: false, write_error: None, reader, answer }
    }

    /// Goes on with it. `buffer`: room to read into; nothing stays there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream, buffer: &mut [u8]) -> Poll<End> {
        if !self.is_sent
            && self.write_error.is_none()
            && let Poll::Ready(Err(error)) = self.poll_write(cx, stream)
        {
            // the answer that tells why may have come already
            self.write_error = Some(error);
        }
        loop {
            let mut room = ReadBuf::new(buffer);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut room)) {
                Ok(()) if room.filled().is_empty() => return Poll::Ready(self.closed()),
                Ok(()) => {
                    self.answer.began = true;
                    if let Some(end) = self.take(room.filled()) {
                        return Poll::Ready(end);
                    }
                }
                Err(error) => return Poll::Ready(self.failed(error)),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        while self.request.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = self.request.chunks_vectored(&mut slices);
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.request.advance(written);
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        self.is_sent = true;
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, mut input: &[u8]) -> Option<End> {
        loop {
            match self.reader.next(&mut input) {
                Ok(Some(Part::Head(head))) => self.answer.head = Some((head, Instant::now())),
                Ok(Some(Part::Body(bytes))) => {
                    let answer = &mut self.answer;
                    let room = BODY_KEPT_BYTES - answer.body_kept.len();
                    answer.body_kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    answer.body_bytes += bytes.len();
                    if answer.body_bytes > BODY_READ_BYTES {
                        return Some(End::TooLarge);
                    }
                }
                Ok(Some(Part::End)) => {
                    // what comes behind an answer is nobody's, and a request that is not sent cannot be taken back
                    let persists = self.reader.persists() && input.is_empty() && self.is_sent;
                    return Some(End::Whole { persists });
                }
                Ok(None) => return None,
                Err(BadAnswer::Chunk(reason)) => return Some(End::BodyBroken(reason.to_string())),
                Err(bad) => return Some(End::Bad(bad)),
            }
        }
    }

    /// No byte follows.
    fn closed(&mut self) -> End {
        match (self.reader.at_end(), self.write_error.take()) {
            (AtEnd::Whole, _) => End::Whole { persists: false },
            (AtEnd::Cut, _) => End::BodyBroken("the connection ended within it".to_owned()),
            (AtEnd::NoAnswer, Some(error)) => End::Failed(error),
            (AtEnd::NoAnswer, None) => End::Closed,
        }
    }

    fn failed(&mut self, error: io::Error) -> End {
        match self.reader.at_end() {
            // TLS that was not closed in its own way; many do not
            AtEnd::Whole if error.kind() == io::ErrorKind::UnexpectedEof => End::Whole { persists: false },
            AtEnd::Whole | AtEnd::Cut => End::BodyBroken(error.to_string()),
            AtEnd::NoAnswer => End::Failed(self.write_error.take().unwrap_or(error)),
        }
    }
}
