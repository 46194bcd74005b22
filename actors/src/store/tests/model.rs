//! Random operations on the log, each checked against a list in memory.

use std::collections::HashMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::{Dedupe, DedupeKey};

const CHANNELS: u32 = 4;
const MAX_EVENTS: u64 = 300;
const MAX_AGE_MS: u64 = 30_000;
const WINDOW_MS: u64 = 20_000;
const SEGMENT_AGE_MS: u64 = 5000;

#[derive(Clone, Debug)]
enum Op {
    /// (channel, payload bytes) of each event, and the name of a dedupe key.
    Append(Vec<(u32, usize)>, Option<u8>),
    Read {
        channel: Option<u32>,
        cursor: usize,
        events: usize,
        bytes: usize,
        backward: bool,
    },
    Wait(u64),
    Retain,
    Reboot,
    /// The folder is copied while the log is open, and the copy takes its place.
    Crash,
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![20 => 0usize..400, 3 => 50_000usize..70_000, 1 => 120_000usize..262_144];
    let batch = proptest::collection::vec((1..=CHANNELS, size), 1..50);
    let read = (proptest::option::of(1..=CHANNELS), any::<usize>(), 1usize..60, 1usize..200_000, any::<bool>());
    let op = prop_oneof![
        8 => (batch, proptest::option::of(0u8..4)).prop_map(|(batch, key)| Op::Append(batch, key)),
        6 => read.prop_map(|(channel, cursor, events, bytes, backward)| Op::Read { channel, cursor, events, bytes, backward }),
        3 => (1u64..12_000).prop_map(Op::Wait),
        2 => Just(Op::Retain),
        1 => Just(Op::Reboot),
        1 => Just(Op::Crash),
    ];
    proptest::collection::vec(op, 1..40)
}

struct World {
    dir: TempDir,
    log: Log,
    now_ms: u64,
    kept: Vec<Event>,
    dropped: Vec<Event>,
    keys: HashMap<(u32, u8), (EventId, u32, u64)>,
}

fn small(dir: &Path) -> Options {
    Options {
        segment_max_age_ms: SEGMENT_AGE_MS,
        retention: Retention { max_age_ms: MAX_AGE_MS, max_bytes: 0, max_events: MAX_EVENTS },
        dedupe_window_ms: WINDOW_MS,
        ..options(dir)
    }
}

fn key(name: u8) -> DedupeKey {
    DedupeKey::of_request(&name.to_string())
}

impl World {
    fn new() -> World {
        let dir = TempDir::new().unwrap();
        let log = open(&small(dir.path()), START_MS);
        World { dir, log, now_ms: START_MS as u64, kept: Vec::new(), dropped: Vec::new(), keys: HashMap::new() }
    }

    fn newest(&self) -> EventId {
        self.kept.last().or(self.dropped.last()).map_or(EventId::ZERO, |event| event.id)
    }

    fn run(mut self, op: Op) -> World {
        match op {
            Op::Append(batch, name) => {
                let first = EventId::at_time(self.now_ms).max(self.newest().plus(1));
                let event = |(n, (no, bytes)): (usize, &(u32, usize))| event(first.plus(n as u32), *no, *bytes);
                let events: Vec<Event> = batch.iter().enumerate().map(event).collect();
                let mut commit = commit(events.clone());
                if let Some(name) = name {
                    let count = events.len() as u32;
                    commit.dedupe.push(Dedupe { channel: ChannelNo(0), key: key(name), first, count });
                    self.keys.insert((0, name), (first, count, self.now_ms));
                }
                self.log.append(&commit, self.now_ms as i64).unwrap();
                self.kept.extend(events);
            }
            Op::Read { channel, cursor, events, bytes, backward } => {
                self.read(channel, cursor, PageLimit { events, bytes }, backward);
            }
            Op::Wait(ms) => self.now_ms += ms,
            Op::Retain => self.retain(),
            Op::Reboot => {
                drop(self.log);
                self.log = open(&small(self.dir.path()), self.now_ms as i64);
            }
            Op::Crash => {
                let copy = TempDir::new().unwrap();
                copy_folder(self.dir.path(), copy.path());
                drop(self.log);
                self.log = open(&small(copy.path()), self.now_ms as i64);
                self.dir = copy;
            }
        }
        self.check();
        self
    }

    /// Pages from a cursor until there is no more; together they are what the model has there.
    fn read(&self, channel: Option<u32>, cursor: usize, limit: PageLimit, backward: bool) {
        let all: Vec<EventId> = self.dropped.iter().chain(&self.kept).map(|event| event.id).collect();
        let cursor = match cursor.checked_rem(all.len() + 1) {
            Some(n) if n < all.len() => all[n],
            _ if backward => EventId::MAX,
            _ => EventId::ZERO,
        };
        let mut expected: Vec<&Event> = self
            .kept
            .iter()
            .filter(|event| channel.is_none_or(|no| event.channel.0 == no))
            .filter(|event| if backward { event.id < cursor } else { event.id > cursor })
            .collect();
        if backward {
            expected.reverse();
        }
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let (mut found, mut at) = (Vec::new(), cursor);
        for _ in 0..=expected.len() {
            let no = channel.map_or(ChannelNo::ALL, ChannelNo);
            let page = self.log.read(no, at, limit, direction).unwrap();
            assert!(page.events.len() <= limit.events);
            at = page.events.last().map_or(at, |event| event.id);
            found.extend(page.events);
            if !page.more {
                break;
            }
        }
        assert_eq!(ids(&found), expected.iter().map(|event| event.id).collect::<Vec<_>>());
        assert!(found.iter().zip(expected).all(|(found, expected)| found == expected));
    }

    fn retain(&mut self) {
        let dropped = self.log.retain(self.now_ms as i64).unwrap();
        self.dropped.extend(self.kept.drain(..dropped.events as usize));
        let too_old = |event: &Event| event.id.time_ms() + MAX_AGE_MS < self.now_ms;
        // whole segments go, so the oldest one may reach back by as much as it spans
        assert!(self.kept.first().is_none_or(|e| e.id.time_ms() + MAX_AGE_MS + SEGMENT_AGE_MS + 12_000 >= self.now_ms));
        assert!(!self.kept.last().is_some_and(too_old), "all that is there is too old");
        assert!(self.kept.len() as u64 <= MAX_EVENTS, "{} events are kept", self.kept.len());
    }

    fn check(&self) {
        assert!(self.log.head() >= self.newest(), "the head never goes back");
        assert_eq!(self.log.stats().events, self.kept.len() as u64);
        for channel in (1..=CHANNELS).map(Some).chain([None]) {
            let mine = |event: &&Event| channel.is_none_or(|no| event.channel.0 == no);
            let no = channel.map_or(ChannelNo::ALL, ChannelNo);
            assert_eq!(self.log.oldest(no), self.kept.iter().find(mine).map(|event| event.id));
            let gone = self.dropped.iter().rev().find(mine).map(|event| event.id);
            if let Some(gone) = gone {
                assert!(self.log.lost_between(no, gone.before(), EventId::MAX));
                assert!(self.log.lost_between(no, EventId::ZERO, EventId::MAX));
            }
            assert!(!self.log.lost_between(no, gone.unwrap_or(EventId::ZERO), EventId::MAX));
        }
        for ((no, name), (first, count, time_ms)) in &self.keys {
            let is_kept = self.kept.first().is_some_and(|oldest| oldest.id <= *first);
            let expected = (is_kept && time_ms + WINDOW_MS >= self.now_ms).then_some((*first, *count));
            assert_eq!(self.log.known(ChannelNo(*no), key(*name), self.now_ms as i64).unwrap(), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_list_in_memory_does(ops in operations()) {
        let mut world = World::new();
        for op in ops {
            world = world.run(op);
        }
        for channel in (1..=CHANNELS).map(Some).chain([None]) {
            world.read(channel, usize::MAX, PageLimit { events: 7, bytes: 100_000 }, false);
        }
    }
}
