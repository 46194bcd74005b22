//! Files, folders and databases, and the points at which tests make them fail.
//!
//! # Layout
//! - [`Disk`], [`DiskFile`]: the file system, the real one or a simulated one
//! - [`database`]: ordered keys and values that are written once; the only place that knows sled
//! - [`failure`]: the failure points
//! - [`lock`]: one server per data folder
//!
//! Nothing here retries or hides an error: each one names the path and the reason.

pub mod database;
mod error;
pub mod failure;
pub mod lock;

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use database::{Database, DatabaseError};
pub use error::DiskError;
pub use failure::{Faults, Point};
pub use lock::{DataLock, LockError};

/// Permissions of files and folders: only the server's user may read them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A file system. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Disk {
    faults: Faults,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Read,
    ReadWrite,
    /// For reading and writing; an error when it exists.
    CreateNew,
    /// For reading and writing; empty when it did not exist.
    CreateOrOpen,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// A name that is no UTF-8 has replacement characters.
    pub name: String,
    pub is_dir: bool,
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> DiskError + 'a {
    move |source| DiskError::new(what, path, source)
}

impl Disk {
    /// The file system of this machine.
    pub fn real() -> Disk {
        #[cfg(feature = "failure-points")]
        if let Some(path) = std::env::var_os(failure::CONTROL_FILE) {
            return Disk { faults: Faults::controlled_by(path.into()) };
        }
        Disk { faults: Faults::default() }
    }

    /// What fails on this disk.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Makes a folder and those above it, for the server's user alone. Their names are durable only after
    /// [`Disk::sync_dir`] of the folder above. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let fail = failed("make the folder", path);
        self.faults.check(Point::MakeFolder).map_err(&fail)?;
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(fail)
    }

    /// Opens a file. Its name is durable only after [`Disk::sync_dir`] of its folder. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(&self, point: Point, path: &Path, how: Open) -> Result<DiskFile, DiskError> {
        let fail = failed("open", path);
        self.faults.check(point).map_err(&fail)?;
        let mut options = File::options();
        options.read(true).mode(FILE_MODE);
        match how {
            Open::Read => &mut options,
            Open::ReadWrite => options.write(true),
            Open::CreateNew => options.write(true).create_new(true),
            Open::CreateOrOpen => options.write(true).create(true).truncate(false),
        };
        let file = options.open(path).map_err(fail)?;
        Ok(DiskFile { file, path: path.into(), faults: self.faults.clone() })
    }

    /// Reads a whole file. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, point: Point, path: &Path) -> Result<Vec<u8>, DiskError> {
        let file = self.open(point, path, Open::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(|_| too_large(path))?];
        let read = file.read_at(point, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Puts a file with these bytes in place of what was there: after a crash there is one or the other. Blocks.
    ///
    /// # Errors
    /// What the file system says. Then the old or the new bytes are there.
    pub fn replace(&self, point: Point, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let file = self.open(point, &fresh, Open::CreateOrOpen)?;
        file.set_len(point, 0)?;
        file.write_at(point, bytes, 0)?;
        file.sync_data(point)?;
        drop(file);
        self.rename(&fresh, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// What is in a folder, sorted by name. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>, DiskError> {
        let fail = failed("list", path);
        self.faults.check(Point::List).map_err(&fail)?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            let is_dir = entry.file_type().map_err(&fail)?.is_dir();
            entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), is_dir });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Gives a file or folder another name, in place of a file that has it. Durable only after [`Disk::sync_dir`] of the
    /// folder (of both, when they differ). Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let fail = failed("rename", from);
        self.faults.check(Point::Rename).map_err(&fail)?;
        fs::rename(from, to).map_err(fail)
    }

    /// Durable only after [`Disk::sync_dir`] of the folder. Blocks.
    ///
    /// # Errors
    /// What the file system says, also when there is no such file.
    pub fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let fail = failed("remove", path);
        self.faults.check(Point::Remove).map_err(&fail)?;
        fs::remove_file(path).map_err(fail)
    }

    /// Removes a folder with all that is in it; a folder that does not exist is removed already. Durable only after
    /// [`Disk::sync_dir`] of the folder above. Blocks.
    ///
    /// # Errors
    /// What the file system says. Part of it may then be gone.
    pub fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let fail = failed("remove the folder", path);
        self.faults.check(Point::Remove).map_err(&fail)?;
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(fail),
        }
    }

    /// Makes the names in a folder durable. Blocks.
    ///
    /// # Errors
    /// What the file system says. Whether the names are durable is then unknown.
    pub fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let fail = failed("sync the folder", path);
        self.faults.check(Point::SyncFolder).map_err(&fail)?;
        File::open(path).and_then(|folder| folder.sync_all()).map_err(fail)
    }

    /// How long a file is; none when there is none. Blocks.
    ///
    /// # Errors
    /// Any other reason why it cannot be told.
    pub fn len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        let fail = failed("look at", path);
        self.faults.check(Point::Look).map_err(&fail)?;
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fail(e)),
        }
    }

    /// Whether a file or folder exists. Blocks.
    ///
    /// # Errors
    /// What keeps that from being told.
    pub fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        Ok(self.len(path)?.is_some())
    }

    /// Bytes that are free for a folder; none when the system does not say. Blocks.
    pub fn free_bytes(&self, folder: &Path) -> Option<u64> {
        let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
        // SAFETY: statvfs is plain data for which all zeroes is a value
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in NUL and the struct is ours to write
        let done = unsafe { libc::statvfs(path.as_ptr(), &mut stat) } == 0;
        #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other systems")]
        done.then(|| stat.f_bavail as u64 * stat.f_frsize as u64)
    }
}

fn too_large(path: &Path) -> DiskError {
    DiskError::new("read", path, io::Error::from(io::ErrorKind::FileTooLarge))
}

/// An open file. All reads and writes say where; it has no position, and threads may share it.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: Arc<Path>,
    faults: Faults,
}

impl DiskFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads as many bytes as fit and are there: fewer than asked for only at the end of the file. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_at(&self, point: Point, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let fail = failed("read", &self.path);
        self.faults.check(point).map_err(&fail)?;
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fail(e)),
            }
        }
        self.faults.damage(point, &mut buffer[..read]);
        Ok(read)
    }

    /// Fills the buffer. Blocks.
    ///
    /// # Errors
    /// What the file system says, and `UnexpectedEof` when the file ends before.
    pub fn read_exact_at(&self, point: Point, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        if self.read_at(point, buffer, offset)? < buffer.len() {
            return Err(DiskError::new("read", &self.path, io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Writes all bytes. Durable only after [`DiskFile::sync_data`]. Blocks.
    ///
    /// # Errors
    /// What the file system says. Some of the bytes may then be written.
    pub fn write_at(&self, point: Point, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let fail = failed("write", &self.path);
        self.faults.check(point).map_err(&fail)?;
        self.file.write_all_at(bytes, offset).map_err(fail)
    }

    /// Makes what was written durable, and the length. After an error it is unknown which writes are durable, and a
    /// later sync that succeeds says nothing about them. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync_data(&self, point: Point) -> Result<(), DiskError> {
        let fail = failed("sync", &self.path);
        self.faults.check(point).map_err(&fail)?;
        self.file.sync_data().map_err(fail)
    }

    /// Cuts the file, or lengthens it with zeros that take no room. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_len(&self, point: Point, len: u64) -> Result<(), DiskError> {
        let fail = failed("set the length of", &self.path);
        self.faults.check(point).map_err(&fail)?;
        self.file.set_len(len).map_err(fail)
    }

    /// # Errors
    /// What the file system says.
    pub fn len(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(failed("look at", &self.path))?.len())
    }

    /// # Errors
    /// What the file system says.
    pub fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Takes the file for this handle until it is dropped; false when another one has it. Does not wait.
    ///
    /// # Errors
    /// What the file system says.
    pub fn try_lock(&self) -> Result<bool, DiskError> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(e)) => Err(failed("lock", &self.path)(e)),
        }
    }

    /// Lets go of what [`DiskFile::try_lock`] took.
    ///
    /// # Errors
    /// What the file system says.
    pub fn unlock(&self) -> Result<(), DiskError> {
        self.file.unlock().map_err(failed("unlock", &self.path))
    }
}
