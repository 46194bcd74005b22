//! JSON for people: indented, with colours, its numbers with the digits that they came with.

use super::output::{DIM, GOOD, NAME, tame};

/// Spaces of one level.
const INDENT: usize = 2;
/// Deeper JSON is left on one line.
const DEPTH_MAX: usize = 64;

/// A JSON value without colours.
pub fn json(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).map_or_else(|_| value.to_string(), |text| plain_lines(&text))
}

/// Control characters inside of JSON become escapes, its line breaks stay.
fn plain_lines(text: &str) -> String {
    text.split('\n').map(tame).collect::<Vec<_>>().join("\n")
}

/// The text of a JSON value, indented by so many spaces and coloured. Nothing but white space between its tokens changes,
/// so that large numbers keep their digits. What is no JSON comes out somehow.
pub fn coloured(text: &str, margin: usize) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut rest = text;
    let line = |depth: usize| format!("\n{:width$}", "", width = margin + INDENT * depth.min(DEPTH_MAX));
    while let Some(first) = rest.chars().next() {
        let (token, behind) = rest.split_at(token_len(rest));
        rest = behind;
        match first {
            '{' | '[' => {
                let next = rest.trim_start();
                if next.starts_with(['}', ']']) {
                    out.push(first);
                    out.push_str(&next[..1]);
                    rest = &next[1..];
                    continue;
                }
                depth += 1;
                out.push(first);
                out.push_str(&line(depth));
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                out.push_str(&line(depth));
                out.push(first);
            }
            ',' => {
                out.push(first);
                out.push_str(&line(depth));
            }
            ':' => out.push_str(": "),
            '"' if rest.trim_start().starts_with(':') => out.push_str(&format!("{NAME}{}{NAME:#}", tame(token))),
            '"' => out.push_str(&format!("{GOOD}{}{GOOD:#}", tame(token))),
            c if c.is_whitespace() => {}
            't' | 'f' | 'n' => out.push_str(&format!("{DIM}{}{DIM:#}", tame(token))),
            _ => out.push_str(&tame(token)),
        }
    }
    out
}

/// Bytes of the first token of a text that is not empty.
fn token_len(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    match text.as_bytes()[0] {
        b'"' => {
            let mut escaped = false;
            for (at, byte) in text.bytes().enumerate().skip(1) {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => return at + 1,
                    _ => {}
                }
            }
            text.len()
        }
        b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => 1,
        _ => {
            let end = text.find(['{', '}', '[', ']', ',', ':', '"', ' ', '\t', '\n', '\r']);
            end.unwrap_or(text.len()).max(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(&coloured(text, 2)).to_string()
    }

    #[test]
    fn json_is_indented_and_keeps_its_digits_and_texts() {
        assert_eq!(
            plain(r#"{"a":123456789012345678901234567890,"b":[1,{"c":"x:,\"{"}],"e":{},"f":[],"g":true}"#),
            "{\n    \"a\": 123456789012345678901234567890,\n    \"b\": [\n      1,\n      {\n        \"c\": \"x:,\\\"{\"\n      }\n    ],\n    \"e\": {},\n    \"f\": [],\n    \"g\": true\n  }"
        );
        assert_eq!(plain("{\"a\":\"\u{9b}2J\"}"), "{\n    \"a\": \"\\u009b2J\"\n  }");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::hash_map("\\PC{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_means_the_same(value in any_json()) {
            let shown = plain(&value.to_string());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        }

        #[test]
        fn what_is_no_json_is_shown_without_a_panic(text in "\\PC{0,40}") {
            plain(&text);
        }
    }
}
