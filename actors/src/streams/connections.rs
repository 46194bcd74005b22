//! The open streams: a list of them, and closing one by its id.
//!
//! Nothing is kept for it beside the sessions themselves: each shard is asked for its own, and looks through them on its
//! thread. A page takes the oldest of all shards behind a cursor, so a list may be long and an answer is not.

use std::net::IpAddr;
use std::sync::Arc;

use actix::{Handler, Message, MessageResult};

use crate::compute;
use crate::feed::frame::Carrier;
use crate::model::event::ChannelNo;
use crate::model::filter::FilterSpec;
use crate::model::id::{EventId, MalformedId};
use crate::model::selection::Selection;
use crate::streams::shard::Shard;
use crate::streams::view::ReadError;
use crate::streams::{SessionEnd, SessionHandle, Streams};

/// What stands before the ULID of a connection.
const PREFIX: &str = "con_";

/// The longest name of a client that is kept, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 200;

/// The id of an open stream. Its order is that of opening.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(EventId);

impl ConnectionId {
    pub fn new(ulid: EventId) -> ConnectionId {
        ConnectionId(ulid)
    }

    /// When the stream was opened, in Unix milliseconds.
    pub fn time_ms(self) -> u64 {
        self.0.time_ms()
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl std::str::FromStr for ConnectionId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<ConnectionId, MalformedId> {
        text.strip_prefix(PREFIX).ok_or(MalformedId)?.parse().map(ConnectionId)
    }
}

/// What is known of the client of a stream.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    pub address: Option<IpAddr>,
    /// At most [`USER_AGENT_BYTES_MAX`].
    pub user_agent: Option<Box<str>>,
}

/// An open stream, as a list shows it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub id: ConnectionId,
    pub carrier: Carrier,
    pub selection: Selection,
    pub filter: FilterSpec,
    pub client: ClientInfo,
    /// The token's id, or `jwt:<sub>`.
    pub principal: Arc<str>,
    /// Events that are ready for it and were not handed to its connection, whether they pass its filter or not. Far behind
    /// it is an estimate.
    pub behind_events: u64,
}

/// Which streams somebody may see: all, or those that lie wholly in one channel.
#[derive(Clone, Copy, Debug)]
pub struct Scope(pub Option<ChannelNo>);

impl Scope {
    fn has(self, selection: &Selection) -> bool {
        self.0.is_none_or(|no| *selection == Selection::One(no))
    }
}

/// The oldest streams behind a cursor are asked for. Sent by [`Streams::connections`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<Found>")]
pub(super) struct List {
    scope: Scope,
    after: Option<ConnectionId>,
    count: usize,
}

/// A stream that was found, and where it stands while it reads the log.
#[derive(Debug)]
pub(super) struct Found {
    connection: Connection,
    /// It reads the log from here on up to the ring of its local channel, which begins behind `floor`.
    in_log: Option<(EventId, EventId)>,
}

/// A stream is to end. Sent by [`Streams::end_connection`]; the answer is whether it was here.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "bool")]
pub(super) struct End {
    id: ConnectionId,
    scope: Scope,
}

impl Handler<List> for Shard {
    type Result = MessageResult<List>;

    fn handle(&mut self, msg: List, _: &mut Self::Context) -> Self::Result {
        let mut ids = Vec::new();
        for channel in self.all_read().iter().filter(|channel| msg.scope.has(&channel.selection)) {
            channel.each_session(&mut |session: &SessionHandle| {
                if msg.after.is_none_or(|after| session.id > after) && session.ending().is_none() {
                    ids.push(session.id);
                }
            });
        }
        // the oldest: the others are on later pages
        ids.sort_unstable();
        ids.truncate(msg.count);
        let mut found = Vec::new();
        for channel in self.all_read().iter().filter(|channel| msg.scope.has(&channel.selection)) {
            channel.each_session(&mut |session: &SessionHandle| {
                if ids.binary_search(&session.id).is_ok() {
                    let (behind_events, in_log) = channel.behind(session.cursor());
                    let connection = session.connection(channel.selection.clone(), behind_events);
                    found.push(Found { connection, in_log });
                }
            });
        }
        MessageResult(found)
    }
}

impl Handler<End> for Shard {
    type Result = bool;

    fn handle(&mut self, msg: End, _: &mut Self::Context) -> bool {
        let mut is_here = false;
        for channel in self.all_read().iter().filter(|channel| msg.scope.has(&channel.selection)) {
            channel.each_session(&mut |session: &SessionHandle| {
                if session.id == msg.id && session.ending().is_none() {
                    session.end(SessionEnd::Closed);
                    is_here = true;
                }
            });
        }
        is_here
    }
}

impl Streams {
    /// The oldest open streams behind a cursor, at most so many, and whether there are more.
    ///
    /// # Errors
    /// The thread that counted what waits in the log panicked.
    pub async fn connections(
        &self,
        scope: Scope,
        after: Option<ConnectionId>,
        count: usize,
    ) -> Result<(Vec<Connection>, bool), ReadError> {
        let answers = self.shards.ask(List { scope, after, count: count + 1 }).await;
        let mut found: Vec<Found> = answers.into_iter().flatten().collect();
        found.sort_by_key(|found| found.connection.id);
        let has_more = found.len() > count;
        found.truncate(count);
        let view = self.handles.view.clone();
        let counted = compute::blocking(move || {
            let count = |Found { mut connection, in_log }: Found| {
                if let Some((cursor, floor)) = in_log {
                    connection.behind_events += view.count_between(&connection.selection, cursor, floor);
                }
                connection
            };
            found.into_iter().map(count).collect::<Vec<_>>()
        });
        let connections = counted.await.map_err(|e| ReadError::Panicked(e.to_string()))?;
        Ok((connections, has_more))
    }

    /// Ends a stream; it may be opened again. False when there is none of this id that may be seen.
    pub async fn end_connection(&self, id: ConnectionId, scope: Scope) -> bool {
        self.shards.ask(End { id, scope }).await.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_connection_is_read_as_it_is_shown() {
        let id = ConnectionId::new(EventId::at_time(1_750_000_000_000).plus(7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().starts_with("con_01JX") && id.time_ms() == 1_750_000_000_000);
        for bad in ["", "con_", "01JXT0H3T0000000000000000", "evt_01JXT0H3T00000000000000000"] {
            assert!(bad.parse::<ConnectionId>().is_err(), "{bad}");
        }
    }
}
