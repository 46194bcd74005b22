//! Webhooks: deliveries a second to many endpoints, how late they are, what they cost, and how long a backlog takes.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value as Json, json};

use super::load::{self, Load};
use super::receiver::Receiver;
use super::report::{Column, Report};
use super::server::Server;
use super::{Common, Rate, marker, rate};
use crate::cli::Failure;

/// The flags of `stentor bench webhooks`.
#[derive(Debug, Args)]
pub struct WebhooksArgs {
    /// Webhooks of the map, each with a receiver of its own that answers at once: one measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "1,10,100", value_parser = clap::value_parser!(u32).range(1..=1000))]
    endpoints: Vec<u32>,
    /// Deliveries a second over all endpoints, or "max": as many as are taken. One measurement for each
    #[arg(long, value_delimiter = ',', default_value = "max,1000", value_parser = rate)]
    rate: Vec<Rate>,
    /// Seconds of publishing
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Events published while the webhook is off, and delivered to one endpoint when it is on. 0: not measured
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    backlog: u32,
    /// Bytes of an event as it is published
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(100..=4000))]
    event_bytes: u32,
    /// Deliveries that a request leads to where the rate is "max": it has as many events as that takes. At another rate
    /// each event has a request of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: u32,
    /// Deliveries that may be outstanding before publishing pauses
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    max_lag: u32,
}

/// Without any receipt for so long, what has not arrived is lost.
const QUIET: Duration = Duration::from_secs(5);
/// How often the receiver is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often the server's memory is looked at. The kernel walks all pages for it, on the core of the load.
const MEMORY_EVERY: Duration = Duration::from_millis(500);
/// Connections that publish.
const PUBLISHERS: usize = 2;
/// Events in a request when a backlog is published.
const BACKLOG_BATCH: u32 = 500;

const COLUMNS: &[Column] = &[
    ("case", "case", 0),
    ("endpoints", "endpoints", 0),
    ("rate", "rate", 0),
    ("deliveries", "deliveries", 0),
    ("seconds", "seconds", 2),
    ("deliveries_per_second", "deliveries/s", 0),
    ("cpu_us_per_delivery", "CPU us/delivery", 1),
    ("latency_p50_ms", "p50 ms", 2),
    ("latency_p99_ms", "p99 ms", 2),
    ("latency_max_ms", "max ms", 2),
    ("memory_mib", "memory MiB", 1),
    ("lost", "lost", 0),
    ("repeated", "repeated", 0),
];

/// What was measured, and whether every endpoint got every event once. Blocks.
///
/// # Errors
/// The outer error: the server or the receiver failed, so nothing was measured. The inner one: deliveries were lost or
/// came twice.
pub fn run(args: &WebhooksArgs, common: &Common) -> Result<(Report, Result<(), Failure>), Failure> {
    let mut report = Report::new("webhooks", COLUMNS);
    let (mut lost, mut repeated) = (0, 0);
    let mut add = |measured: Measured| {
        lost += measured.lost;
        repeated += measured.repeated;
        report.add(measured.row());
    };
    for rate in &args.rate {
        for endpoints in &args.endpoints {
            add(live(args, common, *rate, *endpoints)?);
        }
    }
    if args.backlog > 0 {
        add(backlog(args, common)?);
    }
    let verdict = match lost + repeated {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!("{lost} deliveries were lost and {repeated} came twice"))),
    };
    Ok((report, verdict))
}

struct Measured {
    case: &'static str,
    endpoints: u32,
    rate: Json,
    received: u64,
    seconds: f64,
    cpu_us: f64,
    /// The median, the 99th percentile and the largest, in milliseconds, where they say something.
    latencies: Option<[f64; 3]>,
    memory_kib: f64,
    lost: u64,
    repeated: u64,
}

impl Measured {
    fn row(self) -> Vec<Json> {
        let received = self.received as f64;
        let [p50, p99, max] = self.latencies.map_or([Json::Null, Json::Null, Json::Null], |each| each.map(Json::from));
        vec![
            self.case.into(),
            self.endpoints.into(),
            self.rate,
            self.received.into(),
            self.seconds.into(),
            (received / self.seconds).into(),
            (self.cpu_us / received.max(1.0)).into(),
            p50,
            p99,
            max,
            (self.memory_kib / 1024.0).into(),
            self.lost.into(),
            self.repeated.into(),
        ]
    }
}

/// Events are published and delivered at the same time.
fn live(args: &WebhooksArgs, common: &Common, rate: Rate, endpoints: u32) -> Result<Measured, Failure> {
    let server = start(common)?;
    let receiver = Receiver::start(endpoints as usize)?;
    create(&server, &receiver)?;
    toggle(&server, true)?;
    let mut load = Load::new(&server)?;
    load.open_publishers(PUBLISHERS)?;
    let mut watch = Watch::begin(&server, &receiver)?;
    let published = publish(args, &server, &mut load, &mut watch, rate, endpoints)?;
    let due = published * u64::from(endpoints);
    watch.until(due)?;
    let (seconds, cpu_us, memory_kib) = (watch.seconds(), watch.cpu_us()?, watch.memory_kib);
    let tally = receiver.finish()?;
    let delivery = &tally.delivery;
    Ok(Measured {
        case: "live",
        endpoints,
        rate: match rate {
            Rate::Max => "max".into(),
            Rate::Fixed(rate) => rate.into(),
        },
        received: tally.received,
        seconds,
        cpu_us,
        latencies: Some([delivery.quantile_ms(0.5), delivery.quantile_ms(0.99), delivery.max_ms()]),
        memory_kib,
        lost: due.saturating_sub(tally.received),
        repeated: tally.repeated,
    })
}

/// Events are published first and delivered afterwards.
fn backlog(args: &WebhooksArgs, common: &Common) -> Result<Measured, Failure> {
    let server = start(common)?;
    let receiver = Receiver::start(1)?;
    create(&server, &receiver)?;
    let mut load = Load::new(&server)?;
    load.open_publishers(PUBLISHERS)?;
    let due = u64::from(args.backlog);
    let mut published = 0;
    while published < due || load.free.len() < PUBLISHERS {
        if published < due && !load.free.is_empty() {
            let count = u64::from(BACKLOG_BATCH).min(due - published);
            let now = marker::now_ns();
            load.publish(request(args, &server, published..published + count, now), now)?;
            published += count;
        }
        load.turn(Some(Duration::from_millis(100)))?;
    }
    let mut watch = Watch::begin(&server, &receiver)?;
    toggle(&server, true)?;
    watch.until(due)?;
    let (seconds, cpu_us, memory_kib) = (watch.seconds(), watch.cpu_us()?, watch.memory_kib);
    let tally = receiver.finish()?;
    Ok(Measured {
        case: "backlog",
        endpoints: 1,
        rate: Json::Null,
        received: tally.received,
        seconds,
        cpu_us,
        latencies: None,
        memory_kib,
        lost: due.saturating_sub(tally.received),
        repeated: tally.repeated,
    })
}

/// A server that may deliver to this machine, to as many endpoints as are measured.
fn start(common: &Common) -> Result<Server, Failure> {
    let settings = [
        ("STENTOR__WEBHOOKS__ALLOW_HTTP", "true"),
        ("STENTOR__WEBHOOKS__ALLOW_NETWORKS", "127.0.0.1"),
        ("STENTOR__LIMITS__WEBHOOKS_PER_MAP", "1000"),
        ("STENTOR__LIMITS__API_REQUESTS_PER_MINUTE", "0"),
    ];
    Server::start_with(common, &settings)
}

fn create(server: &Server, receiver: &Receiver) -> Result<(), Failure> {
    for addr in &receiver.addrs {
        server.call("POST", &format!("{}/webhooks", server.map), &json!({ "url": format!("http://{addr}/hook") }))?;
    }
    Ok(())
}

fn toggle(server: &Server, enabled: bool) -> Result<(), Failure> {
    server.call("PUT", &format!("{}/webhooks/toggle", server.map), &json!({ "enabled": enabled })).map(drop)
}

/// Publishes for as long as asked; returns how many events.
fn publish(
    args: &WebhooksArgs,
    server: &Server,
    load: &mut Load,
    watch: &mut Watch<'_>,
    rate: Rate,
    endpoints: u32,
) -> Result<u64, Failure> {
    let (begun, begun_ns) = (Instant::now(), marker::now_ns());
    let length = Duration::from_secs(args.seconds.into());
    let (endpoints, max_lag) = (u64::from(endpoints), u64::from(args.max_lag));
    let count = if rate == Rate::Max { (u64::from(args.batch) / endpoints).max(1) } else { 1 };
    let mut published = 0;
    loop {
        let elapsed = begun.elapsed();
        // at a fixed rate an event counts from when it was due, as in the measurement of fan-out
        let (due, due_ns) = match rate {
            Rate::Max => (Duration::ZERO, marker::now_ns()),
            Rate::Fixed(rate) => {
                let due = Duration::from_secs_f64((published * endpoints) as f64 / rate);
                (due, begun_ns + due.as_nanos() as u64)
            }
        };
        if elapsed >= length || due >= length {
            break;
        }
        let behind = published * endpoints - watch.receiver.received().min(published * endpoints);
        let may = !load.free.is_empty() && (rate != Rate::Max || behind < max_lag);
        if may && elapsed >= due {
            load.publish(request(args, server, published..published + count, due_ns), due_ns)?;
            published += count;
        }
        let wait = if may { due.saturating_sub(elapsed) } else { LOOK };
        let whole = Duration::from_millis(wait.as_millis() as u64);
        load.turn(Some(whole))?;
        // epoll counts in milliseconds, and waiting awake would take the core from the receiver
        std::thread::sleep(if may { due.saturating_sub(begun.elapsed()).min(LOOK) } else { Duration::ZERO });
        watch.look()?;
    }
    while load.free.len() < PUBLISHERS {
        load.turn(Some(LOOK))?;
    }
    Ok(published)
}

/// The request that publishes the events with these numbers.
fn request(args: &WebhooksArgs, server: &Server, numbers: std::ops::Range<u64>, at_ns: u64) -> Vec<u8> {
    let event = |number| load::event(&marker::write(number, at_ns), args.event_bytes as usize);
    let body = match numbers.end - numbers.start {
        1 => event(numbers.start),
        _ => format!("{{\"events\":[{}]}}", numbers.map(event).collect::<Vec<_>>().join(",")),
    };
    load::request(server, &server.path, &body)
}

/// Looks at the server and the receiver while a measurement runs.
struct Watch<'a> {
    server: &'a Server,
    receiver: &'a Receiver,
    begun_ns: u64,
    cpu_before_us: f64,
    /// The most that was seen.
    memory_kib: f64,
    memory_at: Instant,
}

impl<'a> Watch<'a> {
    fn begin(server: &'a Server, receiver: &'a Receiver) -> Result<Watch<'a>, Failure> {
        let (cpu_before_us, memory_kib) = (server.cpu_us()?, server.memory_kib()?);
        let (begun_ns, memory_at) = (marker::now_ns(), Instant::now());
        Ok(Watch { server, receiver, begun_ns, cpu_before_us, memory_kib, memory_at })
    }

    fn look(&mut self) -> Result<(), Failure> {
        if self.memory_at.elapsed() >= MEMORY_EVERY {
            self.memory_kib = self.memory_kib.max(self.server.memory_kib()?);
            self.memory_at = Instant::now();
        }
        Ok(())
    }

    /// Returns when so many deliveries have arrived, or none has for long.
    fn until(&mut self, due: u64) -> Result<(), Failure> {
        let (mut received, mut changed) = (self.receiver.received(), Instant::now());
        while received < due && changed.elapsed() < QUIET {
            std::thread::sleep(LOOK);
            self.look()?;
            let now = self.receiver.received();
            if now != received {
                (received, changed) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// From the beginning to the last receipt.
    fn seconds(&self) -> f64 {
        self.receiver.last_ns().saturating_sub(self.begun_ns) as f64 / 1e9
    }

    fn cpu_us(&self) -> Result<f64, Failure> {
        Ok(self.server.cpu_us()? - self.cpu_before_us)
    }
}
