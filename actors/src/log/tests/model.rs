//! Random operations on the log, each checked against a list in memory.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::disk::Disk;
use crate::log::{Dedupe, Direction, LogOptions, PageLimit, Retention};
use crate::model::event::{ChannelNo, Event};
use crate::model::id::EventId;

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
    Roll,
    Seal,
    Retain,
    Restart,
    /// What was not synced is lost, kept or torn.
    Crash(u64),
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let size = prop_oneof![20 => 0usize..400, 3 => 50_000usize..70_000, 1 => 120_000usize..262_144];
    let batch = proptest::collection::vec((1..=CHANNELS, size), 1..50);
    let read = (proptest::option::of(1..=CHANNELS), any::<usize>(), 1usize..60, 1usize..200_000, any::<bool>());
    let op = prop_oneof![
        8 => (batch, proptest::option::of(0u8..4)).prop_map(|(batch, key)| Op::Append(batch, key)),
        6 => read.prop_map(|(channel, cursor, events, bytes, backward)| Op::Read { channel, cursor, events, bytes, backward }),
        3 => (1u64..12_000).prop_map(Op::Wait),
        2 => Just(Op::Roll),
        2 => Just(Op::Seal),
        2 => Just(Op::Retain),
        1 => Just(Op::Restart),
        1 => any::<u64>().prop_map(Op::Crash),
    ];
    proptest::collection::vec(op, 1..60)
}

struct World {
    rig: Rig,
    kept: Vec<Event>,
    dropped: Vec<Event>,
    keys: HashMap<(u32, u8), (EventId, u32, u64)>,
}

fn small() -> LogOptions {
    LogOptions {
        segment_max_age_ms: SEGMENT_AGE_MS,
        retention: Retention { max_age_ms: MAX_AGE_MS, max_bytes: 0, max_events: MAX_EVENTS },
        dedupe_window_ms: WINDOW_MS,
        ..options()
    }
}

impl World {
    fn new(disk: &Disk, dir: &Path) -> World {
        let rig = Rig::new(disk, dir, small());
        World { rig, kept: Vec::new(), dropped: Vec::new(), keys: HashMap::new() }
    }

    fn now_ms(&self) -> u64 {
        self.rig.now.wall_ms
    }

    fn newest(&self) -> EventId {
        self.kept.last().or(self.dropped.last()).map_or(EventId::ZERO, |event| event.id)
    }

    fn run(mut self, op: Op) -> World {
        match op {
            Op::Append(batch, name) => {
                let first = EventId::at_time(self.now_ms()).max(self.newest().plus(1));
                let event = |(n, (no, bytes)): (usize, &(u32, usize))| event(first.plus(n as u32), *no, *bytes);
                let events: Vec<Event> = batch.iter().enumerate().map(event).collect();
                let mut keys = Vec::new();
                if let Some(name) = name {
                    let count = events.len() as u32;
                    keys.push(Dedupe { channel: ChannelNo(0), key: key(&name.to_string()), first, count });
                    self.keys.insert((0, name), (first, count, self.now_ms()));
                }
                self.rig.append_with(&events, &keys);
                self.kept.extend(events);
            }
            Op::Read { channel, cursor, events, bytes, backward } => {
                self.read(channel, cursor, PageLimit { events, bytes }, backward);
            }
            Op::Wait(ms) => self.rig.tick(ms),
            Op::Roll => drop(self.rig.log.roll()),
            Op::Seal => drop(self.rig.seal_step().unwrap()),
            Op::Retain => self.retain(),
            Op::Restart => self.rig = self.rig.restart(),
            Op::Crash(seed) => {
                let Rig { disk, data_dir, options, wal, log, now, stored } = self.rig;
                // on the real disk a kill
                let disk = disk.after_crash(seed).unwrap_or(disk);
                drop((wal, log));
                self.rig = Rig::start(&disk, &data_dir, options, now, stored).unwrap();
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
            let page = self.rig.log.read(no, at, limit, direction).unwrap();
            assert!(page.events.len() <= limit.events);
            assert!(!page.more || page.events.last().map(|event| event.id) == Some(page.last));
            at = page.last;
            found.extend(page.events);
            if !page.more {
                break;
            }
        }
        assert_eq!(ids(&found), expected.iter().map(|event| event.id).collect::<Vec<_>>());
        assert!(found.iter().zip(expected).all(|(found, expected)| found == expected));
        if !backward {
            assert_eq!(at, self.rig.log.head().max(cursor));
        }
    }

    fn retain(&mut self) {
        let dropped = self.rig.retain();
        self.dropped.extend(self.kept.drain(..dropped as usize));
        let too_old = |event: &Event| event.id.time_ms() + MAX_AGE_MS + SEGMENT_AGE_MS + 12_000 < self.now_ms();
        assert!(!self.kept.last().is_some_and(too_old), "all that is there is too old");
        let stats = self.rig.log.stats();
        // what is not sealed cannot go
        assert!(stats.events <= MAX_EVENTS || stats.segments <= 3, "{stats:?}");
    }

    fn check(&self) {
        let log = &self.rig.log;
        assert!(log.head() >= self.newest(), "the head never goes back");
        assert_eq!(log.stats().events, self.kept.len() as u64);
        assert_eq!(log.take_unsaved(), []);
        for channel in (1..=CHANNELS).map(Some).chain([None]) {
            let mine = |event: &&Event| channel.is_none_or(|no| event.channel.0 == no);
            let no = channel.map_or(ChannelNo::ALL, ChannelNo);
            assert_eq!(log.oldest(no), self.kept.iter().find(mine).map(|event| event.id));
            assert_eq!(log.newest(no), self.kept.iter().rev().find(mine).map(|event| event.id));
            let gone = self.dropped.iter().rev().find(mine).map(|event| event.id);
            if let Some(gone) = gone {
                assert!(log.lost_between(no, gone.before(), EventId::MAX));
                assert!(log.lost_between(no, EventId::ZERO, EventId::MAX));
            }
            assert!(!log.lost_between(no, gone.unwrap_or(EventId::ZERO), EventId::MAX));
        }
        let highest = self.kept.iter().chain(&self.dropped).map(|event| event.channel.0).max();
        assert_eq!(log.highest_channel(), highest.unwrap_or(0));
        for ((no, name), (first, count, time_ms)) in &self.keys {
            let known = log.known(ChannelNo(*no), key(&name.to_string()), self.now_ms());
            if time_ms + WINDOW_MS < self.now_ms() {
                assert_eq!(known, None);
            } else if self.kept.first().is_some_and(|oldest| oldest.id <= *first) {
                // keys may go with their segment
                assert_eq!(known, Some((*first, *count)));
            }
        }
    }
}

fn run(disk: &Disk, dir: &Path, ops: Vec<Op>) {
    let mut world = World::new(disk, dir);
    for op in ops {
        world = world.run(op);
    }
    for channel in (1..=CHANNELS).map(Some).chain([None]) {
        for backward in [false, true] {
            world.read(channel, usize::MAX, PageLimit { events: 7, bytes: 100_000 }, backward);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_list_in_memory_does(ops in operations(), seed in any::<u64>()) {
        run(&Disk::simulated(seed), Path::new("/data"), ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn it_does_so_on_the_real_disk(ops in operations()) {
        let dir = tempfile::TempDir::new().unwrap();
        run(&Disk::real(), dir.path(), ops);
    }
}
