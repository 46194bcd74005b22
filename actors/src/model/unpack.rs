//! Compressed bodies (`Content-Encoding`, RFC 9110, 8.4): `gzip` and `deflate`, decompressed up to a bound.
//!
//! A signature is over the bytes as they came, so it is checked before anything is unpacked.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

/// What may be done to a body one upon the other.
const CODINGS_MAX: usize = 2;
/// How much of a coding's name an error repeats, in characters.
const NAME_CHARS_MAX: usize = 32;

/// A content coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 1950; the bare form of RFC 1951, which some clients send under this name, is taken as well.
    Deflate,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    #[error("the Content-Encoding '{0}' is not understood; send gzip, deflate or none")]
    Unknown(String),
    #[error("the body is packed more than {CODINGS_MAX} times; pack it once")]
    TooOften,
    #[error("the unpacked body is larger than {limit} bytes; send less at once")]
    TooLarge { limit: usize },
    #[error("the body cannot be unpacked as its Content-Encoding says: {0}; send it whole")]
    Damaged(String),
}

/// Reads the values of `Content-Encoding`: what was done to the body, in this order.
///
/// # Errors
/// A coding is not known, or there are too many.
pub fn codings<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<Coding>, UnpackError> {
    let mut codings = Vec::new();
    for name in values.into_iter().flat_map(|value| value.split(',')).map(str::trim) {
        let coding = match name.to_ascii_lowercase().as_str() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            _ => return Err(UnpackError::Unknown(name.chars().take(NAME_CHARS_MAX).collect())),
        };
        codings.push(coding);
    }
    if codings.len() > CODINGS_MAX { Err(UnpackError::TooOften) } else { Ok(codings) }
}

/// The body before it was packed. Never more than `limit` bytes, at no step.
///
/// # Errors
/// It would be larger, or what is there is not whole.
pub fn unpack(body: &[u8], codings: &[Coding], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = body.to_vec();
    for coding in codings.iter().rev() {
        unpacked = undo(*coding, &unpacked, limit)?;
    }
    Ok(unpacked)
}

fn undo(coding: Coding, packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    match (coding, packed) {
        (Coding::Gzip, _) => gunzip(packed, limit),
        // RFC 1950, 2.2: the method, and a checksum over these two bytes
        (Coding::Deflate, [method, flags, ..])
            if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0 =>
        {
            inflate(Decompress::new(true), packed, limit)
        }
        (Coding::Deflate, _) => inflate(Decompress::new(false), packed, limit),
    }
}

fn gunzip(packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(packed).take(most).read_to_end(&mut unpacked);
    read.map_err(|e| UnpackError::Damaged(e.to_string()))?;
    if unpacked.len() > limit { Err(UnpackError::TooLarge { limit }) } else { Ok(unpacked) }
}

/// How much room is made at a time.
const STEP_BYTES: usize = 64 * 1024;

/// The reader of flate2 takes a stream that was cut for one that has ended, so the stream is driven here.
fn inflate(mut stream: Decompress, packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    let mut rest = packed;
    loop {
        unpacked.reserve(STEP_BYTES.min(limit.saturating_sub(unpacked.len()) + 1));
        let before = (stream.total_in(), stream.total_out());
        let status = stream.decompress_vec(rest, &mut unpacked, FlushDecompress::None);
        let status = status.map_err(|e| UnpackError::Damaged(e.to_string()))?;
        if unpacked.len() > limit {
            return Err(UnpackError::TooLarge { limit });
        }
        // it never takes more than it is given
        rest = &rest[usize::try_from(stream.total_in() - before.0).unwrap_or(rest.len())..];
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(unpacked),
            Status::StreamEnd => {
                return Err(UnpackError::Damaged(format!("{} bytes stand behind its end", rest.len())));
            }
            Status::Ok | Status::BufError if before == (stream.total_in(), stream.total_out()) => {
                return Err(UnpackError::Damaged("it ends too early".into()));
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1_000;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
    }

    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
    }

    #[test]
    fn codings_are_named_in_any_case_and_order_and_others_are_refused() {
        let read = |values: &[&str]| codings(values.iter().copied());
        assert_eq!(read(&[]), Ok(vec![]));
        assert_eq!(read(&["identity", ""]), Ok(vec![]));
        assert_eq!(read(&["GZip"]), Ok(vec![Coding::Gzip]));
        assert_eq!(read(&[" deflate , x-gzip"]), Ok(vec![Coding::Deflate, Coding::Gzip]));
        assert_eq!(read(&["deflate", "gzip"]), Ok(vec![Coding::Deflate, Coding::Gzip]));
        assert_eq!(read(&["br"]), Err(UnpackError::Unknown("br".into())));
        assert_eq!(read(&["gzip, gzip, gzip"]), Err(UnpackError::TooOften));
    }

    #[test]
    fn the_limit_counts_unpacked_bytes_at_every_step() {
        let bomb = gzip(&gzip(&vec![0; 50_000_000]));
        let twice = [Coding::Gzip, Coding::Gzip];
        assert_eq!(unpack(&bomb, &twice, LIMIT), Err(UnpackError::TooLarge { limit: LIMIT }));
        for packed in [zlib(&[7; LIMIT]), bare(&[7; LIMIT])] {
            assert_eq!(unpack(&packed, &[Coding::Deflate], LIMIT), Ok(vec![7; LIMIT]));
            assert_eq!(unpack(&packed, &[Coding::Deflate], LIMIT - 1), Err(UnpackError::TooLarge { limit: LIMIT - 1 }));
        }
    }

    #[test]
    fn what_is_cut_or_has_something_behind_its_end_is_refused() {
        for (packed, coding) in
            [(gzip(b"hello"), Coding::Gzip), (zlib(b"hello"), Coding::Deflate), (bare(b"hello"), Coding::Deflate)]
        {
            for bad in [packed[..packed.len() - 1].to_vec(), [&packed[..], b"x"].concat(), Vec::new(), b"{}".to_vec()] {
                let refused = unpack(&bad, &[coding], LIMIT);
                assert!(matches!(refused, Err(UnpackError::Damaged(_))), "{coding:?} {bad:?}: {refused:?}");
            }
        }
        assert_eq!(unpack(&[gzip(b"hel"), gzip(b"lo")].concat(), &[Coding::Gzip], LIMIT), Ok(b"hello".to_vec()));
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..LIMIT)) {
            prop_assert_eq!(unpack(&gzip(&bytes), &[Coding::Gzip], LIMIT), Ok(bytes.clone()));
            prop_assert_eq!(unpack(&zlib(&bytes), &[Coding::Deflate], LIMIT), Ok(bytes.clone()));
            let twice = [Coding::Deflate, Coding::Gzip];
            prop_assert_eq!(unpack(&gzip(&zlib(&bytes)), &twice, 2 * LIMIT), Ok(bytes.clone()));
            prop_assert_eq!(unpack(&bytes, &[], LIMIT), Ok(bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes, &[Coding::Gzip], LIMIT);
            let _ = unpack(&bytes, &[Coding::Deflate], LIMIT);
        }
    }
}
