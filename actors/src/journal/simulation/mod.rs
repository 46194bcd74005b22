//! The whole store (queue, worker, upkeep, write-ahead log, segments, documents) on a simulated disk and clock. Everything
//! that happens is drawn from a seed: requests, faults of the disk, power cuts, steps of the worker and of upkeep. After
//! each start what is there is held against what was answered.
//!
//! `cargo test -p actors journal::simulation` runs it, with other seeds than usual by what [`crate::seeds`] reads.

mod world;

use world::World;

use crate::seeds;

/// Seeds of a usual run.
const SEEDS: u64 = 40;
/// What happens in one run.
const STEPS: usize = 400;

fn run(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.end();
    world
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_refused_appears_whatever_the_disk_does() {
    let mut reached = world::JournalCoverage::default();
    let seeds = seeds::chosen(SEEDS);
    for &seed in &seeds {
        match std::panic::catch_unwind(|| run(seed, STEPS)) {
            Ok(world) => reached.add(&world.reached),
            Err(panic) => {
                seeds::say(seed);
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{} seeds: {reached:?}", seeds.len());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11] {
        assert_eq!(run(seed, STEPS).trace, run(seed, STEPS).trace);
    }
}

#[test]
fn the_runs_reach_what_they_are_for() {
    let mut reached = world::JournalCoverage::default();
    for seed in 1..=SEEDS {
        reached.add(&run(seed, STEPS).reached);
    }
    let world::JournalCoverage { acknowledged, refused, unknown, crashes, sealed, dropped, generations } = reached;
    let events = acknowledged > 1000 && refused > 20 && unknown > 20;
    assert!(events && crashes > 100 && sealed > 50 && dropped > 5 && generations > 20, "{reached:?}");
}
