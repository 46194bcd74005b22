//! Varying payloads: the example of a type walked together with its schema, which says what each value may be.
//!
//! A value is drawn from `examples` or `enum` where the schema has them (from the examples where it has both: they are
//! those that suit the rest), a number from its range, a time from a year, and a string with a `pattern` keeps its shape
//! while its digits and capitals change. Everything else stays as it is, so a sample is valid whenever the example is.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::TypeInfo;
use crate::model::json::Canonical;
use crate::model::splitmix;

/// A payload of the type `info`, the same for the same `n`.
pub(super) fn vary(info: &TypeInfo, n: u64) -> Canonical {
    // FNV-1a, so that types with equal fields do not move in step
    let name = info
        .name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut draw = Draw(name ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut out = String::new();
    let schema: Value = serde_json::from_str(info.schema.get()).unwrap_or_default();
    write(info.example.get(), &schema, &mut draw, &mut out);
    // what is written is JSON, piece by piece; a slip would show in the tests
    Canonical::parse(&out).unwrap_or(Canonical::EMPTY_OBJECT)
}

/// What a sample draws; see [`splitmix`].
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    /// Evenly, near enough, from 0 up to `end`, which is not drawn; 0 if `end` is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len() as u64) as usize)
    }
}

/// The members of an object in the order of the text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;

        impl<'de> Visitor<'de> for Walk {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Walk)
    }
}

fn write(example: &str, schema: &Value, draw: &mut Draw, out: &mut String) {
    if let Ok(Members(members)) = serde_json::from_str(example) {
        out.push('{');
        for (at, (key, value)) in members.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            out.push_str(&Value::from(key.as_str()).to_string());
            out.push(':');
            write(value.get(), &schema["properties"][key], draw, out);
        }
        out.push('}');
    } else if let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(example) {
        out.push('[');
        for (at, element) in elements.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            write(element.get(), &schema["items"], draw, out);
        }
        out.push(']');
    } else {
        match scalar(example, schema, draw) {
            Some(value) => out.push_str(&value.to_string()),
            None => out.push_str(example),
        }
    }
}

/// Times are drawn from the year that begins here, in Unix seconds.
const START_S: i64 = 1_750_509_296;
const YEAR_S: u64 = 365 * 86_400;

/// A new value in the place of `example`; `None`: it stays.
fn scalar(example: &str, schema: &Value, draw: &mut Draw) -> Option<Value> {
    if let Some(choices) = ["examples", "enum"].iter().find_map(|key| schema[key].as_array()) {
        return draw.one_of(choices).cloned();
    }
    match serde_json::from_str(example).ok()? {
        Value::Bool(_) => Some((draw.below(2) == 0).into()),
        Value::Number(_) if schema["format"] == "unix-ms" => {
            Some((START_S * 1_000).saturating_add_unsigned(draw.below(YEAR_S * 1_000)).into())
        }
        Value::Number(_) => {
            let (low, high) = (schema["minimum"].as_i64()?, schema["maximum"].as_i64()?);
            let offset = draw.below(high.abs_diff(low).saturating_add(1));
            Some(low.saturating_add_unsigned(offset).into())
        }
        Value::String(_) if schema["format"] == "date-time" => {
            let at = OffsetDateTime::from_unix_timestamp(START_S.saturating_add_unsigned(draw.below(YEAR_S))).ok()?;
            Some(at.format(&Rfc3339).ok()?.into())
        }
        Value::String(text) if schema["pattern"].is_string() => {
            let digit_or_capital = |c: char| match c {
                '0'..='9' => (b'0' + draw.below(10) as u8) as char,
                'A'..='Z' => (b'A' + draw.below(26) as u8) as char,
                other => other,
            };
            Some(text.chars().map(digit_or_capital).collect::<String>().into())
        }
        _ => None,
    }
}
