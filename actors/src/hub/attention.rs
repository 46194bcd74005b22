//! What needs attention: what is wrong, since when, and what helps. Looked up when it is asked for.

mod kinds;

use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use self::kinds::{KINDS, Kind, LAG_MS, Severity, TOKEN_DAYS};
use super::Hub;
use super::data_folder::COPY_CURE;
use super::rooms::Rooms;
use super::webhooks::OffReason;
use crate::catalog::webhook::Webhook;
#[cfg(feature = "nats")]
use crate::cluster::picture::Trouble;
use crate::ingest::registry::ActiveSource;
use crate::metrics::tallies::WebhookTally;
use crate::model::access::{Principal, Scope, TokenRecord};
use crate::model::channel::Channel;
use crate::model::delivery::Health;
use crate::model::event::ChannelNo;
use crate::model::timestamp::to_iso;

/// The worst that are told.
pub const ATTENTION_MAX: usize = 100;
/// Sources of which the dead letters are counted.
const SOURCES_MAX: usize = 1_000;
/// A webhook that was made less than this ago may not have begun.
const BEGINS_MS: i64 = 10_000;

/// What something is about.
#[derive(Clone)]
pub enum Subject {
    Server,
    Channel(Arc<Channel>),
    Webhook(Arc<Channel>, Arc<Webhook>),
    Source(Arc<Channel>, Arc<ActiveSource>),
    /// Of this channel, or of several.
    Token(Option<Arc<Channel>>, Arc<TokenRecord>),
}

/// What helps by one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Switch a webhook on that the server has switched off.
    Enable,
    /// Send a test, to see whether the receiver is well.
    Test,
    /// Send again what was given up.
    Resend,
    /// Switch on the webhooks of a map.
    SwitchOn,
}

/// Something that is wrong.
#[derive(Clone)]
pub struct Attention {
    pub kind: &'static Kind,
    pub title: String,
    pub cause: String,
    /// In Unix milliseconds.
    pub since_ms: Option<i64>,
    pub subject: Subject,
    pub remedy: Option<Remedy>,
}

/// Of whom it is asked.
#[derive(Clone)]
pub enum AttentionOf {
    /// All that the caller reaches.
    All,
    Channel(Arc<Channel>),
    Webhook(Arc<Webhook>),
}

impl AttentionOf {
    fn has(&self, no: ChannelNo, webhook: Option<&str>) -> bool {
        match self {
            AttentionOf::All => true,
            AttentionOf::Channel(channel) => channel.no() == no,
            AttentionOf::Webhook(asked) => webhook == Some(&asked.id),
        }
    }
}

/// What is wrong with the server itself, with the cause.
pub(super) fn of_server(rooms: &Rooms) -> Vec<(&'static Kind, String)> {
    let (metrics, floor) = (&rooms.metrics, rooms.limits.min_free_bytes);
    let free = metrics.disk_free_bytes.get().max(0) as u64;
    let mut troubles = Vec::new();
    if rooms.journal.storage_full() {
        let cause = format!("{} are free, and {} are needed; publishes and changes are refused", mib(free), mib(floor));
        troubles.push((&kinds::STORAGE_FULL, cause));
    } else if free > 0 && free < floor.saturating_mul(2) {
        let cause = format!("{} are free; below {} publishes and changes are refused", mib(free), mib(floor));
        troubles.push((&kinds::DISK_LOW, cause));
    }
    if !rooms.journal.writable() && !rooms.journal.storage_full() {
        troubles.push((&kinds::JOURNAL_FAILING, "the last commit failed; the server's log says why".into()));
    }
    let damaged = rooms.log.damaged_ranges();
    if damaged > 0 {
        let cure = if rooms.is_alone() { String::new() } else { format!("; {COPY_CURE}") };
        let cause = format!(
            "damage on the disk has taken events in {damaged} places of the log; /health/ready lists the newest{cure}"
        );
        troubles.push((&kinds::EVENTS_DAMAGED, cause));
    }
    let jumped_ms = rooms.clock_jumped_ms.load(Ordering::Relaxed);
    if jumped_ms != 0 {
        let (by_s, way) = (jumped_ms.abs() / 1_000, if jumped_ms < 0 { "back" } else { "forward" });
        troubles.push((&kinds::CLOCK_JUMPED, format!("since the start it was set {way} by {by_s} s")));
    }
    if rooms.budget.is_under_pressure() {
        let (used, limit) = (rooms.budget.used_bytes() as u64, rooms.budget.limit_bytes() as u64);
        let cause = format!("{} of {} are used (limits.memory_bytes)", mib(used), mib(limit));
        troubles.push((&kinds::MEMORY_SHORT, cause));
    }
    #[cfg(feature = "nats")]
    if let Some(cluster) = &rooms.cluster {
        troubles.extend(cluster.picture().troubles().into_iter().map(|(trouble, cause)| (kind_of(trouble), cause)));
    }
    troubles
}

/// As what a trouble of the cluster is told.
#[cfg(feature = "nats")]
pub fn kind_of(trouble: Trouble) -> &'static Kind {
    match trouble {
        Trouble::SlotsUnowned => &kinds::CLUSTER_SLOTS_UNOWNED,
        Trouble::NatsUnsynced => &kinds::NATS_UNSYNCED,
        Trouble::ReplicasMissing => &kinds::NATS_REPLICAS_MISSING,
        Trouble::NodeLost => &kinds::CLUSTER_NODE_LOST,
        Trouble::NodeBehind => &kinds::CLUSTER_NODE_BEHIND,
        Trouble::NodeVersions => &kinds::CLUSTER_VERSIONS,
        Trouble::NatsVersions => &kinds::NATS_VERSIONS,
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

impl Hub {
    /// What needs attention of what the principal may know, errors first, in the order of [`KINDS`], and how many there are. At
    /// most [`ATTENTION_MAX`] are told.
    pub async fn attention(&self, principal: &Principal, of: &AttentionOf) -> (Vec<Attention>, usize) {
        let mut found = Vec::new();
        if principal.is_admin() && matches!(of, AttentionOf::All) {
            found.extend(self.server_troubles());
        }
        let mut more = 0;
        if principal.has(Scope::Manage).is_ok() {
            let seen = |no, webhook: Option<&str>| {
                let channel = self.channel(no).filter(|channel| principal.reaches(channel))?;
                of.has(no, webhook).then_some(channel)
            };
            let (webhooks, untold) = self.webhook_troubles(&seen).await;
            found.extend(webhooks);
            more += untold;
            if !matches!(of, AttentionOf::Webhook(_)) {
                found.extend(self.source_troubles(&seen).await);
                found.extend(self.token_troubles(principal, of, &seen));
            }
        }
        let rank = |kind: &'static Kind| KINDS.iter().position(|other| *other == kind);
        found.sort_by_key(|one| (one.kind.severity, rank(one.kind), std::cmp::Reverse(one.since_ms)));
        let count = found.len() + more;
        found.truncate(ATTENTION_MAX);
        (found, count)
    }

    fn server_troubles(&self) -> Vec<Attention> {
        let rooms = &self.rooms;
        let told = |(kind, cause): (&'static Kind, String)| Attention {
            kind,
            title: kind.title.into(),
            cause,
            since_ms: rooms.figures.since_ms(kind.name),
            subject: Subject::Server,
            remedy: None,
        };
        of_server(rooms).into_iter().map(told).collect()
    }

    /// The troubles of webhooks, and how many more webhooks have some.
    async fn webhook_troubles(
        &self,
        seen: &impl Fn(ChannelNo, Option<&str>) -> Option<Arc<Channel>>,
    ) -> (Vec<Attention>, usize) {
        let catalog = &self.rooms.catalog;
        let tallies = self.rooms.metrics.tallies.webhooks();
        let mut troubled = Vec::new();
        for tally in &tallies {
            let standing = tally.standing();
            let is_late = standing.lag_ms >= LAG_MS && !standing.is_troubled;
            if !(standing.is_troubled || standing.dead > 0 || is_late) {
                continue;
            }
            let channel = seen(tally.channel, Some(&tally.webhook));
            let webhook = catalog.webhook(&tally.webhook);
            if let (Some(channel), Some(webhook)) = (channel, webhook) {
                troubled.push((!standing.is_troubled, channel, webhook, tally.clone()));
            }
        }
        // those that fail before those that only did
        troubled.sort_by_key(|(is_well, ..)| *is_well);
        let more = troubled.len().saturating_sub(ATTENTION_MAX);
        let mut found = Vec::new();
        for (_, channel, webhook, tally) in troubled.into_iter().take(ATTENTION_MAX) {
            found.extend(self.of_webhook(&channel, &webhook, &tally).await);
        }
        found.extend(self.idle_webhooks(&tallies, seen));
        (found, more)
    }

    /// What is wrong with a webhook whose actor lives.
    async fn of_webhook(&self, channel: &Arc<Channel>, webhook: &Arc<Webhook>, tally: &WebhookTally) -> Vec<Attention> {
        let (called, to) = (called(webhook), host(&webhook.url));
        let subject = Subject::Webhook(channel.clone(), webhook.clone());
        let told = |kind: &'static Kind, title: String, cause: String, since_ms: Option<u64>, remedy| Attention {
            kind,
            title,
            cause,
            since_ms: since_ms.and_then(|ms| i64::try_from(ms).ok()),
            subject: subject.clone(),
            remedy,
        };
        let mut found = Vec::new();
        // one that has ended since has nothing to say
        let Ok(status) = self.webhook_status(channel, &webhook.id).await else { return found };
        let last = status.last_error.as_deref().map_or_else(|| "no attempt yet".into(), in_words);
        let failures = status.consecutive_failures;
        match status.health {
            Health::Disabled => {
                let why = match status.reason {
                    Some(OffReason::Gone) => "the receiver answered 410 Gone".to_owned(),
                    _ => format!("every delivery had failed for too long; the last one: {last}"),
                };
                let title = format!("{called} was switched off");
                found.push(told(&kinds::WEBHOOK_DISABLED, title, why, Some(status.since_ms), Some(Remedy::Enable)));
            }
            Health::Probing | Health::Degraded => {
                let kind =
                    if status.health == Health::Probing { &kinds::WEBHOOK_FAILING } else { &kinds::WEBHOOK_DEGRADED };
                let times = if failures == 1 {
                    "the last attempt failed".into()
                } else {
                    format!("{failures} attempts in a row failed")
                };
                let cause = format!("{times}: {last}");
                let title = match &webhook.name {
                    Some(name) => format!("Deliveries of “{name}” fail"),
                    None => format!("Deliveries to {to} fail"),
                };
                let since_ms = status.failing_since_ms.or(Some(status.since_ms));
                found.push(told(kind, title, cause, since_ms, Some(Remedy::Test)));
            }
            Health::Healthy | Health::Paused => {}
        }
        let standing = tally.standing();
        if standing.dead > 0 {
            let deliveries =
                if standing.dead == 1 { "A delivery".into() } else { format!("{} deliveries", standing.dead) };
            let were = if standing.dead == 1 { "was" } else { "were" };
            let title = match &webhook.name {
                Some(name) => format!("{deliveries} of “{name}” {were} given up"),
                None => format!("{deliveries} to {to} {were} given up"),
            };
            let cause = match &status.last_error {
                Some(last) => format!("no attempt was left; the last failure: {}", in_words(last)),
                None => "no attempt was left".to_owned(),
            };
            found.push(told(&kinds::WEBHOOK_GAVE_UP, title, cause, status.last_error_ms, Some(Remedy::Resend)));
        }
        if standing.lag_ms >= LAG_MS && status.health == Health::Healthy {
            let cause =
                format!("its newest delivery is {} behind the newest event of the channel", lasting(standing.lag_ms));
            let title = format!("{called} is behind");
            let since_ms = (self.rooms.clock.now_ms().max(0) as u64).checked_sub(standing.lag_ms);
            found.push(told(&kinds::WEBHOOK_LAGGING, title, cause, since_ms, None));
        }
        found
    }

    /// Webhooks that deliver nothing although they should: those that cannot run, and maps whose switch is off.
    fn idle_webhooks(
        &self,
        tallies: &[Arc<WebhookTally>],
        seen: &impl Fn(ChannelNo, Option<&str>) -> Option<Arc<Channel>>,
    ) -> Vec<Attention> {
        let running: std::collections::HashSet<&str> = tallies.iter().map(|tally| &*tally.webhook).collect();
        let made_before = self.rooms.clock.now_ms() - BEGINS_MS;
        let mut off: std::collections::BTreeMap<ChannelNo, (Arc<Channel>, usize)> = std::collections::BTreeMap::new();
        let mut found = Vec::new();
        for webhook in self.rooms.catalog.webhooks(None) {
            if !webhook.active {
                continue;
            }
            let Some(channel) = seen(webhook.channel_no(), Some(&webhook.id)) else { continue };
            if !webhook.is_on(&channel) {
                off.entry(channel.no()).or_insert((channel, 0)).1 += 1;
            } else if !running.contains(&*webhook.id)
                && webhook.updated_ms < made_before
                && self.rooms.delivery.ownership.is_mine(&webhook.id)
            {
                found.push(Attention {
                    kind: &kinds::WEBHOOK_UNAVAILABLE,
                    title: format!("{} cannot run", called(&webhook)),
                    cause: "its secret or its filter cannot be read; the server's log says more".into(),
                    since_ms: None,
                    subject: Subject::Webhook(channel, webhook),
                    remedy: None,
                });
            }
        }
        found.extend(off.into_values().map(|(channel, count)| Attention {
            kind: &kinds::WEBHOOKS_OFF,
            title: format!("The webhooks of {} are off", channel.name),
            cause: format!("the switch of the map is off, so {count} of its webhooks deliver nothing"),
            since_ms: None,
            subject: Subject::Channel(channel),
            remedy: Some(Remedy::SwitchOn),
        }));
        found
    }

    async fn source_troubles(&self, seen: &impl Fn(ChannelNo, Option<&str>) -> Option<Arc<Channel>>) -> Vec<Attention> {
        let mut found = Vec::new();
        let now_ms = self.rooms.clock.now_ms();
        for live in self.rooms.sources.list(None).into_iter().take(SOURCES_MAX) {
            let Some(channel) = seen(live.source.channel_no(), None) else { continue };
            let name = live.source.name.clone().unwrap_or_else(|| live.source.id.to_string());
            let told = |kind, title, cause| Attention {
                kind,
                title,
                cause,
                since_ms: None,
                subject: Subject::Source(channel.clone(), live.clone()),
                remedy: None,
            };
            if !live.is_usable() {
                let cause = "its keys cannot be read; rotate its secret".to_owned();
                found.push(told(&kinds::SOURCE_UNUSABLE, format!("The source {name} takes nothing"), cause));
            }
            let letters = live.count_letters(&self.rooms.notes).await;
            if letters > 0 {
                let requests = if letters == 1 { "A request was".into() } else { format!("{letters} requests were") };
                let cause = "they wait as dead letters, each with the reason".to_owned();
                found.push(told(&kinds::SOURCE_REFUSED, format!("{requests} refused by the source {name}"), cause));
            }
            let refused = live.stats.counts().refused_senders;
            let is_new = refused.last_ms > live.source.updated_ms && now_ms - refused.last_ms < kinds::SENDERS_MS;
            if refused.in_a_row >= kinds::SENDERS_IN_A_ROW && is_new {
                let title = format!("The source {name} believes none of its senders");
                let cause = format!("{} requests in a row were refused: {}", refused.in_a_row, refused.reason);
                let mut row = told(&kinds::SOURCE_DISTRUSTS, title, cause);
                row.since_ms = Some(refused.since_ms);
                found.push(row);
            }
        }
        found
    }

    fn token_troubles(
        &self,
        principal: &Principal,
        of: &AttentionOf,
        seen: &impl Fn(ChannelNo, Option<&str>) -> Option<Arc<Channel>>,
    ) -> Vec<Attention> {
        let now_ms = self.rooms.clock.now_ms();
        let soon_ms = now_ms + TOKEN_DAYS * 86_400_000;
        let mut found = Vec::new();
        for token in self.rooms.catalog.tokens(None) {
            let Some(expires_ms) = token.expires_ms.filter(|at| (now_ms..soon_ms).contains(at)) else { continue };
            let channel = match &token.channels {
                None => match seen(token.channel_no(), None) {
                    Some(channel) => Some(channel),
                    None => continue,
                },
                Some(_) if principal.is_admin() && matches!(of, AttentionOf::All) => None,
                Some(_) => continue,
            };
            found.push(Attention {
                kind: &kinds::TOKEN_EXPIRES,
                title: format!("The token {} expires soon", token.name.as_deref().unwrap_or(&token.id)),
                cause: format!("whoever uses it is cut off at {}", to_iso(expires_ms)),
                since_ms: None,
                subject: Subject::Token(channel, token),
                remedy: None,
            });
        }
        found
    }
}

/// A webhook as people know it, at the beginning of a sentence.
fn called(webhook: &Webhook) -> String {
    match &webhook.name {
        Some(name) => format!("The webhook “{name}”"),
        None => format!("The webhook to {}", host(&webhook.url)),
    }
}

/// What went wrong last, such as `http_status 404`, as a part of a sentence.
pub fn in_words(last_error: &str) -> String {
    match last_error.split_once(' ') {
        Some((_, status)) => format!("answered {status}"),
        None => match last_error {
            "timeout" => "no answer in time".into(),
            "dns_error" => "DNS error".into(),
            "tls_error" => "TLS error".into(),
            code => code.replace('_', " "),
        },
    }
}

/// A span of time as people say it.
fn lasting(ms: u64) -> String {
    match ms / 1_000 {
        s @ ..120 => format!("{s} s"),
        s @ ..7_200 => format!("{} min", s / 60),
        s @ ..172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

/// The host of a URL, which is what people know a receiver by; the rest may hold a secret.
pub(super) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
