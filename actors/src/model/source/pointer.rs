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

/// Like [`at`], with `*` for each element of an array: what is found in each, or that nothing is there.
pub(super) fn each<'a>(text: &'a str, pointer: &str) -> Vec<Option<&'a str>> {
    let mut found = vec![Some(text)];
    for token in pointer.split('/').skip(1) {
        let step = |text: &'a str| match (token, text.as_bytes().first()) {
            ("*", Some(b'[')) => elements(text, usize::MAX).unwrap_or_default().0.into_iter().map(Some).collect(),
            _ => vec![at(text, &format!("/{token}"))],
        };
        found = found.into_iter().flat_map(|text| text.map_or_else(|| vec![None], step)).collect();
    }
    found
}

/// The text without what stands at these pointers: in its place says a text that something was there.
pub(super) fn redacted(text: &str, pointers: &[&str]) -> String {
    let place = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
    let found = pointers.iter().flat_map(|pointer| each(text, pointer).into_iter().flatten());
    let mut places: Vec<_> = found.map(|part| (place(part), part.len())).collect();
    places.sort_unstable();
    places.dedup();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, length) in places {
        // what stands within something that was taken out is gone already
        if at >= from {
            out.push_str(&text[from..at]);
            out.push_str("\"[removed]\"");
            from = at + length;
        }
    }
    out.push_str(&text[from..]);
    out
}

/// The name of the first member of an object that is not called `besides`.
pub(super) fn name_besides(object: &str, besides: &str) -> Option<String> {
    serde_json::Deserializer::from_str(object).deserialize_map(NameBesides(besides)).ok()?
}

struct NameBesides<'n>(&'n str);

impl<'de> Visitor<'de> for NameBesides<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            members.next_value::<IgnoredAny>()?;
            if found.is_none() && name != self.0 {
                found = Some(name.into_owned());
            }
        }
        Ok(found)
    }
}

/// The value of a member of an object, by its name.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    serde_json::Deserializer::from_str(object).deserialize_map(Member(name)).ok()?
}

/// The texts of the first `limit` elements of an array, and how many there are; none where it is no array.
pub(super) fn elements(array: &str, limit: usize) -> Option<(Vec<&str>, usize)> {
    serde_json::Deserializer::from_str(array).deserialize_seq(Elements(limit)).ok()
}

struct Elements(usize);

impl<'de> Visitor<'de> for Elements {
    type Value = (Vec<&'de str>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (mut first, mut count) = (Vec::new(), 0);
        while let Some(element) = elements.next_element::<&RawValue>()? {
            if count < self.0 {
                first.push(element.get());
            }
            count += 1;
        }
        Ok((first, count))
    }
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
    fn a_star_means_each_element_and_a_redaction_takes_out_what_is_there() {
        let text = r#"{"value":[{"s":"x","n":1},{"n":2}],"s":{"s":1}}"#;
        assert_eq!(each(text, "/value/*/s"), [Some("\"x\""), None]);
        assert_eq!(each(text, "/none/*/s"), [None]);
        assert!(each(r#"{"value":[]}"#, "/value/*/s").is_empty());
        let expected = r#"{"value":[{"s":"[removed]","n":1},{"n":2}],"s":"[removed]"}"#;
        assert_eq!(redacted(text, &["/s", "/value/*/s", "/s/s", "/absent"]), expected);
        assert_eq!(redacted("no JSON", &["/a"]), "no JSON");
    }

    #[test]
    fn a_pointer_begins_with_a_slash_and_escapes_properly() {
        assert!(["/", "/a/b", "/~0~1"].into_iter().all(is_pointer));
        assert!(!["", "a", "/~", "/~2", "/a~"].into_iter().any(is_pointer));
    }
}
