//! The engine of Stentor.
pub mod model;
