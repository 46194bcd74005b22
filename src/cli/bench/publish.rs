//! Many publishers and no reader: events that are durable and acknowledged, a second. Each publisher sends its next request
//! when the one before is answered.

use std::time::{Duration, Instant};

use clap::Args;

use super::load::{self, Load};
use super::report::{Column, Report};
use super::server::Server;
use super::{Common, marker};
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

const COLUMNS: &[Column] = &[
    ("durability", "durability", 0),
    ("publishers", "publishers", 0),
    ("batch", "batch", 0),
    ("event_bytes", "event bytes", 0),
    ("events_per_second", "events/s", 0),
    ("requests_per_second", "requests/s", 0),
    ("cpu_us_per_event", "CPU us/event", 2),
    ("latency_p50_ms", "p50 ms", 2),
    ("latency_p90_ms", "p90 ms", 2),
    ("latency_p99_ms", "p99 ms", 2),
    ("latency_max_ms", "max ms", 2),
];

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
    let mut load = Load::new(&server)?;
    load.open_publishers(publishers as usize)?;
    let (cpu_before, begun) = (server.cpu_us()?, Instant::now());
    let mut numbers = 0..;
    let requests = drive(&mut load, publishers as usize, Duration::from_secs(args.seconds.into()), |now| {
        let mut event = || load::event(&marker::write(numbers.next().unwrap_or(0), now), args.event_bytes as usize);
        let body = match batch {
            1 => event(),
            _ => format!("{{\"events\":[{}]}}", (0..batch).map(|_| event()).collect::<Vec<_>>().join(",")),
        };
        load::request(&server, &body)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_us = server.cpu_us()? - cpu_before;
    let events = f64::from(requests) * f64::from(batch);
    let latencies = &load.tally.answer;
    Ok(vec![
        common.durability.name().into(),
        publishers.into(),
        batch.into(),
        args.event_bytes.into(),
        (events / seconds).into(),
        (f64::from(requests) / seconds).into(),
        (cpu_us / events).into(),
        latencies.quantile_ms(0.5).into(),
        latencies.quantile_ms(0.9).into(),
        latencies.quantile_ms(0.99).into(),
        latencies.max_ms().into(),
    ])
}

/// Sends for `length` what `next` makes at a moment, over `senders` connections, each as soon as its request before is
/// answered. Returns how many requests were answered. Blocks.
///
/// # Errors
/// A connection failed, or the server stopped answering.
pub fn drive(
    load: &mut Load,
    senders: usize,
    length: Duration,
    mut next: impl FnMut(u64) -> Vec<u8>,
) -> Result<u32, Failure> {
    let (begun, mut requests) = (Instant::now(), 0);
    loop {
        let elapsed = begun.elapsed();
        // what was sent is answered before the measurement ends, so that all that was stored is counted
        if elapsed >= length && load.free.len() == senders {
            return Ok(requests);
        }
        if elapsed >= length * 2 {
            return Err(Failure::Failed("the server stopped answering its publishers".to_owned()));
        }
        while elapsed < length && !load.free.is_empty() {
            let now = marker::now_ns();
            load.publish(next(now), now)?;
            requests += 1;
        }
        load.turn(Some(Duration::from_millis(100)))?;
    }
}
