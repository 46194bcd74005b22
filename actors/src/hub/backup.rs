//! tmp
use std::io;
use actix_web::web::Bytes;
use futures_util::Stream;
use super::Hub;
pub struct Summary { pub about: About, pub documents: u64, pub segments: u64, pub bytes: u64 }
pub struct About { pub head: crate::model::id::EventId, pub taken_at_ms: i64, pub version: String }
#[derive(Debug, thiserror::Error)]
pub enum BackupError { #[error("tmp")] Tmp }
pub fn check(_: impl io::Read) -> Result<Summary, BackupError> { Err(BackupError::Tmp) }
pub fn restore(_: impl io::Read, _: &std::path::Path) -> Result<Summary, BackupError> { Err(BackupError::Tmp) }
impl Hub {
    pub fn backup(&self, _: &'static str) -> Option<impl Stream<Item = io::Result<Bytes>> + use<>> {
        None::<futures_util::stream::Empty<io::Result<Bytes>>>
    }
}
