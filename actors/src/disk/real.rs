//! The file system of this machine.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{Entry, FILE_MODE, FOLDER_MODE, Open};

/// Makes a folder and those above it, for the server's user alone. Blocks.
///
/// # Errors
/// As mkdir(2).
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Opens a regular file; one that is made is for the server's user alone. Blocks.
///
/// # Errors
/// As open(2), and for whatever is no regular file.
pub fn open(path: &Path, how: Open) -> io::Result<File> {
    let mut options = File::options();
    // a pipe would wait for somebody at its other end
    options.read(true).mode(FILE_MODE).custom_flags(libc::O_NONBLOCK);
    match how {
        Open::Read => &mut options,
        Open::ReadWrite => options.write(true),
        Open::CreateNew => options.write(true).create_new(true),
        Open::CreateOrOpen => options.write(true).create(true).truncate(false),
    };
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    // what a pipe or a device holds is nothing that was stored
    Err(if kind.is_dir() {
        io::ErrorKind::IsADirectory.into()
    } else {
        io::Error::new(io::ErrorKind::NotSeekable, "it is no regular file")
    })
}

/// What is in a folder, sorted by name. Blocks.
///
/// # Errors
/// As opendir(3) and readdir(3).
pub fn list(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
    }
    entries.sort_unstable();
    Ok(entries)
}

/// Makes the names in a folder durable. Blocks.
///
/// # Errors
/// As open(2) and fsync(2).
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Lets only the owner read and write a file (mode 0600). Blocks.
///
/// # Errors
/// As chmod(2).
pub fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(FILE_MODE))
}

/// Lets only the owner look into a folder (mode 0700). Blocks.
///
/// # Errors
/// As chmod(2).
pub fn restrict_folder(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE))
}

/// Whether this process may make and remove names in a folder. Blocks.
///
/// # Errors
/// As access(2); what is no folder is an error.
pub fn expect_writable(folder: &Path) -> io::Result<()> {
    // of a file it would say that nobody may search it
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub fn free_bytes(folder: &Path) -> Option<u64> {
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: statvfs is plain data for which all zeroes is a value
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and the struct is ours to write
    let done = unsafe { libc::statvfs(path.as_ptr(), &mut stat) } == 0;
    #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other systems")]
    done.then(|| stat.f_bavail as u64 * stat.f_frsize as u64)
}

/// Reads until the buffer is full or the file ends. Blocks.
///
/// # Errors
/// As pread(2); an interrupted read is repeated.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

/// Writes all bytes. Blocks.
///
/// # Errors
/// As pwrite(2). Some of the bytes may then be written.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Takes the lock of a file; false while another process holds it. Does not wait.
///
/// # Errors
/// As flock(2), except that a lock held by another is no error.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
