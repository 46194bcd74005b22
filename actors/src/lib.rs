//! The engine of Stentor.
pub mod model;
pub mod webhook;
