//! What a template may be made of. The rest of MiniJinja is refused, because a few steps of it can make a large value
//! out of a small one (`"a" * 1000000`, `x ~ x` kept and doubled again), which a bound on steps does not prevent.
//!
//! Allowed are insertions, `if`, `for` and `set`. A name stands for a part of the event or what one filter made of it,
//! never for something put together, so that values do not grow from name to name.

use minijinja::machinery::{Span, Token, tokenize};

use super::{TemplateError, syntax};

const STATEMENTS: [&str; 7] = ["if", "elif", "else", "endif", "for", "endfor", "set"];
/// Words that end an operand's way to the left: a bracket or parenthesis behind them starts a value of its own.
const OPERATORS: [&str; 7] = ["in", "and", "or", "not", "if", "else", "is"];

// The parser and compiler of MiniJinja recurse for each of the following, on the stack of a worker.

/// How many `if`, `elif` and `for` may be open at once.
const NESTING_MAX: usize = 64;
/// How deep brackets and parentheses may be nested.
const BRACKETS_MAX: usize = 16;
/// The longest name. Each step may look for one.
const NAME_BYTES_MAX: usize = 256;
/// How many words and signs one statement or insertion may have.
const TOKENS_MAX: usize = 256;

/// Checks the words of a template before anything of it is evaluated: constants are, while it is compiled.
pub(super) fn check(text: &str) -> Result<(), TemplateError> {
    if let Some(at) = text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(TemplateError::Control { line: 1 + text[..at].matches('\n').count() });
    }
    let mut checker = Checker::default();
    for token in tokenize(text, false, Default::default()) {
        let (token, span) = token.map_err(|error| syntax(&error))?;
        checker.take(&token, &span)?;
    }
    Ok(())
}

#[derive(Default)]
struct Checker {
    /// Whether the next word names a statement.
    at_statement: bool,
    /// The statement that the tokens belong to; empty in an insertion.
    statement: String,
    /// Whether they are past `in` of a `for` or `=` of a `set`, that is, say what a name stands for.
    naming: bool,
    /// For each open bracket and parenthesis whether it is that of a call.
    open: Vec<bool>,
    /// Whether the last token can be called or indexed.
    after_operand: bool,
    tokens: usize,
    /// For each open `if` and `for` how many branches it has so far.
    branches: Vec<usize>,
}

impl Checker {
    fn take(&mut self, token: &Token<'_>, span: &Span) -> Result<(), TemplateError> {
        let refuse = |what: &str, instead| {
            Err(TemplateError::NotAllowed { line: usize::from(span.start_line), what: what.into(), instead })
        };
        const TOGETHER: &str = "write the parts one after another";
        self.tokens += 1;
        if self.tokens > TOKENS_MAX {
            return refuse("a statement this long", "split it into several");
        }
        if let Token::Ident(name) = token
            && name.len() > NAME_BYTES_MAX
        {
            return refuse("a name this long", "shorten it");
        }
        match token {
            Token::TemplateData(_) => {
                self.tokens = 0;
                return Ok(());
            }
            Token::BlockStart | Token::VariableStart => {
                *self = Checker {
                    branches: std::mem::take(&mut self.branches),
                    at_statement: matches!(token, Token::BlockStart),
                    ..Checker::default()
                };
                return Ok(());
            }
            Token::Ident(word) if self.at_statement => {
                if !STATEMENTS.contains(word) {
                    return refuse(&format!("`{word}`"), "there are `if`, `elif`, `else`, `for` and `set`");
                }
                self.statement = (*word).to_owned();
                match *word {
                    "if" | "for" => self.branches.push(1),
                    "elif" => self.branches.iter_mut().next_back().into_iter().for_each(|branches| *branches += 1),
                    "endif" | "endfor" => drop(self.branches.pop()),
                    _ => {}
                }
                if self.branches.iter().sum::<usize>() > NESTING_MAX {
                    return refuse("nesting this deep", "join the conditions");
                }
            }
            Token::Ident("recursive") if self.naming => return refuse("`recursive`", "use a plain `for`"),
            Token::Ident("in") if self.statement == "for" => self.naming = true,
            Token::Assign if self.statement == "set" && self.open.is_empty() => self.naming = true,
            Token::Plus => return refuse("`+`", "subtract a negative number, or write the parts one after another"),
            Token::Tilde => return refuse("`~`", TOGETHER),
            Token::Mul | Token::Pow => return refuse("multiplication", "divide by the inverse instead"),
            Token::Colon => return refuse("`:` inside of braces", "use `| truncate(n)` for parts of a text"),
            Token::BraceOpen => return refuse("a mapping", "write the JSON outside of the braces"),
            Token::Comma if self.naming && self.open.last() != Some(&true) => {
                return refuse("a list under a name", "name one part of the event");
            }
            Token::ParenOpen | Token::BracketOpen => {
                self.open.push(self.after_operand && matches!(token, Token::ParenOpen));
                if self.open.len() > BRACKETS_MAX {
                    return refuse("nesting this deep", "split the expression");
                }
            }
            Token::ParenClose | Token::BracketClose => drop(self.open.pop()),
            _ => {}
        }
        self.after_operand = match token {
            Token::Ident(word) => !self.at_statement && !OPERATORS.contains(word),
            Token::ParenClose | Token::BracketClose | Token::Str(_) | Token::String(_) => true,
            _ => false,
        };
        self.at_statement = false;
        Ok(())
    }
}
