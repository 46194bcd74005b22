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
//! - [`delivery`]: webhooks going out; [`streams`]: SSE and WebSocket; [`ingest`]: sources coming in
//! - [`catalog`]: channels, tokens, webhooks and sources as they are configured
//! - [`journal`]: the only writer; [`feed`]: who is told of what was committed
//! - [`store`]: sled: the segmented log and the state database
//! - [`model`]: pure: events, ids, filters, envelopes, access
//! - [`limits`], [`metrics`], [`budget`], [`supervision`], `clock`: used on every floor

pub mod budget;
pub mod catalog;
mod clock;
pub mod delivery;
pub mod disk;
pub mod documents;
mod engine;
pub mod feed;
pub mod hub;
pub mod ingest;
pub mod journal;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod model;
pub mod store;
pub mod streams;
pub mod wal;
pub mod supervision;
