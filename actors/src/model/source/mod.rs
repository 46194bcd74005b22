//! Sources: addresses to which others send events, how senders are verified, and how a body becomes drafts.
//!
//! A request passes [`auth`] (raw bytes and headers against the keys of the source, as a [`recipe`] says that the provider
//! signs; [`preset`] has those of providers that many people have), then [`body`] (strict JSON, the
//! fields of an event or the whole of what a provider sends, by [`rule`]), and [`schema`] says of each event whether it is
//! as its owner expects. [`limit`] is the rate. What the time is comes in as an argument everywhere.

pub mod auth;
pub mod body;
mod explain;
mod form;
pub mod handshake;
mod jwt;
pub mod limit;
mod lock;
mod mac;
mod pointer;
pub mod preset;
pub mod raw;
pub mod recipe;
pub mod rule;
pub mod schema;
mod strict;

pub use auth::{Authentication, Headers, HmacAlgorithm, Incoming, Proof, Scheme, Untrusted, Verifier};
pub use body::{Config, Content, Read, Refused, Taken, Unreadable};
pub use explain::{Explained, Step};
pub use handshake::Reply;
pub use limit::{Rate, Window};
pub use mac::sign_hmac;
pub use preset::Preset;
pub use recipe::Recipe;
pub use rule::Rule;
pub use schema::Schema;

/// The properties in the payload of an event that a source took in.
pub fn properties(payload: &str) -> Option<&str> {
    pointer::member(payload, "properties")
}

/// Whether an object has a member of this name.
pub fn has_member(object: &str, name: &str) -> bool {
    pointer::member(object, name).is_some()
}
