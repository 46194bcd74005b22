//! Questions about events: `stats`, `trace`, `types`, and `ticket`, with which a browser opens a stream.

use actix_web::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};

use super::arguments::put;
use super::table::Column;
use super::{Api, ManageArgs, with_body};
use crate::cli::channel::Channel;
use crate::cli::filter::FilterArgs;
use crate::cli::remote::Request;
use crate::cli::since::Since;
use crate::cli::{Failure, complete};
use crate::http::now_ms;

/// The flags of `stentor stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor stats map:home --window 7d
  stentor stats map:home --window 24h --bucket 1h --output json")]
pub struct StatsArgs {
    #[command(flatten)]
    manage: ManageArgs,
    /// Channel to count: map:ID, organization:ID, or feed for the token's own
    #[arg(add = complete::channels())]
    channel: Channel,
    /// How far back, such as 24h
    #[arg(long, value_name = "DURATION")]
    window: Option<String>,
    /// Width of the parts that are counted by themselves, such as 1h
    #[arg(long, value_name = "DURATION")]
    bucket: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// The flags of `stentor trace`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor trace 01JY9X2C7B4N8Q0R2S5T6V7W8X")]
pub struct TraceArgs {
    #[command(flatten)]
    manage: ManageArgs,
    /// Event: its id
    #[arg(value_parser = super::arguments::id)]
    event: String,
}

/// The flags of `stentor types`.
#[derive(Debug, Args)]
pub struct TypesArgs {
    #[command(flatten)]
    manage: ManageArgs,
    /// Only those of this family: maps, organizations, feed, system
    #[arg(long)]
    family: Option<String>,
}

/// The flags of `stentor ticket`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor ticket map:home --events map_kill
  stentor ticket organization:acme --scope session --session s1

A ticket opens one stream within 30 s, as ?ticket=, and shows no token to whoever uses it.")]
pub struct TicketArgs {
    #[command(flatten)]
    manage: ManageArgs,
    /// Channel that the ticket is for: map:ID, organization:ID, or feed
    #[arg(add = complete::channels())]
    channel: Channel,
    /// Make a ticket for /api/v1/realtime, the WebSocket of organizations: for one session, the organization, or everything (admin)
    #[arg(long, value_enum)]
    scope: Option<Scope>,
    /// Begin with what was appended since then: after an event's id, at a time such as 2027-01-31T12:00:00Z, or so long ago, such as 10m
    #[arg(long, value_name = "ID|TIME|AGO")]
    since: Option<Since>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    Session,
    Organization,
    Firehose,
}

/// Prints how many events of which type there are.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn stats(args: StatsArgs) -> Result<(), Failure> {
    let query = args.filter.query()?;
    super::run(&args.manage, async |api: Api| {
        let path = match args.channel.resource() {
            Some(resource) => format!("{resource}/stats"),
            None => "/events/stats".to_owned(),
        };
        let windows = [("window", args.window), ("bucket", args.bucket)];
        let windows = windows.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let answer = api.ask(Request::get(&path).query(query).query(windows), Some(&args.channel)).await?;
        if api.is_json() {
            return api.print_json(&answer);
        }
        let types = answer.pointer("/data/types").and_then(Json::as_object).cloned().unwrap_or_default();
        let mut rows: Vec<Json> =
            types.into_iter().map(|(kind, count)| json!({"type": kind, "count": count})).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row["count"].as_u64()));
        rows.push(json!({"type": "total", "count": answer["data"]["total"]}));
        api.print_list(rows, &[Column("type", &["type"]), Column("events", &["count"])]).await
    })
}

/// Prints what became of an event.
///
/// # Errors
/// As [`stats`].
pub fn trace(args: TraceArgs) -> Result<(), Failure> {
    super::run(&args.manage, async |api: Api| {
        let path = format!("/api/v1/events/{}/trace", args.event);
        api.print_document(&api.ask(Request::get(&path), None).await?)
    })
}

/// Prints the catalogue of event types.
///
/// # Errors
/// As [`stats`].
pub fn types(args: TypesArgs) -> Result<(), Failure> {
    const COLUMNS: [Column; 3] =
        [Column("type", &["type"]), Column("family", &["family"]), Column("description", &["description"])];
    super::run(&args.manage, async |api: Api| {
        let request = Request::get("/api/event-types").query(args.family.map(|family| ("family", family)));
        api.show_list(request, None, &COLUMNS).await
    })
}

/// Prints a ticket.
///
/// # Errors
/// As [`stats`]; wrong usage when the filter cannot be meant.
pub fn ticket(args: TicketArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    let mut prefixes = Vec::new();
    for (name, value) in args.filter.query()? {
        match name {
            "path_prefix" => prefixes.push(value),
            name => put(&mut body, name, Some(value)),
        }
    }
    put(&mut body, "path_prefix", (!prefixes.is_empty()).then_some(prefixes));
    put(&mut body, "since", args.since.map(|since| since.cursor(now_ms()).to_string()));
    super::run(&args.manage, async |api: Api| {
        let path = match args.scope {
            None => format!("{}/ticket", args.channel.events()),
            Some(scope) => {
                let scope = match scope {
                    Scope::Session => "session",
                    Scope::Organization => "organization",
                    Scope::Firehose => "firehose",
                };
                put(&mut body, "scope", Some(scope));
                "/api/v1/realtime/ticket".to_owned()
            }
        };
        let mut request = with_body(Method::POST, &path, &body.into());
        if args.scope.is_some_and(|scope| scope != Scope::Firehose) {
            request = request.query(args.channel.parameter());
        }
        api.show_one(request, Some(&args.channel)).await
    })
}
