//! Streams: one session per SSE or WebSocket client, and what brings events to it.
//!
//! ```text
//! feed ──> channel actor ──> shard (one per HTTP thread) ──> local channel ──> sessions
//! ```
//!
//! - [`session`]: what all sessions share; [`sse`], [`websocket`]: the actor that is the life of a client: its opening frame,
//!   heartbeats and end. Its events do not pass through the actor: `body` reads them from the ring of its thread by a cursor,
//!   is woken at most once per batch, and takes everything up to the head in one write.
//! - [`channel`], [`shard`], [`registry`]: the actors between the feed and the sessions; [`ring`]: the newest frames
//! - [`slots`], [`tickets`]: who may open a stream
//!
//! This folder is the only place that knows `actix-web-actors`, so that another transport can replace it here.

mod body;
pub mod channel;
pub mod inspector;
mod local_channel;
mod reader;
pub mod registry;
pub mod ring;
pub mod session;
mod session_handle;
pub mod shard;
pub mod slots;
mod socket;
pub mod sse;
pub mod tickets;
pub mod websocket;

pub use self::local_channel::LocalChannel;
pub use self::session_handle::{End, SessionHandle};
pub use self::socket::Socket;
