//! The pure part of the engine: what an event is and what may be done with it.
//!
//! No actix, tokio, sled, clock or source of randomness in here: whatever time it is and whatever is drawn by chance
//! comes in as an argument. So everything below can be tested as a table or a property.

pub mod access;
pub mod catalogue;
pub mod channel;
pub mod cloudevents;
pub mod delivery;
#[cfg(test)]
mod dice;
pub mod draft;
pub mod durations;
pub mod envelope;
pub mod event;
pub mod filter;
pub mod format;
pub mod hex;
pub mod id;
pub mod json;
pub mod jwt;
pub mod percent;
pub mod record_id;
pub mod relay;
pub mod seal;
pub mod selection;
pub mod signature;
pub mod source;
pub mod sparse;
pub mod splitmix;
pub mod target;
pub mod timestamp;
pub mod trace_context;
pub mod unpack;
