//! One publisher and many readers: how many deliveries a second, at what cost, how late, and whether all arrive once.

use std::time::{Duration, Instant};

use clap::Args;

use super::load::{self, Load};
use super::report::{Column, Report};
use super::server::Server;
use super::{Common, READERS_MAX, Rate, Transport, marker, rate};
use crate::cli::Failure;

/// The flags of `stentor bench fanout`.
#[derive(Debug, Args)]
pub struct FanoutArgs {
    /// Connections that listen
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=READERS_MAX))]
    readers: u32,
    /// How they listen: one measurement for each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sse")]
    transport: Vec<Transport>,
    /// Channels that each reader follows by one stream: one measurement for each number. The publisher goes round them
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    channels: Vec<u32>,
    /// Events a second, or "max": each as soon as the one before is acknowledged
    #[arg(long, default_value = "max", value_parser = rate)]
    rate: Rate,
    /// Seconds of publishing
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Bytes of an event as it is published
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    event_bytes: u32,
    /// Events that readers may be behind, on average, before publishing pauses
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_lag: u32,
}

/// Without any receipt for so long, what has not arrived is lost.
const QUIET: Duration = Duration::from_secs(5);

const COLUMNS: &[Column] = &[
    ("transport", "transport", 0),
    ("readers", "readers", 0),
    ("channels", "channels", 0),
    ("rate", "rate", 0),
    ("event_bytes", "event bytes", 0),
    ("events_per_second", "events/s", 0),
    ("deliveries_per_second", "deliveries/s", 0),
    ("cpu_us_per_delivery", "CPU us/delivery", 2),
    ("latency_p50_ms", "p50 ms", 2),
    ("latency_p90_ms", "p90 ms", 2),
    ("latency_p99_ms", "p99 ms", 2),
    ("latency_max_ms", "max ms", 2),
    ("lost", "lost", 0),
    ("repeated", "repeated", 0),
];

/// What was measured, and whether every reader got every event once. Blocks.
///
/// # Errors
/// The outer error: the server or a connection failed, so nothing was measured. The inner one: events were lost or came
/// twice.
pub fn run(args: &FanoutArgs, common: &Common) -> Result<(Report, Result<(), Failure>), Failure> {
    let mut report = Report::new("fanout", COLUMNS);
    let mut verdict = Ok(());
    let cases =
        args.transport.iter().flat_map(|transport| args.channels.iter().map(move |channels| (transport, channels)));
    for (transport, channels) in cases {
        let measured = measure(args, common, *transport, *channels)?;
        if measured.lost + measured.repeated > 0 {
            let Measured { lost, repeated, .. } = measured;
            verdict = Err(Failure::Failed(format!("{lost} events were lost and {repeated} came twice")));
        }
        report.add(measured.row);
    }
    Ok((report, verdict))
}

struct Measured {
    lost: u64,
    repeated: u64,
    row: Vec<serde_json::Value>,
}

fn measure(args: &FanoutArgs, common: &Common, transport: Transport, channels: u32) -> Result<Measured, Failure> {
    let mut server = Server::start(common)?;
    if channels > 1 {
        server.follow_several(channels)?;
    }
    let mut load = Load::new(&server)?;
    load.open_readers(&server, args.readers as usize, transport)?;
    load.open_publishers(1)?;
    let (cpu_before, begun) = (server.cpu_us()?, Instant::now());
    let published = publish(args, &server, &mut load)?;
    let due = published * u64::from(args.readers);
    let mut last = Instant::now();
    while load.tally.received + load.tally.lost < due && last.elapsed() < QUIET {
        load.turn(Some(Duration::from_millis(100)))?;
        last = load.tally.last_receipt.map_or(last, |receipt| receipt.max(last));
    }
    let cpu_us = server.cpu_us()? - cpu_before;
    load.count_missing(published);
    let tally = &load.tally;
    let seconds = tally.last_receipt.map_or(begun.elapsed(), |last| last - begun).as_secs_f64();
    let received = tally.received as f64;
    let row = vec![
        transport.name().into(),
        args.readers.into(),
        channels.into(),
        match args.rate {
            Rate::Max => "max".into(),
            Rate::Fixed(rate) => rate.into(),
        },
        args.event_bytes.into(),
        (published as f64 / seconds).into(),
        (received / seconds).into(),
        (cpu_us / received.max(1.0)).into(),
        tally.delivery.quantile_ms(0.5).into(),
        tally.delivery.quantile_ms(0.9).into(),
        tally.delivery.quantile_ms(0.99).into(),
        tally.delivery.max_ms().into(),
        tally.lost.into(),
        tally.repeated.into(),
    ];
    Ok(Measured { lost: tally.lost, repeated: tally.repeated, row })
}

/// Publishes for as long as asked; returns how many events.
fn publish(args: &FanoutArgs, server: &Server, load: &mut Load) -> Result<u64, Failure> {
    let (begun, begun_ns) = (Instant::now(), marker::now_ns());
    let length = Duration::from_secs(args.seconds.into());
    let (readers, max_lag) = (u64::from(args.readers), u64::from(args.max_lag));
    let mut published = 0;
    loop {
        let elapsed = begun.elapsed();
        // at a fixed rate an event counts from when it was due, so that a server that holds its publisher up is not
        // thought to be fast
        let (due, due_ns) = match args.rate {
            Rate::Max => (Duration::ZERO, marker::now_ns()),
            Rate::Fixed(rate) => {
                let due = Duration::from_secs_f64(published as f64 / rate);
                (due, begun_ns + due.as_nanos() as u64)
            }
        };
        if elapsed >= length || due >= length {
            break;
        }
        let behind = published * readers - (load.tally.received + load.tally.lost);
        let may = !load.free.is_empty() && (args.rate != Rate::Max || behind < max_lag * readers);
        if may && elapsed >= due {
            let body = load::event(&marker::write(published, due_ns), args.event_bytes as usize);
            let path = &server.paths[published as usize % server.paths.len()];
            load.publish(load::request(server, path, &body), due_ns)?;
            published += 1;
        }
        // epoll rounds up to milliseconds: the last one before an event is due is waited out awake
        let wait = if may { due.saturating_sub(elapsed) } else { length.saturating_sub(elapsed) };
        load.turn(Some(Duration::from_millis(wait.as_millis() as u64)))?;
    }
    Ok(published)
}
