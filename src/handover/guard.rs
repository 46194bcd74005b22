//! How the old server lets go: its process becomes one that holds nothing but the listening sockets, by `execve(2)` of the
//! program that it is. So every file, lock and thread of the server is gone at once, and connections wait in the sockets' queues.
//! It ends when the new server is ready. When that one ends before, it goes on to start as the server that it was.

use std::env;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::passing::{Peer, receive, tell, until_gone};
use super::{Answer, Ask};
use crate::listeners::{Inherited, Listeners, Role, for_successor, inherited_fd, listener};
use crate::supervisor::Supervisor;

/// The variable by which the process that waits knows that it is one. Nobody else sets it.
const VARIABLE: &str = "STENTOR_HANDOVER";
/// How often it looks around while it waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is left of the old server. The numbers are those of open files.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    sockets: Vec<(Role, i32)>,
    is_given: bool,
    successor: i32,
    /// Who asked for the new server by `stentor reload`.
    requester: Option<i32>,
    /// Where the program was when it was started first.
    program: PathBuf,
}

/// Who takes over.
pub struct Successor {
    pub stream: UnixStream,
    pub requester: Option<UnixStream>,
}

/// The file of the program as it was when this process started; what lies there now is what an upgrade has put there.
pub fn program() -> io::Result<PathBuf> {
    match rest() {
        Some(rest) => Ok(rest.program),
        None => env::current_exe(),
    }
}

/// Whether this process is what is left of a server.
pub fn is_left() -> bool {
    rest().is_some()
}

fn rest() -> Option<Rest> {
    serde_json::from_str(&env::var(VARIABLE).ok()?).ok()
}

/// Lets a program that is started not take itself for what waits here.
pub fn hide_from(command: &mut Command) {
    command.env_remove(VARIABLE);
}

/// Lets go of everything but the sockets. Returns only when that fails.
pub fn let_go(listeners: &Listeners, is_given: bool, successor: &Successor, program: PathBuf) -> io::Error {
    let exec = || -> io::Result<io::Error> {
        let sockets = listeners.each().map(|(role, socket)| Ok((role, for_successor(socket)?)));
        let sockets = sockets.collect::<io::Result<Vec<(Role, OwnedFd)>>>()?;
        let stream = for_successor(&successor.stream)?;
        let requester = successor.requester.as_ref().map(for_successor).transpose()?;
        let rest = Rest {
            sockets: sockets.iter().map(|(role, fd)| (*role, fd.as_raw_fd())).collect(),
            is_given,
            successor: stream.as_raw_fd(),
            requester: requester.as_ref().map(AsRawFd::as_raw_fd),
            program,
        };
        let mut arguments = env::args_os();
        // the program as it is, also where another one lies at its path by now
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env(VARIABLE, serde_json::to_string(&rest)?);
        Ok(command.exec())
    };
    exec().unwrap_or_else(|e| e)
}

/// If this process is what is left of a server: waits for the new one, and ends when that is ready. Returns with the sockets when
/// it ended before, so that the server starts again. None: it is an ordinary start. Blocks.
///
/// # Errors
/// What the variable says is not so.
pub fn stand_by(supervisor: &Supervisor) -> io::Result<Option<Inherited>> {
    let Some(rest) = rest() else { return Ok(None) };
    let sockets = rest.sockets.iter().map(|(role, fd)| Ok((*role, listener(inherited_fd(*fd)?)?)));
    let inherited = Inherited { sockets: sockets.collect::<io::Result<_>>()?, is_given: rest.is_given };
    let stream = |fd| -> io::Result<UnixStream> {
        let stream = UnixStream::from(inherited_fd(fd)?);
        // the server has not waited on it
        stream.set_nonblocking(false)?;
        Ok(stream)
    };
    let successor = stream(rest.successor)?;
    let requester = rest.requester.map(stream).transpose()?;
    let answer = |answer: &Answer| {
        if let Some(requester) = &requester
            && let Err(e) = tell(requester, answer)
        {
            log::debug!("whoever asked for a new server is gone: {e}");
        }
    };
    let peer = Peer::of(&successor)?;
    log::info!(process = peer.pid; "let go of the data folder; waiting for the new server");
    supervisor.status("Another process takes over");
    if tell(&successor, &Answer::Released).is_ok() && is_ready(&successor, supervisor)? {
        log::info!(process = peer.pid; "the new server is ready");
        supervisor.replaced_by(peer.pid);
        answer(&Answer::Replaced { pid: peer.pid });
        exit(0);
    }
    log::error!(process = peer.pid; "the new server ended before it was ready; this one starts again");
    let reason =
        "the new server ended before it was ready, and the one before serves again; the log of the new one says why";
    answer(&Answer::Refused { reason: reason.into() });
    reap(peer.pid);
    Ok(Some(inherited))
}

/// Waits for its word; false: it has ended.
fn is_ready(successor: &UnixStream, supervisor: &Supervisor) -> io::Result<bool> {
    let every = supervisor.signs_every().unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
    successor.set_read_timeout(Some(every))?;
    let mut told = Instant::now();
    loop {
        supervisor.alive();
        match receive::<Ask>(successor) {
            Ok(Some((Ask::Ready, _))) => return Ok(true),
            Ok(None) => return Ok(false),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Ok(Some(_)) | Err(_) => {
                // it does not say what it should: whatever it is, the folder is free only when it has ended
                successor.set_read_timeout(None)?;
                until_gone(successor);
                return Ok(false);
            }
        }
        if told.elapsed() >= LOOK_EVERY * 10 {
            told = Instant::now();
            log::info!("still waiting for the new server");
        }
    }
}

/// A child that has ended, so that nothing is left of it.
fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // it may be no child of ours
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
    }
}
