//! `stentor --version --verbose`: what exactly this binary is, for reports of bugs and for whoever runs many servers.

use super::{Failure, output};

/// The commit that the binary was built of, where whoever built it has said so by the variable `STENTOR_COMMIT`.
const COMMIT: Option<&str> = option_env!("STENTOR_COMMIT");

/// What is compiled in; there is one selection of it only.
const FEATURES: &str =
    "HTTP/1.1, HTTP/2, TLS 1.2 and 1.3 (rustls, aws-lc), SSE, WebSocket, webhooks, takeover, sd_notify";

/// Prints version, commit, target, features and the formats that it reads and writes, a line for each.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_all() -> Result<(), Failure> {
    let said = COMMIT.filter(|commit| !commit.is_empty());
    let (data, backup) = (actors::disk::FORMAT, actors::backup::FORMAT);
    let lines = [
        ("stentor", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit:", said.unwrap_or("not known (no STENTOR_COMMIT when it was built)").to_owned()),
        ("built for:", format!("{} {}, {}", std::env::consts::ARCH, libc_name(), profile())),
        ("features:", FEATURES.to_owned()),
        ("data folder:", format!("writes format {data}, reads 1 to {data}")),
        ("backups:", format!("writes format {backup}, reads 1 to {backup}")),
        ("takeover:", format!("protocol {}", crate::handover::PROTOCOL)),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    output::text(&text)
}

fn libc_name() -> &'static str {
    match () {
        () if cfg!(target_env = "musl") => "linux musl",
        () if cfg!(target_os = "linux") => "linux glibc",
        () => std::env::consts::OS,
    }
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "not optimised" } else { "optimised" }
}
