//! How an attempt ended: what becomes of the delivery, and what it says about the endpoint.

use super::endpoint::{Endpoint, Flight, Origin};
use super::ids::DeliveryId;
use super::policy::{jittered_ms, wait_ms};
use super::protocol::{Effect, LogEntry, Notice, NoticeKey, Outcome, Standing};
use super::record::{Failing, Failure, FailureCode, Job, OffReason, Row, RowState};

/// Too Many Requests (RFC 6585): the one status by which a receiver speaks about all deliveries and not about one.
const TOO_MANY_REQUESTS: u16 = 429;
const GONE: u16 = 410;

impl Endpoint {
    pub(super) fn finished(
        &mut self,
        now_ms: u64,
        random: u64,
        delivery: DeliveryId,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(flight) = self.flights.remove(&delivery) else { return };
        *self.slots.of(flight.attempt.trigger) -= 1;
        let standing = match (flight.origin, outcome) {
            (Origin::Test, _) => Standing::Dropped,
            (_, Outcome::Success) => self.succeeded(now_ms, &flight),
            (_, Outcome::Failed { status, code, retry_after_ms }) => {
                let failure = Failure { at_ms: now_ms, status, code };
                if status == Some(TOO_MANY_REQUESTS)
                    && let Some(asked_ms) = retry_after_ms
                {
                    let until_ms = now_ms + asked_ms.min(self.limits.throttle_max_ms);
                    self.throttled_until_ms = self.throttled_until_ms.max(until_ms);
                }
                self.failed(now_ms, random, &flight, failure, retry_after_ms, effects)
            }
            (_, Outcome::Gone) => {
                let failure = Failure { at_ms: now_ms, status: Some(GONE), code: FailureCode::HttpStatus };
                let standing = self.failed(now_ms, random, &flight, failure, None, effects);
                if self.state.off.is_none() {
                    self.switch_off(now_ms, OffReason::Gone);
                }
                standing
            }
        };
        self.settle(now_ms, &flight, outcome);
        effects.push(Effect::Log(LogEntry::Attempt { attempt: flight.attempt, outcome, standing }));
    }

    /// Lets the cursor that waited for the attempt go on. A row, where one is needed, is there already, and both go
    /// into the same Persist.
    fn settle(&mut self, now_ms: u64, flight: &Flight, outcome: Outcome) {
        let first = flight.attempt.events.first().copied();
        match (flight.origin, first) {
            (Origin::Live, Some(first)) if !flight.dropped => self.live.settle(first),
            (Origin::Replay, Some(first)) => {
                if let Some(replaying) = self.replaying.as_mut().filter(|r| Some(r.id) == flight.job) {
                    replaying.reader.settle(first);
                }
            }
            _ => {}
        }
        if let Some(id) = flight.job
            && let Some(job) = self.jobs.get_mut(&id)
        {
            count(job, outcome);
            self.ledger.touch_job(id, now_ms);
        }
        self.ledger.settle(now_ms);
    }

    fn succeeded(&mut self, now_ms: u64, flight: &Flight) -> Standing {
        self.state.last_delivery_ms = Some(now_ms);
        self.state.consecutive_failures = 0;
        self.state.failing = None;
        if self.rows.remove(flight.attempt.delivery).is_some() {
            self.ledger.touch_row(flight.attempt.delivery, now_ms);
        }
        Standing::Delivered
    }

    fn failed(
        &mut self,
        now_ms: u64,
        random: u64,
        flight: &Flight,
        failure: Failure,
        retry_after_ms: Option<u64>,
        effects: &mut Vec<Effect>,
    ) -> Standing {
        self.note_failure(now_ms, random, failure);
        self.ledger.hurry(now_ms);
        let delivery = flight.attempt.delivery;
        if flight.dropped {
            return Standing::Dropped;
        }
        let mut row = self
            .rows
            .remove(delivery)
            .unwrap_or_else(|| Row::new(delivery, flight.attempt.events.clone(), RowState::Retrying, 0, now_ms));
        self.ledger.touch_row(delivery, now_ms);
        self.drop_lost_events(&mut row, effects);
        if row.events.is_empty() {
            return Standing::Dropped;
        }
        row.attempts = flight.attempt.number;
        row.first_failed_ms.get_or_insert(now_ms);
        row.last = Some(failure);
        row.requested = None;
        let delay_ms = match failure.code {
            FailureCode::RenderError => None,
            _ => row.delay_ms(&self.config.retry_policy),
        };
        match (row.state, delay_ms) {
            // it was only sent once more; nothing is owed
            (RowState::Delivered, _) => Standing::Delivered,
            (RowState::Dead, _) => {
                self.rows.put(row);
                Standing::Dead
            }
            (RowState::Retrying, Some(delay_ms)) => {
                row.wait_ms = wait_ms(delay_ms, retry_after_ms, random);
                row.next_at_ms = now_ms + row.wait_ms;
                let standing = Standing::Retrying { next_at_ms: row.next_at_ms };
                self.rows.put(row);
                standing
            }
            (RowState::Retrying, None) => {
                self.bury(now_ms, row, effects);
                Standing::Dead
            }
        }
    }

    fn note_failure(&mut self, now_ms: u64, random: u64, failure: Failure) {
        let state = &mut self.state;
        if failure.code == FailureCode::RenderError {
            // it says nothing about the endpoint
            state.last_failure = Some(failure);
            return;
        }
        state.consecutive_failures = state.consecutive_failures.saturating_add(1);
        state.last_failure = Some(failure);
        let mut failing = state.failing.unwrap_or(Failing { first_ms: now_ms, last_ms: now_ms, failing_ms: 0 });
        failing.failing_ms += now_ms.saturating_sub(failing.last_ms).min(self.limits.failing_gap_max_ms);
        failing.last_ms = now_ms;
        state.failing = Some(failing);
        // any failed attempt is as good as a probe
        self.probe_at_ms = now_ms + jittered_ms(self.limits.probe_every_ms, random.rotate_left(32));
        let long = failing.failing_ms >= self.limits.disable_after_ms;
        let often = state.consecutive_failures >= self.limits.disable_failures_min;
        if long && often && state.off.is_none() {
            self.switch_off(now_ms, OffReason::Failing);
        }
    }

    /// Gives a delivery up: kept, announced, and the oldest dead ones make room.
    fn bury(&mut self, now_ms: u64, mut row: Row, effects: &mut Vec<Effect>) {
        row.state = RowState::Dead;
        row.announced = false;
        let (delivery, attempts) = (row.delivery, row.attempts);
        let notice = Notice::DeadLetter(Box::new(row.clone()));
        self.rows.put(row);
        self.ledger.touch_row(delivery, now_ms);
        self.ledger.announce(NoticeKey::Dead(delivery, attempts), notice, now_ms);
        let mut forgotten = Vec::new();
        while let Some(oldest) = self.rows.surplus_dead(self.limits.dead_max) {
            self.rows.remove(oldest);
            self.ledger.touch_row(oldest, now_ms);
            forgotten.push(oldest);
        }
        if !forgotten.is_empty() {
            effects.push(Effect::Log(LogEntry::Forgotten(forgotten)));
        }
    }

    /// Gives up what has had all the attempts that the policy, as it is now, allows.
    pub(super) fn bury_exhausted(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let exhausted = |row: &&Row| {
            let waits = row.state == RowState::Retrying && !self.rows.is_in_flight(row.delivery);
            waits && row.attempts > row.ladder_from && row.delay_ms(&self.config.retry_policy).is_none()
        };
        let exhausted: Vec<Row> = self.rows.iter().filter(exhausted).cloned().collect();
        for row in exhausted {
            self.bury(now_ms, row, effects);
        }
    }
}

fn count(job: &mut Job, outcome: Outcome) {
    match outcome {
        Outcome::Success => job.delivered += 1,
        Outcome::Failed { .. } | Outcome::Gone => job.failed += 1,
    }
}
