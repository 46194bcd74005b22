//! What every worker does with a commit, whoever has decided what is in it: writes it into the write-ahead log and, once it
//! is there, shows it to the log, the documents and the catalog. Between commits it looks after what is owed.
//!
//! It owns the write-ahead log. What takes longer than a commit (sealing segments, writing generations of documents, making
//! pieces) is done by [`super::upkeep`], which it tells when there is something to do.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use super::commit::Payload;
use super::upkeep::Task;
use super::{Shown, Snapshot};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::documents::{self, Change, Documents};
use crate::feed::Announcer;
use crate::log::{Admission, CommitPart, Log};
use crate::metrics::Metrics;
use crate::wal::{self, CommitError, Committed, Wal};

/// Told of every commit's changes of documents, in order, when they are durable.
pub type Applied = Box<dyn FnMut(&[Change]) + Send>;

/// The store as a worker commits to it, and who is told.
pub struct Committer {
    pub wal: Wal,
    pub log: Arc<Log>,
    pub documents: Arc<Documents>,
    pub announcer: Announcer,
    pub applied: Applied,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub disk: Disk,
    pub data_dir: PathBuf,
    /// Free disk below which publishes and changes are refused.
    pub min_free_bytes: u64,
    pub upkeep: mpsc::Sender<Task>,
    pub rest: CommitterRest,
}

/// What a committer keeps between commits.
#[derive(Default)]
pub struct CommitterRest {
    payload: Payload,
    /// Changes that took effect in memory because they could not wait, and are not durable.
    pub(super) owed: Vec<Change>,
    /// The last commit found no room.
    pub(super) out_of_room: bool,
    /// The last commit failed for whatever reason.
    failing: bool,
    /// A segment was rolled, and what it holds is not known to be synced yet.
    to_seal: bool,
}

/// What one commit holds. Events and keys are as the log encodes them.
#[derive(Clone, Copy, Default)]
pub struct Content<'a> {
    pub events: Option<&'a [u8]>,
    pub changes: &'a [Change],
    pub keys: Option<&'a [u8]>,
}

impl Committer {
    /// Writes a commit that was made at `now_ms`; nobody sees it yet. Blocks.
    ///
    /// # Errors
    /// What is known of a commit that failed.
    pub fn write(
        &mut self,
        content: &Content<'_>,
        urgency: wal::Urgency,
        now_ms: i64,
    ) -> Result<Committed, CommitError> {
        let payload = &mut self.rest.payload;
        payload.begin(now_ms, self.documents.changed_at());
        if let Some(events) = content.events {
            payload.add_events(events);
        }
        if !content.changes.is_empty() {
            payload.add_documents(&documents::encode_changes(content.changes));
        }
        if let Some(keys) = content.keys {
            payload.add_keys(keys);
        }
        self.wal.commit(&[payload.bytes()], urgency)
    }

    /// Shows the commit that was just written: its events can be read, and its changes are in effect.
    pub fn show(&mut self, committed: &Committed, changes: &[Change], now_ms: i64) {
        let payload = &self.rest.payload;
        let admission = Admission {
            sequence: committed.sequence,
            time_ms: now_ms.max(0) as u64,
            piece: &committed.piece,
            events: payload.events().map(|(at, bytes)| part_at(committed.offset, at, bytes)),
            keys: payload.keys().map(|(at, bytes)| part_at(committed.offset, at, bytes)),
        };
        if let Err(e) = self.log.admit(&admission) {
            // what was encoded a moment ago can be read
            ::log::error!("a commit cannot be indexed, and is read at the next start: {e}");
        }
        self.documents.apply(changes, committed.sequence);
        if !changes.is_empty() {
            (self.applied)(changes);
        }
    }

    /// All documents and the log, as they are between two commits.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { documents: self.documents.freeze(), log: self.log.view() }
    }

    /// A commit succeeded: the disk works and has room.
    pub fn succeeded(&mut self, shown: &Shown) {
        (self.rest.failing, self.rest.out_of_room) = (false, false);
        shown.failing.store(false, Ordering::Relaxed);
    }

    /// A commit failed: says so, and that nothing can be written at the moment.
    pub fn failed(&mut self, e: &CommitError, shown: &Shown) {
        self.metrics.commit_failures.inc();
        ::log::error!("a commit failed: {e}");
        self.rest.failing = true;
        shown.failing.store(true, Ordering::Relaxed);
        if e.is_full() {
            self.rest.out_of_room = true;
            shown.full.store(true, Ordering::Relaxed);
        }
    }

    // ---- what is owed ----------------------------------------------------------------------------------------------

    /// Tells recipients that missed something, syncs what is due, and begins a new active segment when the time has come.
    pub fn look_after_time(&mut self) {
        self.announcer.tell_missed();
        if let Err(e) = self.wal.sync_if_due(self.clock.moment().elapsed_ms) {
            ::log::error!("what was answered is not synced yet: {e}");
        }
        self.roll_if_due();
    }

    /// Has the segment before the active one sealed.
    fn roll_if_due(&mut self) {
        if self.log.roll_if_due(self.clock.moment()) {
            self.rest.to_seal = true;
        }
        if !self.rest.to_seal {
            return;
        }
        // what is sealed must not be newer than what a power cut leaves of the log
        match self.wal.sync() {
            Ok(()) => {
                self.rest.to_seal = false;
                self.tell_upkeep(Task::Seal);
            }
            Err(e) => ::log::error!("a segment cannot be sealed yet: {e}"),
        }
    }

    /// Has the documents written as a generation when upkeep wants them.
    pub fn write_generation_if_due(&mut self, shown: &Shown) {
        if !shown.generation_due.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(e) = self.wal.sync() {
            return ::log::error!("the documents cannot be written as a generation yet: {e}");
        }
        self.tell_upkeep(Task::Generation(self.documents.freeze()));
    }

    fn tell_upkeep(&self, task: Task) {
        // without upkeep the server is stopping
        let _ = self.upkeep.send(task);
    }

    /// Refuses publishes and changes below the floor, and finds out whether a disk that failed works again.
    pub fn look_at_the_disk(&mut self, shown: &Shown) {
        let free_bytes = self.disk.free_bytes(&self.data_dir);
        let is_low = free_bytes.is_some_and(|free| free < self.min_free_bytes);
        if self.rest.failing && !is_low {
            // a commit that holds nothing; a balancer that obeys readiness would never send one
            match self.write(&Content::default(), wal::Urgency::Normal, self.clock.now_ms()) {
                Ok(committed) => {
                    self.documents.apply(&[], committed.sequence);
                    self.succeeded(shown);
                    ::log::info!("the journal takes commits again");
                }
                Err(e) => ::log::debug!("the journal still takes no commits: {e}"),
            }
        }
        let full = is_low || self.rest.out_of_room || shown.sealing_full.load(Ordering::Relaxed);
        if shown.full.swap(full, Ordering::Relaxed) != full {
            let free_bytes = free_bytes.unwrap_or(0);
            match full {
                true => ::log::warn!(free_bytes; "the disk has no room: publishes and changes are refused"),
                false => ::log::info!(free_bytes; "the disk has room again"),
            }
        }
    }

    /// Makes changes durable that are in effect already, and what was found to be lost.
    pub fn pay(&mut self) {
        let losses = self.log.take_unsaved();
        if self.rest.owed.is_empty() && losses.is_empty() {
            return;
        }
        let mut changes = self.rest.owed.clone();
        for loss in &losses {
            match super::loss_document(loss) {
                Ok(change) => changes.push(change),
                Err(e) => ::log::error!("a loss cannot be noted: {e}"),
            }
        }
        let now_ms = self.clock.now_ms();
        let content = Content { changes: &changes, ..Content::default() };
        match self.write(&content, wal::Urgency::Reserve, now_ms) {
            Ok(committed) => {
                self.show(&committed, &changes, now_ms);
                self.rest.owed.clear();
            }
            Err(e) => {
                self.log.give_back(losses);
                ::log::warn!("changes that are in effect are not durable yet, which is tried again: {e}");
            }
        }
    }

    /// After the last commit: everything becomes durable, and the log notes its end.
    pub fn close(mut self) {
        self.pay();
        match self.wal.sync() {
            Ok(()) => self.tell_upkeep(Task::Stop(self.documents.freeze())),
            // no generation may be ahead of the log; upkeep ends when nobody can tell it anything any more
            Err(e) => ::log::error!("the last sync failed: {e}"),
        }
        if let Err(e) = self.wal.close() {
            ::log::error!("the write-ahead log was not closed cleanly: {e}");
        }
    }
}

fn part_at(offset: u32, at: usize, bytes: &[u8]) -> CommitPart<'_> {
    // a commit is far smaller than what a u32 can count
    CommitPart { offset: offset + at as u32, bytes }
}
