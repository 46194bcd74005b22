//! The program `stentor`: one line per subcommand.

use std::process::ExitCode;

use stentor::cli::{
    self, Command, backup, bench, completions, demo, doctor, export, health, import, listen, man, publish, serve, tail,
    token, verify,
};

fn main() -> ExitCode {
    cli::run(|command| match command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Listen(args) => listen::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => backup::restore(args),
        Command::Token(args) => token::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Health(args) => health::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    })
}
