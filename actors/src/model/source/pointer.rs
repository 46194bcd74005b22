//! JSON pointers (RFC 6901) into a text, without making a tree of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Whether a text is a pointer to something below the whole.
pub(super) fn is_pointer(text: &str) -> bool {
    let mut escapes = text.split('~').skip(1);
    text.starts_with('/') && escapes.all(|after| after.starts_with(['0', '1']))
}

/// The JSON text to which the pointer points; none where there is nothing.
pub(super) fn at<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    pointer.strip_prefix('/')?.split('/').try_fold(text, |text, token| {
        let token = token.replace("~1", "/").replace("~0", "~");
        match text.as_bytes().first()? {
            b'{' => member(text, &token),
            b'[' => element(text, token.parse().ok()?),
            _ => None,
        }
    })
}

/// The value of a member of an object, by its name.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    serde_json::Deserializer::from_str(object).deserialize_map(Member(name)).ok()?
}

fn element(array: &str, index: usize) -> Option<&str> {
    serde_json::Deserializer::from_str(array).deserialize_seq(Element(index)).ok()?
}

/// What a JSON text of one value says as plain text: that of a string, number or boolean; none for anything else.
pub(super) fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
        b'{' | b'[' | b'n' => None,
        _ => Some(json.into()),
    }
}

struct Member<'n>(&'n str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        // read to its end, as the parser wants it
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            match name == self.0 {
                true => found = Some(members.next_value::<&RawValue>()?.get()),
                false => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

struct Element(usize);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut at) = (None, 0);
        while let Some(element) = elements.next_element::<&RawValue>()? {
            if at == self.0 {
                found = Some(element.get());
            }
            at += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_finds_what_it_points_to() {
        let text = r#"{"a":{"b":["x",{"c":7}]},"d/e":true,"~":"tilde","\u0066":null}"#;
        for (pointer, found) in [
            ("/a/b/0", Some("\"x\"")),
            ("/a/b/1/c", Some("7")),
            ("/d~1e", Some("true")),
            ("/~0", Some("\"tilde\"")),
            ("/f", Some("null")),
            ("/a/b/2", None),
            ("/a/b/-1", None),
            ("/a/b/c", None),
            ("/nothing", None),
            ("/d~1e/x", None),
        ] {
            assert_eq!(at(text, pointer), found, "{pointer}");
        }
    }

    #[test]
    fn a_pointer_begins_with_a_slash_and_escapes_properly() {
        assert!(["/", "/a/b", "/~0~1"].into_iter().all(is_pointer));
        assert!(!["", "a", "/~", "/~2", "/a~"].into_iter().any(is_pointer));
    }
}
