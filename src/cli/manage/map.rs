//! `stentor map`: lists, makes, changes and deletes maps.

use actix_web::http::Method;
use clap::{Args, Subcommand};

use super::arguments::{self, put, switch};
use super::table::Column;
use super::{Api, ManageArgs, with_body};
use crate::cli::Failure;
use crate::cli::channel::Channel;
use crate::cli::complete;
use crate::cli::remote::Request;

const PATH: &str = "/api/maps";
const COLUMNS: [Column; 5] = [
    Column("slug", &["slug"]),
    Column("name", &["name"]),
    Column("id", &["id"]),
    Column("webhooks", &["webhooks_enabled"]),
    Column("made", &["inserted_at"]),
];

/// The flags of `stentor map`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor map create --name Home --slug home
  stentor map update home --name 'Our home' --webhooks on
  stentor map list --output json")]
pub struct MapArgs {
    #[command(flatten)]
    manage: ManageArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the maps that the token may know of
    List,
    /// Show one map
    Show {
        #[command(flatten)]
        map: MapArg,
    },
    /// Make a map with a first token, which is shown this once (admin)
    Create {
        /// Name for people
        #[arg(long)]
        name: String,
        /// Name in addresses: 1 to 64 of a-z 0-9 -; without it, made of the name
        #[arg(long)]
        slug: Option<String>,
        /// Id of your own, a UUID
        #[arg(long, value_name = "UUID")]
        id: Option<String>,
        /// Name of its first token; without it, made of the name
        #[arg(long, value_name = "NAME")]
        token_name: Option<String>,
    },
    /// Change a map: what is not given stays
    Update {
        #[command(flatten)]
        map: MapArg,
        /// Name for people
        #[arg(long)]
        name: Option<String>,
        /// Name in addresses
        #[arg(long)]
        slug: Option<String>,
        /// Whether frames of its event stream carry the type on an `event:` line: on, off, or default for the setting
        #[arg(long, value_name = "on|off|default", value_parser = event_names)]
        event_names: Option<EventNames>,
        /// Whether its webhooks deliver
        #[arg(long, value_name = "on|off", value_parser = switch)]
        webhooks: Option<bool>,
    },
    /// Delete a map with its events, tokens and webhooks
    Delete {
        #[command(flatten)]
        map: MapArg,
    },
}

#[derive(Debug, Args)]
struct MapArg {
    /// Map: its id or slug; map:ID is fine too
    #[arg(value_name = "MAP", value_parser = arguments::map, add = complete::maps())]
    map: Channel,
}

/// None goes back to the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EventNames(Option<bool>);

fn event_names(text: &str) -> Result<EventNames, String> {
    match text {
        "default" => Ok(EventNames(None)),
        text => switch(text).map(|on| EventNames(Some(on))).map_err(|_| "give on, off or default".to_owned()),
    }
}

/// Does what was asked and prints the outcome.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: MapArgs) -> Result<(), Failure> {
    super::run(&args.manage, |api| execute(api, args.action))
}

async fn execute(api: Api, action: Action) -> Result<(), Failure> {
    match action {
        Action::List => api.show_list(Request::get(PATH), None, &COLUMNS).await,
        Action::Show { map: MapArg { map } } => api.show_one(Request::get(&path(&map)), Some(&map)).await,
        Action::Create { name, slug, id, token_name } => {
            let mut body = serde_json::Map::new();
            put(&mut body, "name", Some(name));
            put(&mut body, "slug", slug);
            put(&mut body, "id", id);
            put(&mut body, "token_name", token_name);
            let answer = api.ask(with_body(Method::POST, PATH, &body.into()), None).await?;
            api.print_one(&answer, "The token is shown only now; keep it.\n").await
        }
        Action::Update { map: MapArg { map }, name, slug, event_names, webhooks } => {
            update(&api, map, name, slug, event_names, webhooks).await
        }
        Action::Delete { map: MapArg { map } } => {
            api.show_done(Request::delete(&path(&map)), Some(&map), &format!("deleted {map}")).await
        }
    }
}

/// The switch of webhooks has an address of its own; a new slug is given last, because the old one names the map.
async fn update(
    api: &Api,
    map: Channel,
    name: Option<String>,
    slug: Option<String>,
    event_names: Option<EventNames>,
    webhooks: Option<bool>,
) -> Result<(), Failure> {
    let mut body = serde_json::Map::new();
    put(&mut body, "name", name);
    put(&mut body, "slug", slug);
    put(&mut body, "event_names", event_names.map(|EventNames(on)| on));
    if let Some(enabled) = webhooks {
        toggle(api, &map, enabled).await?;
        if body.is_empty() {
            return api.show_one(Request::get(&path(&map)), Some(&map)).await;
        }
    }
    let body = arguments::something(body, "--name, --slug, --event-names or --webhooks")?;
    api.show_one(with_body(Method::PATCH, &path(&map), &body), Some(&map)).await
}

/// Turns the webhooks of a map on or off.
///
/// # Errors
/// As [`Api::ask`].
pub async fn toggle(api: &Api, map: &Channel, enabled: bool) -> Result<serde_json::Value, Failure> {
    let path = format!("{}/webhooks/toggle", path(map));
    api.ask(with_body(Method::PUT, &path, &serde_json::json!({ "enabled": enabled })), Some(map)).await
}

fn path(map: &Channel) -> String {
    // the parser of the argument makes nothing but maps
    map.resource().unwrap_or_else(|| PATH.to_owned())
}
