//! Outgoing webhooks: the actors that deliver events by HTTP, and what became of each delivery.
//!
//! - [`actor`]: one per webhook; [`registry`]: the actor of each webhook, started again when it died
//! - [`handles`]: the settings, and what the actors share of the rest of the engine
//! - `pages`, `attempt`: reading the log, posting; [`http`]: one POST, to where it may go
//! - [`storage`], `unsaved`: the state of deliveries as documents, and what of it is not durable yet
//! - [`history`], [`delivery_log`]: what people may read of deliveries, in memory and on disk
//! - `notices`: what is published about webhooks in the organization `system`

pub mod actor;
pub mod attempt;
pub mod delivery_log;
pub mod elsewhere;
mod gauges;
pub mod handles;
pub mod handshake;
pub mod history;
pub mod http;
mod notices;
pub mod outcome;
pub mod ownership;
pub(crate) mod pages;
pub mod registry;
pub(crate) mod storage;
mod unsaved;
