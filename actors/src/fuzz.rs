//! Bytes that nobody meant: what is good is changed at places drawn from a seed and given to whatever reads bytes of others.
//! A target must not panic, and may check more. What begins a run is what the test gives and what is kept under
//! `actors/corpus/<target>`; an input that fails is written to `target/fuzz`, to be kept there.
//!
//! A usual run has a fixed seed and takes a moment. `STENTOR_FUZZ_SECONDS` gives each target so long, with a seed of its own that
//! is printed; `STENTOR_FUZZ_SEED` repeats it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::clock;
use crate::model::splitmix;
use crate::seeds::number;

/// Inputs of a usual run.
const INPUTS: u64 = 3_000;
/// The longest input in bytes.
const BYTES_MAX: usize = 1 << 16;
/// Inputs that are remembered and changed again, beside those that a run began with.
const REMEMBERED: usize = 256;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    /// A part of so many bytes, mostly a short one.
    fn part(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let longest = if self.below(4) == 0 { length } else { 16 };
        (start, (start + self.below(longest + 1)).min(length))
    }
}

/// The inputs that are kept for a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_or_else(|_| Vec::new(), |files| files.flatten().map(|file| file.path()).collect());
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("an input that is kept")).collect()
}

/// Changes an input at one place.
fn change(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let (start, end) = random.part(input.len());
    match random.below(9) {
        0 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        1 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'['][random.below(9)];
        }
        2 => drop(input.drain(start..end)),
        3 => {
            let part = input[start..end].to_vec();
            let times = 1 + random.below(if part.len() < 8 { 200 } else { 3 });
            let at = random.below(input.len() + 1);
            input.splice(at..at, part.repeat(times));
        }
        4 => input.truncate(start),
        5 => {
            // a number of four bytes, in either order
            let value = [0, 1, u32::MAX, 1 << 31, random.next() as u32][random.below(5)];
            let bytes = if random.below(2) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
            for (place, byte) in input[start..].iter_mut().zip(bytes) {
                *place = byte;
            }
        }
        6 if !others.is_empty() => {
            let other = &others[random.below(others.len())];
            let (from, to) = random.part(other.len());
            input.splice(start..end, other[from..to].iter().copied());
        }
        7 if !words.is_empty() => {
            let word = words[random.below(words.len())].as_bytes();
            input.splice(start..start, word.iter().copied());
        }
        _ => input.insert(start, random.next() as u8),
    }
    input.truncate(BYTES_MAX);
}

/// Gives a target inputs that are made of these, of those that are kept, and of words.
pub fn run(
    target: &str,
    seeds: impl IntoIterator<Item = impl AsRef<[u8]>>,
    words: &[&str],
    mut read: impl FnMut(&[u8]),
) {
    let seconds = number("STENTOR_FUZZ_SECONDS");
    let fresh = |_| u64::from_le_bytes(clock::random());
    let seed = number("STENTOR_FUZZ_SEED").unwrap_or_else(|| seconds.map_or(1, fresh));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut begun = kept(target);
    begun.extend(seeds.into_iter().map(|seed| seed.as_ref().to_vec()));
    assert!(!begun.is_empty(), "{target} begins with nothing");
    let mut attempt = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(input))) {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(target);
            let file = folder.join(format!("{:08x}", crc32c::crc32c(input)));
            // the panic tells more than a folder that cannot be made
            let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input));
            eprintln!(
                "{target} fails with STENTOR_FUZZ_SEED={seed}; keep {} in actors/corpus/{target}",
                file.display()
            );
            resume_unwind(panic);
        }
    };
    begun.iter().for_each(|input| attempt(input));
    let (mut random, mut remembered, mut inputs) = (Random(seed), begun.clone(), 0u64);
    while end.map_or(inputs < INPUTS, |end| Instant::now() < end) {
        let mut input = remembered[random.below(remembered.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut input, &begun, words, &mut random);
        }
        attempt(&input);
        inputs += 1;
        if inputs % 7 == 0 {
            // changes that add up lead further away
            if remembered.len() >= begun.len() + REMEMBERED {
                let at = begun.len() + random.below(REMEMBERED);
                remembered[at] = input;
            } else {
                remembered.push(input);
            }
        }
    }
    println!("{target}: {inputs} inputs with STENTOR_FUZZ_SEED={seed}");
}
