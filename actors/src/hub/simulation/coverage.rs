//! What runs of the simulation have reached.

/// What was seen to happen, so that runs that reach nothing are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCoverage {
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub crashes: u64,
    pub restarts: u64,
    pub shown: usize,
    pub gaps: u64,
    pub attempts: u64,
    pub delivered: usize,
    pub revoked: usize,
    pub deleted: usize,
    pub sealed: u64,
    pub dropped: u64,
    pub generations: u64,
    pub deaths: u64,
}

impl EngineCoverage {
    pub fn add(&mut self, other: &EngineCoverage) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.shown += other.shown;
        self.gaps += other.gaps;
        self.attempts += other.attempts;
        self.delivered += other.delivered;
        self.revoked += other.revoked;
        self.deleted += other.deleted;
        self.sealed += other.sealed;
        self.dropped += other.dropped;
        self.generations += other.generations;
        self.deaths += other.deaths;
    }

    pub fn has_all(&self) -> bool {
        let events = self.acknowledged > 3_000 && self.refused > 10 && self.unknown > 30;
        let machine = self.crashes > 50 && self.restarts > 20 && self.sealed > 50 && self.generations > 20;
        let others =
            self.shown > 3_000 && self.gaps > 5 && self.attempts > self.delivered as u64 && self.delivered > 1_000;
        events && machine && others && self.dropped > 5 && self.revoked > 20 && self.deleted > 5 && self.deaths > 5
    }
}
