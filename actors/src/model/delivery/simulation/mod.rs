//! The seeded simulation of one endpoint: a clock, a receiver, a log, a disk and an owner, all driven by one number.
//!
//! The endpoint is dropped at random steps, with only a part of its last effects performed; what it takes up then is
//! what was durable. After every step `reference_model` checks what must hold. A case that fails prints its seed:
//! `STENTOR_SIM_SEED=<seed>` runs that case alone, `STENTOR_SIM_CASES=<n>` runs more of them.

mod receiver;
mod reference_model;
mod world;

use crate::model::splitmix;
use world::World;

/// What the seed of a case decides.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True in one of `n`.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a case came to, to see that the simulation goes where it should.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    steps: u64,
    crashes: u64,
    attempts: u64,
    retries: u64,
    manual: u64,
    replayed: u64,
    dead: u64,
    disabled: u64,
    gaps: u64,
    probes: u64,
}

fn run(seed: u64) -> Totals {
    struct PrintSeed(u64);
    impl Drop for PrintSeed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the case with this seed failed; run it alone with STENTOR_SIM_SEED={}", self.0);
            }
        }
    }
    let _print = PrintSeed(seed);
    World::new(seed).run()
}

#[test]
fn no_event_is_lost_and_no_rule_is_broken_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("STENTOR_SIM_SEED") {
        eprintln!("{:#?}", run(seed));
        return;
    }
    let cases = number("STENTOR_SIM_CASES").unwrap_or(200);
    let mut sum = Totals::default();
    for seed in 0..cases {
        let tally = run(seed);
        sum.steps += tally.steps;
        sum.crashes += tally.crashes;
        sum.attempts += tally.attempts;
        sum.retries += tally.retries;
        sum.manual += tally.manual;
        sum.replayed += tally.replayed;
        sum.dead += tally.dead;
        sum.disabled += tally.disabled;
        sum.gaps += tally.gaps;
        sum.probes += tally.probes;
    }
    eprintln!("{cases} cases: {sum:?}");
    // a simulation that does not get into trouble proves nothing
    if cases >= 200 {
        for (count, what) in [
            (sum.crashes, "crash"),
            (sum.retries, "retry"),
            (sum.manual, "manual attempt"),
            (sum.replayed, "replay"),
            (sum.dead, "dead letter"),
            (sum.disabled, "disabled endpoint"),
            (sum.gaps, "gap"),
            (sum.probes, "probe"),
        ] {
            assert!(count >= 20, "only {count} times: {what}");
        }
    }
}
