//! Stentor: the edge. It turns command line, settings and HTTP into calls of the engine in `actors`, and holds no rule
//! of the domain.

pub mod cli;
pub mod logging;
pub mod settings;
