//! What a session does with its client's socket itself, beside the bytes that the connection moves: it asks the kernel what the
//! client has taken, and shuts a WebSocket's connection down when the close frame was sent. Over HTTP/2 many streams share a
//! socket, and the connection counts what the client takes of each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The socket of a connection, to be used no longer than the connection is open.
#[derive(Clone, Debug)]
pub struct Socket(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Own {
        fd: RawFd,
        is_tls: bool,
    },
    /// How often the client has taken something of this stream.
    Shared(Arc<AtomicI32>),
}

/// How often, and how many times at most, it is checked whether everything was sent.
const CHECK_EVERY: Duration = Duration::from_millis(10);
const CHECKS_MAX: u32 = 100;

impl Socket {
    pub fn new(fd: RawFd, is_tls: bool) -> Socket {
        Socket(Kind::Own { fd, is_tls })
    }

    /// The part that one stream of HTTP/2 has of its connection's socket.
    pub fn of_stream() -> Socket {
        Socket(Kind::Shared(Arc::default()))
    }

    /// The client took something of the stream.
    pub fn took(&self) {
        if let Kind::Shared(taken) = &self.0 {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A number that changes when the client takes something: bytes in the send queue that it has not acknowledged, or how
    /// often it has taken something.
    pub fn mark(&self) -> i32 {
        match &self.0 {
            Kind::Own { fd, .. } => unsent_bytes(*fd),
            Kind::Shared(taken) => taken.load(Ordering::Relaxed),
        }
    }

    /// Ends our half of the connection as soon as the client has everything that was written (RFC 6455, 7.1.1: the server
    /// closes first). actix would read for up to a second before, and the client would wait that long. A TLS connection
    /// needs an alert before its end, which is left to rustls.
    pub fn shut_down_when_sent(&self) {
        let Kind::Own { fd, is_tls: false } = self.0 else { return };
        // SAFETY: the connection is open, because its body is being polled
        let Ok(own) = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned() else {
            // without a free descriptor the client waits that second
            return;
        };
        actix_rt::spawn(shut_down(own));
    }
}

async fn shut_down(socket: OwnedFd) {
    let mut empty = 0;
    for _ in 0..CHECKS_MAX {
        actix_rt::time::sleep(CHECK_EVERY).await;
        // twice in a row: what waits in actix's own buffer comes as soon as the kernel's has room
        empty = if unsent_bytes(socket.as_raw_fd()) == 0 { empty + 1 } else { 0 };
        if empty == 2 {
            // SAFETY: the descriptor is our own
            if unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) } != 0 {
                log::debug!("a connection had ended before its WebSocket did: {}", io::Error::last_os_error());
            }
            return;
        }
    }
}

fn unsent_bytes(fd: RawFd) -> i32 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the ioctl writes one int into `bytes`; a descriptor that is no socket makes it fail and leaves it 0
    unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &mut bytes) };
    bytes
}
