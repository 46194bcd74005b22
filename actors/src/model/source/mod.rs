//! Sources: addresses to which somebody else sends events, who is believed there, and how a body becomes drafts.
//!
//! A request passes [`auth`] (raw bytes and headers against the keys of the source), then [`body`] (strict JSON, the
//! fields of an event or the whole of what a provider sends, by [`rule`]), and [`schema`] says of each event whether it is
//! as its owner expects. [`limit`] is the rate. What the time is comes in as an argument everywhere.

pub mod auth;
pub mod body;
mod jwt;
pub mod limit;
mod mac;
mod pointer;
pub mod rule;
pub mod schema;
mod strict;

pub use auth::{Authentication, Headers, HmacAlgorithm, Proof, Scheme, Untrusted, Verifier};
pub use body::{Config, Content, Read, Refused, Taken};
pub use limit::{Rate, Window};
pub use mac::sign_hmac;
pub use rule::Rule;
pub use schema::Schema;

/// The properties in the payload of an event that a source took in.
pub fn properties(payload: &str) -> Option<&str> {
    pointer::member(payload, "properties")
}
