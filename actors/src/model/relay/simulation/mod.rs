//! The seeded simulation of several nodes on one stream: messages that are lost, late, doubled and out of order, crashes,
//! pauses, clocks that run apart, elections, a stream that is full, all driven by one number.
//!
//! What must hold is checked at every append, answer and step (`stream`, `ledger`, `world`); at the end the trouble stops, and
//! everything must come to rest. A seed that is run alone says what happened in it: [`crate::seeds`].

mod ledger;
mod node;
mod publishing;
mod stream;
mod trouble;
mod world;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::Receipt;
use super::rules::{Rule, break_rule};
use crate::model::id::EventId;
use crate::seeds;
use stream::Unchecked;
use world::World;

const START_MS: u64 = 1_750_000_000_000;
/// Seeds of a usual run.
const SEEDS: u64 = 2_000;
/// Seeds among which a broken rule must show at least once.
const SEEDS_OF_A_BROKEN_RULE: u64 = 3_000;

type Key = u64;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    request: u64,
    events: u16,
    channel: u8,
    key: Option<Key>,
    /// It does not fit into one message.
    is_large: bool,
    /// The stream does not take it.
    is_bad: bool,
    /// Whoever plans does not take it.
    is_gone: bool,
}

/// What a message holds beside its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    channel: u8,
    /// Each as (request, place in it).
    events: Vec<((u64, u16), EventId)>,
    keys: Vec<(Key, Receipt)>,
    is_bad: bool,
}

macro_rules! totals {
    ($($name:ident)*) => {
        /// What cases came to, to see that the simulation goes where it should.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        struct Totals { $($name: u64,)* }

        impl Totals {
            fn add(&mut self, other: Totals) {
                $(self.$name += other.$name;)*
            }

            fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

totals! {
    steps published stored known refused_full refused_storage refused_failed refused_gone unknown void crashes pauses cuts
    elections clock_steps empty_copies terms commits conflicts forwarded_again resent fetches away lost
    stopped large
}

fn run(seed: u64, unchecked: Unchecked, trace: bool) -> (Totals, Vec<String>) {
    let mut world = World::new(seed, unchecked, trace);
    world.run();
    world.end()
}

/// Runs a case; if it fails, says by which seed and goes on failing.
fn run_loud(seed: u64) -> Totals {
    match catch_unwind(AssertUnwindSafe(|| run(seed, Unchecked::default(), false).0)) {
        Ok(totals) => totals,
        Err(panic) => {
            seeds::say(seed);
            resume_unwind(panic);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_whatever_happens_to_nodes_and_messages() {
    if let Some(seed) = seeds::alone() {
        let mut world = World::new(seed, Unchecked::default(), true);
        let result = catch_unwind(AssertUnwindSafe(|| world.run()));
        world.trace.iter().flatten().for_each(|line| eprintln!("{line}"));
        result.unwrap_or_else(|panic| resume_unwind(panic));
        eprintln!("{:#?}", world.end().0);
        return;
    }
    let seeds = seeds::chosen(SEEDS);
    let mut sum = Totals::default();
    for &seed in &seeds {
        sum.add(run_loud(seed));
    }
    println!("{} seeds: {sum:?}", seeds.len());
    // a simulation that does not get into trouble proves nothing
    if seeds.len() as u64 >= SEEDS {
        for (what, count) in sum.each() {
            assert!(count >= 50, "only {count} times: {what}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11, 42] {
        let (totals, trace) = run(seed, Unchecked::default(), true);
        assert!(trace.len() > 200, "a trace says what happened");
        assert_eq!((totals, trace), run(seed, Unchecked::default(), true));
    }
}

/// The seed and the words of the first case that fails.
fn first_failure(unchecked: Unchecked, rule: Option<Rule>) -> Option<(u64, String)> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    break_rule(rule);
    let failure = (1..=SEEDS_OF_A_BROKEN_RULE).find_map(|seed| {
        let panic = catch_unwind(AssertUnwindSafe(|| run(seed, unchecked, false))).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        Some((seed, text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()))
    });
    break_rule(None);
    std::panic::set_hook(hook);
    failure
}

#[test]
fn every_rule_is_needed() {
    let rules = [
        Rule::AnswerByTheCopy,
        Rule::KnowNonces,
        Rule::KnowRefusals,
        Rule::ForwardsNameTheirTerm,
        Rule::ResendAfterTheNewTerm,
        Rule::ResendWhatIsNotLost,
        Rule::PlanByAWholeCopy,
        Rule::RefuseWhatCannotLand,
        Rule::IdsGrow,
        Rule::TermsBelongToALife,
        Rule::TakeInOrder,
        Rule::AnswerInTime,
        Rule::QueuesAreBounded,
    ];
    let mut unnoticed = Vec::new();
    for rule in rules {
        match first_failure(Unchecked::default(), Some(rule)) {
            Some((seed, text)) => {
                eprintln!("{rule:?} broken: seed {seed}: {}", text.lines().next().unwrap_or_default());
            }
            None => unnoticed.push(rule),
        }
    }
    assert!(unnoticed.is_empty(), "nothing notices that these are broken: {unnoticed:?}");
}

#[test]
fn the_conditions_of_a_commit_are_needed() {
    let none = first_failure(Unchecked { term: true, head: true }, None);
    let (seed, text) = none.expect("nothing notices commits without conditions");
    eprintln!("without conditions: seed {seed}: {text}");
    let headless = first_failure(Unchecked { term: false, head: true }, None);
    let (seed, text) = headless.expect("nothing notices commits without the condition on the head");
    eprintln!("without the head: seed {seed}: {text}");
}
