//! The sockets that the server accepts connections from: bound by itself, or handed over by whoever started it.
//!
//! A supervisor hands them over as `sd_listen_fds(3)` says: `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`. A socket of the name
//! `admin` is the second listener's, any other name is the first one's.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::FdFlags;
use rustix::net::sockopt;

use crate::settings;

/// Which of the two listeners a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Public,
    Admin,
}

/// Sockets that listen already, by what they are for.
#[derive(Debug, Default)]
pub struct Inherited {
    pub sockets: Vec<(Role, TcpListener)>,
    /// They are to be used whatever the settings say of addresses.
    pub is_given: bool,
}

/// The sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    pub public: TcpListener,
    pub admin: Option<TcpListener>,
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {addr}: {source}; choose another address with {by}")]
    Bind { addr: String, by: &'static str, source: io::Error },
    #[error("the socket {number} that was handed over as LISTEN_FDS says cannot be used: {reason}; {cure}")]
    Given { number: i32, reason: String, cure: &'static str },
    #[error("{0} is no number; start the server without it, or as systemd does")]
    Environment(&'static str),
}

/// The first descriptor that is handed over.
const FIRST_GIVEN: i32 = 3;
/// Most that are looked at: one for each role, and some that are too many.
const GIVEN_MAX: i32 = 16;
/// The name of the second listener's socket.
const ADMIN: &str = "admin";

impl Inherited {
    /// What a supervisor has handed over. To be called once, before anything else opens files. Programs that this process starts
    /// are not meant: `LISTEN_PID` is not their number.
    ///
    /// # Errors
    /// Something was handed over that is no listening socket, or that nothing is to be done with.
    pub fn of_supervisor() -> Result<Inherited, ListenError> {
        let number = |name: &'static str| -> Result<Option<i32>, ListenError> {
            let text = env::var(name).ok();
            text.map(|text| text.parse().map_err(|_| ListenError::Environment(name))).transpose()
        };
        let for_us = number("LISTEN_PID")?.and_then(|pid| u32::try_from(pid).ok()) == Some(std::process::id());
        let count = number("LISTEN_FDS")?.filter(|_| for_us).unwrap_or(0);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        if count == 0 {
            return Ok(Inherited::default());
        }
        let mut names = names.split(':');
        let mut inherited = Inherited { sockets: Vec::new(), is_given: true };
        for number in FIRST_GIVEN..FIRST_GIVEN.saturating_add(count.clamp(0, GIVEN_MAX)) {
            let role = if names.next() == Some(ADMIN) { Role::Admin } else { Role::Public };
            let listener = inherited_fd(number).and_then(listener).map_err(|e| ListenError::Given {
                number,
                reason: e.to_string(),
                cure: "give it TCP sockets only, by ListenStream= with an address and a port",
            })?;
            if inherited.sockets.iter().any(|(known, _)| *known == role) {
                return Err(ListenError::Given {
                    number,
                    reason: "there is one for the same purpose already".into(),
                    cure: "give it one socket, and a second one with FileDescriptorName=admin for server.admin_listen",
                });
            }
            inherited.sockets.push((role, listener));
        }
        Ok(inherited)
    }

    fn take(&mut self, role: Role, fits: impl Fn(SocketAddr) -> bool) -> Option<TcpListener> {
        let is_given = self.is_given;
        let fits = |socket: &TcpListener| is_given || socket.local_addr().is_ok_and(&fits);
        let at = self.sockets.iter().position(|(of, socket)| *of == role && fits(socket))?;
        Some(self.sockets.swap_remove(at).1)
    }
}

/// A descriptor that whoever started this process has opened for it alone, as the environment says. To be called once for each.
///
/// # Errors
/// It is not open.
pub fn inherited_fd(number: i32) -> io::Result<OwnedFd> {
    if number < FIRST_GIVEN {
        return Err(io::Error::other("it is a standard stream"));
    }
    // SAFETY: it is only asked whether it is open
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    // SAFETY: it is open, and nobody else in this process knows of it
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// A descriptor as a listening TCP socket.
///
/// # Errors
/// It is none.
pub fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    let is_listening = sockopt::socket_acceptconn(&fd)?;
    let is_ip = SocketAddr::try_from(rustix::net::getsockname(&fd)?).is_ok();
    if !is_listening || !is_ip || sockopt::socket_type(&fd)? != rustix::net::SocketType::STREAM {
        return Err(io::Error::other("it is no TCP socket that listens"));
    }
    Ok(fd.into())
}

impl Listeners {
    /// Uses of `inherited` what the settings ask for, and binds the rest.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn open(server: &settings::Server, mut inherited: Inherited) -> Result<Listeners, ListenError> {
        let mut open = |role, at: &str, by| match inherited.take(role, |addr| is_meant(at, addr)) {
            Some(socket) => {
                // the settings may have changed; a socket that listens may be told so again
                let listening = rustix::net::listen(&socket, server.backlog as i32);
                listening.map_err(|e| ListenError::Bind { addr: at.into(), by, source: e.into() })?;
                Ok(socket)
            }
            None => bind(at, by, server.backlog),
        };
        let admin = server.admin_listen.as_deref().map(|at| open(Role::Admin, at, "server.admin_listen"));
        let (admin, public) = (admin.transpose()?, open(Role::Public, &server.listen, "--listen")?);
        if let Some((Role::Admin, _)) = inherited.sockets.first().filter(|_| inherited.is_given) {
            return Err(ListenError::Given {
                number: FIRST_GIVEN,
                reason: "it is for the second listener, which the settings do not have".into(),
                cure: "set server.admin_listen",
            });
        }
        Ok(Listeners { public, admin })
    }

    /// With what they are for.
    pub fn each(&self) -> impl Iterator<Item = (Role, &TcpListener)> {
        let admin = self.admin.iter().map(|socket| (Role::Admin, socket));
        std::iter::once((Role::Public, &self.public)).chain(admin)
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// Too many files are open.
    pub fn try_clone(&self) -> io::Result<Listeners> {
        let admin = self.admin.as_ref().map(TcpListener::try_clone).transpose()?;
        Ok(Listeners { public: self.public.try_clone()?, admin })
    }
}

/// Whether a socket at this address is the one that `at` asks for; port 0 asks for any.
fn is_meant(at: &str, addr: SocketAddr) -> bool {
    let mut wanted = at.to_socket_addrs().into_iter().flatten();
    wanted.any(|wanted| wanted.ip() == addr.ip() && (wanted.port() == 0 || wanted.port() == addr.port()))
}

fn bind(at: &str, by: &'static str, backlog: u32) -> Result<TcpListener, ListenError> {
    let listening = || {
        let mut last = io::Error::other("the address means nothing");
        for addr in at.to_socket_addrs()? {
            match bind_one(addr, backlog) {
                Ok(listener) => return Ok(listener),
                Err(e) => last = e,
            }
        }
        Err(last)
    };
    listening().map_err(|source| ListenError::Bind { addr: at.into(), by, source })
}

fn bind_one(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    // so that a restart does not have to wait for connections of the one before
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog as i32)?;
    Ok(socket.into())
}

/// A descriptor that a program which takes this process's place gets as well.
///
/// # Errors
/// Too many files are open.
pub fn for_successor(fd: impl AsFd) -> io::Result<OwnedFd> {
    let fd = rustix::io::dup(fd)?;
    rustix::io::fcntl_setfd(&fd, FdFlags::empty())?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(listen: &str) -> settings::Server {
        let mut server = settings::Settings::defaults().expect("the defaults").server;
        server.listen = listen.into();
        server
    }

    #[test]
    fn a_socket_is_used_again_where_the_settings_ask_for_its_address() {
        let addr = |listener: &TcpListener| listener.local_addr().expect("an address");
        let first = bind("127.0.0.1:0", "--listen", 16).expect("a port");
        let was = addr(&first);
        let inherited = |socket: &TcpListener, is_given| Inherited {
            sockets: vec![(Role::Public, socket.try_clone().expect("a clone"))],
            is_given,
        };
        for (asked, same) in [("127.0.0.1:0", true), (&*was.to_string(), true), ("[::1]:0", false)] {
            let opened = Listeners::open(&server(asked), inherited(&first, false)).expect(asked);
            assert_eq!(addr(&opened.public) == was, same, "{asked}");
        }
        let opened = Listeners::open(&server("127.0.0.2:0"), inherited(&first, true)).expect("it is given");
        assert_eq!(addr(&opened.public), was, "a supervisor decides where it is");
    }

    #[test]
    fn what_is_no_listening_tcp_socket_is_not_taken_for_one() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        listener(file.into()).expect_err("a file");
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        listener(datagrams.into()).expect_err("datagrams");
        let local = std::os::unix::net::UnixListener::bind_addr(
            &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(format!(
                "stentor-listeners-{}",
                std::process::id()
            ))
            .expect("a name"),
        );
        listener(local.expect("a socket").into()).expect_err("no address that clients could reach");
    }
}
