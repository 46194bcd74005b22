//! Sources at work: verification of senders, counters, and requests that were refused.
//!
//! - [`registry`]: all sources by id, ready to verify, with what they count
//! - [`dead_letters`]: what a verified sender sent and was refused for its content
//! - [`counters`]: the task that writes the counters down and reports refusals
//!
//! How senders are verified and how a body becomes events is in [`crate::model::source`].

pub mod counters;
pub mod dead_letters;
pub mod registry;
