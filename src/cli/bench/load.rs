//! The load: one thread that publishes over some connections and reads events on many, all through one `epoll` and one
//! buffer. It looks at no more than it must: the head of each answer, and the markers of events.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::latency::Latencies;
use super::marker::{self, MARKER_BYTES, Scanner};
use super::server::Server;
use super::{Transport, failed};
use crate::cli::Failure;

/// Bytes read from a connection at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Connections being opened at once: fewer than a listener's backlog.
const OPENING: usize = 64;
/// Longest wait until all readers listen.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);
/// Largest head of an answer, and largest answer to a publisher.
const HEAD_BYTES: usize = 8 * 1024;
const ANSWER_BYTES: usize = 256 * 1024;
/// Tokens of publishers begin here; those of readers are their places.
const PUBLISHERS: usize = 1 << 32;

pub struct Load {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    scanner: Scanner,
    addr: SocketAddr,
    readers: Vec<Reader>,
    publishers: Vec<Publisher>,
    /// Publishers whose last request was answered.
    pub free: Vec<usize>,
    pub tally: Tally,
}

/// What happened so far.
pub struct Tally {
    pub received: u64,
    /// Events that a reader did not get before a later one.
    pub lost: u64,
    pub repeated: u64,
    pub last_receipt: Option<Instant>,
    /// From publish to receipt, over all readers.
    pub delivery: Latencies,
    /// Requests answered with 200 or 201, and the time each took.
    pub answered: u64,
    pub answer: Latencies,
}

struct Reader {
    stream: TcpStream,
    state: State,
    /// The number of the event that comes next.
    next: u64,
    /// The end of what was read, where a marker began.
    rest: [u8; MARKER_BYTES],
    rest_len: usize,
}

enum State {
    Connecting,
    /// The request was sent; so much of the answer's head is here.
    Asked(Vec<u8>),
    Listening,
}

struct Publisher {
    stream: TcpStream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    begun_ns: u64,
}

impl Load {
    /// Makes a load without connections.
    ///
    /// # Errors
    /// The kernel gives no epoll instance.
    pub fn new(server: &Server) -> Result<Load, Failure> {
        Ok(Load {
            poll: Poll::new().map_err(failed("no epoll"))?,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES],
            scanner: Scanner::new(),
            addr: server.addr,
            readers: Vec::new(),
            publishers: Vec::new(),
            free: Vec::new(),
            tally: Tally {
                received: 0,
                lost: 0,
                repeated: 0,
                last_receipt: None,
                delivery: Latencies::new(),
                answered: 0,
                answer: Latencies::new(),
            },
        })
    }

    /// Opens readers and returns when all of them listen. Blocks.
    ///
    /// # Errors
    /// A reader cannot connect or subscribe, or not all of them listen in time.
    pub fn open_readers(&mut self, server: &Server, count: usize, transport: Transport) -> Result<(), Failure> {
        let request = subscribe(server, transport);
        let deadline = Instant::now() + OPEN_PATIENCE;
        let mut listening = 0;
        while listening < count {
            while self.readers.len() < count && self.readers.len() - listening < OPENING {
                let reader = Reader::open(self.addr, &self.poll, self.readers.len()).map_err(failed("a reader"))?;
                self.readers.push(reader);
            }
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!("only {listening} of {count} readers listen")));
            }
            self.wait(Some(Duration::from_millis(100)))?;
            for event in self.events.iter() {
                let Some(reader) = self.readers.get_mut(event.token().0) else { continue };
                let opened = reader.opening(request.as_bytes(), &mut self.buffer);
                listening += usize::from(opened.map_err(failed("a reader could not listen"))?);
            }
        }
        Ok(())
    }

    /// Opens connections that publish. Blocks.
    ///
    /// # Errors
    /// A publisher cannot connect.
    pub fn open_publishers(&mut self, count: usize) -> Result<(), Failure> {
        for place in 0..count {
            let publisher = Publisher::open(self.addr, &self.poll, place).map_err(failed("a publisher"))?;
            self.publishers.push(publisher);
            self.free.push(place);
        }
        Ok(())
    }

    /// Publishes by one of the free publishers, if there is one. `begun_ns` is when the request was due.
    ///
    /// # Errors
    /// The connection failed.
    pub fn publish(&mut self, request: Vec<u8>, begun_ns: u64) -> Result<(), Failure> {
        let Some(place) = self.free.pop() else { return Ok(()) };
        let publisher = &mut self.publishers[place];
        (publisher.request, publisher.sent, publisher.begun_ns) = (request, 0, begun_ns);
        publisher.write().map_err(failed("a publish was not sent"))
    }

    /// Waits for something to happen, and takes in what did. Blocks.
    ///
    /// # Errors
    /// A reader was cut off, or a publish was answered with another status than 2xx.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        self.wait(timeout)?;
        for event in self.events.iter() {
            match event.token().0.checked_sub(PUBLISHERS) {
                None => {
                    let reader = &mut self.readers[event.token().0];
                    let read = reader.read(&mut self.buffer, &self.scanner, &mut self.tally);
                    read.map_err(failed("a reader was cut off"))?;
                }
                Some(place) => {
                    let publisher = &mut self.publishers[place];
                    let taken = publisher.write().and_then(|()| publisher.read(&mut self.buffer));
                    if taken.map_err(failed("a publish was not answered well"))? {
                        self.tally.answered += 1;
                        self.tally.answer.record(marker::now_ns().saturating_sub(publisher.begun_ns));
                        self.free.push(place);
                    }
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, timeout) {
            // a signal came; the caller's loop goes on
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result.map_err(failed("epoll")),
        }
    }

    /// Adds to the tally what readers should have got and did not, of `published` events each.
    pub fn count_missing(&mut self, published: u64) {
        self.tally.lost += self.readers.iter().map(|reader| published.saturating_sub(reader.next)).sum::<u64>();
    }
}

fn subscribe(server: &Server, transport: Transport) -> String {
    let Server { addr, token, followed: (path, query), .. } = server;
    let (way, headers) = match transport {
        Transport::Sse => ("stream", "Accept: text/event-stream\r\n"),
        // the key of RFC 6455, 1.3; the server's proof of it is not looked at
        Transport::Ws => (
            "ws",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
    };
    format!("GET {path}/{way}{query} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
}

/// The request that publishes `body` at a path.
pub fn request(server: &Server, path: &str, body: &str) -> Vec<u8> {
    let Server { addr, token, .. } = server;
    format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One event of about `bytes` bytes as publishers write it, with `marker` in it.
pub fn event(marker: &str, bytes: usize) -> String {
    let (before, after) = (r#"{"type":"map_kill","payload":{"msg":""#, r#""}}"#);
    let padding = bytes.saturating_sub(before.len() + marker.len() + after.len());
    format!("{before}{marker}{}{after}", "x".repeat(padding))
}

fn broken(reason: impl Into<String>) -> std::io::Error {
    std::io::Error::other(reason.into())
}

/// Where the head of an answer ends, and its first line.
fn head(answer: &[u8]) -> std::io::Result<Option<(usize, &str)>> {
    match memchr::memmem::find(answer, b"\r\n\r\n") {
        Some(end) => {
            let head = str::from_utf8(&answer[..end]).map_err(|_| broken("the answer's head is no text"))?;
            Ok(Some((end + 4, head)))
        }
        None if answer.len() > HEAD_BYTES => Err(broken("the answer's head does not end")),
        None => Ok(None),
    }
}

impl Reader {
    fn open(addr: SocketAddr, poll: &Poll, place: usize) -> std::io::Result<Reader> {
        let mut stream = TcpStream::connect(addr)?;
        poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Reader { stream, state: State::Connecting, next: 0, rest: [0; MARKER_BYTES], rest_len: 0 })
    }

    /// Takes the next step towards listening. Returns whether the reader listens since this call.
    fn opening(&mut self, request: &[u8], buffer: &mut [u8]) -> std::io::Result<bool> {
        if matches!(self.state, State::Connecting) {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
                result => result?,
            };
            // a request of some hundred bytes fits into an empty send buffer
            self.stream.write_all(request)?;
            self.state = State::Asked(Vec::new());
        }
        let State::Asked(answer) = &mut self.state else {
            // nothing is published yet: what comes now is an opening frame, and no part of a marker
            read(&mut self.stream, buffer, |_| Ok(()))?;
            return Ok(false);
        };
        read(&mut self.stream, buffer, |bytes| {
            answer.extend_from_slice(bytes);
            Ok(())
        })?;
        let Some((_, head)) = head(answer)? else { return Ok(false) };
        if !["HTTP/1.1 200 ", "HTTP/1.1 101 "].iter().any(|good| head.starts_with(good)) {
            return Err(broken(format!("the server answered {}", head.lines().next().unwrap_or_default())));
        }
        self.state = State::Listening;
        Ok(true)
    }

    /// Reads what is there and counts the events in it.
    fn read(&mut self, buffer: &mut [u8], scanner: &Scanner, tally: &mut Tally) -> std::io::Result<()> {
        let Reader { stream, next, rest, rest_len, .. } = self;
        loop {
            // what is left of the bytes before stands in front of those that come
            buffer[..*rest_len].copy_from_slice(&rest[..*rest_len]);
            let room = buffer.len() - *rest_len;
            let count = match stream.read(&mut buffer[*rest_len..]) {
                Ok(0) => return Err(broken("the server closed the stream")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..*rest_len + count];
            let now = marker::now_ns();
            let before = tally.received;
            let kept = scanner.scan(bytes, |number, at_ns| {
                if number < *next {
                    tally.repeated += 1;
                    return;
                }
                tally.lost += number - *next;
                *next = number + 1;
                tally.received += 1;
                tally.delivery.record(now.saturating_sub(at_ns));
            });
            if tally.received > before {
                tally.last_receipt = Some(Instant::now());
            }
            *rest_len = bytes.len() - kept;
            rest[..*rest_len].copy_from_slice(&bytes[kept..]);
            // a short read has emptied the socket: what comes later is a new event (epoll(7))
            if count < room {
                return Ok(());
            }
        }
    }
}

impl Publisher {
    fn open(addr: SocketAddr, poll: &Poll, place: usize) -> std::io::Result<Publisher> {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = Token(PUBLISHERS + place);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Publisher { stream, request: Vec::new(), sent: 0, answer: Vec::new(), begun_ns: 0 })
    }

    /// Sends what is left of the request, as far as the socket takes it.
    fn write(&mut self) -> std::io::Result<()> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there. Returns whether the answer is whole now.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<bool> {
        let answer = &mut self.answer;
        read(&mut self.stream, buffer, |bytes| {
            answer.extend_from_slice(bytes);
            match answer.len() <= ANSWER_BYTES {
                true => Ok(()),
                false => Err(broken("the answer is too large")),
            }
        })?;
        let Some((end, head)) = head(answer)? else { return Ok(false) };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let length = length.ok_or_else(|| broken("the answer has no length"))?;
        if answer.len() < end + length {
            return Ok(false);
        }
        if !["HTTP/1.1 200 ", "HTTP/1.1 201 "].iter().any(|good| head.starts_with(good)) {
            let body = String::from_utf8_lossy(&answer[end..]);
            return Err(broken(format!("the server answered {}: {body}", head.lines().next().unwrap_or_default())));
        }
        answer.clear();
        Ok(true)
    }
}

/// Reads until the socket is empty.
fn read(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(broken("the server closed the connection")),
            Ok(count) => take(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
