//! Files, folders and databases, and the points at which tests make them fail.
//!
//! # Layout
//! - [`Disk`], [`DiskFile`]: the file system: the real one, or a simulated one for tests
//! - [`database`]: ordered keys and values that are written once; the only place that knows sled
//! - [`failure`]: the failure points
//! - [`lock`]: one server per data folder
//! - [`DataFormat`]: which version of the layout it has
//!
//! Nothing here retries or hides an error: each one names the path and the reason.

#[cfg(test)]
pub mod chance;
pub mod database;
mod error;
pub mod failure;
mod file;
mod format;
pub mod lock;
#[cfg(test)]
pub mod mutant;
mod real;
pub mod simulated;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use database::{Database, DatabaseError};
pub use error::{Cure, DiskError};
pub use failure::{Faults, Point};
pub use file::DiskFile;
pub use format::{DataFormat, FORMAT, FORMAT_FILE};
pub use lock::{DataLock, LockError};
pub use simulated::SimulatedDisk;

use file::Handle;

/// Permissions of files and folders: only the server's user may read them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A file system. Clones are the same one, with the same faults.
#[derive(Clone, Debug)]
pub struct Disk {
    files: Files,
    faults: Faults,
}

#[derive(Clone, Debug)]
enum Files {
    Real,
    Simulated(SimulatedDisk),
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
            return Disk { files: Files::Real, faults: Faults::controlled_by(path.into()) };
        }
        Disk { files: Files::Real, faults: Faults::default() }
    }

    /// An empty file system in memory. What a crash of it keeps is drawn from the seed.
    pub fn simulated(seed: u64) -> Disk {
        Disk { files: Files::Simulated(SimulatedDisk::new(seed)), faults: Faults::default() }
    }

    /// What only a simulated disk can do; none for a real one.
    pub fn simulation(&self) -> Option<&SimulatedDisk> {
        match &self.files {
            Files::Real => None,
            Files::Simulated(disk) => Some(disk),
        }
    }

    /// A simulated disk as it may be after a power cut now, drawn from a seed of its own and without faults; this disk
    /// goes on. None for a real one.
    pub fn after_crash(&self, seed: u64) -> Option<Disk> {
        let disk = self.simulation()?.after_crash(seed);
        Some(Disk { files: Files::Simulated(disk), faults: Faults::default() })
    }

    /// A copy of a simulated disk as it is now, without faults. None for a real one.
    #[cfg(test)]
    pub fn copied(&self, seed: u64) -> Option<Disk> {
        let disk = self.simulation()?.copied(seed);
        Some(Disk { files: Files::Simulated(disk), faults: Faults::default() })
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
        match &self.files {
            Files::Real => real::create_dir_all(path),
            Files::Simulated(disk) => disk.create_dir_all(path),
        }
        .map_err(fail)
    }

    /// Makes a folder and those above it that are missing, durably: a power cut must not take the name under which everything
    /// else lies. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make_folder(&self, path: &Path) -> Result<(), DiskError> {
        let mut above = Vec::new();
        for folder in path.ancestors().skip(1).take_while(|folder| !folder.as_os_str().is_empty()) {
            above.push(folder);
            if self.exists(folder)? {
                break;
            }
        }
        self.create_dir_all(path)?;
        if above.is_empty() {
            above.push(Path::new("."));
        }
        above.into_iter().try_for_each(|folder| match self.sync_dir(folder) {
            Err(e) if e.is_denied() => {
                log::warn!("the name of {} may be lost by a power cut in the next seconds: {e}", path.display());
                Ok(())
            }
            synced => synced,
        })
    }

    /// Opens a file. Its name is durable only after [`Disk::sync_dir`] of its folder. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(&self, point: Point, path: &Path, how: Open) -> Result<DiskFile, DiskError> {
        let fail = failed("open", path);
        self.faults.check(point).map_err(&fail)?;
        let file = match &self.files {
            Files::Real => real::open(path, how).map(Handle::Real),
            Files::Simulated(disk) => disk.open(path, how).map(Handle::Simulated),
        };
        let file = file.map_err(fail)?;
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
        let written = self.write_new(point, &fresh, bytes).and_then(|()| self.rename(&fresh, path));
        if let Err(e) = written {
            // it holds nothing that counts, and takes room that is perhaps missing
            drop(self.remove_file(&fresh));
            return Err(e);
        }
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    fn write_new(&self, point: Point, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let file = self.open(point, path, Open::CreateOrOpen)?;
        file.set_len(point, 0)?;
        file.write_at(point, bytes, 0)?;
        file.sync_data(point)
    }

    /// What is in a folder, sorted by name. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>, DiskError> {
        let fail = failed("list", path);
        self.faults.check(Point::List).map_err(&fail)?;
        match &self.files {
            Files::Real => real::list(path),
            Files::Simulated(disk) => disk.list(path),
        }
        .map_err(fail)
    }

    /// Gives a file or folder another name, in place of a file that has it. Durable only after [`Disk::sync_dir`] of the
    /// folder (of both, when they differ). Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let fail = failed("rename", from);
        self.faults.check(Point::Rename).map_err(&fail)?;
        match &self.files {
            Files::Real => std::fs::rename(from, to),
            Files::Simulated(disk) => disk.rename(from, to),
        }
        .map_err(fail)
    }

    /// Durable only after [`Disk::sync_dir`] of the folder. Blocks.
    ///
    /// # Errors
    /// What the file system says, also when there is no such file.
    pub fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let fail = failed("remove", path);
        self.faults.check(Point::Remove).map_err(&fail)?;
        match &self.files {
            Files::Real => std::fs::remove_file(path),
            Files::Simulated(disk) => disk.remove_file(path),
        }
        .map_err(fail)
    }

    /// Removes a folder with all that is in it; a folder that does not exist is removed already. Durable only after
    /// [`Disk::sync_dir`] of the folder above. Blocks.
    ///
    /// # Errors
    /// What the file system says. Part of it may then be gone.
    pub fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let fail = failed("remove the folder", path);
        self.faults.check(Point::Remove).map_err(&fail)?;
        let removed = match &self.files {
            Files::Real => std::fs::remove_dir_all(path),
            Files::Simulated(disk) => disk.remove_dir_all(path),
        };
        match removed {
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
        match &self.files {
            Files::Real => real::sync_dir(path),
            Files::Simulated(disk) => disk.sync_dir(path),
        }
        .map_err(fail)
    }

    /// How long a file is; none when there is none. Blocks.
    ///
    /// # Errors
    /// Any other reason why it cannot be told.
    pub fn len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        let fail = failed("look at", path);
        self.faults.check(Point::Look).map_err(&fail)?;
        let len = match &self.files {
            Files::Real => std::fs::metadata(path).map(|metadata| metadata.len()),
            Files::Simulated(disk) => disk.len(path),
        };
        match len {
            Ok(len) => Ok(Some(len)),
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

    /// How long all files below a folder are together; 0 when there is none. Blocks.
    ///
    /// # Errors
    /// What keeps that from being told.
    pub fn bytes_below(&self, folder: &Path) -> Result<u64, DiskError> {
        let entries = match self.list(folder) {
            Err(e) if e.is_missing() => return Ok(0),
            entries => entries?,
        };
        let mut bytes = 0;
        for entry in entries {
            let path = folder.join(&entry.name);
            // a file may go between the list and the look
            bytes += if entry.is_dir { self.bytes_below(&path)? } else { self.len(&path)?.unwrap_or(0) };
        }
        Ok(bytes)
    }

    /// Makes sure that names can be made and removed in a folder. Blocks.
    ///
    /// # Errors
    /// What keeps this process from that.
    pub fn expect_writable(&self, folder: &Path) -> Result<(), DiskError> {
        match &self.files {
            Files::Real => real::expect_writable(folder),
            Files::Simulated(_) => Ok(()),
        }
        .map_err(failed("write into the folder", folder))
    }

    /// Bytes that are free for a folder; none when the system does not say. Blocks.
    pub fn free_bytes(&self, folder: &Path) -> Option<u64> {
        match &self.files {
            Files::Real => real::free_bytes(folder),
            Files::Simulated(disk) => Some(disk.free_bytes()),
        }
    }

    /// Lets only the owner look into a folder (mode 0700). Blocks.
    ///
    /// # Errors
    /// What the file system says: it belongs to another user, for one.
    pub fn restrict_folder(&self, path: &Path) -> Result<(), DiskError> {
        match &self.files {
            Files::Real => real::restrict_folder(path),
            Files::Simulated(_) => Ok(()),
        }
        .map_err(failed("set the permissions of", path))
    }

    /// Takes a file from the eyes of other users.
    fn restrict(&self, path: &Path) -> Result<(), DiskError> {
        match &self.files {
            Files::Real => real::restrict(path),
            Files::Simulated(_) => Ok(()),
        }
        .map_err(failed("set the permissions of", path))
    }
}

fn too_large(path: &Path) -> DiskError {
    DiskError::new("read", path, io::Error::from(io::ErrorKind::FileTooLarge))
}
