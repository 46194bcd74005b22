//! Events going out by HTTP: where they may go, and how one attempt is made.

pub mod client;
mod connector;
mod link;
pub mod outcome;
pub mod resolver;
pub mod target;
