//! Events going out by HTTP: where they may go, how one attempt is made, and who makes it when.
//!
//! - [`actor`]: one per webhook; [`supervisor`]: starts them; [`office`]: what they share, and the list of webhooks
//! - [`record`], [`spec`]: a webhook as it is stored, and what may be asked of it
//! - `pages`, `attempt`, `shelf`: what an actor does: reads the log, posts, writes; [`history`], [`headers`]: what people may read of it
//! - [`client`], [`target`], [`resolver`], [`outcome`]: one POST, to where it may go

pub mod actor;
pub mod attempt;
pub mod client;
mod connector;
mod gauges;
pub mod headers;
pub mod history;
mod link;
pub mod office;
pub mod outcome;
mod pages;
pub mod record;
pub mod resolver;
pub(crate) mod shelf;
pub mod spec;
pub mod supervisor;
pub mod target;
mod voice;
