//! What is attempted next, what is read next, and when to look again.

use super::endpoint::{Endpoint, Flight, Origin, Replaying};
use super::ids::DeliveryId;
use super::protocol::{Attempt, Effect, Ticket, Trigger};
use super::reader::Reader;
use super::record::{JobState, Request, RowState};
use crate::model::id::EventId;

/// Of this many attempts one is left to retries first, and another to replays, when a rate limit makes them compete.
/// Without a rate limit nothing competes: each has slots of its own.
const TURNS: u32 = 8;
const RETRY_TURN: u32 = 3;
const REPLAY_TURN: u32 = 7;

/// What could be attempted now.
#[derive(Clone, Copy, Debug)]
enum Candidate {
    /// The next event or batch behind the cursor.
    First,
    /// A row that is due or was asked for.
    Row(DeliveryId, Trigger),
    /// The next event or batch of the replay.
    Replay,
}

impl Endpoint {
    /// Begins every attempt that may begin now.
    pub(super) fn dispatch(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        while let Some(candidate) = self.choose(now_ms) {
            if self.bucket.as_mut().is_some_and(|bucket| !bucket.take(now_ms)) {
                break;
            }
            self.turn = (self.turn + 1) % TURNS;
            match candidate {
                Candidate::First => self.start_first(effects),
                Candidate::Row(delivery, trigger) => self.start_row(delivery, trigger, effects),
                Candidate::Replay => self.start_replay(now_ms, effects),
            }
        }
    }

    fn choose(&self, now_ms: u64) -> Option<Candidate> {
        let busy = self.flights.len() > self.slots.test;
        if self.stopping || self.state.off.is_some() || self.throttled_until_ms > now_ms {
            return None;
        }
        if self.config.ordered && busy {
            return None;
        }
        let first = || self.first_may_start(now_ms).then_some(Candidate::First);
        let retry = || self.due_row(now_ms);
        let replay = || self.replay_candidate(now_ms);
        match self.turn {
            RETRY_TURN => retry().or_else(first).or_else(replay),
            REPLAY_TURN => replay().or_else(first).or_else(retry),
            _ => first().or_else(retry).or_else(replay),
        }
    }

    fn first_may_start(&self, now_ms: u64) -> bool {
        let Some(next) = self.live.first_ready() else { return false };
        let slots = self.slots.first < self.config.max_in_flight as usize;
        let in_order = !self.config.ordered || self.rows.head().is_none_or(|head| head.first() > next);
        slots
            && in_order
            && self.is_paced(now_ms)
            && self.has_room()
            && self.live.has_unit(self.config.batch, now_ms, false)
    }

    /// Whether a delivery that was not attempted yet may be: always, or as the next probe.
    fn is_paced(&self, now_ms: u64) -> bool {
        !self.is_probing() || (self.slots.first + self.slots.replay == 0 && now_ms >= self.probe_at_ms)
    }

    /// Whether the rows stay within their bound even if everything in flight fails.
    fn has_room(&self) -> bool {
        self.rows.retrying() + self.slots.first + self.slots.replay < self.limits.rows_max
    }

    fn due_row(&self, now_ms: u64) -> Option<Candidate> {
        if self.slots.retry >= self.limits.retry_slots {
            return None;
        }
        let saved = self.ledger.saved_through();
        if let Some(delivery) = self.rows.next_manual(saved) {
            return Some(Candidate::Row(delivery, Trigger::Manual));
        }
        let due = if self.config.ordered {
            // the first in the log, and only when nothing before it is still to be attempted
            let head = self.rows.head().filter(|head| head.first() <= self.live.cursor());
            head.map(|head| head.delivery).filter(|head| self.rows.is_due(*head, now_ms, saved))
        } else {
            self.rows.next_due(now_ms, saved)
        };
        due.map(|delivery| Candidate::Row(delivery, Trigger::Retry))
    }

    fn replay_candidate(&self, now_ms: u64) -> Option<Candidate> {
        let held = self.config.ordered && self.rows.head().is_some();
        if held || !self.is_paced(now_ms) || self.slots.replay >= self.limits.replay_slots || !self.has_room() {
            return None;
        }
        if let Some(delivery) = self.rows.next_replay(self.ledger.saved_through()) {
            return Some(Candidate::Row(delivery, Trigger::Replay));
        }
        let replaying = self.replaying.as_ref()?;
        let at_end = replaying.reader.read_to() >= replaying.until;
        replaying.reader.has_unit(self.config.batch, now_ms, at_end).then_some(Candidate::Replay)
    }

    fn start_first(&mut self, effects: &mut Vec<Effect>) {
        let events = self.live.take_unit(self.config.batch);
        let delivery = DeliveryId::of(&self.config.webhook, &events);
        let attempt = Attempt { delivery, events, number: 1, trigger: Trigger::First };
        self.launch(Flight { attempt, origin: Origin::Live, job: None, dropped: false }, effects);
    }

    fn start_row(&mut self, delivery: DeliveryId, trigger: Trigger, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.get(delivery) else { return };
        let job = match row.requested {
            Some(Request::Replay(job)) => Some(job),
            Some(Request::Manual) | None => None,
        };
        let attempt = Attempt { delivery, events: row.events.clone(), number: row.attempts + 1, trigger };
        self.rows.take_off(delivery);
        self.launch(Flight { attempt, origin: Origin::Row, job, dropped: false }, effects);
    }

    fn start_replay(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let Some(replaying) = &mut self.replaying else { return };
        let events = replaying.reader.take_unit(self.config.batch);
        let Some(first) = events.first().copied() else { return };
        let id = replaying.id;
        let delivery = DeliveryId::of(&self.config.webhook, &events);
        // what is retried or asked for anyway is not sent twice
        let row = self.rows.get(delivery);
        let waits = row.is_some_and(|row| row.state != RowState::Dead || row.requested.is_some());
        if waits || self.flights.contains_key(&delivery) {
            replaying.reader.settle(first);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.skipped += 1;
            }
            self.ledger.touch_job(id, now_ms);
            return;
        }
        let number = row.map_or(1, |row| row.attempts + 1);
        self.rows.take_off(delivery);
        let attempt = Attempt { delivery, events, number, trigger: Trigger::Replay };
        self.launch(Flight { attempt, origin: Origin::Replay, job: Some(id), dropped: false }, effects);
    }

    pub(super) fn launch(&mut self, flight: Flight, effects: &mut Vec<Effect>) {
        *self.slots.of(flight.attempt.trigger) += 1;
        effects.push(Effect::Attempt(flight.attempt.clone()));
        self.flights.insert(flight.attempt.delivery, flight);
    }

    /// Writes down how far the jobs are, ends those that are done, begins the next.
    pub(super) fn finish_jobs(&mut self, now_ms: u64) {
        if let Some(replaying) = &self.replaying
            && let Some(job) = self.jobs.get_mut(&replaying.id)
        {
            job.position = replaying.reader.cursor().max(job.position);
            if replaying.reader.is_done(replaying.until) {
                self.replaying = None;
            }
        }
        if self.replaying.is_none() {
            // a range whose replay has ended has its position at its end
            let next = |job: &&super::record::Job| {
                job.state == JobState::Running && !job.dead_only && job.position < job.until
            };
            self.replaying = self.jobs.values().find(next).map(|job| Replaying {
                id: job.id,
                reader: Reader::at(job.position),
                until: job.until,
                reading_to: job.position,
            });
        }
        let running = self.replaying.as_ref().map(|replaying| replaying.id);
        let done = self.jobs.values().filter(|job| {
            let asked = || {
                self.rows.iter().any(|row| row.requested == Some(Request::Replay(job.id)))
                    || self.flights.values().any(|flight| flight.job == Some(job.id))
            };
            let open = if job.dead_only { asked() } else { running == Some(job.id) || job.position < job.until };
            job.state == JobState::Running && !open
        });
        let done: Vec<_> = done.map(|job| job.id).collect();
        for id in done {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.state = JobState::Done;
                job.finished_ms = Some(now_ms);
            }
            self.ledger.touch_job(id, now_ms);
            self.ledger.hurry(now_ms);
        }
        while self.jobs.values().filter(|job| job.state == JobState::Done).count() > self.limits.jobs_kept {
            let Some(oldest) = self.jobs.values().find(|job| job.state == JobState::Done).map(|job| job.id) else {
                break;
            };
            self.jobs.remove(&oldest);
            self.ledger.touch_job(oldest, now_ms);
        }
    }

    /// Asks for the events that are wanted next.
    pub(super) fn ask(&mut self, effects: &mut Vec<Effect>) {
        if self.stopping || self.state.off.is_some() {
            return;
        }
        let batch = self.config.batch.map_or(0, |batch| batch.max_events as usize);
        let ahead = self.limits.read_ahead.max(2 * batch);
        if self.live.wants_more(ahead) {
            let ticket = next_ticket(&mut self.last_ticket);
            self.live.ask(ticket);
            let want = ahead - self.live.ready();
            effects.push(Effect::Read { ticket, job: None, after: self.live.read_to(), until: EventId::MAX, want });
        }
        let ended = self.live.cursor();
        let Some(replaying) = &mut self.replaying else { return };
        let until = replaying.until.min(ended);
        if replaying.reader.read_to() < until && replaying.reader.wants_more(ahead) {
            let ticket = next_ticket(&mut self.last_ticket);
            replaying.reader.ask(ticket);
            replaying.reading_to = until;
            let (after, want) = (replaying.reader.read_to(), ahead - replaying.reader.ready());
            effects.push(Effect::Read { ticket, job: Some(replaying.id), after, until, want });
        }
    }

    /// Asks to be woken when time alone makes something possible or necessary.
    pub(super) fn wake(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let save_at = self.ledger.due_at_ms(&self.limits);
        let open = !self.stopping && self.state.off.is_none();
        let send_at = if open { self.next_send_at_ms(now_ms) } else { None };
        let at_ms = [save_at, send_at].into_iter().flatten().min();
        if let Some(at_ms) = at_ms
            && (self.wake_at_ms != Some(at_ms))
        {
            effects.push(Effect::WakeAt { at_ms });
        }
        self.wake_at_ms = at_ms;
    }

    fn next_send_at_ms(&self, now_ms: u64) -> Option<u64> {
        if self.throttled_until_ms > now_ms {
            return Some(self.throttled_until_ms);
        }
        let tokens = self.bucket.as_ref().filter(|_| self.choose(now_ms).is_some()).map(|bucket| bucket.ready_at_ms());
        let probe = self.is_probing().then_some(self.probe_at_ms);
        let batch = self.live.batch_due_ms(self.config.batch);
        let replayed = self.replaying.as_ref().and_then(|r| r.reader.batch_due_ms(self.config.batch));
        // what is overdue waits for something else than time: a slot, or that a row becomes durable
        let times = [tokens, probe, batch, replayed, self.rows.next_due_after(now_ms)];
        times.into_iter().flatten().filter(|at_ms| *at_ms > now_ms).min()
    }
}

fn next_ticket(last: &mut u64) -> Ticket {
    *last += 1;
    Ticket(*last)
}
