//! The series by name: what each says, of whom, and who may read it. The API reference is made from this table.

use super::step::{Count, Level, Step};

/// What somebody must be or have to read a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    Subscribe,
    Manage,
    Admin,
}

impl Needs {
    pub fn as_str(self) -> &'static str {
        match self {
            Needs::Subscribe => "`subscribe`",
            Needs::Manage => "`manage`",
            Needs::Admin => "admin",
        }
    }
}

/// Of whom there is a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// The server, channels, and webhooks.
    All,
    /// The server and channels.
    Channels,
    Server,
}

impl Of {
    pub fn as_str(self) -> &'static str {
        match self {
            Of::All => "server, channel, webhook",
            Of::Channels => "server, channel",
            Of::Server => "server",
        }
    }
}

/// What a step says.
#[derive(Clone, Copy, Debug)]
enum Figure {
    Sum(&'static [Count]),
    /// Nothing noted is 0.
    Level(Level),
    /// Nothing noted is not known.
    Measured(Level),
    /// In milliseconds.
    Attempts(f64),
    Commits(f64),
}

#[derive(Clone, Copy, Debug)]
pub struct Series {
    pub name: &'static str,
    pub unit: &'static str,
    pub of: Of,
    pub needs: Needs,
    /// For people.
    pub says: &'static str,
    figure: Figure,
}

/// A number of a series: whole where what it counts is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    Whole(u64),
    Fraction(f64),
}

impl Series {
    /// What a step says; none: that is not known.
    pub fn value(&self, step: &Step) -> Option<Value> {
        match self.figure {
            Figure::Sum(counts) => Some(Value::Whole(counts.iter().map(|count| step.count(*count)).sum())),
            Figure::Level(level) => Some(Value::Whole(step.level(level).unwrap_or(0))),
            Figure::Measured(level) => step.level(level).map(Value::Whole),
            Figure::Attempts(share) => step.attempts.percentile_ms(share).map(Value::Fraction),
            Figure::Commits(share) => step.commits.percentile_ms(share).map(Value::Fraction),
        }
    }
}

macro_rules! series {
    ($($name:literal $unit:literal $of:ident $needs:ident $figure:expr, $says:literal;)*) => {
        pub const SERIES: &[Series] = &[$(Series {
            name: $name, unit: $unit, of: Of::$of, needs: Needs::$needs, says: $says, figure: $figure,
        }),*];
    };
}

series! {
    "published" "events" Channels Subscribe Figure::Sum(&[Count::Published]), "Events stored.";
    "connections" "streams" Channels Subscribe Figure::Level(Level::Connections),
        "Most open streams. A stream of several channels counts for the server only.";
    "streamed" "events" Server Admin Figure::Sum(&[Count::Streamed]), "Events handed to streams, once for each stream.";
    "attempts" "attempts" All Manage Figure::Sum(&[Count::Delivered, Count::Failed]), "Attempts to deliver to webhooks, tests among them.";
    "delivered" "attempts" All Manage Figure::Sum(&[Count::Delivered]), "Attempts that were answered with 2xx.";
    "failed" "attempts" All Manage Figure::Sum(&[Count::Failed]), "All other attempts.";
    "gave_up" "deliveries" All Manage Figure::Sum(&[Count::GaveUp]), "Deliveries given up after their last attempt.";
    "answered_2xx" "attempts" All Manage Figure::Sum(&[Count::Answered2xx]), "Attempts by the class of the answer's status.";
    "answered_3xx" "attempts" All Manage Figure::Sum(&[Count::Answered3xx]), "The same: redirects are not followed.";
    "answered_4xx" "attempts" All Manage Figure::Sum(&[Count::Answered4xx]), "The same.";
    "answered_5xx" "attempts" All Manage Figure::Sum(&[Count::Answered5xx]), "The same.";
    "unanswered" "attempts" All Manage Figure::Sum(&[Count::Unanswered]),
        "Attempts without an answer: no connection, no answer in time, or nothing could be sent.";
    "latency_p50_ms" "ms" All Manage Figure::Attempts(0.5), "How long attempts took: half of them no longer than this. Told to within a third.";
    "latency_p95_ms" "ms" All Manage Figure::Attempts(0.95), "The same for 95 of 100.";
    "latency_p99_ms" "ms" All Manage Figure::Attempts(0.99), "The same for 99 of 100.";
    "lag_ms" "ms" All Manage Figure::Level(Level::LagMs),
        "From what a webhook has got to the newest event of its channel, in log time; of several webhooks the longest.";
    "retrying" "deliveries" All Manage Figure::Level(Level::Retrying), "Most deliveries that waited for a retry.";
    "commit_p50_ms" "ms" Server Admin Figure::Commits(0.5), "How long it took until a batch of events was durable. Told to within a third.";
    "commit_p99_ms" "ms" Server Admin Figure::Commits(0.99), "The same for 99 of 100.";
    "disk_free_bytes" "bytes" Server Admin Figure::Measured(Level::DiskFreeBytes), "Least free space where the data lives.";
    "log_bytes" "bytes" Server Admin Figure::Measured(Level::LogBytes), "The log on disk.";
    "memory_bytes" "bytes" Server Admin Figure::Measured(Level::MemoryBytes), "Most memory of the process, where the system says it.";
}
