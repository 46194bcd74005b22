//! Answers for people: lists in columns, one object in lines. Names come from other people, so no control character passes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use actors::hub::attention::in_words;
use serde_json::Value as Json;

use crate::cli::Failure;
use crate::cli::output::tame;

/// The longest cell of a list, in characters; `--output json` has everything.
const CELL_CHARS_MAX: usize = 60;

/// A column: its heading and the names that families have for the field.
pub struct Column(pub &'static str, pub &'static [&'static str]);

/// Fields that hold what went wrong as the server names it (`http_status 404`).
const FAILURES: [&str; 2] = ["last_error", "lastError"];

/// The value of a field, in words where the server has a code for it.
fn said<'a>(field: &str, value: &'a Json) -> Cow<'a, Json> {
    match value {
        Json::String(code) if FAILURES.contains(&field) => Cow::Owned(in_words(code).into()),
        value => Cow::Borrowed(value),
    }
}

/// Rows in columns; a column that is empty in every row is left out.
pub fn list(rows: &[Json], columns: &[Column], names: &HashMap<String, String>) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let value = |row: &Json, fields: &[&str]| {
        let mut found = fields.iter().filter_map(|field| Some(said(field, row.pointer(&format!("/{field}"))?)));
        short(&cell(&found.find(|value| !value.is_null()).unwrap_or_default(), names))
    };
    let mut shown: Vec<Vec<String>> = Vec::new();
    for Column(heading, fields) in columns {
        let cells: Vec<String> = rows.iter().map(|row| value(row, fields)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            shown.push(std::iter::once(heading.to_uppercase()).chain(cells).collect());
        }
    }
    let widths: Vec<usize> =
        shown.iter().map(|column| column.iter().map(|cell| cell.chars().count()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for at in 0..=rows.len() {
        let line: Vec<String> =
            shown.iter().zip(&widths).map(|(column, width)| format!("{:<width$}", column[at])).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The fields of an object, one a line, without those that are null.
pub fn one(object: &Json, names: &HashMap<String, String>) -> String {
    let Some(fields) = object.as_object() else { return format!("{}\n", cell(object, names)) };
    let shown: Vec<(&String, String)> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name, cell(&said(name, value), names)))
        .collect();
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in shown {
        // writing to a String cannot fail
        let _ = writeln!(text, "{}", format!("{:<width$}  {value}", tame(name)).trim_end());
    }
    text
}

/// One field of an object as a line: a text without quotes, anything else as JSON.
///
/// # Errors
/// Wrong usage when the object has no such field; the reason names those that it has.
pub fn field(object: &Json, name: &str) -> Result<String, Failure> {
    match object.get(name) {
        Some(value) => Ok(format!("{}\n", cell(value, &HashMap::new()))),
        None => {
            let known: Vec<String> = object.as_object().into_iter().flatten().map(|(name, _)| tame(name)).collect();
            Err(Failure::Usage(format!(
                "--field {name}: the answer has no such field; give one of {}",
                known.join(", ")
            )))
        }
    }
}

/// One value. Lists of plain values are joined by commas, other values are JSON.
fn cell(value: &Json, names: &HashMap<String, String>) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => tame(names.get(text).unwrap_or(text)),
        Json::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(|item| cell(item, names)).collect::<Vec<_>>().join(",")
        }
        other => tame(&other.to_string()),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        None => text.to_owned(),
        Some(_) => text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_have_the_columns_that_say_something_and_slugs_where_they_are_known() {
        let rows = [
            json!({"id": "tok_1", "channel": "map:1", "scopes": ["subscribe", "publish"], "name": "bot\u{1b}[2J"}),
            json!({"id": "tok_22", "channel": "organization:x", "scopes": [], "name": null}),
        ];
        let names = HashMap::from([("map:1".to_owned(), "map:home".to_owned())]);
        let columns = [
            Column("id", &["id"]),
            Column("channel", &["channel"]),
            Column("scopes", &["scopes"]),
            Column("name", &["name"]),
            Column("expires", &["expires_at", "expiresAt"]),
        ];
        assert_eq!(
            list(&rows, &columns, &names),
            "ID      CHANNEL         SCOPES             NAME\n\
             tok_1   map:home        subscribe,publish  bot\\u001b[2J\n\
             tok_22  organization:x\n"
        );
        assert_eq!(list(&[], &columns, &names), "none\n");
    }

    #[test]
    fn what_went_wrong_last_is_told_in_words_and_a_field_alone_stays_what_scripts_read() {
        let (none, columns) = (HashMap::new(), [Column("last error", &["last_error", "lastError"])]);
        let rows = [
            json!({"last_error": "http_status 404"}),
            json!({"last_error": null, "lastError": "timeout"}),
            json!({"lastError": "connection_\u{1b}refused"}),
        ];
        assert_eq!(
            list(&rows, &columns, &none),
            "LAST ERROR\nanswered 404\nno answer in time\nconnection \\u001brefused\n"
        );
        assert_eq!(one(&rows[0], &none), "last_error  answered 404\n");
        assert_eq!(field(&rows[0], "last_error").expect("a field"), "http_status 404\n");
    }

    #[test]
    fn a_field_is_printed_by_itself_and_one_that_is_not_there_is_refused() {
        let object = json!({"token": "st_1", "scopes": ["subscribe", "publish"], "policy": {"a": 1}, "none": null});
        for (name, line) in
            [("token", "st_1\n"), ("scopes", "subscribe,publish\n"), ("policy", "{\"a\":1}\n"), ("none", "\n")]
        {
            assert_eq!(field(&object, name).expect(name), line);
        }
        let refused = field(&object, "tokn").expect_err("no such field").to_string();
        assert!(
            refused.contains("none, policy, scopes, token") || refused.contains("token, scopes, policy, none"),
            "{refused}"
        );
    }

    #[test]
    fn an_object_is_shown_by_its_fields_and_what_is_long_is_cut_in_lists_only() {
        let long = "x".repeat(100);
        let object = json!({"id": 7, "policy": {"a": [1]}, "nothing": null, "long": long});
        let text = one(&object, &HashMap::new());
        assert_eq!(text, format!("id      7\npolicy  {{\"a\":[1]}}\nlong    {long}\n"));
        let listed = list(&[object], &[Column("long", &["long"])], &HashMap::new());
        assert_eq!(listed.lines().nth(1).expect("a row").chars().count(), CELL_CHARS_MAX);
    }
}
