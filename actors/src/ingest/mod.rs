//! Sources at work: who stands at each address, what came in, and what was refused.
//!
//! - [`registry`]: all sources by id, ready to verify, with what they count
//! - [`dead_letters`]: what a verified sender sent and was refused for its content
//! - [`counters`]: the task that writes the counters down and reports refusals
//!
//! What a source decides (whom it believes, how a body becomes events) is in [`crate::model::source`].

pub mod counters;
pub mod dead_letters;
pub mod registry;
