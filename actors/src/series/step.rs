//! One step of a series: what was counted in it, how high it went, how long things took. Steps add up, over time and over
//! those who are looked at together.

use serde::{Deserialize, Serialize};

use crate::metrics::tallies::{AnswerClass, Attempts};
use crate::model::durations::DurationCounts;
use crate::model::sparse::SparseNumbers;

/// What is counted. The numbers are those on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Count {
    Published = 0,
    Streamed = 1,
    Delivered = 2,
    Failed = 3,
    GaveUp = 4,
    Answered2xx = 5,
    Answered3xx = 6,
    Answered4xx = 7,
    Answered5xx = 8,
    Unanswered = 9,
}

/// What goes up and down. The numbers are those on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Level {
    Connections = 0,
    LagMs = 1,
    Retrying = 2,
    DiskFreeBytes = 3,
    LogBytes = 4,
    MemoryBytes = 5,
}

impl Level {
    const ALL: [Level; 6] =
        [Level::Connections, Level::LagMs, Level::Retrying, Level::DiskFreeBytes, Level::LogBytes, Level::MemoryBytes];

    /// The worst of a time.
    fn over_time(self, one: u64, other: u64) -> u64 {
        if self == Level::DiskFreeBytes { one.min(other) } else { one.max(other) }
    }

    /// Of several together.
    fn together(self, one: u64, other: u64) -> u64 {
        if self == Level::LagMs { one.max(other) } else { one.saturating_add(other) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    #[serde(rename = "c", default, skip_serializing_if = "SparseNumbers::is_empty")]
    counts: SparseNumbers,
    #[serde(rename = "l", default, skip_serializing_if = "SparseNumbers::is_empty")]
    levels: SparseNumbers,
    /// Of attempts of deliveries.
    #[serde(rename = "a", default, skip_serializing_if = "DurationCounts::is_empty")]
    pub attempts: DurationCounts,
    /// Of commits of the log.
    #[serde(rename = "m", default, skip_serializing_if = "DurationCounts::is_empty")]
    pub commits: DurationCounts,
}

impl Step {
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count as u8).unwrap_or(0)
    }

    pub fn level(&self, level: Level) -> Option<u64> {
        self.levels.get(level as u8)
    }

    pub fn is_empty(&self) -> bool {
        *self == Step::default()
    }

    /// Counts so many more. Nothing leaves nothing behind.
    pub fn add(&mut self, count: Count, more: u64) {
        if more > 0 {
            self.counts.update(count as u8, |counted| counted.unwrap_or(0).saturating_add(more));
        }
    }

    /// Notes how high something stands, the worst of the step.
    pub fn stands(&mut self, level: Level, at: u64) {
        self.levels.update(level as u8, |before| before.map_or(at, |before| level.over_time(before, at)));
    }

    pub fn add_attempts(&mut self, attempts: &Attempts) {
        self.add(Count::Delivered, attempts.succeeded);
        self.add(Count::Failed, attempts.failed);
        self.add(Count::GaveUp, attempts.gave_up);
        for (class, count) in AnswerClass::ALL.into_iter().zip(attempts.answers) {
            let counter = match class {
                AnswerClass::Success => Count::Answered2xx,
                AnswerClass::Redirect => Count::Answered3xx,
                AnswerClass::ClientError => Count::Answered4xx,
                AnswerClass::ServerError => Count::Answered5xx,
                AnswerClass::None => Count::Unanswered,
            };
            self.add(counter, count);
        }
        self.attempts.absorb(&attempts.durations);
    }

    /// Adds a part of the same time, or another time of a longer step.
    pub fn absorb(&mut self, other: &Step) {
        self.merge(other, Level::over_time);
    }

    /// Adds the same time of another one who is looked at together with this one.
    pub fn join(&mut self, other: &Step) {
        self.merge(other, Level::together);
    }

    fn merge(&mut self, other: &Step, merged: fn(Level, u64, u64) -> u64) {
        for (key, more) in other.counts.iter() {
            self.counts.update(key, |counted| counted.unwrap_or(0).saturating_add(more));
        }
        for level in Level::ALL {
            if let Some(at) = other.level(level) {
                self.levels.update(level as u8, |before| before.map_or(at, |before| merged(level, before, at)));
            }
        }
        self.attempts.absorb(&other.attempts);
        self.commits.absorb(&other.commits);
    }
}
