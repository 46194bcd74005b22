//! One server per data folder.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::{StoreError, io};

/// Held while the data folder is in use; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the data folder if it is missing and takes it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another server holds it.
    pub fn take(data_dir: &Path) -> Result<DataLock, StoreError> {
        std::fs::create_dir_all(data_dir).map_err(io("make the data folder", data_dir))?;
        let path = data_dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
        // SAFETY: the descriptor is open for as long as `file` lives
        let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
        if taken { Ok(DataLock { _file: file }) } else { Err(StoreError::InUse(data_dir.to_path_buf())) }
    }
}
