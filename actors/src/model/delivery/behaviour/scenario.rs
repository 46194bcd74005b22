//! An endpoint with a clock that is set by hand, a log, a disk that is always quick, and a crash.

use crate::model::delivery::*;
use crate::model::id::EventId;

pub(super) const NOW: u64 = 1_750_000_000_000;
pub(super) const HOUR: u64 = 3_600_000;
pub(super) const DAY: u64 = 24 * HOUR;
/// Any number; what it makes of a delay is read from the row.
const RANDOM: u64 = 0x5EED_5EED_5EED_5EED;

/// An endpoint with a log of its own and a disk that is always quick.
pub(super) struct Scenario {
    pub(super) now_ms: u64,
    pub(super) log: Vec<EventId>,
    pub(super) endpoint: Endpoint,
    pub(super) attempts: Vec<Attempt>,
    pub(super) effects: Vec<Effect>,
    pub(super) kept: Kept,
}

/// What the disk holds.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) config: EndpointConfig,
    pub(super) state: EndpointState,
    pub(super) rows: Vec<Row>,
    pub(super) jobs: Vec<Job>,
}

pub(super) fn event(n: u32) -> EventId {
    EventId::at_time(NOW).plus(n)
}

pub(super) fn failed(status: u16) -> Outcome {
    Outcome::Failed { status: Some(status), code: FailureCode::HttpStatus, retry_after_ms: None }
}

impl Scenario {
    pub(super) fn new(change: impl FnOnce(&mut EndpointConfig)) -> Scenario {
        let mut config = EndpointConfig::new("wh");
        change(&mut config);
        let state = EndpointState::new(event(0), NOW);
        Scenario::open(NOW, Kept { config, state, rows: Vec::new(), jobs: Vec::new() }, Vec::new())
    }

    pub(super) fn open(now_ms: u64, kept: Kept, log: Vec<EventId>) -> Scenario {
        let Kept { config, state, rows, jobs } = kept.clone();
        let mut effects = Vec::new();
        let opened = Opened { config, state, rows, jobs, lost_through: EventId::ZERO };
        let endpoint = Endpoint::open(now_ms, EndpointLimits::default(), opened, &mut effects);
        let mut scenario = Scenario { now_ms, log, endpoint, attempts: Vec::new(), effects: Vec::new(), kept };
        scenario.perform(effects);
        scenario
    }

    /// The process dies and comes back `down_ms` later.
    pub(super) fn crash(self, down_ms: u64) -> Scenario {
        Scenario::open(self.now_ms + down_ms, self.kept, self.log)
    }

    pub(super) fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.endpoint.handle(self.now_ms, RANDOM, input, &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.effects.push(effect.clone());
            match effect {
                Effect::Read { ticket, after, until, want, .. } => {
                    let page = self.log.iter().filter(|id| **id > after && **id <= until).take(want);
                    let events: Vec<Offer> = page.map(|id| Offer { id: *id, matches: true, bytes: 100 }).collect();
                    let through = events.last().map_or(after, |offer| offer.id);
                    self.input(Input::Offered { ticket, more: events.len() == want, events, through });
                }
                Effect::Attempt(attempt) => self.attempts.push(attempt),
                Effect::Persist { seq, changes } => {
                    changes.into_iter().for_each(|change| self.kept.apply(change));
                    self.input(Input::Persisted { through: seq });
                }
                _ => {}
            }
        }
    }

    pub(super) fn publish(&mut self, count: u32) {
        for _ in 0..count {
            self.log.push(event(self.log.len() as u32 + 1));
        }
        self.input(Input::Appended);
    }

    /// Ends the oldest attempt that was begun.
    pub(super) fn end(&mut self, outcome: Outcome) -> Attempt {
        let attempt = self.attempts.remove(0);
        self.input(Input::Finished { delivery: attempt.delivery, outcome });
        attempt
    }

    pub(super) fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.input(Input::Tick);
    }

    /// When the endpoint wants to try the only row again.
    pub(super) fn next_at_ms(&self) -> u64 {
        self.endpoint.rows().next().expect("a row").next_at_ms
    }

    pub(super) fn emitted(&self) -> Vec<&'static str> {
        let notices = self.effects.iter().filter_map(|effect| match effect {
            Effect::Emit { notice, .. } => Some(notice.event_type()),
            _ => None,
        });
        notices.collect()
    }

    pub(super) fn refused(&self) -> Option<Refusal> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Refused(refusal) => Some(*refusal),
            _ => None,
        })
    }
}

impl Kept {
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutState(state) => self.state = *state,
            Change::PutRow(row) => {
                self.rows.retain(|kept| kept.delivery != row.delivery);
                self.rows.push(*row);
            }
            Change::DeleteRow(delivery) => self.rows.retain(|kept| kept.delivery != delivery),
            Change::PutJob(job) => {
                self.jobs.retain(|kept| kept.id != job.id);
                self.jobs.push(*job);
            }
            Change::DeleteJob(id) => self.jobs.retain(|kept| kept.id != id),
        }
    }
}
