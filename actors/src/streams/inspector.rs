//! Checks what a client sends on a WebSocket byte by byte as it comes in (RFC 6455, section 5), before anything of it is
//! kept: a frame that is too long is refused by its header, text that is not UTF-8 by its first wrong byte. What
//! passes here is well formed, so the codec behind it holds no more than one frame within the limits.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::error::PayloadError;
use actix_http::ws::CloseCode;
use bytes::Bytes;
use futures_util::Stream;

/// The most that a client may send at once.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    pub frame_bytes: usize,
    /// All fragments of a message together.
    pub message_bytes: usize,
}

/// Which rule a client has broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A rule of framing.
    Protocol(&'static str),
    /// Text, or the reason of a close, is not UTF-8.
    NotUtf8,
    TooLarge,
}

impl Violation {
    /// The code and reason with which the session ends (RFC 6455, 7.4.1).
    pub fn close(self) -> (CloseCode, &'static str) {
        match self {
            Violation::Protocol(reason) => (CloseCode::Protocol, reason),
            Violation::NotUtf8 => (CloseCode::Invalid, "the text is not UTF-8"),
            Violation::TooLarge => (CloseCode::Size, "the frame or message is too large"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Binary,
    Close,
    Ping,
}

impl Kind {
    fn is_control(self) -> bool {
        matches!(self, Kind::Close | Kind::Ping)
    }
}

/// The payload of a frame, as far as it has come.
#[derive(Clone, Copy, Debug)]
struct Payload {
    kind: Kind,
    /// The last frame of its message.
    is_last: bool,
    length: usize,
    seen: usize,
    mask: [u8; 4],
}

#[derive(Debug)]
enum At {
    Header,
    Payload(Payload),
    /// The client has sent a close: what follows is ignored.
    Closed,
}

/// How far one client's bytes were read.
#[derive(Debug)]
struct Inspector {
    limits: ClientLimits,
    at: At,
    /// The header, as far as it has come: two bytes, up to eight of length, four of the mask.
    header: [u8; 14],
    header_seen: usize,
    /// The message whose fragments are coming, and its bytes so far.
    message: Option<(Kind, usize)>,
    text: Utf8,
    reason: Utf8,
    close_code: u16,
}

impl Inspector {
    fn new(limits: ClientLimits) -> Inspector {
        Inspector {
            limits,
            at: At::Header,
            header: [0; 14],
            header_seen: 0,
            message: None,
            text: Utf8::default(),
            reason: Utf8::default(),
            close_code: 0,
        }
    }

    /// Takes what came. When a rule is broken: how many of these bytes are complete frames before the broken one.
    fn take(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut complete = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.byte(*byte).map_err(|violation| (complete, violation))? {
                complete = at + 1;
            }
        }
        Ok(())
    }

    /// Takes a byte and says whether a frame ends with it.
    fn byte(&mut self, byte: u8) -> Result<bool, Violation> {
        match &mut self.at {
            At::Closed => Ok(false),
            At::Header => {
                self.header[self.header_seen] = byte;
                self.header_seen += 1;
                self.read_header()
            }
            At::Payload(payload) => {
                let clear = byte ^ payload.mask[payload.seen % 4];
                payload.seen += 1;
                let payload = *payload;
                self.read_payload(payload, clear)?;
                if payload.seen < payload.length { Ok(false) } else { self.end_frame(payload).map(|()| true) }
            }
        }
    }

    fn read_header(&mut self) -> Result<bool, Violation> {
        if self.header_seen == 2 {
            self.check_first_bytes()?;
        }
        let [_, second, ..] = self.header;
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let complete = 2 + wide + 4;
        if self.header_seen < 2 || self.header_seen < complete {
            return Ok(false);
        }
        let length = match wide {
            0 => u64::from(second & 0x7f),
            wide => self.header[2..2 + wide].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if length >> 63 != 0 {
            return Err(Violation::Protocol("a length has 63 bits"));
        }
        let length = usize::try_from(length).map_err(|_| Violation::TooLarge)?;
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.header[complete - 4..complete]);
        self.header_seen = 0;
        self.begin_frame(length, mask)
    }

    /// Checks what the first two bytes say.
    fn check_first_bytes(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let wrong = |reason| Err(Violation::Protocol(reason));
        if first & 0x70 != 0 {
            return wrong("reserved bits are set");
        }
        if second & 0x80 == 0 {
            return wrong("frames of a client are masked");
        }
        let is_fragment = first & 0x80 == 0;
        match first & 0x0f {
            0 if self.message.is_none() => wrong("there is no message to continue"),
            1 | 2 if self.message.is_some() => wrong("the message before has not ended"),
            0..=2 => Ok(()),
            8..=10 if is_fragment => wrong("control frames are not fragmented"),
            8..=10 if second & 0x7f > 125 => wrong("control frames have at most 125 bytes"),
            8 if second & 0x7f == 1 => wrong("a close has a code of two bytes, or nothing"),
            8..=10 => Ok(()),
            _ => wrong("the opcode is not known"),
        }
    }

    fn begin_frame(&mut self, length: usize, mask: [u8; 4]) -> Result<bool, Violation> {
        let first = self.header[0];
        let kind = match (first & 0x0f, self.message) {
            (0, Some((kind, _))) => kind,
            (1, _) => Kind::Text,
            (8, _) => Kind::Close,
            (9 | 10, _) => Kind::Ping,
            _ => Kind::Binary,
        };
        if !kind.is_control() {
            let before = self.message.map_or(0, |(_, bytes)| bytes);
            let bytes = before.saturating_add(length);
            if length > self.limits.frame_bytes || bytes > self.limits.message_bytes {
                return Err(Violation::TooLarge);
            }
            self.message = Some((kind, bytes));
        }
        let payload = Payload { kind, is_last: first & 0x80 != 0, length, seen: 0, mask };
        if length == 0 {
            return self.end_frame(payload).map(|()| true);
        }
        self.at = At::Payload(payload);
        Ok(false)
    }

    /// Takes the byte that makes `payload.seen`.
    fn read_payload(&mut self, payload: Payload, byte: u8) -> Result<(), Violation> {
        let is_utf8 = match (payload.kind, payload.seen) {
            (Kind::Text, _) => self.text.take(byte),
            (Kind::Close, 1 | 2) => {
                self.close_code = self.close_code << 8 | u16::from(byte);
                if payload.seen == 2 && !may_be_sent(self.close_code) {
                    return Err(Violation::Protocol("the code of the close must not be sent"));
                }
                true
            }
            (Kind::Close, _) => self.reason.take(byte),
            (Kind::Binary | Kind::Ping, _) => true,
        };
        if is_utf8 { Ok(()) } else { Err(Violation::NotUtf8) }
    }

    fn end_frame(&mut self, payload: Payload) -> Result<(), Violation> {
        self.at = At::Header;
        match payload.kind {
            Kind::Ping => {}
            Kind::Close if !self.reason.is_complete() => return Err(Violation::NotUtf8),
            Kind::Close => self.at = At::Closed,
            Kind::Text if payload.is_last && !self.text.is_complete() => return Err(Violation::NotUtf8),
            Kind::Text | Kind::Binary if payload.is_last => self.message = None,
            Kind::Text | Kind::Binary => {}
        }
        Ok(())
    }
}

/// Whether a code may stand in a close frame (RFC 6455, 7.4, and the registry of IANA).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whether bytes are UTF-8 so far (the decoder of WHATWG Encoding 8.1.1, without its output).
#[derive(Debug)]
struct Utf8 {
    /// Bytes that are still to come of a character, and the range in which the next one lies.
    needed: u8,
    lower: u8,
    upper: u8,
}

impl Default for Utf8 {
    fn default() -> Utf8 {
        Utf8 { needed: 0, lower: 0x80, upper: 0xbf }
    }
}

impl Utf8 {
    fn take(&mut self, byte: u8) -> bool {
        if self.needed > 0 {
            let fits = (self.lower..=self.upper).contains(&byte);
            *self = Utf8 { needed: self.needed - 1, ..Utf8::default() };
            return fits;
        }
        (self.needed, self.lower, self.upper) = match byte {
            0..=0x7f => return true,
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return false,
        };
        true
    }

    fn is_complete(&self) -> bool {
        self.needed == 0
    }
}

/// Which rule the client's bytes broke, once they have ended; none when the connection ended.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Rc<Cell<Option<Violation>>>);

impl Verdict {
    pub fn get(&self) -> Option<Violation> {
        self.0.get()
    }
}

/// The bytes of a client, which end before the first frame that breaks a rule.
pub struct Inspected<S> {
    bytes: S,
    inspector: Inspector,
    verdict: Verdict,
}

impl<S> Inspected<S> {
    pub fn new(bytes: S, limits: ClientLimits) -> (Inspected<S>, Verdict) {
        let verdict = Verdict::default();
        (Inspected { bytes, inspector: Inspector::new(limits), verdict: verdict.clone() }, verdict)
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Inspected<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.verdict.get().is_some() {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.bytes).poll_next(cx)) {
            Some(Ok(mut bytes)) => {
                if let Err((complete, violation)) = self.inspector.take(&bytes) {
                    self.verdict.0.set(Some(violation));
                    bytes.truncate(complete);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            end => Poll::Ready(end),
        }
    }
}

#[cfg(test)]
mod tests;
