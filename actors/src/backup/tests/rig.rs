//! A server without its edge: the journal with its worker and upkeep, the log, documents and notes, on any disk and on a
//! simulated clock.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::FutureExt;

use crate::backup::{BackupError, Origin, Snapshot, Summary, restore, take};
use crate::clock::{Clock, SimulatedClock};
use crate::disk::{Disk, Point};
use crate::documents::notes::{NoteTable, Notes, NotesOptions};
use crate::documents::{Change, Documents, Table};
use crate::feed::Announcer;
use crate::journal::{
    CHANNEL_NUMBERS, Committer, CommitterRest, DocumentChanges, Journal, JournalLimits, RecoveryError, Rest, Round,
    Store, Upkeep, Worker, recover,
};
use crate::log::{DedupeKey, Direction, Log, LogOptions, PageLimit, Retention};
use crate::model::channel::{Channel, ChannelKind};
use crate::model::event::{ChannelNo, Draft, Event, EventType};
use crate::model::id::{EventId, IdSource};
use crate::model::json::Canonical;
use crate::wal::{self, LogId, Wal};

pub const START_MS: u64 = 1_800_000_000_000;
pub const VERSION: &str = "1.2.3";

pub fn log_options() -> LogOptions {
    LogOptions {
        segment_max_bytes: 1 << 20,
        segment_max_age_ms: 3_600_000,
        open_segments: 2,
        retention: Retention::default(),
        dedupe_window_ms: 24 * 3_600_000,
        dedupe_keys: 100_000,
    }
}

pub fn wal_options() -> wal::Options {
    wal::Options { piece_bytes: 256 << 10, ..wal::Options::new(7) }
}

pub struct Server {
    pub disk: Disk,
    pub data_dir: PathBuf,
    pub options: LogOptions,
    pub clock: Arc<SimulatedClock>,
    pub journal: Journal,
    pub worker: Worker,
    pub upkeep: Upkeep,
    pub log: Arc<Log>,
    pub documents: Arc<Documents>,
    pub notes: Notes,
}

pub fn clock() -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::new(1, START_MS))
}

impl Server {
    /// On a folder that is made.
    pub fn new(disk: &Disk, data_dir: &Path) -> Server {
        Server::with(disk, data_dir, log_options())
    }

    pub fn with(disk: &Disk, data_dir: &Path, options: LogOptions) -> Server {
        disk.create_dir_all(data_dir).expect("a folder");
        disk.sync_dir(data_dir.parent().expect("a folder above")).expect("a sync");
        drop(Wal::create(disk, &data_dir.join("wal"), LogId([7; 16]), 1, wal_options()).expect("a log"));
        disk.replace(Point::SecretKeyWrite, &data_dir.join("secret-key"), b"a key").expect("a write");
        let mut server = Server::start(disk, data_dir, options, clock()).expect("a start");
        for no in 1..=3 {
            server.change(channel_document(no));
            server.change(vec![Change::put(Table::Numbers, CHANNEL_NUMBERS, &no).expect("a change")]);
        }
        server
    }

    /// On a folder that is there.
    pub fn start(
        disk: &Disk,
        data_dir: &Path,
        options: LogOptions,
        simulated: Arc<SimulatedClock>,
    ) -> Result<Server, RecoveryError> {
        let clock = Clock::simulated(simulated.clone());
        let store = recover(disk, data_dir, options.clone(), wal_options(), &clock)?;
        let Store { wal, log, documents, generations } = store;
        let (log, documents) = (Arc::new(log), Arc::new(documents));
        let limits = JournalLimits {
            queue_events: 10_000,
            queue_bytes: 1 << 26,
            batch_events: 64,
            batch_bytes: 1 << 20,
            answer_timeout: Duration::from_secs(15),
            min_free_bytes: 0,
        };
        let is_new_folder = !disk.exists(&data_dir.join("notes")).expect("a look");
        let options_of_notes = NotesOptions { is_new_folder, now_ms: START_MS, min_free_bytes: 0 };
        let notes = Notes::open(disk, data_dir, options_of_notes).expect("notes");
        let (journal, queue) = Journal::new(&limits);
        let (tasks, taken) = mpsc::channel();
        let (pieces, log_too, documents_too) = (wal.pieces().clone(), log.clone(), documents.clone());
        let upkeep = Upkeep::new(taken, pieces, log_too, documents_too, generations, journal.clone(), clock.clone());
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
                disk: disk.clone(),
                data_dir: data_dir.into(),
                min_free_bytes: limits.min_free_bytes,
                upkeep: tasks,
                rest: CommitterRest::default(),
            },
            limits,
            rest: Rest::default(),
        };
        let (disk, data_dir) = (disk.clone(), data_dir.to_path_buf());
        Ok(Server { disk, data_dir, options, clock: simulated, journal, worker, upkeep, log, documents, notes })
    }

    fn work(&mut self) {
        while self.worker.step() == Round::Worked {}
    }

    pub fn change(&mut self, changes: Vec<Change>) {
        let pending = self.journal.change(DocumentChanges { changes, ..DocumentChanges::default() });
        self.work();
        pending.expect("it is queued").now_or_never().expect("it is answered").expect("it is stored");
    }

    /// Publishes events with payloads of so many bytes each, as one batch.
    pub fn publish(&mut self, no: u32, bytes: usize, count: usize) -> Vec<EventId> {
        self.publish_with(no, bytes, count, None)
    }

    pub fn publish_with(&mut self, no: u32, bytes: usize, count: usize, key: Option<DedupeKey>) -> Vec<EventId> {
        let draft = |n: usize| Draft {
            kind: EventType::new("test").expect("a type"),
            ts_ms: None,
            session: None,
            payload: Canonical::parse(&format!("{{\"n\":{n},\"x\":\"{}\"}}", text(n, bytes))).expect("JSON"),
            dedupe_id: None,
            validated: None,
        };
        let pending = self.journal.submit(Arc::new(channel(no)), (0..count).map(draft).collect(), key, "test".into());
        self.clock.advance(1);
        self.work();
        pending.expect("it is queued").now_or_never().expect("it is answered").expect("it is stored").ids
    }

    /// Lets time pass, and whatever is due happen.
    pub fn tick(&mut self, ms: u64) {
        self.clock.advance(ms);
        for _ in 0..4 {
            self.work();
            self.upkeep.step(None);
            self.clock.advance(1_100);
        }
    }

    /// Begins a new active part, and seals the one before.
    pub fn seal(&mut self) {
        assert!(self.log.roll());
        self.worker.committer.wal.sync().expect("a sync");
        self.log.seal_step().expect("it can be sealed");
    }

    pub fn write_note(&self, own: &str, text: &str) {
        let note = crate::documents::notes::NoteChange::put(NoteTable::Deliveries, own, &text);
        self.notes.write(&[note.expect("a note")]).expect("a write");
    }

    /// Ends in order.
    pub fn stop(self) {
        let Server { journal, mut worker, mut upkeep, notes, .. } = self;
        journal.stop();
        while worker.step() != Round::Stopped {}
        worker.stop();
        upkeep.step(None);
        notes.close().expect("a close");
    }

    pub fn restart(self) -> Server {
        self.try_restart().unwrap_or_else(|e| panic!("it does not start: {e}; {}", e.cure()))
    }

    pub fn try_restart(self) -> Result<Server, RecoveryError> {
        let (disk, data_dir, options) = (self.disk.clone(), self.data_dir.clone(), self.options.clone());
        let clock = self.clock.clone();
        self.stop();
        Server::start(&disk, &data_dir, options, clock)
    }

    pub fn events(&self) -> Vec<Event> {
        events(&self.log)
    }
}

pub fn events(log: &Log) -> Vec<Event> {
    let all = PageLimit { events: usize::MAX, bytes: usize::MAX };
    log.read(ChannelNo::ALL, EventId::ZERO, all, Direction::Forward).expect("a page").events
}

pub fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

/// Text that does not pack well.
fn text(n: usize, bytes: usize) -> String {
    let mut state = n as u64 + 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 40) as u8 % 26)
    };
    (0..bytes).map(step).collect()
}

pub fn channel(no: u32) -> Channel {
    Channel {
        no,
        kind: ChannelKind::Map,
        id: format!("map-{no}").into(),
        slug: format!("slug-{no}").into(),
        name: "map".into(),
        inserted_ms: 0,
        updated_ms: 0,
        event_names: None,
        webhooks_enabled: false,
    }
}

pub fn channel_document(no: u32) -> Vec<Change> {
    vec![Change::put(Table::Channels, no.to_be_bytes(), &channel(no)).expect("a change")]
}

impl Server {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { documents: self.documents.freeze(), log: self.log.view() }
    }

    pub fn back_up_into(&self, out: impl Write) -> Summary {
        self.try_back_up(out).expect("a backup")
    }

    pub fn try_back_up(&self, out: impl Write) -> Result<Summary, BackupError> {
        let Server { disk, data_dir, log, notes, .. } = self;
        take(&Origin { disk, data_dir, log, notes }, &self.snapshot(), VERSION, START_MS as i64, out)
    }

    pub fn back_up(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        self.back_up_into(&mut archive);
        archive
    }
}

pub fn restore_to(disk: &Disk, archive: &[u8], data_dir: &Path) -> Result<Summary, BackupError> {
    restore(disk, archive, data_dir, &Clock::simulated(clock()))
}

/// A server on a folder that was restored a while later.
pub fn start_on(disk: &Disk, data_dir: &Path) -> Server {
    try_start_on(disk, data_dir).unwrap_or_else(|e| panic!("it does not start: {e}; {}", e.cure()))
}

pub fn try_start_on(disk: &Disk, data_dir: &Path) -> Result<Server, RecoveryError> {
    let clock = clock();
    clock.advance(3_600_000);
    Server::start(disk, data_dir, log_options(), clock)
}

/// All documents but what is known to be lost, which depends on the folder.
pub fn documents(server: &Server) -> Vec<(Vec<u8>, Vec<u8>)> {
    let frozen = server.documents.freeze();
    let kept = frozen.entries().filter(|(key, _)| key[0] != Table::Losses.letter());
    kept.map(|(key, text)| (key.to_vec(), text.to_vec())).collect()
}

/// All notes.
pub fn notes(server: &Server) -> Vec<(Vec<u8>, Vec<u8>)> {
    server.notes.copies(b"", usize::MAX).expect("notes").notes
}

/// A few segments, some of it not sealed, of three channels; documents, notes, dedupe keys and a key file.
pub fn busy(disk: &Disk, data_dir: &Path) -> Server {
    let mut server = Server::new(disk, data_dir);
    for segment in 0..3 {
        for n in 0..12 {
            server.publish(1 + n % 3, 600, 7);
        }
        let key = DedupeKey::of_request(&format!("key {segment}"));
        server.publish_with(2, 10, 2, Some(key));
        server.seal();
    }
    server.publish(1, 200_000, 1);
    server.publish_with(3, 10, 3, Some(DedupeKey::of_request("key 3")));
    let token = |n: u32| Change::put(Table::Tokens, n.to_be_bytes(), &format!("token {n}")).expect("a change");
    server.change((0..1000).map(token).collect());
    server.write_note("short", "x");
    server.write_note("long", &"y".repeat(100_000));
    server
}
