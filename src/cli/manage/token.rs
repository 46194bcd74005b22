//! `stentor token`: lists, makes, changes and revokes tokens.

use actix_web::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value as Json};

use super::arguments::{self, put};
use super::table::Column;
use super::{Api, ManageArgs, with_body};
use crate::cli::channel::{Channel, is_plain};
use crate::cli::remote::Request;
use crate::cli::{Failure, complete};

const PATH: &str = "/api/v1/tokens";
const COLUMNS: [Column; 7] = [
    Column("id", &["id"]),
    Column("channel", &["channel", "channels"]),
    Column("scopes", &["scopes"]),
    Column("name", &["name"]),
    Column("expires_at", &["expires_at"]),
    Column("last_used_at", &["last_used_at"]),
    Column("created_by", &["created_by"]),
];

/// The flags of `stentor token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor token create map:home --scope subscribe --name 'reader of the bot'
  stentor token list map:home
  stentor token show")]
pub struct TokenArgs {
    #[command(flatten)]
    manage: ManageArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List tokens, without their secret part
    List {
        /// Only those of this channel: map:ID or organization:ID
        #[arg(value_parser = arguments::channel, add = complete::owners())]
        channel: Option<Channel>,
    },
    /// Show one token, or the one that is asked with
    Show {
        /// Id of the token, as `list` shows it; without it, the token that is asked with
        #[arg(value_parser = arguments::id)]
        id: Option<String>,
    },
    /// Make a token; it is shown this once
    Create(CreateArgs),
    /// Give a token another name, or another end
    Update {
        /// Id of the token, as `list` shows it
        #[arg(value_parser = arguments::id)]
        id: String,
        /// Name to recognise it by; empty for none
        #[arg(long, required_unless_present = "expires_at")]
        name: Option<String>,
        /// When it stops to be valid, for example 2027-01-31T12:00:00Z; empty for never
        #[arg(long, value_name = "ISO-8601")]
        expires_at: Option<String>,
    },
    /// Revoke a token; its streams are closed at once
    #[command(visible_alias = "revoke")]
    Delete {
        /// Id of the token, as `list` shows it
        #[arg(value_parser = arguments::id)]
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Channel that the token belongs to: map:ID or organization:ID; without it, that of the token that is asked with.
    /// Several, or a pattern such as map:*, make a token that reads and publishes in all of them (admin)
    #[arg(value_name = "CHANNEL", value_parser = owner, add = complete::owners())]
    channels: Vec<String>,
    /// The same as CHANNEL
    #[arg(long = "channel", value_name = "CHANNEL", value_parser = owner, add = complete::owners())]
    channel_flags: Vec<String>,
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

/// A channel, or all of a kind by `map:*`.
fn owner(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("map" | "organization", name)) if name == "*" || is_plain(name) => Ok(text.to_owned()),
        _ => arguments::channel(text).map(|channel| channel.to_string()),
    }
}

/// Does what was asked and prints the outcome.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: TokenArgs) -> Result<(), Failure> {
    super::run(&args.manage, |api| execute(api, args.action))
}

async fn execute(api: Api, action: Action) -> Result<(), Failure> {
    match action {
        Action::List { channel } => {
            let request = Request::get(PATH).query(channel.as_ref().and_then(Channel::parameter));
            api.show_list(request, channel.as_ref(), &COLUMNS).await
        }
        Action::Show { id } => {
            let id = id.as_deref().unwrap_or("current");
            api.show_one(Request::get(&format!("{PATH}/{id}")), None).await
        }
        Action::Update { id, name, expires_at } => {
            let mut body = Map::new();
            let or_null = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
            put(&mut body, "name", or_null(name));
            put(&mut body, "expires_at", or_null(expires_at));
            api.show_one(with_body(Method::PATCH, &format!("{PATH}/{id}"), &body.into()), None).await
        }
        Action::Create(create) => {
            let answer = api.ask(with_body(Method::POST, PATH, &request(create)), None).await?;
            api.print_one(&answer, "The token is shown only now; keep it.\n").await
        }
        Action::Delete { id } => {
            api.show_done(Request::delete(&format!("{PATH}/{id}")), None, &format!("revoked {id}")).await
        }
    }
}

fn request(create: CreateArgs) -> Json {
    let scopes: Vec<&str> = create.scopes.iter().map(|scope| scope.as_str()).collect();
    let mut channels = create.channels;
    channels.extend(create.channel_flags);
    let mut body = Map::new();
    match channels.as_slice() {
        [] => {}
        [only] if !only.ends_with(":*") => put(&mut body, "channel", Some(only.as_str())),
        several => put(&mut body, "channels", Some(several)),
    }
    put(&mut body, "scopes", Some(scopes));
    put(&mut body, "name", create.name);
    put(&mut body, "expires_at", create.expires_at);
    Json::Object(body)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        create: CreateArgs,
    }

    #[test]
    fn the_channel_is_an_argument_or_a_flag_and_several_make_a_token_of_several() {
        let asked = |line: &str| {
            let line = Line::try_parse_from(format!("x {line} --scope subscribe,publish").split(' '));
            request(line.expect("a valid line").create)
        };
        let scopes = ["subscribe", "publish"];
        let one = json!({"channel": "map:home", "scopes": scopes, "name": "bot"});
        assert_eq!(asked("map:home --name bot"), one);
        assert_eq!(asked("--channel map:home --name bot"), one);
        assert_eq!(asked("--name bot"), json!({"scopes": scopes, "name": "bot"}));
        let several = json!({"channels": ["map:a", "organization:*"], "scopes": scopes, "name": "bot"});
        assert_eq!(asked("map:a organization:* --name bot"), several);
        assert_eq!(asked("map:* --name bot"), json!({"channels": ["map:*"], "scopes": scopes, "name": "bot"}));
        assert!(owner("feed").is_err() && owner("map:a/b").is_err() && owner("sphere:*").is_err());
    }
}
