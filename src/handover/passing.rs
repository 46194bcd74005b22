//! Lines of JSON, and sockets beside them, over a Unix socket; and who is at its other end.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line.
const LINE_BYTES: usize = 4096;
/// Most sockets with one line.
const FDS: usize = 4;
/// The longest path of a Unix socket, with the zero behind it (`unix(7)`).
const PATH_BYTES: usize = 108;

/// Who is at the other end of a Unix socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
}

impl Peer {
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let credentials = sockopt::socket_peercred(socket)?;
        Ok(Peer { pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(), uid: credentials.uid.as_raw() })
    }

    /// Whether it may do with our files what we may do.
    pub fn is_trusted(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw() || self.uid == 0
    }
}

/// The path of a socket in a folder. A folder with a long name is reached by its descriptor.
pub struct SocketPath {
    pub path: PathBuf,
    _folder: Option<File>,
}

impl SocketPath {
    pub fn of(folder: &Path, name: &str) -> io::Result<SocketPath> {
        let path = folder.join(name);
        if path.as_os_str().len() < PATH_BYTES {
            return Ok(SocketPath { path, _folder: None });
        }
        let folder = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(SocketPath { path, _folder: Some(folder) })
    }
}

/// A message as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // a message of ours is text, numbers and lists
    let mut line = serde_json::to_vec(message).expect("it can be written");
    line.push(b'\n');
    line
}

/// What a line says; none while it is not whole.
///
/// # Errors
/// It is too long, or is nothing that is said here.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<T>> {
    match bytes.iter().position(|b| *b == b'\n') {
        Some(end) => Ok(Some(serde_json::from_slice(&bytes[..end])?)),
        None if bytes.len() > LINE_BYTES => Err(io::Error::other("a line is too long")),
        None => Ok(None),
    }
}

/// Sends a line with sockets, at once.
///
/// # Errors
/// The other end is gone, or takes nothing.
pub fn send(socket: impl AsFd, line: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many sockets for one line"));
    }
    match sendmsg(socket, &[IoSlice::new(line)], &mut beside, SendFlags::NOSIGNAL)? {
        sent if sent == line.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Waits for a line, and takes the sockets that come with it. None: the other end is gone.
///
/// # Errors
/// Nothing came in the time that the socket has for it (`WouldBlock`), or nothing that is said here.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (mut heard, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut part = [0; 512];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let read = recvmsg(socket, &mut [IoSliceMut::new(&mut part)], &mut beside, RecvFlags::CMSG_CLOEXEC);
        let bytes = match read {
            Err(rustix::io::Errno::INTR) => continue,
            // the other end died with something of ours unread
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            read => read?.bytes,
        };
        if bytes == 0 {
            return Ok(None);
        }
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        heard.extend_from_slice(&part[..bytes]);
        if let Some(message) = parse(&heard)? {
            return Ok(Some((message, fds)));
        }
    }
}

/// Sends a line.
///
/// # Errors
/// The other end is gone.
pub fn tell(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    socket.write_all(&line(message))
}

/// Waits until the other end is gone.
pub fn until_gone(mut socket: &UnixStream) {
    while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::{Answer, Ask};
    use super::*;
    use crate::listeners::Role;

    #[test]
    fn sockets_come_with_their_line() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let answer = Answer::Listeners { roles: vec![Role::Public], is_given: false, version: "1".into() };
        send(&here, &line(&answer), &[listener.as_fd()]).expect("it is sent");
        tell(&here, &Answer::Released).expect("it is sent");
        let (answer, mut fds) = receive::<Answer>(&there).expect("a line").expect("it is there");
        assert!(matches!(answer, Answer::Listeners { roles, .. } if roles == [Role::Public]) && fds.len() == 1);
        let received = crate::listeners::listener(fds.remove(0)).expect("a listener");
        assert_eq!(received.local_addr().expect("an address"), listener.local_addr().expect("an address"));
    }

    #[test]
    fn an_end_is_told_from_nonsense_and_nonsense_has_an_end() {
        let (here, there) = UnixStream::pair().expect("a pair");
        tell(&here, &"hello").expect("it is sent");
        receive::<Ask>(&there).expect_err("nothing that is said here");
        (&here).write_all(&[b'x'; LINE_BYTES + 1]).expect("it is sent");
        receive::<Ask>(&there).expect_err("too long");
        drop(here);
        let (here, there) = UnixStream::pair().expect("a pair");
        drop(here);
        assert!(receive::<Ask>(&there).expect("an end is none").is_none());
    }

    #[test]
    fn the_kernel_says_who_is_there() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&here).expect("credentials");
        assert!(peer.pid == std::process::id() && peer.is_trusted());
        assert!(!Peer { uid: peer.uid + 12_345, ..peer }.is_trusted());
    }

    #[test]
    fn a_folder_with_a_long_name_has_its_socket_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = folder.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&long).expect("it can be made");
        let path = SocketPath::of(&long, "s").expect("a path");
        let _listener = std::os::unix::net::UnixListener::bind(&path.path).expect("it is bound");
        assert!(long.join("s").exists());
        UnixStream::connect(SocketPath::of(&long, "s").expect("a path").path).expect("it is found");
    }
}
