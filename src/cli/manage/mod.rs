//! The commands that manage what a server has: `map`, `org`, `token`, `webhook`, `source`, `connection`, and questions about events
//! and about how it is.
//!
//! Each verb is one request of the API. This file owns what they share: the request, its failure, the list of all pages,
//! and both forms of output: `table.rs` makes the one for people, JSON is the server's answer.

pub mod api;
pub mod arguments;
pub mod connection;
pub mod events;
pub mod map;
pub mod organization;
pub mod overview;
pub mod source;
mod table;
pub mod token;
pub mod webhook;

use std::collections::HashMap;

use actix_web::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use self::table::Column;
use super::channel::Channel;
use super::remote::{Remote, RemoteArgs, Request, Trouble};
use super::{Failure, output, pretty};

/// Pages of a list that are read before it is taken to have no end.
const PAGES_MAX: usize = 10_000;

/// The flags of every command that manages something.
#[derive(Debug, Default, Args)]
pub struct ManageArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// How to print what the server answers
    #[arg(long, value_enum, value_name = "FORM", default_value_t, global = true)]
    output: Form,
    /// The same as --output json
    #[arg(long, global = true)]
    json: bool,
    /// Print only this field of the answer, such as id or token; of a list, a line for each row
    #[arg(long, global = true, value_name = "NAME", conflicts_with_all = ["output", "json"])]
    field: Option<String>,
}

/// The form of an answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns for people
    #[default]
    Table,
    /// The server's answer
    Json,
}

/// A server that is asked, and standard output, to which its answers go.
pub struct Api {
    remote: Remote,
    form: Form,
    field: Option<String>,
}

/// Runs one command inside an actix runtime.
///
/// # Errors
/// Wrong usage without a token, and what `ask` says.
pub fn run<F>(args: &ManageArgs, ask: impl FnOnce(Api) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    actix_web::rt::System::new().block_on(async { ask(Api::new(args)?).await })
}

impl Api {
    fn new(args: &ManageArgs) -> Result<Api, Failure> {
        let form = if args.json { Form::Json } else { args.output };
        Ok(Api { remote: Remote::new(&args.remote)?, form, field: args.field.clone() })
    }

    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// The answer to a request about a channel, or about none.
    ///
    /// # Errors
    /// When the server is not there or refuses; everything that it says of why is repeated.
    pub async fn ask(&self, request: Request<'_>, channel: Option<&Channel>) -> Result<Json, Failure> {
        match self.remote.json(&request).await {
            Ok(answer) => Ok(answer),
            Err(trouble) => Err(self.failure(&trouble, channel).await),
        }
    }

    async fn failure(&self, trouble: &Trouble, channel: Option<&Channel>) -> Failure {
        match channel {
            Some(channel) => self.remote.explain(trouble, channel, "manage").await,
            None => trouble.needing("manage"),
        }
    }

    /// All pages of a list as one answer.
    ///
    /// # Errors
    /// As [`Api::ask`]; also when the answer is no list, or its pages do not end.
    pub async fn list(&self, request: Request<'_>, channel: Option<&Channel>) -> Result<Vec<Json>, Failure> {
        let mut rows = Vec::new();
        let mut next = request.clone();
        for _ in 0..PAGES_MAX {
            let mut page = self.ask(next, channel).await?;
            let Some(data) = page["data"].as_array_mut() else {
                let reason = "the server's list has no data; is its version the same as this program's?";
                return Err(Failure::Failed(reason.to_owned()));
            };
            let is_empty = data.is_empty();
            rows.append(data);
            let cursor = page.get("nextCursor").or_else(|| page.get("next")).cloned().unwrap_or_default();
            let cursor = cursor.as_str().map(str::to_owned).or_else(|| cursor.as_u64().map(|n| n.to_string()));
            match cursor {
                Some(cursor) if !is_empty => next = request.clone().query([("after", cursor)]),
                _ => return Ok(rows),
            }
        }
        Err(Failure::Failed(format!("the server's list has more than {PAGES_MAX} pages; ask for less")))
    }

    /// Asks for a list and prints all of it.
    ///
    /// # Errors
    /// As [`Api::list`]; also when standard output cannot be written.
    pub async fn show_list(
        &self,
        request: Request<'_>,
        channel: Option<&Channel>,
        columns: &[Column],
    ) -> Result<(), Failure> {
        self.print_list(self.list(request, channel).await?, columns).await
    }

    /// Sends a request and prints the object that the server answers with.
    ///
    /// # Errors
    /// As [`Api::ask`]; also when standard output cannot be written.
    pub async fn show_one(&self, request: Request<'_>, channel: Option<&Channel>) -> Result<(), Failure> {
        self.print_one(&self.ask(request, channel).await?, "").await
    }

    /// Sends a request and prints that it is done, where the server answers with nothing.
    ///
    /// # Errors
    /// As [`Api::ask`]; also when standard output cannot be written.
    pub async fn show_done(&self, request: Request<'_>, channel: Option<&Channel>, done: &str) -> Result<(), Failure> {
        self.print_done(&self.ask(request, channel).await?, done)
    }

    /// Prints a list.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub async fn print_list(&self, rows: Vec<Json>, columns: &[Column]) -> Result<(), Failure> {
        if let Some(field) = &self.field {
            // a row may lack what another one has
            let is_known = rows.iter().any(|row| row.get(field).is_some());
            let line = |row: &Json| match row.get(field) {
                None if is_known => Ok("\n".to_owned()),
                _ => table::field(row, field),
            };
            return output::text(&rows.iter().map(line).collect::<Result<String, _>>()?);
        }
        match self.form {
            Form::Json => self.print_json(&json!({ "data": rows })),
            Form::Table => {
                let names = self.names(&rows).await;
                output::text(&table::list(&rows, columns, &names))
            }
        }
    }

    /// Prints one page of a list, and how the next is asked for.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub async fn print_page(&self, answer: &Json, columns: &[Column]) -> Result<(), Failure> {
        if self.form == Form::Json {
            return self.print_json(answer);
        }
        self.print_list(answer["data"].as_array().cloned().unwrap_or_default(), columns).await?;
        if self.field.is_some() {
            return Ok(());
        }
        match answer.get("nextCursor").or_else(|| answer.get("next")) {
            None | Some(Json::Null) => Ok(()),
            Some(cursor) => {
                let cursor = cursor.as_str().map_or_else(|| cursor.to_string(), output::tame);
                output::text(&format!("There are more: --after {cursor}\n"))
            }
        }
    }

    /// Prints a document in indented JSON, or as it came.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print_document(&self, document: &Json) -> Result<(), Failure> {
        if let Some(field) = &self.field {
            return output::text(&table::field(&subject(document), field)?);
        }
        match self.form {
            Form::Json => self.print_json(document),
            Form::Table => output::text(&format!("{}\n", pretty::json(document))),
        }
    }

    /// Prints one object: the whole answer as JSON, or its fields in lines, with this below them.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub async fn print_one(&self, answer: &Json, below: &str) -> Result<(), Failure> {
        if let Some(field) = &self.field {
            return output::text(&table::field(&subject(answer), field)?);
        }
        match self.form {
            Form::Json => self.print_json(answer),
            Form::Table => {
                let one = subject(answer);
                let names = self.names(std::slice::from_ref(&one)).await;
                output::text(&format!("{}{below}", table::one(&one, &names)))
            }
        }
    }

    /// Prints what was done where the server answers with nothing.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print_done(&self, answer: &Json, done: &str) -> Result<(), Failure> {
        match self.form {
            Form::Json => self.print_json(answer),
            Form::Table => output::text(&format!("{done}\n")),
        }
    }

    /// Prints an answer as it is.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print_json(&self, answer: &Json) -> Result<(), Failure> {
        output::bytes(format!("{answer}\n").as_bytes())
    }

    /// What people call that which is named by its id in these rows: the slugs of maps, and the names of tokens that streams were opened
    /// with. Empty of what the token may not list.
    async fn names(&self, rows: &[Json]) -> HashMap<String, String> {
        let text = |one: &Json, name: &str| one[name].as_str().map(str::to_owned);
        let is_map = |name: &Json| name.as_str().is_some_and(|name| name.starts_with("map:"));
        let of_map = |row: &Json| {
            is_map(&row["channel"]) || row["channels"].as_array().is_some_and(|all| all.iter().any(is_map))
        };
        let mut names = HashMap::new();
        if rows.iter().any(of_map)
            && let Ok(maps) = self.list(Request::get("/api/maps"), None).await
        {
            let pair = |map| Some((format!("map:{}", text(map, "id")?), format!("map:{}", text(map, "slug")?)));
            names.extend(maps.iter().filter_map(pair));
        }
        if rows.iter().any(|row| row["token_id"].as_str().is_some_and(|id| id.starts_with("tok_")))
            && let Ok(tokens) = self.list(Request::get("/api/v1/tokens"), None).await
        {
            names.extend(tokens.iter().filter_map(|token| Some((text(token, "id")?, text(token, "name")?))));
        }
        names
    }
}

/// The object that an answer is about; what stands beside it, such as a secret, belongs to it.
fn subject(answer: &Json) -> Json {
    let (Some(members), Some(inner)) = (answer.as_object(), answer.get("data").or_else(|| answer.get("endpoint")))
    else {
        return answer.clone();
    };
    let Some(inner) = inner.as_object() else { return inner.clone() };
    let mut one = inner.clone();
    let beside = members.iter().filter(|(name, _)| !matches!(name.as_str(), "data" | "endpoint"));
    one.extend(beside.map(|(name, value)| (name.clone(), value.clone())));
    Json::Object(one)
}

/// A request with a JSON body.
pub fn with_body<'a>(method: Method, path: &'a str, body: &Json) -> Request<'a> {
    Request::new(method, path).body("application/json", body.to_string())
}
