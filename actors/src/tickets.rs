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

/// Somebody uses a ticket, all other checks having passed. True for exactly one caller.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Spend(pub TokenHash);

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
    type Result = bool;

    fn handle(&mut self, Spend(ticket): Spend, _: &mut Self::Context) -> bool {
        self.forget_expired();
        self.open.remove(&ticket).is_some()
    }
}
