//! An open file of a disk.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::simulated::SimulatedFile;
use super::{DiskError, Faults, Point, failed, real};

/// An open file. All reads and writes say where; it has no position, and threads may share it.
#[derive(Debug)]
pub struct DiskFile {
    pub(super) file: Handle,
    pub(super) path: Arc<Path>,
    pub(super) faults: Faults,
}

#[derive(Debug)]
pub(super) enum Handle {
    Real(File),
    Simulated(SimulatedFile),
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
        let read = match &self.file {
            Handle::Real(file) => real::read_at(file, buffer, offset),
            Handle::Simulated(file) => file.read_at(buffer, offset),
        };
        let read = read.map_err(fail)?;
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
        if let Err(e) = self.faults.check(point) {
            if let Handle::Simulated(file) = &self.file {
                file.fail_write_at(bytes, offset).map_err(&fail)?;
            }
            return Err(fail(e));
        }
        match &self.file {
            Handle::Real(file) => real::write_at(file, bytes, offset),
            Handle::Simulated(file) => file.write_at(bytes, offset),
        }
        .map_err(fail)
    }

    /// Makes what was written durable, and the length. After an error it is unknown which writes are durable, and a
    /// later sync that succeeds says nothing about them. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync_data(&self, point: Point) -> Result<(), DiskError> {
        let fail = failed("sync", &self.path);
        if let Err(e) = self.faults.check(point) {
            if let Handle::Simulated(file) = &self.file {
                file.fail_sync().map_err(&fail)?;
            }
            return Err(fail(e));
        }
        match &self.file {
            Handle::Real(file) => file.sync_data(),
            Handle::Simulated(file) => file.sync_data(),
        }
        .map_err(fail)
    }

    /// Cuts the file, or lengthens it with zeros that take no room. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_len(&self, point: Point, len: u64) -> Result<(), DiskError> {
        let fail = failed("set the length of", &self.path);
        self.faults.check(point).map_err(&fail)?;
        match &self.file {
            Handle::Real(file) => file.set_len(len),
            Handle::Simulated(file) => file.set_len(len),
        }
        .map_err(fail)
    }

    /// # Errors
    /// What the file system says.
    pub fn len(&self) -> Result<u64, DiskError> {
        match &self.file {
            Handle::Real(file) => file.metadata().map(|metadata| metadata.len()),
            Handle::Simulated(file) => file.len(),
        }
        .map_err(failed("look at", &self.path))
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
        match &self.file {
            Handle::Real(file) => real::try_lock(file),
            Handle::Simulated(file) => file.try_lock(),
        }
        .map_err(failed("lock", &self.path))
    }

    /// Lets go of what [`DiskFile::try_lock`] took.
    ///
    /// # Errors
    /// What the file system says.
    pub fn unlock(&self) -> Result<(), DiskError> {
        match &self.file {
            Handle::Real(file) => file.unlock(),
            Handle::Simulated(file) => file.unlock(),
        }
        .map_err(failed("unlock", &self.path))
    }
}
