//! Several servers on NATS: what one acknowledges all have, whoever dies.
//!
//! - [`nodes`]: the servers of a test; [`nats`]: the NATS servers under them
//! - [`log`]: one order for all, whichever node is lost
//! - [`faults`]: NATS servers that are lost
//! - [`operating`]: what those are told who run it
//! - [`restore`]: from one server to several
//! - [`shared`]: what nodes decide together: names, numbers, tickets, revocations
//! - [`deliveries`]: one node delivers for a webhook
//! - [`snapshots`]: what nodes need no more is taken out of NATS

mod deliveries;
mod faults;
mod log;
mod nats;
mod nodes;
mod operating;
mod restore;
mod shared;
mod snapshots;
