//! The commands of the command line against the real server: exit codes, standard output, standard error.

mod doctor;
mod export_import;
mod families;
mod listen;
mod login;
mod manage;
mod manual;
mod operations;
mod publish;
mod start;
mod tail;
mod verify;

use crate::support::program::{Ended, Program, command};
use crate::support::{Map, TestServer};

/// A command that talks to the map's server with the map's token.
fn with(map: &Map, arguments: &[&str]) -> std::process::Command {
    with_token(map, &map.token, arguments)
}

fn with_token(map: &Map, token: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = command(arguments);
    command.env("STENTOR_SERVER", format!("http://{}", map.addr)).env("STENTOR_TOKEN", token);
    command
}

fn start(map: &Map, arguments: &[&str]) -> Program {
    Program::start(with(map, arguments))
}

/// Runs a command to its end.
#[track_caller]
fn run(map: &Map, arguments: &[&str]) -> Ended {
    start(map, arguments).wait()
}

/// Runs a command to its end with this on its standard input.
#[track_caller]
fn run_with_input(map: &Map, arguments: &[&str], input: &str) -> Ended {
    let mut program = start(map, arguments);
    program.type_in(input);
    program.wait()
}

/// A server with a port of its own, so that it can be started again where its clients look for it.
fn server_that_returns(settings: &[(&str, &str)]) -> TestServer {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = listener.local_addr().expect("an address").to_string();
    drop(listener);
    TestServer::start_at(&listen, settings)
}
