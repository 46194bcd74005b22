//! Tickets that were spent a moment ago. A browser that reconnects by itself sends the one that it had: that ticket is void,
//! and nobody is guessing.

use std::collections::HashSet;
use std::mem;

use actors::model::access::TokenHash;
use parking_lot::Mutex;

/// Tickets that are remembered at once, half of them or more. Older ones count as unknown.
const REMEMBERED_MAX: usize = 20_000;

#[derive(Default)]
pub struct SpentTickets(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    newer: HashSet<TokenHash>,
    older: HashSet<TokenHash>,
}

impl SpentTickets {
    pub fn note(&self, ticket: &str) {
        let mut spent = self.0.lock();
        if spent.newer.len() >= REMEMBERED_MAX / 2 {
            spent.older = mem::take(&mut spent.newer);
        }
        spent.newer.insert(TokenHash::of(ticket));
    }

    pub fn knows(&self, ticket: &str) -> bool {
        let (hash, spent) = (TokenHash::of(ticket), self.0.lock());
        spent.newer.contains(&hash) || spent.older.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_tickets_are_remembered_and_no_more_than_there_is_room_for() {
        let spent = SpentTickets::default();
        (0..25_000).for_each(|n| spent.note(&n.to_string()));
        assert!(spent.knows("24999") && spent.knows("15000") && !spent.knows("4999") && !spent.knows("25000"));
        let kept = spent.0.lock();
        assert!(kept.newer.len() + kept.older.len() <= REMEMBERED_MAX);
    }
}
