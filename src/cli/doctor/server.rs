//! A running server, seen from where its clients are.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap};
use actix_web::http::{Method, Uri};
use actors::hub::backup::Finding;
use actors::model::timestamp;
use futures_util::StreamExt;
use indicatif::HumanBytes;
use serde_json::Value as Json;

use super::{Report, cluster};
use crate::cli::Failure;
use crate::cli::health::reasons;
use crate::cli::remote::{Answer, Remote, RemoteArgs, Request, Trouble};
use crate::cli::sse::{Frame, Parser};
use crate::http::now_ms;

/// How long the first frame of a stream may take. It is sent at once.
const FIRST_FRAME: Duration = Duration::from_secs(5);
/// How long a quiet stream may say nothing: twice the keepalive that servers have by default.
const QUIET: Duration = Duration::from_secs(65);
/// Difference of the clocks that is worth a warning. An HTTP date has whole seconds, and the way takes time.
const SKEW_NOTED_MS: i64 = 5_000;
/// Difference at which receivers begin to refuse signatures, within the usual tolerance of 300 s.
const SKEW_BAD_MS: i64 = 240_000;
/// A token that ends so soon is worth a warning.
const EXPIRES_SOON_MS: i64 = 7 * 86_400_000;

/// Runs the checks in their order. When nobody answers, the others are left out.
///
/// # Errors
/// The address or the token given cannot be used, or the report cannot be printed. What is wrong with the server is a
/// finding.
pub async fn examine(args: &RemoteArgs, keepalive: bool, report: &mut Report) -> Result<(), Failure> {
    let remote = Remote::with_or_without_token(args)?;
    let began = Instant::now();
    let (answered_ms, answer) = match remote.open(&Request::get("/health/live")).await {
        Ok(answer) => (now_ms(), answer),
        Err(trouble) => return report.add(unreachable(&remote, &trouble)),
    };
    let took_ms = began.elapsed().as_secs_f64() * 1000.0;
    let headers = answer.headers().clone();
    let live = body(answer).await;
    if live["status"] != "live" {
        let text = format!("{} answers, but not as Stentor does; check --server", remote.server());
        return report.add(Finding::bad("reachable", text));
    }
    report.add(Finding::fine("reachable", format!("{} answers in {took_ms:.1} ms", remote.server())))?;
    report.add(transport(remote.server()))?;
    report.add(version(live["version"].as_str()))?;
    let (findings, ready) = readiness(&remote).await;
    for finding in findings {
        report.add(finding)?;
    }
    report.add(clock(&headers, answered_ms))?;
    let (finding, given) = token(&remote).await;
    let reads = matches!(given, Given::Admin | Given::Reader);
    report.add(finding)?;
    for finding in cluster::examine(&remote, &ready, given == Given::Admin).await {
        report.add(finding)?;
    }
    if !reads {
        let text = "left out: streams and addresses need a token with the scope subscribe";
        return report.add(Finding::doubtful("streams", text));
    }
    let path = match ticket(&remote).await {
        Ok(url) => {
            report.add(public_url(&remote, &url).await)?;
            // the very ticket is tried, by the address that the checks use
            url.find("/events/stream").map(|at| url[at..].to_owned())
        }
        Err(trouble) => {
            report.add(Finding::bad("address", format!("no ticket is given out: {}", trouble.reason())))?;
            None
        }
    };
    // over a connection of its own, as clients open one for a stream
    for finding in
        stream(&Remote::with_or_without_token(args)?, path.as_deref().unwrap_or("/events/stream"), keepalive).await
    {
        report.add(finding)?;
    }
    report.add(websocket(&remote).await)
}

fn unreachable(remote: &Remote, trouble: &Trouble) -> Finding {
    match trouble {
        Trouble::Unreachable { .. } => {
            Finding::bad("reachable", format!("{}; check --server, and that the server runs", trouble.reason()))
        }
        Trouble::Refused(_) => Finding::bad(
            "reachable",
            format!("{} does not pass requests on: {}; check the proxy before it", remote.server(), trouble.reason()),
        ),
    }
}

/// The JSON of a body; null where it is none.
async fn body(mut answer: Answer) -> Json {
    let bytes = answer.body().await.unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host(url: &str) -> String {
    url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default()
}

fn transport(server: &str) -> Finding {
    match server.starts_with("https://") {
        true => Finding::fine("transport", "TLS, with a certificate that is trusted here"),
        false if is_this_machine(&host(server)) => Finding::fine("transport", "no TLS, within this machine"),
        false => Finding::doubtful(
            "transport",
            "no TLS: tokens and events travel in the open; set server.tls or put a proxy with TLS before it",
        ),
    }
}

fn version(theirs: Option<&str>) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    match theirs {
        Some(theirs) if theirs == ours => Finding::fine("version", theirs),
        Some(theirs) => {
            Finding::doubtful("version", format!("the server is {theirs} and this program {ours}; use the same"))
        }
        None => Finding::doubtful("version", format!("the server does not tell its own; this program is {ours}")),
    }
}

/// What is to be said of the report of readiness, and the report, which is null where there is none.
async fn readiness(remote: &Remote) -> (Vec<Finding>, Json) {
    let report = match remote.open(&Request::get("/health/ready")).await {
        Ok(answer) => body(answer).await,
        Err(Trouble::Refused(refusal)) => {
            let finding = Finding::bad("ready", format!("the server is not ready: {}", reasons(&refusal.body)));
            return (vec![finding], *refusal.body);
        }
        Err(trouble) => return (vec![Finding::bad("ready", trouble.reason())], Json::Null),
    };
    let mut findings = vec![Finding::fine("ready", "the journal can be written")];
    if let (Some(free), Some(floor)) = (report["disk_free_bytes"].as_u64(), report["disk_floor_bytes"].as_u64()) {
        findings.push(disk(free, floor));
    }
    // what a node has lost the others have
    let cure = report["cluster"]["damage_cure"].as_str().map(|cure| format!("; {cure}")).unwrap_or_default();
    let aside = report["quarantined_segments"].as_array().map_or(&[][..], Vec::as_slice);
    if !aside.is_empty() {
        let text = format!(
            "{} of the log could not be recovered whole from damage; the server's log says why",
            crate::cli::output::count(aside.len() as u64, "segment", "segments")
        );
        let names = aside.iter().filter_map(Json::as_str).map(str::to_owned).collect();
        findings.push(Finding::doubtful("quarantine", text + &cure).with_details(names));
    }
    let ranges = report["damaged_ranges"].as_u64().unwrap_or(0);
    if ranges > 0 {
        let text = format!(
            "{ranges} parts of the log are damaged and events are missing there; readers are told by a gap{cure}"
        );
        findings.push(Finding::doubtful("damage", text));
    }
    let jumped_ms = report["clock_jumped_ms"].as_i64().unwrap_or(0);
    if jumped_ms != 0 {
        let text = format!(
            "the server's clock jumped by {} s since its start; ids and times of events follow it, retention does not; \
             synchronise it (NTP)",
            jumped_ms / 1000
        );
        findings.push(Finding::doubtful("clock jump", text));
    }
    (findings, report)
}

/// Free disk against the floor below which a server is not ready.
pub fn disk(free: u64, floor: u64) -> Finding {
    let text = format!("{} are free, the floor is {}", HumanBytes(free), HumanBytes(floor));
    let advice = "make room, or lower retention.max_bytes";
    match free {
        free if free < floor => Finding::bad("disk", format!("{text}; {advice}")),
        free if free < floor.saturating_mul(2) => Finding::doubtful("disk", format!("{text}; {advice} soon")),
        _ => Finding::fine("disk", text),
    }
}

fn clock(headers: &HeaderMap, answered_ms: i64) -> Finding {
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let since_epoch = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    let Some(theirs) = since_epoch else {
        return Finding::doubtful("clock", "the answer has no date; does a proxy take it away?");
    };
    // the date is cut to whole seconds
    let skew_ms = theirs.as_millis() as i64 + 500 - answered_ms;
    let words = match skew_ms {
        0.. => format!("the server's clock is {:.0} s ahead of this one", skew_ms as f64 / 1000.0),
        _ => format!("the server's clock is {:.0} s behind this one", -skew_ms as f64 / 1000.0),
    };
    match skew_ms.abs() {
        skew if skew <= SKEW_NOTED_MS => Finding::fine("clock", "the server's is the same as this one"),
        skew if skew <= SKEW_BAD_MS => Finding::doubtful("clock", format!("{words}; synchronise both (NTP)")),
        _ => Finding::bad("clock", format!("{words}: signatures will be refused as too old; synchronise both (NTP)")),
    }
}

/// What a token is good for.
#[derive(PartialEq, Eq)]
enum Given {
    Admin,
    Reader,
    Other,
}

/// What the token may do.
async fn token(remote: &Remote) -> (Finding, Given) {
    if !remote.has_token() {
        return (Finding::doubtful("token", "none is given; set STENTOR_TOKEN to have it looked at"), Given::Other);
    }
    let answer = match remote.json(&Request::get("/api/v1/tokens/current")).await {
        Ok(answer) => answer,
        Err(trouble) if trouble.status() == Some(401) => {
            let text = "it is not valid: revoked, expired, or of another server; make one with `stentor token create`";
            return (Finding::bad("token", text), Given::Other);
        }
        Err(trouble) => return (Finding::bad("token", trouble.reason()), Given::Other),
    };
    let data = &answer["data"];
    if data["admin"] == true {
        return (Finding::fine("token", "the admin token: it may do everything"), Given::Admin);
    }
    let scopes: Vec<_> = data["scopes"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let given = if scopes.contains(&"subscribe") { Given::Reader } else { Given::Other };
    let mut text = format!("{} on {}", scopes.join(", "), data["channel"].as_str().unwrap_or("no channel"));
    let expires_at = data["expires_at"].as_str();
    if let Some(expires_at) = expires_at {
        text.push_str(&format!(", until {expires_at}"));
    }
    let soon = expires_at.and_then(timestamp::from_iso).is_some_and(|ms| ms - now_ms() < EXPIRES_SOON_MS);
    match soon {
        true => (Finding::doubtful("token", format!("{text}; make another one soon")), given),
        false => (Finding::fine("token", text), given),
    }
}

/// The address of a stream as the server hands it out.
async fn ticket(remote: &Remote) -> Result<String, Trouble> {
    let answer = remote.json(&Request::new(Method::POST, "/events/ticket")).await?;
    let url = answer.pointer("/data/url").and_then(Json::as_str);
    url.map(str::to_owned).ok_or_else(|| remote.unreachable("its ticket has no address".to_owned()))
}

/// Whether the addresses that the server hands out lead to it.
async fn public_url(remote: &Remote, url: &str) -> Finding {
    let base = url.find("/events/stream").map_or(url, |at| &url[..at]);
    let server = remote.server();
    if base == server {
        return Finding::fine("address", format!("the server calls itself {base}, as you do"));
    }
    let advice = "set server.public_url to the address by which clients reach it";
    if is_this_machine(&host(base)) && !is_this_machine(&host(server)) {
        return Finding::bad(
            "address",
            format!("the server calls itself {base}, which leads nowhere from here; {advice}"),
        );
    }
    if server.starts_with("https://") && base.starts_with("http://") {
        return Finding::bad("address", format!("the server calls itself {base}, without TLS; {advice}"));
    }
    let live = match remote.elsewhere(base).open(&Request::get("/health/live")).await {
        Ok(answer) => body(answer).await,
        Err(trouble) => {
            let reason = trouble.reason();
            return Finding::bad(
                "address",
                format!("the server calls itself {base}, which does not work: {reason}; {advice}"),
            );
        }
    };
    match live["status"] == "live" {
        true => Finding::fine("address", format!("the server calls itself {base}, which leads to it as well")),
        false => {
            Finding::bad("address", format!("the server calls itself {base}, where something else answers; {advice}"))
        }
    }
}

async fn stream(remote: &Remote, path: &str, keepalive: bool) -> Vec<Finding> {
    let began = Instant::now();
    let mut answer = match remote.open(&Request::get(path).header("Accept", "text/event-stream")).await {
        Ok(answer) => answer,
        Err(trouble) => return vec![Finding::bad("stream", format!("it does not open: {}", trouble.reason()))],
    };
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let kind = header(CONTENT_TYPE);
    if !kind.starts_with("text/event-stream") {
        let text =
            format!("it has the content type {kind:?}; something between here and the server answers instead of it");
        return vec![Finding::bad("stream", text)];
    }
    let encoding = header(CONTENT_ENCODING);
    if !encoding.is_empty() {
        let text =
            format!("a proxy compresses it ({encoding}), which holds events back; switch that off for event streams");
        return vec![Finding::bad("stream", text)];
    }
    let buffered =
        "a proxy before the server holds the stream back; switch its buffering off (nginx: proxy_buffering off)";
    let first = actix_web::rt::time::timeout(FIRST_FRAME, first_frame(&mut answer)).await;
    let finding = match first {
        Err(_) => {
            return vec![Finding::bad(
                "stream",
                format!("nothing came within {} s: {buffered}", FIRST_FRAME.as_secs()),
            )];
        }
        Ok(Err(reason)) => {
            return vec![Finding::bad("stream", format!("{reason}; look at the proxy before the server"))];
        }
        Ok(Ok(_)) => {
            let ms = began.elapsed().as_secs_f64() * 1000.0;
            Finding::fine("stream", format!("server-sent events open in {ms:.1} ms, with a ticket"))
        }
    };
    let mut findings = vec![finding];
    if keepalive {
        findings.push(quiet(&mut answer).await);
    }
    findings
}

async fn first_frame(answer: &mut Answer) -> Result<Frame, String> {
    let (mut parser, mut frames) = (Parser::default(), Vec::new());
    loop {
        match answer.next().await {
            None => return Err("the stream ends before its first frame".to_owned()),
            Some(Err(error)) => return Err(format!("the stream breaks off before its first frame: {error}")),
            Some(Ok(bytes)) => parser.push(&bytes, &mut frames).map_err(|e| e.to_string())?,
        }
        if let Some(frame) = frames.drain(..).next() {
            return Ok(frame);
        }
    }
}

/// Whether a stream without events is kept alive.
async fn quiet(answer: &mut Answer) -> Finding {
    let began = Instant::now();
    let advice = "look at the timeouts of the proxy, or lower sse.keepalive_s";
    match actix_web::rt::time::timeout(QUIET, answer.next()).await {
        Ok(Some(Ok(_))) => Finding::fine(
            "keepalive",
            format!("a quiet stream showed life after {:.0} s", began.elapsed().as_secs_f64()),
        ),
        Ok(_) => Finding::bad(
            "keepalive",
            format!("a quiet stream was cut after {:.0} s; {advice}", began.elapsed().as_secs_f64()),
        ),
        Err(_) => Finding::doubtful("keepalive", format!("nothing came within {} s; {advice}", QUIET.as_secs())),
    }
}

async fn websocket(remote: &Remote) -> Finding {
    match remote.handshake("/events/ws").await {
        Ok(()) => Finding::fine("websocket", "it opens"),
        Err(reason) => Finding::bad(
            "websocket",
            format!("it does not open: {reason}; let the proxy pass the headers Upgrade and Connection on"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actors::hub::backup::Verdict;

    use super::*;

    #[test]
    fn clocks_that_differ_are_told_by_how_much() {
        let at = |answered_ms| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static("Sat, 21 Jun 2025 12:35:00 GMT"));
            clock(&headers, answered_ms)
        };
        const DATE_MS: i64 = 1_750_509_300_000;
        assert_eq!(at(DATE_MS + 999).verdict, Verdict::Fine);
        let ahead = at(DATE_MS - 60_000);
        assert!(ahead.verdict == Verdict::Doubtful && ahead.text.contains("ahead"), "{ahead:?}");
        let behind = at(DATE_MS + 600_000);
        assert!(behind.verdict == Verdict::Bad && behind.text.contains("600 s behind"), "{behind:?}");
        assert_eq!(clock(&HeaderMap::new(), 0).verdict, Verdict::Doubtful);
    }

    #[test]
    fn little_disk_is_a_warning_and_less_than_the_floor_a_failure() {
        for (free, verdict) in [(99, Verdict::Bad), (150, Verdict::Doubtful), (200, Verdict::Fine)] {
            assert_eq!(disk(free, 100).verdict, verdict, "{free}");
        }
    }

    #[test]
    fn tokens_in_the_open_are_a_warning_unless_they_stay_on_this_machine() {
        for (server, verdict) in [
            ("https://events.example.org", Verdict::Fine),
            ("http://127.0.0.1:8080", Verdict::Fine),
            ("http://[::1]:8080", Verdict::Fine),
            ("http://localhost", Verdict::Fine),
            ("http://10.0.0.1:8080", Verdict::Doubtful),
        ] {
            assert_eq!(transport(server).verdict, verdict, "{server}");
        }
    }
}
