//! The one filter language: streams, tickets, history, webhooks, replays and the command line all use it.
//!
//! A [`FilterSpec`] is what people write; [`Filter::compile`] checks it once; [`Filter::matches`] asks about an event.
//! `spec` reads specs, `compile` turns a CEL expression into a `program`, `eval` and `value` run it within a fixed
//! amount of work, `input` is what they read of a payload, shared by all filters of an event.
//!
//! Of CEL (<https://github.com/google/cel-spec>) there is what a condition over JSON needs. Left out: literals of maps,
//! messages and bytes, `type()`, time zones, and loops over two variables. Unsigned integers are integers.

mod compile;
mod eval;
mod input;
mod program;
mod spec;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use compile::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};
pub use eval::EVALUATION_STEPS_MAX;
pub use input::FilterInput;
pub use spec::{FilterSpec, optional_names};

use super::event::{Event, EventType, SESSION_BYTES_MAX};

/// The most event types that one filter names.
pub const EVENTS_MAX: usize = 256;
/// The most path prefixes in one filter.
pub const PATH_PREFIXES_MAX: usize = 64;
/// The longest path prefix in bytes.
pub const PATH_PREFIX_BYTES_MAX: usize = 1024;

/// Why a filter was refused. The text of the filter is not repeated, save for a bad event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("{name:?} is no event type; write 1 to 64 of the characters A-Z a-z 0-9 _ . : - or * for all")]
    EventType { name: String },
    #[error("{what} has {count} entries; give at most {max}")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error("a path prefix has {bytes} bytes; give at most {max}")]
    PathPrefix { bytes: usize, max: usize },
    #[error("session is 1 to {max} bytes; leave it out for all sessions")]
    Session { max: usize },
    #[error("{parameter} is given twice; give it once")]
    Repeated { parameter: &'static str },
    #[error("the filter expression has {bytes} bytes; write at most {max}")]
    TooLong { bytes: usize, max: usize },
    /// Line and column count from 1, the column in characters.
    #[error("bad filter expression at line {line}, column {column}: {reason}")]
    Expression { line: u32, column: u32, reason: String },
}

impl FilterError {
    /// The parameter of the request that is at fault.
    pub fn parameter(&self) -> &'static str {
        match self {
            FilterError::EventType { .. } => "events",
            FilterError::TooMany { what, .. } => what,
            FilterError::PathPrefix { .. } => "path_prefix",
            FilterError::Session { .. } => "session",
            FilterError::Repeated { parameter } => parameter,
            FilterError::TooLong { .. } | FilterError::Expression { .. } => "filter",
        }
    }

    /// Line and column of a fault in an expression.
    pub fn position(&self) -> Option<(u32, u32)> {
        match self {
            FilterError::Expression { line, column, .. } => Some((*line, *column)),
            _ => None,
        }
    }
}

/// What a filter says about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Match,
    NoMatch,
    /// The expression has no value for this event (a missing field, a wrong type) or took more than
    /// [`EVALUATION_STEPS_MAX`]: the event does not match. Worth counting, never an error to the reader.
    Error,
}

impl Verdict {
    pub fn is_match(self) -> bool {
        self == Verdict::Match
    }
}

/// A checked filter. Cloning it is cheap, it is `Send` and `Sync`, and two that ask the same are equal, whatever the
/// order and the repetitions in which they were written.
#[derive(Clone)]
pub struct Filter(Arc<Compiled>);

struct Compiled {
    /// Normalised: lists sorted and without repetitions, conditions that let everything pass left out.
    spec: FilterSpec,
    program: Option<program::Expr>,
}

impl Filter {
    /// Checks `spec` and makes it ready for use. Takes up to a few milliseconds for an expression.
    pub fn compile(spec: &FilterSpec) -> Result<Filter, FilterError> {
        let spec = normalise(spec)?;
        let program = spec.filter.as_deref().map(compile::compile).transpose()?;
        Ok(Filter(Arc::new(Compiled { spec, program })))
    }

    /// The filter that every event passes.
    pub fn all() -> Filter {
        Filter(Arc::new(Compiled { spec: FilterSpec::default(), program: None }))
    }

    /// The spec in its normal form.
    pub fn spec(&self) -> &FilterSpec {
        &self.0.spec
    }

    /// Whether every event passes, so that nobody needs to ask.
    pub fn is_all(&self) -> bool {
        self.0.spec == FilterSpec::default()
    }

    /// Judges `event`, cheapest condition first. `input` holds what has been read of this very event so far.
    pub fn matches(&self, event: &Event, input: &FilterInput) -> Verdict {
        let Compiled { spec, program } = &*self.0;
        let type_fits = spec
            .events
            .as_ref()
            .is_none_or(|names| names.binary_search_by(|name| name.as_str().cmp(event.kind.as_str())).is_ok());
        let session_fits = spec.session.as_deref().is_none_or(|session| event.session.as_deref() == Some(session));
        let source_fits = spec.source.as_deref().is_none_or(|source| event.origin.source() == Some(source));
        if !type_fits || !session_fits || !source_fits {
            return Verdict::NoMatch;
        }
        if !spec.path_prefix.is_empty() {
            let wanted = |path: &str| spec.path_prefix.iter().any(|prefix| path.starts_with(prefix.as_str()));
            if !input.paths(&event.payload).iter().any(|path| wanted(path)) {
                return Verdict::NoMatch;
            }
        }
        match program.as_ref().map(|program| eval::evaluate(program, event, input)) {
            None | Some(Ok(true)) => Verdict::Match,
            Some(Ok(false)) => Verdict::NoMatch,
            Some(Err(_)) => Verdict::Error,
        }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.spec == other.0.spec
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.spec.hash(state);
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.spec).finish()
    }
}

/// The spec in its normal form, with everything checked but the expression.
fn normalise(spec: &FilterSpec) -> Result<FilterSpec, FilterError> {
    Ok(FilterSpec {
        events: normal_events(spec)?,
        path_prefix: normal_prefixes(&spec.path_prefix)?,
        session: match spec.session.as_deref() {
            Some(session) if !(1..=SESSION_BYTES_MAX).contains(&session.len()) => {
                return Err(FilterError::Session { max: SESSION_BYTES_MAX });
            }
            session => session.map(str::to_owned),
        },
        filter: spec.filter.clone().filter(|text| !text.trim().is_empty()),
        source: spec.source.clone(),
    })
}

fn normal_events(spec: &FilterSpec) -> Result<Option<Vec<String>>, FilterError> {
    let Some(names) = &spec.events else { return Ok(None) };
    if names.len() > EVENTS_MAX {
        return Err(FilterError::TooMany { what: "events", count: names.len(), max: EVENTS_MAX });
    }
    let mut types = Vec::with_capacity(names.len());
    for name in names.iter().map(|name| name.trim()).filter(|&name| name != "*") {
        if EventType::new(name).is_err() {
            // enough of it to be found again
            return Err(FilterError::EventType { name: name.chars().take(80).collect() });
        }
        types.push(name.to_owned());
    }
    types.sort_unstable();
    types.dedup();
    Ok((!spec.wants_all_events()).then_some(types))
}

fn normal_prefixes(prefixes: &[String]) -> Result<Vec<String>, FilterError> {
    if prefixes.len() > PATH_PREFIXES_MAX {
        return Err(FilterError::TooMany { what: "path_prefix", count: prefixes.len(), max: PATH_PREFIXES_MAX });
    }
    if let Some(long) = prefixes.iter().find(|prefix| prefix.len() > PATH_PREFIX_BYTES_MAX) {
        return Err(FilterError::PathPrefix { bytes: long.len(), max: PATH_PREFIX_BYTES_MAX });
    }
    if prefixes.iter().any(String::is_empty) {
        return Ok(Vec::new());
    }
    let mut prefixes = prefixes.to_vec();
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}
