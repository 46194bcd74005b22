//! Notices about webhooks: lines of the server's log, and events of the organization `system`.

use serde::Serialize;

use crate::catalog::webhook::Ready;
use crate::model::delivery::{DeliveryId, Failure, FailureCode, LogEntry, Notice, NoticeKey, Off, OffReason, Row};
use crate::model::event::{Draft, EventType};
use crate::model::id::EventId;
use crate::model::json::Canonical;
use crate::model::timestamp::to_iso;

/// Where a webhook goes, without what may be a secret in its path.
fn host(ready: &Ready) -> &str {
    ready.target.as_ref().map_or("", |target| &target.authority)
}

/// Writes into the log what the owner of a webhook has to know.
pub fn announce(ready: &Ready, notice: &Notice) {
    let (webhook, host, event) = (&*ready.webhook.id, host(ready), notice.event_type());
    match notice {
        Notice::Disabled(off) if off.reason == OffReason::Owner => {
            log::info!(event, webhook, host; "a webhook is switched off by its owner");
        }
        Notice::Disabled(off) => {
            let (reason, failures) = (off.reason, off.consecutive_failures);
            log::warn!(event, webhook, host, reason:debug, failures; "a webhook is switched off");
        }
        Notice::Enabled { .. } => log::info!(event, webhook, host; "a webhook is switched on"),
        Notice::DeadLetter(row) => {
            let (delivery, attempts) = (row.delivery, row.attempts);
            log::warn!(event, webhook, host, delivery:display, attempts; "a delivery was given up");
        }
        Notice::Gap(gap) => {
            let (after, through) = (gap.after, gap.through);
            let text = "events were gone before a webhook got them";
            log::warn!(event, webhook, host, after:display, through:display; "{text}");
        }
    }
}

/// What every payload begins with.
#[derive(Serialize)]
struct About<'a> {
    webhook_id: &'a str,
    channel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
}

#[derive(Serialize)]
struct Disabled<'a> {
    #[serde(flatten)]
    about: About<'a>,
    reason: OffReason,
    consecutive_failures: u32,
    status_code: Option<u16>,
    error_code: Option<FailureCode>,
    disabled_at: String,
}

#[derive(Serialize)]
struct Enabled<'a> {
    #[serde(flatten)]
    about: About<'a>,
    enabled_at: String,
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    #[serde(flatten)]
    about: About<'a>,
    delivery_id: DeliveryId,
    event_ids: Vec<String>,
    attempts: u32,
    status_code: Option<u16>,
    error_code: Option<FailureCode>,
}

#[derive(Serialize)]
struct Missed<'a> {
    #[serde(flatten)]
    about: About<'a>,
    after: String,
    through: String,
    noticed_at: String,
}

/// The event for the organization `system`, with a dedupe id made of `key`, so that a crash repeats none. None for the
/// dead letters of a webhook of that organization: each would become another event for it to fail on.
pub fn event(ready: &Ready, key: NoticeKey, notice: &Notice) -> Option<Draft> {
    let about = About {
        webhook_id: &ready.webhook.id,
        channel: ready.channel.name_on_tokens(),
        name: ready.webhook.name.as_deref(),
        host: host(ready),
    };
    let (payload, ts_ms) = match notice {
        Notice::Disabled(off) => (disabled(about, off), off.since_ms),
        Notice::Enabled { at_ms } => (json(&Enabled { about, enabled_at: iso(*at_ms) }), *at_ms),
        Notice::DeadLetter(_) if ready.channel.is_system() => return None,
        Notice::Gap(gap) => {
            let shown = |id: EventId| format!("evt_{id}");
            let (after, through, noticed_at) = (shown(gap.after), shown(gap.through), iso(gap.at_ms));
            (json(&Missed { about, after, through, noticed_at }), gap.at_ms)
        }
        Notice::DeadLetter(row) => (dead_letter(about, row), row.last.map_or(0, |last| last.at_ms)),
    };
    let dedupe_id = match key {
        NoticeKey::Health(no) => format!("webhook {} health {no}", ready.webhook.id),
        NoticeKey::Gap(through) => format!("webhook {} gap {through}", ready.webhook.id),
        NoticeKey::Dead(delivery, attempts) => format!("webhook {} dead {delivery} {attempts}", ready.webhook.id),
    };
    Some(Draft {
        kind: EventType::new(notice.event_type()).expect("the types of notices are event types"),
        ts_ms: Some(ts_ms as i64),
        session: None,
        payload,
        dedupe_id: Some(dedupe_id.into()),
        validated: None,
    })
}

fn disabled(about: About<'_>, off: &Off) -> Canonical {
    let Off { reason, consecutive_failures, since_ms, last } = *off;
    let (status_code, error_code) = seen(last);
    let disabled_at = iso(since_ms);
    json(&Disabled { about, reason, consecutive_failures, status_code, error_code, disabled_at })
}

fn dead_letter(about: About<'_>, row: &Row) -> Canonical {
    let (status_code, error_code) = seen(row.last);
    let event_ids = row.events.iter().map(|id: &EventId| format!("evt_{id}")).collect();
    json(&DeadLetter { about, delivery_id: row.delivery, event_ids, attempts: row.attempts, status_code, error_code })
}

fn seen(last: Option<Failure>) -> (Option<u16>, Option<FailureCode>) {
    (last.and_then(|last| last.status), last.map(|last| last.code))
}

fn iso(ms: u64) -> String {
    to_iso(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn json(payload: &impl Serialize) -> Canonical {
    let text = serde_json::to_string(payload).expect("texts and numbers are JSON");
    Canonical::parse(&text).expect("what was just written as JSON is JSON")
}

/// What happened beside the attempts.
pub fn note(ready: &Ready, entry: &LogEntry) {
    let webhook = &*ready.webhook.id;
    match entry {
        // the delivery log has the one, and the other is announced
        LogEntry::Attempt { .. } | LogEntry::Gap(_) => {}
        LogEntry::LostEvents { delivery, events } => {
            let events = events.len();
            log::warn!(webhook, delivery:display, events; "retention took events of a delivery that had failed");
        }
        LogEntry::Skipped(deliveries) => {
            log::info!(webhook, deliveries = deliveries.len(); "deliveries were skipped as the owner asked");
        }
        LogEntry::Forgotten(deliveries) => {
            log::warn!(webhook, deliveries = deliveries.len(); "dead deliveries made room for newer ones");
        }
    }
}
