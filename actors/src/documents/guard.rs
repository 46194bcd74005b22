//! Keeps versions of Stentor before data format 2 away from a folder of this format.
//!
//! They open `state/` itself as a sled database and would make an empty one there. sled reads the file `conf` before
//! anything else and gives up when it does not understand a line of it, which it writes to the log. So that line is a
//! sentence for the operator. Nothing in this version reads the file.

use std::path::Path;

use super::STATE;
use crate::disk::{Disk, DiskError, Point};

const CONF: &str = "conf";
/// Without a colon and a space, which would make it a setting of sled's.
const WORDS: &str = "This is no damage. The data folder has format 2 and needs the newer version of Stentor that made it; \
                     start that version, or this one with another folder.\n";

/// What stands in the file: the words, and the checksum that sled expects behind them.
fn content() -> Vec<u8> {
    [WORDS.as_bytes(), &crc32fast::hash(WORDS.as_bytes()).to_le_bytes()].concat()
}

/// Lets older versions refuse the folder. To be called once the folder is marked as one of format 2. Blocks.
///
/// # Errors
/// What the disk says. Calling it again is harmless.
pub fn refuse_older_versions(disk: &Disk, data_dir: &Path) -> Result<(), DiskError> {
    let state = data_dir.join(STATE);
    let path = state.join(CONF);
    let is_there =
        disk.len(&path)? == Some(content().len() as u64) && disk.read(Point::FormatRead, &path)? == content();
    if is_there {
        return Ok(());
    }
    disk.create_dir_all(&state)?;
    disk.sync_dir(data_dir)?;
    disk.replace(Point::FormatWrite, &path, &content())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Database, DatabaseError};
    use crate::documents::{Documents, Generations};

    #[test]
    fn sled_refuses_the_folder_and_generations_in_it_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = Disk::real();
        for _ in 0..2 {
            refuse_older_versions(&disk, dir.path()).expect("a write");
        }
        let state = dir.path().join(STATE);
        // as an older version opens it
        let refused = Database::open_in_place(&disk, &state);
        assert!(matches!(refused, Err(DatabaseError::Damaged { .. })));
        assert_eq!(std::fs::read(state.join(CONF)).expect("a file"), content());
        let generations = Generations::new(&disk, dir.path(), &[1; 16]);
        generations.write_step(&Documents::of([], 5).freeze()).expect("a write");
        let (_, documents) = Generations::open(&disk, dir.path(), &[1; 16], 6).expect("a start");
        assert_eq!(documents.sequence(), 5);
    }
}
