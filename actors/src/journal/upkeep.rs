//! Upkeep of the store, beside the journal: it makes pieces of the write-ahead log, seals segments, writes generations of
//! documents, drops what retention takes, and gives up pieces that nobody needs any more.
//!
//! All of it may fail and is tried again; nothing of it loses what was answered. [`Upkeep::step`] is one round; a thread
//! calls it, or a simulation.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;

use super::{AppendError, DocumentChanges, Journal, Pending, Urgency};
use crate::clock::Clock;
use crate::documents::{Documents, Frozen, Generations, Step};
use crate::log::{Expiry, Log, LogError, SealStep};
use crate::wal::Pieces;

/// What the worker has for upkeep.
pub enum Task {
    /// What was rolled is synced in the log and can be sealed.
    Seal,
    /// These documents are durable in the log and are to be written.
    Generation(Frozen),
    /// The last documents before the end.
    Stop(Frozen),
}

/// How long upkeep waits for a task before it looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After a failure the same work is tried again after this, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// How often retention looks, in milliseconds.
const RETENTION_EVERY_MS: u64 = 1_000;

/// What upkeep has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepCounts {
    /// Segments that were sealed.
    pub sealed: u64,
    /// Segments that retention dropped.
    pub dropped: u64,
    /// Generations of documents that were written.
    pub generations: u64,
    pub failures: u64,
}

pub struct Upkeep {
    counts: UpkeepCounts,
    tasks: mpsc::Receiver<Task>,
    pieces: Pieces,
    log: Arc<Log>,
    documents: Arc<Documents>,
    generations: Generations,
    journal: Journal,
    clock: Clock,
    /// Documents that are to be written.
    frozen: Option<Frozen>,
    /// What retention is about to drop, once that it goes is noted durably.
    dropping: Option<(Pending<()>, Expiry)>,
    /// When work that failed is tried again, by kind of work.
    again_ms: [u64; 4],
    retained_ms: u64,
    may_seal: bool,
    stopping: bool,
}

#[derive(Clone, Copy)]
enum Work {
    Pieces,
    Sealing,
    Generation,
    Retention,
}

impl Upkeep {
    pub fn new(
        tasks: mpsc::Receiver<Task>,
        pieces: Pieces,
        log: Arc<Log>,
        documents: Arc<Documents>,
        generations: Generations,
        journal: Journal,
        clock: Clock,
    ) -> Upkeep {
        Upkeep {
            counts: UpkeepCounts::default(),
            tasks,
            pieces,
            log,
            documents,
            generations,
            journal,
            clock,
            frozen: None,
            dropping: None,
            again_ms: [0; 4],
            retained_ms: 0,
            may_seal: false,
            stopping: false,
        }
    }

    /// Runs on a thread of its own until the worker says that it stops.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(mut self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("upkeep".into()).spawn(move || {
            while !self.stopping {
                let task = match self.tasks.recv_timeout(LOOK_EVERY) {
                    Ok(task) => Some(task),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                };
                let step = std::panic::AssertUnwindSafe(|| self.step(task));
                if std::panic::catch_unwind(step).is_err() {
                    ::log::error!("upkeep panicked over a step and goes on");
                }
            }
        })
    }

    /// Does what there is to do. Blocks.
    pub fn step(&mut self, task: Option<Task>) {
        let waiting: Vec<_> = task.into_iter().chain(self.tasks.try_iter()).collect();
        for task in waiting {
            match task {
                Task::Seal => self.may_seal = true,
                Task::Generation(frozen) => self.frozen = Some(frozen),
                Task::Stop(frozen) => {
                    self.frozen = self.generations.is_behind(&self.documents).then_some(frozen);
                    self.again_ms = [0; 4];
                    self.stopping = true;
                }
            }
        }
        if self.stopping {
            // whoever stops the server waits for this; the next start reads the rest from the log
            return self.write_generation();
        }
        self.prepare_pieces();
        self.seal();
        self.write_generation();
        self.ask_for_documents();
        self.retain();
        self.free_pieces();
    }

    /// What was done since the start.
    pub fn counts(&self) -> UpkeepCounts {
        self.counts
    }

    fn is_due(&self, work: Work) -> bool {
        self.clock.moment().elapsed_ms >= self.again_ms[work as usize]
    }

    fn failed(&mut self, work: Work, what: &str, e: &dyn std::error::Error) {
        self.counts.failures += 1;
        self.again_ms[work as usize] = self.clock.moment().elapsed_ms + AGAIN_MS;
        ::log::error!("{what}, which is tried again: {e}");
    }

    fn prepare_pieces(&mut self) {
        if !self.is_due(Work::Pieces) {
            return;
        }
        loop {
            match self.pieces.prepare() {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => return self.failed(Work::Pieces, "a piece of the write-ahead log cannot be made", &e),
            }
        }
    }

    fn seal(&mut self) {
        if !self.may_seal || !self.is_due(Work::Sealing) {
            return;
        }
        let step = self.log.seal_step();
        let is_full = step.as_ref().is_err_and(LogError::is_full);
        self.journal.shown.sealing_full.store(is_full, Ordering::Relaxed);
        match step {
            Ok(SealStep::Idle) => self.may_seal = false,
            Ok(SealStep::Sealed { segment, events, disk_bytes, .. }) => {
                self.may_seal = false;
                self.counts.sealed += 1;
                ::log::debug!(segment, events, disk_bytes; "a segment was sealed");
            }
            Err(e) => self.failed(Work::Sealing, "a segment cannot be sealed", &e),
        }
    }

    fn write_generation(&mut self) {
        if !self.is_due(Work::Generation) {
            return;
        }
        let Some(frozen) = self.frozen.take() else { return };
        match self.generations.write_step(&frozen) {
            Ok(Step::Written { .. }) => self.counts.generations += 1,
            Ok(Step::Nothing | Step::Moved) => {}
            Err(e) => {
                self.failed(Work::Generation, "the documents cannot be written", &e);
                self.frozen = Some(frozen);
            }
        }
    }

    /// Asks the worker for the documents when they should be written.
    fn ask_for_documents(&self) {
        if self.frozen.is_some() {
            return;
        }
        let elapsed_ms = self.clock.moment().elapsed_ms;
        // what the log keeps that no event needs
        let counts = self.pieces.counts();
        let used_bytes = counts.bytes / (counts.files.max(1) as u64) * counts.used as u64;
        let log_bytes = used_bytes.saturating_sub(self.log.stats().unsealed_bytes);
        if self.generations.due(&self.documents, log_bytes, elapsed_ms) {
            self.journal.shown.generation_due.store(true, Ordering::Release);
        }
    }

    /// Drops segments: first it is noted durably what goes, then it goes.
    fn retain(&mut self) {
        if let Some((mut noted, expiry)) = self.dropping.take() {
            match (&mut noted).now_or_never() {
                None => self.dropping = Some((noted, expiry)),
                Some(Ok(())) => match self.log.drop_segments(&expiry) {
                    Ok(()) => {
                        self.counts.dropped += expiry.segments.len() as u64;
                        let (segments, events, bytes) = (expiry.segments.len(), expiry.events, expiry.bytes);
                        ::log::info!(segments, events, bytes; "retention dropped the oldest part of the log");
                    }
                    Err(e) => self.failed(Work::Retention, "retention cannot drop a segment", &e),
                },
                Some(Err(e)) => self.failed(Work::Retention, "what retention drops cannot be noted", &e),
            }
            return;
        }
        let now = self.clock.moment();
        if !self.is_due(Work::Retention) || now.elapsed_ms.saturating_sub(self.retained_ms) < RETENTION_EVERY_MS {
            return;
        }
        self.retained_ms = now.elapsed_ms;
        if let Err(e) = self.log.remove_leftovers() {
            return self.failed(Work::Retention, "retention cannot remove a segment", &e);
        }
        let Some(expiry) = self.log.retention_step(now) else { return };
        match self.note(&expiry) {
            Ok(pending) => self.dropping = Some((pending, expiry)),
            Err(e) => self.failed(Work::Retention, "what retention drops cannot be noted", &e),
        }
    }

    fn note(&self, expiry: &Expiry) -> Result<Pending<()>, AppendError> {
        let changes: Result<Vec<_>, _> = expiry.changes.iter().map(super::loss_document).collect();
        let changes = changes.map_err(|e| AppendError::Store(e.to_string()))?;
        // room is made by what this drops
        self.journal.change(DocumentChanges { changes, urgency: Urgency::Reserve, ..DocumentChanges::default() })
    }

    fn free_pieces(&self) {
        let documents_from = self.generations.needed_from();
        let needed_from = self.log.needed_from().map_or(documents_from, |from| from.min(documents_from));
        self.pieces.free_through(needed_from.saturating_sub(1), self.log.sealed_through());
    }
}
