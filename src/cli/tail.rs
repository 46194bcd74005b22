//! `stentor tail`: the events of a channel, or of several, on standard output, one a line, for as long as wanted.

use actors::model::source::raw::RawRequest;
use actors::model::timestamp::to_iso;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::de::IgnoredAny;

use super::channel::Selector;
use super::envelope::Envelope;
use super::filter::FilterArgs;
use super::follow::{Follower, Way};
use super::output::{self, DIM, NAME, tame};
use super::remote::{Remote, RemoteArgs};
use super::serve::stopped_by_signal;
use super::since::Since;
use super::{Failure, complete, pretty};
use crate::http::now_ms;

/// The flags of `stentor tail`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor tail map:home --since 10m
  stentor tail map:home --events map_kill --filter 'event.payload.value > 1e9'
  stentor tail map:home --pretty
  stentor tail map:home map:hideout organization:*
  stentor tail feed --json | jq .

The stream is resumed when it breaks off, without a hole and without a repetition.")]
pub struct TailArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Channel to read: map:ID, organization:ID, or feed for everything that the token may read. Several are read in one order,
    /// as the feed shows them; map:* and organization:* are all of a kind
    #[arg(value_name = "CHANNEL", required = true, add = complete::channels())]
    channels: Vec<Selector>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin with what was appended since then: after an event's id, at a time such as 2027-01-31T12:00:00Z, or so long ago, such as 10m
    #[arg(long, value_name = "ID|TIME|AGO")]
    since: Option<Since>,
    /// Print the envelopes as they come, one JSON object a line
    #[arg(long)]
    json: bool,
    /// Print payloads indented, over several lines, and requests that a source kept as they came (http.request) as HTTP writes them
    #[arg(long, conflicts_with = "json")]
    pretty: bool,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// Prints events until a signal, the limit, or the end of whoever reads them.
///
/// # Errors
/// When the server is not there at first, or refuses.
pub fn run(args: TailArgs) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(async {
        tokio::select! {
            ended = follow(&args) => ended,
            () = stopped_by_signal() => Ok(()),
        }
    })
}

async fn follow(args: &TailArgs) -> Result<(), Failure> {
    let remote = Remote::new(&args.remote)?;
    let (channel, way) = Way::of_selected(&args.channels)?;
    let mut follower = Follower::new(&remote, &channel, &args.filter, args.since, now_ms())?.by_way(way);
    let mut count = 0;
    while args.limit.is_none_or(|limit| count < limit) {
        let event = follower.next().await?;
        match args.json {
            true => output::bytes(format!("{}\n", event.envelope).as_bytes())?,
            false if args.pretty => output::text(&block(&event.envelope))?,
            false => output::text(&line(&event.envelope))?,
        }
        count += 1;
    }
    Ok(())
}

/// Time, type, id, session and payload of an event, for people.
pub(super) fn line(envelope: &str) -> String {
    // what cannot be read is shown as it is: better than to hide that something came
    let Ok(event) = Envelope::read(envelope) else { return format!("{}\n", tame(envelope)) };
    format!("{} {}\n", head(&event), tame(event.payload))
}

/// The same over several lines: the payload indented below the rest, and of a request that a source kept as it came its lines.
fn block(envelope: &str) -> String {
    let Ok(event) = Envelope::read(envelope) else { return format!("{}\n", tame(envelope)) };
    if let Some(request) = RawRequest::of(event.payload) {
        return format!("{}\n{}", head(&event), lines_of(&request));
    }
    format!("{}\n  {}\n", head(&event), pretty::coloured(event.payload, 2))
}

/// A request as HTTP writes it: method, path and query, the headers in their order, and behind an empty line the body.
fn lines_of(request: &RawRequest) -> String {
    let RawRequest { method, path, query, headers, body } = request;
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let mut lines = format!("  {NAME}{}{NAME:#} {}{}\n", tame(method), tame(path), tame(&query));
    for (name, value) in headers {
        lines.push_str(&format!("  {DIM}{}:{DIM:#} {}\n", tame(name), tame(value)));
    }
    match std::str::from_utf8(body) {
        Ok("") => {}
        Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            lines.push_str(&format!("\n  {}\n", pretty::coloured(text.trim(), 2)));
        }
        Ok(text) => {
            lines.push('\n');
            text.lines().for_each(|line| lines.push_str(&format!("  {}\n", tame(line))));
        }
        Err(_) => {
            let size = output::count(body.len() as u64, "byte", "bytes");
            lines.push_str(&format!("\n  {DIM}({size}, in base64){DIM:#} {}\n", STANDARD.encode(body)));
        }
    }
    lines
}

fn head(event: &Envelope<'_>) -> String {
    let session = event.session.as_deref().map_or_else(String::new, |name| format!(" {DIM}{}{DIM:#}", tame(name)));
    let (at, kind, id) = (to_iso(event.ts_ms), tame(&event.kind), event.id);
    format!("{DIM}{at}{DIM:#} {NAME}{kind}{NAME:#} {DIM}{id}{DIM:#}{session}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: &str) -> String {
        let json = format!(
            "{{\"schema\":\"v1\",\"id\":\"evt_01J0YYYYYYYYYYYYYYYYYYYYYY\",\"event\":\"http.request\",\
             \"session\":null,\"organization\":\"o\",\"timestamp\":1750509296789,\"payload\":{payload}}}"
        );
        anstream::adapter::strip_str(&block(&json)).to_string()
    }

    #[test]
    fn a_request_is_shown_as_http_writes_it() {
        assert_eq!(
            shown(
                r#"{"method":"PUT","path":"/a%20b","query":"x=1","headers":[["x-b","2"],["x-a","\u001b[2J"],["x-b","3"]],"body":"{\"n\": 1e400}","body_encoding":"utf8"}"#
            ),
            "2025-06-21T12:34:56.789Z http.request 01J0YYYYYYYYYYYYYYYYYYYYYY\n  PUT /a%20b?x=1\n  x-b: 2\n  x-a: \\u001b[2J\n  \
             x-b: 3\n\n  {\n    \"n\": 1e400\n  }\n"
        );
        let request = |body: &str, encoding: &str| {
            shown(&format!(
                r#"{{"method":"POST","path":"","query":"","headers":[],"body":"{body}","body_encoding":"{encoding}"}}"#
            ))
        };
        let body = |body, encoding| request(body, encoding).split_once("POST \n").expect("a first line").1.to_owned();
        assert_eq!(body("", "utf8"), "");
        assert_eq!(body("a=1\\r\\nb=\\u0007", "utf8"), "\n  a=1\n  b=\\u0007\n");
        assert_eq!(body("/w==", "base64"), "\n  (1 byte, in base64) /w==\n");
        assert!(shown(r#"{"method":"POST"}"#).ends_with("  {\n    \"method\": \"POST\"\n  }\n"));
    }

    #[test]
    fn a_line_shows_time_type_id_and_payload_and_no_control_character() {
        let json = "{\"schema\":\"v1\",\"id\":\"evt_01J0YYYYYYYYYYYYYYYYYYYYYY\",\"event\":\"poll.vote\",\
                    \"session\":\"s1\",\"organization\":\"o\",\"timestamp\":1750509296789,\"payload\":{\"a\":\"\u{9b}2J\"}}";
        assert_eq!(
            anstream::adapter::strip_str(&line(json)).to_string(),
            "2025-06-21T12:34:56.789Z poll.vote 01J0YYYYYYYYYYYYYYYYYYYYYY s1 {\"a\":\"\\u009b2J\"}\n"
        );
        assert_eq!(line("\u{1b}[2J"), "\\u001b[2J\n");
        assert_eq!(
            anstream::adapter::strip_str(&block(json)).to_string(),
            "2025-06-21T12:34:56.789Z poll.vote 01J0YYYYYYYYYYYYYYYYYYYYYY s1\n  {\n    \"a\": \"\\u009b2J\"\n  }\n"
        );
    }
}
