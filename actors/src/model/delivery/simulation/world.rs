//! The world around the endpoint: time, the log, the disk, the owner, and crashes at any step.

use std::collections::{BTreeMap, VecDeque};

use super::receiver::{Receiver, ReceiverMode};
use super::reference_model::{Disk, ReferenceModel};
use super::{Dice, Totals};
use crate::model::delivery::{
    Batch, Change, DeliveryId, Effect, Endpoint, EndpointConfig, EndpointLimits, EndpointState, Health, Input, JobId,
    JobState, LogEntry, NoticeKey, Offer, Opened, Outcome, RateLimit, ReplayRequest, Resume, RetryPolicy, RowState,
    Ticket, Trigger,
};
use crate::model::id::{EventId, IdSource};

const START_MS: u64 = 1_750_000_000_000;
/// Steps with trouble, and the most that may follow until everything has come to rest.
const STEPS: u64 = 350;
const STEPS_TO_REST: u64 = 40_000;
const LOG_MAX: usize = 400;

/// Something to come.
#[derive(Debug)]
enum Coming {
    // answers to effects; they die with the life of the endpoint that asked
    Page { ticket: Ticket, after: EventId, until: EventId, want: usize },
    Answer(DeliveryId, Outcome),
    Durable(u64),
    Wake(u64),
    InLog(NoticeKey),
    // the world
    Publish,
    ReceiverMode,
    Owner,
    Retention,
    ClockBack,
}

pub(super) struct World {
    dice: Dice,
    /// Time that only goes forward; the clock of the endpoint is behind by `clock_behind_ms`.
    elapsed_ms: u64,
    clock_behind_ms: u64,
    limits: EndpointLimits,
    config: EndpointConfig,
    ids: IdSource,
    log: Vec<Offer>,
    disk: Disk,
    unsynced: VecDeque<(u64, Vec<Change>)>,
    endpoint: Option<Endpoint>,
    receiver: Receiver,
    reference_model: ReferenceModel,
    agenda: BTreeMap<(u64, u64), (u64, Coming)>,
    life: u64,
    planned: u64,
    wake: u64,
    calm: bool,
    tally: Totals,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let limits = EndpointLimits {
            retry_slots: 3,
            replay_slots: 2,
            rows_max: 24,
            rows_hold: 12,
            dead_max: 10,
            read_ahead: 16,
            requested_max: 24,
            jobs_kept: 3,
            unsaved_max: 8,
            ..EndpointLimits::default()
        };
        let mut config = EndpointConfig::new("wh_sim");
        config.max_in_flight = 4;
        let mut ids = IdSource::after(EventId::ZERO);
        let cursor = ids.next(START_MS, || 0);
        let state = EndpointState::new(cursor, START_MS);
        let mut world = World {
            elapsed_ms: 0,
            clock_behind_ms: 0,
            limits,
            config,
            ids,
            log: Vec::new(),
            disk: Disk { state, rows: BTreeMap::new(), jobs: BTreeMap::new() },
            unsynced: VecDeque::new(),
            endpoint: None,
            receiver: Receiver { mode: ReceiverMode::Good },
            reference_model: ReferenceModel::default(),
            agenda: BTreeMap::new(),
            life: 0,
            planned: 0,
            wake: 0,
            calm: false,
            tally: Totals::default(),
            dice: Dice(dice.next()),
        };
        world.shuffle_config();
        for coming in [Coming::Publish, Coming::ReceiverMode, Coming::Owner, Coming::Retention, Coming::ClockBack] {
            let wait_ms = world.dice.below(60_000);
            world.plan(wait_ms, coming);
        }
        world
    }

    pub(super) fn run(mut self) -> Totals {
        self.open();
        for _ in 0..STEPS {
            self.step();
        }
        self.calm_down();
        for _ in 0..STEPS_TO_REST {
            if self.agenda.is_empty() {
                break;
            }
            self.step();
        }
        self.check_rest();
        self.tally
    }

    fn now_ms(&self) -> u64 {
        START_MS + self.elapsed_ms - self.clock_behind_ms
    }

    fn plan(&mut self, wait_ms: u64, coming: Coming) {
        self.planned += 1;
        self.agenda.insert((self.elapsed_ms + wait_ms, self.planned), (self.life, coming));
    }

    fn step(&mut self) {
        self.tally.steps += 1;
        let Some(((at_ms, _), (life, coming))) = self.agenda.pop_first() else { return };
        // what was to come while the endpoint was down comes late
        self.elapsed_ms = self.elapsed_ms.max(at_ms);
        let stale = life != self.life;
        match coming {
            Coming::Publish => self.publish(),
            Coming::ReceiverMode => {
                let wait_ms = self.receiver.change(&mut self.dice);
                self.plan(wait_ms, Coming::ReceiverMode);
            }
            Coming::Owner => self.owner(),
            Coming::Retention => self.retention(),
            Coming::ClockBack => {
                self.clock_behind_ms += self.dice.below(3_600_000.min(self.elapsed_ms - self.clock_behind_ms + 1));
                let now_ms = self.now_ms();
                self.reference_model.clock_stepped_back(now_ms, &self.limits);
                self.handle(Input::Tick);
                self.plan(20 * 86_400_000, Coming::ClockBack);
            }
            _ if stale => {}
            Coming::Page { ticket, after, until, want } => {
                let page = self.log.iter().filter(|offer| offer.id > after && offer.id <= until);
                let events: Vec<Offer> = page.take(want).copied().collect();
                let head = self.log.last().map_or(after, |offer| offer.id);
                let more = events.len() == want;
                let through = if more { events[want - 1].id } else { head.max(after).min(until) };
                self.handle(Input::Offered { ticket, events, through, more });
            }
            Coming::Answer(delivery, outcome) => {
                let trigger = self.reference_model.in_flight.remove(&delivery).map(|(trigger, _)| trigger);
                if trigger != Some(Trigger::Test)
                    && let Outcome::Failed { status: Some(429), retry_after_ms: Some(asked_ms), .. } = outcome
                {
                    let until_ms = self.now_ms() + asked_ms.min(self.limits.throttle_max_ms);
                    self.reference_model.throttled_until_ms = self.reference_model.throttled_until_ms.max(until_ms);
                }
                self.handle(Input::Finished { delivery, outcome });
            }
            Coming::Durable(through) => {
                self.sync(|seq| seq <= through);
                self.handle(Input::Persisted { through });
            }
            Coming::Wake(no) if no == self.wake => self.handle(Input::Tick),
            Coming::Wake(_) => {}
            Coming::InLog(key) => self.handle(Input::Announced { key }),
        }
    }

    /// What was asked to be kept up to some point has reached the disk.
    fn sync(&mut self, reached: impl Fn(u64) -> bool) {
        while self.unsynced.front().is_some_and(|(seq, _)| reached(*seq)) {
            let Some((_, changes)) = self.unsynced.pop_front() else { break };
            self.disk.apply(changes);
            self.reference_model.check_disk(&self.disk);
        }
    }

    fn open(&mut self) {
        // what is on disk passes through its text form
        let text = serde_json::to_string(&(&self.disk.state, &self.config)).expect("JSON");
        let (state, config) = serde_json::from_str(&text).expect("what was written reads back");
        let rows: Vec<_> = self.disk.rows.values().collect();
        let rows = serde_json::from_str(&serde_json::to_string(&rows).expect("JSON")).expect("rows read back");
        let jobs: Vec<_> = self.disk.jobs.values().collect();
        let jobs = serde_json::from_str(&serde_json::to_string(&jobs).expect("JSON")).expect("jobs read back");
        self.life += 1;
        self.reference_model.restart(&self.disk, self.elapsed_ms);
        let mut effects = Vec::new();
        let opened = Opened { config, state, rows, jobs, lost_through: self.reference_model.lost_through };
        let endpoint = Endpoint::open(self.now_ms(), self.limits, opened, &mut effects);
        self.endpoint = Some(endpoint);
        self.perform(effects);
    }

    fn handle(&mut self, input: Input) {
        let (now_ms, random) = (self.now_ms(), self.dice.next());
        let Some(endpoint) = &mut self.endpoint else { return };
        let mut effects = Vec::new();
        endpoint.handle(now_ms, random, input, &mut effects);
        self.perform(effects);
    }

    /// Does what the endpoint asked for, or only the beginning of it, and then loses the endpoint.
    fn perform(&mut self, effects: Vec<Effect>) {
        let now_ms = self.now_ms();
        let Some(endpoint) = self.endpoint.take() else { return };
        for effect in &effects {
            if let Effect::Log(entry) = effect {
                self.reference_model.check_log(now_ms, entry, &endpoint);
                self.tally.gaps += u64::from(matches!(entry, LogEntry::Gap(_)));
            }
        }
        self.reference_model.check_endpoint(&endpoint, &effects);
        let crash = !self.calm && self.dice.one_in(60);
        let performed = if crash { self.dice.below(effects.len() as u64 + 1) as usize } else { effects.len() };
        let mut stopped = false;
        for effect in effects.into_iter().take(performed) {
            stopped |= effect == Effect::Stopped;
            self.do_one(&endpoint, effect);
        }
        self.endpoint = Some(endpoint);
        if stopped {
            assert!(self.unsynced.is_empty(), "stopped before everything was durable");
        }
        if crash || stopped {
            self.tally.crashes += u64::from(crash);
            // a crash keeps any beginning of what was on its way to the disk
            let kept = self.dice.below(self.unsynced.len() as u64 + 1);
            let last = self.unsynced.front().map_or(0, |(seq, _)| seq + kept);
            self.sync(|seq| seq < last);
            self.unsynced.clear();
            let down_ms = self.dice.pick(&[0, 2_000, 3_600_000, 3 * 86_400_000]);
            self.elapsed_ms += self.dice.below(down_ms + 1);
            self.open();
        }
    }

    fn do_one(&mut self, endpoint: &Endpoint, effect: Effect) {
        let now_ms = self.now_ms();
        match effect {
            Effect::Read { ticket, after, until, want, .. } => {
                assert!(want > 0 && after < until);
                let wait_ms = self.dice.below(5);
                self.plan(wait_ms, Coming::Page { ticket, after, until, want });
            }
            Effect::Attempt(attempt) => {
                self.reference_model.check_attempt(now_ms, &attempt, &self.disk, endpoint, self.elapsed_ms);
                self.tally.attempts += 1;
                match attempt.trigger {
                    Trigger::Retry => self.tally.retries += 1,
                    Trigger::Manual => self.tally.manual += 1,
                    Trigger::Replay => self.tally.replayed += 1,
                    Trigger::First => self.tally.probes += u64::from(endpoint.health() == Health::Probing),
                    Trigger::Test => {}
                }
                let first = attempt.events.first().copied().unwrap_or(EventId::ZERO);
                let (outcome, wait_ms) = self.receiver.answer(first, &mut self.dice);
                if outcome == Outcome::Success {
                    // the receiver has them, whether the endpoint lives to hear of it or not
                    self.reference_model.open.retain(|event| !attempt.events.contains(event));
                }
                self.reference_model.in_flight.insert(attempt.delivery, (attempt.trigger, outcome));
                self.reference_model.carried.insert(attempt.delivery, attempt.events);
                self.plan(wait_ms, Coming::Answer(attempt.delivery, outcome));
            }
            Effect::Persist { seq, changes } => {
                self.unsynced.push_back((seq, changes));
                let wait_ms = self.dice.pick(&[0, 1, 3, 3, 8, 900]);
                // acknowledgements keep their order, as the Persists do
                let last =
                    self.agenda.iter().filter(|(_, (life, c))| *life == self.life && matches!(c, Coming::Durable(_)));
                let after_ms = last.map(|((at, _), _)| *at).max().unwrap_or(0);
                self.plan(wait_ms.max(after_ms.saturating_sub(self.elapsed_ms)), Coming::Durable(seq));
            }
            Effect::WakeAt { at_ms } => {
                self.wake += 1;
                self.plan(at_ms.saturating_sub(now_ms), Coming::Wake(self.wake));
            }
            Effect::Emit { key, notice } => {
                self.reference_model.check_notice(key, &notice, &self.disk);
                match notice.event_type() {
                    "webhook.dead_letter" => self.tally.dead += 1,
                    "webhook.disabled" => self.tally.disabled += 1,
                    _ => {}
                }
                let wait_ms = self.dice.below(50);
                self.plan(wait_ms, Coming::InLog(key));
            }
            Effect::Log(_) | Effect::JobStarted(_) | Effect::Refused(_) | Effect::Stopped => {}
        }
    }

    fn publish(&mut self) {
        let count = self.dice.pick(&[1, 1, 1, 2, 5, 30]);
        for _ in 0..count {
            if self.log.len() >= LOG_MAX {
                break;
            }
            let now_ms = self.now_ms();
            let random = u128::from(self.dice.next()) << 16;
            let offer = Offer {
                id: self.ids.next(now_ms, || random),
                matches: !self.dice.one_in(6),
                bytes: self.dice.pick(&[200, 2_000, 400_000]),
            };
            self.log.push(offer);
            if offer.matches {
                self.reference_model.open.insert(offer.id);
            }
        }
        let most = self.dice.pick(&[100, 2_000, 60_000, 6 * 3_600_000, 86_400_000]);
        let wait_ms = self.dice.below(most);
        self.plan(wait_ms, Coming::Publish);
        self.handle(Input::Appended);
    }

    fn retention(&mut self) {
        if !self.log.is_empty() {
            let gone = self.dice.below(self.log.len() as u64) as usize;
            let through = self.log[gone].id;
            self.log.drain(..=gone);
            self.reference_model.lost_through = through;
            self.handle(Input::Lost { through });
            // what was in flight at that time may still arrive or turn out to be lost; the rest was reported
            let flying: Vec<EventId> =
                self.reference_model.in_flight.keys().flat_map(|id| self.reference_model.carried[id].clone()).collect();
            let silent = self.reference_model.open.range(..=through).find(|event| !flying.contains(event));
            assert_eq!(silent, None, "lost without a word");
        }
        let wait_ms = self.dice.below(10 * 86_400_000) + 3_600_000;
        self.plan(wait_ms, Coming::Retention);
    }

    fn shuffle_config(&mut self) {
        let dice = &mut self.dice;
        self.config.ordered = dice.one_in(3);
        self.config.batch = dice
            .one_in(4)
            .then(|| Batch { max_events: dice.below(8) as u32 + 1, max_wait_ms: dice.pick(&[0, 50, 5_000]) });
        let rate = RateLimit { per_second: dice.below(5) as u32 + 1, burst: dice.below(5) as u32 + 1 };
        let rate_limit = dice.one_in(4).then_some(rate);
        if rate_limit != self.config.rate_limit {
            self.config.rate_limit = rate_limit;
            self.reference_model.paced = (0, self.elapsed_ms);
        }
        self.config.retry_policy = match dice.below(4) {
            0 => RetryPolicy::organization_default(),
            1 => RetryPolicy::schedule(&[1, 60]).expect("a schedule"),
            _ => RetryPolicy::map_default(),
        };
    }

    /// The owner does something; what is stored about the webhook is durable before the endpoint hears of it.
    fn owner(&mut self) {
        let off = self.disk.state.off.is_some();
        match self.dice.below(12) {
            0..2 => {
                self.shuffle_config();
                let new_target = self.dice.one_in(4);
                if new_target {
                    self.reference_model.forgive();
                }
                self.handle(Input::Configure { config: self.config.clone(), new_target });
            }
            2 => {
                self.config.active = false;
                self.handle(Input::Disable);
            }
            3..6 if off || !self.config.active => {
                let resume = self.dice.pick(&[Resume::Skip, Resume::Pending, Resume::Pending, Resume::All]);
                self.enable(resume);
            }
            6 => self.handle(Input::Shutdown),
            7 => {
                let delivery = DeliveryId::fresh(self.now_ms(), u128::from(self.dice.next()));
                self.handle(Input::Test { delivery });
            }
            8..10 => self.resend(),
            _ if !self.log.is_empty() => {
                let index = self.dice.below(self.log.len() as u64) as usize;
                let (after, until) = (self.log[index].id, self.log[self.log.len() - 1].id);
                let dead_only = self.dice.one_in(2);
                self.handle(Input::Replay(ReplayRequest { after, until, events: None, dead_only }));
            }
            _ => {}
        }
        let wait_ms = self.dice.below(86_400_000) + 1;
        self.plan(wait_ms, Coming::Owner);
    }

    fn enable(&mut self, resume: Resume) {
        self.config.active = true;
        self.reference_model.forgive();
        self.reference_model.revived |= resume == Resume::All;
        let head = self.log.last().map_or(self.disk.state.cursor, |offer| offer.id);
        if resume == Resume::Skip {
            // given up by the owner, unless it is dead: that stays listed
            let rows = self.endpoint.iter().flat_map(|endpoint| endpoint.rows());
            let dead: Vec<EventId> =
                rows.filter(|row| row.state == RowState::Dead).flat_map(|row| row.events.clone()).collect();
            self.reference_model.open.retain(|event| *event > head || dead.contains(event));
        }
        self.handle(Input::Enable { resume, head });
    }

    fn resend(&mut self) {
        let rows: Vec<DeliveryId> = self.endpoint.iter().flat_map(|e| e.rows()).map(|row| row.delivery).collect();
        let known: Vec<DeliveryId> =
            self.reference_model.carried.keys().copied().filter(|id| !rows.contains(id)).collect();
        let mut from = if rows.is_empty() || self.dice.one_in(3) { known } else { rows };
        from.sort();
        if from.is_empty() {
            return;
        }
        let delivery = self.dice.pick(&from);
        let events = self.reference_model.carried.get(&delivery).cloned().unwrap_or_default();
        self.handle(Input::Resend { delivery, events, attempts: 1 });
    }

    /// The trouble ends: everything must come to rest by what the endpoint asks for alone.
    fn calm_down(&mut self) {
        self.calm = true;
        self.receiver.mode = ReceiverMode::Good;
        let world = |coming: &Coming| {
            matches!(
                coming,
                Coming::Publish | Coming::ReceiverMode | Coming::Owner | Coming::Retention | Coming::ClockBack
            )
        };
        self.agenda.retain(|_, (_, coming)| !world(coming));
        // what was answered before may still switch the endpoint off
        while self.reference_model.in_flight.values().any(|(_, outcome)| *outcome == Outcome::Gone) {
            self.step();
        }
        self.enable(Resume::Pending);
    }

    fn check_rest(&self) {
        assert!(self.agenda.is_empty(), "no rest after {STEPS_TO_REST} steps");
        let endpoint = self.endpoint.as_ref().expect("an endpoint");
        let observed = endpoint.observe();
        // a failure that was in flight may have been the last word
        assert!(!matches!(observed.health, Health::Paused | Health::Disabled), "{observed:?}");
        assert_eq!((observed.retrying, observed.ready), (0, 0), "work is left: {observed:?}");
        assert_eq!(observed.in_flight, Default::default());
        assert!(self.log.last().is_none_or(|offer| observed.cursor >= offer.id), "the cursor is not at the head");
        let dead = |event: &&EventId| endpoint.rows().any(|r| r.state == RowState::Dead && r.events.contains(event));
        assert_eq!(self.reference_model.open.iter().find(|event| !dead(event)), None, "neither delivered nor dead");
        let open: Vec<JobId> = endpoint.jobs().filter(|job| job.state != JobState::Done).map(|job| job.id).collect();
        assert!(open.is_empty(), "replays that never end: {open:?}");
        assert_eq!(self.disk.rows.len(), endpoint.rows().count(), "memory and disk agree");
        assert_eq!(self.disk.state.cursor, endpoint.cursor());
        assert!(endpoint.rows().all(|row| self.disk.rows.get(&row.delivery) == Some(row)));
    }
}
