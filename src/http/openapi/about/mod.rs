//! What the document says of each operation: one file per group, one function per handler.

pub mod channels;
pub mod deliveries;
pub mod events;
pub mod operations;
pub mod overview;
pub mod sources;
pub mod streams;
pub mod tokens;
pub mod webhooks;
