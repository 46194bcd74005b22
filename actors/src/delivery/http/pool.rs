//! Connections that rest between requests, by receiver.
//!
//! Only a connection whose answer was read whole comes here, and it is looked at again before it is used.

use std::collections::HashMap;
use std::task::Context;
use std::time::{Duration, Instant};

use awc::http::uri::Authority;

use crate::delivery::http::connection::Connection;

/// A connection that nobody used for so long is closed.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// No connection is used longer than this, so that changes of a name's addresses are followed.
const LIFETIME: Duration = Duration::from_secs(120);
/// Most connections that rest on one thread. Beyond it, a connection is closed after its answer.
const RESTING_MAX: usize = 4096;

/// A receiver as the pool knows it. The name of the host belongs to it: TLS has checked the certificate for that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) https: bool,
    pub(super) authority: Authority,
}

struct Resting {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
pub(super) struct Pool {
    /// The latest to come is the first to go again, so that those which are not needed grow old.
    resting: HashMap<Origin, Vec<Resting>>,
    count: usize,
}

impl Pool {
    /// A connection to use, if one rests that still can be. Those that cannot are closed.
    pub(super) fn take(&mut self, origin: &Origin, cx: &mut Context<'_>) -> Option<Connection> {
        let resting = self.resting.get_mut(origin)?;
        let now = Instant::now();
        while let Some(Resting { mut connection, since }) = resting.pop() {
            self.count -= 1;
            let is_young = now - since < IDLE && now - connection.opened < LIFETIME;
            if is_young && connection.is_silent(cx) {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn put(&mut self, origin: &Origin, connection: Connection) {
        if self.count == RESTING_MAX {
            return;
        }
        self.count += 1;
        let resting = Resting { connection, since: Instant::now() };
        match self.resting.get_mut(origin) {
            Some(others) => others.push(resting),
            None => drop(self.resting.insert(origin.clone(), vec![resting])),
        }
    }

    /// Closes those to one receiver.
    pub(super) fn close(&mut self, origin: &Origin) {
        self.count -= self.resting.remove(origin).map_or(0, |closed| closed.len());
    }

    /// Closes those that have rested for so long, or are too old.
    pub(super) fn close_idle(&mut self, at_least: Duration) {
        let now = Instant::now();
        self.resting.retain(|_, resting| {
            resting.retain(|one| now - one.since < at_least && now - one.connection.opened < LIFETIME);
            !resting.is_empty()
        });
        self.count = self.resting.values().map(Vec::len).sum();
    }
}
