//! Random commits, failures, kills and power cuts against a model of what was promised.
//!
//! A seed decides all; a failure names it, so that it can be run again.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::disk::Point;
use crate::disk::failure::Fault;
use crate::model::splitmix;

/// What the seed decides.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const POINTS: [Point; 7] = [
    Point::WalWrite,
    Point::WalSync,
    Point::WalFill,
    Point::WalOpen,
    Point::ManifestWrite,
    Point::Rename,
    Point::SyncFolder,
];

/// What was promised, and the log that must keep it.
struct World {
    random: Random,
    disk: Disk,
    wal: Option<Wal>,
    durability: Durability,
    needed_from: u64,
    /// What was acknowledged, from sequence 1 on.
    acknowledged: Vec<Vec<u8>>,
    /// Through which sequence a power cut must leave it.
    durable: u64,
    /// What failed after it and may appear.
    perhaps: Vec<Vec<u8>>,
    /// Commits that readers hold.
    read: VecDeque<Committed>,
    /// Tells payloads apart.
    next: u64,
}

/// A promise that was broken.
type Broken = String;

impl World {
    fn new(seed: u64, durability: Durability) -> World {
        let disk = disk(seed);
        drop(Wal::create(&disk, dir(), LOG_ID, 1, options()).unwrap());
        World {
            random: Random(seed),
            disk,
            wal: None,
            durability,
            needed_from: 1,
            acknowledged: Vec::new(),
            durable: 0,
            perhaps: Vec::new(),
            read: VecDeque::new(),
            next: 0,
        }
    }

    fn options(&mut self) -> Options {
        let salt_seed = self.random.next();
        Options { durability: self.durability, unsynced_max_bytes: 3_000, salt_seed, max_pieces: 100, ..options() }
    }

    fn last(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    fn payload(&mut self) -> Vec<u8> {
        self.next += 1;
        let bytes = match self.random.below(20) {
            0 => 20_000,
            1..=4 => 2_500,
            _ => 300,
        };
        let bytes = 8 + self.random.below(bytes) as usize;
        let mut random = Random(self.next);
        let rest = std::iter::repeat_with(|| random.next() as u8);
        self.next.to_le_bytes().into_iter().chain(rest).take(bytes).collect()
    }

    /// Starts the log and compares what it tells with what was promised.
    fn start(&mut self) -> Result<(), Broken> {
        let options = self.options();
        let mut seen = Seen::default();
        let recovered = catch_unwind(AssertUnwindSafe(|| {
            Wal::recover(&self.disk, dir(), options, self.needed_from, |told| match told {
                Recovered::Record { sequence, payload, .. } => seen.records.push((sequence, payload.to_vec())),
                Recovered::Damaged { from, through, .. } => seen.damaged.push(from..=through),
                Recovered::Healed { at } => seen.healed.push(at),
            })
        }));
        let wal = match recovered {
            Err(_panic) => return Ok(()),
            Ok(Err(WalError::Disk(e))) if e.source.raw_os_error().is_some() => return Ok(()),
            Ok(Err(e)) => return Err(format!("the start failed: {e}")),
            Ok(Ok(wal)) => wal,
        };
        let mut promised: Vec<_> =
            (1..).zip(self.acknowledged.iter().cloned()).skip(self.needed_from as usize - 1).collect();
        if let Some((sequence, payload)) = seen.records.get(promised.len())
            && self.perhaps.contains(payload)
        {
            promised.push((*sequence, payload.clone()));
            self.acknowledged.push(payload.clone());
            self.perhaps.clear();
        }
        // a write that failed within a sector may leave half a header beside a whole one
        seen.healed.retain(|place| !place.starts_with("one of the two headers"));
        if seen.records != promised || !seen.damaged.is_empty() || !seen.healed.is_empty() {
            let (seen_last, promised) = (seen.sequences(), promised.iter().map(|(sequence, _)| *sequence));
            let promised = promised.collect::<Vec<_>>();
            return Err(format!("promised {promised:?}, seen {seen_last:?}, {:?}, {:?}", seen.damaged, seen.healed));
        }
        if wal.last_sequence() != self.last() {
            return Err(format!("the log is at {} and not at {}", wal.last_sequence(), self.last()));
        }
        // the new piece voids what did not appear
        if wal.counts().begun > 0 && wal.is_settled() {
            self.perhaps.clear();
        }
        if self.durability != Durability::Flush {
            self.durable = self.last();
        }
        self.wal = Some(wal);
        Ok(())
    }

    fn step(&mut self) -> Result<(), Broken> {
        if self.wal.is_none() {
            if self.random.one_in(4) {
                self.fault();
            } else if self.random.one_in(2) {
                self.disk.faults().clear_all();
            }
            return self.start();
        }
        match self.random.below(100) {
            0..50 => self.commit(),
            50..60 => self.prepare(),
            60..70 => self.free(),
            70..76 => self.fault(),
            76..84 => self.disk.faults().clear_all(),
            84..88 => self.settle(),
            88..90 => self.sync(),
            90..92 => self.room(),
            92..95 => self.check_readers()?,
            95..97 => self.kill(),
            97..99 => return self.power_cut(),
            _ => self.close(),
        }
        Ok(())
    }

    fn commit(&mut self) {
        let payload = self.payload();
        let urgency = self.random.choose(&[Urgency::Normal, Urgency::Normal, Urgency::Reserve]);
        let cut = self.random.below(payload.len() as u64) as usize;
        let Some(wal) = &mut self.wal else { return };
        let committed = catch_unwind(AssertUnwindSafe(|| wal.commit(&[&payload[..cut], &payload[cut..]], urgency)));
        match committed {
            Ok(Ok(committed)) => {
                self.acknowledged.push(payload);
                assert_eq!(committed.sequence, self.last());
                self.perhaps.clear();
                if self.durability == Durability::Fsync {
                    self.durable = committed.sequence;
                }
                if self.random.one_in(5) {
                    self.read.push_back(committed);
                }
            }
            Ok(Err(e)) if e.is_certain() => {}
            Ok(Err(_)) => self.perhaps.push(payload),
            Err(_panic) => {
                self.perhaps.push(payload);
                // the server may go on with it, or end
                if self.random.one_in(2) {
                    self.kill();
                }
            }
        }
        self.note_settled();
    }

    fn note_settled(&mut self) {
        if self.wal.as_ref().is_some_and(Wal::is_settled) {
            self.perhaps.clear();
        }
    }

    fn settle(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| wal.settle()));
        self.note_settled();
    }

    fn sync(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        if let Ok(Ok(())) = catch_unwind(AssertUnwindSafe(|| wal.sync()))
            && self.durability != Durability::Flush
        {
            self.durable = self.last();
        }
        self.note_settled();
    }

    fn prepare(&mut self) {
        let Some(wal) = &self.wal else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| wal.prepare()));
    }

    /// Gives up what is durable, as a sealed segment does.
    fn free(&mut self) {
        let Some(wal) = &self.wal else { return };
        let through = self.durable.saturating_sub(self.random.below(30));
        if through >= self.needed_from {
            self.needed_from = through + 1;
            wal.free_through(through);
        }
    }

    fn fault(&mut self) {
        let point = self.random.choose(&POINTS);
        let errno = self.random.choose(&[libc::EIO, libc::ENOSPC]);
        let fault = if self.random.one_in(3) { Fault::panic() } else { Fault::errno(errno) };
        let (times, after) = (1 + self.random.below(5), self.random.below(4));
        self.disk.faults().set(point, fault.times(times).after(after));
    }

    fn room(&mut self) {
        let simulation = self.disk.simulation().unwrap();
        let room = self.random.one_in(2).then(|| simulation.used_bytes() + self.random.below(40_000));
        simulation.set_capacity(room);
    }

    fn check_readers(&mut self) -> Result<(), Broken> {
        while self.read.len() > self.random.below(6) as usize {
            let Some(Committed { sequence, piece, offset }) = self.read.pop_front() else { break };
            let payload = &self.acknowledged[sequence as usize - 1];
            let read = piece.read(offset, payload.len() as u32).map_err(|e| e.to_string())?;
            if read != payload {
                return Err(format!("a reader of {sequence} saw something else"));
            }
        }
        Ok(())
    }

    /// The process ends; what it wrote stays.
    fn kill(&mut self) {
        self.wal = None;
        self.read.clear();
    }

    fn power_cut(&mut self) -> Result<(), Broken> {
        self.kill();
        self.disk.simulation().unwrap().crash();
        if self.durability == Durability::Fsync {
            return Ok(());
        }
        // what was not synced may be gone, in any part; what is left must be right
        let faults = self.disk.faults();
        faults.clear_all();
        let options = self.options();
        let (wal, seen) = match recover_with(&self.disk, options, self.needed_from) {
            Ok(recovered) => recovered,
            Err(e) => return Err(format!("the start after a power cut failed: {e}")),
        };
        for sequence in self.needed_from..=self.durable {
            if !seen.records.contains(&(sequence, self.acknowledged[sequence as usize - 1].clone())) {
                return Err(format!("{sequence} was synced and is lost: {:?}, {:?}", seen.sequences(), seen.damaged));
            }
        }
        for (sequence, payload) in &seen.records {
            let promised = self.acknowledged.get(*sequence as usize - 1);
            if promised != Some(payload) && !(*sequence == self.last() + 1 && self.perhaps.contains(payload)) {
                return Err(format!("{sequence} is not what was acknowledged"));
            }
        }
        drop(wal);
        // the model knows no half of a log: it begins anew
        *self = World { random: Random(self.random.next()), ..World::new(self.random.next(), self.durability) };
        Ok(())
    }

    fn close(&mut self) {
        self.read.clear();
        if let Some(wal) = self.wal.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| wal.close()));
        }
    }

    /// Whether a power cut now, which this disk does not notice, would keep the promise.
    fn check_power_cut(&mut self) -> Result<(), Broken> {
        let disk = self.disk.after_crash(self.random.next()).unwrap();
        let mut copy = World {
            random: Random(self.random.next()),
            disk,
            wal: None,
            durability: self.durability,
            needed_from: self.needed_from,
            acknowledged: self.acknowledged.clone(),
            durable: self.durable,
            perhaps: self.perhaps.clone(),
            read: VecDeque::new(),
            next: self.next,
        };
        copy.start()?;
        if copy.wal.is_none() { Err("the start failed without a fault".into()) } else { Ok(()) }
    }
}

fn run(seed: u64, steps: u32, durability: Durability) -> Result<(), Broken> {
    let mut world = World::new(seed, durability);
    for step in 0..steps {
        let name = |broken| format!("seed {seed}, step {step}: {broken}");
        world.step().map_err(name)?;
        if durability == Durability::Fsync && step % 4 == 0 {
            world.check_power_cut().map_err(name)?;
        }
    }
    // the disk recovers, and everything goes on
    world.kill();
    world.disk.faults().clear_all();
    world.disk.simulation().unwrap().set_capacity(None);
    world.start()?;
    if world.wal.is_none() {
        return Err(format!("seed {seed}: no start at the end"));
    }
    let last = world.last();
    for _ in 0..20 {
        world.commit();
    }
    if world.last() == last + 20 { Ok(()) } else { Err(format!("seed {seed}: no commits at the end")) }
}

/// Panics that are part of the game are not shown.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.ends_with("was asked to panic")) {
                show(info);
            }
        }));
    });
}

#[test]
fn with_fsync_no_promise_is_broken() {
    quiet();
    let broken: Vec<Broken> =
        crate::seeds::chosen(40).into_iter().filter_map(|seed| run(seed, 400, Durability::Fsync).err()).collect();
    assert!(broken.is_empty(), "{} broken, such as {:#?}", broken.len(), &broken[..broken.len().min(5)]);
}

#[test]
fn with_an_interval_a_kill_breaks_no_promise_and_a_power_cut_only_what_was_not_synced() {
    quiet();
    let durability = Durability::Interval { every_ms: 1 };
    let broken: Vec<Broken> =
        crate::seeds::chosen(40).into_iter().filter_map(|seed| run(seed, 400, durability).err()).collect();
    assert!(broken.is_empty(), "{} broken, such as {:#?}", broken.len(), &broken[..broken.len().min(5)]);
}

#[test]
fn with_flush_a_kill_breaks_no_promise_and_a_power_cut_leaves_nothing_that_was_refused() {
    quiet();
    let broken: Vec<Broken> =
        crate::seeds::chosen(40).into_iter().filter_map(|seed| run(seed, 400, Durability::Flush).err()).collect();
    assert!(broken.is_empty(), "{} broken, such as {:#?}", broken.len(), &broken[..broken.len().min(5)]);
}

#[test]
fn a_log_without_syncs_breaks_the_promise() {
    quiet();
    let broken = crate::seeds::chosen(40).into_iter().filter(|&seed| {
        let mut world = World::new(seed, Durability::Flush);
        (0..200).any(|_| {
            let broken = world.wal.is_some() && world.check_power_cut().is_err();
            broken || world.step().is_err()
        })
    });
    let broken = broken.count();
    assert!(broken > 20, "{broken}");
}
