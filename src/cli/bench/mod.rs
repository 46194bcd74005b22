//! `stentor bench`: what this build does on this machine. Each measurement starts a server of its own on a throw-away
//! data folder, drives it over real sockets and reads its cost from `/proc`.
//!
//! With two cores or more the server gets one and the load another, so that neither takes time from the other and the
//! figures of two machines can be compared core by core.

mod fanout;
mod idle;
mod ingest;
mod latency;
mod load;
mod marker;
mod publish;
mod receiver;
mod report;
mod sending;
mod server;
mod webhooks;

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use crate::open_files;

/// The flags of `stentor bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: Common,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
enum What {
    /// One publisher and many readers: deliveries a second, their cost and their latency
    Fanout(fanout::FanoutArgs),
    /// Many readers and no events: the memory of a connection
    Idle(idle::IdleArgs),
    /// Senders that sign to a source: verified, durable events a second
    Ingest(ingest::IngestArgs),
    /// Many publishers and no reader: durable events a second
    Publish(publish::PublishArgs),
    /// Webhooks to receivers that answer at once: deliveries a second, their latency, and the time of a backlog
    Webhooks(webhooks::WebhooksArgs),
}

/// The flags of every measurement.
#[derive(Debug, Args)]
struct Common {
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Folder in which the throw-away data folder is made, which chooses the disk; default: the system's temporary folder
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<std::path::PathBuf>,
    /// When a publish counts as durable (setting storage.durability)
    #[arg(long, value_enum, default_value_t = Durability::Fsync, global = true)]
    durability: Durability,
}

/// The setting `storage.durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durability {
    Fsync,
    Flush,
    Interval,
}

impl Durability {
    fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Flush => "flush",
            Self::Interval => "interval",
        }
    }
}

/// How readers listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Sse,
    Ws,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Ws => "ws",
        }
    }
}

/// How fast to publish.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    Max,
    /// So many a second.
    Fixed(f64),
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) if (0.01..=1e6).contains(&rate) => Ok(Rate::Fixed(rate)),
        _ => Err("give a number a second, or max".to_owned()),
    }
}

/// Most readers: each takes a local port, of which one address has about 28,000.
const READERS_MAX: i64 = 25_000;

/// Runs one measurement and prints what came of it.
///
/// # Errors
/// When the server does not start or breaks off, or when a reader or an endpoint lost an event or got one twice.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    open_files::raise();
    let (report, verdict) = match args.what {
        What::Fanout(what) => fanout::run(&what, &args.common)?,
        What::Idle(what) => (idle::run(&what, &args.common)?, Ok(())),
        What::Ingest(what) => (ingest::run(&what, &args.common)?, Ok(())),
        What::Publish(what) => (publish::run(&what, &args.common)?, Ok(())),
        What::Webhooks(what) => webhooks::run(&what, &args.common)?,
    };
    print!("{}", if args.common.json { report.json() } else { report.markdown() });
    verdict
}

/// A failure in the words of this command.
fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    let what = what.to_owned();
    move |error| Failure::Failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_above_zero_or_max() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("20"), Ok(Rate::Fixed(20.0)));
        for wrong in ["", "0", "-1", "fast", "NaN", "inf"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
