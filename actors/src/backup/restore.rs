//! Restoring a backup into an empty folder, and reading one through without that.

use std::io::Read;
use std::path::Path;

use super::archive::{Files, part_of, segment_of};
pub use super::folder::refuse_half_restored;
use super::folder::{self, Folder};
use super::{ABOUT, About, BackupError, FILES, FORMAT, LOSSES, Losses, Summary, format_1};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::documents::Change;
use crate::documents::notes::NoteChange;
use crate::log::{LogImport, UsedKey, count_events, decode_used_keys, restored_losses};

/// Reads a backup through: whether it is whole, and what is in it. Blocks.
///
/// # Errors
/// The archive is no backup, is damaged, was cut off or has a format that this version does not know.
pub fn check(archive: impl Read) -> Result<Summary, BackupError> {
    read(archive, None)
}

/// Restores a backup into a folder that is missing or empty. On return everything is durable; after an error the folder is
/// empty again, or still has the mark with which no server starts on it. Blocks.
///
/// # Errors
/// [`BackupError::NotEmpty`], what [`check`] finds, or what the disk says.
pub fn restore(disk: &Disk, archive: impl Read, data_dir: &Path, clock: &Clock) -> Result<Summary, BackupError> {
    folder::expect_empty(disk, data_dir)?;
    let filled = folder::make(disk, data_dir).and_then(|lock| {
        folder::mark(disk, data_dir)?;
        let summary = read(archive, Some(Folder::new(disk, data_dir, clock)?))?;
        Ok((summary, lock))
    });
    match filled {
        Ok((summary, _lock)) => {
            // The folder is complete. When its mark does not go durably, it is still there after a power cut.
            folder::unmark(disk, data_dir)?;
            Ok(summary)
        }
        Err(e) => {
            if let Err(e) = folder::clear(disk, data_dir) {
                log::error!("what a failed restore has left cannot be removed: {e}");
            }
            Err(e)
        }
    }
}

fn read(archive: impl Read, into: Option<Folder>) -> Result<Summary, BackupError> {
    let mut tar = tar::Archive::new(archive);
    let mut files = Files::new(&mut tar)?;
    match files.next()? {
        Some(name) if name == ABOUT => {}
        name => return Err(BackupError::Damaged(format!("it begins with {}", name.unwrap_or("nothing".into())))),
    }
    let about: About = serde_json::from_slice(&files.whole()?).map_err(|e| BackupError::Damaged(e.to_string()))?;
    match about.format {
        format_1::FORMAT => format_1::read(files, about, into),
        FORMAT => Reading::new(about, into)?.read(files),
        other => Err(BackupError::Format(other)),
    }
}

/// What was read so far, and where it goes.
struct Reading {
    about: About,
    documents: u64,
    segments: u64,
    /// The segment that is being read.
    segment: Option<u64>,
    losses: Option<Losses>,
    into: Option<Target>,
}

struct Target {
    folder: Folder,
    log: LogImport,
    keys: Vec<UsedKey>,
}

impl Reading {
    fn new(about: About, into: Option<Folder>) -> Result<Reading, BackupError> {
        let into = match into {
            Some(folder) => {
                let log = LogImport::new(&folder.disk, &folder.data_dir, folder.log_id)?;
                Some(Target { folder, log, keys: Vec::new() })
            }
            None => None,
        };
        Ok(Reading { about, documents: 0, segments: 0, segment: None, losses: None, into })
    }

    fn read<R: Read>(mut self, mut files: Files<'_, R>) -> Result<Summary, BackupError> {
        while let Some(name) = files.next()? {
            match &*name {
                LOSSES => {
                    let losses = serde_json::from_slice(&files.whole()?);
                    self.losses = Some(losses.map_err(|e| BackupError::Damaged(format!("{LOSSES}: {e}")))?);
                }
                name if FILES.contains(&name) => {
                    let content = files.whole()?;
                    if let Some(target) = &self.into {
                        target.folder.file(name, &content)?;
                    }
                }
                name if part_of(name, "documents").is_some() => self.documents(&mut files)?,
                name if part_of(name, "notes").is_some() => self.notes(&mut files)?,
                name if part_of(name, "keys").is_some() => self.keys(&files.whole()?)?,
                name => match segment_of(name) {
                    Some(segment) => self.events(segment, files.whole()?)?,
                    None => return Err(BackupError::Damaged(format!("it holds {name}"))),
                },
            }
        }
        self.finish(files.bytes)
    }

    fn documents<R: Read>(&mut self, files: &mut Files<'_, R>) -> Result<(), BackupError> {
        while let Some((key, text)) = files.entry()? {
            self.documents += 1;
            let change = Change::stored(&key, &text).map_err(|e| BackupError::Damaged(e.why.into()))?;
            if let Some(target) = &mut self.into {
                target.folder.document(change);
            }
        }
        Ok(())
    }

    fn notes<R: Read>(&mut self, files: &mut Files<'_, R>) -> Result<(), BackupError> {
        while let Some((key, text)) = files.entry()? {
            self.documents += 1;
            let bytes = key.len() + text.len();
            let note = NoteChange::copied(key, text).map_err(BackupError::Damaged)?;
            if let Some(target) = &mut self.into {
                target.folder.note(note, bytes)?;
            }
        }
        Ok(())
    }

    fn keys(&mut self, part: &[u8]) -> Result<(), BackupError> {
        let keys = decode_used_keys(part).ok_or_else(|| BackupError::Damaged("dedupe keys cannot be read".into()))?;
        if let Some(target) = &mut self.into {
            target.keys.extend(keys);
        }
        Ok(())
    }

    fn events(&mut self, segment: u64, part: Vec<u8>) -> Result<(), BackupError> {
        count_events(&part).map_err(|_| BackupError::Damaged("a part of the log cannot be read".into()))?;
        let begins = self.segment != Some(segment);
        if begins {
            self.segments += 1;
            self.segment = Some(segment);
        }
        if let Some(target) = &mut self.into {
            if begins {
                target.log.end_segment()?;
            }
            target.log.add(part)?;
        }
        Ok(())
    }

    fn finish(self, bytes: u64) -> Result<Summary, BackupError> {
        let Reading { about, documents, segments, losses, into, .. } = self;
        let losses = losses.ok_or_else(|| BackupError::Damaged(format!("it lacks {LOSSES}")))?;
        if let Some(Target { mut folder, log, keys }) = into {
            let log = log.finish(keys)?;
            if log.last > about.head {
                return Err(BackupError::Damaged("it has events behind the newest one that it tells of".into()));
            }
            folder.end_notes(losses.notes_numbered_from, losses.notes_lost)?;
            let lost = restored_losses(losses.log, 0, about.head);
            folder.finish(lost, about.sequence, log.highest_channel)?;
        }
        Ok(Summary { about, documents, segments, bytes })
    }
}
