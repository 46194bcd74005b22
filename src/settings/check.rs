//! What each key allows, and how the limits relate to each other.
//!
//! A test requires a row for every number and every word with choices, so a new key cannot slip by.

use actors::model::delivery::RetryPolicy;
use actors::model::target::network;

use super::SettingsError;
use super::error::Origin;
use super::layers::Stack;

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const TIB: i64 = 1 << 40;
const DAY_S: i64 = 86_400;
/// Ten years: longer ages are mistakes in the unit.
const AGES_S: i64 = 3_650 * DAY_S;

/// Key, least and most.
#[rustfmt::skip]
pub(super) const RANGES: &[(&str, i64, i64)] = &[
    ("server.workers",                 0,        1_024),
    ("server.backlog",                 1,        65_535),
    ("server.max_connections",         1,        10_000_000),
    ("server.h2_streams",              1,        10_000),
    ("server.unauthenticated_bytes",         0,        TIB),
    ("server.request_timeout_s",       1,        600),
    ("server.body_timeout_s",          1,        600),
    ("server.keep_alive_s",            1,        3_600),
    ("server.shutdown_timeout_s",      1,        600),
    ("server.takeover_drain_s",        0,        300),
    ("storage.flush_interval_ms",      1,        60_000),
    ("storage.segment_max_bytes",      MIB,      GIB),
    ("storage.segment_max_age_s",      1,        AGES_S),
    ("storage.open_segments",          1,        1_024),
    ("storage.min_free_bytes",         0,        TIB),
    ("nats.replicas",                  1,        5),
    ("cluster.silent_after_ms",        500,      60_000),
    ("cluster.isolated_after_s",       0,        86_400),
    ("retention.max_age_s",            0,        AGES_S),
    ("retention.max_bytes",            0,        1_024 * TIB),
    ("retention.max_events",           0,        i64::MAX),
    ("journal.queue_events",           1,        10_000_000),
    ("journal.queue_bytes",            KIB,      TIB),
    ("journal.batch_events",           1,        100_000),
    ("journal.batch_bytes",            KIB,      64 * MIB),
    ("journal.dedupe_window_s",        1,        30 * DAY_S),
    ("journal.answer_timeout_s",       1,        3600),
    ("journal.dedupe_keys",            1,        100_000_000),
    ("limits.event_bytes",             64,       16 * MIB),
    ("limits.batch_events",            1,        100_000),
    ("limits.batch_bytes",             64,       64 * MIB),
    ("limits.request_bytes",           KIB,      16 * MIB),
    ("limits.memory_bytes",            32 * MIB, TIB),
    ("limits.channels",                1,        10_000_000),
    ("limits.tokens_per_channel",      1,        1_000_000),
    ("limits.streams_total",           0,        10_000_000),
    ("limits.streams_per_channel",     0,        10_000_000),
    ("limits.streams_per_token",       0,        10_000_000),
    ("limits.webhooks_per_map",        1,        10_000),
    ("limits.webhooks_per_organization", 1,      10_000),
    ("limits.webhooks_per_document",   1,        10_000),
    ("limits.api_requests_per_minute", 0,        1_000_000),
    ("limits.failed_logins_per_minute", 0,       1_000_000),
    ("limits.scan_events",             1,        i64::MAX),
    ("limits.filter_steps_per_request", 1,       i64::MAX),
    ("limits.scans_per_token",         0,        10_000),
    ("limits.compute_threads",         0,        1_024),
    ("limits.tickets_per_token",       0,        10_000_000),
    ("sse.keepalive_s",                1,        3_600),
    ("sse.retry_ms",                   1,        3_600_000),
    ("streams.stall_timeout_s",        1,        3_600),
    ("streams.heartbeat_s",            1,        3_600),
    ("streams.ring_events",            1,        10_000_000),
    ("streams.ring_bytes",             KIB,      TIB),
    ("streams.page_events",            1,        100_000),
    ("streams.traced_events",          0,      1_000_000),
    ("streams.page_bytes",             KIB,      64 * MIB),
    ("streams.write_bytes",            KIB,      64 * MIB),
    ("streams.channel_idle_s",         1,        DAY_S),
    ("webhooks.attempt_timeout_s",     1,        300),
    ("webhooks.connect_timeout_s",     1,        300),
    ("webhooks.disable_after_s",       1,        AGES_S),
    ("webhooks.max_in_flight",         1,        256),
    ("webhooks.threads",               1,        64),
    ("webhooks.manual_attempts",       1,        100_000),
    ("webhooks.replays",               1,        1_000),
    ("webhooks.log_deliveries",        1,        100_000),
    ("webhooks.log_max_age_s",         1,        AGES_S),
    ("sources.per_channel",            1,        100_000),
    ("sources.bodies_bytes",           KIB,      TIB),
    ("sources.dead_letters",           1,        10_000),
    ("sources.dead_letters_bytes",     KIB,      64 * MIB),
    ("tickets.ttl_s",                  1,        3_600),
    ("tickets.max",                    1,        10_000_000),
];

/// Key and the words that it allows.
pub(super) const CHOICES: &[(&str, &[&str])] = &[
    ("engine", &["local", "nats"]),
    ("storage.durability", &["fsync", "flush", "interval"]),
    ("auth.jwt.algorithm", &["HS256", "EdDSA", "ES256", "RS256"]),
    ("log.level", &["off", "error", "warn", "info", "debug", "trace"]),
    ("log.format", &["text", "json"]),
];

/// What the first of two keys must not exceed, and whether 0 of either means "no limit".
struct Relation {
    small: &'static str,
    large: &'static str,
    zero_is_no_limit: bool,
}

/// A batch must be able to hold an event, and the queue and the room for bodies a batch; a ring and the bodies are a part of the
/// memory; a channel cannot use more streams than the server has; connecting is a part of an attempt.
const RELATIONS: [Relation; 8] = [
    Relation { small: "limits.batch_bytes", large: "journal.queue_bytes", zero_is_no_limit: false },
    Relation { small: "limits.batch_bytes", large: "sources.bodies_bytes", zero_is_no_limit: false },
    Relation { small: "limits.event_bytes", large: "limits.batch_bytes", zero_is_no_limit: false },
    Relation { small: "limits.batch_events", large: "journal.queue_events", zero_is_no_limit: false },
    Relation { small: "streams.ring_bytes", large: "limits.memory_bytes", zero_is_no_limit: false },
    Relation { small: "sources.bodies_bytes", large: "limits.memory_bytes", zero_is_no_limit: false },
    Relation { small: "limits.streams_per_channel", large: "limits.streams_total", zero_is_no_limit: true },
    Relation { small: "webhooks.connect_timeout_s", large: "webhooks.attempt_timeout_s", zero_is_no_limit: false },
];

/// Checks each value by itself.
pub(super) fn values(stack: &Stack) -> Result<(), SettingsError> {
    for (key, least, most) in RANGES {
        if !(*least..=*most).contains(&stack.integer(key)) {
            return Err(stack.refuse(key, format!("a whole number from {least} to {most}")));
        }
    }
    for (key, words) in CHOICES {
        if !words.contains(&stack.text(key)) {
            return Err(stack.refuse(key, format!("one of {}", words.join(", "))));
        }
    }
    if stack.text("storage.data_dir").is_empty() {
        return Err(stack.refuse("storage.data_dir", "the path of a folder"));
    }
    if stack.list("nats.servers").iter().any(|server| !is_nats_address(server)) {
        return Err(stack.refuse("nats.servers", "nats://HOST:PORT or tls://HOST:PORT"));
    }
    let prefix = stack.text("nats.prefix");
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return Err(stack.refuse("nats.prefix", "some of the characters A-Z a-z 0-9 - _"));
    }
    if !is_host_and_port(stack.text("server.listen")) {
        return Err(stack.refuse("server.listen", "ADDRESS:PORT, for example 127.0.0.1:8080 or [::]:8080"));
    }
    let admin_listen = stack.text("server.admin_listen");
    if !admin_listen.is_empty() && !is_host_and_port(admin_listen) {
        return Err(stack.refuse("server.admin_listen", "ADDRESS:PORT, for example 127.0.0.1:9090, or nothing"));
    }
    let public_url = stack.text("server.public_url");
    if !public_url.is_empty() && !is_http_address(public_url) {
        return Err(stack.refuse("server.public_url", "http:// or https:// and a host, without a / at the end"));
    }
    if !stack.list("cors.allowed_origins").iter().all(|origin| *origin == "*" || is_origin(origin)) {
        return Err(stack.refuse("cors.allowed_origins", "\"*\" or origins such as \"https://app.example.org\""));
    }
    let schedule: Option<Vec<u64>> =
        stack.numbers("webhooks.schedule_s").into_iter().map(|wait| u64::try_from(wait).ok()).collect();
    if schedule.is_none_or(|schedule| RetryPolicy::schedule(&schedule).is_err()) {
        return Err(stack.refuse("webhooks.schedule_s", "up to 99 waits from 1 to 86400"));
    }
    let bad = |text: &&str| network(text).is_err();
    for key in ["webhooks.allow_networks", "server.trusted_proxies"] {
        if stack.list(key).iter().any(bad) {
            return Err(stack.refuse(key, "networks like 10.0.0.0/8 and addresses like 127.0.0.1"));
        }
    }
    Ok(())
}

/// Checks the values against each other. A default gives way to what someone set: who lowers `limits.streams_total` to 5
/// need not lower `limits.streams_per_channel` as well. Two values that were set are never changed.
pub(super) fn relations(stack: &mut Stack) -> Result<(), SettingsError> {
    for Relation { small, large, zero_is_no_limit } in RELATIONS {
        let (small_value, large_value) = (stack.integer(small), stack.integer(large));
        if small_value <= large_value || (zero_is_no_limit && large_value == 0) {
            continue;
        }
        let origin = stack.origin(small);
        if origin == Origin::Default {
            stack.lower_default(small, large_value);
            continue;
        }
        let or_zero = if zero_is_no_limit { ", or to 0 for no limit" } else { "" };
        let advice = format!("set {large} to at least {small_value}{or_zero}, or lower {small}");
        return Err(SettingsError::Relation { small, small_value, origin, large, large_value, advice });
    }
    if stack.text("server.tls.cert").is_empty() != stack.text("server.tls.key").is_empty() {
        let reason = "only one of server.tls.cert and server.tls.key is set".to_owned();
        return Err(SettingsError::Together { reason, advice: "set both for https, or neither for http" });
    }
    let without = ["server.admin_listen", "server.tls.cert"].into_iter().find(|key| stack.text(key).is_empty());
    if let (false, Some(missing)) = (stack.text("server.admin_client_ca").is_empty(), without) {
        let reason = format!("server.admin_client_ca is set without {missing}");
        let advice = "client certificates are asked for at server.admin_listen over TLS: set server.admin_listen, \
                      server.tls.cert and server.tls.key, or none of them";
        return Err(SettingsError::Together { reason, advice });
    }
    if stack.flag("webhooks.cloudevents_handshake") && stack.text("server.public_url").is_empty() {
        let reason = "webhooks.cloudevents_handshake is on without server.public_url".to_owned();
        let advice = "receivers are asked for the host of server.public_url: set it, or switch the handshake off";
        return Err(SettingsError::Together { reason, advice });
    }
    if stack.text("engine") == "nats" && cfg!(not(feature = "nats")) {
        let reason = "engine is \"nats\", and this program was built without the feature nats".to_owned();
        return Err(SettingsError::Together { reason, advice: "take a build with it, or set engine to \"local\"" });
    }
    if stack.text("engine") == "nats" && stack.list("nats.servers").is_empty() {
        let reason = "engine is \"nats\", and nats.servers is empty".to_owned();
        return Err(SettingsError::Together { reason, advice: "name the NATS servers, or set engine to \"local\"" });
    }
    let batch_events = stack.integer("journal.batch_events");
    if stack.text("engine") == "nats" && batch_events > BATCH_EVENTS_OF_NODES {
        let reason = format!(
            "journal.batch_events is {batch_events}, and a commit to NATS has at most {BATCH_EVENTS_OF_NODES} events that were published \
             one by one"
        );
        return Err(SettingsError::Together { reason, advice: "leave it out, or set it to less" });
    }
    let sources: Vec<&str> = ["auth.jwt.key", "auth.jwt.key_file", "auth.jwt.jwks_file"]
        .into_iter()
        .filter(|key| !stack.text(key).is_empty())
        .collect();
    if sources.len() > 1 {
        let reason = format!("{} are set, so the key of JWTs is not certain", sources.join(" and "));
        return Err(SettingsError::Together { reason, advice: "set one of them" });
    }
    Ok(())
}

/// The default; of that a node takes what fits into one commit, see `BATCH_EVENTS_MAX` in `actors/src/cluster/worker.rs`.
const BATCH_EVENTS_OF_NODES: i64 = 1_024;

fn is_host_and_port(text: &str) -> bool {
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return true;
    }
    // A name, which is resolved when the server binds. An address that did not parse above is not one.
    text.rsplit_once(':').is_some_and(|(host, port)| is_host_name(host) && port.parse::<u16>().is_ok())
}

/// `nats://[user[:password]@]host[:port]`, or with `tls` as the scheme.
fn is_nats_address(text: &str) -> bool {
    let rest = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://"));
    let host = rest.map(|rest| rest.rsplit('@').next().unwrap_or(rest).trim_end_matches('/'));
    host.is_some_and(|host| is_host_and_port(host) || is_host_name(host) || host.parse::<std::net::Ipv4Addr>().is_ok())
}

fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let last = host.rsplit('.').next().unwrap_or(host);
    host.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// `scheme://host[:port]` with the scheme of the web, and perhaps a path without a `/` at its end.
fn is_http_address(text: &str) -> bool {
    let Ok(uri) = text.parse::<actix_web::http::Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && !text.ends_with('/')
        && uri.query().is_none()
        && !text.contains(['#', '@'])
}

/// An origin as browsers serialise it (WHATWG HTML 7.1.1): lower case, no path. Extensions have schemes of their own.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty()
            && !host.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
            && host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@*".contains(&b))
    })
}
