//! Whose turn it is on an HTTP/1 connection: the client sends a request, or the server an answer. Each head has a deadline, a
//! largest size and a share of the memory for clients without a credential; actix-http has a deadline for the first head only,
//! which is switched off, and takes 128 KiB.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::rt::time::{Sleep, sleep_until};
use actors::metrics::{Metrics, Shed};

use super::memory::Share;
use super::order::{HeadCopy, HeaderOrder};
use super::{Bounds, HEAD_BYTES, LAST_WORDS};

/// What a client may send ahead while its request is answered: more requests.
const AHEAD_BYTES: usize = 4 * 1024;
/// After so many bytes of a head it is looked whether it is whole: what is behind it is the body, or the next request.
const LOOK_EVERY_BYTES: usize = 8 * 1024;

/// Without a body, as actix-http answers a first head that comes too late: there is no request yet whose API could say more.
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

pub struct Conversation {
    turn: Cell<Turn>,
    /// Since the turn began.
    heard: Cell<usize>,
    /// How much of that may be the rest of a body, which nobody keeps.
    rest: Cell<usize>,
    /// How much was heard when it was looked at last whether the head is whole.
    looked_at: Cell<usize>,
    /// There is no room for more of this head.
    full: Cell<bool>,
    /// An empty line was heard: the head is whole, if it was one.
    whole: Cell<bool>,
    /// It has a line that is not empty, so that the decoder either takes it or refuses it.
    has_text: Cell<bool>,
    /// How much of an empty line was heard last.
    line: Cell<Line>,
    /// The head as it came, where somebody may need the order of its lines.
    copy: RefCell<HeadCopy>,
    metrics: Arc<Metrics>,
    deadline: Cell<Option<Instant>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    share: RefCell<Share>,
    /// Whether an answer waits for the client to read.
    blocked: Cell<bool>,
    /// To be woken when the client may go on.
    waiting: RefCell<Option<Waker>>,
    /// To be woken when a request came.
    listening: RefCell<Option<Waker>>,
    /// A request came before.
    has_answered: Cell<bool>,
    request_timeout: Duration,
    body_timeout: Duration,
    /// Time for the next head, once it has begun.
    patience: Cell<Duration>,
    /// Whether it has.
    begun: Cell<bool>,
    /// For a connection without a request. actix-http ends it before; but it forgets the end of a connection that is to be
    /// closed when its own clock is late.
    idle_timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The client's, with a head, or nothing yet.
    Head,
    /// Ours. `with_body`: the client still sends.
    Answer { with_body: bool },
    /// It was refused.
    Over,
}

/// What the last bytes of a head are. Its lines end with LF, with or without CR before it (RFC 9112, 2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Text,
    /// Nothing since the line before.
    Empty,
    /// A CR since the line before.
    Cr,
}

/// Where a head and its body end in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub head: usize,
    /// Behind the head, as far as it is known how long the body is. What it leaves out has to wait for the decoder.
    pub body: usize,
}

/// What the lines of a head say about the length of its body. A guess that spares a request with a small body a turn of its
/// task; the decoder decides.
enum BodyLength {
    None,
    Bytes(usize),
    Unknown,
}

impl BodyLength {
    fn of_head_that_began(now: bool) -> BodyLength {
        if now { BodyLength::None } else { BodyLength::Unknown }
    }

    fn read(&mut self, line: &[u8]) {
        let value = |name: &[u8]| {
            let (own, value) = line.split_at_checked(name.len())?;
            own.eq_ignore_ascii_case(name).then_some(value)
        };
        if let Some(value) = value(b"content-length:") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            *self = match (&self, length) {
                (BodyLength::None, Some(length)) => BodyLength::Bytes(length),
                _ => BodyLength::Unknown,
            };
        } else if value(b"transfer-encoding:").is_some() {
            *self = BodyLength::Unknown;
        }
    }

    fn bytes(&self) -> usize {
        match self {
            BodyLength::Bytes(bytes) => *bytes,
            BodyLength::None | BodyLength::Unknown => 0,
        }
    }
}

/// Whether the client is to be listened to.
pub enum Listen {
    Now,
    /// When the decoder has looked at what there is. `decides`: it takes that or refuses it, and does not ask for more.
    Later {
        decides: bool,
    },
    /// Not any more: this is the answer.
    Refused(&'static [u8]),
}

impl Conversation {
    pub fn new(bounds: &Bounds) -> Conversation {
        Conversation {
            turn: Cell::new(Turn::Head),
            heard: Cell::new(0),
            rest: Cell::new(0),
            looked_at: Cell::new(0),
            full: Cell::new(false),
            whole: Cell::new(false),
            has_text: Cell::new(false),
            line: Cell::new(Line::Text),
            copy: RefCell::default(),
            metrics: bounds.metrics.clone(),
            // the first head is waited for from now on
            deadline: Cell::new(Some(Instant::now() + bounds.request_timeout)),
            timer: RefCell::default(),
            share: RefCell::new(Share::new(&bounds.memory)),
            blocked: Cell::new(false),
            waiting: RefCell::default(),
            listening: RefCell::default(),
            has_answered: Cell::new(false),
            request_timeout: bounds.request_timeout,
            body_timeout: bounds.body_timeout,
            patience: Cell::new(bounds.request_timeout),
            begun: Cell::new(true),
            idle_timeout: bounds.keep_alive + LAST_WORDS,
        }
    }

    pub fn is_over(&self) -> bool {
        self.turn.get() == Turn::Over
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    pub fn blocked(&self, blocked: bool) {
        self.blocked.set(blocked);
    }

    /// Whether one request was answered and nothing of the next one has come.
    pub fn is_between_requests(&self) -> bool {
        self.turn.get() == Turn::Head && self.has_answered.get() && !self.begun.get()
    }

    /// Ready while a request is answered.
    pub async fn answers(&self) {
        poll_fn(|cx| match self.turn.get() {
            Turn::Answer { .. } | Turn::Over => Poll::Ready(()),
            Turn::Head => {
                *self.listening.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
    }

    /// To be asked before more is read.
    pub fn listen(&self) -> Listen {
        match self.turn.get() {
            Turn::Head => {
                let news = self.heard.get() - self.looked_at.get();
                if news >= LOOK_EVERY_BYTES || (self.full.get() || self.whole.get()) && news > 0 {
                    // the decoder gets to see what there is, and begins our turn if the head is whole
                    self.looked_at.set(self.heard.get());
                    return Listen::Later { decides: self.whole.replace(false) && self.has_text.get() };
                }
                if self.full.get() { Listen::Refused(TOO_LARGE) } else { Listen::Now }
            }
            Turn::Answer { .. } | Turn::Over => Listen::Now,
        }
    }

    /// Whether a request is answered that has no body, so that all that comes is for later.
    pub fn answers_alone(&self) -> bool {
        self.turn.get() == Turn::Answer { with_body: false }
    }

    /// Wakes the task when it is the client's turn.
    pub fn wait(&self, cx: &mut Context<'_>) {
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
    }

    /// How these bytes are to be cut: what belongs to the head that is being received, then what belongs to its body.
    pub fn cut(&self, bytes: &[u8]) -> Cut {
        let all = Cut { head: bytes.len(), body: 0 };
        if self.turn.get() != Turn::Head {
            return all;
        }
        // only a head that came in one piece is looked through for the length of its body
        let mut body = BodyLength::of_head_that_began(self.heard.get() == 0);
        let (mut line, mut from) = (self.line.get(), 0);
        for end in memchr::memchr_iter(b'\n', bytes) {
            let text = &bytes[from..end];
            let is_empty = match line {
                Line::Text => false,
                Line::Empty => matches!(text, b"" | b"\r"),
                Line::Cr => text.is_empty(),
            };
            if is_empty {
                self.line.set(Line::Text);
                self.whole.set(true);
                let behind = bytes.len() - end - 1;
                return Cut { head: end + 1, body: body.bytes().min(behind) };
            }
            self.has_text.set(self.has_text.get() || !matches!(text, b"" | b"\r"));
            body.read(text);
            (line, from) = (Line::Empty, end + 1);
        }
        self.line.set(match (line, &bytes[from..]) {
            (line, b"") => line,
            (Line::Empty, b"\r") => Line::Cr,
            _ => Line::Text,
        });
        all
    }

    /// These bytes belong to the head that is being received, up to its empty line at most.
    pub fn keep(&self, bytes: &[u8]) {
        if self.turn.get() != Turn::Head {
            return;
        }
        let mut copy = self.copy.borrow_mut();
        let added = copy.add(bytes, self.rest.get() == 0, self.whole.get());
        if !self.share.borrow_mut().take(added) {
            // the request is worth more than the order of its headers
            copy.forget();
        }
    }

    /// Most that is to be read at once; a head in small parts, so that it is seen when it becomes too large.
    pub fn part_bytes(&self) -> Option<usize> {
        match self.turn.get() {
            Turn::Head => {
                let until_look = LOOK_EVERY_BYTES.saturating_sub(self.heard.get() - self.looked_at.get());
                let until_full = self.rest.get().saturating_add(HEAD_BYTES + 1).saturating_sub(self.heard.get());
                Some(until_look.min(until_full).max(1))
            }
            Turn::Answer { with_body: false } => Some(AHEAD_BYTES),
            Turn::Answer { with_body: true } | Turn::Over => None,
        }
    }

    /// The client said this many bytes.
    pub fn heard(&self, bytes: usize) {
        let before = self.heard.get();
        let now = before.saturating_add(bytes);
        self.heard.set(now);
        if self.turn.get() != Turn::Head || bytes == 0 {
            return;
        }
        self.begin();
        let rest = self.rest.get();
        let of_head = now.saturating_sub(before.max(rest));
        let fits = now.saturating_sub(rest) <= HEAD_BYTES && self.share.borrow_mut().take(of_head);
        self.full.set(!fits);
    }

    /// The next head, or what is left of a body, has begun.
    fn begin(&self) {
        if !self.begun.replace(true) {
            self.deadline.set(Some(Instant::now() + self.patience.get()));
        }
    }

    /// The client says nothing for now: whether it has taken too long over its head.
    pub fn poll_patience(&self, cx: &mut Context<'_>) -> Listen {
        let (Turn::Head, Some(deadline)) = (self.turn.get(), self.deadline.get()) else { return Listen::Now };
        match self.poll_until(deadline, cx) {
            Poll::Ready(()) if self.begun.get() && self.rest.get() == 0 => Listen::Refused(TOO_SLOW),
            // everything is said
            Poll::Ready(()) => Listen::Refused(b""),
            Poll::Pending => Listen::Now,
        }
    }

    fn poll_until(&self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
        if timer.deadline() != deadline.into() {
            timer.as_mut().reset(deadline.into());
        }
        timer.as_mut().poll(cx)
    }

    /// The client was refused with this answer, and is not listened to any more.
    pub fn end(&self, answer: &[u8]) {
        if !answer.is_empty() {
            self.metrics.shed(Shed::Head);
        }
        self.turn.set(Turn::Over);
        self.give_back();
        self.deadline.set(Some(Instant::now() + LAST_WORDS));
    }

    /// Ready when the client has had the time to read why.
    pub fn poll_last_words(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_until(self.deadline.get().unwrap_or_else(Instant::now), cx)
    }

    fn give_back(&self) {
        self.share.borrow_mut().give_all_back();
    }

    /// A request came whole, up to its body of at most this length. Answers the order of its headers, where it was kept.
    pub fn answering(&self, body: usize) -> Option<HeaderOrder> {
        if self.is_over() {
            return None;
        }
        let order = self.copy.borrow_mut().take();
        self.turn.set(Turn::Answer { with_body: body > 0 });
        self.heard.set(0);
        self.looked_at.set(0);
        self.full.set(false);
        self.whole.set(false);
        self.has_text.set(false);
        self.line.set(Line::Text);
        self.rest.set(body);
        self.patience.set(if body > 0 { self.body_timeout } else { self.request_timeout });
        self.deadline.set(None);
        self.begun.set(false);
        self.give_back();
        self.has_answered.set(true);
        if let Some(waker) = self.listening.borrow_mut().take() {
            waker.wake();
        }
        order
    }

    /// It was answered. What is left of its body may still come before the next head.
    pub fn answered(&self) {
        if self.is_over() {
            return;
        }
        self.turn.set(Turn::Head);
        self.heard.set(0);
        self.deadline.set(Some(Instant::now() + self.idle_timeout));
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::transport::SharedMemory;

    fn conversation() -> Conversation {
        let second = Duration::from_secs(1);
        Conversation::new(&Bounds {
            request_timeout: second,
            body_timeout: second,
            keep_alive: second,
            stall_timeout: second,
            h2_streams: 1,
            memory: Arc::new(SharedMemory::new(0)),
            metrics: Arc::default(),
        })
    }

    #[test]
    fn a_small_body_goes_with_its_head_and_what_is_behind_it_waits() {
        for (text, head, body) in [
            ("GET / HTTP/1.1\r\n\r\nGET", 18, 0),
            ("POST / HTTP/1.1\r\ncontent-length:3\r\n\r\nabc", 37, 3),
            ("POST / HTTP/1.1\r\nContent-Length: 3 \r\nHost: a\r\n\r\nabcPOST", 48, 3),
            ("POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nabc", 39, 3),
            ("POST / HTTP/1.1\nContent-Length: 3\n\nabcd", 35, 3),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 57, 0),
            ("POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc", 39, 0),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 66, 0),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 66, 0),
        ] {
            assert_eq!(conversation().cut(text.as_bytes()), Cut { head, body }, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_head_ends_at_its_first_empty_line_however_it_comes(text in "[ab\r\n]{0,24}", at in 0usize..24) {
            let bytes = text.as_bytes();
            let empty_line = |n: &usize| {
                let before = &bytes[..*n];
                let line = before.strip_suffix(b"\n").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest));
                line.is_some_and(|rest| rest.ends_with(b"\n"))
            };
            let expected = (1..=bytes.len()).find(empty_line).unwrap_or(bytes.len());
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let conversation = conversation();
            let mut head = conversation.cut(first).head;
            if head == first.len() && !conversation.whole.get() {
                head += conversation.cut(second).head;
            }
            prop_assert_eq!(head, expected);
        }
    }
}
