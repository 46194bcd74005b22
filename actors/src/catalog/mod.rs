//! What is configured: channels, tokens, webhooks and sources, held in memory.

pub mod channels;
pub mod credentials;
pub mod source;
mod system;
pub mod webhook;
pub mod webhook_validate;
pub mod webhooks;
