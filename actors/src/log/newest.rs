//! Which segment was sealed last. It is written down beside the segments, because the write-ahead log does not keep what is in
//! them: without it nobody could tell a log of which retention took everything from one whose segments are missing.
//!
//! The file `newest` is a line of JSON with its CRC-32C, twice, so that a flipped bit in one of them does no harm.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskError, Point};

const FILE: &str = "newest";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Its number; 0 while none was sealed.
    pub segment: u64,
    /// The newest commit of which anything was sealed.
    pub through: u64,
}

/// Where it is in the folder `log`.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Reads the file in the folder `log`; none when it is missing, or both of its lines are damaged. Blocks.
///
/// # Errors
/// What the disk says.
pub fn read(disk: &Disk, dir: &Path) -> Result<Option<Newest>, DiskError> {
    match disk.read(Point::ManifestRead, &dir.join(FILE)) {
        Ok(bytes) => Ok(decode(&bytes)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts it in place of the one before, durably. Blocks.
///
/// # Errors
/// What the disk says.
pub fn write(disk: &Disk, dir: &Path, newest: Newest) -> Result<(), DiskError> {
    disk.replace(Point::ManifestWrite, &dir.join(FILE), &encode(newest))
}

fn encode(newest: Newest) -> Vec<u8> {
    // two numbers always have a JSON form
    let json = serde_json::to_vec(&newest).unwrap_or_default();
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    line.repeat(2)
}

fn decode(bytes: &[u8]) -> Option<Newest> {
    // by length and not by line ends, which may be damaged too
    let (first, second) = bytes.split_at(bytes.len() / 2);
    [first, second].into_iter().find_map(|line| {
        let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
        let is_whole = crc == format!("{:08x} ", crc32c::crc32c(json)).as_bytes();
        is_whole.then(|| serde_json::from_slice(json).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_does_no_harm_and_a_file_that_is_cut_counts_for_nothing() {
        let newest = Newest { segment: 12, through: 3_456 };
        let bytes = encode(newest);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), Some(newest), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(
                matches!(decode(&bytes[..end]), None | Some(Newest { segment: 12, through: 3_456 })),
                "{end} bytes"
            );
        }
    }
}
