//! Many readers and no events: the memory of a connection, of the server's alone. What the kernel keeps for a socket is
//! not in it.

use std::time::{Duration, Instant};

use clap::Args;

use super::load::Load;
use super::report::{Column, Report};
use super::server::Server;
use super::{Common, READERS_MAX, Transport};
use crate::cli::Failure;

/// The flags of `stentor bench idle`.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// Connections that listen
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=READERS_MAX))]
    readers: u32,
    /// How they listen: one measurement for each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sse,ws")]
    transport: Vec<Transport>,
    /// Seconds to hold them open before the server's memory is read
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

const COLUMNS: &[Column] = &[
    ("transport", "transport", 0),
    ("readers", "readers", 0),
    ("before_kib", "before KiB", 0),
    ("after_kib", "after KiB", 0),
    ("kib_per_connection", "KiB/connection", 2),
];

/// Measures the memory that idle readers take. Blocks.
///
/// # Errors
/// The server, a reader or the kernel's count of its memory failed.
pub fn run(args: &IdleArgs, common: &Common) -> Result<Report, Failure> {
    let mut report = Report::new("idle", COLUMNS);
    for transport in &args.transport {
        let server = Server::start(common)?;
        let mut load = Load::new(&server)?;
        let before = server.memory_kib()?;
        load.open_readers(&server, args.readers as usize, *transport)?;
        let begun = Instant::now();
        let length = Duration::from_secs(args.seconds.into());
        while let Some(left) = length.checked_sub(begun.elapsed()) {
            load.turn(Some(left))?;
        }
        let after = server.memory_kib()?;
        let each = (after - before) / f64::from(args.readers);
        report.add(vec![transport.name().into(), args.readers.into(), before.into(), after.into(), each.into()]);
    }
    Ok(report)
}
