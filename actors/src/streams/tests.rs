//! Streams on a real log and journal, read as a client reads them, while actors die and memory is short.

mod sets;
mod turns;

use std::pin::Pin;
use std::time::{Duration, Instant};

use actix_web::Error;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::connections::ClientInfo;
use super::limits::{RingLimits, SlotLimits};
use super::session::{Opening, StreamTarget};
use super::shard::ShardCore;
use super::tickets::TicketLimits;
use super::*;
use crate::budget::Part;
use crate::catalog::Catalog;
use crate::clock::{self, until};
use crate::compute::{Compute, Nice};
use crate::disk::Point;
use crate::disk::failure::Fault;
use crate::documents::{Change, Table};
use crate::feed::Announcer;
use crate::feed::frame::{Carrier, Encoding};
use crate::journal::test_store::{OpenStore, TestStore};
use crate::journal::{AppendError, Journal, JournalLimits};
use crate::model::access::{Reach, Scope, TokenRecord};
use crate::model::channel::{Channel, ChannelKind};
use crate::model::envelope::Envelope;
use crate::model::event::{Draft, EventType};
use crate::model::filter::Filter;
use crate::model::id::EventId;
use crate::model::json::Canonical;
use crate::model::selection::{ChannelSet, Selector};
use crate::wal::Durability;

const SECOND: Duration = Duration::from_secs(1);
/// Everything that a test waits for happens long before.
const DEADLINE: Duration = Duration::from_secs(20);
const MEMORY_BYTES: usize = 8 << 20;

struct World {
    streams: Arc<Streams>,
    journal: Journal,
    catalog: Arc<Catalog>,
    faults: Faults,
    budget: Arc<Budget>,
    arbiter: actix_rt::Arbiter,
    store: Option<TestStore>,
    _folder: TempDir,
}

impl World {
    fn start() -> World {
        let folder = TempDir::new().unwrap();
        let (budget, faults) = (Arc::new(Budget::new(MEMORY_BYTES)), Faults::default());
        let (feed, trace) = (Arc::<Feed>::default(), Arc::new(DeliveryTrace::new(100)));
        let limits = JournalLimits {
            queue_events: 10_000,
            queue_bytes: 1 << 30,
            batch_events: 100,
            batch_bytes: 1 << 20,
            answer_timeout: DEADLINE,
            min_free_bytes: 0,
        };
        let store = OpenStore::open(folder.path(), Durability::Flush, limits);
        let journal = store.journal.clone();
        let admin = TokenHash::of("admin");
        let catalog = Arc::new(Catalog::open(journal.clone(), store.documents.clone(), admin).unwrap());
        let applied = catalog.clone();
        let announcer =
            Announcer::new(feed.clone(), trace.clone()).with_budget(budget.clone()).with_faults(faults.clone());
        let store = store.run(announcer, Box::new(move |changes| applied.apply(changes)));
        let handles = Handles {
            view: View::new(store.log.clone(), catalog.clone()),
            feed,
            trace,
            metrics: Arc::default(),
            budget: budget.clone(),
            compute: Compute::start("compute", 1, Nice(0)).unwrap(),
            readers: Compute::start("reader", 1, Nice(0)).unwrap(),
            faults: faults.clone(),
        };
        let arbiter = actix_rt::Arbiter::new();
        let streams = Streams::start(handles, stream_limits(), &arbiter.handle());
        World { streams, journal, catalog, faults, budget, arbiter, store: Some(store), _folder: folder }
    }

    fn channel(&self, no: u32) -> Arc<Channel> {
        let channel = Channel {
            no,
            kind: ChannelKind::Map,
            id: format!("map-{no}").into(),
            slug: format!("slug-{no}").into(),
            name: "map".into(),
            inserted_ms: 0,
            updated_ms: 0,
            event_names: None,
            webhooks_enabled: false,
        };
        self.catalog.apply(&[Change::put(Table::Channels, no.to_be_bytes(), &channel).unwrap()]);
        self.catalog.channel(ChannelNo(no)).unwrap()
    }

    /// A token of the first channel.
    fn token(&self, expires_ms: Option<i64>) -> Arc<Principal> {
        let token = TokenRecord {
            id: "tok_1".into(),
            hash: TokenHash::of("st_1"),
            channel: 1,
            channels: None,
            scopes: vec![Scope::Subscribe],
            name: None,
            expires_ms,
            inserted_ms: 0,
            created_by: None,
        };
        self.catalog.apply(&[Change::put(Table::Tokens, "tok_1", &token).unwrap()]);
        self.catalog.principal("st_1", 0).expect("it is let in")
    }

    fn revoke(&self) {
        self.catalog.apply(&[Change::delete(Table::Tokens, "tok_1")]);
    }

    fn delete(&self, channel: &Channel) {
        self.catalog.apply(&[Change::delete(Table::Channels, channel.no.to_be_bytes())]);
    }

    async fn publish(&self, channel: &Arc<Channel>, payload_bytes: usize) -> Result<EventId, AppendError> {
        let draft = Draft {
            kind: EventType::new("test").unwrap(),
            ts_ms: None,
            session: None,
            payload: Canonical::parse(&format!("{{\"x\":\"{}\"}}", "x".repeat(payload_bytes))).unwrap(),
            dedupe_id: None,
            validated: None,
        };
        let receipt = self.journal.append(channel.clone(), vec![draft], None, "admin".into()).await?;
        Ok(receipt.ids[0])
    }

    async fn open(&self, target: StreamTarget, principal: Arc<Principal>) -> Option<StreamBody> {
        let opening = self.opening(target, principal, None);
        Some(Box::pin(sse::stream(&self.streams, opening).await?))
    }

    fn opening(&self, target: StreamTarget, principal: Arc<Principal>, cursor: Option<EventId>) -> Opening {
        Opening {
            slot: self.streams.slot(&target.selection(), &principal).unwrap(),
            target,
            principal,
            filter: Filter::all(),
            unknown_events: Vec::new(),
            cursor,
            encoding: Encoding { envelope: Envelope::Map, carrier: Carrier::Sse },
            client: ClientInfo::default(),
            socket: None,
        }
    }

    async fn follow(&self, channel: &Arc<Channel>) -> Client {
        Client::read(self.open(StreamTarget::Channel(channel.clone()), admin()).await.expect("it opens")).await
    }

    async fn follow_all(&self) -> Client {
        Client::read(self.open(StreamTarget::All, admin()).await.expect("it opens")).await
    }

    async fn follow_some(&self, channels: &[Arc<Channel>]) -> Client {
        Client::read(self.open(several(channels), admin()).await.expect("it opens")).await
    }

    /// Lets a point panic once.
    fn panic_once(&self, point: Point) {
        self.faults.set(point, Fault::panic().times(1));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.journal.stop();
        if let Some(store) = self.store.take().filter(|_| !std::thread::panicking()) {
            store.join();
        }
        self.arbiter.stop();
    }
}

/// The body of a stream.
type StreamBody = Pin<Box<dyn Stream<Item = Result<Bytes, Error>>>>;

/// A client that reads all the time, in a task of its own as connections do, so that nothing wakes it but the stream.
struct Client {
    /// Frames of SSE. They end with the stream.
    frames: mpsc::UnboundedReceiver<String>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Client {
    /// Begins to read a stream.
    async fn read(mut body: StreamBody) -> Client {
        let (sender, frames) = mpsc::unbounded_channel();
        let task = actix_rt::spawn(async move {
            let mut text = String::new();
            while let Some(chunk) = body.next().await {
                text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
                while let Some(end) = text.find("\n\n") {
                    sender.send(text.drain(..end + 2).collect()).unwrap();
                }
            }
        });
        let mut client = Client { frames, task };
        assert!(client.next().await.unwrap().starts_with("event: connected"));
        client
    }

    /// The next frame; none when the stream has ended.
    async fn next(&mut self) -> Option<String> {
        actix_rt::time::timeout(DEADLINE, self.frames.recv()).await.expect("the stream goes on")
    }

    /// The ids of the next events.
    async fn ids(&mut self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let frame = self.next().await.expect("the stream goes on");
            if let Some(id) = frame.lines().find_map(|line| line.strip_prefix("id: ")) {
                ids.push(id.parse().unwrap());
            }
        }
        ids
    }

    /// Goes away.
    async fn leave(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn stream_limits() -> StreamLimits {
    StreamLimits {
        ring: RingLimits { events: 10_000, bytes: 4 << 20 },
        write_bytes: 1 << 16,
        page_events: 100,
        page_bytes: 1 << 18,
        keepalive: 600 * SECOND,
        heartbeat: 600 * SECOND,
        stall_timeout: 600 * SECOND,
        channel_idle: 600 * SECOND,
        retry: 3 * SECOND,
        slots: SlotLimits { total: 0, per_channel: 0, per_token: 0 },
        ticket_ttl: 30 * SECOND,
        tickets: TicketLimits { total: 10, per_token: 0 },
    }
}

fn several(channels: &[Arc<Channel>]) -> StreamTarget {
    let selectors: Vec<_> = channels.iter().cloned().map(Selector::Channel).collect();
    StreamTarget::Several(Arc::new(ChannelSet::of(&selectors)))
}

fn admin() -> Arc<Principal> {
    Arc::new(Principal { id: "admin".into(), reach: Reach::Admin, expires_ms: None })
}

#[actix::test]
async fn readers_go_on_after_the_registry_panicked_and_new_ones_are_let_in() {
    let world = World::start();
    let channels = [world.channel(1), world.channel(2), world.channel(3)];
    let mut first = world.follow(&channels[0]).await;
    let mut second = world.follow(&channels[1]).await;
    let mut all = world.follow_all().await;
    let before = world.publish(&channels[0], 10).await.unwrap();
    assert_eq!(first.ids(1).await, [before]);
    for round in 1..4 {
        world.panic_once(Point::RegistryMessage);
        let mut third = world.follow(&channels[2]).await;
        assert_eq!(world.streams.registry.restarts(), round);
        let mut published = Vec::new();
        for channel in &channels {
            published.push(world.publish(channel, 10).await.unwrap());
        }
        assert_eq!(first.ids(1).await, published[..1]);
        assert_eq!(second.ids(1).await, published[1..2]);
        assert_eq!(third.ids(1).await, published[2..]);
        // the third channel is left, so that the next round joins it anew
        third.leave().await;
        ShardCore::here(&world.streams).forget_idle(channels[2].no());
    }
    assert_eq!(all.ids(10).await.len(), 10);
    until("the channel actors of the registries before have ended", async || {
        world.streams.handles.feed.open_channels() <= 4
    })
    .await;
}

#[actix::test]
async fn tickets_are_minted_again_after_their_actor_panicked() {
    let world = World::start();
    let grant = Grant { principal: admin(), selection: Selection::All, filter: None, cursor: None };
    let lost = world.streams.mint(grant.clone()).await.unwrap();
    world.panic_once(Point::TicketMessage);
    let ticket = world.streams.mint(grant).await.expect("the second try is another actor's");
    assert_eq!(world.streams.tickets.restarts(), 1);
    assert!(world.streams.spend(&lost).await.is_none());
    assert!(world.streams.spend(&ticket).await.is_some() && world.streams.spend(&ticket).await.is_none());
}

#[actix::test]
async fn a_shard_that_dies_with_a_planned_round_leaves_no_reader_asleep() {
    let world = World::start();
    let channel = world.channel(1);
    let mut client = world.follow(&channel).await;
    let local = ShardCore::here(&world.streams).channel(&Selection::One(channel.no())).await.unwrap();
    for _ in 0..3 {
        // the shard plans a round and dies before its timer has fired
        assert!(local.arrived(&[], local.head()).is_some());
        world.panic_once(Point::ShardBatch);
        for _ in 0..3 {
            let published = world.publish(&channel, 10).await.unwrap();
            assert_eq!(client.ids(1).await, [published]);
        }
    }
}

#[actix::test]
async fn a_channel_actor_that_panicked_over_a_batch_costs_its_readers_nothing() {
    let world = World::start();
    let channel = world.channel(1);
    let (mut client, mut all) = (world.follow(&channel).await, world.follow_all().await);
    let mut published = Vec::new();
    for round in 0..3 {
        if round < 2 {
            // one of the two actors dies, and in the next round perhaps the other
            world.panic_once(Point::ChannelBatch);
        }
        published.push(world.publish(&channel, 10).await.unwrap());
        assert_eq!(client.ids(1).await, published[round..]);
        assert_eq!(all.ids(1).await, published[round..]);
    }
}

#[actix::test]
async fn a_panic_while_a_commit_is_announced_costs_readers_a_detour_and_no_event() {
    let world = World::start();
    let (channel, other) = (world.channel(1), world.channel(2));
    let mut client = world.follow(&channel).await;
    let first = world.publish(&channel, 10).await.unwrap();
    assert_eq!(client.ids(1).await, [first]);
    world.panic_once(Point::Announce);
    assert_eq!(world.publish(&channel, 10).await, Err(AppendError::Failed));
    // it is durable all the same, and is shown although nothing else is published
    let unanswered = client.ids(1).await;
    assert!(unanswered[0] > first);
    // a batch that was dropped half way, not noticed by anyone, shows in the next one of its channel
    world.faults.set(Point::Announce, Fault::errno(libc::EIO).times(1));
    let dropped = world.publish(&channel, 10).await.unwrap();
    world.publish(&other, 10).await.unwrap();
    let last = world.publish(&channel, 10).await.unwrap();
    assert_eq!(client.ids(2).await, [dropped, last]);
}

#[actix::test]
async fn streams_of_a_revoked_token_and_of_one_that_expires_end_well_within_a_second() {
    let world = World::start();
    let channel = world.channel(1);
    let mut waits = Vec::new();
    // each begins right after the shard has looked; a busy machine may hold one of them up, not all
    for expires_ms in [None, Some(40), None, Some(40)] {
        let principal = world.token(expires_ms.map(|in_ms| clock::now_ms() + in_ms));
        let opened = world.open(StreamTarget::Channel(channel.clone()), principal).await.unwrap();
        let mut client = Client::read(opened).await;
        if expires_ms.is_none() {
            world.revoke();
        }
        let since = Instant::now();
        assert_eq!(client.next().await, None, "the stream ends");
        waits.push(since.elapsed());
    }
    let (revoked, expired) = (waits[0].min(waits[2]), waits[1].min(waits[3]));
    assert!(revoked.max(expired) < Duration::from_millis(700), "{waits:?}");
}

#[actix::test]
async fn streams_go_by_the_end_that_their_token_has_now() {
    let world = World::start();
    let channel = world.channel(1);
    let endless = world.token(None);
    let mut client = Client::read(world.open(StreamTarget::Channel(channel.clone()), endless).await.unwrap()).await;
    let end_ms = clock::now_ms() + 300;
    let principal = world.token(Some(end_ms));
    let mut other = Client::read(world.open(StreamTarget::Channel(channel.clone()), principal).await.unwrap()).await;
    assert_eq!((client.next().await, other.next().await), (None, None), "both streams end");
    assert!(clock::now_ms() >= end_ms);

    let principal = world.token(Some(clock::now_ms() + 300));
    let opened = world.open(StreamTarget::Channel(channel.clone()), principal.clone()).await.unwrap();
    let mut client = Client::read(opened).await;
    world.token(None);
    // a stream that keeps its first end is over when one that was opened with it is
    let mut other =
        Client::read(world.open(StreamTarget::Channel(channel.clone()), jwt(&principal)).await.unwrap()).await;
    assert_eq!(other.next().await, None);
    let published = world.publish(&channel, 10).await.unwrap();
    assert_eq!(client.ids(1).await, [published]);
}

/// The same principal by a JWT, whose end nobody changes.
fn jwt(principal: &Principal) -> Arc<Principal> {
    Arc::new(Principal { id: "jwt:x".into(), ..principal.clone() })
}

#[actix::test]
async fn a_token_that_was_revoked_before_its_session_was_placed_gets_no_stream() {
    let world = World::start();
    let channel = world.channel(1);
    let principal = world.token(None);
    world.revoke();
    let mut client = Client::read(world.open(StreamTarget::Channel(channel), principal).await.unwrap()).await;
    assert_eq!(client.next().await, None, "the stream ends");
}

#[actix::test]
async fn a_channel_that_was_deleted_before_a_session_was_placed_gets_no_stream() {
    let world = World::start();
    let channel = world.channel(1);
    world.delete(&channel);
    world.streams.close_channel(channel.no());
    assert_eq!(world.follow(&channel).await.next().await, None, "the stream ends");
}

#[actix::test]
async fn streams_of_a_deleted_channel_end_even_if_their_shard_was_not_told() {
    let world = World::start();
    let channel = world.channel(1);
    let mut client = world.follow(&channel).await;
    world.delete(&channel);
    assert_eq!(client.next().await, None, "the stream ends");
}

#[actix::test]
async fn all_streams_end_when_the_server_stops_and_no_more_are_opened() {
    let world = World::start();
    let channel = world.channel(1);
    let mut client = world.follow(&channel).await;
    world.streams.close_all(SessionEnd::Shutdown).await;
    assert_eq!(client.next().await, None, "the stream ends");
    assert!(world.open(StreamTarget::Channel(channel), admin()).await.is_none());
}

#[actix::test]
async fn memory_of_channels_that_nobody_reads_is_given_back_under_pressure() {
    let world = World::start();
    let (read, unread) = (world.channel(1), world.channel(2));
    let (_client, gone) = (world.follow(&read).await, world.follow(&unread).await);
    for _ in 0..200 {
        world.publish(&read, 1_000).await.unwrap();
        world.publish(&unread, 1_000).await.unwrap();
    }
    gone.leave().await;
    let frames = || world.budget.used_bytes_by(Part::Frames);
    assert!(frames() > 400_000, "the channel's idle time is not over");
    let _others = world.budget.hold(Part::Bodies, MEMORY_BYTES);
    let floor = RingLimits::UNDER_PRESSURE.bytes;
    until("only the channel that is read keeps something", async || frames() <= floor + floor / 4).await;
    until("the local channel is left", async || ShardCore::here(&world.streams).channels_here() == 1).await;
}

#[actix::test]
async fn a_reader_gets_every_event_while_memory_is_short() {
    let world = World::start();
    let channel = world.channel(1);
    let mut eager = world.follow(&channel).await;
    let late = world.open(StreamTarget::Channel(channel.clone()), admin()).await.unwrap();
    let _others = world.budget.hold(Part::Bodies, MEMORY_BYTES);
    let mut published = Vec::new();
    for _ in 0..400 {
        published.push(world.publish(&channel, 2_000).await.unwrap());
        assert_eq!(eager.ids(1).await, published[published.len() - 1..]);
    }
    let mut late = Client::read(late).await;
    assert_eq!(late.ids(400).await, published);
    eager.leave().await;
    late.leave().await;
    let frames = || world.budget.used_bytes_by(Part::Frames);
    until("pages and frames are counted down again", async || frames() <= RingLimits::UNDER_PRESSURE.bytes).await;
}
