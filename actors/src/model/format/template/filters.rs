//! The filters of templates. Each pays for the bytes that it reads and writes out of one purse per rendering, so that
//! neither their time nor their memory can run away; no builtin filter that makes something larger is passed on.

use std::borrow::Cow;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::WORK_BYTES_MAX;

/// Marks the error of an empty purse; the kind alone does not.
const RAN_OUT: &str = "out of work";

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", tojson);
    environment.add_filter("upper", upper);
    environment.add_filter("lower", lower);
    environment.add_filter("trim", trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("items", items);
    environment.add_filter("length", length);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("round", filters::round);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);

    environment.add_test("defined", minijinja::tests::is_defined);
    environment.add_test("undefined", minijinja::tests::is_undefined);
    environment.add_test("none", minijinja::tests::is_none);
    environment.add_test("string", minijinja::tests::is_string);
    environment.add_test("number", minijinja::tests::is_number);
    environment.add_test("sequence", minijinja::tests::is_sequence);
    environment.add_test("mapping", minijinja::tests::is_mapping);
    environment.add_test("startingwith", minijinja::tests::is_startingwith);
    environment.add_test("endingwith", minijinja::tests::is_endingwith);
}

/// What a rendering may still spend, in bytes.
struct Purse(usize);

/// Takes `bytes` out of the purse of this rendering.
pub(super) fn pay(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let purse: &mut Purse = state.get_or_insert_extension_with(|| Purse(WORK_BYTES_MAX));
    purse.0 = purse.0.checked_sub(bytes).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, RAN_OUT))?;
    Ok(())
}

/// Whether the error is that of [`pay`].
pub(super) fn ran_out(error: &Error) -> bool {
    error.detail() == Some(RAN_OUT)
}

/// The value as JSON of at most as many bytes as the purse holds, paid for. What is missing is `null`, and a number has
/// JavaScript's form.
pub(super) fn json_of(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    /// Stops a serialisation that gets longer than can be paid.
    struct Bounded(Vec<u8>);
    impl std::io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() + bytes.len() > WORK_BYTES_MAX {
                return Err(std::io::ErrorKind::OutOfMemory.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let json = match value.kind() {
        ValueKind::Undefined | ValueKind::None => "null".to_owned(),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) if number.is_finite() => ryu_js::Buffer::new().format_finite(number).to_owned(),
            _ => "null".to_owned(),
        },
        _ => {
            let mut out = Bounded(Vec::new());
            match serde_json::to_writer(&mut out, value) {
                Ok(()) => String::from_utf8_lossy(&out.0).into_owned(),
                Err(error) if error.is_io() => return Err(Error::new(ErrorKind::InvalidOperation, RAN_OUT)),
                Err(_) => return Err(Error::new(ErrorKind::BadSerialization, "the value has no form in JSON")),
            }
        }
    };
    pay(state, json.len())?;
    Ok(json)
}

/// The value as a text: a string is itself, what is missing is empty, the rest is JSON.
fn text_of<'a>(state: &mut State<'_, '_>, value: &'a Value) -> Result<Cow<'a, str>, Error> {
    match value.as_str() {
        Some(text) => {
            pay(state, text.len())?;
            Ok(Cow::Borrowed(text))
        }
        None if value.is_undefined() || value.is_none() => Ok(Cow::Borrowed("")),
        None => json_of(state, value).map(Cow::Owned),
    }
}

fn tojson(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    json_of(state, value).map(Value::from_safe_string)
}

fn upper(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    Ok(text_of(state, value)?.to_uppercase())
}

fn lower(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    Ok(text_of(state, value)?.to_lowercase())
}

fn trim(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    Ok(text_of(state, value)?.trim().to_owned())
}

/// At most `most` characters; the last of them tells of the cut.
fn truncate(state: &mut State<'_, '_>, value: &Value, most: usize) -> Result<String, Error> {
    let text = text_of(state, value)?;
    match (text.char_indices().nth(most), most.checked_sub(1)) {
        (None, _) => Ok(text.into_owned()),
        (Some(_), None) => Ok(String::new()),
        (Some(_), Some(keep)) => Ok(text.chars().take(keep).chain(['…']).collect()),
    }
}

fn replace(state: &mut State<'_, '_>, value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let text = text_of(state, value)?;
    let found = text.matches(from).count();
    pay(state, found.saturating_mul(to.len()))?;
    Ok(text.replace(from, to))
}

fn join(state: &mut State<'_, '_>, value: &Value, between: Option<&str>) -> Result<String, Error> {
    let between = between.unwrap_or_default();
    let mut out = String::new();
    if value.is_undefined() || value.is_none() {
        return Ok(out);
    }
    for (at, item) in value.try_iter()?.enumerate() {
        if at > 0 {
            pay(state, between.len())?;
            out.push_str(between);
        }
        out.push_str(&text_of(state, &item)?);
    }
    Ok(out)
}

/// Bytes that an entry of a copied mapping stands for.
const ENTRY_BYTES: usize = 64;

fn items(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    pay(state, value.len().unwrap_or(0).saturating_mul(ENTRY_BYTES))?;
    match value.is_undefined() || value.is_none() {
        true => Ok(Value::from(Vec::<Value>::new())),
        false => filters::items(value),
    }
}

fn length(state: &mut State<'_, '_>, value: &Value) -> Result<usize, Error> {
    pay(state, value.as_str().map_or(0, str::len))?;
    if value.is_undefined() || value.is_none() { Ok(0) } else { filters::length(value) }
}
