//! The side of the running server: answers who wants to take over, one at a time, and starts a new process where it is asked to.

use std::cell::{Cell, RefCell};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt;
use actix_web::web;
use actors::hub::Hub;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::guard::{self, Successor};
use super::passing::{self, Peer, SocketPath};
use super::{Answer, Ask, FolderId, PROTOCOL, SOCKET};
use crate::http::long_answers::LongAnswers;
use crate::listeners::Listeners;

/// By when somebody who has connected has said what it wants.
const ASK_WITHIN: Duration = Duration::from_secs(10);
/// By when a process that has the sockets is prepared.
const GO_WITHIN: Duration = Duration::from_secs(60);
/// Connections that are listened to at once.
const CONNECTIONS: usize = 8;

/// What is needed to hand over.
pub struct Giving {
    socket: UnixListener,
    path: SocketFile,
    state: Rc<State>,
}

/// Removed with this, so that nobody asks where nobody answers.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0) {
            log::debug!("{} stays: {e}", self.0.display());
        }
    }
}

struct State {
    hub: Hub,
    listeners: Arc<Listeners>,
    is_given: bool,
    folder: FolderId,
    program: PathBuf,
    patience: Duration,
    long_answers: LongAnswers,
    drain: Duration,
    /// The process that takes over, from its question to its end.
    taking: Cell<Option<u32>>,
    /// The process that was started by `stentor reload`, and who waits for it.
    started: RefCell<Option<(u32, std::os::unix::net::UnixStream)>>,
    decided: mpsc::Sender<Successor>,
    connections: Cell<usize>,
}

/// A server that can hand over.
pub struct Server {
    pub hub: Hub,
    pub listeners: Arc<Listeners>,
    /// A supervisor has handed over the sockets.
    pub is_given: bool,
    /// Where the program was when it was started.
    pub program: PathBuf,
    /// For attempts of webhooks that are under way.
    pub patience: Duration,
    /// Exports and backups, which are served to their end before anything is handed over.
    pub long_answers: LongAnswers,
    /// For those at most.
    pub drain: Duration,
}

impl Giving {
    /// Listens in the data folder, which the server holds. Blocks a little.
    ///
    /// # Errors
    /// The folder cannot have a socket.
    pub fn start(server: Server, data_dir: &Path) -> io::Result<(Giving, mpsc::Receiver<Successor>)> {
        let Server { hub, listeners, is_given, program, patience, long_answers, drain } = server;
        let path = data_dir.join(SOCKET);
        match fs::remove_file(&path) {
            // of a server that was killed; the folder is ours
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let socket = UnixListener::bind(&SocketPath::of(data_dir, SOCKET)?.path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let (decided, deciding) = mpsc::channel(1);
        let state = Rc::new(State {
            hub,
            listeners,
            is_given,
            folder: FolderId::of(data_dir)?,
            program,
            patience,
            long_answers,
            drain,
            taking: Cell::new(None),
            started: RefCell::new(None),
            decided,
            connections: Cell::new(0),
        });
        Ok((Giving { socket, path: SocketFile(path), state }, deciding))
    }

    /// Answers for as long as this is polled.
    pub async fn run(self) {
        let Giving { socket, path, state } = self;
        loop {
            match socket.accept().await {
                Ok((stream, _)) if state.connections.get() < CONNECTIONS => {
                    state.connections.set(state.connections.get() + 1);
                    let state = state.clone();
                    rt::spawn(async move {
                        state.answer(stream).await;
                        state.connections.set(state.connections.get() - 1);
                    });
                }
                Ok(_) => log::warn!("too many ask at {} at once", path.0.display()),
                Err(e) => {
                    log::warn!("{}: {e}", path.0.display());
                    rt::time::sleep(ASK_WITHIN).await;
                }
            }
        }
    }
}

/// Held by the one process that takes over.
struct Claim(Option<Rc<State>>);

impl Claim {
    /// Nobody else takes over any more.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.taking.set(None);
        }
    }
}

impl State {
    async fn answer(self: &Rc<Self>, stream: UnixStream) {
        let peer = match Peer::of(&stream) {
            Ok(peer) if peer.is_trusted() => peer,
            Ok(peer) => {
                return log::warn!(process = peer.pid, user = peer.uid; "another user asks for the sockets and gets nothing");
            }
            Err(e) => return log::warn!("it is not known who asks for the sockets: {e}"),
        };
        let asked = match rt::time::timeout(ASK_WITHIN, hear(&stream)).await {
            Ok(Ok(Some(asked))) => asked,
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(e)) => return self.refuse(&stream, format!("it does not understand what it is asked: {e}")),
        };
        let refused = match asked {
            Ask::Takeover { protocol, folder, version } => {
                self.hand_over(&stream, peer, protocol, folder, version).await
            }
            Ask::Reload => self.reload(&stream).await,
            Ask::Go | Ask::Ready => Err("it was not asked for anything before".to_owned()),
        };
        if let Err(reason) = refused {
            self.refuse(&stream, reason);
        }
    }

    fn refuse(&self, stream: &UnixStream, reason: String) {
        log::warn!("no other process takes over: {reason}");
        if let Err(e) = passing::send(stream, &passing::line(&Answer::Refused { reason }), &[]) {
            log::debug!("whoever asked is gone: {e}");
        }
    }

    /// Returns when the process has ended, or when it is decided that it takes over.
    ///
    /// # Errors
    /// Why it cannot.
    async fn hand_over(
        self: &Rc<Self>,
        stream: &UnixStream,
        peer: Peer,
        protocol: u32,
        folder: FolderId,
        version: String,
    ) -> Result<(), String> {
        if protocol != PROTOCOL {
            let own = env!("CARGO_PKG_VERSION");
            return Err(format!("version {own} and version {version} do not hand over to each other; stop it first"));
        }
        if folder != self.folder {
            return Err("it serves another data folder; check --data".into());
        }
        if let Some(other) = self.taking.get() {
            return Err(format!("the process {other} is about to take over; wait for it"));
        }
        self.taking.set(Some(peer.pid));
        let claim = Claim(Some(self.clone()));
        let roles = self.listeners.each().map(|(role, _)| role).collect();
        let sockets: Vec<_> = self.listeners.each().map(|(_, socket)| socket.as_fd()).collect();
        let answer = Answer::Listeners { roles, is_given: self.is_given, version: env!("CARGO_PKG_VERSION").into() };
        passing::send(stream, &passing::line(&answer), &sockets).map_err(|e| e.to_string())?;
        let gone =
            || log::warn!(process = peer.pid; "the process that was to take over has ended; this server goes on");
        match rt::time::timeout(GO_WITHIN, hear::<Ask>(stream)).await {
            Ok(Ok(Some(Ask::Go))) => {}
            Ok(Ok(None) | Err(_)) => {
                gone();
                return Ok(());
            }
            Ok(Ok(Some(_))) => return Err("it was to say that it is prepared".into()),
            Err(_) => return Err(format!("the new process was not prepared within {} s", GO_WITHIN.as_secs())),
        }
        log::info!(process = peer.pid, version:display = version; "another process takes over");
        // while requests and streams go on
        match self.long_answers.end(self.drain).await {
            0 => {}
            cut => log::warn!(
                count = cut;
                "exports and backups that are still under way after server.takeover_drain_s will be cut"
            ),
        }
        self.hub.end_deliveries(self.patience).await;
        let successor = self.successor(stream, peer);
        match successor {
            Ok(successor) if !is_gone(stream) => {
                if self.decided.send(successor).await.is_ok() {
                    claim.keep();
                }
            }
            Ok(_) => {
                self.hub.resume_deliveries();
                gone();
            }
            Err(e) => {
                self.hub.resume_deliveries();
                return Err(format!("its connection cannot be kept: {e}"));
            }
        }
        Ok(())
    }

    fn successor(&self, stream: &UnixStream, peer: Peer) -> io::Result<Successor> {
        let stream = keep(stream)?;
        let mut started = self.started.borrow_mut();
        let requester = started.take_if(|(pid, _)| *pid == peer.pid).map(|(_, requester)| requester);
        Ok(Successor { stream, requester })
    }

    /// Starts the program that lies at our path by now, with our arguments, and waits for its end. Once it takes over, this
    /// process is not there any more to do so.
    ///
    /// # Errors
    /// Why there is no new server.
    async fn reload(self: &Rc<Self>, stream: &UnixStream) -> Result<(), String> {
        if std::process::id() == 1 {
            return Err(
                "it is the first process of a container, with which all others end; replace the container".into()
            );
        }
        if self.started.borrow().is_some() || self.taking.get().is_some() {
            return Err("another process is about to take over; wait for it".into());
        }
        let requester = keep(stream).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.program);
        let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
        if arguments.is_empty() {
            arguments.push("serve".into());
        }
        if !arguments.iter().any(|argument| argument == "--takeover") {
            arguments.push("--takeover".into());
        }
        command.args(arguments).stdin(Stdio::null());
        guard::hide_from(&mut command);
        for variable in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        let mut child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", self.program.display()))?;
        log::info!(process = child.id(); "a new process was started");
        *self.started.borrow_mut() = Some((child.id(), requester));
        let ended = web::block(move || child.wait()).await;
        self.started.borrow_mut().take();
        let how = match ended {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(e)) => e.to_string(),
            Err(e) => e.to_string(),
        };
        Err(format!("the new process ended before it took over ({how}), its log says why, and this server goes on"))
    }
}

/// The next line of somebody who asks; none when it is gone.
async fn hear<T: serde::de::DeserializeOwned>(stream: &UnixStream) -> io::Result<Option<T>> {
    let mut heard = Vec::new();
    loop {
        let mut part = [0; 512];
        stream.readable().await?;
        match stream.try_read(&mut part) {
            Ok(0) => return Ok(None),
            Ok(bytes) => heard.extend_from_slice(&part[..bytes]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        }
        if let Some(message) = passing::parse(&heard)? {
            return Ok(Some(message));
        }
    }
}

/// Whether the other end is gone, as far as is known.
fn is_gone(stream: &UnixStream) -> bool {
    let read = stream.try_io(Interest::READABLE, || {
        let mut byte = [0];
        let (_, read) = rustix::net::recv(stream, &mut byte, rustix::net::RecvFlags::PEEK)?;
        Ok(read)
    });
    match read {
        Ok(read) => read == 0,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}

/// The same connection for the process that comes after this one.
fn keep(stream: &UnixStream) -> io::Result<std::os::unix::net::UnixStream> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}
