//! What the owner of a source expects of its events: a type for each named field. An event that is otherwise is stored all
//! the same and marked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::Date;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{OffsetDateTime, PrimitiveDateTime};

use super::pointer::{member, scalar};
use crate::model::event::EventType;

/// Fields of one schema, and the longest name of one in bytes.
pub const FIELDS_MAX: usize = 100;
pub const FIELD_BYTES_MAX: usize = 128;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    String,
    Number,
    Boolean,
    /// A text with a date or a date and time of ISO 8601.
    Date,
    /// Anything, or nothing.
    Unknown,
}

/// The fields by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(BTreeMap<String, FieldType>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchema {
    #[error("must be an object that gives each field one of string, number, boolean, date, unknown")]
    Form,
    #[error(
        "has too many fields, or a name that is empty or too long: 100 fields with names of 1 to 128 bytes at most"
    )]
    Size,
}

impl Schema {
    /// Reads a schema as it is written on the wire: field names with their types.
    ///
    /// # Errors
    /// [`BadSchema::Form`] when it is no object of known types, [`BadSchema::Size`] when it has too many fields or a
    /// name that is too long.
    pub fn read(value: serde_json::Value) -> Result<Schema, BadSchema> {
        let schema: Schema = serde_json::from_value(value).map_err(|_| BadSchema::Form)?;
        let fits = |name: &String| (1..=FIELD_BYTES_MAX).contains(&name.len());
        if schema.0.len() > FIELDS_MAX || !schema.0.keys().all(fits) {
            return Err(BadSchema::Size);
        }
        Ok(schema)
    }

    /// Whether each field that is there is of its type. `event_type` and `user_id` are those of the event, unless the
    /// properties have fields of these names; everything else stands in the properties. `null` is the same as not there.
    pub fn fits(&self, kind: &EventType, user_id: Option<&str>, properties: &str) -> bool {
        self.0.iter().all(|(name, expected)| {
            let found = member(properties, name);
            match (name.as_str(), found) {
                ("event_type", None) => is_of(*expected, Some(&format!("\"{kind}\""))),
                ("user_id", None) => is_of(*expected, user_id),
                _ => is_of(*expected, found),
            }
        })
    }
}

fn is_of(expected: FieldType, json: Option<&str>) -> bool {
    let first = json.filter(|json| *json != "null").and_then(|json| json.as_bytes().first().copied());
    match expected {
        _ if first.is_none() => true,
        FieldType::Unknown => true,
        FieldType::String => first == Some(b'"'),
        FieldType::Number => matches!(first, Some(b'-' | b'0'..=b'9')),
        FieldType::Boolean => matches!(first, Some(b't' | b'f')),
        FieldType::Date => first == Some(b'"') && json.and_then(scalar).is_some_and(|text| is_date(&text)),
    }
}

fn is_date(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
        || OffsetDateTime::parse(text, &Iso8601::DEFAULT).is_ok()
        || PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).is_ok()
        || Date::parse(text, &Iso8601::DEFAULT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(field: &str, kind: &str, properties: &str) -> bool {
        let schema = Schema::read(json!({ field: kind })).expect("a schema");
        schema.fits(&EventType::new("purchase").expect("a type"), Some("\"u\""), properties)
    }

    #[test]
    fn a_field_is_there_and_of_its_type() {
        for (kind, json) in [
            ("string", r#""""#),
            ("number", "-1.5"),
            ("boolean", "false"),
            ("date", r#""2024-01-15""#),
            ("date", r#""2024-01-15T10:30:00Z""#),
            ("date", r#""2024-01-15T10:30:00.5+02:00""#),
            ("date", r#""2024-01-15T10:30:00""#),
            ("unknown", "[]"),
        ] {
            assert!(fits("x", kind, &format!("{{\"x\":{json}}}")), "{kind} {json}");
        }
        for (kind, json) in [
            ("string", "1"),
            ("number", r#""1""#),
            ("boolean", "0"),
            ("date", "1705314600000"),
            ("date", r#""tomorrow""#),
            ("date", r#""2024-02-30""#),
        ] {
            assert!(!fits("x", kind, &format!("{{\"x\":{json}}}")), "{kind} {json}");
        }
        for kind in ["string", "number", "boolean", "date", "unknown"] {
            assert!(fits("x", kind, "{}") && fits("x", kind, r#"{"x":null}"#), "{kind}");
        }
    }

    #[test]
    fn the_fields_of_the_event_itself_can_be_named() {
        assert!(fits("event_type", "string", "{}") && fits("user_id", "string", "{}"));
        assert!(!fits("event_type", "number", "{}"));
        assert!(!fits("user_id", "number", r#"{"user_id":"u"}"#));
        assert!(fits("user_id", "number", r#"{"user_id":7}"#));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for bad in [json!([]), json!({"x": "text"}), json!({"x": {}}), json!({"": "string"}), json!("string")] {
            assert!(Schema::read(bad.clone()).is_err(), "{bad}");
        }
        let many: serde_json::Map<_, _> = (0..101).map(|n| (n.to_string(), json!("string"))).collect();
        assert_eq!(Schema::read(many.into()), Err(BadSchema::Size));
    }
}
