//! `stentor export`: a channel's history as NDJSON, the envelopes as they are everywhere.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use actix_web::web::Bytes;
use actors::model::id::EventId;
use actors::model::timestamp::to_iso;
use clap::Args;
use futures_util::StreamExt;

use super::backoff::{Backoff, chance};
use super::channel::Channel;
use super::envelope::Envelope;
use super::filter::FilterArgs;
use super::progress::Progress;
use super::remote::{Remote, RemoteArgs, Request, Trouble};
use super::since::Since;
use super::{Failure, complete, output};
use crate::http::now_ms;

/// The longest silence within an answer.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// How often in a row an export that breaks off without bringing an event is taken up again.
const BREAKS_MAX: u32 = 5;
/// How much of a file is read at once in search of its last line.
const SEARCH_BYTES: u64 = 64 * 1024;

/// The flags of `stentor export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor export map:home --since 7d --events map_kill > kills.ndjson
  stentor export map:home --output events.ndjson
  stentor export map:home --output events.ndjson --resume")]
pub struct ExportArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Channel to read: map:ID, organization:ID, or feed for everything that the token may read
    #[arg(add = complete::channels())]
    channel: Channel,
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin after this event, or with what happened at this time or so long ago; without it, with the oldest
    #[arg(long, value_name = "ID|TIME|AGO")]
    since: Option<Since>,
    /// End with this event, or with what happened at this time or so long ago
    #[arg(long, value_name = "ID|TIME|AGO")]
    until: Option<Since>,
    /// Write to a file; without it, to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on behind the last event that the file holds
    #[arg(long, requires = "output")]
    resume: bool,
}

/// Writes every event there is, and says on standard error how many.
///
/// # Errors
/// When the server refuses or breaks off for good, or the output cannot be written.
pub fn run(args: ExportArgs) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(export(&args))
}

/// Where the lines go.
struct Sink {
    out: Box<dyn Write>,
    file: Option<PathBuf>,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = self.out.write_all(bytes);
        self.judge(result)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let result = self.out.flush();
        self.judge(result)
    }

    fn judge(&self, result: std::io::Result<()>) -> Result<(), Failure> {
        match &self.file {
            Some(path) => result.map_err(failed("write", path)),
            None => output::written(result),
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |e| Failure::Failed(format!("cannot {what} {path}: {e}; check the file"))
}

/// An export under way.
struct Export<'a> {
    args: &'a ExportArgs,
    remote: Remote,
    sink: Sink,
    progress: Progress,
    /// The last event that was written.
    last: Option<EventId>,
    /// When the first event that was written was appended, in Unix milliseconds.
    began_ms: Option<u64>,
    started_ms: i64,
    events: u64,
    bytes: u64,
}

async fn export(args: &ExportArgs) -> Result<(), Failure> {
    let remote = Remote::new(&args.remote)?;
    let query = args.filter.query()?;
    let (sink, last) = open(args)?;
    if let Some(last) = last {
        warn_of_hole(&remote, &args.channel, last).await;
    }
    let started_ms = now_ms();
    // of the time from the first event to now, in thousandths
    let progress = Progress::new(Some(1000));
    let mut export = Export { args, remote, sink, progress, last, began_ms: None, started_ms, events: 0, bytes: 0 };
    let mut backoff = Backoff::default();
    let mut breaks = 0;
    loop {
        let before = export.events;
        match export.pass(&query).await {
            Ok(()) => break,
            Err(Break::Failure(failure)) => return Err(failure),
            Err(Break::Trouble(trouble)) => {
                export.sink.flush()?;
                if export.events > before {
                    breaks = 0;
                    backoff.reset();
                }
                breaks += 1;
                let is_hopeless = export.events == 0 && matches!(trouble, Trouble::Unreachable { .. });
                if !trouble.is_passing() || is_hopeless || breaks > BREAKS_MAX {
                    return Err(export.remote.explain(&trouble, &args.channel, "subscribe").await);
                }
                let wait = backoff.next(trouble.retry_after(), chance());
                let secs = wait.as_secs_f64();
                export.progress.notice(&format!("{}; going on in {secs:.1} s", trouble.reason()));
                actix_web::rt::time::sleep(wait).await;
            }
        }
    }
    export.sink.flush()?;
    export.progress.finish();
    if let Some(path) = &args.output {
        File::open(path).and_then(|file| file.sync_all()).map_err(failed("write", path))?;
        let events = output::count(export.events, "event", "events");
        output::notice(&format!("exported {events} from {} to {}", args.channel, path.display()));
    }
    Ok(())
}

enum Break {
    /// It can be taken up again.
    Trouble(Trouble),
    Failure(Failure),
}

impl From<Failure> for Break {
    fn from(failure: Failure) -> Break {
        Break::Failure(failure)
    }
}

impl From<Trouble> for Break {
    fn from(trouble: Trouble) -> Break {
        Break::Trouble(trouble)
    }
}

impl Export<'_> {
    /// One request: everything behind the last event that was written.
    async fn pass(&mut self, filter: &[(&'static str, String)]) -> Result<(), Break> {
        let path = self.args.channel.events();
        let mut request = Request::get(&path).query(filter.to_vec()).header("Accept", "application/x-ndjson");
        let moment = |since: Option<Since>| since.and_then(|since| since.moment(self.started_ms)).map(to_iso);
        request = request.query(moment(self.args.since).map(|iso| ("since", iso)));
        request = request.query(moment(self.args.until).map(|iso| ("until", iso)));
        let after = match self.args.since {
            Some(Since::After(id)) => self.last.max(Some(id)),
            _ => self.last,
        };
        request = request.query(after.map(|id| ("after", id.to_string())));
        let mut answer = self.remote.open(&request).await?;
        let mut rest = Vec::new();
        loop {
            let chunk: Bytes = match actix_web::rt::time::timeout(SILENCE, answer.next()).await {
                Err(_) => {
                    return Err(self.remote.unreachable(format!("nothing came for {} s", SILENCE.as_secs())).into());
                }
                Ok(None) if rest.is_empty() => return Ok(()),
                Ok(None) => return Err(self.remote.unreachable("its answer ends within a line".into()).into()),
                Ok(Some(chunk)) => chunk.map_err(|e| self.remote.broken(&e))?,
            };
            rest.extend_from_slice(&chunk);
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if self.take(&rest[..whole])? {
                return Ok(());
            }
            rest.drain(..whole);
        }
    }

    /// Writes whole lines. Returns whether the event was reached with which to end.
    fn take(&mut self, lines: &[u8]) -> Result<bool, Break> {
        let until = match self.args.until {
            Some(Since::After(id)) => Some(id),
            _ => None,
        };
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let unreadable = |e| self.remote.unreachable(format!("a line of its answer is no event: {e}"));
            let text = std::str::from_utf8(line).map_err(|e| unreadable(e.to_string()))?;
            let id = Envelope::read(text).map_err(unreadable)?.id;
            if until.is_some_and(|until| id > until) {
                return Ok(true);
            }
            self.sink.write(line)?;
            self.last = Some(id);
            self.events += 1;
            self.bytes += line.len() as u64;
        }
        if let Some(last) = self.last {
            let began_ms = *self.began_ms.get_or_insert(last.time_ms());
            let span_ms = u64::try_from(self.started_ms).unwrap_or(0).saturating_sub(began_ms).max(1);
            let done = (last.time_ms().saturating_sub(began_ms).saturating_mul(1000) / span_ms).min(1000);
            self.progress.set(done, self.events, self.bytes);
        }
        Ok(false)
    }
}

/// Opens what is written to; where an export is resumed, with the last event that it holds.
fn open(args: &ExportArgs) -> Result<(Sink, Option<EventId>), Failure> {
    let Some(path) = &args.output else {
        return Ok((Sink { out: Box::new(BufWriter::new(std::io::stdout())), file: None }, None));
    };
    let mut options = File::options();
    let open = options.read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open.map_err(failed("open", path))?;
    let bytes = file.metadata().map_err(failed("read", path))?.len();
    let mut last = None;
    if bytes > 0 {
        if !args.resume {
            return Err(Failure::Failed(format!(
                "{} is there already; add --resume to go on behind its last event, or choose another --output",
                path.display()
            )));
        }
        let (line, end) = last_line(&mut file, bytes).map_err(failed("read", path))?;
        if !line.is_empty() {
            let text = String::from_utf8_lossy(&line);
            let event = Envelope::read(&text).map_err(|e| {
                Failure::Failed(format!(
                    "the last line of {} is no event: {e}; was it written by export?",
                    path.display()
                ))
            })?;
            last = Some(event.id);
        }
        // half a line, left by an export that was interrupted
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed("write", path))?;
    }
    Ok((Sink { out: Box::new(BufWriter::new(file)), file: Some(path.clone()) }, last))
}

/// The last line that has an end, and where that end is.
fn last_line(file: &mut File, bytes: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut tail = Vec::new();
    let mut begin = bytes;
    loop {
        if let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') {
            let start = tail[..end].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            if let Some(start) = start.or((begin == 0).then_some(0)) {
                return Ok((tail[start..end].to_vec(), begin + end as u64 + 1));
            }
        }
        if begin == 0 {
            return Ok((Vec::new(), 0));
        }
        let step = begin.min(SEARCH_BYTES);
        begin -= step;
        let mut more = vec![0; step as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut more)?;
        more.append(&mut tail);
        tail = more;
    }
}

/// An export that is resumed long after may have missed what retention took in between; that is not left unsaid.
async fn warn_of_hole(remote: &Remote, channel: &Channel, last: EventId) {
    let path = channel.events();
    let oldest = remote.json(&Request::get(&path).query([("limit", "1".to_owned())])).await;
    // if the server cannot say it, the export itself will fail and tell why
    let Ok(answer) = oldest else { return };
    let oldest = answer["data"].get(0).and_then(|event| Envelope::read(&event.to_string()).ok().map(|event| event.id));
    if oldest.is_none_or(|oldest| oldest > last) {
        output::notice("the server no longer has the last event of the file: events after it may be missing here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_is_found_wherever_it_begins() {
        let long = "x".repeat(3 * SEARCH_BYTES as usize);
        for (text, line, end) in [
            ("", "", 0),
            ("half", "", 0),
            ("a\n", "a", 2),
            ("a\nb\nhalf", "b", 4),
            (&format!("a\n{long}\n"), long.as_str(), 3 + long.len() as u64),
            (&format!("a\n{long}"), "a", 2),
        ] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(text.as_bytes()).expect("it can be written");
            let found = last_line(&mut file, text.len() as u64).expect("it can be read");
            assert_eq!((String::from_utf8_lossy(&found.0).as_ref(), found.1), (line, end));
        }
    }
}
