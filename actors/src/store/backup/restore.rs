//! Restoring a backup into an empty folder, and reading one through without that.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::archive::{self, Entries, Visitor, whole};
use super::{ABOUT, About, BackupError, FILES, FORMAT, LOST, STATE, Summary};
use crate::store::segment::Segment;
use crate::store::{DataLock, Durability, State, StoreError, io, sync_dir};

/// Stands in a folder until all of a backup is in it.
const MARK: &str = "restoring";
/// Read cache of a segment that is only written.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Entries are written in batches of about this size, as the journal's are.
const BATCH_BYTES: usize = 1024 * 1024;

/// Reads a backup through: whether it is whole, and what is in it.
///
/// # Errors
/// As for [`restore`].
pub fn check(archive: impl Read) -> Result<Summary, BackupError> {
    let mut reading = Reading::default();
    archive::read(archive, &mut reading)?;
    reading.summary()
}

/// Restores a backup into a folder that is missing or empty. On return everything is durable; after an error the folder is
/// empty again.
///
/// # Errors
/// [`BackupError::NotEmpty`], or that the archive is no backup, is damaged, was cut off or has another format.
pub fn restore(archive: impl Read, data_dir: &Path) -> Result<Summary, BackupError> {
    if data_dir.exists() && !content(data_dir)?.is_empty() {
        return Err(BackupError::NotEmpty(data_dir.into()));
    }
    let lock = DataLock::take(data_dir)?;
    let restored = into_folder(archive, data_dir);
    if restored.is_err() {
        clear(data_dir)?;
    }
    drop(lock);
    restored
}

/// Refuses a folder in which a restore has not come to its end.
pub fn refuse_half(data_dir: &Path) -> Result<(), StoreError> {
    if data_dir.join(MARK).exists() { Err(StoreError::HalfRestored(data_dir.into())) } else { Ok(()) }
}

fn into_folder(archive: impl Read, data_dir: &Path) -> Result<Summary, BackupError> {
    let mark = data_dir.join(MARK);
    File::create(&mark).and_then(|file| file.sync_all()).map_err(io("make", &mark))?;
    sync_dir(data_dir)?;
    let mut reading = Reading { into: Some(Folder::new(data_dir)?), ..Reading::default() };
    archive::read(archive, &mut reading)?;
    if let Some(folder) = reading.into.take() {
        folder.finish()?;
    }
    let summary = reading.summary()?;
    std::fs::remove_file(&mark).map_err(io("remove", &mark))?;
    sync_dir(data_dir)?;
    Ok(summary)
}

/// What is in a folder. The file system's own folder at its top does not count.
fn content(data_dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(data_dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(io("read", data_dir))?;
    Ok(entries.into_iter().filter(|entry| entry.file_name() != "lost+found").map(|entry| entry.path()).collect())
}

/// Takes away what a failed restore has left.
fn clear(data_dir: &Path) -> Result<(), StoreError> {
    for path in content(data_dir)? {
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(io("remove", &path))?;
    }
    Ok(())
}

/// What was read so far, and where it goes.
#[derive(Default)]
struct Reading {
    about: Option<About>,
    documents: u64,
    segments: u64,
    /// The segment that is being read.
    segment: Option<String>,
    has_lost: bool,
    bytes: u64,
    into: Option<Folder>,
}

impl Reading {
    fn summary(self) -> Result<Summary, BackupError> {
        let (Some(about), true) = (self.about, self.has_lost) else {
            return Err(BackupError::Damaged("it lacks files that every backup has".into()));
        };
        Ok(Summary { about, documents: self.documents, segments: self.segments, bytes: self.bytes })
    }
}

impl Visitor for Reading {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), BackupError> {
        self.bytes += size;
        if self.about.is_none() {
            if name != ABOUT {
                return Err(BackupError::Damaged(format!("it begins with {name}")));
            }
            let text = whole(name, size, content)?;
            let about: About = serde_json::from_slice(&text).map_err(|e| BackupError::Damaged(e.to_string()))?;
            if about.format != FORMAT {
                return Err(BackupError::Format(about.format));
            }
            self.about = Some(about);
            return Ok(());
        }
        match name {
            STATE => {
                let mut entries = Entries::new(size, content);
                while let Some((key, value)) = entries.next()? {
                    self.documents += 1;
                    if let Some(folder) = &mut self.into {
                        folder.document(key, value)?;
                    }
                }
            }
            LOST => {
                self.has_lost = true;
                let text = whole(name, size, content)?;
                if let Some(folder) = &mut self.into {
                    folder.file(&folder.data_dir.join("log").join(LOST), &text)?;
                }
            }
            name if FILES.contains(&name) => {
                let text = whole(name, size, content)?;
                if let Some(folder) = &mut self.into {
                    folder.file(&folder.data_dir.join(name), &text)?;
                }
            }
            name => {
                let segment = segment_of(name).ok_or_else(|| BackupError::Damaged(format!("it holds {name}")))?;
                if self.segment.as_deref() != Some(segment) {
                    self.segments += 1;
                    self.segment = Some(segment.to_owned());
                    if let Some(folder) = &mut self.into {
                        folder.begin_segment(segment)?;
                    }
                }
                let mut entries = Entries::new(size, content);
                while let Some((key, value)) = entries.next()? {
                    if let Some(folder) = &mut self.into {
                        folder.entry(key, value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The segment of `log/<segment>/<part>`. Nothing but digits becomes part of a path.
fn segment_of(name: &str) -> Option<&str> {
    let (segment, part) = name.strip_prefix("log/")?.split_once('/')?;
    let is_number = |text: &str| !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(segment) && is_number(part)).then_some(segment)
}

/// The folder that is being filled.
struct Folder {
    data_dir: PathBuf,
    state: State,
    segment: Option<Segment>,
    /// Entries that are still to be written, and their bytes.
    batch: sled::Batch,
    batch_bytes: usize,
}

impl Folder {
    fn new(data_dir: &Path) -> Result<Folder, StoreError> {
        let log = data_dir.join("log");
        std::fs::create_dir_all(&log).map_err(io("make", &log))?;
        let state = State::open(data_dir, Durability::Fsync)?;
        Ok(Folder { data_dir: data_dir.into(), state, segment: None, batch: sled::Batch::default(), batch_bytes: 0 })
    }

    /// Writes a file that only the owner may read.
    fn file(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
        written.map_err(io("write", path))
    }

    fn document(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.add(key, value);
        if self.batch_bytes >= BATCH_BYTES {
            let batch = self.take_batch();
            self.state.import(batch)?;
        }
        Ok(())
    }

    fn begin_segment(&mut self, name: &str) -> Result<(), StoreError> {
        self.end_segment()?;
        // a number of the backup becomes the name that the log itself would give it
        let number: u64 = name.parse().map_err(|_| StoreError::Damaged)?;
        let path = self.data_dir.join("log").join(format!("{number:010}"));
        self.segment = Some(Segment::begin(&path, CACHE_BYTES)?);
        Ok(())
    }

    fn entry(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.add(key, value);
        if self.batch_bytes >= BATCH_BYTES {
            let batch = self.take_batch();
            self.segment.as_ref().map_or(Ok(()), |segment| segment.import(batch))?;
        }
        Ok(())
    }

    fn add(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.batch_bytes += key.len() + value.len();
        self.batch.insert(key, value);
    }

    fn take_batch(&mut self) -> sled::Batch {
        self.batch_bytes = 0;
        std::mem::take(&mut self.batch)
    }

    /// Writes what is left of the documents or of the segment before, and makes it durable.
    fn end_segment(&mut self) -> Result<(), StoreError> {
        let batch = self.take_batch();
        match self.segment.take() {
            Some(segment) => {
                segment.import(batch)?;
                segment.sync(Durability::Fsync)
            }
            None => self.state.import(batch),
        }
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.end_segment()?;
        self.state.sync()?;
        sync_dir(&self.data_dir.join("log"))
    }
}
