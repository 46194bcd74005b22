//! Backups of versions before the write-ahead log.
//!
//! ```text
//! backup.json, admin-token, secret-key, complete.json   as in format 2
//! state              every document and every note, as entries; a value begins with a CRC-32
//! log/<seq>/<part>   the entries of a segment, in the order of their keys
//! lost.json          what retention or quarantine took
//! ```
//!
//! A segment becomes what it was, a database of the old form, which is then taken over as when a data folder of an older version
//! is started on: so its events can be read in any order without being held in memory.

use std::collections::BTreeMap;
use std::io::Read;

use super::archive::{Files, segment_of};
use super::folder::Folder;
use super::{About, BackupError, FILES, Summary};
use crate::disk::Point;
use crate::disk::database::VALUE_BYTES;
use crate::documents::Table;
use crate::documents::migrate::{Format1, MIGRATED_SEQUENCE};
use crate::documents::notes::{NoteChange, NoteTable};
use crate::log::{LogLook, LogSurvey, LossDocument, adopt_format_1, import_format_1, restored_losses};

pub const FORMAT: u32 = 1;
const STATE: &str = "state";
const LOST: &str = "lost.json";
/// What a segment says of itself when it is sealed. Only that it does counts here, and the text may be long.
const SEALED: &[u8] = b"m";

/// Reads the rest of a backup of format 1, and writes it into a folder when one is given. Blocks.
///
/// # Errors
/// [`BackupError::Damaged`] or [`BackupError::CutOff`] when the archive is not whole or holds what does not belong
/// there; else the folder cannot be written.
pub fn read<R: Read>(mut files: Files<'_, R>, about: About, mut into: Option<Folder>) -> Result<Summary, BackupError> {
    let (mut documents, mut segments, mut lost) = (0, 0, None);
    let mut name = files.next()?;
    while let Some(current) = name {
        match &*current {
            STATE => documents = read_state(&mut files, into.as_mut())?,
            LOST => lost = Some(files.whole()?),
            file if FILES.contains(&file) => {
                let content = files.whole()?;
                if let Some(folder) = &into {
                    folder.file(file, &content)?;
                }
            }
            part => {
                let segment = segment_of(part).ok_or_else(|| BackupError::Damaged(format!("it holds {part}")))?;
                segments += 1;
                let mut entries = SegmentEntries::new(&mut files, segment);
                match &into {
                    Some(folder) => {
                        let written = import_format_1(&folder.disk, &folder.data_dir, segment, &mut entries);
                        // why there were no more entries comes first
                        entries.failed.take().map_or(Ok(()), Err)?;
                        written?;
                    }
                    None => {
                        entries.by_ref().for_each(drop);
                        entries.failed.take().map_or(Ok(()), Err)?;
                    }
                }
                name = entries.following;
                continue;
            }
        }
        name = files.next()?;
    }
    let lost = lost.ok_or_else(|| BackupError::Damaged(format!("it lacks {LOST}")))?;
    if let Some(folder) = into {
        finish(folder, &about, &lost)?;
    }
    Ok(Summary { about, documents, segments, bytes: files.bytes })
}

fn finish(mut folder: Folder, about: &About, lost: &[u8]) -> Result<(), BackupError> {
    folder.end_notes(0, false)?;
    let log_dir = folder.data_dir.join("log");
    folder.disk.create_dir_all(&log_dir)?;
    folder.disk.sync_dir(&folder.data_dir)?;
    folder.disk.replace(Point::BackupWrite, &log_dir.join(LOST), lost)?;
    let losses = adopt_format_1(&folder.disk, &folder.data_dir, folder.log_id, about.taken_at_ms.max(0) as u64)?;
    folder.disk.remove_file(&log_dir.join(LOST))?;
    let dropped = losses.iter().find_map(|loss| match loss {
        LossDocument::Dropped { segment, .. } => Some(*segment),
        _ => None,
    });
    let losses = restored_losses(losses, dropped.unwrap_or(0), about.head);
    let segments = LogSurvey::of(&folder.disk, &folder.data_dir, LogLook::default())?.segments;
    let highest_channel = segments.iter().flat_map(|segment| &segment.channels).map(|(channel, _)| *channel).max();
    folder.finish(losses, MIGRATED_SEQUENCE, highest_channel.unwrap_or(0))
}

/// Takes over documents and notes; returns how many there are.
fn read_state<R: Read>(files: &mut Files<'_, R>, mut into: Option<&mut Folder>) -> Result<u64, BackupError> {
    let (mut count, mut damaged_notes) = (0, 0);
    let mut numbers: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    while let Some((key, value)) = files.entry()? {
        count += 1;
        let is_note = key.first().is_some_and(|letter| Table::of_letter(*letter).is_none());
        match Format1::read(&key, &value) {
            Ok(Format1::Document(change)) => {
                if let Some(folder) = into.as_deref_mut() {
                    folder.document(change);
                }
            }
            Ok(Format1::Note(note)) => {
                if key[0] == NoteTable::DeadLetters as u8
                    && let Some((source, number)) = key[1..].split_last_chunk::<8>()
                {
                    let number = u64::from_be_bytes(*number);
                    let highest = numbers.entry(source.to_vec()).or_default();
                    *highest = number.max(*highest);
                }
                if let Some(folder) = into.as_deref_mut() {
                    folder.note(note, key.len() + value.len())?;
                }
            }
            // what is for people may be lost
            Err(_) if is_note => damaged_notes += 1,
            Err(why) => return Err(BackupError::Damaged(why)),
        }
    }
    for (source, number) in numbers {
        if let Some(folder) = into.as_deref_mut() {
            let bytes = source.len();
            folder.note(NoteChange::put(NoteTable::Numbers, source, &number)?, bytes)?;
        }
    }
    if damaged_notes > 0 {
        log::warn!(notes = damaged_notes; "damaged entries of the delivery log, counters and dead letters are left out");
    }
    Ok(count)
}

/// The entries of one segment, from all of its parts.
struct SegmentEntries<'f, 'a, R: Read> {
    files: &'f mut Files<'a, R>,
    segment: u64,
    last: Vec<u8>,
    /// The file that comes after those of the segment.
    following: Option<String>,
    failed: Option<BackupError>,
    is_ended: bool,
}

/// A key and its value.
type StoredEntry = (Vec<u8>, Vec<u8>);

impl<'f, 'a, R: Read> SegmentEntries<'f, 'a, R> {
    fn new(files: &'f mut Files<'a, R>, segment: u64) -> SegmentEntries<'f, 'a, R> {
        SegmentEntries { files, segment, last: Vec::new(), following: None, failed: None, is_ended: false }
    }

    fn step(&mut self) -> Result<Option<StoredEntry>, BackupError> {
        loop {
            if let Some((key, mut value)) = self.files.entry()? {
                if key == SEALED {
                    value.clear();
                }
                if key <= self.last || value.len() > VALUE_BYTES {
                    return Err(BackupError::Damaged("the entries of a segment are not as they were written".into()));
                }
                self.last.clone_from(&key);
                return Ok(Some((key, value)));
            }
            let following = self.files.next()?;
            if following.as_deref().and_then(segment_of) != Some(self.segment) {
                self.following = following;
                return Ok(None);
            }
        }
    }
}

impl<R: Read> Iterator for SegmentEntries<'_, '_, R> {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.is_ended {
            return None;
        }
        let step = self.step().unwrap_or_else(|e| {
            self.failed = Some(e);
            None
        });
        self.is_ended = step.is_none();
        step
    }
}
