//! `stentor webhook`: webhooks that go out, their deliveries and replays.

mod deliveries;
mod fields;
mod replays;

use actix_web::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json, json};

use self::deliveries::DeliveriesArgs;
use self::fields::{Resume, WebhookFields};
use self::replays::{ReplayArgs, ReplaysArgs};
use super::arguments::{self, put, switch};
use super::table::Column;
use super::{Api, ManageArgs, map, with_body};
use crate::cli::channel::Channel;
use crate::cli::remote::Request;
use crate::cli::{Failure, complete};

const COLUMNS: [Column; 9] = [
    Column("id", &["id"]),
    Column("name", &["name"]),
    Column("url", &["url"]),
    Column("format", &["format"]),
    Column("events", &["events"]),
    Column("active", &["active"]),
    Column("health", &["health"]),
    Column("last delivery", &["last_delivery_at", "lastDeliveryAt"]),
    Column("last error", &["last_error", "lastError"]),
];

/// The flags of `stentor webhook`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor webhook create map:home --url https://example.org/hook --events map_kill
  stentor webhook toggle map:home on
  stentor webhook deliveries map:home ID --status dead --code 5xx --since 24h
  stentor webhook replay map:home ID --since 2h --wait")]
pub struct WebhookArgs {
    #[command(flatten)]
    manage: ManageArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the webhooks of a channel
    List {
        #[command(flatten)]
        of: ChannelArg,
    },
    /// Show one webhook
    Show {
        #[command(flatten)]
        one: WebhookArg,
    },
    /// Make a webhook; the secret of a map's is shown this once
    Create {
        #[command(flatten)]
        of: ChannelArg,
        #[command(flatten)]
        fields: Box<WebhookFields>,
    },
    /// Change a webhook: what is not given stays
    Update {
        #[command(flatten)]
        one: WebhookArg,
        #[command(flatten)]
        fields: Box<WebhookFields>,
    },
    /// Delete a webhook
    Delete {
        #[command(flatten)]
        one: WebhookArg,
    },
    /// Send one sample event now and show what the receiver answered
    Test {
        #[command(flatten)]
        one: WebhookArg,
        /// Type of the event; without it, one that the webhook gets
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
    },
    /// Have a webhook deliver again
    Enable {
        #[command(flatten)]
        one: WebhookArg,
        /// What becomes of events that waited while it was off
        #[arg(long, value_enum, default_value = "pending")]
        resume: Resume,
    },
    /// Have a webhook deliver nothing until it is enabled
    Disable {
        #[command(flatten)]
        one: WebhookArg,
    },
    /// Turn all webhooks of a map on or off
    Toggle {
        /// Map: map:ID, or its id or slug
        #[arg(value_name = "MAP", value_parser = arguments::map, add = complete::maps())]
        map: Channel,
        /// on or off
        #[arg(value_name = "on|off", value_parser = switch, action = clap::ArgAction::Set)]
        enabled: bool,
    },
    /// Make a new secret, which is shown this once; the old one signs too for a while
    RotateSecret {
        #[command(flatten)]
        one: WebhookArg,
        /// How long the old secret signs too, in seconds; without it, a day
        #[arg(long, value_name = "SECONDS")]
        grace_seconds: Option<u32>,
    },
    /// Show what the webhook would send, without sending it
    Preview(PreviewArgs),
    /// List deliveries, newest first, or show one with its attempts
    Deliveries(DeliveriesArgs),
    /// Send a delivery again now
    Retry {
        #[command(flatten)]
        one: WebhookArg,
        /// Delivery, as `deliveries` shows it
        #[arg(value_parser = arguments::id)]
        delivery: String,
    },
    /// Send a range of the log again, within the filter of the webhook
    Replay(ReplayArgs),
    /// List replays, or show how far one is
    Replays(ReplaysArgs),
    /// Show, replace or remove the document that describes the feed's webhooks of a channel
    Config {
        /// Channel: map:ID or organization:ID; without it, the token's own
        #[arg(value_parser = arguments::channel, add = complete::owners())]
        channel: Option<Channel>,
        /// Replace it by this JSON: the text itself, @FILE, or - for standard input
        #[arg(long, value_name = "JSON|@FILE|-", conflicts_with = "remove")]
        apply: Option<String>,
        /// Remove it, with its webhooks
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Args)]
struct ChannelArg {
    /// Channel: map:ID or organization:ID
    #[arg(value_parser = arguments::channel, add = complete::owners())]
    channel: Channel,
}

#[derive(Debug, Args)]
struct WebhookArg {
    #[command(flatten)]
    of: ChannelArg,
    /// Webhook: its id, as `list` shows it
    #[arg(value_parser = arguments::id)]
    webhook: String,
}

#[derive(Debug, Args)]
struct PreviewArgs {
    #[command(flatten)]
    of: ChannelArg,
    /// Form of what is posted
    #[arg(long)]
    format: String,
    /// Template of the format template: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    template: Option<String>,
    /// Type of the sample event; without it, one that the format knows
    #[arg(long, value_name = "TYPE", add = complete::types())]
    event_type: Option<String>,
    /// Any fields of the API, as a JSON object: the text itself, @FILE, or - for standard input. Flags win
    #[arg(long, value_name = "JSON|@FILE|-")]
    body: Option<String>,
}

/// The address of a channel's webhooks, or of something below it: organizations name the channel in the query.
struct Place<'a> {
    channel: &'a Channel,
    path: String,
}

impl<'a> Place<'a> {
    fn of(channel: &'a Channel, below: &str) -> Place<'a> {
        let list = match channel {
            Channel::Map(map) => format!("/api/maps/{map}/webhooks"),
            Channel::Organization(_) | Channel::Feed => "/api/v1/webhooks".to_owned(),
        };
        Place { channel, path: format!("{list}{below}") }
    }

    fn below(one: &'a WebhookArg, below: &str) -> Place<'a> {
        Place::of(&one.of.channel, &format!("/{}{below}", one.webhook))
    }

    fn request(&self, method: Method, body: Option<&Json>) -> Request<'_> {
        let request = match body {
            Some(body) => with_body(method, &self.path, body),
            None => Request::new(method, &self.path),
        };
        match self.channel {
            Channel::Map(_) => request,
            channel => request.query(channel.parameter()),
        }
    }

    async fn ask(&self, api: &Api, method: Method, body: Option<&Json>) -> Result<Json, Failure> {
        api.ask(self.request(method, body), Some(self.channel)).await
    }

    async fn show(&self, api: &Api, method: Method, body: Option<&Json>) -> Result<(), Failure> {
        api.show_one(self.request(method, body), Some(self.channel)).await
    }
}

/// Does what was asked and prints the outcome.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: WebhookArgs) -> Result<(), Failure> {
    super::run(&args.manage, |api| execute(api, args.action))
}

async fn execute(api: Api, action: Action) -> Result<(), Failure> {
    match action {
        Action::List { of } => {
            let place = Place::of(&of.channel, "");
            api.show_list(place.request(Method::GET, None), Some(&of.channel), &COLUMNS).await
        }
        Action::Show { one } => Place::below(&one, "").show(&api, Method::GET, None).await,
        Action::Create { of, fields } => {
            let body = fields.body(&of.channel)?;
            let answer = Place::of(&of.channel, "").ask(&api, Method::POST, Some(&body)).await?;
            api.print_one(&answer, below_new(&answer)).await
        }
        Action::Update { one, fields } => change(&api, &one, &fields.body(&one.of.channel)?).await,
        Action::Delete { one } => {
            let place = Place::below(&one, "");
            let done = format!("deleted {}", one.webhook);
            api.show_done(place.request(Method::DELETE, None), Some(place.channel), &done).await
        }
        Action::Test { one, event_type } => test(&api, &one, event_type).await,
        Action::Enable { one, resume } => {
            change(&api, &one, &json!({ "active": true, "resume": resume.as_str() })).await
        }
        Action::Disable { one } => change(&api, &one, &json!({ "active": false })).await,
        Action::Toggle { map, enabled } => {
            let answer = map::toggle(&api, &map, enabled).await?;
            api.print_done(&answer, &format!("webhooks of {map} are {}", if enabled { "on" } else { "off" }))
        }
        Action::RotateSecret { one, grace_seconds } => {
            let mut body = Map::new();
            put(&mut body, "grace_seconds", grace_seconds);
            let answer = Place::below(&one, "/rotate-secret").ask(&api, Method::POST, Some(&body.into())).await?;
            api.print_one(&answer, "The secret is shown only now; keep it.\n").await
        }
        Action::Preview(args) => preview(&api, args).await,
        Action::Deliveries(args) => deliveries::show(&api, args).await,
        Action::Retry { one, delivery } => {
            Place::below(&one, &format!("/deliveries/{delivery}/retry")).show(&api, Method::POST, None).await
        }
        Action::Replay(args) => replays::begin(&api, args).await,
        Action::Replays(args) => replays::show(&api, args).await,
        Action::Config { channel, apply, remove } => config(&api, channel, apply, remove).await,
    }
}

/// What whoever made a webhook has to know.
fn below_new(answer: &Json) -> &'static str {
    let shows_secret = answer["data"]["secret"].is_string();
    let is_off = answer["data"]["delivering"] == false;
    match (shows_secret, is_off) {
        (true, true) => {
            "The secret is shown only now; keep it.\n\
             Nothing is delivered yet: turn the map's webhooks on by `stentor webhook toggle`.\n"
        }
        (true, false) => "The secret is shown only now; keep it.\n",
        (false, true) => "Nothing is delivered yet: turn the map's webhooks on by `stentor webhook toggle`.\n",
        (false, false) => "",
    }
}

async fn change(api: &Api, one: &WebhookArg, body: &Json) -> Result<(), Failure> {
    Place::below(one, "").show(api, Method::PATCH, Some(body)).await
}

/// A sample that does not arrive ends the command with 1.
async fn test(api: &Api, one: &WebhookArg, event_type: Option<String>) -> Result<(), Failure> {
    let body = event_type.map(|kind| json!({ "event_type": kind }));
    let answer = Place::below(one, "/test").ask(api, Method::POST, body.as_ref()).await?;
    api.print_one(&answer, "").await?;
    match answer["data"]["delivered"] == true {
        true => Ok(()),
        false => Err(Failure::Failed("the receiver did not take the sample; see above".to_owned())),
    }
}

async fn preview(api: &Api, args: PreviewArgs) -> Result<(), Failure> {
    let mut body = arguments::body(args.body.as_deref())?;
    put(&mut body, "format", Some(args.format));
    put(&mut body, "template", args.template.as_deref().map(arguments::text).transpose()?);
    put(&mut body, "event_type", args.event_type);
    Place::of(&args.of.channel, "/preview").show(api, Method::POST, Some(&body.into())).await
}

async fn config(api: &Api, channel: Option<Channel>, apply: Option<String>, remove: bool) -> Result<(), Failure> {
    const PATH: &str = "/engine/.config/webhooks.json";
    let method = match (&apply, remove) {
        (Some(_), _) => Method::PUT,
        (None, true) => Method::DELETE,
        (None, false) => Method::GET,
    };
    let document = apply.as_deref().map(|flag| arguments::json("--apply", flag)).transpose()?;
    let request = match &document {
        Some(document) => with_body(method, PATH, document),
        None => Request::new(method, PATH),
    };
    let answer = api.ask(request.query(channel.as_ref().and_then(Channel::parameter)), channel.as_ref()).await?;
    match remove {
        true => api.print_done(&answer, "removed the document and its webhooks"),
        false => api.print_document(&answer),
    }
}
