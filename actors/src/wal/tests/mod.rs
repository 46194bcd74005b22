//! The log on a simulated disk.

mod basics;
mod damage;
mod failures;
mod model;
mod pieces;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::{CommitError, Committed, Durability, LogId, Options, Recovered, Urgency, Wal, WalError, inspect};
use crate::disk::Disk;

const LOG_ID: LogId = LogId([7; 16]);
/// Bytes of a piece in these tests: half of it are records.
const PIECE_BYTES: u32 = 16 << 10;

fn dir() -> &'static Path {
    Path::new("/data/wal")
}

fn file(number: usize) -> PathBuf {
    dir().join(format!("{number:08}"))
}

fn options() -> Options {
    Options { piece_bytes: PIECE_BYTES, ..Options::new(41) }
}

/// A disk with the folder above the log.
fn disk(seed: u64) -> Disk {
    let disk = Disk::simulated(seed);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn create(disk: &Disk) -> Wal {
    Wal::create(disk, dir(), LOG_ID, 1, options()).unwrap()
}

/// What a recovery told.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    records: Vec<(u64, Vec<u8>)>,
    damaged: Vec<RangeInclusive<u64>>,
    healed: Vec<String>,
}

impl Seen {
    fn take(&mut self, recovered: Recovered<'_>) {
        match recovered {
            Recovered::Record { sequence, payload, piece, offset } => {
                let read = piece.read(offset, payload.len() as u32).unwrap();
                assert_eq!(&read[..], payload, "the place of record {sequence}");
                self.records.push((sequence, payload.to_vec()));
            }
            Recovered::Damaged { from, through, .. } => self.damaged.push(from..=through),
            Recovered::Healed { at } => self.healed.push(at),
        }
    }

    fn sequences(&self) -> Vec<u64> {
        self.records.iter().map(|(sequence, _)| *sequence).collect()
    }
}

fn recover_with(disk: &Disk, options: Options, needed_from: u64) -> Result<(Wal, Seen), WalError> {
    let mut seen = Seen::default();
    let wal = Wal::recover(disk, dir(), options, needed_from, |recovered| seen.take(recovered))?;
    Ok((wal, seen))
}

fn recover(disk: &Disk) -> (Wal, Seen) {
    // another seed of salts, as a start has
    recover_with(disk, Options { salt_seed: 42, ..options() }, 1).unwrap()
}

fn look(disk: &Disk) -> Result<Seen, WalError> {
    let mut seen = Seen::default();
    inspect(disk, dir(), 1, |recovered| seen.take(recovered))?;
    Ok(seen)
}

/// A payload that tells which commit it is of.
fn payload(sequence: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (sequence as usize * 31 + at) as u8).collect()
}

fn commit(wal: &mut Wal, bytes: usize) -> Committed {
    let payload = payload(wal.last_sequence() + 1, bytes);
    wal.commit(&[&payload], Urgency::Normal).unwrap()
}

fn expected(sequences: RangeInclusive<u64>, bytes: usize) -> Vec<(u64, Vec<u8>)> {
    sequences.map(|sequence| (sequence, payload(sequence, bytes))).collect()
}
