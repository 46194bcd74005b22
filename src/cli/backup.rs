//! `stentor backup` and `stentor restore`: the data of a running server in one file, and a data folder made of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::http::Method;
use actors::hub::backup::{self, BackupError, Summary};
use actors::model::timestamp::to_iso;
use clap::Args;
use futures_util::StreamExt;
use indicatif::HumanBytes;

use super::progress::Progress;
use super::remote::{Remote, RemoteArgs, Request, Trouble};
use super::{Failure, output};

/// The longest silence within the answer. Before its first byte the server copies its documents.
const SILENCE: Duration = Duration::from_secs(120);

/// The flags of `stentor backup`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  STENTOR_TOKEN=$(cat data/admin-token) stentor backup --output stentor.tar")]
pub struct BackupArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// File to write; one that is there is replaced when the new one is whole
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// The flags of `stentor restore`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  stentor restore stentor.tar --data ./data
  stentor serve --data ./data")]
pub struct RestoreArgs {
    /// Backup to restore
    file: PathBuf,
    /// Folder of the data; it is made, or is empty
    #[arg(long, value_name = "DIR", required_unless_present_any = ["check", "engine"])]
    data: Option<PathBuf>,
    /// Fill the streams of NATS instead of a folder, for nodes with engine = "nats"; they have to be empty
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "ENGINE", value_parser = ["nats"], conflicts_with = "data")]
    engine: Option<String>,
    /// Settings file that says where NATS is
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "FILE", requires = "engine")]
    config: Option<PathBuf>,
    /// Only read the backup through and say whether it is whole
    #[arg(long, conflicts_with = "data")]
    check: bool,
}

/// Takes a backup of a running server.
///
/// # Errors
/// When the server refuses or breaks off, or the file cannot be written. Then there is no file, or the one from before.
pub fn run(args: BackupArgs) -> Result<(), Failure> {
    let output = place(&args.output)?;
    let partial = beside(&output);
    let taken = actix_web::rt::System::new().block_on(take(&args, &partial)).and_then(|()| keep(&partial, &output));
    if taken.is_err() {
        // there may be none yet
        let _ = std::fs::remove_file(&partial);
    }
    say("written", &args.output, &taken?);
    Ok(())
}

/// The file that is made or replaced: a link stays, and what it leads to is meant.
fn place(output: &Path) -> Result<PathBuf, Failure> {
    let there = match std::fs::metadata(output) {
        Ok(there) => there,
        // also a link to a file that is not there yet
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let link = std::fs::read_link(output).ok();
            let beside = output.parent().unwrap_or(Path::new(""));
            return Ok(link.map_or_else(|| output.into(), |link| beside.join(link)));
        }
        Err(e) => return Err(failed("look at", output)(e)),
    };
    if !there.is_file() {
        let what = if there.is_dir() { "a folder" } else { "no file that could be replaced" };
        return Err(Failure::Usage(format!("{} is {what}; name a file for the backup", output.display())));
    }
    std::fs::canonicalize(output).map_err(failed("look at", output))
}

/// Makes a data folder of a backup, or only looks at it.
///
/// # Errors
/// When the folder is not empty, or the backup is damaged, was cut off, or is of another format. Then the folder is empty.
pub fn restore(args: RestoreArgs) -> Result<(), Failure> {
    let file = File::open(&args.file).map_err(failed("open", &args.file))?;
    let size = file.metadata().map_err(failed("read", &args.file))?.len();
    let watched =
        Watched { from: io::BufReader::with_capacity(1 << 20, file), read: 0, progress: Progress::new(Some(size)) };
    #[cfg(feature = "nats")]
    if args.engine.is_some() {
        return fill(&args, watched);
    }
    match args.data {
        Some(data) => {
            super::serve::keep_files_private();
            let summary = backup::restore(watched, &data).map_err(refused)?;
            say("restored", &args.file, &summary);
        }
        None => say("whole", &args.file, &backup::check(watched).map_err(refused)?),
    }
    Ok(())
}

/// Restores into a folder that is thrown away, and fills the streams from that.
#[cfg(feature = "nats")]
fn fill(args: &RestoreArgs, archive: impl Read) -> Result<(), Failure> {
    use crate::settings::{Flags, Settings};

    let flags = Flags { config: args.config.clone(), ..Flags::default() };
    let settings = Settings::load(&flags).map_err(|e| Failure::Usage(e.to_string()))?;
    if settings.nats.servers.is_empty() {
        return Err(Failure::Usage("nats.servers is empty; name the NATS servers".into()));
    }
    super::serve::keep_files_private();
    let folder = std::env::temp_dir().join(format!("stentor-restore-{}", std::process::id()));
    // nobody else's, which would be removed below
    std::fs::create_dir(&folder).map_err(failed("make", &folder))?;
    let filled = backup::restore(archive, &folder).map_err(refused).and_then(|summary| {
        let filled = actors::cluster::fill(
            &crate::engine_config::cluster(&settings),
            &folder,
            crate::engine_config::log(&settings),
        );
        filled.map(|filled| (summary, filled)).map_err(|e| Failure::Failed(e.to_string()))
    });
    if let Err(e) = std::fs::remove_dir_all(&folder) {
        output::notice(&format!("the restored data, with its secrets, stays in {}: {e}", folder.display()));
    }
    let (summary, filled) = filled?;
    say("restored", &args.file, &summary);
    let actors::cluster::Filled { events, documents, messages } = filled;
    output::notice(&format!(
        "the streams hold {} in {} and {}",
        output::count(events, "event", "events"),
        output::count(messages, "message", "messages"),
        output::count(documents, "document", "documents"),
    ));
    Ok(())
}

fn say(what: &str, file: &Path, summary: &Summary) {
    let Summary { about, documents, segments, bytes } = summary;
    output::notice(&format!(
        "{} is {what}: {} and {} of the log up to {}, {}, taken {} by version {}",
        file.display(),
        output::count(*documents, "document", "documents"),
        output::count(*segments, "segment", "segments"),
        about.head,
        HumanBytes(*bytes),
        to_iso(about.taken_at_ms),
        about.version,
    ));
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |e| Failure::Failed(format!("cannot {what} {path}: {e}; check the path"))
}

fn refused(e: BackupError) -> Failure {
    Failure::Failed(e.to_string())
}

/// Where a backup is written until it is whole.
fn beside(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

async fn take(args: &BackupArgs, partial: &Path) -> Result<(), Failure> {
    let remote = Remote::new(&args.remote)?;
    // it holds the keys of the server
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(partial);
    let mut file = file.map_err(failed("write", partial))?;
    let needs_admin = |trouble: Trouble| match trouble.status() {
        Some(403) => Failure::Failed(format!("{}; use the admin token", trouble.reason())),
        Some(409) => Failure::Failed(trouble.reason()),
        _ => trouble.needing("manage"),
    };
    let mut answer = remote.open(&Request::new(Method::POST, "/api/v1/backup")).await.map_err(needs_admin)?;
    let progress = Progress::new(None);
    let mut bytes = 0;
    loop {
        let piece = actix_web::rt::time::timeout(SILENCE, answer.next()).await;
        let silent = |_| remote.unreachable(format!("nothing came for {} s", SILENCE.as_secs())).needing("manage");
        let Some(piece) = piece.map_err(silent)? else { break };
        let piece = piece.map_err(|e| remote.broken(&e).needing("manage"))?;
        file.write_all(&piece).map_err(failed("write", partial))?;
        bytes += piece.len() as u64;
        progress.bytes(bytes);
    }
    file.sync_all().map_err(failed("write", partial))
}

/// Reads the new backup through and puts it where it was asked for.
fn keep(partial: &Path, output: &Path) -> Result<Summary, Failure> {
    let file = File::open(partial).map_err(failed("read", partial))?;
    let summary = backup::check(io::BufReader::with_capacity(1 << 20, file)).map_err(refused)?;
    std::fs::rename(partial, output).map_err(failed("write", output))?;
    let folder = output.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
    Ok(summary)
}

/// A reader that shows how far it is.
struct Watched<R> {
    from: R,
    read: u64,
    progress: Progress,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.read += read as u64;
        self.progress.bytes(self.read);
        Ok(read)
    }
}
