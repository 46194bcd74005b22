//! The receiver of webhooks: a thread on the core of the load that answers each POST at once and keeps count. Each endpoint
//! has a port of its own, as receivers in the world have, so that no connection is shared between endpoints.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::failed;
use super::latency::Latencies;
use super::marker::{self, Scanner};
use crate::cli::Failure;

/// Bytes read from a connection at once, and the largest request.
const BUFFER_BYTES: usize = 64 * 1024;
const REQUEST_BYTES: usize = 1 << 20;
/// How often the thread looks whether it is to end.
const TURN: Duration = Duration::from_millis(50);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A receiver that runs until it is asked what it got.
pub struct Receiver {
    /// The address of each endpoint.
    pub addrs: Vec<SocketAddr>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Tally, Failure>>>,
}

/// What is known while it runs.
#[derive(Default)]
struct Shared {
    received: AtomicU64,
    /// Monotonic nanoseconds; 0: none yet.
    last_ns: AtomicU64,
    stopping: AtomicBool,
}

/// What arrived.
pub struct Tally {
    /// Events, each counted once for each endpoint that got it.
    pub received: u64,
    pub repeated: u64,
    /// From publish to receipt, over all endpoints.
    pub delivery: Latencies,
}

impl Receiver {
    /// Starts with so many endpoints.
    ///
    /// # Errors
    /// A socket or the thread cannot be made.
    pub fn start(endpoints: usize) -> Result<Receiver, Failure> {
        let poll = Poll::new().map_err(failed("no epoll"))?;
        let (mut listeners, mut addrs) = (Vec::new(), Vec::new());
        for place in 0..endpoints {
            let mut listener =
                TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(failed("a receiver"))?;
            poll.registry().register(&mut listener, Token(place), Interest::READABLE).map_err(failed("epoll"))?;
            addrs.push(listener.local_addr().map_err(failed("a receiver"))?);
            listeners.push(listener);
        }
        let shared = Arc::new(Shared::default());
        let serve = Serve {
            poll,
            seen: (0..endpoints).map(|_| Seen::default()).collect(),
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            scanner: Scanner::new(),
            buffer: vec![0; BUFFER_BYTES],
            shared: Arc::clone(&shared),
            tally: Tally { received: 0, repeated: 0, delivery: Latencies::new() },
        };
        let thread = std::thread::Builder::new().name("receiver".to_owned()).spawn(move || serve.run());
        let thread = Some(thread.map_err(failed("the receiver's thread"))?);
        Ok(Receiver { addrs, shared, thread })
    }

    /// Events received so far, as in [`Tally`].
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// When the last event arrived that had not come before, in monotonic nanoseconds; 0: none did.
    pub fn last_ns(&self) -> u64 {
        self.shared.last_ns.load(Ordering::Relaxed)
    }

    /// Ends it and says what arrived. Blocks.
    ///
    /// # Errors
    /// The receiver's thread failed or panicked.
    pub fn finish(mut self) -> Result<Tally, Failure> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok).unwrap_or_else(|| Err(Failure::Failed("the receiver panicked".to_owned())))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

/// The numbers of the events that an endpoint got, a bit each.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Whether this number is new.
    fn add(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

struct Connection {
    stream: TcpStream,
    endpoint: usize,
    request: Vec<u8>,
}

/// The receiver's thread.
struct Serve {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// By their tokens, which begin behind those of the listeners.
    connections: Vec<Option<Connection>>,
    /// Places of connections that have ended.
    free: Vec<usize>,
    seen: Vec<Seen>,
    scanner: Scanner,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
    tally: Tally,
}

impl Serve {
    fn run(mut self) -> Result<Tally, Failure> {
        let mut events = Events::with_capacity(1024);
        while !self.shared.stopping.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(TURN)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.map_err(failed("epoll"))?,
            }
            for event in events.iter() {
                let token = event.token().0;
                match token.checked_sub(self.listeners.len()) {
                    None => self.accept(token).map_err(failed("a connection of the server"))?,
                    Some(place) => self.serve(place),
                }
            }
        }
        Ok(self.tally)
    }

    fn accept(&mut self, endpoint: usize) -> std::io::Result<()> {
        loop {
            let mut stream = match self.listeners[endpoint].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or(self.connections.len());
            let token = Token(self.listeners.len() + place);
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            let connection = Some(Connection { stream, endpoint, request: Vec::new() });
            match self.connections.get_mut(place) {
                Some(slot) => *slot = connection,
                None => self.connections.push(connection),
            }
            // what has arrived before the registration is no new event
            self.serve(place);
        }
    }

    /// Answers what is there. A connection that has ended is forgotten; what it had not sent whole comes again on another.
    fn serve(&mut self, place: usize) {
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        match self.answer(&mut connection) {
            Ok(()) => self.connections[place] = Some(connection),
            Err(_) => self.free.push(place),
        }
    }

    fn answer(&mut self, connection: &mut Connection) -> std::io::Result<()> {
        loop {
            let count = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            connection.request.extend_from_slice(&self.buffer[..count]);
            while let Some(end) = request_end(&connection.request)? {
                self.note(connection.endpoint, &connection.request[..end]);
                connection.request.drain(..end);
                // some bytes fit into a send buffer whose last answer was read
                connection.stream.write_all(ANSWER)?;
            }
            // a short read has emptied the socket: what comes later is a new event (epoll(7))
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn note(&mut self, endpoint: usize, request: &[u8]) {
        let Serve { scanner, seen, tally, shared, .. } = self;
        let now = marker::now_ns();
        scanner.scan(request, |number, at_ns| {
            if !seen[endpoint].add(number) {
                tally.repeated += 1;
                return;
            }
            tally.received += 1;
            tally.delivery.record(now.saturating_sub(at_ns));
            shared.last_ns.store(now, Ordering::Relaxed);
        });
        shared.received.store(tally.received, Ordering::Relaxed);
    }
}

/// Where the first request ends, if it is whole. Requests have a length.
fn request_end(request: &[u8]) -> std::io::Result<Option<usize>> {
    let broken = |reason: &str| Err(std::io::Error::other(reason.to_owned()));
    let Some(head) = memchr::memmem::find(request, b"\r\n\r\n") else {
        return if request.len() > BUFFER_BYTES { broken("the request's head does not end") } else { Ok(None) };
    };
    let length = request[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        let is_length = name.eq_ignore_ascii_case(b"content-length:");
        is_length.then(|| str::from_utf8(value).ok()?.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if length <= REQUEST_BYTES => Ok(Some(head + 4 + length).filter(|end| *end <= request.len())),
        _ => broken("the request has no length, or is too large"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_request_ends_where_its_length_says() {
        let request = b"POST / HTTP/1.1\r\nhost: a\r\nCONTENT-LENGTH: 3\r\n\r\nabcPOST";
        let end = request.len() - 4;
        assert_eq!(request_end(request).unwrap(), Some(end));
        for cut in 0..end {
            assert_eq!(request_end(&request[..cut]).unwrap(), None, "{cut}");
        }
        assert!(request_end(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n").is_err());
    }

    #[test]
    fn each_endpoint_counts_an_event_once() {
        let receiver = Receiver::start(2).unwrap();
        for (endpoint, number) in [(0, 7), (1, 7), (0, 7), (0, 700)] {
            let body = marker::write(number, marker::now_ns());
            let mut stream = TcpStream::connect(receiver.addrs[endpoint]).unwrap();
            write!(stream, "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            let mut answer = vec![0; ANSWER.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, ANSWER);
        }
        assert_eq!(receiver.received(), 3);
        assert!(receiver.last_ns() > 0);
        let tally = receiver.finish().unwrap();
        assert_eq!((tally.received, tally.repeated), (3, 1));
    }
}
