//! A WebSocket client that sends what no proper one would: single frames, byte by byte (RFC 6455, section 5).

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::http::Request;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
/// The last frame of its message.
pub const FIN: u8 = 0x80;

pub struct RawWs {
    stream: BufReader<TcpStream>,
}

/// A masked frame; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(first, payload.len() as u64);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The header of a masked frame of this length.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut out = vec![first];
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(MASK);
    out
}

/// A close frame as a client sends it.
pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

impl RawWs {
    /// Opens the WebSocket of the request and reads the frame `connected`.
    #[track_caller]
    pub fn open(request: Request) -> RawWs {
        let (answer, stream) = request.upgrade().expect("an answer");
        assert_eq!(answer.status, 101, "{}", String::from_utf8_lossy(&answer.body));
        let mut ws = RawWs { stream };
        let (first, payload) = ws.frame().expect("a frame").expect("a first frame");
        let text = String::from_utf8(payload).expect("UTF-8");
        assert!(first == FIN | TEXT && text.starts_with("{\"event\":\"connected\""), "{first:x} {text}");
        ws
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the bytes are sent");
    }

    /// The first byte and the payload of the next frame; none at the end.
    pub fn frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 2];
        match self.stream.read_exact(&mut head) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let length = match head[1] {
            126 => {
                let mut wide = [0; 2];
                self.stream.read_exact(&mut wide)?;
                u64::from(u16::from_be_bytes(wide))
            }
            127 => {
                let mut wide = [0; 8];
                self.stream.read_exact(&mut wide)?;
                u64::from_be_bytes(wide)
            }
            masked if masked > 127 => return Err(io::Error::other("a server masks nothing")),
            length => u64::from(length),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Some((head[0], payload)))
    }

    #[track_caller]
    pub fn expect(&mut self, first: u8, payload: &[u8]) {
        assert_eq!(self.frame().expect("a frame"), Some((first, payload.to_vec())));
    }

    /// Reads to the close frame, behind which the connection must end, whatever the client does: its code, if it has one,
    /// and reason.
    #[track_caller]
    pub fn end(mut self) -> (Option<u16>, String) {
        loop {
            let (first, payload) = self.frame().expect("a frame").expect("a close frame comes before the end");
            if first != FIN | CLOSE {
                continue;
            }
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            let reason = String::from_utf8(payload.get(2..).unwrap_or_default().to_vec()).expect("UTF-8");
            self.stream.get_ref().set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout can be set");
            match self.frame() {
                Ok(None) => return (code, reason),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return (code, reason),
                more => panic!("{more:?} after the close frame"),
            }
        }
    }
}
