//! tmp
pub mod survey;
pub use survey::{Lock, Survey, free_bytes};
pub const MARK: &str = "restoring";
