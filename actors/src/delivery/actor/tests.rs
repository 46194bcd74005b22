//! Webhook actors on a real log and a real journal that can be held up, and a receiver that answers when it is told to.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

use super::*;
use crate::catalog::system::SystemEvents;
use crate::catalog::webhook::{ApiFamily, Webhook};
use crate::catalog::{Catalog, record};
use crate::clock::until;
use crate::compute::tests::held;
use crate::compute::{Compute, Nice, Tenant};
use crate::delivery::delivery_log::tests::delivery;
use crate::delivery::delivery_log::{self, DeliveryLog, WRITTEN_TOGETHER};
use crate::delivery::handles::{LateWrites, Settings};
use crate::delivery::handshake::Handshakes;
use crate::delivery::http::resolver::Resolver;
use crate::delivery::http::target::TargetCheck;
use crate::delivery::http::tls::Trust;
use crate::delivery::ownership::{Ownership, slot_of};
use crate::delivery::registry::{AskError, WebhookActors};
use crate::disk::failure::Fault;
use crate::disk::{Disk, Faults};
use crate::documents::notes::{Notes, NotesOptions};
use crate::documents::{Change, Table};
use crate::feed::{Announcer, Feed};
use crate::journal::test_store::OpenStore;
use crate::journal::{AppendError, DocumentChanges, JournalLimits, Urgency};
use crate::metrics::Metrics;
use crate::model::access::TokenHash;
use crate::model::channel::{Channel, ChannelKind, SYSTEM_ORGANIZATION};
use crate::model::delivery::RetryPolicy;
use crate::model::event::{ChannelNo, Draft, EventType};
use crate::model::json::Canonical;
use crate::model::seal::SealKey;
use crate::model::target::Policy;
use crate::wal::Durability;

/// How long what is under way may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes requests and answers each with the status that is set; holds them while there is none.
#[derive(Default)]
struct Receiver {
    state: Mutex<(Option<u16>, Vec<String>)>,
    changed: Condvar,
}

impl Receiver {
    fn start() -> (Arc<Receiver>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let receiver = Arc::<Receiver>::default();
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        (receiver, url)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        loop {
            let (mut length, mut line) = (0, String::new());
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            let mut state = self.state.lock();
            state.1.push(String::from_utf8(body).expect("text"));
            while state.0.is_none() {
                self.changed.wait(&mut state);
            }
            let status = state.0.unwrap_or(0);
            drop(state);
            if write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }

    fn answer(&self, status: Option<u16>) {
        self.state.lock().0 = status;
        self.changed.notify_all();
    }

    fn got(&self) -> Vec<String> {
        self.state.lock().1.clone()
    }
}

/// Holds the journal up after a commit, before it answers.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.is_closed.lock() = true;
    }

    fn open(&self) {
        *self.is_closed.lock() = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut is_closed = self.is_closed.lock();
        while *is_closed {
            self.changed.wait(&mut is_closed);
        }
    }
}

struct World {
    actors: Arc<WebhookActors>,
    webhook: Arc<Webhook>,
    channel: Arc<Channel>,
    receiver: Arc<Receiver>,
    gate: Arc<Gate>,
    /// Commits so far that changed the webhook's state.
    saved: Arc<Mutex<usize>>,
    faults: Faults,
    notes_disk: Disk,
    _folder: TempDir,
}

fn channel(no: u32, kind: ChannelKind, id: &str) -> Channel {
    let id: Arc<str> = id.into();
    Channel {
        no,
        kind,
        slug: id.clone(),
        name: id.to_string(),
        id,
        inserted_ms: 0,
        updated_ms: 0,
        event_names: None,
        webhooks_enabled: true,
    }
}

fn notes_in(folder: &TempDir, disk: &Disk) -> Arc<Notes> {
    let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
    Arc::new(Notes::open(disk, folder.path(), options).expect("notes"))
}

impl World {
    /// A webhook with a receiver that does not answer yet, and threads for its actor.
    async fn start(threads: usize, change: impl FnOnce(&mut Webhook)) -> World {
        World::start_as(threads, Arc::default(), change).await
    }

    async fn start_as(threads: usize, ownership: Arc<Ownership>, change: impl FnOnce(&mut Webhook)) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let feed = Arc::<Feed>::default();
        let limits = JournalLimits {
            // one change waits, and the next one is refused
            queue_events: 1,
            queue_bytes: 1 << 24,
            batch_events: 1_000,
            batch_bytes: 1 << 20,
            answer_timeout: PATIENCE,
            min_free_bytes: 0,
        };
        let store = OpenStore::open(folder.path(), Durability::Flush, limits);
        let journal = store.journal.clone();
        let admin = TokenHash::of("admin");
        let catalog = Arc::new(Catalog::open(journal.clone(), store.documents.clone(), admin).expect("a catalog"));
        let (gate, saved) = (Arc::<Gate>::default(), Arc::<Mutex<usize>>::default());
        let (passing, counting) = (gate.clone(), saved.clone());
        let in_catalog = catalog.clone();
        let applied = move |changes: &[Change]| {
            in_catalog.apply(changes);
            *counting.lock() += changes.iter().filter(|change| change.table() == Table::Endpoints).count();
            passing.pass();
        };
        let store = store.run(Announcer::new(feed.clone(), Arc::default()), Box::new(applied));
        let (log, documents) = (store.log.clone(), store.documents.clone());

        let system = channel(2, ChannelKind::Organization, SYSTEM_ORGANIZATION);
        let channel = channel(1, ChannelKind::Map, "0b7a2b0c-3d8e-4b1f-9a63-5f1c2d3e4f50");
        let put = |channel: &Channel| record::put_channel(channel).expect("a document");
        catalog.apply(&[put(&system), put(&channel)]);
        let channel = catalog.channel(channel.no()).expect("it was put there");
        let (receiver, url) = Receiver::start();
        let schedule = RetryPolicy::map_default();
        let id = "6f1d8a52-94c3-4f0e-8d27-b35a1c9e7042".into();
        let mut webhook = Webhook::new(id, &channel, ApiFamily::Maps, &schedule, clock::now_ms());
        webhook.url = url;
        change(&mut webhook);
        let webhook = Arc::new(webhook);
        let endpoint = EndpointState::new(log.head(), now_ms());
        let made = [record::put_webhook(&webhook), Change::put(Table::Endpoints, &webhook.id, &endpoint)];
        let changes = made.into_iter().map(|change| change.expect("a document")).collect();
        journal.persist(DocumentChanges { changes, ..DocumentChanges::default() }).await.expect("a webhook");
        let settings = Settings {
            policy: Policy { dev: true, ..Policy::default() },
            tls_ca_file: None,
            attempt_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            disable_after: Duration::from_secs(86_400),
            max_in_flight: 64,
            handshake_origin: None,
            manual_attempts: 1_000,
            replays: 4,
            log_deliveries: 100,
            log_max_age: Duration::from_secs(86_400),
            unsaved: Duration::from_millis(250),
            threads,
        };
        let (faults, notes_disk) = (Faults::default(), Disk::real());
        let handles = Handles {
            log,
            documents,
            system: SystemEvents::new(journal.clone(), catalog.clone()),
            journal,
            feed,
            catalog,
            delivery_log: DeliveryLog::new(notes_in(&folder, &notes_disk), &settings),
            metrics: Arc::new(Metrics::default()),
            target_check: Arc::new(TargetCheck::new(settings.policy.clone(), Resolver::system())),
            settings,
            handshakes: Handshakes::default(),
            tls: Trust::nobody().client_config().expect("TLS"),
            seal_key: Arc::new(SealKey::from_text(&SealKey::text_of([1; 32])).expect("a key")),
            page_bytes: 1 << 18,
            compute: Compute::start("compute", 1, Nice(0)).expect("a thread"),
            readers: Compute::start("reader", 1, Nice(0)).expect("a thread"),
            answer_timeout: PATIENCE,
            late_writes: LateWrites::default(),
            ownership,
            faults: faults.clone(),
        };
        let threads = (0..threads).map(|_| actix_rt::Arbiter::new().handle()).collect();
        let actors = WebhookActors::new(Arc::new(handles), threads);
        World { actors, webhook, channel, receiver, gate, saved, faults, notes_disk, _folder: folder }
    }

    fn handles(&self) -> &Handles {
        &self.actors.handles
    }

    async fn publish(&self, ns: std::ops::Range<usize>) {
        let draft = |n: usize| Draft {
            kind: EventType::new("map_kill").expect("a type"),
            ts_ms: None,
            session: None,
            payload: Canonical::parse(&format!("{{\"n\":{n}}}")).expect("JSON"),
            dedupe_id: None,
            validated: None,
        };
        let drafts = ns.map(draft).collect();
        self.handles().journal.append(self.channel.clone(), drafts, None, "tok_1".into()).await.expect("published");
    }

    fn has_got(&self, n: usize) -> bool {
        self.receiver.got().iter().any(|body| body.contains(&format!("\"n\":{n}}}")))
    }

    /// The cursor and the number of rows that are stored.
    fn stored(&self) -> (Option<EventId>, usize) {
        let kept = storage::load(&self.handles().documents, &self.webhook.id).expect("documents");
        kept.map_or((None, 0), |kept| (Some(kept.state.cursor), kept.rows.len()))
    }
}

#[actix::test]
async fn while_nothing_can_be_written_deliveries_go_on_and_what_changed_is_written_at_once_when_it_can_be() {
    let policy = RetryPolicy::schedule(&[1]).expect("a policy");
    let world = World::start(1, |webhook| webhook.retry_policy = policy).await;
    world.actors.start_soon(world.webhook.id.clone());
    world.publish(0..40).await;
    until("all are in flight", async || world.receiver.got().len() == 40).await;
    let (before, commits) = (world.stored(), *world.saved.lock());

    // a commit that does not end, and one that fills the queue behind it
    world.gate.close();
    let journal = &world.handles().journal;
    let filler = || DocumentChanges {
        changes: vec![Change::put(Table::Numbers, "filler", &1).expect("a document")],
        ..DocumentChanges::default()
    };
    let first = journal.change(filler()).expect("it is queued");
    until("the commit", async || journal.queued() == 0).await;
    let second = journal.change(filler()).expect("it is queued");
    world.receiver.answer(Some(500));
    until("the refusal", async || world.handles().late_writes.waiting() == 1).await;
    let actor = world.actors.find(&world.webhook.id).expect("it runs");
    let failed = async || actor.send(Observe { rows: true }).await.expect("it runs").expect("it has begun").rows.len();
    until("40 failures", async || failed().await >= 40).await;
    // nothing is retried that is not stored, and nothing is stored
    assert_eq!((world.receiver.got().len(), world.stored(), world.handles().late_writes.waiting()), (40, before, 1));

    world.receiver.answer(Some(200));
    world.gate.open();
    first.await.expect("the commit");
    second.await.expect("the commit");
    until("what changed meanwhile", async || world.stored().1 == 40 && world.handles().late_writes.waiting() == 0)
        .await;
    assert!(*world.saved.lock() - commits <= 2, "it was written together");
    until("the retries", async || world.receiver.got().len() == 80 && world.stored().1 == 0).await;
    assert!((0..40).all(|n| world.has_got(n)));
    assert!(world.stored().0 > before.0);
}

#[actix::test]
async fn what_was_not_written_when_an_actor_died_is_delivered_by_its_next_life() {
    let world = World::start(2, |_| {}).await;
    let actor = world.actors.get(&world.webhook.id).expect("it runs");
    world.publish(0..10).await;
    until("all are in flight", async || world.receiver.got().len() == 10).await;
    let before = world.stored();
    world.gate.close();
    let change = Change::put(Table::Numbers, "filler", &1).expect("a document");
    let filler = DocumentChanges { changes: vec![change], ..DocumentChanges::default() };
    let pending = world.handles().journal.change(filler).expect("it is queued");
    world.receiver.answer(Some(200));
    world.actors.stop_thread(0);
    until("its death", async || !actor.connected()).await;
    until("all of them again", async || world.receiver.got().len() == 20).await;
    assert_eq!(world.stored(), before);
    world.gate.open();
    pending.await.expect("the commit");
    until("the cursor", async || world.stored().0 > before.0).await;
}

#[actix::test]
async fn the_late_write_of_a_webhook_that_was_deleted_is_refused_and_ends_its_actor() {
    let world = World::start(1, |_| {}).await;
    world.actors.start_soon(world.webhook.id.clone());
    world.publish(0..3).await;
    until("all are in flight", async || world.receiver.got().len() == 3).await;
    let (actor, documents) = (world.actors.find(&world.webhook.id).expect("it runs"), &world.handles().documents);
    // the actor is not told
    let catalog = &world.handles().catalog;
    let deletion =
        catalog.change::<_, AppendError>(Urgency::Reserve, |view| Ok((view.delete_webhook(&world.webhook.id), ())));
    deletion.await.expect("it is deleted");
    world.receiver.answer(Some(500));
    until("its end", async || !actor.connected()).await;
    for table in [Table::Endpoints, Table::Rows] {
        assert!(documents.clear(table, world.webhook.id.as_bytes()).is_empty(), "{table:?}");
    }
    assert!(world.actors.get(&world.webhook.id).is_none());
    assert!(matches!(world.actors.ask(&world.webhook.id, resend()).await, Err(AskError::NotRunning)));
}

#[actix::test]
async fn a_node_whose_lease_is_over_makes_no_attempt_until_it_has_it_again() {
    let ownership = Arc::new(Ownership::of_slots());
    let world = World::start_as(1, ownership.clone(), |_| {}).await;
    world.receiver.answer(Some(200));
    ownership.set(slot_of(&world.webhook.id), Some(7));
    ownership.lease(Duration::ZERO);
    world.actors.start_soon(world.webhook.id.clone());
    world.publish(0..3).await;
    let actor = world.actors.get(&world.webhook.id).expect("it runs");
    let newest = world.handles().log.head();
    let seen = async || actor.send(Observe { rows: false }).await.expect("it runs").expect("it has begun");
    until("it would send them", async || seen().await.observed.begun == newest).await;
    let begun = std::time::Instant::now();
    until("a while", async || {
        assert!(world.receiver.got().is_empty(), "another node may send them at this moment");
        begun.elapsed() > Duration::from_millis(200)
    })
    .await;
    ownership.lease(Duration::from_secs(3_600));
    until("they are sent", async || (0..3).all(|n| world.has_got(n))).await;
}

fn resend() -> Ask {
    Ask::Resend { delivery: DeliveryId::MIN, events: Vec::new(), attempts: 0 }
}

#[actix::test]
async fn an_actor_that_does_not_start_is_started_again_whether_it_fails_or_panics() {
    let world = World::start(1, |_| {}).await;
    world.receiver.answer(Some(200));
    for (n, fault) in [Fault::errno(libc::ENOMEM).times(2), Fault::panic().times(2)].into_iter().enumerate() {
        world.faults.set(Point::StartActor, fault);
        let before = world.faults.passed(Point::StartActor);
        world.actors.discard(&world.webhook.id).await;
        world.actors.start_soon(world.webhook.id.clone());
        world.publish(n..n + 1).await;
        until("the delivery", async || world.has_got(n)).await;
        assert_eq!(world.faults.passed(Point::StartActor) - before, 3);
        let actor = world.actors.get(&world.webhook.id).expect("it runs");
        assert!(actor.send(FlushHistory).await.is_ok());
    }
}

#[actix::test]
async fn a_thread_that_is_gone_leaves_no_dead_address_and_its_webhooks_go_on_elsewhere() {
    let world = World::start(2, |_| {}).await;
    world.receiver.answer(Some(200));
    world.publish(0..1).await;
    let first = world.actors.get(&world.webhook.id).expect("it runs");
    until("the delivery", async || world.has_got(0)).await;
    world.actors.stop_thread(0);
    until("its end", async || !first.connected()).await;
    world.publish(1..2).await;
    until("the next delivery", async || world.has_got(1)).await;
    assert!(world.actors.get(&world.webhook.id).is_some_and(|actor| actor.connected()));
}

#[actix::test]
async fn a_webhook_reads_the_log_in_its_channels_turn_however_many_pages_another_one_waits_for() {
    const GREEDY: usize = 50;
    let world = World::start(1, |_| {}).await;
    world.receiver.answer(Some(200));
    let readers = world.handles().readers.clone();
    let (release, holding) = held(&readers).await;
    let ask = |no| {
        let readers = readers.clone();
        let waiting = readers.clone();
        actix_rt::spawn(async move { readers.read(Tenant::of_channel(no), move || waiting.waiting()).await })
    };
    let greedy: Vec<_> = (0..GREEDY).map(|_| ask(ChannelNo(9))).collect();
    until("all of them wait", async || readers.waiting() == GREEDY).await;
    world.actors.start_soon(world.webhook.id.clone());
    world.publish(0..1).await;
    until("the webhook waits for the log", async || readers.waiting() == GREEDY + 1).await;
    let next = ask(world.channel.no());
    until("its channel's next turn waits", async || readers.waiting() == GREEDY + 2).await;
    drop(release);
    let waiting = next.await.expect("it ends").expect("it is read");
    assert!(waiting >= GREEDY - 3, "it was read before {waiting} of {GREEDY} pages");
    until("the delivery", async || world.has_got(0)).await;
    for page in greedy {
        page.await.expect("it ends").expect("it is read");
    }
    holding.await.expect("it ends");
}

#[actix::test]
async fn the_logs_of_webhooks_that_come_while_one_is_written_are_written_and_synced_together() {
    let world = World::start(1, |_| {}).await;
    let handles = &world.actors.handles;
    let log = &handles.delivery_log;
    let ids: Vec<String> = (0..WRITTEN_TOGETHER + 1).map(|n| format!("{n:04}")).collect();
    let turn = log.turn.lock().await;
    let write = |id: &String| {
        let writer = Arc::new(tokio::sync::Mutex::new(LogWriter::new(id.as_str().into())));
        let (handles, writer) = (handles.clone(), writer.try_lock_owned().expect("nobody else has it"));
        actix_rt::spawn(async move { delivery_log::write(&handles, writer, vec![delivery(1, 1)], 10).await })
    };
    let writes: Vec<_> = ids.iter().map(write).collect();
    until("all of them wait", async || log.waiting() == ids.len()).await;
    let before = world.notes_disk.faults().passed(Point::DatabaseSync);
    drop(turn);
    for write in writes {
        write.await.expect("it ends");
    }
    assert_eq!(world.notes_disk.faults().passed(Point::DatabaseSync) - before, 2);
    assert!(ids.iter().all(|id| log.read(id, 10).len() == 1));
}
