//! Whether everything in the folder can be opened as a server opens it. Nothing is changed by that.

use std::path::{Path, PathBuf};

use super::Finding;
use crate::backup::BackupError;
use crate::disk::{Disk, DiskError, Open, Point};

/// Names that a server does not only read.
const WRITTEN: [&str; 2] = ["db", "copy"];
/// A folder that sled makes beside each database.
const FOLDER: &str = "blobs";
/// Files that are shown at most.
const SHOWN: usize = 5;

/// Why a server could not write into one of the folders that are there. Blocks.
pub fn unwritable(disk: &Disk, data_dir: &Path) -> Option<DiskError> {
    let folders = ["wal", "log", "state", "notes"].map(|name| data_dir.join(name));
    folders.iter().filter_map(|folder| disk.expect_writable(folder).err()).find(|e| !e.is_missing())
}

/// What a server would be refused. Run as its user. Blocks.
///
/// # Errors
/// A folder cannot be listed.
pub fn access(disk: &Disk, data_dir: &Path) -> Result<Option<Finding>, BackupError> {
    let mut refused: Vec<_> = unwritable(disk, data_dir).into_iter().collect();
    for (path, how) in files(disk, data_dir)? {
        let opened = match path.file_name() {
            Some(name) if name == FOLDER => disk.list(&path).map(drop),
            _ => disk.open(Point::Look, &path, how).map(drop),
        };
        match opened {
            // whether it has to be there is told elsewhere
            Err(e) if e.is_missing() => {}
            opened => refused.extend(opened.err()),
        }
    }
    let Some(first) = refused.first() else { return Ok(None) };
    let text = format!("{first}; no server starts; {}", first.cure());
    let others = refused[1..].iter().take(SHOWN).map(ToString::to_string).collect();
    Ok(Some(Finding::bad("access", text).with_details(others)))
}

/// What a server opens, and how.
fn files(disk: &Disk, data_dir: &Path) -> Result<Vec<(PathBuf, Open)>, BackupError> {
    let how = |name: &str| if WRITTEN.contains(&name) { Open::ReadWrite } else { Open::Read };
    let below = |dir: &Path| -> Result<Vec<String>, BackupError> {
        match disk.list(dir) {
            Err(e) if e.is_missing() => Ok(Vec::new()),
            entries => Ok(entries?.into_iter().map(|entry| entry.name).collect()),
        }
    };
    let mut files = vec![(data_dir.join("log/newest"), Open::Read), (data_dir.join("wal/manifest"), Open::Read)];
    let is_numbered = |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let wal = data_dir.join("wal");
    files.extend(below(&wal)?.into_iter().filter(is_numbered).map(|name| (wal.join(name), Open::ReadWrite)));
    let mut folders = vec![data_dir.join("notes")];
    for above in ["log", "state"].map(|name| data_dir.join(name)) {
        folders.extend(below(&above)?.into_iter().filter(is_numbered).map(|name| above.join(name)));
    }
    for folder in folders {
        for name in below(&folder)? {
            files.push((folder.join(&name), how(&name)));
        }
    }
    Ok(files)
}
