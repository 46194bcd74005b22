//! The delivery log on disk: notes, which may be lost and cost nothing else. A log that cannot be read is an empty one; what
//! cannot be written is left out.
//!
//! One write is under way at a time, and what comes meanwhile is written together: with a write, a sync and a thread for each
//! of a thousand busy webhooks the disk would do nothing else, and sled keeps for each thread what it has replaced.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use crate::catalog::WEBHOOK_ID_BYTES;
use crate::compute;
use crate::delivery::handles::{Handles, Settings};
use crate::delivery::history::{Delivery, UnwrittenBytes};
use crate::documents::notes::{NoteChange, NoteTable, Notes, NotesError, PageFrom};
use crate::model::delivery::DeliveryId;

/// Webhooks whose logs are written together; more of them take several writes.
pub const WRITTEN_TOGETHER: usize = 128;

/// The logs of all webhooks.
pub struct DeliveryLog {
    notes: Arc<Notes>,
    /// Deliveries of one webhook that are kept, and for how long.
    most: usize,
    max_age_ms: u64,
    /// What is noted and not written yet.
    pub held: Arc<UnwrittenBytes>,
    /// What is to be written: one of each webhook at most, the oldest first.
    waiting: parking_lot::Mutex<VecDeque<Share>>,
    /// Held by the one who writes.
    pub turn: Mutex<()>,
    is_failing: AtomicBool,
}

fn key(webhook: &str, delivery: DeliveryId) -> Vec<u8> {
    [webhook.as_bytes(), &delivery.to_bytes()].concat()
}

impl DeliveryLog {
    pub fn new(notes: Arc<Notes>, settings: &Settings) -> DeliveryLog {
        DeliveryLog {
            notes,
            most: settings.log_deliveries,
            max_age_ms: settings.log_max_age.as_millis() as u64,
            held: Arc::default(),
            waiting: parking_lot::Mutex::default(),
            turn: Mutex::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Webhooks that wait to be written.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// The whole log of a webhook, the oldest delivery first. Blocks.
    pub fn read(&self, webhook: &str, now_ms: u64) -> Vec<Delivery> {
        let all = self.notes.scan::<Delivery>(NoteTable::Deliveries, webhook.as_bytes());
        let mut all: Vec<_> = self.or_nothing(all).into_iter().map(|(_, delivery)| delivery).collect();
        all.retain(|delivery| !self.is_old(delivery.id, now_ms));
        all
    }

    /// What is kept of one delivery. Blocks.
    pub fn find(&self, webhook: &str, delivery: DeliveryId) -> Option<Delivery> {
        self.or_nothing(self.notes.get(NoteTable::Deliveries, key(webhook, delivery)))
    }

    /// Forgets the log of a webhook that was deleted. Blocks.
    pub fn clear(&self, webhook: &str) {
        let cleared = self.notes.clear(NoteTable::Deliveries, webhook.as_bytes());
        self.note(cleared.and_then(|changes| self.notes.write(&changes)));
    }

    /// Forgets the logs of webhooks that do not exist: of those that were deleted while nothing could be written, or shortly
    /// before a crash. Blocks.
    pub fn sweep(&self, exists: impl Fn(&str) -> bool) {
        let owners = self.or_nothing(self.notes.owners(NoteTable::Deliveries, WEBHOOK_ID_BYTES));
        owners.iter().filter(|webhook| !exists(webhook)).for_each(|webhook| self.clear(webhook));
    }

    /// Blocks.
    fn write(&self, mut shares: Vec<Share>, now_ms: u64) {
        let mut changes = Vec::new();
        let changed: Result<(), NotesError> = shares.iter_mut().try_for_each(|share| {
            changes.append(&mut share.writer.changes(self, std::mem::take(&mut share.fresh), now_ms)?);
            Ok(())
        });
        let written = changed.and_then(|()| self.notes.write(&changes));
        if written.is_err() {
            // what is on disk is looked at again
            shares.iter_mut().for_each(|share| share.writer.known = None);
        }
        self.note(written);
    }

    fn is_old(&self, delivery: DeliveryId, now_ms: u64) -> bool {
        delivery.time_ms().saturating_add(self.max_age_ms) < now_ms
    }

    fn or_nothing<T: Default>(&self, read: Result<T, NotesError>) -> T {
        match read {
            Ok(read) => read,
            Err(e) => {
                self.note(Err(e));
                T::default()
            }
        }
    }

    /// Says once that the log fails, and once that it does no longer.
    fn note(&self, done: Result<(), NotesError>) {
        match done {
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => log::info!("the delivery log is written again"),
            Ok(()) => {}
            Err(e) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                log::error!("the delivery log cannot be used, and what belongs into it is lost: {e}; {}", e.cure());
            }
            Err(_) => {}
        }
    }
}

/// What one webhook has to write.
struct Share {
    writer: OwnedMutexGuard<LogWriter>,
    fresh: Vec<Delivery>,
    /// Its end tells that this is over.
    _over: oneshot::Sender<()>,
}

/// Writes deliveries into the log of a webhook and forgets those that are too old or too many; returns when that is durable
/// or has failed. `now_ms`: when it was asked for.
pub async fn write(handles: &Arc<Handles>, writer: OwnedMutexGuard<LogWriter>, fresh: Vec<Delivery>, now_ms: u64) {
    let log = &handles.delivery_log;
    let (over, mut is_over) = oneshot::channel();
    log.waiting.lock().push_back(Share { writer, fresh, _over: over });
    loop {
        let _turn = log.turn.lock().await;
        if is_over.try_recv() == Err(oneshot::error::TryRecvError::Closed) {
            return;
        }
        let shares: Vec<Share> = {
            let mut waiting = log.waiting.lock();
            let together = waiting.len().min(WRITTEN_TOGETHER);
            waiting.drain(..together).collect()
        };
        if shares.is_empty() {
            // it is in a write whose asker has gone
            drop(is_over.await);
            return;
        }
        let handles = handles.clone();
        if let Err(e) = compute::blocking(move || handles.delivery_log.write(shares, now_ms)).await {
            log::error!("the delivery logs of some webhooks could not be written: {e}");
        }
    }
}

/// Writes the log of one webhook and keeps it within its bounds.
pub struct LogWriter {
    webhook: Arc<str>,
    /// What is on disk; none until the first write, which looks. So a webhook without deliveries reads nothing.
    known: Option<BTreeSet<DeliveryId>>,
    is_over: bool,
}

impl LogWriter {
    pub fn new(webhook: Arc<str>) -> LogWriter {
        LogWriter { webhook, known: None, is_over: false }
    }

    /// The webhook is deleted: nothing is written any more.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// The changes that write deliveries and forget those that are too old or too many. Blocks.
    fn changes(&mut self, log: &DeliveryLog, fresh: Vec<Delivery>, now_ms: u64) -> Result<Vec<NoteChange>, NotesError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let known = match &mut self.known {
            Some(known) => known,
            None => self.known.insert(ids(&log.notes, &self.webhook)?),
        };
        known.extend(fresh.iter().map(|delivery| delivery.id));
        let mut changes = Vec::with_capacity(fresh.len());
        while let Some(oldest) = known.first().copied() {
            if known.len() <= log.most && !log.is_old(oldest, now_ms) {
                break;
            }
            known.pop_first();
            changes.push(NoteChange::delete(NoteTable::Deliveries, key(&self.webhook, oldest)));
        }
        for newer in fresh.into_iter().filter(|delivery| known.contains(&delivery.id)) {
            let at = key(&self.webhook, newer.id);
            let is_begun = newer.attempts.first().is_some_and(|attempt| attempt.number == 1);
            let earlier = if is_begun { None } else { log.notes.get::<Delivery>(NoteTable::Deliveries, &at)? };
            let delivery = match earlier {
                Some(mut earlier) => {
                    earlier.absorb(newer);
                    earlier
                }
                None => newer,
            };
            match NoteChange::put(NoteTable::Deliveries, at, &delivery) {
                Ok(change) => changes.push(change),
                // it would be so again each time
                Err(e) => log::error!("a delivery is missing in the delivery log: {e}"),
            }
        }
        Ok(changes)
    }
}

/// The deliveries of a webhook that are on disk.
fn ids(notes: &Notes, webhook: &str) -> Result<BTreeSet<DeliveryId>, NotesError> {
    let keys = notes.keys(NoteTable::Deliveries, webhook.as_bytes(), PageFrom::Start, usize::MAX)?;
    let id = |key: Vec<u8>| key.get(webhook.len()..)?.try_into().ok().map(DeliveryId::from_bytes);
    Ok(keys.into_iter().filter_map(id).collect())
}

#[cfg(test)]
pub mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::delivery::history::{AttemptRecord, DeliveryStatus};
    use crate::delivery::outcome::Timings;
    use crate::disk::Disk;
    use crate::documents::notes::NotesOptions;
    use crate::model::delivery::Trigger;

    fn log(folder: &TempDir, most: usize, max_age_ms: u64) -> DeliveryLog {
        let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
        let notes = Notes::open(&Disk::real(), folder.path(), options).expect("notes");
        DeliveryLog {
            notes: Arc::new(notes),
            most,
            max_age_ms,
            held: Arc::default(),
            waiting: parking_lot::Mutex::default(),
            turn: Mutex::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Writes for one webhook alone.
    fn write(writer: &mut LogWriter, log: &DeliveryLog, fresh: Vec<Delivery>, now_ms: u64) {
        let changes = writer.changes(log, fresh, now_ms).expect("the notes are read");
        log.notes.write(&changes).expect("the notes are written");
    }

    fn id(n: u64) -> DeliveryId {
        DeliveryId::fresh(n, 1)
    }

    pub fn delivery(n: u64, attempt: u32) -> Delivery {
        let attempt = AttemptRecord {
            number: attempt,
            trigger: Trigger::First,
            started_ms: 1,
            duration_ms: 1,
            status_code: Some(200),
            error_code: None,
            detail: String::new(),
            timings: Timings::default(),
            reused: false,
            address: None,
            request_headers: Default::default(),
            request_body: None,
            response_headers: Default::default(),
            response_body: String::new(),
        };
        Delivery {
            id: id(n),
            events: Vec::new(),
            event_types: Vec::new(),
            status: DeliveryStatus::Delivered,
            attempt_count: attempt.number,
            updated_ms: 1,
            attempts: vec![attempt],
            next_attempt_ms: None,
        }
    }

    fn kept(log: &DeliveryLog, now_ms: u64) -> Vec<DeliveryId> {
        log.read("w", now_ms).iter().map(|delivery| delivery.id).collect()
    }

    #[test]
    fn the_log_keeps_the_newest_deliveries_and_no_older_ones_than_it_may() {
        let folder = TempDir::new().expect("a folder");
        let log = log(&folder, 3, 100_000);
        let mut writer = LogWriter::new("w".into());
        write(&mut writer, &log, vec![delivery(1, 1), delivery(2, 1)], 10);
        // another life of the actor knows what the one before has written
        let mut writer = LogWriter::new("w".into());
        write(&mut writer, &log, (3..=6).map(|n| delivery(n, 1)).collect(), 50_000);
        assert_eq!(kept(&log, 50_000), [id(4), id(5), id(6)]);
        // what is too old is not shown, and gone with the next write
        assert_eq!(kept(&log, 100_005), [id(5), id(6)]);
        write(&mut writer, &log, Vec::new(), 100_005);
        assert_eq!(log.find("w", id(4)), None);
        assert_eq!(ids(&log.notes, "w").expect("keys"), [id(5), id(6)].into());
    }

    #[test]
    fn attempts_that_come_later_are_added_to_those_on_disk() {
        let folder = TempDir::new().expect("a folder");
        let log = log(&folder, 3, 100_000);
        let mut writer = LogWriter::new("w".into());
        write(&mut writer, &log, vec![delivery(1, 1)], 10);
        write(&mut writer, &log, vec![delivery(1, 2)], 20);
        let found = log.find("w", id(1)).expect("it is kept");
        assert_eq!(found.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_log_of_a_deleted_webhook_goes_and_nothing_is_written_behind_that() {
        let folder = TempDir::new().expect("a folder");
        let log = log(&folder, 3, 100_000);
        let mut writers = ["w1", "w2"].map(|webhook| LogWriter::new(webhook.into()));
        writers.iter_mut().for_each(|writer| write(writer, &log, vec![delivery(1, 1)], 10));
        writers[0].end();
        log.clear("w1");
        write(&mut writers[0], &log, vec![delivery(2, 1)], 20);
        assert_eq!(log.read("w1", 20), []);
        assert_eq!(log.read("w2", 20).len(), 1);
    }

    #[test]
    fn the_log_of_a_webhook_that_was_deleted_while_nothing_could_be_written_goes_at_the_next_start() {
        let folder = TempDir::new().expect("a folder");
        let log = log(&folder, 3, 100_000);
        let webhooks: Vec<String> = (1..=3).map(|n| format!("6f1d8a52-94c3-4f0e-8d27-b35a1c9e704{n}")).collect();
        for webhook in &webhooks {
            write(&mut LogWriter::new(webhook.as_str().into()), &log, vec![delivery(1, 1), delivery(2, 1)], 10);
        }
        log.sweep(|webhook| webhook == webhooks[1]);
        let kept: Vec<_> = webhooks.iter().map(|webhook| log.read(webhook, 10).len()).collect();
        assert_eq!(kept, [0, 2, 0]);
    }
}
