//! `stentor webhook deliveries`: the list of deliveries, and one with its attempts.

use actix_web::http::Method;
use actors::model::timestamp;
use clap::{Args, ValueEnum};

use super::{Place, WebhookArg};
use crate::cli::Failure;
use crate::cli::manage::Api;
use crate::cli::manage::arguments;
use crate::cli::manage::table::Column;
use crate::cli::since::Since;
use crate::http::now_ms;

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

#[derive(Debug, Args)]
pub struct DeliveriesArgs {
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

/// Shows one page of deliveries, or one delivery.
///
/// # Errors
/// As [`Api::ask`].
pub async fn show(api: &Api, args: DeliveriesArgs) -> Result<(), Failure> {
    if let Some(delivery) = &args.delivery {
        return Place::below(&args.one, &format!("/deliveries/{delivery}")).show(api, Method::GET, None).await;
    }
    let place = Place::below(&args.one, "/deliveries");
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.status.map(|status| ("status", status.as_str().to_owned())));
    query.extend(args.narrowed.query(now_ms()));
    query.extend(args.after.map(|after| ("after", after)));
    let answer = api.ask(place.request(Method::GET, None).query(query), Some(place.channel)).await?;
    api.print_page(&answer, &DELIVERIES).await
}
