//! What the engine's threads share: the log, the journal's queue, the directory, and the addresses of the actors.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Addr;

use crate::credentials::Credentials;
use crate::directory::Directory;
use crate::journal::Journal;
use crate::limits::{Limits, Slots};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::routes::Routes;
use crate::store::{DataLock, Log, State};
use crate::tickets::Tickets;
use crate::webhook::office::Office;

pub struct Engine {
    pub limits: Limits,
    pub log: Arc<Log>,
    pub state: State,
    pub journal: Journal,
    pub routes: Arc<Routes>,
    pub registry: Addr<Registry>,
    pub tickets: Addr<Tickets>,
    pub directory: Directory,
    pub access: Credentials,
    pub slots: Arc<Slots>,
    pub metrics: Arc<Metrics>,
    pub office: Office,
    pub data_dir: PathBuf,
    /// Held as long as the engine lives, so that no second server writes into the folder.
    pub lock: DataLock,
}

impl Engine {
    /// Bytes that are free for the data folder; none when the system does not say.
    pub fn free_disk_bytes(&self) -> Option<u64> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(self.data_dir.as_os_str().as_bytes()).ok()?;
        // SAFETY: statvfs is plain data for which all zeroes is a value
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path ends in NUL and the struct is ours to write
        let done = unsafe { libc::statvfs(path.as_ptr(), &mut stat) } == 0;
        #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other systems")]
        done.then(|| stat.f_bavail as u64 * stat.f_frsize as u64)
    }
}
