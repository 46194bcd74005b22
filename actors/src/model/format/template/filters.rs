//! The filters of templates, and the operators that `rewrite` makes filters. Each pays for the bytes that it reads and writes
//! out of one budget per rendering, so that neither their time nor their memory can run away; no builtin filter that makes
//! something larger is passed on.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::WORK_BYTES_MAX;

/// Marks the error of an empty budget; the kind alone does not.
const RAN_OUT: &str = "out of work";

/// What operators become; see `rewrite`.
pub(super) const COMPARE: &str = "_compare";
pub(super) const ITEM: &str = "_item";
pub(super) const WEIGH: &str = "_weigh";

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter(COMPARE, compare);
    environment.add_filter(ITEM, item);
    environment.add_filter(WEIGH, weigh);
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
    environment.add_filter("int", int);
    environment.add_filter("float", float);

    environment.add_test("defined", minijinja::tests::is_defined);
    environment.add_test("undefined", minijinja::tests::is_undefined);
    environment.add_test("none", minijinja::tests::is_none);
    environment.add_test("string", minijinja::tests::is_string);
    environment.add_test("number", minijinja::tests::is_number);
    environment.add_test("sequence", minijinja::tests::is_sequence);
    environment.add_test("mapping", minijinja::tests::is_mapping);
    environment.add_test("startingwith", starting_with);
    environment.add_test("endingwith", ending_with);
}

/// The operators that read their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

impl Operator {
    const ALL: [Operator; 8] = [
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::In,
        Operator::NotIn,
    ];

    /// How a call names it.
    pub fn value(self) -> Value {
        Value::from(self as u8)
    }

    fn named(value: &Value) -> Option<Operator> {
        Operator::ALL.get(usize::try_from(value.clone()).ok()?).copied()
    }
}

/// How much dearer a byte of JSON is than one that is only read.
pub(super) const JSON_WEIGHT: usize = 2;

/// Bytes that an element of a list, and an entry of a mapping, stand for.
const ELEMENT_BYTES: usize = 16;
const ENTRY_BYTES: usize = 64;

/// What it costs to read the value, in bytes, but no more than `most`, and in no more time than that.
fn weight(value: &Value, most: usize) -> usize {
    if let Some(text) = value.as_str() {
        return (1 + text.len()).min(most);
    }
    let mut sum: usize = 1;
    let Some(object) = value.as_object() else { return sum.min(most) };
    match value.kind() {
        ValueKind::Map => {
            for (key, inner) in object.try_iter_pairs().into_iter().flatten() {
                sum += ENTRY_BYTES + weight(&key, most.saturating_sub(sum));
                sum += weight(&inner, most.saturating_sub(sum));
                if sum >= most {
                    return most;
                }
            }
        }
        _ => {
            for inner in object.try_iter().into_iter().flatten() {
                sum += ELEMENT_BYTES + weight(&inner, most.saturating_sub(sum));
                if sum >= most {
                    return most;
                }
            }
        }
    }
    sum.min(most)
}

/// What may still be spent, and one more, so that whoever needs more than there is needs too much.
fn left(state: &mut State<'_, '_>) -> usize {
    budget(state).0.saturating_add(1)
}

/// `a == b`, `a < b <= c`, `a in b`: the operators with their right sides follow the first operand.
fn compare(state: &mut State<'_, '_>, first: &Value, rest: Rest<Value>) -> Result<bool, Error> {
    let mut a = first;
    for pair in rest.chunks(2) {
        let [operator, b] = pair else { break };
        let unknown = || Error::new(ErrorKind::InvalidOperation, "an unknown operator");
        if !holds(state, a, Operator::named(operator).ok_or_else(unknown)?, b)? {
            return Ok(false);
        }
        a = b;
    }
    Ok(true)
}

fn holds(state: &mut State<'_, '_>, a: &Value, operator: Operator, b: &Value) -> Result<bool, Error> {
    if matches!(operator, Operator::In | Operator::NotIn) {
        return Ok(is_in(state, a, b)? == (operator == Operator::In));
    }
    let most = left(state);
    // a comparison ends with the smaller one
    let smaller = weight(a, most);
    let smaller = weight(b, smaller);
    pay(state, smaller)?;
    Ok(match operator {
        Operator::Equal => a == b,
        Operator::NotEqual => a != b,
        Operator::Less => a < b,
        Operator::LessOrEqual => a <= b,
        Operator::Greater => a > b,
        _ => a >= b,
    })
}

fn is_in(state: &mut State<'_, '_>, part: &Value, whole: &Value) -> Result<bool, Error> {
    let most = left(state);
    let of_part = weight(part, most);
    pay(state, of_part)?;
    if whole.is_undefined() {
        return Ok(false);
    }
    if let Some(text) = whole.as_str() {
        pay(state, text.len())?;
        return match part.as_str() {
            Some(part) => Ok(text.contains(part)),
            None => Ok(text.contains(&*text_of(state, part)?)),
        };
    }
    match whole.kind() {
        ValueKind::Map => Ok(whole.as_object().is_some_and(|map| map.get_value(part).is_some())),
        ValueKind::Seq | ValueKind::Iterable => {
            for element in whole.try_iter()? {
                pay(state, ELEMENT_BYTES + weight(&element, of_part))?;
                if element == *part {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => {
            let reason = "cannot perform a containment check on this value";
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        }
    }
}

/// `value[key]`; what is missing is undefined.
fn item(state: &mut State<'_, '_>, value: &Value, key: &Value) -> Result<Value, Error> {
    let most = left(state);
    let of_key = weight(key, most);
    // a character of a text is counted from its start
    pay(state, of_key + value.as_str().map_or(0, str::len))?;
    Ok(value.get_item(key).unwrap_or(Value::UNDEFINED))
}

/// The value itself, paid for.
fn weigh(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    let most = left(state);
    pay(state, weight(&value, most))?;
    Ok(value)
}

fn int(
    state: &mut State<'_, '_>,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    options: Kwargs,
) -> Result<Value, Error> {
    pay(state, value.as_str().map_or(0, str::len))?;
    filters::int(state, value, default, base, options)
}

fn float(state: &mut State<'_, '_>, value: &Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    pay(state, value.as_str().map_or(0, str::len))?;
    filters::float(state, value, default, options)
}

fn starting_with(state: &mut State<'_, '_>, value: &Value, part: &Value) -> Result<bool, Error> {
    let (text, part) = (text_of(state, value)?, text_of(state, part)?);
    Ok(text.starts_with(&*part))
}

fn ending_with(state: &mut State<'_, '_>, value: &Value, part: &Value) -> Result<bool, Error> {
    let (text, part) = (text_of(state, value)?, text_of(state, part)?);
    Ok(text.ends_with(&*part))
}

/// What a rendering may still spend, in bytes.
struct WorkBudget(usize);

fn budget<'s>(state: &'s mut State<'_, '_>) -> &'s mut WorkBudget {
    state.get_or_insert_extension_with(|| WorkBudget(WORK_BYTES_MAX))
}

/// What was taken out of the budget so far.
pub(super) fn worked_bytes(state: &mut State<'_, '_>) -> usize {
    WORK_BYTES_MAX - budget(state).0
}

/// Takes `bytes` out of the budget of this rendering.
pub(super) fn pay(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let budget = budget(state);
    budget.0 = budget.0.checked_sub(bytes).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, RAN_OUT))?;
    Ok(())
}

/// Whether the error is that of [`pay`].
pub(super) fn ran_out(error: &Error) -> bool {
    error.detail() == Some(RAN_OUT)
}

/// The value as JSON of at most as many bytes as the budget holds, paid for. What is missing is `null`, and a number has
/// JavaScript's form.
pub(super) fn json_of(state: &mut State<'_, '_>, value: &Value) -> Result<String, Error> {
    /// Stops a serialisation that gets longer than can be paid.
    struct Bounded(Vec<u8>, usize);
    impl std::io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
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
            let mut out = Bounded(Vec::new(), budget(state).0 / JSON_WEIGHT);
            match serde_json::to_writer(&mut out, value) {
                Ok(()) => String::from_utf8_lossy(&out.0).into_owned(),
                Err(error) if error.is_io() => return Err(Error::new(ErrorKind::InvalidOperation, RAN_OUT)),
                Err(_) => return Err(Error::new(ErrorKind::BadSerialization, "the value has no form in JSON")),
            }
        }
    };
    pay(state, JSON_WEIGHT * json.len())?;
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
    pay(state, from.len())?;
    let found = text.matches(from).count();
    pay(state, found.saturating_mul(ELEMENT_BYTES + to.len()))?;
    Ok(text.replace(from, to))
}

fn join(state: &mut State<'_, '_>, value: &Value, between: Option<&str>) -> Result<String, Error> {
    let between = between.unwrap_or_default();
    let mut out = String::new();
    if value.is_undefined() || value.is_none() {
        return Ok(out);
    }
    for (at, item) in value.try_iter()?.enumerate() {
        pay(state, ELEMENT_BYTES)?;
        if at > 0 {
            pay(state, between.len())?;
            out.push_str(between);
        }
        out.push_str(&text_of(state, &item)?);
    }
    Ok(out)
}

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
