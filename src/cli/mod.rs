//! The command line: what may be typed, how a command ends, and what is said when it fails.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (of flags or settings). Reasons go to standard error as
//! `stentor: reason; what to do`; standard output carries only what was asked for.

pub mod bench;
pub mod demo;
mod receiver;
pub mod remote;
pub mod serve;
pub mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;

/// Self-hosted real-time events in one binary: SSE, WebSocket and webhooks over an embedded log.
#[derive(Debug, Parser)]
#[command(name = "stentor", version, arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What `stentor` can be told to do; nothing means `serve`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve(serve::ServeArgs),
    /// Run the server on a throw-away data folder with sample traffic
    Demo(serve::DemoArgs),
    /// Make, list and revoke the tokens of a running server
    Token(token::TokenArgs),
    /// Measure what this build does on this machine
    Bench(bench::BenchArgs),
}

/// How a command fails. The text is for people: the reason, then what to do.
#[derive(Debug, Error)]
pub enum Failure {
    /// What was typed or configured cannot be meant: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It was clear what to do, and it did not work: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

/// Reads the command line of this process, lets `execute` do what it says and tells how it ended.
pub fn run(execute: impl FnOnce(Command) -> Result<(), Failure>) -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    install_cryptography();
    let command = arguments.command.unwrap_or_else(|| Command::Serve(serve::ServeArgs::default()));
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stentor: {failure}");
            failure.exit_code()
        }
    }
}

/// Makes aws-lc the cryptography of every TLS connection of this process, in and out. Later calls change nothing.
pub fn install_cryptography() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Help and version go to standard output; a mistake is told in our own form, with clap's usage lines below it.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    eprint!("stentor: {}", text.strip_prefix("error: ").unwrap_or(&text));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_contradict_nothing() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_arguments_no_command_is_named_so_that_serve_is_meant() {
        let arguments = Arguments::try_parse_from(["stentor"]).expect("no argument is needed");
        assert!(arguments.command.is_none());
    }

    #[test]
    fn wrong_usage_is_a_mistake_and_help_is_not() {
        for (line, is_mistake) in [
            ("stentor --help", false),
            ("stentor --version", false),
            ("stentor serve --help", false),
            ("stentor fly", true),
            ("stentor serve --port 1", true),
            ("stentor demo --data x", true),
            ("stentor token", true),
            ("stentor token create --scope publish", true),
            ("stentor token create --channel sphere:1 --scope publish", true),
            ("stentor token create --channel map:1 --scope fly", true),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.use_stderr(), is_mistake, "{line}");
        }
    }

    #[test]
    fn the_flags_of_serve_reach_the_settings() {
        let line = "stentor serve --config a.toml --data d --listen 127.0.0.1:0 --dev";
        let arguments = Arguments::try_parse_from(line.split(' ')).expect(line);
        let Some(Command::Serve(args)) = arguments.command else { panic!("{line} means serve") };
        let flags = args.flags();
        assert_eq!(flags.config.as_deref(), Some("a.toml".as_ref()));
        assert_eq!(flags.data.as_deref(), Some("d".as_ref()));
        assert_eq!(flags.listen.as_deref(), Some("127.0.0.1:0"));
        assert!(flags.dev);
    }
}
