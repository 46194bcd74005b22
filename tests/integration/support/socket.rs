//! Sockets of clients whose buffers are small and do not grow. A kernel may keep 32 MiB for a client that reads nothing, more than
//! a test sends, and then nobody can tell that it reads nothing.

use std::io;
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, SockRef, Socket, Type};

/// What the kernel keeps of what a client has not read, or a gateway has not sent on; it takes twice as much, for its own needs.
const BUFFER: usize = 64 * 1024;

pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // before the connection is there, because by it both sides agree how large a window may get
    socket.set_recv_buffer_size(BUFFER)?;
    socket.connect(&addr.into())?;
    Ok(socket.into())
}

/// The same for what is sent on a connection that is there.
pub fn send_little_ahead<S: std::os::fd::AsFd>(stream: &S) -> io::Result<()> {
    SockRef::from(stream).set_send_buffer_size(BUFFER)
}
