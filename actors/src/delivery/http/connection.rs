//! One TCP connection to a receiver, and the trace of the attempt that is using it.
//!
//! awc keeps connections in a pool of its own, which tells nothing and closes idle connections only when the next
//! request for the same host comes along. A [`Connection`] stands between the pool and the socket: it lets the client see
//! which connection an attempt runs on, and close idle ones.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use awc::http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::model::delivery::FailureCode;

tokio::task_local! {
    /// The attempt on whose behalf awc, the connector and the connections are being polled.
    pub(super) static TRACE: Rc<Trace>;
}

/// What one try of an attempt leaves behind on its way through awc.
pub(super) struct Trace {
    /// When the connection has to stand.
    pub(super) connect_by: Instant,
    /// The connector was asked: this is not a connection from the pool.
    pub(super) fresh: Cell<bool>,
    pub(super) dns: Cell<Option<Duration>>,
    pub(super) connect: Cell<Option<Duration>>,
    /// When TCP stood.
    pub(super) dialled: Cell<Option<Instant>>,
    /// When the request began to go out: everything below HTTP stands.
    pub(super) established: Cell<Option<Instant>>,
    /// Bytes that came in since then; under TLS these are records.
    pub(super) read_bytes: Cell<usize>,
    pub(super) connection: RefCell<Option<Rc<Connection>>>,
    /// What the connector found wrong, in the words of the delivery log.
    pub(super) failure: RefCell<Option<(FailureCode, String)>>,
}

impl Trace {
    pub(super) fn new(connect_by: Instant) -> Trace {
        Trace {
            connect_by,
            fresh: Cell::new(false),
            dns: Cell::new(None),
            connect: Cell::new(None),
            dialled: Cell::new(None),
            established: Cell::new(None),
            read_bytes: Cell::new(0),
            connection: RefCell::new(None),
            failure: RefCell::new(None),
        }
    }

    fn note_read(&self, bytes: usize) {
        if self.established.get().is_some() {
            self.read_bytes.set(self.read_bytes.get() + bytes);
        }
    }

    fn note_write(&self, connection: &Rc<Connection>) {
        let mut known = self.connection.borrow_mut();
        if known.is_none() {
            connection.busy.set(true);
            *known = Some(Rc::clone(connection));
        }
    }
}

/// A connection to one receiver, in use or in the pool.
pub(super) struct Connection {
    pub(super) address: SocketAddr,
    pub(super) authority: Authority,
    pub(super) https: bool,
    /// None after it was closed by us.
    stream: RefCell<Option<TcpStream>>,
    busy: Cell<bool>,
    idle_since: Cell<Instant>,
}

impl Connection {
    pub(super) fn new(address: SocketAddr, authority: Authority, https: bool, stream: TcpStream) -> Connection {
        let stream = RefCell::new(Some(stream));
        Connection { address, authority, https, stream, busy: Cell::new(true), idle_since: Cell::new(Instant::now()) }
    }

    /// The attempt is over; the connection is in the pool, or gone.
    pub(super) fn rest(&self) {
        self.busy.set(false);
        self.idle_since.set(Instant::now());
    }

    /// Closes the connection if nobody has used it for so long. The pool finds it at its end and drops the rest.
    pub(super) fn close_if_idle(&self, at_least: Duration) {
        if !self.busy.get() && self.idle_since.get().elapsed() >= at_least {
            self.stream.borrow_mut().take();
        }
    }
}

/// The socket as awc sees it. A connection that was closed reads as ended.
pub(super) struct Io(pub(super) Rc<Connection>);

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Io").field(&self.0.address).finish()
    }
}

fn closed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut *self.0.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_read(cx, buf),
            None => return Poll::Ready(Ok(())),
        };
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            // Outside of an attempt (awc closes connections in tasks of its own) there is nobody to tell.
            let _ = TRACE.try_with(|trace| trace.note_read(bytes));
        }
        result
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // As above.
        let _ = TRACE.try_with(|trace| trace.note_write(&self.0));
        match &mut *self.0.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_write(cx, buf),
            None => closed(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => closed(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl ActixStream for Io {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &*self.0.stream.borrow() {
            Some(stream) => ActixStream::poll_read_ready(stream, cx),
            None => closed(),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &*self.0.stream.borrow() {
            Some(stream) => ActixStream::poll_write_ready(stream, cx),
            None => closed(),
        }
    }
}
