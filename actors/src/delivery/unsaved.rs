//! What the state machine of a webhook asked to be kept and is not durable yet. One write is under way at a time; what
//! comes meanwhile waits and is written together.
//!
//! Of each document only the newest version waits, and the deletion of one that was never stored is forgotten with it. So
//! while nothing can be written, no more waits than the state machine holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::delivery::{Change, DeliveryId, EndpointState, Job, JobId, Row};

/// How long a failed write waits before it is tried again: this first, then twice as long each time, up to
/// [`AGAIN_MAX_MS`]. Jitter takes away up to a half.
const AGAIN_MIN_MS: u64 = 100;
/// See [`AGAIN_MIN_MS`]. Cursors have to move on within five seconds after a full disk has room again.
const AGAIN_MAX_MS: u64 = 2_000;

/// Changes of documents that are written together; none for one that is deleted.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    pub state: Option<Box<EndpointState>>,
    pub rows: BTreeMap<DeliveryId, Option<Box<Row>>>,
    pub jobs: BTreeMap<JobId, Option<Box<Job>>>,
    /// The number of the last request that is in it.
    through: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.state.is_none() && self.rows.is_empty() && self.jobs.is_empty()
    }

    fn puts_row(&self, delivery: DeliveryId) -> bool {
        self.rows.get(&delivery).is_some_and(Option::is_some)
    }

    fn puts_job(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(Option::is_some)
    }

    /// Puts what is older beneath.
    fn beneath(&mut self, older: Batch) {
        let Batch { state, rows, jobs, through } = older;
        self.state = self.state.take().or(state);
        let newer = std::mem::replace(&mut self.rows, rows);
        self.rows.extend(newer);
        let newer = std::mem::replace(&mut self.jobs, jobs);
        self.jobs.extend(newer);
        self.through = self.through.max(through);
    }
}

/// Which documents of the webhook are stored.
pub trait Stored {
    fn has_row(&self, delivery: DeliveryId) -> bool;
    fn has_job(&self, job: JobId) -> bool;
}

#[derive(Debug, Default)]
pub struct Unsaved {
    waiting: Batch,
    under_way: Option<Batch>,
    /// The last request that is durable.
    saved: u64,
    /// Writes that failed in a row.
    failures: u32,
    /// It is not known what became of an earlier write.
    is_doubtful: bool,
}

impl Unsaved {
    /// Adds request number `seq`, which is newer than all before.
    pub fn add(&mut self, seq: u64, changes: Vec<Change>, stored: &impl Stored) {
        for change in changes {
            match change {
                Change::PutState(state) => self.waiting.state = Some(state),
                Change::PutRow(row) => drop(self.waiting.rows.insert(row.delivery, Some(row))),
                Change::PutJob(job) => drop(self.waiting.jobs.insert(job.id, Some(job))),
                Change::DeleteRow(delivery) if self.will_have_row(delivery, stored) => {
                    self.waiting.rows.insert(delivery, None);
                }
                Change::DeleteRow(delivery) => drop(self.waiting.rows.remove(&delivery)),
                Change::DeleteJob(job) if self.will_have_job(job, stored) => drop(self.waiting.jobs.insert(job, None)),
                Change::DeleteJob(job) => drop(self.waiting.jobs.remove(&job)),
            }
        }
        self.waiting.through = seq;
    }

    fn will_have_row(&self, delivery: DeliveryId, stored: &impl Stored) -> bool {
        self.under_way.as_ref().is_some_and(|batch| batch.puts_row(delivery)) || stored.has_row(delivery)
    }

    fn will_have_job(&self, job: JobId, stored: &impl Stored) -> bool {
        self.under_way.as_ref().is_some_and(|batch| batch.puts_job(job)) || stored.has_job(job)
    }

    /// The next batch to write; none while one is under way or nothing waits.
    pub fn begin(&mut self) -> Option<&Batch> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        Some(self.under_way.insert(std::mem::take(&mut self.waiting)))
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// How often in a row a write has failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The batch under way is durable. Answers the number up to which everything is.
    pub fn saved(&mut self) -> u64 {
        self.failures = 0;
        self.saved = self.under_way.take().map_or(self.saved, |batch| batch.through);
        self.saved
    }

    /// The batch under way was not written, or may not have been (`is_doubtful`): it waits again, under what is newer.
    /// Answers when to try again. `random`: any number drawn evenly.
    pub fn failed(&mut self, is_doubtful: bool, stored: &impl Stored, random: u64) -> Duration {
        if let Some(batch) = self.under_way.take() {
            self.waiting.beneath(batch);
        }
        self.is_doubtful |= is_doubtful;
        // a deletion of what would have been stored by that batch is a deletion of nothing
        self.waiting.rows.retain(|delivery, row| row.is_some() || stored.has_row(*delivery));
        self.waiting.jobs.retain(|job, document| document.is_some() || stored.has_job(*job));
        let again_ms = (AGAIN_MIN_MS << self.failures.min(16)).min(AGAIN_MAX_MS);
        self.failures += 1;
        Duration::from_millis(again_ms - random % (again_ms / 2))
    }

    /// Whether there may be documents that an earlier write of unknown outcome has made and no deletion waits for. True
    /// once, after a write that went well: everything before it has come or will never come.
    pub fn is_to_be_swept(&mut self) -> bool {
        self.failures == 0 && std::mem::take(&mut self.is_doubtful)
    }

    /// Deletes stored rows and replays that the state machine does not have.
    pub fn sweep(&mut self, rows: impl IntoIterator<Item = DeliveryId>, jobs: impl IntoIterator<Item = JobId>) {
        for delivery in rows {
            self.waiting.rows.entry(delivery).or_insert(None);
        }
        for job in jobs {
            self.waiting.jobs.entry(job).or_insert(None);
        }
        self.waiting.through = self.waiting.through.max(self.saved);
    }

    /// Nothing is to be written any more.
    pub fn clear(&mut self) {
        self.waiting = Batch::default();
    }

    /// How many documents wait, without those under way.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        usize::from(self.waiting.state.is_some()) + self.waiting.rows.len() + self.waiting.jobs.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::delivery::RowState;
    use crate::model::id::EventId;

    /// What is stored, as the numbers of rows.
    #[derive(Default)]
    struct Disk(BTreeSet<u64>);

    impl Stored for Disk {
        fn has_row(&self, delivery: DeliveryId) -> bool {
            self.0.contains(&delivery.time_ms())
        }

        fn has_job(&self, _: JobId) -> bool {
            false
        }
    }

    impl Disk {
        fn store(&mut self, batch: &Batch) {
            for (delivery, row) in &batch.rows {
                match row {
                    Some(_) => self.0.insert(delivery.time_ms()),
                    None => self.0.remove(&delivery.time_ms()),
                };
            }
        }
    }

    fn id(n: u64) -> DeliveryId {
        DeliveryId::fresh(n, 0)
    }

    fn put(n: u64, attempts: u32) -> Change {
        Change::PutRow(Box::new(Row {
            delivery: id(n),
            events: vec![EventId::at_time(n)],
            state: RowState::Retrying,
            attempts,
            ladder_from: 0,
            next_at_ms: 0,
            wait_ms: 0,
            first_failed_ms: None,
            last: None,
            requested: None,
            announced: false,
        }))
    }

    fn state(n: u64) -> Change {
        Change::PutState(Box::new(EndpointState::new(EventId::at_time(n), n)))
    }

    fn attempts(batch: &Batch, n: u64) -> Option<u32> {
        batch.rows.get(&id(n)).map(|row| row.as_ref().map_or(0, |row| row.attempts))
    }

    #[test]
    fn what_comes_while_a_write_is_under_way_is_written_together_the_newest_of_each_document() {
        let (mut unsaved, disk) = (Unsaved::default(), Disk::default());
        unsaved.add(1, vec![put(1, 1), state(1)], &disk);
        assert_eq!(unsaved.begin().map(|batch| attempts(batch, 1)), Some(Some(1)));
        unsaved.add(2, vec![put(1, 2), put(2, 1), state(2)], &disk);
        unsaved.add(3, vec![put(1, 3), state(3)], &disk);
        assert_eq!(unsaved.begin(), None);
        assert_eq!(unsaved.saved(), 1);
        let batch = unsaved.begin().expect("the rest");
        assert_eq!((attempts(batch, 1), attempts(batch, 2)), (Some(3), Some(1)));
        assert_eq!(batch.state.as_ref().map(|state| state.cursor), Some(EventId::at_time(3)));
        assert_eq!(unsaved.saved(), 3);
        assert_eq!(unsaved.begin(), None);
    }

    #[test]
    fn a_write_that_failed_waits_under_what_is_newer_and_is_tried_again_at_ever_longer_intervals() {
        let (mut unsaved, disk) = (Unsaved::default(), Disk::default());
        unsaved.add(1, vec![put(1, 1), put(2, 1), state(1)], &disk);
        let mut waits_ms = Vec::new();
        for n in 2..10 {
            assert!(unsaved.begin().is_some());
            unsaved.add(n, vec![put(1, n as u32), state(n)], &disk);
            waits_ms.push(unsaved.failed(false, &disk, 0).as_millis() as u64);
            assert_eq!(unsaved.len(), 3);
        }
        assert_eq!(waits_ms, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
        let batch = unsaved.begin().expect("all of it");
        assert_eq!((attempts(batch, 1), attempts(batch, 2)), (Some(9), Some(1)));
        assert_eq!((unsaved.saved(), unsaved.failures()), (9, 0));
        unsaved.add(10, vec![state(10)], &disk);
        unsaved.begin();
        let jittered = unsaved.failed(false, &disk, u64::MAX);
        assert!((Duration::from_millis(50)..=Duration::from_millis(100)).contains(&jittered));
    }

    #[test]
    fn rows_that_come_and_go_while_nothing_can_be_written_leave_nothing_behind() {
        let (mut unsaved, mut disk) = (Unsaved::default(), Disk::default());
        unsaved.add(1, vec![put(0, 1), state(1)], &disk);
        disk.store(unsaved.begin().expect("a batch"));
        unsaved.saved();
        for n in 1..1_000 {
            unsaved.add(2 * n, vec![put(n, 1), state(n)], &disk);
            let is_tried = n % 7 == 0;
            if is_tried {
                unsaved.begin();
            }
            unsaved.add(2 * n + 1, vec![Change::DeleteRow(id(n)), state(n)], &disk);
            if is_tried {
                unsaved.failed(n % 2 == 0, &disk, 0);
            }
            assert!(unsaved.len() <= 2, "{}", unsaved.len());
        }
        // the one that is stored is deleted all the same
        unsaved.add(5_000, vec![Change::DeleteRow(id(0)), state(1)], &disk);
        let batch = unsaved.begin().expect("a batch");
        assert_eq!((attempts(batch, 0), batch.rows.len()), (Some(0), 1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64),
        Delete(u64),
        Begin,
        /// The write under way ends: done, certainly not done, or not known and in truth (not) done.
        End(Result<(), Option<bool>>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![
            3 => Just(Ok(())),
            2 => Just(Err(None)),
            1 => any::<bool>().prop_map(|done| Err(Some(done))),
        ];
        prop_oneof![
            3 => (0..8u64).prop_map(Step::Put),
            3 => (0..8u64).prop_map(Step::Delete),
            2 => Just(Step::Begin),
            2 => outcome.prop_map(Step::End),
        ]
    }

    proptest! {
        #[test]
        fn whatever_fails_in_the_end_the_disk_holds_what_the_machine_does(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut unsaved, mut disk) = (Unsaved::default(), Disk::default());
            let mut machine = BTreeSet::new();
            let mut seq = 0;
            let end = |unsaved: &mut Unsaved, disk: &mut Disk, machine: &BTreeSet<u64>, outcome| {
                let Some(batch) = &unsaved.under_way else { return };
                if matches!(outcome, Ok(()) | Err(Some(true))) {
                    disk.store(batch);
                }
                match outcome {
                    Ok(()) => drop(unsaved.saved()),
                    Err(unknown) => drop(unsaved.failed(unknown.is_some(), disk, 0)),
                }
                if unsaved.is_to_be_swept() {
                    let strays = disk.0.difference(machine).map(|n| id(*n));
                    unsaved.sweep(strays, []);
                }
            };
            for step in steps {
                match step {
                    Step::Put(n) => {
                        machine.insert(n);
                        seq += 1;
                        unsaved.add(seq, vec![put(n, seq as u32), state(seq)], &disk);
                    }
                    Step::Delete(n) => {
                        machine.remove(&n);
                        seq += 1;
                        unsaved.add(seq, vec![Change::DeleteRow(id(n)), state(seq)], &disk);
                    }
                    Step::Begin => drop(unsaved.begin().is_some()),
                    Step::End(outcome) => end(&mut unsaved, &mut disk, &machine, outcome),
                }
            }
            let mut writes = 0;
            end(&mut unsaved, &mut disk, &machine, Ok(()));
            while unsaved.begin().is_some() {
                end(&mut unsaved, &mut disk, &machine, Ok(()));
                writes += 1;
                prop_assert!(writes <= 3);
            }
            prop_assert_eq!(disk.0, machine);
            prop_assert_eq!(unsaved.saved(), seq);
        }
    }
}
