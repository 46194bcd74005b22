//! From the text of an expression to a [`Expr`]: the parser of the crate `cel`, then the names and the bounds.
//!
//! The parser recurses deeply and is generated code. So its recursion is limited, and it runs on a stack that holds the worst
//! that is let through (`deep`). Macros are left unexpanded, which makes a loop one node here.

use cel::common::ast::{CallExpr, Expr as Ast, IdedExpr, LiteralValue, SourceInfo, operators};

use super::program::{EventField, Expr, Function, Literal, Loop, LoopKind, Operator, Pattern};
use super::{FilterError, deep};

/// The longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 2048;
/// How deep the nodes of an expression may be nested.
pub const EXPRESSION_DEPTH_MAX: usize = 48;
/// How deep brackets and conditionals may be nested.
const BRACKETS_MAX: u16 = 40;
/// What the programs of all patterns of one expression may take up together, in bytes. It bounds the time to compile them.
const PATTERNS_BYTES_MAX: usize = 1 << 20;
/// The longest sentence that is passed on from the parser, in characters.
const REASON_CHARS_MAX: usize = 160;

/// An expression that was compiled.
#[derive(Debug)]
pub(super) struct Program {
    pub expr: Expr,
    /// The memory that its patterns may take up, in bytes.
    pub patterns_bytes: usize,
}

/// Compiles `text`. Every error carries line and column, both from 1, the column in characters.
pub(super) fn compile(text: &str) -> Result<Program, FilterError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(FilterError::TooLong { bytes: text.len(), max: EXPRESSION_BYTES_MAX });
    }
    deep::compile(text)
}

/// What [`compile`] does on a stack that is deep enough.
pub(super) fn parse_and_check(text: &str) -> Result<Program, FilterError> {
    let (ast, source) = parse(text)?;
    let mut compiler = Compiler { text, source: &source, variables: Vec::new(), patterns_bytes: 0 };
    let expr = compiler.expr(&ast, 0)?;
    let patterns_bytes = compiler.patterns_bytes;
    if never_true(&expr) { Err(fault_at(text, 0, NO_CONDITION)) } else { Ok(Program { expr, patterns_bytes }) }
}

pub(super) const CANNOT_PARSE: &str = "the expression cannot be parsed; check its quotes and brackets";
const NO_CONDITION: &str = "the expression is never true or false; compare something, as in event.type == \"map_kill\"";
const TOO_DEEP: &str = "the expression is nested too deeply; split it or shorten its chains";

/// Whether the outermost operation gives numbers, texts or lists and never a truth value.
fn never_true(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => !matches!(literal, Literal::Bool(_)),
        Expr::Event(field) => !matches!(field, EventField::Payload),
        Expr::Negate(_) | Expr::List(_) => true,
        Expr::Binary(operator, ..) => matches!(
            operator,
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder
        ),
        _ => false,
    }
}

/// A fault at the byte `offset`.
pub(super) fn fault_at(text: &str, offset: usize, reason: impl Into<String>) -> FilterError {
    let (mut line, mut column) = (1, 1);
    for (_, c) in text.char_indices().take_while(|&(at, _)| at < offset) {
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    FilterError::Expression { line, column, reason: reason.into() }
}

fn parse(text: &str) -> Result<(IdedExpr, SourceInfo), FilterError> {
    let parser = cel::Env::default().parser().max_recursion_depth(BRACKETS_MAX).error_recovery_limit(4);
    parser.parse_with_source_info(text).map_err(|faults| {
        // what comes of reading on behind a fault says less than the fault
        let telling = |fault: &&cel::ParseError| !fault.msg.starts_with("Incomplete");
        let Some(fault) = faults.errors.iter().find(telling).or(faults.errors.first()) else {
            return fault_at(text, 0, CANNOT_PARSE);
        };
        let from_1 = |place: isize| u32::try_from(place).unwrap_or(1).max(1);
        let reason = if fault.msg.contains("Recursion limit") { TOO_DEEP.to_owned() } else { explained(&fault.msg) };
        FilterError::Expression { line: from_1(fault.pos.0), column: from_1(fault.pos.1), reason }
    })
}

/// What the parser says, for people who know nothing of tokens.
fn explained(message: &str) -> String {
    let line = shorten(message);
    let Some((about, rest)) = line.split_once('\'') else { return line };
    // what could not be read may hold quotes itself; a token holds none
    let text = rest.strip_suffix('\'').unwrap_or(rest).trim();
    let token = rest.split('\'').next().unwrap_or_default();
    match (about.trim_end(), token) {
        ("token recognition error at:", _) if text == "=" => "= by itself means nothing; compare with ==".to_owned(),
        ("token recognition error at:", _) => {
            format!("{text} means nothing here; check the quotes and the operators")
        }
        ("missing", token) => format!("{token} is missing here"),
        ("mismatched input" | "extraneous input" | "no viable alternative at input", token) => match token {
            "<EOF>" => "the expression ends here, and something is missing".to_owned(),
            "and" => "and is written &&".to_owned(),
            "or" => "or is written ||".to_owned(),
            "not" => "not is written !".to_owned(),
            _ => format!("{token} does not fit here; check what stands before and behind it"),
        },
        _ => line.clone(),
    }
}

/// The parser's first line, without its list of all tokens that would have fitted.
fn shorten(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("Syntax error: ").unwrap_or(line);
    let line = line.split_once(" expecting {").map_or(line, |(reason, _)| reason);
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None if line.is_empty() => CANNOT_PARSE.to_owned(),
        None => line.to_owned(),
    }
}

struct Compiler<'s> {
    text: &'s str,
    source: &'s SourceInfo,
    /// The loop variables in scope, the innermost last.
    variables: Vec<String>,
    /// Of all patterns so far.
    patterns_bytes: usize,
}

type Compiled = Result<Expr, FilterError>;

impl Compiler<'_> {
    fn fault(&self, node: &IdedExpr, reason: impl Into<String>) -> FilterError {
        let offset = self.source.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        fault_at(self.text, offset, reason)
    }

    fn expr(&mut self, node: &IdedExpr, depth: usize) -> Compiled {
        if depth > EXPRESSION_DEPTH_MAX {
            return Err(self.fault(node, TOO_DEEP));
        }
        let depth = depth + 1;
        match &node.expr {
            Ast::Literal(literal) => self.literal(node, literal),
            Ast::Ident(name) => self.name(node, name),
            Ast::Select(select) => {
                if self.is_event(&select.operand) {
                    return self.event_field(node, &select.field).map(Expr::Event);
                }
                Ok(Expr::Select(Box::new(self.expr(&select.operand, depth)?), select.field.as_str().into()))
            }
            Ast::List(list) => {
                let elements = list.elements.iter().map(|element| self.expr(element, depth));
                Ok(Expr::List(elements.collect::<Result<_, _>>()?))
            }
            Ast::Call(call) => self.call(node, call, depth),
            Ast::Map(_) | Ast::Struct(_) => Err(self.fault(node, "maps cannot be written in a filter; use a list")),
            Ast::Comprehension(_) | Ast::Unspecified => Err(self.fault(node, CANNOT_PARSE)),
        }
    }

    fn literal(&self, node: &IdedExpr, literal: &LiteralValue) -> Compiled {
        Ok(Expr::Literal(match literal {
            LiteralValue::Null => Literal::Null,
            LiteralValue::Boolean(value) => Literal::Bool(*value.inner()),
            LiteralValue::Int(value) => Literal::Int(*value.inner()),
            LiteralValue::Double(value) => Literal::Double(*value.inner()),
            LiteralValue::String(value) => Literal::Text(value.inner().into()),
            // JSON knows no unsigned numbers: they are numbers like any other
            LiteralValue::UInt(value) => i64::try_from(*value.inner())
                .map(Literal::Int)
                .map_err(|_| self.fault(node, "an integer is at most 9223372036854775807"))?,
            LiteralValue::Bytes(_) => return Err(self.fault(node, "bytes cannot be written in a filter; use a string")),
        }))
    }

    fn name(&self, node: &IdedExpr, name: &str) -> Compiled {
        if let Some(place) = self.variables.iter().rposition(|variable| variable == name) {
            return Ok(Expr::Variable(place));
        }
        Err(self.fault(
            node,
            match name {
                "event" => format!("event is not a value itself; use one of its fields: {}", EventField::NAMES),
                _ => format!("unknown variable {}; the only one is event", shorten(name)),
            },
        ))
    }

    fn is_event(&self, node: &IdedExpr) -> bool {
        matches!(&node.expr, Ast::Ident(name) if name == "event") && !self.variables.iter().any(|name| name == "event")
    }

    fn event_field(&self, node: &IdedExpr, name: &str) -> Result<EventField, FilterError> {
        EventField::named(name).ok_or_else(|| {
            let reason = format!("event has no field {}; it has {}", shorten(name), EventField::NAMES);
            self.fault(node, reason)
        })
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr, depth: usize) -> Compiled {
        if let Some(target) = &call.target {
            if let Some(compiled) = self.comprehension(node, call, target, depth) {
                return compiled;
            }
        } else if let Some(compiled) = self.operator(node, call, depth) {
            return compiled;
        }
        let name = call.func_name.as_str();
        let mut args: Vec<&IdedExpr> = call.target.iter().map(|target| &**target).collect();
        args.extend(&call.args);
        match (name, &args[..]) {
            ("has", [inner]) if call.target.is_none() => return self.has(inner, depth),
            ("matches", [text, pattern]) => return self.matches(text, pattern, depth),
            _ => {}
        }
        let Some((function, arguments)) = Function::named(name, call.target.is_some()) else {
            let reason = format!("unknown function {}; there are {}", shorten(name), Function::NAMES);
            return Err(self.fault(node, reason));
        };
        if args.len() != arguments {
            let given = arguments - usize::from(call.target.is_some());
            return Err(self.fault(node, format!("{name} takes {given} argument(s)")));
        }
        let args = args.into_iter().map(|arg| self.expr(arg, depth)).collect::<Result<_, _>>()?;
        Ok(Expr::Call(function, args))
    }

    fn has(&mut self, inner: &IdedExpr, depth: usize) -> Compiled {
        let Ast::Select(select) = &inner.expr else {
            return Err(self.fault(inner, "has takes a field, as in has(event.payload.name)"));
        };
        if self.is_event(&select.operand) {
            // every field of an event is always there
            return self.event_field(inner, &select.field).map(|_| Expr::Literal(Literal::Bool(true)));
        }
        Ok(Expr::Has(Box::new(self.expr(&select.operand, depth)?), select.field.as_str().into()))
    }

    fn matches(&mut self, text: &IdedExpr, pattern: &IdedExpr, depth: usize) -> Compiled {
        let Ast::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return Err(self.fault(pattern, "the pattern of matches must be written out as a string"));
        };
        let compiled = Pattern::new(literal.inner())
            .map_err(|reason| self.fault(pattern, format!("bad regular expression: {}", shorten(&reason))))?;
        self.patterns_bytes += compiled.bytes;
        if self.patterns_bytes > PATTERNS_BYTES_MAX {
            let most = PATTERNS_BYTES_MAX >> 10;
            let reason = format!("the patterns of the expression take more than {most} KiB together; use fewer");
            return Err(self.fault(pattern, reason));
        }
        Ok(Expr::Matches(Box::new(self.expr(text, depth)?), compiled))
    }

    /// The call as an operator, if it is one: the parser writes them as functions with names that nobody can type.
    fn operator(&mut self, node: &IdedExpr, call: &CallExpr, depth: usize) -> Option<Compiled> {
        let operator = match (call.func_name.as_str(), &call.args[..]) {
            (operators::CONDITIONAL, [condition, yes, no]) => {
                return Some(self.exprs([condition, yes, no], depth).map(|parts| Expr::If(Box::new(parts))));
            }
            (operators::LOGICAL_NOT, [inner]) => return Some(self.expr(inner, depth).map(|e| Expr::Not(Box::new(e)))),
            (operators::NEGATE, [inner]) => return Some(self.expr(inner, depth).map(|e| Expr::Negate(Box::new(e)))),
            (operators::LOGICAL_AND, [a, b]) => {
                return Some(self.exprs([a, b], depth).map(|[a, b]| Expr::And(Box::new(a), Box::new(b))));
            }
            (operators::LOGICAL_OR, [a, b]) => {
                return Some(self.exprs([a, b], depth).map(|[a, b]| Expr::Or(Box::new(a), Box::new(b))));
            }
            (operators::INDEX, [event, name]) if self.is_event(event) => {
                return Some(match &name.expr {
                    Ast::Literal(LiteralValue::String(text)) => self.event_field(node, text.inner()).map(Expr::Event),
                    _ => Err(self.fault(name, "a field of event is named by a string")),
                });
            }
            (operators::ADD, [_, _]) => Operator::Add,
            (operators::SUBSTRACT, [_, _]) => Operator::Subtract,
            (operators::MULTIPLY, [_, _]) => Operator::Multiply,
            (operators::DIVIDE, [_, _]) => Operator::Divide,
            (operators::MODULO, [_, _]) => Operator::Remainder,
            (operators::EQUALS, [_, _]) => Operator::Equal,
            (operators::NOT_EQUALS, [_, _]) => Operator::NotEqual,
            (operators::LESS, [_, _]) => Operator::Less,
            (operators::LESS_EQUALS, [_, _]) => Operator::LessOrEqual,
            (operators::GREATER, [_, _]) => Operator::Greater,
            (operators::GREATER_EQUALS, [_, _]) => Operator::GreaterOrEqual,
            (operators::IN, [_, _]) => Operator::In,
            (operators::INDEX, [_, _]) => Operator::Index,
            _ => return None,
        };
        let pair = self.exprs([&call.args[0], &call.args[1]], depth);
        Some(pair.map(|[a, b]| Expr::Binary(operator, Box::new(a), Box::new(b))))
    }

    fn exprs<const N: usize>(&mut self, nodes: [&IdedExpr; N], depth: usize) -> Result<[Expr; N], FilterError> {
        let mut compiled = Vec::with_capacity(N);
        for node in nodes {
            compiled.push(self.expr(node, depth)?);
        }
        // safe: one was pushed for each of the N nodes
        Ok(compiled.try_into().expect("as many expressions as nodes"))
    }

    /// The call as a loop, if it is one.
    fn comprehension(&mut self, node: &IdedExpr, call: &CallExpr, target: &IdedExpr, depth: usize) -> Option<Compiled> {
        let (kind, condition, transform) = match (call.func_name.as_str(), &call.args[..]) {
            ("all", [_, condition]) => (LoopKind::All, Some(condition), None),
            ("exists", [_, condition]) => (LoopKind::Exists, Some(condition), None),
            ("exists_one" | "existsOne", [_, condition]) => (LoopKind::ExistsOne, Some(condition), None),
            ("filter", [_, condition]) => (LoopKind::Collect, Some(condition), None),
            ("map", [_, transform]) => (LoopKind::Collect, None, Some(transform)),
            ("map", [_, condition, transform]) => (LoopKind::Collect, Some(condition), Some(transform)),
            (name @ ("all" | "exists" | "exists_one" | "existsOne" | "filter" | "map"), _) => {
                return Some(Err(self.fault(node, format!("{name} takes a variable and an expression over it"))));
            }
            _ => return None,
        };
        let Ast::Ident(variable) = &call.args[0].expr else {
            return Some(Err(self.fault(&call.args[0], "the first argument is the name of the loop's variable")));
        };
        let range = match self.expr(target, depth) {
            Ok(range) => range,
            Err(fault) => return Some(Err(fault)),
        };
        self.variables.push(variable.clone());
        let condition = condition.map(|condition| self.expr(condition, depth)).transpose();
        let transform = transform.map(|transform| self.expr(transform, depth)).transpose();
        self.variables.pop();
        Some(
            condition
                .and_then(|condition| Ok(Expr::Loop(Box::new(Loop { kind, range, condition, transform: transform? })))),
        )
    }
}
