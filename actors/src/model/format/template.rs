//! Format `template`: JSON made by a webhook's own MiniJinja template over `event`.
//!
//! Values are escaped by where they stand: inside the quotes of the template as part of that string, elsewhere as JSON
//! of their own. So no payload can break out of its place. The templates come from users, hence every cost has a
//! bound: the length, the steps (`fuel`), the bytes that operators and filters work through and the output; and what could
//! make large values out of small ones in a few steps is refused when a template is compiled, see [`grammar`]. Operators pay
//! because they are rewritten into filters that do, see [`rewrite`].

mod filters;
mod grammar;
mod output;
mod rewrite;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use self_cell::self_cell;

use super::{ChannelLabel, Family, Subject};
use crate::model::event::{ChannelNo, Event, EventType};
use crate::model::id::EventId;
use crate::model::json::{self, Canonical, JsonError};
use crate::model::timestamp::to_iso;

/// The longest template in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 16 * 1024;
/// The longest output in bytes: twice the largest event, as escaping lengthens a text.
pub const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// Steps of the engine in one rendering.
const FUEL: u64 = 20_000;
/// Bytes that all operators, filters and insertions of one rendering may read and write together: some 10 ms.
const WORK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The only name in the environment.
const NAME: &str = "template";

// an event that is just printed has to fit into both bounds, as long as the default limit of an event is kept
const _: () =
    assert!(filters::JSON_WEIGHT * OUTPUT_BYTES_MAX <= WORK_BYTES_MAX && TEMPLATE_BYTES_MAX < OUTPUT_BYTES_MAX);

self_cell!(
    /// A template's text, and what it was compiled to, which borrows from it.
    struct Program {
        owner: String,
        #[covariant]
        dependent: Instructions,
    }
);

/// A compiled template. A clone shares it.
#[derive(Clone)]
pub struct Template(Arc<Program>);

/// What all templates have in common.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(output::write);
    filters::add(&mut environment);
    environment
});

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

/// Why a template cannot be taken, or fails for an event. Lines count from 1, in the template where not said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template has more than {TEMPLATE_BYTES_MAX} bytes; shorten it")]
    TooLong,
    #[error("line {line}: a control character; write it as an escape such as \\n inside a string")]
    Control { line: usize },
    #[error("line {line}: {what} cannot be used in a template; {instead}")]
    NotAllowed { line: usize, what: Box<str>, instead: &'static str },
    #[error("line {line}: {reason}; correct the template")]
    Syntax { line: usize, reason: Box<str> },
    #[error("line {line}: {reason}; give what may be missing a value, as in `| default(0)`")]
    Failed { line: usize, reason: Box<str> },
    #[error("line {line}: the template takes more than {FUEL} steps for an event; loop over less")]
    Steps { line: usize },
    #[error(
        "line {line}: the operators and filters of the template work through more than {WORK_BYTES_MAX} bytes; use fewer of them"
    )]
    Work { line: usize },
    #[error("the output has more than {OUTPUT_BYTES_MAX} bytes; take less out of the event")]
    OutputTooLong,
    /// The line is one of the output.
    #[error("line {line} of the output: a backslash stands before a value; remove it or write two")]
    Backslash { line: usize },
    /// The place is one of the output.
    #[error("the output is not JSON: {0}. Values need no quotes, or the quotes of the template; mind commas in loops")]
    NotJson(JsonError),
}

impl Template {
    /// Compiles a template. That it makes JSON is seen by [`Template::check`].
    ///
    /// # Errors
    /// [`TemplateError::TooLong`], [`TemplateError::Control`], [`TemplateError::NotAllowed`] or
    /// [`TemplateError::Syntax`], with the line.
    pub fn compile(text: &str) -> Result<Template, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        grammar::check(text)?;
        let program = Program::try_new(text.to_owned(), |text| {
            let parsed = parse(text, NAME, Default::default()).map_err(|error| syntax(&error))?;
            let rewritten = rewrite::stmt(&parsed).map_err(|rewrite::Unknown { line }| {
                let instead = "there are insertions, `if`, `for` and `set`";
                TemplateError::NotAllowed { line, what: "this".into(), instead }
            })?;
            let mut generator = CodeGenerator::new(NAME, text);
            generator.compile_stmt(&rewritten);
            Ok(generator.finish().0)
        });
        Ok(Template(Arc::new(program?)))
    }

    /// Whether the template makes JSON of every sample, and of an event of an unknown type whose payload is empty. To
    /// be asked before a template is saved.
    ///
    /// # Errors
    /// That of the first sample for which the template fails or makes no JSON.
    pub fn check<'a>(&self, samples: impl IntoIterator<Item = Subject<'a>>) -> Result<(), TemplateError> {
        self.check_odd()?;
        samples.into_iter().try_for_each(|sample| self.render(&sample).map(drop))
    }

    /// Whether the template makes JSON of an event of an unknown type whose payload is empty.
    ///
    /// # Errors
    /// Why not.
    pub fn check_odd(&self) -> Result<(), TemplateError> {
        let odd = Event {
            id: EventId::ZERO,
            channel: ChannelNo(0),
            // 1 to 64 of the allowed characters
            kind: EventType::new("odd.event").expect("a type of plain letters"),
            ts_ms: 0,
            session: None,
            origin: Default::default(),
            payload: Canonical::EMPTY_OBJECT,
        };
        let label = ChannelLabel { family: Family::Map, id: "00000000-0000-4000-8000-000000000000", name: "odd" };
        let envelope = bytes::Bytes::new();
        let odd = Subject { event: &odd, envelope: &envelope, channel: label };
        self.render(&odd).map(drop)
    }

    /// The JSON for one event, in the same canonical form as everything that is sent.
    ///
    /// # Errors
    /// It makes nothing of the event, which it would not at another time either.
    pub fn render(&self, subject: &Subject<'_>) -> Result<Canonical, TemplateError> {
        self.render_counted(subject).map(|(json, _)| json)
    }

    /// The JSON, and how many bytes operators, filters and insertions worked through.
    fn render_counted(&self, subject: &Subject<'_>) -> Result<(Canonical, usize), TemplateError> {
        let mut out = String::new();
        let context = Value::from_pairs([("event", event_value(subject))]);
        let rendered = self.0.with_dependent(|_, program| {
            let blocks = BTreeMap::new();
            let mut out = make_string_output(&mut out);
            let rendered = eval(&ENVIRONMENT, program, context, &blocks, &mut out, AutoEscape::None);
            rendered.map(|(_, mut state)| filters::worked_bytes(&mut state))
        });
        let line = |error: &Error| error.line().unwrap_or(1);
        match rendered {
            Ok(worked_bytes) => match Canonical::parse(&out) {
                Ok(json) => Ok((json, worked_bytes)),
                Err(e) => Err(TemplateError::NotJson(e)),
            },
            Err(error) => Err(match (output::refused(&error), error.kind()) {
                (Some(output::Refused::TooLong), _) => TemplateError::OutputTooLong,
                (Some(output::Refused::Backslash(line)), _) => TemplateError::Backslash { line },
                (None, ErrorKind::OutOfFuel) => TemplateError::Steps { line: line(&error) },
                (None, _) if filters::ran_out(&error) => TemplateError::Work { line: line(&error) },
                (None, _) => TemplateError::Failed { line: line(&error), reason: reason(&error) },
            }),
        }
    }
}

fn syntax(error: &Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(1), reason: reason(error) }
}

/// What went wrong, without the place.
fn reason(error: &Error) -> Box<str> {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()).into(),
        None => error.kind().to_string().into(),
    }
}

/// `event` as templates see it: the fields of every family, those of the other families under their names as well.
fn event_value(subject: &Subject<'_>) -> Value {
    let event = subject.event;
    let ts = Value::from(to_iso(event.ts_ms));
    // the log holds canonical JSON only; were it damaged, the payload would show as missing
    let payload = payload_value(event.payload.as_str()).unwrap_or(Value::UNDEFINED);
    let channel = Value::from_pairs([("id", subject.channel.id), ("name", subject.channel.name)]);
    let mut fields = vec![
        ("id", Value::from(subject.shown_id())),
        ("type", Value::from(event.kind.as_str())),
        ("ts", ts.clone()),
        ("timestamp", ts),
        ("session", event.session.as_deref().map_or(Value::from(()), Value::from)),
        ("channel", channel),
    ];
    fields.push(match subject.channel.family {
        Family::Map => ("map_id", Value::from(subject.channel.id)),
        Family::Organization => ("organization", Value::from(subject.channel.id)),
    });
    fields.push(("payload", payload));
    Value::from_pairs(fields)
}

/// The value of a JSON text. Integers beyond 64 bits keep their digits: as numbers up to 128 bits, beyond that as texts.
fn payload_value(text: &str) -> serde_json::Result<Value> {
    // no string of the text begins with it
    let mark = (0..).map(|n| format!("{n}#")).find(|mark| !text.contains(mark.as_str())).unwrap_or_default();
    match json::long_integers_as_text(text, &mark) {
        Cow::Borrowed(text) => serde_json::from_str(text),
        Cow::Owned(marked) => Ok(unmarked(serde_json::from_str(&marked)?, &mark)),
    }
}

/// The value with integers in place of texts that begin with the mark.
fn unmarked(value: serde_json::Value, mark: &str) -> Value {
    match value {
        serde_json::Value::String(text) => match text.strip_prefix(mark) {
            None => Value::from(text),
            Some(digits) => match (digits.parse::<i128>(), digits.parse::<u128>()) {
                (Ok(number), _) => Value::from(number),
                (_, Ok(number)) => Value::from(number),
                _ => Value::from(digits),
            },
        },
        serde_json::Value::Array(items) => items.into_iter().map(|item| unmarked(item, mark)).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.into_iter().map(|(name, field)| (name, unmarked(field, mark))))
        }
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (_, Some(number)) => Value::from(number),
            _ => number.as_f64().map_or(Value::UNDEFINED, Value::from),
        },
        serde_json::Value::Bool(is) => Value::from(is),
        serde_json::Value::Null => Value::from(()),
    }
}

#[cfg(test)]
mod tests;
