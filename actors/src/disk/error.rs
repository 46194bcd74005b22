//! What the disk refused, and what the operator can do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file or folder that failed. Its text is one line with the path and the reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}", path = path.display())]
pub struct DiskError {
    /// Verb phrase that stands before the path, such as "sync".
    pub what: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl DiskError {
    pub fn new(what: &'static str, path: &Path, source: io::Error) -> DiskError {
        DiskError { what, path: path.to_path_buf(), source }
    }

    /// Whether there was no room, or the quota was used up.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }

    /// Whether the user may not do it.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    /// Whether the file or folder does not exist.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// What the operator can do.
    pub fn cure(&self) -> Cure {
        cure(&self.source)
    }
}

/// What the operator can do about an error, as a sentence without a capital and a full stop. Which of the two it is decides
/// what a node of a cluster is told: it needs no backup, because its data folder is a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Nothing that is stored has to come back: another process, rights, room, a limit, a device, the version or a key.
    Adjust(Cow<'static, str>),
    /// Something that was stored is missing, damaged or not the right one; a backup has it.
    Restore(Cow<'static, str>),
}

impl Cure {
    pub fn adjust(text: impl Into<Cow<'static, str>>) -> Cure {
        Cure::Adjust(text.into())
    }

    pub fn restore(text: impl Into<Cow<'static, str>>) -> Cure {
        Cure::Restore(text.into())
    }

    pub fn as_str(&self) -> &str {
        match self {
            Cure::Adjust(text) | Cure::Restore(text) => text,
        }
    }
}

impl fmt::Display for Cure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether an error says that there was no room, or that a quota or a limit was used up.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || e.raw_os_error() == Some(libc::EFBIG)
}

/// Something else stands where a file or folder was.
const NO_FILE: &str = "put back what was there, or restore a backup (stentor restore)";

pub(super) fn cure(e: &io::Error) -> Cure {
    let adjusted = match e.raw_os_error() {
        Some(libc::EMFILE) => "raise the limit of open files of this process (ulimit -n, LimitNOFILE=)",
        Some(libc::ENFILE) => "raise the limit of open files of the system (sysctl fs.file-max)",
        Some(libc::EIO) => "the device reports an error: look into the system log (dmesg) and replace the disk",
        Some(libc::EROFS) => "the file system is read-only: look into the system log (dmesg) and mount it writable",
        Some(libc::ENOMEM) => "give the process more memory",
        Some(libc::EWOULDBLOCK) => "another process holds it: stop that process first",
        Some(libc::ELOOP | libc::ENXIO) => return Cure::restore(NO_FILE),
        Some(libc::EFBIG) => "raise the limit on the size of files (ulimit -f, LimitFSIZE=)",
        _ => match e.kind() {
            io::ErrorKind::StorageFull => "make room on the file system",
            io::ErrorKind::QuotaExceeded => "raise the quota of the user that runs the server, or make room",
            io::ErrorKind::PermissionDenied => "give the data folder to the user that runs the server (chown -R)",
            io::ErrorKind::NotFound => {
                return Cure::restore("put the file back, or restore a backup (stentor restore)");
            }
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::NotSeekable => {
                return Cure::restore(NO_FILE);
            }
            io::ErrorKind::OutOfMemory => "give the process more memory",
            io::ErrorKind::ResourceBusy => "another process uses it: stop that process first",
            _ => "look into the system log (dmesg) and check the data folder (stentor doctor --data DIR)",
        },
    };
    Cure::adjust(adjusted)
}
