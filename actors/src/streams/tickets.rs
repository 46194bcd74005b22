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
use crate::model::filter::FilterSpec;
use crate::model::id::EventId;
use crate::model::selection::Selection;

/// Most bytes of filter that one ticket is bound to.
pub const FILTER_BYTES_MAX: usize = 8 << 10;

/// What a ticket gives its bearer.
#[derive(Clone, Debug)]
pub struct Grant {
    pub principal: Arc<Principal>,
    /// What it may read.
    pub selection: Selection,
    /// None: as the stream's own query says.
    pub filter: Option<FilterSpec>,
    /// None: as the stream's own query says.
    pub cursor: Option<EventId>,
}

// ---- messages ----------------------------------------------------------------------------------------------------

/// A client wants a ticket. The answer is its text.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<String, MintRefusal>")]
pub struct Mint(pub Grant);

/// Why there is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintRefusal {
    #[error("{open} tickets are open; use those, or wait for them to expire")]
    Total { open: usize },
    #[error("this token has {open} tickets that are not used; use those, or wait for them to expire")]
    Token { open: usize },
    #[error("the filter of a ticket has {bytes} bytes; give at most {FILTER_BYTES_MAX}")]
    Filter { bytes: usize },
    #[error("tickets are not to be had at the moment; try again")]
    Unavailable,
}

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

impl Spent {
    /// A ticket that was spent where all nodes share them.
    pub fn new(ticket: TokenHash, end: Instant, grant: Grant) -> Spent {
        Spent { ticket, end, grant }
    }

    /// The ticket, when it ends, and what it is good for.
    pub fn into_parts(self) -> (TokenHash, Instant, Grant) {
        (self.ticket, self.end, self.grant)
    }
}

// ---- the tickets -------------------------------------------------------------------------------------------------

/// How many tickets may be open.
#[derive(Clone, Copy, Debug)]
pub struct TicketLimits {
    pub total: usize,
    /// Of one token. 0 = no limit of its own.
    pub per_token: usize,
}

/// The tickets that can be used, in memory that is bounded by the limits however often tickets are minted and spent.
struct TicketTable {
    ttl: Duration,
    limits: TicketLimits,
    open: HashMap<TokenHash, (Instant, Grant)>,
    /// How many of them each token has minted.
    by_token: HashMap<Arc<str>, usize>,
    /// In the order of their end. Tickets that were spent leave it at their end, or when it has twice as many as may be open.
    ends: VecDeque<(Instant, TokenHash)>,
}

impl TicketTable {
    fn new(ttl: Duration, limits: TicketLimits) -> TicketTable {
        TicketTable { ttl, limits, open: HashMap::new(), by_token: HashMap::new(), ends: VecDeque::new() }
    }

    fn insert(&mut self, ticket: TokenHash, end: Instant, grant: Grant) {
        *self.by_token.entry(grant.principal.id.clone()).or_default() += 1;
        self.open.insert(ticket, (end, grant));
    }

    fn remove(&mut self, ticket: TokenHash) -> Option<(Instant, Grant)> {
        let (end, grant) = self.open.remove(&ticket)?;
        if let Some(count) = self.by_token.get_mut(&grant.principal.id) {
            *count -= 1;
            if *count == 0 {
                self.by_token.remove(&grant.principal.id);
            }
        }
        Some((end, grant))
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((end, ticket)) = self.ends.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            if self.open.get(&ticket).is_some_and(|(kept, _)| *kept == end) {
                self.remove(ticket);
            }
        }
    }

    /// # Errors
    /// There is no room for the ticket, or its filter is too large.
    fn put(&mut self, ticket: TokenHash, grant: Grant, now: Instant) -> Result<(), MintRefusal> {
        self.forget_expired(now);
        let TicketLimits { total, per_token } = self.limits;
        let bytes = grant.filter.as_ref().map_or(0, FilterSpec::bytes);
        if bytes > FILTER_BYTES_MAX {
            return Err(MintRefusal::Filter { bytes });
        }
        let own = self.by_token.get(&grant.principal.id).copied().unwrap_or(0);
        if per_token > 0 && own >= per_token {
            return Err(MintRefusal::Token { open: own });
        }
        if self.open.len() >= total {
            return Err(MintRefusal::Total { open: self.open.len() });
        }
        let end = now + self.ttl;
        self.insert(ticket, end, grant);
        self.ends.push_back((end, ticket));
        if self.ends.len() > 2 * total {
            self.ends.retain(|(_, ticket)| self.open.contains_key(ticket));
        }
        Ok(())
    }

    fn look(&mut self, ticket: TokenHash, now: Instant) -> Option<Grant> {
        self.forget_expired(now);
        self.open.get(&ticket).map(|(_, grant)| grant.clone())
    }

    fn spend(&mut self, ticket: TokenHash, now: Instant) -> Option<Spent> {
        self.forget_expired(now);
        self.remove(ticket).map(|(end, grant)| Spent { ticket, end, grant })
    }

    fn restore(&mut self, Spent { ticket, end, grant }: Spent, now: Instant) {
        if end <= now {
            return;
        }
        self.insert(ticket, end, grant);
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
    pub(super) fn new(ttl: Duration, limits: TicketLimits, faults: Faults) -> Tickets {
        Tickets { table: TicketTable::new(ttl, limits), faults }
    }
}

impl Actor for Tickets {
    type Context = Context<Self>;
}

impl Handler<Mint> for Tickets {
    type Result = Result<String, MintRefusal>;

    fn handle(&mut self, Mint(grant): Mint, _: &mut Self::Context) -> Self::Result {
        self.faults.check(Point::TicketMessage).map_err(|_| MintRefusal::Unavailable)?;
        let text = secret_text("rt_", clock::random())[..35].to_string();
        self.table.put(TokenHash::of(&text), grant, clock::instant()).map(|()| text)
    }
}

impl Handler<Look> for Tickets {
    type Result = MessageResult<Look>;

    fn handle(&mut self, Look(ticket): Look, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.look(ticket, clock::instant()))
    }
}

impl Handler<Spend> for Tickets {
    type Result = MessageResult<Spend>;

    fn handle(&mut self, Spend(ticket): Spend, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.table.spend(ticket, clock::instant()))
    }
}

impl Handler<Restore> for Tickets {
    type Result = ();

    fn handle(&mut self, Restore(spent): Restore, _: &mut Self::Context) {
        self.table.restore(spent, clock::instant());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Reach;

    const TTL: Duration = Duration::from_secs(30);

    fn limits(total: usize, per_token: usize) -> TicketLimits {
        TicketLimits { total, per_token }
    }

    fn grant() -> Grant {
        grant_of("tok_1")
    }

    fn grant_of(token: &str) -> Grant {
        let principal = Principal { id: token.into(), reach: Reach::Admin, expires_ms: None };
        Grant { principal: Arc::new(principal), selection: Selection::All, filter: None, cursor: None }
    }

    fn ticket(n: u32) -> TokenHash {
        TokenHash::of(&n.to_string())
    }

    #[test]
    fn a_ticket_is_spent_once_within_its_time() {
        let (mut table, now) = (TicketTable::new(TTL, limits(10, 0)), Instant::now());
        assert!(table.put(ticket(1), grant(), now).is_ok() && table.put(ticket(2), grant(), now).is_ok());
        assert!(table.look(ticket(1), now).is_some() && table.look(ticket(3), now).is_none());
        assert!(table.spend(ticket(1), now).is_some() && table.spend(ticket(1), now).is_none());
        assert!(table.look(ticket(2), now + TTL).is_none() && table.spend(ticket(2), now + TTL).is_none());
    }

    #[test]
    fn spent_and_expired_tickets_make_room_and_the_memory_stays_bounded() {
        let (mut table, start) = (TicketTable::new(TTL, limits(10, 0)), Instant::now());
        for n in 0..1000 {
            let now = start + Duration::from_millis(u64::from(n));
            assert!(table.put(ticket(n), grant(), now).is_ok(), "{n}");
            assert!(table.spend(ticket(n), now).is_some(), "{n}");
            assert!(table.ends.len() <= 20 && table.open.is_empty(), "{n}");
        }
        let now = start + Duration::from_secs(1);
        assert!((0..10).all(|n| table.put(ticket(n), grant(), now).is_ok()));
        assert_eq!(
            table.put(ticket(10), grant(), now),
            Err(MintRefusal::Total { open: 10 }),
            "there is no room for one more"
        );
        assert!(table.put(ticket(10), grant(), now + TTL).is_ok(), "time makes room");
        assert_eq!(table.open.len(), 1);
    }

    #[test]
    fn a_ticket_that_was_spent_in_vain_is_good_for_the_rest_of_its_time() {
        let (mut table, start) = (TicketTable::new(TTL, limits(2, 0)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(table.put(ticket(0), grant(), at(0)).is_ok());
        let in_vain = table.spend(ticket(0), at(0)).expect("it is good");
        // many come and go meanwhile, so that nothing remembers when it ends but itself
        for n in 1..20 {
            assert!(table.put(ticket(n), grant(), at(1)).is_ok() && table.spend(ticket(n), at(1)).is_some());
        }
        table.restore(in_vain, at(2));
        assert!(table.look(ticket(0), at(29)).is_some());
        let in_vain = table.spend(ticket(0), at(29)).expect("it is good");
        table.restore(in_vain, at(29));
        assert!(table.look(ticket(0), at(30)).is_none(), "it ends when it would have ended");
        assert!(table.open.is_empty());
        assert!(table.put(ticket(0), grant(), at(40)).is_ok());
        let late = table.spend(ticket(0), at(41)).expect("it is good");
        table.restore(late, at(70));
        assert!(table.open.is_empty(), "its time was over");
    }

    #[test]
    fn one_token_takes_its_share_of_the_tickets_and_no_other_ones() {
        let (mut table, start) = (TicketTable::new(TTL, limits(10, 3)), Instant::now());
        assert!((0..3).all(|n| table.put(ticket(n), grant_of("greedy"), start).is_ok()));
        assert_eq!(table.put(ticket(3), grant_of("greedy"), start), Err(MintRefusal::Token { open: 3 }));
        assert!(table.put(ticket(4), grant_of("other"), start).is_ok());
        let spent = table.spend(ticket(0), start).expect("it is good");
        assert!(table.put(ticket(5), grant_of("greedy"), start).is_ok(), "a ticket that is spent makes room");
        table.restore(spent, start);
        assert_eq!(table.by_token["greedy"], 4, "what was spent in vain is given back in any case");
        assert_eq!(table.put(ticket(6), grant_of("greedy"), start), Err(MintRefusal::Token { open: 4 }));
        assert!(table.put(ticket(6), grant_of("greedy"), start + TTL).is_ok(), "time makes room");
        assert_eq!(
            (table.by_token.len(), table.by_token["greedy"]),
            (1, 1),
            "nothing is remembered of those that went"
        );
    }

    #[test]
    fn the_filter_of_a_ticket_is_bounded() {
        let with = |path_prefix: Vec<String>| Grant {
            filter: Some(FilterSpec { path_prefix, ..FilterSpec::default() }),
            ..grant()
        };
        let mut table = TicketTable::new(TTL, limits(10, 0));
        let long = vec!["/".repeat(1000); 9];
        assert_eq!(table.put(ticket(1), with(long), Instant::now()), Err(MintRefusal::Filter { bytes: 9000 }));
        assert!(table.put(ticket(1), with(vec!["/".repeat(1000); 8]), Instant::now()).is_ok());
    }
}
