//! `stentor webhook`: webhooks that go out, their deliveries and replays.

use std::time::Duration;

use actix_web::http::Method;
use actors::model::timestamp;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value as Json, json};

use super::arguments::{self, put, switch};
use super::table::Column;
use super::webhook_fields::{Resume, WebhookFields};
use super::{Api, ManageArgs, map, with_body};
use crate::cli::channel::Channel;
use crate::cli::remote::Request;
use crate::cli::since::Since;
use crate::cli::{Failure, complete, output};
use crate::http::now_ms;

/// Between two looks at a replay that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
const DELIVERIES: [Column; 8] = [
    Column("id", &["id"]),
    Column("status", &["status"]),
    Column("types", &["event_types", "eventTypes"]),
    Column("attempts", &["attempt_count", "attemptCount"]),
    Column("answer", &["status_code", "statusCode"]),
    Column("error", &["error_code", "errorCode"]),
    Column("next attempt", &["next_attempt_at", "nextAttemptAt"]),
    Column("since", &["inserted_at", "createdAt"]),
];
const JOBS: [Column; 7] = [
    Column("job", &["id"]),
    Column("state", &["state"]),
    Column("delivered", &["delivered"]),
    Column("failed", &["failed"]),
    Column("skipped", &["skipped"]),
    Column("since", &["inserted_at", "createdAt"]),
    Column("finished", &["finished_at", "finishedAt"]),
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
    Deliveries {
        #[command(flatten)]
        one: WebhookArg,
        /// Delivery to show with all its attempts
        #[arg(value_parser = arguments::id)]
        delivery: Option<String>,
        /// Only those that stand so
        #[arg(long, value_enum)]
        status: Option<Status>,
        #[command(flatten)]
        narrowed: Narrowed,
        /// List at most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Go on behind the page that ended so
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
    },
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
    Replays {
        #[command(flatten)]
        one: WebhookArg,
        /// Number of the replay
        job: Option<u64>,
        /// Wait until it is done
        #[arg(long, requires = "job")]
        wait: bool,
    },
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

#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    one: WebhookArg,
    /// Begin with this event, at a time such as 2027-01-31T12:00:00Z, or so long ago, such as 2h
    #[arg(long, value_name = "ID|TIME|AGO")]
    since: Option<Since>,
    /// Begin behind this event
    #[arg(long, value_name = "ID", conflicts_with = "since")]
    after: Option<String>,
    /// End with this event, at this time, or so long ago
    #[arg(long, value_name = "ID|TIME|AGO")]
    until: Option<Since>,
    /// Only events of these types; repeat it or separate by commas
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    events: Option<Vec<String>>,
    /// Only deliveries that stand so; then --since may be left out
    #[arg(long, value_enum)]
    status: Option<Dead>,
    /// Only count what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Wait until it is done
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dead {
    Dead,
}

/// What a list of deliveries is narrowed by besides their status.
#[derive(Debug, Default, Args)]
struct Narrowed {
    /// Only those with an event of these types; repeat it or separate by commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Only those whose latest attempt ended so: a status such as 503, a class such as 5xx, or an error code such as timeout
    #[arg(long = "code", value_name = "CODE", value_delimiter = ',')]
    codes: Vec<String>,
    /// Only those made since this time, such as 2027-01-31T12:00:00Z, or so long ago, such as 24h
    #[arg(long, value_name = "TIME|AGO")]
    since: Option<Since>,
    /// Only those made before
    #[arg(long, value_name = "TIME|AGO")]
    until: Option<Since>,
    /// Only those with this text in an id, a type, a reason or an answer
    #[arg(long)]
    text: Option<String>,
}

impl Narrowed {
    fn query(self, now_ms: i64) -> Vec<(&'static str, String)> {
        // an event stands for its time
        let time = |since: Since| match since {
            Since::After(id) => timestamp::to_iso(id.time_ms().try_into().unwrap_or(i64::MAX)),
            Since::At(_) | Since::Ago(_) => timestamp::to_iso(since.moment(now_ms).unwrap_or(now_ms)),
        };
        let list = |all: Vec<String>| Some(all.join(",")).filter(|text| !text.is_empty());
        let all = [
            ("type", list(self.types)),
            ("code", list(self.codes)),
            ("since", self.since.map(time)),
            ("until", self.until.map(time)),
            ("text", self.text),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Pending,
    Delivered,
    Retrying,
    Dead,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::Dead => "dead",
        }
    }
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
            let rows = api.list(place.request(Method::GET, None), Some(&of.channel)).await?;
            api.print_list(rows, &COLUMNS).await
        }
        Action::Show { one } => api.print_one(&Place::below(&one, "").ask(&api, Method::GET, None).await?, "").await,
        Action::Create { of, fields } => {
            let body = fields.body(&of.channel)?;
            let answer = Place::of(&of.channel, "").ask(&api, Method::POST, Some(&body)).await?;
            api.print_one(&answer, below_new(&answer)).await
        }
        Action::Update { one, fields } => change(&api, &one, &fields.body(&one.of.channel)?).await,
        Action::Delete { one } => {
            let answer = Place::below(&one, "").ask(&api, Method::DELETE, None).await?;
            api.print_done(&answer, &format!("deleted {}", one.webhook))
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
        Action::Deliveries { one, delivery: Some(delivery), .. } => {
            let place = Place::below(&one, &format!("/deliveries/{delivery}"));
            api.print_one(&place.ask(&api, Method::GET, None).await?, "").await
        }
        Action::Deliveries { one, delivery: None, status, narrowed, limit, after } => {
            let place = Place::below(&one, "/deliveries");
            let mut query = vec![("limit", limit.to_string())];
            query.extend(status.map(|status| ("status", status.as_str().to_owned())));
            query.extend(narrowed.query(now_ms()));
            query.extend(after.map(|after| ("after", after)));
            let answer = api.ask(place.request(Method::GET, None).query(query), Some(place.channel)).await?;
            api.print_page(&answer, &DELIVERIES).await
        }
        Action::Retry { one, delivery } => {
            let place = Place::below(&one, &format!("/deliveries/{delivery}/retry"));
            api.print_one(&place.ask(&api, Method::POST, None).await?, "").await
        }
        Action::Replay(args) => replay(&api, args).await,
        Action::Replays { one, job: Some(job), wait } => {
            let answer = match wait {
                true => finished(&api, &one, job).await?,
                false => Place::below(&one, &format!("/replays/{job}")).ask(&api, Method::GET, None).await?,
            };
            api.print_one(&answer, "").await
        }
        Action::Replays { one, job: None, .. } => {
            let place = Place::below(&one, "/replays");
            let rows = api.list(place.request(Method::GET, None), Some(&one.of.channel)).await?;
            api.print_list(rows, &JOBS).await
        }
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
    let answer = Place::below(one, "").ask(api, Method::PATCH, Some(body)).await?;
    api.print_one(&answer, "").await
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
    let answer = Place::of(&args.of.channel, "/preview").ask(api, Method::POST, Some(&body.into())).await?;
    api.print_one(&answer, "").await
}

async fn replay(api: &Api, args: ReplayArgs) -> Result<(), Failure> {
    let mut body = Map::new();
    let now_ms = now_ms();
    // an event itself, not what comes behind it
    let place = |since: Since| match since {
        Since::After(id) => id.to_string(),
        at => timestamp::to_iso(at.moment(now_ms).unwrap_or(now_ms)),
    };
    put(&mut body, "since", args.since.map(place));
    put(&mut body, "after", args.after);
    put(&mut body, "until", args.until.map(place));
    put(&mut body, "events", args.events);
    put(&mut body, "status", args.status.map(|Dead::Dead| "dead"));
    put(&mut body, "dry_run", args.dry_run.then_some(true));
    let answer = Place::below(&args.one, "/replay").ask(api, Method::POST, Some(&body.into())).await?;
    let answer = match answer["data"]["id"].as_u64() {
        Some(job) if args.wait => finished(api, &args.one, job).await?,
        _ => answer,
    };
    api.print_one(&answer, "").await
}

/// How a replay stands when nothing of it is left to do.
async fn finished(api: &Api, one: &WebhookArg, job: u64) -> Result<Json, Failure> {
    let place = Place::below(one, &format!("/replays/{job}"));
    loop {
        let answer = place.ask(api, Method::GET, None).await?;
        let data = &answer["data"];
        if data.get("finished_at").or_else(|| data.get("finishedAt")).is_some_and(|at| !at.is_null()) {
            return Ok(answer);
        }
        if output::is_watched() {
            output::notice(&format!("replay {job}: {} delivered, {} failed", data["delivered"], data["failed"]));
        }
        actix_web::rt::time::sleep(LOOK_EVERY).await;
    }
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
