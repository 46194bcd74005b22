//! Outgoing deliveries, as a pure state machine: which event goes to a webhook, when, and when again.
//!
//! [`Endpoint`] holds one webhook: a cursor over the log, the attempts in flight, and a [`Row`] for each delivery in
//! trouble. It takes [`Input`]s and gives [`Effect`]s; the actor around it performs them and decides nothing.
//!
//! Durability: [`Effect::Persist`]s are applied in order, each whole or not at all. A row is in the same one as the
//! cursor that passes its events. An attempt of a row, and an [`Effect::Emit`], are only given when the Persist that
//! they rest on is reported durable. First attempts rest on nothing: after a crash they are made again from the cursor,
//! under the same [`DeliveryId`]. A request of a client is acknowledged when the Persist of its turn is durable.

mod bucket;
mod config;
mod dispatch;
mod endpoint;
mod ids;
mod ledger;
mod outcome;
mod owner;
mod policy;
mod protocol;
mod reader;
mod record;
mod rows;

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod simulation;

pub use config::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_WAIT_MAX_MS, Batch, EndpointConfig, EndpointLimits, IN_FLIGHT_MAX,
    RATE_MAX, RateLimit,
};
pub use endpoint::{Endpoint, Observed, Slots};
pub use ids::{DeliveryId, MalformedDeliveryId};
pub use policy::{
    ATTEMPTS_MAX, BadField, BadPolicy, DEFAULT_SCHEDULE_S, DELAY_MAX_S, JITTER_PERCENT, PolicyChange,
    RETRY_AFTER_MAX_MS, RetryPolicy, RetryPolicyForm, jittered_ms, wait_ms,
};
pub use protocol::{
    Attempt, Effect, Input, LogEntry, Notice, NoticeKey, Offer, Opened, Outcome, Refusal, ReplayRequest, Resume,
    Standing, Ticket, Trigger,
};
pub use record::{
    Change, EndpointState, Failing, Failure, FailureCode, GAPS_KEPT, Gap, Health, HealthNotice, Job, JobId, JobState,
    NOTICES_KEPT, Off, OffReason, Request, Row, RowState,
};
