//! Counters of what happens, from which the series of figures are sampled (see [`crate::series`]). Whoever counts adds to an
//! atomic number, or once per commit to a table; whoever samples takes what was counted since the time before.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::delivery::{Health, Outcome};
use crate::model::durations::{CLASSES, DurationCounts, class_of};
use crate::model::event::ChannelNo;
use crate::model::record_id::WebhookId;

/// Durations by class.
#[derive(Debug)]
struct Durations([AtomicU32; CLASSES]);

impl Default for Durations {
    fn default() -> Durations {
        Durations([const { AtomicU32::new(0) }; CLASSES])
    }
}

impl Durations {
    fn observe(&self, took: Duration) {
        self.0[class_of(took)].fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> DurationCounts {
        let mut counts = DurationCounts::default();
        for (class, count) in self.0.iter().enumerate() {
            match count.swap(0, Ordering::Relaxed) {
                0 => {}
                count => counts.add(class, u64::from(count)),
            }
        }
        counts
    }
}

/// How a receiver answered an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerClass {
    Success,
    Redirect,
    ClientError,
    ServerError,
    /// Without a final status: no connection, no answer in time, or nothing was sent.
    None,
}

impl AnswerClass {
    pub const ALL: [AnswerClass; 5] = [
        AnswerClass::Success,
        AnswerClass::Redirect,
        AnswerClass::ClientError,
        AnswerClass::ServerError,
        AnswerClass::None,
    ];

    fn of(status: Option<u16>) -> AnswerClass {
        match status {
            Some(200..=299) => AnswerClass::Success,
            Some(300..=399) => AnswerClass::Redirect,
            Some(400..=499) => AnswerClass::ClientError,
            Some(500..=599) => AnswerClass::ServerError,
            _ => AnswerClass::None,
        }
    }
}

/// What one webhook counts, and how it stands. Written by its actor.
#[derive(Debug)]
pub struct WebhookTally {
    pub webhook: WebhookId,
    pub channel: ChannelNo,
    /// Something was counted since it was last taken.
    is_counted: AtomicBool,
    succeeded: AtomicU32,
    failed: AtomicU32,
    gave_up: AtomicU32,
    answers: [AtomicU32; AnswerClass::ALL.len()],
    durations: Durations,
    lag_ms: AtomicU64,
    retrying: AtomicU32,
    dead: AtomicU32,
    is_troubled: AtomicBool,
    is_ended: AtomicBool,
}

/// How a webhook stands, as its actor last said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// From its cursor to the newest event of its channel, in log time.
    pub lag_ms: u64,
    /// Deliveries that wait for a retry.
    pub retrying: u32,
    /// Deliveries that were given up and are kept.
    pub dead: u32,
    /// Its health is not that of one that is well, or that its owner has paused.
    pub is_troubled: bool,
}

/// What a webhook has counted since it was last asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    /// Attempts that succeeded, and all others.
    pub succeeded: u64,
    pub failed: u64,
    /// Deliveries that were given up.
    pub gave_up: u64,
    /// In the order of [`AnswerClass::ALL`].
    pub answers: [u64; AnswerClass::ALL.len()],
    pub durations: DurationCounts,
}

impl WebhookTally {
    fn new(webhook: WebhookId, channel: ChannelNo) -> WebhookTally {
        WebhookTally {
            webhook,
            channel,
            is_counted: AtomicBool::new(false),
            succeeded: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            gave_up: AtomicU32::new(0),
            answers: [const { AtomicU32::new(0) }; AnswerClass::ALL.len()],
            durations: Durations::default(),
            lag_ms: AtomicU64::new(0),
            retrying: AtomicU32::new(0),
            dead: AtomicU32::new(0),
            is_troubled: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
        }
    }

    /// An attempt ended. `status`: of the answer, if there was one.
    pub fn attempted(&self, outcome: Outcome, status: Option<u16>, took: Duration) {
        let counter = if outcome == Outcome::Success { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.answers[AnswerClass::of(status) as usize].fetch_add(1, Ordering::Relaxed);
        self.durations.observe(took);
        self.is_counted.store(true, Ordering::Release);
    }

    /// A delivery was given up.
    pub fn gave_up(&self) {
        self.gave_up.fetch_add(1, Ordering::Relaxed);
        self.is_counted.store(true, Ordering::Release);
    }

    pub fn stands(&self, health: Health, standing: Standing) {
        self.lag_ms.store(standing.lag_ms, Ordering::Relaxed);
        self.retrying.store(standing.retrying, Ordering::Relaxed);
        self.dead.store(standing.dead, Ordering::Relaxed);
        let is_troubled = !matches!(health, Health::Healthy | Health::Paused);
        self.is_troubled.store(is_troubled, Ordering::Relaxed);
    }

    pub fn standing(&self) -> Standing {
        Standing {
            lag_ms: self.lag_ms.load(Ordering::Relaxed),
            retrying: self.retrying.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
            is_troubled: self.is_troubled.load(Ordering::Relaxed),
        }
    }

    /// None: nothing.
    fn take(&self) -> Option<Attempts> {
        if !self.is_counted.swap(false, Ordering::Acquire) {
            return None;
        }
        let take = |counter: &AtomicU32| u64::from(counter.swap(0, Ordering::Relaxed));
        Some(Attempts {
            succeeded: take(&self.succeeded),
            failed: take(&self.failed),
            gave_up: take(&self.gave_up),
            answers: AnswerClass::ALL.map(|class| take(&self.answers[class as usize])),
            durations: self.durations.take(),
        })
    }
}

/// The counters of the server.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Events by channel since they were last taken: at most the channels that there are.
    published: Mutex<HashMap<ChannelNo, u64>>,
    commits: Durations,
    /// At most one for each webhook's actor that lives, and for each that has ended since they were last taken.
    webhooks: Mutex<Vec<Arc<WebhookTally>>>,
}

/// What was counted since the time before.
#[derive(Debug, Default)]
pub struct Taken {
    pub published: HashMap<ChannelNo, u64>,
    pub commits: DurationCounts,
    /// Each webhook with how it stands, and what it counted, if anything.
    pub webhooks: Vec<(Arc<WebhookTally>, Option<Attempts>)>,
}

impl Tallies {
    /// A commit is durable, after so long.
    pub fn committed(&self, took: Duration) {
        self.commits.observe(took);
    }

    /// Events are durable, each of one of these channels.
    pub fn published(&self, channels: impl Iterator<Item = ChannelNo>) {
        let mut published = self.published.lock();
        let (mut run, mut count) = (None, 0);
        for no in channels {
            if run != Some(no) {
                add(&mut published, run, count);
                (run, count) = (Some(no), 0);
            }
            count += 1;
        }
        add(&mut published, run, count);
    }

    /// What a webhook counts, for its actor. It is forgotten after [`Tallies::end`].
    pub fn webhook(&self, webhook: WebhookId, channel: ChannelNo) -> Arc<WebhookTally> {
        let tally = Arc::new(WebhookTally::new(webhook, channel));
        self.webhooks.lock().push(tally.clone());
        tally
    }

    /// The actor of the webhook has ended.
    pub fn end(&self, tally: &WebhookTally) {
        tally.stands(Health::Healthy, Standing::default());
        tally.is_ended.store(true, Ordering::Release);
    }

    pub fn take(&self) -> Taken {
        let webhooks = {
            let mut webhooks = self.webhooks.lock();
            let all = webhooks.clone();
            webhooks.retain(|tally| !tally.is_ended.load(Ordering::Acquire));
            all
        };
        Taken {
            published: std::mem::take(&mut *self.published.lock()),
            commits: self.commits.take(),
            webhooks: webhooks.into_iter().map(|tally| (tally.clone(), tally.take())).collect(),
        }
    }

    /// The webhooks whose actors live.
    pub fn webhooks(&self) -> Vec<Arc<WebhookTally>> {
        self.webhooks.lock().clone()
    }
}

fn add(published: &mut HashMap<ChannelNo, u64>, no: Option<ChannelNo>, count: u64) {
    if let Some(no) = no {
        *published.entry(no).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_taken_once() {
        let tallies = Tallies::default();
        let (one, two) = (ChannelNo(1), ChannelNo(2));
        tallies.committed(Duration::from_millis(2));
        tallies.published([one, one, two, one].into_iter());
        let tally = tallies.webhook("w".into(), one);
        let failed =
            Outcome::Failed { status: None, code: crate::model::delivery::FailureCode::Timeout, retry_after_ms: None };
        tally.attempted(Outcome::Success, Some(204), Duration::from_millis(5));
        tally.attempted(failed, None, Duration::from_millis(5));
        tally.attempted(Outcome::Gone, Some(410), Duration::from_millis(5));
        tally.gave_up();
        let taken = tallies.take();
        assert_eq!(taken.published, HashMap::from([(one, 3), (two, 1)]));
        let attempts = taken.webhooks[0].1.clone().expect("it counted something");
        assert_eq!((attempts.succeeded, attempts.failed, attempts.gave_up), (1, 2, 1));
        assert_eq!(attempts.answers, [1, 0, 1, 0, 1]);
        assert!(attempts.durations.percentile_ms(0.5).is_some_and(|ms| (3.0..8.0).contains(&ms)));
        let again = tallies.take();
        assert!(again.published.is_empty() && again.commits.is_empty() && again.webhooks[0].1.is_none());
    }

    #[test]
    fn a_webhook_whose_actor_ended_is_taken_once_more_and_then_forgotten() {
        let tallies = Tallies::default();
        let tally = tallies.webhook("w".into(), ChannelNo(1));
        tally.attempted(Outcome::Success, Some(200), Duration::from_millis(1));
        tallies.end(&tally);
        assert!(tallies.take().webhooks[0].1.is_some());
        assert!(tallies.take().webhooks.is_empty());
    }
}
