//! The outer form of a backup: files in a tar archive, and the digest over them.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::{BackupError, COMPLETE, Complete, PART_BYTES};
use crate::model::hex;

/// Largest file that is read at once. Parts are about a MiB and one value more.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn add(digest: &mut Sha256, name: &str, size: u64) {
    digest.update((name.len() as u64).to_be_bytes());
    digest.update(name);
    digest.update(size.to_be_bytes());
}

// ---- writing -----------------------------------------------------------------------------------------------------------

pub struct Writer<W: Write> {
    tar: tar::Builder<W>,
    digest: Sha256,
    files: u64,
    modified_s: u64,
    pub bytes: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, now_ms: i64) -> Writer<W> {
        let modified_s = now_ms.max(0) as u64 / 1000;
        Writer { tar: tar::Builder::new(out), digest: Sha256::new(), files: 0, modified_s, bytes: 0 }
    }

    /// Appends a file to the archive. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Write`] when the output cannot be written.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<(), BackupError> {
        let size = content.len() as u64;
        add(&mut self.digest, name, size);
        self.digest.update(content);
        self.files += 1;
        self.bytes += size;
        self.append(name, content)
    }

    fn append(&mut self, name: &str, content: &[u8]) -> Result<(), BackupError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.modified_s);
        self.tar.append_data(&mut header, name, content).map_err(BackupError::Write)
    }

    /// Ends the archive; without this it counts as cut off. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Write`] when the output cannot be written or flushed.
    pub fn finish(mut self) -> Result<(), BackupError> {
        let digest = std::mem::take(&mut self.digest);
        let complete = Complete { files: self.files, sha256: hex::encode(&digest.finalize()) };
        // a number and a text always have a JSON form
        self.append(COMPLETE, &serde_json::to_vec(&complete).unwrap_or_default())?;
        self.tar.into_inner().and_then(|mut out| out.flush()).map_err(BackupError::Write)
    }
}

/// Collects entries into parts, files with ascending numbers in one folder of the archive.
pub struct Parts<'a, W: Write> {
    archive: &'a mut Writer<W>,
    folder: &'static str,
    part: Vec<u8>,
    number: u32,
}

impl<'a, W: Write> Parts<'a, W> {
    pub fn new(archive: &'a mut Writer<W>, folder: &'static str) -> Parts<'a, W> {
        Parts { archive, folder, part: Vec::new(), number: 0 }
    }

    /// Adds an entry to the current part, and writes the part when it is full. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Write`] when a part is full and cannot be written.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        self.part.extend_from_slice(&(key.len() as u32).to_be_bytes());
        self.part.extend_from_slice(&(value.len() as u32).to_be_bytes());
        self.part.extend_from_slice(key);
        self.part.extend_from_slice(value);
        if self.part.len() >= PART_BYTES { self.end() } else { Ok(()) }
    }

    /// Writes what is left. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Write`] when the part cannot be written.
    pub fn end(&mut self) -> Result<(), BackupError> {
        if self.part.is_empty() {
            return Ok(());
        }
        self.archive.file(&part_name(self.folder, self.number), &self.part)?;
        self.number += 1;
        self.part.clear();
        Ok(())
    }
}

pub fn part_name(folder: &str, number: u32) -> String {
    format!("{folder}/{number:06}")
}

// ---- reading -----------------------------------------------------------------------------------------------------------

/// The files of an archive, one after the other. That it is whole is known only when [`Files::next`] has answered none: the
/// reader has seen everything by then.
pub struct Files<'a, R: Read> {
    entries: tar::Entries<'a, R>,
    current: Option<tar::Entry<'a, R>>,
    name: String,
    /// Bytes of the current file that were not read yet.
    left: u64,
    digest: Sha256,
    files: u64,
    /// Of contents so far.
    pub bytes: u64,
    is_ended: bool,
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

fn damaged(e: io::Error) -> BackupError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::CutOff,
        io::ErrorKind::Other | io::ErrorKind::InvalidData => BackupError::Damaged(e.to_string()),
        _ => BackupError::Read(e),
    }
}

impl<'a, R: Read> Files<'a, R> {
    /// Reads the files of an archive from its beginning.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when something was read from the archive before.
    pub fn new(archive: &'a mut tar::Archive<R>) -> Result<Files<'a, R>, BackupError> {
        Ok(Files {
            entries: archive.entries().map_err(damaged)?,
            current: None,
            name: String::new(),
            left: 0,
            digest: Sha256::new(),
            files: 0,
            bytes: 0,
            is_ended: false,
        })
    }

    /// Goes to the next file, and answers its name; none at the end of an archive that is whole. Blocks.
    ///
    /// # Errors
    /// [`BackupError::CutOff`] when the archive ends without its closing file, [`BackupError::Damaged`] when the file
    /// before was not read to its end, or when names, lengths or the checksum of the whole are wrong.
    pub fn next(&mut self) -> Result<Option<String>, BackupError> {
        if self.left > 0 {
            return Err(BackupError::Damaged(format!("{} is longer than what is in it", self.name)));
        }
        if self.is_ended {
            return Ok(None);
        }
        let entry = self.entries.next().ok_or(BackupError::CutOff)?.map_err(damaged)?;
        self.name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        self.left = entry.size();
        self.current = Some(entry);
        if self.name == COMPLETE {
            return self.complete().map(|()| None);
        }
        add(&mut self.digest, &self.name, self.left);
        self.files += 1;
        self.bytes += self.left;
        Ok(Some(self.name.clone()))
    }

    fn complete(&mut self) -> Result<(), BackupError> {
        let found = Complete { files: self.files, sha256: hex::encode(&self.digest.clone().finalize()) };
        let text = self.whole()?;
        let said: Complete = serde_json::from_slice(&text).map_err(|e| BackupError::Damaged(e.to_string()))?;
        if said != found {
            return Err(BackupError::Damaged("its digest is another".into()));
        }
        self.is_ended = true;
        Ok(())
    }

    /// All of the current file. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when the file is longer than one may be, or cannot be read.
    pub fn whole(&mut self) -> Result<Vec<u8>, BackupError> {
        if self.left > FILE_BYTES_MAX {
            return Err(BackupError::Damaged(format!("{} has {} bytes", self.name, self.left)));
        }
        self.read(self.left)
    }

    /// The next entry of the current file; none at its end. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when the file ends within an entry or cannot be read.
    pub fn entry(&mut self) -> Result<Option<Entry>, BackupError> {
        if self.left == 0 {
            return Ok(None);
        }
        let key_bytes = self.length()?;
        let value_bytes = self.length()?;
        Ok(Some((self.read(key_bytes)?, self.read(value_bytes)?)))
    }

    fn length(&mut self) -> Result<u64, BackupError> {
        Ok(self.read(4)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
    }

    fn read(&mut self, count: u64) -> Result<Vec<u8>, BackupError> {
        if count > self.left.min(FILE_BYTES_MAX) {
            return Err(BackupError::Damaged(format!("an entry of {} is longer than its file", self.name)));
        }
        let mut bytes = vec![0; count as usize];
        let current = self.current.as_mut().ok_or(BackupError::CutOff)?;
        current.read_exact(&mut bytes).map_err(damaged)?;
        self.digest.update(&bytes);
        self.left -= count;
        Ok(bytes)
    }
}

/// The number of `<folder>/<number>`, if that is what the name is. Nothing but digits ever becomes part of a path.
pub fn part_of(name: &str, folder: &str) -> Option<u64> {
    number(name.strip_prefix(folder)?.strip_prefix('/')?)
}

/// The segment of `log/<segment>/<part>`.
pub fn segment_of(name: &str) -> Option<u64> {
    let (segment, part) = name.strip_prefix("log/")?.split_once('/')?;
    number(part)?;
    number(segment)
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}
