//! One POST to a receiver: the target check, name look-up, connection, TLS, the answer with its bounds, and the deadline.
//!
//! It is a client of our own and not awc, which takes the first answer for the final one and a body without a length for
//! none (`awc::client::h1proto`), and reads heads of up to 96 lines.

mod answer;
mod body;
pub mod client;
mod connection;
mod connector;
mod exchange;
pub mod headers;
mod pool;
mod request;
pub mod resolver;
#[cfg(test)]
pub mod simulated;
pub mod target;
pub mod tls;
