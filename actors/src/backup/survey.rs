//! The data folder as it lies there, for people who look after it. Nothing is opened that a running server holds.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::disk::DiskError;
fn io<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> DiskError + 'a { move |e| DiskError::new(what, path, e) }

/// What is in a data folder.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    pub lock: Lock,
    /// The segments of the log, the oldest first: their number and their bytes on disk.
    pub segments: Vec<(u64, u64)>,
    /// Segments that did not open: the name of the folder, and why.
    pub quarantine: Vec<(String, String)>,
    /// Bytes of the state database; none when there is none.
    pub state_bytes: Option<u64>,
    /// Permissions of the files that hold secrets, of those that exist.
    pub secrets: Vec<(PathBuf, u32)>,
    /// Permissions of the folder itself.
    pub mode: u32,
}

/// Whether a server holds the folder.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// No server has ever been started on it.
    #[default]
    Absent,
    Free,
    Held,
}

/// The files beside the log that only the server's user may read.
const SECRETS: [&str; 2] = ["admin-token", "secret-key"];
/// The permissions of a file, without its kind.
const MODE: u32 = 0o7777;

impl Survey {
    /// Looks at a data folder that exists.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn of(data_dir: &Path) -> Result<Survey, DiskError> {
        let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode() & MODE);
        let mut survey = Survey { lock: lock(&data_dir.join("lock"))?, ..Survey::default() };
        survey.mode = mode(data_dir).map_err(io("look at", data_dir))?;
        for (name, path) in entries(&data_dir.join("log"))? {
            if let Ok(seq) = name.parse() {
                survey.segments.push((seq, bytes_below(&path)?));
            }
        }
        survey.segments.sort_unstable();
        for (name, path) in entries(&data_dir.join("quarantine"))? {
            // the note may be missing; the segment counts without it
            let reason = fs::read_to_string(path.join("reason")).unwrap_or_default();
            survey.quarantine.push((name, reason.trim().to_owned()));
        }
        survey.quarantine.sort_unstable();
        let state = data_dir.join("state");
        if state.exists() {
            survey.state_bytes = Some(bytes_below(&state)?);
        }
        for path in SECRETS.map(|name| data_dir.join(name)) {
            match mode(&path) {
                Ok(mode) => survey.secrets.push((path, mode)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(io("look at", &path)(e)),
            }
        }
        Ok(survey)
    }
}

/// Asks for the lock without keeping it: shared, so that a server that starts meanwhile is refused for this moment only.
fn lock(path: &Path) -> Result<Lock, DiskError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::Absent),
        Err(e) => return Err(io("open", path)(e)),
    };
    // SAFETY: the descriptor is open for as long as `file` lives
    let free = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0;
    Ok(if free { Lock::Free } else { Lock::Held })
}

/// The names and paths in a folder; none when there is no such folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io("read", folder)(e)),
    };
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(io("read", folder))?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    read.map(entry).collect()
}

/// Bytes on disk of a file, or of everything below a folder. What goes meanwhile counts as gone.
fn bytes_below(path: &Path) -> Result<u64, DiskError> {
    use std::os::unix::fs::MetadataExt;
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            entries(path)?.iter().map(|(_, inner)| bytes_below(inner)).sum::<Result<u64, DiskError>>()
        }
        Ok(metadata) => Ok(metadata.blocks() * 512),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(io("look at", path)(e)),
    }
}

/// Bytes that are free for a folder; none when the system does not say.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: statvfs is plain data for which all zeroes is a value
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and the struct is ours to write
    let done = unsafe { libc::statvfs(path.as_ptr(), &mut stat) } == 0;
    #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other systems")]
    done.then(|| stat.f_bavail as u64 * stat.f_frsize as u64)
}

