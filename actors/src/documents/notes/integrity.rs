//! The integrity of the notes: how many entries there have to be, with the sum of their hashes, and the walk that checks each
//! entry once after a start.

use std::collections::HashMap;
use std::ops::Bound;

use super::About;
use super::entry::{self, NoteChange};
use crate::disk::database::Batch;
use crate::disk::{Database, DatabaseError};

/// The keys of what the notes say of themselves stand behind all others.
const ABOUT: &[u8] = b"~about";
const TOTALS: &[u8] = b"~tally";
/// Entries that one step of the walk checks, by their bytes.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// The sum of all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub entries: u64,
    /// Of keys and values.
    pub bytes: u64,
    /// Of the hashes of the entries, wrapping.
    sum: u64,
}

impl Totals {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        // saturating: damage may have taken what was counted
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub((key.len() + value.len()) as u64);
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }

    pub fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.entries, self.bytes, self.sum].map(u64::to_be_bytes).concat();
        [&crc32c::crc32c(&numbers).to_be_bytes(), &numbers[..]].concat()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Totals> {
        let (crc, numbers) = bytes.split_at_checked(4)?;
        let numbers: &[u8; 24] = numbers.try_into().ok()?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&numbers[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let is_sound = crc32c::crc32c(numbers).to_be_bytes() == *crc;
        is_sound.then(|| Totals { entries: number(0), bytes: number(8), sum: number(16) })
    }
}

/// An entry's part of the sum. The value begins with its own checksum.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut stored = [0; 4];
    let bytes = value.len().min(4);
    stored[..bytes].copy_from_slice(&value[..bytes]);
    u64::from(crc32c::crc32c(key)) << 32 | u64::from(u32::from_be_bytes(stored))
}

/// What is known of the entries that the database has to have.
#[derive(Default)]
pub struct Integrity {
    pub about: About,
    pub totals: Totals,
    /// None once everything that was there at the start was checked.
    pub walk: Option<Walk>,
}

/// How far the walk through all entries has come, and what it has found.
#[derive(Clone, Default)]
pub struct Walk {
    /// Everything up to this key was checked.
    through: Vec<u8>,
    found: Totals,
    damaged: u64,
}

/// A write that is about to be applied.
pub struct PlannedWrite {
    pub batch: Batch,
    totals: Totals,
    found: Totals,
}

/// What a database says of its entries, with a walk that is to begin; none when it says nothing. Blocks.
///
/// # Errors
/// The database cannot be read.
pub fn read(db: &Database) -> Result<Option<Integrity>, DatabaseError> {
    let (about, totals) = (db.get(ABOUT)?, db.get(TOTALS)?);
    let about = about.filter(|value| entry::is_sound(ABOUT, value));
    let about = about.and_then(|value| serde_json::from_slice(&value[4..]).ok());
    let totals = totals.and_then(|value| Totals::from_bytes(&value));
    Ok(about.zip(totals).map(|(about, totals)| Integrity { about, totals, walk: Some(Walk::default()) }))
}

/// What a database without notes holds.
pub fn first_entries(about: &About) -> [(Vec<u8>, Vec<u8>); 2] {
    [(ABOUT.to_vec(), about_value(about)), (TOTALS.to_vec(), Totals::default().to_bytes())]
}

fn about_value(about: &About) -> Vec<u8> {
    // numbers and a flag have a JSON text
    let text = serde_json::to_vec(about).expect("it is JSON");
    [&entry::crc(ABOUT, &text).to_be_bytes(), &text[..]].concat()
}

/// Whether nothing can be in a range. sled panics on some of those.
pub fn is_empty_range(low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> bool {
    match (low, high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

impl Integrity {
    /// Adds what the notes say of themselves to a write.
    pub fn write_into(&self, batch: &mut Batch) {
        batch.put(ABOUT, about_value(&self.about));
        batch.put(TOTALS, self.totals.to_bytes());
    }

    /// The write that makes these changes, with the totals after it. Blocks.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn plan(&self, db: &Database, changes: &[NoteChange]) -> Result<PlannedWrite, DatabaseError> {
        let mut planned = PlannedWrite { batch: Batch::default(), totals: self.totals, found: Totals::default() };
        planned.found = self.walk.as_ref().map_or(Totals::default(), |walk| walk.found);
        // what this write itself has put under a key
        let mut fresh: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
        let mut replace = |planned: &mut PlannedWrite, key: Vec<u8>, value: Option<Vec<u8>>| {
            let before = match fresh.get(&key) {
                Some(before) => before.clone(),
                None => db.get(&key)?.map(|value| value.to_vec()),
            };
            let is_walked = self.walk.as_ref().is_some_and(|walk| key <= walk.through);
            let mut all_totals = vec![&mut planned.totals];
            if is_walked {
                all_totals.push(&mut planned.found);
            }
            for totals in all_totals {
                if let Some(before) = &before {
                    totals.remove(&key, before);
                }
                if let Some(value) = &value {
                    totals.add(&key, value);
                }
            }
            match &value {
                Some(value) => planned.batch.put(key.clone(), value.clone()),
                None => planned.batch.delete(key.clone()),
            }
            fresh.insert(key, value);
            Ok::<_, DatabaseError>(before)
        };
        for change in changes {
            let values = change.text.as_ref().map_or(Vec::new(), |text| entry::values(&change.key, text));
            let kept: Vec<_> = values.iter().skip(1).map(|(key, _)| key.clone()).collect();
            let mut values = values.into_iter();
            let before = replace(&mut planned, change.key.clone(), values.next().map(|(_, value)| value))?;
            for (key, value) in values {
                replace(&mut planned, key, Some(value))?;
            }
            let parts = before.map_or(Vec::new(), |before| entry::further_parts(&change.key, &before));
            for key in parts.into_iter().filter(|key| !kept.contains(key)) {
                replace(&mut planned, key, None)?;
            }
        }
        planned.batch.put(TOTALS, planned.totals.to_bytes());
        Ok(planned)
    }

    /// Notes that a planned write was applied.
    pub fn applied(&mut self, planned: PlannedWrite) {
        self.totals = planned.totals;
        if let Some(walk) = &mut self.walk {
            walk.found = planned.found;
        }
    }

    /// Checks the next entries and removes those that are damaged; at the end says what is lost, in words, and takes what
    /// is there for what has to be. Blocks.
    ///
    /// # Errors
    /// The database cannot be read, or a damaged entry cannot be removed. The walk goes on from the same place then.
    pub fn walk_on(&mut self, db: &Database) -> Result<Option<String>, DatabaseError> {
        let Some(walk) = &self.walk else { return Ok(None) };
        let mut walk = walk.clone();
        let (mut bytes, mut damaged, mut is_done) = (0, Batch::default(), true);
        for entry in db.range((Bound::Excluded(walk.through.clone()), Bound::Excluded(b"~".to_vec()))) {
            let (key, value) = entry?;
            if entry::is_sound(&key, &value) {
                walk.found.add(&key, &value);
            } else {
                walk.damaged += 1;
                damaged.delete(key.to_vec());
            }
            walk.through = key.to_vec();
            bytes += key.len() + value.len();
            if bytes >= STEP_BYTES {
                is_done = false;
                break;
            }
        }
        if !damaged.is_empty() {
            db.apply(damaged)?;
        }
        if !is_done {
            self.walk = Some(walk);
            return Ok(None);
        }
        let Walk { found, damaged, .. } = walk;
        let counted = std::mem::replace(&mut self.totals, found);
        self.walk = None;
        let lost = match (counted == found, damaged) {
            (true, 0) => return Ok(None),
            (_, 0) => format!("there are {} entries instead of {}", found.entries, counted.entries),
            (_, damaged) => format!("{damaged} of {} entries are damaged", counted.entries),
        };
        Ok(Some(lost))
    }
}
