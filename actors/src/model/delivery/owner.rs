//! What people ask of an endpoint: settings, the switch, one delivery again, a range again, a test.

use super::bucket::Bucket;
use super::config::EndpointConfig;
use super::endpoint::{Endpoint, Flight, Origin};
use super::ids::DeliveryId;
use super::protocol::{Attempt, Effect, LogEntry, NoticeKey, Refusal, ReplayRequest, Resume, Trigger};
use super::record::{Job, JobId, JobState, Off, OffReason, Request, Row, RowState};
use crate::model::id::EventId;

impl Endpoint {
    pub(super) fn configure(
        &mut self,
        now_ms: u64,
        config: EndpointConfig,
        new_target: bool,
        effects: &mut Vec<Effect>,
    ) {
        if self.bucket.as_ref().map(Bucket::limit) != config.rate_limit {
            self.bucket = config.rate_limit.map(|limit| Bucket::new(limit, now_ms));
        }
        self.config = config;
        if new_target {
            self.forget_failures();
        }
        self.reread();
        self.bury_exhausted(now_ms, effects);
        self.follow_switch(now_ms);
        self.ledger.hurry(now_ms);
    }

    /// Brings the state in line with the owner's switch.
    pub(super) fn follow_switch(&mut self, now_ms: u64) {
        match self.state.off {
            None if !self.config.active => self.switch_off(now_ms, OffReason::Owner),
            Some(Off { reason: OffReason::Owner, .. }) if self.config.active => self.switch_on(now_ms),
            _ => {}
        }
    }

    /// No attempt begins from here on; those in flight end as they may. What was read ahead is read again later.
    pub(super) fn switch_off(&mut self, now_ms: u64, reason: OffReason) {
        let off = Off {
            reason,
            since_ms: now_ms,
            last: self.state.last_failure,
            consecutive_failures: self.state.consecutive_failures,
        };
        self.state.off = Some(off);
        self.reread();
        self.announce_switch(now_ms, Some(off));
    }

    fn switch_on(&mut self, now_ms: u64) {
        self.state.off = None;
        self.forget_failures();
        self.reread();
        self.announce_switch(now_ms, None);
    }

    fn announce_switch(&mut self, now_ms: u64, off: Option<Off>) {
        let notice = self.state.announce(off, now_ms);
        self.ledger.announce(NoticeKey::Health(notice.no), notice.into(), now_ms);
    }

    fn forget_failures(&mut self) {
        self.state.consecutive_failures = 0;
        self.state.failing = None;
        self.probe_at_ms = 0;
        self.throttled_until_ms = 0;
    }

    fn reread(&mut self) {
        self.live.rewind();
        if let Some(replaying) = &mut self.replaying {
            replaying.reader.rewind();
        }
    }

    pub(super) fn enable(&mut self, now_ms: u64, resume: Resume, head: EventId, effects: &mut Vec<Effect>) {
        self.config.active = true;
        match resume {
            Resume::Pending => {}
            Resume::Skip => self.skip(now_ms, head, effects),
            Resume::All => self.revive_dead(now_ms),
        }
        match self.state.off {
            Some(_) => self.switch_on(now_ms),
            // somebody who enables what is not off says that the receiver is well again
            None => self.forget_failures(),
        }
        self.ledger.hurry(now_ms);
    }

    fn skip(&mut self, now_ms: u64, head: EventId, effects: &mut Vec<Effect>) {
        self.live.jump(head);
        for flight in self.flights.values_mut() {
            let retried = self.rows.get(flight.attempt.delivery).is_some_and(|row| row.state == RowState::Retrying);
            flight.dropped |= flight.origin == Origin::Live || retried;
        }
        let retried = self.rows.iter().filter(|row| row.state == RowState::Retrying);
        let retried: Vec<DeliveryId> = retried.map(|row| row.delivery).collect();
        for delivery in &retried {
            self.rows.remove(*delivery);
            self.ledger.touch_row(*delivery, now_ms);
        }
        if !retried.is_empty() {
            effects.push(Effect::Log(LogEntry::Skipped(retried)));
        }
    }

    /// Every dead delivery gets all its attempts again, from now on.
    fn revive_dead(&mut self, now_ms: u64) {
        let dead = |row: &&Row| row.state == RowState::Dead && !self.rows.is_in_flight(row.delivery);
        let dead: Vec<Row> = self.rows.iter().filter(dead).cloned().collect();
        for row in dead {
            let delivery = row.delivery;
            self.rows.put(Row {
                state: RowState::Retrying,
                ladder_from: row.attempts,
                next_at_ms: now_ms,
                wait_ms: 0,
                // whoever asked for an attempt gets it now; a row that is retried must never wait for a replay, which
                // in ordered mode waits for it
                requested: None,
                announced: false,
                ..row
            });
            self.ledger.touch_row(delivery, now_ms);
        }
    }

    pub(super) fn resend(
        &mut self,
        now_ms: u64,
        delivery: DeliveryId,
        events: Vec<EventId>,
        attempts: u32,
        effects: &mut Vec<Effect>,
    ) {
        match self.resent(now_ms, delivery, events, attempts) {
            Ok(row) => {
                self.rows.put(Row { requested: Some(Request::Manual), ..row });
                self.ledger.touch_row(delivery, now_ms);
                self.ledger.hurry(now_ms);
            }
            Err(refusal) => effects.push(Effect::Refused(refusal)),
        }
    }

    fn resent(
        &self,
        now_ms: u64,
        delivery: DeliveryId,
        mut events: Vec<EventId>,
        attempts: u32,
    ) -> Result<Row, Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        if self.state.off.is_some() {
            return Err(Refusal::Off);
        }
        if self.flights.contains_key(&delivery) {
            return Err(Refusal::InFlight);
        }
        if let Some(row) = self.rows.get(delivery) {
            return Ok(row.clone());
        }
        if events.last().is_some_and(|last| *last > self.live.cursor()) {
            return Err(Refusal::InFlight);
        }
        events.retain(|event| *event > self.state.lost_through);
        if events.is_empty() {
            return Err(Refusal::Expired);
        }
        if self.rows.requested() >= self.limits.requested_max {
            return Err(Refusal::TooManyRequests { most: self.limits.requested_max });
        }
        Ok(Row::new(delivery, events, RowState::Delivered, attempts, now_ms))
    }

    pub(super) fn replay(&mut self, now_ms: u64, request: ReplayRequest, effects: &mut Vec<Effect>) {
        let running = self.jobs.values().filter(|job| job.state == JobState::Running).count();
        let refusal = match running >= self.limits.jobs_max {
            true => Some(Refusal::TooManyJobs { most: self.limits.jobs_max }),
            false => self.stopping.then_some(Refusal::Stopping),
        };
        if let Some(refusal) = refusal {
            effects.push(Effect::Refused(refusal));
            return;
        }
        let id = JobId(self.jobs.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        // what nobody has seen yet comes by itself
        let until = request.until.min(self.live.begun());
        let job = Job {
            id,
            state: JobState::Running,
            after: request.after,
            until,
            events: request.events,
            dead_only: request.dead_only,
            position: request.after,
            created_ms: now_ms,
            finished_ms: None,
            delivered: 0,
            failed: 0,
            skipped: 0,
            lost: request.after < self.state.lost_through,
        };
        if job.dead_only {
            for delivery in self.rows.dead_within(job.after, until) {
                let free = |row: &&Row| row.requested.is_none() && !self.rows.is_in_flight(row.delivery);
                if let Some(row) = self.rows.get(delivery).filter(free).cloned() {
                    self.rows.put(Row { requested: Some(Request::Replay(id)), ..row });
                    self.ledger.touch_row(delivery, now_ms);
                }
            }
        }
        self.jobs.insert(id, job);
        self.ledger.touch_job(id, now_ms);
        self.ledger.hurry(now_ms);
        effects.push(Effect::JobStarted(id));
    }

    pub(super) fn test(&mut self, delivery: DeliveryId, effects: &mut Vec<Effect>) {
        if self.stopping || self.slots.test > 0 {
            let refusal = if self.stopping { Refusal::Stopping } else { Refusal::TestRunning };
            effects.push(Effect::Refused(refusal));
            return;
        }
        let attempt = Attempt { delivery, events: Vec::new(), number: 1, trigger: Trigger::Test };
        self.launch(Flight { attempt, origin: Origin::Test, job: None, dropped: false }, effects);
    }
}
