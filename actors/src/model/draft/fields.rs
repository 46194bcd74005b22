//! The fields of one event as it was sent: which names they have, and what each of them may hold.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DEDUPE_ID_BYTES_MAX, FIELD_ERRORS_MAX, Reader, Shape, YEARS_0_TO_9999_MS, place, unix_ms};
use crate::model::event::{Draft, EventType, SESSION_BYTES_MAX};
use crate::model::json::{Canonical, JsonError};

/// The smallest number that is taken for Unix milliseconds: in seconds it would be the year 5138.
pub const UNIX_MS_MIN: i64 = 100_000_000_000;

/// How much of a field's name an error repeats, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What a field is about, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Kind,
    Time,
    Payload,
    Session,
    UserId,
    DedupeId,
    /// A list of events around which the object is only a wrapper.
    Events,
}

const SLOTS: usize = Slot::Events as usize + 1;

/// The name of a field.
enum Name {
    Known(Slot, &'static str),
    /// The server's own: it says where the event came from, not what shall be published.
    Envelope(Box<str>),
    Unknown(Box<str>),
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "type" => Name::Known(Slot::Kind, "type"),
                    "event" => Name::Known(Slot::Kind, "event"),
                    "event_type" => Name::Known(Slot::Kind, "event_type"),
                    "ts" => Name::Known(Slot::Time, "ts"),
                    "timestamp" => Name::Known(Slot::Time, "timestamp"),
                    "payload" => Name::Known(Slot::Payload, "payload"),
                    "properties" => Name::Known(Slot::Payload, "properties"),
                    "session" => Name::Known(Slot::Session, "session"),
                    "user_id" => Name::Known(Slot::UserId, "user_id"),
                    "dedupe_id" => Name::Known(Slot::DedupeId, "dedupe_id"),
                    "events" => Name::Known(Slot::Events, "events"),
                    "id" | "event_id" | "map_id" | "schema" | "organization" | "source" | "validated" => {
                        Name::Envelope(name.into())
                    }
                    other => Name::Unknown(other.into()),
                })
            }
        }
        source.deserialize_str(NameVisitor)
    }
}

/// A field's name and its value's JSON text.
type Field<'a> = (&'static str, &'a str);

/// The fields of one object, still as text.
#[derive(Default)]
pub(super) struct Fields<'a> {
    first: [Option<Field<'a>>; SLOTS],
    /// What was given once more with another text, under the same name or another.
    again: Vec<(Slot, Field<'a>)>,
    unknown: Vec<Box<str>>,
    /// What a sender added to the fields of an event, where that is kept.
    extra: Vec<Extra<'a>>,
}

/// A field that is none of an event: its name and its value's JSON text.
pub(super) type Extra<'a> = (Box<str>, &'a str);

/// The name that counts where a sender gives two of one slot: the smallest.
fn rank(name: &str) -> usize {
    match name {
        "event_type" | "timestamp" | "properties" => 0,
        "type" => 1,
        _ => 2,
    }
}

impl<'a> Fields<'a> {
    /// Reads the JSON text of an object. Of an event from outside everything is kept, also what is no field of an event.
    pub(super) fn read(text: &'a str, shape: Shape<'_>) -> Result<Fields<'a>, JsonError> {
        let mut source = serde_json::Deserializer::from_str(text);
        let fields = source.deserialize_map(FieldsVisitor { keeps_all: shape != Shape::Published })?;
        source.end()?;
        Ok(fields)
    }

    pub(super) fn first(&self, slot: Slot) -> Option<Field<'a>> {
        self.first[slot as usize]
    }

    /// Everything but `events`, which was sent around them.
    pub(super) fn around_events(&mut self) -> Vec<Extra<'a>> {
        let mut around = std::mem::take(&mut self.extra);
        for (slot, field) in self.first.iter_mut().enumerate() {
            if slot != Slot::Events as usize
                && let Some((name, text)) = field.take()
            {
                around.push((name.into(), text));
            }
        }
        around
    }

    /// Reports every field but `events`.
    pub(super) fn only_events(&self, reader: &mut Reader<'_, '_>) {
        for (slot, field) in self.first.iter().enumerate() {
            if let Some((name, _)) = field.filter(|_| slot != Slot::Events as usize) {
                reader.report(0, name, "stands beside events; put it into each event");
            }
        }
        for (slot, (name, _)) in &self.again {
            if *slot == Slot::Events {
                reader.report(0, name, "is given twice; put all events into one list");
            }
        }
        self.report_unknown(0, reader);
    }

    /// The draft that the fields ask for. Whatever is wrong goes to the reader, which then gives out no draft at all.
    pub(super) fn draft(&self, index: usize, reader: &mut Reader<'_, '_>) -> Option<Draft> {
        self.report_unknown(index, reader);
        if self.first(Slot::Events).is_some() {
            reader.report(
                index,
                "events",
                "is no field of an event; only the outermost object may hold a list of events",
            );
        }
        let kind = self.value(Slot::Kind, index, reader, kind);
        if self.first(Slot::Kind).is_none() {
            let (name, example) = match reader.shape {
                Shape::Published => ("type", "map_kill"),
                Shape::TakenIn(_) => ("event_type", "purchase"),
            };
            reader.report(index, name, format!("is required; name what happened, for example \"{example}\""));
        }
        let ts_ms = self.value(Slot::Time, index, reader, time);
        let session = self.value(Slot::Session, index, reader, |text| {
            let session = string(text, SESSION_BYTES_MAX)?;
            if session.contains(char::is_control) {
                return Err("contains a control character; use printable characters only".into());
            }
            Ok(session)
        });
        let user_id = self.value(Slot::UserId, index, reader, user_id);
        let dedupe_id = self.value(Slot::DedupeId, index, reader, |text| string(text, DEDUPE_ID_BYTES_MAX));
        let (body, shape) = (reader.body, reader.shape);
        let member = user_id.as_ref().filter(|_| shape == Shape::Published);
        let given = self.value(Slot::Payload, index, reader, |text| payload(body, text, member));
        let payload = match (given, member) {
            (Some(payload), _) => payload,
            (None, None) => Canonical::EMPTY_OBJECT,
            (None, Some(user)) => payload(body, "{}", Some(user)).ok()?,
        };
        let payload = match shape {
            Shape::Published => payload,
            Shape::TakenIn(source) => {
                let extra = self.extra(index, reader)?;
                let extra: Vec<_> = extra.iter().map(|extra| ("extra", extra)).collect();
                payload_of(user_id.as_ref(), &payload, source, &extra)
            }
        };
        Some(Draft { kind: kind?, ts_ms, session, payload, dedupe_id, validated: None })
    }

    /// What a sender added to the event, and what it sent around the list of events, in one object; the inner one where
    /// both have a name. The outer none says that it cannot be taken.
    fn extra(&self, index: usize, reader: &mut Reader<'_, '_>) -> Option<Option<Canonical>> {
        if self.extra.is_empty() && reader.around.is_empty() {
            return Some(None);
        }
        let outer = reader.around.iter().filter(|(name, _)| !self.extra.iter().any(|(own, _)| own == name));
        let mut text = String::from("{");
        for (name, value) in self.extra.iter().chain(outer) {
            text.push_str(if text.len() > 1 { "," } else { "" });
            text.push_str(Canonical::of_text(name).as_str());
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        match Canonical::parse(&text) {
            Ok(extra) => Some(Some(extra)),
            Err(error) => {
                let named = self.extra.iter().chain(&reader.around).find(|(_, value)| Canonical::parse(value).is_err());
                let name = named.map_or_else(String::new, |(name, _)| name.chars().take(NAME_CHARS_MAX).collect());
                reader.report(index, &name, format!("cannot be taken: {}", error.message));
                None
            }
        }
    }

    /// What a slot holds, if anything valid; two fields of one slot must mean the same.
    fn value<T: PartialEq>(
        &self,
        slot: Slot,
        index: usize,
        reader: &mut Reader<'_, '_>,
        read: impl Fn(&'a str) -> Result<T, Cow<'static, str>>,
    ) -> Option<T> {
        let (name, text) = self.first(slot)?;
        let value = read(text).map_err(|message| reader.report(index, name, message)).ok()?;
        for (_, (other, text)) in self.again.iter().filter(|(again, _)| *again == slot) {
            match read(text) {
                Ok(second) if second == value => {}
                Ok(_) => reader.report(index, other, format!("is not the same as {name}; give one of them only")),
                Err(message) => reader.report(index, other, message),
            }
        }
        Some(value)
    }

    fn report_unknown(&self, index: usize, reader: &mut Reader<'_, '_>) {
        for name in &self.unknown {
            let name: String = name.chars().take(NAME_CHARS_MAX).collect();
            reader.report(index, &name, "is no field of an event; correct its name or put it into the payload");
        }
    }
}

struct FieldsVisitor {
    keeps_all: bool,
}

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = members.next_key::<Name>()? {
            match name {
                Name::Known(slot, name) => {
                    let field = (name, members.next_value::<&RawValue>()?.get());
                    match &mut fields.first[slot as usize] {
                        _ if field.1 == "null" => {}
                        Some((_, text)) if *text == field.1 => {}
                        Some(first) if self.keeps_all && first.0 != name => {
                            let kept = if rank(name) < rank(first.0) { std::mem::replace(first, field) } else { field };
                            fields.extra.push((kept.0.into(), kept.1));
                        }
                        Some(_) => fields.again.push((slot, field)),
                        empty => *empty = Some(field),
                    }
                }
                Name::Envelope(name) | Name::Unknown(name) if self.keeps_all => {
                    fields.extra.push((name, members.next_value::<&RawValue>()?.get()));
                }
                Name::Envelope(_) => drop(members.next_value::<IgnoredAny>()?),
                Name::Unknown(name) => {
                    members.next_value::<IgnoredAny>()?;
                    if fields.unknown.len() < FIELD_ERRORS_MAX {
                        fields.unknown.push(name);
                    }
                }
            }
        }
        Ok(fields)
    }
}

/// Why a field's value cannot be taken, a sentence about the field.
type Reason = Cow<'static, str>;

fn kind(text: &str) -> Result<EventType, Reason> {
    EventType::new(&unquoted(text)?).map_err(|error| format!("is not well-formed: {error}").into())
}

fn time(text: &str) -> Result<i64, Reason> {
    let outside = "must lie in the years 0 to 9999; give Unix milliseconds or an ISO-8601 date";
    if text.starts_with('"') {
        let text = unquoted(text)?;
        return unix_ms(&text).ok_or_else(|| {
            "must be an ISO-8601 date and time with an offset from UTC, for example 2026-01-31T12:00:00Z, or a number of Unix \
             milliseconds"
                .into()
        });
    }
    let whole = "must be an integer of Unix milliseconds or an ISO-8601 text";
    let ms = match text.parse::<i64>() {
        Ok(ms) => ms,
        // 1.7e12 and 5.0 are integers too; what a cast saturates lies outside of the years anyway
        Err(_) => match text.parse::<f64>() {
            Ok(number) if number.fract() == 0.0 || number.is_infinite() => number as i64,
            _ => return Err(whole.into()),
        },
    };
    match ms {
        ms if !YEARS_0_TO_9999_MS.contains(&ms) => Err(outside.into()),
        ms if ms < UNIX_MS_MIN => {
            Err("looks like Unix seconds, which would be 1970; give Unix milliseconds, for example \
             1769860800000, or an ISO-8601 text, in which times before 1973-03-03 can be written too"
                .into())
        }
        ms => Ok(ms),
    }
}

fn user_id(text: &str) -> Result<Canonical, Reason> {
    match text.as_bytes().first() {
        Some(b'"' | b'-' | b'0'..=b'9') => {
            Canonical::parse(text).map_err(|error| format!("cannot be read: {}", error.message).into())
        }
        _ => Err("must be a string or a number".into()),
    }
}

fn payload(body: &str, text: &str, user_id: Option<&Canonical>) -> Result<Canonical, Reason> {
    if !text.starts_with('{') {
        return Err("must be a JSON object; wrap the value, for example {\"value\":...}".into());
    }
    let read = match user_id {
        Some(user_id) => Canonical::parse_with_member(text, "user_id", user_id),
        None => Canonical::parse(text),
    };
    read.map_err(|error| {
        let JsonError { line, column, message } = place(body, text, error);
        format!("cannot be taken: {message} at line {line} column {column}").into()
    })
}

/// The payload of an event that the source of this id took in, with what else is to stand in it.
pub(in crate::model) fn payload_of(
    user_id: Option<&Canonical>,
    properties: &Canonical,
    source: &str,
    beside: &[(&str, &Canonical)],
) -> Canonical {
    let (source, nobody) = (Canonical::of_text(source), Canonical::NULL);
    let own = [("user_id", user_id.unwrap_or(&nobody)), ("properties", properties), ("source", &source)];
    Canonical::of_members(&[own.as_slice(), beside].concat())
}

/// A string of 1 to `bytes_max` bytes.
fn string(text: &str, bytes_max: usize) -> Result<Box<str>, Reason> {
    let string = unquoted(text)?;
    match string.len() {
        0 => Err("must not be empty; leave it out instead".into()),
        bytes if bytes > bytes_max => Err(format!("has {bytes} bytes; make it {bytes_max} at most").into()),
        _ => Ok(string.into()),
    }
}

/// What stands in a JSON string.
fn unquoted(text: &str) -> Result<Cow<'_, str>, Reason> {
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Err("must be a string".into()),
        Some(plain) if !plain.contains('\\') => Ok(plain.into()),
        Some(_) => serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|error| format!("cannot be read: {}", JsonError::from(error).message).into()),
    }
}
