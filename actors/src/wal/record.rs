//! A record as bytes.
//!
//! ```text
//! offset  bytes
//!      0      4  length of the payload
//!      4      4  CRC-32C over everything else but the padding, seeded with the salt of the piece
//!      8      8  sequence
//!     16      4  CRC of the record before; 0 = unknown
//!     20      4  mark: the other half of the salt
//!     24         payload, then zeros up to a multiple of 8
//! ```
//!
//! All numbers are little-endian. Seed and mark come from the salt, which is new for each use of a piece and known to
//! nobody outside: bytes of an earlier use, or a payload made to look like a record, never pass for one.

#[cfg(test)]
use crate::disk::mutant::{self, Mutant};

/// Bytes before the payload.
pub const RECORD_HEADER_BYTES: usize = 24;
/// Records begin at multiples of it, so that a search for the next valid one has few places to try.
pub const ALIGNMENT: usize = 8;

/// What a piece's salt means for its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    seed: u32,
    mark: u32,
}

impl Seal {
    pub fn new(salt: u64) -> Seal {
        // never 0, so that zeros are turned down by the first comparison
        Seal { seed: salt as u32, mark: (salt >> 32) as u32 | 1 }
    }
}

/// A record that was found valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub at: usize,
    /// Bytes of its payload.
    pub len: usize,
    pub sequence: u64,
    /// CRC of the record before; 0 = unknown.
    pub before: u32,
    pub crc: u32,
}

impl Record {
    pub fn payload(self) -> std::ops::Range<usize> {
        let start = self.at + RECORD_HEADER_BYTES;
        start..start + self.len
    }

    /// Where the next record begins.
    pub fn end(self) -> usize {
        self.at + size(self.len)
    }
}

/// Bytes that a record with such a payload takes.
pub fn size(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// Appends a record to a buffer whose length is a multiple of [`ALIGNMENT`] and answers its CRC.
pub fn append(buffer: &mut Vec<u8>, seal: Seal, sequence: u64, before: u32, parts: &[&[u8]]) -> u32 {
    debug_assert!(buffer.len().is_multiple_of(ALIGNMENT));
    let at = buffer.len();
    let len: usize = parts.iter().map(|part| part.len()).sum();
    buffer.reserve(size(len));
    buffer.extend_from_slice(&(len as u32).to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&sequence.to_le_bytes());
    buffer.extend_from_slice(&before.to_le_bytes());
    buffer.extend_from_slice(&seal.mark.to_le_bytes());
    for part in parts {
        buffer.extend_from_slice(part);
    }
    let crc = checksum(&buffer[at..], seal);
    buffer[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(at + size(len), 0);
    crc
}

/// The record at a place, if a valid one stands there.
pub fn parse(bytes: &[u8], at: usize, seal: Seal) -> Option<Record> {
    let header: &[u8; RECORD_HEADER_BYTES] = bytes.get(at..)?.first_chunk()?;
    if u32_at(header, 20) != seal.mark {
        return None;
    }
    let len = usize::try_from(u32_at(header, 0)).ok()?;
    let record = bytes.get(at..at.checked_add(RECORD_HEADER_BYTES)?.checked_add(len)?)?;
    if at + size(len) > bytes.len() {
        return None;
    }
    let crc = u32_at(header, 4);
    let is_right = checksum(record, seal) == crc;
    #[cfg(test)]
    let is_right = is_right || mutant::is_here(Mutant::Checksum);
    if !is_right {
        return None;
    }
    Some(Record { at, len, sequence: u64_at(header, 8), before: u32_at(header, 16), crc })
}

/// The next valid record at or after a place with a sequence in the range.
pub fn find(bytes: &[u8], from: usize, seal: Seal, sequences: std::ops::RangeInclusive<u64>) -> Option<Record> {
    (from..bytes.len())
        .step_by(ALIGNMENT)
        .filter_map(|at| parse(bytes, at, seal))
        .find(|record| sequences.contains(&record.sequence))
}

/// Whether the padding behind a record is what was written.
pub fn padding_is_intact(bytes: &[u8], record: Record) -> bool {
    bytes[record.payload().end..record.end()].iter().all(|&byte| byte == 0)
}

fn checksum(record: &[u8], seal: Seal) -> u32 {
    let crc = crc32c::crc32c_append(seal.seed, &record[..4]);
    crc32c::crc32c_append(crc, &record[8..])
}

fn u32_at(bytes: &[u8; RECORD_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; RECORD_HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u64 = 0x1234_5678_9abc_def0;

    fn filled(payloads: &[Vec<u8>], seal: Seal) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut before = 0;
        for (sequence, payload) in (1..).zip(payloads) {
            before = append(&mut bytes, seal, sequence, before, &[payload]);
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_appended_is_read_back(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..8)) {
            let seal = Seal::new(SALT);
            let bytes = filled(&payloads, seal);
            let (mut at, mut before) = (0, 0);
            for (sequence, payload) in (1..).zip(&payloads) {
                let record = parse(&bytes, at, seal).unwrap();
                prop_assert_eq!((record.sequence, record.before), (sequence, before));
                prop_assert_eq!(&bytes[record.payload()], &payload[..]);
                (at, before) = (record.end(), record.crc);
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn parts_make_the_same_record_as_the_whole(payload in prop::collection::vec(any::<u8>(), 0..70), cut in 0usize..70) {
            let cut = cut.min(payload.len());
            let (mut whole, mut parted) = (Vec::new(), Vec::new());
            append(&mut whole, Seal::new(SALT), 7, 9, &[&payload]);
            append(&mut parted, Seal::new(SALT), 7, 9, &[&payload[..cut], &[], &payload[cut..]]);
            prop_assert_eq!(whole, parted);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..120) {
            parse(&bytes, at, Seal::new(SALT));
        }
    }

    #[test]
    fn records_that_nobody_wrote_are_not_valid() {
        let seal = Seal::new(SALT);
        let good = filled(&[b"hello".to_vec(), vec![7; 100], Vec::new()], seal);
        crate::fuzz::run("records", [good.clone()], &[], |bytes| {
            for at in (0..bytes.len()).step_by(ALIGNMENT) {
                if let Some(record) = parse(bytes, at, seal) {
                    let whole = &bytes[at..record.payload().end];
                    assert!(
                        good.windows(whole.len()).any(|written| written == whole),
                        "a record that nobody wrote is valid"
                    );
                }
            }
        });
    }

    #[test]
    fn no_flipped_bit_passes_except_in_the_padding() {
        let seal = Seal::new(SALT);
        let good = filled(&[b"hello".to_vec()], seal);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match parse(&bytes, 0, seal) {
                None => assert!(bit / 8 < RECORD_HEADER_BYTES + 5, "bit {bit} of the padding"),
                Some(record) => assert!(!padding_is_intact(&bytes, record), "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_record_cut_short_anywhere_is_not_valid() {
        let seal = Seal::new(SALT);
        let good = filled(&[vec![7; 100]], seal);
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len], 0, seal), None, "{len} bytes");
        }
    }

    #[test]
    fn a_record_of_another_use_of_the_piece_is_not_valid() {
        let bytes = filled(&[b"hello".to_vec()], Seal::new(SALT));
        assert_eq!(parse(&bytes, 0, Seal::new(SALT ^ 1)), None);
        assert_eq!(parse(&bytes, 0, Seal::new(SALT ^ 1 << 63)), None);
    }

    #[test]
    fn the_search_finds_the_next_record_of_the_sequences_asked_for() {
        let seal = Seal::new(SALT);
        let bytes = filled(&[vec![1; 30], vec![2; 10], vec![3; 50]], seal);
        assert_eq!(find(&bytes, 8, seal, 2..=9).map(|r| r.sequence), Some(2));
        assert_eq!(find(&bytes, 8, seal, 3..=9).map(|r| r.sequence), Some(3));
        assert_eq!(find(&bytes, 8, seal, 4..=9), None);
        assert_eq!(find(&vec![0; 1 << 20], 0, seal, 0..=u64::MAX), None);
    }
}
