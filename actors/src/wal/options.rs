//! How the log is kept, and its bounds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::header::HEADER_AREA_BYTES;

/// Payload of the largest commit.
pub const COMMIT_MAX_BYTES: usize = 256 << 20;
/// The smallest piece: the header and room for some records.
pub const PIECE_MIN_BYTES: u32 = 16 << 10;
/// The largest piece that may be asked for.
pub const PIECE_MAX_BYTES: u32 = 1 << 30;
/// What may be asked to wait for a sync.
pub const UNSYNCED_MAX_BYTES: usize = 256 << 20;
/// A piece that is made for a large commit has a multiple of these.
pub(super) const LARGE_PIECE_STEP_BYTES: usize = 1 << 20;

const _: () = assert!(HEADER_AREA_BYTES < PIECE_MIN_BYTES as usize);
// all that waits for a sync, with its headers and one commit more, fits into a piece, and its places into 32 bits
const _: () = assert!(2 * UNSYNCED_MAX_BYTES + COMMIT_MAX_BYTES + 2 * LARGE_PIECE_STEP_BYTES < u32::MAX as usize);

/// Which log a piece belongs to: random, so that a piece of another log is never taken for one of this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<LogId> for String {
    fn from(id: LogId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for LogId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<LogId, &'static str> {
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| text.len() == 32);
        Ok(LogId(number.ok_or("a log id is 32 hexadecimal digits")?.to_be_bytes()))
    }
}

/// When a commit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is synced: it survives a power cut.
    Fsync,
    /// When it is written: it survives a kill. Only the beginning of each piece is synced.
    Flush,
    /// When it is written; [`Wal::sync_if_due`] syncs.
    Interval { every_ms: u64 },
}

/// Which room a commit may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// All but the reserve.
    Normal,
    /// The reserve too: for what must go on when the disk is full.
    Reserve,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    pub durability: Durability,
    /// Bytes of a new piece.
    pub piece_bytes: u32,
    /// Pieces that [`Pieces::prepare`] keeps ready, besides the reserve.
    pub spare_pieces: usize,
    /// Pieces that [`Urgency::Normal`] never takes.
    pub reserve_pieces: usize,
    /// Files there may be at most; each is an open file as well.
    pub max_pieces: usize,
    /// With [`Durability::Interval`]: payload that may wait for its sync. A commit that would exceed it syncs first.
    pub unsynced_max_bytes: usize,
    /// Random, and another one at each start: it tells the records of one use of a piece from those of another.
    pub salt_seed: u64,
}

impl Options {
    /// The defaults for a start with this random number.
    pub fn new(salt_seed: u64) -> Options {
        Options {
            durability: Durability::Fsync,
            piece_bytes: 8 << 20,
            spare_pieces: 2,
            reserve_pieces: 2,
            max_pieces: 256,
            unsynced_max_bytes: 16 << 20,
            salt_seed,
        }
    }

    pub(super) fn within_bounds(self) -> Options {
        Options {
            piece_bytes: self.piece_bytes.clamp(PIECE_MIN_BYTES, PIECE_MAX_BYTES),
            // what waits for a sync is copied into one piece when the sync fails
            unsynced_max_bytes: self.unsynced_max_bytes.min(UNSYNCED_MAX_BYTES),
            ..self
        }
    }
}
