//! JSON that means one thing to every reader: no name twice in an object, no NUL in a text.
//!
//! Parsers differ over which of two equal names counts, and programs in C over where a text with a NUL ends. Whoever signs
//! one meaning and sends another gets nothing stored.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::model::json::{DEPTH_MAX, JsonError, SeenNames, pass_over_scalars};

/// Up to this many names an object is searched pair by pair, beyond it by sorting.
const PAIRWISE_NAMES_MAX: usize = 16;

/// Reads a whole JSON text and says what of it is ambiguous, or no JSON at all (RFC 8259).
pub(super) fn check(text: &str) -> Result<(), JsonError> {
    let mut source = serde_json::Deserializer::from_str(text);
    let mut names = Vec::with_capacity(16);
    Value { names: &mut names, depth: 0 }.deserialize(&mut source)?;
    source.end()?;
    Ok(())
}

/// A name as it was written, borrowed where it has no escape.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name<'de>(std::borrow::Cow<'de, str>);

/// The value that comes next; `names` are those of the objects around it that are still open.
struct Value<'n, 'de> {
    names: &'n mut Vec<Name<'de>>,
    depth: usize,
}

fn nul<E: de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a text holds the character NUL")) } else { Ok(()) }
}

impl Value<'_, '_> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    pass_over_scalars!();

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        nul(text)
    }

    /// A text without escapes: serde_json refuses raw control characters, NUL among them.
    fn visit_borrowed_str<E>(self, _: &'de str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        while elements.next_element_seed(Value { names: self.names, depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        let base = self.names.len();
        let mut seen = SeenNames::default();
        while let Some(name) = members.next_key_seed(NameSeed)? {
            seen.note(name.0.as_bytes());
            self.names.push(name);
            members.next_value_seed(Value { names: self.names, depth })?;
        }
        if seen.may_repeat() && has_duplicates(&mut self.names[base..]) {
            return Err(de::Error::custom("an object has a name twice"));
        }
        self.names.truncate(base);
        Ok(())
    }
}

struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name<'de>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Name<'de>, D::Error> {
        source.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Name<'de>, E> {
        nul(name)?;
        Ok(Name(name.to_owned().into()))
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(name.into()))
    }
}

fn has_duplicates(names: &mut [Name<'_>]) -> bool {
    if names.len() <= PAIRWISE_NAMES_MAX {
        return names.iter().enumerate().any(|(i, a)| names[..i].contains(a));
    }
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_readers_could_take_in_two_ways_is_refused() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"x":{"y":[{"a":1,"b":2,"a":3}]}}"#,
            "{\"a\":\"\\u0000\"}",
            "{\"\\u0000\":1}",
            "{\"a\":\"\0\"}",
            "",
            "{",
            "{}{}",
            "[1,]",
            "{'a':1}",
            "NaN",
            &format!("{}1{}", "[".repeat(121), "]".repeat(121)),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in [
            r#"{"a":{"a":[{"a":1},{"a":2}]},"b":null}"#,
            "1",
            r#""\u0001""#,
            &format!("{}1{}", "[".repeat(120), "]".repeat(120)),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_duplicate_among_many_names_is_found() {
        let members: Vec<String> = (0..200).map(|n| format!("\"k{n}\":{n}")).collect();
        assert_eq!(check(&format!("{{{}}}", members.join(","))), Ok(()));
        assert!(check(&format!("{{{},\"k77\":1}}", members.join(","))).is_err());
    }

    proptest! {
        #[test]
        fn an_object_passes_exactly_if_its_names_differ(names in proptest::collection::vec("[a-c]{0,3}", 0..30)) {
            let members: Vec<String> = names.iter().map(|name| format!("\"{name}\":[]")).collect();
            let distinct = names.iter().collect::<BTreeSet<_>>().len() == names.len();
            prop_assert_eq!(check(&format!("{{{}}}", members.join(","))).is_ok(), distinct);
        }
    }
}
