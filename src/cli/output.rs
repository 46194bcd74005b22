//! What commands write: standard output, whose reader may leave, colours for terminals, and notices on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Color, Style};

use super::Failure;

/// For what is seen often and read seldom.
pub const DIM: Style = Style::new().dimmed();
/// For what the eye looks for.
pub const NAME: Style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Cyan)));
pub const GOOD: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
pub const DOUBTFUL: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
pub const BAD: Style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Red)));

/// Text with styles to standard output. They stay only where it is a terminal and `NO_COLOR` is not set.
///
/// # Errors
/// See [`written`].
pub fn text(styled: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    written(out.write_all(styled.as_bytes()).and_then(|()| out.flush()))
}

/// Bytes to standard output, as they are.
///
/// # Errors
/// See [`written`].
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// What became of a write to standard output.
///
/// # Errors
/// [`Failure::NobodyReads`] when its reader has left; failed when it cannot be written.
pub fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Failed(format!("cannot write to standard output: {error}; check where it goes")),
    })
}

/// A line of a server on standard output. It serves also where nobody can be told: the log says so.
pub fn announce(line: impl fmt::Display) {
    let mut out = io::stdout().lock();
    if let Err(e) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        log::warn!("standard output takes no line, and the server goes on: {e}; check where it goes");
    }
}

/// A line on standard error, for whoever watches. Nobody there is no reason to stop.
pub fn notice(styled: &str) {
    let _ = writeln!(anstream::stderr(), "stentor: {styled}");
}

/// Whether a person watches standard error, so that progress is worth showing.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A number and the word that goes with it.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Text that others wrote, made safe for a terminal: control characters, also those of C1, become JSON's escapes, which
/// leaves JSON as it means.
pub fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => tamed.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => tamed.push(c),
        }
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_of_others_reaches_a_terminal() {
        assert_eq!(tame("a\u{1b}[2J\u{9b}b\nä"), "a\\u001b[2J\\u009bb\\u000aä");
        let json = "{\"a\":\"\u{9b}\u{7f}\"}";
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parse(&tame(json)), parse(json));
    }
}
