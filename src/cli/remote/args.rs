//! Which server is meant, and with which token: flags, then the environment, then what `stentor login` keeps.

use std::io::Read;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::http::Uri;
use actors::delivery::http::tls;
use clap::Args;
use rustls::ClientConfig;

use crate::cli::Failure;
use crate::cli::logins::Logins;

/// Where the server is when nobody says so.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
/// The longest file of `--token-file`.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The flags of every command that talks to a running server. What is not given is looked for in the environment, then
/// in what `stentor login` keeps.
#[derive(Debug, Default, Clone, Args)]
pub struct RemoteArgs {
    /// Address of the server, such as https://events.example.org; else STENTOR_SERVER, the server of `stentor login`, or
    /// http://127.0.0.1:8080
    #[arg(long, value_name = "URL", value_parser = address, global = true)]
    server: Option<String>,
    /// Token to ask with; else STENTOR_TOKEN, STENTOR_TOKEN_FILE, or that of `stentor login`. Others on this machine can
    /// see arguments: prefer a file, the environment or a login
    #[arg(long, value_name = "TOKEN", global = true)]
    token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Certificate authorities to trust beside those of the system: a file in PEM
    #[arg(long, value_name = "FILE", env = "STENTOR_CA_FILE", global = true)]
    ca_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// The address that is meant.
    ///
    /// # Errors
    /// Wrong usage when the environment names none that can be; failed when the login cannot be read.
    pub fn server(&self) -> Result<String, Failure> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        if let Some(server) = variable("STENTOR_SERVER") {
            return address(&server).map_err(|reason| Failure::Usage(format!("STENTOR_SERVER: {reason}")));
        }
        Ok(Logins::load()?.server.unwrap_or_else(|| DEFAULT_SERVER.to_owned()))
    }

    /// Whom to trust.
    ///
    /// # Errors
    /// Wrong usage when no certificate can be read from the file that is named.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        tls::client_config(self.ca_file.as_deref()).map_err(|e| Failure::Usage(e.to_string()))
    }

    /// What the words of a command line say, however incomplete that is; what cannot be understood is passed over.
    pub fn of_words(words: impl IntoIterator<Item = String>) -> RemoteArgs {
        let mut args = RemoteArgs::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if !matches!(name.as_str(), "--server" | "--token" | "--token-file" | "--ca-file") {
                continue;
            }
            let Some(value) = value.or_else(|| words.next()) else { break };
            match name.as_str() {
                "--server" => args.server = address(&value).ok(),
                "--token" => args.token = Some(value),
                "--ca-file" => args.ca_file = Some(value.into()),
                _ => args.token_file = Some(value.into()),
            }
        }
        args
    }

    /// The token of a flag.
    ///
    /// # Errors
    /// When the file of `--token-file` cannot be read or is empty.
    pub fn token_flag(&self) -> Result<Option<String>, Failure> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone()).filter(|token| !token.is_empty())),
            (None, Some(path)) => token_of(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The token for a server. A login is used for the server that it was made at and for no other.
    pub(super) fn token(&self, server: &str) -> Result<Option<String>, Failure> {
        if let Some(token) = self.token_flag()? {
            return Ok(Some(token));
        }
        if let Some(token) = variable("STENTOR_TOKEN") {
            return Ok(Some(token));
        }
        match variable("STENTOR_TOKEN_FILE") {
            Some(path) => token_of(Path::new(&path)).map(Some),
            None => Ok(Logins::load()?.tokens.remove(server)),
        }
    }
}

/// A variable of the environment that holds something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn token_of(path: &Path) -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let shown = path.display();
    let text =
        read().map_err(|e| Failure::Failed(format!("cannot read the token from {shown}: {e}; check its name")))?;
    match text.trim() {
        "" => Err(Failure::Failed(format!("{shown} holds no token; write the token into it"))),
        token => Ok(token.to_owned()),
    }
}

/// Checks the address of a server and takes the `/` from its end. `localhost:8080` and a port by itself mean this machine, without TLS.
///
/// # Errors
/// What an address looks like.
pub fn address(text: &str) -> Result<String, String> {
    let base = text.trim_end_matches('/');
    let is_port = base.parse::<NonZeroU16>().is_ok();
    let host = base.split_once(':').map_or(base, |(host, _)| host);
    let base = match host {
        _ if is_port => format!("http://127.0.0.1:{base}"),
        "localhost" | "127.0.0.1" => format!("http://{base}"),
        _ => base.to_owned(),
    };
    let uri: Uri = base.parse().map_err(|_| "give an address such as https://events.example.org".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(base),
        _ => Err("give an address that starts with http:// or https://, such as https://events.example.org".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_still_typed_says_what_it_says_so_far() {
        let words = |line: &str| RemoteArgs::of_words(line.split(' ').map(str::to_owned));
        let args = words("stentor --server http://a/ --token=t tail --token-file");
        assert_eq!((args.server.as_deref(), args.token.as_deref()), (Some("http://a"), Some("t")));
        assert_eq!(words("stentor tail map:a --server x").server, None);
    }

    #[test]
    fn an_address_needs_a_scheme_unless_it_is_of_this_machine_and_loses_its_last_slash() {
        for (typed, meant) in [
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("https://events.example.org/below", "https://events.example.org/below"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("localhost:9000/", "http://localhost:9000"),
            ("localhost", "http://localhost"),
            ("9000", "http://127.0.0.1:9000"),
        ] {
            assert_eq!(address(typed).as_deref(), Ok(meant), "{typed:?}");
        }
        for wrong in
            ["", "x", "0", "70000", "example.org:8080", "ftp://x", "http://", "http:///x", "a b", "localhost:a b"]
        {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }
}
