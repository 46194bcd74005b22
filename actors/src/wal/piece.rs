//! A piece in use, from which its records are read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::record::Seal;
use crate::disk::{DiskError, DiskFile, Point};

/// The file of a piece, whether it is in use or not.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub file: Arc<DiskFile>,
    /// Bytes that may be used; all of them were written and synced once.
    pub bytes: u32,
}

/// One use of a piece. Whoever holds it can read its records: the file is used again only after the last one lets go.
#[derive(Debug)]
pub struct Piece {
    slot: Slot,
    number: u64,
    seal: Seal,
    /// A write or sync failed: never written or synced again before it was filled with zeros anew.
    failed: AtomicBool,
    /// Payloads that were acknowledged before a sync and whose sync then failed, by offset. They are read from here,
    /// because the file may have lost them.
    unsynced: Mutex<BTreeMap<u32, Bytes>>,
    has_unsynced: AtomicBool,
}

impl Piece {
    pub(super) fn new(slot: Slot, number: u64, salt: u64) -> Piece {
        Piece {
            slot,
            number,
            seal: Seal::new(salt),
            failed: AtomicBool::new(false),
            unsynced: Mutex::default(),
            has_unsynced: AtomicBool::new(false),
        }
    }

    /// Reads bytes of payloads: an offset that a commit or the recovery told, or one behind it. What the bytes mean, and
    /// whether they are intact, is the caller's to check. Blocks.
    ///
    /// # Errors
    /// What the file system says, and `UnexpectedEof` when the piece ends before.
    pub fn read(&self, offset: u32, len: u32) -> Result<Bytes, DiskError> {
        if self.has_unsynced.load(Ordering::Acquire)
            && let Some((start, payload)) = self.unsynced.lock().range(..=offset).next_back()
        {
            let skipped = (offset - start) as usize;
            if let Some(end) = skipped.checked_add(len as usize).filter(|&end| end <= payload.len()) {
                return Ok(payload.slice(skipped..end));
            }
        }
        if u64::from(offset) + u64::from(len) > u64::from(self.slot.bytes) {
            // before memory is taken for a length that damage may have made
            return Err(DiskError::new("read", self.path(), std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut bytes = vec![0; len as usize];
        self.slot.file.read_exact_at(Point::WalRead, &mut bytes, u64::from(offset))?;
        Ok(bytes.into())
    }

    /// Its number, which is given to no other piece of this log.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.slot.file.path()
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(super) fn file(&self) -> &DiskFile {
        &self.slot.file
    }

    pub(super) fn seal(&self) -> Seal {
        self.seal
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Lets a payload be read from memory from now on.
    pub(super) fn keep_unsynced(&self, offset: u32, payload: Bytes) {
        self.unsynced.lock().insert(offset, payload);
        self.has_unsynced.store(true, Ordering::Release);
    }
}
