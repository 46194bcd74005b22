//! Stentor's edge: HTTP, settings and the command line. It turns them into calls of the engine, and holds no rule of the
//! domain. The engine is the crate [`actors`].

pub mod cli;
mod docs;
mod engine_config;
mod handover;
pub mod http;
mod listeners;
pub mod logging;
mod open_files;
mod server;
pub mod settings;
mod supervisor;
mod tls;
mod transport;

pub use engine_config::Start;
pub use server::{Origin, ServeError, Server};
