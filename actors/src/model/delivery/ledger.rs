//! The unsaved changes of an endpoint: which rows and jobs have changed in memory and are not durable yet, and when they must be.

use std::collections::BTreeSet;

use super::config::EndpointLimits;
use super::ids::DeliveryId;
use super::protocol::{Notice, NoticeKey};
use super::record::JobId;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) rows: BTreeSet<DeliveryId>,
    pub(super) jobs: BTreeSet<JobId>,
    urgent: bool,
    dirty_since_ms: Option<u64>,
    /// Deliveries that ended since the last save.
    settled: u32,
    /// Numbers of the last Persist asked for and of the last one that is durable.
    asked: u64,
    saved: u64,
    /// Notices with the Persist that they wait for; none: the one that comes next.
    notices: Vec<(Option<u64>, NoticeKey, Notice)>,
}

impl Ledger {
    /// The state (and with it the cursor) has changed; it may be saved later.
    pub(super) fn touch(&mut self, now_ms: u64) {
        self.dirty_since_ms.get_or_insert(now_ms);
    }

    pub(super) fn touch_row(&mut self, delivery: DeliveryId, now_ms: u64) {
        self.rows.insert(delivery);
        self.touch(now_ms);
    }

    pub(super) fn touch_job(&mut self, job: JobId, now_ms: u64) {
        self.jobs.insert(job);
        self.touch(now_ms);
    }

    /// A delivery has ended; its cursor may be saved later.
    pub(super) fn settle(&mut self, now_ms: u64) {
        self.settled += 1;
        self.touch(now_ms);
    }

    /// What has changed is saved at the end of this turn.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        self.urgent = true;
        self.touch(now_ms);
    }

    /// Holds a notice back until everything that has changed by the end of this turn is durable.
    pub(super) fn announce(&mut self, key: NoticeKey, notice: Notice, now_ms: u64) {
        self.notices.push((None, key, notice));
        self.hurry(now_ms);
    }

    pub(super) fn is_due(&self, now_ms: u64, limits: &EndpointLimits) -> bool {
        let late = self.due_at_ms(limits).is_some_and(|at| at <= now_ms);
        self.urgent || late || self.settled >= limits.unsaved_max
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since_ms.is_some()
    }

    /// When what has changed must be saved at the latest.
    pub(super) fn due_at_ms(&self, limits: &EndpointLimits) -> Option<u64> {
        self.dirty_since_ms.map(|since| since + limits.unsaved_max_ms)
    }

    /// Begins a Persist and answers its number: nothing is dirty any more.
    pub(super) fn begin(&mut self) -> u64 {
        self.asked += 1;
        self.urgent = false;
        self.dirty_since_ms = None;
        self.settled = 0;
        for (seq, ..) in &mut self.notices {
            seq.get_or_insert(self.asked);
        }
        self.asked
    }

    /// Everything up to `through` is durable. Answers the notices that waited for it.
    pub(super) fn saved(&mut self, through: u64) -> Vec<(NoticeKey, Notice)> {
        self.saved = self.saved.max(through);
        let free = |(seq, ..): &mut (Option<u64>, NoticeKey, Notice)| seq.is_some_and(|seq| seq <= self.saved);
        self.notices.extract_if(.., free).map(|(_, key, notice)| (key, notice)).collect()
    }

    pub(super) fn saved_through(&self) -> u64 {
        self.saved
    }

    /// Whether everything is durable.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_dirty() && self.saved >= self.asked
    }

    pub(super) fn clock_stepped_back(&mut self, now_ms: u64) {
        self.dirty_since_ms = self.dirty_since_ms.map(|since| since.min(now_ms));
    }
}
