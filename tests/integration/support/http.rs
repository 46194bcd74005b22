//! HTTP/1.1 over a plain socket, so that a test can send what no proper client would.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::document::{Asked, judge};
use super::socket;

/// Longest silence of the server within an answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Request {
    addr: SocketAddr,
    head: String,
    body: Vec<u8>,
    /// Whether Content-Length is written for the test.
    framed: bool,
    judged: bool,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(addr: SocketAddr, method: &str, target: &str) -> Request {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {addr}\r\n");
        Request { addr, head, body: Vec::new(), framed: !matches!(method, "GET" | "HEAD"), judged: true }
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn bearer(self, token: &str) -> Request {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn json(self, body: &Value) -> Request {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self.framed = true;
        self
    }

    /// What is sent and answered is a sender's and its owner's own, of which no document says anything.
    pub fn undescribed(self) -> Request {
        Request { judged: false, ..self }
    }

    /// A body whose length is not said in advance (RFC 9112, 7.1).
    pub fn chunked(mut self, body: &[u8]) -> Request {
        self = self.header("Transfer-Encoding", "chunked");
        self.body = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        self.framed = false;
        self
    }

    fn write(&self, extra: &str) -> io::Result<BufReader<TcpStream>> {
        let mut stream = socket::connect(self.addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let length = if self.framed { format!("Content-Length: {}\r\n", self.body.len()) } else { String::new() };
        stream.write_all(format!("{}{length}{extra}\r\n", self.head).as_bytes())?;
        // a server that refuses a body by its head may close before it has read all of it; its answer counts
        let _ = stream.write_all(&self.body);
        Ok(BufReader::new(stream))
    }

    /// The whole answer; an error when the server is not there or goes away meanwhile.
    pub fn try_send(self) -> io::Result<Answer> {
        let stream = self.write("Connection: close\r\n")?;
        let answer = read_answer(stream, self.head.starts_with("HEAD "))?;
        self.judge(&answer, true);
        Ok(answer)
    }

    /// Announces a body of this length and sends only its beginning.
    pub fn unfinished(mut self, length: usize, beginning: &[u8]) -> Unfinished {
        self = self.header("Content-Length", &length.to_string());
        self.body = beginning.into();
        self.framed = false;
        Unfinished(self.write("").expect("the server takes the beginning"))
    }

    /// Holds the answer against the API document.
    fn judge(&self, answer: &Answer, whole: bool) {
        if !self.judged {
            return;
        }
        if answer.header("content-encoding") == Some("gzip") {
            let (status, headers, mut body) = (answer.status, answer.headers.clone(), Vec::new());
            flate2::read::GzDecoder::new(&*answer.body).read_to_end(&mut body).expect("it is gzip");
            let headers = headers.into_iter().filter(|(name, _)| name != "content-encoding").collect();
            return self.judge(&Answer { status, headers, body }, whole);
        }
        let mut words = self.head.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let content_type = self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then(|| value.trim())
        });
        judge(&Asked { method, target, content_type, body: &self.body }, answer, whole);
    }

    /// The whole answer of a server that must be there.
    pub fn send(self) -> Answer {
        let line = self.head.lines().next().unwrap_or_default().to_string();
        self.try_send().unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    /// Leaves the answer's body open, for streams.
    pub fn open(self) -> io::Result<(Answer, Chunks)> {
        let mut stream = self.write("")?;
        let (status, headers) = read_head(&mut stream)?;
        let answer = Answer { status, headers, body: Vec::new() };
        self.judge(&answer, false);
        Ok((answer, Chunks::new(stream)))
    }

    /// Asks for a WebSocket: the answer, whole unless it is 101, and the connection behind its head.
    pub fn upgrade(self) -> io::Result<(Answer, BufReader<TcpStream>)> {
        let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut stream = self.write(handshake)?;
        let (status, headers) = read_head(&mut stream)?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status == 101 {
            // the accept key of RFC 6455, 1.3, for its sample nonce
            assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        } else if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().map_err(io::Error::other)?];
            stream.read_exact(&mut answer.body)?;
        }
        Ok((answer, stream))
    }

    /// The connection after the request was written and before anything is read.
    pub fn connect(self) -> TcpStream {
        self.write("").expect("the server takes the request").into_inner()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}: {:?}", self.status, self.text()))
    }

    /// The JSON body of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The status and the code must be these, in body B. Returns what stands in `error`.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        let error = &body["error"];
        let has_sentence = error["message"].as_str().is_some_and(|text| !text.is_empty());
        assert!(
            error["code"] == code && has_sentence && body.as_object().is_some_and(|b| b.len() == 1),
            "{code}: {body}"
        );
        error.clone()
    }

    /// The error's sentence, code and status must be these, in body A.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str, sentence: &str) {
        let body = self.expect(status);
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.into()), "{body}");
        assert_eq!(body["error"], sentence, "{body}");
    }
}

/// A request whose body has not come to its end.
pub struct Unfinished(BufReader<TcpStream>);

impl Unfinished {
    /// What the server answers to what it has got.
    #[track_caller]
    pub fn answer(self) -> Answer {
        read_answer(self.0, false).expect("the server answers")
    }
}

fn read_answer(mut stream: BufReader<TcpStream>, is_head: bool) -> io::Result<Answer> {
    let (status, headers) = read_head(&mut stream)?;
    let mut answer = Answer { status, headers, body: Vec::new() };
    if is_head || matches!(status, 204 | 304) {
        return Ok(answer);
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        Chunks::new(stream).read_to_end(&mut answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        answer.body = vec![0; length.parse().map_err(io::Error::other)?];
        stream.read_exact(&mut answer.body)?;
    } else {
        stream.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.by_ref().take(16 * 1024).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix("\r\n").ok_or_else(|| io::Error::other(format!("no CRLF: {line:?}")))?;
    Ok(line.to_string())
}

fn read_head(stream: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let line = read_line(stream)?;
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            return if line.is_empty() { Ok((status, headers)) } else { Err(io::Error::other(line)) };
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
}

/// A body in chunks (RFC 9112, 7.1), taken apart as it comes. Ends where the body ends.
pub struct Chunks {
    stream: BufReader<TcpStream>,
    left: usize,
    ended: bool,
}

impl Chunks {
    fn new(stream: BufReader<TcpStream>) -> Chunks {
        Chunks { stream, left: 0, ended: false }
    }

    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            let line = read_line(&mut self.stream)?;
            self.left =
                usize::from_str_radix(&line, 16).map_err(|_| io::Error::other(format!("no chunk: {line:?}")))?;
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let most = into.len().min(self.left);
        let read = self.stream.read(&mut into[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        if self.left == 0 && !read_line(&mut self.stream)?.is_empty() {
            return Err(io::Error::other("a chunk without its CRLF"));
        }
        Ok(read)
    }
}
