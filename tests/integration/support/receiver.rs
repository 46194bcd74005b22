//! A receiver of webhooks that answers as the test says and remembers what it got.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::eventually;

/// Longest silence of the server within a request.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct Received {
    /// Method, target and version.
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    pub reply: Reply,
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    /// The status with these further header lines, each ended by CRLF.
    With(u16, &'static str),
    /// The status after a wait.
    Late(Duration, u16),
    /// The connection is closed instead.
    Close,
}

impl Reply {
    pub fn is_success(self) -> bool {
        matches!(self, Reply::Status(200..300) | Reply::With(200..300, _) | Reply::Late(_, 200..300))
    }
}

/// Decides the answer to a request.
type Decide = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// All of them, with names in lower case, as they came.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }
}

struct State {
    received: Mutex<Vec<Received>>,
    decide: Decide,
    stopping: AtomicBool,
}

pub struct Receiver {
    addr: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Answers these statuses, in order, and then 200.
    pub fn start(statuses: &[u16]) -> Receiver {
        let statuses: Mutex<VecDeque<u16>> = Mutex::new(statuses.iter().copied().collect());
        Receiver::deciding(move |_| Reply::Status(statuses.lock().expect("the list").pop_front().unwrap_or(200)))
    }

    /// Answers as `decide` says.
    pub fn deciding(decide: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Receiver {
        Receiver::listening(decide, None)
    }

    /// Answers 200 over TLS.
    pub fn over_tls(config: Arc<ServerConfig>) -> Receiver {
        Receiver::listening(|_| Reply::Status(200), Some(config))
    }

    fn listening(
        decide: impl Fn(&Received) -> Reply + Send + Sync + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Receiver {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (received, stopping) = (Mutex::default(), AtomicBool::new(false));
        let state = Arc::new(State { received, decide: Box::new(decide), stopping });
        let shared = state.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stopping.load(Ordering::Acquire) {
                    return;
                }
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let (shared, tls) = (shared.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(&shared, stream),
                    Some(config) => {
                        let session = ServerConnection::new(config).expect("a session");
                        serve(&shared, StreamOwned::new(session, stream));
                    }
                });
            }
        });
        Receiver { addr, scheme, state, accepting: Some(accepting) }
    }

    pub fn url(&self) -> String {
        format!("{}://{}/webhook", self.scheme, self.addr)
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("the list").clone()
    }

    /// Waits until this many requests have come.
    #[track_caller]
    pub fn expect(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} deliveries arrive"), || self.received().len() >= count);
        self.received()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Release);
        // wakes the thread, which then ends
        if TcpStream::connect(self.addr).is_ok() {
            let _ = self.accepting.take().expect("it runs").join();
        }
    }
}

/// Serves the requests of one connection until the other side closes it.
fn serve(state: &State, stream: impl Read + Write) {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read(&mut stream) {
        request.reply = (state.decide)(&request);
        let reply = request.reply;
        state.received.lock().expect("the list").push(request);
        let (status, more) = match reply {
            Reply::Status(status) => (status, ""),
            Reply::With(status, more) => (status, more),
            Reply::Late(wait, status) => {
                // nobody unparks this thread
                std::thread::sleep(wait);
                (status, "")
            }
            Reply::Close => return,
        };
        let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\nX-Receiver: test\r\n{more}\r\nOK");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut BufReader<impl Read>) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let (headers, body) = (Vec::new(), Vec::new());
    let line = line.trim_end().to_owned();
    let mut request = Received { line, headers, body, at: Instant::now(), reply: Reply::Close };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.into(), value.trim().into()));
    }
    request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut request.body).ok()?;
    request.at = Instant::now();
    Some(request)
}
