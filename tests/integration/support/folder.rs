//! Data folders as files: copies, listings, permissions, and damage done on purpose.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::random::Random;

/// A copy of everything in `from`, with its permissions, in a new folder below `below`.
pub fn copy(from: &Path, below: &Path) -> PathBuf {
    let to = tempfile::Builder::new().prefix("data-").tempdir_in(below).expect("a folder can be made").keep();
    copy_into(from, &to);
    to
}

/// A copy of everything in `from`, with its permissions, in a folder that is there.
pub fn copy_into(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp runs");
    assert!(done.success(), "{} could not be copied to {}", from.display(), to.display());
}

/// Every file below a folder, in the order of their names. A socket that a server has left is none.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path)
            } else if path.is_file() {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}

/// The one folder below this one whose name is a number, and is the largest.
pub fn newest(folder: &Path) -> PathBuf {
    numbered(folder).pop().unwrap_or_else(|| panic!("nothing with a number in {}", folder.display()))
}

/// What has a number as its name in a folder, in the order of the numbers.
pub fn numbered(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| number(path).is_some());
    found.sort_by_key(number);
    found
}

/// Every path below a folder, with the size of each file.
///
/// What the promise about starts excepts is not in it: a database writes into its own files when it is opened. Of those only
/// the file `db` is listed, without its size.
pub fn listing(folder: &Path) -> BTreeMap<String, Option<u64>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(at) = open.pop() {
        let is_database = at.join("db").is_file();
        for entry in fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())) {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let of_database = is_database && (["conf", "blobs"].contains(&&*name) || name.starts_with("snap."));
            if of_database {
                continue;
            }
            let metadata = entry.metadata().expect("the entry is there");
            let size = (metadata.is_file() && !(is_database && name == "db")).then_some(metadata.len());
            let below = path.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned();
            found.insert(below, size);
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

/// What others than the owner may do with anything below a folder, or with the folder itself: nothing, so the list is empty.
pub fn open_to_others(folder: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(at) = open.pop() {
        let metadata = fs::symlink_metadata(&at).expect("it is there");
        let (mode, most) = (metadata.permissions().mode() & 0o7777, if metadata.is_dir() { 0o700 } else { 0o600 });
        if mode & !most != 0 {
            found.push(format!("{} has {mode:o}", at.display()));
        }
        if metadata.is_dir() {
            let entries = fs::read_dir(&at).expect("a folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    found
}

/// One bit of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bit {
    /// Below the data folder.
    pub file: PathBuf,
    pub byte: u64,
    pub bit: u8,
}

impl Bit {
    /// Turns the bit over. Doing it again puts the file right.
    pub fn flip(&self, folder: &Path) {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(&self.file)).expect("the file opens");
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.byte).expect("the byte is there");
        file.write_all_at(&[byte[0] ^ (1 << self.bit)], self.byte).expect("the byte can be written");
    }
}

/// Bytes that are judged together: nothing is damaged in a sector that holds only zeros, which is what most of some files is.
const SECTOR_BYTES: usize = 512;
/// Files up to this size are all hit, because chance would pass them by.
const SMALL_BYTES: u64 = 16 * 1024;

/// So many places in the files below `part` of the data folder, chosen by chance: one in each small file first, as far as
/// half of the places go, then any in sectors that hold something.
pub fn places(folder: &Path, part: &str, count: usize, random: &mut Random) -> Vec<Bit> {
    let below = |path: &Path| path.strip_prefix(folder).expect("it is below").to_path_buf();
    let (mut small, mut sectors) = (Vec::new(), Vec::new());
    for path in files(&folder.join(part)) {
        let bytes = fs::read(&path).expect("the file can be read");
        if bytes.is_empty() {
            continue;
        }
        if bytes.len() as u64 <= SMALL_BYTES {
            small.push((below(&path), bytes.len() as u64));
        }
        for (n, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if sector.iter().any(|byte| *byte != 0) {
                sectors.push((below(&path), (n * SECTOR_BYTES) as u64, sector.len() as u64));
            }
        }
    }
    assert!(!sectors.is_empty(), "nothing is in {part}");
    let mut places = Vec::new();
    while places.len() < count / 2 && !small.is_empty() {
        let (file, length) = small.swap_remove(random.below(small.len() as u64) as usize);
        places.push(Bit { file, byte: random.below(length), bit: random.below(8) as u8 });
    }
    while places.len() < count {
        let (file, start, length) = sectors[random.below(sectors.len() as u64) as usize].clone();
        places.push(Bit { file, byte: start + random.below(length), bit: random.below(8) as u8 });
    }
    places
}

/// Cuts a file.
pub fn truncate(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes)).expect("the file can be cut");
}

/// Overwrites a file with as many zeros.
pub fn zero(path: &Path) {
    let length = fs::metadata(path).expect("the file is there").len();
    fs::write(path, vec![0; length as usize]).expect("the file can be written");
}

/// Removes a file or a whole folder.
pub fn remove(path: &Path) {
    let done = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    done.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Leaves in each database what a process leaves that is killed while sled opens it: an empty snapshot that is not yet in place,
/// with a name that is behind those of all others. Returns how many databases there are.
pub fn interrupt_openings(folder: &Path) -> usize {
    let databases: Vec<_> = files(folder).into_iter().filter(|path| path.ends_with("db")).collect();
    for database in &databases {
        fs::write(database.with_file_name("snap.FFFFFFFFFFFFFFFF.generating"), "").expect("it can be made");
    }
    databases.len()
}

/// Holds the lock that a database takes on its file, as another process would.
pub fn hold_lock(path: &Path) -> File {
    use std::os::fd::AsRawFd;
    let file =
        OpenOptions::new().read(true).write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // SAFETY: the descriptor is open for as long as `file` lives
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0, "the lock is free");
    file
}
