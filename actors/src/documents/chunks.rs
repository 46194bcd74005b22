//! The documents of a generation as a row of chunks, the same ones in its database and in its copy.
//!
//! ```text
//! chunk: magic 8, number u32, body length u32, first entry u32, CRC-32C u32 (of everything but itself), body
//! ```
//!
//! The bodies together are the entries one after the other, as in a section of changes. All chunks but the last have the
//! same length, so that one whose header is damaged has a place all the same. `first entry` is where the first entry that
//! begins in the body begins: from there on a chunk can be read when the one before it is lost.

use super::change::{self, Change};

/// Length of a chunk, with its header. sled takes values of up to 48 KiB.
pub const CHUNK_BYTES: usize = 48 * 1024;
pub const HEADER_BYTES: usize = 24;
const BODY_BYTES: usize = CHUNK_BYTES - HEADER_BYTES;
/// Every chunk begins with it.
pub const MAGIC: [u8; 8] = *b"STdocs\x02\n";
/// Stands for the place of the first entry where none begins.
const NONE: u32 = u32::MAX;

const _: () = assert!(CHUNK_BYTES <= crate::disk::database::VALUE_BYTES);

/// Makes the chunks of entries, one at a time. There is at least one.
pub struct Chunks<I> {
    entries: I,
    /// What the entries so far have left for the chunks to come.
    body: Vec<u8>,
    /// Where in `body` entries begin.
    begins: std::collections::VecDeque<usize>,
    number: u32,
    is_done: bool,
}

impl<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>> Chunks<I> {
    pub fn of(entries: I) -> Chunks<I> {
        Chunks { entries, body: Vec::new(), begins: Default::default(), number: 0, is_done: false }
    }
}

impl<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>> Iterator for Chunks<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.is_done {
            return None;
        }
        while self.body.len() <= BODY_BYTES {
            let Some((key, text)) = self.entries.next() else {
                self.is_done = true;
                break;
            };
            self.begins.push_back(self.body.len());
            change::write_entry(key, Some(text), &mut self.body);
        }
        let length = self.body.len().min(BODY_BYTES);
        // what a large document has left may fill several chunks
        self.is_done &= length == self.body.len();
        let first = self.begins.front().copied().filter(|begin| *begin < length);
        let chunk = frame(self.number, first, &self.body[..length]);
        self.body.drain(..length);
        self.begins.retain_mut(|begin| match begin.checked_sub(length) {
            Some(later) => {
                *begin = later;
                true
            }
            None => false,
        });
        self.number += 1;
        Some(chunk)
    }
}

fn frame(number: u32, first: Option<usize>, body: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(HEADER_BYTES + body.len());
    chunk.extend_from_slice(&MAGIC);
    chunk.extend_from_slice(&number.to_be_bytes());
    chunk.extend_from_slice(&(body.len() as u32).to_be_bytes());
    chunk.extend_from_slice(&first.map_or(NONE, |first| first as u32).to_be_bytes());
    chunk.extend_from_slice(&crc(&chunk, body).to_be_bytes());
    chunk.extend_from_slice(body);
    chunk
}

fn crc(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), body)
}

/// A chunk that was read and passes its check.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    first: Option<usize>,
    body: &'a [u8],
}

/// The number and the length that a chunk's header announces. Only [`check`] says whether they are right.
pub fn announced(bytes: &[u8]) -> Option<(u32, usize)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some((field(8), (field(12) as usize).saturating_add(HEADER_BYTES)))
}

/// The chunk in these bytes, if they are chunk `number` and nothing else.
pub fn check(number: u32, bytes: &[u8]) -> Option<Chunk<'_>> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let is_whole = header[..8] == MAGIC
        && field(8) == number
        && field(12) as usize == body.len()
        && field(20) == crc(&header[..20], body);
    let first = Some(field(16)).filter(|first| *first != NONE).map(|first| first as usize);
    is_whole.then_some(Chunk { first, body })
}

/// Puts entries together again from the bodies of chunks.
#[derive(Default)]
pub struct Entries {
    /// The beginning of an entry that goes on in the next chunk.
    rest: Vec<u8>,
    /// A chunk was lost; what comes before the next beginning belongs to it.
    has_hole: bool,
}

impl Entries {
    /// Hands on the entries that end in this chunk, the next one.
    ///
    /// # Errors
    /// What the chunk holds are no documents of this version.
    pub fn push(&mut self, chunk: Chunk<'_>, mut sink: impl FnMut(Change)) -> Result<(), &'static str> {
        let body = match (std::mem::take(&mut self.has_hole), chunk.first) {
            (false, _) => chunk.body,
            (true, Some(first)) => chunk.body.get(first..).ok_or("a place is out of bounds")?,
            (true, None) => {
                self.has_hole = true;
                return Ok(());
            }
        };
        self.rest.extend_from_slice(body);
        let mut at = 0;
        while let Some((entry, taken)) = change::read_entry(&self.rest[at..])? {
            sink(entry);
            at += taken;
        }
        self.rest.drain(..at);
        Ok(())
    }

    /// Notes that the next chunk is lost.
    pub fn skip(&mut self) {
        self.rest.clear();
        self.has_hole = true;
    }

    /// Whether everything that was begun has come to its end.
    pub fn is_complete(&self) -> bool {
        self.rest.is_empty() && !self.has_hole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Stored = Vec<(Vec<u8>, Vec<u8>)>;

    fn chunks(stored: &Stored) -> Vec<Vec<u8>> {
        Chunks::of(stored.iter().map(|(key, text)| (&key[..], &text[..]))).collect()
    }

    fn document(n: usize, bytes: usize) -> (Vec<u8>, Vec<u8>) {
        (format!("t{n:06}").into_bytes(), vec![b'0' + (n % 10) as u8; bytes])
    }

    fn read(chunks: &[Vec<u8>], lost: &[usize]) -> (Stored, bool) {
        let (mut entries, mut found) = (Entries::default(), Vec::new());
        for (number, bytes) in chunks.iter().enumerate() {
            if lost.contains(&number) {
                entries.skip();
                continue;
            }
            let chunk = check(number as u32, bytes).expect("a chunk");
            let sink = |change: Change| found.push((change.key.to_vec(), change.value.expect("a text").to_vec()));
            entries.push(chunk, sink).expect("documents");
        }
        (found, entries.is_complete())
    }

    #[test]
    fn no_documents_are_one_empty_chunk() {
        let chunks = chunks(&Vec::new());
        assert_eq!((chunks.len(), chunks[0].len()), (1, HEADER_BYTES));
        assert_eq!(read(&chunks, &[]), (Vec::new(), true));
    }

    #[test]
    fn one_flipped_bit_anywhere_in_a_chunk_is_noticed() {
        let chunk = &chunks(&vec![document(1, 40)])[0];
        assert!(check(0, chunk).is_some() && check(1, chunk).is_none());
        for bit in 0..chunk.len() * 8 {
            let mut flipped = chunk.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(0, &flipped).is_none(), "bit {bit}");
        }
        assert!(check(0, &chunk[..chunk.len() - 1]).is_none() && check(0, &[]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn documents_come_back_and_a_lost_chunk_costs_only_those_that_touch_it(
            sizes in proptest::collection::vec(prop_oneof![0usize..2_000, 40_000usize..130_000], 0..60),
            lost in 0usize..100,
        ) {
            let stored: Stored = sizes.iter().enumerate().map(|(n, bytes)| document(n, *bytes)).collect();
            let chunks = chunks(&stored);
            prop_assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.len() == CHUNK_BYTES));
            prop_assert_eq!(read(&chunks, &[]), (stored.clone(), true));
            let lost = lost % chunks.len();
            let (found, is_complete) = read(&chunks, &[lost]);
            let bodies = lost * BODY_BYTES..(lost + 1) * BODY_BYTES;
            let mut begin = 0;
            let untouched: Stored = stored.into_iter().filter(|(key, text)| {
                let entry = begin..begin + change::ENTRY_HEADER_BYTES + key.len() + text.len();
                begin = entry.end;
                entry.end <= bodies.start || entry.start >= bodies.end
            }).collect();
            prop_assert_eq!(found, untouched);
            prop_assert!(!is_complete || lost + 1 < chunks.len());
        }
    }
}
