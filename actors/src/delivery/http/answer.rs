//! Reads the answer to one request from the bytes of a connection, however these are cut (RFC 9112, RFC 9110).
//!
//! Interim answers are skipped (RFC 9110, 15.2). It says where the final one ends, and whether the connection can carry
//! another request after it. It does no I/O: bytes come in, parts of the answer go out.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};

use crate::delivery::http::body::{BadChunk, Body};
use crate::delivery::http::headers::Headers;
use crate::delivery::outcome::{HEADERS_KEPT, HEADERS_KEPT_BYTES};

/// Most bytes of one head, its status line and its empty line included.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Most header lines of one head.
pub const HEAD_LINES: usize = 256;
/// Most interim answers before the final one.
pub const INTERIMS: u32 = 20;

/// What every answer begins with.
const BEGINNING: &[u8] = b"HTTP/1.";
const SWITCHING_PROTOCOLS: u16 = 101;
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;

/// The head of the final answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The first headers, at most [`HEADERS_KEPT`].
    pub(super) headers: Headers,
    /// The value of `Retry-After`.
    pub(super) retry_after: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Head(Head),
    /// Bytes of the body, without what frames them.
    Body(&'a [u8]),
    End,
}

/// Why an answer cannot be read any further. The connection is to be closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("the answer is not HTTP/1.1: {0}")]
    NotHttp(String),
    #[error("the response's head is longer than {HEAD_BYTES} bytes")]
    LongHead,
    #[error("the response's head has more than {HEAD_LINES} lines")]
    ManyLines,
    #[error("more than {INTERIMS} interim answers came before the final one")]
    ManyInterims,
    #[error("the answer is not HTTP/1.1: its Content-Length cannot be right: {0}")]
    Length(String),
    #[error(transparent)]
    Chunk(#[from] BadChunk),
}

/// How a connection's end leaves its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// The final answer ended here, or before.
    Whole,
    /// Within the body.
    Cut,
    /// Before the final answer's head was whole.
    NoAnswer,
}

enum Stage {
    Head,
    Body(Body),
    Ended,
}

pub(super) struct AnswerReader {
    stage: Stage,
    /// A head of which the end has not come yet.
    head: Vec<u8>,
    /// Empty lines before a head (RFC 9112, 2.2), which are skipped.
    blank: usize,
    interims: u32,
    persists: bool,
    /// The answer has no body, whatever it says of one.
    is_to_head: bool,
}

impl AnswerReader {
    #[cfg(test)]
    pub(super) fn new() -> AnswerReader {
        AnswerReader::to(false)
    }

    /// `is_head`: of the answer to a HEAD.
    pub(super) fn to(is_head: bool) -> AnswerReader {
        AnswerReader {
            stage: Stage::Head,
            head: Vec::new(),
            blank: 0,
            interims: 0,
            persists: false,
            is_to_head: is_head,
        }
    }

    /// Takes the next part from the input; none when it is used up. After the end it takes nothing more: what is left
    /// of the input then belongs to no answer.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, BadAnswer> {
        match &mut self.stage {
            Stage::Head => match self.read_head(input)? {
                Some((head, body)) => {
                    self.stage = Stage::Body(body);
                    Ok(Some(Part::Head(head)))
                }
                None => Ok(None),
            },
            Stage::Body(body) if body.is_over() => {
                self.stage = Stage::Ended;
                Ok(Some(Part::End))
            }
            Stage::Body(body) => match body.next(input)? {
                Some(bytes) => Ok(Some(Part::Body(bytes))),
                None if body.is_over() => self.next(input),
                None => Ok(None),
            },
            Stage::Ended => Ok(None),
        }
    }

    /// What it means that no byte follows.
    pub(super) fn at_end(&self) -> AtEnd {
        match &self.stage {
            Stage::Head => AtEnd::NoAnswer,
            Stage::Body(body) if body.is_over() || body.ends_with_connection() => AtEnd::Whole,
            Stage::Body(_) => AtEnd::Cut,
            Stage::Ended => AtEnd::Whole,
        }
    }

    /// The final answer is whole, and it lets the connection be used again (RFC 9112, 9.3).
    pub(super) fn persists(&self) -> bool {
        matches!(self.stage, Stage::Ended) && self.persists
    }

    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<(Head, Body)>, BadAnswer> {
        loop {
            if self.head.is_empty() {
                self.skip_blank(input)?;
                if input.is_empty() {
                    return Ok(None);
                }
            }
            let parsed = if self.head.is_empty()
                && let Some(end) = head_end(input, 0)
            {
                let (head, rest) = input.split_at(end);
                *input = rest;
                parse(head)?
            } else {
                let looked = self.head.len();
                let room = HEAD_BYTES.saturating_sub(looked).min(input.len());
                self.head.extend_from_slice(&input[..room]);
                check_beginning(&self.head)?;
                // the end may have begun with the last bytes of what came before
                let Some(end) = head_end(&self.head, looked.saturating_sub(3)) else {
                    if self.head.len() == HEAD_BYTES {
                        return Err(BadAnswer::LongHead);
                    }
                    *input = &[];
                    return Ok(None);
                };
                *input = &input[end - looked..];
                let parsed = parse(&self.head[..end])?;
                self.head = Vec::new();
                parsed
            };
            match parsed {
                Parsed::Interim => {
                    self.interims += 1;
                    if self.interims > INTERIMS {
                        return Err(BadAnswer::ManyInterims);
                    }
                }
                Parsed::Final { head, body, persists } => {
                    self.persists = persists;
                    let body = if self.is_to_head { Body::sized(0) } else { body };
                    return Ok(Some((head, body)));
                }
            }
        }
    }

    fn skip_blank(&mut self, input: &mut &[u8]) -> Result<(), BadAnswer> {
        let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        *input = &input[blank..];
        self.blank += blank;
        if self.blank > HEAD_BYTES { Err(BadAnswer::LongHead) } else { Ok(()) }
    }
}

/// Where the first empty line ends, looked for from a position on. A line ends with LF, with or without CR before it.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1).filter(|end| *end <= HEAD_BYTES),
            [b'\r', b'\n', ..] => return Some(at + 2).filter(|end| *end <= HEAD_BYTES),
            _ => {}
        }
    }
    None
}

/// Says at once that something else than HTTP/1.1 answers, for which there may be no empty line to wait for.
fn check_beginning(head: &[u8]) -> Result<(), BadAnswer> {
    let length = head.len().min(BEGINNING.len());
    match head[..length] == BEGINNING[..length] {
        true => Ok(()),
        false => Err(BadAnswer::NotHttp("it does not begin with HTTP/1.".to_owned())),
    }
}

enum Parsed {
    Interim,
    Final { head: Head, body: Body, persists: bool },
}

/// Reads a whole head.
fn parse(bytes: &[u8]) -> Result<Parsed, BadAnswer> {
    check_beginning(bytes)?;
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEAD_LINES];
    let mut response = Response::new(&mut []);
    let mut config = ParserConfig::default();
    // as curl and browsers read them; a folded line is one value with a space in it (RFC 9112, 5.2)
    config.allow_spaces_after_header_name_in_responses(true).allow_obsolete_multiline_headers_in_responses(true);
    match config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err(BadAnswer::NotHttp("its head is cut".to_owned())),
        Err(httparse::Error::TooManyHeaders) => return Err(BadAnswer::ManyLines),
        Err(error) => return Err(BadAnswer::NotHttp(error.to_string())),
    }
    let status = response.code.unwrap_or_default();
    match status {
        100..200 if status != SWITCHING_PROTOCOLS => return Ok(Parsed::Interim),
        100..=999 => {}
        _ => return Err(BadAnswer::NotHttp(format!("{status:03} is no status"))),
    }
    let framing = Framing::of(response.headers, response.version == Some(0))?;
    let (body, sound) = framing.body(status);
    let persists = sound && framing.persists && status != SWITCHING_PROTOCOLS;
    Ok(Parsed::Final { head: head(status, response.headers), body, persists })
}

fn head(status: u16, all: &[Header<'_>]) -> Head {
    let mut room = HEADERS_KEPT_BYTES;
    let mut headers = Headers::default();
    for header in all.iter().take(HEADERS_KEPT) {
        let value = String::from_utf8_lossy(header.value);
        let Some(left) = room.checked_sub(header.name.len() + value.len()) else { break };
        room = left;
        headers.push_lowercase(header.name, &value);
    }
    headers.shrink();
    let asked = all.iter().find(|header| header.name.eq_ignore_ascii_case("retry-after"));
    let retry_after = asked.and_then(|header| str::from_utf8(header.value).ok()).map(str::to_owned);
    Head { status, headers, retry_after }
}

/// What the headers say about where the body ends and what becomes of the connection.
struct Framing {
    length: Option<u64>,
    /// `Transfer-Encoding` is there; true if `chunked` is the last of its codings.
    chunked: Option<bool>,
    is_http_10: bool,
    persists: bool,
}

impl Framing {
    fn of(headers: &[Header<'_>], is_http_10: bool) -> Result<Framing, BadAnswer> {
        let mut framing = Framing { length: None, chunked: None, is_http_10, persists: false };
        let (mut close, mut keep_alive) = (false, false);
        for header in headers {
            let name = header.name;
            if name.eq_ignore_ascii_case("content-length") {
                framing.add_length(header.value)?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                for coding in elements(header.value) {
                    // the coding that changes nothing, of RFC 2616
                    if !coding.eq_ignore_ascii_case(b"identity") {
                        framing.chunked = Some(coding.eq_ignore_ascii_case(b"chunked"));
                    }
                }
            } else if name.eq_ignore_ascii_case("connection") {
                for option in elements(header.value) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        framing.persists = !close && (!is_http_10 || keep_alive);
        Ok(framing)
    }

    /// Several lengths have to be the same one (RFC 9112, 6.3).
    fn add_length(&mut self, value: &[u8]) -> Result<(), BadAnswer> {
        let bad = || BadAnswer::Length(String::from_utf8_lossy(value).into_owned());
        for text in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(bad());
            }
            self.length = Some(length);
        }
        Ok(())
    }

    /// The body (RFC 9112, 6.3), and whether one can be sure that the connection goes on behind it.
    fn body(&self, status: u16) -> (Body, bool) {
        let announced = self.chunked.is_some() || self.length.is_some_and(|length| length > 0);
        match (self.chunked, self.length) {
            // A length is that of the body which another request would get; elsewhere a body may follow all the same.
            _ if status == NOT_MODIFIED => (Body::sized(0), true),
            _ if status == NO_CONTENT || status == SWITCHING_PROTOCOLS => (Body::sized(0), !announced),
            // not to be believed (RFC 9112, 6.1)
            (Some(_), _) if self.is_http_10 => (Body::to_the_end(), false),
            (Some(true), length) => (Body::chunked(), length.is_none()),
            (Some(false), _) => (Body::to_the_end(), false),
            (None, Some(length)) => (Body::sized(length), true),
            (None, None) => (Body::to_the_end(), false),
        }
    }
}

/// The elements of a list (RFC 9110, 5.6.1), without their parameters.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bare = value.split(|byte| *byte == b',').filter_map(|element| element.split(|byte| *byte == b';').next());
    bare.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
