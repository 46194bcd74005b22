//! Server-Sent Events taken apart (WHATWG HTML 9.2.6), as their bytes come.

/// The most bytes that one frame may have; an event has at most 256 KiB by default.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What stands between two empty lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The name of an `event:` line.
    pub event: Option<String>,
    /// The last `id:` line of this frame.
    pub id: Option<String>,
    /// The `data:` lines; none: a frame without data, which means nothing to a reader of events.
    pub data: Option<String>,
    pub retry_ms: Option<u64>,
}

/// The server writes something that is no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the stream is longer than {FRAME_BYTES_MAX} bytes")]
pub struct TooLong;

/// Takes bytes in any portions.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that is not whole yet.
    line: Vec<u8>,
    frame: Frame,
    frame_bytes: usize,
    after_return: bool,
    /// Whether anything but a byte order mark has come.
    begun: bool,
}

impl Parser {
    /// Takes the next bytes and appends each frame that they complete.
    ///
    /// # Errors
    /// A frame is longer than [`FRAME_BYTES_MAX`]; nothing after it can be read.
    pub fn push(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        for &byte in bytes {
            let was_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if was_return => {}
                b'\n' | b'\r' => self.end_line(frames),
                _ if self.frame_bytes >= FRAME_BYTES_MAX => return Err(TooLong),
                _ => {
                    self.frame_bytes += 1;
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, frames: &mut Vec<Frame>) {
        let bytes = std::mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&bytes).into_owned();
        if !std::mem::replace(&mut self.begun, true)
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_owned();
        }
        if line.is_empty() {
            self.frame_bytes = 0;
            let frame = std::mem::take(&mut self.frame);
            if frame != Frame::default() {
                frames.push(frame);
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.frame.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.frame.retry_ms = value.parse().ok();
            }
            "data" => match &mut self.frame.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            // a comment, whose name is empty, or a field that the specification passes over
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(text: &str, portion: usize) -> Vec<Frame> {
        let (mut parser, mut frames) = (Parser::default(), Vec::new());
        for bytes in text.as_bytes().chunks(portion) {
            parser.push(bytes, &mut frames).expect("short frames");
        }
        frames
    }

    fn frame(event: &str, id: &str, data: &str) -> Frame {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Frame { event: some(event), id: some(id), data: some(data), retry_ms: None }
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut_and_whatever_ends_the_lines() {
        let text = "\u{feff}event: connected\nid: 1\nretry: 3000\ndata: {}\n\n: keepalive\n\nid: 2\ndata: ä\n\nid:3\ndata:a\ndata: b\n\n";
        let mut first = frame("connected", "1", "{}");
        first.retry_ms = Some(3000);
        let expected = [first, frame("", "2", "ä"), frame("", "3", "a\nb")];
        for ending in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', ending);
            for portion in 1..=text.len() {
                assert_eq!(frames(&text, portion), expected, "{ending:?} {portion}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_or_not_known_is_no_frame() {
        assert_eq!(frames("data: cut off\n", 4), []);
        assert_eq!(frames(": only a comment\n\n\n\n", 4), []);
        assert_eq!(
            frames("id: a\0b\nretry: 1s\nfoo: bar\ndata\n\n", 4),
            [Frame { data: Some(String::new()), ..Frame::default() }]
        );
    }

    #[test]
    fn a_stream_without_end_of_line_is_refused() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; 1024 * 1024];
        let outcome = (0..=64).try_for_each(|_| parser.push(&chunk, &mut Vec::new()));
        assert_eq!(outcome, Err(TooLong));
    }
}
