//! Flipped bits and cut files: the folder that a run has left, after a stop or a kill, is spoilt at one place, and the server is
//! started on it. It has everything, or says which events are lost, or ends the start and names what is wrong. It never has
//! less in silence, and never a wrong byte.
//!
//! `STENTOR_FLIPS` says how many, `STENTOR_SEEDS_FROM` from which seed on.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use super::config::DATA;
use super::model::{Fate, Found, Model};
use super::world::{LastEnd, World};
use super::{SEEDS_OF_MUTANT, run};
use crate::disk::Disk;
use crate::disk::mutant::{self, Mutant};
use crate::model::id::EventId;
use crate::seeds::number;

/// Of a usual run.
const FLIPS: u64 = 200;
/// Of one folder.
const FLIPS_OF_FOLDER: u64 = 50;
/// Most events of one commit.
const COMMIT_EVENTS: usize = 64;
/// A sector of zeros holds nothing that could be damaged, so another place is drawn, so often at most.
const DRAWS: usize = 200;

/// What came of a start on a spoilt folder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    /// So many events are lost, and that is said.
    Announced(usize),
    Refused,
}

/// Where a folder is spoilt.
#[derive(Clone, Debug)]
enum Spoilt {
    Bit { file: PathBuf, byte: u64, bit: u8 },
    Cut { file: PathBuf, len: u64 },
}

impl Spoilt {
    /// A place in one part of the data folder, or in any. Each part is as likely as the others, however many files it has.
    fn drawn(world: &World, disk: &Disk, part: Option<&str>) -> Option<Spoilt> {
        let mut parts: BTreeMap<PathBuf, Vec<(PathBuf, u64)>> = BTreeMap::new();
        for (file, len) in disk.simulation()?.files() {
            let Some(name) = file.strip_prefix(DATA).ok().and_then(|below| below.iter().next()) else { continue };
            if len > 0 && part.is_none_or(|part| name == part) {
                parts.entry(name.into()).or_default().push((file.clone(), len));
            }
        }
        let parts: Vec<_> = parts.into_values().collect();
        for _ in 0..DRAWS {
            let files = &parts[world.pick(parts.len())?];
            let (file, len) = &files[world.pick(files.len())?];
            let at = world.draw(*len);
            if world.chance(5) {
                return Some(Spoilt::Cut { file: file.clone(), len: at });
            }
            let bytes = disk.read(crate::disk::Point::DatabaseRead, file).ok()?;
            let sector = (at as usize / 512) * 512;
            if bytes[sector..bytes.len().min(sector + 512)].iter().any(|byte| *byte != 0) {
                return Some(Spoilt::Bit { file: file.clone(), byte: at, bit: world.draw(8) as u8 });
            }
        }
        None
    }

    fn spoil(&self, disk: &Disk) {
        let disk = disk.simulation().expect("a simulated disk");
        let done = match self {
            Spoilt::Bit { file, byte, bit } => disk.damage(file, *byte, 1 << bit),
            Spoilt::Cut { file, len } => disk.truncate(file, *len),
        };
        done.expect("the file is there");
    }
}

/// What is lost must lie in what is announced; the rest must be right.
fn judge(model: &Model, found: &Found, spoilt: &Spoilt) -> Outcome {
    let mut model = model.clone();
    let here = |number: &u64| found.log.iter().any(|(_, _, there)| there == number);
    let mut lost = Vec::new();
    for (number, event) in &mut model.events {
        let Some(id) = event.id.filter(|id| *id > found.expired[event.map]) else { continue };
        if event.fate == Fate::Stored && model.maps[event.map].life.is_sure() && !here(number) {
            let is_told = found.damaged.iter().any(|(after, through)| id > *after && id <= *through);
            assert!(is_told, "event {number}, {id}, is lost in silence; announced is {:?}", found.damaged);
            lost.push(*number);
            event.fate = Fate::Unknown;
        }
    }
    if let Spoilt::Bit { .. } = spoilt {
        assert!(lost.len() <= COMMIT_EVENTS, "one bit costs more than a commit: {lost:?}");
    }
    // readers were shown what is lost now
    let is_told = |id: &EventId| found.damaged.iter().any(|(after, through)| id > after && id <= through);
    for reader in &mut model.readers {
        reader.got.retain(|id, number| here(number) || !is_told(id));
    }
    model.check(found, "on a spoilt folder");
    if lost.is_empty() { Outcome::Whole } else { Outcome::Announced(lost.len()) }
}

/// Spoils the folder that a seed leaves, so often, in one part of it or anywhere. Answers how often each outcome came: whole,
/// announced, refused.
fn spoil(seed: u64, times: u64, part: Option<&str>) -> [u64; 3] {
    let last = if seed.is_multiple_of(2) { LastEnd::Kill } else { LastEnd::Stop };
    let world = run(seed, last).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    world.stand_here();
    let mut counts = [0; 3];
    for n in 0..times {
        let disk = world.disk().copied(n).expect("a simulated disk");
        let Some(spoilt) = Spoilt::drawn(&world, &disk, part) else { continue };
        spoilt.spoil(&disk);
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| match world.look_at(&disk) {
            Ok(found) => judge(&world.model.borrow(), &found, &spoilt),
            Err(reason) => {
                assert!(reason.contains(DATA), "the refusal names no file: {reason}");
                Outcome::Refused
            }
        }));
        match result {
            Ok(Outcome::Whole) => counts[0] += 1,
            Ok(Outcome::Announced(_)) => counts[1] += 1,
            Ok(Outcome::Refused) => counts[2] += 1,
            Err(panic) => {
                eprintln!("seed {seed} with {spoilt:?} fails");
                super::leave();
                std::panic::resume_unwind(panic);
            }
        }
    }
    super::leave();
    counts
}

#[test]
fn one_spoilt_place_of_a_folder_is_healed_or_announced_or_ends_the_start() {
    let flips = number("STENTOR_FLIPS").unwrap_or(FLIPS);
    let from = number("STENTOR_SEEDS_FROM").unwrap_or(1);
    let mut sum = [0; 3];
    for n in 0..flips.div_ceil(FLIPS_OF_FOLDER) {
        let counts = spoil(from + n, FLIPS_OF_FOLDER.min(flips - n * FLIPS_OF_FOLDER), None);
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [whole, announced, refused] = sum;
    println!("{} places: {whole} whole, {announced} announced, {refused} refused", whole + announced + refused);
    assert!(whole > 0 && refused > 0);
}

#[test]
fn a_checksum_that_nobody_looks_at_is_noticed() {
    mutant::set_here(Some(Mutant::Checksum));
    let failed = (1..=SEEDS_OF_MUTANT)
        .find(|seed| std::panic::catch_unwind(|| spoil(*seed, FLIPS_OF_FOLDER, Some("wal"))).is_err());
    mutant::set_here(None);
    super::leave();
    println!("{:?}: seed {failed:?}", Mutant::Checksum);
    assert!(failed.is_some(), "no seed notices it");
}

/// The ranges of ids of all channels in which events may be missing.
pub fn announced(log: &crate::log::Log) -> Vec<(EventId, EventId)> {
    log.newest_damage(usize::MAX).iter().map(|range| (range.after, range.through)).collect()
}
