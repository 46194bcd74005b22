//! The engine of Stentor: one log, and exits that are each a cursor into it and a filter.
//!
//! ```text
//! publishers ──> journal ──> feed ──> channel actors ──> shards ──> SSE and WebSocket sessions
//!                (log)         └────> webhook actors ──> receivers      |
//!                   ^                                                   |
//!                   └────────────────── cursor reads ───────────────────┘
//! ```
//!
//! # Layout
//! Modules are listed from the top floor down; a module uses only what stands below it.
//! - [`hub`]: the verbs that the edge may call, start and stop
//! - `cluster`: many nodes on NATS, another worker behind the journal's queue
//! - [`delivery`]: webhooks going out; [`streams`]: SSE and WebSocket; [`ingest`]: sources coming in
//! - [`catalog`]: channels, tokens, webhooks and sources as they are configured
//! - [`journal`]: the only writer, and the start, which is a recovery; [`series`]: figures over time
//! - [`log`]: events; [`documents`]: what is configured and small state; [`feed`]: who is told of what was committed
//! - [`wal`]: the write-ahead log
//! - [`disk`]: files, databases and failure points; beside it [`clock`], [`metrics`], [`budget`], [`compute`],
//!   [`supervision`]
//! - [`model`]: pure: events, ids, filters, envelopes, access

#![warn(clippy::missing_errors_doc)]

pub mod backup;
pub mod budget;
pub mod catalog;
pub mod clock;
#[cfg(feature = "nats")]
pub mod cluster;
pub mod compute;
pub mod delivery;
pub mod disk;
pub mod documents;
pub mod feed;
#[cfg(test)]
mod floors;
#[cfg(test)]
mod fuzz;
pub mod hub;
pub mod ingest;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod model;
#[cfg(test)]
mod seeds;
pub mod series;
pub mod streams;
pub mod supervision;
pub mod wal;
