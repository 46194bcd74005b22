//! How each family spells the names of fields. Inside, and in maps and the feed, they are in snake_case; clients of
//! organizations read camelCase. Whatever the family, both spellings are understood.

use serde_json::{Map, Value};

use super::family::ApiFamily;

/// Names that are other words, not only other letters, in organizations.
const OTHER_WORDS: [(&str, &str); 2] = [("inserted_at", "createdAt"), ("session", "sessionId")];

/// A name as the clients of this family read it.
pub fn spelled(family: ApiFamily, name: &str) -> String {
    if family != ApiFamily::Organizations {
        return name.into();
    }
    if let Some((_, word)) = OTHER_WORDS.iter().find(|(own, _)| *own == name) {
        return (*word).into();
    }
    let mut out = String::with_capacity(name.len());
    let mut capital = false;
    for c in name.chars() {
        if c == '_' {
            capital = !out.is_empty();
        } else {
            out.push(if capital { c.to_ascii_uppercase() } else { c });
            capital = false;
        }
    }
    out
}

/// The object with its own names as the clients of this family read them. What its values hold is not touched: there may be
/// names of others, such as those of headers.
pub fn object(family: ApiFamily, value: Value) -> Value {
    match value {
        Value::Object(fields) if family == ApiFamily::Organizations => {
            fields.into_iter().map(|(name, value)| (spelled(family, &name), value)).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// A name as it is called inside, of either spelling.
pub fn understood(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    match out.as_str() {
        "created_at" => "inserted_at".into(),
        "session_id" => "session".into(),
        _ => out,
    }
}

/// The object with its own names as they are called inside.
pub fn understood_object(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (understood(&name), value)).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// The path of a field, such as `retry_policy.attempts`, as the clients of this family write it. Names of headers are
/// theirs.
pub fn path(family: ApiFamily, field: &str) -> String {
    match field.split_once('.') {
        Some((first @ "custom_headers", header)) => format!("{}.{header}", spelled(family, first)),
        Some((first, rest)) => format!("{}.{}", spelled(family, first), path(family, rest)),
        None => spelled(family, field),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_understood_in_either_spelling() {
        for name in ["url", "custom_headers", "last_error_at", "inserted_at", "session", "batch"] {
            assert_eq!(spelled(ApiFamily::Maps, name), name);
            assert_eq!(understood(name), name);
            assert_eq!(understood(&spelled(ApiFamily::Organizations, name)), name);
        }
        assert_eq!(spelled(ApiFamily::Organizations, "last_error_at"), "lastErrorAt");
        assert_eq!(spelled(ApiFamily::Organizations, "session"), "sessionId");
    }

    #[test]
    fn only_the_own_names_of_an_object_are_spelled() {
        let value = json!({"custom_headers": {"X_a": 1}, "rate_limit": null});
        let shown = object(ApiFamily::Organizations, value.clone());
        assert_eq!(shown, json!({"customHeaders": {"X_a": 1}, "rateLimit": null}));
        assert_eq!(understood_object(shown), value);
        assert_eq!(object(ApiFamily::Feed, value.clone()), value);
    }

    #[test]
    fn a_path_keeps_the_names_of_headers() {
        assert_eq!(path(ApiFamily::Organizations, "custom_headers.X_a.b"), "customHeaders.X_a.b");
        assert_eq!(path(ApiFamily::Organizations, "batch.max_events"), "batch.maxEvents");
        assert_eq!(path(ApiFamily::Maps, "batch.max_events"), "batch.max_events");
    }
}
