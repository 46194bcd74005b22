//! The program `stentor`: one line per subcommand.

use std::process::ExitCode;

use stentor::cli::{self, Command, bench, demo, serve, token};

fn main() -> ExitCode {
    cli::run(|command| match command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Token(args) => token::run(args),
        Command::Bench(args) => bench::run(args),
    })
}
