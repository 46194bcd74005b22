//! What a generation says of itself: a line of JSON, and a line with its checksum.

use serde::{Deserialize, Serialize};

use crate::model::hex;

/// The version of the format of generations. A reader refuses a higher one.
pub const FORMAT: u32 = 2;

/// Random bytes that a data folder's log is known by.
pub type LogId = [u8; 16];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub number: u64,
    /// Of the log whose commits it covers, in hexadecimal.
    pub log_id: String,
    /// The last commit that is in it.
    pub sequence: u64,
    pub documents: u64,
    pub chunks: u32,
    /// Of all chunks, with their headers.
    pub bytes: u64,
    /// CRC-32C of all chunks, one after the other.
    pub checksum: u32,
    /// Length of the file `db` when it was written. It never becomes shorter.
    pub db_bytes: u64,
}

pub fn log_id_text(id: &LogId) -> String {
    hex::encode(id)
}

impl Manifest {
    pub fn to_bytes(&self) -> Vec<u8> {
        // plain numbers and a text have a JSON text
        let mut bytes = serde_json::to_vec(self).expect("a manifest is JSON");
        let line = format!("\n{:08x}\n", crc32c::crc32c(&bytes));
        bytes.extend_from_slice(line.as_bytes());
        bytes
    }

    /// # Errors
    /// Why these bytes are no manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, String> {
        let text = str::from_utf8(bytes).map_err(|_| "its manifest is damaged")?;
        let mut lines = text.split_inclusive('\n');
        let (json, crc, rest) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next());
        let json = json.strip_suffix('\n').unwrap_or(json);
        if crc != format!("{:08x}\n", crc32c::crc32c(json.as_bytes())) || rest.is_some() {
            return Err("its manifest is damaged".into());
        }
        /// The part that every version can read.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        match serde_json::from_str::<Version>(json) {
            Ok(Version { format }) if format > FORMAT => Err(format!(
                "it has format {format}, and this version of Stentor reads formats up to {FORMAT}; start a newer version"
            )),
            _ => serde_json::from_str(json).map_err(|e| format!("its manifest cannot be read: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            number: 7,
            log_id: log_id_text(&[0xab; 16]),
            sequence: 40,
            documents: 3,
            chunks: 1,
            bytes: 400,
            checksum: 17,
            db_bytes: 500,
        }
    }

    #[test]
    fn a_manifest_comes_back_and_any_flipped_bit_is_noticed() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..end]).is_err(), "{end} bytes");
        }
        assert!(Manifest::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let newer = Manifest { format: FORMAT + 1, ..manifest() };
        let why = Manifest::from_bytes(&newer.to_bytes()).expect_err("a newer format");
        assert!(why.contains("format 3"), "{why}");
    }
}
