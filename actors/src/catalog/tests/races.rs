//! Many threads that change the same at once, over a journal that also fails.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::thread;

use futures_util::future::join_all;

use super::*;
use crate::clock;

const THREADS: usize = 6;
/// Changes of each thread that are under way at once.
const EACH: usize = 30;

/// Runs `change` for each number below [`THREADS`] times [`EACH`], all at once, while every third commit fails. What was
/// not stored is asked for again.
fn race<T: Send + 'static>(
    limits: JournalLimits,
    change: impl AsyncFn(Arc<Catalog>, usize) -> Answer<T> + Clone + Send + 'static,
) -> (Arc<Catalog>, Vec<Result<T, No>>) {
    let documents = Arc::default();
    let (journal, mut worker) = StandIn::new(&limits, Arc::clone(&documents));
    let catalog = Arc::new(Catalog::open(journal, documents, TokenHash::of("admin")).expect("documents"));
    let is_over = Arc::new(AtomicBool::new(false));
    let working = thread::spawn({
        let (catalog, is_over) = (catalog.clone(), is_over.clone());
        move || {
            while !is_over.load(Ordering::Acquire) {
                let [size, luck] = clock::random();
                match luck % 3 {
                    0 => worker.fail(usize::from(size % 20)),
                    _ => drop(worker.commit(usize::from(size % 20), |changes| catalog.apply(changes))),
                }
                thread::yield_now();
            }
        }
    });
    let racing = (0..THREADS).map(|thread| {
        let (catalog, change) = (catalog.clone(), change.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let one = async |n| {
                loop {
                    match change(catalog.clone(), n).await {
                        Ok(value) => return Ok(value),
                        Err(ChangeError::Refused(no)) => return Err(no),
                        Err(ChangeError::Append(AppendError::Store(_) | AppendError::Conflict)) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            };
            runtime.block_on(join_all((0..EACH).map(|n| one(thread * EACH + n))))
        })
    });
    let racing: Vec<_> = racing.collect();
    let answers = racing.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
    is_over.store(true, Ordering::Release);
    working.join().expect("no panic");
    (catalog, answers)
}

#[test]
fn of_180_changes_that_race_for_60_names_60_win() {
    const NAMES: [&str; 60] = {
        // texts of two characters
        const LETTERS: &str = "0a1a2a3a4a5a6a7a8a9a0b1b2b3b4b5b6b7b8b9b0c1c2c3c4c5c6c7c8c9c0d1d2d3d4d5d6d7d8d9d0e1e2e3e4e5e6e7e8e9e0f1f2f3f4f5f6f7f8f9f";
        let mut names = [""; 60];
        let mut n = 0;
        while n < 60 {
            names[n] = LETTERS.split_at(2 * n).1.split_at(2).0;
            n += 1;
        }
        names
    };
    let (catalog, answers) = race(LIMITS, async |catalog, n| create(catalog, NAMES[n % NAMES.len()], usize::MAX).await);
    let winners: Vec<_> = answers.iter().flatten().collect();
    assert_eq!(winners.len(), 60);
    assert_eq!(winners.iter().collect::<HashSet<_>>().len(), 60, "no number is given out twice");
    assert_eq!(answers.iter().filter(|answer| **answer == Err(No::Taken)).count(), 120);
    let slugs: HashSet<_> = catalog.channels(ChannelKind::Map).iter().map(|map| map.slug.clone()).collect();
    assert_eq!(slugs.len(), 60);
    assert_eq!(catalog.tokens(None).len(), 60, "each with its token");
}

#[test]
fn a_limit_is_reached_exactly_however_many_race_for_the_last_places() {
    let (catalog, answers) = race(LIMITS, async |catalog, n| {
        create_named(catalog, String::leak(format!("map-{n}")), format!("{n}"), 25).await
    });
    assert_eq!(answers.iter().flatten().count(), 25);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(No::TooMany)).count(), 155);
    assert_eq!(catalog.count_channels(), 25);
}
