//! From data format 1, where everything that is no event was in one sled database, `state/`, to generations and notes.
//!
//! Until the data folder is marked as one of format 2, the old database is the truth: a migration that was interrupted
//! starts from the beginning, because the older version may have run in between. Only [`remove_format_1`], which is called
//! after the mark, takes the old files away.
//!
//! An old document is a CRC-32 (big-endian) and a JSON text, under the same keys as today.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::notes::{NoteChange, NoteTable, Notes, NotesError, NotesOptions};
use super::table::ShownKey;
use super::{Change, Documents, GenerationError, Generations, LogId, STATE, Table, refuse_older_versions};
use crate::disk::{Cure, Database, DatabaseError, Disk, DiskError};

/// The commit that the first generation of a migrated folder stands at. The log of such a folder begins after it, so that a
/// generation that is missing is not taken for a folder that was always empty.
pub const MIGRATED_SEQUENCE: u64 = 1;
/// Notes are written in batches of about this size.
const BATCH_BYTES: usize = 1024 * 1024;
/// The tables of format 1 that are notes today.
const NOTE_TABLES: [NoteTable; 4] =
    [NoteTable::Deliveries, NoteTable::SourceCounts, NoteTable::DeadLetters, NoteTable::DeadLetterParts];

/// What was migrated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    pub documents: u64,
    pub notes: u64,
    /// Notes whose checksum is wrong and that are left behind.
    pub damaged_notes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Generation(#[from] GenerationError),
    #[error(transparent)]
    Notes(#[from] NotesError),
    #[error("the documents in {path} are damaged: {why}", path = path.display())]
    Damaged { path: PathBuf, why: String },
}

impl MigrateError {
    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            MigrateError::Disk(e) => e.cure(),
            MigrateError::Database(e) if !e.is_damage() => e.cure(),
            MigrateError::Generation(e) => e.cure(),
            MigrateError::Notes(e) => e.cure(),
            MigrateError::Database(_) | MigrateError::Damaged { .. } => Cure::restore(
                "restore a backup into a new folder with stentor restore; the version that wrote this folder can still \
                 be started on it",
            ),
        }
    }
}

/// One entry of a database, or a backup, of format 1.
#[derive(Debug, PartialEq, Eq)]
pub enum Format1 {
    Document(Change),
    Note(NoteChange),
}

impl Format1 {
    /// # Errors
    /// Why it is none.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Format1, String> {
        let shown = || {
            let table = key.first().and_then(|letter| Table::of_letter(*letter)).map_or("?", Table::name);
            format!("{table} {}", ShownKey(key.get(1..).unwrap_or_default()))
        };
        let text = value.split_at_checked(4).filter(|(crc, text)| crc32fast::hash(text).to_be_bytes() == **crc);
        let Some((_, text)) = text else { return Err(format!("the checksum of {} is wrong", shown())) };
        let is_note = key.first().is_some_and(|letter| NOTE_TABLES.iter().any(|table| *table as u8 == *letter));
        if !is_note {
            return Change::stored(key, text).map(Format1::Document).map_err(|e| format!("{}: {}", shown(), e.why));
        }
        let note = NoteChange::stored(key.to_vec(), text.to_vec());
        note.map(Format1::Note).map_err(|bytes| format!("a note of {bytes} bytes is too large"))
    }
}

/// Writes the documents of a folder of format 1 as a generation, at [`MIGRATED_SEQUENCE`], and its notes. Everything is
/// durable on return, and the old database is as it was. Blocks.
///
/// # Errors
/// The old documents are damaged, or what the disk says. It can be called again.
pub fn migrate(disk: &Disk, data_dir: &Path, log_id: &LogId, now_ms: u64) -> Result<Migrated, MigrateError> {
    let old = Database::open(disk, &data_dir.join(STATE), None)?;
    let documents = documents(&old, data_dir)?;
    let frozen = documents.freeze();
    let mut migrated = Migrated { documents: frozen.len() as u64, ..Migrated::default() };
    // what an interrupted migration has written is older
    Generations::new(disk, data_dir, log_id).write_step(&frozen)?;
    Notes::remove(disk, data_dir)?;
    let notes = Notes::open(disk, data_dir, NotesOptions { is_new_folder: true, now_ms, min_free_bytes: 0 })?;
    copy_notes(&old, &notes, &mut migrated)?;
    notes.close()?;
    if migrated.damaged_notes > 0 {
        log::error!(notes = migrated.damaged_notes;
            "damaged entries of the delivery log, counters and dead letters were left behind");
    }
    Ok(migrated)
}

fn documents(old: &Database, data_dir: &Path) -> Result<Documents, MigrateError> {
    let damaged = |why: String| MigrateError::Damaged { path: data_dir.join(STATE), why };
    let mut changes = Vec::new();
    for entry in old.range::<&[u8]>(..) {
        let (key, value) = entry?;
        let is_note = key.first().is_some_and(|letter| NOTE_TABLES.iter().any(|table| *table as u8 == *letter));
        if is_note {
            continue;
        }
        if let Format1::Document(change) = Format1::read(&key, &value).map_err(damaged)? {
            changes.push(change);
        }
    }
    // the first start of every version wrote something before it took a request; sled makes an empty database of a damaged one
    if changes.is_empty() {
        return Err(damaged("there are none".into()));
    }
    let documents = Documents::of(changes, MIGRATED_SEQUENCE);
    let channels = documents.clear(Table::Channels, b"");
    let highest =
        channels.iter().filter_map(|change| Some(u32::from_be_bytes(change.own_key().try_into().ok()?))).max();
    let counted = documents.get::<u32>(Table::Numbers, "channels").map_err(|e| damaged(e.to_string()))?;
    if highest > counted {
        return Err(damaged("there are channels with numbers that were never given out".into()));
    }
    Ok(documents)
}

fn copy_notes(old: &Database, notes: &Notes, migrated: &mut Migrated) -> Result<(), MigrateError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut numbers: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for table in NOTE_TABLES {
        let (from, to) = (vec![table as u8], vec![table as u8 + 1]);
        for entry in old.range(from..to) {
            let (key, value) = entry?;
            let note = match Format1::read(&key, &value) {
                Ok(Format1::Note(note)) => note,
                Ok(Format1::Document(_)) | Err(_) => {
                    migrated.damaged_notes += 1;
                    continue;
                }
            };
            if let (NoteTable::DeadLetters, Some((source, number))) = (table, key[1..].split_last_chunk::<8>()) {
                // keys ascend, so the last one is the highest
                numbers.insert(source.to_vec(), u64::from_be_bytes(*number));
            }
            migrated.notes += 1;
            bytes += key.len() + value.len();
            batch.push(note);
            if bytes >= BATCH_BYTES {
                notes.write(&batch)?;
                (bytes, batch) = (0, Vec::new());
            }
        }
    }
    for (source, number) in numbers {
        batch.push(NoteChange::put(NoteTable::Numbers, source, &number)?);
    }
    Ok(notes.write(&batch)?)
}

/// Takes away what format 1 has left, once the folder is marked as one of format 2, and lets older versions refuse it.
/// Blocks.
///
/// # Errors
/// What the disk says. It can be called again, also when nothing is left.
pub fn remove_format_1(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
    // first, so that no older version finds half of its database
    refuse_older_versions(disk, data_dir)?;
    let state = data_dir.join(STATE);
    for entry in disk.list(&state)? {
        let path = state.join(&entry.name);
        match entry.name.as_str() {
            "blobs" => disk.remove_dir_all(&path)?,
            "db" => disk.remove_file(&path)?,
            name if name.starts_with("snap.") => disk.remove_file(&path)?,
            _ => {}
        }
    }
    disk.sync_dir(&state)
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
