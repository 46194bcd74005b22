//! What the type of an event is, where a sender has its own form: in a header, somewhere in the body, or always the same.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::auth::{Authentication, Headers};
use super::pointer;
use crate::model::event::{EventType, TYPE_BYTES_MAX};

/// Rules that one source may try, and the longest text in one.
pub const RULES_MAX: usize = 8;
pub const RULE_BYTES_MAX: usize = 128;

/// Where to look for the type of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Rule {
    /// The value of a header.
    Header { header: String },
    /// A text, number or boolean in the body, by JSON pointer (RFC 6901).
    Pointer { pointer: String },
    /// The name of the first member of the body that is not called so.
    Besides { besides: String },
    /// Always this type.
    Fixed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    #[error("a header is named by 1 to 128 of the characters A-Z a-z 0-9 -")]
    Header,
    #[error("a pointer is a JSON pointer (RFC 6901) of up to 128 bytes, for example /type")]
    Pointer,
    #[error("besides is the name of a member, of 1 to 128 bytes")]
    Besides,
    #[error("a fixed type is 1 to 64 of the characters A-Z a-z 0-9 _ . : -")]
    Fixed,
    #[error("must be {{\"header\": name}}, {{\"pointer\": \"/path\"}}, a type, or a list of 1 to 8 of these")]
    Form,
}

impl Rule {
    /// Reads rules as they are written on the wire: one, or a list of which the first that finds something counts.
    ///
    /// # Errors
    /// [`BadRule`] says which part of a rule has the wrong form, or that there are too many rules.
    pub fn list(value: serde_json::Value) -> Result<Vec<Rule>, BadRule> {
        let rules = match value {
            serde_json::Value::Array(list) => list,
            one => vec![one],
        };
        if !(1..=RULES_MAX).contains(&rules.len()) {
            return Err(BadRule::Form);
        }
        let rule = |value| {
            let rule: Rule = serde_json::from_value(value).map_err(|_| BadRule::Form)?;
            rule.check().map(|()| rule)
        };
        rules.into_iter().map(rule).collect()
    }

    fn check(&self) -> Result<(), BadRule> {
        let fits = |text: &str| (1..=RULE_BYTES_MAX).contains(&text.len());
        let (good, otherwise) = match self {
            Rule::Header { header: name } => {
                (fits(name) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), BadRule::Header)
            }
            Rule::Pointer { pointer } => (fits(pointer) && pointer::is_pointer(pointer), BadRule::Pointer),
            Rule::Besides { besides } => (fits(besides), BadRule::Besides),
            Rule::Fixed(text) => (EventType::new(text).is_ok(), BadRule::Fixed),
        };
        if good { Ok(()) } else { Err(otherwise) }
    }

    /// What counts where the owner of a source says nothing. None: the events come in our own form.
    pub fn defaults(authentication: Authentication) -> Vec<Rule> {
        authentication.preset().map_or_else(Vec::new, |preset| preset.event_type.clone())
    }

    /// The type that the first rule finds which finds one. `body` is JSON.
    ///
    /// # Errors
    /// What it found is longer than a type may be.
    pub fn first(rules: &[Rule], headers: &dyn Headers, body: &str) -> Result<Option<EventType>, TooLong> {
        for rule in rules {
            let found: Option<Cow<'_, str>> = match rule {
                Rule::Header { header } => headers.get(header).map(Into::into),
                Rule::Pointer { pointer } => pointer::at(body, pointer).and_then(pointer::scalar),
                Rule::Besides { besides } => pointer::name_besides(body, besides).map(Into::into),
                Rule::Fixed(text) => Some(text.into()),
            };
            if let Some(kind) = found.map(|text| fitting(&text)).transpose()?.flatten() {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    /// What the rules look at, for whoever has to mend a body in which they found nothing.
    pub fn described(rules: &[Rule]) -> String {
        let one = |rule: &Rule| match rule {
            Rule::Header { header } => format!("the header {header}"),
            Rule::Pointer { pointer } => pointer.clone(),
            Rule::Besides { besides } => format!("a member besides {besides}"),
            Rule::Fixed(text) => text.clone(),
        };
        rules.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// A type that a sender gives is longer than a type may be. It is not cut, so that no two types become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names an event type of {chars} characters; a type has {TYPE_BYTES_MAX} at most")]
pub struct TooLong {
    pub chars: usize,
}

/// The text as an event type: `_` for each character that a type cannot have. None: there is nothing in it.
fn fitting(text: &str) -> Result<Option<EventType>, TooLong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
    let chars = text.trim().chars().count();
    if chars > TYPE_BYTES_MAX {
        return Err(TooLong { chars });
    }
    let fitting: String = text.trim().chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    Ok(EventType::new(&fitting).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_rule_that_finds_something_names_the_type() {
        let rules = Rule::list(json!([{"header": "X-Kind"}, {"pointer": "/event/type"}, "other"])).expect("rules");
        let kind = |headers: &[(&str, &str)], body: &str| {
            Rule::first(&rules, &headers, body).expect("no long type").expect("a type").to_string()
        };
        assert_eq!(kind(&[("x-kind", "push")], r#"{"event":{"type":"message"}}"#), "push");
        assert_eq!(kind(&[], r#"{"event":{"type":"message"}}"#), "message");
        assert_eq!(kind(&[("x-kind", " ")], r#"{"event":{"type":[1]}}"#), "other");
    }

    #[test]
    fn characters_that_a_type_cannot_have_are_replaced_and_none_is_cut_off() {
        let of = |text: &str| fitting(text).map(|kind| kind.map(|kind| kind.to_string()));
        assert_eq!(of("checkout.session completed/ä"), Ok(Some("checkout.session_completed__".into())));
        assert_eq!(of(&format!(" {} ", "ä".repeat(64))), Ok(Some("_".repeat(64))));
        assert_eq!(of(&"a".repeat(65)), Err(TooLong { chars: 65 }));
        assert_eq!(of("  "), Ok(None));
    }

    #[test]
    fn a_type_that_is_too_long_is_not_passed_over_for_a_later_rule() {
        let rules = Rule::list(json!([{"pointer": "/type"}, "other"])).expect("rules");
        let body = json!({ "type": "x".repeat(65) }).to_string();
        assert_eq!(Rule::first(&rules, &[].as_slice(), &body), Err(TooLong { chars: 65 }));
    }

    #[test]
    fn rules_are_read_in_each_of_their_forms_and_no_other() {
        for good in [json!("push"), json!({"header": "X-GitHub-Event"}), json!([{"pointer": "/type"}])] {
            assert!(Rule::list(good.clone()).is_ok(), "{good}");
        }
        for bad in [
            json!(null),
            json!(7),
            json!([]),
            json!(""),
            json!("a b"),
            json!({"header": ""}),
            json!({"header": "a b"}),
            json!({"pointer": "type"}),
            json!({"pointer": "/type", "header": "x"}),
            json!({"path": "/type"}),
            json!(vec!["a"; 9]),
        ] {
            assert!(Rule::list(bad.clone()).is_err(), "{bad}");
        }
    }
}
