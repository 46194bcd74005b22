//! `stentor token`: makes, lists and revokes the tokens of a running server, over its API.

use std::io::{self, Write};

use actix_web::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value as Json, json};

use super::remote::{Remote, RemoteArgs};
use super::{Failure, output};

const PATH: &str = "/api/v1/tokens";

/// The flags of `stentor token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token; it is shown this once
    Create(CreateArgs),
    /// List tokens, without their secret part
    List,
    /// Revoke a token; its streams are closed at once
    Revoke {
        /// Id of the token, as `list` shows it
        #[arg(value_parser = token_id)]
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Channel that the token belongs to: map:ID or organization:ID
    #[arg(long, value_parser = channel)]
    channel: String,
    /// What the token may do; repeat it or separate by commas
    #[arg(long = "scope", value_enum, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// Name to recognise it by
    #[arg(long)]
    name: Option<String>,
    /// When it stops to be valid, for example 2027-01-31T12:00:00Z
    #[arg(long, value_name = "ISO-8601")]
    expires_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    Subscribe,
    Publish,
    Manage,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Manage => "manage",
        }
    }
}

fn channel(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("map" | "organization", id)) if !id.is_empty() => Ok(text.to_owned()),
        _ => Err("give map:ID or organization:ID".to_owned()),
    }
}

/// Accepts only what can stand in a path by itself.
fn token_id(text: &str) -> Result<String, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_plain { Ok(text.to_owned()) } else { Err("give an id such as tok_..., as `list` shows it".to_owned()) }
}

/// Does what was asked and prints the outcome to standard output.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: TokenArgs) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(execute(args, &mut io::stdout()))
}

async fn execute(args: TokenArgs, out: &mut impl Write) -> Result<(), Failure> {
    let remote = Remote::new(&args.remote)?;
    let (answer, text) = match &args.action {
        Action::Create(create) => {
            let answer = remote.ask(Method::POST, PATH, Some(&request(create))).await?;
            let text = description(&answer["data"]);
            (answer, text)
        }
        Action::List => {
            let answer = list(&remote).await?;
            let text = table(answer["data"].as_array().map_or(&[], Vec::as_slice));
            (answer, text)
        }
        Action::Revoke { id } => {
            let answer = remote.ask(Method::DELETE, &format!("{PATH}/{id}"), None).await?;
            (answer, format!("revoked {id}\n"))
        }
    };
    let text = if args.json { format!("{answer}\n") } else { text };
    output::written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn request(create: &CreateArgs) -> Json {
    let scopes: Vec<&str> = create.scopes.iter().map(|scope| scope.as_str()).collect();
    let mut body = Map::new();
    body.insert("channel".to_owned(), json!(create.channel));
    body.insert("scopes".to_owned(), json!(scopes));
    if let Some(name) = &create.name {
        body.insert("name".to_owned(), json!(name));
    }
    if let Some(expires_at) = &create.expires_at {
        body.insert("expires_at".to_owned(), json!(expires_at));
    }
    Json::Object(body)
}

/// All pages of the list in one answer.
async fn list(remote: &Remote) -> Result<Json, Failure> {
    let mut data = Vec::new();
    let mut path = PATH.to_owned();
    loop {
        let mut page = remote.ask(Method::GET, &path, None).await?;
        let Some(rows) = page["data"].as_array_mut() else {
            let reason = "the server's list has no data; is its version the same as this program's?";
            return Err(Failure::Failed(reason.to_owned()));
        };
        let is_empty = rows.is_empty();
        data.append(rows);
        match page["nextCursor"].as_str().map(|cursor| format!("{PATH}?after={cursor}")) {
            Some(next) if !is_empty && next != path => path = next,
            _ => return Ok(json!({ "data": data })),
        }
    }
}

fn description(token: &Json) -> String {
    let mut text = String::new();
    for name in ["id", "token", "channel", "scopes", "name", "expires_at"] {
        let value = cell(&token[name]);
        if !value.is_empty() {
            text.push_str(&format!("{name:<12}{value}\n"));
        }
    }
    text.push_str("The token is shown only now; keep it.\n");
    text
}

fn table(tokens: &[Json]) -> String {
    const COLUMNS: [&str; 5] = ["id", "channel", "scopes", "name", "expires_at"];
    let mut rows = vec![COLUMNS.map(|name| name.to_uppercase())];
    rows.extend(tokens.iter().map(|token| COLUMNS.map(|name| cell(&token[name]))));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One value for a terminal. Names come from other people, so control characters do not pass.
fn cell(value: &Json) -> String {
    let text = match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
