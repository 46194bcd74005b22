//! An expression ready to run: what the parser's tree becomes once every name in it has been resolved.
//!
//! Plain data, `Send` and `Sync`. Regular expressions are compiled here, variables are places on a stack, and the only
//! functions are those of [`Function`], each of which says what it costs when it runs (`eval`).

use regex::Regex;

/// One node of an expression.
#[derive(Debug)]
pub(super) enum Expr {
    Literal(Literal),
    Event(EventField),
    /// The variable of an enclosing loop, by its place on the stack.
    Variable(usize),
    Select(Box<Expr>, Box<str>),
    Has(Box<Expr>, Box<str>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// Condition, then, else.
    If(Box<[Expr; 3]>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    List(Vec<Expr>),
    Call(Function, Vec<Expr>),
    Matches(Box<Expr>, Pattern),
    Loop(Box<Loop>),
}

/// A constant.
#[derive(Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
}

/// The fields of `event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventField {
    Id,
    Type,
    Session,
    Ts,
    Timestamp,
    Payload,
    /// The payload as JSON writes it, to look for something anywhere in it.
    Text,
}

impl EventField {
    pub(super) const NAMES: &str = "id, type, session, ts, timestamp, payload, text";

    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" => EventField::Id,
            "type" => EventField::Type,
            "session" => EventField::Session,
            "ts" => EventField::Ts,
            "timestamp" => EventField::Timestamp,
            "payload" => EventField::Payload,
            "text" => EventField::Text,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Index,
}

/// A function, with the number of its arguments (the receiver included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    Text,
    Bool,
    Dyn,
    Timestamp,
    Duration,
    Part(TimePart),
}

impl Function {
    /// Whether it makes something else of a text, for which it reads all of it.
    pub(super) fn reads_text(self) -> bool {
        matches!(self, Function::Int | Function::Double | Function::Bool | Function::Timestamp | Function::Duration)
    }

    pub(super) const NAMES: &str = "size, contains, startsWith, endsWith, matches, lowerAscii, upperAscii, int, uint, \
        double, string, bool, dyn, timestamp, duration, getFullYear, getMonth, getDate, getDayOfMonth, getDayOfWeek, \
        getDayOfYear, getHours, getMinutes, getSeconds, getMilliseconds, has, all, exists, exists_one, map, filter";

    /// The function called `name`, and whether it is called on a receiver (`x.f()`) or not; `size` is both.
    pub(super) fn named(name: &str, has_receiver: bool) -> Option<(Self, usize)> {
        Some(match (name, has_receiver) {
            ("size", _) => (Function::Size, 1),
            ("contains", true) => (Function::Contains, 2),
            ("startsWith", true) => (Function::StartsWith, 2),
            ("endsWith", true) => (Function::EndsWith, 2),
            ("lowerAscii", true) => (Function::LowerAscii, 1),
            ("upperAscii", true) => (Function::UpperAscii, 1),
            ("int" | "uint", false) => (Function::Int, 1),
            ("double", false) => (Function::Double, 1),
            ("string", false) => (Function::Text, 1),
            ("bool", false) => (Function::Bool, 1),
            ("dyn", false) => (Function::Dyn, 1),
            ("timestamp", false) => (Function::Timestamp, 1),
            ("duration", false) => (Function::Duration, 1),
            (name, true) => (Function::Part(TimePart::named(name)?), 1),
            _ => return None,
        })
    }
}

/// What a getter takes out of a timestamp (in UTC) or, from hours on, out of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimePart {
    FullYear,
    /// From 0, as in CEL.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, which is Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl TimePart {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "getFullYear" => TimePart::FullYear,
            "getMonth" => TimePart::Month,
            "getDate" => TimePart::Date,
            "getDayOfMonth" => TimePart::DayOfMonth,
            "getDayOfWeek" => TimePart::DayOfWeek,
            "getDayOfYear" => TimePart::DayOfYear,
            "getHours" => TimePart::Hours,
            "getMinutes" => TimePart::Minutes,
            "getSeconds" => TimePart::Seconds,
            "getMilliseconds" => TimePart::Milliseconds,
            _ => return None,
        })
    }
}

/// A comprehension.
#[derive(Debug)]
pub(super) struct Loop {
    pub kind: LoopKind,
    /// A list, or a map, of which the keys are walked.
    pub range: Expr,
    /// The condition of `all`, `exists`, `exists_one` and `filter`, and of `map` with three arguments.
    pub condition: Option<Expr>,
    /// What `map` makes of an element.
    pub transform: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    /// `filter` and `map`: with a transform or without.
    Collect,
}

/// A regular expression, and what it costs to search a byte with it.
#[derive(Debug)]
pub(super) struct Pattern {
    pub regex: Regex,
    /// In steps per 16 bytes of text.
    pub weight: u64,
    /// The size class of the program, in bytes.
    pub bytes: usize,
}

impl Pattern {
    /// The size classes, in bytes of the compiled program, with the cost of each. The search is linear in the text
    /// times the program, so a program twice as large is charged twice as much.
    const CLASSES: [(usize, u64); 4] = [(4 << 10, 2), (16 << 10, 8), (64 << 10, 32), (256 << 10, 128)];

    /// Compiles `text`; fails with the reason, also for a program that would be larger than the last class.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut last = None;
        for (size, weight) in Self::CLASSES {
            let built = regex::RegexBuilder::new(text).size_limit(size).dfa_size_limit(size * 4).build();
            match built {
                Ok(regex) => return Ok(Pattern { regex, weight, bytes: size }),
                Err(fault @ regex::Error::CompiledTooBig(_)) => last = Some(fault),
                Err(fault) => return Err(regex_reason(&fault)),
            }
        }
        let (size, _) = Self::CLASSES[Self::CLASSES.len() - 1];
        debug_assert!(last.is_some(), "the loop ends only by too large a program");
        Err(format!("the compiled pattern takes more than {} KiB; shorten its repetitions", size >> 10))
    }
}

/// The last line of the crate's drawing of the fault, which is the sentence.
fn regex_reason(fault: &regex::Error) -> String {
    let text = fault.to_string();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it does not compile");
    line.trim().trim_start_matches("error: ").to_owned()
}
