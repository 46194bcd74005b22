//! What the log is told and what it answers.

use crate::disk::{Cure, DatabaseError, DiskError};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

/// How much of the log is kept; 0 = no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    pub max_age_ms: u64,
    /// On disk.
    pub max_bytes: u64,
    pub max_events: u64,
}

#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A new segment begins when the records of the active one have this size.
    pub segment_max_bytes: u64,
    pub segment_max_age_ms: u64,
    /// Databases of sealed segments that are open at once. Readers of others wait.
    pub open_segments: usize,
    pub retention: Retention,
    pub dedupe_window_ms: u64,
    /// Dedupe keys that are remembered; beyond it the oldest are forgotten.
    pub dedupe_keys: usize,
}

/// A key under which the same request or event is known again: `count` consecutive ids from `first` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dedupe {
    pub channel: ChannelNo,
    pub key: DedupeKey,
    pub first: EventId,
    pub count: u32,
}

/// Half of the SHA-256 of a publisher's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DedupeKey(pub(super) [u8; 16]);

impl DedupeKey {
    /// The key of a whole request (`Idempotency-Key`).
    pub fn of_request(text: &str) -> DedupeKey {
        DedupeKey::hash(b"request", text.as_bytes())
    }

    /// The key of one event (`dedupe_id`).
    pub fn of_event(text: &str) -> DedupeKey {
        DedupeKey::hash(b"event", text.as_bytes())
    }

    /// The key under which the `n`th run of ids of the same request is kept.
    pub fn nth(self, n: u32) -> DedupeKey {
        if n == 0 { self } else { DedupeKey::hash(&self.0, &n.to_be_bytes()) }
    }

    /// A key as it is stored.
    pub fn from_bytes(bytes: [u8; 16]) -> DedupeKey {
        DedupeKey(bytes)
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    fn hash(domain: &[u8], text: &[u8]) -> DedupeKey {
        use sha2::Digest;
        let digest = sha2::Sha256::new().chain_update(domain).chain_update([0]).chain_update(text).finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        DedupeKey(half)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Strictly after the cursor, oldest first.
    Forward,
    /// Strictly before the cursor, newest first.
    Backward,
}

/// How large a page may become. It holds at least one event when there is one.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    pub events: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct LogPage {
    pub events: Vec<Event>,
    /// Whether there are events behind the last one.
    pub more: bool,
    /// How far this page goes: a page from here on misses nothing and repeats nothing. The last event's id when there is more;
    /// else the log's head, or zero when it was read backward.
    pub last: EventId,
}

/// What a segment holds of a channel, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: EventId,
    pub last: EventId,
    pub events: u64,
}

#[derive(Debug, Clone, Default)]
pub struct LogStats {
    /// Sealed ones, and those of the active part and the one that waits to be sealed.
    pub segments: usize,
    pub events: u64,
    /// Of sealed segments on disk, and of the records that are not sealed yet.
    pub bytes: u64,
    /// Records that are not sealed yet.
    pub unsealed_bytes: u64,
    /// Folders of segments from which something could not be recovered.
    pub quarantined: Vec<String>,
    pub damaged_ranges: usize,
    pub dedupe_keys: usize,
    pub dedupe_bytes: usize,
    pub dedupe_forgotten: u64,
    /// What open databases keep in memory for the next reader.
    pub cached_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Section(#[from] super::section::MalformedSection),
    #[error("the segment {path} of the log is missing", path = path.display())]
    MissingSegment { path: std::path::PathBuf },
    #[error("the manifest {path} is missing", path = path.display())]
    MissingManifest { path: std::path::PathBuf },
    #[error("the segment {path} is not the one that was written there: {why}", path = path.display())]
    Stranger { path: std::path::PathBuf, why: String },
    #[error("{path} has format {format}, which this version does not know", path = path.display())]
    Newer { path: std::path::PathBuf, format: u32 },
    /// A segment that was just written does not hold what it should.
    #[error("the segment {path} is not what was written: {why}", path = path.display())]
    Unverified { path: std::path::PathBuf, why: String },
    /// A segment stays damaged after it was rebuilt.
    #[error("the segment {path} is damaged and cannot be rebuilt: {why}", path = path.display())]
    Beyond { path: std::path::PathBuf, why: String },
}

impl LogError {
    /// Whether there was no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            LogError::Disk(e) => e.is_full(),
            LogError::Database(e) => e.is_full(),
            _ => false,
        }
    }

    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            LogError::Disk(e) => e.cure(),
            LogError::Database(e) => e.cure(),
            LogError::Section(_) | LogError::Newer { .. } => {
                Cure::adjust("start the version that wrote it, or a newer one")
            }
            LogError::MissingSegment { .. } | LogError::MissingManifest { .. } => {
                Cure::restore("put it back, or restore a backup (stentor restore)")
            }
            LogError::Stranger { .. } => Cure::restore("put the right one back, or restore a backup (stentor restore)"),
            LogError::Unverified { .. } | LogError::Beyond { .. } => Cure::restore(
                "look into the system log (dmesg) for errors of the disk, or restore a backup (stentor restore)",
            ),
        }
    }
}
