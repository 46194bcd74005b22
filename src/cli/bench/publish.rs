//! Many publishers and no reader: events that are durable and acknowledged, a second. Each publisher sends its next request
//! when the one before is answered.

use clap::Args;

use super::report::{Column, Report};
use super::sending::{Sending, columns};
use super::server::Server;
use super::{Common, load};
use crate::cli::Failure;

/// The flags of `stentor bench publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Connections that publish: one measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "1,16,256", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publishers: Vec<u32>,
    /// Events in each request: one measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "1,100", value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: Vec<u32>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Bytes of an event as it is published
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(100..=4000))]
    event_bytes: u32,
}

const COLUMNS: &[Column] = &columns("publishers");

/// Measures how many events are published, for each number of publishers and size of batches. Blocks.
///
/// # Errors
/// The server or a connection failed.
pub fn run(args: &PublishArgs, common: &Common) -> Result<Report, Failure> {
    let mut report = Report::new("publish", COLUMNS);
    for batch in &args.batch {
        for publishers in &args.publishers {
            report.add(measure(args, common, *publishers, *batch)?);
        }
    }
    Ok(report)
}

fn measure(
    args: &PublishArgs,
    common: &Common,
    publishers: u32,
    batch: u32,
) -> Result<Vec<serde_json::Value>, Failure> {
    let server = Server::start(common)?;
    let sending = Sending { connections: publishers, batch, event_bytes: args.event_bytes, seconds: args.seconds };
    sending.measure(&server, common, load::event, |body| load::request(&server, &server.path, body))
}
