//! What an endpoint keeps on disk: its state with the cursor, a row for each delivery in trouble, and replay jobs.
//!
//! Names are stable: these types are read back by later versions. A field that comes later needs a default.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::DeliveryId;
use super::policy::RetryPolicy;
use crate::model::id::EventId;

/// How many gaps an endpoint remembers for people; `gap_count` counts them all.
pub const GAPS_KEPT: usize = 8;
/// How many changes of health wait at most to be announced; the oldest are forgotten first.
pub const NOTICES_KEPT: usize = 8;

/// Why an attempt failed, in the words of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    DnsError,
    ConnectionRefused,
    ConnectionReset,
    Timeout,
    TlsError,
    TargetForbidden,
    ResponseTooLarge,
    /// An answer came, and its status was not 2xx.
    HttpStatus,
    /// The receiver was asked first whether it wants CloudEvents, and did not permit them.
    HandshakeRefused,
    /// The webhook's template makes nothing of the event. It would not at another time either, so there is no retry.
    RenderError,
}

impl FailureCode {
    pub const ALL: [FailureCode; 10] = [
        FailureCode::DnsError,
        FailureCode::ConnectionRefused,
        FailureCode::ConnectionReset,
        FailureCode::Timeout,
        FailureCode::TlsError,
        FailureCode::TargetForbidden,
        FailureCode::ResponseTooLarge,
        FailureCode::HttpStatus,
        FailureCode::HandshakeRefused,
        FailureCode::RenderError,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureCode::DnsError => "dns_error",
            FailureCode::ConnectionRefused => "connection_refused",
            FailureCode::ConnectionReset => "connection_reset",
            FailureCode::Timeout => "timeout",
            FailureCode::TlsError => "tls_error",
            FailureCode::TargetForbidden => "target_forbidden",
            FailureCode::ResponseTooLarge => "response_too_large",
            FailureCode::HttpStatus => "http_status",
            FailureCode::HandshakeRefused => "handshake_refused",
            FailureCode::RenderError => "render_error",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The evidence of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub code: FailureCode,
}

/// Where a delivery with a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// It failed and is attempted again at `next_at_ms`.
    Retrying,
    /// It was given up. Kept, and can be sent again.
    Dead,
    /// It was delivered before and is only here because somebody asked for it once more.
    Delivered,
}

/// Somebody asked for an attempt outside of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Of one delivery, by hand.
    Manual,
    /// As part of this replay job over dead deliveries.
    Replay(JobId),
}

/// A delivery in trouble. What went well has no row: the cursor stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub delivery: DeliveryId,
    /// In log order, never empty.
    pub events: Vec<EventId>,
    pub state: RowState,
    /// POSTs made so far, by whatever trigger.
    pub attempts: u32,
    /// How many of them were made before the retry schedule began again (by `resume: all`).
    #[serde(default)]
    pub ladder_from: u32,
    /// When the next attempt is due, in Unix milliseconds; of no meaning unless the state is `Retrying`.
    pub next_at_ms: u64,
    /// The wait that led to `next_at_ms`. A clock that stepped back makes nobody wait longer than this.
    pub wait_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Request>,
    /// Whether `webhook.dead_letter` has reached the log. Of no meaning unless the state is `Dead`.
    #[serde(default)]
    pub announced: bool,
}

impl Row {
    /// A row that is due at once, without a failure noted yet.
    pub(super) fn new(delivery: DeliveryId, events: Vec<EventId>, state: RowState, attempts: u32, now_ms: u64) -> Row {
        Row {
            delivery,
            events,
            state,
            attempts,
            ladder_from: 0,
            next_at_ms: now_ms,
            wait_ms: 0,
            first_failed_ms: None,
            last: None,
            requested: None,
            announced: false,
        }
    }

    /// The first event, by which rows are ordered.
    pub fn first(&self) -> EventId {
        self.events.first().copied().unwrap_or(EventId::ZERO)
    }

    /// The delay before the next attempt under `policy`, in milliseconds and without jitter; none when it has had all.
    pub(super) fn delay_ms(&self, policy: &RetryPolicy) -> Option<u64> {
        policy.delay_after_ms(self.attempts.saturating_sub(self.ladder_from))
    }
}

/// The health of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    #[default]
    Healthy,
    /// Several attempts in a row have failed; deliveries go out as ever.
    Degraded,
    /// It has failed for long, or has many rows: events wait in the log and one at a time is tried.
    Probing,
    /// Switched off by its owner; events wait in the log.
    Paused,
    /// Switched off by the server; events wait in the log until it is enabled.
    Disabled,
}

/// Why an endpoint is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffReason {
    /// By its owner.
    Owner,
    /// It answered 410 Gone.
    Gone,
    /// Every delivery failed for the whole of `disable_after_ms`.
    Failing,
}

/// That an endpoint is switched off, since when, and on what evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Off {
    pub reason: OffReason,
    pub since_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Failure>,
    pub consecutive_failures: u32,
}

/// A time without a single success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first attempt in it failed.
    pub first_ms: u64,
    /// When the last one did.
    pub last_ms: u64,
    /// The time between its failures, each gap counted up to `failing_gap_max_ms`.
    pub failing_ms: u64,
}

/// Events that were gone before they were attempted, by retention or in a damaged part of the log: those after `after` up
/// to and with `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub after: EventId,
    pub through: EventId,
    pub at_ms: u64,
    /// Whether `webhook.gap` has reached the log.
    #[serde(default)]
    pub announced: bool,
}

/// A change of health that is to be announced and has not reached the log yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthNotice {
    /// Counts up over the life of the webhook.
    pub no: u64,
    pub at_ms: u64,
    /// Why it is off; absent: it is on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<Off>,
}

/// The state of an endpoint: one small record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// Every event up to here was delivered, filtered out, lost to retention, or has a row.
    pub cursor: EventId,
    /// Retention has taken everything up to here, as far as this endpoint was told.
    #[serde(default = "zero")]
    pub lost_through: EventId,
    pub health: Health,
    pub health_since_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<Off>,
    /// Failed attempts since the last success.
    pub consecutive_failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// When an attempt last succeeded, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery_ms: Option<u64>,
    /// The latest [`GAPS_KEPT`] gaps.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    #[serde(default)]
    pub gap_count: u64,
    /// Events that retention took out of rows; those that never had one are in the gaps.
    #[serde(default)]
    pub lost_events: u64,
    #[serde(default)]
    pub notices: Vec<HealthNotice>,
    #[serde(default)]
    pub notice_no: u64,
}

fn zero() -> EventId {
    EventId::ZERO
}

impl EndpointState {
    /// A webhook made at `now_ms` that gets the events after `cursor`.
    pub fn new(cursor: EventId, now_ms: u64) -> EndpointState {
        EndpointState {
            cursor,
            lost_through: EventId::ZERO,
            health: Health::Healthy,
            health_since_ms: now_ms,
            off: None,
            consecutive_failures: 0,
            failing: None,
            last_failure: None,
            last_delivery_ms: None,
            gaps: Vec::new(),
            gap_count: 0,
            lost_events: 0,
            notices: Vec::new(),
            notice_no: 0,
        }
    }

    /// The same where its owner has switched it off before it was made: it begins so, and nobody has to be told.
    pub fn new_and_off(cursor: EventId, now_ms: u64) -> EndpointState {
        let off = Off { reason: OffReason::Owner, since_ms: now_ms, last: None, consecutive_failures: 0 };
        EndpointState { off: Some(off), health: Health::Paused, ..EndpointState::new(cursor, now_ms) }
    }

    pub(super) fn announce(&mut self, off: Option<Off>, now_ms: u64) -> HealthNotice {
        self.notice_no += 1;
        let notice = HealthNotice { no: self.notice_no, at_ms: now_ms, off };
        push_bounded(&mut self.notices, notice, NOTICES_KEPT);
        notice
    }

    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.gap_count += 1;
        push_bounded(&mut self.gaps, gap, GAPS_KEPT);
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
    list.push(item);
}

/// The number of a replay job, counted up per webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// Where a replay job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for its turn, or under way.
    Running,
    Done,
}

/// A replay: a cursor of its own over a range of the log, or a request on each dead delivery in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub state: JobState,
    /// The range: events after `after` up to and with `until`.
    pub after: EventId,
    pub until: EventId,
    /// Only events of these types, beside the filter of the webhook; read by whoever offers the events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Only dead deliveries.
    #[serde(default)]
    pub dead_only: bool,
    /// Everything up to here is done.
    pub position: EventId,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Deliveries by their outcome. After a crash, those made again count again.
    #[serde(default)]
    pub delivered: u64,
    #[serde(default)]
    pub failed: u64,
    /// Deliveries that were under way anyway.
    #[serde(default)]
    pub skipped: u64,
    /// Whether retention took a part of the range before it was reached.
    #[serde(default)]
    pub lost: bool,
}

/// One change to what is kept. The changes of one [`super::Effect::Persist`] are applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    PutState(Box<EndpointState>),
    PutRow(Box<Row>),
    DeleteRow(DeliveryId),
    PutJob(Box<Job>),
    DeleteJob(JobId),
}
