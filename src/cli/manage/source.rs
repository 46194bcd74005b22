//! `stentor source`: inbound webhooks, what was refused at them, and what came in.

use actix_web::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value as Json, json};
use tokio::select;

use super::arguments::{self, put};
use super::table::Column;
use super::{Api, ManageArgs, with_body};
use crate::cli::channel::Channel;
use crate::cli::filter::FilterArgs;
use crate::cli::follow::{Follower, Way};
use crate::cli::remote::Request;
use crate::cli::serve::stopped_by_signal;
use crate::cli::since::Since;
use crate::cli::{Failure, complete, output, tail};
use crate::http::now_ms;

const PATH: &str = "/api/webhooks";

const COLUMNS: [Column; 8] = [
    Column("id", &["id"]),
    Column("name", &["name"]),
    Column("channel", &["channel"]),
    Column("authentication", &["authentication"]),
    Column("status", &["status"]),
    Column("received", &["eventsReceived"]),
    Column("last event", &["lastEventAt"]),
    Column("last refused sender", &["refusedSenders/lastReason"]),
];
const LETTERS: [Column; 5] = [
    Column("n", &["n"]),
    Column("received", &["receivedAt"]),
    Column("reason", &["reason"]),
    Column("bytes", &["bytes"]),
    Column("retries", &["retries"]),
];

const PRESETS: [Column; 3] =
    [Column("name", &["name"]), Column("provider", &["title"]), Column("documentation", &["documentation"])];

/// The flags of `stentor source`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor source create map:home --name 'game server' --authentication api_key
  stentor source dead-letters wh_...
  stentor source dead-letters wh_... 7 --retry
  stentor source events wh_... --follow")]
pub struct SourceArgs {
    #[command(flatten)]
    manage: ManageArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List sources
    List {
        #[command(flatten)]
        of: OwnerArg,
    },
    /// Show one source
    Show {
        #[command(flatten)]
        one: SourceArg,
    },
    /// Make a source; a key that is made for it is shown this once
    Create {
        #[command(flatten)]
        of: OwnerArg,
        #[command(flatten)]
        fields: Box<SourceFields>,
    },
    /// Change a source: what is not given stays
    Update {
        #[command(flatten)]
        one: SourceArg,
        /// Whether it takes events in
        #[arg(long, value_enum)]
        status: Option<Status>,
        #[command(flatten)]
        fields: Box<SourceFields>,
    },
    /// Delete a source
    Delete {
        #[command(flatten)]
        one: SourceArg,
    },
    /// Show what a source received and refused
    Status {
        #[command(flatten)]
        one: SourceArg,
    },
    /// Give a source a new key, which is shown this once if it was made
    RotateSecret {
        #[command(flatten)]
        one: SourceArg,
        /// How long the old key is good too, in seconds
        #[arg(long, value_name = "SECONDS")]
        grace_seconds: Option<u32>,
        #[command(flatten)]
        keys: Keys,
        /// Any fields of the API, as a JSON object: the text itself, @FILE, or - for standard input. Flags win
        #[arg(long, value_name = "JSON|@FILE|-")]
        body: Option<String>,
    },
    /// List the providers of webhooks that are known by name
    Presets,
    /// Tell step by step why a request would be taken or refused, without storing it
    Check(CheckArgs),
    /// List what verified senders sent and was refused; show, retry or delete one
    DeadLetters {
        #[command(flatten)]
        one: SourceArg,
        /// Number of the dead letter
        #[arg(value_name = "N")]
        letter: Option<u64>,
        /// Take it in now, as the source is set up now
        #[arg(long, requires = "letter", conflicts_with = "delete")]
        retry: bool,
        /// Take this in, in the place of its body: the text itself, @FILE, or - for standard input
        #[arg(long, value_name = "TEXT|@FILE|-", requires = "retry")]
        body: Option<String>,
        /// Delete it; without a number, all of them
        #[arg(long)]
        delete: bool,
        /// List at most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Go on behind this number
        #[arg(long, value_name = "N")]
        after: Option<u64>,
    },
    /// Show what came in at a source
    Events {
        #[command(flatten)]
        one: SourceArg,
        /// Show what comes from now on too, until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// Begin with what was appended since then: after an event's id, at a time such as 2027-01-31T12:00:00Z, or so long ago, such as 10m
        #[arg(long, value_name = "ID|TIME|AGO")]
        since: Option<Since>,
        /// Show at most so many of the newest
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
        #[command(flatten)]
        filter: FilterArgs,
    },
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    one: SourceArg,
    /// The whole request: request line, headers, an empty line, body; the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-", conflicts_with_all = ["headers", "body"])]
    request: Option<String>,
    /// Header of the request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = arguments::header)]
    headers: Vec<(String, String)>,
    /// Body of the request: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "TEXT|@FILE|-")]
    body: Option<String>,
    /// When the request came, such as 2027-01-31T12:00:00Z; without it, now
    #[arg(long, value_name = "ISO-8601")]
    at: Option<String>,
}

#[derive(Debug, Args)]
struct OwnerArg {
    /// Channel that the events go to: map:ID or organization:ID; without it, the token's own
    #[arg(value_parser = arguments::channel, add = complete::owners())]
    channel: Option<Channel>,
}

#[derive(Debug, Args)]
struct SourceArg {
    /// Source: its id, as `list` shows it
    #[arg(value_parser = arguments::id)]
    source: String,
}

impl SourceArg {
    fn path(&self, below: &str) -> String {
        format!("{PATH}/{}{below}", self.source)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Active,
    Paused,
}

/// Keys of your own: the text itself, `@FILE`, or `-` for standard input.
#[derive(Debug, Default, Args)]
struct Keys {
    /// Key that senders sign with; without it, one is made
    #[arg(long, value_name = "TEXT|@FILE|-")]
    secret_key: Option<String>,
    /// Public key of senders that sign with a private one
    #[arg(long, value_name = "TEXT|@FILE|-")]
    public_key: Option<String>,
    /// Key that senders show; without it, one is made
    #[arg(long, value_name = "TEXT|@FILE|-")]
    api_key: Option<String>,
}

impl Keys {
    fn put(&self, body: &mut Map<String, Json>) -> Result<(), Failure> {
        for (name, key) in [("secretKey", &self.secret_key), ("publicKey", &self.public_key), ("apiKey", &self.api_key)]
        {
            let text = key.as_deref().map(arguments::text).transpose()?;
            put(body, name, text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(())
    }
}

/// The fields of a source that may be given when it is made or changed.
#[derive(Debug, Default, Args)]
struct SourceFields {
    /// Name for people
    #[arg(long)]
    name: Option<String>,
    /// How a sender proves itself: none, api_key, hmac, jwt, the name of a preset such as github, or a recipe as JSON
    #[arg(long, value_name = "NAME|JSON")]
    authentication: Option<String>,
    #[command(flatten)]
    keys: Keys,
    /// Hash of the signature: sha256 or sha512
    #[arg(long, value_name = "HASH")]
    hmac_algorithm: Option<String>,
    /// Settings of the authentication jwt
    #[arg(long, value_name = "JSON|@FILE|-")]
    jwt: Option<String>,
    /// Where the type of an event stands: a type, or a rule as JSON
    #[arg(long, value_name = "TYPE|JSON")]
    event_type: Option<String>,
    /// What fields hold, such as '{"level":"number"}'
    #[arg(long, value_name = "JSON|@FILE|-")]
    schema: Option<String>,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    rate_limit: Option<u64>,
    /// Any fields of the API, as a JSON object: the text itself, @FILE, or - for standard input. Flags win
    #[arg(long, value_name = "JSON|@FILE|-")]
    body: Option<String>,
}

impl SourceFields {
    fn body(self) -> Result<Map<String, Json>, Failure> {
        let mut body = arguments::body(self.body.as_deref())?;
        put(&mut body, "name", self.name);
        put(&mut body, "authentication", self.authentication.map(text_or_json).transpose()?);
        self.keys.put(&mut body)?;
        put(&mut body, "hmacAlgorithm", self.hmac_algorithm);
        put(&mut body, "jwt", self.jwt.as_deref().map(|flag| arguments::json("--jwt", flag)).transpose()?);
        put(&mut body, "eventType", self.event_type.map(text_or_json).transpose()?);
        put(&mut body, "schema", self.schema.as_deref().map(|flag| arguments::json("--schema", flag)).transpose()?);
        put(&mut body, "rateLimit", self.rate_limit);
        Ok(body)
    }
}

/// A plain word, or JSON where it begins like that.
fn text_or_json(flag: String) -> Result<Json, Failure> {
    match flag.starts_with(['{', '[', '@']) {
        true => arguments::json("the flag", &flag),
        false => Ok(Json::String(flag)),
    }
}

/// Does what was asked and prints the outcome.
///
/// # Errors
/// Wrong usage without a token; failed when the server is not reached or refuses.
pub fn run(args: SourceArgs) -> Result<(), Failure> {
    super::run(&args.manage, |api| execute(api, args.action))
}

async fn execute(api: Api, action: Action) -> Result<(), Failure> {
    match action {
        Action::List { of } => {
            let channel = of.channel.as_ref();
            let request = Request::get(PATH).query(channel.and_then(Channel::parameter));
            api.show_list(request, channel, &COLUMNS).await
        }
        Action::Show { one } => api.show_one(Request::get(&one.path("")), None).await,
        Action::Create { of, fields } => {
            let channel = of.channel.as_ref();
            let request = with_body(Method::POST, PATH, &fields.body()?.into());
            let answer = api.ask(request.query(channel.and_then(Channel::parameter)), channel).await?;
            api.print_one(&answer, below_key(&answer)).await
        }
        Action::Update { one, status, fields } => {
            let mut body = fields.body()?;
            put(&mut body, "status", status.map(|status| if status == Status::Active { "active" } else { "paused" }));
            let body = arguments::something(body, "--name or another field, or --body")?;
            api.show_one(with_body(Method::PATCH, &one.path(""), &body), None).await
        }
        Action::Delete { one } => {
            api.show_done(Request::delete(&one.path("")), None, &format!("deleted {}", one.source)).await
        }
        Action::Status { one } => api.show_one(Request::get(&one.path("/status")), None).await,
        Action::RotateSecret { one, grace_seconds, keys, body } => {
            let mut body = arguments::body(body.as_deref())?;
            keys.put(&mut body)?;
            put(&mut body, "graceSeconds", grace_seconds);
            let path = one.path("/rotate-secret");
            let answer = api.ask(with_body(Method::POST, &path, &body.into()), None).await?;
            api.print_one(&answer, below_key(&answer)).await
        }
        Action::Presets => api.show_list(Request::get("/api/source-presets"), None, &PRESETS).await,
        Action::Check(args) => check(&api, args).await,
        Action::DeadLetters { one, letter: Some(letter), retry: true, body, .. } => {
            let path = one.path(&format!("/dead-letters/{letter}/retry"));
            let mut request = Request::new(Method::POST, &path);
            if let Some(body) = body {
                request = with_body(Method::POST, &path, &json!({ "body": arguments::text(&body)? }));
            }
            api.show_one(request, None).await
        }
        Action::DeadLetters { one, letter: Some(letter), delete, .. } => {
            let path = one.path(&format!("/dead-letters/{letter}"));
            match delete {
                true => api.show_done(Request::delete(&path), None, &format!("deleted dead letter {letter}")).await,
                false => api.show_one(Request::get(&path), None).await,
            }
        }
        Action::DeadLetters { one, letter: None, delete: true, .. } => {
            let done = format!("deleted the dead letters of {}", one.source);
            api.show_done(Request::delete(&one.path("/dead-letters")), None, &done).await
        }
        Action::DeadLetters { one, limit, after, .. } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(after.map(|after| ("after", after.to_string())));
            let answer = api.ask(Request::get(&one.path("/dead-letters")).query(query), None).await?;
            api.print_page(&answer, &LETTERS).await
        }
        Action::Events { one, follow, since, limit, filter } => match follow {
            true => select! {
                ended = follow_events(&api, &one, since, &filter) => ended,
                () = stopped_by_signal() => Ok(()),
            },
            false => newest_events(&api, &one, since, limit, &filter).await,
        },
    }
}

/// What whoever got a new key has to know.
fn below_key(answer: &Json) -> &'static str {
    match answer.get("secret").is_some_and(|secret| !secret.is_null()) {
        true => "The secret is shown only now; keep it.\n",
        false => "",
    }
}

/// A request that would be refused ends the command with 1.
async fn check(api: &Api, args: CheckArgs) -> Result<(), Failure> {
    const STEPS: [Column; 3] = [Column("step", &["step"]), Column("ok", &["ok"]), Column("message", &["message"])];
    let mut body = Map::new();
    put(&mut body, "request", args.request.as_deref().map(arguments::text).transpose()?);
    if args.request.is_none() {
        put(
            &mut body,
            "headers",
            Some(args.headers.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>()),
        );
        put(&mut body, "body", args.body.as_deref().map(arguments::text).transpose()?);
    }
    put(&mut body, "at", args.at);
    let answer = api.ask(with_body(Method::POST, &args.one.path("/check"), &body.into()), None).await?;
    match api.is_json() {
        true => api.print_json(&answer)?,
        false => api.print_list(answer["steps"].as_array().cloned().unwrap_or_default(), &STEPS).await?,
    }
    match answer["accepted"] == true {
        true => Ok(()),
        false => Err(Failure::Failed("the source would refuse this request; see above".to_owned())),
    }
}

/// The newest events of a source, the oldest of them first.
async fn newest_events(
    api: &Api,
    one: &SourceArg,
    since: Option<Since>,
    limit: u64,
    filter: &FilterArgs,
) -> Result<(), Failure> {
    let path = one.path("/events/history");
    let mut query = filter.query()?;
    query.extend([("order", "desc".to_owned()), ("limit", limit.to_string())]);
    query.extend(since.map(|since| ("since", since.cursor(now_ms()).to_string())));
    let mut answer = api.ask(Request::get(&path).query(query), None).await?;
    let mut rows = answer["data"].as_array_mut().map(std::mem::take).unwrap_or_default();
    rows.reverse();
    if api.is_json() {
        return api.print_json(&json!({ "data": rows }));
    }
    let lines: String = rows.iter().map(|row| tail::line(&row.to_string())).collect();
    output::text(if lines.is_empty() { "none\n" } else { &lines })
}

async fn follow_events(api: &Api, one: &SourceArg, since: Option<Since>, filter: &FilterArgs) -> Result<(), Failure> {
    let way = Way { path: one.path("/events"), query: Vec::new(), name: format!("source {}", one.source) };
    let mut follower = Follower::new(api.remote(), &Channel::Feed, filter, since, now_ms())?.by_way(way);
    loop {
        let event = follower.next().await?;
        match api.is_json() {
            true => output::bytes(format!("{}\n", event.envelope).as_bytes())?,
            false => output::text(&tail::line(&event.envelope))?,
        }
    }
}
