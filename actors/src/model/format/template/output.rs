//! Puts values into the text of a template by where they stand.
//!
//! The engine does not tell the formatter of values what text came before. So the text of the template comes as values too
//! (see `rewrite`): the formatter sees everything in order and knows whether a string is open.

use minijinja::value::Object;
use minijinja::{Error, ErrorKind, State, Value};

use super::OUTPUT_BYTES_MAX;
use super::filters::json_of;

/// A piece of the template's own text.
#[derive(Debug)]
pub(super) struct Raw(Box<str>);

impl Raw {
    pub fn new(text: &str) -> Raw {
        Raw(text.into())
    }
}

impl Object for Raw {}

/// The detail of the error of an output that is too long.
const TOO_LONG: &str = "the output is too long";
/// The detail of the error of a value right behind a backslash, which would lose its own escape; the line follows.
const BACKSLASH: &str = "a backslash in line ";

/// Why the output takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    TooLong,
    /// The line of the output, counted from 1.
    Backslash(usize),
}

/// Whether the error is that of an output that takes no more.
pub(super) fn refused(error: &Error) -> Option<Refused> {
    let detail = error.detail()?;
    match detail.strip_prefix(BACKSLASH) {
        Some(line) => line.parse().ok().map(Refused::Backslash),
        None => (detail == TOO_LONG).then_some(Refused::TooLong),
    }
}

/// What was written so far in a rendering.
struct Written {
    bytes: usize,
    line: usize,
    in_string: bool,
    escaped: bool,
}

fn written<'s>(state: &'s mut State<'_, '_>) -> &'s mut Written {
    state.get_or_insert_extension_with(|| Written { bytes: 0, line: 1, in_string: false, escaped: false })
}

/// The formatter: writes the template's own text as it is, and a value so that it fits there.
pub(super) fn write(out: &mut minijinja::Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(Raw(text)) = value.downcast_object_ref::<Raw>() {
        let so_far = written(state);
        for byte in text.bytes() {
            match (so_far.in_string, so_far.escaped, byte) {
                (true, true, _) => so_far.escaped = false,
                (true, false, b'\\') => so_far.escaped = true,
                (_, _, b'"') => so_far.in_string = !so_far.in_string,
                _ => {}
            }
            so_far.line += usize::from(byte == b'\n');
        }
        return put(out, state, text);
    }
    let Written { escaped, line, in_string, .. } = *written(state);
    if escaped {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("{BACKSLASH}{line}")));
    }
    // what is JSON by the template's own wish is, within a string, a text with quotes in it rather than a string
    if let Some(json) = value.as_str().filter(|_| value.is_safe()) {
        return if in_string { put(out, state, &escape(json)) } else { put(out, state, json) };
    }
    let json = json_of(state, value)?;
    // the inside of a JSON string has its escapes already
    let inside = json.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match (in_string, inside) {
        (false, _) => put(out, state, &json),
        (true, Some(inside)) => put(out, state, inside),
        (true, None) if json == "null" => Ok(()),
        (true, None) => put(out, state, &escape(&json)),
    }
}

fn put(out: &mut minijinja::Output<'_>, state: &mut State<'_, '_>, text: &str) -> Result<(), Error> {
    let so_far = written(state);
    so_far.bytes += text.len();
    if so_far.bytes > OUTPUT_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, TOO_LONG));
    }
    out.write_str(text).map_err(Error::from)
}

fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
