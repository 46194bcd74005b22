//! Events going out by HTTP: who delivers them when, and what became of each delivery.
//!
//! - [`actor`]: one per webhook; [`supervisor`]: starts them; [`registry`]: which stands for which webhook
//! - `pages`, `attempt`, `storage`: what an actor does: read the log, post, persist; [`history`]: the delivery log for people
//! - [`http`]: one POST, to where it may go
//! - `notices`: what is published about webhooks in the organization `system`

pub mod actor;
pub mod attempt;
mod gauges;
pub mod history;
pub mod http;
mod notices;
pub mod outcome;
mod pages;
pub mod registry;
pub(crate) mod storage;
pub mod supervisor;
