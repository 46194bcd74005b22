//! The one filter language: streams, tickets, history, webhooks, replays and the command line all use it.
//!
//! A [`FilterSpec`] is what people write; [`Filter::compile`] checks it once; [`Filter::matches`] asks about an event.
//! `spec` reads specs, `compile` turns a CEL expression into a `program` (on a stack that is `deep` enough, once for equal
//! ones: `cache`), `eval` and `value` run it within a fixed amount of work, `input` is what they read of a payload, shared by
//! all filters of an event.
//!
//! Of CEL (<https://github.com/google/cel-spec>) there is what a condition over JSON needs. Left out: literals of maps,
//! messages and bytes, `type()`, time zones, and loops over two variables. Unsigned integers are integers.

mod cache;
mod compile;
#[cfg(test)]
mod cost_tests;
mod deep;
mod eval;
mod input;
mod program;
mod spec;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

pub use compile::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX};
pub use deep::{STACK_BYTES, this_thread_is_deep};
pub use eval::EVALUATION_STEPS_MAX;
pub use input::FilterInput;
pub use spec::{FilterSpec, optional_names, prefixes};

use super::event::{Event, EventType, SESSION_BYTES_MAX};
use crate::model::source::raw::RawRequest;

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
    #[error("the server is stopping, or too busy to check it; try again")]
    Busy,
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
            FilterError::TooLong { .. } | FilterError::Expression { .. } | FilterError::Busy => "filter",
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

/// What a filter says about an event, and the work that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// One is some 20 ns. What was read of the payload for the first time is counted, what others had read is not.
    pub steps: u64,
    /// The evaluation ended because it took [`EVALUATION_STEPS_MAX`].
    pub is_spent: bool,
}

impl Judgement {
    fn quick(verdict: Verdict, steps: u64) -> Judgement {
        Judgement { verdict, steps, is_spent: false }
    }
}

/// A checked filter. Cloning it is cheap, it is `Send` and `Sync`, and two that ask the same are equal, whatever the
/// order and the repetitions in which they were written.
#[derive(Clone)]
pub struct Filter(Arc<Compiled>);

struct Compiled {
    /// Normalised: lists sorted and without repetitions, conditions that let everything pass left out.
    spec: FilterSpec,
    /// The path prefixes of the spec without those that begin with another one, sorted.
    prefixes: Box<[String]>,
    program: Option<program::Expr>,
    /// The memory that it takes up, near enough for a bound.
    bytes: usize,
    /// Whether nothing passes but requests that a source kept as they came.
    only_requests: bool,
}

impl Filter {
    /// Checks `spec` and makes it ready for use. Filters that ask the same share what was made.
    ///
    /// Blocks, for an expression that is new, up to some 10 ms. Where that is too long, ask [`Filter::ready`] first.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn compile(spec: &FilterSpec) -> Result<Filter, FilterError> {
        Filter::compiled(spec, false)
    }

    /// Like [`Filter::compile`], for those who can do nothing with other events than requests that a source kept as they
    /// came.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn compile_for_requests(spec: &FilterSpec) -> Result<Filter, FilterError> {
        Filter::compiled(spec, true)
    }

    fn compiled(spec: &FilterSpec, only_requests: bool) -> Result<Filter, FilterError> {
        let spec = normalise(spec)?;
        if spec == FilterSpec::default() && !only_requests {
            return Ok(Filter::all());
        }
        if !only_requests && let Some(compiled) = cache::get(&spec) {
            return Ok(Filter(compiled));
        }
        let program = spec.filter.as_deref().map(compile::compile).transpose()?;
        if only_requests {
            return Ok(Filter(Arc::new(Compiled { only_requests, ..Compiled::new(spec, program) })));
        }
        Ok(Filter(cache::put(Compiled::new(spec, program))))
    }

    /// The filter without waiting: where it has no expression, or one that was compiled lately. None: it has to be compiled.
    ///
    /// # Errors
    /// What is wrong with the spec, but for its expression.
    pub fn ready(spec: &FilterSpec) -> Result<Option<Filter>, FilterError> {
        let spec = normalise(spec)?;
        match spec.filter {
            Some(_) => Ok(cache::get(&spec).map(Filter)),
            None => Filter::compile(&spec).map(Some),
        }
    }

    /// The filter that every event passes.
    pub fn all() -> Filter {
        static ALL: LazyLock<Filter> = LazyLock::new(|| Filter(Arc::new(Compiled::new(FilterSpec::default(), None))));
        ALL.clone()
    }

    /// Whether it has an expression, so that a judgement may take long.
    pub fn has_expression(&self) -> bool {
        self.0.program.is_some()
    }

    /// The spec in its normal form.
    pub fn spec(&self) -> &FilterSpec {
        &self.0.spec
    }

    /// Whether every event passes, so that nobody needs to ask.
    pub fn is_all(&self) -> bool {
        self.0.spec == FilterSpec::default() && !self.0.only_requests
    }

    /// Judges `event`, cheapest condition first. `input` holds what has been read of this very event so far.
    pub fn matches(&self, event: &Event, input: &FilterInput) -> Verdict {
        self.judge(event, input).verdict
    }

    /// As [`Filter::matches`], and says what it took.
    pub fn judge(&self, event: &Event, input: &FilterInput) -> Judgement {
        // an evaluation has a bound of its own, so there is always an answer
        self.judge_within(event, input, u64::MAX).unwrap_or(Judgement::quick(Verdict::Error, 0))
    }

    /// As [`Filter::judge`], if it takes at most `steps`. None: ask again where there is more time.
    pub fn judge_within(&self, event: &Event, input: &FilterInput, steps: u64) -> Option<Judgement> {
        let Compiled { spec, prefixes, program, only_requests, .. } = &*self.0;
        let type_fits = spec
            .events
            .as_ref()
            .is_none_or(|names| names.binary_search_by(|name| name.as_str().cmp(event.kind.as_str())).is_ok());
        let session_fits = spec.session.as_deref().is_none_or(|session| event.session.as_deref() == Some(session));
        let source_fits = spec.source.as_deref().is_none_or(|source| event.origin.source() == Some(source));
        let mut used = 1;
        if !type_fits || !session_fits || !source_fits {
            return Some(Judgement::quick(Verdict::NoMatch, used));
        }
        if *only_requests && !RawRequest::is_one(event.payload.as_str()) {
            return Some(Judgement::quick(Verdict::NoMatch, used));
        }
        if !prefixes.is_empty() {
            used += input.paths_cost(&event.payload);
            if used > steps {
                return None;
            }
            let paths = input.paths(&event.payload);
            used += paths.len() as u64;
            if !paths.iter().any(|path| begins_with_any(path, prefixes)) {
                return Some(Judgement::quick(Verdict::NoMatch, used));
            }
        }
        let Some(program) = program else { return Some(Judgement::quick(Verdict::Match, used)) };
        let left = steps.checked_sub(used)?;
        let evaluated = eval::evaluate(program, event, input, left)?;
        used += evaluated.steps;
        Some(match evaluated.value {
            Ok(true) => Judgement::quick(Verdict::Match, used),
            Ok(false) => Judgement::quick(Verdict::NoMatch, used),
            Err(fault) => Judgement { verdict: Verdict::Error, steps: used, is_spent: fault == value::Fault::Spent },
        })
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.spec == other.0.spec && self.0.only_requests == other.0.only_requests
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

impl Compiled {
    fn new(spec: FilterSpec, program: Option<compile::Program>) -> Compiled {
        let mut prefixes: Vec<String> = Vec::new();
        // sorted, so that what begins with another one comes behind it
        for prefix in &spec.path_prefix {
            if !prefixes.last().is_some_and(|shorter| prefix.starts_with(shorter.as_str())) {
                prefixes.push(prefix.clone());
            }
        }
        // an expression has at most a node for each of its bytes
        let text = spec.filter.as_ref().map_or(0, String::len);
        let patterns = program.as_ref().map_or(0, |program| program.patterns_bytes);
        let bytes = 256 + 2 * spec.bytes() + text * size_of::<program::Expr>() / 4 + patterns * (1 + DFA_SIZES);
        let (prefixes, program) = (prefixes.into(), program.map(|program| program.expr));
        Compiled { spec, prefixes, program, bytes, only_requests: false }
    }
}

/// What a search keeps may be this many times as large as the program of the pattern.
const DFA_SIZES: usize = 4;

/// Whether the text begins with one of these, of which none begins with another one and which are sorted.
fn begins_with_any(text: &str, prefixes: &[String]) -> bool {
    // whatever is sorted between a prefix of the text and the text begins with that prefix: so only the last can be one
    let behind = prefixes.partition_point(|prefix| prefix.as_str() <= text);
    behind.checked_sub(1).is_some_and(|last| text.starts_with(prefixes[last].as_str()))
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
