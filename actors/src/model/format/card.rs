//! What people are shown of an event, before it takes the form of one chat or the other.
//!
//! One table, [`rows`], has a row for each type of the maps catalogue: title, colour, a sentence, and which fields of
//! the payload stand below it. Nothing in a payload is relied upon: what is missing or blank shows as "Unknown", what
//! has another type than usual shows as it is. Nothing is escaped or cut here; that is the business of the chats.

mod forge;
mod rows;

use serde_json::Value;

use super::Subject;
use crate::model::{json, source};
use rows::{Fact, GREY, Path, ROWS, Step};

/// Stands where a payload has nothing to show.
pub(super) const UNKNOWN: &str = "Unknown";

/// A piece of the sentence.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Words(&'static str),
    /// From the payload, to be emphasised.
    Name(String),
}

/// What is below the title.
#[derive(Debug, PartialEq)]
pub(super) enum Text {
    Sentence(Vec<Piece>),
    /// The payload, laid out over several lines.
    Code(String),
}

/// An event as people are shown it. No text in it is blank, and all but `Code` are single lines.
#[derive(Debug, PartialEq)]
pub(super) struct Card {
    pub title: String,
    /// 0xRRGGBB.
    pub colour: u32,
    pub text: Text,
    pub facts: Vec<(&'static str, String)>,
    pub link: Option<String>,
}

impl Card {
    pub fn of(subject: &Subject<'_>) -> Card {
        let event = subject.event;
        let kind = event.kind.as_str();
        // what a source took in stands one level deeper
        let properties = event.origin.source().and_then(|_| source::properties(event.payload.as_str()));
        let text = properties.unwrap_or(event.payload.as_str());
        // a payload too deep for the parser shows as one in which nothing is known
        let read = || serde_json::from_str::<Value>(&json::long_integers_as_text(text, "")).unwrap_or_default();
        let Some(row) = ROWS.iter().find(|row| row.kind == kind) else {
            let of_forge = properties.and_then(|_| forge::card(kind, &read()));
            return of_forge.unwrap_or_else(|| Card {
                title: event.kind.to_string(),
                colour: GREY,
                text: Text::Code(laid_out(text, CODE_BYTES_MAX)),
                facts: Vec::new(),
                link: None,
            });
        };
        let payload = read();
        let piece = |step: &Step| match step {
            Step::Says(words) => Piece::Words(words),
            Step::Names(paths) => Piece::Name(shown(&payload, paths).unwrap_or_else(|| UNKNOWN.into())),
        };
        Card {
            title: row.title.into(),
            colour: row.colour,
            text: Text::Sentence(row.sentence.iter().map(piece).collect()),
            facts: row.facts.iter().map(|fact| fact_of(fact, &payload)).collect(),
            link: (row.kind == "map_kill").then(|| kill_link(&payload)).flatten(),
        }
    }
}

fn fact_of(fact: &Fact, payload: &Value) -> (&'static str, String) {
    let (name, text, otherwise) = match fact {
        Fact::Shown(name, paths) => (name, shown(payload, paths), UNKNOWN),
        Fact::Else(name, paths, word) => (name, shown(payload, paths), *word),
        Fact::Isk(name, paths) => (name, isk(payload, paths), UNKNOWN),
    };
    (name, text.unwrap_or_else(|| otherwise.into()))
}

fn at(payload: &Value, path: Path) -> Option<&Value> {
    path.split('.').try_fold(payload, |value, key| value.get(key))
}

fn shown(payload: &Value, paths: &[Path]) -> Option<String> {
    paths.iter().find_map(|path| at(payload, path).and_then(line_of))
}

fn isk(payload: &Value, paths: &[Path]) -> Option<String> {
    let amount = paths.iter().find_map(|path| at(payload, path)?.as_f64());
    match amount {
        Some(amount) => Some(format!("{:.1}M ISK", amount / 1_000_000.0)),
        None => shown(payload, paths),
    }
}

/// Only digits get into the link, whatever the payload holds.
fn kill_link(payload: &Value) -> Option<String> {
    let id = match payload.get("killmail_id")? {
        Value::Number(id) => id.as_u64()?,
        Value::String(id) => id.parse().ok()?,
        _ => return None,
    };
    Some(format!("https://zkillboard.com/kill/{id}/"))
}

/// The longest line taken out of a payload, in bytes: no chat shows more.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The longest code block taken out of a payload, in bytes; likewise.
const CODE_BYTES_MAX: usize = 16 * 1024;

/// A value as a line for people; `None` where there is nothing to show.
fn line_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => one_line(text),
        Value::Number(number) => number_text(number),
        Value::Bool(yes) => yes.to_string(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let mut list = String::new();
            for item in items.iter().filter_map(line_of) {
                if list.len() > LINE_BYTES_MAX {
                    break;
                }
                list.push_str(if list.is_empty() { "" } else { ", " });
                list.push_str(&item);
            }
            list
        }
        other => one_line(&other.to_string()),
    };
    (!text.is_empty()).then_some(text)
}

/// The number as JavaScript writes it.
fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => ryu_js::Buffer::new().format(float).to_owned(),
        _ => number.to_string(),
    }
}

/// The text without control characters and line breaks, each run of white space made one space, so that it is neither
/// blank nor able to start a line of its own.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control() || is_blank(c));
    for word in words.filter(|word| !word.is_empty()) {
        if line.len() > LINE_BYTES_MAX {
            break;
        }
        line.push_str(if line.is_empty() { "" } else { " " });
        let end = word.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LINE_BYTES_MAX).last();
        line.push_str(&word[..end.unwrap_or(0)]);
    }
    line
}

/// Characters that are no white space to Unicode and yet leave a text blank or turn its direction around.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{feff}')
        || ('\u{200b}'..='\u{200f}').contains(&c) && c != '\u{200d}'
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{206f}').contains(&c)
}

/// Canonical JSON with line breaks and two spaces of indentation, every number and key as it was; ends early, at a
/// character, when it is longer than `bytes_max`.
fn laid_out(json: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        // deeper than that an indentation shows nothing more
        out.extend(std::iter::repeat_n("  ", depth.min(16)));
    };
    while let Some(c) = chars.next() {
        if out.len() > bytes_max {
            break;
        }
        match c {
            _ if in_string => {
                in_string = escaped || c != '"';
                escaped = !escaped && c == '\\';
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_as_javascript_does() {
        let json = r#"{"b":[1,2.5,{}],"a":{"x":"a, {b}: \"c\\"},"e":[]}"#;
        let expected = "{\n  \"b\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"a\": {\n    \"x\": \"a, {b}: \\\"c\\\\\"\n  },\n  \"e\": []\n}";
        assert_eq!(laid_out(json, 1000), expected);
        assert!(laid_out(&format!("[\"{}\"]", "x".repeat(1000)), 100).len() < 110);
    }

    #[test]
    fn values_of_any_type_have_one_line_or_none() {
        for (json, line) in [
            ("null", None),
            ("\"  \\n\\t\"", None),
            ("\"\\u200b\\ufeff\"", None),
            ("\"a\\n b\\u0000c\"", Some("a b c")),
            ("[]", None),
            ("[null,\" \"]", None),
            ("[\"C3\",\"HS\",5]", Some("C3, HS, 5")),
            ("[[1],{\"a\":\"b\"}]", Some("[[1],{\"a\":\"b\"}]")),
            ("250000000", Some("250000000")),
            ("2.5e8", Some("250000000")),
            ("1.5", Some("1.5")),
            ("true", Some("true")),
        ] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(line_of(&value).as_deref(), line, "{json}");
        }
        assert!(one_line(&"é".repeat(20_000)).len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn a_link_holds_digits_only() {
        let link = |json| kill_link(&serde_json::from_str(json).unwrap());
        assert_eq!(link(r#"{"killmail_id":12345678}"#).as_deref(), Some("https://zkillboard.com/kill/12345678/"));
        assert_eq!(link(r#"{"killmail_id":"12345678"}"#).as_deref(), Some("https://zkillboard.com/kill/12345678/"));
        for none in [r#"{}"#, r#"{"killmail_id":"1/../x"}"#, r#"{"killmail_id":-1}"#, r#"{"killmail_id":[1]}"#] {
            assert_eq!(link(none), None, "{none}");
        }
    }
}
