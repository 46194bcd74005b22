//! Puts values into the text of a template by where they stand.
//!
//! The engine does not tell the formatter of values what text came before. So the formatter only marks the values, as
//! JSON between control characters, which neither a template nor JSON can hold; and the output, which sees
//! everything in order and knows whether a string is open, sets them in.

use std::io;

use minijinja::{Error, State, Value};

use super::OUTPUT_BYTES_MAX;
use super::filters::json_of;

/// Starts a value.
const VALUE: u8 = 1;
/// Starts what is JSON by the template's own wish: a text with quotes in it rather than a string.
const JSON: u8 = 2;
/// Ends either.
const END: u8 = 3;

/// The formatter: writes a value between its marks.
pub(super) fn write_value(
    out: &mut minijinja::Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    let (mark, json) = match value.as_str().filter(|_| value.is_safe()) {
        Some(json) => (JSON, json.to_owned()),
        None => (VALUE, json_of(state, value)?),
    };
    let marked = [&[mark], json.as_bytes(), &[END]].concat();
    // JSON and marks are UTF-8
    out.write_str(&String::from_utf8_lossy(&marked)).map_err(Error::from)
}

/// Why the output takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    TooLong,
    /// A value right behind a backslash would lose its own escape.
    Backslash,
}

/// Collects a rendering.
pub(super) struct Output {
    out: Vec<u8>,
    /// The value whose end has not come yet, and its mark.
    value: Option<(u8, Vec<u8>)>,
    in_string: bool,
    escaped: bool,
    pub refused: Option<Refused>,
}

impl Output {
    pub fn new() -> Self {
        Output { out: Vec::new(), value: None, in_string: false, escaped: false, refused: None }
    }

    pub fn text(&self) -> &str {
        // what is written comes as `str` or is ASCII, and is cut nowhere
        std::str::from_utf8(&self.out).unwrap_or_default()
    }

    /// The line of the output that is being written, counted from 1.
    pub fn line(&self) -> usize {
        1 + self.out.iter().filter(|byte| **byte == b'\n').count()
    }

    fn take(&mut self, byte: u8) -> Result<(), Refused> {
        match (byte, self.value.take()) {
            (END, Some((mark, json))) => self.set_in(mark, &json),
            (_, Some((mark, mut json))) => {
                json.push(byte);
                self.value = Some((mark, json));
            }
            (VALUE | JSON, None) if self.escaped => return Err(Refused::Backslash),
            (VALUE | JSON, None) => self.value = Some((byte, Vec::new())),
            (_, None) => {
                match (self.in_string, self.escaped, byte) {
                    (true, true, _) => self.escaped = false,
                    (true, false, b'\\') => self.escaped = true,
                    (_, _, b'"') => self.in_string = !self.in_string,
                    _ => {}
                }
                self.out.push(byte);
            }
        }
        let pending = self.value.as_ref().map_or(0, |(_, json)| json.len());
        if self.out.len() + pending > OUTPUT_BYTES_MAX { Err(Refused::TooLong) } else { Ok(()) }
    }

    fn set_in(&mut self, mark: u8, json: &[u8]) {
        match json {
            _ if !self.in_string => self.out.extend_from_slice(json),
            b"null" if mark == VALUE => {}
            // the inside of a JSON string has its escapes already
            [b'"', inside @ .., b'"'] if mark == VALUE => self.out.extend_from_slice(inside),
            _ => {
                for byte in json {
                    if matches!(byte, b'"' | b'\\') {
                        self.out.push(b'\\');
                    }
                    self.out.push(*byte);
                }
            }
        }
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if let Err(refused) = self.take(*byte) {
                self.refused = Some(refused);
                return Err(io::ErrorKind::Other.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
