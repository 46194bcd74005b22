//! Checksums over the file of a database, and putting right what they show.
//!
//! sled clears what lies behind a damaged place when it opens a file, so a file is compared with its manifest before sled
//! sees it. A CRC-32C also tells where a single bit was flipped: each place has a remainder of its own, as long as the message is
//! shorter than 2^31 - 1 bits. Other damage has the remainder of a single bit by chance, three times in a hundred, so a second
//! checksum has to be right when the bit is put right.

use std::path::Path;

use crate::disk::database::DatabaseError;
use crate::disk::{Disk, DiskError, DiskFile, Open, Point};

/// One checksum covers so much of a file, so that a flipped bit is found within a fraction of a second.
const CHUNK_BYTES: usize = 16 * 1024 * 1024;
/// Read at once.
const STEP_BYTES: usize = 1024 * 1024;
/// CRC-32C (RFC 3720, appendix B.4), bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const _: () = assert!(CHUNK_BYTES < (1 << 31) / 8 && CHUNK_BYTES.is_multiple_of(STEP_BYTES));

/// What a file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSum {
    pub bytes: u64,
    /// CRC-32C of each [`CHUNK_BYTES`].
    pub crcs: Vec<u32>,
    /// CRC-32 of each, only needed to put a bit right.
    pub second_crcs: Vec<u32>,
}

/// What was found when a file was put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Healed {
    /// The file is as it should be.
    Intact,
    /// So many bits were flipped, each alone in its chunk, and are right again.
    Bits(usize),
    /// More is wrong.
    No,
}

impl FileSum {
    /// Whether length and first checksums are those of the other.
    fn is(&self, other: &FileSum) -> bool {
        self.bytes == other.bytes && self.crcs == other.crcs
    }
}

/// Length and checksums of a database's file. Blocks.
///
/// # Errors
/// What the file system says.
pub fn sum(disk: &Disk, dir: &Path) -> Result<FileSum, DiskError> {
    sum_of(&disk.open(Point::DatabaseOpen, &dir.join("db"), Open::Read)?, true)
}

fn sum_of(file: &DiskFile, with_second: bool) -> Result<FileSum, DiskError> {
    let mut buffer = vec![0; STEP_BYTES];
    let mut sum = FileSum::default();
    loop {
        let read = file.read_at(Point::DatabaseRead, &mut buffer, sum.bytes)?;
        if sum.bytes.is_multiple_of(CHUNK_BYTES as u64) && read > 0 {
            sum.crcs.push(0);
            sum.second_crcs.extend(with_second.then_some(0));
        }
        if let Some(crc) = sum.second_crcs.last_mut() {
            let mut hasher = crc32fast::Hasher::new_with_initial(*crc);
            hasher.update(&buffer[..read]);
            *crc = hasher.finalize();
        }
        if let Some(crc) = sum.crcs.last_mut() {
            *crc = crc32c::crc32c_append(*crc, &buffer[..read]);
        }
        sum.bytes += read as u64;
        if read < buffer.len() {
            return Ok(sum);
        }
    }
}

/// Compares a database's file with what it should be. Blocks.
///
/// # Errors
/// [`DatabaseError::Damaged`] when it differs; else what the file system says.
pub fn check(disk: &Disk, dir: &Path, expected: &FileSum) -> Result<(), DatabaseError> {
    let found = sum_of(&disk.open(Point::DatabaseOpen, &dir.join("db"), Open::Read)?, false)?;
    if found.is(expected) {
        return Ok(());
    }
    let why = match found.bytes == expected.bytes {
        true => "its checksum is another".to_owned(),
        false => format!("it has {} bytes instead of {}", found.bytes, expected.bytes),
    };
    Err(DatabaseError::Damaged { path: dir.join("db"), why })
}

/// Puts single flipped bits right, if that is all that is wrong. Blocks.
///
/// # Errors
/// What the file system says.
pub fn heal(disk: &Disk, dir: &Path, expected: &FileSum) -> Result<Healed, DiskError> {
    let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::ReadWrite)?;
    let Some(flips) = flips(&file, expected)? else { return Ok(Healed::No) };
    if flips.is_empty() {
        return Ok(Healed::Intact);
    }
    for (offset, byte) in &flips {
        file.write_at(Point::DatabaseWrite, &[*byte], *offset)?;
    }
    file.sync_data(Point::DatabaseSync)?;
    Ok(if sum_of(&file, false)?.is(expected) { Healed::Bits(flips.len()) } else { Healed::No })
}

/// What [`heal`] would do, without doing it. Blocks.
///
/// # Errors
/// What the file system says.
pub fn look(disk: &Disk, dir: &Path, expected: &FileSum) -> Result<Healed, DiskError> {
    let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::Read)?;
    Ok(match flips(&file, expected)?.map(|flips| flips.len()) {
        Some(0) => Healed::Intact,
        Some(bits) => Healed::Bits(bits),
        None => Healed::No,
    })
}

/// Where single bits were flipped, and the right bytes there; none when more is wrong.
fn flips(file: &DiskFile, expected: &FileSum) -> Result<Option<Vec<(u64, u8)>>, DiskError> {
    let found = sum_of(file, false)?;
    if found.is(expected) {
        return Ok(Some(Vec::new()));
    }
    if expected.second_crcs.len() != expected.crcs.len() {
        return Ok(None);
    }
    if found.bytes != expected.bytes || found.crcs.len() != expected.crcs.len() {
        return Ok(None);
    }
    let mut flips = Vec::new();
    for (chunk, (found, right)) in found.crcs.iter().zip(&expected.crcs).enumerate() {
        if found == right {
            continue;
        }
        let start = chunk * CHUNK_BYTES;
        let len = CHUNK_BYTES.min(expected_len(file, start)?);
        let Some((byte, bit)) = flipped(found ^ right, len) else { return Ok(None) };
        let mut bytes = vec![0; len];
        file.read_exact_at(Point::DatabaseRead, &mut bytes, start as u64)?;
        bytes[byte] ^= 1 << bit;
        if crc32fast::hash(&bytes) != expected.second_crcs[chunk] {
            return Ok(None);
        }
        flips.push(((start + byte) as u64, bytes[byte]));
    }
    Ok(Some(flips))
}

fn expected_len(file: &DiskFile, start: usize) -> Result<usize, DiskError> {
    Ok((file.len()? as usize).saturating_sub(start))
}

/// Which bit of `len` bytes was flipped when that changed their CRC by `difference`: the byte, and the bit in it. None when it
/// was not one bit.
pub fn flipped(difference: u32, len: usize) -> Option<(usize, u32)> {
    // what a bit does to the register, one step later for each bit that comes after it
    let mut register = 1u32;
    for after in 1..=8 * len {
        register = if register & 1 == 1 { (register >> 1) ^ POLYNOMIAL } else { register >> 1 };
        if register == difference {
            let bytes = after.div_ceil(8);
            return Some((len - bytes, (8 * bytes - after) as u32));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let message: Vec<u8> = (0..3000u32).map(|n| (n * n % 251) as u8).collect();
        let crc = crc32c::crc32c(&message);
        for bit in (0..8 * message.len()).step_by(7) {
            let mut bad = message.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                flipped(crc ^ crc32c::crc32c(&bad), message.len()),
                Some((bit / 8, bit as u32 % 8)),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn two_flipped_bits_are_not_taken_for_one() {
        let message = vec![7; 3000];
        let crc = crc32c::crc32c(&message);
        for (a, b) in [(0, 1), (5, 1000), (8, 23_999)] {
            let mut bad = message.clone();
            for bit in [a, b] {
                bad[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(flipped(crc ^ crc32c::crc32c(&bad), message.len()), None);
        }
    }

    #[test]
    fn damage_that_looks_like_one_flipped_bit_is_not_made_worse() {
        let disk = Disk::simulated(1);
        let dir = Path::new("/x");
        disk.create_dir_all(dir).unwrap();
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::CreateNew).unwrap();
        let mut bad = vec![3; 5000];
        file.write_at(Point::DatabaseWrite, &bad, 0).unwrap();
        let expected = sum(&disk, dir).unwrap();
        // adding a multiple of the polynomial to a flipped bit leaves the remainder of that bit
        bad[0] ^= 1;
        let polynomial = (u64::from(POLYNOMIAL) << 1 | 1).to_le_bytes();
        bad[2000..2008].iter_mut().zip(polynomial).for_each(|(byte, mask)| *byte ^= mask);
        assert_eq!(flipped(crc32c::crc32c(&bad) ^ expected.crcs[0], bad.len()), Some((0, 0)));
        file.write_at(Point::DatabaseWrite, &bad, 0).unwrap();
        assert_eq!(heal(&disk, dir, &expected).unwrap(), Healed::No);
        let mut found = vec![0; 5000];
        file.read_exact_at(Point::DatabaseRead, &mut found, 0).unwrap();
        assert!(found == bad);
    }

    #[test]
    fn bits_in_different_chunks_are_put_right_together() {
        let disk = Disk::simulated(1);
        let dir = Path::new("/x");
        disk.create_dir_all(dir).unwrap();
        let file = disk.open(Point::DatabaseOpen, &dir.join("db"), Open::CreateNew).unwrap();
        let len = CHUNK_BYTES + 1000;
        file.write_at(Point::DatabaseWrite, &vec![3; len], 0).unwrap();
        let expected = sum(&disk, dir).unwrap();
        assert_eq!((expected.bytes, expected.crcs.len()), (len as u64, 2));
        assert_eq!(heal(&disk, dir, &expected).unwrap(), Healed::Intact);
        let damage = |offset: usize| disk.simulation().unwrap().damage(&dir.join("db"), offset as u64, 16).unwrap();
        damage(CHUNK_BYTES - 20_000);
        damage(len - 1);
        assert!(check(&disk, dir, &expected).unwrap_err().is_damage());
        assert_eq!(heal(&disk, dir, &expected).unwrap(), Healed::Bits(2));
        check(&disk, dir, &expected).unwrap();
        damage(len - 1);
        damage(len - 3);
        assert_eq!(heal(&disk, dir, &expected).unwrap(), Healed::No);
        file.set_len(Point::DatabaseWrite, 10).unwrap();
        assert_eq!(heal(&disk, dir, &expected).unwrap(), Healed::No);
    }
}
