//! Streams: one session per SSE or WebSocket client, and what brings events to it.
//!
//! ```text
//! feed ──> channel actor ──> shard (one per HTTP thread) ──> local channel ──> sessions
//! ```
//!
//! - [`Streams`]: what the hub calls; [`Handles`], [`View`]: what streams need of the floors below
//! - [`session`]: what all sessions share; [`sse`], [`websocket`]: the actor of one client, which writes what is not an event:
//!   the opening frame, heartbeats and the end. Events do not pass through the actor: `body` reads them from the ring of its
//!   thread by a cursor (`reader`), is woken at most once per batch, and takes everything up to the head in one write.
//! - [`channel`], [`shard`], [`registry`]: the actors between the feed and the sessions; [`ring`]: the newest frames;
//!   `selections`: streams over several channels
//! - [`slots`], [`tickets`]: who may open a stream; [`connections`]: who has; [`limits`]: the bounds
//!
//! This folder is the only place that knows `actix-web-actors`, so that another transport can replace it here.

mod body;
pub mod channel;
pub mod connections;
pub mod inspector;
pub mod limits;
mod local_channel;
mod page;
mod reader;
pub mod registry;
pub mod ring;
mod selections;
pub mod session;
mod session_handle;
pub mod shard;
mod shards;
pub mod slots;
mod socket;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod tickets;
mod view;
pub mod websocket;

use std::sync::{Arc, OnceLock};

use actix_rt::ArbiterHandle;
use parking_lot::Mutex;

pub use self::local_channel::LocalChannel;
pub use self::session_handle::{SessionEnd, SessionHandle};
pub use self::socket::Socket;
pub use self::view::View;

use self::connections::ConnectionId;
use self::limits::StreamLimits;
use self::registry::Registry;
use self::shard::{CloseAll, CloseChannel, Settle};
use self::shards::Shards;
use self::slots::{Slot, Slots, StreamRefusal};
use self::tickets::{Grant, Look, Mint, MintRefusal, Restore, Spend, Spent, Tickets};
use crate::budget::Budget;
use crate::clock;
use crate::compute::Compute;
use crate::disk::Faults;
use crate::feed::Feed;
use crate::feed::trace::DeliveryTrace;
use crate::metrics::Metrics;
use crate::model::access::{Principal, TokenHash};
use crate::model::event::ChannelNo;
use crate::model::id::{EventId, IdSource};
use crate::model::selection::Selection;
use crate::supervision::ActorHandle;

/// What streams need of the floors below.
#[derive(Clone)]
pub struct Handles {
    pub view: View,
    pub feed: Arc<Feed>,
    pub trace: Arc<DeliveryTrace>,
    pub metrics: Arc<Metrics>,
    pub budget: Arc<Budget>,
    /// Where filters that take long are worked through.
    pub compute: Compute,
    /// Where pages of the log are read.
    pub readers: Compute,
    pub faults: Faults,
}

/// The streams of the server: what all sessions share, and what the hub calls.
pub struct Streams {
    handles: Handles,
    limits: StreamLimits,
    registry: ActorHandle<Registry>,
    tickets: ActorHandle<Tickets>,
    slots: Arc<Slots>,
    /// Of connections.
    ids: Mutex<IdSource>,
    shards: Arc<Shards>,
    /// All sessions were told to end, and why: no stream is opened any more.
    stopping: OnceLock<SessionEnd>,
}

impl Streams {
    /// Starts the registry and the tickets on the arbiter's thread. Shards start with the first session of their thread.
    pub fn start(handles: Handles, limits: StreamLimits, arbiter: &ArbiterHandle) -> Arc<Streams> {
        let shards = Arc::<Shards>::default();
        let registry = {
            let (handles, shards, ring, idle_after) =
                (handles.clone(), shards.clone(), limits.ring, limits.channel_idle);
            ActorHandle::start(arbiter, "registry", &handles.faults.clone(), move |_| {
                Registry::new(handles.clone(), ring, idle_after, shards.clone())
            })
        };
        let tickets = {
            let (ttl, at_most, faults) = (limits.ticket_ttl, limits.tickets, handles.faults.clone());
            ActorHandle::start(arbiter, "tickets", &handles.faults, move |_| Tickets::new(ttl, at_most, faults.clone()))
        };
        let slots = Slots::new(limits.slots);
        let ids = Mutex::new(IdSource::after(EventId::ZERO));
        Arc::new(Streams { handles, limits, registry, tickets, slots, ids, shards, stopping: OnceLock::new() })
    }

    /// A place among the open streams, to be taken before the first header is written.
    ///
    /// # Errors
    /// Which limit would be passed.
    pub fn slot(&self, selection: &Selection, principal: &Principal) -> Result<Slot, StreamRefusal> {
        self.slots.take(counted_in(selection), &principal.id)
    }

    /// Whether there is such a place now.
    ///
    /// # Errors
    /// Which limit would be passed.
    pub fn slot_is_free(&self, selection: &Selection, principal: &Principal) -> Result<(), StreamRefusal> {
        self.slots.room(counted_in(selection), &principal.id)
    }

    /// The open streams of each channel that has some.
    pub fn open_by_channel(&self) -> Vec<(ChannelNo, usize)> {
        self.slots.by_channel()
    }

    /// Ends the streams of a channel that was deleted. Does not wait for them.
    pub fn close_channel(&self, no: ChannelNo) {
        self.shards.tell(CloseChannel { no });
    }

    /// Ends all streams with a clean close, and opens no more. Returns when each was told.
    pub async fn close_all(&self, end: SessionEnd) {
        let end = *self.stopping.get_or_init(|| end);
        self.shards.ask(CloseAll(end)).await;
    }

    /// The counts of open streams.
    pub fn counted(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Ends the sessions that are open now; new ones may come.
    pub async fn close_open(&self) {
        self.shards.ask(CloseAll(SessionEnd::Shutdown)).await;
    }

    /// An id for a connection that is being opened, greater than those before it.
    fn fresh_id(&self) -> ConnectionId {
        ConnectionId::new(self.ids.lock().next(clock::now_ms().max(0) as u64, || u128::from_le_bytes(clock::random())))
    }

    /// Why all streams end, once they do.
    fn stopping(&self) -> Option<SessionEnd> {
        self.stopping.get().copied()
    }

    /// Brings the trace of the channel's events up to date: to how many sessions each was handed.
    pub async fn settle(&self, no: ChannelNo) {
        self.shards.ask(Settle { no }).await;
    }

    /// Mints a ticket.
    ///
    /// # Errors
    /// Too many are open, or its filter is too large.
    pub async fn mint(&self, grant: Grant) -> Result<String, MintRefusal> {
        self.tickets.send_again(Mint(grant)).await.unwrap_or(Err(MintRefusal::Unavailable))
    }

    /// What a ticket is good for, without spending it.
    pub async fn look(&self, ticket: &str) -> Option<Grant> {
        // when the actor died the tickets are gone
        self.tickets.send(Look(TokenHash::of(ticket))).await.ok().flatten()
    }

    /// Spends a ticket. Some for exactly one caller.
    pub async fn spend(&self, ticket: &str) -> Option<Spent> {
        // when the actor died the tickets are gone
        self.tickets.send(Spend(TokenHash::of(ticket))).await.ok().flatten()
    }

    /// Gives a ticket back that was spent in vain.
    pub async fn restore(&self, spent: Spent) {
        // when the actor died the tickets are gone
        let _ = self.tickets.send(Restore(spent)).await;
    }
}

/// The channel in which a stream counts; one over several channels counts in none.
fn counted_in(selection: &Selection) -> Option<ChannelNo> {
    match selection {
        Selection::One(no) => Some(*no),
        Selection::Several(_) | Selection::All => None,
    }
}
