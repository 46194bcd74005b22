//! What a publisher sends: the body of a publish request, read into drafts.
//!
//! Owns which shapes a body may have, which names a field may have, and what is said about a body that is wrong. Each
//! payload is read as raw text first and brought into the canonical form once; nothing becomes a tree of values.

mod fields;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

use super::event::Draft;
use super::json::{self, JsonError};
pub use fields::UNIX_MS_MIN;
pub(super) use fields::payload_of;
use fields::{Extra, Fields, Slot};

/// The longest `dedupe_id` in bytes.
pub const DEDUPE_ID_BYTES_MAX: usize = 256;
/// How many wrong fields of one body are reported.
pub const FIELD_ERRORS_MAX: usize = 20;
/// How many wrong fields of one event are reported where each event is judged by itself.
pub const EVENT_ERRORS_MAX: usize = 4;

/// The most bytes that may stand around a list of events, counted once for each of them, because each keeps it.
const AROUND_BYTES_MAX: usize = 1 << 20;

/// What the content type says about a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// One event, an array of events, or `{"events":[...]}`.
    Json,
    /// One event on each line; empty lines are passed over.
    NdJson,
}

/// How large an event and a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftLimits {
    /// Bytes of an event's JSON text as it was sent.
    pub event_bytes: usize,
    /// Events of one body.
    pub batch_events: usize,
}

/// What becomes of the fields of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape<'a> {
    /// A publisher's own: the user id becomes the first member of the payload, unless that has one.
    Published,
    /// From outside, taken in by the source of this id: the payload holds `user_id`, `properties` and `source`, and in
    /// `extra` what the sender added to these fields.
    TakenIn(&'a str),
}

/// What a body asks to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Drafts {
    /// In the order of the body, at least one.
    pub drafts: Vec<Draft>,
    /// Whether the body was one event and not a list, however short.
    pub single: bool,
}

/// A body of which each event was judged by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Sorted {
    /// The good events, in the order of the body.
    pub drafts: Vec<Draft>,
    /// What is wrong with the others: up to [`EVENT_ERRORS_MAX`] fields of each.
    pub errors: Vec<FieldError>,
    /// The JSON texts of the others.
    pub refused: Vec<String>,
}

/// What is wrong with one field of one event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {index}: {field}{between}{message}", between = if field.is_empty() { "" } else { " " })]
pub struct FieldError {
    /// The event's place in the body, counted from 0.
    pub index: usize,
    /// The field as the publisher wrote it; empty where the event as a whole is meant.
    pub field: Box<str>,
    /// What is wrong and what to do, a sentence about the field.
    pub message: Box<str>,
}

/// Why nothing of a body can be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// The body is not JSON. Line and column are those of the body: see [`JsonError`].
    #[error("{message} at line {line} column {column}; send valid JSON (RFC 8259) in UTF-8")]
    Malformed { line: usize, column: usize, message: Box<str> },
    /// Up to [`FIELD_ERRORS_MAX`] wrong fields, in the order of the events; never empty.
    #[error("{}", in_words(.0))]
    Invalid(Vec<FieldError>),
    /// The JSON text of one event is too long, in bytes.
    #[error("event {index} {}", too_large(*bytes, *limit))]
    EventTooLarge { index: usize, bytes: usize, limit: usize },
    #[error("the body holds {count} events; send {limit} at most in one request")]
    TooManyEvents { count: usize, limit: usize },
    #[error("the body holds no event; send at least one")]
    Empty,
}

/// What is said of an event that has too many bytes.
pub fn too_large(bytes: usize, limit: usize) -> String {
    format!("has {bytes} bytes; make it {limit} bytes at most")
}

/// # Errors
/// The JSON text of an event has more bytes than the limit.
pub fn check_size(index: usize, bytes: usize, limits: &DraftLimits) -> Result<(), DraftError> {
    let limit = limits.event_bytes;
    if bytes > limit { Err(DraftError::EventTooLarge { index, bytes, limit }) } else { Ok(()) }
}

fn in_words(errors: &[FieldError]) -> String {
    let first = errors.first().map_or_else(String::new, FieldError::to_string);
    match errors.len() {
        0 | 1 => first,
        n => format!("{first}; and {} more", n - 1),
    }
}

/// Reads the body of a publish request. A batch is taken as a whole or not at all.
///
/// The names of every family are understood: `type`, `event` or `event_type`; `ts` or `timestamp`; `payload` or
/// `properties`; `session`; `user_id`, which becomes the first member of the payload; `dedupe_id`. `null` is the same as
/// leaving a field out. Fields that the server itself puts into an envelope (`id`, `map_id` ...) are passed over,
/// so that an event can be sent as it was received; any other field is an error, so that no misspelt one is lost.
///
/// # Errors
/// [`DraftError`]: the body is no JSON, has no events or too many, one of them is too large, or fields are wrong (up to
/// [`FIELD_ERRORS_MAX`] are named).
pub fn parse(body: &[u8], form: BodyForm, limits: &DraftLimits) -> Result<Drafts, DraftError> {
    parse_as(body, form, limits, Shape::Published)
}

/// Like [`parse`], for events of another shape.
///
/// # Errors
/// As [`parse`].
pub fn parse_as(body: &[u8], form: BodyForm, limits: &DraftLimits, shape: Shape<'_>) -> Result<Drafts, DraftError> {
    let body = &*json::text(body).map_err(|error| malformed("", "", error))?;
    let mut reader = Reader::new(body, limits, shape, false);
    match form {
        BodyForm::NdJson => {
            let lines = || body.split('\n').map(trim).filter(|line| !line.is_empty());
            let count = lines().count();
            reader.list(count, lines().take(limits.batch_events).collect())
        }
        BodyForm::Json => reader.json(trim(body)),
    }
}

/// Like [`parse_as`] for a body of JSON, but each event is taken or not by itself. An error means the body as a whole.
///
/// # Errors
/// [`DraftError`]: the body is no JSON, or has no events or too many.
pub fn sort(body: &[u8], limits: &DraftLimits, shape: Shape<'_>) -> Result<Sorted, DraftError> {
    let body = &*json::text(body).map_err(|error| malformed("", "", error))?;
    let mut reader = Reader::new(body, limits, shape, true);
    let drafts = reader.json(trim(body))?.drafts;
    let Reader { errors, refused, .. } = reader;
    Ok(Sorted { drafts, errors, refused: refused.into_iter().map(str::to_owned).collect() })
}

/// Unix milliseconds of a moment written in ISO 8601 or RFC 3339 with its offset from UTC; smaller parts are cut off.
/// `None` for anything else, also outside of the years 0 to 9999 (UTC).
pub fn unix_ms(text: &str) -> Option<i64> {
    let moment =
        OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Iso8601::DEFAULT)).ok()?;
    let ms = moment.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(ms).ok().filter(|ms| YEARS_0_TO_9999_MS.contains(ms))
}

/// The years that ISO 8601 can write with four digits, in Unix milliseconds.
const YEARS_0_TO_9999_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Without the white space of JSON around it.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// Gives the place of an error in `part`, which is a part of `body`, as a place in `body`.
fn place(body: &str, part: &str, mut error: JsonError) -> JsonError {
    let before = part.as_ptr().addr().checked_sub(body.as_ptr().addr()).and_then(|at| body.get(..at)).unwrap_or("");
    if error.line == 1 {
        error.column += before.len() - before.rfind('\n').map_or(0, |at| at + 1);
    }
    error.line += before.bytes().filter(|b| *b == b'\n').count();
    error
}

fn malformed(body: &str, part: &str, error: JsonError) -> DraftError {
    let JsonError { line, column, message } = place(body, part, error);
    DraftError::Malformed { line, column, message }
}

/// A body while it is read, and what was found to be wrong with it.
struct Reader<'a, 'l> {
    body: &'a str,
    limits: &'l DraftLimits,
    shape: Shape<'l>,
    /// Whether each event is taken or not by itself.
    each: bool,
    errors: Vec<FieldError>,
    /// Wrong fields so far, reported or not.
    wrong: usize,
    /// Events that are not taken, where each is judged by itself.
    refused: Vec<&'a str>,
    /// What was sent around the list of events, and is kept with each of them.
    around: Vec<Extra<'a>>,
}

impl<'a, 'l> Reader<'a, 'l> {
    fn new(body: &'a str, limits: &'l DraftLimits, shape: Shape<'l>, each: bool) -> Self {
        Reader { body, limits, shape, each, errors: Vec::new(), wrong: 0, refused: Vec::new(), around: Vec::new() }
    }

    fn json(&mut self, text: &'a str) -> Result<Drafts, DraftError> {
        match text.as_bytes().first() {
            None => Err(DraftError::Empty),
            Some(b'{') => {
                let mut fields = self.fields(text)?;
                match fields.first(Slot::Events) {
                    Some((_, events)) if fields.first(Slot::Kind).is_none() => self.wrapped(&mut fields, events),
                    _ => self.single(text, &fields),
                }
            }
            Some(b'[') => self.array(text),
            // a lone scalar: not an event, if it is JSON at all
            Some(_) => self.list(1, vec![text]),
        }
    }

    fn single(&mut self, text: &'a str, fields: &Fields<'a>) -> Result<Drafts, DraftError> {
        check_size(0, text.len(), self.limits)?;
        let draft = fields.draft(0, self).filter(|_| self.wrong == 0);
        self.refuse_if(self.wrong > 0, text);
        self.finish(draft.into_iter().collect(), true)
    }

    /// `{"events":[...]}`. What a publisher puts beside it is an error; what a sender puts there is kept with each event.
    fn wrapped(&mut self, fields: &mut Fields<'a>, events: &'a str) -> Result<Drafts, DraftError> {
        if self.shape != Shape::Published {
            self.around = fields.around_events();
        }
        fields.only_events(self);
        if !events.starts_with('[') {
            self.report(0, "events", "must be an array of events");
        }
        if self.errors.is_empty() { self.array(events) } else { self.finish(Vec::new(), false) }
    }

    fn array(&mut self, text: &'a str) -> Result<Drafts, DraftError> {
        let mut source = serde_json::Deserializer::from_str(text);
        let (count, events) = source
            .deserialize_seq(Elements { limit: self.limits.batch_events })
            .and_then(|read| source.end().map(|()| read))
            .map_err(|error| malformed(self.body, text, error.into()))?;
        self.list(count, events)
    }

    /// `events` are the first of `count`, at least as many as the limit allows.
    fn list(&mut self, count: usize, events: Vec<&'a str>) -> Result<Drafts, DraftError> {
        let limit = self.limits.batch_events;
        if count == 0 {
            return Err(DraftError::Empty);
        }
        if count > limit {
            return Err(DraftError::TooManyEvents { count, limit });
        }
        // one of several is left out where each is taken or not by itself
        let leaves_out = self.each && count > 1;
        if !leaves_out {
            events.iter().enumerate().try_for_each(|(index, text)| check_size(index, text.len(), self.limits))?;
        }
        let around: usize = self.around.iter().map(|(name, text)| name.len() + text.len()).sum();
        if around.saturating_mul(count) > AROUND_BYTES_MAX {
            let name = self.around.first().map_or_else(String::new, |(name, _)| name.chars().take(64).collect());
            self.report(0, &name, "stands beside events and is too long to be kept with each; put it into the events");
            return self.finish(Vec::new(), false);
        }
        let mut drafts = Vec::with_capacity(count);
        for (index, text) in events.into_iter().enumerate() {
            let wrong_before = self.wrong;
            if text.len() > self.limits.event_bytes {
                self.report(index, "", too_large(text.len(), self.limits.event_bytes));
            } else if text.starts_with('{') {
                let fields = self.fields(text)?;
                drafts.extend(fields.draft(index, self).filter(|_| self.wrong == wrong_before));
            } else {
                // a lone scalar, or a line, has not been read yet
                serde_json::from_str::<IgnoredAny>(text).map_err(|error| malformed(self.body, text, error.into()))?;
                let example = match self.shape {
                    Shape::Published => "{\"type\":...,\"payload\":{...}}",
                    Shape::TakenIn(_) => "{\"event_type\":...,\"properties\":{...}}",
                };
                self.report(index, "", format!("an event must be a JSON object; send {example}"));
            }
            self.refuse_if(self.wrong > wrong_before, text);
        }
        self.finish(drafts, false)
    }

    fn refuse_if(&mut self, wrong: bool, text: &'a str) {
        if self.each && wrong {
            self.refused.push(text);
        }
    }

    fn fields(&self, text: &'a str) -> Result<Fields<'a>, DraftError> {
        Fields::read(text, self.shape).map_err(|error| malformed(self.body, text, error))
    }

    /// Notes what is wrong with a field, while there is room for it.
    fn report(&mut self, index: usize, field: &str, message: impl Into<Box<str>>) {
        self.wrong += 1;
        let room = match self.each {
            false => self.errors.len() < FIELD_ERRORS_MAX,
            true => self.errors.iter().rev().take_while(|error| error.index == index).count() < EVENT_ERRORS_MAX,
        };
        if room {
            self.errors.push(FieldError { index, field: field.into(), message: message.into() });
        }
    }

    fn finish(&mut self, drafts: Vec<Draft>, single: bool) -> Result<Drafts, DraftError> {
        if self.errors.is_empty() || self.each && !drafts.is_empty() {
            Ok(Drafts { drafts, single })
        } else {
            Err(DraftError::Invalid(std::mem::take(&mut self.errors)))
        }
    }
}

/// Counts the elements of an array and keeps the text of the first `limit`.
struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = (usize, Vec<&'de str>);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while texts.len() < self.limit {
            match elements.next_element::<&RawValue>()? {
                Some(element) => texts.push(element.get()),
                None => return Ok((texts.len(), texts)),
            }
        }
        let mut count = texts.len();
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((count, texts))
    }
}

#[cfg(test)]
mod tests;
