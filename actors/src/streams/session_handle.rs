//! A session: what the shard knows of one session, and how it reaches it. Shared, on one thread, by the session's body, its
//! actor and the shard's tick.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use actix::Recipient;

use crate::engine::Engine;
use crate::model::access::Principal;
use crate::streams::Socket;
use crate::streams::slots::Slot;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server stops.
    Shutdown,
    /// The token was revoked or has expired.
    Revoked,
    /// The channel was deleted.
    Deleted,
    /// The reader took no byte for the stall timeout.
    Stalled,
    /// The log could not be read.
    Failed,
}

/// What the shard asks a session's actor to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, actix::Message)]
#[rtype(result = "()")]
pub enum Ask {
    /// Nothing was written for the heartbeat's time: write something.
    Beat,
    End(End),
}

pub struct SessionHandle {
    principal: Arc<Principal>,
    slot: RefCell<Option<Slot>>,
    socket: Option<Socket>,
    actor: RefCell<Option<Recipient<Ask>>>,
    waker: RefCell<Option<Waker>>,
    /// The actor has something to say; set by whoever asked it.
    pub asked: Cell<bool>,
    /// The ring was replaced: the reader's position in it means nothing now.
    pub lost_position: Cell<bool>,
    ending: Cell<Option<End>>,
    last_write: Cell<Instant>,
    last_beat: Cell<Instant>,
    /// Bytes are ready or under way, since then, and the connection has not come for more.
    owed_since: Cell<Option<Instant>>,
    unsent: Cell<i32>,
    /// Beats come by the clock, whatever was written (WebSocket), or only after silence (SSE).
    beats_always: bool,
    /// The revocations that the principal has been held against.
    checked: Cell<u64>,
}

impl SessionHandle {
    pub fn new(
        principal: Arc<Principal>,
        slot: Slot,
        socket: Option<Socket>,
        beats_always: bool,
        checked: u64,
    ) -> SessionHandle {
        let now = Instant::now();
        SessionHandle {
            principal,
            slot: RefCell::new(Some(slot)),
            socket,
            actor: RefCell::new(None),
            waker: RefCell::new(None),
            asked: Cell::new(true),
            lost_position: Cell::new(false),
            ending: Cell::new(None),
            last_write: Cell::new(now),
            last_beat: Cell::new(now),
            owed_since: Cell::new(None),
            unsent: Cell::new(0),
            beats_always,
            checked: Cell::new(checked),
        }
    }

    /// The session's actor runs. Its address is how the shard speaks to it.
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
                self.owed_since.set(Some(Instant::now()));
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
        let now = Instant::now();
        self.last_write.set(now);
        self.owed_since.set(Some(now));
    }

    /// The session's actor has said its last word to a WebSocket client.
    pub fn close_written(&self) {
        if let Some(socket) = self.socket {
            socket.end_when_all_is_said();
        }
    }

    pub fn forget_position(&self) {
        self.lost_position.set(true);
    }

    pub fn ending(&self) -> Option<End> {
        self.ending.get()
    }

    /// Ends the session: its slot is free at once, and its actor says goodbye.
    pub fn end(&self, end: End) {
        if self.ending.replace(Some(end)).is_some() {
            return;
        }
        self.slot.borrow_mut().take();
        self.ask(Ask::End(end));
    }

    fn ask(&self, ask: Ask) {
        if let Some(actor) = &*self.actor.borrow() {
            // one beat a heartbeat and one end per session: no flood, and a session that is gone needs neither
            actor.do_send(ask);
        }
        self.asked.set(true);
        self.wake();
    }

    /// Looks after what time brings. Called by the shard once a second.
    pub fn tick(&self, engine: &Engine, now: Instant, now_ms: i64, revocations: u64) {
        if self.ending.get().is_some() {
            return;
        }
        if self.checked.replace(revocations) != revocations && !engine.catalog.holds(&self.principal) {
            return self.end(End::Revoked);
        }
        if self.principal.expired(now_ms) {
            return self.end(End::Revoked);
        }
        if self.stalled(engine, now) {
            engine.metrics.stalled_readers.inc();
            return self.end(End::Stalled);
        }
        let (since, every) = match self.beats_always {
            true => (self.last_beat.get(), engine.limits.heartbeat),
            false => (self.last_write.get().max(self.last_beat.get()), engine.limits.keepalive),
        };
        if now.duration_since(since) >= every {
            self.last_beat.set(now);
            self.ask(Ask::Beat);
        }
    }

    fn stalled(&self, engine: &Engine, now: Instant) -> bool {
        let Some(since) = self.owed_since.get() else { return false };
        // a reader that takes a little now and then is slow, not stalled: the kernel knows what it took
        let unsent = self.socket.map_or(0, Socket::unsent_bytes);
        if self.unsent.replace(unsent) != unsent {
            self.owed_since.set(Some(now));
            return false;
        }
        now.duration_since(since) >= engine.limits.stall_timeout
    }
}
