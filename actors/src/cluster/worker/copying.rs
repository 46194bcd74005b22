//! Bringing the copy up to what the log says, and having the documents written as a snapshot when that is due.

use std::time::{Duration, Instant};

use super::Worker;
use crate::cluster::ClusterError;
use crate::cluster::applying::Whole;
use crate::cluster::entry::Part;
use crate::cluster::nats::NatsError;
use crate::cluster::position::is_configuration;
use crate::cluster::slots::SLOTS;
use crate::cluster::snapshot::{self, Done, Snapshot};
use crate::cluster::{OUTDATED, taking};
use crate::documents::Change;
use crate::journal::{Content, SEALING_POLL};
use crate::model::event::ChannelNo;
use crate::model::id::EventId;
use crate::model::relay::{TailMessage, sequence_of};
use crate::wal;

/// After a commit to the copy that failed it is tried again, and after each further one twice as late, up to a bound. It is
/// tried for as long as the disk fails: meanwhile the node is not ready, and serves nobody when that lasts.
const COMMIT_AGAIN: Duration = Duration::from_millis(200);
const COMMIT_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often a thread that waits for the disk looks whether the server is to end.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// How long a commit to the copy is tried when the server is to end. What is not in the copy is read again at the next start.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks for a snapshot that stands for messages that are gone.
const SNAPSHOT_READ_AGAIN: Duration = Duration::from_millis(500);
/// How often the writer looks whether a snapshot of the documents is due, in milliseconds.
const SNAPSHOT_LOOK_MS: u64 = 2_000;
/// After one that could not be written, in milliseconds: each attempt sends all documents.
const SNAPSHOT_AGAIN_MS: u64 = 60_000;
/// Changes in the log for which no snapshot is written.
const SNAPSHOT_BYTES_MIN: u64 = 16 << 20;

impl Worker {
    /// Brings the copy up to a message of the log.
    pub(super) fn apply(&mut self, message: TailMessage<Part>) {
        let sequence = message.sequence;
        let whole = match self.assembly.add(message) {
            Ok(whole) => whole,
            Err(_) => return self.failed = Some(ClusterError::Unreadable { sequence }),
        };
        self.position.sequence = sequence;
        if let Some(whole) = whole {
            self.apply_entry(sequence, whole);
        }
    }

    fn apply_entry(&mut self, sequence: u64, whole: Whole) {
        let Whole { time_ms, events, changes, keys, before, nonces, is_events } = whole;
        let mut changes = changes;
        if is_events {
            // what retention took was noted when the snapshot was taken over
            if before != self.position.events_at && before >= self.position.retained_from {
                self.note_missing_events(before);
            }
            self.position.events_at = sequence;
        } else if sequence <= self.position.documents_at {
            return;
        }
        self.changes_bytes += changes.iter().map(|change| change.encoded_bytes() as u64).sum::<u64>();
        let configures = changes.iter().any(is_configuration);
        if configures {
            self.position.configured_at = sequence;
        }
        match self.position.change() {
            Ok(change) => changes.push(change),
            Err(e) => log::error!("the position of the copy is not noted: {e}"),
        }
        let records = events.as_ref().map(|(records, _)| &records[..]).filter(|records| !records.is_empty());
        let content = Content { events: records, changes: &changes, keys: (!keys.is_empty()).then_some(&keys[..]) };
        let begun = Instant::now();
        if !self.store(&content, &changes, time_ms) {
            return self.is_stopped = true;
        }
        for slot in changes.iter().filter_map(|change| self.claims.apply(change)).collect::<Vec<_>>() {
            self.slot_changed(slot);
        }
        if let Some((_, events)) = events {
            let metrics = &self.committer.metrics;
            metrics.committed(events.len(), begun.elapsed());
            metrics.tallies.published(events.iter().map(|event| event.channel));
            self.committer.announcer.announce(events, &self.owner_of, time_ms);
        }
        // afterwards, so that whoever copies what is applied because of it has seen these
        if configures && nonces.iter().any(|nonce| nonce.life != self.life) {
            self.queue.shown().move_epoch_on();
        }
    }

    /// Commits to the copy, however long that takes. False: the server is to end, and it cannot be done soon.
    fn store(&mut self, content: &Content<'_>, changes: &[Change], time_ms: i64) -> bool {
        let urgency = if content.events.is_some() { wal::Urgency::Normal } else { wal::Urgency::Reserve };
        let bytes = content.events.map_or(0, <[u8]>::len) as u64;
        let mut patience = STOP_PATIENCE;
        while bytes > 0 && !self.committer.log.may_admit(bytes) {
            if !self.pause(SEALING_POLL, &mut patience) {
                return false;
            }
        }
        let mut again = COMMIT_AGAIN;
        loop {
            match self.committer.write(content, urgency, time_ms) {
                Ok(committed) => {
                    self.committer.succeeded(self.queue.shown());
                    self.committer.show(&committed, changes, time_ms);
                    return true;
                }
                Err(e) => self.committer.failed(&e, self.queue.shown()),
            }
            if !self.pause(again, &mut patience) {
                return false;
            }
            again = (again * 2).min(COMMIT_AGAIN_MAX);
            if let Err(e) = self.committer.wal.settle() {
                log::warn!("a commit to the copy that failed is not settled yet: {e}");
            }
        }
    }

    /// Waits a moment. False: the server is to end, and the patience with that is at its end.
    fn pause(&self, duration: Duration, patience: &mut Duration) -> bool {
        let (clock, shown) = (&self.committer.clock, self.queue.shown());
        pause(duration, patience, |time| clock.pause(time), || shown.is_stopping())
    }

    /// Messages of the log are gone: a snapshot stands for what they held, or it is missing.
    pub(super) fn lose(&mut self, from: u64, through: u64) {
        self.assembly.clear();
        // another node may have written a snapshot, and have taken away what it holds
        match self.snapshot_of(through) {
            Ok(Some((done, changes))) => self.take_over(from, through, done, changes),
            Ok(None) if self.is_serving => {
                self.failed = Some(behind(from, through, "no snapshot of the documents stands for them yet"));
            }
            Ok(None) => {
                log::error!(from, through; "messages of the log are missing in NATS; changes that were in them are lost");
                self.position.sequence = through;
            }
            Err(e) => self.failed = Some(behind(from, through, e)),
        }
    }

    /// The snapshot that stands for all messages up to this one. At the start, when nobody waits for this node, it is looked for
    /// until NATS cannot have an old answer any more.
    fn snapshot_of(&self, through: u64) -> Result<Option<(Done, Vec<Change>)>, NatsError> {
        let deadline = self.begun + OUTDATED;
        loop {
            let read = self.link.wait(snapshot::read(&self.link.jetstream, &self.link.names));
            let found = read.map(|read| read.filter(|(done, _)| done.sequence >= through));
            if self.is_serving || matches!(found, Ok(Some(_))) || Instant::now() >= deadline {
                return found;
            }
            self.committer.clock.pause(SNAPSHOT_READ_AGAIN);
        }
    }

    fn take_over(&mut self, from: u64, through: u64, done: Done, changes: Vec<Change>) {
        let mut position = self.position.clone();
        position.sequence = through;
        if let Err(e) = taking::take_over(&mut self.committer, &mut position, &done, changes) {
            return self.failed = Some(behind(from, through, e));
        }
        self.position = position;
        self.link.set_taken_through(done.sequence);
        for slot in 0..SLOTS as u8 {
            self.claims.reload(slot, &self.committer.documents);
            self.slot_changed(slot);
        }
        self.newest = Some(done);
        // what is applied is another thing than what those that are queued were computed on
        self.queue.shown().move_epoch_on();
    }

    fn note_missing_events(&mut self, before: u64) {
        log::error!(before, known = self.position.events_at; "events are missing in NATS, and readers are told");
        self.committer.log.admit_damage();
    }

    /// Has the writer write a snapshot when the changes in the log are as large as the documents, or when retention has taken
    /// events that are in the log still.
    pub(super) fn write_snapshot_if_due(&mut self, elapsed_ms: u64) {
        let is_writer = self.relay.observe().is_writer;
        if elapsed_ms < self.snapshot_look_ms
            || !is_writer
            || self.writing_snapshot.is_some()
            || !self.assembly.is_empty()
        {
            return;
        }
        self.snapshot_look_ms = elapsed_ms + SNAPSHOT_LOOK_MS;
        let oldest = self.committer.log.oldest(ChannelNo::ALL).map_or(0, sequence_of);
        // an id that was imported names no message
        let retained_from = if oldest <= self.position.sequence { oldest } else { 0 };
        let retained_before = self.newest.as_ref().map_or(0, |done| done.retained_from);
        let expired = self.committer.log.expired(ChannelNo::ALL);
        let has_dropped = expired > EventId::ZERO && retained_from > retained_before;
        let is_large = self.changes_bytes >= SNAPSHOT_BYTES_MIN.max(self.committer.documents.bytes());
        if !has_dropped && !is_large {
            return;
        }
        self.writing_snapshot = Some(self.changes_bytes);
        let done = Done {
            sequence: self.position.sequence,
            configured_at: self.position.configured_at,
            events_at: self.position.events_at,
            retained_from: if has_dropped { retained_from } else { retained_before },
            ..Done::default()
        };
        self.link.write_snapshot(Snapshot { done, documents: self.committer.documents.freeze() });
    }

    /// A snapshot was to be written: the newest one now, whoever has written it; none: that failed.
    pub(super) fn snapshot_written(&mut self, newest: Option<Done>) {
        let stands_for = self.writing_snapshot.take().unwrap_or(0);
        let Some(done) = newest else {
            self.snapshot_look_ms = self.now().elapsed_ms + SNAPSHOT_AGAIN_MS;
            return;
        };
        self.changes_bytes = self.changes_bytes.saturating_sub(stands_for);
        // of one that goes further than the copy not all is in it, and what was taken away has to be noticed
        if done.sequence <= self.position.sequence {
            self.link.set_taken_through(done.sequence);
            self.position.retained_from = done.retained_from;
        }
        self.newest = Some(done);
    }
}

fn behind(from: u64, through: u64, reason: impl ToString) -> ClusterError {
    ClusterError::Behind { from, through, reason: reason.to_string() }
}

/// Waits in steps, each by `sleep`. Once the server is to end the time comes off the patience; false when nothing is left of it.
fn pause(
    duration: Duration,
    patience: &mut Duration,
    sleep: impl Fn(Duration),
    is_stopping: impl Fn() -> bool,
) -> bool {
    let mut left = duration;
    while left > Duration::ZERO && *patience > Duration::ZERO {
        let step = left.min(STOP_LOOK);
        sleep(step);
        left -= step;
        if is_stopping() {
            *patience = patience.saturating_sub(step);
        }
    }
    *patience > Duration::ZERO
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_wait_for_the_disk_goes_on_until_the_server_is_to_end_and_then_ends_when_its_patience_does() {
        let slept = Cell::new(Duration::ZERO);
        let sleep = |time| slept.set(slept.get() + time);
        let mut patience = STOP_PATIENCE;
        assert!(pause(COMMIT_AGAIN_MAX * 100, &mut patience, sleep, || false));
        assert_eq!((slept.take(), patience), (COMMIT_AGAIN_MAX * 100, STOP_PATIENCE));
        // it is told to end in the middle of a long wait
        let stops_at = Duration::from_secs(1);
        assert!(!pause(Duration::from_secs(3_600), &mut patience, sleep, || slept.get() > stops_at));
        assert_eq!((slept.get(), patience), (stops_at + STOP_PATIENCE, Duration::ZERO));
        assert!(!pause(COMMIT_AGAIN, &mut patience, sleep, || true), "nothing is left of it");
    }
}
