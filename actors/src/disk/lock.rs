//! One server per data folder.

use std::path::{Path, PathBuf};

use super::{Cure, Disk, DiskError, DiskFile, Open, Point};

/// Held while the data folder is in use; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: DiskFile,
}

/// Why the data folder could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the data folder {path} is in use by another server", path = .0.display())]
    InUse(PathBuf),
}

impl LockError {
    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        match self {
            LockError::Disk(e) => e.cure(),
            LockError::InUse(_) => {
                Cure::adjust("stop the other server first, or give this one a data folder of its own")
            }
        }
    }
}

impl DataLock {
    /// Makes the data folder if it is missing and takes it. Blocks.
    ///
    /// # Errors
    /// [`LockError::InUse`] while another server holds it.
    pub fn take(disk: &Disk, data_dir: &Path) -> Result<DataLock, LockError> {
        disk.create_dir_all(data_dir)?;
        let file = disk.open(Point::LockOpen, &data_dir.join("lock"), Open::CreateOrOpen)?;
        if file.try_lock()? { Ok(DataLock { _file: file }) } else { Err(LockError::InUse(data_dir.to_path_buf())) }
    }
}
