//! What a session does with its client's socket itself, beside the bytes that actix moves: it asks the kernel what the client
//! has taken, and shuts a WebSocket's connection down when the close frame was sent.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// The socket of a connection, to be used no longer than the connection is open.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    fd: RawFd,
    is_tls: bool,
}

/// How often, and how many times at most, it is checked whether everything was sent.
const CHECK_EVERY: Duration = Duration::from_millis(10);
const CHECKS_MAX: u32 = 100;

impl Socket {
    pub fn new(fd: RawFd, is_tls: bool) -> Socket {
        Socket { fd, is_tls }
    }

    /// Bytes in the send queue that the client has not acknowledged.
    pub fn unsent_bytes(self) -> i32 {
        unsent_bytes(self.fd)
    }

    /// Ends our half of the connection as soon as the client has everything that was written (RFC 6455, 7.1.1: the server
    /// closes first). actix would read for up to a second before, and the client would wait that long. A TLS connection
    /// needs an alert before its end, which is left to rustls.
    pub fn shut_down_when_sent(self) {
        if self.is_tls {
            return;
        }
        // SAFETY: the connection is open, because its body is being polled
        let Ok(own) = unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned() else {
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
