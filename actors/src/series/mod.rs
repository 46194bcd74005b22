//! Figures over time: of the server, of each channel, of each webhook. The dashboard is drawn from them.
//!
//! - [`step`]: what one step holds; [`names`]: the series that are made of steps
//! - [`chunk`]: tiers of steps, and the notes that keep them
//! - `storing`: steps become notes, hours are made of minutes, what is too old goes
//!
//! What was counted since the last write is in memory, everything else on disk and read when it is asked for. So memory does
//! not grow with the time that is kept; a crash costs what was counted since the last write, at most a minute. A step of a channel
//! or a webhook in which nothing happened is not kept: whether the server ran is told by its own steps.

pub mod chunk;
pub mod names;
pub mod step;
mod storing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use self::chunk::Scope;
use self::chunk::{Chunk, ChunkKey, Tier};
pub use self::step::Step;
use crate::documents::notes::{NoteTable, Notes, NotesError};

/// Chunks in memory until they are written: one for each channel and webhook that is busy, of some 1.5 KB. The oldest go first.
const FRESH_CHUNKS_MAX: usize = 65_536;
/// The same while they cannot be written.
const KEPT_CHUNKS_MAX: usize = 8_192;
/// With more than this in memory they are written before their time.
const FRESH_CHUNKS_MANY: usize = 4_096;
/// How often chunks are read again because some of them were written meanwhile.
const READS_MAX: usize = 4;

/// How far back is looked, and in which steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    Hour,
    Day,
    Week,
}

impl Window {
    pub const ALL: [Window; 3] = [Window::Hour, Window::Day, Window::Week];

    pub fn as_str(self) -> &'static str {
        match self {
            Window::Hour => "1h",
            Window::Day => "24h",
            Window::Week => "7d",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Window::Hour => 3_600,
            Window::Day => 86_400,
            Window::Week => 7 * 86_400,
        }
    }

    /// The length of a step of the server, and of anything else.
    pub fn resolution_s(self, is_server: bool) -> u64 {
        self.tier(is_server).step_s()
    }

    fn tier(self, is_server: bool) -> Tier {
        match (self, is_server) {
            (Window::Hour, true) => Tier::TenSeconds,
            (Window::Day, true) => Tier::Minute,
            (Window::Hour | Window::Day, false) => Tier::FiveMinutes,
            (Window::Week, _) => Tier::Hour,
        }
    }

    /// When its steps begin, in Unix seconds, the step under way last.
    pub fn steps(self, is_server: bool, now_s: u64) -> impl ExactSizeIterator<Item = u64> + use<> {
        let step_s = self.resolution_s(is_server);
        let count = (self.seconds() / step_s) as u32;
        let last = now_s / step_s;
        (0..count).map(move |n| (last + 1).saturating_sub(u64::from(count - n)) * step_s)
    }
}

/// The series of the server and of everything on it.
pub struct SeriesStore {
    notes: Arc<Notes>,
    counted: Mutex<Counted>,
    is_failing: AtomicBool,
}

#[derive(Default)]
struct Counted {
    /// What is not in the notes yet.
    fresh: BTreeMap<ChunkKey, Chunk>,
    /// Chunks that are being written, as they will be.
    writing: HashMap<ChunkKey, Arc<Chunk>>,
    /// How often chunks went from one to the other.
    batches: u64,
}

impl SeriesStore {
    pub fn new(notes: Arc<Notes>) -> SeriesStore {
        SeriesStore { notes, counted: Mutex::default(), is_failing: AtomicBool::new(false) }
    }

    /// Adds what was counted to the steps of this time.
    pub fn add(&self, now_s: u64, steps: impl IntoIterator<Item = (Scope, Step)>) {
        let mut counted = self.counted.lock();
        for (scope, step) in steps {
            for tier in scope.counted_in() {
                let (key, at) = ChunkKey::at(&scope, *tier, now_s);
                counted.fresh.entry(key).or_default().0.entry(at).or_default().absorb(&step);
            }
        }
        let most = if self.is_failing.load(Ordering::Relaxed) { KEPT_CHUNKS_MAX } else { FRESH_CHUNKS_MAX };
        while counted.fresh.len() > most {
            counted.fresh.pop_first();
        }
    }

    /// Whether so much is in memory that it should be written now.
    pub fn holds_much(&self) -> bool {
        self.counted.lock().fresh.len() > FRESH_CHUNKS_MANY
    }

    /// The steps of a window, each by when it begins in Unix seconds; those of which nothing is kept are missing. Notes that
    /// cannot be read are as if they were empty. Blocks.
    pub fn read(&self, scope: &Scope, window: Window, now_s: u64) -> BTreeMap<u64, Step> {
        let tier = window.tier(*scope == Scope::Server);
        let from_s = window.steps(*scope == Scope::Server, now_s).next().unwrap_or(now_s);
        let mut keys = keys_between(scope, tier, from_s, now_s);
        if tier == Tier::Hour {
            // what is to become hours and has not yet
            let fine = scope.folded_from();
            let oldest_s = u64::from(fine.oldest_kept(now_s)) * fine.chunk_s();
            keys.extend(keys_between(scope, fine, oldest_s.max(from_s), now_s));
        }
        let chunks = match self.chunks(&keys) {
            Ok(chunks) => {
                self.noted(Ok(()));
                chunks
            }
            Err(e) => {
                self.noted(Err(e));
                return BTreeMap::new();
            }
        };
        let mut steps: BTreeMap<u64, Step> = BTreeMap::new();
        for (key, chunk) in keys.into_iter().zip(chunks) {
            for (at, step) in chunk.0 {
                let begins_s = key.begins_s() + u64::from(at) * key.tier.step_s();
                let begins_s = begins_s - begins_s % tier.step_s();
                if (from_s..=now_s).contains(&begins_s) {
                    steps.entry(begins_s).or_default().absorb(&step);
                }
            }
        }
        steps
    }

    /// Chunks with what of them is in memory. Blocks.
    fn chunks(&self, keys: &[ChunkKey]) -> Result<Vec<Chunk>, NotesError> {
        let mut reads = 0;
        loop {
            reads += 1;
            let (batches, held) = {
                let counted = self.counted.lock();
                let held = |key| (counted.writing.get(key).cloned(), counted.fresh.get(key).cloned());
                (counted.batches, keys.iter().map(held).collect::<Vec<_>>())
            };
            let mut chunks = Vec::with_capacity(keys.len());
            for (key, (writing, fresh)) in keys.iter().zip(held) {
                let mut chunk = match writing {
                    Some(writing) => Chunk::clone(&writing),
                    None => self.stored(key)?,
                };
                fresh.iter().for_each(|fresh| chunk.absorb(fresh));
                chunks.push(chunk);
            }
            // else what was fresh may be counted twice: it was written since
            if self.counted.lock().batches == batches || reads == READS_MAX {
                return Ok(chunks);
            }
        }
    }

    fn stored(&self, key: &ChunkKey) -> Result<Chunk, NotesError> {
        Ok(self.notes.get(NoteTable::Series, key.to_note())?.unwrap_or_default())
    }

    /// Says once that the series cannot be kept or read, and once that they can be again.
    fn noted(&self, done: Result<(), NotesError>) {
        match done {
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => log::info!("figures are kept again"),
            Err(e) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                log::error!(
                    "figures of the last minutes are kept in memory until they can be written: {e}; {}",
                    e.cure()
                );
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn keys_between(scope: &Scope, tier: Tier, from_s: u64, through_s: u64) -> Vec<ChunkKey> {
    let (first, _) = ChunkKey::at(scope, tier, from_s);
    let (last, _) = ChunkKey::at(scope, tier, through_s);
    (first.number..=last.number).map(|number| ChunkKey { number, ..first.clone() }).collect()
}
