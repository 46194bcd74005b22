//! `stentor webhook replay` and `replays`: a range of the log that is sent again, and how far that is.

use std::time::Duration;

use actix_web::http::Method;
use actors::model::timestamp;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json};

use super::{Place, WebhookArg};
use crate::cli::manage::Api;
use crate::cli::manage::arguments::put;
use crate::cli::manage::table::Column;
use crate::cli::since::Since;
use crate::cli::{Failure, output};
use crate::http::now_ms;

/// Between two looks at a replay that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const JOBS: [Column; 7] = [
    Column("job", &["id"]),
    Column("state", &["state"]),
    Column("delivered", &["delivered"]),
    Column("failed", &["failed"]),
    Column("skipped", &["skipped"]),
    Column("since", &["inserted_at", "createdAt"]),
    Column("finished", &["finished_at", "finishedAt"]),
];

#[derive(Debug, Args)]
pub struct ReplayArgs {
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

#[derive(Debug, Args)]
pub struct ReplaysArgs {
    #[command(flatten)]
    one: WebhookArg,
    /// Number of the replay
    job: Option<u64>,
    /// Wait until it is done
    #[arg(long, requires = "job")]
    wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dead {
    Dead,
}

/// Has a range of the log sent again, and waits for its end where that is asked for.
///
/// # Errors
/// As [`Api::ask`].
pub async fn begin(api: &Api, args: ReplayArgs) -> Result<(), Failure> {
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

/// Shows all replays, or how far one is.
///
/// # Errors
/// As [`Api::ask`].
pub async fn show(api: &Api, args: ReplaysArgs) -> Result<(), Failure> {
    let ReplaysArgs { one, job, wait } = args;
    match job {
        Some(job) if wait => api.print_one(&finished(api, &one, job).await?, "").await,
        Some(job) => Place::below(&one, &format!("/replays/{job}")).show(api, Method::GET, None).await,
        None => {
            let place = Place::below(&one, "/replays");
            api.show_list(place.request(Method::GET, None), Some(place.channel), &JOBS).await
        }
    }
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
