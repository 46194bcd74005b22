//! Forms (`application/x-www-form-urlencoded`) as the JSON that they stand for.

use std::borrow::Cow;

use super::body::Refused;
use crate::model::draft::{DraftError, FieldError};
use crate::model::json::{Canonical, without_lone_surrogates};

/// Fields of one form, at most.
const FIELDS_MAX: usize = 1_000;
/// The field in which some providers send the whole of their JSON.
const WRAPPED: &str = "payload";
/// What names the type of an event in a form of our own fields, the first that is there.
const KINDS: [&str; 3] = ["event_type", "type", "event"];
/// The other fields of an event that a form may have.
const FIELDS: [&str; 4] = ["timestamp", "user_id", "session", "dedupe_id"];

/// The fields by name in the order of their first values.
type Fields<'a> = Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>;

/// An object of all fields; a list where a field is there more than once. `wraps_json`: a field `payload` is the JSON itself.
///
/// # Errors
/// The form is not UTF-8, or has too many fields.
pub(super) fn json(body: &[u8], wraps_json: bool) -> Result<String, Refused> {
    let fields = fields(body)?;
    match fields.iter().find(|(name, _)| wraps_json && name == WRAPPED) {
        Some((_, values)) if values.len() == 1 => Ok(without_lone_surrogates(&values[0]).into_owned()),
        Some(_) => Err(wrong(WRAPPED, "is in the form more than once")),
        None => Ok(object(fields.iter())),
    }
}

/// The event that a form stands for whose sender has no form of its own: `event_type` and the other fields of an event, and
/// everything else as properties.
///
/// # Errors
/// The form is not UTF-8, has too many fields, or a field of the event more than once.
pub(super) fn event(body: &[u8]) -> Result<String, Refused> {
    let fields = fields(body)?;
    let kind = KINDS.into_iter().find(|kind| fields.iter().any(|(name, _)| name == kind));
    let is_own = |name: &str| kind == Some(name) || FIELDS.contains(&name);
    let mut members = Vec::new();
    for (name, values) in fields.iter().filter(|(name, _)| is_own(name)) {
        let [value] = values.as_slice() else { return Err(wrong(name, "is in the form more than once")) };
        let is_time = name == "timestamp" && !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let value = if is_time { value.to_string() } else { Canonical::of_text(value).as_str().to_owned() };
        let name = if kind == Some(&**name) { KINDS[0] } else { name };
        members.push(format!("{}:{value}", Canonical::of_text(name).as_str()));
    }
    let properties = object(fields.iter().filter(|(name, _)| !is_own(name)));
    members.push(format!("\"properties\":{properties}"));
    Ok(format!("{{{}}}", members.join(",")))
}

/// The fields by name, each with its values sorted and without repetition, all one after the other: what Twilio signs behind
/// the address. Nothing for a body that is no form.
pub(super) fn sorted(body: &[u8]) -> String {
    let mut pairs: Vec<_> = url::form_urlencoded::parse(body).take(FIELDS_MAX).collect();
    pairs.sort();
    pairs.dedup();
    let mut text = String::new();
    // each value stands behind its name, also where the name repeats
    for (name, value) in &pairs {
        text.push_str(name);
        text.push_str(value);
    }
    text
}

fn fields(body: &[u8]) -> Result<Fields<'_>, Refused> {
    let mut fields: Fields<'_> = Vec::new();
    for (n, (name, value)) in url::form_urlencoded::parse(body).enumerate() {
        if n == FIELDS_MAX {
            return Err(wrong("", "the form has more than 1000 fields"));
        }
        // what stands here was no UTF-8
        if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
            return Err(wrong("", "the form is not UTF-8"));
        }
        match fields.iter_mut().find(|(other, _)| *other == name) {
            Some((_, values)) => values.push(value),
            None => fields.push((name, vec![value])),
        }
    }
    Ok(fields)
}

fn object<'f>(fields: impl Iterator<Item = &'f (Cow<'f, str>, Vec<Cow<'f, str>>)>) -> String {
    let text = |value: &Cow<'_, str>| Canonical::of_text(value).as_str().to_owned();
    let member = |(name, values): &(Cow<'_, str>, Vec<Cow<'_, str>>)| {
        let value = match values.as_slice() {
            [one] => text(one),
            several => format!("[{}]", several.iter().map(text).collect::<Vec<_>>().join(",")),
        };
        format!("{}:{value}", text(name))
    };
    format!("{{{}}}", fields.map(member).collect::<Vec<_>>().join(","))
}

fn wrong(field: &str, message: &str) -> Refused {
    DraftError::Invalid(vec![FieldError { index: 0, field: field.into(), message: message.into() }])
}
