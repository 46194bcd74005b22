//! Runs an expression over one event, within a fixed amount of work.
//!
//! The bound is dynamic and holds for every expression and payload: each node that is visited costs a step, text costs
//! a step per 16 bytes that are read or copied (a regular expression its weight on top), a comparison of lists and maps
//! a step per element, a look into a map by its size and the key's, and after [`EVALUATION_STEPS_MAX`] steps the evaluation ends in [`Fault::Spent`], which `&&`,
//! `||` and the loops cannot swallow. Memory is bounded by the same steps, the stack by the depth of the expression
//! and of the payload. The evaluator of the crate `cel` has no such limit, hence this one.

use std::rc::Rc;

use time::OffsetDateTime;

use super::input::FilterInput;
use super::program::{EventField, Expr, Function, Literal, Loop, LoopKind, Pattern, TimePart};
use super::value::{self, Fault, Fuel, Value};
use crate::model::event::Event;
use crate::model::timestamp::{from_iso, to_iso};

/// The most steps that one evaluation takes: a few milliseconds. Enough to ask a simple question about each of some
/// 15,000 elements, or to search a payload of 256 KiB for a word a few times.
pub const EVALUATION_STEPS_MAX: u64 = 100_000;

/// What came of an evaluation.
pub(super) struct Evaluation {
    /// Whether the expression is true; a result that is no boolean is a fault.
    pub value: Result<bool, Fault>,
    /// What it took, with what had to be read of the payload.
    pub steps: u64,
}

/// Evaluates `expr` for `event`. None: it takes more than `steps_max`, which is less than an evaluation may take.
pub(super) fn evaluate(expr: &Expr, event: &Event, input: &FilterInput, steps_max: u64) -> Option<Evaluation> {
    let reading = input.tree_cost(&event.payload);
    let left = steps_max.checked_sub(reading)?;
    let fuel = left.min(EVALUATION_STEPS_MAX);
    let mut run = Run { event, input, fuel: Fuel(fuel), variables: Vec::new() };
    let value = run.eval(expr).and_then(|value| value.bool());
    if value == Err(Fault::Spent) && fuel < EVALUATION_STEPS_MAX {
        return None;
    }
    // the expression may not have asked for the payload
    let read = reading - input.tree_cost(&event.payload);
    Some(Evaluation { value, steps: fuel - run.fuel.0 + read })
}

struct Run<'a> {
    event: &'a Event,
    input: &'a FilterInput,
    fuel: Fuel,
    variables: Vec<Value<'a>>,
}

type Evaluated<'a> = Result<Value<'a>, Fault>;

impl<'a> Run<'a> {
    fn eval(&mut self, expr: &'a Expr) -> Evaluated<'a> {
        self.fuel.spend(1)?;
        match expr {
            Expr::Literal(literal) => Ok(match literal {
                Literal::Null => Value::Null,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(value) => Value::Int(*value),
                Literal::Double(value) => Value::Double(*value),
                Literal::Text(text) => Value::Text(text),
            }),
            Expr::Event(field) => self.event_field(*field),
            Expr::Variable(place) => self.variables.get(*place).cloned().ok_or(Fault::NoValue),
            Expr::Select(operand, name) => self.eval(operand)?.field(name, &mut self.fuel),
            Expr::Has(operand, name) => match self.eval(operand)? {
                map @ Value::Map(_) => match map.field(name, &mut self.fuel) {
                    Err(Fault::Spent) => Err(Fault::Spent),
                    found => Ok(Value::Bool(found.is_ok())),
                },
                _ => Err(Fault::NoValue),
            },
            Expr::Not(inner) => Ok(Value::Bool(!self.eval(inner)?.bool()?)),
            Expr::Negate(inner) => match self.eval(inner)? {
                Value::Int(value) => value.checked_neg().map(Value::Int).ok_or(Fault::NoValue),
                Value::Double(value) => Ok(Value::Double(-value)),
                Value::Span(ms) => ms.checked_neg().map(Value::Span).ok_or(Fault::NoValue),
                _ => Err(Fault::NoValue),
            },
            Expr::And(a, b) => self.either(a, b, false),
            Expr::Or(a, b) => self.either(a, b, true),
            Expr::If(parts) => {
                let [condition, yes, no] = &**parts;
                if self.eval(condition)?.bool()? { self.eval(yes) } else { self.eval(no) }
            }
            Expr::Binary(operator, a, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                value::binary(*operator, &a, &b, &mut self.fuel)
            }
            Expr::List(elements) => {
                let values = elements.iter().map(|element| self.eval(element));
                Ok(Value::MadeList(values.collect::<Result<Rc<[_]>, _>>()?))
            }
            Expr::Call(function, args) => self.call(*function, args),
            Expr::Matches(text, pattern) => self.matches(text, pattern),
            Expr::Loop(body) => self.run_loop(body),
        }
    }

    fn event_field(&mut self, field: EventField) -> Evaluated<'a> {
        let event = self.event;
        Ok(match field {
            EventField::Id => Value::MadeText(event.id.to_string().into()),
            EventField::Type => Value::Text(event.kind.as_str()),
            EventField::Session => event.session.as_deref().map_or(Value::Null, Value::Text),
            EventField::Ts => Value::MadeText(to_iso(event.ts_ms).into()),
            EventField::Timestamp => Value::Int(event.ts_ms),
            EventField::Text => Value::Text(event.payload.as_str()),
            EventField::Payload => self.input.tree(&event.payload).map(Value::from).ok_or(Fault::NoValue)?,
        })
    }

    /// `&&` and `||`: a side that is `decisive` decides, even if the other side has no value.
    fn either(&mut self, a: &'a Expr, b: &'a Expr, decisive: bool) -> Evaluated<'a> {
        let first = self.condition(a);
        match first {
            Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
            Err(Fault::Spent) => return Err(Fault::Spent),
            _ => {}
        }
        match self.condition(b)? {
            value if value == decisive => Ok(Value::Bool(decisive)),
            _ => first.map(Value::Bool),
        }
    }

    fn condition(&mut self, expr: &'a Expr) -> Result<bool, Fault> {
        self.eval(expr)?.bool()
    }

    fn run_loop(&mut self, body: &'a Loop) -> Evaluated<'a> {
        let range = self.eval(&body.range)?;
        let count = range.elements().ok_or(Fault::NoValue)?;
        let place = self.variables.len();
        let mut outcome = Outcome { collected: Vec::new(), hits: 0, fault: None };
        for at in 0..count {
            let Some(element) = range.element(at) else { break };
            self.variables.push(element);
            let goes_on = self.step(body, place, &mut outcome);
            self.variables.truncate(place);
            if !goes_on? {
                return Ok(Value::Bool(body.kind == LoopKind::Exists));
            }
        }
        match (body.kind, outcome.fault) {
            (_, Some(fault)) => Err(fault),
            (LoopKind::All, None) => Ok(Value::Bool(true)),
            (LoopKind::Exists, None) => Ok(Value::Bool(false)),
            (LoopKind::ExistsOne, None) => Ok(Value::Bool(outcome.hits == 1)),
            (LoopKind::Collect, None) => Ok(Value::MadeList(outcome.collected.into())),
        }
    }

    /// One turn of a loop; false ends `all` and `exists`, whose answer is then known.
    fn step(&mut self, body: &'a Loop, place: usize, outcome: &mut Outcome<'a>) -> Result<bool, Fault> {
        let holds = match &body.condition {
            None => Ok(true),
            Some(condition) => self.condition(condition),
        };
        match (body.kind, holds) {
            (_, Err(Fault::Spent)) => return Err(Fault::Spent),
            (LoopKind::All, Ok(false)) | (LoopKind::Exists, Ok(true)) => return Ok(false),
            (LoopKind::All | LoopKind::Exists, Err(fault)) => outcome.fault = Some(fault),
            (LoopKind::ExistsOne | LoopKind::Collect, Err(fault)) => return Err(fault),
            (LoopKind::ExistsOne, Ok(true)) => outcome.hits += 1,
            (LoopKind::Collect, Ok(true)) => {
                let value = match &body.transform {
                    Some(transform) => self.eval(transform)?,
                    None => self.variables[place].clone(),
                };
                outcome.collected.push(value);
            }
            _ => {}
        }
        self.fuel.spend(1)?;
        Ok(true)
    }

    fn matches(&mut self, text: &'a Expr, pattern: &'a Pattern) -> Evaluated<'a> {
        let value = self.eval(text)?;
        let text = value.text()?;
        self.fuel.spend(pattern.weight.saturating_mul(text.len() as u64 / 16 + 1))?;
        Ok(Value::Bool(pattern.regex.is_match(text)))
    }

    fn call(&mut self, function: Function, args: &'a [Expr]) -> Evaluated<'a> {
        let values = args.iter().map(|arg| self.eval(arg)).collect::<Result<Vec<_>, _>>()?;
        if function.reads_text()
            && let Some(Ok(text)) = values.first().map(Value::text)
        {
            self.fuel.spend_bytes(text.len())?;
        }
        match (function, &values[..]) {
            (Function::Dyn, [value]) => Ok(value.clone()),
            (Function::Size, [value]) => self.size(value),
            (Function::Contains | Function::StartsWith | Function::EndsWith, [text, part]) => {
                let (text, part) = (text.text()?, part.text()?);
                let read = if function == Function::Contains { text.len() + part.len() } else { part.len() };
                self.fuel.spend_bytes(read)?;
                Ok(Value::Bool(match function {
                    Function::Contains => text.contains(part),
                    Function::StartsWith => text.starts_with(part),
                    _ => text.ends_with(part),
                }))
            }
            (Function::LowerAscii | Function::UpperAscii, [text]) => {
                let text = text.text()?;
                self.fuel.spend_bytes(text.len())?;
                let lower = function == Function::LowerAscii;
                let made = if lower { text.to_ascii_lowercase() } else { text.to_ascii_uppercase() };
                Ok(Value::MadeText(made.into()))
            }
            (Function::Int, [value]) => to_int(value),
            (Function::Double, [value]) => match value {
                Value::Int(int) => Ok(Value::Double(*int as f64)),
                Value::Double(_) => Ok(value.clone()),
                text => text.text()?.parse().map(Value::Double).map_err(|_| Fault::NoValue),
            },
            (Function::Text, [value]) => to_text(value),
            (Function::Bool, [value]) => match value {
                Value::Bool(_) => Ok(value.clone()),
                text => match text.text()? {
                    "true" | "TRUE" | "True" | "t" | "1" => Ok(Value::Bool(true)),
                    "false" | "FALSE" | "False" | "f" | "0" => Ok(Value::Bool(false)),
                    _ => Err(Fault::NoValue),
                },
            },
            (Function::Timestamp, [value]) => match value {
                Value::Time(_) => Ok(value.clone()),
                Value::Int(seconds) => value::time(seconds.checked_mul(1000)),
                text => value::time(from_iso(text.text()?)),
            },
            (Function::Duration, [value]) => match value {
                Value::Span(_) => Ok(value.clone()),
                text => from_duration(text.text()?).map(Value::Span).ok_or(Fault::NoValue),
            },
            (Function::Part(part), [value]) => time_part(part, value),
            _ => Err(Fault::NoValue),
        }
    }

    fn size(&mut self, value: &Value<'a>) -> Evaluated<'a> {
        let size = match value.elements() {
            Some(count) => count,
            None => {
                let text = value.text()?;
                self.fuel.spend_bytes(text.len())?;
                text.chars().count()
            }
        };
        i64::try_from(size).map(Value::Int).map_err(|_| Fault::NoValue)
    }
}

/// What a loop has gathered so far.
struct Outcome<'a> {
    collected: Vec<Value<'a>>,
    hits: usize,
    /// A turn of `all` or `exists` had no value: so has the loop, unless a later turn decides it.
    fault: Option<Fault>,
}

fn to_int<'a>(value: &Value<'a>) -> Evaluated<'a> {
    match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Time(ms) => Ok(Value::Int(ms.div_euclid(1000))),
        Value::Double(double) if double.abs() < 9_223_372_036_854_775_808.0 => Ok(Value::Int(double.trunc() as i64)),
        text => text.text()?.parse().map(Value::Int).map_err(|_| Fault::NoValue),
    }
}

fn to_text<'a>(value: &Value<'a>) -> Evaluated<'a> {
    let made = match value {
        Value::Text(_) | Value::MadeText(_) => return Ok(value.clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        // as the payload shows it
        Value::Double(value) => ryu_js::Buffer::new().format(*value).to_owned(),
        Value::Time(ms) => to_iso(*ms),
        Value::Span(ms) => format!("{}s", ryu_js::Buffer::new().format(*ms as f64 / 1000.0)),
        _ => return Err(Fault::NoValue),
    };
    Ok(Value::MadeText(made.into()))
}

fn at_time(unix_ms: i64) -> Result<OffsetDateTime, Fault> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).map_err(|_| Fault::NoValue)
}

/// Milliseconds of a duration such as `1h30m`, `-2.5s` or `100ms`.
fn from_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut total = 0.0;
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, unit_on) = rest.split_at(number);
        let unit = unit_on.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit_on.len());
        let (unit, after) = unit_on.split_at(unit);
        let ms = match unit {
            "h" => 3_600_000.0,
            "m" => 60_000.0,
            "s" => 1000.0,
            "ms" => 1.0,
            "us" => 0.001,
            "ns" => 0.000_001,
            _ => return None,
        };
        total += amount.parse::<f64>().ok()? * ms;
        rest = after;
        if rest.is_empty() {
            // CEL's longest duration, which also keeps the sum inside i64
            return (total <= 315_576_000_000_000.0).then_some((sign * total).round() as i64);
        }
    }
}

fn time_part<'a>(part: TimePart, value: &Value<'a>) -> Evaluated<'a> {
    let at = match value {
        Value::Time(ms) => at_time(*ms)?,
        Value::Span(ms) => {
            return Ok(Value::Int(match part {
                TimePart::Hours => ms / 3_600_000,
                TimePart::Minutes => ms / 60_000,
                TimePart::Seconds => ms / 1000,
                TimePart::Milliseconds => *ms,
                _ => return Err(Fault::NoValue),
            }));
        }
        _ => return Err(Fault::NoValue),
    };
    Ok(Value::Int(match part {
        TimePart::FullYear => i64::from(at.year()),
        TimePart::Month => i64::from(u8::from(at.month())) - 1,
        TimePart::Date => i64::from(at.day()),
        TimePart::DayOfMonth => i64::from(at.day()) - 1,
        TimePart::DayOfWeek => i64::from(at.weekday().number_days_from_sunday()),
        TimePart::DayOfYear => i64::from(at.ordinal()) - 1,
        TimePart::Hours => i64::from(at.hour()),
        TimePart::Minutes => i64::from(at.minute()),
        TimePart::Seconds => i64::from(at.second()),
        TimePart::Milliseconds => i64::from(at.millisecond()),
    }))
}
