//! The tickets actor: owns the tickets that were minted and not spent. A ticket lets its bearer open one stream, once,
//! within its time. It is one actor, so that a ticket is good for one caller when many use it at once.
//!
//! Its mailbox is actix's default; what it holds is bounded by the number of tickets and their time.
//!
//! It is supervised. The tickets are lost when it dies or the process ends: clients fetch a new one per connection anyway.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Message, MessageResult};

use crate::clock;
use crate::disk::{Faults, Point};
use crate::model::access::{Principal, TokenHash, secret_text};
use crate::model::event::ChannelNo;
use crate::model::filter::FilterSpec;
use crate::model::id::EventId;

/// What a ticket gives its bearer.
#[derive(Clone, Debug)]
pub struct Grant {
    pub principal: Arc<Principal>,
    /// [`ChannelNo::ALL`] for all channels.
    pub channel: ChannelNo,
    /// None: as the stream's own query says.
    pub filter: Option<FilterSpec>,
    /// None: as the stream's own query says.
    pub cursor: Option<EventId>,
}

// ---- messages ----------------------------------------------------------------------------------------------------

/// A client wants a ticket. The answer is its text; none when too many are open.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Option<String>")]
pub struct Mint(pub Grant);

/// What is a ticket good for? It stays valid.
#[derive(Debug, Message)]
#[rtype(result = "Option<Grant>")]
pub struct Look(pub TokenHash);

/// Uses a ticket. The answer is some for exactly one caller.
#[derive(Debug, Message)]
#[rtype(result = "Option<Spent>")]
pub struct Spend(pub TokenHash);

/// The stream could not be opened after all: the ticket is good again, for the rest of its time.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Restore(pub Spent);

/// A ticket that was spent.
#[derive(Debug)]
pub struct Spent {
    ticket: TokenHash,
    end: Instant,
    grant: Grant,
}

// ---- the tickets -------------------------------------------------------------------------------------------------

/// The tickets that can be used, in memory that is bounded by `most` however often tickets are minted and spent.
struct TicketTable {
    ttl: Duration,
    most: usize,
    open: HashMap<TokenHash, (Instant, Grant)>,
    /// In the order of their end. Tickets that were spent leave it at their end, or when it has twice as many as may be open.
    ends: VecDeque<(Instant, TokenHash)>,
}

impl TicketTable {
    fn new(ttl: Duration, most: usize) -> TicketTable {
        TicketTable { ttl, most, open: HashMap::new(), ends: VecDeque::new() }
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((end, ticket)) = self.ends.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            if self.open.get(&ticket).is_some_and(|(kept, _)| *kept == end) {
                self.open.remove(&ticket);
            }
        }
    }

    /// Returns whether there was room for the ticket.
    fn put(&mut self, ticket: TokenHash, grant: Grant, now: Instant) -> bool {
        self.forget_expired(now);
        if self.open.len() >= self.most {
            return false;
        }
        let end = now + self.ttl;
        self.open.insert(ticket, (end, grant));
        self.ends.push_back((end, ticket));
        if self.ends.len() > 2 * self.most {
            self.ends.retain(|(_, ticket)| self.open.contains_key(ticket));
        }
        true
    }

    fn look(&mut self, ticket: TokenHash, now: Instant) -> Option<Grant> {
        self.forget_expired(now);
        self.open.get(&ticket).map(|(_, grant)| grant.clone())
    }

    fn spend(&mut self, ticket: TokenHash, now: Instant) -> Option<Spent> {
        self.forget_expired(now);
        self.open.remove(&ticket).map(|(end, grant)| Spent { ticket, end, grant })
    }

    fn restore(&mut self, Spent { ticket, end, grant }: Spent, now: Instant) {
        if end <= now {
            return;
        }
        self.open.insert(ticket, (end, grant));
        let place = self.ends.partition_point(|(other, _)| *other < end);
        let mut same = self.ends.iter().skip(place).take_while(|(other, _)| *other == end);
        if !same.any(|(_, other)| *other == ticket) {
            self.ends.insert(place, (end, ticket));
        }
    }
}

// ---- the actor ---------------------------------------------------------------------------------------------------

pub struct Tickets {
    table: TicketTable,
    faults: Faults,
}

impl Tickets {
    pub(super) fn new(ttl: Duration, most: usize, faults: Faults) -> Tickets {
        Tickets { table: TicketTable::new(ttl, most), faults }
    }
}

impl Actor for Tickets {
    type Context = Context<Self>;
}

impl Handler<Mint> for Tickets {
    type Result = Option<String>;

    fn handle(&mut self, Mint(grant): Mint, _: &mut Self::Context) -> Option<String> {
        self.faults.check(Point::TicketMessage).ok()?;
        let text = secret_text("rt_", clock::random())[..35].to_string();
        self.table.put(TokenHash::of(&text), grant, Instant::now()).then_some(text)
    }
}

impl Handler<Look> for Tickets {
    type Result = MessageResult<Look>;

    fn handle(&mut self, Look(ticket): Look, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.look(ticket, Instant::now()))
    }
}

impl Handler<Spend> for Tickets {
    type Result = MessageResult<Spend>;

    fn handle(&mut self, Spend(ticket): Spend, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.spend(ticket, Instant::now()))
    }
}

impl Handler<Restore> for Tickets {
    type Result = ();

    fn handle(&mut self, Restore(spent): Restore, _: &mut Self::Context) {
        self.table.restore(spent, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Reach;

    const TTL: Duration = Duration::from_secs(30);

    fn grant() -> Grant {
        let principal = Principal { id: "tok_1".into(), reach: Reach::Admin, expires_ms: None };
        Grant { principal: Arc::new(principal), channel: ChannelNo::ALL, filter: None, cursor: None }
    }

    fn ticket(n: u32) -> TokenHash {
        TokenHash::of(&n.to_string())
    }

    #[test]
    fn a_ticket_is_spent_once_within_its_time() {
        let (mut table, now) = (TicketTable::new(TTL, 10), Instant::now());
        assert!(table.put(ticket(1), grant(), now) && table.put(ticket(2), grant(), now));
        assert!(table.look(ticket(1), now).is_some() && table.look(ticket(3), now).is_none());
        assert!(table.spend(ticket(1), now).is_some() && table.spend(ticket(1), now).is_none());
        assert!(table.look(ticket(2), now + TTL).is_none() && table.spend(ticket(2), now + TTL).is_none());
    }

    #[test]
    fn spent_and_expired_tickets_make_room_and_the_memory_stays_bounded() {
        let (mut table, start) = (TicketTable::new(TTL, 10), Instant::now());
        for n in 0..1000 {
            let now = start + Duration::from_millis(u64::from(n));
            assert!(table.put(ticket(n), grant(), now), "{n}");
            assert!(table.spend(ticket(n), now).is_some(), "{n}");
            assert!(table.ends.len() <= 20 && table.open.is_empty(), "{n}");
        }
        let now = start + Duration::from_secs(1);
        assert!((0..10).all(|n| table.put(ticket(n), grant(), now)));
        assert!(!table.put(ticket(10), grant(), now), "there is no room for one more");
        assert!(table.put(ticket(10), grant(), now + TTL), "time makes room");
        assert_eq!(table.open.len(), 1);
    }

    #[test]
    fn a_ticket_that_was_spent_in_vain_is_good_for_the_rest_of_its_time() {
        let (mut table, start) = (TicketTable::new(TTL, 2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(table.put(ticket(0), grant(), at(0)));
        let in_vain = table.spend(ticket(0), at(0)).expect("it is good");
        // many come and go meanwhile, so that nothing remembers when it ends but itself
        for n in 1..20 {
            assert!(table.put(ticket(n), grant(), at(1)) && table.spend(ticket(n), at(1)).is_some());
        }
        table.restore(in_vain, at(2));
        assert!(table.look(ticket(0), at(29)).is_some());
        let in_vain = table.spend(ticket(0), at(29)).expect("it is good");
        table.restore(in_vain, at(29));
        assert!(table.look(ticket(0), at(30)).is_none(), "it ends when it would have ended");
        assert!(table.open.is_empty());
        assert!(table.put(ticket(0), grant(), at(40)));
        let late = table.spend(ticket(0), at(41)).expect("it is good");
        table.restore(late, at(70));
        assert!(table.open.is_empty(), "its time was over");
    }
}
