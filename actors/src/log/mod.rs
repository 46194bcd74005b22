//! The event log: what is committed, the newest of it in the pieces of the write-ahead log, the rest in sealed segments.
//!
//! ```text
//! log/<number>/db         a sealed segment: a database that is written once, with the files that sled puts beside it
//! log/<number>/keys       its dedupe keys, as they are in the database: read at the start without opening that
//! log/<number>/manifest   what it holds; written last, and durably before the pieces are used again
//! log/<number>.new, .old  a segment that was rebuilt, and the damaged one, while the one takes the other's place
//! log/dropped-<number>    a segment that retention is removing
//! log/newest              which segment was sealed last, so that one that is missing is noticed
//! quarantine/<number>-<ms>  a damaged segment from which something could not be recovered, with a file `reason`
//! ```
//!
//! Events are admitted when they are durable, in the order of their ids, which is the order of the log. The **active** part is an
//! index over the pieces that hold them. When it is large or old enough it is **rolled**: a new active part begins, and
//! a thread seals the rolled one. Readers work on a snapshot of one moment, so that a segment that is
//! sealed or dropped meanwhile changes nothing for them. No lock is held over I/O.
//!
//! What is damaged is never skipped in silence: see [`losses`] and [`repair`].

mod active;
mod adopting;
mod block;
mod block_cache;
mod chunks;
mod databases;
mod dedupe;
mod file_check;
mod format_1;
mod import;
mod losses;
mod manifest;
mod newest;
mod opening;
mod page;
mod reading;
mod record;
mod repair;
mod retention;
mod sealed;
mod sealing;
mod section;
mod segment_writer;
mod several;
mod state;
mod survey;
#[cfg(test)]
mod tests;
mod types;
mod view;

pub use self::adopting::{abandon_format_1, adopt_format_1};
pub use self::dedupe::KEY_BYTES_MAX;
pub use self::import::{ImportError, Imported, LogImport, count_events, import_format_1};
pub use self::losses::{DamagedRange, LossChange, LossDocument, restored_losses};
pub use self::retention::Expiry;
pub use self::sealing::SealStep;
pub use self::section::{MalformedSection, decode_events, encode_events, encode_keys};
pub use self::several::SomeChannels;
pub use self::state::{Admission, CommitPart, Log};
pub use self::survey::{LogLook, LogSurvey, SegmentState, SegmentSurvey};
pub use self::types::{
    Dedupe, DedupeKey, Direction, LogError, LogOptions, LogPage, LogStats, PageLimit, Retention, Span,
};
pub use crate::clock::Moment;

pub use self::view::{LogView, UsedKey, decode_used_keys, encode_used_keys};
