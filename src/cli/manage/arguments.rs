//! What several of these commands take: names that can stand in a path, JSON from a flag, a file or standard input.

use std::io::Read;

use serde_json::{Map, Value as Json};

use crate::cli::channel::{Channel, is_plain};
use crate::cli::{Failure, suggest};

/// The largest body that is read from a file or from standard input.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A map or an organization, as the first argument of verbs that need a channel.
///
/// # Errors
/// What to give instead.
pub fn channel(text: &str) -> Result<Channel, String> {
    match text.parse()? {
        Channel::Feed => Err("give map:ID or organization:ID; the feed is no channel of its own".to_owned()),
        channel => Ok(channel),
    }
}

/// A map by its id or slug; `map:` before it may be there.
///
/// # Errors
/// What to give instead.
pub fn map(text: &str) -> Result<Channel, String> {
    named(text, &["map:"], "give the id or slug of a map, such as home or map:home").map(Channel::Map)
}

/// An organization by its id; `organization:` or `org:` before it may be there.
///
/// # Errors
/// What to give instead.
pub fn organization(text: &str) -> Result<Channel, String> {
    const EXPECTED: &str = "give the id of an organization, such as acme or organization:acme";
    named(text, &["organization:", "org:"], EXPECTED).map(Channel::Organization)
}

fn named(text: &str, prefixes: &[&str], expected: &str) -> Result<String, String> {
    let name = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    if is_plain(name) { Ok(name.to_owned()) } else { Err(expected.to_owned()) }
}

/// An id as the server gives it, which can stand in a path by itself.
///
/// # Errors
/// What to give instead.
pub fn id(text: &str) -> Result<String, String> {
    if is_plain(text) { Ok(text.to_owned()) } else { Err("give an id, as the list shows it".to_owned()) }
}

/// `on` or `off`, also as `true` or `false`.
///
/// # Errors
/// What to give instead.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("give on or off".to_owned()),
    }
}

/// A header as `NAME: VALUE`.
///
/// # Errors
/// What to give instead.
pub fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("give a header as 'NAME: VALUE'")?;
    match name.trim() {
        "" => Err("give a header as 'NAME: VALUE'".to_owned()),
        name => Ok((name.to_owned(), value.trim().to_owned())),
    }
}

/// The text of a flag: the text itself, that of a file (`@FILE`), or standard input (`-`). Blocks.
///
/// # Errors
/// When the file cannot be read.
pub fn text(flag: &str) -> Result<String, Failure> {
    fn read(from: std::io::Result<impl Read>, name: &str) -> Result<String, Failure> {
        let mut text = String::new();
        let read = from.and_then(|from| from.take(BODY_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|e| Failure::Failed(format!("cannot read {name}: {e}; check its name")))?;
        Ok(text)
    }
    match flag.strip_prefix('@') {
        Some(path) => read(std::fs::File::open(path), path),
        None if flag == "-" => read(Ok(std::io::stdin()), "standard input"),
        None => Ok(flag.to_owned()),
    }
}

/// The JSON of a flag, which is given as [`text`] says.
///
/// # Errors
/// Wrong usage when it is no JSON; when the file cannot be read.
pub fn json(name: &str, flag: &str) -> Result<Json, Failure> {
    serde_json::from_str(&text(flag)?).map_err(|e| {
        let hint = if flag.starts_with(['{', '[', '-', '@', '"']) { "" } else { "; a file is given as @FILE" };
        Failure::Usage(format!("{name} is no JSON: {e}{hint}"))
    })
}

/// The object that `--body` gives, or an empty one.
///
/// # Errors
/// As [`json`]; wrong usage when it is no object.
pub fn body(flag: Option<&str>) -> Result<Map<String, Json>, Failure> {
    let Some(flag) = flag else { return Ok(Map::new()) };
    match json("--body", flag)? {
        Json::Object(body) => Ok(body),
        _ => Err(Failure::Usage("--body must be a JSON object".to_owned())),
    }
}

/// Puts a field into a body where its flag was given.
pub fn put(body: &mut Map<String, Json>, name: &str, value: Option<impl Into<Json>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

/// Wrong usage of a verb that was to change nothing.
///
/// # Errors
/// Always, when the body is empty.
pub fn something(body: Map<String, Json>, flags: &str) -> Result<Json, Failure> {
    match body.is_empty() {
        true => Err(Failure::Usage(format!("nothing is to be changed; give {flags}"))),
        false => Ok(Json::Object(body)),
    }
}

/// One of the catalogue's types is meant, if it is not this one.
pub fn type_hint(kind: &str) -> String {
    let types = actors::model::catalogue::types();
    suggest::did_you_mean(kind, types.iter().map(|info| info.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_organizations_are_named_with_or_without_their_kind() {
        for text in ["home", "map:home"] {
            assert_eq!(map(text), Ok(Channel::Map("home".into())));
        }
        for text in ["acme", "org:acme", "organization:acme"] {
            assert_eq!(organization(text), Ok(Channel::Organization("acme".into())));
        }
        for text in ["organization:acme", "a/b", "", "map:"] {
            assert!(map(text).is_err(), "{text}");
        }
        assert!(channel("feed").is_err() && id("../x").is_err() && id("tok_1").is_ok());
    }

    #[test]
    fn headers_keep_what_stands_behind_their_first_colon() {
        assert_eq!(header("X-A: b:c "), Ok(("X-A".into(), "b:c".into())));
        assert!(header("X-A").is_err() && header(": b").is_err());
        assert_eq!((switch("on"), switch("false")), (Ok(true), Ok(false)));
    }
}
