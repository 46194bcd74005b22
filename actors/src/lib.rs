//! The engine of Stentor: one log, and exits that are each a cursor into it and a filter.
//!
//! ```text
//! publishers ──> journal ──> channel actors ──> shards ──> SSE and WebSocket sessions
//!                (sled)      (one per map)      (one per worker)
//!                   ^                                          |
//!                   └─────────────── cursor reads ─────────────┘
//! ```
//!
//! # Layout
//! - [`hub`]: the verbs that the edge may call
//! - [`model`]: pure: events, ids, filters, envelopes, access
//! - [`store`]: sled: the segmented log and the state database
//! - [`journal`], [`channel`], [`shard`], [`session`], [`registry`], [`tickets`], [`janitor`]: the actors, and the thread
//!   that writes
//! - [`frame`], [`ring`]: what they hand to each other
//! - [`limits`], [`metrics`], [`credentials`], [`directory`], [`trail`]: what they share
//! - `system`: the server's own events

pub mod channel;
mod clock;
pub mod credentials;
pub mod directory;
mod engine;
pub mod frame;
pub mod hub;
pub mod janitor;
pub mod journal;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod registry;
pub mod ring;
mod routes;
pub mod session;
pub mod shard;
pub mod source;
pub mod store;
mod system;
pub mod tickets;
pub mod trail;
pub mod webhook;
