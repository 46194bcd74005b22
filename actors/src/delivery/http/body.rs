//! Where the body of an answer ends: after its length, with its last chunk, or with the connection (RFC 9112, 6 and 7).

/// Most bytes that frame the chunks of one body: sizes, their extensions, line ends and trailers.
const FRAMING_BYTES: usize = 512 * 1024;
/// Hexadecimal digits of a chunk's size.
const SIZE_DIGITS: u32 = 15;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadChunk {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("its chunks are framed by more than {FRAMING_BYTES} bytes")]
    Framing,
}

/// The body that is being read.
pub(super) struct Body(Kind);

enum Kind {
    /// So many bytes are to come.
    Sized(u64),
    Chunked(Chunked),
    ToTheEnd,
}

struct Chunked {
    at: At,
    framing_bytes: usize,
}

#[derive(Clone, Copy)]
enum At {
    /// Within the digits of a size.
    Size {
        size: u64,
        digits: u32,
    },
    /// Behind the digits: spaces and extensions, which mean nothing to us.
    Extension {
        size: u64,
    },
    /// The LF behind a size.
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The beginning of a line behind the last chunk.
    Trailer,
    /// Within a trailer.
    TrailerLine,
    /// The LF that ends the body.
    EndLf,
    End,
}

impl Body {
    pub(super) fn sized(length: u64) -> Body {
        Body(Kind::Sized(length))
    }

    pub(super) fn chunked() -> Body {
        Body(Kind::Chunked(Chunked { at: At::Size { size: 0, digits: 0 }, framing_bytes: 0 }))
    }

    pub(super) fn to_the_end() -> Body {
        Body(Kind::ToTheEnd)
    }

    /// Whether nothing of it is to come, whatever the connection does.
    pub(super) fn is_over(&self) -> bool {
        match &self.0 {
            Kind::Sized(left) => *left == 0,
            Kind::Chunked(chunked) => matches!(chunked.at, At::End),
            Kind::ToTheEnd => false,
        }
    }

    pub(super) fn ends_with_connection(&self) -> bool {
        matches!(self.0, Kind::ToTheEnd)
    }

    /// Takes bytes of the body from the input. None: the input is used up, or the body is over.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BadChunk> {
        match &mut self.0 {
            Kind::Sized(left) => Ok(take(input, left)),
            Kind::Chunked(chunked) => chunked.next(input),
            Kind::ToTheEnd => {
                let mut endless = u64::MAX;
                Ok(take(input, &mut endless))
            }
        }
    }
}

/// Takes up to `left` bytes; none if there are none.
fn take<'a>(input: &mut &'a [u8], left: &mut u64) -> Option<&'a [u8]> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at(count);
    *input = rest;
    *left -= count as u64;
    (count > 0).then_some(taken)
}

impl Chunked {
    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BadChunk> {
        loop {
            if let At::Data { left } = &mut self.at {
                let data = take(input, left);
                if *left == 0 {
                    self.at = At::DataCr;
                }
                return Ok(data);
            }
            let (false, Some((byte, rest))) = (matches!(self.at, At::End), input.split_first()) else {
                return Ok(None);
            };
            *input = rest;
            self.framing_bytes += 1;
            if self.framing_bytes > FRAMING_BYTES {
                return Err(BadChunk::Framing);
            }
            self.at = step(self.at, *byte)?;
        }
    }
}

/// One byte of what frames the chunks (RFC 9112, 7.1).
fn step(at: At, byte: u8) -> Result<At, BadChunk> {
    let wrong = |what| Err(BadChunk::Malformed(what));
    Ok(match (at, byte) {
        (At::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16).unwrap_or_default();
            // leading zeros do not count
            let digits = if size == 0 { 1 } else { digits + 1 };
            if digits > SIZE_DIGITS {
                return wrong("the size of a chunk is too large");
            }
            At::Size { size: size << 4 | u64::from(digit), digits }
        }
        (At::Size { digits: 0, .. }, _) => return wrong("a chunk has no size"),
        (At::Size { size, .. } | At::Extension { size }, b'\r') => At::SizeLf { size },
        (At::Size { size, .. }, b';' | b' ' | b'\t') => At::Extension { size },
        (At::Size { .. }, _) => return wrong("the size of a chunk is no hexadecimal number"),
        (At::Extension { .. }, b'\n') => return wrong("the line of a chunk's size ends without CR"),
        (At::Extension { size }, _) => At::Extension { size },
        (At::SizeLf { size: 0 }, b'\n') => At::Trailer,
        (At::SizeLf { size }, b'\n') => At::Data { left: size },
        (At::SizeLf { .. }, _) => return wrong("the line of a chunk's size ends without LF"),
        (At::DataCr, b'\r') => At::DataLf,
        (At::DataLf, b'\n') => At::Size { size: 0, digits: 0 },
        (At::DataCr | At::DataLf, _) => return wrong("a chunk is longer than its size"),
        (At::Trailer, b'\r') => At::EndLf,
        (At::Trailer, b'\n') => return wrong("the last line ends without CR"),
        (At::TrailerLine, b'\n') => At::Trailer,
        (At::Trailer | At::TrailerLine, _) => At::TrailerLine,
        (At::EndLf, b'\n') => At::End,
        (At::EndLf, _) => return wrong("the last line ends without LF"),
        // both are looked for before a byte is taken
        (At::Data { .. } | At::End, _) => at,
    })
}
