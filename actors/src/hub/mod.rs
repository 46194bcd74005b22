//! What the edge may call: every operation of the engine is a method of [`Hub`].

mod admin_token;
pub mod attention;
pub mod audit;
pub mod backup;
mod channels;
#[cfg(feature = "nats")]
pub mod cluster;
mod data_folder;
mod effects;
mod engine;
pub mod figures;
mod ground;
mod health;
mod history;
mod janitor;
mod lifecycle;
mod limits;
mod reseal;
mod rooms;
pub mod scan;
mod shared_tickets;
#[cfg(test)]
mod simulation;
pub mod sources;
mod stats;
mod token_uses;
mod tokens;
mod trace;
pub mod webhooks;

use std::sync::Arc;

use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::Stream;

pub use channels::{ChannelError, MapChange, NewMap, NewOrganization};
pub use data_folder::{COPY_CURE, FolderError};
pub use health::Health;
pub use history::{ExportError, HistoryPage, HistoryQuery, Order};
pub use lifecycle::{Config, HubError, Started};
pub use limits::{HubLimits, WebhookLimits};
pub use scan::{ScanError, ScanLimits};
pub use stats::{Bucket, Stats, StatsQuery};
pub use tokens::{NewToken, TokenChange, TokenError, TokenOf};
pub use trace::{Publisher, PublisherKind, Trace};

use self::rooms::Rooms;
use crate::budget::Budget;
use crate::catalog::reader::ReadError;
use crate::catalog::{ChangeError, View};
use crate::compute::Tenant;
use crate::documents::Change;
use crate::journal::{AppendError, Receipt, Urgency};
use crate::log::DedupeKey;
use crate::metrics::{Metrics, Shed};
use crate::model::access::{Principal, TokenHash};
use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::{ChannelNo, Draft, PublishedBy};
use crate::model::selection::{Selection, Selector};
use crate::streams::connections::{Connection, ConnectionId, Scope};
use crate::streams::session::Opening;
use crate::streams::slots::{Slot, StreamRefusal};
use crate::streams::tickets::{Grant, MintRefusal, Spent};
use crate::streams::websocket::UpgradeError;
use crate::streams::{sse, websocket};

/// The engine, as the edge holds it.
#[derive(Clone)]
pub struct Hub {
    rooms: Arc<Rooms>,
    updates: Arc<webhooks::Updates>,
    /// Held by the one backup that may be under way.
    backups: Arc<tokio::sync::Semaphore>,
    /// The thread on which the registry, the channels, the tickets and the janitor live.
    arbiter: Arc<actix_rt::ArbiterHandle>,
    /// The threads that deliver webhooks.
    delivering: Arc<[actix_rt::ArbiterHandle]>,
    store_threads: Arc<parking_lot::Mutex<Option<ground::StoreThreads>>>,
}

impl Hub {
    /// Whether this is a server alone, and no node of a cluster.
    pub fn is_alone(&self) -> bool {
        self.rooms.is_alone()
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.rooms.metrics
    }

    /// The memory that the edge takes bodies of requests from.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.rooms.budget
    }

    /// Updates the metrics of damage, which a reader may have found a moment ago; all others are updated every second.
    pub fn measure_damage(&self) {
        let ranges = self.rooms.log.damaged_ranges();
        self.rooms.metrics.log_damaged_ranges.set(ranges as i64);
    }

    // ---- who calls -----------------------------------------------------------------------------------------------

    /// Whose token this is, which is noted as its use.
    pub fn principal(&self, token: &str) -> Option<Arc<Principal>> {
        self.rooms.catalog.principal(token, self.rooms.clock.now_ms())
    }

    /// When a token was last used, in Unix milliseconds; none where that is not known.
    pub fn last_use_ms(&self, id: &str) -> Option<i64> {
        self.rooms.catalog.read(|tables| tables.last_use(id)?.at_s()).map(|at_s| at_s * 1_000)
    }

    /// Whether a principal that was authenticated before is still valid.
    pub fn holds(&self, principal: &Principal, now_ms: i64) -> bool {
        self.rooms.catalog.holds(principal, now_ms)
    }

    /// A channel by what clients call it.
    pub fn find(&self, kind: ChannelKind, id_or_slug: &str) -> Option<Arc<Channel>> {
        self.rooms.catalog.find(kind, id_or_slug)
    }

    /// A channel by `map:<id or slug>` or `organization:<id>`.
    pub fn find_named(&self, name: &str) -> Option<Arc<Channel>> {
        let (kind, called) = ChannelKind::parse_name(name)?;
        self.find(kind, called)
    }

    /// One or all of a kind by `map:<id or slug>`, `organization:<id>`, `map:*` or `organization:*`.
    pub fn find_selector(&self, name: &str) -> Option<Selector> {
        match ChannelKind::parse_name(name)? {
            (kind, "*") => Some(Selector::Kind(kind)),
            (kind, called) => self.find(kind, called).map(Selector::Channel),
        }
    }

    /// A channel by `map:<id>` or `organization:<id>`, and by no slug.
    pub fn find_by_id(&self, name: &str) -> Option<Arc<Channel>> {
        self.find_named(name).filter(|channel| channel.name_on_tokens().eq_ignore_ascii_case(name))
    }

    pub fn channel(&self, no: ChannelNo) -> Option<Arc<Channel>> {
        self.rooms.catalog.channel(no)
    }

    pub fn list(&self, kind: ChannelKind) -> Vec<Arc<Channel>> {
        self.rooms.catalog.channels(kind)
    }

    // ---- publishing ----------------------------------------------------------------------------------------------

    /// Appends the drafts as one atomic batch; returns when they are durable. `key` is the request's idempotency key:
    /// within the dedupe window a second request with it is answered like the first. `by`: who publishes, see
    /// [`crate::model::event::Origin`].
    ///
    /// # Errors
    /// [`AppendError::OutcomeUnknown`] when the journal did not answer in time: then the events may still appear, once.
    /// With every other error nothing was stored.
    pub async fn publish(
        &self,
        channel: Arc<Channel>,
        drafts: Vec<Draft>,
        key: Option<&str>,
        by: PublishedBy,
    ) -> Result<Receipt, AppendError> {
        self.rooms.journal.append(channel, drafts, key.map(DedupeKey::of_request), by).await
    }

    // ---- streams -------------------------------------------------------------------------------------------------

    /// A place among the open streams, to be taken before the first header is written.
    ///
    /// # Errors
    /// [`StreamRefusal`] says which limit of open streams is reached.
    pub fn slot(&self, selection: &Selection, principal: &Principal) -> Result<Slot, StreamRefusal> {
        self.rooms.streams.slot(selection, principal)
    }

    /// Whether there is such a place now; nothing is taken.
    ///
    /// # Errors
    /// Which limit would be passed.
    pub fn slot_is_free(&self, selection: &Selection, principal: &Principal) -> Result<(), StreamRefusal> {
        self.rooms.streams.slot_is_free(selection, principal)
    }

    /// Opens an SSE stream. None while the channel cannot be reached, which passes within a second.
    ///
    /// # Errors
    /// No item is an error: a session that fails tells the client so and ends. actix-web asks for the type.
    pub async fn stream(
        &self,
        opening: Opening,
    ) -> Option<impl Stream<Item = Result<Bytes, actix_web::Error>> + use<>> {
        sse::stream(&self.rooms.streams, opening).await
    }

    /// Answers a WebSocket handshake with a session.
    ///
    /// # Errors
    /// [`UpgradeError::NotAnUpgrade`] when the request is no WebSocket handshake, [`UpgradeError::Unavailable`] while
    /// the channel cannot be reached.
    pub async fn upgrade(
        &self,
        request: &HttpRequest,
        payload: Payload,
        opening: Opening,
    ) -> Result<HttpResponse, UpgradeError> {
        websocket::upgrade(&self.rooms.streams, request, payload, opening).await
    }

    /// The oldest open streams behind a cursor, at most so many, and whether there are more. `of`: those that lie wholly in
    /// this channel; none: all.
    ///
    /// # Errors
    /// What waits for them could not be counted.
    pub async fn connections(
        &self,
        of: Option<ChannelNo>,
        after: Option<ConnectionId>,
        count: usize,
    ) -> Result<(Vec<Connection>, bool), ReadError> {
        self.rooms.streams.connections(Scope(of), after, count).await
    }

    /// Ends a stream that lies wholly in this channel, or any. False when there is none.
    pub async fn end_connection(&self, id: ConnectionId, of: Option<ChannelNo>) -> bool {
        self.rooms.streams.end_connection(id, Scope(of)).await
    }

    // ---- tickets -------------------------------------------------------------------------------------------------

    /// Mints a ticket.
    ///
    /// # Errors
    /// Too many are open, or its filter is too large.
    pub async fn mint(&self, grant: Grant) -> Result<String, MintRefusal> {
        let rooms = &self.rooms;
        let minted = match rooms.is_alone() {
            true => rooms.streams.mint(grant).await,
            false => match rooms.streams.mint(grant.clone()).await {
                Ok(text) => shared_tickets::share(rooms, &text, &grant).await.map(|()| text),
                Err(refusal) => Err(refusal),
            },
        };
        minted.inspect_err(|_| rooms.metrics.shed(Shed::Ticket))
    }

    /// What a ticket is good for, without spending it.
    pub async fn look(&self, ticket: &str) -> Option<Grant> {
        match self.rooms.is_alone() {
            true => self.rooms.streams.look(ticket).await,
            false => shared_tickets::look(&self.rooms, TokenHash::of(ticket)).await,
        }
    }

    /// Spends a ticket. Some for exactly one caller.
    pub async fn spend(&self, ticket: &str) -> Option<Spent> {
        // among many nodes this one counts what it has minted and was not used
        let own = self.rooms.streams.spend(ticket).await;
        if self.rooms.is_alone() { own } else { shared_tickets::spend(&self.rooms, TokenHash::of(ticket)).await }
    }

    /// Makes a spent ticket valid again, because its stream did not open.
    pub async fn restore(&self, spent: Spent) {
        match self.rooms.is_alone() {
            true => self.rooms.streams.restore(spent).await,
            false => shared_tickets::restore(&self.rooms, spent).await,
        }
    }

    /// Changes what is configured, see [`Catalog::change`](crate::catalog::Catalog::change).
    async fn change<T, E: From<AppendError>>(
        &self,
        urgency: Urgency,
        decide: impl Fn(&View<'_>) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        self.rooms.catalog.change(urgency, decide).await.map_err(ChangeError::into_error)
    }

    /// Reads for somebody who asks about this channel, in its turn.
    async fn read<T: Send + 'static>(
        &self,
        no: ChannelNo,
        work: impl FnOnce(&Rooms) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let rooms = self.rooms.clone();
        let result = self.rooms.readers.read(Tenant::of_channel(no), move || work(&rooms)).await;
        result.unwrap_or_else(|e| Err(ReadError::Panicked(e.to_string())))
    }
}
