//! `stentor listen`: a channel's events, delivered to a receiver on this machine as a webhook would deliver them.
//!
//! What is sent is made by the code that the server delivers with, and the client is the same: body, headers, signatures,
//! no redirects, the same bounds in time. Only the way of the events is another one: they come over a stream, so that a
//! receiver behind a router can be developed without an address that the server could reach.

mod bookmark;
mod signed_request;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::delivery::http::client::{Attempt, DeliveryClient};
use actors::delivery::http::resolver::Resolver;
use actors::delivery::http::target::TargetCheck;
use actors::delivery::outcome::Outcome;
use actors::model::delivery::FailureCode;
use actors::model::format::{Form, Format, Template};
use actors::model::signature::{Keys, Secret};
use actors::model::target::{Policy, Target, network};
use clap::Args;

use self::bookmark::Bookmark;
use self::signed_request::{SignedRequest, SignedRequests};
use super::channel::Channel;
use super::filter::FilterArgs;
use super::follow::Follower;
use super::output::{BAD, DIM, GOOD, NAME, tame};
use super::remote::{Remote, RemoteArgs};
use super::serve::stopped_by_signal;
use super::since::Since;
use super::{Failure, complete, output};
use crate::http::now_ms;

/// As `webhooks.attempt_timeout_s` and `webhooks.connect_timeout_s` have it by default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks for a receiver that is not there.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Private networks: a receiver on a colleague's machine or in a container is what this is for.
const PRIVATE_NETWORKS: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The flags of `stentor listen`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor listen map:home --forward-to 9000
  stentor listen map:home --forward-to localhost:9000/webhook --resume laptop
  stentor listen organization:acme --forward-to http://127.0.0.1:9000/hook --secret \"$WEBHOOK_SECRET\" --since 1h

Each event is posted once, in order, and nothing is tried again; --since sends events again. With --resume, the next call goes
on behind the last event that this one posted, and while nobody listens at the address it waits.")]
pub struct ListenArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Channel to read: map:ID, organization:ID, or feed for everything that the token may read
    #[arg(add = complete::channels())]
    channel: Channel,
    /// Where the events are posted to: a URL, or a port of this machine such as 9000 or localhost:9000/path
    #[arg(long, value_name = "URL|PORT", value_parser = target)]
    forward_to: Target,
    /// Format of the posts: map, gateway, feed, standard, cloudevents, cloudevents_binary, raw, discord, slack or template; without
    /// it, that of a webhook of the channel: map, gateway or feed
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// Template of the format template: a file
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Secret that signs the posts; without it one is made and shown. Better given by the environment
    #[arg(long, env = "STENTOR_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin with what was appended since then: after an event's id, at a time such as 2027-01-31T12:00:00Z, or so long ago, such as 10m
    #[arg(long, value_name = "ID|TIME|AGO")]
    since: Option<Since>,
    /// Remember under this name how far the channel was posted, and go on from there: what was published in between is
    /// caught up on. The first call begins with what comes from now on, or with --since
    #[arg(long, value_name = "NAME", value_parser = bookmark::name)]
    resume: Option<String>,
    /// End after so many events, and with 1 if any of them was not taken
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

fn target(text: &str) -> Result<Target, String> {
    policy().judge_url(&url(text)?).map_err(|e| e.to_string())
}

/// A URL, made of a port or of a host with a port where that was given.
fn url(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let rest = text.strip_prefix(':').unwrap_or(text);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (place, path) = rest.split_at(end);
    match place.parse::<u16>() {
        Ok(port) if port > 0 => Ok(format!("http://localhost:{port}{path}")),
        _ if place.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("give a URL, or a port from 1 to 65535 such as 9501 or localhost:9501/path".to_owned())
        }
        _ => Ok(format!("http://{place}{path}")),
    }
}

fn format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|e: actors::model::format::UnknownFormat| {
        let hint = super::suggest::did_you_mean(text, Format::ALL.map(Format::as_str));
        format!("{e}{hint}")
    })
}

fn policy() -> Policy {
    // the networks above are well-formed, which a test looks at
    let allow_networks = PRIVATE_NETWORKS.iter().filter_map(|text| network(text).ok()).collect();
    Policy { allow_http: true, allow_networks, dev: true }
}

/// Delivers until a signal or the limit.
///
/// # Errors
/// When the server is not there at first, or refuses; at the limit, when something was not taken.
pub fn run(args: ListenArgs) -> Result<(), Failure> {
    let form = form(&args)?;
    let keys = keys(args.secret.as_deref())?;
    actix_web::rt::System::new().block_on(async {
        let mut count = Count::default();
        let ended = tokio::select! {
            ended = deliver(&args, form, keys, &mut count) => ended,
            () = stopped_by_signal() => Ok(()),
        };
        if count.taken + count.refused > 0 {
            output::notice(&format!("{} delivered, {} not taken", count.taken, count.refused));
        }
        ended
    })
}

/// The format that was asked for or that suits the channel, made ready.
fn form(args: &ListenArgs) -> Result<Form, Failure> {
    let format = args.format.unwrap_or(match args.channel {
        Channel::Map(_) => Format::Map,
        Channel::Organization(_) => Format::Gateway,
        Channel::Feed => Format::Feed,
    });
    if args.template.is_some() && format != Format::Template {
        return Err(Failure::Usage("--template goes with --format template only".to_owned()));
    }
    match format {
        Format::Map if !matches!(args.channel, Channel::Map(_)) => {
            return Err(Failure::Usage("--format map is for maps; leave it out, or give another one".to_owned()));
        }
        Format::CloudEvents | Format::CloudEventsBinary | Format::Discord | Format::Slack | Format::Template
            if args.channel == Channel::Feed =>
        {
            let reason = "--format of the feed is feed, gateway or standard; listen to one map or organization";
            return Err(Failure::Usage(reason.to_owned()));
        }
        _ => {}
    }
    if let Some(form) = Form::without_template(format) {
        return Ok(form);
    }
    let Some(path) = &args.template else {
        return Err(Failure::Usage("--format template needs --template FILE".to_owned()));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::Usage(format!("cannot read {}: {e}; check its name", path.display())))?;
    Ok(Form::Template(Template::compile(&text).map_err(|e| Failure::Usage(format!("--template: {e}")))?))
}

/// The keys of the secret that was given, or of one that is made and shown.
fn keys(given: Option<&str>) -> Result<Keys, Failure> {
    if let Some(text) = given {
        let secret = Secret::from_text(text).map_err(|e| Failure::Usage(format!("--secret: {e}")))?;
        return Ok(Keys::new(secret));
    }
    let mut random = [0; actors::model::signature::SECRET_BYTES];
    getrandom::fill(&mut random).map_err(|e| Failure::Failed(format!("no secret can be made: {e}; give --secret")))?;
    let secret = Secret::from_random(random);
    output::text(&format!("{DIM}secret of this run:{DIM:#} {}\n", secret.reveal()))?;
    Ok(Keys::new(secret))
}

#[derive(Default)]
struct Count {
    taken: u64,
    refused: u64,
}

async fn deliver(args: &ListenArgs, form: Form, keys: Keys, count: &mut Count) -> Result<(), Failure> {
    let remote = Remote::new(&args.remote)?;
    let way = signed_request::way(&args.channel, form.format());
    let mut bookmark = match &args.resume {
        Some(name) => Some(Bookmark::open(name, remote.server(), &args.channel)?),
        None => None,
    };
    let since = match bookmark.as_ref().and_then(Bookmark::cursor) {
        Some(cursor) => Some(Since::After(cursor)),
        None => args.since,
    };
    let mut follower = Follower::new(&remote, &args.channel, &args.filter, since, now_ms())?.by_way(way);
    // requests that a source kept as they came go on as they came, unless somebody wants something else
    let signed_requests =
        SignedRequests::new(&remote, &args.channel, form, keys).await?.sending_on(args.format.is_none());
    let target_check = Arc::new(TargetCheck::new(policy(), Resolver::system()));
    let client = DeliveryClient::new(target_check, args.remote.tls()?);
    while args.limit.is_none_or(|limit| count.taken + count.refused < limit) {
        let event = match &mut bookmark {
            Some(bookmark) if bookmark.cursor().is_none() => {
                // where the first call began counts too: what comes while nobody listens is behind it
                follower.opened().await?;
                bookmark.set(follower.cursor())?;
                continue;
            }
            _ => follower.next().await?,
        };
        let packed = signed_requests.pack(&event.envelope, now_ms()).and_then(|packed| {
            let Some(packed) = packed else { return Ok(None) };
            let url = match &packed.request {
                None => args.forward_to.clone(),
                Some(request) => {
                    let url = request.address(&args.forward_to.url).map_err(|e| e.to_string())?;
                    Target { url, ..args.forward_to.clone() }
                }
            };
            Ok(Some((packed, url)))
        });
        let (signed_request, url) = match packed {
            Ok(Some(packed)) => packed,
            // an event of another shape than the format sends on
            Ok(None) => {
                if let Some(bookmark) = &mut bookmark {
                    bookmark.set(Some(&event.id))?;
                }
                continue;
            }
            Err(reason) => {
                count.refused += 1;
                output::text(&format!("{DIM}{}{DIM:#} {BAD}not sent{BAD:#} {}\n", tame(&event.id), tame(&reason)))?;
                if let Some(bookmark) = &mut bookmark {
                    bookmark.set(Some(&event.id))?;
                }
                continue;
            }
        };
        let attempt = || Attempt {
            method: signed_request.request.as_ref().map_or("POST", |request| request.method.as_str()),
            url: &url,
            headers: signed_request.headers.clone(),
            body: signed_request.body.clone(),
            deadline: ATTEMPT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        };
        let mut outcome = client.send(attempt()).await;
        // what nobody got would be behind the bookmark
        if bookmark.is_some() && is_nobody_there(&outcome) {
            output::notice(&format!("{}; waiting for a receiver, Ctrl-C ends it", tame(&outcome.detail)));
            while is_nobody_there(&outcome) {
                actix_web::rt::time::sleep(LOOK_EVERY).await;
                outcome = client.send(attempt()).await;
            }
        }
        match outcome.succeeded() {
            true => count.taken += 1,
            false => count.refused += 1,
        }
        if let Some(bookmark) = &mut bookmark {
            bookmark.set(Some(&event.id))?;
        }
        output::text(&line(&signed_request, &outcome))?;
    }
    match count.refused {
        0 => Ok(()),
        refused => {
            let were = output::count(refused, "event was", "events were");
            Err(Failure::Failed(format!("{were} not taken; see above")))
        }
    }
}

/// Whether no program listens at the address.
fn is_nobody_there(outcome: &Outcome) -> bool {
    matches!(outcome.error, Some(FailureCode::ConnectionRefused))
}

/// Type and id of an event, and what became of it.
fn line(signed_request: &SignedRequest, outcome: &Outcome) -> String {
    let ms = outcome.timings.total_us as f64 / 1000.0;
    let (style, what) = match (outcome.succeeded(), outcome.status) {
        (true, Some(status)) => (GOOD, status.to_string()),
        // its reason names the status, where there is one
        (_, _) => (BAD, tame(&outcome.detail)),
    };
    let (kind, id) = (tame(&signed_request.kind), signed_request.id);
    format!("{NAME}{kind}{NAME:#} {DIM}{id}{DIM:#} {style}{what}{style:#} {DIM}in {ms:.1} ms{DIM:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_on_this_machine_and_in_private_networks_can_be_forwarded_to() {
        assert_eq!(policy().allow_networks.len(), PRIVATE_NETWORKS.len());
        for url in ["http://127.0.0.1:9000/x", "http://localhost:9000", "http://192.168.1.2/x", "https://example.org/x"]
        {
            assert!(target(url).is_ok(), "{url}");
        }
        for (text, meant) in [
            ("9501", "http://localhost:9501"),
            (":9501/hook?a=b", "http://localhost:9501/hook?a=b"),
            ("localhost:9501", "http://localhost:9501"),
            ("127.0.0.1:9501/x", "http://127.0.0.1:9501/x"),
            ("[::1]:9501", "http://[::1]:9501"),
            ("https://example.org/x", "https://example.org/x"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(meant));
            assert!(target(text).is_ok(), "{text}");
        }
        for url in ["99999999", "0", ":", "ftp://x/y", "http://", "", "http://169.254.169.254/latest"] {
            assert!(target(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_secret_that_is_given_signs_and_none_is_empty() {
        let keys = keys(Some("a secret of one's own")).expect("any text");
        assert_eq!(keys.current.reveal(), "a secret of one's own");
        assert!(matches!(super::keys(Some("")), Err(Failure::Usage(_))));
    }
}
