//! A reader of SSE that takes nothing but the form that is promised: LF, one space after each colon, one line of data,
//! nothing but comments without data. What a lenient browser would overlook is an error here.

use std::io::{self, BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Answer, Chunks, Request};

/// One frame as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub event: Option<String>,
    pub id: Option<String>,
    pub retry: Option<String>,
    pub data: String,
    /// The text of a frame that is only a comment.
    pub comment: Option<String>,
    /// The bytes, with the empty line.
    pub raw: String,
}

impl Frame {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {}", self.raw))
    }

    pub fn is(&self, event: &str) -> bool {
        self.event.as_deref() == Some(event)
    }
}

pub struct Sse {
    body: BufReader<Chunks>,
    pub answer: Answer,
    pub connected: Frame,
}

impl Sse {
    /// Opens the stream and reads the frame `connected`. Anything but 200 is an error with the status as text.
    pub fn try_open(request: Request) -> io::Result<Sse> {
        let (answer, body) = request.open()?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("status {}", answer.status)));
        }
        let mut sse = Sse { body: BufReader::with_capacity(64 * 1024, body), answer, connected: Frame::default() };
        sse.connected = sse.frame()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !sse.connected.is("connected") {
            return Err(io::Error::other(format!("{:?} is not the first frame", sse.connected.raw)));
        }
        Ok(sse)
    }

    #[track_caller]
    pub fn open(request: Request) -> Sse {
        Sse::try_open(request).expect("the stream opens")
    }

    /// The next frame, comments too; none where the body ends cleanly.
    pub fn frame(&mut self) -> io::Result<Option<Frame>> {
        let mut frame = Frame::default();
        let (mut has_data, mut first) = (false, true);
        loop {
            let mut line = String::new();
            let read = self.body.by_ref().take(4 << 20).read_line(&mut line)?;
            if read == 0 {
                return if first { Ok(None) } else { Err(wrong("a frame is cut", &frame.raw)) };
            }
            first = false;
            frame.raw.push_str(&line);
            let Some(line) = line.strip_suffix('\n') else { return Err(wrong("a line is cut", &frame.raw)) };
            if line.contains('\r') {
                return Err(wrong("a carriage return", line));
            }
            if line.is_empty() {
                return match has_data != frame.comment.is_some() {
                    true => Ok(Some(frame)),
                    false => Err(wrong("a frame has either data or one comment", &frame.raw)),
                };
            }
            let (name, value) = line.split_once(": ").ok_or_else(|| wrong("no colon with a space", line))?;
            let again = match name {
                "" => frame.comment.replace(value.into()).is_some(),
                "event" => frame.event.replace(value.into()).is_some(),
                "id" => frame.id.replace(value.into()).is_some(),
                "retry" => frame.retry.replace(value.into()).is_some(),
                "data" => {
                    frame.data = value.into();
                    std::mem::replace(&mut has_data, true)
                }
                _ => true,
            };
            if again {
                return Err(wrong("a field that is not known or stands twice", &frame.raw));
            }
        }
    }

    /// The next frame that is no comment.
    #[track_caller]
    pub fn next(&mut self) -> Frame {
        self.next_or_end().expect("the stream goes on")
    }

    /// The next frame that is no comment; none at the end of the stream.
    #[track_caller]
    pub fn next_or_end(&mut self) -> Option<Frame> {
        loop {
            match self.frame().expect("the stream is well formed") {
                Some(frame) if frame.comment.is_some() => {}
                other => return other,
            }
        }
    }

    #[track_caller]
    pub fn take(&mut self, count: usize) -> Vec<Frame> {
        (0..count).map(|_| self.next()).collect()
    }

    /// How long the stream stays open from now on; it must end cleanly.
    #[track_caller]
    pub fn ends_within(&mut self, limit: Duration) {
        let started = Instant::now();
        self.body.get_ref().socket().set_read_timeout(Some(limit)).expect("a timeout can be set");
        while self.frame().expect("the stream ends in time, and cleanly").is_some() {
            assert!(started.elapsed() < limit, "the stream is still open after {limit:?}");
        }
    }

    /// Waits no longer than this for each of the frames to come.
    pub fn patience(&self, limit: Duration) {
        self.body.get_ref().socket().set_read_timeout(Some(limit)).expect("a timeout can be set");
    }
}

fn wrong(what: &str, text: &str) -> io::Error {
    io::Error::other(format!("{what}: {text:?}"))
}
