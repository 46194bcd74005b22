//! Stentor's edge: HTTP, settings and the command line. It turns them into calls of the engine, and holds no rule of the
//! domain. The engine is the crate [`actors`].

pub mod cli;
mod docs;
mod engine_config;
pub mod http;
pub mod logging;
mod server;
pub mod settings;
mod tls;
mod transport;

pub use engine_config::Start;
pub use server::{ServeError, Server};
