//! `stentor trigger`: publishes one sample event of a type, to see what becomes of it.

use actors::model::catalogue;
use clap::Args;

use super::channel::Channel;
use super::manage::arguments;
use super::progress::Progress;
use super::publish::{payload, print};
use super::publisher::{Publisher, RetryArgs, check_event};
use super::remote::{Remote, RemoteArgs};
use super::{Failure, complete};
use crate::http::now_ms;

/// The flags of `stentor trigger`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor trigger map:home map_kill
  stentor trigger map:home my.type --payload '{\"n\": 1}'

The payload is an example of the catalogue that varies from call to call, unless one is given. Readers and webhooks get the event
like any other. The line that is printed is its id.")]
pub struct TriggerArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Channel to publish into: map:ID, organization:ID, or feed for the token's own
    #[arg(add = complete::channels())]
    channel: Channel,
    /// Type of the event, such as map_kill; `stentor types` lists those that have a sample
    #[arg(value_name = "TYPE", add = complete::types())]
    kind: String,
    /// Payload, a JSON object: the text itself, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    payload: Option<String>,
    /// Session that the event belongs to
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    #[command(flatten)]
    retry: RetryArgs,
}

/// Publishes the sample and prints its id.
///
/// # Errors
/// Wrong usage for a type without a sample and without a payload; failed when the server refuses or is not there.
pub fn run(args: TriggerArgs) -> Result<(), Failure> {
    let payload = match &args.payload {
        Some(flag) => payload(flag)?.get().to_owned(),
        None if catalogue::knows(&args.kind) => {
            let chance = u64::try_from(now_ms()).unwrap_or_default();
            catalogue::sample(&args.kind, chance).as_str().to_owned()
        }
        None => {
            let hint = arguments::type_hint(&args.kind);
            let reason = format!("the catalogue has no sample of {}; give --payload{hint}", args.kind);
            return Err(Failure::Usage(reason));
        }
    };
    let session =
        args.session.map_or_else(String::new, |name| format!(",\"session\":{}", serde_json::Value::from(name)));
    let event = format!("{{\"type\":{}{session},\"payload\":{payload}}}", serde_json::Value::from(args.kind));
    check_event(&event).map_err(|reason| Failure::Usage(format!("this is no event: {reason}")))?;
    actix_web::rt::System::new().block_on(async {
        let remote = Remote::new(&args.remote)?;
        let progress = Progress::hidden();
        let publisher = Publisher::new(&remote, &args.channel, &args.retry, &progress);
        print(&publisher.json(event).await?)
    })
}
