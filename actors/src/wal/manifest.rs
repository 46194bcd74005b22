//! The list of the piece files.
//!
//! `manifest` holds one line of JSON and its CRC-32C twice, so that a flipped bit in one of them is healed by the other.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LogId, WalError};
use crate::disk::{Disk, Point};

const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    pub log_id: LogId,
    /// The sequence with which the log began.
    pub first_sequence: u64,
    /// A sequence that the log had reached and made durable when this was written: it never holds less.
    pub through: u64,
    /// The sequence through which records had been given up when this was written. Files that hold them may be overwritten.
    #[serde(default)]
    pub freed: u64,
    /// The newest commit that was stored elsewhere then: what reads this log must have it, or it is an older copy.
    #[serde(default)]
    pub stored: u64,
    /// Bytes of the files `00000001` and so on; 0 = there is no such file any more. A file is used only once it stands here.
    pub pieces: Vec<u32>,
}

impl Manifest {
    pub fn new(log_id: LogId, first_sequence: u64) -> Manifest {
        let through = first_sequence.saturating_sub(1);
        Manifest { format: FORMAT, log_id, first_sequence, through, freed: 0, stored: 0, pieces: Vec::new() }
    }

    /// How many files are listed.
    pub fn files(&self) -> usize {
        self.pieces.iter().filter(|&&bytes| bytes > 0).count()
    }

    /// Whether a file with a number, which counts from 1, is listed.
    pub fn lists(&self, number: usize) -> bool {
        number.checked_sub(1).and_then(|index| self.pieces.get(index)).is_some_and(|&bytes| bytes > 0)
    }

    /// The number of the next new file.
    pub fn free_number(&self) -> usize {
        self.pieces.iter().position(|&bytes| bytes == 0).unwrap_or(self.pieces.len()) + 1
    }

    /// Lists the file with a [free number](Manifest::free_number).
    pub fn list(&mut self, number: usize, bytes: u32) {
        self.pieces.resize(self.pieces.len().max(number), 0);
        self.pieces[number - 1] = bytes;
    }

    pub fn unlist(&mut self, number: usize) {
        self.pieces[number - 1] = 0;
    }

    pub fn path(dir: &Path) -> PathBuf {
        dir.join("manifest")
    }

    fn encode(&self) -> Vec<u8> {
        // numbers and text always serialise
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(format!(" {:08x}\n", crc32c::crc32c(&line)).as_bytes());
        line.repeat(2)
    }

    /// The manifest, and whether one of its lines is damaged.
    fn decode(bytes: &[u8]) -> Option<(Result<Manifest, serde_json::Error>, bool)> {
        // by length and not by line ends, which may be damaged too
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let whole = |line: &[u8]| line_is_whole(line).map(serde_json::from_slice);
        match (whole(first), whole(second)) {
            (Some(manifest), second) => Some((manifest, second.is_none())),
            (None, Some(manifest)) => Some((manifest, true)),
            (None, None) => None,
        }
    }

    /// Reads the manifest of a folder, and whether one of its two lines is damaged. Blocks.
    ///
    /// # Errors
    /// When it is missing, damaged or of another version.
    pub fn read(disk: &Disk, dir: &Path) -> Result<(Manifest, bool), WalError> {
        let path = Manifest::path(dir);
        let bytes = match disk.read(Point::ManifestRead, &path) {
            Err(e) if e.is_missing() => return Err(WalError::Missing { path }),
            read => read?,
        };
        match Manifest::decode(&bytes) {
            None => Err(WalError::Manifest { path, why: "it is damaged".into() }),
            Some((Err(e), _)) => Err(WalError::Manifest { path, why: format!("it cannot be read: {e}") }),
            Some((Ok(manifest), _)) if manifest.format != FORMAT => {
                let why = format!("it has version {}, and this program knows version {FORMAT}", manifest.format);
                Err(WalError::Manifest { path, why })
            }
            Some((Ok(manifest), damaged)) => Ok((manifest, damaged)),
        }
    }

    /// Puts this one in place of the old. Blocks.
    ///
    /// # Errors
    /// What the file system says; then the old or the new one is there.
    pub fn write(&self, disk: &Disk, dir: &Path) -> Result<(), crate::disk::DiskError> {
        disk.replace(Point::ManifestWrite, &Manifest::path(dir), &self.encode())
    }
}

fn line_is_whole(line: &[u8]) -> Option<&[u8]> {
    let (json, rest) = line.split_at_checked(line.len().checked_sub(10)?)?;
    (rest == format!(" {:08x}\n", crc32c::crc32c(json)).as_bytes()).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed_and_healed() {
        let manifest = Manifest { through: 99, pieces: vec![16384, 16384], ..Manifest::new(LogId([9; 16]), 5) };
        let good = manifest.encode();
        let (read, damaged) = Manifest::decode(&good).unwrap();
        assert_eq!((read.unwrap(), damaged), (manifest.clone(), false));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (read, damaged) = Manifest::decode(&bytes).unwrap();
            assert_eq!((read.unwrap(), damaged), (manifest.clone(), true), "bit {bit}");
        }
    }

    #[test]
    fn a_manifest_cut_short_is_never_read_as_another_one() {
        let good = Manifest::new(LogId([9; 16]), 5).encode();
        for len in 0..good.len() {
            assert!(Manifest::decode(&good[..len]).is_none(), "{len} bytes");
        }
    }
}
