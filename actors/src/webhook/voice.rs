//! What the webhooks say in the server's log.

use super::record::Ready;
use crate::model::delivery::{LogEntry, Notice, OffReason};

/// Where a webhook goes, without what may be a secret in its path.
fn host(ready: &Ready) -> &str {
    ready.target.as_ref().map_or("", |target| &target.authority)
}

/// Something that the owner of a webhook has to know.
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
    }
}

/// What happened beside the attempts.
pub fn note(ready: &Ready, entry: &LogEntry) {
    let webhook = &*ready.webhook.id;
    match entry {
        // the delivery log has them
        LogEntry::Attempt { .. } => {}
        LogEntry::Gap(gap) => {
            let (after, through) = (gap.after, gap.through);
            log::warn!(webhook, after:display, through:display; "retention took events that a webhook had not got yet");
        }
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
