//! The pure part of the engine: what an event is and what may be done with it.
//!
//! No actix, tokio, sled, clock or source of randomness in here: whatever time it is and whatever is drawn by chance
//! comes in as an argument. So everything below can be tested as a table or a property.

pub mod delivery;
pub mod event;
pub mod id;
pub mod json;
