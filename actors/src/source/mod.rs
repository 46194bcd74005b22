//! Sources at work: who stands at each address, what came in, and what was refused.
//!
//! - [`record`]: a source as it is stored, its keys sealed
//! - [`intake`]: all sources by id, ready to verify, with what they count
//! - [`letters`]: what a verified sender sent and was refused for its content
//! - [`keeper`]: the actor that writes the counters down and reports refusals
//!
//! What a source decides (whom it believes, how a body becomes events) is in [`crate::model::source`].

pub mod intake;
pub mod keeper;
pub mod letters;
pub mod record;
