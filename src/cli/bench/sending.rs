//! A measurement in which a number of connections send events, each its next request as soon as the one before is answered.

use std::time::{Duration, Instant};

use super::load::Load;
use super::report::Column;
use super::server::Server;
use super::{Common, marker};
use crate::cli::Failure;

/// The columns of the report; `connections`: what they are called.
pub const fn columns(connections: &'static str) -> [Column; 11] {
    [
        ("durability", "durability", 0),
        (connections, connections, 0),
        ("batch", "batch", 0),
        ("event_bytes", "event bytes", 0),
        ("events_per_second", "events/s", 0),
        ("requests_per_second", "requests/s", 0),
        ("cpu_us_per_event", "CPU us/event", 2),
        ("latency_p50_ms", "p50 ms", 2),
        ("latency_p90_ms", "p90 ms", 2),
        ("latency_p99_ms", "p99 ms", 2),
        ("latency_max_ms", "max ms", 2),
    ]
}

/// One measurement.
pub struct Sending {
    pub connections: u32,
    /// Events in each request.
    pub batch: u32,
    pub event_bytes: u32,
    pub seconds: u32,
}

impl Sending {
    /// A row of the report. `event` makes the JSON of an event of so many bytes around a marker, `request` the request around
    /// a body. Blocks.
    ///
    /// # Errors
    /// A connection failed, or the server stopped answering.
    pub fn measure(
        &self,
        server: &Server,
        common: &Common,
        event: impl Fn(&str, usize) -> String,
        request: impl Fn(&str) -> Vec<u8>,
    ) -> Result<Vec<serde_json::Value>, Failure> {
        let mut load = Load::new(server)?;
        load.open_publishers(self.connections as usize)?;
        let (cpu_before, begun) = (server.cpu_us()?, Instant::now());
        let mut numbers = 0..;
        let requests = drive(&mut load, self.connections as usize, Duration::from_secs(self.seconds.into()), |now| {
            let mut event = || event(&marker::write(numbers.next().unwrap_or(0), now), self.event_bytes as usize);
            let body = match self.batch {
                1 => event(),
                batch => format!("{{\"events\":[{}]}}", (0..batch).map(|_| event()).collect::<Vec<_>>().join(",")),
            };
            request(&body)
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        let cpu_us = server.cpu_us()? - cpu_before;
        let events = f64::from(requests) * f64::from(self.batch);
        let latencies = &load.tally.answer;
        Ok(vec![
            common.durability.name().into(),
            self.connections.into(),
            self.batch.into(),
            self.event_bytes.into(),
            (events / seconds).into(),
            (f64::from(requests) / seconds).into(),
            (cpu_us / events).into(),
            latencies.quantile_ms(0.5).into(),
            latencies.quantile_ms(0.9).into(),
            latencies.quantile_ms(0.99).into(),
            latencies.max_ms().into(),
        ])
    }
}

/// Sends for `length` what `next` makes at a moment, over `senders` connections, each as soon as its request before is
/// answered. Returns how many requests were answered.
fn drive(
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
