//! A client's connection as a stream of bytes, plain or by TLS. Over HTTP/1 heads are watched: a client that sends one too
//! slowly, or one that is too large, is told so, and nothing more is read from it.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use actors::streams::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conversation::{Conversation, Listen};

pub struct ClientStream {
    bytes: Bytes,
    /// What came behind a whole head and is not read yet: its body, or the next requests.
    ahead: Vec<u8>,
    conversation: Option<Rc<Conversation>>,
}

enum Bytes {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    pub fn plain(tcp: TcpStream) -> ClientStream {
        ClientStream { bytes: Bytes::Plain(tcp), ahead: Vec::new(), conversation: None }
    }

    pub fn tls(tls: TlsStream<TcpStream>) -> ClientStream {
        ClientStream { bytes: Bytes::Tls(Box::new(tls)), ahead: Vec::new(), conversation: None }
    }

    /// Whether the client and we agreed on HTTP/2 (RFC 7301).
    pub fn is_http2(&self) -> bool {
        matches!(&self.bytes, Bytes::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    pub fn watch(&mut self, conversation: Conversation) {
        self.conversation = Some(Rc::new(conversation));
    }

    pub fn conversation(&self) -> Option<Rc<Conversation>> {
        self.conversation.clone()
    }

    pub fn socket(&self) -> Socket {
        match &self.bytes {
            Bytes::Plain(tcp) => Socket::new(tcp.as_raw_fd(), false),
            Bytes::Tls(tls) => Socket::new(tls.get_ref().0.as_raw_fd(), true),
        }
    }
}

impl Bytes {
    fn read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Bytes::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Bytes::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, into),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Bytes::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Bytes::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, bytes),
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Bytes::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Bytes::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    /// Whether nothing can be read now; then the task is woken when it can. Of TLS that is not known.
    fn poll_quiet(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Bytes::Plain(tcp) => tcp.poll_read_ready(cx).is_pending(),
            Bytes::Tls(_) => false,
        }
    }

    /// Reads and forgets, until the client has nothing more to say for now (pending) or for ever (ready).
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        loop {
            let mut into = ReadBuf::new(&mut space);
            match ready!(self.read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

/// Reads what came ahead, or what comes; `most`: no more than that.
fn take(
    bytes: &mut Bytes,
    ahead: &mut Vec<u8>,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
    most: Option<usize>,
) -> Poll<io::Result<()>> {
    let most = most.unwrap_or(usize::MAX).min(into.remaining());
    if !ahead.is_empty() {
        let taken = most.min(ahead.len());
        into.put_slice(&ahead[..taken]);
        ahead.drain(..taken);
        if ahead.is_empty() {
            // an idle connection keeps nothing
            *ahead = Vec::new();
        }
        return Poll::Ready(Ok(()));
    }
    if most == into.remaining() {
        return bytes.read(cx, into);
    }
    let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
    let read = bytes.read(cx, &mut part);
    let heard = part.filled().len();
    into.advance(heard);
    read
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ClientStream { bytes, ahead, conversation } = self.get_mut();
        let Some(conversation) = conversation else { return bytes.read(cx, into) };
        if conversation.is_over() {
            // heard no more: the end of what the client says, as soon as it has had time to read why
            return match bytes.discard(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending => conversation.poll_last_words(cx).map(Ok),
            };
        }
        if conversation.answers_alone() && !ahead.is_empty() {
            conversation.wait(cx);
            return Poll::Pending;
        }
        let mut listen = conversation.listen();
        if let Listen::Later { decides } = listen {
            // the decoder looks as soon as this is pending; it is asked again when it wants more, or when more has come
            if !(decides && ahead.is_empty() && bytes.poll_quiet(cx)) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        if matches!(listen, Listen::Now) {
            let before = into.filled().len();
            let read = take(bytes, ahead, cx, into, conversation.part_bytes());
            match &read {
                Poll::Ready(Ok(())) if conversation.answers_alone() => {
                    if into.filled().len() == before {
                        // the end
                        return read;
                    }
                    // the next requests wait here, where they cost their bytes; taken apart they cost many times that
                    ahead.extend_from_slice(&into.filled()[before..]);
                    into.set_filled(before);
                    conversation.wait(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {
                    let cut = conversation.cut(&into.filled()[before..]);
                    conversation.keep(&into.filled()[before..before + cut.head]);
                    let end = before + cut.head + cut.body;
                    if end < into.filled().len() {
                        drop(ahead.splice(0..0, into.filled()[end..].iter().copied()));
                        into.set_filled(end);
                    }
                    conversation.heard(cut.head);
                }
                Poll::Ready(Err(_)) => {}
                Poll::Pending => listen = conversation.poll_patience(cx),
            }
            if matches!(listen, Listen::Now) {
                return read;
            }
        }
        let Listen::Refused(answer) = listen else { return Poll::Pending };
        conversation.end(answer);
        // An answer of before that the client does not read is in the way of this one. The few bytes of this one find room in
        // the socket, or the client has not read for so long that it will not miss them.
        if !answer.is_empty()
            && !conversation.is_blocked()
            && let Poll::Ready(Ok(_)) = bytes.write(cx, answer)
            && let Poll::Ready(Err(e)) = bytes.flush(cx)
        {
            return Poll::Ready(Err(e));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let ClientStream { bytes, conversation, .. } = self.get_mut();
        let written = bytes.write(cx, buffer);
        if let Some(conversation) = conversation {
            conversation.blocked(written.is_pending());
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bytes.flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Bytes::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Bytes::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Bytes::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Plain(tcp) => tcp.is_write_vectored(),
            Bytes::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
