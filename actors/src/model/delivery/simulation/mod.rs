//! The seeded simulation of one endpoint: a clock, a receiver, a log, a disk and an owner, all driven by one number.
//!
//! The endpoint is dropped at random steps, with only a part of its last effects performed; what it takes up then is
//! what was durable. After every step `reference_model` checks what must hold. Which seeds are run says [`crate::seeds`].

mod receiver;
mod reference_model;
mod world;

use crate::model::dice::Dice;
use crate::seeds;
use world::World;

/// Seeds of a usual run.
const SEEDS: u64 = 200;

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
                seeds::say(self.0);
            }
        }
    }
    let _print = PrintSeed(seed);
    World::new(seed).run()
}

#[test]
fn no_event_is_lost_and_no_rule_is_broken_whatever_happens() {
    let seeds = seeds::chosen(SEEDS);
    let mut sum = Totals::default();
    for &seed in &seeds {
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
    println!("{} seeds: {sum:?}", seeds.len());
    // a simulation that does not get into trouble proves nothing
    if seeds.len() as u64 >= SEEDS {
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
