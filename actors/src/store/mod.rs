//! What is kept on disk, and the only place that knows sled.
//!
//! ```text
//! data/lock                     held by the one server that may write here
//! data/log/<seq>/               one sled database per segment of the log
//! data/log/lost.json            what retention or quarantine took, per channel
//! data/quarantine/<seq>-<ms>/   segments that did not open, with a file `reason`
//! data/state/                   one small sled database: channels, tokens, numbers, webhooks and their deliveries
//! data/restoring                there while a backup is being restored
//! data/secret-key               the key that seals the secrets in it, unless the operator gives one
//! ```
//!
//! Keys of a segment, all in its default tree so that one batch is atomic (numbers big-endian):
//!
//! ```text
//! c channel:u32 first:16 part:u16   a block: the events of one channel in one commit, whole records up to 48 KiB; a
//!                                   larger record goes on in the parts after it (a page of 17 values stays below the
//!                                   size from which sled makes files of its own that it never syncs)
//! i first:16                        a commit: its blocks as (channel:u32, first:16), for reading all channels in order
//! d channel:u32 key:16              a dedupe key: first:16, count:u32, time_ms:u64
//! b                                 nothing; there since the segment was begun (as is the file `begun` beside the database)
//! m                                 what a sealed segment holds, so that it opens without being read
//! ```
//!
//! An update becomes visible when the whole commit is durable: readers never look past the log's head, which moves only
//! then. After a crash a commit is there or it is not; one that was not acknowledged may be there. The file of a sled
//! database never shrinks, so retention drops whole segments: it notes durably what goes, then removes the folder.

pub mod backup;
mod dedupe;
mod lock;
mod log;
mod lost;
mod record;
mod secret_key;
mod segment;
mod state;
mod survey;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use self::lock::DataLock;
pub use self::log::{Dropped, Log, LogStats, LogView, OpenReport};
pub use self::secret_key::secret_key;
pub use self::state::{Change, State, Table};
pub use self::survey::{Lock, Survey, free_bytes};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data folder {0} is in use by another server; stop that one, or choose another folder with --data")]
    InUse(PathBuf),
    #[error("the data folder {0} holds half of a backup; empty it and restore the backup again")]
    HalfRestored(PathBuf),
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the database {path} fails: {source}")]
    Sled { path: PathBuf, source: sled::Error },
    #[error("a stored document cannot be read: {0}")]
    Document(#[from] serde_json::Error),
    #[error(transparent)]
    SecretKey(#[from] crate::model::seal::BadKey),
    #[error("a stored document is damaged")]
    Damaged,
    #[error("a thread of the store panicked: {0}")]
    Panicked(String),
}

impl StoreError {
    /// Whether a database is damaged, rather than the disk full or a file missing.
    fn is_damage(&self) -> bool {
        matches!(
            self,
            StoreError::Panicked(_)
                | StoreError::Sled { source: sled::Error::Corruption { .. } | sled::Error::ReportableBug(_), .. }
        )
    }
}

/// When an append returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When the events are on the disk, whatever happens to the machine.
    Fsync,
    /// When they are with the operating system: a crash of the process loses nothing.
    Flush,
    /// At once; they are flushed every so many milliseconds.
    Interval { ms: u64 },
}

/// How much of the log is kept; 0 = no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    pub max_age_ms: u64,
    /// On disk.
    pub max_bytes: u64,
    pub max_events: u64,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub data_dir: PathBuf,
    pub durability: Durability,
    pub segment_max_bytes: u64,
    pub segment_max_age_ms: u64,
    /// sled's page cache, of each open segment.
    pub cache_bytes: u64,
    /// Sealed segments that stay open after they were read.
    pub open_segments: usize,
    pub retention: Retention,
    pub dedupe_window_ms: u64,
    /// Dedupe keys that are remembered; beyond it the oldest are forgotten.
    pub dedupe_keys: usize,
}

/// What one append makes durable at once.
#[derive(Default, Debug)]
pub struct Commit {
    /// In the order of their ids, which follow everything before.
    pub events: Vec<Event>,
    pub dedupe: Vec<Dedupe>,
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
pub struct DedupeKey([u8; 16]);

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

    fn hash(domain: &[u8], text: &[u8]) -> DedupeKey {
        use sha2::Digest;
        let digest = sha2::Sha256::new().chain_update(domain).chain_update([0]).chain_update(text).finalize();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        DedupeKey(half)
    }

    /// Enough of the key to know that it was never seen.
    fn fingerprint(self, channel: ChannelNo) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(bytes) ^ u64::from(channel.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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

#[derive(Debug, Default)]
pub struct Page {
    pub events: Vec<Event>,
    /// Whether there are events behind the last one.
    pub more: bool,
}

fn io<'a>(what: &'static str, path: &'a std::path::Path) -> impl Fn(std::io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { what, path: path.to_path_buf(), source }
}

/// Runs a step of sled, which panics on some damage: a panic is an error here, so that no thread ends of it.
fn guarded<T>(step: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err(StoreError::Panicked("sled gave up on a segment".into())))
}

/// Makes the names in a folder durable.
fn sync_dir(path: &std::path::Path) -> Result<(), StoreError> {
    std::fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(io("sync the folder", path))
}
