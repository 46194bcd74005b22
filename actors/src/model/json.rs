//! JSON in the one form that we store and send: the fixed point of JavaScript's `JSON.stringify(JSON.parse(text))`.
//!
//! Owns [`Canonical`] and the single pass that makes it (ECMA-262 25.5, "The JSON Object"). The parser is serde_json;
//! what it reads goes straight into one buffer, and an object is put in order afterwards only where its keys ask
//! for it. So a receiver that signs or verifies a re-serialised body agrees with one that takes the raw bytes.

mod digits;
mod text;
mod visit;

use std::fmt::{self, Write};

use bytes::Bytes;
use bytestring::ByteString;
use digits::Doubles;
pub use digits::long_integers_as_text;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
pub use text::{text, without_lone_surrogates};
pub(in crate::model) use visit::{SeenNames, pass_over_scalars};

/// How deep arrays and objects may be nested. Common parsers stop at 128; eight levels are left for the envelopes
/// around a payload, so that whatever is accepted here can be read where it arrives.
pub const DEPTH_MAX: usize = 120;

/// Up to this many keys an object is searched for duplicates pair by pair, beyond it by sorting.
const PAIRWISE_KEYS_MAX: usize = 16;

/// JSON text that is a fixed point of JavaScript's `JSON.stringify(JSON.parse(text))`.
///
/// No white space; numbers in the shortest form of ES6; strings in raw UTF-8 with JavaScript's escapes; keys in
/// JavaScript's order (array indices ascending, then the others as they appeared), the last of several values of one
/// key at the place of the first. One exception is on purpose: an integer beyond 2^53 keeps its digits, where JavaScript
/// would round it. So the fixed point holds for texts whose integers stay within 2^53.
///
/// A clone shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Canonical(ByteString);

/// Why a text is not the JSON that we take, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line {line} column {column}; send valid JSON (RFC 8259)")]
pub struct JsonError {
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1; 0 where a text ends before its line begins.
    pub column: usize,
    /// What is wrong, without the place.
    pub message: Box<str>,
}

impl Canonical {
    /// The object without members, `{}`.
    pub const EMPTY_OBJECT: Canonical = Canonical(ByteString::from_static("{}"));

    /// `null`.
    pub const NULL: Canonical = Canonical(ByteString::from_static("null"));

    /// Brings any JSON text into the canonical form.
    ///
    /// Fails for what RFC 8259 does not allow, for a number that no double can hold (`1e400`), for an escaped surrogate
    /// without its other half (see [`text`]), and for nesting beyond [`DEPTH_MAX`].
    ///
    /// # Errors
    /// [`JsonError`], with line and column.
    pub fn parse(text: &str) -> Result<Canonical, JsonError> {
        Self::parse_with(text, None)
    }

    /// Like [`Canonical::parse`] for an object that began with the member `key`, if it has no such member itself.
    /// `key` is written as it is, so it holds no character that needs an escape. Any other text stays as it is.
    ///
    /// # Errors
    /// As [`Canonical::parse`].
    pub fn parse_with_member(text: &str, key: &str, value: &Canonical) -> Result<Canonical, JsonError> {
        Self::parse_with(text, Some((key, value.as_str())))
    }

    fn parse_with(text: &str, member: Option<(&str, &str)>) -> Result<Canonical, JsonError> {
        let room = member.map_or(0, |(key, value)| key.len() + value.len() + 4);
        let mut writer = Writer {
            out: String::with_capacity(text.len() + room),
            entries: Vec::with_capacity(16),
            depth: 0,
            doubles: Doubles::of(text),
        };
        let mut source = serde_json::Deserializer::from_str(text);
        Put { writer: &mut writer, member }.deserialize(&mut source)?;
        source.end()?;
        // a boxed string has no slack: these bytes stay in the replay buffers for long
        Ok(Canonical(writer.out.into_boxed_str().into()))
    }

    /// A string with this text.
    pub fn of_text(text: &str) -> Canonical {
        let out = String::with_capacity(text.len() + 2);
        let mut writer = Writer { out, entries: Vec::new(), depth: 0, doubles: None };
        writer.out.push('"');
        writer.escaped(text);
        writer.out.push('"');
        Canonical(writer.out.into_boxed_str().into())
    }

    /// An object of these members. Their names differ, need no escape and are no array indices, so the order stands.
    pub fn of_members(members: &[(&str, &Canonical)]) -> Canonical {
        let mut out = String::with_capacity(members.iter().map(|(name, value)| name.len() + value.0.len() + 4).sum());
        for (n, (name, value)) in members.iter().enumerate() {
            out.extend([if n == 0 { "{\"" } else { ",\"" }, name, "\":", value.as_str()]);
        }
        out.push_str(if members.is_empty() { "{}" } else { "}" });
        Canonical(out.into_boxed_str().into())
    }

    /// Takes bytes that were canonical when they were stored. Only UTF-8 is checked; `None` where it is not.
    pub fn from_log(bytes: Bytes) -> Option<Canonical> {
        ByteString::try_from(bytes).ok().map(Canonical)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as shared bytes.
    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// Whether the text is an object.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let message = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        JsonError { line, column, message: message.into() }
    }
}

/// Where a member of an object stands in the output: from its opening quote up to the start of the next.
struct Entry {
    start: usize,
    key_end: usize,
}

/// The output, and the members of the objects that are still open.
struct Writer<'t> {
    /// Every element and member is written with a comma behind it; the closing bracket replaces the last one.
    out: String,
    entries: Vec<Entry>,
    depth: usize,
    /// Where the input has long numbers: its doubles that were not written yet.
    doubles: Option<Doubles<'t>>,
}

impl Writer<'_> {
    fn open<E: de::Error>(&mut self, bracket: char) -> Result<usize, E> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.out.push(bracket);
        Ok(self.out.len())
    }

    fn close(&mut self, opened: usize, bracket: char) {
        if self.out.len() > opened {
            self.out.pop();
        }
        self.out.push(bracket);
        self.depth -= 1;
    }

    fn escaped(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|b| b < b' ' || b == b'"' || b == b'\\') {
            self.out.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                b'"' => self.out.push_str("\\\""),
                b'\\' => self.out.push_str("\\\\"),
                0x08 => self.out.push_str("\\b"),
                b'\t' => self.out.push_str("\\t"),
                b'\n' => self.out.push_str("\\n"),
                0x0c => self.out.push_str("\\f"),
                b'\r' => self.out.push_str("\\r"),
                control => self.number(format_args!("\\u{control:04x}")),
            }
            rest = &rest[at + 1..];
        }
        self.out.push_str(rest);
    }

    fn number(&mut self, value: impl fmt::Display) {
        // writing to a string cannot fail
        let _ = write!(self.out, "{value}");
    }

    fn key(&self, entry: &Entry) -> &str {
        &self.out[entry.start + 1..entry.key_end]
    }

    fn has_duplicates(&self, base: usize) -> bool {
        let entries = &self.entries[base..];
        if entries.len() <= PAIRWISE_KEYS_MAX {
            return entries.iter().enumerate().any(|(i, a)| entries[..i].iter().any(|b| self.key(a) == self.key(b)));
        }
        let mut keys: Vec<&str> = entries.iter().map(|entry| self.key(entry)).collect();
        keys.sort_unstable();
        keys.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Puts the members from `base` on, all that stands behind `opened`, into JavaScript's order.
    fn reorder(&mut self, opened: usize, base: usize) {
        let entries = &self.entries[base..];
        let key = |i: usize| self.key(&entries[i]);
        let mut by_key: Vec<usize> = (0..entries.len()).collect();
        // stable, so equal keys stay as they appeared
        by_key.sort_by_key(|i| key(*i));
        let mut kept: Vec<(u64, usize)> = by_key
            .chunk_by(|a, b| key(*a) == key(*b))
            .map(|same| {
                let rank = match array_index(key(same[0])) {
                    Some(index) => u64::from(index),
                    None => (1 << 32) + same[0] as u64,
                };
                (rank, same[same.len() - 1])
            })
            .collect();
        kept.sort_unstable();
        let sorted: String = kept
            .iter()
            .map(|(_, i)| {
                let end = entries.get(i + 1).map_or(self.out.len(), |next| next.start);
                &self.out[entries[*i].start..end]
            })
            .collect();
        self.out.truncate(opened);
        self.out.push_str(&sorted);
    }
}

/// The number that a key stands for if it is an array index (ECMA-262 6.1.7): 0 to 2^32 - 2 without leading zeros.
fn array_index(key: &str) -> Option<u32> {
    match key.as_bytes() {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if key.len() <= 10 => key.parse().ok().filter(|index| *index != u32::MAX),
        _ => None,
    }
}

/// Writes the value that comes next. `member` is the first member of the object, unless it has one of that name.
struct Put<'w, 't> {
    writer: &'w mut Writer<'t>,
    member: Option<(&'w str, &'w str)>,
}

impl<'de> DeserializeSeed<'de> for Put<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Put<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.writer.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.writer.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.writer.number(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.writer.number(value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        let integer = self.writer.doubles.as_mut().and_then(Doubles::next_integer);
        // serde_json refuses what overflows, so the number is finite
        self.writer.out.push_str(integer.unwrap_or(ryu_js::Buffer::new().format_finite(value)));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.writer.out.push('"');
        self.writer.escaped(value);
        self.writer.out.push('"');
        Ok(())
    }

    /// serde_json lends a string only if it stands in the input without an escape. It refuses raw control
    /// characters, so nothing in the string needs an escape in the output either.
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        let out = &mut self.writer.out;
        out.push('"');
        out.push_str(value);
        out.push('"');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let writer = self.writer;
        let opened = writer.open('[')?;
        while elements.next_element_seed(Put { writer: &mut *writer, member: None })?.is_some() {
            writer.out.push(',');
        }
        writer.close(opened, ']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let writer = self.writer;
        let opened = writer.open('{')?;
        let base = writer.entries.len();
        if let Some((key, value)) = self.member {
            writer.entries.push(Entry { start: opened, key_end: opened + 1 + key.len() });
            writer.out.extend(["\"", key, "\":", value, ","]);
        }
        let (mut seen, mut indexed) = (SeenNames::default(), false);
        loop {
            let start = writer.out.len();
            if members.next_key_seed(Put { writer: &mut *writer, member: None })?.is_none() {
                break;
            }
            let key_end = writer.out.len() - 1;
            let key = &writer.out.as_bytes()[start + 1..key_end];
            seen.note(key);
            indexed |= key.first().is_some_and(u8::is_ascii_digit);
            writer.entries.push(Entry { start, key_end });
            writer.out.push(':');
            members.next_value_seed(Put { writer: &mut *writer, member: None })?;
            writer.out.push(',');
        }
        let may_repeat = self.member.is_some() || seen.may_repeat();
        if indexed || may_repeat && writer.has_duplicates(base) {
            // a member of the object's own takes the place of the one that was put first
            let (first, own) = (&writer.entries[base], &writer.entries[base + 1..]);
            let replaced = self.member.is_some() && own.iter().any(|entry| writer.key(entry) == writer.key(first));
            writer.reorder(opened, base + usize::from(replaced));
        }
        writer.entries.truncate(base);
        writer.close(opened, '}');
        Ok(())
    }
}

#[cfg(test)]
mod tests;
