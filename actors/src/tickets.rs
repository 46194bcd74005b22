//! The tickets actor: owns the tickets that were minted and not spent. A ticket lets its bearer open one stream, once,
//! within its time. That it is one actor is what makes a ticket single-use when many clients race for it.
//!
//! Its mailbox is actix's default; what it holds is bounded by the number of tickets and their time. Tickets do not
//! outlive the process: clients fetch a new one per connection anyway.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Message, MessageResult, Supervised};

use crate::clock;
use crate::model::access::{Principal, TokenHash, secret_text};
use crate::model::event::ChannelNo;
use crate::model::filter::FilterSpec;
use crate::model::id::EventId;

/// What a ticket stands for. It is bound to all of it.
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

/// A client wants a ticket. The answer is its text; none when too many are open.
#[derive(Debug, Message)]
#[rtype(result = "Option<String>")]
pub struct Mint(pub Grant);

/// Somebody shows a ticket: what is it good for? It stays valid.
#[derive(Debug, Message)]
#[rtype(result = "Option<Grant>")]
pub struct Look(pub TokenHash);

/// Somebody uses a ticket. Some for exactly one caller.
#[derive(Debug, Message)]
#[rtype(result = "Option<Spent>")]
pub struct Spend(pub TokenHash);

/// Whoever spent a ticket found no room for the stream: the ticket is good again, for the rest of its time.
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

pub struct Tickets {
    ttl: Duration,
    most: usize,
    open: HashMap<TokenHash, (Instant, Grant)>,
    /// In the order of their end, which is the order in which they were minted.
    ends: VecDeque<(Instant, TokenHash)>,
}

impl Tickets {
    pub fn new(ttl: Duration, most: usize) -> Tickets {
        Tickets { ttl, most, open: HashMap::new(), ends: VecDeque::new() }
    }

    fn forget_expired(&mut self) {
        let now = Instant::now();
        while let Some((end, ticket)) = self.ends.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            if self.open.get(&ticket).is_some_and(|(kept, _)| *kept == end) {
                self.open.remove(&ticket);
            }
        }
    }
}

impl Actor for Tickets {
    type Context = Context<Self>;
}

impl Supervised for Tickets {}

impl Handler<Mint> for Tickets {
    type Result = Option<String>;

    fn handle(&mut self, Mint(grant): Mint, _: &mut Self::Context) -> Option<String> {
        self.forget_expired();
        if self.ends.len() >= self.most {
            return None;
        }
        let text = secret_text("rt_", clock::random())[..35].to_string();
        let (hash, end) = (TokenHash::of(&text), Instant::now() + self.ttl);
        self.open.insert(hash, (end, grant));
        self.ends.push_back((end, hash));
        Some(text)
    }
}

impl Handler<Look> for Tickets {
    type Result = MessageResult<Look>;

    fn handle(&mut self, Look(ticket): Look, _: &mut Self::Context) -> Self::Result {
        self.forget_expired();
        MessageResult(self.open.get(&ticket).map(|(_, grant)| grant.clone()))
    }
}

impl Handler<Spend> for Tickets {
    type Result = MessageResult<Spend>;

    fn handle(&mut self, Spend(ticket): Spend, _: &mut Self::Context) -> Self::Result {
        self.forget_expired();
        MessageResult(self.open.remove(&ticket).map(|(end, grant)| Spent { ticket, end, grant }))
    }
}

impl Handler<Restore> for Tickets {
    type Result = ();

    fn handle(&mut self, Restore(Spent { ticket, end, grant }): Restore, _: &mut Self::Context) {
        // its end is still in the queue of ends, unless it has come
        if end > Instant::now() {
            self.open.insert(ticket, (end, grant));
        }
    }
}
