//! One POST to a receiver: the target check, name look-up, connection, deadline and bounds of the answer.

pub mod client;
mod connection;
mod connector;
pub mod headers;
pub mod resolver;
pub mod target;
