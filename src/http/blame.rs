//! Which field of a body of JSON is to blame when the body does not fit its type: serde says only the line and the column.

/// Where an object or list begins, and what came in it last.
struct Open {
    is_object: bool,
    /// The name of the field that is being read, or was read last.
    name: String,
}

/// The path of the field, such as `name` or `jwt.algorithm`: of lists it names the field that holds them. None where the whole
/// body is meant.
pub fn field_of(text: &str, error: &serde_json::Error) -> Option<String> {
    let read = &text[..read_before(text, error)?];
    let message = error.to_string();
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|before| message.strip_prefix(before))
        .and_then(|rest| Some(&rest[..rest.find('`')?]));
    // what is noticed when an object is whole comes behind its end
    let open = open_at(read.strip_suffix('}').unwrap_or(read))?;
    let mut path: Vec<&str> = open.iter().filter(|open| open.is_object).map(|open| open.name.as_str()).collect();
    if let Some(named) = named {
        // the last name is that of a field beside the one that is meant
        if open.last().is_some_and(|open| open.is_object) {
            path.pop();
        }
        path.push(named);
    }
    path.retain(|name| !name.is_empty());
    (!path.is_empty()).then(|| path.join("."))
}

/// How many bytes of the text were read when it failed.
fn read_before(text: &str, error: &serde_json::Error) -> Option<usize> {
    let line_begins = match error.line() {
        0 => return None,
        1 => 0,
        line => text.match_indices('\n').nth(line - 2)?.0 + 1,
    };
    let at = line_begins + error.column();
    (at <= text.len() && text.is_char_boundary(at)).then_some(at)
}

/// The objects and lists that are not closed at the end of this beginning of a JSON text, the outermost first.
fn open_at(text: &str) -> Option<Vec<Open>> {
    let mut open: Vec<Open> = Vec::new();
    // the text between the last pair of quotes, which is a name when a colon follows
    let mut last = "";
    let mut rest = text;
    while let Some(at) = rest.find(['{', '[', '}', ']', '"', ':']) {
        let (what, behind) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = behind;
        match what {
            b'{' | b'[' => open.push(Open { is_object: what == b'{', name: String::new() }),
            b'}' | b']' => drop(open.pop()?),
            b':' => open.last_mut()?.name = serde_json::from_str(&format!("\"{last}\"")).ok()?,
            _ => {
                let end = end_of_string(behind)?;
                (last, rest) = (&behind[..end], &behind[end + 1..]);
            }
        }
    }
    Some(open)
}

/// Where the closing quote of a JSON string is.
fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only whether it can be read counts")]
    struct Outer {
        name: String,
        count: Option<u32>,
        kinds: Option<Vec<String>>,
        inner: Option<Inner>,
        list: Option<Vec<Inner>>,
        #[serde(default, deserialize_with = "actors::model::filter::prefixes")]
        either: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only whether it can be read counts")]
    struct Inner {
        key: String,
        word: Option<Word>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
    }

    #[test]
    fn the_field_that_does_not_fit_is_named() {
        for (what, text, field) in [
            ("missing", r#"{}"#, "name"),
            ("missing beside others", r#"{"count": 1, "kinds": []}"#, "name"),
            ("null", r#"{"name": null}"#, "name"),
            ("number", r#"{"name":5}"#, "name"),
            ("number and more", r#"{"name":5,"count":1}"#, "name"),
            ("object", r#"{"name":{"key":"x"}}"#, "name"),
            ("list", r#"{"count":1,"name":[]}"#, "name"),
            ("negative", r#"{"name":"a","count":-1}"#, "count"),
            ("in a list", r#"{"name":"a","kinds":["x",5]}"#, "kinds"),
            ("no list", r#"{"name":"a","kinds":"x"}"#, "kinds"),
            ("what is judged when it is whole", r#"{"name":"a","either":5,"count":1}"#, "either"),
            ("the same at the end", r#"{"name":"a","either":[5]}"#, "either"),
            ("unknown", r#"{"name":"a","nome":1}"#, "nome"),
            ("on a later line", "{\n  \"name\": \"a\",\r\n\n  \"count\": true\n}", "count"),
            ("missing inside", r#"{"name":"a","inner":{}}"#, "inner.key"),
            ("wrong inside", r#"{"name":"a","inner":{"key":5}}"#, "inner.key"),
            ("word inside", r#"{"name":"a","inner":{"key":"k","word":"two"}}"#, "inner.word"),
            ("unknown inside", r#"{"name":"a","inner":{"kay":5}}"#, "inner.kay"),
            ("inside of a list", r#"{"name":"a","list":[{"key":"k"},{"key":5}]}"#, "list.key"),
            ("names and texts with signs", r#"{"name":"}:{\"\\","count":"[\""}"#, "count"),
            ("names that are escaped", r#"{"n\u0061me":5}"#, "name"),
            ("twice", r#"{"name":"a","count":1,"name":"b"}"#, "name"),
            ("not ascii", r#"{"name":"Ünï 🌍","count":"ö"}"#, "count"),
        ] {
            let error = serde_json::from_str::<Outer>(text).err().expect("it does not fit");
            assert!(error.is_data(), "{what}: {error}");
            assert_eq!(field_of(text, &error).as_deref(), Some(field), "{what}: {error}");
        }
    }

    #[test]
    fn a_value_that_is_no_object_at_all_names_no_field() {
        let error = serde_json::from_str::<Outer>("5").err().expect("it does not fit");
        assert_eq!(field_of("5", &error), None);
    }
}
