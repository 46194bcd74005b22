//! The store under simulation, and what has to be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::FutureExt;

use crate::clock::{Clock, SimulatedClock};
use crate::disk::{Disk, chance};
use crate::documents::{Change, Table};
use crate::feed::Announcer;
use crate::journal::test_store::numbered;
use crate::journal::{
    AppendError, Committer, CommitterRest, DocumentChanges, Journal, JournalLimits, Pending, Receipt, Rest, Round,
    Store, Upkeep, Urgency, Worker, recover,
};
use crate::log::{DedupeKey, Direction, Log, LogOptions, PageLimit, Retention};
use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::ChannelNo;
use crate::model::id::{EventId, IdSource};
use crate::wal::{self, LogId, Wal};

const DATA: &str = "/data";
const CHANNELS: u32 = 3;
/// Room for everything that a run writes, and for the databases of some generations.
const CAPACITY_BYTES: u64 = 256 << 20;

/// What was seen to happen, so that a run that reaches nothing is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCoverage {
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub crashes: u64,
    pub sealed: u64,
    pub dropped: u64,
    pub generations: u64,
}

impl JournalCoverage {
    pub fn add(&mut self, other: &JournalCoverage) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.crashes += other.crashes;
        self.sealed += other.sealed;
        self.dropped += other.dropped;
        self.generations += other.generations;
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    /// The machine stopped before it was answered, or the answer is that it is not known.
    Unknown,
    Stored,
    Refused,
}

/// An event that was published, by the number in its payload.
#[derive(Debug)]
struct Published {
    channel: u32,
    fate: Fate,
    id: Option<EventId>,
}

/// The revisions of a document, each with what became of it, in the order in which they were queued.
type Revisions = Vec<(u64, Fate)>;

struct Running {
    journal: Journal,
    worker: Worker,
    upkeep: Upkeep,
    log: Arc<Log>,
    documents: Arc<crate::documents::Documents>,
}

pub struct World {
    seed: u64,
    clock: Arc<SimulatedClock>,
    disk: Disk,
    running: Option<Running>,
    published: BTreeMap<u64, Published>,
    waiting: Vec<(Vec<u64>, Pending<Receipt>)>,
    changing: Vec<(u8, u64, Pending<()>)>,
    documents: BTreeMap<u8, Revisions>,
    next: u64,
    pub reached: JournalCoverage,
    pub trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let disk = Disk::simulated(seed);
        let clock = Arc::new(SimulatedClock::new(seed, 1_800_000_000_000));
        let mut world = World {
            seed,
            clock,
            disk,
            running: None,
            published: BTreeMap::new(),
            waiting: Vec::new(),
            changing: Vec::new(),
            documents: BTreeMap::new(),
            next: 1,
            reached: JournalCoverage::default(),
            trace: Vec::new(),
        };
        let data = Path::new(DATA);
        world.disk.create_dir_all(data).expect("a folder");
        world.disk.sync_dir(Path::new("/")).expect("a synced folder");
        let options = world.wal_options();
        drop(Wal::create(&world.disk, &data.join("wal"), LogId([7; 16]), 1, options).expect("a new log"));
        world.start();
        // the channels' numbers were given out before anything is published
        let numbers = Change::put(Table::Numbers, "channels", &CHANNELS).expect("a document");
        if let Some(running) = &mut world.running {
            let request = DocumentChanges { changes: vec![numbers], ..DocumentChanges::default() };
            let pending = running.journal.change(request).expect("the queue is empty");
            running.worker.step();
            pending.now_or_never().expect("it is answered").expect("it is stored");
        }
        world
    }

    fn chance(&self, one_in: u64) -> bool {
        self.draw(one_in) == 0
    }

    fn draw(&self, below: u64) -> u64 {
        u64::from_le_bytes(self.clock.random()) % below
    }

    fn say(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    fn wal_options(&self) -> wal::Options {
        wal::Options { piece_bytes: 256 << 10, ..wal::Options::new(self.draw(u64::MAX)) }
    }

    fn start(&mut self) {
        let options = LogOptions {
            segment_max_bytes: 64 << 10,
            segment_max_age_ms: 3_600_000,
            open_segments: 2,
            retention: Retention { max_events: 160, ..Retention::default() },
            dedupe_window_ms: 3_600_000,
            dedupe_keys: 10_000,
        };
        let clock = Clock::simulated(self.clock.clone());
        let store = recover(&self.disk, Path::new(DATA), options, self.wal_options(), &clock);
        let Store { wal, log, documents, generations } =
            store.unwrap_or_else(|e| panic!("it does not start: {e}; {}\n{}", e.cure(), self.trace.join("\n")));
        let (log, documents) = (Arc::new(log), Arc::new(documents));
        let limits = JournalLimits {
            queue_events: 10_000,
            queue_bytes: 1 << 24,
            batch_events: 64,
            batch_bytes: 1 << 18,
            answer_timeout: Duration::from_secs(15),
            min_free_bytes: 0,
        };
        let (journal, queue) = Journal::new(&limits);
        let (tasks, taken) = mpsc::channel();
        let upkeep = Upkeep::new(
            taken,
            wal.pieces().clone(),
            log.clone(),
            documents.clone(),
            generations,
            journal.clone(),
            clock.clone(),
        );
        let worker = Worker {
            queue,
            ids: IdSource::after(log.head()),
            committer: Committer {
                wal,
                log: log.clone(),
                documents: documents.clone(),
                announcer: Announcer::new(Arc::default(), Arc::default()),
                applied: Box::new(|_| {}),
                metrics: Arc::default(),
                clock,
                disk: self.disk.clone(),
                data_dir: DATA.into(),
                min_free_bytes: limits.min_free_bytes,
                upkeep: tasks,
                rest: CommitterRest::default(),
            },
            limits,
            rest: Rest::default(),
        };
        self.running = Some(Running { journal, worker, upkeep, log, documents });
        self.check("after a start");
    }

    /// One thing happens.
    pub fn step(&mut self) {
        match self.draw(100) {
            0..30 => self.publish(),
            30..42 => self.change(),
            42..75 => self.work(),
            75..88 => self.keep_up(),
            88..92 => self.clock.advance(self.draw(3_000)),
            92 => self.clock.advance(1_800_000),
            93..96 => self.fail(),
            96..98 => self.disk.faults().clear_all(),
            98 => self.crash(),
            _ => self.restart(),
        }
        self.answers();
    }

    /// Everything heals, and what waits is done.
    pub fn end(&mut self) {
        self.heal();
        for _ in 0..20 {
            self.work();
            self.keep_up();
            self.clock.advance(1_100);
        }
        self.answers();
        assert!(self.waiting.is_empty() && self.changing.is_empty(), "something is never answered");
        self.check("at the end");
        // publishing, changing and all else work again
        self.publish();
        self.change();
        self.work();
        self.answers();
        assert!(
            self.published.values().next_back().is_some_and(|last| last.fate == Fate::Stored),
            "seed {}",
            self.seed
        );
        self.stop();
        self.start();
        self.check("after a clean stop");
    }

    fn heal(&mut self) {
        chance::heal(&self.disk, CAPACITY_BYTES);
    }

    fn publish(&mut self) {
        let channel = 1 + self.draw(u64::from(CHANNELS)) as u32;
        let count = 1 + self.draw(4);
        let bytes = if self.chance(40) { 20_000 } else { self.draw(900) as usize };
        let mut numbers = Vec::new();
        let mut drafts = Vec::new();
        for _ in 0..count {
            let number = self.next;
            self.next += 1;
            numbers.push(number);
            drafts.push(numbered(number, bytes));
            self.published.insert(number, Published { channel, fate: Fate::Waiting, id: None });
        }
        let key = self.chance(3).then(|| DedupeKey::of_request(&numbers[0].to_string()));
        let Some(running) = &self.running else { return };
        match running.journal.submit(the_channel(channel), drafts, key, "test".into()) {
            Ok(pending) => self.waiting.push((numbers, pending)),
            Err(_) => {
                self.reached.refused += 1;
                for number in numbers {
                    self.published.get_mut(&number).expect("it was published").fate = Fate::Refused;
                }
            }
        }
    }

    fn change(&mut self) {
        let name = b'a' + self.draw(5) as u8;
        let revision = self.next;
        self.next += 1;
        let urgency = if self.chance(4) { Urgency::Reserve } else { Urgency::Normal };
        let change = Change::put(Table::Tokens, [name], &revision).expect("a document");
        let Some(running) = &self.running else { return };
        let request = DocumentChanges { changes: vec![change], urgency, ..DocumentChanges::default() };
        let queued = running.journal.change(request);
        let urgent = urgency == Urgency::Reserve;
        let revisions = self.documents.entry(name).or_default();
        match queued {
            Ok(pending) => {
                revisions.push((revision, Fate::Waiting));
                self.changing.push((name, revision, pending));
            }
            Err(_) => {
                self.reached.refused += 1;
                revisions.push((revision, if urgent { Fate::Unknown } else { Fate::Refused }));
            }
        }
    }

    fn work(&mut self) {
        let Some(running) = &mut self.running else { return };
        while running.worker.step() == Round::Worked {}
    }

    fn keep_up(&mut self) {
        let Some(running) = &mut self.running else { return };
        let before = running.upkeep.counts();
        running.upkeep.step(None);
        let after = running.upkeep.counts();
        self.reached.sealed += after.sealed - before.sealed;
        self.reached.dropped += after.dropped - before.dropped;
        self.reached.generations += after.generations - before.generations;
    }

    fn fail(&mut self) {
        let disk = self.disk.clone();
        let done = chance::fail_somewhere(&disk, |below| self.draw(below));
        self.say(done);
    }

    /// The power goes.
    fn crash(&mut self) {
        self.reached.crashes += 1;
        self.say("a power cut");
        self.forget();
        self.running = None;
        let seed = self.draw(u64::MAX);
        self.disk = self.disk.after_crash(seed).expect("a simulated disk");
        self.heal();
        self.clock.advance(1_000);
        if self.chance(2) {
            self.clock.reboot();
        }
        self.start();
    }

    /// The server is stopped in order, and started again.
    fn restart(&mut self) {
        self.heal();
        self.say("a restart");
        self.stop();
        self.start();
    }

    fn stop(&mut self) {
        let Some(Running { journal, mut worker, mut upkeep, .. }) = self.running.take() else { return };
        journal.stop();
        while worker.step() != Round::Stopped {}
        worker.stop();
        upkeep.step(None);
        self.reached.generations += upkeep.counts().generations;
        self.answers();
        self.forget();
    }

    /// What was not answered may be there or not.
    fn forget(&mut self) {
        self.answers();
        for (numbers, _) in std::mem::take(&mut self.waiting) {
            self.settle(&numbers, Fate::Unknown, None);
        }
        for (name, revision, _) in std::mem::take(&mut self.changing) {
            self.settle_change(name, revision, Fate::Unknown);
        }
    }

    /// Takes the answers that have come.
    fn answers(&mut self) {
        let mut rest = Vec::new();
        for (numbers, mut pending) in std::mem::take(&mut self.waiting) {
            match (&mut pending).now_or_never() {
                None => rest.push((numbers, pending)),
                Some(Ok(receipt)) => self.settle(&numbers, Fate::Stored, Some(&receipt.ids)),
                Some(Err(AppendError::OutcomeUnknown | AppendError::Stopping | AppendError::Failed)) => {
                    self.settle(&numbers, Fate::Unknown, None);
                }
                Some(Err(_)) => self.settle(&numbers, Fate::Refused, None),
            }
        }
        self.waiting = rest;
        let mut rest = Vec::new();
        for (name, revision, mut pending) in std::mem::take(&mut self.changing) {
            match (&mut pending).now_or_never() {
                None => rest.push((name, revision, pending)),
                Some(Ok(())) => self.settle_change(name, revision, Fate::Stored),
                Some(Err(_)) => self.settle_change(name, revision, Fate::Unknown),
            }
        }
        self.changing = rest;
    }

    fn settle(&mut self, numbers: &[u64], fate: Fate, ids: Option<&[EventId]>) {
        self.say(format!("{numbers:?} {fate:?}"));
        for (n, number) in numbers.iter().enumerate() {
            match fate {
                Fate::Stored => self.reached.acknowledged += 1,
                Fate::Refused => self.reached.refused += 1,
                Fate::Unknown => self.reached.unknown += 1,
                Fate::Waiting => {}
            }
            let published = self.published.get_mut(number).expect("it was published");
            published.fate = fate;
            published.id = ids.map(|ids| ids[n]);
        }
    }

    fn settle_change(&mut self, name: u8, revision: u64, fate: Fate) {
        let revisions = self.documents.get_mut(&name).expect("it was changed");
        let entry = revisions.iter_mut().find(|(known, _)| *known == revision).expect("it was queued");
        entry.1 = fate;
    }

    /// What is there is what was answered.
    fn check(&mut self, when: &str) {
        let seed = self.seed;
        let Some(running) = &self.running else { return };
        let mut seen: BTreeMap<u64, (ChannelNo, EventId)> = BTreeMap::new();
        let mut cursor = EventId::ZERO;
        loop {
            let limit = PageLimit { events: 100, bytes: 1 << 20 };
            let page =
                running.log.read(ChannelNo::ALL, cursor, limit, Direction::Forward).expect("the log can be read");
            for event in &page.events {
                let payload: serde_json::Value = serde_json::from_slice(event.payload.as_bytes()).expect("JSON");
                let number = payload["n"].as_u64().expect("a number");
                assert!(event.id > cursor, "out of order {when}, seed {seed}");
                cursor = event.id;
                let twice = seen.insert(number, (event.channel, event.id));
                assert!(twice.is_none(), "event {number} is there twice {when}, seed {seed}");
            }
            if !page.more {
                break;
            }
            cursor = page.last;
        }
        for no in 1..=CHANNELS {
            let expired = running.log.expired(ChannelNo(no));
            let of_channel: BTreeSet<EventId> =
                seen.values().filter(|(channel, _)| channel.0 == no).map(|(_, id)| *id).collect();
            let page = running.log.read(
                ChannelNo(no),
                EventId::ZERO,
                PageLimit { events: usize::MAX, bytes: usize::MAX },
                Direction::Forward,
            );
            let alone: BTreeSet<EventId> = page.expect("a page").events.iter().map(|event| event.id).collect();
            assert_eq!(alone, of_channel, "channel {no} {when}, seed {seed}");
            for (number, published) in self.published.iter().filter(|(_, published)| published.channel == no) {
                match (published.fate, seen.get(number)) {
                    (Fate::Stored, None) => {
                        let id = published.id.expect("it was answered");
                        assert!(id <= expired, "event {number} is lost {when}, seed {seed}");
                    }
                    (Fate::Stored, Some((_, id))) => assert_eq!(Some(*id), published.id, "{when}, seed {seed}"),
                    (Fate::Refused, Some(_)) => panic!("event {number} was refused and is there {when}, seed {seed}"),
                    (Fate::Refused | Fate::Unknown | Fate::Waiting, _) => {}
                }
            }
        }
        for (name, revisions) in &self.documents {
            let kept = running.documents.get::<u64>(Table::Tokens, [*name]).expect("a document");
            let last_stored = revisions.iter().rposition(|(_, fate)| *fate == Fate::Stored);
            let allowed = revisions.iter().skip(last_stored.unwrap_or(0));
            let fits = allowed.clone().any(|(revision, fate)| kept == Some(*revision) && *fate != Fate::Refused);
            assert!(
                fits || last_stored.is_none() && kept.is_none(),
                "document {} is {kept:?} {when}, seed {seed}: {revisions:?}",
                char::from(*name)
            );
        }
    }
}

fn the_channel(no: u32) -> Arc<Channel> {
    Arc::new(Channel {
        no,
        kind: ChannelKind::Map,
        id: format!("map-{no}").into(),
        slug: format!("map-{no}").into(),
        name: "map".into(),
        inserted_ms: 0,
        updated_ms: 0,
        event_names: None,
        webhooks_enabled: false,
    })
}
