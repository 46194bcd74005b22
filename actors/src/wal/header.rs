//! The header of a piece: which log it belongs to, and which records it takes up after.
//!
//! ```text
//! offset  bytes
//!      0      8  magic
//!      8      4  version
//!     12      4  CRC of the record before the first one of this piece; 0 = unknown
//!     16     16  log id
//!     32      8  number of the piece: counts the uses of all pieces
//!     40      8  salt of its records
//!     48      8  after: its first record is the one after this sequence
//!     56      8  freed: the sequence through which records had been given up
//!     64      4  CRC-32C of the above
//! ```
//!
//! It stands at the beginning of the piece and once more at [`SECOND_COPY`]. A copy lies within one sector, so a crash
//! leaves the old or the new one.

use super::LogId;

/// Bytes before the first record.
pub const HEADER_AREA_BYTES: usize = 8192;
/// Where the second copy stands.
pub const SECOND_COPY: usize = 4096;
/// Bytes of a copy.
pub const HEADER_BYTES: usize = 68;
const MAGIC: &[u8; 8] = b"STNTRWAL";
/// The only version so far.
pub const VERSION: u32 = 1;

const _: () = assert!(HEADER_BYTES <= 512 && SECOND_COPY + HEADER_BYTES <= HEADER_AREA_BYTES);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceHeader {
    pub version: u32,
    pub log_id: LogId,
    pub number: u64,
    pub salt: u64,
    /// Records of pieces with smaller numbers are void beyond it.
    pub after: u64,
    pub freed: u64,
    pub before: u32,
}

/// What stands where a copy belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderCopy {
    Valid(PieceHeader),
    /// Zeros: the piece was never used, or a crash came before this copy.
    Blank,
    Damaged,
}

/// What both copies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    Valid {
        header: PieceHeader,
        /// One of the copies is damaged.
        damaged: bool,
        /// They are not the same.
        differs: bool,
    },
    /// No use of the piece ever became durable.
    Unused,
    Damaged,
}

impl PieceHeader {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.before.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id.0);
        for (at, number) in (32..).step_by(8).zip([self.number, self.salt, self.after, self.freed]) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..64]);
        bytes[64..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Writes both copies into the beginning of a buffer, whose rest up to [`HEADER_AREA_BYTES`] stays as it is.
    pub fn write_to(&self, area: &mut [u8]) {
        let copy = self.encode();
        area[..HEADER_BYTES].copy_from_slice(&copy);
        area[SECOND_COPY..SECOND_COPY + HEADER_BYTES].copy_from_slice(&copy);
    }
}

impl HeaderCopy {
    fn decode(bytes: &[u8; HEADER_BYTES]) -> HeaderCopy {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes.iter().all(|&byte| byte == 0) {
            return HeaderCopy::Blank;
        }
        if &bytes[..8] != MAGIC || half(64) != crc32c::crc32c(&bytes[..64]) {
            return HeaderCopy::Damaged;
        }
        HeaderCopy::Valid(PieceHeader {
            version: half(8),
            before: half(12),
            log_id: LogId(std::array::from_fn(|i| bytes[16 + i])),
            number: number(32),
            salt: number(40),
            after: number(48),
            freed: number(56),
        })
    }
}

/// Reads both copies.
pub fn decode(area: &[u8; HEADER_AREA_BYTES]) -> HeaderState {
    let copy = |at: usize| HeaderCopy::decode(&std::array::from_fn(|i| area[at + i]));
    match (copy(0), copy(SECOND_COPY)) {
        // a crash in between leaves the copy of an earlier use beside the new one
        (HeaderCopy::Valid(a), HeaderCopy::Valid(b)) => {
            let header = if a.number >= b.number { a } else { b };
            HeaderState::Valid { header, damaged: false, differs: a != b }
        }
        (HeaderCopy::Valid(header), other) | (other, HeaderCopy::Valid(header)) => {
            HeaderState::Valid { header, damaged: other == HeaderCopy::Damaged, differs: true }
        }
        (HeaderCopy::Damaged, HeaderCopy::Damaged) => HeaderState::Damaged,
        (HeaderCopy::Blank, _) | (_, HeaderCopy::Blank) => HeaderState::Unused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u64) -> PieceHeader {
        let salt = 0x0102_0304_0506_0708;
        PieceHeader { version: VERSION, log_id: LogId([7; 16]), number, salt, after: 41, freed: 9, before: 3 }
    }

    fn area(a: Option<PieceHeader>, b: Option<PieceHeader>) -> Box<[u8; HEADER_AREA_BYTES]> {
        let mut area = Box::new([0; HEADER_AREA_BYTES]);
        for (at, header) in [(0, a), (SECOND_COPY, b)] {
            if let Some(header) = header {
                area[at..at + HEADER_BYTES].copy_from_slice(&header.encode());
            }
        }
        area
    }

    #[test]
    fn a_header_is_read_back_from_both_copies() {
        let mut both = Box::new([0; HEADER_AREA_BYTES]);
        header(5).write_to(&mut both[..]);
        assert_eq!(decode(&both), HeaderState::Valid { header: header(5), damaged: false, differs: false });
    }

    #[test]
    fn the_newer_copy_counts_wherever_it_stands() {
        let newer = HeaderState::Valid { header: header(6), damaged: false, differs: true };
        assert_eq!(decode(&area(Some(header(6)), Some(header(5)))), newer);
        assert_eq!(decode(&area(Some(header(5)), Some(header(6)))), newer);
        assert_eq!(decode(&area(Some(header(6)), None)), newer);
        assert_eq!(decode(&area(None, Some(header(6)))), newer);
    }

    #[test]
    fn zeros_are_an_unused_piece() {
        assert_eq!(decode(&area(None, None)), HeaderState::Unused);
    }

    #[test]
    fn a_flipped_bit_in_one_copy_is_noticed_and_costs_nothing() {
        for bit in 0..HEADER_BYTES * 8 {
            for copy in [0, SECOND_COPY] {
                let mut flipped = area(Some(header(5)), Some(header(5)));
                flipped[copy + bit / 8] ^= 1 << (bit % 8);
                let state = decode(&flipped);
                assert_eq!(state, HeaderState::Valid { header: header(5), damaged: true, differs: true }, "bit {bit}");
            }
        }
    }

    #[test]
    fn two_damaged_copies_are_not_taken_for_an_unused_piece() {
        let mut damaged = area(Some(header(5)), Some(header(5)));
        damaged[20] ^= 1;
        damaged[SECOND_COPY + 60] ^= 1;
        assert_eq!(decode(&damaged), HeaderState::Damaged);
    }
}
