//! The lines of a file or of standard input, with their numbers, in batches as they come.
//!
//! A thread of its own reads, because a pipe may say nothing for long. At most [`WAITING_LINES`] wait to be taken.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Failure;

/// The longest line, in bytes; an event has at most 256 KiB by default.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Lines that were read and not yet taken.
const WAITING_LINES: usize = 64;
/// How long a line waits for company.
const LINGER: Duration = Duration::from_millis(50);

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Standard,
    File(PathBuf),
}

impl From<&Path> for Source {
    /// `-` is standard input.
    fn from(path: &Path) -> Source {
        if path == Path::new("-") { Source::Standard } else { Source::File(path.to_owned()) }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standard => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A line that holds more than white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, empty lines too.
    pub number: u64,
    pub text: String,
    /// Bytes of the source up to its end.
    pub end: u64,
}

/// Lines that are still to come.
pub struct Lines {
    source: Source,
    waiting: mpsc::Receiver<io::Result<Line>>,
    /// Taken, and left for the next batch.
    kept: Option<Line>,
    /// The size of a file.
    pub total_bytes: Option<u64>,
}

impl Lines {
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(source: Source) -> Result<Lines, Failure> {
        let (reader, total_bytes): (Box<dyn Read + Send>, _) = match &source {
            Source::Standard => (Box::new(io::stdin()), None),
            Source::File(path) => {
                let failed =
                    |e: io::Error| Failure::Failed(format!("cannot read {}: {e}; check its name", path.display()));
                let file = File::open(path).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                (Box::new(file), Some(size))
            }
        };
        let (sender, waiting) = mpsc::channel(WAITING_LINES);
        std::thread::spawn(move || read(BufReader::with_capacity(256 * 1024, reader), &sender));
        Ok(Lines { source, waiting, kept: None, total_bytes })
    }

    /// The next lines: at least one, and those that come with it, up to so many and so many bytes. None at the end.
    ///
    /// # Errors
    /// When the source cannot be read, is not UTF-8, or has a line without end.
    pub async fn batch(&mut self, lines_max: usize, bytes_max: usize) -> Result<Option<Vec<Line>>, Failure> {
        let first = match self.kept.take() {
            Some(line) => Some(line),
            None => self.next().await?,
        };
        let Some(first) = first else { return Ok(None) };
        let deadline = Instant::now() + LINGER;
        let mut bytes = first.text.len();
        let mut batch = vec![first];
        while batch.len() < lines_max && bytes < bytes_max {
            // no more within the time, or none at all: what there is goes
            let Ok(next) = timeout_at(deadline, self.waiting.recv()).await else { break };
            let Some(line) = self.understood(next)? else { break };
            bytes += line.text.len();
            if bytes > bytes_max {
                self.kept = Some(line);
                break;
            }
            batch.push(line);
        }
        Ok(Some(batch))
    }

    async fn next(&mut self) -> Result<Option<Line>, Failure> {
        let next = self.waiting.recv().await;
        self.understood(next)
    }

    fn understood(&self, next: Option<io::Result<Line>>) -> Result<Option<Line>, Failure> {
        next.transpose().map_err(|e| Failure::Failed(format!("cannot read {}: {e}", self.source)))
    }
}

fn read(mut reader: impl BufRead, lines: &mpsc::Sender<io::Result<Line>>) {
    let (mut number, mut end) = (0, 0);
    loop {
        let line = next_line(&mut reader, &mut number, &mut end).transpose();
        let Some(line) = line else { return };
        let is_last = line.is_err();
        // nobody takes lines any more
        if lines.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}

fn next_line(reader: &mut impl BufRead, number: &mut u64, end: &mut u64) -> io::Result<Option<Line>> {
    loop {
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        *number += 1;
        *end += read;
        if read == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            return Err(io::Error::other(format!("line {number} has more than {LINE_BYTES_MAX} bytes; is it NDJSON?")));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            io::Error::other(format!("line {number} is not UTF-8; convert it first, for example with iconv"))
        })?;
        let text = text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        if !text.is_empty() {
            return Ok(Some(Line { number: *number, text: text.to_owned(), end: *end }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batches(text: &[u8], lines_max: usize, bytes_max: usize) -> Result<Vec<Vec<(u64, String)>>, Failure> {
        let file = tempfile::NamedTempFile::new().expect("a file can be made");
        std::fs::write(file.path(), text).expect("it can be written");
        let mut lines = Lines::open(file.path().into())?;
        let mut all = Vec::new();
        while let Some(batch) = lines.batch(lines_max, bytes_max).await? {
            all.push(batch.into_iter().map(|line| (line.number, line.text)).collect());
        }
        Ok(all)
    }

    #[actix_web::test]
    async fn batches_keep_to_their_limits_and_lines_to_their_numbers() {
        let text = b"\xef\xbb\xbfa\n\n  b \r\nccc\n\ndd";
        let line = |number, text: &str| (number, text.to_owned());
        let all = batches(text, 2, 100).await.expect("text");
        assert_eq!(all, [vec![line(1, "a"), line(3, "b")], vec![line(4, "ccc"), line(6, "dd")]]);
        let all = batches(text, 9, 4).await.expect("text");
        assert_eq!(all, [vec![line(1, "a"), line(3, "b")], vec![line(4, "ccc")], vec![line(6, "dd")]]);
        assert_eq!(batches(b"\n \n", 9, 9).await.expect("nothing"), [[]; 0]);
    }

    #[actix_web::test]
    async fn what_is_no_text_is_named_by_its_line() {
        let error = batches(b"a\n\xff\n", 9, 9).await.expect_err("not UTF-8");
        assert!(error.to_string().contains("line 2 is not UTF-8"), "{error}");
        assert!(Lines::open(Path::new("/nowhere/at/all").into()).is_err());
        assert_eq!(Source::from(Path::new("-")), Source::Standard);
    }
}
