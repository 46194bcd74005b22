use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::chunk::Tier;
use super::step::{Count, Level};
use super::{Scope, SeriesStore, Step, Window};
use crate::disk::failure::Fault;
use crate::disk::{Disk, Point};
use crate::documents::notes::{NoteTable, Notes, NotesOptions, PageFrom};
use crate::model::event::ChannelNo;

const NOW_S: u64 = 1_750_000_000;

fn open(folder: &TempDir) -> SeriesStore {
    let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
    SeriesStore::new(Arc::new(Notes::open(&Disk::real(), folder.path(), options).expect("notes")))
}

fn published(count: u64) -> Step {
    let mut step = Step::default();
    step.add(Count::Published, count);
    step
}

fn total(store: &SeriesStore, scope: &Scope, window: Window, now_s: u64) -> u64 {
    store.read(scope, window, now_s).values().map(|step| step.count(Count::Published)).sum()
}

#[test]
fn a_window_has_as_many_steps_as_it_says_and_ends_with_the_one_under_way() {
    for (window, is_server, count, step_s) in [
        (Window::Hour, true, 360, 10),
        (Window::Day, true, 1_440, 60),
        (Window::Week, true, 168, 3_600),
        (Window::Hour, false, 12, 300),
        (Window::Day, false, 288, 300),
        (Window::Week, false, 168, 3_600),
    ] {
        let steps: Vec<u64> = window.steps(is_server, NOW_S).collect();
        assert_eq!((steps.len(), window.resolution_s(is_server)), (count, step_s));
        assert!(steps.windows(2).all(|pair| pair[1] - pair[0] == step_s));
        assert!(steps.last().is_some_and(|last| last % step_s == 0 && NOW_S - last < step_s));
    }
}

#[test]
fn levels_are_the_worst_of_a_time_and_the_sum_of_those_who_are_looked_at_together() {
    let of = |connections, lag_ms, free| {
        let mut step = Step::default();
        step.stands(Level::Connections, connections);
        step.stands(Level::LagMs, lag_ms);
        step.stands(Level::DiskFreeBytes, free);
        step
    };
    let levels = |step: &Step| [Level::Connections, Level::LagMs, Level::DiskFreeBytes].map(|level| step.level(level));
    let (mut later, mut together) = (of(3, 10, 100), of(3, 10, 100));
    later.absorb(&of(2, 40, 50));
    together.join(&of(2, 40, 50));
    assert_eq!(levels(&later), [Some(3), Some(40), Some(50)]);
    assert_eq!(levels(&together), [Some(5), Some(40), Some(150)]);
}

#[test]
fn what_was_written_is_there_after_a_restart_and_what_comes_later_is_added() {
    let folder = TempDir::new().expect("a folder");
    let channel = Scope::Channel(ChannelNo(3));
    {
        let store = open(&folder);
        store.add(NOW_S, [(Scope::Server, published(5)), (channel.clone(), published(4))]);
        store.write(NOW_S);
        store.add(NOW_S, [(channel.clone(), published(100))]);
        // as after kill -9: the last minute is lost
        std::mem::forget(store.notes.clone());
        store.notes.close().expect("it closes");
    }
    let store = open(&folder);
    store.add(NOW_S, [(channel.clone(), published(2))]);
    for window in Window::ALL {
        assert_eq!(total(&store, &channel, window, NOW_S), 6);
        assert_eq!(total(&store, &Scope::Server, window, NOW_S), 5);
        assert_eq!(total(&store, &Scope::Channel(ChannelNo(4)), window, NOW_S), 0);
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_while_the_disk_fails() {
    let folder = TempDir::new().expect("a folder");
    let disk = Disk::real();
    let options = NotesOptions { is_new_folder: true, now_ms: 1, min_free_bytes: 0 };
    let notes = Arc::new(Notes::open(&disk, folder.path(), options).expect("notes"));
    let store = SeriesStore::new(notes.clone());
    store.add(NOW_S, [(Scope::Server, published(1))]);
    disk.faults().set(Point::DatabaseWrite, Fault::errno(libc::EIO).times(1));
    store.write(NOW_S);
    store.add(NOW_S, [(Scope::Server, published(2))]);
    // the notes are opened again as the janitor does it
    (1..200).for_each(|n| notes.step(10_000 * n));
    store.write(NOW_S);
    assert_eq!(total(&store, &Scope::Server, Window::Hour, NOW_S), 3);
    assert!(store.counted.lock().fresh.is_empty());
}

#[test]
fn what_cannot_be_written_is_bounded() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder);
    for (is_failing, most) in [(false, super::FRESH_CHUNKS_MAX), (true, super::KEPT_CHUNKS_MAX)] {
        store.is_failing.store(is_failing, std::sync::atomic::Ordering::Relaxed);
        store.add(NOW_S, (1..=most as u32 + 10).map(|no| (Scope::Channel(ChannelNo(no)), published(1))));
        assert_eq!(store.counted.lock().fresh.len(), most);
        assert!(store.holds_much());
    }
}

/// Chunks on disk by tier.
fn kept(store: &SeriesStore) -> [usize; 4] {
    let count = |tier: Tier| store.notes.keys(NoteTable::Series, &[tier as u8], PageFrom::Start, usize::MAX);
    Tier::ALL.map(|tier| count(tier).expect("keys").len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever comes when, and whenever it is written: a window shows what came in it, and no more is kept than it may be.
    #[test]
    fn every_window_shows_what_came_in_it(waits in prop::collection::vec((0_u64..30_000, 1_u64..100, any::<bool>()), 1..60)) {
        let folder = TempDir::new().expect("a folder");
        let store = open(&folder);
        let channel = Scope::Channel(ChannelNo(1));
        let (mut now_s, mut came) = (NOW_S, Vec::new());
        for (wait_s, count, is_written) in waits {
            now_s += wait_s;
            came.push((now_s, count));
            store.add(now_s, [(Scope::Server, published(count)), (channel.clone(), published(count))]);
            if is_written {
                store.write(now_s);
            }
        }
        store.write(now_s);
        for scope in [Scope::Server, channel] {
            for window in Window::ALL {
                let first_s = window.steps(scope == Scope::Server, now_s).next().expect("a step");
                let expected: u64 = came.iter().filter(|(at_s, _)| *at_s >= first_s).map(|(_, count)| count).sum();
                prop_assert_eq!(total(&store, &scope, window, now_s), expected, "{:?} {:?}", scope, window);
            }
        }
        let most = [7 + 1, 25, 25, 2 * (8 + 1)];
        prop_assert!(kept(&store).iter().zip(most).all(|(kept, most)| *kept <= most), "{:?}", kept(&store));
    }
}
