//! The state machine of one endpoint: what it holds, how it is opened, and what one turn consists of.
//!
//! Beside it: `owner` (what people ask for), `outcome` (how an attempt ended), `dispatch` (what is attempted next).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bucket::Bucket;
use super::config::{EndpointConfig, EndpointLimits};
use super::ids::DeliveryId;
use super::ledger::Ledger;
use super::protocol::{Attempt, Effect, Input, LogEntry, Notice, NoticeKey, Opened, Trigger};
use super::reader::Reader;
use super::record::{Change, EndpointState, Gap, Health, Job, JobId, JobState, Off, OffReason, Row, RowState};
use super::rows::Rows;
use crate::model::id::EventId;

/// The deliveries of one webhook, as a pure machine: [`Endpoint::handle`] takes what happened and says what to do.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) limits: EndpointLimits,
    pub(super) config: EndpointConfig,
    /// As it is kept; `cursor` is brought up to date when it is saved.
    pub(super) state: EndpointState,
    pub(super) rows: Rows,
    pub(super) live: Reader,
    /// Events behind the cursor that have rows since before a crash: not to be attempted as new.
    pub(super) covered: BTreeSet<EventId>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) replaying: Option<Replaying>,
    pub(super) flights: HashMap<DeliveryId, Flight>,
    pub(super) slots: Slots,
    pub(super) bucket: Option<Bucket>,
    pub(super) ledger: Ledger,
    pub(super) probe_at_ms: u64,
    pub(super) throttled_until_ms: u64,
    /// Counts attempts, to share what a rate limit leaves.
    pub(super) turn: u32,
    pub(super) last_ticket: u64,
    pub(super) wake_at_ms: Option<u64>,
    pub(super) stopping: bool,
    stopped: bool,
    now_ms: u64,
}

/// The replay of a range that is under way: a cursor of its own.
#[derive(Debug)]
pub(super) struct Replaying {
    pub(super) id: JobId,
    pub(super) reader: Reader,
    /// The end of the range: no first attempt of it was still to begin when the job was made.
    pub(super) until: EventId,
    /// The end of the latest read, at or before the cursor: what is under way comes to its end before it is sent again.
    pub(super) reading_to: EventId,
}

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) attempt: Attempt,
    pub(super) origin: Origin,
    /// The job that asked for it.
    pub(super) job: Option<JobId>,
    /// The owner skipped it meanwhile: a failure leaves no row.
    pub(super) dropped: bool,
}

/// What made an attempt due, which says whose cursor waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Live,
    Replay,
    Row,
    Test,
}

/// Attempts in flight by the budget that they take from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub first: usize,
    /// Retries and manual attempts.
    pub retry: usize,
    pub replay: usize,
    pub test: usize,
}

impl Slots {
    pub(super) fn of(&mut self, trigger: Trigger) -> &mut usize {
        match trigger {
            Trigger::First => &mut self.first,
            Trigger::Retry | Trigger::Manual => &mut self.retry,
            Trigger::Replay => &mut self.replay,
            Trigger::Test => &mut self.test,
        }
    }
}

/// What an endpoint shows: for tests, metrics and the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    pub health: Health,
    pub cursor: EventId,
    /// The first attempt of everything up to here was begun.
    pub begun: EventId,
    /// Events that are known and wait for their first attempt.
    pub ready: usize,
    pub in_flight: Slots,
    /// Rows that are retried.
    pub retrying: usize,
    pub dead: usize,
    /// When something is attempted next that is not due yet: a retry, or a probe.
    pub next_attempt_ms: Option<u64>,
}

impl Endpoint {
    /// Takes up the deliveries of a webhook where they were left. `now_ms` in Unix milliseconds.
    pub fn open(now_ms: u64, limits: EndpointLimits, opened: Opened, effects: &mut Vec<Effect>) -> Endpoint {
        let Opened { config, state, rows, jobs, lost_through } = opened;
        let cursor = state.cursor;
        let covered = rows.iter().flat_map(|row| &row.events).copied().filter(|event| *event > cursor).collect();
        let mut endpoint = Endpoint {
            limits,
            bucket: config.rate_limit.map(|limit| Bucket::new(limit, now_ms)),
            config,
            live: Reader::at(cursor),
            state,
            rows: Rows::default(),
            covered,
            jobs: jobs.into_iter().map(|job| (job.id, job)).collect(),
            replaying: None,
            flights: HashMap::new(),
            slots: Slots::default(),
            ledger: Ledger::default(),
            probe_at_ms: 0,
            throttled_until_ms: 0,
            turn: 0,
            last_ticket: 0,
            wake_at_ms: None,
            stopping: false,
            stopped: false,
            now_ms,
        };
        for row in rows {
            let delivery = row.delivery;
            if row.state == RowState::Dead && !row.announced {
                let key = NoticeKey::Dead(delivery, row.attempts);
                effects.push(Effect::Emit { key, notice: Notice::DeadLetter(Box::new(row.clone())) });
            }
            endpoint.rows.put(row);
            // what was read from disk is durable before any Persist of this life
            endpoint.rows.saved(delivery, 0);
        }
        let unheard = endpoint.state.notices.iter();
        effects.extend(unheard.map(|n| Effect::Emit { key: NoticeKey::Health(n.no), notice: (*n).into() }));
        let gaps = endpoint.state.gaps.iter().filter(|gap| !gap.announced);
        effects.extend(gaps.map(|gap| Effect::Emit { key: NoticeKey::Gap(gap.through), notice: Notice::Gap(*gap) }));
        // since the rows were written the clock may have stepped back, retention gone on, the configuration changed
        endpoint.shorten_waits(now_ms);
        endpoint.lost(now_ms, lost_through, effects);
        endpoint.bury_exhausted(now_ms, effects);
        endpoint.follow_switch(now_ms);
        endpoint.end_turn(now_ms, effects);
        endpoint
    }

    /// Takes one input at `now_ms` (Unix milliseconds) and appends what is to be done to `effects`. `random`: any number
    /// drawn evenly, a new one for each call.
    pub fn handle(&mut self, now_ms: u64, random: u64, input: Input, effects: &mut Vec<Effect>) {
        if now_ms < self.now_ms {
            self.clock_stepped_back(now_ms);
        }
        self.now_ms = now_ms;
        match input {
            Input::Offered { ticket, events, through, more } => {
                let covered = &self.covered;
                let known = |event| !covered.contains(&event);
                if self.live.offered(ticket, &events, through, more, now_ms, known) {
                    self.ledger.touch(now_ms);
                } else if let Some(replaying) = &mut self.replaying {
                    let through = if more { through } else { through.max(replaying.reading_to) };
                    let more = more || replaying.reading_to < replaying.until;
                    replaying.reader.offered(ticket, &events, through, more, now_ms, |_| true);
                    self.ledger.touch_job(replaying.id, now_ms);
                }
            }
            Input::Appended => self.live.appended(),
            Input::Finished { delivery, outcome } => self.finished(now_ms, random, delivery, outcome, effects),
            Input::Persisted { through } => {
                let heard = self.ledger.saved(through).into_iter();
                effects.extend(heard.map(|(key, notice)| Effect::Emit { key, notice }));
            }
            // the timer has gone off: whatever is to be waited for is asked for anew
            Input::Tick => self.wake_at_ms = None,
            Input::Configure { config, new_target } => self.configure(now_ms, config, new_target, effects),
            Input::Enable { resume, head } => self.enable(now_ms, resume, head, effects),
            Input::Disable => {
                self.config.active = false;
                self.follow_switch(now_ms);
            }
            Input::Resend { delivery, events, attempts } => self.resend(now_ms, delivery, events, attempts, effects),
            Input::Replay(request) => self.replay(now_ms, request, effects),
            Input::Test { delivery } => self.test(delivery, effects),
            Input::Lost { through } => self.lost(now_ms, through, effects),
            Input::Damaged { job, after, through } => self.damaged(now_ms, job, after, through, effects),
            Input::Announced { key } => self.announced(now_ms, key),
            Input::Shutdown => self.stopping = true,
        }
        self.end_turn(now_ms, effects);
    }

    /// The health of the endpoint.
    pub fn health(&self) -> Health {
        match self.state.off {
            Some(Off { reason: OffReason::Owner, .. }) => Health::Paused,
            Some(_) => Health::Disabled,
            None if self.state.consecutive_failures < self.limits.degraded_after => Health::Healthy,
            None if self.is_probing() => Health::Probing,
            None => Health::Degraded,
        }
    }

    /// What is kept about the endpoint; its `cursor` is the one last saved.
    pub fn state(&self) -> &EndpointState {
        &self.state
    }

    /// Every event up to here was delivered, filtered out, lost to retention, or has a row.
    pub fn cursor(&self) -> EventId {
        self.live.cursor()
    }

    /// The deliveries in trouble, the oldest first.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    pub fn row(&self, delivery: DeliveryId) -> Option<&Row> {
        self.rows.get(delivery)
    }

    /// The replay jobs, the oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    pub fn observe(&self) -> Observed {
        Observed {
            health: self.health(),
            cursor: self.cursor(),
            begun: self.live.begun(),
            ready: self.live.ready(),
            in_flight: self.slots,
            retrying: self.rows.retrying(),
            dead: self.rows.dead(),
            next_attempt_ms: self.next_attempt_ms(),
        }
    }

    /// When something of what has failed is attempted next: a retry, or a probe.
    fn next_attempt_ms(&self) -> Option<u64> {
        let probe = Some(self.probe_at_ms).filter(|at| *at > 0 && self.is_probing());
        self.rows.first_due().into_iter().chain(probe).min()
    }

    /// Whether new events wait in the log while one at a time is tried.
    pub(super) fn is_probing(&self) -> bool {
        let failing_ms = self.state.failing.map_or(0, |failing| failing.failing_ms);
        self.state.consecutive_failures >= self.limits.degraded_after
            && (failing_ms >= self.limits.probe_after_ms || self.rows.retrying() >= self.limits.rows_hold)
    }

    /// What every input ends with: attempts, reads, saving, waking.
    fn end_turn(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.finish_jobs(now_ms);
        self.dispatch(now_ms, effects);
        self.ask(effects);
        self.follow_health(now_ms);
        self.save(now_ms, effects);
        self.wake(now_ms, effects);
        if self.stopping && !self.stopped && self.flights.is_empty() && self.ledger.is_settled() {
            self.stopped = true;
            effects.push(Effect::Stopped);
        }
    }

    fn follow_health(&mut self, now_ms: u64) {
        let health = self.health();
        if health == self.state.health {
            return;
        }
        self.state.health = health;
        self.state.health_since_ms = now_ms;
        self.ledger.touch(now_ms);
    }

    fn save(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let at_once = self.stopping && self.ledger.is_dirty();
        if !at_once && !self.ledger.is_due(now_ms, &self.limits) {
            return;
        }
        self.state.cursor = self.live.cursor();
        if self.covered.last().is_some_and(|last| *last <= self.state.cursor) {
            self.covered.clear();
        }
        let seq = self.ledger.begin();
        let mut changes = Vec::with_capacity(1 + self.ledger.rows.len() + self.ledger.jobs.len());
        for delivery in std::mem::take(&mut self.ledger.rows) {
            self.rows.saved(delivery, seq);
            changes.push(match self.rows.get(delivery) {
                Some(row) => Change::PutRow(Box::new(row.clone())),
                None => Change::DeleteRow(delivery),
            });
        }
        for job in std::mem::take(&mut self.ledger.jobs) {
            changes.push(match self.jobs.get(&job) {
                Some(job) => Change::PutJob(Box::new(job.clone())),
                None => Change::DeleteJob(job),
            });
        }
        changes.push(Change::PutState(Box::new(self.state.clone())));
        effects.push(Effect::Persist { seq, changes });
    }

    fn announced(&mut self, now_ms: u64, key: NoticeKey) {
        match key {
            NoticeKey::Health(no) => {
                self.state.notices.retain(|notice| notice.no != no);
                self.ledger.touch(now_ms);
            }
            NoticeKey::Dead(delivery, _) if self.rows.get(delivery).is_some_and(|row| row.state == RowState::Dead) => {
                self.rows.set_announced(delivery);
                self.ledger.touch_row(delivery, now_ms);
            }
            NoticeKey::Dead(..) => {}
            NoticeKey::Gap(through) => {
                for gap in self.state.gaps.iter_mut().filter(|gap| gap.through == through) {
                    gap.announced = true;
                }
                self.ledger.touch(now_ms);
            }
        }
    }

    fn note_gap(&mut self, now_ms: u64, after: EventId, through: EventId, effects: &mut Vec<Effect>) {
        let gap = Gap { after, through, at_ms: now_ms, announced: false };
        self.state.add_gap(gap);
        self.ledger.announce(NoticeKey::Gap(through), Notice::Gap(gap), now_ms);
        effects.push(Effect::Log(LogEntry::Gap(gap)));
    }

    /// A read went over a damaged part of the log. It is read again after a crash, and is the same gap then.
    fn damaged(
        &mut self,
        now_ms: u64,
        job: Option<JobId>,
        after: EventId,
        through: EventId,
        effects: &mut Vec<Effect>,
    ) {
        match job {
            None if self.state.gaps.iter().any(|gap| gap.after <= after && through <= gap.through) => {}
            None => self.note_gap(now_ms, after, through, effects),
            Some(id) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.lost = true;
                    self.ledger.touch_job(id, now_ms);
                }
            }
        }
    }

    /// Retention took events: what was not attempted is a gap, what had rows is dropped. What was in flight at that time
    /// is judged when it ends, or when the endpoint is opened again.
    fn lost(&mut self, now_ms: u64, through: EventId, effects: &mut Vec<Effect>) {
        if through > self.state.lost_through {
            self.state.lost_through = through;
            self.ledger.hurry(now_ms);
        }
        let through = self.state.lost_through;
        if let Some(after) = self.live.lose(through) {
            self.note_gap(now_ms, after, through, effects);
        }
        if let Some(replaying) = &mut self.replaying
            && replaying.reader.lose(through).is_some()
            && let Some(job) = self.jobs.get_mut(&replaying.id)
        {
            job.lost = true;
            self.ledger.touch_job(replaying.id, now_ms);
        }
        for job in self.jobs.values_mut() {
            let waits = job.state == JobState::Running && self.replaying.as_ref().is_none_or(|r| r.id != job.id);
            if waits && !job.dead_only && job.position < through {
                job.position = through;
                job.lost = true;
                self.ledger.touch_job(job.id, now_ms);
            }
        }
        self.drop_lost_rows(now_ms, effects);
    }

    fn drop_lost_rows(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let through = self.state.lost_through;
        let hit = |row: &&Row| row.first() <= through && !self.rows.is_in_flight(row.delivery);
        let hit: Vec<DeliveryId> = self.rows.iter().filter(hit).map(|row| row.delivery).collect();
        for delivery in hit {
            let Some(mut row) = self.rows.remove(delivery) else { continue };
            self.drop_lost_events(&mut row, effects);
            if !row.events.is_empty() {
                self.rows.put(row);
            }
            self.ledger.touch_row(delivery, now_ms);
        }
    }

    /// Takes out of a row what retention took out of the log.
    pub(super) fn drop_lost_events(&mut self, row: &mut Row, effects: &mut Vec<Effect>) {
        let through = self.state.lost_through;
        let events: Vec<EventId> = row.events.extract_if(.., |event| *event <= through).collect();
        if !events.is_empty() {
            self.state.lost_events += events.len() as u64;
            effects.push(Effect::Log(LogEntry::LostEvents { delivery: row.delivery, events }));
        }
    }

    fn clock_stepped_back(&mut self, now_ms: u64) {
        self.shorten_waits(now_ms);
        self.live.clock_stepped_back(now_ms);
        if let Some(replaying) = &mut self.replaying {
            replaying.reader.clock_stepped_back(now_ms);
        }
        self.ledger.clock_stepped_back(now_ms);
        self.probe_at_ms = self.probe_at_ms.min(now_ms + self.limits.probe_every_ms);
        self.throttled_until_ms = self.throttled_until_ms.min(now_ms + self.limits.throttle_max_ms);
        self.wake_at_ms = None;
    }

    /// No row waits longer from now on than it was to wait when it failed.
    fn shorten_waits(&mut self, now_ms: u64) {
        let long = |row: &&Row| {
            let waits = row.state == RowState::Retrying && !self.rows.is_in_flight(row.delivery);
            waits && row.next_at_ms > now_ms + row.wait_ms
        };
        let long: Vec<Row> = self.rows.iter().filter(long).cloned().collect();
        for mut row in long {
            row.next_at_ms = now_ms + row.wait_ms;
            self.ledger.touch_row(row.delivery, now_ms);
            self.rows.put(row);
        }
    }
}
