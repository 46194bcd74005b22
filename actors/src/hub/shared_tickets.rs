//! Tickets where many nodes share them: documents in the log, so that one minted on a node is good on every other, and of
//! all who use it at once exactly one gets in: whoever deletes the document first.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rooms::Rooms;
use crate::clock;
use crate::documents::{Change, DocumentError, Table};
use crate::journal::{AppendError, DocumentChanges};
use crate::model::access::{Principal, Reach, Scope, TokenHash};
use crate::model::event::ChannelNo;
use crate::model::filter::FilterSpec;
use crate::model::id::EventId;
use crate::model::selection::{ChannelSet, Selection};
use crate::streams::tickets::{Grant, MintRefusal, Spent};

/// How often it is looked again for a ticket that is not known here: the node that minted it may be a little ahead.
const LOOKS_AGAIN: usize = 5;
/// Before each of these looks.
const WAIT: Duration = Duration::from_millis(20);

/// A ticket as it is stored.
#[derive(Serialize, Deserialize)]
struct TicketRecord {
    principal: PrincipalRecord,
    selection: SelectionRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<FilterSpec>,
    /// The source in the filter, which its own form leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<EventId>,
    /// It is worth nothing after this, in Unix milliseconds.
    ends_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct PrincipalRecord {
    id: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
    reach: ReachRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReachRecord {
    Admin,
    Channel { no: u32, scopes: Vec<Scope> },
    Several { channels: ChannelSet, scopes: Vec<Scope> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SelectionRecord {
    One(u32),
    Several(ChannelSet),
    All,
}

impl TicketRecord {
    fn of(grant: &Grant, ends_ms: i64) -> TicketRecord {
        let Principal { id, reach, expires_ms } = &*grant.principal;
        let reach = match reach {
            Reach::Admin => ReachRecord::Admin,
            Reach::Channel { no, scopes } => ReachRecord::Channel { no: no.0, scopes: scopes.clone() },
            Reach::Several { channels, scopes } => {
                ReachRecord::Several { channels: ChannelSet::clone(channels), scopes: scopes.clone() }
            }
        };
        TicketRecord {
            principal: PrincipalRecord { id: id.clone(), expires_ms: *expires_ms, reach },
            selection: match &grant.selection {
                Selection::One(no) => SelectionRecord::One(no.0),
                Selection::Several(set) => SelectionRecord::Several(ChannelSet::clone(set)),
                Selection::All => SelectionRecord::All,
            },
            filter: grant.filter.clone(),
            source: grant.filter.as_ref().and_then(|filter| filter.source.clone()),
            cursor: grant.cursor,
            ends_ms,
        }
    }

    fn grant(self) -> Grant {
        let PrincipalRecord { id, expires_ms, reach } = self.principal;
        let reach = match reach {
            ReachRecord::Admin => Reach::Admin,
            ReachRecord::Channel { no, scopes } => Reach::Channel { no: ChannelNo(no), scopes },
            ReachRecord::Several { channels, scopes } => Reach::Several { channels: Arc::new(channels), scopes },
        };
        let source = self.source;
        Grant {
            principal: Arc::new(Principal { id, reach, expires_ms }),
            selection: match self.selection {
                SelectionRecord::One(no) => Selection::One(ChannelNo(no)),
                SelectionRecord::Several(set) => Selection::Several(Arc::new(set)),
                SelectionRecord::All => Selection::All,
            },
            filter: self.filter.map(|filter| FilterSpec { source, ..filter }),
            cursor: self.cursor,
        }
    }
}

/// The key of a ticket, which does not tell the ticket.
fn key(ticket: TokenHash) -> String {
    ticket.into()
}

fn put(ticket: TokenHash, record: &TicketRecord) -> Result<DocumentChanges, DocumentError> {
    let changes = vec![Change::put(Table::Tickets, key(ticket), record)?];
    Ok(DocumentChanges { changes, ..DocumentChanges::default() })
}

/// Makes a ticket of this node one of all.
///
/// # Errors
/// It cannot be stored.
pub(super) async fn share(rooms: &Rooms, text: &str, grant: &Grant) -> Result<(), MintRefusal> {
    let ends_ms = rooms.clock.now_ms() + rooms.limits.streams.ticket_ttl.as_millis() as i64;
    let request = put(TokenHash::of(text), &TicketRecord::of(grant, ends_ms));
    let request = request.map_err(|_| MintRefusal::Unavailable)?;
    rooms.journal.persist(request).await.map_err(|_| MintRefusal::Unavailable)
}

/// What a ticket is good for, without spending it.
pub(super) async fn look(rooms: &Rooms, ticket: TokenHash) -> Option<Grant> {
    record(rooms, ticket).await.map(TicketRecord::grant)
}

async fn record(rooms: &Rooms, ticket: TokenHash) -> Option<TicketRecord> {
    let now_ms = rooms.clock.now_ms();
    let look = || rooms.delivery.documents.get::<TicketRecord>(Table::Tickets, key(ticket)).ok().flatten();
    let mut record = look();
    for _ in 0..LOOKS_AGAIN {
        if record.is_some() {
            break;
        }
        clock::sleep(WAIT).await;
        record = look();
    }
    record.filter(|record| record.ends_ms > now_ms)
}

/// Spends a ticket. Some for exactly one caller on all nodes.
pub(super) async fn spend(rooms: &Rooms, ticket: TokenHash) -> Option<Spent> {
    let record = record(rooms, ticket).await?;
    let left_ms = record.ends_ms.saturating_sub(rooms.clock.now_ms()).max(0) as u64;
    let request = DocumentChanges {
        changes: vec![Change::delete(Table::Tickets, key(ticket))],
        requires: Some((Table::Tickets, key(ticket).into_bytes())),
        ..DocumentChanges::default()
    };
    match rooms.journal.persist(request).await {
        Ok(()) => Some(Spent::new(ticket, clock::instant() + Duration::from_millis(left_ms), record.grant())),
        Err(AppendError::Gone) => None,
        Err(e) => {
            log::warn!("a ticket could not be used: {e}");
            None
        }
    }
}

/// Gives a ticket back that was spent in vain, for the rest of its time.
pub(super) async fn restore(rooms: &Rooms, spent: Spent) {
    let (ticket, end, grant) = spent.into_parts();
    let left = end.saturating_duration_since(clock::instant());
    let ends_ms = rooms.clock.now_ms() + left.as_millis() as i64;
    let given_back = match put(ticket, &TicketRecord::of(&grant, ends_ms)) {
        Ok(request) => rooms.journal.persist(request).await.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    if let Err(e) = given_back {
        log::warn!("a ticket that was used in vain is not given back: {e}");
    }
}

/// Deletes tickets whose time is over. To be called now and then, on one node.
#[cfg(feature = "nats")]
pub(super) async fn sweep(rooms: &Rooms) {
    let now_ms = rooms.clock.now_ms();
    let all = rooms.delivery.documents.scan::<TicketRecord>(Table::Tickets, b"").unwrap_or_default();
    let over = all.into_iter().filter(|(_, record)| record.ends_ms <= now_ms);
    let changes: Vec<Change> = over.map(|(key, _)| Change::delete(Table::Tickets, key)).collect();
    if changes.is_empty() {
        return;
    }
    let request = DocumentChanges { changes, ..DocumentChanges::default() };
    if let Err(e) = rooms.journal.persist(request).await {
        log::debug!("tickets whose time is over are deleted later: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_worth_on_another_node_what_it_was_minted_for() {
        let filter = FilterSpec { session: Some("s".into()), source: Some("src".into()), ..FilterSpec::default() };
        let reaches = [
            Reach::Admin,
            Reach::Channel { no: ChannelNo(7), scopes: vec![Scope::Subscribe] },
            Reach::Several { channels: Arc::default(), scopes: Scope::ALL.into() },
        ];
        let selections = [Selection::All, Selection::One(ChannelNo(7)), Selection::Several(Arc::default())];
        for (reach, selection) in reaches.into_iter().zip(selections) {
            let principal = Arc::new(Principal { id: "tok_1".into(), reach, expires_ms: Some(5) });
            let grant = Grant { principal, selection, filter: Some(filter.clone()), cursor: Some(EventId::at_time(3)) };
            let text = serde_json::to_string(&TicketRecord::of(&grant, 9)).expect("JSON");
            let read: TicketRecord = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read.ends_ms, 9);
            assert_eq!(format!("{:?}", read.grant()), format!("{grant:?}"));
        }
    }
}
