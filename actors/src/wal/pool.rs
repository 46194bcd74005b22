//! The files of the pieces: which are in use, which are ready, and how more are made.
//!
//! A file is written full of zeros, synced and put into the manifest before its first use; then a commit only overwrites
//! blocks that exist, and its `fdatasync` has no metadata to write. Files are used again and again; those of a burst are
//! removed after it. The lock is never held over I/O.
//!
//! A file that held records is overwritten only when the manifest on the disk says that they were given up. Otherwise a
//! start could find that a record is gone and not that nobody needs it, or find older pieces without the one that makes
//! their records void.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::header::HEADER_AREA_BYTES;
use super::manifest::Manifest;
use super::piece::{Piece, Slot};
use super::{Options, Urgency};
use crate::disk::{Disk, DiskError, Open, Point};

/// Zeros that one write puts into a new file.
const FILL_BYTES: usize = 1 << 20;
/// Spare files beyond so many times what is kept ready are removed.
const SPARE_TIMES_MAX: usize = 2;

/// The pieces of a log: shared by the commits, by the thread that fills new files in the background and by whoever frees
/// what is stored elsewhere. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Pieces {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Disk,
    dir: PathBuf,
    /// Bytes of a new file.
    piece_bytes: u32,
    spare_pieces: usize,
    reserve_pieces: usize,
    max_pieces: usize,
    /// The newest sequence that is known to be durable.
    durable: AtomicU64,
    state: Mutex<State>,
    /// Told when `making` ends.
    made: Condvar,
}

/// A file that takes no more commits.
#[derive(Clone, Debug)]
pub(super) struct Free {
    pub slot: Slot,
    /// It may be overwritten once the manifest says that the records through this sequence were given up. 0: any time.
    pub through: u64,
}

#[derive(Debug)]
struct State {
    /// As it stands on the disk, save for `through`.
    manifest: Manifest,
    /// Files that the manifest on the disk may list though `manifest` does not, because a write of it failed. They are not
    /// removed.
    perhaps_listed: Vec<usize>,
    /// Ready for use.
    spare: VecDeque<Free>,
    /// In use, with the last sequence for which each is needed. Without the one that takes commits.
    used: Vec<(Arc<Piece>, u64)>,
    /// No longer needed, but perhaps still read.
    freed: Vec<(Arc<Piece>, u64)>,
    /// To be filled with zeros before they are used again, because a write or sync failed.
    broken: Vec<Free>,
    freed_through: u64,
    /// The newest commit that is stored elsewhere.
    stored_through: u64,
    /// What of `freed_through` the manifest on the disk says, or the header of a piece.
    noted_through: u64,
    /// Someone makes a file or writes the manifest.
    making: bool,
}

/// How many files there are, and what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceCounts {
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Ready for use, the reserve among them.
    pub spare: usize,
    /// With records that are needed, without the one that takes commits.
    pub used: usize,
    /// Not needed, but still held by a reader.
    pub freed: usize,
    /// To be filled anew after a failure.
    pub broken: usize,
}

/// What the files are for when the log opens.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub spare: VecDeque<Free>,
    pub used: Vec<(Arc<Piece>, u64)>,
}

/// Through which sequences records have been given up when the log opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freed {
    pub through: u64,
    /// What of that stands on the disk.
    pub noted_through: u64,
}

/// The right to make files and to write the manifest, which one thread has at a time. Given back when it is dropped, so
/// that a panic does not keep it.
struct Making<'a>(&'a Shared);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.state.lock().making = false;
        self.0.made.notify_all();
    }
}

impl Pieces {
    pub(super) fn new(
        disk: &Disk,
        dir: PathBuf,
        options: &Options,
        manifest: Manifest,
        sorted: Sorted,
        freed: Freed,
    ) -> Pieces {
        let state = State {
            perhaps_listed: Vec::new(),
            spare: sorted.spare,
            used: sorted.used,
            freed: Vec::new(),
            broken: Vec::new(),
            freed_through: freed.through,
            stored_through: manifest.stored,
            noted_through: freed.noted_through,
            making: false,
            manifest,
        };
        Pieces {
            shared: Arc::new(Shared {
                disk: disk.clone(),
                dir,
                piece_bytes: options.piece_bytes,
                spare_pieces: options.spare_pieces,
                reserve_pieces: options.reserve_pieces,
                max_pieces: options.max_pieces,
                durable: AtomicU64::new(state.manifest.through),
                state: Mutex::new(state),
                made: Condvar::new(),
            }),
        }
    }

    /// One step of the thread that keeps spare files ready: makes one, fills one anew after a failure, or removes one of
    /// too many. False when there was nothing to do. Call it again until then; after an error, later. Blocks.
    ///
    /// # Errors
    /// What the file system says; [`DiskError::is_full`] when there is no room or the bound of files is reached.
    pub fn prepare(&self) -> Result<bool, DiskError> {
        let mut state = self.shared.state.lock();
        state.collect();
        let kept = self.shared.spare_pieces + self.shared.reserve_pieces;
        let enough = state.spare.iter().filter(|free| state.is_reusable(free)).count() >= kept;
        let too_many = state.broken.is_empty() && state.spare.len() > SPARE_TIMES_MAX * kept;
        let broken = state.broken.iter().position(|free| state.is_reusable(free));
        if state.making || enough && !too_many && state.broken.is_empty() {
            return Ok(false);
        }
        let _making = self.shared.begin_making(&mut state);
        let has_unnoted = state.has_unnoted();
        // the oldest, so that no piece goes which voids records of one that stays
        let oldest = if too_many { state.spare.iter().position(|free| state.is_reusable(free)) } else { None };
        if let Some(free) = oldest.and_then(|index| state.spare.remove(index)) {
            drop(state);
            self.shared.remove(&free.slot)?;
            return Ok(true);
        }
        drop(state);
        let slot = match (enough, broken) {
            (true, Some(index)) => self.shared.fill_anew(index)?,
            // what was given up is used again before anything new is made
            _ if has_unnoted => {
                self.shared.note_freed()?;
                return Ok(true);
            }
            (true, None) => return Ok(false),
            (false, _) => self.shared.make(self.shared.piece_bytes)?,
        };
        self.shared.state.lock().spare.push_back(Free { slot, through: 0 });
        Ok(true)
    }

    /// Gives up the records through a sequence: they are stored elsewhere, durably. Their files are used again when
    /// nobody reads them any more. `stored_through`: the newest commit of which anything was stored elsewhere, which a
    /// start asks for; see [`Begin`](super::Begin).
    pub fn free_through(&self, sequence: u64, stored_through: u64) {
        let mut state = self.shared.state.lock();
        state.stored_through = state.stored_through.max(stored_through);
        state.freed_through = state.freed_through.max(sequence);
        let State { used, freed, .. } = &mut *state;
        freed.extend(used.extract_if(.., |(_, last)| *last <= sequence));
        state.collect();
    }

    pub fn counts(&self) -> PieceCounts {
        let mut state = self.shared.state.lock();
        state.collect();
        PieceCounts {
            files: state.manifest.files(),
            bytes: state.manifest.pieces.iter().map(|&bytes| u64::from(bytes)).sum(),
            spare: state.spare.len(),
            used: state.used.len(),
            freed: state.freed.len(),
            broken: state.broken.len(),
        }
    }

    /// A file of at least `need` bytes: a ready one that this urgency may take, else one that is made now. Blocks.
    ///
    /// # Errors
    /// What kept a file from being made.
    pub(super) fn take(&self, need: u32, urgency: Urgency) -> Result<Slot, DiskError> {
        let kept_back = match urgency {
            Urgency::Normal => self.shared.reserve_pieces,
            Urgency::Reserve => 0,
        };
        let mut state = self.shared.state.lock();
        loop {
            state.collect();
            if state.spare.len() > kept_back
                && let Some(slot) = state.take_spare(need)
            {
                return Ok(slot);
            }
            if !state.making {
                break;
            }
            self.shared.made.wait(&mut state);
        }
        let _making = self.shared.begin_making(&mut state);
        let has_unnoted = state.spare.len() > kept_back && state.has_unnoted();
        drop(state);
        if has_unnoted && let Err(e) = self.shared.note_freed() {
            log::warn!("what the write-ahead log gave up cannot be noted, so its files are not used again yet: {e}");
        }
        let taken = if has_unnoted { self.shared.state.lock().take_spare(need) } else { None };
        match taken {
            Some(slot) => Ok(slot),
            None => self.shared.make(need.max(self.shared.piece_bytes)),
        }
    }

    /// Takes pieces that no longer take commits, each with the last sequence for which it is needed.
    pub(super) fn retire(&self, pieces: impl Iterator<Item = (Arc<Piece>, u64)>) {
        let mut state = self.shared.state.lock();
        let through = state.freed_through;
        for (piece, last) in pieces {
            if last <= through { state.freed.push((piece, last)) } else { state.used.push((piece, last)) }
        }
    }

    pub(super) fn freed_through(&self) -> u64 {
        self.shared.state.lock().freed_through
    }

    pub(super) fn set_durable(&self, sequence: u64) {
        self.shared.durable.store(sequence, Ordering::Relaxed);
    }

    /// Writes into the manifest what is durable. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write_manifest(&self) -> Result<(), DiskError> {
        let mut state = self.shared.state.lock();
        while state.making {
            self.shared.made.wait(&mut state);
        }
        let _making = self.shared.begin_making(&mut state);
        let manifest = state.manifest.clone();
        drop(state);
        self.shared.write(manifest)
    }
}

impl Shared {
    fn begin_making(&self, state: &mut MutexGuard<'_, State>) -> Making<'_> {
        state.making = true;
        Making(self)
    }

    /// Fills a broken file anew, else makes a new one. Only with the right to it.
    fn make(&self, need: u32) -> Result<Slot, DiskError> {
        let broken = {
            let state = self.state.lock();
            state.broken.iter().position(|free| free.slot.bytes >= need && state.is_reusable(free))
        };
        match broken.map(|index| self.fill_anew(index)) {
            Some(Ok(slot)) => Ok(slot),
            // one place of the disk may have gone bad for good
            Some(Err(_)) | None => self.make_file(need),
        }
    }

    /// Only with the right to make files: then others do no more than append to the broken ones.
    fn fill_anew(&self, index: usize) -> Result<Slot, DiskError> {
        // it stays in the list until it is whole, so that nothing is lost by a panic
        let free = self.state.lock().broken[index].clone();
        let filled = fill(&free.slot);
        let mut state = self.state.lock();
        state.broken.remove(index);
        if filled.is_err() {
            // behind the others, so that these get their turn
            state.broken.push(free.clone());
        }
        filled.map(|()| free.slot)
    }

    fn make_file(&self, bytes: u32) -> Result<Slot, DiskError> {
        let mut manifest = self.state.lock().manifest.clone();
        let number = manifest.free_number();
        let path = self.dir.join(file_name(number));
        if manifest.files() >= self.max_pieces {
            return Err(DiskError::new("make more pieces than allowed:", &path, io::ErrorKind::StorageFull.into()));
        }
        let file = self.disk.open(Point::WalOpen, &path, Open::CreateOrOpen)?;
        let slot = Slot { file: Arc::new(file), bytes };
        let filled = fill(&slot).and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(e) = filled {
            // half a file would hold the room that others need
            if !self.state.lock().perhaps_listed.contains(&number)
                && let Err(e) = self.disk.remove_file(&path)
            {
                log::warn!("a piece that could not be filled stays behind: {e}");
            }
            return Err(e);
        }
        manifest.list(number, bytes);
        self.state.lock().perhaps_list(number);
        self.write(manifest.clone())?;
        let mut state = self.state.lock();
        state.manifest = manifest;
        state.perhaps_listed.retain(|&listed| listed != number);
        drop(state);
        Ok(slot)
    }

    /// Removes a file that is not needed. Whenever it fails, the file is only in the way: its number is used again. Only
    /// with the right to make files.
    fn remove(&self, slot: &Slot) -> Result<(), DiskError> {
        let path = slot.file.path();
        let mut state = self.state.lock();
        let number = (1..=state.manifest.pieces.len()).find(|&number| path == self.dir.join(file_name(number)));
        let Some(number) = number else { return Ok(()) };
        state.manifest.unlist(number);
        state.perhaps_list(number);
        let manifest = state.manifest.clone();
        drop(state);
        self.write(manifest)?;
        // if only its removal is lost in a power cut, it must not look like a piece in use
        slot.file.write_at(Point::WalFill, &[0; HEADER_AREA_BYTES], 0)?;
        slot.file.sync_data(Point::WalFill)?;
        self.disk.remove_file(path)?;
        self.disk.sync_dir(&self.dir)?;
        self.state.lock().perhaps_listed.retain(|&listed| listed != number);
        Ok(())
    }

    /// Says in the manifest what was given up. Only with the right to make files.
    fn note_freed(&self) -> Result<(), DiskError> {
        let manifest = self.state.lock().manifest.clone();
        self.write(manifest)
    }

    /// Only with the right to make files.
    fn write(&self, mut manifest: Manifest) -> Result<(), DiskError> {
        manifest.through = self.durable.load(Ordering::Relaxed);
        {
            let state = self.state.lock();
            (manifest.freed, manifest.stored) = (state.freed_through, state.stored_through);
        }
        manifest.write(&self.disk, &self.dir)?;
        let mut state = self.state.lock();
        state.noted_through = state.noted_through.max(manifest.freed);
        Ok(())
    }
}

impl State {
    /// Moves what nobody reads any more to the spare or the broken ones.
    fn collect(&mut self) {
        // the oldest first, so that a piece which voids records of an older one is not overwritten before it
        self.freed.sort_by_key(|(piece, _)| piece.number());
        for (piece, through) in self.freed.extract_if(.., |(piece, _)| Arc::strong_count(piece) == 1) {
            let free = Free { slot: piece.slot().clone(), through };
            if piece.has_failed() { self.broken.push(free) } else { self.spare.push_back(free) }
        }
    }

    /// Whether a file may be overwritten.
    fn is_reusable(&self, free: &Free) -> bool {
        free.through <= self.noted_through
    }

    /// Whether some may not yet, because the manifest does not say that their records were given up.
    fn has_unnoted(&self) -> bool {
        self.spare.iter().chain(&self.broken).any(|free| !self.is_reusable(free))
    }

    fn perhaps_list(&mut self, number: usize) {
        if !self.perhaps_listed.contains(&number) {
            self.perhaps_listed.push(number);
        }
    }

    /// The smallest one that suffices, of these the first.
    fn take_spare(&mut self, need: u32) -> Option<Slot> {
        let fitting =
            self.spare.iter().enumerate().filter(|(_, free)| free.slot.bytes >= need && self.is_reusable(free));
        let (index, _) = fitting.min_by_key(|(_, free)| free.slot.bytes)?;
        self.spare.remove(index).map(|free| free.slot)
    }
}

/// Writes zeros over a whole file and syncs it.
fn fill(slot: &Slot) -> Result<(), DiskError> {
    let zeros = vec![0; FILL_BYTES.min(slot.bytes as usize)];
    for at in (0..slot.bytes).step_by(zeros.len()) {
        let len = zeros.len().min((slot.bytes - at) as usize);
        slot.file.write_at(Point::WalFill, &zeros[..len], u64::from(at))?;
    }
    slot.file.sync_data(Point::WalFill)
}

/// The name of the file with a number, which counts from 1.
pub(super) fn file_name(number: usize) -> String {
    format!("{number:08}")
}
