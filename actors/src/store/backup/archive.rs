//! The outer form of a backup: files in a tar archive, and the digest over them.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};

use super::{BackupError, COMPLETE, Complete};

/// Largest file that is read at once. Parts of segments are about a MiB and one value more.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn add(digest: &mut Sha256, name: &str, size: u64) {
    digest.update((name.len() as u64).to_be_bytes());
    digest.update(name);
    digest.update(size.to_be_bytes());
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

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

    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<(), BackupError> {
        self.stream(name, content.len() as u64, content)
    }

    /// A file of exactly `size` bytes.
    pub fn stream(&mut self, name: &str, size: u64, content: impl Read) -> Result<(), BackupError> {
        add(&mut self.digest, name, size);
        self.files += 1;
        self.bytes += size;
        let content = Digested { content, digest: &mut self.digest };
        append(&mut self.tar, name, size, self.modified_s, content)
    }

    /// Ends the archive; without this it counts as cut off.
    pub fn finish(mut self) -> Result<(), BackupError> {
        let complete = Complete { files: self.files, sha256: hex(self.digest) };
        let text = serde_json::to_vec(&complete).map_err(super::StoreError::from)?;
        append(&mut self.tar, COMPLETE, text.len() as u64, self.modified_s, text.as_slice())?;
        self.tar.into_inner().and_then(|mut out| out.flush()).map_err(BackupError::Write)
    }
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    modified_s: u64,
    content: impl Read,
) -> Result<(), BackupError> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(modified_s);
    tar.append_data(&mut header, name, content).map_err(BackupError::Write)
}

/// Adds to the digest what is read through it.
struct Digested<'a, R> {
    content: R,
    digest: &'a mut Sha256,
}

impl<R: Read> Read for Digested<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.content.read(into)?;
        self.digest.update(&into[..read]);
        Ok(read)
    }
}

/// What is done with each file of an archive.
pub trait Visitor {
    /// Takes one file; `content` gives exactly `size` bytes.
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), BackupError>;
}

/// Hands every file to the visitor and checks that the archive is whole. The visitor has seen everything by the time
/// a damage is found.
pub fn read(from: impl Read, visitor: &mut impl Visitor) -> Result<(), BackupError> {
    let mut tar = tar::Archive::new(from);
    let mut digest = Sha256::new();
    let damaged = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => BackupError::CutOff,
        std::io::ErrorKind::Other | std::io::ErrorKind::InvalidData => BackupError::Damaged(e.to_string()),
        _ => BackupError::Read(e),
    };
    for (files, entry) in (0..).zip(tar.entries().map_err(damaged)?) {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        if name == COMPLETE {
            let mut text = Vec::new();
            entry.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(damaged)?;
            let said: Complete = serde_json::from_slice(&text).map_err(|e| BackupError::Damaged(e.to_string()))?;
            let found = Complete { files, sha256: hex(digest) };
            return match said == found {
                true => Ok(()),
                false => Err(BackupError::Damaged("its digest is another".into())),
            };
        }
        add(&mut digest, &name, size);
        let mut content = Digested { content: &mut entry, digest: &mut digest };
        visitor.file(&name, size, &mut content).map_err(|e| match e {
            BackupError::Read(e) => damaged(e),
            e => e,
        })?;
        let unread = std::io::copy(&mut content, &mut std::io::sink()).map_err(damaged)?;
        if unread > 0 {
            return Err(BackupError::Damaged(format!("{name} is longer than what is in it")));
        }
    }
    Err(BackupError::CutOff)
}

/// A whole file as bytes.
pub fn whole(name: &str, size: u64, content: &mut dyn Read) -> Result<Vec<u8>, BackupError> {
    if size > FILE_BYTES_MAX {
        return Err(BackupError::Damaged(format!("{name} has {size} bytes")));
    }
    let mut bytes = vec![0; size as usize];
    content.read_exact(&mut bytes).map_err(BackupError::Read)?;
    Ok(bytes)
}

// ---- entries -----------------------------------------------------------------------------------------------------------

pub fn write_entry(out: &mut impl Write, key: &[u8], value: &[u8]) -> std::io::Result<()> {
    out.write_all(&(key.len() as u32).to_be_bytes())?;
    out.write_all(&(value.len() as u32).to_be_bytes())?;
    out.write_all(key)?;
    out.write_all(value)
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Reads entries that together have `size` bytes.
pub struct Entries<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl<'a> Entries<'a> {
    pub fn new(size: u64, from: &'a mut dyn Read) -> Entries<'a> {
        Entries { from, left: size }
    }

    /// The next one; none at the end.
    pub fn next(&mut self) -> Result<Option<Entry>, BackupError> {
        if self.left == 0 {
            return Ok(None);
        }
        let key_len = self.length()?;
        let value_len = self.length()?;
        Ok(Some((self.bytes(key_len)?, self.bytes(value_len)?)))
    }

    fn length(&mut self) -> Result<u64, BackupError> {
        let bytes = self.bytes(4)?;
        Ok(bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, BackupError> {
        self.left = self
            .left
            .checked_sub(count)
            .filter(|_| count <= FILE_BYTES_MAX)
            .ok_or_else(|| BackupError::Damaged("an entry is longer than its file".into()))?;
        let mut bytes = vec![0; count as usize];
        self.from.read_exact(&mut bytes).map_err(BackupError::Read)?;
        Ok(bytes)
    }
}
