//! The whole engine (journal, write-ahead log, segments, documents, catalog, feed, streams, deliveries, sources) on one thread,
//! on a simulated disk, a clock that stands until it is moved, and receivers that fail in every way. Everything that happens
//! is drawn from a seed. After each start, and in the end, what is there, what readers saw and what receivers got is held
//! against what was answered ([`model`]).
//!
//! `cargo test -p actors hub::simulation` runs it, with other seeds than usual by what [`crate::seeds`] reads.

mod actions;
mod clients;
mod config;
mod coverage;
mod flips;
mod found;
mod model;
mod regressions;
mod world;

use std::panic::AssertUnwindSafe;
use std::path::Path;

use self::coverage::EngineCoverage;
use self::world::{LastEnd, World};
use super::data_folder;
use crate::clock::{self, Clock};
use crate::delivery::http::simulated as receivers;
use crate::disk::Disk;
use crate::disk::mutant::{self, Mutant};
use crate::seeds;
use crate::wal;

/// Seeds of a usual run.
const SEEDS: u64 = 100;
/// What happens in one run.
const STEPS: usize = 300;
/// Of a seed that is run alone and fails, what happened last.
const TRACE_SHOWN: usize = 120;
/// Seeds among which one has to notice that a promise was taken out.
const SEEDS_OF_MUTANT: u64 = 20;

/// Runs one seed to its end, or to the promise that it breaks.
fn run(seed: u64, last: LastEnd) -> Result<World, Box<dyn std::any::Any + Send>> {
    let mut world = World::new(seed);
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| world.run(STEPS, last)));
    leave();
    if result.is_err() && seeds::alone().is_some() {
        let trace = world.trace();
        trace[trace.len().saturating_sub(TRACE_SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
    }
    result.map(|()| world)
}

/// This thread is in no simulation any more.
fn leave() {
    clock::set_here(None);
    receivers::set_here(None);
}

/// Runs seeds until one breaks a promise; none: they all keep it.
fn broken_by(mutant: Mutant) -> Option<u64> {
    mutant::set_here(Some(mutant));
    let broken = (1..=SEEDS_OF_MUTANT).find(|seed| run(*seed, LastEnd::Stop).is_err());
    mutant::set_here(None);
    broken
}

#[test]
fn a_promise_that_is_taken_out_of_the_engine_is_missed() {
    for mutant in [Mutant::Sync, Mutant::Answer, Mutant::Cursor] {
        let seed = broken_by(mutant);
        println!("{mutant:?}: seed {seed:?}");
        assert!(seed.is_some(), "no seed notices {mutant:?}");
    }
}

#[test]
fn whatever_happens_no_promise_of_the_engine_is_broken() {
    let (mut reached, mut runs) = (EngineCoverage::default(), 0);
    for seed in seeds::chosen(SEEDS) {
        match run(seed, LastEnd::Stop) {
            Ok(world) => reached.add(&world.reached),
            Err(panic) => {
                seeds::say(seed);
                std::panic::resume_unwind(panic);
            }
        }
        runs += 1;
    }
    println!("{runs} seeds: {reached:?}");
    if runs >= SEEDS {
        assert!(reached.has_all(), "the runs do not reach what they are for: {reached:?}");
    }
}

/// The simulation found it: the folder's own name was never synced, so a power cut could take it with all that lay under it.
#[test]
fn a_power_cut_soon_after_the_first_start_leaves_the_folder_that_it_has_made() {
    for seed in 0..30 {
        let (disk, folder) = (Disk::simulated(seed), Path::new("/srv/stentor/data"));
        disk.create_dir_all(Path::new("/srv")).expect("a folder");
        disk.sync_dir(Path::new("/")).expect("a folder that is there for good");
        let options = || data_folder::Options { log: config::config(seed).log, wal: wal::Options::new(seed) };
        drop(data_folder::open(&disk, folder, options(), &Clock::system()).expect("a new folder"));
        let disk = disk.after_crash(seed).expect("a simulated disk");
        assert!(disk.exists(&folder.join("format")).expect("a folder"), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_of_the_engine() {
    for seed in seeds::alone().map_or_else(|| vec![3, 8], |seed| vec![seed]) {
        let trace = || run(seed, LastEnd::Stop).unwrap_or_else(|panic| std::panic::resume_unwind(panic)).trace();
        let (one, two) = (trace(), trace());
        let differs = one.iter().zip(&two).position(|(one, two)| one != two);
        let differs = differs.map(|at| (at, &one[at], &two[at]));
        assert!(differs.is_none() && one.len() == two.len(), "seed {seed}: {differs:?}");
    }
}
