//! What goes into an endpoint and what comes out: inputs, effects, and the words that both use.

use serde::{Deserialize, Serialize};

use super::config::EndpointConfig;
use super::ids::DeliveryId;
use super::record::{Change, EndpointState, FailureCode, Gap, HealthNotice, Job, JobId, Off, Row};
use crate::model::id::EventId;

/// What was kept, for [`super::Endpoint::open`].
#[derive(Clone, Debug)]
pub struct Opened {
    pub config: EndpointConfig,
    /// For a webhook that was just made: [`EndpointState::new`] with the head of the log.
    pub state: EndpointState,
    pub rows: Vec<Row>,
    pub jobs: Vec<Job>,
    /// The newest event of the channel that retention has taken; [`EventId::ZERO`] while it has taken none.
    pub lost_through: EventId,
}

/// Something that happened to an endpoint.
#[derive(Clone, Debug)]
pub enum Input {
    /// The answer to [`Effect::Read`]: every event of the channel after the position asked for, up to and with
    /// `through`, in log order. `more`: the log goes on behind `through`, as far as was asked for. An answer that nobody
    /// waits for any more is ignored.
    Offered { ticket: Ticket, events: Vec<Offer>, through: EventId, more: bool },
    /// The log of the channel has grown.
    Appended,
    /// An attempt ended.
    Finished { delivery: DeliveryId, outcome: Outcome },
    /// Every [`Effect::Persist`] up to and with this number is durable.
    Persisted { through: u64 },
    /// The time asked for by [`Effect::WakeAt`] has come. May come at any time.
    Tick,
    /// The owner changed the webhook. `new_target`: the URL is another, so what the old one did is no evidence.
    Configure { config: EndpointConfig, new_target: bool },
    /// The owner switches the endpoint on again. The stored configuration must say `active: true` already. `head`: the
    /// newest id of the log.
    Enable { resume: Resume, head: EventId },
    /// The owner switches it off. The stored configuration must say `active: false` already.
    Disable,
    /// Somebody wants this delivery to be attempted now. `events`: what it carries, for a delivery without a row.
    /// `attempts`: the POSTs that it had.
    Resend { delivery: DeliveryId, events: Vec<EventId>, attempts: u32 },
    /// Somebody wants a range of the log again.
    Replay(ReplayRequest),
    /// Somebody wants a sample to be sent now. Its outcome says nothing about the health.
    Test { delivery: DeliveryId },
    /// Retention has taken every event up to and with `through`, and there were some.
    Lost { through: EventId },
    /// A part of the log that a read went over, those after `after` up to and with `through`, is damaged: events of the
    /// channel may be missing there. `job`: the replay that read it; none: the live cursor. Comes before its `Offered`.
    Damaged { job: Option<JobId>, after: EventId, through: EventId },
    /// What [`Effect::Emit`] asked for is in the log.
    Announced { key: NoticeKey },
    /// No new attempts. [`Effect::Stopped`] follows when those in flight have ended and everything is durable.
    Shutdown,
}

/// Names one [`Effect::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// One event of the channel as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub id: EventId,
    /// Whether it passes the filter of the webhook (and of the job, for a replay).
    pub matches: bool,
    /// Its size in a body, near enough.
    pub bytes: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Success,
    Failed {
        status: Option<u16>,
        code: FailureCode,
        retry_after_ms: Option<u64>,
    },
    /// 410: the receiver does not want this any more.
    Gone,
}

/// What an endpoint does about the past when it is switched on again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Forgets what waits: on from the head of the log, rows that are retried are dropped. Dead ones stay listed.
    Skip,
    /// Delivers what waits: the rows and the events after the cursor.
    #[default]
    Pending,
    /// The same, and the dead ones again with all their attempts.
    All,
}

/// A range of the log to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Events after `after` up to and with `until`. What lies behind the cursor comes anyway and is left out.
    pub after: EventId,
    pub until: EventId,
    pub events: Option<Vec<String>>,
    pub dead_only: bool,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    First,
    Retry,
    Manual,
    Replay,
    Test,
}

/// One POST to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub delivery: DeliveryId,
    /// In log order; empty for a test.
    pub events: Vec<EventId>,
    /// Counts the POSTs of this delivery from 1.
    pub number: u32,
    pub trigger: Trigger,
}

/// What the actor does for an endpoint, in this order. See the module's text for what must be durable before what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read up to `want` events of the channel after `after`, none behind `until`, filter them for the live cursor or
    /// for the job, and answer with [`Input::Offered`].
    Read {
        ticket: Ticket,
        job: Option<JobId>,
        after: EventId,
        until: EventId,
        want: usize,
    },
    Attempt(Attempt),
    /// Apply the changes, all or none, behind those of every lower number, and answer with [`Input::Persisted`].
    Persist {
        seq: u64,
        changes: Vec<Change>,
    },
    /// Send [`Input::Tick`] at this time. Replaces the time asked for before.
    WakeAt {
        at_ms: u64,
    },
    /// Append to the channel `system`, once per `key` (a dedupe key), and answer with [`Input::Announced`]. Comes again
    /// after a restart until it was answered.
    Emit {
        key: NoticeKey,
        notice: Notice,
    },
    /// Something for the delivery log, which people read and nothing depends on.
    Log(LogEntry),
    /// The job was taken. Durable with the highest `Persist` of the same call.
    JobStarted(JobId),
    /// What was asked for cannot be done.
    Refused(Refusal),
    /// The endpoint is at rest; it may be dropped.
    Stopped,
}

/// Names a notice over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKey {
    Health(u64),
    /// With the end of the gap.
    Gap(EventId),
    /// With the number of attempts, because a dead delivery may be enabled and die again.
    Dead(DeliveryId, u32),
}

/// An event for the channel `system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `webhook.disabled`.
    Disabled(Off),
    /// `webhook.enabled`.
    Enabled { at_ms: u64 },
    /// `webhook.dead_letter`.
    DeadLetter(Box<Row>),
    /// `webhook.gap`.
    Gap(Gap),
}

impl Notice {
    /// The type of the event.
    pub fn event_type(&self) -> &'static str {
        match self {
            Notice::Disabled(_) => "webhook.disabled",
            Notice::Enabled { .. } => "webhook.enabled",
            Notice::DeadLetter(_) => "webhook.dead_letter",
            Notice::Gap(_) => "webhook.gap",
        }
    }
}

impl From<HealthNotice> for Notice {
    fn from(notice: HealthNotice) -> Self {
        match notice.off {
            Some(off) => Notice::Disabled(off),
            None => Notice::Enabled { at_ms: notice.at_ms },
        }
    }
}

/// How a delivery stands after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Delivered,
    Retrying {
        next_at_ms: u64,
    },
    Dead,
    /// Nobody waits for it any more: a test, a delivery that was skipped, or one whose events retention took.
    Dropped,
}

/// What people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    Attempt {
        attempt: Attempt,
        outcome: Outcome,
        standing: Standing,
    },
    /// Events were gone before they were attempted.
    Gap(Gap),
    /// Retention took these events of a delivery that had failed. If they were all, the delivery is gone.
    LostEvents {
        delivery: DeliveryId,
        events: Vec<EventId>,
    },
    /// Dropped by `resume: skip`.
    Skipped(Vec<DeliveryId>),
    /// Dead deliveries that made room for newer ones.
    Forgotten(Vec<DeliveryId>),
}

/// Why a request was not taken; the caller may try again when it no longer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the webhook is switched off: enable it first")]
    Off,
    #[error("this delivery is being attempted right now: wait for its outcome")]
    InFlight,
    #[error("retention has taken the events of this delivery")]
    Expired,
    #[error("too many deliveries wait for a manual attempt: wait until some are done")]
    TooManyRequests { most: usize },
    #[error("too many replays wait for their turn: wait until one is done")]
    TooManyJobs { most: usize },
    #[error("a test is under way: wait for its outcome")]
    TestRunning,
    #[error("this was a test, which is not sent again: make another one by POST .../test")]
    Test,
    #[error("the server is stopping: try again in a moment")]
    Stopping,
}
