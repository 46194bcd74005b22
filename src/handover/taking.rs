//! The side of the new process: asks the running server for its sockets, and then for the data folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::passing::{Peer, SocketPath, receive, tell};
use super::{Answer, Ask, FolderId, PROTOCOL, SOCKET};
use crate::listeners::{Inherited, listener};

/// By when the running server answers at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// By when it lets go of the folder. It has `server.shutdown_timeout_s` for each of its deliveries, its requests and its store.
const RELEASE_WITHIN: Duration = Duration::from_secs(900);
/// How long the end of a process takes that has closed its sockets.
const END_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error("another process does not take over: {0}")]
    Refused(String),
    #[error("no server runs on the data folder {}; check --data, or start one by stentor serve", path.display())]
    NoServer { path: PathBuf },
    #[error("the running server ended before it had said what became of it; look whether one runs, and into its log")]
    Died,
    #[error(
        "the data folder {} is in use by a server that cannot hand it over: it is of an older version, or is just starting \
         or ending; try again, or stop it first", path.display()
    )]
    CannotHandOver { path: PathBuf },
    #[error("the running server could not be asked at {}: {source}; run this as its user", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("the running server said something that this version does not understand: {0}; stop it first")]
    Misunderstood(io::Error),
    #[error("the running server did not let go of the data folder within {} s; look into its log", RELEASE_WITHIN.as_secs())]
    Slow,
}

/// The running server, which has handed over its sockets and serves on.
pub struct Predecessor {
    stream: UnixStream,
    peer: Peer,
    /// Ends with its process.
    process: Option<OwnedFd>,
}

/// A server that has let go of its folder and waits for us to be ready.
#[derive(Debug)]
pub struct Released(Option<UnixStream>);

/// Connects to the server that runs on the data folder, and looks who that is. None: none does.
fn connect(data_dir: &Path) -> Result<Option<(UnixStream, Peer)>, TakeoverError> {
    let failed = |source| TakeoverError::Socket { path: data_dir.join(SOCKET), source };
    let stream = match SocketPath::of(data_dir, SOCKET).and_then(|at| UnixStream::connect(&at.path)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return match is_held(data_dir).map_err(failed)? {
                true => Err(TakeoverError::CannotHandOver { path: data_dir.into() }),
                false => Ok(None),
            };
        }
        Err(e) => return Err(failed(e)),
    };
    let peer = Peer::of(&stream).map_err(failed)?;
    match peer.is_trusted() {
        true => Ok(Some((stream, peer))),
        false => {
            let reason = format!("the process {} that listens there belongs to another user", peer.pid);
            Err(TakeoverError::Refused(reason))
        }
    }
}

/// Asks the server that holds the data folder for its sockets. None: no server holds it. Blocks.
///
/// # Errors
/// It does not hand over; it serves on.
pub fn ask(data_dir: &Path) -> Result<Option<(Predecessor, Inherited)>, TakeoverError> {
    let failed = |source| TakeoverError::Socket { path: data_dir.join(SOCKET), source };
    let Some((stream, peer)) = connect(data_dir)? else { return Ok(None) };
    let pid = i32::try_from(peer.pid).ok().and_then(Pid::from_raw);
    // without it the end of that process is not waited for
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(failed)?;
    let folder = FolderId::of(data_dir).map_err(failed)?;
    let ask = Ask::Takeover { protocol: PROTOCOL, folder, version: env!("CARGO_PKG_VERSION").into() };
    tell(&stream, &ask).map_err(failed)?;
    let predecessor = Predecessor { stream, peer, process };
    match receive::<Answer>(&predecessor.stream).map_err(TakeoverError::Misunderstood)? {
        Some((Answer::Listeners { roles, is_given, version }, fds)) => {
            log::info!(process = peer.pid, version:display = version; "the running server hands over");
            let sockets = fds.into_iter().map(listener).collect::<Result<Vec<_>, _>>();
            let sockets = sockets.map_err(TakeoverError::Misunderstood)?;
            let inherited = Inherited { sockets: roles.into_iter().zip(sockets).collect(), is_given };
            Ok(Some((predecessor, inherited)))
        }
        Some((Answer::Refused { reason }, _)) => Err(TakeoverError::Refused(reason)),
        Some(_) => Err(TakeoverError::Misunderstood(io::ErrorKind::InvalidData.into())),
        None => {
            predecessor.wait_for_end();
            Ok(None)
        }
    }
}

/// Lets the server that runs on the data folder start a new process that takes its place; the number of that process, once it
/// serves. Blocks.
///
/// # Errors
/// There is no server, or there is no new one; then the one before serves on.
pub fn reload(data_dir: &Path) -> Result<u32, TakeoverError> {
    let failed = |source| TakeoverError::Socket { path: data_dir.join(SOCKET), source };
    let Some((stream, _)) = connect(data_dir)? else {
        return Err(TakeoverError::NoServer { path: data_dir.into() });
    };
    tell(&stream, &Ask::Reload).map_err(failed)?;
    stream.set_read_timeout(Some(RELEASE_WITHIN)).map_err(failed)?;
    match receive::<Answer>(&stream) {
        Ok(Some((Answer::Replaced { pid }, _))) => Ok(pid),
        Ok(Some((Answer::Refused { reason }, _))) => Err(TakeoverError::Refused(reason)),
        Ok(Some(_)) => Err(TakeoverError::Misunderstood(io::ErrorKind::InvalidData.into())),
        Ok(None) => Err(TakeoverError::Died),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Err(TakeoverError::Slow),
        Err(e) => Err(TakeoverError::Misunderstood(e)),
    }
}

/// Whether a server holds the folder.
fn is_held(data_dir: &Path) -> io::Result<bool> {
    let lock = match File::open(data_dir.join("lock")) {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

impl Predecessor {
    /// Everything is prepared: lets the running server end, and waits until it has let go of the folder. Also when it died
    /// meanwhile the folder is free afterwards. Blocks.
    ///
    /// # Errors
    /// It does not let go.
    pub fn release(self) -> Result<Released, TakeoverError> {
        let waiting = tell(&self.stream, &Ask::Go).and_then(|()| {
            self.stream.set_read_timeout(Some(RELEASE_WITHIN))?;
            receive::<Answer>(&self.stream)
        });
        match waiting {
            Ok(Some((Answer::Released, _))) => {
                log::info!("the server before has let go of the data folder");
                Ok(Released(Some(self.stream)))
            }
            Ok(Some((Answer::Refused { reason }, _))) => Err(TakeoverError::Refused(reason)),
            Ok(Some(_)) => Err(TakeoverError::Misunderstood(io::ErrorKind::InvalidData.into())),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(TakeoverError::Slow)
            }
            Ok(None) | Err(_) => {
                log::warn!(process = self.peer.pid; "the server before ended before it had let go; what it acknowledged is durable");
                self.wait_for_end();
                Ok(Released(None))
            }
        }
    }

    /// Its files are closed, its locks are gone.
    fn wait_for_end(&self) {
        let Some(process) = &self.process else { return };
        let limit = Timespec { tv_sec: END_WITHIN.as_secs() as i64, tv_nsec: 0 };
        let mut ended = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        if !poll(&mut ended, Some(&limit)).is_ok_and(|ready| ready > 0) {
            log::warn!(process = self.peer.pid; "the server before does not end");
        }
    }
}

impl Released {
    /// We accept connections: it may end.
    pub fn ready(self) {
        if let Some(stream) = self.0
            && let Err(e) = tell(&stream, &Ask::Ready)
        {
            // it is gone, which is what it was to be
            log::debug!("the server before was not told that it may end: {e}");
        }
    }
}
