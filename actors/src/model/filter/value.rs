//! The values of an evaluation and what the operators do with them.
//!
//! Numbers: JSON does not tell `250000000` from `250000000.0`, so integers and doubles compare exactly with each other
//! (as the CEL specification says) and calculate with each other as doubles (which it leaves out).
//! Work that grows with the values is paid for in [`Fuel`] before it is done.

use std::cmp::Ordering;
use std::rc::Rc;

use super::input::{Node, field};
use super::program::Operator;

/// Why an evaluation ended without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A missing field, a wrong type, an overflow: `&&` and `||` may still know the answer.
    NoValue,
    /// The fuel is used up: nothing may go on.
    Spent,
}

/// What may still be spent on one evaluation, in steps.
#[derive(Debug)]
pub(super) struct Fuel(pub u64);

impl Fuel {
    pub(super) fn spend(&mut self, steps: u64) -> Result<(), Fault> {
        match self.0.checked_sub(steps) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(Fault::Spent)
            }
        }
    }

    /// Pays for finding a key among so many.
    pub(super) fn spend_look(&mut self, fields: usize, key: &str) -> Result<(), Fault> {
        self.spend(u64::from(usize::BITS - fields.leading_zeros()) / 4)?;
        self.spend_bytes(key.len())
    }

    /// Pays for reading or copying `bytes` of text.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spend(bytes as u64 / 16)
    }
}

/// A value. Copying one is cheap: what is large is borrowed from the payload or shared.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'a str),
    MadeText(Rc<str>),
    List(&'a [Node]),
    MadeList(Rc<[Value<'a>]>),
    Map(&'a [(Box<str>, Node)]),
    /// Unix milliseconds.
    Time(i64),
    /// Milliseconds.
    Span(i64),
}

impl<'a> From<&'a Node> for Value<'a> {
    fn from(node: &'a Node) -> Self {
        match node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Double(value) => Value::Double(*value),
            Node::Text(text) => Value::Text(text),
            Node::List(nodes) => Value::List(nodes),
            Node::Map(fields) => Value::Map(fields),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(&self) -> Result<&str, Fault> {
        match self {
            Value::Text(text) => Ok(text),
            Value::MadeText(text) => Ok(text),
            _ => Err(Fault::NoValue),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, Fault> {
        if let Value::Bool(value) = self { Ok(*value) } else { Err(Fault::NoValue) }
    }

    /// How many elements a loop over the value has; `None` for what has no elements.
    pub(super) fn elements(&self) -> Option<usize> {
        match self {
            Value::List(nodes) => Some(nodes.len()),
            Value::MadeList(values) => Some(values.len()),
            Value::Map(fields) => Some(fields.len()),
            _ => None,
        }
    }

    /// The element at `index` of a list, or the key there of a map.
    pub(super) fn element(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Value::List(nodes) => nodes.get(index).map(Value::from),
            Value::MadeList(values) => values.get(index).cloned(),
            Value::Map(fields) => fields.get(index).map(|(key, _)| Value::Text(key)),
            _ => None,
        }
    }

    pub(super) fn field(&self, name: &str, fuel: &mut Fuel) -> Result<Value<'a>, Fault> {
        let Value::Map(fields) = self else { return Err(Fault::NoValue) };
        fuel.spend_look(fields.len(), name)?;
        field(fields, name).map(Value::from).ok_or(Fault::NoValue)
    }
}

/// Applies an operator to two values.
pub(super) fn binary<'a>(
    operator: Operator,
    a: &Value<'a>,
    b: &Value<'a>,
    fuel: &mut Fuel,
) -> Result<Value<'a>, Fault> {
    let ordered = |fuel: &mut Fuel, wanted: fn(Ordering) -> bool| {
        compare(a, b, fuel).map(|order| Value::Bool(order.is_some_and(wanted)))
    };
    match operator {
        Operator::Equal => equal(a, b, fuel).map(Value::Bool),
        Operator::NotEqual => equal(a, b, fuel).map(|same| Value::Bool(!same)),
        Operator::Less => ordered(fuel, Ordering::is_lt),
        Operator::LessOrEqual => ordered(fuel, Ordering::is_le),
        Operator::Greater => ordered(fuel, Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(fuel, Ordering::is_ge),
        Operator::In => contains(b, a, fuel).map(Value::Bool),
        Operator::Index => index(a, b, fuel),
        Operator::Add => add(a, b, fuel),
        Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => calculate(operator, a, b),
    }
}

/// Equality over all types: values of different kinds differ, numbers are compared as numbers.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>, fuel: &mut Fuel) -> Result<bool, Fault> {
    fuel.spend(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => {
            number_order(a, b) == Some(Ordering::Equal)
        }
        (Value::Time(a), Value::Time(b)) | (Value::Span(a), Value::Span(b)) => a == b,
        (Value::Text(_) | Value::MadeText(_), Value::Text(_) | Value::MadeText(_)) => {
            let (a, b) = (a.text()?, b.text()?);
            fuel.spend_bytes(a.len().min(b.len()))?;
            a == b
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key, value), (other_key, other)) in a.iter().zip(b.iter()) {
                fuel.spend_bytes(key.len())?;
                if key != other_key || !equal(&value.into(), &other.into(), fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::List(_) | Value::MadeList(_), Value::List(_) | Value::MadeList(_)) => {
            let (count, other_count) = (a.elements(), b.elements());
            if count != other_count {
                return Ok(false);
            }
            for at in 0..count.unwrap_or(0) {
                let (Some(value), Some(other)) = (a.element(at), b.element(at)) else { return Ok(false) };
                if !equal(&value, &other, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => false,
    })
}

/// The order of two values of one kind; `None` where one is not a number (NaN).
fn compare(a: &Value<'_>, b: &Value<'_>, fuel: &mut Fuel) -> Result<Option<Ordering>, Fault> {
    match (a, b) {
        (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => Ok(number_order(a, b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::Time(a), Value::Time(b)) | (Value::Span(a), Value::Span(b)) => Ok(Some(a.cmp(b))),
        _ => {
            let (a, b) = (a.text()?, b.text()?);
            fuel.spend_bytes(a.len().min(b.len()))?;
            Ok(Some(a.cmp(b)))
        }
    }
}

fn number_order(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Double(b)) => int_against_double(*a, *b),
        (Value::Double(a), Value::Int(b)) => int_against_double(*b, *a).map(Ordering::reverse),
        _ => None,
    }
}

/// The exact order of an integer and a double, also where the integer has no double of its own.
fn int_against_double(int: i64, double: f64) -> Option<Ordering> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        None
    } else if double >= TWO_63 {
        Some(Ordering::Less)
    } else if double < -TWO_63 {
        Some(Ordering::Greater)
    } else {
        // whole, and inside the range of i64 by the two checks above
        let whole = double.trunc();
        int.cmp(&(whole as i64)).then(0.0_f64.partial_cmp(&(double - whole))?).into()
    }
}

fn contains(container: &Value<'_>, value: &Value<'_>, fuel: &mut Fuel) -> Result<bool, Fault> {
    if let Value::Map(fields) = container {
        let Ok(key) = value.text() else { return Ok(false) };
        fuel.spend_look(fields.len(), key)?;
        return Ok(field(fields, key).is_some());
    }
    for at in 0..container.elements().ok_or(Fault::NoValue)? {
        let Some(element) = container.element(at) else { break };
        if equal(&element, value, fuel)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn index<'a>(container: &Value<'a>, at: &Value<'a>, fuel: &mut Fuel) -> Result<Value<'a>, Fault> {
    let at = match (container, at) {
        (Value::Map(_), key) => return container.field(key.text()?, fuel),
        (_, Value::Int(at)) => *at,
        // as far as a double counts whole steps
        (_, Value::Double(at)) if at.fract() == 0.0 && at.abs() < 9_007_199_254_740_992.0 => *at as i64,
        _ => return Err(Fault::NoValue),
    };
    usize::try_from(at).ok().and_then(|at| container.element(at)).ok_or(Fault::NoValue)
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>, fuel: &mut Fuel) -> Result<Value<'a>, Fault> {
    if let (Ok(a), Ok(b)) = (a.text(), b.text()) {
        fuel.spend_bytes(a.len() + b.len())?;
        return Ok(Value::MadeText([a, b].concat().into()));
    }
    match (a, b) {
        (Value::Map(_), _) | (_, Value::Map(_)) => Err(Fault::NoValue),
        (Value::Time(at), Value::Span(by)) | (Value::Span(by), Value::Time(at)) => time(at.checked_add(*by)),
        (Value::Span(a), Value::Span(b)) => a.checked_add(*b).map(Value::Span).ok_or(Fault::NoValue),
        _ => match (a.elements(), b.elements()) {
            (Some(count), Some(other_count)) => {
                fuel.spend((count + other_count) as u64)?;
                let all =
                    (0..count).filter_map(|at| a.element(at)).chain((0..other_count).filter_map(|at| b.element(at)));
                Ok(Value::MadeList(all.collect()))
            }
            _ => calculate(Operator::Add, a, b),
        },
    }
}

/// A timestamp, if it lies in the years that have four digits, as CEL asks.
pub(super) fn time<'a>(unix_ms: Option<i64>) -> Result<Value<'a>, Fault> {
    match unix_ms {
        Some(ms) if (-62_135_596_800_000..=253_402_300_799_999).contains(&ms) => Ok(Value::Time(ms)),
        _ => Err(Fault::NoValue),
    }
}

fn calculate<'a>(operator: Operator, a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>, Fault> {
    let (a, b) = match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            let result = match operator {
                Operator::Add => a.checked_add(*b),
                Operator::Subtract => a.checked_sub(*b),
                Operator::Multiply => a.checked_mul(*b),
                Operator::Divide => a.checked_div(*b),
                Operator::Remainder => a.checked_rem(*b),
                _ => None,
            };
            return result.map(Value::Int).ok_or(Fault::NoValue);
        }
        (Value::Time(at), Value::Span(by)) if operator == Operator::Subtract => return time(at.checked_sub(*by)),
        (Value::Time(a), Value::Time(b)) | (Value::Span(a), Value::Span(b)) if operator == Operator::Subtract => {
            return a.checked_sub(*b).map(Value::Span).ok_or(Fault::NoValue);
        }
        (Value::Double(a), Value::Double(b)) => (*a, *b),
        (Value::Int(a), Value::Double(b)) => (*a as f64, *b),
        (Value::Double(a), Value::Int(b)) => (*a, *b as f64),
        _ => return Err(Fault::NoValue),
    };
    Ok(Value::Double(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        _ => return Err(Fault::NoValue),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(250_000_000, 1_000_000.0, Some(Ordering::Greater))]
    #[case(1, 1.0, Some(Ordering::Equal))]
    #[case(1, 1.5, Some(Ordering::Less))]
    #[case(-1, -1.5, Some(Ordering::Greater))]
    #[case(0, -0.5, Some(Ordering::Greater))]
    #[case(9_007_199_254_740_993, 9_007_199_254_740_992.0, Some(Ordering::Greater))]
    #[case(i64::MAX, 9_223_372_036_854_775_808.0, Some(Ordering::Less))]
    #[case(i64::MIN, -9_223_372_036_854_775_808.0, Some(Ordering::Equal))]
    #[case(i64::MIN, f64::NEG_INFINITY, Some(Ordering::Greater))]
    #[case(0, f64::NAN, None)]
    fn an_integer_and_a_double_compare_exactly(#[case] int: i64, #[case] double: f64, #[case] order: Option<Ordering>) {
        assert_eq!(number_order(&Value::Int(int), &Value::Double(double)), order);
        assert_eq!(number_order(&Value::Double(double), &Value::Int(int)), order.map(Ordering::reverse));
    }

    #[test]
    fn spent_fuel_stays_spent() {
        let mut fuel = Fuel(3);
        assert_eq!(fuel.spend(2), Ok(()));
        assert_eq!(fuel.spend(2), Err(Fault::Spent));
        assert_eq!(fuel.spend(1), Err(Fault::Spent));
    }
}
