//! A whole store on a folder of its own, with its threads, for the tests of this room and of those above.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{
    Applied, Committer, CommitterRest, Journal, JournalLimits, Queue, Rest, Store, Upkeep, Worker, documents_payload,
    recover, spawn,
};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::documents::{Change, Documents, Generations, Table};
use crate::feed::Announcer;
use crate::log::{Log, LogOptions, Retention};
use crate::model::event::{Draft, EventType};
use crate::model::id::IdSource;
use crate::model::json::Canonical;
use crate::wal::{self, Durability, LogId, Options, Wal};

pub const LIMITS: JournalLimits = JournalLimits {
    queue_events: 100_000,
    queue_bytes: 1 << 30,
    batch_events: 64,
    batch_bytes: 1 << 20,
    answer_timeout: Duration::from_secs(60),
    min_free_bytes: 0,
};
/// An event that tells its number, with so many bytes beside it.
pub fn numbered(number: u64, bytes: usize) -> Draft {
    let payload = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(bytes));
    Draft {
        kind: EventType::new("test").expect("a type"),
        ts_ms: None,
        session: None,
        payload: Canonical::parse(&payload).expect("JSON"),
        dedupe_id: None,
        validated: None,
    }
}

/// Channels whose numbers count as given out.
const CHANNELS: u32 = 1_000;

/// A store that was opened and does not run yet.
pub struct OpenStore {
    pub log: Arc<Log>,
    pub documents: Arc<Documents>,
    pub journal: Journal,
    pub limits: JournalLimits,
    disk: Disk,
    dir: PathBuf,
    queue: Queue,
    wal: Wal,
    generations: Generations,
}

/// A store that runs.
pub struct TestStore {
    pub log: Arc<Log>,
    pub documents: Arc<Documents>,
    pub journal: Journal,
    threads: [JoinHandle<()>; 2],
}

impl OpenStore {
    /// Makes the store where there is none.
    pub fn open(dir: &Path, durability: Durability, limits: JournalLimits) -> OpenStore {
        let (disk, clock) = (Disk::real(), Clock::system());
        let wal_dir = dir.join("wal");
        let options =
            || Options { durability, piece_bytes: 1 << 20, ..Options::new(u64::from_le_bytes(clock.random())) };
        if !disk.exists(&wal_dir).expect("a folder") {
            let mut wal = Wal::create(&disk, &wal_dir, LogId([1; 16]), 1, options()).expect("a new log");
            let numbers = Change::put(Table::Numbers, "channels", &CHANNELS).expect("a document");
            let payload = documents_payload(&[numbers], clock.now_ms(), 0);
            wal.commit(&[&payload], wal::Urgency::Normal).expect("a commit");
            wal.close().expect("a clean end");
        }
        let log_options = LogOptions {
            segment_max_bytes: 1 << 30,
            segment_max_age_ms: 1 << 40,
            open_segments: 1,
            retention: Retention::default(),
            dedupe_window_ms: 60_000,
            dedupe_keys: 10_000,
        };
        let Store { wal, log, documents, generations } =
            recover(&disk, dir, log_options, options(), &clock).expect("a store");
        let (journal, queue) = Journal::new(&limits);
        let (log, documents) = (Arc::new(log), Arc::new(documents));
        OpenStore { log, documents, journal, limits, disk, dir: dir.into(), queue, wal, generations }
    }

    /// Starts its threads. `applied` is told of changes as in the server.
    pub fn run(self, announcer: Announcer, applied: Applied) -> TestStore {
        let OpenStore { log, documents, journal, limits, disk, dir, queue, wal, generations } = self;
        let clock = Clock::system();
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
                announcer,
                applied,
                metrics: Arc::default(),
                clock,
                disk,
                data_dir: dir,
                min_free_bytes: limits.min_free_bytes,
                upkeep: tasks,
                rest: CommitterRest::default(),
            },
            limits,
            rest: Rest::default(),
        };
        let threads = [spawn(worker).expect("a thread"), upkeep.spawn().expect("a thread")];
        TestStore { log, documents, journal, threads }
    }
}

impl TestStore {
    /// One that nobody listens to.
    pub fn start(dir: &Path, durability: Durability, limits: JournalLimits) -> TestStore {
        let nobody = Announcer::new(Arc::default(), Arc::default());
        OpenStore::open(dir, durability, limits).run(nobody, Box::new(|_| {}))
    }

    /// Waits until its threads have ended, after [`Journal::stop`].
    pub fn join(self) -> Arc<Log> {
        for thread in self.threads {
            thread.join().expect("it does not panic");
        }
        self.log
    }
}
