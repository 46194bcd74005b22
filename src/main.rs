//! The program `stentor`: one line per subcommand.

use std::process::ExitCode;

use stentor::cli::{
    self, Command, backup, bench, completions, demo, doctor, export, health, import, listen, login, man, manage,
    publish, reload, serve, tail, trigger, verify,
};

fn main() -> ExitCode {
    cli::run(|command| match command {
        Command::Serve(args) => serve::run(args),
        Command::Reload(args) => reload::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Trigger(args) => trigger::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Listen(args) => listen::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => backup::restore(args),
        Command::Login(args) => login::run(args),
        Command::Logout(args) => login::forget(args),
        Command::Map(args) => manage::map::run(args),
        Command::Org(args) => manage::organization::run(args),
        Command::Token(args) => manage::token::run(args),
        Command::Webhook(args) => manage::webhook::run(args),
        Command::Source(args) => manage::source::run(args),
        Command::Connection(args) => manage::connection::run(args),
        Command::Overview(args) => manage::overview::run(args),
        Command::Stats(args) => manage::events::stats(args),
        Command::Trace(args) => manage::events::trace(args),
        Command::Types(args) => manage::events::types(args),
        Command::Ticket(args) => manage::events::ticket(args),
        Command::Api(args) => manage::api::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Health(args) => health::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    })
}
