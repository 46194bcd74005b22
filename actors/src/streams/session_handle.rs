//! The handle of a session: what its thread knows of it and how it is reached. Shared, on one thread, by the session's body,
//! its actor and the shard.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use actix::Recipient;

use crate::clock;
use crate::compute::Tenant;
use crate::feed::frame::Carrier;
use crate::model::access::Principal;
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::selection::Selection;
use crate::streams::connections::{ClientInfo, Connection, ConnectionId};
use crate::streams::session::Opening;
use crate::streams::slots::Slot;
use crate::streams::{Socket, Streams, View};

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The server stops.
    Shutdown,
    /// Another process takes the server's place: the client may come back at once.
    Replaced,
    /// The token was revoked or has expired.
    Revoked,
    /// The channel was deleted.
    Deleted,
    /// The reader took no byte for the stall timeout.
    Stalled,
    /// The log could not be read.
    Failed,
    /// Somebody who may manage it has ended it.
    Closed,
}

/// What a session's actor is asked to do, by the shard or by the session's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, actix::Message)]
#[rtype(result = "()")]
pub enum Ask {
    /// Nothing was written for the heartbeat's time: write something.
    Heartbeat,
    End(SessionEnd),
}

pub struct SessionHandle {
    pub(super) id: ConnectionId,
    client: ClientInfo,
    carrier: Carrier,
    filter: Filter,
    /// How far it has read.
    cursor: Cell<EventId>,
    principal: Arc<Principal>,
    slot: RefCell<Option<Slot>>,
    socket: Option<Socket>,
    actor: RefCell<Option<Recipient<Ask>>>,
    waker: RefCell<Option<Waker>>,
    /// The actor was asked for something, so its context has to be polled.
    pub(super) actor_may_write: Cell<bool>,
    /// The ring was replaced: the reader's position in it means nothing now.
    pub(super) lost_position: Cell<bool>,
    ending: Cell<Option<SessionEnd>>,
    last_write: Cell<Instant>,
    last_heartbeat: Cell<Instant>,
    /// Bytes are ready or under way, since then, and the connection has not come for more.
    owed_since: Cell<Option<Instant>>,
    taken: Cell<i32>,
    /// Heartbeats come by the clock, whatever was written (WebSocket), or only after silence (SSE).
    heartbeats_always: bool,
    /// [`View::revocations`] when it was last checked until when the principal is valid.
    checked: Cell<Option<u64>>,
    /// What came of that, in Unix milliseconds.
    valid_until_ms: Cell<i64>,
}

impl SessionHandle {
    /// The handle of what was opened; the rest of the opening is with the session. `cursor`: where it begins.
    pub(super) fn new(id: ConnectionId, opening: Opening, cursor: EventId, heartbeats_always: bool) -> SessionHandle {
        let now = clock::instant();
        SessionHandle {
            id,
            client: opening.client,
            carrier: opening.encoding.carrier,
            filter: opening.filter,
            cursor: Cell::new(cursor),
            principal: opening.principal,
            slot: RefCell::new(Some(opening.slot)),
            socket: opening.socket,
            actor: RefCell::new(None),
            waker: RefCell::new(None),
            actor_may_write: Cell::new(true),
            lost_position: Cell::new(false),
            ending: Cell::new(None),
            last_write: Cell::new(now),
            last_heartbeat: Cell::new(now),
            owed_since: Cell::new(None),
            taken: Cell::new(0),
            heartbeats_always,
            checked: Cell::new(None),
            valid_until_ms: Cell::new(i64::MAX),
        }
    }

    /// Whose share of the processor its filter uses.
    pub fn tenant(&self) -> Tenant {
        Tenant::of(&self.principal)
    }

    pub(super) fn cursor(&self) -> EventId {
        self.cursor.get()
    }

    /// It has read up to here.
    pub(super) fn read_to(&self, cursor: EventId) {
        self.cursor.set(cursor);
    }

    /// The session as a list shows it.
    pub(super) fn connection(&self, selection: Selection, behind_events: u64) -> Connection {
        Connection {
            id: self.id,
            carrier: self.carrier,
            selection,
            filter: self.filter.spec().clone(),
            client: self.client.clone(),
            principal: self.principal.id.clone(),
            behind_events,
        }
    }

    /// The session's actor runs, and can be asked for something from now on.
    pub fn actor_started(&self, actor: Recipient<Ask>) {
        if let Some(end) = self.ending.get() {
            // it was to end before it could be told
            actor.do_send(Ask::End(end));
        }
        *self.actor.borrow_mut() = Some(actor);
    }

    /// Wakes the session's task, which then reads up to the head.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            if self.owed_since.get().is_none() {
                self.owed_since.set(Some(clock::instant()));
            }
            waker.wake_by_ref();
        }
    }

    /// The connection asked for data and there is none: everything so far was taken.
    pub fn parked(&self, waker: &Waker) {
        self.owed_since.set(None);
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Bytes were handed to the connection.
    pub fn wrote(&self) {
        let now = clock::instant();
        self.last_write.set(now);
        self.owed_since.set(Some(now));
    }

    /// The session's actor has written the close frame to a WebSocket client.
    pub fn close_written(&self) {
        if let Some(socket) = &self.socket {
            socket.shut_down_when_sent();
        }
    }

    pub fn forget_position(&self) {
        self.lost_position.set(true);
    }

    pub fn ending(&self) -> Option<SessionEnd> {
        self.ending.get()
    }

    /// Ends the session: its slot is free at once, and its actor writes the end.
    pub fn end(&self, end: SessionEnd) {
        if self.ending.get().is_some() {
            return;
        }
        self.ending.set(Some(end));
        self.slot.borrow_mut().take();
        self.ask(Ask::End(end));
    }

    fn ask(&self, ask: Ask) {
        if let Some(actor) = &*self.actor.borrow() {
            // without a bound, but it is one heartbeat at a time and one end; a session that has ended needs neither
            actor.do_send(ask);
        }
        self.actor_may_write.set(true);
        self.wake();
    }

    /// Ends the session if its token was revoked, or all that it reads was deleted.
    pub(super) fn check(&self, view: &View, selection: &Selection) {
        // read first: a revocation that comes in between is then looked up again
        let revocations = view.revocations();
        self.check_principal(view, revocations);
        if !view.has_any(selection) {
            self.end(SessionEnd::Deleted);
        }
    }

    fn check_principal(&self, view: &View, revocations: u64) {
        if self.checked.replace(Some(revocations)) == Some(revocations) {
            return;
        }
        match view.valid_until_ms(&self.principal) {
            Some(until_ms) => self.valid_until_ms.set(until_ms),
            None => self.end(SessionEnd::Revoked),
        }
    }

    /// Whether the token was revoked or has expired, and whether a heartbeat is due. Called by the shard several times a second, so it
    /// is a comparison of numbers unless a token was revoked or changed.
    pub(super) fn look(&self, streams: &Streams, now: Instant, now_ms: i64, revocations: u64) {
        self.check_principal(&streams.handles.view, revocations);
        if self.ending.get().is_some() {
            return;
        }
        if self.valid_until_ms.get() <= now_ms {
            return self.end(SessionEnd::Revoked);
        }
        let (since, every) = match self.heartbeats_always {
            true => (self.last_heartbeat.get(), streams.limits.heartbeat),
            false => (self.last_write.get().max(self.last_heartbeat.get()), streams.limits.keepalive),
        };
        if now.duration_since(since) >= every {
            self.last_heartbeat.set(now);
            self.ask(Ask::Heartbeat);
        }
    }

    /// Ends the session if its reader takes nothing. Called by the shard once a second, because it asks the kernel.
    pub(super) fn tick(&self, streams: &Streams, now: Instant) {
        if self.ending.get().is_none() && self.is_stalled(streams, now) {
            streams.handles.metrics.stalled_readers.inc();
            self.end(SessionEnd::Stalled);
        }
    }

    fn is_stalled(&self, streams: &Streams, now: Instant) -> bool {
        let Some(since) = self.owed_since.get() else { return false };
        // a reader that takes a little now and then is slow, not stalled: the kernel knows what it took
        let taken = self.socket.as_ref().map_or(0, Socket::mark);
        if self.taken.replace(taken) != taken {
            self.owed_since.set(Some(now));
            return false;
        }
        now.duration_since(since) >= streams.limits.stall_timeout
    }
}
