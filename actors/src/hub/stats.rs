//! Counts per type and time, read from the log.

use std::collections::BTreeMap;

use super::Hub;
use crate::catalog::reader::ReadError;
use crate::log::{Direction, PageLimit};
use crate::model::event::ChannelNo;
use crate::model::filter::Filter;
use crate::model::id::EventId;

#[derive(Clone, Debug)]
pub struct StatsQuery {
    pub filter: Filter,
    pub now_ms: i64,
    pub window_ms: i64,
    pub bucket_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    pub start_ms: i64,
    pub types: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    pub since_ms: i64,
    pub until_ms: i64,
    pub total: u64,
    pub types: BTreeMap<String, u64>,
    /// In the order of time, also the empty ones.
    pub buckets: Vec<Bucket>,
}

impl Hub {
    /// Counts the events of a channel, or of all, that were appended within the window.
    pub async fn stats(&self, no: ChannelNo, query: StatsQuery) -> Result<Stats, ReadError> {
        self.blocking(move |rooms| {
            let StatsQuery { filter, now_ms, window_ms, bucket_ms } = query;
            // buckets begin at whole multiples, so that two requests in a row agree on them
            let since_ms = (now_ms - window_ms).div_euclid(bucket_ms) * bucket_ms;
            let count = (now_ms - since_ms).div_euclid(bucket_ms) + 1;
            let start = |n| Bucket { start_ms: since_ms + n * bucket_ms, types: BTreeMap::new() };
            let mut stats = Stats {
                since_ms,
                until_ms: now_ms,
                total: 0,
                types: BTreeMap::new(),
                buckets: (0..count).map(start).collect(),
            };
            let mut after = EventId::at_time(since_ms.max(0) as u64).before();
            let limit = PageLimit { events: rooms.limits.page_events, bytes: rooms.limits.page_bytes };
            loop {
                let page = rooms.frames.page(no, after, limit, Direction::Forward)?;
                after = page.last.unwrap_or(after);
                for frame in page.frames {
                    let at = (frame.event.id.time_ms() as i64 - since_ms).div_euclid(bucket_ms);
                    // an id may run ahead of the clock after the clock stepped back: it counts as now
                    let last = stats.buckets.len() - 1;
                    let bucket = &mut stats.buckets[(at.max(0) as usize).min(last)];
                    if frame.passes(&filter) {
                        let kind = frame.event.kind.as_str();
                        *bucket.types.entry(kind.into()).or_default() += 1;
                        *stats.types.entry(kind.into()).or_default() += 1;
                        stats.total += 1;
                    }
                }
                if !page.more {
                    return Ok(stats);
                }
            }
        })
        .await
    }
}
