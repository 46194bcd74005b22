//! What the simulation knows about every event and what must hold, whatever the endpoint believes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::delivery::{
    Attempt, Change, DeliveryId, Effect, Endpoint, EndpointLimits, EndpointState, Health, Job, JobId, LogEntry, Notice,
    NoticeKey, Outcome, RETRY_AFTER_MAX_MS, Row, RowState, Standing, Trigger,
};
use crate::model::id::EventId;

/// What is durable.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) state: EndpointState,
    pub(super) rows: BTreeMap<DeliveryId, Row>,
    pub(super) jobs: BTreeMap<JobId, Job>,
}

impl Disk {
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::PutState(state) => {
                    assert!(state.cursor >= self.state.cursor, "the cursor went back on disk");
                    self.state = *state;
                }
                Change::PutRow(row) => {
                    self.rows.insert(row.delivery, *row);
                }
                Change::DeleteRow(delivery) => {
                    self.rows.remove(&delivery);
                }
                Change::PutJob(job) => {
                    self.jobs.insert(job.id, *job);
                }
                Change::DeleteJob(job) => {
                    self.jobs.remove(&job);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ReferenceModel {
    /// Matching events that the receiver has not got and nobody has given up.
    pub(super) open: BTreeSet<EventId>,
    /// Events whose delivery the endpoint knows of; only a replay or a request by hand may send them again.
    pub(super) known: HashSet<EventId>,
    /// The same for deliveries, and retries of them.
    pub(super) done: HashSet<DeliveryId>,
    /// The attempts in flight, with what the receiver will have answered.
    pub(super) in_flight: HashMap<DeliveryId, (Trigger, Outcome)>,
    /// What each delivery that was ever attempted carries.
    pub(super) carried: HashMap<DeliveryId, Vec<EventId>>,
    /// No attempt may begin before.
    pub(super) throttled_until_ms: u64,
    /// Attempts since the rate limit was last set, and when that was.
    pub(super) paced: (u64, u64),
    /// Retention has taken everything up to here, and the endpoint was told.
    pub(super) lost_through: EventId,
    /// Dead deliveries were enabled again in this case, so more rows than usual may be retried.
    pub(super) revived: bool,
    last_failure_ms: Option<u64>,
}

impl ReferenceModel {
    fn count(&self, triggers: &[Trigger]) -> usize {
        self.in_flight.values().filter(|(trigger, _)| triggers.contains(trigger)).count()
    }

    /// An attempt is about to be made.
    pub(super) fn check_attempt(
        &mut self,
        now_ms: u64,
        attempt: &Attempt,
        disk: &Disk,
        endpoint: &Endpoint,
        elapsed_ms: u64,
    ) {
        let (config, limits) = (&endpoint.config, &endpoint.limits);
        assert!(!self.in_flight.contains_key(&attempt.delivery), "the same delivery twice at a time");
        if attempt.trigger == Trigger::Test {
            assert_eq!(self.count(&[Trigger::Test]), 0, "one test at a time");
            return;
        }
        let health = endpoint.health();
        assert!(!matches!(health, Health::Paused | Health::Disabled), "an attempt while {health:?}");
        assert!(now_ms >= self.throttled_until_ms, "an attempt in spite of Retry-After of a 429");
        assert!(attempt.events.is_sorted() && !attempt.events.is_empty());
        assert!(attempt.events[0] > self.lost_through, "an attempt of events that are gone: {attempt:?}");
        let batch = config.batch.map_or(1, |batch| batch.max_events as usize);
        if attempt.trigger == Trigger::First {
            assert!(attempt.events.len() <= batch);
            assert!(attempt.events.iter().all(|event| self.open.contains(event) || !self.known.contains(event)));
            assert_eq!(attempt.number, 1);
        }
        if config.ordered {
            assert_eq!(self.in_flight.len(), self.count(&[Trigger::Test]), "ordered: one at a time");
        }
        assert!(self.count(&[Trigger::First]) < config.max_in_flight as usize || attempt.trigger != Trigger::First);
        if let Some(limit) = config.rate_limit {
            let (made, since_ms) = &mut self.paced;
            let elapsed_ms = elapsed_ms - *since_ms;
            *made += 1;
            let most = u64::from(limit.burst) + elapsed_ms * u64::from(limit.per_second) / 1_000;
            assert!(*made <= most, "{made} attempts within {elapsed_ms} ms under {limit:?}");
        }
        if health == Health::Probing && matches!(attempt.trigger, Trigger::First | Trigger::Replay) {
            assert_eq!(self.count(&[Trigger::First, Trigger::Replay]), 0, "one probe at a time");
            let since = self.last_failure_ms.map(|at| now_ms.saturating_sub(at));
            assert!(since.is_none_or(|since| since >= limits.probe_every_ms * 4 / 5), "a probe too soon");
        }
        match attempt.trigger {
            Trigger::First => self.check_order(attempt, endpoint),
            Trigger::Retry => {
                assert!(self.count(&[Trigger::Retry, Trigger::Manual]) < limits.retry_slots);
                let row = self.row_of(attempt, disk);
                assert_eq!(row.state, RowState::Retrying);
                assert!(now_ms >= row.next_at_ms, "a retry before its time");
                assert!(!self.done.contains(&attempt.delivery), "a delivery that was done is retried");
                self.check_order(attempt, endpoint);
                assert!(
                    row.attempts - row.ladder_from < config.retry_policy.attempts(),
                    "more attempts than the policy"
                );
            }
            Trigger::Manual => {
                assert!(self.count(&[Trigger::Retry, Trigger::Manual]) < limits.retry_slots);
                let row = self.row_of(attempt, disk);
                assert!(row.requested.is_some(), "by hand without a durable request");
            }
            Trigger::Replay => assert!(self.count(&[Trigger::Replay]) < limits.replay_slots),
            Trigger::Test => {}
        }
        if matches!(attempt.trigger, Trigger::Manual | Trigger::Replay) {
            self.done.remove(&attempt.delivery);
            for event in &attempt.events {
                self.known.remove(event);
            }
        }
    }

    /// A retry rests on a row that is durable as it was after the last attempt, and stays within the policy.
    fn row_of<'d>(&self, attempt: &Attempt, disk: &'d Disk) -> &'d Row {
        let row = disk.rows.get(&attempt.delivery).expect("the row of a retry is durable");
        assert_eq!(attempt.number, row.attempts + 1, "the count of attempts is durable");
        row
    }

    /// In ordered mode every earlier event was delivered or given up.
    fn check_order(&self, attempt: &Attempt, endpoint: &Endpoint) {
        if !endpoint.config.ordered {
            return;
        }
        let waiting =
            |event: &EventId| !endpoint.rows().any(|row| row.state == RowState::Dead && row.events.contains(event));
        let earlier = self.open.range(..attempt.events[0]).find(|event| waiting(event));
        assert_eq!(earlier, None, "ordered: an earlier event still waits");
    }

    /// The endpoint was told how an attempt ended and said what becomes of the delivery.
    pub(super) fn check_log(&mut self, now_ms: u64, entry: &LogEntry, endpoint: &Endpoint) {
        match entry {
            LogEntry::Attempt { attempt, outcome, standing } if attempt.trigger != Trigger::Test => {
                let retry_after_ms = match outcome {
                    Outcome::Success => {
                        assert_eq!(*standing, Standing::Delivered);
                        self.last_failure_ms = None;
                        self.known.extend(&attempt.events);
                        self.done.insert(attempt.delivery);
                        return;
                    }
                    Outcome::Gone => 0,
                    Outcome::Failed { retry_after_ms, .. } => retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS),
                };
                self.last_failure_ms = Some(now_ms);
                if let Standing::Retrying { next_at_ms } = standing {
                    let row = endpoint.row(attempt.delivery).expect("what is retried has a row");
                    let made = attempt.number - row.ladder_from;
                    let delay_ms = endpoint.config.retry_policy.delay_after_ms(made).expect("within the policy");
                    let wait_ms = next_at_ms - now_ms;
                    assert!(wait_ms >= delay_ms * 4 / 5 && wait_ms >= retry_after_ms, "too soon");
                    assert!(wait_ms <= (delay_ms * 6 / 5).max(retry_after_ms), "too late");
                }
            }
            LogEntry::Attempt { .. } => {}
            LogEntry::Gap(gap) => self.open.retain(|event| *event <= gap.after || *event > gap.through),
            LogEntry::LostEvents { events, .. } => self.open.retain(|event| !events.contains(event)),
            LogEntry::Skipped(deliveries) | LogEntry::Forgotten(deliveries) => {
                for events in deliveries.iter().filter_map(|delivery| self.carried.get(delivery)) {
                    self.open.retain(|event| !events.contains(event));
                }
            }
        }
    }

    /// A notice is about to be published: what it says is durable.
    pub(super) fn check_notice(&self, key: NoticeKey, notice: &Notice, disk: &Disk) {
        match (key, notice) {
            (NoticeKey::Health(no), _) => assert!(disk.state.notice_no >= no, "announced and not durable"),
            (NoticeKey::Dead(delivery, _), Notice::DeadLetter(row)) => {
                assert_eq!(row.delivery, delivery);
                let kept = disk.rows.get(&delivery);
                let before = |kept: &Row| kept.state == RowState::Retrying && kept.attempts < row.attempts;
                assert!(!kept.is_some_and(before), "a dead letter announced before it was durable");
            }
            (NoticeKey::Gap(through), Notice::Gap(gap)) => {
                assert_eq!(gap.through, through);
                let kept = disk.state.gaps.iter().any(|kept| kept.through == through);
                assert!(
                    kept || disk.state.gaps.len() == crate::model::delivery::GAPS_KEPT,
                    "a gap announced before it was durable"
                );
            }
            other => panic!("a key and a notice that do not belong together: {other:?}"),
        }
    }

    /// What must hold after every step, in memory.
    pub(super) fn check_endpoint(&self, endpoint: &Endpoint, effects: &[Effect]) {
        let (observed, limits) = (endpoint.observe(), &endpoint.limits);
        let more = if self.revived { limits.dead_max * 2 } else { 0 };
        assert!(observed.retrying <= limits.rows_max + more, "{} rows are retried", observed.retrying);
        let spared = endpoint.rows().filter(|row| row.requested.is_some()).count() + limits.retry_slots;
        assert!(observed.dead <= limits.dead_max + spared, "{} rows are dead", observed.dead);
        assert!(observed.in_flight.retry <= limits.retry_slots && observed.in_flight.replay <= limits.replay_slots);
        if effects.contains(&Effect::Stopped) {
            assert!(self.in_flight.is_empty(), "stopped with an attempt in flight");
        }
        self.check_kept(endpoint.cursor(), endpoint.rows(), "in memory");
    }

    /// What must hold after every step, on disk: this is what a crash would leave.
    pub(super) fn check_disk(&self, disk: &Disk) {
        self.check_kept(disk.state.cursor, disk.rows.values(), "on disk");
    }

    /// Every open event lies behind the cursor or has a row.
    fn check_kept<'r>(&self, cursor: EventId, rows: impl Iterator<Item = &'r Row>, place: &str) {
        if self.open.first().is_none_or(|first| *first > cursor) {
            return;
        }
        let rows: HashSet<EventId> = rows.flat_map(|row| row.events.iter().copied()).collect();
        for event in self.open.range(..=cursor) {
            assert!(rows.contains(event), "{event} is lost {place}: not delivered, no row, not behind {cursor}");
        }
    }

    /// A new life begins from what is on disk.
    pub(super) fn restart(&mut self, disk: &Disk, elapsed_ms: u64) {
        self.in_flight.clear();
        self.throttled_until_ms = 0;
        self.paced = (0, elapsed_ms);
        self.last_failure_ms = None;
        let with_row: HashSet<EventId> = disk.rows.values().flat_map(|row| row.events.iter().copied()).collect();
        self.known.retain(|event| *event <= disk.state.cursor && !with_row.contains(event));
        let behind = |id: &DeliveryId| self.carried[id].iter().all(|event| *event <= disk.state.cursor);
        self.done.retain(|id| behind(id) && !disk.rows.contains_key(id));
    }

    /// The clock of the endpoint stepped back to `now_ms`.
    pub(super) fn clock_stepped_back(&mut self, now_ms: u64, limits: &EndpointLimits) {
        self.throttled_until_ms = self.throttled_until_ms.min(now_ms + limits.throttle_max_ms);
        self.last_failure_ms = None;
    }

    /// The owner enabled the endpoint, or gave it another target: the past is no evidence.
    pub(super) fn forgive(&mut self) {
        self.throttled_until_ms = 0;
        self.last_failure_ms = None;
    }
}
