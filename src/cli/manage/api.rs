//! `stentor api`: any request of the API, for what has no command of its own.

use actix_web::http::Method;
use clap::Args;

use super::arguments;
use crate::cli::remote::{Remote, RemoteArgs, Request};
use crate::cli::{Failure, output};

/// The flags of `stentor api`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor api GET /metrics
  stentor api GET /api/maps/home/events --query limit=1
  stentor api POST /events --query channel=map:home --body '{\"type\": \"add_system\"}'

The body of the answer goes to standard output as it is. An answer that is no success ends it with 1.")]
pub struct ApiArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS
    #[arg(value_parser = method)]
    method: Method,
    /// Path on the server, such as /api/maps; the reference lists them
    #[arg(value_parser = path)]
    path: String,
    /// Parameter of the query; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    query: Vec<(String, String)>,
    /// Header of the request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = arguments::header)]
    headers: Vec<(String, String)>,
    /// Body: the text itself, @FILE, or - for standard input. JSON unless a header Content-Type says otherwise
    #[arg(long, value_name = "TEXT|@FILE|-")]
    body: Option<String>,
}

fn method(text: &str) -> Result<Method, String> {
    match text.to_ascii_uppercase().as_str() {
        name @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => {
            name.parse().map_err(|_| "give a method".to_owned())
        }
        _ => Err("give GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS".to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Ok(text.to_owned()),
        false => Err("give a path that begins with /, such as /api/maps".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Sends the request and prints the body of its answer.
///
/// # Errors
/// When the server is not there or answers with anything but a success.
pub fn run(args: ApiArgs) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(async {
        let remote = Remote::with_or_without_token(&args.remote)?;
        let mut request = Request::new(args.method, &args.path);
        request.query.extend(args.query.into_iter().map(|(name, value)| (name.into(), value)));
        request.headers.extend(args.headers.into_iter().map(|(name, value)| (name.into(), value)));
        if let Some(body) = &args.body {
            request = request.body("application/json", arguments::text(body)?);
        }
        let mut answer = remote.open(&request).await.map_err(|trouble| trouble.needing("that it asks for"))?;
        let mut end = None;
        while let Some(part) = futures_util::StreamExt::next(&mut answer).await {
            let part = part.map_err(|e| Failure::Failed(format!("{}; try again", remote.broken(&e).reason())))?;
            end = part.last().copied().or(end);
            output::bytes(&part)?;
        }
        match end {
            None | Some(b'\n') => Ok(()),
            Some(_) => output::bytes(b"\n"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_can_be_sent_are_taken() {
        assert_eq!(method("get"), Ok(Method::GET));
        assert!(method("CONNECT").is_err() && method("").is_err());
        assert!(path("/api/maps").is_ok());
        for wrong in ["api/maps", "", "/a b", "/a\n", "http://x/"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
    }
}
