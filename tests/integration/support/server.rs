//! The server as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::program::Ended;
use super::secure::{Gateway, Over, Pair};
use super::{Map, Request, SOON, eventually};

pub const ADMIN: &str = "the-admin-token-of-the-tests";
/// With `engine = "nats"` the key has to come from outside, because all nodes need the same.
pub const SECRET_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
/// Above the default of `server.shutdown_timeout_s`.
const STOP_LIMIT: Duration = Duration::from_secs(11);
/// By when a server listens or has ended. A start on a damaged or migrated folder may take longer than an ordinary one.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Lines of the server's log that a failed test shows.
const TAIL_LINES: usize = 40;

/// The program with the settings of a test and none of the environment's. `STENTOR_BIN` names another build to be judged.
pub fn stentor(settings: &[(&str, &str)]) -> Command {
    let program = std::env::var_os("STENTOR_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_stentor").into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("STENTOR_") || name.starts_with("RUST_") {
            command.env_remove(&*name);
        }
    }
    command.envs(
        settings
            .iter()
            .map(|(key, value)| (format!("STENTOR__{}", key.replace('.', "__").to_ascii_uppercase()), *value)),
    );
    command
}

/// The settings by which the servers of this run keep what they know: none, or with the address of a NATS server in
/// `STENTOR_TEST_NATS` those of nodes, each the only one of a cluster of its own.
fn engine_of_run() -> Vec<(String, String)> {
    static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
    let Ok(servers) = std::env::var("STENTOR_TEST_NATS") else { return Vec::new() };
    let prefix = format!("test-{}-{}", std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
    let settings = [
        ("engine", "nats"),
        ("nats.servers", &servers),
        ("nats.replicas", "1"),
        ("nats.prefix", &prefix),
        ("cluster.node", "alone"),
        // so long a node listens for others before it delivers
        ("cluster.silent_after_ms", "500"),
    ];
    settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

struct Running {
    child: Child,
    addr: SocketAddr,
    /// Of the second listener, where there is one.
    admin_addr: Option<SocketAddr>,
    listener: JoinHandle<()>,
}

pub struct TestServer {
    folder: DataFolder,
    settings: Vec<(String, String)>,
    listen: String,
    prepare: Option<Box<Prepare>>,
    running: Option<Running>,
    tls: Option<Tls>,
    log: Arc<Mutex<Vec<String>>>,
}

/// How the tests reach a server that speaks https only.
struct Tls {
    pair: Pair,
    over: Over,
    gateway: Option<Gateway>,
    /// Of the pair.
    _folder: tempfile::TempDir,
}

impl Tls {
    fn new(over: Over) -> Tls {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Tls { pair: Pair::new(folder.path(), "server"), over, gateway: None, _folder: folder }
    }
}

/// Changes the command that is about to start the server: its environment, its limits, or what runs it.
type Prepare = dyn Fn(Command) -> Command + Send + Sync;

enum DataFolder {
    /// Removed with the server.
    Own(tempfile::TempDir),
    /// Somebody else looks after it.
    At(PathBuf),
}

impl TestServer {
    /// Starts a server on a new data folder. Each setting is a key such as `sse.keepalive_s` with its value.
    pub fn start(settings: &[(&str, &str)]) -> TestServer {
        TestServer::start_at("127.0.0.1:0", settings)
    }

    /// The same on an address of the test's choice, at which it also is after a restart.
    pub fn start_at(listen: &str, settings: &[(&str, &str)]) -> TestServer {
        let folder = tempfile::tempdir().expect("a folder can be made");
        TestServer::start_with(folder, listen, settings)
    }

    /// The same on a folder that is there.
    pub fn start_on(folder: tempfile::TempDir, settings: &[(&str, &str)]) -> TestServer {
        TestServer::start_with(folder, "127.0.0.1:0", settings)
    }

    /// A server that speaks plain http, however the tests of this run reach the others.
    pub fn plain(settings: &[(&str, &str)]) -> TestServer {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut server = TestServer::new(DataFolder::Own(folder), "127.0.0.1:0", settings);
        server.tls = None;
        server.launch();
        server
    }

    /// A server that speaks https, reached by plain requests as well; and its certificate.
    pub fn secure(settings: &[(&str, &str)]) -> (TestServer, Pair) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut server = TestServer::new(DataFolder::Own(folder), "127.0.0.1:0", settings);
        let tls = server.tls.get_or_insert_with(|| Tls::new(Over::Https));
        let pair = tls.pair.clone();
        server.launch();
        (server, pair)
    }

    fn start_with(folder: tempfile::TempDir, listen: &str, settings: &[(&str, &str)]) -> TestServer {
        let mut server = TestServer::new(DataFolder::Own(folder), listen, settings);
        server.launch();
        server
    }

    /// A server on a folder that outlives it. It is not started yet.
    pub fn at(folder: &Path, settings: &[(&str, &str)]) -> TestServer {
        TestServer::new(DataFolder::At(folder.into()), "127.0.0.1:0", settings)
    }

    fn new(folder: DataFolder, listen: &str, settings: &[(&str, &str)]) -> TestServer {
        let mut settings: Vec<_> = settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        if !settings.iter().any(|(key, _)| key == "engine") {
            settings.extend(engine_of_run());
        }
        TestServer {
            folder,
            settings,
            listen: listen.into(),
            prepare: None,
            running: None,
            tls: Over::of_run().map(Tls::new),
            log: Arc::default(),
        }
    }

    /// Every start from now on runs the command that `prepare` makes of the usual one.
    pub fn prepared(mut self, prepare: impl Fn(Command) -> Command + Send + Sync + 'static) -> TestServer {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Starts the server, which must then listen.
    #[track_caller]
    pub fn launch(&mut self) {
        if let Err(ended) = self.try_launch() {
            panic!("the server ended before it listened: {ended:?}");
        }
    }

    /// Starts the server. An error is what it said when it ended before it listened.
    #[track_caller]
    pub fn try_launch(&mut self) -> Result<(), Ended> {
        assert!(self.running.is_none(), "one server at a time");
        self.running = Some(self.spawn(&[])?);
        Ok(())
    }

    /// A new process takes the place of the one that runs, which must then end well and in time.
    #[track_caller]
    pub fn take_over(&mut self) {
        if let Err(ended) = self.try_take_over() {
            panic!("the new process ended before it listened: {ended:?}");
        }
    }

    /// The same. An error is what the new process said when it ended; then the one before is still there.
    #[track_caller]
    pub fn try_take_over(&mut self) -> Result<(), Ended> {
        let new = self.spawn(&["--takeover"])?;
        let old = self.running.replace(new).expect("the server runs");
        let status = ended(old);
        assert!(status.success(), "the process before: {status}");
        Ok(())
    }

    /// Starts a process and waits until it says that it listens.
    #[track_caller]
    fn spawn(&mut self, flags: &[&str]) -> Result<Running, Ended> {
        let files = self.tls.as_ref().map(|tls| tls.pair.settings());
        let of_tls = files.iter().flatten().map(|(key, value)| (*key, value.as_str()));
        let own = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let settings: Vec<_> = of_tls.chain(own).collect();
        let mut command = stentor(&settings);
        command.args(["serve", "--listen", &self.listen, "--data"]).arg(self.folder()).args(flags);
        command.env("STENTOR_ADMIN_TOKEN", ADMIN);
        if settings.contains(&("engine", "nats")) {
            command.env("STENTOR_SECRET_KEY", SECRET_KEY);
        }
        if let Some(prepare) = &self.prepare {
            command = prepare(command);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("standard error is ours"));
        let (log, known) = (self.log.clone(), self.log_lines().len());
        let listener = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log.lock().expect("the log").push(line);
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("standard output is ours"));
        let (line, said) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let (deadline, mut out) = (Instant::now() + START_LIMIT, String::new());
        loop {
            match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match address(&line, "listening on") {
                    Some(addr) => {
                        let admin_addr = out.lines().find_map(|line| address(line, "administration on"));
                        if let Some(Tls { pair, over, gateway, .. }) = &mut self.tls {
                            gateway.get_or_insert_with(|| Gateway::start(addr, pair, *over)).lead_to(addr);
                        }
                        return Ok(Running { child, addr, admin_addr, listener });
                    }
                    None => out += &(line + "\n"),
                },
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.wait().expect("it is a child of ours");
                    listener.join().expect("its log ends");
                    let err = self.log_lines()[known..].iter().map(|line| format!("{line}\n")).collect();
                    return Err(Ended { code: status.code(), out, err });
                }
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().expect("it can be killed");
                    panic!("the server neither listened nor ended within {START_LIMIT:?}: {out}\n{}", self.tail());
                }
            }
        }
    }

    /// Whether it was started, and neither killed nor stopped since.
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Where requests go: to the server, or to the gateway before it.
    pub fn addr(&self) -> SocketAddr {
        let gateway = self.tls.as_ref().and_then(|tls| tls.gateway.as_ref());
        gateway.map_or_else(|| self.secure_addr(), |gateway| gateway.addr)
    }

    /// The server's own address.
    pub fn secure_addr(&self) -> SocketAddr {
        self.running.as_ref().expect("the server runs").addr
    }

    /// Its second address.
    pub fn admin_addr(&self) -> SocketAddr {
        self.running.as_ref().and_then(|running| running.admin_addr).expect("the server has a second address")
    }

    /// `http://ADDRESS` or `https://ADDRESS`, as the server hands it out to those who ask it by [`TestServer::addr`].
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.addr())
    }

    pub fn folder(&self) -> &Path {
        match &self.folder {
            DataFolder::Own(folder) => folder.path(),
            DataFolder::At(path) => path,
        }
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        running.child.kill().expect("it can be killed");
        running.child.wait().expect("it ends");
        running.listener.join().expect("its log ends");
    }

    /// SIGTERM, without waiting for the end.
    pub fn ask_to_stop(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Settings of processes that are started from now on, on top of those from before.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings.extend(settings.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    }

    /// Waits until the log has a line with this in it.
    #[track_caller]
    pub fn expect_log(&self, part: &str) {
        eventually(&format!("the log says {part:?}"), || self.log_lines().iter().any(|line| line.contains(part)));
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child was not waited for, so the id is still its own
        assert_eq!(unsafe { libc::kill(self.pid() as libc::pid_t, signal) }, 0);
    }

    /// SIGTERM; the server must end well and in time.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    /// Waits for the end of a server that was asked to stop.
    pub fn wait(&mut self) -> ExitStatus {
        ended(self.running.take().expect("the server runs"))
    }

    /// Starts again on the same folder, killing what still runs.
    pub fn restart(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
        self.launch();
    }

    /// Like [`TestServer::restart`], with settings on top of those from before.
    pub fn restart_with(&mut self, settings: &[(&str, &str)]) {
        self.set(settings);
        self.restart();
    }

    pub fn log_lines(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    fn tail(&self) -> String {
        let lines = self.log_lines();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.addr(), method, target)
    }

    /// A request to the second address.
    pub fn request_admin(&self, method: &str, target: &str) -> Request {
        Request::new(self.admin_addr(), method, target)
    }

    pub fn admin(&self, method: &str, target: &str) -> Request {
        self.request(method, target).bearer(ADMIN)
    }

    pub fn new_map(&self, name: &str) -> Map {
        let body = self.admin("POST", "/api/maps").json(&json!({ "name": name })).send().expect(201);
        let text = |field: &str| body["data"][field].as_str().expect("a text").to_string();
        Map { addr: self.addr(), id: text("id"), token: text("token") }
    }

    /// Bytes of the memory budget that are held for this.
    pub fn memory(&self, part: &str) -> i64 {
        self.metric(&format!("stentor_memory_bytes{{part=\"{part}\"}}"))
    }

    /// A value of `/metrics`.
    pub fn metric(&self, name: &str) -> i64 {
        let answer = self.request("GET", "/metrics").send();
        let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{}", answer.text())).parse().expect("a number")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // it may have ended by itself
            let _ = running.child.kill();
            let _ = running.child.wait();
            let _ = running.listener.join();
        }
        if std::thread::panicking() {
            eprintln!("--- the end of the server's log\n{}", self.tail());
        }
    }
}

/// Waits for the end of a process that is about to end.
fn ended(mut running: Running) -> ExitStatus {
    let deadline = Instant::now() + STOP_LIMIT;
    loop {
        if let Some(status) = running.child.try_wait().expect("it is a child of ours") {
            running.listener.join().expect("its log ends");
            return status;
        }
        if Instant::now() > deadline {
            running.child.kill().expect("it can be killed");
            panic!("the server did not stop within {STOP_LIMIT:?}");
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn address(line: &str, what: &str) -> Option<SocketAddr> {
    let (_, addr) = line.strip_prefix(what)?.split_once("://")?;
    Some(addr.parse().expect("an address follows"))
}

/// Runs the program to its end: exit code, standard output, standard error.
pub fn run(mut command: Command) -> (Option<i32>, String, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let deadline = Instant::now() + SOON;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is a child of ours") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("it can be killed");
        }
        std::thread::park_timeout(Duration::from_millis(10));
    };
    let mut texts = [String::new(), String::new()];
    child.stdout.take().expect("ours").read_to_string(&mut texts[0]).expect("text");
    child.stderr.take().expect("ours").read_to_string(&mut texts[1]).expect("text");
    let [out, err] = texts;
    (status.code(), out, err)
}
