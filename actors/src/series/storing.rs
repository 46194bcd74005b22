//! Writing: what was counted becomes notes, chunks that are too old become hours, and hours that are too old go. One at a
//! time, by whoever holds the series; all of it blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SeriesStore;
use super::chunk::{Chunk, ChunkKey, Tier};
use crate::documents::notes::{NoteChange, NoteTable, NotesError, PageFrom};

/// Chunks that are written together.
const BATCH: usize = 256;

impl SeriesStore {
    /// Writes what was counted, and looks after what is too old. What cannot be written stays in memory. Not to be called
    /// while another call is under way. Blocks.
    pub fn write(&self, now_s: u64) {
        let written = self.write_fresh().and_then(|()| self.expire(now_s));
        self.noted(written);
    }

    fn write_fresh(&self) -> Result<(), NotesError> {
        loop {
            let keys: Vec<ChunkKey> = self.counted.lock().fresh.keys().take(BATCH).cloned().collect();
            if keys.is_empty() {
                return Ok(());
            }
            let stored = keys.into_iter().map(|key| self.stored(&key).map(|chunk| (chunk, key)));
            let stored = stored.collect::<Result<Vec<_>, _>>()?;
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            {
                let mut counted = self.counted.lock();
                counted.batches += 1;
                for (mut chunk, key) in stored {
                    // what was too much meanwhile is gone
                    let Some(part) = counted.fresh.remove(&key) else { continue };
                    chunk.absorb(&part);
                    let chunk = Arc::new(chunk);
                    counted.writing.insert(key.clone(), chunk.clone());
                    whole.push((key.clone(), chunk));
                    parts.push((key, part));
                }
            }
            let changes = whole.iter().map(|(key, chunk)| put(key, chunk)).collect::<Result<Vec<_>, _>>();
            let written = changes.and_then(|changes| self.notes.write(&changes));
            let mut counted = self.counted.lock();
            counted.writing.clear();
            if let Err(e) = written {
                counted.batches += 1;
                for (key, part) in parts {
                    counted.fresh.entry(key).or_default().absorb(&part);
                }
                return Err(e);
            }
        }
    }

    fn expire(&self, now_s: u64) -> Result<(), NotesError> {
        for tier in Tier::ALL {
            let oldest = tier.oldest_kept(now_s);
            loop {
                let keys = self.notes.keys(NoteTable::Series, &[tier as u8], PageFrom::Start, BATCH)?;
                // what cannot be read belongs to nothing that is kept
                let is_old = |key: &Vec<u8>| ChunkKey::from_note(key).is_none_or(|key| key.number < oldest);
                let old: Vec<_> = keys.into_iter().take_while(is_old).collect();
                if old.is_empty() {
                    break;
                }
                let mut changes = self.hours_of(&old, now_s)?;
                changes.extend(old.into_iter().map(|key| NoteChange::delete(NoteTable::Series, key)));
                self.notes.write(&changes)?;
            }
        }
        Ok(())
    }

    /// The hours that chunks become.
    fn hours_of(&self, old: &[Vec<u8>], now_s: u64) -> Result<Vec<NoteChange>, NotesError> {
        let mut hours: BTreeMap<ChunkKey, Chunk> = BTreeMap::new();
        for key in old.iter().filter_map(|key| ChunkKey::from_note(key)) {
            let (hour, at) = ChunkKey::at(&key.scope, Tier::Hour, key.begins_s());
            if key.tier != key.scope.folded_from() || hour.number < Tier::Hour.oldest_kept(now_s) {
                continue;
            }
            let step = self.stored(&key)?.folded();
            let chunk = match hours.entry(hour) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(fresh) => {
                    let stored = self.stored(fresh.key())?;
                    fresh.insert(stored)
                }
            };
            chunk.0.entry(at).or_default().absorb(&step);
        }
        hours.iter().map(|(key, chunk)| put(key, chunk)).collect()
    }
}

fn put(key: &ChunkKey, chunk: &Chunk) -> Result<NoteChange, NotesError> {
    NoteChange::put(NoteTable::Series, key.to_note(), chunk)
}
