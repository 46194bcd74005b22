//! The command line: what may be typed, how a command ends, and what is said when it fails.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (of flags or settings). Reasons go to standard error as
//! `stentor: reason; what to do`; standard output carries only what was asked for.

mod backoff;
pub mod backup;
pub mod bench;
mod channel;
pub mod complete;
pub mod completions;
pub mod demo;
pub mod doctor;
mod envelope;
pub mod export;
mod filter;
mod follow;
pub mod health;
pub mod import;
mod lines;
pub mod listen;
pub mod login;
mod logins;
pub mod man;
pub mod manage;
mod output;
mod pretty;
mod progress;
pub mod publish;
mod publisher;
mod receiver;
pub mod reload;
pub mod remote;
mod secret_variable;
pub mod serve;
mod since;
mod sse;
mod suggest;
pub mod tail;
pub mod trigger;
pub mod verify;
mod version;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use output::BAD;
use thiserror::Error;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage.
Commands that talk to a server take --server, --token, --token-file and --ca-file, before or after their name; STENTOR_SERVER,
STENTOR_TOKEN, STENTOR_TOKEN_FILE and STENTOR_CA_FILE in the environment stand for them, and `stentor login` keeps both. NO_COLOR switches colours off.";

/// Self-hosted real-time events in one binary: SSE, WebSocket and webhooks over an embedded log.
#[derive(Debug, Parser)]
#[command(name = "stentor", version, arg_required_else_help = false, after_help = AFTER_HELP)]
struct Arguments {
    /// With --version: commit, features and formats as well
    #[arg(long)]
    verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What `stentor` can be told to do; nothing means `serve`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server (the default)
    Serve(serve::ServeArgs),
    /// Replace the running server by the program and the settings of now, without a pause for its clients
    Reload(reload::ReloadArgs),
    /// Run the server on a throw-away data folder with sample traffic
    Demo(serve::DemoArgs),
    /// Publish one event, or many from NDJSON
    Publish(publish::PublishArgs),
    /// Publish one sample event of a type
    Trigger(trigger::TriggerArgs),
    /// Show the events of a channel as they come
    Tail(tail::TailArgs),
    /// Deliver the events of a channel to a receiver on this machine, signed as a webhook would
    Listen(listen::ListenArgs),
    /// Judge the signature of a webhook's request that was saved
    Verify(verify::VerifyArgs),
    /// Write the history of a channel as NDJSON
    Export(export::ExportArgs),
    /// Store events from NDJSON in a channel, each once
    Import(import::ImportArgs),
    /// Take a backup of a running server
    Backup(backup::BackupArgs),
    /// Make a data folder of a backup
    Restore(backup::RestoreArgs),
    /// Keep the address of a server and a token for the commands that come after
    Login(login::LoginArgs),
    /// Forget the token of a server
    Logout(login::LogoutArgs),
    /// List, make, change and delete maps
    Map(manage::map::MapArgs),
    /// List, make, change and delete organizations
    Org(manage::organization::OrganizationArgs),
    /// List, make, rename and revoke tokens
    Token(manage::token::TokenArgs),
    /// Manage the webhooks that go out, their deliveries and replays
    Webhook(manage::webhook::WebhookArgs),
    /// Manage the webhooks that come in, and look at what they refused
    Source(manage::source::SourceArgs),
    /// List who is connected, and end connections
    Connection(manage::connection::ConnectionArgs),
    /// Show what needs attention, and figures
    Overview(manage::overview::OverviewArgs),
    /// Count the events of a channel by type
    Stats(manage::events::StatsArgs),
    /// Show what became of one event
    Trace(manage::events::TraceArgs),
    /// List the catalogue of event types
    Types(manage::events::TypesArgs),
    /// Make a ticket, with which a browser opens a stream without a token
    Ticket(manage::events::TicketArgs),
    /// Send any request of the API
    Api(manage::api::ApiArgs),
    /// Look for what is wrong with a running server, or with a data folder
    Doctor(doctor::DoctorArgs),
    /// Tell by the exit code whether a server is ready
    Health(health::HealthArgs),
    /// Measure what this build does on this machine
    Bench(bench::BenchArgs),
    /// Print the script that completes commands in a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands into a folder
    Man(man::ManArgs),
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
    /// The reader of standard output has left, as `head` does: nothing is wrong, and nothing is left to do.
    #[error("nobody reads the output any more")]
    NobodyReads,
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
            Self::NobodyReads => ExitCode::SUCCESS,
        }
    }
}

/// A write beyond the limit on the size of files (`ulimit -f`) then fails as on a full disk, and does not end the process.
fn outlive_the_limit_of_files() {
    // SAFETY: nothing else of this process has to do with this signal
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Reads the command line of this process, lets `execute` do what it says and tells how it ended.
pub fn run(execute: impl FnOnce(Command) -> Result<(), Failure>) -> ExitCode {
    complete::answer_shell();
    let words: Vec<OsString> = std::env::args_os().collect();
    let is_verbose = words.iter().any(|word| word == "--verbose");
    let arguments = match Arguments::try_parse_from(behind_the_command(words)) {
        Ok(Arguments { verbose: true, .. }) => {
            eprintln!("stentor: --verbose goes with --version; leave it out");
            return ExitCode::from(2);
        }
        Ok(arguments) => arguments,
        Err(error) if error.kind() == ErrorKind::DisplayVersion && is_verbose => {
            return version::print_all().map_or_else(|failure| failure.exit_code(), |()| ExitCode::SUCCESS);
        }
        Err(error) => return explain(&error),
    };
    install_cryptography();
    outlive_the_limit_of_files();
    let command = arguments.command.unwrap_or_else(|| Command::Serve(serve::ServeArgs::default()));
    match execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::NobodyReads) => Failure::NobodyReads.exit_code(),
        Err(failure) => {
            anstream::eprintln!("{BAD}stentor:{BAD:#} {failure}");
            failure.exit_code()
        }
    }
}

/// The same words with the flags that say which server is meant behind the first command: they may stand before it, and only
/// commands that talk to a server know them.
fn behind_the_command(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut ordered: Vec<OsString> = words.next().into_iter().collect();
    let mut flags = Vec::new();
    let mut words = words.peekable();
    while let Some(word) = words.next_if(|word| names_server(word)) {
        let has_value = word.as_encoded_bytes().contains(&b'=');
        flags.push(word);
        if !has_value {
            flags.extend(words.next());
        }
    }
    ordered.extend(words.next());
    ordered.extend(flags);
    ordered.extend(words);
    ordered
}

fn names_server(word: &OsStr) -> bool {
    let name = word.to_str().map(|word| word.split_once('=').map_or(word, |(name, _)| name));
    matches!(name, Some("--server" | "--token" | "--token-file" | "--ca-file"))
}

/// Makes aws-lc the cryptography of every TLS connection of this process, in and out. Later calls change nothing.
pub fn install_cryptography() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Every command and flag, for what is made of them: completions, manual pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Help and version go to standard output; a mistake is told in our own form, with clap's usage lines below it.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match output::text(&error.render().ansi().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.exit_code(),
        };
    }
    let text = error.to_string();
    eprint!("stentor: {}", text.strip_prefix("error: ").unwrap_or(&text));
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
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
            ("stentor token create map:1", true),
            ("stentor token create --channel sphere:1 --scope publish", true),
            ("stentor token create --channel map:1 --scope fly", true),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.use_stderr(), is_mistake, "{line}");
        }
    }

    #[test]
    fn the_flags_that_name_a_server_stand_before_or_behind_the_command() {
        let ordered = |line: &str| {
            let words = behind_the_command(line.split(' ').map(OsString::from));
            words.join(OsStr::new(" ")).into_string().expect("UTF-8")
        };
        for (line, expected) in [
            ("stentor --server http://a tail map:b", "stentor tail --server http://a map:b"),
            (
                "stentor --token=t --token-file f webhook list map:b",
                "stentor webhook --token=t --token-file f list map:b",
            ),
            ("stentor tail map:b --server http://a", "stentor tail map:b --server http://a"),
            ("stentor serve", "stentor serve"),
            ("stentor", "stentor"),
            ("stentor --server", "stentor --server"),
        ] {
            assert_eq!(ordered(line), expected);
        }
        let parse = |line: &str| Arguments::try_parse_from(behind_the_command(line.split(' ').map(OsString::from)));
        assert!(parse("stentor --server http://a --token t webhook list map:b").is_ok());
        assert!(parse("stentor --server http://a serve").is_err());
        assert!(parse("stentor --server http://a").is_err());
    }

    /// Sections of the command line's documentation: heading and text.
    fn documented() -> Vec<(&'static str, &'static str)> {
        const PAGE: &str = include_str!("../../docs/cli.md");
        let sections = PAGE.split("\n## ").flat_map(|part| part.split("\n### "));
        sections.map(|section| section.split_once('\n').expect("a heading is a line")).collect()
    }

    #[test]
    fn every_command_and_every_flag_is_documented_and_nothing_else_is() {
        fn visit(command: &clap::Command, path: &str, above: &str, commands: &mut Vec<String>) {
            let shared = documented()[1];
            assert_eq!(shared.0, "All commands");
            let section = documented().into_iter().find(|(heading, _)| *heading == path);
            let (_, text) = section.unwrap_or_else(|| panic!("docs/cli.md has no section for {path}"));
            commands.push(path.to_owned());
            let text = format!("{above}{text}");
            for argument in command.get_arguments().filter_map(clap::Arg::get_long).filter(|name| *name != "help") {
                let flag =
                    |text: &str| text.contains(&format!("`--{argument}")) || text.contains(&format!("[--{argument}"));
                assert!(flag(&text) || flag(shared.1), "the section for {path} does not explain --{argument}");
            }
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                visit(inner, &format!("{path} {}", inner.get_name()), &text, commands);
            }
        }
        let (mut command, mut commands) = (command(), Vec::new());
        command.build();
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            visit(inner, &format!("stentor {}", inner.get_name()), "", &mut commands);
        }
        let headings = documented().into_iter().skip(2).map(|(heading, _)| heading);
        let unknown: Vec<_> = headings.filter(|heading| !commands.iter().any(|command| command == heading)).collect();
        assert_eq!(unknown, [""; 0], "sections of commands that do not exist");
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
